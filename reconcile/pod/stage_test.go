package pod_test

import (
	"fmt"
	"net/netip"
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

func (s *scene) before(runs fleet.Past) *scene { s.Observed.Past = runs; return s }

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

// addressed gives the sandbox addresses.
func (s *scene) addressed(list ...string) *scene {
	for _, a := range list {
		s.Observed.IPs = append(s.Observed.IPs, netip.MustParseAddr(a))
	}
	return s
}
