package workload_test

import (
	"slices"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

func TestTargetIs(t *testing.T) {
	at := now
	for _, test := range []struct {
		name   string
		target workload.Target
		want   fleet.Hash
		stamp  fleet.Stamp
		is     bool
	}{
		{"the template", workload.Target{Want: "v1"}, "v1", fleet.Stamp{}, true},
		{"another template", workload.Target{Want: "v1"}, "v2", fleet.Stamp{}, false},
		{"restarted, and nobody asked now", workload.Target{Want: "v1"}, "v1", fleet.Stamp{Restarted: at}, true},
		{"not restarted yet", workload.Target{Want: "v1", Stamp: fleet.Stamp{Restarted: at}}, "v1", fleet.Stamp{}, false},
		{"restarted before", workload.Target{Want: "v1", Stamp: fleet.Stamp{Restarted: at}}, "v1", fleet.Stamp{Restarted: at.Add(-time.Second)}, false},
		{"restarted then", workload.Target{Want: "v1", Stamp: fleet.Stamp{Restarted: at}}, "v1", fleet.Stamp{Restarted: at}, true},
		{"restarted later", workload.Target{Want: "v1", Stamp: fleet.Stamp{Restarted: at}}, "v1", fleet.Stamp{Restarted: at.Add(time.Second)}, true},
		{"any configuration will do", workload.Target{Want: "v1"}, "v1", fleet.Stamp{Config: "c1"}, true},
		{"another configuration", workload.Target{Want: "v1", Stamp: fleet.Stamp{Config: "c2"}}, "v1", fleet.Stamp{Config: "c1"}, false},
		{"that configuration", workload.Target{Want: "v1", Stamp: fleet.Stamp{Config: "c2"}}, "v1", fleet.Stamp{Config: "c2"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.target.Is(test.want, test.stamp); got != test.is {
				t.Errorf("%t", got)
			}
		})
	}
}

// TestStamps has what restarts and configurations do to the sets of a Deployment.
func TestStamps(t *testing.T) {
	ids := func(w *world) []string {
		var list []string
		for _, g := range w.r.Sets {
			if g.Replicas > 0 {
				list = append(list, g.ID.Name)
			}
		}
		return list
	}
	stamped := func(w *world, s fleet.Stamp) []string {
		w.stamp = s
		w.wait(time.Second).settle(8)
		return ids(w)
	}
	w := newWorld(t, deployment(3))
	first := ids(w)
	if got := stamped(w, fleet.Stamp{Config: "c1"}); !slices.Equal(got, first) || w.r.Sets[0].Stamp.Config != "c1" {
		t.Errorf("switched on: %v, was %v, %+v", got, first, w.r.Sets)
	}
	if got := stamped(w, fleet.Stamp{}); !slices.Equal(got, first) {
		t.Errorf("switched off: %v, was %v", got, first)
	}
	if got := stamped(w, fleet.Stamp{Config: "c1"}); !slices.Equal(got, first) {
		t.Errorf("switched on again: %v, was %v", got, first)
	}
	second := stamped(w, fleet.Stamp{Config: "c2"})
	if slices.Equal(second, first) || len(w.r.Sets) != 2 {
		t.Errorf("another configuration: %v", second)
	}
	if got := stamped(w, fleet.Stamp{}); !slices.Equal(got, second) {
		t.Errorf("switched off after a roll: %v, was %v", got, second)
	}
	if got := stamped(w, fleet.Stamp{Config: "c1"}); !slices.Equal(got, first) {
		t.Errorf("back to the first configuration: %v, was %v", got, first)
	}
	third := stamped(w, fleet.Stamp{Config: "c1", Restarted: w.now})
	if slices.Equal(third, first) || len(w.r.Sets) != 3 {
		t.Errorf("restarted: %v", third)
	}
	if got := stamped(w, fleet.Stamp{Config: "c1"}); !slices.Equal(got, third) {
		t.Errorf("the restart is done: %v, was %v", got, third)
	}
	w.push("v2")
	w.settle(8)
	w.push("v1")
	if got := stamped(w, fleet.Stamp{Config: "c1"}); !slices.Equal(got, third) {
		t.Errorf("a revert finds %v, want that which was restarted, %v", got, third)
	}
	w.loseStore()
	if got := stamped(w, fleet.Stamp{Config: "c1"}); !slices.Equal(got, third) {
		t.Errorf("after the store was lost: %v, want %v", got, third)
	}
}

// That changes of the configuration roll is noted before it is asked whether a rollout may begin.
func TestStampBeforeHold(t *testing.T) {
	w := newWorld(t, deployment(4))
	w.bad["v2"] = true
	w.push("v2")
	w.settle(4)
	w.stamp.Config, w.hold = "c1", "waits for Deployment/db to be ready"
	w.push("v1", recreate) // back, with pods of it left
	w.wait(time.Second).roll()
	w.settle(4)
	w.settle(4)
	if got := sizes(w); got != "v1:04" {
		t.Errorf("now %s", got)
	}
}
