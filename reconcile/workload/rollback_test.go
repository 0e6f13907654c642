package workload_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// failed is a Deployment whose v2 came to nothing and that may go back.
func failed(t testing.TB, n int32, change ...func(*appsv1.Deployment)) *world {
	w := newWorld(t, deployment(n, change...))
	w.rollback, w.bad["v2"] = true, true
	w.revision = "r2"
	w.push("v2")
	w.settle(8)
	w.wait(601 * time.Second)
	return w
}

func (w *world) isBack(t *testing.T, n string) {
	t.Helper()
	if got := sizes(w); got != "v1:"+n || w.r.Rollout.Bad.Want != "v2" || !noted(w, "stays back until another commit comes") {
		t.Errorf("it should be back: %s, %+v, notes %v", got, w.r.Rollout.Bad, w.r.Notes)
	}
}

func TestRollback(t *testing.T) {
	t.Run("by default it is held", func(t *testing.T) {
		w := failed(t, 8)
		w.rollback = false
		w.settle(8)
		if got := sizes(w); got != "v1:06 v2:04" || w.r.Rollout.Bad != (fleet.Bad{}) || w.r.Rollout.Reason != "ProgressDeadlineExceeded" || !noted(w, "held as it is") {
			t.Errorf("now %s, %+v, %v", got, w.r.Rollout, w.r.Notes)
		}
	})
	t.Run("not before the deadline", func(t *testing.T) {
		w := failed(t, 8)
		w.wait(-3 * time.Second).roll()
		if w.r.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("%+v", w.r.Rollout.Bad)
		}
	})
	t.Run("to the very same set, and it stays there", func(t *testing.T) {
		w := failed(t, 8)
		first := w.set("v1")
		w.settle(8)
		w.isBack(t, "08")
		if again := w.set("v1"); again.ID != first.ID || again.UID != first.UID || again.Number != 3 || len(w.r.Sets) != 2 {
			t.Errorf("not the same set: %+v, was %+v", again, first)
		}
		bad := w.r.Rollout.Bad
		if bad.Revision != "r2" || bad.Why != "made no progress for 10m0s" {
			t.Errorf("%+v", bad)
		}
		for range 20 {
			w.wait(17 * time.Minute).settle(8)
			if w.r.Rollout.Bad != bad || sizes(w) != "v1:08" {
				t.Fatalf("the same commit is tried again: %s, %+v", w, w.r.Rollout.Bad)
			}
		}
		if !w.r.WakeAt.IsZero() {
			t.Errorf("wakes at %s", w.r.WakeAt)
		}
	})
	t.Run("it never takes more than it may", func(t *testing.T) {
		w := failed(t, 8, rolling("1", "0"))
		for range 20 {
			w.wait(time.Second).roll()
			if available(w) < 8 || total(w) > 9 {
				t.Fatalf("on the way back %s", w)
			}
			w.ready(1)
		}
		w.isBack(t, "08")
	})
	t.Run("another commit is tried", func(t *testing.T) {
		w := failed(t, 4)
		w.settle(8)
		w.revision = "r3"
		w.push("v3")
		w.settle(8)
		if got := sizes(w); got != "v3:04" || w.r.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("now %s, %+v", got, w.r.Rollout.Bad)
		}
	})
	t.Run("another commit with the same template is tried, and fails anew", func(t *testing.T) {
		w := failed(t, 4)
		w.settle(8)
		w.revision = "r3"
		w.settle(8)
		if w.set("v2").Replicas == 0 || w.r.Rollout.Bad != (fleet.Bad{}) {
			t.Fatalf("not tried: %s, %+v", w, w.r.Rollout.Bad)
		}
		w.wait(601 * time.Second).settle(8)
		if w.isBack(t, "04"); w.r.Rollout.Bad.Revision != "r3" {
			t.Errorf("%+v", w.r.Rollout.Bad)
		}
	})
	t.Run("another commit with the same template that is good by now", func(t *testing.T) {
		w := failed(t, 4)
		w.settle(8)
		w.revision, w.bad["v2"] = "r3", false
		w.settle(8)
		if got := sizes(w); got != "v2:04" {
			t.Errorf("now %s", got)
		}
	})
	t.Run("a commit that goes back by itself", func(t *testing.T) {
		w := failed(t, 4)
		w.settle(8)
		w.revision = "r3"
		w.push("v1")
		w.settle(8)
		if got := sizes(w); got != "v1:04" || w.r.Rollout.Bad != (fleet.Bad{}) || len(w.r.Notes) > 0 {
			t.Errorf("now %s, %+v, %v", got, w.r.Rollout.Bad, w.r.Notes)
		}
	})
	t.Run("what is good is what came to its end last", func(t *testing.T) {
		w := newWorld(t, deployment(4))
		w.push("v2")
		w.settle(8)
		w.push("v3")
		w.bad["v3"] = true
		w.settle(8)
		w.push("v4")
		w.bad["v4"], w.rollback = true, true
		w.settle(8)
		w.wait(601 * time.Second).settle(8)
		if got := sizes(w); got != "v2:04" || w.r.Rollout.Bad.Want != "v4" {
			t.Errorf("now %s, %+v", got, w.r.Rollout.Bad)
		}
	})
	t.Run("no earlier version was good", func(t *testing.T) {
		w := &world{t: t, d: deployment(3), hash: "v1", now: now, bad: map[fleet.Hash]bool{"v1": true, "v2": true}, rollback: true}
		w.settle(8)
		w.wait(601 * time.Second).settle(8)
		if got := sizes(w); got != "v1:03" || !noted(w, "no earlier version that was good") || w.r.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("now %s, %v", got, w.r.Notes)
		}
		w.push("v2")
		w.settle(8)
		w.wait(601 * time.Second).settle(8)
		if !noted(w, "no earlier version that was good") || w.set("v2").Replicas == 0 {
			t.Errorf("second: %s, %v", w, w.r.Notes)
		}
	})
	t.Run("it does not turn round when the good one does not come up either", func(t *testing.T) {
		w := failed(t, 4, recreate)
		w.bad["v1"] = true
		w.settle(8)
		w.settle(8)
		for range 5 {
			w.wait(601 * time.Second).settle(8)
			w.settle(8)
			if w.r.Rollout.Bad.Want != "v2" || w.set("v2").Replicas > 0 {
				t.Fatalf("now %s, %+v", w, w.r.Rollout.Bad)
			}
		}
	})
	t.Run("it does not turn round while some bad ones serve", func(t *testing.T) {
		w := newWorld(t, deployment(4, rolling("0", "2")))
		w.rollback, w.revision = true, "r2"
		w.push("v2")
		w.roll()
		w.ready(1) // one of two is well
		w.bad["v2"] = true
		w.settle(8)
		w.wait(601 * time.Second)
		w.bad["v1"] = true // and the old one cannot be had any more: its image is gone
		w.settle(8)
		if w.r.Rollout.Bad.Want != "v2" {
			t.Fatalf("not back: %+v", w.r.Rollout)
		}
		for range 3 {
			w.wait(601 * time.Second).settle(8)
			if w.r.Rollout.Bad.Want != "v2" {
				t.Fatalf("now %s, %+v", w, w.r.Rollout.Bad)
			}
		}
	})
	t.Run("a Deployment that is paused stays", func(t *testing.T) {
		w := failed(t, 8)
		w.push("v2", paused(true))
		w.settle(8)
		w.wait(time.Hour).settle(8)
		if w.r.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("%+v", w.r.Rollout.Bad)
		}
		w.push("v2", paused(false))
		w.settle(8)
		w.wait(601 * time.Second).settle(8)
		w.isBack(t, "08")
	})
	t.Run("paused after it went back", func(t *testing.T) {
		w := failed(t, 8)
		w.settle(8)
		w.push("v2", paused(true), replicas(10))
		w.settle(8)
		if got := sizes(w); got != "v1:10" {
			t.Errorf("now %s", got)
		}
	})
	t.Run("scaled after it went back", func(t *testing.T) {
		w := failed(t, 8)
		w.settle(8)
		w.push("v2", replicas(3))
		w.settle(8)
		w.isBack(t, "03")
	})
	t.Run("opted for when it is late already", func(t *testing.T) {
		w := failed(t, 8)
		w.rollback = false
		w.settle(8)
		w.rollback = true
		w.settle(8)
		w.isBack(t, "08")
	})
	t.Run("with a history limit of nothing", func(t *testing.T) {
		w := failed(t, 8, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = new(int32) })
		w.settle(8)
		w.isBack(t, "08")
	})
	t.Run("Recreate keeps what was good", func(t *testing.T) {
		w := failed(t, 3, recreate, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = new(int32) })
		w.settle(8)
		w.settle(8)
		w.isBack(t, "03")
	})
	t.Run("Recreate, and what it depends on is not ready by now", func(t *testing.T) {
		w := failed(t, 3, recreate)
		w.hold = "waits for Deployment/db to be ready"
		w.settle(8)
		w.settle(8)
		w.isBack(t, "03")
	})
	t.Run("the store is lost before the deadline", func(t *testing.T) {
		w := failed(t, 8)
		w.wait(-500 * time.Second)
		w.loseStore()
		w.settle(8)
		w.wait(601 * time.Second).settle(8)
		w.isBack(t, "08")
	})
	t.Run("a restart that fails", func(t *testing.T) {
		w := newWorld(t, deployment(4))
		first := w.set("v1").ID
		w.rollback, w.bad["v1"] = true, true
		w.stamp.Restarted = w.now
		w.wait(time.Second).settle(8)
		if len(w.r.Sets) != 2 {
			t.Fatalf("no new set: %s", w)
		}
		w.wait(601 * time.Second).roll()
		w.stamp = fleet.Stamp{} // it was done
		w.settle(8)
		for _, g := range w.r.Sets {
			if (g.ID == first) != (g.Replicas == 4) {
				t.Errorf("set %s has %d: %+v, notes %v", g.ID.Name, g.Replicas, w.r.Rollout, w.r.Notes)
			}
		}
	})
	t.Run("a configuration that fails", func(t *testing.T) {
		w := &world{t: t, d: deployment(4), hash: "v1", now: now, bad: map[fleet.Hash]bool{}, stamp: fleet.Stamp{Config: "c1"}}
		w.settle(8)
		first := w.r.Sets[0].ID
		w.rollback, w.bad["v1"], w.stamp.Config, w.revision = true, true, "c2", "r2"
		w.wait(time.Second).settle(8)
		w.wait(601 * time.Second).settle(8)
		for _, g := range w.r.Sets {
			if (g.ID == first) != (g.Replicas == 4) {
				t.Errorf("set %s has %d: %+v", g.ID.Name, g.Replicas, w.r.Rollout)
			}
		}
		w.wait(time.Hour).settle(8)
		if w.r.Rollout.Bad.Revision != "r2" {
			t.Errorf("%+v", w.r.Rollout.Bad)
		}
	})
	t.Run("nothing that never ran is good", func(t *testing.T) {
		w := newWorld(t, deployment(4))
		w.push("v1", replicas(0))
		w.settle(8)
		w.bad["v2"] = true
		w.push("v2") // with no pods to show what it is worth
		w.settle(8)
		w.rollback = true
		w.push("v2", replicas(4))
		w.settle(8)
		w.wait(601 * time.Second).settle(8)
		w.isBack(t, "04")
	})
}

// loseStore leaves what pods' labels and counts say.
func (w *world) loseStore() {
	w.r.Rollout = fleet.Rollout{}
	var left []workload.Generation
	for _, g := range w.r.Sets {
		if g.Replicas == 0 {
			continue
		}
		g.Set = revived(g.Set)
		g.Recorded, g.Most = 0, 0
		left = append(left, g)
	}
	w.r.Sets = left
}

func TestStatefulSetRollback(t *testing.T) {
	start := func(t *testing.T, change ...func(*appsv1.StatefulSet)) *row {
		r := newRow(t, statefulSet(3, change...)).settle()
		r.rollback, r.bad["v2"] = true, true
		r.push("v2").settle()
		return r
	}
	t.Run("not before 600 s", func(t *testing.T) {
		r := start(t)
		r.now = r.out.Rollout.Progress.Add(599 * time.Second)
		if r.look(); r.out.Rollout.Bad != (fleet.Bad{}) || !r.out.WakeAt.Equal(r.now.Add(time.Second)) {
			t.Errorf("%+v, wakes at %s", r.out.Rollout.Bad, r.out.WakeAt)
		}
	})
	t.Run("to the very same revision, and it stays there", func(t *testing.T) {
		for _, change := range []func(*appsv1.StatefulSet){size(3), parallel} {
			r := start(t, change)
			first := r.setOf("v1").ID
			before := r.uids()
			r.now = r.now.Add(601 * time.Second)
			r.settle()
			wantText(t, "back", r.String(), "0:v1+ 1:v1+ 2:v1+")
			if after := r.uids(); after[0] != before[0] || after[1] != before[1] || r.out.Rollout.Target != first || r.out.Rollout.Current != first || r.out.Rollout.Good != first {
				t.Errorf("%+v", r.out.Rollout)
			}
			bad := r.out.Rollout.Bad
			for range 5 {
				r.now = r.now.Add(17 * time.Minute)
				if r.settle(); r.out.Rollout.Bad != bad || r.String() != "0:v1+ 1:v1+ 2:v1+" {
					t.Fatalf("tried again: %s, %+v", r, r.out.Rollout)
				}
			}
			if len(r.out.Notes) != 1 || !strings.Contains(r.out.Notes[0], "stays back") {
				t.Errorf("notes %v", r.out.Notes)
			}
			r.push("v2").settle() // another commit
			if r.out.Rollout.Bad != (fleet.Bad{}) || r.String() != "0:v1+ 1:v1+ 2:v2?" {
				t.Errorf("another commit is not tried: %s", r)
			}
		}
	})
	t.Run("by default it is held", func(t *testing.T) {
		r := start(t)
		r.rollback = false
		r.now = r.now.Add(time.Hour)
		if r.settle(); r.String() != "0:v1+ 1:v1+ 2:v2?" || r.out.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("now %s", r)
		}
	})
	t.Run("no earlier version was good", func(t *testing.T) {
		r := newRow(t, statefulSet(2))
		r.rollback, r.bad["v1"] = true, true
		r.settle().now = r.now.Add(time.Hour)
		if r.settle(); r.out.Rollout.Bad != (fleet.Bad{}) || len(r.out.Notes) != 1 || !strings.Contains(r.out.Notes[0], "no earlier version") {
			t.Errorf("%+v, notes %v", r.out.Rollout, r.out.Notes)
		}
	})
	t.Run("a fresh pod of the good version that is late is no reason", func(t *testing.T) {
		r := newRow(t, statefulSet(2)).settle()
		r.rollback, r.bad["v1"] = true, true
		r.push("v1", size(3)).settle()
		r.now = r.now.Add(time.Hour)
		if r.settle(); r.out.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("%+v", r.out.Rollout)
		}
	})
	t.Run("with a history limit of nothing", func(t *testing.T) {
		r := start(t, func(s *appsv1.StatefulSet) { s.Spec.RevisionHistoryLimit = new(int32) }, size(1))
		r.now = r.now.Add(601 * time.Second)
		r.settle()
		wantText(t, "back", r.String(), "0:v1+")
	})
	t.Run("the store is lost in the middle", func(t *testing.T) {
		r := start(t)
		r.out.Sets, r.out.Rollout = []fleet.Set{revived(r.setOf("v1")), revived(r.setOf("v2"))}, fleet.Rollout{}
		r.settle().now = r.now.Add(601 * time.Second)
		r.settle()
		wantText(t, "back", r.String(), "0:v1+ 1:v1+ 2:v1+")
	})
	t.Run("OnDelete has nothing to roll back", func(t *testing.T) {
		r := newRow(t, statefulSet(2, onDelete)).settle()
		r.rollback = true
		r.push("v2").settle().now = r.now.Add(time.Hour)
		if r.settle(); r.out.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("nobody has deleted a pod, and v2 is bad: %+v", r.out.Rollout.Bad)
		}
	})
}

func TestDaemonSetRollback(t *testing.T) {
	start := func(t *testing.T, change ...func(*appsv1.DaemonSet)) *field {
		f := newField(t, daemonSet(change...), "a", "b").settle()
		f.rollback, f.bad["v2"] = true, true
		f.push("v2").settle()
		return f
	}
	for name, change := range map[string]func(*appsv1.DaemonSet){"plain": daemonUpdate("0", "1"), "surge": daemonUpdate("1", "0")} {
		t.Run("after 600 s, to the very same revision: "+name, func(t *testing.T) {
			f := start(t, change)
			f.now = f.out.Rollout.Progress.Add(599 * time.Second)
			if f.look(); f.out.Rollout.Bad != (fleet.Bad{}) {
				t.Fatalf("%+v", f.out.Rollout.Bad)
			}
			f.now = f.now.Add(time.Second)
			f.settle()
			wantText(t, "back", f.String(), "a:v1+ b:v1+")
			bad := f.out.Rollout.Bad
			for range 5 {
				f.now = f.now.Add(17 * time.Minute)
				if f.settle(); f.out.Rollout.Bad != bad || f.String() != "a:v1+ b:v1+" || bad.Want != "v2" {
					t.Fatalf("tried again: %s, %+v", f, f.out.Rollout)
				}
			}
			if f.push("v2").settle(); f.out.Rollout.Bad != (fleet.Bad{}) {
				t.Errorf("another commit is not tried: %s", f)
			}
		})
	}
	t.Run("by default it is held", func(t *testing.T) {
		f := start(t)
		f.rollback = false
		f.now = f.now.Add(time.Hour)
		if f.settle(); f.String() != "a:v2? b:v1+" {
			t.Errorf("now %s", f)
		}
	})
	t.Run("no earlier version was good", func(t *testing.T) {
		f := newField(t, daemonSet(), "a")
		f.rollback, f.bad["v1"] = true, true
		f.settle().now = f.now.Add(time.Hour)
		if f.settle(); f.out.Rollout.Bad != (fleet.Bad{}) || len(f.out.Notes) != 1 {
			t.Errorf("%+v, notes %v", f.out.Rollout, f.out.Notes)
		}
	})
	t.Run("OnDelete has nothing to roll back", func(t *testing.T) {
		f := newField(t, daemonSet(daemonOnDelete), "a", "b").settle()
		f.rollback = true
		f.push("v2").settle().now = f.now.Add(time.Hour)
		if f.settle(); f.out.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("nobody has deleted a pod, and v2 is bad: %+v", f.out.Rollout.Bad)
		}
	})
	t.Run("a lost node is no reason", func(t *testing.T) {
		f := newField(t, daemonSet(), "a", "b").settle()
		f.rollback = true
		f.push("v2").settle()
		f.push("v3").settle()
		f.nodes["c"] = workload.Wanted
		f.bad["v3"] = true
		f.settle().now = f.now.Add(time.Hour)
		if f.settle(); f.out.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("%+v", f.out.Rollout.Bad)
		}
	})
}
