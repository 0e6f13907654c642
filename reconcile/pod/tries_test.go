package pod_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// TestTries follows what is remembered of failures, step by step.
func TestTries(t *testing.T) {
	at := time.Unix(1000, 0)
	pull := fleet.Step{Verb: fleet.Pull, Container: "a", Image: "x:1"}
	pull2 := fleet.Step{Verb: fleet.Pull, Container: "a", Image: "x:2"}
	start := fleet.Step{Verb: fleet.Start, Container: "a", Image: "x:1"}
	limit := fleet.Step{Verb: fleet.Limit, Container: "a"}
	volumes, sandbox := fleet.Step{Verb: fleet.Volume}, fleet.Step{Verb: fleet.Sandbox}
	type event struct {
		step fleet.Step
		fail bool
	}
	for name, c := range map[string]struct {
		events []event
		want   map[string]int // failures by container and verb
	}{
		"nothing":                     {nil, map[string]int{}},
		"a success leaves nothing":    {[]event{{pull, false}, {start, false}}, map[string]int{}},
		"the same again counts":       {[]event{{pull, true}, {pull, true}, {pull, true}}, map[string]int{"a/pull": 3}},
		"another image begins anew":   {[]event{{pull, true}, {pull, true}, {pull2, true}}, map[string]int{"a/pull": 1}},
		"another verb begins anew":    {[]event{{pull, true}, {pull, false}, {start, true}}, map[string]int{"a/start": 1}},
		"a pull does not clear start": {[]event{{start, true}, {pull, false}, {start, true}}, map[string]int{"a/start": 2}},
		"start clears its container":  {[]event{{pull, true}, {start, false}}, map[string]int{}},
		"volumes do not clear a sandbox": {[]event{{volumes, false}, {sandbox, true}, {volumes, false}, {sandbox, true}},
			map[string]int{"/sandbox": 2}},
		"a sandbox clears the pod":      {[]event{{volumes, true}, {sandbox, false}}, map[string]int{}},
		"pod and container are apart":   {[]event{{sandbox, true}, {pull, true}, {start, false}}, map[string]int{"/sandbox": 1}},
		"a limit that works is counted": {[]event{{limit, false}, {limit, false}}, map[string]int{"a/limit": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			var tries pod.Tries
			for _, e := range c.events {
				if e.fail {
					tries = tries.Failed(e.step, pod.Failure{Text: "no"}, at)
				} else {
					tries = tries.Worked(e.step, at)
				}
			}
			got := map[string]int{}
			for container, a := range tries {
				got[container+"/"+string(a.Verb)] = a.Failures
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTriesAreValues: who was given tries sees no later ones.
func TestTriesAreValues(t *testing.T) {
	step := fleet.Step{Verb: fleet.Pull, Container: "a", Image: "x:1"}
	one := pod.Tries(nil).Failed(step, pod.Failure{Text: "no"}, time.Unix(1, 0))
	two := one.Failed(step, pod.Failure{Text: "no"}, time.Unix(2, 0))
	three := two.Worked(step, time.Unix(3, 0))
	if one["a"].Failures != 1 || two["a"].Failures != 2 || len(three) != 0 {
		t.Errorf("one %v, two %v, three %v", one, two, three)
	}
}
