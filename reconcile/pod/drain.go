package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

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
	n.stopAll(n.grace(), "")
	n.step(fleet.Step{Verb: fleet.Teardown, ID: n.Observed.ID})
	n.step(fleet.Step{Verb: fleet.Clean})
}

// stopAll stops all that runs: sidecars after everything else, the last one first (semantics 2.8).
func (n *next) stopAll(grace time.Duration, why string) {
	for _, c := range n.Observed.Containers {
		if c.State == fleet.Paused {
			n.step(fleet.Step{Verb: fleet.Unpause, Container: c.Name, ID: c.ID, Why: "a frozen process cannot stop"})
		}
	}
	if slices.ContainsFunc(n.Observed.Containers, fleet.ObservedContainer.Lives) {
		n.step(fleet.Step{Verb: fleet.Stop, ID: n.Observed.ID, Grace: grace, Last: n.sidecars(), Why: why})
	}
}

// sidecars are the names of those that run, the last one first.
func (n *next) sidecars() []string {
	if n.Spec == nil {
		return nil
	}
	var names []string
	for _, u := range slices.Backward(n.units()) {
		if list := n.generations(u.Name); u.role == sidecar && len(list) > 0 && list[0].Lives() {
			names = append(names, u.Name)
		}
	}
	return names
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

// LeastGrace is what a process gets to end by itself, however late it is (semantics 2.8).
const LeastGrace = 2 * time.Second

// fullGrace is the pod's grace period.
func (n *next) fullGrace() time.Duration {
	if n.Spec == nil {
		return 30 * time.Second
	}
	return seconds(n.Spec.Spec.TerminationGracePeriodSeconds, 30*time.Second)
}

// seconds is a grace period as written, but for the least there is.
func seconds(written *int64, otherwise time.Duration) time.Duration {
	if written == nil {
		return otherwise
	}
	return max(time.Duration(*written)*time.Second, LeastGrace)
}

// grace is what is left of a draining pod's grace period. A pod that waited for its successor's image has all of
// it: it was not told to stop before.
func (n *next) grace() time.Duration {
	grace := n.fullGrace()
	if len(n.Slot.Next) > 0 {
		return grace
	}
	left := grace - n.Now.Sub(n.Slot.Drained)
	return max(min(left, grace), LeastGrace).Round(time.Second)
}
