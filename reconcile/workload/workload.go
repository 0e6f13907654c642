// Package workload decides which pods should exist: how many each set of pods has and which of them go
// first. It knows Deployments, ReplicaSets, DaemonSets, StatefulSets and Jobs as Kubernetes runs them (semantics sections
// 3 to 7).
//
// Everything here is pure: sets and counts in, sets out. Decide runs it until nothing changes any more,
// which equals Kubernetes' one step a sync, because what a step counts (specs, and what nodes reported)
// does not change by deciding.
package workload

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Member is one pod of a set: its slot and what its node reports of it.
type Member struct {
	Slot   fleet.Slot
	Report *fleet.PodReport // nil while no node has said anything of it
}

// Over reports whether a pod has ended for good. One whose end was counted has, whether or not its node says so now.
func (m Member) Over() bool { return m.Slot.Counted || (m.Report != nil && m.Report.Terminal()) }

// Counts are what a set has, as far as nodes have reported.
type Counts struct {
	Active    int32 // pods that should run and have not ended
	Ready     int32
	Available int32
	Silent    int32 // of the active ones those that have a node which has said nothing of them
	Present   int32 // pods that may still run, also those being removed
	// Restarts is how often the container of a pod that should run was restarted that was most often, of those whose last end is
	// known: when the machine was switched off, nobody crashed.
	Restarts int32
	// Trouble says of the first pod that is not ready or was restarted, by name, how its container ended or why it waits.
	Trouble string
	// WakeAt is when a ready pod becomes available; zero when none will by time alone.
	WakeAt time.Time
}

// Count counts the members of one set. A pod is available when it has been ready for minReady.
func Count(members []Member, minReady time.Duration, now time.Time) Counts {
	var c Counts
	for _, m := range members {
		terminal := m.Report != nil && m.Report.Terminal()
		if !terminal {
			c.Present++
		}
		if m.Slot.Goal != fleet.Run || terminal {
			continue
		}
		c.Active++
		if m.Report == nil {
			if m.Slot.Node != "" {
				c.Silent++
			}
			continue
		}
		since, ready := m.Report.ReadySince()
		if n := crashes(m); n > c.Restarts || (!ready && c.Trouble == "") {
			c.Restarts, c.Trouble = max(c.Restarts, n), trouble(m)
		}
		if !ready {
			continue
		}
		c.Ready++
		if due := since.Add(minReady); minReady == 0 || !now.Before(due) {
			c.Available++
		} else {
			c.WakeAt = fleet.Earliest(c.WakeAt, due)
		}
	}
	return c
}

// Victims returns the n members that Kubernetes would remove first (semantics 3), the first victim first.
// Only members that should run and have not ended are considered. Among ready ones those that are not yet
// available go first: Kubernetes leaves that to chance, and a rollout must not lose one it counts on.
func Victims(members []Member, n int, minReady time.Duration, now time.Time) []Member {
	var active []Member
	onNode := map[fleet.NodeName]int{}
	for _, m := range members {
		if m.Slot.Goal == fleet.Run && (m.Report == nil || !m.Report.Terminal()) {
			active = append(active, m)
			if _, ready := readySince(m); ready {
				onNode[m.Slot.Node]++
			}
		}
	}
	newest := time.Time{}
	for _, m := range active {
		if since, ready := readySince(m); ready && since.After(newest) {
			newest = since
		}
	}
	slices.SortFunc(active, func(a, b Member) int {
		aSince, aReady := readySince(a)
		bSince, bReady := readySince(b)
		return cmp.Or(
			first(a.Slot.Node == "", b.Slot.Node == ""),
			cmp.Compare(phaseRank(a), phaseRank(b)),
			first(!aReady, !bReady),
			first(aReady && now.Sub(aSince) < minReady, bReady && now.Sub(bSince) < minReady),
			-cmp.Compare(onNode[a.Slot.Node], onNode[b.Slot.Node]),
			cmp.Compare(bucket(newest, aSince), bucket(newest, bSince)),
			-cmp.Compare(restarts(a), restarts(b)),
			-a.Slot.Created.Compare(b.Slot.Created),
			cmp.Compare(a.Slot.UID, b.Slot.UID),
		)
	})
	return active[:min(n, len(active))]
}

// trouble says what is known of a pod that is not well.
func trouble(m Member) string {
	for _, c := range slices.Concat(m.Report.Status.InitContainerStatuses, m.Report.Status.ContainerStatuses) {
		for _, t := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if t != nil && t.ExitCode != 0 {
				return fmt.Sprintf("pod %s: container %s ended with code %d", m.Slot.Pod.Name, c.Name, t.ExitCode)
			}
		}
		if w := c.State.Waiting; w != nil {
			return fmt.Sprintf("pod %s: container %s: %s", m.Slot.Pod.Name, c.Name, w.Reason)
		}
	}
	return "pod " + m.Slot.Pod.Name
}

func readySince(m Member) (time.Time, bool) {
	if m.Report == nil {
		return time.Time{}, false
	}
	return m.Report.ReadySince()
}

// first puts the one that is true before the other.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

func phaseRank(m Member) int {
	switch {
	case m.Report == nil || m.Report.Status.Phase == corev1.PodPending || m.Report.Status.Phase == "":
		return 0
	case m.Report.Status.Phase == corev1.PodUnknown:
		return 1
	default:
		return 2
	}
}

// bucket groups pods that have been ready for about as long, logarithmically, so that ties among old pods
// are broken by something else than their age.
func bucket(newest, since time.Time) int {
	if since.IsZero() {
		return 0
	}
	return int(math.Log2(float64(newest.Sub(since)/time.Second) + 1))
}

func crashes(m Member) int32 {
	var most int32
	for _, c := range m.Report.Status.ContainerStatuses {
		if c.LastTerminationState.Terminated != nil {
			most = max(most, c.RestartCount)
		}
	}
	return most
}

func restarts(m Member) int32 {
	var most int32
	if m.Report != nil {
		for _, c := range m.Report.Status.ContainerStatuses {
			most = max(most, c.RestartCount)
		}
	}
	return most
}
