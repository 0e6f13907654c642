package pod_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// TestSandboxAnew: everything starts over, but for what must not (semantics 2.1).
func TestSandboxAnew(t *testing.T) {
	two := func(p corev1.RestartPolicy) *scene { return staged(t, p, "one side:side", "web aux") }
	bare := func(p corev1.RestartPolicy) *scene { return staged(t, p, "", "web aux") }
	// lost are containers as Podman shows them after a reboot: created, and yet started once.
	lost := func(s *scene) *scene {
		for i := range s.Observed.Containers {
			if c := &s.Observed.Containers[i]; c.State == fleet.Running {
				c.State = fleet.Created
			}
		}
		return s
	}
	// Podman 5 shows them as ended well, at no time.
	lost5 := func(s *scene) *scene {
		for i := range s.Observed.Containers {
			if c := &s.Observed.Containers[i]; c.State == fleet.Running {
				c.State, c.ExitCode, c.Finished = fleet.Exited, 0, time.Time{}
			}
		}
		return s
	}
	const up = "one=0 side=running web=running aux=running"
	var cases []stageCase
	for _, p := range []corev1.RestartPolicy{always, onFailure} {
		for _, c := range []stageCase{
			{"all ended with it", two(p).box(fleet.Exited).in("one=0 side=137 web=137 aux=137"), "teardown, sandbox, start one/1", running},
			{"all seem to run in it", two(p).box(fleet.Exited).in(up), "teardown, sandbox, start one/1", running},
			{"a reboot", lost(two(p).box(fleet.Exited).in(up)), "teardown, sandbox, start one/1", running},
			{"a reboot, Podman 5", lost5(two(p).box(fleet.Exited).in(up)), "teardown, sandbox, start one/1", running},
			{"a reboot, the infra container never ran since", lost(two(p).box(fleet.Created).in(up)), "teardown, sandbox, start one/1", running},
			{"a reboot without an infra container", lost(two(p).box(fleet.Unknown).in(up)), "teardown, sandbox, start one/1", running},
			{"a reboot, without initial ones", lost(bare(p).box(fleet.Exited).in("web=running aux=running")), "teardown, sandbox, start web/1, start aux/1", running},
			{"a reboot while initial ones ran", lost(two(p).box(fleet.Exited).in("one=running")), "teardown, sandbox, start one/1", pending},
			{"a sandbox was all there was", two(p).box(fleet.Exited), "teardown, sandbox, start one", pending},
			{"the pod is gone", two(p), "sandbox, start one", pending},
			{"and it may not be made yet", two(p).box(fleet.Exited).in(up).tried("", pod.Attempt{
				Verb: fleet.Sandbox, Failures: 1, Last: now, Failure: pod.Failure{Text: "no"}}), "wake 1s", running},
			{"a new one", two(p).in("").before(fleet.Past{"one": {Attempt: 2}, "side": {}, "web": {}}), "start one/3", pending},
			{"a new one, the first is done", two(p).in("one=0#3").before(fleet.Past{"one": {Attempt: 2}, "side": {}, "web": {}}), "start side/1", pending},
			{"a new one, it is the main ones' turn", two(p).in("one=0#3 side=running#1").before(fleet.Past{"side": {}, "web": {}}), "start web/1, start aux", pending},
		} {
			c.name += " with " + string(p)
			cases = append(cases, c)
		}
	}
	runStages(t, append(cases, []stageCase{
		{"one had succeeded, Always", bare(always).box(fleet.Exited).in("web=0 aux=137"), "teardown, sandbox, start web/1, start aux/1", running},
		{"one had succeeded, OnFailure", bare(onFailure).box(fleet.Exited).in("web=0 aux=137"), "teardown, sandbox, start aux/1", running},
		{"all had succeeded, OnFailure", two(onFailure).box(fleet.Exited).in("one=0 side=137 web=0 aux=0"), "", succeeded},
		{"one had succeeded, OnFailure, with initial ones", two(onFailure).box(fleet.Exited).in("one=0 side=137 web=0 aux=1"), "teardown, sandbox, start one/1", running},
		{"one had succeeded in the one before, OnFailure", bare(onFailure).in("").before(fleet.Past{"web": {Succeeded: true}, "aux": {}}), "start aux/1", running},
		{"one had succeeded in the one before, the other runs", bare(onFailure).in("aux=running#1").before(fleet.Past{"web": {Succeeded: true}, "aux": {}}), "", running},
		{"one had succeeded in the one before, the other now", bare(onFailure).in("aux=0#1").before(fleet.Past{"web": {Succeeded: true}, "aux": {}}), "", succeeded},
		{"one had succeeded in the one before, Always", bare(always).in("").before(fleet.Past{"web": {Succeeded: true}, "aux": {}}), "start web/1, start aux/1", running},
		{"an initial one had succeeded in the one before, OnFailure", two(onFailure).in("").before(fleet.Past{"one": {Succeeded: true}}), "start one/1", pending},
		{"a sidecar had ended in the one before, OnFailure", two(onFailure).in("one=0").before(fleet.Past{"side": {Succeeded: true}}), "start side/1", pending},

		{"ran, Never", two(never).box(fleet.Exited).in("one=0 side=137 web=137 aux=137"), "", failed},
		{"ran well, Never", two(never).box(fleet.Exited).in("one=0 side=137 web=0 aux=0"), "", succeeded},
		{"a reboot, Never", lost(two(never).box(fleet.Exited).in(up)), "", failed},
		{"a reboot, Never, Podman 5", lost5(two(never).box(fleet.Exited).in(up)), "", failed},
		{"a reboot, one had succeeded, OnFailure, Podman 5", lost5(bare(onFailure).box(fleet.Exited).in("web=0 aux=running")), "teardown, sandbox, start aux/1", running},
		{"a reboot, one had succeeded, Never", lost(two(never).box(fleet.Exited).in("one=0 side=running web=0 aux=running")), "", failed},
		{"a reboot while initial ones ran, Never", lost(two(never).box(fleet.Exited).in("one=running")), "", failed},
		{"they seem to run, Never", bare(never).box(fleet.Exited).in("web=running aux=0"), "stop all 30s", running},
		{"nothing ever ran, Never", two(never).box(fleet.Exited), "teardown, sandbox, start one", pending},
		{"the pod is gone, Never", two(never), "sandbox, start one", pending},
	}...))
}

// In a new sandbox initial containers come first, also when some of the others need not run again.
func TestInitialBeforeWhatIsLeft(t *testing.T) {
	past := fleet.Past{"one": {Succeeded: true}, "side": {}, "web": {Attempt: 1, Succeeded: true}, "aux": {Attempt: 3, Backoff: 40 * time.Second}}
	two := func() *scene { return staged(t, onFailure, "one side:side", "web aux").in("").before(past) }
	runStages(t, []stageCase{
		{"first", two(), "start one/1", pending},
		{"it runs", two().in("one=running#1"), "", pending},
		{"then the sidecar", two().in("one=0#1"), "start side/1", pending},
		{"then what has to run again", two().in("one=0#1 side=running#1"), "start aux/4", running},
		{"it runs again", two().in("one=0#1 side=running#1 aux=running#4"), "", running},
		{"it succeeded, too", two().in("one=0#1 side=running#1 aux=0#4"), "stop all 30s last side", running},
	})
}

// TestPast is what a new sandbox is told of the one before it.
func TestPast(t *testing.T) {
	for _, test := range []struct {
		name  string
		scene *scene
		want  fleet.Past
	}{
		{"nothing ran", staged(t, always, "one", "web").box(fleet.Exited), nil},
		{"the newest runs count", staged(t, always, "one side:side", "web aux").box(fleet.Exited).in("one=0 side=137#2 web=137 web=1#1 web=0#2"), fleet.Past{
			"one": {Succeeded: true}, "side": {Attempt: 2, Backoff: 20 * time.Second}, "web": {Attempt: 2, Backoff: 20 * time.Second, Succeeded: true},
		}},
		{"what was known of the one before that is kept", staged(t, always, "one", "web").box(fleet.Exited).in("one=0#5").before(fleet.Past{
			"one": {Attempt: 4}, "web": {Attempt: 7, Backoff: 300 * time.Second}, "gone": {Attempt: 9},
		}), fleet.Past{"one": {Attempt: 5, Backoff: 160 * time.Second, Succeeded: true}, "web": {Attempt: 7, Backoff: 300 * time.Second}}},
		{"a success of the one before that is kept", staged(t, onFailure, "", "web aux").box(fleet.Exited).in("aux=1").before(fleet.Past{
			"web": {Attempt: 1, Succeeded: true},
		}), fleet.Past{"web": {Attempt: 1, Succeeded: true}, "aux": {}}},
		{"how it ended is not known", staged(t, always, "", "web").box(fleet.Exited).has("web", "i:1", fleet.Created, ran(time.Minute, 0), attempt(3, 40*time.Second)), fleet.Past{
			"web": {Attempt: 3, Backoff: 40 * time.Second},
		}},
		{"a long run clears the series", staged(t, always, "", "web").box(fleet.Exited).has("web", "i:1", fleet.Exited, code(137), ran(time.Hour, 0), attempt(3, 40*time.Second)), fleet.Past{
			"web": {Attempt: 3},
		}},
		{"what a probe killed did not succeed", staged(t, onFailure, "", "web:liveness aux").box(fleet.Exited).in("web=0").says("web", "liveness-"), fleet.Past{"web": {}}},
		{"another image clears the series", staged(t, always, "", "web").box(fleet.Exited).in("web=1#3!"), fleet.Past{"web": {Attempt: 3}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := pod.Next(test.scene.Input)
			for _, s := range r.Steps {
				if s.Verb == fleet.Sandbox {
					if d := cmp.Diff(test.want, s.Past); d != "" {
						t.Error(d)
					}
					return
				}
			}
			t.Errorf("no sandbox: %s", show(r))
		})
	}
}

// The series goes on over a new sandbox, for each container its own.
func TestBackoffOverSandboxes(t *testing.T) {
	s := staged(t, always, "one", "web aux").in("one=0").before(fleet.Past{"web": {Attempt: 4, Backoff: 80 * time.Second}, "aux": {Attempt: 1}})
	got := map[string]time.Duration{}
	for _, step := range pod.Next(s.Input).Steps {
		if step.Verb == fleet.Start {
			got[fmt.Sprintf("%s/%d", step.Container, step.Attempt)] = step.Backoff
		}
	}
	if d := cmp.Diff(map[string]time.Duration{"web/5": 160 * time.Second, "aux/2": 10 * time.Second}, got); d != "" {
		t.Error(d)
	}
}
