// Package pod decides what one pod needs next: a pure function of its slot, its spec, what was observed of
// it, what was tried before, and now. It also resolves what a container is made from (environment,
// arguments, volume files), so that the one who acts and the one who decides agree.
//
// It never acts, reads no clock and keeps nothing. All that it must remember over a restart of the agent
// (attempts, backoff) is in labels of the containers it looks at; only failures that left nothing behind in
// Podman are handed in as Attempts.
package pod

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Backoff is a series of waits: Start, then doubling up to Max.
type Backoff struct{ Start, Max time.Duration }

// The series of semantics 2.2 and 2.5, and a quicker one for what a machine refuses now and may allow soon.
var (
	CrashBackoff = Backoff{Start: 10 * time.Second, Max: 300 * time.Second}
	ImageBackoff = Backoff{Start: 10 * time.Second, Max: 300 * time.Second}
	hostBackoff  = Backoff{Start: time.Second, Max: 2 * time.Minute}
)

// after is the wait after the nth failure in a row.
func (b Backoff) after(failures int) time.Duration {
	wait := b.Start
	for ; failures > 1 && wait < b.Max; failures-- {
		wait *= 2
	}
	return min(wait, b.Max)
}

// next is the wait that follows a wait.
func (b Backoff) next(wait time.Duration) time.Duration {
	if wait <= 0 {
		return b.Start
	}
	return min(2*wait, b.Max)
}

// Attempt is what failed the last times and left no trace in Podman.
type Attempt struct {
	Verb     fleet.Verb
	Image    string // for Pull and Start: what it was tried with
	Failures int    // in a row
	Last     time.Time
	Text     string // what went wrong, for people
	Conflict bool   // a name or port was taken: whoever has it may let go soon
}

// NotBefore is when it may be tried again.
func (a Attempt) NotBefore() time.Time {
	series := hostBackoff
	switch {
	case a.Conflict:
	case a.Verb == fleet.Pull:
		series = ImageBackoff
	case a.Verb == fleet.Start:
		series = CrashBackoff
	}
	return a.Last.Add(series.after(a.Failures))
}

// Tries are what failed lately of one pod, by container, "" for the pod as a whole.
type Tries map[string]Attempt

// Failed returns the tries after a step failed. It counts up when the same was tried before.
func (t Tries) Failed(s fleet.Step, text string, conflict bool, now time.Time) Tries {
	a := Attempt{Verb: s.Verb, Image: s.Image, Failures: 1, Last: now, Text: text, Conflict: conflict}
	if before := t[s.Container]; before.Verb == s.Verb && before.Image == s.Image {
		a.Failures = before.Failures + 1
	}
	return t.with(s.Container, a)
}

// Worked returns the tries after a step went well. What failed before is forgotten when that very thing works,
// or what it was for.
func (t Tries) Worked(s fleet.Step, now time.Time) Tries {
	before, failed := t[s.Container]
	switch {
	case s.Verb == fleet.Limit:
		// Limits that do not show where they are read would be put back for ever: each time is waited for longer.
		return t.with(s.Container, Attempt{Verb: s.Verb, Failures: before.Failures + 1, Last: now})
	case failed && (before.Verb == s.Verb || s.Verb == fleet.Start || s.Verb == fleet.Sandbox):
		t = maps.Clone(t)
		delete(t, s.Container)
	}
	return t
}

func (t Tries) with(container string, a Attempt) Tries {
	t = maps.Clone(t)
	if t == nil {
		t = Tries{}
	}
	t[container] = a
	return t
}

// Input is all that Next looks at.
type Input struct {
	Slot     fleet.Slot
	Spec     *corev1.Pod        // nil when the slot's template cannot be had
	Observed *fleet.ObservedPod // nil when Podman has no such pod
	Volumes  fleet.Volumes      // what was written for the pod; nil when it has no folder
	Config   Config
	Attempts Tries
	Taken    map[string]bool    // names in Podman that are not ours
	Blocked  string             // why the pod may not start yet; empty when it may
	Next     []corev1.Container // what a draining pod makes room for
	Busy     bool               // a chain for it is running
	Address  string             // of the node
	Now      time.Time
}

// Result is what Next decided.
type Result struct {
	Steps  []fleet.Step
	Status corev1.PodStatus
	Gone   bool // nothing of the pod is left, and nothing should be
	Late   bool // something of it is not as wanted and is waited out, though all may look well
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

// Next decides the steps that bring the pod nearer to its slot's goal, and says how the pod is.
func Next(in Input) Result {
	n := &next{Input: in}
	switch {
	case in.Slot.Goal == fleet.Drain:
		n.drain()
	case in.Spec == nil:
		n.note("its template %s (of %s) is not to be found on this node: it runs on as it is, but cannot be started anew",
			in.Slot.Want, in.Slot.From.Short())
	default:
		n.run()
	}
	n.result.Status = status(in, n.waiting)
	if in.Busy {
		n.result.Steps = nil
	}
	return n.result
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
	box := sandboxOf(n.Observed)
	var starts []fleet.Step
	for i := range n.Spec.Spec.Containers {
		starts = append(starts, n.container(&n.Spec.Spec.Containers[i], box)...)
	}
	starting := slices.ContainsFunc(starts, func(s fleet.Step) bool { return s.Verb == fleet.Start })
	if box != alive && !starting {
		return // no sandbox for its own sake
	}
	content, err := volumesWanted(n.Spec, n.Config)
	if err != nil {
		n.result.Late = true
		n.holdAll(err.Error())
		n.note("%v", err)
		if box != alive {
			return
		}
		starts, starting = withoutStarts(starts), false
	}
	stale := err == nil && len(n.Spec.Spec.Volumes) > 0 && (starting || !covers(n.Volumes, content))
	if box != alive && !n.mayBuild() {
		return
	}
	if box == broken {
		n.step(fleet.Step{Verb: fleet.Teardown, ID: n.Observed.ID, Why: "its infra container died"})
	}
	if box == alive && n.Observed.Infra == fleet.Paused {
		if n.tried("") {
			n.step(fleet.Step{Verb: fleet.Unpause, ID: n.Observed.ID, Why: "the whole pod was paused"})
		}
		return
	}
	switch {
	case !stale:
	case n.tried(""):
		n.step(fleet.Step{Verb: fleet.Volume, Content: content})
	default:
		starts = withoutStarts(starts)
	}
	if box != alive {
		n.step(fleet.Step{Verb: fleet.Sandbox})
	}
	for _, s := range starts {
		n.step(s)
	}
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
	for i := range n.Spec.Spec.Containers {
		names = append(names, fleet.PodmanContainer(n.Slot.Pod, n.Spec.Spec.Containers[i].Name))
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
		n.note("%s failed %d times, not tried again before %s: %s", a.Verb, a.Failures, again, a.Text)
		return false
	}
	reason := "RunContainerError"
	if a.Verb == fleet.Pull {
		reason = "ImagePullBackOff"
	}
	n.wait(container, reason, "%s", a.Text)
	n.note("container %s: %s failed %d times, not tried again before %s: %s", container, a.Verb, a.Failures, again, a.Text)
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
	for i := range n.Spec.Spec.Containers {
		n.wait(n.Spec.Spec.Containers[i].Name, "ContainerCreating", "%s", text)
	}
}

// generations are the containers in Podman that stand or stood for one container, newest first.
func generations(o *fleet.ObservedPod, name string) []fleet.ObservedContainer {
	if o == nil {
		return nil
	}
	var list []fleet.ObservedContainer
	for _, c := range o.Containers {
		if c.Name == name {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b fleet.ObservedContainer) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
	return list
}

// drain: the pod should stop within its grace period and be removed.
func (n *next) drain() {
	if n.Observed == nil {
		switch {
		case n.Volumes != nil && n.tried(""):
			n.step(fleet.Step{Verb: fleet.Clean})
		case n.Volumes != nil:
		case !n.Busy:
			n.result.Gone = true
		}
		return
	}
	switch n.Attempts[""].Verb {
	case fleet.Stop, fleet.Teardown, fleet.Clean: // what kept it from starting does not keep it from going
		if !n.tried("") {
			return
		}
	}
	n.fetchSuccessors()
	for _, c := range n.Observed.Containers {
		if c.State == fleet.Paused {
			n.step(fleet.Step{Verb: fleet.Unpause, Container: c.Name, ID: c.ID, Why: "a frozen process cannot stop"})
		}
	}
	if slices.ContainsFunc(n.Observed.Containers, func(c fleet.ObservedContainer) bool {
		// One that is stopping was told to by an agent before us: its grace goes on.
		return c.State == fleet.Running || c.State == fleet.Paused || c.State == fleet.Stopping
	}) {
		n.step(fleet.Step{Verb: fleet.Stop, ID: n.Observed.ID, Grace: n.grace()})
	}
	n.step(fleet.Step{Verb: fleet.Teardown, ID: n.Observed.ID})
	n.step(fleet.Step{Verb: fleet.Clean})
}

// fetchSuccessors pulls the images of what the pod makes room for. One that cannot be had holds nobody up:
// Kubernetes would have stopped the pod without asking.
func (n *next) fetchSuccessors() {
	for i := range n.Next {
		c := &n.Next[i]
		if a, failed := n.Attempts[c.Name]; failed && a.Verb == fleet.Pull && a.Image == c.Image {
			continue
		}
		if c.ImagePullPolicy != corev1.PullNever {
			n.step(fleet.Step{
				Verb: fleet.Pull, Container: c.Name, Image: c.Image, Policy: corev1.PullIfNotPresent,
				Why: "before the pod makes room for it",
			})
		}
	}
}

// leastGrace is what a process gets to end by itself, however late it is.
const leastGrace = 2 * time.Second

// grace is what is left of the pod's grace period. A pod that waited for its successor's image has all of
// it: it was not told to stop before.
func (n *next) grace() time.Duration {
	grace := 30 * time.Second
	if n.Spec != nil && n.Spec.Spec.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*n.Spec.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	if grace <= 0 {
		return time.Second // forced: Kubernetes' effective minimum
	}
	if len(n.Slot.Next) > 0 {
		return grace
	}
	left := grace - n.Now.Sub(n.Slot.Drained)
	return max(min(left, grace), leastGrace).Round(time.Second)
}
