package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// container decides what one container of a pod that should run needs now that it is its turn.
func (n *next) container(u unit, box sandbox) []fleet.Step {
	past := n.generations(u.Name)
	if len(past) == 0 {
		return n.start(u.Container, n.before(u.Container))
	}
	now := past[0]
	if box != alive {
		if u.role == main && now.State == fleet.Exited && !n.restarts(u, now) {
			return nil // it ended well, and nobody asks it to do so again
		}
		if last := n.lastRun(u.Name); last != nil {
			now = *last
		}
		if now.Started.IsZero() { // it was made and never ran
			return n.start(u.Container, n.before(u.Container))
		}
		return n.start(u.Container, &now)
	}

	var steps []fleet.Step
	if len(past) > 2 && n.again(u.Name, fleet.Remove) { // one dead predecessor is kept for its log
		for _, old := range past[2:] {
			steps = append(steps, fleet.Step{Verb: fleet.Remove, Container: u.Name, ID: old.ID, Why: "more than one before"})
		}
	}
	switch now.State {
	case fleet.Running:
		return append(steps, n.tend(u.Container, now, past)...)
	case fleet.Paused:
		if !n.again(u.Name, fleet.Unpause) {
			return steps
		}
		return append(steps, fleet.Step{Verb: fleet.Unpause, Container: u.Name, ID: now.ID, Why: "it was paused"})
	case fleet.Exited:
		return append(steps, n.restart(u, now, past)...)
	case fleet.Stopping, fleet.Orphaned:
		// Somebody stops it, or its monitor died. A second stop waits for the first; what is left then only goes by
		// force. What runs only once may do so unwatched.
		why := "it is stopping"
		if now.State == fleet.Orphaned {
			why = "Podman's monitor of it was killed"
		}
		start := n.start(u.Container, &now)
		if len(start) == 0 || now.State == fleet.Orphaned && u.policy == corev1.RestartPolicyNever {
			return steps
		}
		steps = append(steps,
			fleet.Step{Verb: fleet.Stop, Container: u.Name, ID: now.ID, Grace: n.fullGrace(), Why: why},
			fleet.Step{Verb: fleet.Remove, Container: u.Name, ID: now.ID})
		return append(steps, start...)
	default: // created and never started, or a state from which only removal leads on
		start := n.start(u.Container, predecessor(past))
		if len(start) == 0 {
			return steps
		}
		steps = append(steps, fleet.Step{Verb: fleet.Remove, Container: u.Name, ID: now.ID, Why: "it is " + string(now.State)})
		return append(steps, start...)
	}
}

// before is the last run of a container in a sandbox that is no more; nil when there was none.
func (n *next) before(c *corev1.Container) *fleet.ObservedContainer {
	run, ran := n.pastRun(c.Name)
	if !ran {
		return nil
	}
	return &fleet.ObservedContainer{Name: c.Name, Hash: fleet.HashContainer(c), Attempt: run.Attempt, Backoff: run.Backoff}
}

func predecessor(past []fleet.ObservedContainer) *fleet.ObservedContainer {
	if len(past) < 2 {
		return nil
	}
	return &past[1]
}

// tend looks after a running container: its image, its health, its name, its limits.
func (n *next) tend(c *corev1.Container, now fleet.ObservedContainer, past []fleet.ObservedContainer) []fleet.Step {
	if now.Hash != fleet.HashContainer(c) {
		return n.replace(c, now, past)
	}
	if why, grace := unwell(c, n.health(now)); why != "" && n.again(c.Name, fleet.Stop) {
		n.note("container %s is killed: %s", c.Name, why)
		return []fleet.Step{{Verb: fleet.Stop, Container: c.Name, ID: now.ID, Grace: seconds(grace, n.fullGrace()), Why: why}}
	}
	if name := fleet.PodmanContainer(n.Slot.Pod, c.Name); now.PodmanName != name && !n.Taken[name] && n.again(c.Name, fleet.Rename) {
		return []fleet.Step{{Verb: fleet.Rename, Container: c.Name, ID: now.ID, Why: "it was renamed to " + now.PodmanName}}
	}
	if want := LimitsOf(c); now.Limits != nil && !now.Limits.Meets(want) && n.again(c.Name, fleet.Limit) {
		return []fleet.Step{{Verb: fleet.Limit, Container: c.Name, ID: now.ID, Why: "its limits were changed"}}
	}
	return nil
}

// replace puts a container of another image in a running one's place. Its image comes first.
func (n *next) replace(c *corev1.Container, now fleet.ObservedContainer, past []fleet.ObservedContainer) []fleet.Step {
	var steps []fleet.Step
	for _, s := range n.start(c, nil) {
		if s.Verb == fleet.Start {
			steps = append(steps, fleet.Step{Verb: fleet.Stop, Container: c.Name, ID: now.ID, Grace: n.fullGrace(), Why: "its image changed"})
			steps = append(steps, retire(c, now, past)...)
			s.Attempt, s.Why = now.Attempt+1, ""
		}
		steps = append(steps, s)
	}
	return steps
}

// restarts reports whether a container that ended is to run again (semantics 2.2). One that its probe had killed
// failed, whatever it says of itself.
func (in *Input) restarts(u unit, c fleet.ObservedContainer) bool {
	switch u.policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return in.failed(u, c)
	default:
		return true
	}
}

// failed reports whether a container that ended did not succeed.
func (in *Input) failed(u unit, c fleet.ObservedContainer) bool {
	why, _ := unwell(u.Container, in.health(c))
	return c.ExitCode != 0 || why != ""
}

// backoffOf is the wait that an ended container imposes on its successor. A run much longer than the
// longest wait clears the series; so does another image.
func (in *Input) backoffOf(c *corev1.Container, ended fleet.ObservedContainer) time.Duration {
	end := ended.Finished
	if sandboxOf(in.Observed) == broken && !end.After(ended.Started) { // nobody saw its end
		end = in.Now
	}
	if !ended.Started.IsZero() && end.Sub(ended.Started) > 2*CrashBackoff.Max || ended.Hash != fleet.HashContainer(c) {
		return 0
	}
	return ended.Backoff
}

func (n *next) restart(u unit, ended fleet.ObservedContainer, past []fleet.ObservedContainer) []fleet.Step {
	if !n.restarts(u, ended) {
		return nil
	}
	c := u.Container
	wait := n.backoffOf(c, ended)
	if due := ended.Finished.Add(wait); n.Now.Before(due) {
		n.wake(due)
		n.wait(c.Name, "CrashLoopBackOff", "back-off %s restarting failed container %s", wait, c.Name)
		n.note("container %s ended with code %d%s, not restarted before %s", c.Name, ended.ExitCode, n.cause(c.Name, ended), clock(due))
		return nil
	}
	start := n.start(c, &ended)
	if len(start) == 0 {
		return nil
	}
	return append(retire(c, ended, past), start...)
}

// cause says in brackets what is known of why a container ended; it may be empty.
func (n *next) cause(name string, ended fleet.ObservedContainer) string {
	switch hook := n.Attempts[name]; {
	case ended.OutOfMemory:
		return " (out of memory)"
	case hook.Verb == fleet.Hook:
		return " (" + hook.Text + ")"
	default:
		return ""
	}
}

// retire keeps an ended container as the previous one and lets go of the one before.
func retire(c *corev1.Container, ended fleet.ObservedContainer, past []fleet.ObservedContainer) []fleet.Step {
	var steps []fleet.Step
	if old := predecessor(past); old != nil {
		steps = append(steps, fleet.Step{Verb: fleet.Remove, Container: c.Name, ID: old.ID, Why: "the run before the last"})
	}
	return append(steps, fleet.Step{Verb: fleet.Retire, Container: c.Name, ID: ended.ID, Attempt: ended.Attempt})
}

// start makes a container, the successor of one that ended or the first. It is empty while something it needs is
// missing or a failure is being waited out.
func (n *next) start(c *corev1.Container, ended *fleet.ObservedContainer) []fleet.Step {
	// What failed with another image says nothing about this one; what failed on the way to a start does.
	onTheWay := []fleet.Verb{fleet.Stop, fleet.Retire, fleet.Remove}
	if a, failed := n.Attempts[c.Name]; failed && (a.Image == c.Image || slices.Contains(onTheWay, a.Verb)) && !n.tried(c.Name) {
		return nil
	}
	if _, err := Invoke(n.Spec, c, n.Config, n.Place); err != nil {
		n.result.Late = true
		n.wait(c.Name, ConfigError, "%v", err)
		n.note("container %s cannot be made: %v", c.Name, err)
		return nil
	}
	start := fleet.Step{Verb: fleet.Start, Container: c.Name, Image: c.Image}
	if ended != nil {
		start.Attempt = ended.Attempt + 1
		start.Backoff = CrashBackoff.next(n.backoffOf(c, *ended))
		if ended.State == fleet.Exited {
			start.Why = "it ended"
		}
	}
	if ended == nil && n.Observed != nil && (len(n.Spec.Spec.InitContainers) == 0 || n.initialized()) {
		start.Why = "it is missing"
	}
	steps := []fleet.Step{{Verb: fleet.Pull, Container: c.Name, Image: c.Image, Policy: c.ImagePullPolicy}, start}
	if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		steps = append(steps, fleet.Step{Verb: fleet.Hook, Container: c.Name})
	}
	return steps
}
