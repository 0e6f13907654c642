package pod_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// staged is a scene with a pod of that policy; inits and mains are lists of containers, all of image i:1.
func staged(t *testing.T, policy corev1.RestartPolicy, inits, mains string, more ...string) *scene {
	t.Helper()
	list := func(words string) string {
		var items []string
		for word := range strings.FieldsSeq(words) {
			name, marks, _ := strings.Cut(word, ":")
			item := fmt.Sprintf(`{name: %s, image: "i:1", imagePullPolicy: IfNotPresent`, name)
			for mark := range strings.SplitSeq(marks, ",") {
				item += map[string]string{
					"":          "",
					"side":      ", restartPolicy: Always",
					"startup":   ", startupProbe: {exec: {command: [up]}, terminationGracePeriodSeconds: 7, failureThreshold: 3, successThreshold: 1}",
					"liveness":  ", livenessProbe: {exec: {command: [live]}, failureThreshold: 3, successThreshold: 1}",
					"brief":     ", livenessProbe: {exec: {command: [live]}, failureThreshold: 3, successThreshold: 1, terminationGracePeriodSeconds: 5}",
					"readiness": ", readinessProbe: {exec: {command: [ready]}, failureThreshold: 3, successThreshold: 1}",
					"hook":      ", lifecycle: {postStart: {exec: {command: [hello]}}}",
				}[mark]
			}
			items = append(items, item+"}")
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	spec := fmt.Sprintf("{restartPolicy: %s, initContainers: %s, containers: %s%s}", policy, list(inits), list(mains), strings.Join(append([]string{""}, more...), ", "))
	return web(t, spec)
}

// in adds containers to the scene's sandbox, which it makes when there is none: name=STATE[#ATTEMPT][!], where STATE is an exit
// code or a state's name, ATTEMPT brings the wait that its end imposes along, and ! is another image than wanted.
func (s *scene) in(states string) *scene {
	if s.Observed == nil {
		s.box(fleet.Running)
	}
	for word := range strings.FieldsSeq(states) {
		name, state, _ := strings.Cut(word, "=")
		image := "i:1"
		if rest, other := strings.CutSuffix(state, "!"); other {
			state, image = rest, "i:0"
		}
		state, restarts, _ := strings.Cut(state, "#")
		n, _ := strconv.Atoi(restarts)
		tries := attempt(n, 0)
		if n > 0 {
			tries = attempt(n, 10*time.Second<<(n-1))
		}
		if exit, err := strconv.Atoi(state); err == nil {
			s.has(name, image, fleet.Exited, code(int32(exit)), tries)
		} else {
			s.has(name, image, fleet.ContainerState(state), tries)
		}
	}
	return s
}

// says lets the probes of the newest run of a container have verdicts: startup, liveness or readiness with + or -.
func (s *scene) says(container string, verdicts ...string) *scene {
	health := pod.Health{}
	for _, v := range verdicts {
		verdict := pod.Passed
		if strings.HasSuffix(v, "-") {
			verdict = pod.Failed
		}
		health[pod.ProbeKind(strings.TrimRight(v, "+-"))] = pod.Tally{Verdict: verdict, Since: now.Add(-30 * time.Second)}
	}
	if s.Health == nil {
		s.Health = map[string]pod.Health{}
	}
	newest := -1
	for i, c := range s.Observed.Containers {
		if c.Name == container && (newest < 0 || c.Attempt > s.Observed.Containers[newest].Attempt) {
			newest = i
		}
	}
	s.Health[s.Observed.Containers[newest].ID] = health
	return s
}

func (s *scene) before(runs map[string]fleet.PastRun) *scene { s.Observed.Past = runs; return s }

// brief is what is done, without the pulls that precede every start, and when to look again.
func brief(r pod.Result) string {
	var list []string
	for _, s := range r.Steps {
		word := string(s.Verb)
		switch {
		case s.Verb == fleet.Pull:
			continue
		case s.Verb == fleet.Stop && s.Container == "":
			word += " all"
		case s.Container != "":
			word += " " + s.Container
		}
		if s.Verb == fleet.Start && s.Attempt > 0 {
			word += "/" + strconv.Itoa(s.Attempt)
		}
		if s.Verb == fleet.Stop {
			word += " " + s.Grace.String()
		}
		if len(s.Last) > 0 {
			word += " last " + strings.Join(s.Last, " ")
		}
		list = append(list, word)
	}
	if !r.WakeAt.IsZero() {
		list = append(list, "wake "+r.WakeAt.Sub(now).String())
	}
	return strings.Join(list, ", ")
}

const (
	always    = corev1.RestartPolicyAlways
	onFailure = corev1.RestartPolicyOnFailure
	never     = corev1.RestartPolicyNever

	pending   = corev1.PodPending
	running   = corev1.PodRunning
	succeeded = corev1.PodSucceeded
	failed    = corev1.PodFailed
)

// stageCase is a scene and what becomes of it.
type stageCase struct {
	name  string
	scene *scene
	steps string
	phase corev1.PodPhase
}

func runStages(t *testing.T, cases []stageCase) {
	t.Helper()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			r := pod.Next(test.scene.Input)
			if d := cmp.Diff([]string{test.steps, string(test.phase)}, []string{brief(r), string(r.Status.Phase)}); d != "" {
				t.Errorf("%s\n%s", d, show(r))
			}
		})
	}
}

// TestInitial: one at a time, each to its end (semantics 2.1, 2.2).
func TestInitial(t *testing.T) {
	two := func(p corev1.RestartPolicy) *scene { return staged(t, p, "one two", "web") }
	aux := func(p corev1.RestartPolicy) *scene { return staged(t, p, "one two", "web aux") }
	cases := []stageCase{
		{"nothing there", two(always), "sandbox, start one", pending},
		{"an empty sandbox", two(always).in(""), "start one", pending},
		{"the first runs", two(always).in("one=running"), "", pending},
		{"the first is done", two(always).in("one=0"), "start two", pending},
		{"the second runs", two(always).in("one=0 two=running"), "", pending},
		{"all are done", two(always).in("one=0 two=0"), "start web", pending},
		{"all are done, two to start", aux(always).in("one=0 two=0"), "start web, start aux", pending},
		{"one main container runs, the other not yet", aux(always).in("one=0 two=0 web=running"), "start aux", pending},
		{"all runs", two(always).in("one=0 two=0 web=running"), "", running},

		{"the first is gone, the second done", two(always).in("two=0"), "start web", pending},
		{"the first is gone, the second runs", two(always).in("two=running"), "", pending},
		{"the first is gone, the second failed", two(always).in("two=1"), "retire two, start two/1", pending},
		{"all are gone, and the main container runs", two(always).in("web=running"), "", running},
		{"all are gone, and the main container ended", two(always).in("web=1"), "retire web, start web/1", running},
		{"all are gone, and the main container ended for good", two(never).in("web=0"), "", succeeded},
		{"all are gone, and the main container failed for good", two(never).in("web=3"), "", failed},
		{"one of two main containers was removed", aux(always).in("one=0 two=0 aux=running"), "start web", pending},
		{"one of two main containers was removed, and all initial ones", aux(always).in("aux=running"), "start web", pending},
		{"the only main container was removed", two(always).in("one=0 two=0"), "start web", pending},
		{"an initial one of a running pod is gone, and one failed", two(always).in("one=1 web=running"), "", running},

		{"created and never started", two(always).in("one=created"), "remove one, start one", pending},
		{"in no known state", two(always).in("one=0 two=unknown"), "remove two, start two", pending},
		{"frozen", two(always).in("one=paused"), "unpause one", pending},
		{"stopping", two(always).in("one=stopping"), "stop one 30s, remove one, start one/1", pending},
		{"frozen, with the pod", two(always).box(fleet.Paused).in("one=paused"), "unpause", pending},
		{"older runs are let go", two(always).in("one=1 one=1#1 one=running#2"), "remove one", pending},

		{"the first cannot be pulled", two(always).in("").tried("one", pod.Attempt{
			Verb: fleet.Pull, Image: "i:1", Failures: 2, Last: now, Failure: pod.Failure{Text: "no such image"}}), "wake 20s", pending},
		{"a main container cannot be pulled, and it is not its turn", two(always).in("").tried("web", pod.Attempt{
			Verb: fleet.Pull, Image: "i:1", Failures: 2, Last: now, Failure: pod.Failure{Text: "no such image"}}), "start one", pending},

		{"another image of a pod that runs", two(always).in("one=0! two=0! web=running"), "", running},
		{"another image of one that is done", two(always).in("one=0! two=running"), "", pending},
		{"another image of one that failed and waits", two(always).in("one=1#3!"), "retire one, start one/4", pending},
		{"another image of a main container", two(always).in("one=0 two=0 web=running!"), "stop web 30s, retire web, start web/1", running},
	}
	for _, policy := range []corev1.RestartPolicy{always, onFailure} {
		cases = append(cases, []stageCase{
			{"failed with " + string(policy), two(policy).in("one=1"), "retire one, start one/1", pending},
			{"failed twice with " + string(policy), two(policy).in("one=1 one=1#1"), "wake 10s", pending},
			{"failed three times with " + string(policy), two(policy).in("one=1 one=1#1 one=1#2"), "remove one, wake 20s", pending},
			{"the second failed with " + string(policy), two(policy).in("one=0 two=2"), "retire two, start two/1", pending},
			{"the second failed again with " + string(policy), two(policy).in("one=0 two=2#4"), "wake 1m20s", pending},
			{"an old failure with " + string(policy), two(policy).in("one=0#1 one=1"), "start two", pending},
		}...)
	}
	for _, policy := range []corev1.RestartPolicy{always, onFailure, never} {
		cases = append(cases, []stageCase{
			{"first with " + string(policy), two(policy), "sandbox, start one", pending},
			{"next with " + string(policy), two(policy).in("one=0"), "start two", pending},
			{"done with " + string(policy), two(policy).in("one=0 two=0"), "start web", pending},
		}...)
	}
	runStages(t, append(cases, []stageCase{
		{"failed with Never", two(never).in("one=1"), "", failed},
		{"the second failed with Never", two(never).in("one=0 two=1"), "", failed},
		{"the second failed with Never, the first is gone", two(never).in("two=1"), "", failed},
		{"killed with Never", two(never).in("one=137"), "", failed},
	}...))
}

// TestSidecars: started in their place, kept running whatever the pod's policy, stopped last (semantics 2.1, 2.8).
func TestSidecars(t *testing.T) {
	mid := func(p corev1.RestartPolicy) *scene { return staged(t, p, "one side:side two", "web") }
	gated := func(p corev1.RestartPolicy) *scene { return staged(t, p, "side:side,startup two", "web") }
	pair := func(p corev1.RestartPolicy) *scene { return staged(t, p, "a:side b:side", "web") }
	slow := func(p corev1.RestartPolicy) *scene { return staged(t, p, "side:side,readiness,liveness two", "web") }
	var cases []stageCase
	for _, p := range []corev1.RestartPolicy{always, onFailure, never} {
		for _, c := range []stageCase{
			{"nothing there", mid(p), "sandbox, start one", pending},
			{"its turn", mid(p).in("one=0"), "start side", pending},
			{"it runs", mid(p).in("one=0 side=running"), "start two", pending},
			{"after it, the next runs", mid(p).in("one=0 side=running two=running"), "", pending},
			{"all initial ones had their turn", mid(p).in("one=0 side=running two=0"), "start web", pending},
			{"all runs", mid(p).in("one=0 side=running two=0 web=running"), "", running},
			{"it ended before the next began", mid(p).in("one=0 side=1"), "retire side, start side/1", pending},
			{"it ended well before the next began", mid(p).in("one=0 side=0"), "retire side, start side/1", pending},
			{"it failed twice before the next began", mid(p).in("one=0 side=1#1"), "wake 10s", pending},
			{"it ended while the next runs", mid(p).in("one=0 side=1 two=running"), "retire side, start side/1", pending},
			{"it waits while the next runs", mid(p).in("one=0 side=1#1 two=running"), "wake 10s", pending},
			{"it waits, and the next is done", mid(p).in("one=0 side=1#1 two=0"), "start web, wake 10s", pending},
			{"it ended while the main container runs", mid(p).in("one=0 side=0 two=0 web=running"), "retire side, start side/1", running},
			{"it failed while the main container runs", mid(p).in("one=0 side=9 two=0 web=running"), "retire side, start side/1", running},
			{"it waits while the main container runs", mid(p).in("one=0 side=9#3 two=0 web=running"), "wake 40s", running},
			{"it is gone while the main container runs", mid(p).in("one=0 two=0 web=running"), "start side", running},
			{"it is frozen while the main container runs", mid(p).in("side=paused web=running"), "unpause side", running},
			{"it never started while the main container runs", mid(p).in("side=created web=running"), "remove side, start side", running},
			{"another image", mid(p).in("one=0 side=running! two=0 web=running"), "stop side 30s, retire side, start side/1", running},
			{"another image before the next began", mid(p).in("one=0 side=running!"), "stop side 30s, retire side, start side/1, start two", pending},
			{"another image when it waits", mid(p).in("one=0 side=1#5! two=0 web=running"), "retire side, start side/6", running},

			{"not started yet", gated(p).in("side=running"), "", pending},
			{"started", gated(p).in("side=running").says("side", "startup+"), "start two", pending},
			{"does not start", gated(p).in("side=running").says("side", "startup-"), "stop side 7s", pending},
			{"was killed by its startup probe", gated(p).in("side=0").says("side", "startup-"), "retire side, start side/1", pending},
			{"not started again while the next runs", gated(p).in("side=1 side=running#1 two=running"), "", pending},
			{"not started again while the main container runs", gated(p).in("side=running#1 two=0 web=running"), "", running},
			{"neither ready nor alive keeps the next waiting", slow(p).in("side=running"), "start two", pending},
			{"not ready keeps the next not waiting", slow(p).in("side=running").says("side", "readiness-"), "start two", pending},

			{"two, the first", pair(p).in(""), "start a", pending},
			{"two, the second", pair(p).in("a=running"), "start b", pending},
			{"two run", pair(p).in("a=running b=running"), "start web", pending},
			{"two ended", pair(p).in("a=1 b=1 web=running"), "retire a, start a/1, retire b, start b/1", running},
		} {
			c.name += " with " + string(p)
			cases = append(cases, c)
		}
	}
	for _, p := range []corev1.RestartPolicy{onFailure, never} {
		for _, c := range []stageCase{
			{"the pod is done", mid(p).in("one=0 side=running two=0 web=0"), "stop all 30s last side", running},
			{"the pod is done, its sidecar frozen", mid(p).in("side=paused web=0"), "unpause side, stop all 30s last side", running},
			{"the pod is done, its sidecar stopping", mid(p).in("side=stopping web=0"), "stop all 30s last side", running},
			{"the pod is done, its sidecar with it", mid(p).in("one=0 side=137 two=0 web=0"), "", succeeded},
			{"the pod is done, its sidecar waited", mid(p).in("side=1#4 web=0"), "", succeeded},
			{"the pod is done, its sidecar never started", mid(p).in("side=created web=0"), "", succeeded},
			{"the pod is done, its sidecar is gone", mid(p).in("web=0"), "", succeeded},
			{"the pod is done, its sidecar has another image", mid(p).in("side=running! web=0"), "stop all 30s last side", running},
			{"the pod is done, its sidecar is not alive", slow(p).in("side=running web=0").says("side", "liveness-"), "stop all 30s last side", running},
			{"the pod is done, its sidecars stop in reverse", pair(p).in("a=running b=running web=0"), "stop all 30s last b a", running},
			{"the pod is done, one sidecar is left", pair(p).in("a=running b=0 web=0"), "stop all 30s last a", running},
			{"the pod is done, its sidecars cannot be stopped", pair(p).in("a=running b=running web=0").tried("", pod.Attempt{
				Verb: fleet.Stop, Failures: 2, Last: now, Failure: pod.Failure{Text: "busy"}}), "wake 2s", running},
		} {
			c.name += " with " + string(p)
			cases = append(cases, c)
		}
	}
	runStages(t, append(cases, []stageCase{
		{"the main container is restarted, its sidecar runs on", mid(always).in("side=running web=0"), "retire web, start web/1", running},
		{"the main container failed, OnFailure", mid(onFailure).in("side=running web=1"), "retire web, start web/1", running},
		{"the main container failed and waits, OnFailure", mid(onFailure).in("side=running web=1#2"), "wake 20s", running},
		{"the main container failed, Never", mid(never).in("side=running web=1"), "stop all 30s last side", running},
		{"the main container failed, Never, and all is stopped", mid(never).in("side=143 web=1"), "", failed},
		{"an initial one failed, Never", mid(never).in("one=0 side=running two=1"), "stop all 30s last side", pending},
		{"an initial one failed, Never, and all is stopped", mid(never).in("one=0 side=143 two=1"), "", failed},
		{"an initial one failed, Never, before any sidecar", mid(never).in("one=1"), "", failed},
		{"an initial one failed, OnFailure", mid(onFailure).in("one=0 side=running two=1"), "retire two, start two/1", pending},
		{"an initial one failed and waits, the sidecar failed, too", mid(always).in("one=0 side=1#2 two=1#1"), "wake 10s", pending},
	}...))
}

// A sidecar that was made says that those before it had their turn, just as any other initial container does.
func TestSidecarSaysWhatWasBefore(t *testing.T) {
	runStages(t, []stageCase{
		{"the one before it is gone", staged(t, always, "one side:side two", "web").in("side=running"), "start two", pending},
		{"the one before it is gone, and it ended", staged(t, always, "one side:side two", "web").in("side=1"), "retire side, start side/1", pending},
		{"the first of two crashes", staged(t, always, "a:side b:side", "web").in("a=1#1 b=running"), "start web, wake 10s", pending},
		{"the first of two crashes, the second ended", staged(t, always, "a:side b:side", "web").in("a=1#1 b=1"), "retire b, start b/1, wake 10s", pending},
	})
}

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
	const up = "one=0 side=running web=running aux=running"
	var cases []stageCase
	for _, p := range []corev1.RestartPolicy{always, onFailure} {
		for _, c := range []stageCase{
			{"all ended with it", two(p).box(fleet.Exited).in("one=0 side=137 web=137 aux=137"), "teardown, sandbox, start one/1", running},
			{"all seem to run in it", two(p).box(fleet.Exited).in(up), "teardown, sandbox, start one/1", running},
			{"a reboot", lost(two(p).box(fleet.Exited).in(up)), "teardown, sandbox, start one/1", running},
			{"a reboot, the infra container never ran since", lost(two(p).box(fleet.Created).in(up)), "teardown, sandbox, start one/1", running},
			{"a reboot without an infra container", lost(two(p).box(fleet.Unknown).in(up)), "teardown, sandbox, start one/1", running},
			{"a reboot, without initial ones", lost(bare(p).box(fleet.Exited).in("web=running aux=running")), "teardown, sandbox, start web/1, start aux/1", running},
			{"a reboot while initial ones ran", lost(two(p).box(fleet.Exited).in("one=running")), "teardown, sandbox, start one/1", pending},
			{"a sandbox was all there was", two(p).box(fleet.Exited), "teardown, sandbox, start one", pending},
			{"the pod is gone", two(p), "sandbox, start one", pending},
			{"and it may not be made yet", two(p).box(fleet.Exited).in(up).tried("", pod.Attempt{
				Verb: fleet.Sandbox, Failures: 1, Last: now, Failure: pod.Failure{Text: "no"}}), "wake 1s", running},
			{"a new one", two(p).in("").before(map[string]fleet.PastRun{"one": {Attempt: 2}, "side": {}, "web": {}}), "start one/3", pending},
			{"a new one, the first is done", two(p).in("one=0#3").before(map[string]fleet.PastRun{"one": {Attempt: 2}, "side": {}, "web": {}}), "start side/1", pending},
			{"a new one, it is the main ones' turn", two(p).in("one=0#3 side=running#1").before(map[string]fleet.PastRun{"side": {}, "web": {}}), "start web/1, start aux", pending},
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
		{"one had succeeded in the one before, OnFailure", bare(onFailure).in("").before(map[string]fleet.PastRun{"web": {Succeeded: true}, "aux": {}}), "start aux/1", pending},
		{"one had succeeded in the one before, the other runs", bare(onFailure).in("aux=running#1").before(map[string]fleet.PastRun{"web": {Succeeded: true}, "aux": {}}), "", running},
		{"one had succeeded in the one before, the other now", bare(onFailure).in("aux=0#1").before(map[string]fleet.PastRun{"web": {Succeeded: true}, "aux": {}}), "", succeeded},
		{"one had succeeded in the one before, Always", bare(always).in("").before(map[string]fleet.PastRun{"web": {Succeeded: true}, "aux": {}}), "start web/1, start aux/1", pending},
		{"an initial one had succeeded in the one before, OnFailure", two(onFailure).in("").before(map[string]fleet.PastRun{"one": {Succeeded: true}}), "start one/1", pending},
		{"a sidecar had ended in the one before, OnFailure", two(onFailure).in("one=0").before(map[string]fleet.PastRun{"side": {Succeeded: true}}), "start side/1", pending},

		{"ran, Never", two(never).box(fleet.Exited).in("one=0 side=137 web=137 aux=137"), "", failed},
		{"ran well, Never", two(never).box(fleet.Exited).in("one=0 side=137 web=0 aux=0"), "", succeeded},
		{"a reboot, Never", lost(two(never).box(fleet.Exited).in(up)), "", failed},
		{"a reboot, one had succeeded, Never", lost(two(never).box(fleet.Exited).in("one=0 side=running web=0 aux=running")), "", failed},
		{"a reboot while initial ones ran, Never", lost(two(never).box(fleet.Exited).in("one=running")), "", failed},
		{"they seem to run, Never", bare(never).box(fleet.Exited).in("web=running aux=0"), "stop all 30s", running},
		{"nothing ever ran, Never", two(never).box(fleet.Exited), "teardown, sandbox, start one", pending},
		{"the pod is gone, Never", two(never), "sandbox, start one", pending},
	}...))
}

// In a new sandbox initial containers come first, also when some of the others need not run again.
func TestInitialBeforeWhatIsLeft(t *testing.T) {
	past := map[string]fleet.PastRun{"one": {Succeeded: true}, "side": {}, "web": {Attempt: 1, Succeeded: true}, "aux": {Attempt: 3, Backoff: 40 * time.Second}}
	two := func() *scene { return staged(t, onFailure, "one side:side", "web aux").in("").before(past) }
	runStages(t, []stageCase{
		{"first", two(), "start one/1", pending},
		{"it runs", two().in("one=running#1"), "", pending},
		{"then the sidecar", two().in("one=0#1"), "start side/1", pending},
		{"then what has to run again", two().in("one=0#1 side=running#1"), "start aux/4", pending},
		{"it runs again", two().in("one=0#1 side=running#1 aux=running#4"), "", running},
		{"it succeeded, too", two().in("one=0#1 side=running#1 aux=0#4"), "stop all 30s last side", running},
	})
}

// TestPast is what a new sandbox is told of the one before it.
func TestPast(t *testing.T) {
	for _, test := range []struct {
		name  string
		scene *scene
		want  map[string]fleet.PastRun
	}{
		{"nothing ran", staged(t, always, "one", "web").box(fleet.Exited), nil},
		{"the newest runs count", staged(t, always, "one side:side", "web aux").box(fleet.Exited).in("one=0 side=137#2 web=137 web=1#1 web=0#2"), map[string]fleet.PastRun{
			"one": {Succeeded: true}, "side": {Attempt: 2, Backoff: 20 * time.Second}, "web": {Attempt: 2, Backoff: 20 * time.Second, Succeeded: true},
		}},
		{"what was known of the one before that is kept", staged(t, always, "one", "web").box(fleet.Exited).in("one=0#5").before(map[string]fleet.PastRun{
			"one": {Attempt: 4}, "web": {Attempt: 7, Backoff: 300 * time.Second}, "gone": {Attempt: 9},
		}), map[string]fleet.PastRun{"one": {Attempt: 5, Backoff: 160 * time.Second, Succeeded: true}, "web": {Attempt: 7, Backoff: 300 * time.Second}}},
		{"a success of the one before that is kept", staged(t, onFailure, "", "web aux").box(fleet.Exited).in("aux=1").before(map[string]fleet.PastRun{
			"web": {Attempt: 1, Succeeded: true},
		}), map[string]fleet.PastRun{"web": {Attempt: 1, Succeeded: true}, "aux": {}}},
		{"how it ended is not known", staged(t, always, "", "web").box(fleet.Exited).has("web", "i:1", fleet.Created, ran(time.Hour, 0), attempt(3, 40*time.Second)), map[string]fleet.PastRun{
			"web": {Attempt: 3, Backoff: 40 * time.Second},
		}},
		{"a long run clears the series", staged(t, always, "", "web").box(fleet.Exited).has("web", "i:1", fleet.Exited, code(137), ran(time.Hour, 0), attempt(3, 40*time.Second)), map[string]fleet.PastRun{
			"web": {Attempt: 3},
		}},
		{"another image clears the series", staged(t, always, "", "web").box(fleet.Exited).in("web=1#3!"), map[string]fleet.PastRun{"web": {Attempt: 3}}},
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
	s := staged(t, always, "one", "web aux").in("one=0").before(map[string]fleet.PastRun{"web": {Attempt: 4, Backoff: 80 * time.Second}, "aux": {Attempt: 1}})
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

// TestKilledByProbe: a probe that failed kills its container, and the policy says what follows (semantics 2.4).
func TestKilledByProbe(t *testing.T) {
	web := func(p corev1.RestartPolicy, marks string) *scene { return staged(t, p, "", "web:"+marks, "terminationGracePeriodSeconds: 20") }
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
		"it was never started":              staged(t, never, "one", "web", spec).box(fleet.Exited).in("one=0"),
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
		{"of what was never started", two().in("side=running web=created aux=running"), "remove web, start web, hook web", running},
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
