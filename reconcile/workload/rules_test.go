package workload_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

func (w *world) set(hash fleet.Hash) workload.Generation {
	w.t.Helper()
	at := slices.IndexFunc(w.r.Sets, func(g workload.Generation) bool { return g.Want == hash })
	if at < 0 {
		w.t.Fatalf("no set of %s in %s", hash, w)
	}
	return w.r.Sets[at]
}

func TestRevertFindsTheOldSet(t *testing.T) {
	w := newWorld(t, deployment(3))
	first := w.set("v1")
	for _, hash := range []fleet.Hash{"v2", "v1", "v2", "v1"} {
		w.push(hash)
		w.settle(100)
	}
	again := w.set("v1")
	if len(w.r.Sets) != 2 || again.ID != first.ID || again.UID != first.UID {
		t.Fatalf("the old set was not found: %s", w)
	}
	if d := cmp.Diff([]int64{1, 3}, again.Former); d != "" || again.Number != 5 {
		t.Errorf("number %d, former %v", again.Number, again.Former)
	}
	if again.From != "rev-v1" || w.set("v2").Number != 4 {
		t.Errorf("from %s; the other has number %d", again.From, w.set("v2").Number)
	}
}

func TestWhatMakesNoNewSet(t *testing.T) {
	w := newWorld(t, deployment(3))
	w.push("v1", rolling("50%", "1"), replicas(5), func(d *appsv1.Deployment) {
		d.Spec.MinReadySeconds, d.Labels = 10, map[string]string{"a": "b"}
	})
	w.settle(100)
	if len(w.r.Sets) != 1 || w.set("v1").Replicas != 5 || w.set("v1").Number != 1 {
		t.Errorf("now %s", w)
	}
}

func TestHistory(t *testing.T) {
	for _, test := range []struct {
		limit int32
		want  string
	}{
		{0, "v5"}, {1, "v4 v5"}, {2, "v3 v4 v5"}, {10, "v0 v1 v2 v3 v4 v5"},
	} {
		t.Run(fmt.Sprint(test.limit), func(t *testing.T) {
			w := newWorld(t, deployment(2, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &test.limit }))
			for i := range 6 {
				w.push(fleet.Hash(fmt.Sprintf("v%d", i)))
				w.settle(100)
			}
			var left []string
			for _, g := range w.r.Sets {
				left = append(left, string(g.Want))
			}
			slices.Sort(left)
			if got := strings.Join(left, " "); got != test.want {
				t.Errorf("left are %s, want %s", got, test.want)
			}
		})
	}
	t.Run("not while a rollout is under way", func(t *testing.T) {
		w := newWorld(t, deployment(2, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = new(int32) }))
		w.bad["v2"] = true
		w.push("v2")
		w.settle(1)
		w.push("v3")
		w.bad["v3"] = true
		w.settle(1)
		if len(w.r.Sets) != 3 {
			t.Errorf("left are %s", w)
		}
	})
	t.Run("not while a pod of the set is still there", func(t *testing.T) {
		w := newWorld(t, deployment(2, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = new(int32) }))
		w.lazy = 1
		w.push("v2")
		w.settle(100)
		if len(w.r.Sets) != 2 {
			t.Errorf("left are %s", w)
		}
		w.lazy = 0
		w.settle(100)
		w.settle(100)
		if len(w.r.Sets) != 1 {
			t.Errorf("left are %s", w)
		}
	})
	t.Run("sets without a number, of a lost store", func(t *testing.T) {
		limit := int32(1)
		w := newWorld(t, deployment(2, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &limit }))
		for _, name := range []string{"a", "b"} {
			w.r.Sets = append(w.r.Sets, workload.Generation{Set: fleet.Set{
				ID: fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "shop", Name: name}, Owner: webID, Want: fleet.Hash(name), Created: now.Add(-time.Hour),
			}})
		}
		w.roll()
		if len(w.r.Sets) != 2 {
			t.Errorf("one of two should be left beside the new one: %s", w)
		}
	})
}

func TestCollision(t *testing.T) {
	plain := newWorld(t, deployment(1)).set("v1").ID.Name
	w := &world{t: t, d: deployment(1), hash: "v1", now: now, taken: map[string]bool{plain: true}, bad: map[fleet.Hash]bool{}}
	w.settle(1)
	got := w.set("v1")
	if got.ID.Name == plain || w.r.Rollout.Collisions != 1 {
		t.Errorf("name %s after %d collisions", got.ID.Name, w.r.Rollout.Collisions)
	}
	if got.ID.Name != "web-"+got.Label {
		t.Errorf("name %s, label %s", got.ID.Name, got.Label)
	}
	w.push("v2")
	w.settle(1)
	w.push("v1")
	w.settle(1)
	if w.set("v1").ID != got.ID {
		t.Errorf("after a revert it is called %s, was %s", w.set("v1").ID, got.ID)
	}
}

func TestMovingToAnotherSource(t *testing.T) {
	w := newWorld(t, deployment(1))
	w.push("v2")
	w.settle(1)
	in := workload.Rolling{
		Object: fleet.Object{ID: webID, Source: "other", Revision: "rev-other", Value: w.d, Hash: "v2"}, Target: workload.Target{Want: "v2", From: "rev-other"}, Sets: w.r.Sets, Rollout: w.r.Rollout, Now: w.now,
		Taken: func(string) bool { return false },
	}
	for _, g := range workload.Roll(in).Sets {
		if g.Want == "v2" && (g.Source != "other" || g.From != "rev-other") {
			t.Errorf("the template of %s is looked for in %s at %s", g.Want, g.Source, g.From)
		}
	}
}

func TestProgress(t *testing.T) {
	w := newWorld(t, deployment(3))
	if w.r.Rollout.Reason != "NewReplicaSetAvailable" {
		t.Fatalf("reason %s at the start", w.r.Rollout.Reason)
	}
	w.bad["v2"] = true
	w.push("v2")
	w.settle(1)
	began := w.r.Rollout.Progress
	if due := began.Add(600 * time.Second); !w.r.WakeAt.Equal(due) {
		t.Errorf("wakes at %s, want %s", w.r.WakeAt, due)
	}
	w.now = began.Add(599 * time.Second)
	w.roll()
	if w.r.Rollout.Reason != "NewReplicaSetCreated" {
		t.Errorf("reason %s before the deadline", w.r.Rollout.Reason)
	}
	held := w.String()
	w.now = began.Add(600 * time.Second)
	w.roll()
	if w.r.Rollout.Reason != "ProgressDeadlineExceeded" || len(w.r.Notes) != 1 || w.String() != held {
		t.Errorf("at the deadline: %s, notes %v, %s", w.r.Rollout.Reason, w.r.Notes, w)
	}
	if !w.r.WakeAt.IsZero() {
		t.Errorf("nothing changes by time any more, but it wakes at %s", w.r.WakeAt)
	}
	w.bad["v2"] = false
	w.settle(1)
	if w.r.Rollout.Reason != "NewReplicaSetAvailable" || w.set("v2").Available != 3 || len(w.r.Notes) != 0 {
		t.Errorf("when it gets better it goes on: %s, %s", w.r.Rollout.Reason, w)
	}
	w.now = w.now.Add(24 * time.Hour)
	w.roll()
	if w.r.Rollout.Reason != "NewReplicaSetAvailable" {
		t.Errorf("a finished rollout is late: %s", w.r.Rollout.Reason)
	}
}

func TestPausedTimeDoesNotCount(t *testing.T) {
	w := newWorld(t, deployment(3))
	w.bad["v2"] = true
	w.push("v2")
	w.settle(1)
	w.push("v2", paused(true))
	w.settle(1)
	if w.r.Rollout.Reason != "DeploymentPaused" {
		t.Errorf("reason %s", w.r.Rollout.Reason)
	}
	w.now = w.now.Add(time.Hour)
	w.roll()
	if w.r.Rollout.Reason != "DeploymentPaused" || len(w.r.Notes) > 0 {
		t.Errorf("reason %s, notes %v", w.r.Rollout.Reason, w.r.Notes)
	}
	w.push("v2", paused(false))
	w.roll()
	if w.r.Rollout.Reason != "DeploymentResumed" || !w.r.Rollout.Progress.Equal(w.now) {
		t.Errorf("reason %s, progress %s", w.r.Rollout.Reason, w.r.Rollout.Progress)
	}
}

// A set that a lost store left without a record of its Deployment's size is scaled as if that had been all
// there is.
func TestScaleOfSetsWithoutARecord(t *testing.T) {
	for _, test := range []struct {
		name         string
		older, newer int32
		replicas     int32
		want         int32 // in all
	}{
		{"as it may be", 8, 5, 10, 13}, {"too many", 9, 5, 10, 13}, {"too few", 8, 4, 10, 13}, {"twice as many", 16, 10, 10, 13}, {"half as many", 4, 2, 10, 13},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &world{t: t, d: deployment(test.replicas), hash: "v2", now: now, bad: map[fleet.Hash]bool{"v2": true}}
			for i, n := range []int32{test.older, test.newer} {
				w.r.Sets = append(w.r.Sets, workload.Generation{
					Set: fleet.Set{
						ID: fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "shop", Name: fmt.Sprint("web-", i)}, Owner: webID,
						Want: fleet.Hash(fmt.Sprintf("v%d", i+1)), Replicas: n, Created: now.Add(time.Duration(i-2) * time.Hour),
					},
					Counts: workload.Counts{Active: n, Present: n, Ready: n * int32(1-i), Available: n * int32(1-i)},
				})
			}
			w.roll()
			var total int32
			for _, g := range w.r.Sets {
				total += g.Replicas
			}
			if old := w.set("v1").Replicas; total != test.want || old > max(test.older, test.want) || old < min(test.older, 8)-2 {
				t.Errorf("%d + %d became %s", test.older, test.newer, w)
			}
		})
	}
}

func member(uid string, change ...func(*workload.Member)) workload.Member {
	m := workload.Member{
		Slot:   fleet.Slot{Identity: fleet.Identity{UID: uid, Created: now.Add(-time.Hour)}, Node: "alpha", Goal: fleet.Run},
		Report: &fleet.PodReport{Identity: fleet.Identity{UID: uid}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
	}
	readyFor(30 * time.Minute)(&m)
	for _, f := range change {
		f(&m)
	}
	return m
}

func readyFor(d time.Duration) func(*workload.Member) {
	return func(m *workload.Member) {
		m.Report.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: now.Add(-d)}}}
	}
}

func phase(p corev1.PodPhase) func(*workload.Member) {
	return func(m *workload.Member) { m.Report.Status.Phase = p }
}
func unready(m *workload.Member) { m.Report.Status.Conditions = nil }
func unheard(m *workload.Member) { m.Report = nil }
func onNode(n fleet.NodeName) func(*workload.Member) {
	return func(m *workload.Member) { m.Slot.Node = n }
}
func age(d time.Duration) func(*workload.Member) {
	return func(m *workload.Member) { m.Slot.Created = now.Add(-d) }
}
func restarted(n int32) func(*workload.Member) {
	return func(m *workload.Member) {
		m.Report.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 0}, {RestartCount: n}}
	}
}
func draining(m *workload.Member) { m.Slot.Goal = fleet.Drain }

func TestVictims(t *testing.T) {
	for _, test := range []struct {
		name    string
		members []workload.Member // in the order in which they should go
		min     time.Duration
	}{
		{"not assigned first", []workload.Member{member("b", onNode("")), member("a", unready, phase(corev1.PodPending))}, 0},
		{"pending, unknown, running", []workload.Member{member("c", phase(corev1.PodPending)), member("b", phase(corev1.PodUnknown)), member("a", unready)}, 0},
		{"unheard of counts as pending", []workload.Member{member("b", unheard), member("a", unready)}, 0},
		{"not ready before ready", []workload.Member{member("b", unready), member("a")}, 0},
		{"not yet available before available", []workload.Member{member("b", readyFor(5*time.Second)), member("a", readyFor(10*time.Second))}, 10 * time.Second},
		{"not yet available, restarts or not", []workload.Member{member("b", readyFor(9500*time.Millisecond)), member("a", readyFor(10*time.Second), restarted(5))}, 10 * time.Second},
		{"more siblings on the node", []workload.Member{member("c", onNode("beta")), member("d", onNode("beta")), member("a")}, 0},
		{"ready for a shorter time", []workload.Member{member("b", readyFor(time.Minute)), member("a", readyFor(time.Hour))}, 0},
		{"about as long is no difference", []workload.Member{member("a", readyFor(1000*time.Second)), member("b", readyFor(1001*time.Second)), member("z", readyFor(0), onNode("beta"), age(2*time.Hour))}, 0},
		{"more restarts", []workload.Member{member("b", restarted(3)), member("a", restarted(2))}, 0},
		{"newer", []workload.Member{member("b", age(time.Minute)), member("a", age(2*time.Minute))}, 0},
		{"by UID in the end", []workload.Member{member("a"), member("b"), member("c")}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var want []string
			for _, m := range test.members {
				want = append(want, m.Slot.UID)
			}
			backwards := slices.Clone(test.members)
			slices.Reverse(backwards)
			for _, members := range [][]workload.Member{test.members, backwards} {
				var got []string
				for _, m := range workload.Victims(members, len(members), test.min, now) {
					got = append(got, m.Slot.UID)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
	t.Run("only those that should run", func(t *testing.T) {
		got := workload.Victims([]workload.Member{member("a", draining), member("b", phase(corev1.PodFailed)), member("c")}, 3, 0, now)
		if len(got) != 1 || got[0].Slot.UID != "c" {
			t.Errorf("got %v", got)
		}
	})
}

func TestCount(t *testing.T) {
	members := []workload.Member{
		member("ready"), member("fresh", readyFor(4*time.Second)), member("due", readyFor(10*time.Second)), member("unready", unready),
		member("unheard", unheard), member("draining", draining), member("ended", phase(corev1.PodSucceeded)), member("ended and draining", phase(corev1.PodFailed), draining),
	}
	want := workload.Counts{Active: 5, Ready: 3, Available: 2, Silent: 1, Trouble: "pod ", Present: 6, WakeAt: now.Add(6 * time.Second)}
	if d := cmp.Diff(want, workload.Count(members, 10*time.Second, now)); d != "" {
		t.Error(d)
	}
	want.Available, want.WakeAt = 3, time.Time{}
	if d := cmp.Diff(want, workload.Count(members, 0, now)); d != "" {
		t.Error(d)
	}
}

// Whatever is pushed and however pods fare: never more than replicas + surge once it may add, never an
// available pod given up that is needed, and all is well in the end.
func TestRollIsSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		strategy := rolling(rapid.SampledFrom([]string{"0", "1", "3", "25%", "100%"}).Draw(rt, "surge"), rapid.SampledFrom([]string{"0", "1", "2", "25%", "100%"}).Draw(rt, "unavailable"))
		w := newWorld(t, deployment(int32(rapid.IntRange(1, 12).Draw(rt, "replicas")), strategy))
		for range rapid.IntRange(1, 15).Draw(rt, "events") {
			switch rapid.IntRange(0, 3).Draw(rt, "event") {
			case 0:
				w.push(fleet.Hash(rapid.SampledFrom([]string{"v1", "v2", "v3", "v4"}).Draw(rt, "template")))
			case 1: // pods become unready
				i := rapid.IntRange(0, len(w.r.Sets)-1).Draw(rt, "set")
				n := rapid.Int32Range(0, w.r.Sets[i].Available).Draw(rt, "left")
				w.r.Sets[i].Available, w.r.Sets[i].Ready = n, n
			case 2:
				w.ready(rapid.Int32Range(0, 4).Draw(rt, "ready"))
			}
			replicas, before := *w.d.Spec.Replicas, available(w)
			surge, unavailable := workload.Fenceposts(w.d)
			w.roll()
			if got := total(w); got > replicas+surge {
				rt.Fatalf("%d pods of %d+%d: %s", got, replicas, surge, w)
			}
			if got, need := available(w), min(before, replicas-unavailable); got < need {
				rt.Fatalf("%d available, had %d, need %d: %s", got, before, replicas-unavailable, w)
			}
		}
		w.settle(1)
		if !w.r.Complete(w.d) {
			rt.Fatalf("does not get there: %s\n%s", w, w.trace.String())
		}
	})
}

// Scaling at any time gets to the right size, and never beyond what is allowed on the way.
func TestScaleIsSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, deployment(int32(rapid.IntRange(0, 12).Draw(rt, "replicas")), rolling("3", "2")))
		w.bad["v2"] = true
		for range rapid.IntRange(1, 10).Draw(rt, "events") {
			w.push(fleet.Hash(rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(rt, "template")),
				replicas(int32(rapid.IntRange(0, 20).Draw(rt, "scale"))), paused(rapid.Bool().Draw(rt, "paused")))
			w.roll()
			surge, _ := workload.Fenceposts(w.d)
			if got := total(w); got > *w.d.Spec.Replicas+surge {
				rt.Fatalf("%d pods of %d+%d\n%s", got, *w.d.Spec.Replicas, surge, w.trace.String())
			}
			w.ready(rapid.Int32Range(0, 10).Draw(rt, "ready"))
		}
		w.bad["v2"] = false
		w.push(w.hash, paused(false))
		w.settle(1)
		if !w.r.Complete(w.d) {
			rt.Fatalf("does not get there: %s\n%s", w, w.trace.String())
		}
	})
}

func total(w *world) (n int32) {
	for _, g := range w.r.Sets {
		n += g.Replicas
	}
	return n
}

func available(w *world) (n int32) {
	for _, g := range w.r.Sets {
		n += g.Available
	}
	return n
}
