package reconcile

import (
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// asks gives an intent as an agent would: with what Git says of the field now.
func (c *crowd) asks(id fleet.ObjectID, verb fleet.IntentVerb, change ...func(*fleet.Intent)) fleet.Intent {
	c.t.Helper()
	c.now = c.now.Add(time.Second)
	i := fleet.Intent{Object: id, Source: "home", Verb: verb, Author: "eve", At: c.now}
	if o, ok := c.desired.Find(id); ok {
		i.Git = FieldOf(o, verb)
	}
	for _, f := range change {
		f(&i)
	}
	c.intents = append(c.intents, i)
	c.now = c.now.Add(time.Second)
	return i
}

func to(n int32) func(*fleet.Intent)     { return func(i *fleet.Intent) { i.Replicas = n } }
func number(n int64) func(*fleet.Intent) { return func(i *fleet.Intent) { i.Number = n } }

func (c *crowd) wantIntents(verbs ...fleet.IntentVerb) {
	c.t.Helper()
	var got []fleet.IntentVerb
	for _, i := range c.intents {
		got = append(got, i.Verb)
	}
	slices.Sort(got)
	slices.Sort(verbs)
	if !slices.Equal(got, verbs) {
		c.t.Errorf("intents %v are left, want %v", got, verbs)
	}
}

func TestScaleIntent(t *testing.T) {
	for _, test := range []struct {
		id   fleet.ObjectID
		make func(n int32, image string) fleet.Object
	}{
		{webID, func(n int32, image string) fleet.Object { return deploymentOf("web", n, image) }},
		{dbID, func(n int32, image string) fleet.Object { return statefulOf("db", n, image) }},
		{fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "shop", Name: "set"}, func(n int32, image string) fleet.Object { return replicaSetOf("set", n, image) }},
	} {
		t.Run(test.id.Kind, func(t *testing.T) {
			c := newCrowd(t, 1, test.make(2, "a:1")).settle()
			c.asks(test.id, fleet.Scale, to(4))
			c.settle()
			c.wantHas(test.id, "a:1×4")
			c.wantNote(test.id, "not in Git: scale to 4, Git says 2 (by eve at ")
			c.push(test.make(2, "a:1")).settle() // a commit that leaves the field alone
			c.wantIntents(fleet.Scale)
			if test.id.Kind != fleet.KindReplicaSet {
				c.push(test.make(2, "a:2")).settle() // so does this
				c.wantHas(test.id, "a:2×4")
				c.wantIntents(fleet.Scale)
				c.push(test.make(2, "a:1")).settle()
			}
			c.loseStore().settle() // intents are kept apart
			c.wantHas(test.id, "a:1×4")
			c.asks(test.id, fleet.Scale, to(1)) // the newest wins
			c.settle()
			c.wantHas(test.id, "a:1×1")
			c.wantIntents(fleet.Scale)
			c.push(test.make(3, "a:1")).settle() // Git says something of it
			c.wantHas(test.id, "a:1×3")
			c.wantIntents()
			c.asks(test.id, fleet.Scale, to(5))
			c.settle()
			c.asks(test.id, fleet.Scale, to(3)) // back to what Git says
			c.settle()
			c.wantHas(test.id, "a:1×3")
			c.wantIntents()
			c.asks(test.id, fleet.Scale, to(0))
			c.settle()
			c.wantHas(test.id, "")
			c.wantIntents(fleet.Scale)
			c.push().settle()
			c.wantIntents()
		})
	}
}

// An intent that Git has overtaken does not let an older one of the same field count again.
func TestOlderIntentStaysReplaced(t *testing.T) {
	c := newCrowd(t, 1, deploymentOf("web", 2, "a:1"))
	old := c.asks(webID, fleet.Scale, to(7))
	c.push(deploymentOf("web", 3, "a:1"))
	c.intents = []fleet.Intent{old, c.asks(webID, fleet.Scale, to(5))}
	c.push(deploymentOf("web", 2, "a:1")) // as it was when the older one was given
	c.settle()
	c.wantHas(webID, "a:1×2")
	c.wantIntents()
}

func TestPauseAndResume(t *testing.T) {
	c := newCrowd(t, 1, deploymentOf("web", 4, "a:1")).settle()
	c.asks(webID, fleet.Pause)
	c.push(deploymentOf("web", 4, "a:2")).settle()
	c.wantHas(webID, "a:1×4")
	c.wantIntents(fleet.Pause)
	c.push(deploymentOf("web", 6, "a:2")).settle() // paused ones are scaled
	c.wantHas(webID, "a:1×6")
	c.asks(webID, fleet.Resume)
	c.settle()
	c.wantHas(webID, "a:2×6")
	c.wantIntents() // nothing waits any more

	git := func(paused bool, image string) fleet.Object {
		return deploymentOf("web", 4, image, func(d *appsv1.Deployment) { d.Spec.Paused = paused })
	}
	c.push(git(true, "a:3")).settle()
	c.wantHas(webID, "a:2×4")
	c.asks(webID, fleet.Resume) // Git says paused: it stands against that
	c.settle()
	c.wantHas(webID, "a:3×4")
	c.wantIntents(fleet.Resume)
	c.push(git(true, "a:4")).settle()
	c.wantHas(webID, "a:4×4")
	c.push(git(false, "a:4")).settle()
	c.wantIntents()
	c.asks(webID, fleet.Pause)
	c.settle()
	c.push(git(true, "a:4")).settle()
	c.wantIntents()
	c.push(git(false, "a:5")).settle()
	c.wantHas(webID, "a:5×4")
}

func TestRestart(t *testing.T) {
	for _, test := range []struct {
		object fleet.Object
		next   fleet.Object
		has    string
	}{
		{deploymentOf("web", 3, "a:1"), deploymentOf("web", 3, "a:2"), "a:1×3"},
		{statefulOf("db", 2, "a:1"), statefulOf("db", 2, "a:2"), "a:1×2"},
		{daemonOf("log", "a:1"), daemonOf("log", "a:2"), "a:1×2"},
	} {
		id := test.object.ID
		t.Run(id.Kind, func(t *testing.T) {
			c := newCrowd(t, 2, test.object).settle()
			before := c.uids()
			i := c.asks(id, fleet.Restart)
			c.decide()
			c.wantIntents() // done once its revision exists
			c.settle()
			c.wantHas(id, test.has)
			after := c.uids()
			for _, uid := range after {
				if slices.Contains(before, uid) {
					t.Errorf("%s was not restarted", uid)
				}
			}
			for _, p := range c.pods(id) {
				if !p.Stamp.Restarted.Equal(i.At) {
					t.Errorf("%s has the stamp %s, want %s", p.Pod, p.Stamp.Restarted, i.At)
				}
				labels := p.Identity.Labels()
				if back, err := fleet.ParseIdentity(labels); err != nil || !back.Stamp.Restarted.Equal(i.At) {
					t.Errorf("its labels say %v, %v", back.Stamp, err)
				}
			}
			same := func(what string) {
				t.Helper()
				if d := gocmp.Diff(after, c.uids()); d != "" {
					t.Errorf("%s: restarted again: %s", what, d)
				}
			}
			c.now = c.now.Add(time.Hour)
			c.settle()
			same("an hour later")
			c.intents = []fleet.Intent{i} // it was not deleted in time
			c.settle()
			same("once more the same intent")
			c.wantIntents()
			c.loseStore().settle()
			same("the store is lost")
			c.intents = []fleet.Intent{i}
			c.loseStore().settle()
			same("the store is lost, but for the intent")
			o, _ := c.desired.Find(id)
			c.push(o).settle()
			same("another commit, nothing new in it")
			c.push(test.next).settle()
			c.push(test.object).settle()
			for _, p := range c.pods(id) { // the same revision again, not that of before the restart
				if !p.Stamp.Restarted.Equal(i.At) {
					t.Errorf("after a revert %s has the stamp %s", p.Pod, p.Stamp.Restarted)
				}
			}
			c.asks(id, fleet.Restart)
			c.push(test.next).settle() // all are replaced by that
			c.wantIntents()
			for _, p := range c.pods(id) {
				if !p.Stamp.Restarted.IsZero() {
					t.Errorf("restarted on top of it: %s", p.Stamp.Restarted)
				}
			}
		})
	}
}

func TestRestartIsARollout(t *testing.T) {
	c := newCrowd(t, 1, deploymentOf("web", 4, "a:1")).settle()
	c.asks(webID, fleet.Restart)
	for range 30 {
		ready := 0
		for _, p := range c.pods(webID) {
			if _, is := p.ReadySince(); is {
				ready++
			}
		}
		if ready < 3 || len(c.pods(webID)) > 5+1 { // 25 % of four, and one that is going
			t.Fatalf("%d of 4 are ready\n%s", ready, c)
		}
		c.act("alpha")
		c.live("alpha")
		c.say("alpha")
		c.decide()
		c.now = c.now.Add(time.Second)
	}
	c.wantHas(webID, "a:1×4")
	if len(c.stored.Sets) != 2 {
		t.Errorf("%d sets", len(c.stored.Sets))
	}
}

func TestRestartWhilePaused(t *testing.T) {
	c := newCrowd(t, 1, deploymentOf("web", 2, "a:1")).settle()
	before := c.uids()
	c.asks(webID, fleet.Pause)
	c.asks(webID, fleet.Restart)
	c.settle()
	if d := gocmp.Diff(before, c.uids()); d != "" {
		t.Errorf("paused, and restarted: %s", d)
	}
	c.wantIntents(fleet.Pause, fleet.Restart)
	c.asks(webID, fleet.Resume)
	c.settle()
	if slices.ContainsFunc(c.uids(), func(uid string) bool { return slices.Contains(before, uid) }) {
		t.Errorf("resumed, and not restarted\n%s", c)
	}
	c.wantIntents()
}

func TestUndo(t *testing.T) {
	for _, kind := range []string{fleet.KindDeployment, fleet.KindStatefulSet, fleet.KindDaemonSet} {
		t.Run(kind, func(t *testing.T) {
			of := func(image string) fleet.Object {
				switch kind {
				case fleet.KindStatefulSet:
					return statefulOf("x", 2, image)
				case fleet.KindDaemonSet:
					return daemonOf("x", image)
				}
				return deploymentOf("x", 2, image)
			}
			c := newCrowd(t, 2, of("a:1")).settle()
			id := of("a:1").ID
			c.push(of("a:2")).settle()
			c.push(of("a:3")).settle()
			c.asks(id, fleet.Undo, number(1))
			c.settle()
			c.wantHas(id, "a:1×2")
			c.wantNote(id, "not in Git: undo to revision 1")
			c.wantIntents(fleet.Undo)
			if got := revisionNumbers(c, id); !gocmp.Equal(got, map[string]int64{"a:1": 4, "a:2": 2, "a:3": 3}) {
				t.Errorf("numbers %v", got)
			}
			c.now = c.now.Add(time.Hour)
			c.settle()
			c.wantHas(id, "a:1×2")
			c.push(of("a:3")).settle() // leaves the template alone
			c.wantHas(id, "a:1×2")
			c.asks(id, fleet.Undo, number(2)) // the newest wins
			c.settle()
			c.wantHas(id, "a:2×2")
			c.wantIntents(fleet.Undo)
			c.asks(id, fleet.Undo, number(1)) // a number that it stood for formerly
			c.settle()
			c.wantHas(id, "a:1×2")
			c.push(of("a:4")).settle() // Git changes the template
			c.wantHas(id, "a:4×2")
			c.wantIntents()
			c.asks(id, fleet.Undo, number(99))
			c.settle()
			c.wantHas(id, "a:4×2")
			c.wantNote(id, "there is no revision 99 to go back to: it runs what Git says")
		})
	}
	t.Run("to before a restart", func(t *testing.T) {
		c := newCrowd(t, 1, deploymentOf("web", 2, "a:1")).settle()
		c.asks(webID, fleet.Restart)
		c.settle()
		target := c.rollout(webID).Target
		c.asks(webID, fleet.Undo, number(1))
		c.settle()
		if c.rollout(webID).Target == target {
			t.Errorf("revision 1 was asked for, and it stays with that of the restart")
		}
	})
	t.Run("and then a restart", func(t *testing.T) {
		c := newCrowd(t, 1, deploymentOf("web", 2, "a:1")).settle()
		c.push(deploymentOf("web", 2, "a:2")).settle()
		c.asks(webID, fleet.Undo, number(1))
		c.settle()
		before := c.uids()
		c.asks(webID, fleet.Restart)
		c.settle()
		c.wantHas(webID, "a:1×2")
		if slices.ContainsFunc(c.uids(), func(uid string) bool { return slices.Contains(before, uid) }) {
			t.Errorf("what runs was not restarted\n%s", c)
		}
		c.wantIntents(fleet.Undo)
	})
	t.Run("zero is no number", func(t *testing.T) {
		c := newCrowd(t, 1, deploymentOf("web", 2, "a:1")).settle()
		c.push(deploymentOf("web", 2, "a:2")).settle()
		c.asks(webID, fleet.Undo) // an agent would have filled the number in
		c.settle()
		if got := c.has(webID); got != "a:2×2" && got != "a:1×2" {
			t.Errorf("now %s", got)
		}
	})
}

func revisionNumbers(c *crowd, owner fleet.ObjectID) map[string]int64 {
	m := map[string]int64{}
	for _, s := range c.stored.Sets {
		if s.Owner == owner {
			m[c.images[s.Want]] = s.Number
		}
	}
	return m
}

func TestBefore(t *testing.T) {
	c := newCrowd(t, 1, deploymentOf("web", 1, "a:1")).settle()
	if _, err := Before(c.stored, webID, 0); err == nil {
		t.Error("there is nothing before the first")
	}
	c.push(deploymentOf("web", 1, "a:2")).settle()
	c.push(deploymentOf("web", 1, "a:3")).settle()
	c.push(deploymentOf("web", 1, "a:1")).settle() // 1 is 4 now
	for _, test := range []struct{ number, want int64 }{{0, 3}, {1, 1}, {2, 2}, {4, 4}} {
		if got, err := Before(c.stored, webID, test.number); err != nil || got != test.want {
			t.Errorf("before %d: %d, %v", test.number, got, err)
		}
	}
	for _, n := range []int64{5, -1, 17} {
		if got, err := Before(c.stored, webID, n); err == nil {
			t.Errorf("%d: %d", n, got)
		}
	}
	if _, err := Before(c.stored, dbID, 0); err == nil {
		t.Error("it has no history")
	}
}

// Intents for objects that are not there are kept while nothing is known of them, and dropped when they are gone.
func TestIntentsForTheUnknown(t *testing.T) {
	c := newCrowd(t, 1, deploymentOf("web", 2, "a:1")).settle()
	c.asks(webID, fleet.Scale, to(5))
	c.settle()
	objects, revisions := c.desired.Objects, c.desired.Revisions
	c.desired.Objects, c.desired.Revisions = nil, nil // the source cannot be read
	c.settle()
	c.wantIntents(fleet.Scale)
	c.wantHas(webID, "a:1×5")
	c.desired.Revisions = revisions
	c.desired.Held = map[fleet.ObjectID]string{webID: "broken"}
	c.settle()
	c.wantIntents(fleet.Scale)
	c.desired.Objects, c.desired.Held = objects, nil
	c.settle()
	c.wantHas(webID, "a:1×5")
	c.push()
	c.settle()
	c.wantIntents()
	c.asks(webID, fleet.Scale, to(3))
	c.asks(fleet.ObjectID{Kind: "Gadget", Name: "x"}, fleet.Restart)
	c.settle()
	c.wantIntents()
	c.asks(webID, fleet.Restart, func(i *fleet.Intent) { i.Source = "elsewhere" })
	c.settle()
	c.wantIntents(fleet.Restart)
}

// What a kind cannot do is dropped.
func TestIntentsThatMakeNoSense(t *testing.T) {
	c := newCrowd(t, 1, append(trio("a:1"), podOf("bare", "b:1"))...).settle()
	before := c.uids()
	bare := fleet.ObjectID{Kind: fleet.KindPod, Namespace: "shop", Name: "bare"}
	c.asks(logID, fleet.Scale, to(5))
	c.asks(dbID, fleet.Pause)
	c.asks(dbID, fleet.Resume)
	c.asks(bare, fleet.Restart)
	c.asks(bare, fleet.Undo, number(1))
	c.asks(webID, fleet.Suspend)
	c.asks(webID, fleet.Trigger)
	c.asks(webID, "dance")
	c.settle()
	c.wantIntents()
	if d := gocmp.Diff(before, c.uids()); d != "" {
		t.Error(d)
	}
}

func TestFieldOf(t *testing.T) {
	yes := true
	job := fleet.Object{Value: &batchv1.Job{Spec: batchv1.JobSpec{Suspend: &yes}}}
	cron := fleet.Object{Value: &batchv1.CronJob{}}
	web := deploymentOf("web", 3, "a:1")
	for _, test := range []struct {
		o    fleet.Object
		verb fleet.IntentVerb
		want string
	}{
		{web, fleet.Scale, "3"}, {web, fleet.Pause, "false"}, {web, fleet.Resume, "false"}, {web, fleet.Restart, string(web.Hash)}, {web, fleet.Undo, string(web.Hash)},
		{web, fleet.Suspend, ""}, {web, fleet.Trigger, ""}, {job, fleet.Suspend, "true"}, {cron, fleet.Unsuspend, "false"}, {cron, fleet.Scale, ""},
		{fleet.Object{Value: &corev1.Pod{}}, fleet.Pause, ""},
	} {
		if got := FieldOf(test.o, test.verb); got != test.want {
			t.Errorf("%T %s: %q, want %q", test.o.Value, test.verb, got, test.want)
		}
	}
}

// Operators' and autoscalers' sizes: the newest of the operators', and the autoscaler above them.
func TestEffective(t *testing.T) {
	web, db := deploymentOf("web", 2, "a:1"), statefulOf("db", 2, "a:1")
	hpa := fleet.Object{ID: fleet.ObjectID{Kind: "HorizontalPodAutoscaler", Namespace: "shop", Name: "web"}, Source: "home", Value: &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: fleet.KindDeployment, Name: "web"}},
	}}
	desired := desiredOf(web, db, hpa)
	scale := func(id fleet.ObjectID, n int32, after time.Duration) fleet.Intent {
		return fleet.Intent{Object: id, Source: "home", Verb: fleet.Scale, Replicas: n, At: start.Add(after), Git: "2"}
	}
	got := func(d fleet.Desired, id fleet.ObjectID) int32 {
		o, _ := d.Find(id)
		return **replicasOf(o.Value)
	}
	for _, test := range []struct {
		name    string
		intents []fleet.Intent
		scalers []fleet.Scaler
		web, db int32
	}{
		{"nobody", nil, nil, 2, 2},
		{"operators", []fleet.Intent{scale(webID, 5, 0), scale(webID, 7, time.Second), scale(dbID, 0, 0)}, nil, 7, 0},
		{"in another order", []fleet.Intent{scale(dbID, 0, 0), scale(webID, 7, time.Second), scale(webID, 5, 0)}, nil, 7, 0},
		{"an autoscaler", nil, []fleet.Scaler{{ID: hpa.ID, Target: webID, Replicas: 4}}, 4, 2},
		{"an autoscaler that has not measured", nil, []fleet.Scaler{{ID: hpa.ID, Target: webID}}, 2, 2},
		{"both: the autoscaler", []fleet.Intent{scale(webID, 9, 0)}, []fleet.Scaler{{ID: hpa.ID, Target: webID, Replicas: 4}}, 4, 2},
		{"an autoscaler of something that is gone", nil, []fleet.Scaler{{ID: hpa.ID, Target: fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "old"}, Replicas: 4}}, 2, 2},
		{"of an object that is gone", []fleet.Intent{scale(logID, 3, 0)}, nil, 2, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := Effective(desired, test.intents, test.scalers)
			if got(d, webID) != test.web || got(d, dbID) != test.db {
				t.Errorf("web %d, db %d; want %d, %d", got(d, webID), got(d, dbID), test.web, test.db)
			}
			if got(desired, webID) != 2 || got(desired, dbID) != 2 {
				t.Fatal("what Git says was changed")
			}
		})
	}
}
