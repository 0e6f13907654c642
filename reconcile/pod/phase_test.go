package pod_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// doing is what one container does, in words of its own: the reference below must share nothing with the code.
type doing string

const (
	absent    doing = "absent"  // there is no such container in the spec
	unmade    doing = "unmade"  // not made yet
	unrun     doing = "made"    // made, and never ran
	runs      doing = "runs"    // and is started
	begins    doing = "begins"  // runs, and its startup probe has not succeeded
	zero      doing = "zero"    // ended with 0
	three     doing = "three"   // ended with 3, for the first time
	loops     doing = "loops"   // ended with 3, and waits for its next turn
	pauses    doing = "pauses"  // frozen by hand
	restarted doing = "restart" // runs again
)

var spoken = map[doing]string{unmade: "", unrun: "created", runs: "running", begins: "running", zero: "0", three: "3", loops: "3#2", pauses: "paused", restarted: "running#2"}

func (d doing) alive() bool { return d == runs || d == begins || d == pauses || d == restarted }
func (d doing) ended() bool { return d == zero || d == three || d == loops }

// phaseOf is semantics 2.3, sentence by sentence.
func phaseOf(policy corev1.RestartPolicy, initial, side doing, mains []doing) corev1.PodPhase {
	anyAlive := initial.alive() || side.alive()
	anyRan, anyUnrun := false, false
	allEnded, allZero := true, true
	for _, d := range mains {
		anyAlive = anyAlive || d.alive()
		if d.alive() || d.ended() {
			anyRan = true
		} else {
			anyUnrun = true
		}
		if !d.ended() {
			allEnded = false
		}
		if d != zero {
			allZero = false
		}
	}
	// "Failed: ... or a failed init container with policy Never." Not before all has stopped.
	if policy == never && (initial == three || initial == loops) {
		if anyAlive {
			return pending
		}
		return failed
	}
	// "Pending: any regular init container not finished, ..." Once a main container ran it is finished, though its record be gone.
	if initial != absent && initial != zero && !anyRan {
		return pending
	}
	// "... or a sidecar not yet started before the first app container ran, ..."
	if side != absent && side != runs && side != pauses && side != restarted && !anyRan {
		return pending
	}
	// "... or any app container that never ran."
	if anyUnrun {
		return pending
	}
	// "Running: ... one (or a sidecar) is running, or all stopped but policy will restart them."
	if !allEnded || anyAlive || policy == always {
		return running
	}
	if allZero {
		return succeeded
	}
	if policy == never {
		return failed
	}
	return running // OnFailure with a failure
}

// TestPhases compares the phases of all combinations with the reference.
func TestPhases(t *testing.T) {
	initials := []doing{absent, unmade, unrun, runs, zero, three, loops}
	sides := []doing{absent, unmade, unrun, begins, runs, pauses, zero, three, loops, restarted}
	mains := []doing{unmade, unrun, runs, zero, three, loops, restarted, pauses}
	wrong := 0
	for _, policy := range []corev1.RestartPolicy{always, onFailure, never} {
		for _, initial := range initials {
			for _, side := range sides {
				for _, a := range mains {
					for _, b := range append([]doing{absent}, mains...) {
						if reachable := reachablePod(policy, initial, side, a, b); !reachable {
							continue
						}
						if !comparePhase(t, policy, initial, side, a, b) {
							if wrong++; wrong > 10 {
								t.Fatal("and so on")
							}
						}
					}
				}
			}
		}
	}
}

// reachablePod leaves out what cannot be: main containers that were made before the others had their turn, and what waits for
// a restart that will not be.
func reachablePod(policy corev1.RestartPolicy, initial, side, a, b doing) bool {
	turned := (initial == absent || initial == zero || initial == unmade) // unmade: its record is gone
	for _, d := range []doing{a, b} {
		if d != unmade && d != absent && !turned {
			return false
		}
		if policy == never && (d == loops || d == restarted) {
			return false
		}
	}
	if policy == never && initial == loops {
		return false
	}
	return true
}

func comparePhase(t *testing.T, policy corev1.RestartPolicy, initial, side, a, b doing) bool {
	t.Helper()
	var inits, states []string
	mainNames, mainDoing := "a", []doing{a}
	add := func(name string, d doing) {
		if spoken[d] != "" {
			states = append(states, name+"="+spoken[d])
		}
	}
	if initial != absent {
		inits = append(inits, "one")
		add("one", initial)
	}
	if side != absent {
		inits = append(inits, "side:side,startup")
		add("side", side)
	}
	add("a", a)
	if b != absent {
		mainNames, mainDoing = "a b", append(mainDoing, b)
		add("b", b)
	}
	s := staged(t, policy, strings.Join(inits, " "), mainNames).in(strings.Join(states, " "))
	if side == runs || side == restarted || side == pauses {
		s.says("side", "startup+")
	}
	r := pod.Next(s.Input)
	name := fmt.Sprintf("%s: initial %s, sidecar %s, main %s", policy, initial, side, mainDoing)
	ok := true
	if want := phaseOf(policy, initial, side, mainDoing); r.Status.Phase != want {
		t.Errorf("%s: %s, want %s\n%s", name, r.Status.Phase, want, show(r))
		ok = false
	}
	// Ready: everything that is meant to run does, and is started; whoever is done is not ready.
	ready := side == absent || side == runs || side == restarted
	for _, d := range mainDoing {
		ready = ready && (d == runs || d == restarted)
	}
	report := fleet.PodReport{Status: r.Status}
	if got := report.Condition(corev1.PodReady).Status == corev1.ConditionTrue; got != ready {
		t.Errorf("%s: ready %t, want %t", name, got, ready)
		ok = false
	}
	// Initialized: the initial one is done and the sidecar started, or a main container was made.
	initialized := (initial == absent || initial == zero) && (side == absent || side == runs || side == restarted || side == pauses)
	for _, d := range mainDoing {
		initialized = initialized || d != unmade
	}
	if got := report.Condition(corev1.PodInitialized).Status == corev1.ConditionTrue; got != initialized {
		t.Errorf("%s: initialized %t, want %t", name, got, initialized)
		ok = false
	}
	// A pod that is over does nothing but stop.
	if r.Status.Phase == succeeded || r.Status.Phase == failed {
		if len(r.Steps) > 0 {
			t.Errorf("%s: over, and yet %s", name, brief(r))
			ok = false
		}
	}
	return ok
}

// A new sandbox is filled again: what ran in the one before counts as having run, once the initial containers are through.
func TestPhaseInANewSandbox(t *testing.T) {
	for name, runs := range map[string]fleet.Past{
		"first runs": {"one": {Succeeded: true}, "web": {}},
		"restarts":   {"one": {Attempt: 2, Succeeded: true}, "web": {Attempt: 4}},
	} {
		for states, want := range map[string]corev1.PodPhase{
			"": pending, "one=running#3": pending, "one=1#3": pending, // an initial container is not finished
			"one=0#3":               running, // all ran, and policy will start it again
			"one=0#3 web=running#5": running,
		} {
			s := staged(t, always, "one", "web").in(states).before(runs)
			if got := pod.Next(s.Input).Status.Phase; got != want {
				t.Errorf("%s, then %q: %s, want %s", name, states, got, want)
			}
		}
	}
}

// at sets when a container started.
func at(ago time.Duration) func(*fleet.ObservedContainer) {
	return func(c *fleet.ObservedContainer) { c.Started = now.Add(-ago) }
}

// TestConditions: status, reason, message and time of Initialized, ContainersReady and Ready.
func TestConditions(t *testing.T) {
	type condition struct {
		Status          corev1.ConditionStatus
		Reason, Message string
		Since           time.Duration // ago
	}
	const birth = 2 * time.Hour
	yes := func(ago time.Duration) condition { return condition{"True", "", "", ago} }
	unready := func(ago time.Duration, names string) condition {
		return condition{"False", "ContainersNotReady", "containers with unready status: [" + names + "]", ago}
	}
	deleted := condition{"False", "PodDeleting", "", 0}
	verdict := func(s *scene, container string, kind pod.ProbeKind, v pod.Verdict, ago time.Duration) *scene {
		for _, c := range s.Observed.Containers {
			if c.Name == container {
				if s.Health == nil {
					s.Health = map[string]pod.Health{}
				}
				if s.Health[c.ID] == nil {
					s.Health[c.ID] = pod.Health{}
				}
				s.Health[c.ID][kind] = pod.Tally{Verdict: v, Since: now.Add(-ago)}
			}
		}
		return s
	}
	probed := func() *scene {
		return staged(t, always, "", "web:startup,readiness").box(fleet.Running).has("web", "i:1", fleet.Running, at(time.Minute))
	}
	plain := func(inits string) *scene { return staged(t, always, inits, "web").box(fleet.Running) }
	for _, test := range []struct {
		name                           string
		scene                          *scene
		initialized, containers, ready condition
	}{
		{"nothing there", staged(t, always, "", "web aux"), yes(birth), unready(birth, "web aux"), unready(birth, "web aux")},
		{"nothing there, with initial ones", staged(t, always, "one side:side", "web"),
			condition{"False", "ContainersNotInitialized", "containers with incomplete status: [one side]", birth}, unready(birth, "side web"), unready(birth, "side web")},
		{"one initial container is done", plain("one two").has("one", "i:1", fleet.Exited, ran(time.Hour, time.Minute)).has("two", "i:1", fleet.Running),
			condition{"False", "ContainersNotInitialized", "containers with incomplete status: [two]", birth}, unready(birth, "web"), unready(birth, "web")},
		{"initial containers are done", plain("one two").has("one", "i:1", fleet.Exited, ran(time.Hour, 50*time.Minute)).has("two", "i:1", fleet.Exited, ran(50*time.Minute, 40*time.Minute)),
			yes(40 * time.Minute), unready(birth, "web"), unready(birth, "web")},
		{"all runs", plain("one").has("one", "i:1", fleet.Exited, ran(time.Hour, 50*time.Minute)).has("web", "i:1", fleet.Running, at(30*time.Minute)),
			yes(50 * time.Minute), yes(30 * time.Minute), yes(30 * time.Minute)},
		{"all runs, and the records of initial ones are gone", plain("one").has("web", "i:1", fleet.Running, at(30*time.Minute)), yes(birth), yes(30 * time.Minute), yes(30 * time.Minute)},
		{"a sidecar was restarted", plain("side:side").has("web", "i:1", fleet.Running, at(30*time.Minute)).has("side", "i:1", fleet.Exited, ran(30*time.Minute, 20*time.Minute)).
			has("side", "i:1", fleet.Running, at(10*time.Minute), attempt(1, 0)), yes(birth), yes(10 * time.Minute), yes(10 * time.Minute)},
		{"a sidecar ended", plain("side:side").has("web", "i:1", fleet.Running, at(30*time.Minute)).has("side", "i:1", fleet.Exited, ran(30*time.Minute, time.Minute)),
			yes(birth), unready(time.Minute, "side"), unready(time.Minute, "side")},
		{"a sidecar is not ready", verdict(staged(t, always, "side:side,readiness", "web").in("side=running web=running"), "side", pod.Readiness, pod.Failed, 3*time.Second),
			yes(birth), unready(3*time.Second, "side"), unready(3*time.Second, "side")},

		{"not started yet", probed(), yes(birth), unready(birth, "web"), unready(birth, "web")},
		{"started and ready", verdict(verdict(probed(), "web", pod.Startup, pod.Passed, 40*time.Second), "web", pod.Readiness, pod.Passed, 20*time.Second),
			yes(birth), yes(20 * time.Second), yes(20 * time.Second)},
		{"ready before it was started", verdict(verdict(probed(), "web", pod.Startup, pod.Passed, 20*time.Second), "web", pod.Readiness, pod.Passed, 40*time.Second),
			yes(birth), yes(20 * time.Second), yes(20 * time.Second)},
		{"ready no more", verdict(verdict(probed(), "web", pod.Startup, pod.Passed, 40*time.Second), "web", pod.Readiness, pod.Failed, 5*time.Second),
			yes(birth), unready(5*time.Second, "web"), unready(5*time.Second, "web")},
		{"liveness says nothing about ready", verdict(staged(t, always, "", "web:liveness").box(fleet.Running).has("web", "i:1", fleet.Running, at(time.Minute)), "web", pod.Liveness, pod.Failed, time.Second),
			yes(birth), yes(time.Minute), yes(time.Minute)},
		{"restarted, not asked yet", staged(t, always, "", "web:readiness").box(fleet.Running).has("web", "i:1", fleet.Exited, ran(time.Hour, time.Minute)).
			has("web", "i:1", fleet.Running, at(50*time.Second), attempt(1, 0)), yes(birth), unready(time.Minute, "web"), unready(time.Minute, "web")},
		{"restarted without probes", plain("").has("web", "i:1", fleet.Exited, ran(time.Hour, time.Minute)).has("web", "i:1", fleet.Running, at(50*time.Second), attempt(1, 0)),
			yes(birth), yes(50 * time.Second), yes(50 * time.Second)},
		{"two, the later counts", staged(t, always, "", "web aux").box(fleet.Running).has("web", "i:1", fleet.Running, at(9*time.Minute)).has("aux", "i:1", fleet.Running, at(3*time.Minute)),
			yes(birth), yes(3 * time.Minute), yes(3 * time.Minute)},

		{"succeeded", staged(t, never, "", "web").box(fleet.Running).has("web", "i:1", fleet.Exited, ran(time.Hour, time.Minute)),
			condition{"True", "PodCompleted", "", birth}, condition{"False", "PodCompleted", "", time.Minute}, condition{"False", "PodCompleted", "", time.Minute}},
		{"failed", staged(t, never, "", "web").box(fleet.Running).has("web", "i:1", fleet.Exited, ran(time.Hour, time.Minute), code(1)),
			yes(birth), condition{"False", "PodFailed", "", time.Minute}, condition{"False", "PodFailed", "", time.Minute}},
		{"failed before it was initialized", staged(t, never, "one", "web").box(fleet.Running).has("one", "i:1", fleet.Exited, ran(time.Hour, time.Minute), code(1)),
			condition{"False", "ContainersNotInitialized", "containers with incomplete status: [one]", birth}, condition{"False", "PodFailed", "", birth}, condition{"False", "PodFailed", "", birth}},

		{"a gate that nobody opens", staged(t, always, "", "web", "readinessGates: [{conditionType: a.io/b}]").box(fleet.Running).has("web", "i:1", fleet.Running, at(time.Minute)),
			yes(birth), yes(time.Minute), condition{"False", "ReadinessGatesNotReady", `corresponding condition of pod readiness gate "a.io/b" does not exist.`, birth}},
		{"two gates", staged(t, always, "", "web", "readinessGates: [{conditionType: a}, {conditionType: b}]").box(fleet.Running).has("web", "i:1", fleet.Running, at(time.Minute)),
			yes(birth), yes(time.Minute), condition{"False", "ReadinessGatesNotReady", `corresponding condition of pod readiness gate "a" does not exist., corresponding condition of pod readiness gate "b" does not exist.`, birth}},
		{"a gate of a pod that is not ready", staged(t, always, "", "web", "readinessGates: [{conditionType: a}]").in(""), yes(birth), unready(birth, "web"), unready(birth, "web")},
		{"to go", plain("").has("web", "i:1", fleet.Running, at(time.Minute)).drains(0), yes(birth), yes(time.Minute), deleted},
		{"to go, and not ready", plain("").drains(0), yes(birth), unready(birth, "web"), deleted},
	} {
		t.Run(test.name, func(t *testing.T) {
			status := pod.Next(test.scene.Input).Status
			report := fleet.PodReport{Status: status}
			got := map[string]condition{}
			for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
				c := report.Condition(kind)
				got[string(kind)] = condition{c.Status, c.Reason, c.Message, now.Sub(c.LastTransitionTime.Truncate(time.Second))}
			}
			want := map[string]condition{"Initialized": test.initialized, "ContainersReady": test.containers, "Ready": test.ready}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			scheduled := report.Condition(corev1.PodScheduled)
			if scheduled.Status != corev1.ConditionTrue || !scheduled.LastTransitionTime.Time.Equal(born) {
				t.Errorf("scheduled %+v", scheduled)
			}
		})
	}
}

// A condition's time is when its status changed: what fails after it was not there yet has not turned anything.
func TestConditionsTurnOnlyWhenTheyTurn(t *testing.T) {
	since := func(s *scene) time.Time {
		return (&fleet.PodReport{Status: pod.Next(s.Input).Status}).Condition(corev1.ContainersReady).LastTransitionTime.Time
	}
	of := func() *scene {
		return staged(t, always, "", "web:startup,readiness").box(fleet.Running).has("web", "i:1", fleet.Running, at(time.Minute))
	}
	before := since(of())
	for name, health := range map[string]pod.Health{
		"it is started":              {pod.Startup: {Verdict: pod.Passed, Since: now.Add(-20 * time.Second)}},
		"it is started, never ready": {pod.Startup: {Verdict: pod.Passed, Since: now.Add(-20 * time.Second)}, pod.Readiness: {Verdict: pod.Failed}},
		"it does not start":          {pod.Startup: {Verdict: pod.Failed}},
	} {
		s := of()
		s.Health = map[string]pod.Health{"c0": health}
		if got := since(s); !got.Equal(before) {
			t.Errorf("%s: not ready since %s, before that since %s", name, got.Format(time.TimeOnly), before.Format(time.TimeOnly))
		}
	}
}

// TestWaiting: why a container does not run, in Kubernetes' words.
func TestWaiting(t *testing.T) {
	plain := func() *scene { return staged(t, always, "", "web aux") }
	initial := func() *scene { return staged(t, always, "one two side:side", "web") }
	tried := func(s *scene, container string, verb fleet.Verb, failures int, f pod.Failure) *scene {
		return s.tried(container, pod.Attempt{Verb: verb, Image: "i:1", Failures: failures, Last: now, Failure: f})
	}
	no := pod.Failure{Text: "no"}
	for _, test := range []struct {
		name  string
		scene *scene
		want  string
	}{
		{"nothing there", plain(), "web ContainerCreating, aux ContainerCreating"},
		{"one runs", plain().in("aux=running"), "web ContainerCreating"},
		{"created", plain().in("web=created aux=running"), "web ContainerCreating"},
		{"initial ones come first", initial(), "one PodInitializing, two PodInitializing, side PodInitializing, web PodInitializing"},
		{"an initial one runs", initial().in("one=running"), "two PodInitializing, side PodInitializing, web PodInitializing"},
		{"initial ones are done", initial().in("one=0 two=0 side=running"), "web PodInitializing"},
		{"initialized, and one is missing", staged(t, always, "one", "web aux").in("one=0 web=running"), "aux ContainerCreating"},
		{"a crash loop", plain().in("web=1#1 aux=running"), "web CrashLoopBackOff back-off 10s restarting failed container web"},
		{"a crash loop, long", plain().in("web=1#5 aux=running"), "web CrashLoopBackOff back-off 2m40s restarting failed container web"},
		{"a crash loop of an initial one", initial().in("one=1#2"), "one CrashLoopBackOff back-off 20s restarting failed container one, two PodInitializing, side PodInitializing, web PodInitializing"},
		{"a crash loop of a sidecar", staged(t, never, "side:side", "web").in("side=0#1 web=running"), "side CrashLoopBackOff back-off 10s restarting failed container side"},
		{"ended for good", staged(t, never, "", "web aux").in("web=1 aux=running"), ""},
		{"a pull failed", tried(plain(), "web", fleet.Pull, 1, no), "web ErrImagePull no, aux ContainerCreating"},
		{"a pull failed again", tried(plain(), "web", fleet.Pull, 2, no), "web ImagePullBackOff no, aux ContainerCreating"},
		{"a pull failed for a restart", tried(plain().in("web=1 aux=running"), "web", fleet.Pull, 1, no), "web ErrImagePull no"},
		{"a pull of an initial one failed", tried(initial(), "one", fleet.Pull, 1, no), "one ErrImagePull no, two PodInitializing, side PodInitializing, web PodInitializing"},
		{"never pulled", tried(plain(), "web", fleet.Pull, 5, pod.Failure{Text: "not there", Reason: pod.NeverPull}), "web ErrImageNeverPull not there, aux ContainerCreating"},
		{"a bad name", tried(plain(), "web", fleet.Pull, 5, pod.Failure{Text: "bad", Reason: pod.InvalidName}), "web InvalidImageName bad, aux ContainerCreating"},
		{"a user that may be root", tried(plain(), "web", fleet.Start, 2, pod.Failure{Text: "root", Reason: pod.ConfigError}), "web CreateContainerConfigError root, aux ContainerCreating"},
		{"no such program", tried(plain(), "web", fleet.Start, 2, no), "web RunContainerError no, aux ContainerCreating"},
		{"config is missing", staged(t, always, "", "web").edit(func(in *pod.Input) {
			in.Spec.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}}}}
		}), "web CreateContainerConfigError ConfigMap shop/gone is not there"},
		{"config is missing for an initial one", staged(t, always, "one", "web").edit(func(in *pod.Input) {
			in.Spec.Spec.InitContainers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}}}}
		}), "one CreateContainerConfigError Secret shop/gone is not there, web PodInitializing"},
		{"the sandbox cannot be made", tried(plain(), "", fleet.Sandbox, 1, no), "web ContainerCreating no, aux ContainerCreating no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status := pod.Next(test.scene.Input).Status
			var list []string
			for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses) {
				if w := c.State.Waiting; w != nil {
					list = append(list, strings.TrimSpace(c.Name+" "+w.Reason+" "+w.Message))
				}
			}
			if got := strings.Join(list, ", "); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// In a pod with initial containers all wait for its initialization, whatever keeps that from beginning.
func TestWaitingForTheSandbox(t *testing.T) {
	s := staged(t, always, "one", "web")
	s.Blocked = "host port 80/TCP is used by pod shop/old"
	status := pod.Next(s.Input).Status
	for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses) {
		if w := c.State.Waiting; w == nil || w.Reason != "PodInitializing" || !strings.Contains(w.Message, "host port") {
			t.Errorf("%s waits: %+v", c.Name, w)
		}
	}
}

// TestEnds: how containers ended, now and before.
func TestEnds(t *testing.T) {
	said := func(message string, oom bool) func(*fleet.ObservedContainer) {
		return func(c *fleet.ObservedContainer) { c.Message, c.OutOfMemory, c.ImageID = message, oom, "sha256:1" }
	}
	s := staged(t, onFailure, "one side:side", "web aux").box(fleet.Running).
		has("one", "i:1", fleet.Exited, said("all set", false), ran(time.Hour, 50*time.Minute)).
		has("side", "i:1", fleet.Exited, code(137), said("", true), attempt(2, 0), ran(time.Hour, 40*time.Minute)).
		has("side", "i:1", fleet.Running, attempt(3, 0), at(40*time.Minute)).
		has("web", "i:1", fleet.Exited, code(3), said("out of cheese\n", false), attempt(4, 80*time.Second)).
		has("aux", "i:0", fleet.Exited, code(0))
	status := pod.Next(s.Input).Status
	type state struct {
		State, Before, Message string
		Restarts               int32
		Ready, Started         bool
		Image, ID              string
	}
	got := map[string]state{}
	for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses) {
		x := state{State: stateText(c.State), Restarts: c.RestartCount, Ready: c.Ready, Started: *c.Started, Image: c.Image, ID: c.ContainerID}
		if c.State.Terminated != nil {
			x.Message = c.State.Terminated.Message
		}
		if c.LastTerminationState.Terminated != nil {
			x.Before, x.Message = stateText(c.LastTerminationState), c.LastTerminationState.Terminated.Message
		}
		got[c.Name] = x
	}
	want := map[string]state{
		"one":  {State: "terminated 0 Completed", Message: "all set", Ready: true, Image: "i:1", ID: "podman://c0"},
		"side": {State: "running", Before: "terminated 137 OOMKilled", Restarts: 3, Ready: true, Started: true, Image: "i:1", ID: "podman://c2"},
		"web": {State: "waiting CrashLoopBackOff back-off 1m20s restarting failed container web", Before: "terminated 3 Error", Message: "out of cheese\n",
			Restarts: 4, Image: "i:1", ID: "podman://c3"},
		"aux": {State: "terminated 0 Completed", Image: "i:0", ID: "podman://c4"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r := pod.Next(staged(t, always, "", "web").box(fleet.Running).has("web", "i:1", fleet.Exited, code(137), said("", true), attempt(1, 10*time.Second)).Input); len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "out of memory") {
		t.Errorf("notes %q", r.Notes)
	}
}

// What succeeded in the sandbox before is shown as done, and is nobody's container any more.
func TestDoneBefore(t *testing.T) {
	s := staged(t, onFailure, "", "web aux").in("aux=running#2").before(fleet.Past{"web": {Attempt: 3, Succeeded: true}, "aux": {Attempt: 1}})
	c := pod.Next(s.Input).Status.ContainerStatuses[0]
	if c.State.Terminated == nil || c.State.Terminated.ExitCode != 0 || c.RestartCount != 3 || c.Ready || c.ContainerID != "" {
		t.Errorf("status %+v", c)
	}
	if c.State.Terminated.ContainerID != "" {
		t.Errorf("it ended as %q, which is nobody", c.State.Terminated.ContainerID)
	}
	s = staged(t, always, "", "web").in("").before(fleet.Past{"web": {Attempt: 3}})
	if c := pod.Next(s.Input).Status.ContainerStatuses[0]; c.State.Waiting == nil || c.RestartCount != 3 {
		t.Errorf("status %+v", c)
	}
}

// TestLostStatus: after a reboot, before anything was done about it.
func TestLostStatus(t *testing.T) {
	s := staged(t, never, "", "web").box(fleet.Exited).has("web", "i:1", fleet.Created, ran(time.Hour, 0), attempt(2, 0))
	before := s.Observed.Containers[0]
	status := pod.Next(s.Input).Status
	end := status.ContainerStatuses[0].State.Terminated
	if end == nil || end.ExitCode != 137 || end.Reason != "Error" || end.Message == "" || !end.FinishedAt.Time.Equal(now.Add(-time.Hour)) {
		t.Errorf("it ended %+v", end)
	}
	if d := cmp.Diff(before, s.Observed.Containers[0]); d != "" {
		t.Errorf("what was observed was changed: %s", d)
	}
	never := staged(t, always, "", "web").box(fleet.Exited).in("web=created")
	if c := pod.Next(never.Input).Status.ContainerStatuses[0]; c.State.Waiting == nil {
		t.Errorf("it never ran, and yet %+v", c.State)
	}
}

func TestAddresses(t *testing.T) {
	for _, test := range []struct {
		name  string
		scene *scene
		want  []string
	}{
		{"nothing there", staged(t, always, "", "web"), nil},
		{"none yet", staged(t, always, "", "web").in(""), nil},
		{"two families", staged(t, always, "", "web").in("").addressed("10.42.0.7", "fd00::7"), []string{"10.42.0.7", "fd00::7"}},
		{"the node's", staged(t, always, "", "web", "hostNetwork: true").in(""), []string{"10.0.0.11"}},
		{"the node's, and nothing there", staged(t, always, "", "web", "hostNetwork: true"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			status := pod.Next(test.scene.Input).Status
			var got []string
			for _, ip := range status.PodIPs {
				got = append(got, ip.IP)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
			if len(got) > 0 && status.PodIP != got[0] || len(got) == 0 && status.PodIP != "" || status.HostIP != "10.0.0.11" {
				t.Errorf("pod %s, host %s", status.PodIP, status.HostIP)
			}
			for _, a := range got {
				if _, err := netip.ParseAddr(a); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestDeadlineStatus: in Kubernetes' words.
func TestDeadlineStatus(t *testing.T) {
	status := pod.Next(staged(t, always, "", "web", "activeDeadlineSeconds: 60").in("web=143").Input).Status
	if status.Phase != failed || status.Reason != "DeadlineExceeded" || !strings.Contains(status.Message, "longer than the specified deadline") {
		t.Errorf("%s %q %q", status.Phase, status.Reason, status.Message)
	}
	report := fleet.PodReport{Status: status}
	if c := report.Condition(corev1.PodReady); c.Status != corev1.ConditionFalse || c.Reason != "PodFailed" || !report.Terminal() {
		t.Errorf("ready %+v", c)
	}
	status = pod.Next(staged(t, never, "", "web", "activeDeadlineSeconds: 60").box(fleet.Running).has("web", "i:1", fleet.Exited, code(1), ran(2*time.Hour, 119*time.Minute+30*time.Second)).Input).Status
	if status.Phase != failed || status.Reason != "" || status.Message != "" {
		t.Errorf("it failed by itself, and yet %q %q", status.Reason, status.Message)
	}
}

// TestReadySinceIsNotTooEarly: Podman tells by the second when a container started. What has to be ready for a while is not taken
// to have been so before it was: a container that ends within a second never was for a second.
func TestReadySinceIsNotTooEarly(t *testing.T) {
	for name, c := range map[string]struct{ started, since time.Time }{
		"to the second": {now.Add(-time.Minute), now.Add(-time.Minute + time.Second - time.Nanosecond)},
		"exactly":       {now.Add(-time.Minute + time.Millisecond), now.Add(-time.Minute + time.Millisecond)},
	} {
		s := staged(t, corev1.RestartPolicyAlways, "", "web").box(fleet.Running).has("web", "i:1", fleet.Running, at(time.Minute))
		s.Observed.Containers[0].Started = c.started
		report := &fleet.PodReport{Status: pod.Next(s.Input).Status}
		if since, ready := report.ReadySince(); !ready || !since.Equal(c.since) {
			t.Errorf("%s: ready %t since %s, want %s", name, ready, since, c.since)
		}
	}
}
