package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// role is what a container is in its pod.
type role int

const (
	initial role = iota // runs to its end before the next begins
	sidecar             // an initial one that goes on running
	main
)

// unit is a container in its role.
type unit struct {
	*corev1.Container
	role   role
	policy corev1.RestartPolicy // when it is started again (semantics 2.1)
}

// units are the pod's containers: the initial ones in their order, then the others in theirs.
func (in *Input) units() []unit {
	if in.all == nil {
		return in.listUnits()
	}
	return in.all
}

func (in *Input) listUnits() []unit {
	spec := &in.Spec.Spec
	list := make([]unit, 0, len(spec.InitContainers)+len(spec.Containers))
	for i := range spec.InitContainers {
		u := unit{&spec.InitContainers[i], initial, corev1.RestartPolicyOnFailure}
		switch {
		case isSidecar(u.Container):
			u.role, u.policy = sidecar, corev1.RestartPolicyAlways
		case spec.RestartPolicy == corev1.RestartPolicyNever:
			u.policy = corev1.RestartPolicyNever
		}
		list = append(list, u)
	}
	for i := range spec.Containers {
		list = append(list, unit{&spec.Containers[i], main, spec.RestartPolicy})
	}
	return list
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// skipsWhatSucceeded reports whether a container that ended well stays so when the sandbox is made anew.
func (in *Input) skipsWhatSucceeded(name string) bool {
	return in.Spec != nil && in.Spec.Spec.RestartPolicy == corev1.RestartPolicyOnFailure &&
		slices.ContainsFunc(in.Spec.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
}

// initialized reports whether the initial containers had their turn: once one of the others was made, nothing
// about them is asked again (semantics 2.1).
func (in *Input) initialized() bool {
	return sandboxOf(in.Observed) == alive && in.madeMain()
}

// madeMain reports whether one of the containers that come after the initial ones was made in the sandbox there is,
// whatever that is like now.
func (in *Input) madeMain() bool {
	return slices.ContainsFunc(in.units(), func(u unit) bool { return u.role == main && in.made(u) })
}

// made reports whether a container was made in the sandbox there is.
func (in *Input) made(u unit) bool {
	list := in.generations(u.Name)
	return len(list) > 0 && list[0].ID != ""
}

// stage decides on the containers whose turn it is.
func (n *next) stage(box sandbox) []fleet.Step {
	units := n.units()
	past := n.initialized()
	// A container that was made says that those before it had their turn, even if they were removed since.
	reached := 0
	if box == alive {
		for i, u := range units {
			if u.role != main && n.made(u) {
				reached = i
			}
		}
	}
	var steps []fleet.Step
	for i, u := range units {
		switch {
		case u.role == initial && (past || i < reached):
			continue
		case u.role == main:
			steps = append(steps, n.container(u, box)...)
			continue
		}
		steps = append(steps, n.container(u, box)...)
		if u.role == sidecar && i < reached { // the one that runs now must not be kept from its end
			continue
		}
		if !past && !n.passed(u, box) {
			break
		}
	}
	return steps
}

// passed reports whether an initial container does not keep the next one waiting: it ended well, or it is a
// sidecar that is started.
func (n *next) passed(u unit, box sandbox) bool {
	list := n.generations(u.Name)
	if box != alive || len(list) == 0 {
		return false
	}
	if u.role == sidecar {
		return list[0].State == fleet.Running && started(u.Container, n.health(list[0]))
	}
	return list[0].State == fleet.Exited && list[0].ExitCode == 0
}

// deadline is when the pod's time is up, if it has a limit.
func (in *Input) deadline() (time.Time, bool) {
	if in.Spec == nil || in.Spec.Spec.ActiveDeadlineSeconds == nil {
		return time.Time{}, false
	}
	return in.Slot.Created.Add(time.Duration(*in.Spec.Spec.ActiveDeadlineSeconds) * time.Second), true
}

// overdue reports whether the pod's time was up before it was done.
func (in *Input) overdue() bool {
	deadline, set := in.deadline()
	if !set || in.Now.Before(deadline) {
		return false
	}
	end, ended := in.end()
	return !ended || !end.Before(deadline.Truncate(time.Second)) // Podman's clock has whole seconds
}

// over reports whether nothing of the pod is to be started any more.
func (in *Input) over() bool {
	_, ended := in.end()
	return ended || in.overdue() || in.ranOnce()
}

// ranOnce reports whether the pod lost its sandbox and does not get another: one that runs once does not start over
// (semantics 2.1).
func (in *Input) ranOnce() bool {
	return in.Spec.Spec.RestartPolicy == corev1.RestartPolicyNever && sandboxOf(in.Observed) == broken && len(in.Observed.Containers) > 0
}

// end is when the pod ended by itself, and whether it did: all containers are done for good, or an initial one
// failed for good. Sidecars do not count.
func (in *Input) end() (last time.Time, ended bool) {
	if in.Observed == nil {
		return time.Time{}, false
	}
	done := true
	for _, u := range in.units() {
		list := in.generations(u.Name)
		over := len(list) > 0 && list[0].State == fleet.Exited && !in.restarts(u, list[0])
		if over && u.role != sidecar {
			last = later(last, list[0].Finished)
		}
		switch {
		case u.role == initial && over && list[0].ExitCode != 0:
			return last, true
		case u.role == main:
			done = done && over
		}
	}
	return last, done
}

// settle stops what still runs of a pod that is over: sidecars, or everything when its time was up.
func (n *next) settle() {
	if n.Observed == nil || !slices.ContainsFunc(n.Observed.Containers, fleet.ObservedContainer.Lives) || !n.tried("") {
		return
	}
	why := "all that it was for has ended"
	if n.overdue() {
		why = "its activeDeadlineSeconds are over"
	}
	n.stopAll(n.fullGrace(), why)
}

// allProbes are the probes that should be running now.
func (n *next) allProbes() []Probe {
	if n.Spec == nil || sandboxOf(n.Observed) != alive {
		return nil
	}
	var list []Probe
	for _, u := range n.units() {
		if past := n.generations(u.Name); len(past) > 0 {
			list = append(list, n.probes(u.Container, past[0])...)
		}
	}
	return list
}
