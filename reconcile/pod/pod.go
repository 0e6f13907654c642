// Package pod decides what one pod needs next: a pure function of its slot, its spec, what was observed of
// it, what its probes say, what was tried before, and now. It also resolves what a container is made from
// (environment, arguments, volume files, user), so that the one who acts and the one who decides agree.
//
// It never acts, reads no clock and keeps nothing. All that it must remember over a restart of the agent
// (attempts, backoff) is in labels of the containers it looks at; only failures that left nothing behind in
// Podman, and what probes said, are handed in.
//
// A pod goes through these states, none of which is written down anywhere: each is read off what is there.
//
//	no sandbox, or a broken one   → make it anew; everything in it starts over
//	initial containers            → one at a time, each to its end; sidecars among them until they are started
//	containers                    → all of them, in their order; sidecars are kept running
//	over                          → nothing is started any more; sidecars are stopped
//	draining                      → hooks, containers, sidecars in reverse; then sandbox and folders go
package pod

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Input is all that Next looks at.
type Input struct {
	Slot     fleet.Slot
	Spec     *corev1.Pod        // nil when the slot's template cannot be had
	Observed *fleet.ObservedPod // nil when Podman has no such pod
	Health   map[string]Health  // what probes say, by Podman's ID of the container
	Volumes  fleet.Volumes      // what was written for the pod; nil when it has no folder
	Past     fleet.Past         // what ran in a sandbox that is gone, while there is no other
	Claims   []fleet.ObservedClaim
	Config   Config
	Attempts Tries
	Taken    map[string]bool    // names in Podman that are not ours
	Blocked  string             // why the pod may not start yet; empty when it may
	Next     []corev1.Container // what a draining pod makes room for
	Busy     bool               // a chain for it is running
	Hooks    []string           // containers whose postStart hook is a step of that chain
	Place    Place
	Now      time.Time

	// What is asked for again and again of Spec and Observed, found out once: the containers of the spec, and beside
	// each what stands or stood for it. Nil until then.
	all  []unit
	runs [][]fleet.ObservedContainer
}

// Result is what Next decided.
type Result struct {
	Steps  []fleet.Step
	Status corev1.PodStatus
	Gone   bool // nothing of the pod is left, and nothing should be
	Late   bool // something of it is not as wanted and is waited out, though all may look well
	Probes []Probe
	Notes  []string
	WakeAt time.Time // zero: nothing here changes by time alone
}

// sandbox is what there is of a pod's namespaces.
type sandbox int

const (
	absent sandbox = iota // Podman has no such pod
	broken                // there is a pod, but its infra container is dead: all must start over
	alive
)

func sandboxOf(o *fleet.ObservedPod) sandbox {
	switch {
	case o == nil:
		return absent
	case o.Infra == fleet.Running, o.Infra == fleet.Paused:
		return alive
	default:
		return broken
	}
}

// Next decides the steps that bring the pod nearer to its slot's goal, says which probes should be running, and how
// the pod is.
func Next(in Input) Result {
	n := &next{Input: in}
	n.Observed = asEnded(in.Observed)
	n.find()
	switch {
	case in.Slot.Goal == fleet.Drain:
		n.drain()
	case in.Spec == nil:
		n.note("its template %s (of %s) is not to be found on this node: it runs on as it is, but cannot be started anew",
			in.Slot.Want, in.Slot.From.Short())
	default:
		n.run()
	}
	n.result.Status = status(n.Input, n.waiting)
	n.result.Probes = n.allProbes()
	if in.Busy {
		n.result.Steps = nil
	}
	return n.result
}

// asEnded is a pod as it is after its machine went down under it: Podman 4 shows containers that ran as created
// again, Podman 5 as ended well at no time: neither knows how they ended. Kubernetes says 137 of such.
func asEnded(o *fleet.ObservedPod) *fleet.ObservedPod {
	lost := func(c fleet.ObservedContainer) bool {
		return !c.Started.IsZero() && (c.State == fleet.Created || c.State == fleet.Exited && c.Finished.Before(c.Started))
	}
	if sandboxOf(o) != broken || !slices.ContainsFunc(o.Containers, lost) {
		return o
	}
	ended := *o
	ended.Containers = slices.Clone(o.Containers)
	for i := range ended.Containers {
		if c := &ended.Containers[i]; lost(*c) {
			c.State, c.ExitCode, c.Finished = fleet.Exited, fleet.LostCode, c.Started
			c.Message = "how it ended is not known: the machine went down"
		}
	}
	return &ended
}

// next gathers a Result.
type next struct {
	Input
	result  Result
	waiting map[string]corev1.ContainerStateWaiting // why a container does not run
}

func (n *next) note(format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ") // errors that were joined
	n.result.Notes = append(n.result.Notes, text)
}

func (n *next) wake(at time.Time) { n.result.WakeAt = fleet.Earliest(n.result.WakeAt, at) }

func (n *next) wait(container, reason, format string, args ...any) {
	if n.waiting == nil {
		n.waiting = map[string]corev1.ContainerStateWaiting{}
	}
	n.waiting[container] = corev1.ContainerStateWaiting{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (n *next) step(s fleet.Step) {
	s.Pod, s.UID = n.Slot.Pod, n.Slot.UID
	n.result.Steps = append(n.result.Steps, s)
}

// run: the pod should run.
func (n *next) run() {
	if deadline, set := n.deadline(); set && n.Now.Before(deadline) {
		n.wake(deadline)
	}
	if n.over() {
		n.settle()
		return
	}
	box := sandboxOf(n.Observed)
	n.noteUnready()
	starts := n.stage(box)
	starting := slices.ContainsFunc(starts, func(s fleet.Step) bool { return s.Verb == fleet.Start })
	if box != alive && !starting {
		return // no sandbox for its own sake
	}
	content, err := n.volumesWanted()
	if err != nil {
		n.result.Late = true
		n.holdAll(err.Error())
		n.note("%v", err)
		if box != alive {
			return
		}
		starts = withoutStarts(starts)
	}
	// They are made ready with the sandbox; after that only what is written may have to change, unless the folder is lost.
	stale := err == nil && len(n.Spec.Spec.Volumes) > 0 && (box != alive || n.Volumes == nil || !covers(n.Volumes, content))
	if box != alive && !n.mayBuild() {
		return
	}
	if box == alive && n.Observed.Infra == fleet.Paused {
		if n.tried("") {
			n.step(fleet.Step{Verb: fleet.Unpause, ID: n.Observed.ID, Why: "the whole pod was paused"})
		}
		return
	}
	past := n.Past
	if box == broken {
		past = n.past()
		n.step(fleet.Step{Verb: fleet.Teardown, ID: n.Observed.ID, Why: "its infra container died"})
	}
	switch {
	case !stale:
	case n.tried(""):
		n.step(fleet.Step{Verb: fleet.Volume, Content: content})
	default:
		starts = withoutStarts(starts)
	}
	if box != alive {
		n.step(fleet.Step{Verb: fleet.Sandbox, Past: past})
	}
	for _, s := range starts {
		n.step(s)
	}
}

// past is what a new sandbox should remember of the containers in the one it replaces.
func (n *next) past() fleet.Past {
	var past fleet.Past
	for _, u := range n.units() {
		run, ran := n.pastRun(u.Name)
		if last := n.lastRun(u.Name); last != nil {
			run, ran = fleet.PastRun{
				Attempt: last.Attempt, Backoff: n.backoffOf(u.Container, *last),
				Succeeded: last.State == fleet.Exited && !n.failed(u, *last),
			}, true
		}
		if ran {
			if past == nil {
				past = fleet.Past{}
			}
			past[u.Name] = run
		}
	}
	return past
}

// pastRun is what is known of a container from before the sandbox there is.
func (in *Input) pastRun(name string) (fleet.PastRun, bool) {
	past := in.Past
	if in.Observed != nil {
		past = in.Observed.Past
	}
	run, ran := past[name]
	return run, ran
}

// lastRun is the newest container that ran in this sandbox for one of the spec; nil when none did.
func (in *Input) lastRun(name string) *fleet.ObservedContainer {
	for _, c := range in.generations(name) {
		if c.ID != "" && !c.Started.IsZero() {
			return &c
		}
	}
	return nil
}

// withoutStarts leaves out all steps on containers that would be started in the end: a container that cannot
// be started must not be stopped for it either.
func withoutStarts(steps []fleet.Step) []fleet.Step {
	starting := map[string]bool{}
	for _, s := range steps {
		starting[s.Container] = starting[s.Container] || s.Verb == fleet.Start
	}
	return slices.DeleteFunc(steps, func(s fleet.Step) bool { return starting[s.Container] })
}

// covers reports whether all wanted contents lie there. What else lies there does not matter.
func covers(have, want fleet.Volumes) bool {
	for name, hash := range want {
		if have[name] != hash {
			return false
		}
	}
	return true
}

// mayBuild reports whether a new sandbox may be made now, and notes why not.
func (n *next) mayBuild() bool {
	if n.Blocked != "" {
		n.holdAll(n.Blocked)
		n.note("%s", n.Blocked)
		return false
	}
	names := []string{fleet.PodmanPod(n.Slot.Pod)}
	for _, u := range n.units() {
		names = append(names, fleet.PodmanContainer(n.Slot.Pod, u.Name))
	}
	for _, name := range names {
		if n.Taken[name] {
			n.holdAll("the name " + name + " is taken")
			n.note("the name %s is taken in Podman by something that is not Skerry's: rename or remove that, and the pod starts", name)
			return false
		}
	}
	return n.tried("")
}

// tried reports whether nothing failed so lately that the pod (or container) must wait, and arranges to be
// asked again when it is over.
func (n *next) tried(container string) bool {
	a, failed := n.Attempts[container]
	if !failed || !n.Now.Before(a.NotBefore()) {
		return true
	}
	n.wake(a.NotBefore())
	n.result.Late = true
	if a.Text == "" { // it did not fail: it did not help
		return false
	}
	again := clock(a.NotBefore())
	if container == "" {
		n.holdAll(a.Text)
		n.note("%s failed %s, not tried again before %s: %s", a.Verb, times(a.Failures), again, a.Text)
		return false
	}
	n.wait(container, a.reason(), "%s", a.Text)
	n.note("container %s: %s failed %s, not tried again before %s: %s", container, a.Verb, times(a.Failures), again, a.Text)
	return false
}

// clock is a time as notes say it: a countdown would make every note a new one.
func clock(t time.Time) string { return t.UTC().Format("15:04:05 MST") }

// again reports whether a verb may be tried on a container: it did not fail so lately that it must wait.
func (n *next) again(container string, verb fleet.Verb) bool {
	return n.Attempts[container].Verb != verb || n.tried(container)
}

// holdAll says of all containers why they do not run yet.
func (n *next) holdAll(text string) {
	if n.Spec == nil {
		return // a pod that drains without its template
	}
	for _, u := range n.units() {
		if len(n.generations(u.Name)) == 0 {
			n.wait(u.Name, n.unmade(), "%s", text)
		}
	}
}

// generations are the containers in Podman that stand or stood for one container, newest first. One that
// had succeeded before the sandbox was made anew, and is not to run again for that, is there without an ID.
func (in *Input) generations(name string) []fleet.ObservedContainer {
	for i := range in.all {
		if in.all[i].Name == name {
			return in.runs[i]
		}
	}
	return in.sorted(name)
}

// find fills in all and runs. Spec and Observed are not changed after that.
func (in *Input) find() {
	if in.Spec == nil {
		return
	}
	in.all = in.listUnits()
	in.runs = make([][]fleet.ObservedContainer, len(in.all))
	for i, u := range in.all {
		in.runs[i] = in.sorted(u.Name)
	}
}

func (in *Input) sorted(name string) []fleet.ObservedContainer {
	var list []fleet.ObservedContainer
	if in.Observed != nil {
		for _, c := range in.Observed.Containers {
			if c.Name == name {
				list = append(list, c)
			}
		}
	}
	slices.SortFunc(list, func(a, b fleet.ObservedContainer) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
	if run, _ := in.pastRun(name); len(list) == 0 && run.Succeeded && in.skipsWhatSucceeded(name) {
		list = append(list, fleet.ObservedContainer{
			Name: name, State: fleet.Exited, Attempt: run.Attempt, Started: in.Slot.Created, Finished: in.Slot.Created,
		})
	}
	return list
}

// times is how people say a number of them.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
