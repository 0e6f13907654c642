package pod

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// phase sums up the states of a pod's containers (semantics 2.3).
func (in *Input) phase(s corev1.PodStatus) corev1.PodPhase {
	policy := in.Spec.Spec.RestartPolicy
	initial := in.countInitial(s.InitContainerStatuses)
	main := in.countMain(s.ContainerStatuses)
	// A pod whose last processes are being stopped has not come to its end.
	busy := in.Observed != nil && slices.ContainsFunc(in.Observed.Containers, fleet.ObservedContainer.Lives) && sandboxOf(in.Observed) == alive
	ended := main.total > 0 && main.ended == main.total
	switch {
	case in.overdue():
		if busy {
			return corev1.PodRunning
		}
		return corev1.PodFailed
	case initial.failed && policy == corev1.RestartPolicyNever:
		if busy {
			return corev1.PodPending
		}
		return corev1.PodFailed
	case initial.pending && !in.madeMain(), main.begun < main.total, main.total == 0:
		return corev1.PodPending
	case policy == corev1.RestartPolicyAlways, !ended, busy:
		return corev1.PodRunning
	case main.failed == 0 && in.ended():
		return corev1.PodSucceeded
	case policy == corev1.RestartPolicyNever:
		return corev1.PodFailed
	default: // those that failed are about to run again
		return corev1.PodRunning
	}
}

// ended reports whether the pod came to its end by itself.
func (in *Input) ended() bool {
	_, ended := in.end()
	return ended
}

type initialCount struct {
	pending bool // one is not done, or a sidecar not started
	failed  bool // one failed and does not run now
}

func (in *Input) countInitial(list []corev1.ContainerStatus) (n initialCount) {
	units := in.units()
	for i := range list {
		s := &list[i]
		switch {
		case units[i].role == sidecar:
			n.pending = n.pending || !*s.Started
		case s.State.Terminated != nil && s.State.Terminated.ExitCode == 0:
		case s.State.Terminated != nil:
			n.failed = true
		default:
			n.pending = true
		}
	}
	return n
}

// mainCount is about containers that are not initial.
type mainCount struct {
	total  int
	begun  int // ran at least once
	ended  int
	failed int // ended with another code than 0
}

func (in *Input) countMain(list []corev1.ContainerStatus) mainCount {
	n := mainCount{total: len(list)}
	for i := range list {
		s := &list[i]
		if _, ran := in.pastRun(s.Name); ran || s.State.Waiting == nil || s.LastTerminationState.Terminated != nil || s.RestartCount > 0 {
			n.begun++
		}
		if s.State.Terminated != nil {
			n.ended++
			if s.State.Terminated.ExitCode != 0 {
				n.failed++
			}
		}
	}
	return n
}
