package pod_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// TestKilledByProbe: a probe that failed kills its container, and the policy says what follows (semantics 2.4).
func TestKilledByProbe(t *testing.T) {
	web := func(p corev1.RestartPolicy, marks string) *scene {
		return staged(t, p, "", "web:"+marks, "terminationGracePeriodSeconds: 20")
	}
	stopped := pod.Attempt{Verb: fleet.Stop, Failures: 2, Last: now, Failure: pod.Failure{Text: "busy"}}
	var cases []stageCase
	for _, p := range []corev1.RestartPolicy{always, onFailure, never} {
		for _, c := range []stageCase{
			{"lives", web(p, "liveness").in("web=running").says("web", "liveness+"), "", running},
			{"nothing known", web(p, "liveness").in("web=running"), "", running},
			{"does not live", web(p, "liveness").in("web=running").says("web", "liveness-"), "stop web 20s", running},
			{"does not live, with a grace of its own", web(p, "brief").in("web=running").says("web", "liveness-"), "stop web 5s", running},
			{"does not start", web(p, "startup,liveness").in("web=running").says("web", "startup-"), "stop web 7s", running},
			{"is not ready", web(p, "readiness,liveness").in("web=running").says("web", "readiness-", "liveness+"), "", running},
			{"has no such probe any more", web(p, "readiness").in("web=running").says("web", "liveness-", "startup-"), "", running},
			{"cannot be stopped", web(p, "liveness").in("web=running").says("web", "liveness-").tried("web", stopped), "wake 2s", running},
			{"another image has precedence", web(p, "brief").in("web=running!").says("web", "liveness-"), "stop web 20s, retire web, start web/1", running},
			{"frozen", web(p, "liveness").in("web=paused").says("web", "liveness-"), "unpause web", running},
			{"its successor has a clean sheet", web(p, "liveness").in("web=137").says("web", "liveness-").in("web=running#1"), "", running},
		} {
			c.name += " with " + string(p)
			cases = append(cases, c)
		}
	}
	runStages(t, append(cases, []stageCase{
		{"killed, Always", web(always, "liveness").in("web=137").says("web", "liveness-"), "retire web, start web/1", running},
		{"killed twice, Always", web(always, "liveness").in("web=137#1").says("web", "liveness-"), "wake 10s", running},
		{"killed, OnFailure", web(onFailure, "liveness").in("web=137").says("web", "liveness-"), "retire web, start web/1", running},
		{"killed and ended well, waits, OnFailure", web(onFailure, "liveness").in("web=0#1").says("web", "liveness-"), "wake 10s", running},
		{"ended well, OnFailure", web(onFailure, "liveness").in("web=0").says("web", "liveness+"), "", succeeded},
		{"killed, Never", web(never, "liveness").in("web=137").says("web", "liveness-"), "", failed},
		{"killed and ended well, Never", web(never, "liveness").in("web=0").says("web", "liveness-"), "", succeeded},
		{"a sidecar does not live", staged(t, never, "side:side,brief", "web").in("side=running web=running").says("side", "liveness-"), "stop side 5s", running},
		{"a sidecar was killed", staged(t, never, "side:side,brief", "web").in("side=137 web=running").says("side", "liveness-"), "retire side, start side/1", running},
		{"a sidecar does not live while an initial one runs", staged(t, never, "side:side,brief one", "web").in("side=running one=running").says("side", "liveness-"), "stop side 5s", pending},
	}...))
}

// What a probe killed failed, and is not done, whatever code it ended with.
func TestKilledIsNotDone(t *testing.T) {
	runStages(t, []stageCase{
		{"liveness", staged(t, onFailure, "", "web:liveness").in("web=0").says("web", "liveness-"), "retire web, start web/1", running},
		{"startup", staged(t, onFailure, "", "web:startup").in("web=0").says("web", "startup-"), "retire web, start web/1", running},
		{"one of two", staged(t, onFailure, "", "web:liveness aux").in("web=0 aux=0").says("web", "liveness-"), "retire web, start web/1", running},
		{"with a sidecar", staged(t, onFailure, "side:side", "web:liveness").in("side=running web=0").says("web", "liveness-"), "retire web, start web/1", running},
		{"in a dead sandbox", staged(t, onFailure, "", "web:liveness").box(fleet.Exited).in("web=0").says("web", "liveness-"), "teardown, sandbox, start web/1", running},
	})
}

// TestDeadline: born two hours ago, so that 7260 s is in a minute, 7200 s now and 7140 s a minute ago.
func TestDeadline(t *testing.T) {
	of := func(p corev1.RestartPolicy, seconds int, inits string) *scene {
		return staged(t, p, inits, "web", fmt.Sprintf("activeDeadlineSeconds: %d", seconds))
	}
	ended := func(p corev1.RestartPolicy, n int32, ago time.Duration) *scene {
		return of(p, 7140, "").box(fleet.Running).has("web", "i:1", fleet.Exited, code(n), ran(time.Hour, ago))
	}
	unpulled := pod.Attempt{Verb: fleet.Pull, Image: "i:1", Failures: 5, Last: now.Add(-time.Second), Failure: pod.Failure{Text: "no such image"}}
	var cases []stageCase
	for _, p := range []corev1.RestartPolicy{always, onFailure, never} {
		for _, c := range []stageCase{
			{"before", of(p, 7260, "").in("web=running"), "wake 1m0s", running},
			{"before anything is there", of(p, 7260, ""), "sandbox, start web, wake 1m0s", pending},
			{"at it", of(p, 7200, "").in("web=running"), "stop all 30s", running},
			{"after it", of(p, 7140, "").in("web=running"), "stop all 30s", running},
			{"stopped for it", of(p, 7140, "").in("web=143"), "", failed},
			{"stopped for it, and ended well", of(p, 7140, "").in("web=0"), "", failed},
			{"nothing was ever there", of(p, 7140, ""), "", failed},
			{"a sandbox was all there was", of(p, 7140, "").in(""), "", failed},
			{"an image could not be pulled", of(p, 7140, "").in("").tried("web", unpulled), "", failed},
			{"an image cannot be pulled yet", of(p, 7260, "").in("").tried("web", unpulled), "wake 1m0s", pending},
			{"an initial one runs", of(p, 7140, "one").in("one=running"), "stop all 30s", running},
			{"an initial one was stopped", of(p, 7140, "one").in("one=143"), "", failed},
			{"initial ones are done", of(p, 7140, "one").in("one=0"), "", failed},
			{"with sidecars", of(p, 7140, "a:side b:side").in("a=running b=running web=running"), "stop all 30s last b a", running},
			{"frozen", of(p, 7140, "").in("web=paused"), "unpause web, stop all 30s", running},
			{"another image", of(p, 7140, "").in("web=running!"), "stop all 30s", running},
			{"cannot be stopped", of(p, 7140, "").in("web=running").tried("", pod.Attempt{
				Verb: fleet.Stop, Failures: 1, Last: now, Failure: pod.Failure{Text: "busy"}}), "wake 1s", running},
			{"of a pod that is to go", of(p, 7140, "").in("web=running").drains(0), "stop all 30s, teardown, clean", running},
		} {
			c.name += " with " + string(p)
			cases = append(cases, c)
		}
	}
	runStages(t, append(cases, []stageCase{
		{"in a crash loop, after it", of(always, 7140, "").in("web=1#5"), "", failed},
		{"in a crash loop, before it", of(always, 7260, "").in("web=1#3"), "wake 40s", running},
		{"in a crash loop that outlasts it", of(always, 7260, "").in("web=1#5"), "wake 1m0s", running},
		{"succeeded before it, Never", ended(never, 0, 5*time.Minute), "", succeeded},
		{"succeeded before it, OnFailure", ended(onFailure, 0, 5*time.Minute), "", succeeded},
		{"failed before it, Never", ended(never, 1, 5*time.Minute), "", failed},
		{"failed before it, OnFailure", ended(onFailure, 1, 5*time.Minute), "", failed},
		{"succeeded before it, its sidecar runs on", of(never, 7140, "side:side").box(fleet.Running).has("side", "i:1", fleet.Running).
			has("web", "i:1", fleet.Exited, ran(time.Hour, 5*time.Minute)), "stop all 30s last side", running},
		{"succeeded before it, its sidecar ended after", of(never, 7140, "side:side").box(fleet.Running).has("side", "i:1", fleet.Exited, code(137), ran(time.Hour, 0)).
			has("web", "i:1", fleet.Exited, ran(time.Hour, 5*time.Minute)), "", succeeded},
		{"one succeeded before it, one after", staged(t, never, "", "web aux", "activeDeadlineSeconds: 7140").box(fleet.Running).
			has("web", "i:1", fleet.Exited, ran(time.Hour, 5*time.Minute)).has("aux", "i:1", fleet.Exited, ran(time.Hour, 10*time.Second)), "", failed},
		{"an initial one failed before it, Never", of(never, 7140, "one").box(fleet.Running).has("one", "i:1", fleet.Exited, code(1), ran(time.Hour, 5*time.Minute)), "", failed},
		{"a dead sandbox, after it", of(always, 7140, "").box(fleet.Exited).in("web=137"), "", failed},
		{"a dead sandbox, OnFailure, after it", of(onFailure, 7140, "").box(fleet.Exited).in("web=137"), "", failed},
	}...))
}

// Podman tells ends by the second: what was stopped at the deadline must not seem to have been done before it.
func TestDeadlineWithinASecond(t *testing.T) {
	for _, late := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond} { // how far into its second the pod was made
		s := staged(t, never, "", "web", "activeDeadlineSeconds: 7200").box(fleet.Running).has("web", "i:1", fleet.Exited, ran(time.Hour, 0))
		s.Slot.Created = born.Add(late)
		s.Now = now.Add(2 * time.Second)
		if got := pod.Next(s.Input).Status; got.Phase != failed || got.Reason != "DeadlineExceeded" {
			t.Errorf("made %s into a second, stopped at its deadline, and yet %s %q", late, got.Phase, got.Reason)
		}
	}
}

// A pod whose time was up stays failed, also when its machine goes down later.
func TestDeadlineThenReboot(t *testing.T) {
	const spec = "activeDeadlineSeconds: 7140"
	for name, s := range map[string]*scene{
		"it ended well when it was told to": staged(t, never, "", "web", spec).box(fleet.Exited).in("web=0"),
		"it was killed":                     staged(t, never, "", "web", spec).box(fleet.Exited).in("web=137"),
		"it was never started":              staged(t, never, "one", "web", spec).box(fleet.Exited).has("one", "i:1", fleet.Exited, ran(time.Hour, 50*time.Minute)),
	} {
		got := pod.Next(s.Input)
		if got.Status.Phase != failed || got.Status.Reason != "DeadlineExceeded" || brief(got) != "" {
			t.Errorf("%s: %s %q, does %q", name, got.Status.Phase, got.Status.Reason, brief(got))
		}
	}
	early := staged(t, never, "", "web", spec).box(fleet.Exited).has("web", "i:1", fleet.Exited, ran(time.Hour, 5*time.Minute))
	if got := pod.Next(early.Input).Status; got.Phase != succeeded {
		t.Errorf("it succeeded in time, and yet %s %q", got.Phase, got.Reason)
	}
}

// TestHooks: the postStart hook follows every start and delays what comes after it (semantics 2.1).
func TestHooks(t *testing.T) {
	two := func() *scene { return staged(t, always, "side:side,hook", "web:hook aux") }
	hook := pod.Attempt{Verb: fleet.Hook, Failures: 1, Last: now, Failure: pod.Failure{Text: "postStart hook: exit code 3"}}
	runStages(t, []stageCase{
		{"a sidecar's", two().in(""), "start side, hook side", pending},
		{"in order", two().in("side=running"), "start web, hook web, start aux", pending},
		{"not of what runs", two().in("side=running web=running aux=running"), "", running},
		{"of a restart", two().in("side=running web=1 aux=running"), "retire web, start web/1, hook web", running},
		{"of another image", two().in("side=running web=running! aux=running"), "stop web 30s, retire web, start web/1, hook web", running},
		{"of a sidecar that ended", two().in("side=1 web=running aux=running"), "retire side, start side/1, hook side", running},
		{"of what was never started", two().in("side=running web=created aux=running"), "remove web, start web, hook web", pending},
		{"of a new sandbox", staged(t, always, "", "web:hook").box(fleet.Exited).in("web=1"), "teardown, sandbox, start web/1, hook web", running},
		{"none while it may not start", two().in("side=running web=1#1 aux=running"), "wake 10s", running},
		{"it failed, and the container was killed", two().in("side=running web=137 aux=running").tried("web", hook), "retire web, start web/1, hook web", running},
		{"it failed again", two().in("side=running web=137#1 aux=running").tried("web", hook), "wake 10s", running},
		{"it failed, Never", staged(t, never, "", "web:hook").in("web=137").tried("web", hook), "", failed},
	})
	r := pod.Next(two().in("side=running web=137#1 aux=running").tried("web", hook).Input)
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "exit code 3") {
		t.Errorf("notes %q do not say why it was killed", r.Notes)
	}
}

// TestDrainOrder: hooks and grace are the applier's; who waits for whom is said here (semantics 2.8).
func TestDrainOrder(t *testing.T) {
	of := func() *scene { return staged(t, always, "a:side one b:side", "web aux") }
	runStages(t, []stageCase{
		{"all runs", of().in("a=running one=0 b=running web=running aux=running").drains(0), "stop all 30s last b a, teardown, clean", running},
		{"later", of().in("a=running one=0 b=running web=running aux=running").drains(25 * time.Second), "stop all 5s last b a, teardown, clean", running},
		{"one sidecar waits", of().in("a=running one=0 b=1#4 web=running aux=running").drains(0), "stop all 30s last a, teardown, clean", running},
		{"a sidecar is frozen", of().in("a=paused one=0 b=running web=running aux=running").drains(0), "unpause a, stop all 30s last b a, teardown, clean", running},
		{"all is frozen", of().box(fleet.Paused).in("a=paused one=0 b=paused web=paused aux=paused").drains(0),
			"unpause a, unpause b, unpause web, unpause aux, stop all 30s last b a, teardown, clean", running},
		{"sidecars are all that is left", of().in("a=running b=running web=0 aux=0").drains(0), "stop all 30s last b a, teardown, clean", running},
		{"an initial one runs", of().in("a=running one=running").drains(0), "stop all 30s last a, teardown, clean", pending},
		{"stopping already", of().in("a=running b=running web=stopping aux=stopping").drains(10 * time.Second), "stop all 20s last b a, teardown, clean", running},
		{"nothing runs", of().in("a=137 b=137 web=137 aux=137").drains(0), "teardown, clean", running},
		{"a dead sandbox", of().box(fleet.Exited).in("a=137 b=137 web=137 aux=137").drains(0), "teardown, clean", running},
		{"nothing started yet", of().in("").drains(0), "teardown, clean", pending},
		{"no template", of().in("a=running b=running web=running").drains(0).edit(func(in *pod.Input) { in.Spec = nil }), "stop all 30s, teardown, clean", running},
		{"no template, frozen", of().in("a=running b=running web=paused").drains(0).edit(func(in *pod.Input) { in.Spec = nil }),
			"unpause web, stop all 30s, teardown, clean", running},
		{"probes and images are no matter", staged(t, always, "a:side,liveness", "web:brief").in("a=running web=running!").says("web", "liveness-").drains(0),
			"stop all 30s last a, teardown, clean", running},
		{"what is gone", of().drains(0), "clean", pending},
	})
}

// TestHookUnderWay: a container has not started before its postStart hook has ended, and is nobody's to ask; others are.
func TestHookUnderWay(t *testing.T) {
	s := staged(t, corev1.RestartPolicyAlways, "", "web aux").box(fleet.Running).has("web", "i:1", fleet.Running).has("aux", "i:1", fleet.Running)
	for _, hooks := range [][]string{{"web"}, nil} {
		s.Busy, s.Hooks = hooks != nil, hooks
		for _, c := range pod.Next(s.Input).Status.ContainerStatuses {
			want := !slices.Contains(hooks, c.Name)
			if c.Ready != want || *c.Started != want {
				t.Errorf("hooks %v: %s is ready %v, started %v", hooks, c.Name, c.Ready, *c.Started)
			}
		}
	}
}
