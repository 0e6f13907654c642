package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// container decides what one container of a pod that should run needs.
func (n *next) container(c *corev1.Container, box sandbox) []fleet.Step {
	past := generations(n.Observed, c.Name)
	if len(past) == 0 {
		return n.start(c, nil)
	}
	now := past[0]
	if box != alive {
		if now.State == fleet.Exited && !restarts(n.Spec.Spec.RestartPolicy, now) {
			return nil
		}
		if n.Spec.Spec.RestartPolicy == corev1.RestartPolicyNever && !now.Started.IsZero() {
			return nil // it ran; what is left of it runs on
		}
		return n.start(c, &now)
	}

	var steps []fleet.Step
	if len(past) > 2 && n.again(c.Name, fleet.Remove) { // one dead predecessor is kept for its log
		for _, old := range past[2:] {
			steps = append(steps, fleet.Step{Verb: fleet.Remove, Container: c.Name, ID: old.ID, Why: "more than one before"})
		}
	}
	switch now.State {
	case fleet.Running:
		return append(steps, n.tend(c, now, past)...)
	case fleet.Paused:
		if !n.again(c.Name, fleet.Unpause) {
			return steps
		}
		return append(steps, fleet.Step{Verb: fleet.Unpause, Container: c.Name, ID: now.ID, Why: "it was paused"})
	case fleet.Exited:
		return append(steps, n.restart(c, now, past)...)
	case fleet.Stopping:
		// Somebody stops it, or its monitor died meanwhile. A second stop waits for the first; what is left then
		// only goes by force.
		start := n.start(c, &now)
		if len(start) == 0 {
			return steps
		}
		steps = append(steps,
			fleet.Step{Verb: fleet.Stop, Container: c.Name, ID: now.ID, Grace: n.fullGrace(), Why: "it is stopping"},
			fleet.Step{Verb: fleet.Remove, Container: c.Name, ID: now.ID})
		return append(steps, start...)
	default: // created and never started, or a state from which only removal leads on
		start := n.start(c, predecessor(past))
		if len(start) == 0 {
			return steps
		}
		steps = append(steps, fleet.Step{Verb: fleet.Remove, Container: c.Name, ID: now.ID, Why: "it is " + string(now.State)})
		return append(steps, start...)
	}
}

func predecessor(past []fleet.ObservedContainer) *fleet.ObservedContainer {
	if len(past) < 2 {
		return nil
	}
	return &past[1]
}

// tend looks after a running container: its image, its name, its limits.
func (n *next) tend(c *corev1.Container, now fleet.ObservedContainer, past []fleet.ObservedContainer) []fleet.Step {
	if now.Hash != fleet.HashContainer(c) {
		start := n.start(c, nil)
		if len(start) == 0 {
			return nil
		}
		start[len(start)-1].Attempt, start[len(start)-1].Why = now.Attempt+1, ""
		steps := append(start[:len(start)-1:len(start)-1], // its image comes first
			fleet.Step{Verb: fleet.Stop, Container: c.Name, ID: now.ID, Grace: n.fullGrace(), Why: "its image changed"})
		steps = append(steps, retire(c, now, past)...)
		return append(steps, start[len(start)-1])
	}
	if name := fleet.PodmanContainer(n.Slot.Pod, c.Name); now.PodmanName != name && !n.Taken[name] && n.again(c.Name, fleet.Rename) {
		return []fleet.Step{{Verb: fleet.Rename, Container: c.Name, ID: now.ID, Why: "it was renamed to " + now.PodmanName}}
	}
	if want := LimitsOf(c); now.Limits != nil && !now.Limits.Meets(want) && n.again(c.Name, fleet.Limit) {
		return []fleet.Step{{Verb: fleet.Limit, Container: c.Name, ID: now.ID, Why: "its limits were changed"}}
	}
	return nil
}

func (n *next) fullGrace() time.Duration {
	if s := n.Spec.Spec.TerminationGracePeriodSeconds; s != nil {
		return max(time.Duration(*s)*time.Second, time.Second)
	}
	return 30 * time.Second
}

// restarts reports whether policy wants a container that ended to run again (semantics 2.2).
func restarts(policy corev1.RestartPolicy, c fleet.ObservedContainer) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return c.ExitCode != 0
	default:
		return true
	}
}

// backoffOf is the wait that an ended container imposes on its successor. A run much longer than the
// longest wait clears the series; so does another image.
func backoffOf(c *corev1.Container, ended fleet.ObservedContainer) time.Duration {
	if ended.Finished.Sub(ended.Started) > 2*CrashBackoff.Max || ended.Hash != fleet.HashContainer(c) {
		return 0
	}
	return ended.Backoff
}

func (n *next) restart(c *corev1.Container, ended fleet.ObservedContainer, past []fleet.ObservedContainer) []fleet.Step {
	if !restarts(n.Spec.Spec.RestartPolicy, ended) {
		return nil
	}
	wait := backoffOf(c, ended)
	if due := ended.Finished.Add(wait); n.Now.Before(due) {
		n.wake(due)
		n.wait(c.Name, "CrashLoopBackOff", "back-off %s restarting failed container %s", wait, c.Name)
		n.note("container %s ended with code %d, not restarted before %s", c.Name, ended.ExitCode, clock(due))
		return nil
	}
	start := n.start(c, &ended)
	if len(start) == 0 {
		return nil
	}
	return append(retire(c, ended, past), start...)
}

// retire keeps an ended container as the previous one and lets go of the one before.
func retire(c *corev1.Container, ended fleet.ObservedContainer, past []fleet.ObservedContainer) []fleet.Step {
	var steps []fleet.Step
	if old := predecessor(past); old != nil {
		steps = append(steps, fleet.Step{Verb: fleet.Remove, Container: c.Name, ID: old.ID, Why: "the run before the last"})
	}
	return append(steps, fleet.Step{Verb: fleet.Retire, Container: c.Name, ID: ended.ID, Attempt: ended.Attempt})
}

// start makes a container, the successor of one that ended or the first; the start is its last step. It is
// empty while something it needs is missing or a failure is being waited out.
func (n *next) start(c *corev1.Container, ended *fleet.ObservedContainer) []fleet.Step {
	// What failed with another image says nothing about this one; what failed on the way to a start does.
	onTheWay := []fleet.Verb{fleet.Stop, fleet.Retire, fleet.Remove}
	if a, failed := n.Attempts[c.Name]; failed && (a.Image == c.Image || slices.Contains(onTheWay, a.Verb)) && !n.tried(c.Name) {
		return nil
	}
	if _, err := Invoke(n.Spec, c, n.Config, Place{}); err != nil {
		n.result.Late = true
		n.wait(c.Name, "CreateContainerConfigError", "%v", err)
		n.note("container %s cannot be made: %v", c.Name, err)
		return nil
	}
	start := fleet.Step{Verb: fleet.Start, Container: c.Name, Image: c.Image}
	if ended != nil {
		start.Attempt = ended.Attempt + 1
		start.Backoff = CrashBackoff.next(backoffOf(c, *ended))
		if ended.State == fleet.Exited {
			start.Why = "it ended"
		}
	}
	if ended == nil && n.Observed != nil {
		start.Why = "it is missing"
	}
	return []fleet.Step{{Verb: fleet.Pull, Container: c.Name, Image: c.Image, Policy: c.ImagePullPolicy}, start}
}

// LimitsOf are the cgroup numbers of a container (semantics 2.9).
func LimitsOf(c *corev1.Container) fleet.Limits {
	var l fleet.Limits
	if memory, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
		l.Memory = memory.Value()
	}
	if cpu, ok := c.Resources.Limits[corev1.ResourceCPU]; ok && !cpu.IsZero() {
		l.CPUQuota = max(cpu.MilliValue()*100, 1000)
	}
	request := c.Resources.Requests[corev1.ResourceCPU]
	if _, asked := c.Resources.Requests[corev1.ResourceCPU]; !asked {
		request = c.Resources.Limits[corev1.ResourceCPU]
	}
	l.Shares = uint64(max(request.MilliValue()*1024/1000, 2))
	return l
}
