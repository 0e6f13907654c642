package workload_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

const steps = "1, 25%, pause 10m, 50%"

// onStepsFrom is a world with a finished v1, and steps for what comes.
func onSteps(t testing.TB, n int32, change ...func(*appsv1.Deployment)) *world {
	w := newWorld(t, deployment(n, change...))
	w.steps = steps
	return w
}

func sizes(w *world) string {
	var parts []string
	for _, g := range slices.SortedFunc(slices.Values(w.r.Sets), func(a, b workload.Generation) int { return strings.Compare(string(a.Want), string(b.Want)) }) {
		if g.Replicas > 0 {
			parts = append(parts, string(g.Want)+":"+string(rune('0'+g.Replicas/10))+string(rune('0'+g.Replicas%10)))
		}
	}
	return strings.Join(parts, " ")
}

func (w *world) wait(d time.Duration) *world {
	w.now = w.now.Add(d)
	return w
}

func noted(w *world, text string) bool {
	return slices.ContainsFunc(w.r.Notes, func(n string) bool { return strings.Contains(n, text) })
}

func TestCanarySteps(t *testing.T) {
	w := onSteps(t, 8)
	w.push("v2")
	w.roll()
	if got := sizes(w); got != "v1:07 v2:01" && got != "v1:08 v2:01" {
		t.Errorf("first step: %s", got)
	}
	var seen int32
	for range 30 { // until the pause nothing beyond 25 %
		w.wait(time.Second).roll()
		w.ready(1)
		seen = max(seen, w.set("v2").Replicas)
	}
	if seen != 2 || w.r.Rollout.Canary.Step != 2 || !noted(w, "pauses at step 3 of 4 until 2026-03-01T12:") {
		t.Fatalf("at the pause %s, %d seen, step %d, notes %v", w, seen, w.r.Rollout.Canary.Step, w.r.Notes)
	}
	end := w.r.Rollout.Canary.Since.Add(10 * time.Minute)
	if !w.r.WakeAt.Equal(end) {
		t.Errorf("wakes at %s, want %s", w.r.WakeAt, end)
	}
	w.now = end.Add(-time.Second)
	w.roll()
	if got := sizes(w); got != "v1:06 v2:02" {
		t.Errorf("before the end of the pause %s", got)
	}
	w.now = end
	w.roll()
	if got := w.set("v2").Replicas; got != 4 {
		t.Errorf("after the pause %s", w)
	}
	w.settle(1)
	if got := sizes(w); got != "v2:08" || !w.r.Complete(w.d) || len(w.r.Notes) > 0 {
		t.Errorf("in the end %s, %v", got, w.r.Notes)
	}
}

// A rollout on steps that has come to its end is like any other: time changes nothing.
func TestCanaryAtRest(t *testing.T) {
	for _, test := range []struct {
		name string
		make func() *world
	}{
		{"after a rollout", func() *world {
			w := onSteps(t, 4)
			w.steps = "1, 50%"
			w.push("v2")
			w.settle(1)
			return w
		}},
		{"after a rollout with a pause in its steps", func() *world {
			w := onSteps(t, 4)
			w.push("v2")
			w.settle(4)
			w.wait(11 * time.Minute)
			w.settle(4)
			return w
		}},
		{"after the first deployment", func() *world {
			w := &world{t: t, d: deployment(4), hash: "v1", now: now, bad: map[fleet.Hash]bool{}, steps: steps}
			w.settle(4)
			return w
		}},
		{"with steps added later", func() *world { w := onSteps(t, 4); w.settle(4); return w }},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := test.make()
			if !w.r.Complete(w.d) {
				t.Fatalf("not complete: %s", w)
			}
			w.wait(time.Second).roll()
			before := w.r.Rollout
			for range 3 {
				w.wait(7 * time.Minute).roll()
				if w.r.Rollout != before {
					t.Fatalf("at rest, and yet\n%+v becomes\n%+v", before, w.r.Rollout)
				}
				if len(w.r.Notes) > 0 {
					t.Errorf("notes %v", w.r.Notes)
				}
			}
			hash := w.hash
			at := slices.IndexFunc(w.r.Sets, func(g workload.Generation) bool { return g.Want == hash })
			w.r.Sets[at].Restarts, w.r.Sets[at].Available, w.r.Sets[at].Ready = 3, 3, 3 // a pod crashes months later
			w.rollback = true
			w.wait(time.Second).roll()
			if c := w.r.Rollout; c.Canary.Fault != "" || c.Bad != (fleet.Bad{}) || noted(w, "stopped") || noted(w, "rolled back") {
				t.Errorf("a crash of a finished rollout: %+v, notes %v", c, w.r.Notes)
			}
		})
	}
}

func TestCanaryPause(t *testing.T) {
	paused := func(t *testing.T) *world {
		w := onSteps(t, 8)
		w.steps = "2, pause, 4, pause, 6"
		w.push("v2")
		w.settle(8)
		if got := sizes(w); got != "v1:06 v2:02" || !noted(w, "until somebody resumes it") || !w.r.Waits(w.d) {
			t.Fatalf("at the pause %s, notes %v", got, w.r.Notes)
		}
		return w
	}
	t.Run("time does nothing", func(t *testing.T) {
		w := paused(t)
		w.rollback = true
		w.wait(100 * time.Hour).settle(8)
		if got := sizes(w); got != "v1:06 v2:02" || w.r.Rollout.Reason == "ProgressDeadlineExceeded" || w.r.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("after days %s, %+v", got, w.r.Rollout)
		}
	})
	t.Run("one resume, one pause", func(t *testing.T) {
		w := paused(t)
		w.resumed = w.now.Add(time.Second)
		w.wait(2 * time.Second).settle(8)
		if got := sizes(w); got != "v1:04 v2:04" {
			t.Errorf("after the first %s", got)
		}
		w.resumed = w.now.Add(time.Second)
		w.wait(2 * time.Second).settle(8)
		if got := sizes(w); got != "v2:08" || w.r.Waits(w.d) {
			t.Errorf("after the second %s", got)
		}
	})
	t.Run("an old resume does nothing", func(t *testing.T) {
		w := onSteps(t, 8)
		w.steps, w.resumed = "2, pause, 4", w.now
		w.push("v2")
		w.settle(8)
		if got := sizes(w); got != "v1:06 v2:02" {
			t.Errorf("it goes past the pause: %s", got)
		}
	})
	t.Run("a resume before the end of a pause in time", func(t *testing.T) {
		w := onSteps(t, 8)
		w.push("v2")
		w.settle(8)
		w.resumed = w.now.Add(time.Second)
		w.wait(2 * time.Second).settle(8)
		if got := sizes(w); got != "v2:08" {
			t.Errorf("now %s", got)
		}
	})
	t.Run("a pause at the very start", func(t *testing.T) {
		w := onSteps(t, 4)
		w.steps = "pause, 1"
		w.push("v2")
		w.settle(4)
		if got := sizes(w); got != "v1:04" {
			t.Errorf("before it is resumed %s", got)
		}
		w.resumed = w.now.Add(time.Second)
		w.wait(2 * time.Second).settle(4)
		if got := sizes(w); got != "v2:04" {
			t.Errorf("then %s", got)
		}
	})
	t.Run("a pause at the very end", func(t *testing.T) {
		w := onSteps(t, 4)
		w.steps = "50%, pause"
		w.push("v2")
		w.settle(4)
		if got := sizes(w); got != "v1:02 v2:02" {
			t.Errorf("at the pause %s", got)
		}
	})
	t.Run("spec.paused holds it, too", func(t *testing.T) {
		w := onSteps(t, 8)
		w.steps = "2, 4"
		w.push("v2")
		w.roll()
		w.push("v2", func(d *appsv1.Deployment) { d.Spec.Paused = true })
		w.settle(8)
		if got := w.set("v2").Replicas; got > 2 {
			t.Errorf("paused, and yet %s", w)
		}
		w.push("v2", func(d *appsv1.Deployment) { d.Spec.Paused = false })
		w.settle(8)
		if got := sizes(w); got != "v2:08" {
			t.Errorf("then %s", got)
		}
	})
}

func TestCanaryStops(t *testing.T) {
	at := func(t *testing.T) *world { // at the pause with two new of eight
		w := onSteps(t, 8)
		w.push("v2")
		w.settle(8)
		return w
	}
	change := func(w *world, f func(g *workload.Generation)) {
		i := slices.IndexFunc(w.r.Sets, func(g workload.Generation) bool { return g.Want == "v2" })
		f(&w.r.Sets[i])
	}
	restart := func(g *workload.Generation) { g.Restarts = 1 }
	lose := func(g *workload.Generation) { g.Ready, g.Available = 1, 1 }
	for _, test := range []struct {
		name  string
		fails func(g *workload.Generation)
		says  string
	}{{"a restart", restart, "restarted"}, {"lost readiness", lose, "1 of 2 new pods that were ready still are"}} {
		t.Run(test.name, func(t *testing.T) {
			w := at(t)
			w.bad["v2"] = true
			change(w, test.fails)
			w.roll()
			if !noted(w, test.says) || !noted(w, "stopped at step 3 of 4") || !w.r.Waits(w.d) {
				t.Errorf("notes %v", w.r.Notes)
			}
			w.bad["v2"] = false
			w.wait(24 * time.Hour).settle(8)
			if got := sizes(w); got != "v1:06 v2:02" || w.r.Rollout.Bad != (fleet.Bad{}) || w.r.Rollout.Reason == "ProgressDeadlineExceeded" {
				t.Errorf("it goes on by itself: %s, %+v", got, w.r.Rollout)
			}
			w.resumed = w.now.Add(time.Second) // past the fault; the pause begins anew or is over
			w.wait(2 * time.Second).settle(8)
			if noted(w, "stopped") || w.r.Rollout.Canary.Fault != "" {
				t.Errorf("resumed, and yet %v", w.r.Notes)
			}
			w.wait(11 * time.Minute).settle(8)
			if got := sizes(w); got != "v2:08" {
				t.Errorf("in the end %s, notes %v", got, w.r.Notes)
			}
		})
		t.Run(test.name+", resumed although it is not mended", func(t *testing.T) {
			w := at(t)
			w.bad["v2"] = true
			change(w, test.fails)
			w.roll()
			w.resumed = w.now.Add(time.Second)
			w.wait(2 * time.Second).roll()
			w.wait(time.Second).roll()
			if w.r.Rollout.Canary.Fault != "" {
				t.Errorf("somebody let it go on all the same, and it stopped again: %v", w.r.Notes)
			}
		})
		t.Run(test.name+" goes back", func(t *testing.T) {
			w := at(t)
			w.rollback, w.bad["v2"] = true, true
			change(w, test.fails)
			w.settle(8)
			if got := sizes(w); got != "v1:08" || w.r.Rollout.Bad.Want != "v2" || !strings.Contains(w.r.Rollout.Bad.Why, strings.Split(test.says, " new")[0]) {
				t.Errorf("now %s, %+v", got, w.r.Rollout.Bad)
			}
		})
		t.Run(test.name+", and another commit", func(t *testing.T) {
			w := at(t)
			w.bad["v2"] = true
			change(w, test.fails)
			w.roll()
			w.push("v3")
			w.settle(8)
			if got := w.set("v3").Replicas; got != 2 || w.r.Rollout.Canary.Step != 2 || w.r.Rollout.Canary.Fault != "" {
				t.Errorf("the steps begin anew: %s, %+v", w, w.r.Rollout.Canary)
			}
		})
	}
	t.Run("not by restarts of old pods", func(t *testing.T) {
		w := at(t)
		i := slices.IndexFunc(w.r.Sets, func(g workload.Generation) bool { return g.Want == "v1" })
		w.r.Sets[i].Restarts, w.r.Sets[i].Available, w.r.Sets[i].Ready = 9, 5, 5
		w.roll()
		if w.r.Rollout.Canary.Fault != "" {
			t.Errorf("notes %v", w.r.Notes)
		}
	})
	t.Run("not before a size is reached", func(t *testing.T) {
		w := onSteps(t, 8)
		w.steps, w.bad["v2"] = "4, 8", true
		w.push("v2")
		w.settle(8)
		if w.r.Rollout.Canary.Fault != "" {
			t.Errorf("notes %v", w.r.Notes)
		}
	})
	t.Run("a step that is never reached is late", func(t *testing.T) {
		w := onSteps(t, 8)
		w.bad["v2"], w.rollback = true, true
		w.push("v2")
		w.settle(8)
		if got := w.set("v2").Replicas; got != 1 {
			t.Errorf("one is bad, and %s", w)
		}
		w.wait(11 * time.Minute).settle(8)
		if got := sizes(w); got != "v1:08" || w.r.Rollout.Bad.Want != "v2" {
			t.Errorf("after the deadline %s", got)
		}
	})
}

// The way back to what was good is short: no steps, no pauses, no faults of pods that have been there for long.
func TestCanaryRevert(t *testing.T) {
	for _, test := range []struct {
		name string
		then func(w *world)
	}{
		{"at the first step", func(w *world) { w.roll() }},
		{"at the pause", func(w *world) { w.settle(8) }},
		{"after the pause", func(w *world) { w.settle(8); w.wait(11 * time.Minute).roll() }},
		{"after the last step", func(w *world) {
			w.settle(8)
			w.wait(11 * time.Minute)
			for range 40 {
				w.wait(time.Second).roll()
				if w.set("v1").Replicas <= 1 {
					break
				}
				w.ready(1)
			}
		}},
	} {
		for _, restarts := range []int32{0, 5} {
			t.Run(test.name, func(t *testing.T) {
				w := onSteps(t, 8)
				w.push("v2")
				test.then(w)
				for i := range w.r.Sets {
					if w.r.Sets[i].Want == "v1" && w.r.Sets[i].Replicas > 0 {
						w.r.Sets[i].Restarts = restarts // over the months
					}
				}
				w.push("v1")
				w.settle(8)
				if got := sizes(w); got != "v1:08" || len(w.r.Notes) > 0 {
					t.Errorf("with %d restarts the way back ends at %s: %v", restarts, got, w.r.Notes)
				}
			})
		}
	}
}

func TestCanaryOfAnotherKind(t *testing.T) {
	t.Run("a first deployment skips the steps", func(t *testing.T) {
		w := &world{t: t, d: deployment(8), hash: "v1", now: now, bad: map[fleet.Hash]bool{}, steps: "1, pause"}
		w.roll()
		if got := sizes(w); got != "v1:08" || len(w.r.Notes) > 0 {
			t.Errorf("now %s, %v", got, w.r.Notes)
		}
	})
	t.Run("a first deployment that crashes is not stopped", func(t *testing.T) {
		w := &world{t: t, d: deployment(8), hash: "v1", now: now, bad: map[fleet.Hash]bool{"v1": true}, steps: "1, pause"}
		w.roll()
		w.r.Sets[0].Restarts = 3
		w.wait(time.Second).roll()
		if w.r.Rollout.Canary.Fault != "" {
			t.Errorf("notes %v", w.r.Notes)
		}
	})
	t.Run("from nothing to something", func(t *testing.T) {
		w := onSteps(t, 8)
		w.push("v1", replicas(0))
		w.settle(8)
		w.push("v1", replicas(6))
		w.settle(8)
		if got := sizes(w); got != "v1:06" || len(w.r.Notes) > 0 {
			t.Errorf("nothing is new in it, and it goes by steps: %s, %v", got, w.r.Notes)
		}
	})
	t.Run("from nothing to something else", func(t *testing.T) {
		w := onSteps(t, 8)
		w.push("v1", replicas(0))
		w.settle(8)
		w.push("v2", replicas(6))
		w.settle(8)
		if got := sizes(w); got != "v2:06" {
			t.Errorf("nothing else runs, and it goes by steps: %s, %v", got, w.r.Notes)
		}
	})
	t.Run("scaled at rest", func(t *testing.T) {
		w := onSteps(t, 4)
		w.settle(8)
		w.push("v1", replicas(12))
		w.settle(1)
		if got := sizes(w); got != "v1:12" || len(w.r.Notes) > 0 {
			t.Errorf("now %s, %v", got, w.r.Notes)
		}
	})
	t.Run("with Recreate it does not apply", func(t *testing.T) {
		w := onSteps(t, 4, recreate)
		w.push("v2")
		w.settle(4)
		w.settle(4)
		if got := sizes(w); got != "v2:04" || len(w.r.Notes) > 0 {
			t.Errorf("now %s, %v", got, w.r.Notes)
		}
		w.push("v2b")
		w.settle(0)
		w.lazy = 0
		w.wait(time.Second).roll()
		w.ready(2)
		w.wait(time.Second).roll()
		if len(w.r.Notes) > 0 {
			t.Errorf("two of four are ready: %v", w.r.Notes)
		}
		i := slices.IndexFunc(w.r.Sets, func(g workload.Generation) bool { return g.Want == "v2b" })
		w.r.Sets[i].Restarts, w.rollback = 1, true
		w.wait(time.Second).roll()
		if len(w.r.Notes) > 0 || w.r.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("one restarted once: %v", w.r.Notes)
		}
		w.push("v2")
		w.settle(4)
		w.settle(4)
		w.bad["v3"] = true
		w.push("v3")
		w.settle(4)
		w.settle(4)
		if noted(w, "step") || w.r.Rollout.Canary.Fault != "" {
			t.Errorf("notes %v", w.r.Notes)
		}
		w.wait(11 * time.Minute).settle(4) // it is late like any other
		w.settle(4)
		if got := sizes(w); got != "v2:04" {
			t.Errorf("after the deadline %s, %+v", got, w.r.Rollout)
		}
	})
	t.Run("without surge", func(t *testing.T) {
		w := onSteps(t, 4, rolling("0", "1"))
		w.steps = "1, pause, 2"
		w.push("v2")
		for range 10 {
			w.wait(time.Second).roll()
			if w.set("v2").Replicas > 1 || total(w) > 4 || w.set("v1").Replicas < 3 {
				t.Fatalf("at the first step %s", w)
			}
			w.ready(1)
		}
		w.resumed = w.now.Add(time.Second)
		w.wait(2 * time.Second).settle(1)
		if got := sizes(w); got != "v2:04" {
			t.Errorf("in the end %s", got)
		}
	})
	t.Run("none unavailable", func(t *testing.T) {
		w := onSteps(t, 4, rolling("1", "0"))
		w.push("v2")
		for range 12 {
			w.wait(time.Second).roll()
			if available(w) < 4 {
				t.Fatalf("fewer than four serve: %s", w)
			}
			w.ready(1)
		}
		w.wait(10 * time.Minute).settle(1)
		if got := sizes(w); got != "v2:04" {
			t.Errorf("in the end %s", got)
		}
	})
	t.Run("one replica", func(t *testing.T) {
		w := onSteps(t, 1)
		w.push("v2")
		w.settle(1)
		if got := sizes(w); got != "v2:01" {
			t.Errorf("its only pod is new at the first step: %s", got)
		}
	})
	t.Run("steps beyond the replicas", func(t *testing.T) {
		w := onSteps(t, 2)
		w.steps = "5, 9"
		w.push("v2")
		w.settle(2)
		if got := sizes(w); got != "v2:02" {
			t.Errorf("now %s", got)
		}
	})
	t.Run("steps that become fewer on the way", func(t *testing.T) {
		w := onSteps(t, 8)
		w.push("v2")
		w.settle(8)
		w.steps = ""
		w.settle(8)
		if got := sizes(w); got != "v2:08" {
			t.Errorf("now %s", got)
		}
	})
	t.Run("a third version in the middle begins anew", func(t *testing.T) {
		w := onSteps(t, 8)
		w.push("v2")
		w.settle(8)
		w.wait(11 * time.Minute).roll()
		w.push("v3")
		w.settle(8)
		if got := w.set("v3").Replicas; got != 2 || !noted(w, "step 3 of 4") {
			t.Errorf("now %s, %v", w, w.r.Notes)
		}
	})
	t.Run("held by another, it begins with the first step", func(t *testing.T) {
		w := onSteps(t, 8)
		w.hold = "waits for Deployment/db to be ready"
		w.push("v2")
		w.settle(8)
		if got := sizes(w); got != "v1:08" || !noted(w, "Deployment/db") {
			t.Errorf("while it is held %s, %v", got, w.r.Notes)
		}
		w.wait(time.Hour).hold = ""
		w.settle(8)
		if got := sizes(w); got != "v1:06 v2:02" {
			t.Errorf("then %s", got)
		}
	})
}

// A lost store costs a canary at most the time of its pause.
func TestCanaryLostStore(t *testing.T) {
	for _, list := range []string{steps, "25%, pause", "1, pause, 50%"} {
		t.Run(list, func(t *testing.T) {
			w := onSteps(t, 8)
			w.steps, w.rollback = list, true
			w.push("v2")
			w.settle(8)
			want := sizes(w)
			for i := range w.r.Sets { // of old pods nobody remembers how often they were restarted
				if w.r.Sets[i].Want == "v1" {
					w.r.Sets[i].Restarts = 4
				}
			}
			w.loseStore()
			w.settle(8)
			if got := sizes(w); got != want || w.r.Rollout.Bad != (fleet.Bad{}) {
				t.Errorf("now %s, was %s, %+v, %v", got, want, w.r.Rollout, w.r.Notes)
			}
			w.resumed = w.now.Add(time.Second)
			w.wait(2 * time.Second).settle(8)
			if got := sizes(w); got != "v2:08" {
				t.Errorf("resumed, and %s: %v", got, w.r.Notes)
			}
		})
	}
}

// Scaling in the middle keeps to the step at hand, and is no fault of the new version's.
func TestCanaryScaled(t *testing.T) {
	at := func(t *testing.T, steps string) *world {
		w := onSteps(t, 10)
		w.steps = steps
		w.push("v2")
		w.settle(10)
		return w
	}
	t.Run("up, a share grows with it", func(t *testing.T) {
		w := at(t, "50%, pause")
		w.push("v2", replicas(20))
		w.settle(20)
		if got := sizes(w); got != "v1:10 v2:10" || noted(w, "stopped") {
			t.Errorf("now %s, %v", got, w.r.Notes)
		}
	})
	t.Run("up, a number stays", func(t *testing.T) {
		w := at(t, "1, pause")
		w.push("v2", replicas(30))
		for range 5 {
			w.wait(time.Second).roll()
			w.ready(30)
		}
		if got := w.set("v2").Replicas; got != 1 || total(w) < 30 {
			t.Errorf("one was to be new: %s", w)
		}
	})
	t.Run("down", func(t *testing.T) {
		w := at(t, "50%, pause")
		w.push("v2", replicas(4))
		w.settle(10)
		if got := sizes(w); got != "v1:02 v2:02" || noted(w, "stopped") {
			t.Errorf("now %s, %v", got, w.r.Notes)
		}
	})
	t.Run("down and up again is no fault", func(t *testing.T) {
		w := at(t, "50%, pause")
		w.rollback = true
		w.push("v2", replicas(4))
		w.settle(10)
		w.push("v2", replicas(10))
		w.roll()
		if w.r.Rollout.Canary.Fault != "" || w.r.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("pods that are still to start are taken for lost: %v", w.r.Notes)
		}
		w.settle(10)
		if got := sizes(w); got != "v1:05 v2:05" {
			t.Errorf("now %s", got)
		}
	})
	t.Run("to nothing and back", func(t *testing.T) {
		w := at(t, "50%, pause")
		w.push("v2", replicas(0))
		w.settle(10)
		w.push("v2", replicas(4))
		w.settle(10)
		if noted(w, "stopped") {
			t.Errorf("now %s, %v", w, w.r.Notes)
		}
	})
}

// On steps the limits hold as without, and never more are new than the step allows by the rollout's own doing.
func TestCanaryIsSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		strategy := rolling(rapid.SampledFrom([]string{"0", "1", "3", "25%"}).Draw(rt, "surge"), rapid.SampledFrom([]string{"0", "1", "2", "25%", "100%"}).Draw(rt, "unavailable"))
		w := newWorld(t, deployment(int32(rapid.IntRange(1, 12).Draw(rt, "replicas")), strategy))
		w.steps = rapid.SampledFrom([]string{steps, "1", "1, pause, 50%, pause", "10%, 20%, 30%", "pause 1m", "3, pause 1m"}).Draw(rt, "steps")
		w.rollback = rapid.Bool().Draw(rt, "rollback")
		for range rapid.IntRange(1, 20).Draw(rt, "events") {
			switch rapid.IntRange(0, 6).Draw(rt, "event") {
			case 0:
				w.push(fleet.Hash(rapid.SampledFrom([]string{"v1", "v2", "v3", "v4"}).Draw(rt, "template")))
			case 1:
				i := rapid.IntRange(0, len(w.r.Sets)-1).Draw(rt, "set")
				n := rapid.Int32Range(0, w.r.Sets[i].Available).Draw(rt, "left")
				w.r.Sets[i].Available, w.r.Sets[i].Ready = n, n
			case 2:
				i := rapid.IntRange(0, len(w.r.Sets)-1).Draw(rt, "set")
				if w.r.Sets[i].Active > 0 {
					w.r.Sets[i].Restarts++
				}
			case 3:
				w.resumed = w.now
			case 4:
				w.wait(time.Duration(rapid.IntRange(0, 1000).Draw(rt, "seconds")) * time.Second)
			default:
				w.ready(rapid.Int32Range(0, 4).Draw(rt, "ready"))
			}
			w.wait(time.Second)
			n, before := *w.d.Spec.Replicas, available(w)
			surge, unavailable := workload.Fenceposts(w.d)
			w.roll()
			if got := total(w); got > n+surge {
				rt.Fatalf("%d pods of %d+%d: %s", got, n, surge, w)
			}
			if got, need := available(w), min(before, n-unavailable); got < need {
				rt.Fatalf("%d available, had %d, need %d: %s", got, before, n-unavailable, w)
			}
		}
		for range 20 { // somebody resumes it as often as it waits
			for i := range w.r.Sets {
				w.r.Sets[i].Restarts = 0
			}
			w.resumed = w.now.Add(time.Second)
			w.wait(2 * time.Minute)
			w.settle(3)
		}
		if !w.r.Complete(w.d) {
			rt.Fatalf("does not get there: %s, notes %v\n%s", w, w.r.Notes, w.trace.String())
		}
	})
}

// TestStepsChangedOnTheWay: a list of steps that changes in the middle is gone through anew; what is there already counts.
func TestStepsChangedOnTheWay(t *testing.T) {
	w := newWorld(t, deployment(10))
	w.steps = "1, pause, 50%, pause"
	w.push("v2")
	w.settle(10)
	w.resumed = w.now.Add(time.Second)
	w.settle(10)
	if got := w.set("v2").Replicas; got != 5 {
		t.Fatalf("at the second pause %d are new", got)
	}
	w.steps = "1, pause, 60%, pause"
	w.settle(10)
	if got := w.set("v2").Replicas; got != 6 {
		t.Errorf("the next size is 60%%, and %d are new", got)
	}
	w.steps = "1, pause, 25%"
	w.settle(10)
	if got := w.set("v2").Replicas; got != 10 {
		t.Errorf("all steps are behind it, and %d are new", got)
	}
}
