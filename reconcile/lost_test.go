package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
)

// spread is where the pods of a workload should run: how many on each node.
func (c *crowd) spread(id fleet.ObjectID) string {
	on := map[fleet.NodeName]int{}
	for _, s := range c.stored.Slots {
		if s.Goal == fleet.Run && (s.Owner == id || s.Controller == id) {
			on[s.Node]++
		}
	}
	var parts []string
	for _, node := range slices.Sorted(maps.Keys(on)) {
		parts = append(parts, fmt.Sprintf("%s×%d", nameOr(node, "nowhere"), on[node]))
	}
	return strings.Join(parts, " ")
}

func nameOr(node fleet.NodeName, otherwise string) string {
	if node == "" {
		return otherwise
	}
	return string(node)
}

func (c *crowd) wantSpread(id fleet.ObjectID, want string) {
	c.t.Helper()
	if got := c.spread(id); got != want {
		c.t.Errorf("%s runs on %q, want %q\n%s", id, got, want, c)
	}
}

// after lets time pass, and looks once more.
func (c *crowd) after(d time.Duration) *crowd {
	c.t.Helper()
	c.now = c.now.Add(d)
	c.rounds(3)
	return c
}

// rounds has everybody look several times at the same moment.
func (c *crowd) rounds(n int) {
	c.t.Helper()
	for range n {
		c.pass()
	}
}

func tolerating(tolerations ...corev1.Toleration) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.Tolerations = append(s.Tolerations, tolerations...) }
}

func unreachableFor(seconds int64) corev1.Toleration {
	return corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}
}

// webLike is the Deployment web with another pod spec.
func webLike(replicas int32, change ...func(*corev1.PodSpec)) fleet.Object {
	return deploymentOf("web", replicas, "a:1", func(d *appsv1.Deployment) {
		for _, f := range change {
			f(&d.Spec.Template.Spec)
		}
	})
}

// TestLostNodeIsWaitedFor: pods of a Deployment are replaced after as long as they or the fleet say, and not before.
func TestLostNodeIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		stay   time.Duration
		change func(*corev1.PodSpec)
		want   time.Duration // 0: for ever
	}{
		"usual":               {0, tolerating(), 25 * time.Second},
		"as the fleet says":   {time.Minute, tolerating(), time.Minute},
		"as the pod says":     {0, tolerating(unreachableFor(300)), 300 * time.Second},
		"less than the fleet": {time.Minute, tolerating(unreachableFor(5)), 5 * time.Second},
		"as long as it takes": {0, tolerating(corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists}), 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newCrowd(t, 2, webLike(4, c.change))
			f.stay = c.stay
			f.settle()
			f.wantSpread(webID, "alpha×2 beta×2")
			f.lose("beta").rounds(2)
			if c.want == 0 {
				f.after(24 * time.Hour)
				f.wantSpread(webID, "alpha×2 beta×2")
				return
			}
			f.after(c.want - time.Second)
			f.wantSpread(webID, "alpha×2 beta×2")
			if wake, due := f.last.WakeAt, f.now.Add(time.Second); !wake.Equal(due) {
				t.Errorf("wakes at %s, want %s", wake, due)
			}
			f.after(time.Second)
			f.wantSpread(webID, "alpha×4")
			if got := len(f.hosts["beta"].pods); got != 2 {
				t.Errorf("the lost node has %d pods, which nobody could stop; want 2", got)
			}
			f.regain("beta").settle()
			f.wantSpread(webID, "alpha×4") // nothing that runs is moved
			if got := len(f.hosts["beta"].pods); got != 0 {
				t.Errorf("%d pods are left on the node that came back", got)
			}
		})
	}
}

// TestLostNodeBackInTime: nobody who came back before the time was up has anything done to its pods, and it counts anew.
func TestLostNodeBackInTime(t *testing.T) {
	c := newCrowd(t, 2, webLike(2)).settle()
	before := c.uids()
	for range 3 {
		c.lose("beta").after(20 * time.Second)
		c.regain("beta").after(time.Second)
	}
	c.settle()
	if got := c.uids(); !slices.Equal(got, before) {
		t.Errorf("pods were %v, are %v", before, got)
	}
}

// TestLostSinceFirstNoticed: a leader that decides for the first time goes on counting where the one before it was.
func TestLostSinceFirstNoticed(t *testing.T) {
	c := newCrowd(t, 2, webLike(2)).settle()
	c.lose("beta").decide()
	for range 4 { // leaders have nothing in common but the store
		c.now = c.now.Add(5 * time.Second)
		c.stored = roundTrip(t, c.stored)
		c.decide()
	}
	c.wantSpread(webID, "alpha×1 beta×1")
	c.after(5 * time.Second)
	c.wantSpread(webID, "alpha×2")
}

// TestLeadersWhoseClocksDiffer: a leader whose clock is right does not wait for that of the one before it, nor does it make twice what
// must not be.
func TestLeadersWhoseClocksDiffer(t *testing.T) {
	for name, skew := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, 3, webLike(3), statefulOf("db", 3, "a:1")).settle()
			right := c.now
			c.now = right.Add(skew)
			c.lose("beta").decide()
			c.now = right.Add(time.Second)
			c.rounds(2)
			c.after(25 * time.Second)
			c.wantSpread(webID, "alpha×2 gamma×1")
			if n := len(c.hosts["beta"].pods); n != 2 {
				t.Errorf("%d pods on the lost node", n)
			}
			c.regain("beta").settle()
			names := map[fleet.PodID]int{}
			for _, s := range c.stored.Slots {
				names[s.Pod]++
			}
			for name, n := range names {
				if n > 1 {
					t.Errorf("%s is there %d times", name, n)
				}
			}
		})
	}
}

// TestWhatIsNotMadeTwice: what must not live twice, or has data on the lost node, is waited for.
func TestWhatIsNotMadeTwice(t *testing.T) {
	jobTemplate := func(change ...func(*corev1.PodSpec)) corev1.PodTemplateSpec {
		template := templateOf("a:1")
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		for _, f := range change {
			f(&template.Spec)
		}
		return template
	}
	job := func(change ...func(*corev1.PodSpec)) fleet.Object {
		one := int32(1)
		limit := int32(6)
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "run"}, Spec: batchv1.JobSpec{
			Template: jobTemplate(change...), Completions: &one, Parallelism: &one, BackoffLimit: &limit,
		}}
		return workloadOf(fleet.KindJob, j, &j.Spec.Template)
	}
	for name, c := range map[string]struct {
		object fleet.Object
		moves  bool
	}{
		"StatefulSet":             {object: statefulOf("db", 2, "a:1")},
		"DaemonSet":               {object: daemonOf("log", "a:1")},
		"bare pod":                {object: podOf("bare", "a:1")},
		"Job":                     {object: job()},
		"Job that says how long":  {object: job(tolerating(unreachableFor(30))), moves: true},
		"StatefulSet that says":   {object: statefulOf("db", 2, "a:1", func(s *appsv1.StatefulSet) { tolerating(unreachableFor(30))(&s.Spec.Template.Spec) })},
		"Deployment with a claim": {object: webLike(1, withClaim)},
		"Deployment":              {object: webLike(2), moves: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newCrowd(t, 2, c.object)
			f.hosts["alpha"].claims, f.hosts["beta"].claims = map[fleet.ClaimID]bool{}, map[fleet.ClaimID]bool{}
			f.known["alpha"].Unschedulable = c.object.ID.Kind == fleet.KindJob || c.object.ID.Kind == fleet.KindPod || name == "Deployment with a claim"
			f.settle()
			f.known["alpha"].Unschedulable = false
			before := f.spread(c.object.ID)
			if !strings.Contains(before, "beta") {
				t.Fatalf("nothing is on beta: %s", before)
			}
			f.lose("beta").rounds(2)
			f.after(time.Hour)
			f.after(time.Hour)
			if after := f.spread(c.object.ID); (after != before) != c.moves {
				t.Errorf("was on %s, is on %s\n%s", before, after, f)
			}
		})
	}
}

func withClaim(s *corev1.PodSpec) {
	s.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
}

// TestLostNodeAndRollout: a rollout goes on by its limits while a node is lost, and its pods there count as not available.
func TestLostNodeAndRollout(t *testing.T) {
	roll := func(image string) fleet.Object {
		return deploymentOf("web", 4, image, func(d *appsv1.Deployment) {
			one, none := intstr.FromInt32(1), intstr.FromInt32(0)
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &none}
		})
	}
	c := newCrowd(t, 2, roll("a:1")).settle()
	c.wantSpread(webID, "alpha×2 beta×2")
	c.lose("beta").rounds(2)
	c.push(roll("a:2")) // every decision is held to the limits by crowd.check
	c.settle()
	c.wantHas(webID, "a:2×4")
	c.wantSpread(webID, "alpha×4")
	c.regain("beta").settle()
	c.wantHas(webID, "a:2×4")
	if got := len(c.hosts["beta"].pods); got != 0 {
		t.Errorf("%d pods are left on beta", got)
	}
}

func nodeObject(name string, change ...func(*corev1.Node)) fleet.Object {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, f := range change {
		f(n)
	}
	return fleet.Object{ID: nodeID(fleet.NodeName(name)), Source: "home", Revision: "r1", Value: n}
}

func withTaint(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}

// TestTaintsFromGit: NoExecute drives pods out when their time is up, of every kind but DaemonSets' that tolerate it; NoSchedule
// keeps newcomers away alone.
func TestTaintsFromGit(t *testing.T) {
	old := func(seconds int64) corev1.Toleration {
		return corev1.Toleration{Key: "old", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}
	}
	t.Run("NoExecute", func(t *testing.T) {
		objects := func() []fleet.Object { return append(trio("a:1"), nodeObject("alpha"), nodeObject("beta")) }
		c := newCrowd(t, 2, objects()...).settle()
		c.wantSpread(dbID, "alpha×1 beta×1")
		c.push(append(trio("a:1"), nodeObject("beta", withTaint("old", corev1.TaintEffectNoExecute)))...).settle()
		c.wantSpread(webID, "alpha×3")
		c.wantSpread(dbID, "alpha×2")
		c.wantSpread(logID, "alpha×1")
		c.push(objects()...).settle()
		c.wantSpread(logID, "alpha×1 beta×1")
		c.wantSpread(webID, "alpha×3")
	})
	t.Run("tolerated for a while", func(t *testing.T) {
		web := func() fleet.Object { return webLike(4, tolerating(old(60))) }
		c := newCrowd(t, 2, web()).settle()
		c.push(web(), nodeObject("beta", withTaint("old", corev1.TaintEffectNoExecute))).rounds(3)
		before := c.uids()
		c.after(59 * time.Second)
		if !slices.Equal(c.uids(), before) {
			t.Errorf("somebody went too early\n%s", c)
		}
		c.after(time.Second)
		between := c.uids()
		if slices.Equal(between, before) {
			t.Errorf("nobody went\n%s", c)
		}
		c.after(59 * time.Second) // those that came meanwhile have as long again
		if !slices.Equal(c.uids(), between) {
			t.Errorf("somebody who has just come went\n%s", c)
		}
	})
	t.Run("tolerated for no time", func(t *testing.T) { // nobody is put where he has to go at once
		c := newCrowd(t, 1, webLike(1, tolerating(old(0))), nodeObject("alpha", withTaint("old", corev1.TaintEffectNoExecute))).settle()
		c.wantSpread(webID, "nowhere×1")
	})
	t.Run("NoSchedule", func(t *testing.T) {
		c := newCrowd(t, 2, webLike(2)).settle()
		c.push(webLike(4), nodeObject("beta", withTaint("old", corev1.TaintEffectNoSchedule))).settle()
		c.wantSpread(webID, "alpha×3 beta×1")
	})
	t.Run("NoSchedule, and a DaemonSet goes on elsewhere", func(t *testing.T) {
		tainted := func(image string) []fleet.Object {
			return []fleet.Object{daemonOf("log", image), nodeObject("beta", withTaint("old", corev1.TaintEffectNoSchedule))}
		}
		for name, test := range map[string]struct {
			first []fleet.Object
			has   string
			left  int32 // pods on the node that gets none
		}{
			"with a pod there": {[]fleet.Object{daemonOf("log", "a:1")}, "a:1×1 a:2×2", 1},
			"with none there":  {tainted("a:1"), "a:2×2", 0},
		} {
			c := newCrowd(t, 3, test.first...).settle()
			c.push(tainted("a:2")...).settle()
			c.wantHas(logID, test.has)
			want := appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, CurrentNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberReady: 2, NumberAvailable: 2, NumberMisscheduled: test.left}
			got := c.view().DaemonSets()[0].Status
			got.ObservedGeneration = 0
			if d := gocmp.Diff(want, got); d != "" {
				t.Errorf("%s: %s", name, d)
			}
			if waiting := c.view().Waiting(); len(waiting) > 0 {
				t.Errorf("%s: waits for %v", name, waiting)
			}
			c.push(daemonOf("log", "a:2")).settle()
			c.wantHas(logID, "a:2×3")
		}
	})
	t.Run("a label", func(t *testing.T) {
		ssd := func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "ssd"} }
		c := newCrowd(t, 2, webLike(1, ssd)).settle()
		c.wantSpread(webID, "nowhere×1")
		c.push(webLike(1, ssd), nodeObject("beta", func(n *corev1.Node) { n.Labels = map[string]string{"disk": "ssd"} })).settle()
		c.wantSpread(webID, "beta×1")
		c.push(webLike(1, ssd)).settle() // ignored during execution
		c.wantSpread(webID, "beta×1")
	})
	t.Run("a machine that is not there", func(t *testing.T) {
		c := newCrowd(t, 1, nodeObject("zeta")).settle()
		c.wantNote(nodeID("zeta"), "no machine of this name")
	})
}

// TestNamesAreGivenOnce: the store was lost while a node was, and others have been given the names of its pods meanwhile.
func TestNamesAreGivenOnce(t *testing.T) {
	c := newCrowd(t, 2, daemonOf("log", "a:1"), webLike(4)).settle()
	c.lose("beta").loseStore()
	c.rounds(3)
	c.push(daemonOf("log", "a:1"), webLike(8)).rounds(3)
	c.regain("beta").settle()
	names := map[fleet.PodID]string{}
	for _, h := range c.hosts {
		for uid, p := range h.pods {
			if names[p.Pod] != "" {
				t.Errorf("%s is there twice\n%s", p.Pod, c)
			}
			names[p.Pod] = uid
		}
	}
	c.wantHas(webID, "a:1×8")
	c.wantHas(logID, "a:1×2")
}

// TestRemovedNodeThatReports: a node that was removed while its agent runs gets its pods taken away, and they run elsewhere.
func TestRemovedNodeThatReports(t *testing.T) {
	c := newCrowd(t, 2, deploymentOf("web", 4, "a:1"), statefulOf("db", 2, "a:1"), daemonOf("log", "a:1")).settle()
	removed := c.nodes[1]
	for i := range 20 {
		c.now = c.now.Add(time.Second)
		for _, n := range c.nodes {
			c.act(n)
			c.live(n)
			c.say(n)
		}
		in := c.input()
		in.Nodes = in.Nodes[:1]
		if i == 0 { // its report went with it
			in.Reports = in.Reports[:1]
		}
		if d := Decide(in); d.Changed {
			c.stored = d.Next
		}
	}
	c.wantSpread(webID, "alpha×4")
	c.wantSpread(dbID, "alpha×2")
	c.wantSpread(logID, "alpha×1")
	if left := c.hosts[removed].pods; len(left) > 0 {
		t.Errorf("it has %d pods still", len(left))
	}
}

// TestOtherMachine: what was meant for a machine that was removed is made anew, as soon as another that has joined under its name says since
// when it is there; what that one has is its own, and while it cannot look at itself it has everything.
func TestOtherMachine(t *testing.T) {
	for name, c := range map[string]struct {
		since   func(now uint64) uint64
		lost    bool
		trouble string
		anew    bool
	}{
		"another":                      {since: func(now uint64) uint64 { return now }, lost: true, anew: true},
		"the same, its disk was lost":  {since: func(now uint64) uint64 { return now }},
		"the same":                     {since: func(uint64) uint64 { return 0 }, lost: true},
		"it does not know what it has": {since: func(now uint64) uint64 { return now }, lost: true, trouble: "Podman does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newCrowd(t, 2, statefulOf("db", 2, "a:1")).settle()
			uids := func(slots []fleet.Slot) []string {
				var list []string
				for i := range slots {
					list = append(list, slots[i].UID)
				}
				slices.Sort(list)
				return list
			}
			before := uids(f.stored.Slots)
			in := f.input()
			for i := range in.Reports {
				if r := &in.Reports[i]; r.Node == "beta" {
					r.Since, r.Trouble = c.since(f.stored.Epoch), c.trouble
					if c.lost {
						r.Pods = nil
					}
				}
			}
			after := uids(Decide(in).Next.Slots)
			if anew := !slices.Equal(before, after); anew != c.anew {
				t.Errorf("pods were %v, are %v", before, after)
			}
			if c.anew && len(after) != 2 {
				t.Errorf("%d pods", len(after))
			}
		})
	}
}
