package reconcile

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

func dependent(o fleet.Object, on string) fleet.Object {
	return saying(o, fleet.AnnotationDependsOn, on)
}

var kindsThatWait = []struct {
	id   fleet.ObjectID
	make func(image, on string) fleet.Object
	has  string // when it runs a:1
}{
	{webID, func(image, on string) fleet.Object { return dependent(deploymentOf("web", 2, image), on) }, "a:1×2"},
	{fleet.ObjectID{Kind: fleet.KindStatefulSet, Namespace: "shop", Name: "app"}, func(image, on string) fleet.Object { return dependent(statefulOf("app", 2, image), on) }, "a:1×2"},
	{logID, func(image, on string) fleet.Object { return dependent(daemonOf("log", image), on) }, "a:1×2"},
	{fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "shop", Name: "set"}, func(image, on string) fleet.Object { return dependent(replicaSetOf("set", 2, image), on) }, "a:1×2"},
	{fleet.ObjectID{Kind: fleet.KindPod, Namespace: "shop", Name: "bare"}, func(image, on string) fleet.Object { return dependent(podOf("bare", image), on) }, "a:1×1"},
}

func TestDependsOnWaits(t *testing.T) {
	for _, k := range kindsThatWait {
		t.Run(k.id.Kind, func(t *testing.T) {
			c := newCrowd(t, 2)
			c.bad["d:1"] = true
			c.push(statefulOf("db", 2, "d:1"), k.make("a:1", "StatefulSet/db")).settle()
			c.wantHas(k.id, "")
			c.wantNote(k.id, "waits for StatefulSet/db to be ready")
			delete(c.bad, "d:1")
			for _, p := range c.pods(dbID) {
				c.becomes(p, corev1.PodRunning, true)
			}
			c.settle()
			c.wantHas(k.id, k.has)
			if got := c.notes(k.id); got != "" {
				t.Errorf("note %q", got)
			}
		})
	}
}

// Within one decision: what becomes ready by the newest reports starts its dependants, whatever their names are.
func TestDependsOnOrder(t *testing.T) {
	a, b, z := deploymentOf("a", 1, "a:1"), deploymentOf("m", 1, "m:1"), deploymentOf("z", 1, "z:1")
	c := newCrowd(t, 1, dependent(a, "Deployment/m"), dependent(b, "Deployment/z"), z)
	c.say("alpha")
	for _, want := range []struct{ a, m, z string }{{"", "", "z:1×1"}, {"", "m:1×1", "z:1×1"}, {"a:1×1", "m:1×1", "z:1×1"}} {
		c.decide()
		c.wantHas(a.ID, want.a)
		c.wantHas(b.ID, want.m)
		c.wantHas(z.ID, want.z)
		c.act("alpha")
		c.live("alpha")
		c.say("alpha")
	}
	// A push to all of them rolls in that order, too: with nothing to spare, never two at once.
	c.settle()
	c.push(dependent(deploymentOf("a", 1, "a:2"), "Deployment/m"), dependent(deploymentOf("m", 1, "m:2"), "Deployment/z"), deploymentOf("z", 1, "z:2"))
	c.decide()
	c.wantHas(a.ID, "a:1×1")
	c.wantHas(b.ID, "m:1×1")
	c.settle()
	c.wantHas(a.ID, "a:2×1")
	c.wantHas(b.ID, "m:2×1")
}

func TestDependsOnSeveral(t *testing.T) {
	c := newCrowd(t, 1, dependent(deploymentOf("web", 1, "a:1"), "StatefulSet/db, DaemonSet/log"), statefulOf("db", 1, "d:1"), daemonOf("log", "l:1"))
	c.bad["l:1"] = true
	c.settle()
	c.wantHas(webID, "")
	c.wantNote(webID, "waits for DaemonSet/log to be ready")
}

// A dependency that failed stops those that depend on it and nobody else.
func TestDependsOnFailed(t *testing.T) {
	deadline := func(d *appsv1.Deployment) { n := int32(600); d.Spec.ProgressDeadlineSeconds = &n }
	for _, test := range []struct {
		name, onFailure, note string
	}{{"held", "hold", "whose rollout failed"}, {"rolled back", "rollback", "which was rolled back from revision"}} {
		for _, kind := range []string{fleet.KindDeployment, fleet.KindStatefulSet, fleet.KindDaemonSet} {
			t.Run(kind+" "+test.name, func(t *testing.T) {
				back := func(image string) fleet.Object {
					o := deploymentOf("back", 2, image, deadline)
					switch kind {
					case fleet.KindStatefulSet:
						o = statefulOf("back", 2, image)
					case fleet.KindDaemonSet:
						o = daemonOf("back", image)
					}
					return saying(o, fleet.AnnotationOnFailure, test.onFailure)
				}
				all := func(n string) []fleet.Object {
					return []fleet.Object{back("b:" + n), dependent(deploymentOf("web", 2, "a:"+n, deadline), kind+"/back"), deploymentOf("other", 2, "o:"+n)}
				}
				c := newCrowd(t, 2, all("1")...).settle()
				c.wantHas(webID, "a:1×2")
				c.bad["b:2"] = true
				c.push(all("2")...).settle()
				c.now = c.now.Add(11 * time.Minute)
				c.settle()
				c.wantHas(webID, "a:1×2")
				c.wantHas(fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "other"}, "o:2×2")
				if kind == fleet.KindDeployment || test.name != "held" { // the others have no deadline
					c.wantNote(webID, kind+"/back, "+test.note)
				} else {
					c.wantNote(webID, kind+"/back to be ready")
				}
				c.now = c.now.Add(5 * time.Hour)
				c.settle()
				c.wantHas(webID, "a:1×2")
				if r := c.rollout(webID); r.Bad != (fleet.Bad{}) || r.Reason == "ProgressDeadlineExceeded" {
					t.Errorf("it waits for another, and is late itself: %+v", r)
				}
				delete(c.bad, "b:2")
				c.push(back("b:3"), dependent(deploymentOf("web", 2, "a:3", deadline), kind+"/back")).settle()
				c.wantHas(webID, "a:3×2")
			})
		}
	}
}

func TestDependsOnWhatIsNotThere(t *testing.T) {
	c := newCrowd(t, 1, dependent(deploymentOf("web", 1, "a:1"), "Deployment/nobody"), deploymentOf("other", 1, "o:1")).settle()
	c.wantHas(webID, "")
	c.wantNote(webID, "waits for Deployment/nobody, which is not there")
	c.wantHas(fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "other"}, "o:1×1")
	c.push(dependent(deploymentOf("web", 1, "a:1"), "Deployment/nobody"), deploymentOf("nobody", 1, "n:1")).settle()
	c.wantHas(webID, "a:1×1")
	c.push(dependent(deploymentOf("web", 1, "a:2"), "Deployment/nobody")).settle() // it went
	c.wantHas(webID, "a:1×1")
}

// A circle, which only several sources together make, says so and stops nobody else.
func TestDependsOnCircle(t *testing.T) {
	a, b := deploymentOf("a", 1, "a:1"), deploymentOf("b", 1, "b:1")
	other := dependent(b, "Deployment/a")
	other.Source = "other"
	c := newCrowd(t, 1, dependent(a, "Deployment/b"), other, deploymentOf("web", 1, "w:1"))
	c.desired.Revisions["other"] = "r1"
	c.settle()
	c.wantHas(a.ID, "")
	c.wantHas(b.ID, "")
	c.wantHas(webID, "w:1×1")
	c.wantNote(a.ID, "waits for Deployment/b")
	c.wantNote(b.ID, "waits for Deployment/a")
	c.push(a, b, deploymentOf("web", 1, "w:1")).settle()
	c.wantHas(a.ID, "a:1×1")
	// What runs already goes on in a circle.
	c.push(dependent(deploymentOf("a", 1, "a:1"), "Deployment/b"), dependent(deploymentOf("b", 1, "b:1"), "Deployment/a")).settle()
	c.wantHas(a.ID, "a:1×1")
	c.wantHas(b.ID, "b:1×1")
	c.push(dependent(deploymentOf("a", 1, "a:1"), "Deployment/a")).settle() // of one, itself
	c.wantHas(a.ID, "a:1×1")
}

// What runs goes on when what it depends on is not ready any more: it keeps its pods, replaces those that end, and scales.
func TestDependsOnLater(t *testing.T) {
	for _, k := range kindsThatWait {
		t.Run(k.id.Kind, func(t *testing.T) {
			c := newCrowd(t, 2, statefulOf("db", 1, "d:1"), k.make("a:1", "StatefulSet/db")).settle()
			c.bad["d:1"] = true
			c.becomes(c.pods(dbID)[0], corev1.PodRunning, false)
			before := c.uids()
			c.now = c.now.Add(time.Hour)
			c.settle()
			if d := gocmp.Diff(before, c.uids()); d != "" {
				t.Fatal(d)
			}
			if k.id.Kind != fleet.KindPod {
				c.becomes(c.pods(k.id)[0], corev1.PodFailed, false)
				c.settle()
				c.now = c.now.Add(time.Minute)
				c.settle()
				c.wantHas(k.id, k.has)
			}
			c.loseStore().settle()
			c.wantHas(k.id, k.has)
			// A push waits, and nothing is stopped for it.
			c.push(statefulOf("db", 1, "d:1"), k.make("a:2", "StatefulSet/db")).settle()
			if k.id.Kind != fleet.KindReplicaSet && k.id.Kind != fleet.KindPod { // pods of those keep their template, or take it where they are
				c.wantHas(k.id, k.has)
				c.wantNote(k.id, "waits for StatefulSet/db")
			}
			c.becomes(c.pods(dbID)[0], corev1.PodRunning, true)
			c.settle()
			if k.id.Kind != fleet.KindReplicaSet {
				c.wantHas(k.id, "a:2"+k.has[3:])
			}
		})
	}
	t.Run("a Pod that has to be replaced", func(t *testing.T) {
		id := kindsThatWait[4].id
		c := newCrowd(t, 1, statefulOf("db", 1, "d:1"), dependent(podOf("bare", "a:1"), "StatefulSet/db")).settle()
		c.bad["d:1"] = true
		c.becomes(c.pods(dbID)[0], corev1.PodRunning, false)
		c.push(statefulOf("db", 1, "d:1"), dependent(podOf("bare", "a:2", func(p *corev1.Pod) { p.Spec.HostNetwork = true }), "StatefulSet/db")).settle()
		c.wantHas(id, "a:1×1") // it must not stop for what may not start
		c.wantNote(id, "waits for StatefulSet/db")
	})
	t.Run("scaled", func(t *testing.T) {
		c := newCrowd(t, 1, statefulOf("db", 1, "d:1"), dependent(deploymentOf("web", 2, "a:1"), "StatefulSet/db")).settle()
		c.bad["d:1"] = true
		c.becomes(c.pods(dbID)[0], corev1.PodRunning, false)
		c.push(statefulOf("db", 1, "d:1"), dependent(deploymentOf("web", 4, "a:1"), "StatefulSet/db")).settle()
		c.wantHas(webID, "a:1×4")
		c.push(statefulOf("db", 1, "d:1"), dependent(deploymentOf("web", 3, "a:2"), "StatefulSet/db")).settle()
		c.wantHas(webID, "a:1×3")
	})
	t.Run("scaled up from nothing with another template it waits", func(t *testing.T) {
		on := func(n int32, image string) []fleet.Object {
			return []fleet.Object{statefulOf("db", 1, "d:1"), dependent(deploymentOf("web", n, image), "StatefulSet/db")}
		}
		c := newCrowd(t, 1, on(1, "a:1")...).settle()
		c.push(on(1, "a:2")...).settle()
		c.push(on(0, "a:2")...).settle()
		c.bad["d:1"] = true
		c.becomes(c.pods(dbID)[0], corev1.PodRunning, false)
		c.push(on(2, "a:1")...).settle() // an old set of that template is there, empty
		c.wantHas(webID, "")
	})
}

// A rollout in the middle goes on when what it depends on becomes unready.
func TestDependsOnInTheMiddle(t *testing.T) {
	for _, k := range kindsThatWait[:3] {
		t.Run(k.id.Kind, func(t *testing.T) {
			c := newCrowd(t, 2, statefulOf("db", 1, "d:1"), k.make("a:1", "StatefulSet/db")).settle()
			c.push(statefulOf("db", 1, "d:1"), k.make("a:2", "StatefulSet/db"))
			c.decide()
			c.bad["d:1"] = true
			c.becomes(c.pods(dbID)[0], corev1.PodRunning, false)
			c.settle()
			c.wantHas(k.id, "a:2"+k.has[3:])
		})
	}
}

// A DaemonSet is not ready while no node has a pod of it that could have one.
func TestDependsOnADaemonSetBeforeAnyNode(t *testing.T) {
	c := newCrowd(t, 2, daemonOf("log", "l:1"), dependent(deploymentOf("web", 2, "a:1"), "DaemonSet/log"))
	c.bad["l:1"] = true
	c.decide() // nobody has said anything yet
	c.settle()
	c.wantHas(webID, "")
	c.wantNote(webID, "waits for DaemonSet/log")
	if good := c.rollout(logID).Good; good != (fleet.ObjectID{}) {
		t.Errorf("%s is good, and none of its pods ever ran", good)
	}
}

// Dependants wait to the end of a rollout by steps.
func TestDependsOnACanary(t *testing.T) {
	all := func(image string) []fleet.Object {
		return []fleet.Object{saying(deploymentOf("back", 4, image), fleet.AnnotationSteps, "1, pause"), dependent(deploymentOf("web", 1, image), "Deployment/back")}
	}
	c := newCrowd(t, 1, all("a:1")...).settle()
	c.push(all("a:2")...).settle()
	c.wantHas(webID, "a:1×1")
	back := fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "back"}
	c.intents = []fleet.Intent{{Object: back, Source: "home", Verb: fleet.Resume, Author: "eve", At: c.now.Add(time.Second), Git: "false"}}
	c.now = c.now.Add(2 * time.Second)
	c.settle()
	c.wantHas(back, "a:2×4")
	c.wantHas(webID, "a:2×1")
	if len(c.intents) > 0 {
		t.Errorf("left are %v", c.intents)
	}
}
