package workload

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Ordered is the input and the outcome of a StatefulSet, which Object is: Order changes what it changes in copies of its own.
type Ordered struct {
	Revised
	// Taken reports whether a pod of that ordinal exists or is being removed, whoever has it: its name is not free.
	Taken func(ordinal int32) bool

	Place []Ordinal // pods to make, in order
	Drain []string  // UIDs of pods to remove
}

// Ordinal is a pod of a StatefulSet and the revision to make it from.
type Ordinal struct {
	Index int32
	Set   fleet.ObjectID
}

// Order does what the StatefulSet controller does at a sync (semantics section 6).
func Order(o Ordered) Ordered {
	s := o.Object.Value.(*appsv1.StatefulSet)
	onDelete := s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
	o.settle(func() { o.pass(s) }, onDelete, func() fleet.ObjectID { return o.Rollout.Current })
	o.trim(s.Spec.RevisionHistoryLimit)
	return o
}

// ordered is one look at a StatefulSet.
type ordered struct {
	*Ordered
	spec            *appsv1.StatefulSetSpec
	first, last     int32 // ordinals: last is one beyond
	partition       int32 // pods from this ordinal on are updated
	update, current *fleet.Set
	pods            map[int32]Member
	surplus         []Member // beyond the wanted ordinals, highest first
	going           map[string]bool
}

func (o *Ordered) pass(s *appsv1.StatefulSet) {
	o.Place, o.Drain = nil, nil
	w := &ordered{Ordered: o, spec: &s.Spec, pods: map[int32]Member{}, going: map[string]bool{}}
	if s.Spec.Ordinals != nil {
		w.first = s.Spec.Ordinals.Start
	}
	w.last = w.first + *s.Spec.Replicas
	w.partition = w.first
	if u := s.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		w.partition += *u.Partition
	}
	w.sort()
	w.revisions()
	if w.update == nil {
		return // it may not begin
	}
	if w.fill() && w.shrink() && s.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType {
		w.roll()
	}
	w.progress()
}

// sort puts each pod where it belongs. Of two that bear one name the older one stays.
func (w *ordered) sort() {
	members := slices.SortedFunc(slices.Values(w.Members), func(a, b Member) int {
		return cmp.Or(a.Slot.Created.Compare(b.Slot.Created), cmp.Compare(a.Slot.UID, b.Slot.UID))
	})
	for _, m := range members {
		if m.Slot.Goal != fleet.Run {
			w.going[m.Slot.UID] = true
		}
		i := w.ordinal(m)
		if i < w.first || i >= w.last {
			w.surplus = append(w.surplus, m)
			continue
		}
		before, double := w.pods[i]
		switch {
		case !double:
			w.pods[i] = m
		case w.going[before.Slot.UID]: // it has the name until it is gone
		default:
			w.drain(m)
		}
	}
	slices.SortStableFunc(w.surplus, func(a, b Member) int { return -cmp.Compare(w.ordinal(a), w.ordinal(b)) })
}

// ordinal is a pod's; one without is beyond all others.
func (w *ordered) ordinal(m Member) int32 {
	if m.Slot.Index == nil {
		return 1<<31 - 1
	}
	return *m.Slot.Index
}

// revisions finds or makes the revision to update to, and that which pods below the partition have.
func (w *ordered) revisions() {
	at := w.goal(w.spec.MinReadySeconds)
	if at < 0 {
		return
	}
	w.update = &w.Sets[at]
	if i := slices.IndexFunc(w.Sets, func(s fleet.Set) bool { return s.ID == w.Rollout.Current }); i >= 0 {
		w.current = &w.Sets[i]
		return
	}
	w.current = w.update
	for i := range w.Sets { // the store was lost: what other pods have is what they had before
		if s := &w.Sets[i]; s != w.update && w.runs(s) {
			w.current = s
		}
	}
	w.Rollout.Current = w.current.ID
}

// wanted is the revision that the pod of an ordinal is made from when it is made now.
func (w *ordered) wanted(ordinal int32) *fleet.Set {
	if w.spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType && ordinal < w.partition {
		return w.current
	}
	return w.update
}

func (w *ordered) parallel() bool { return w.spec.PodManagementPolicy == appsv1.ParallelPodManagement }

// fill makes what is missing and replaces what has ended, and reports whether the next may be looked at.
func (w *ordered) fill() bool {
	for i := w.first; i < w.last; i++ {
		m, there := w.pods[i]
		switch {
		case !there && w.Taken(i):
			w.Notes = append(w.Notes, fmt.Sprintf("pod %s-%d waits: another pod has its name", w.Object.ID.Name, i))
		case !there:
			w.Place = append(w.Place, Ordinal{Index: i, Set: w.wanted(i).ID})
		case w.going[m.Slot.UID]:
		case m.Over():
			w.drain(m)
		case w.healthy(m):
			continue
		case !w.parallel() && w.stuck(m):
			w.drain(m)
		}
		if !w.parallel() {
			return false
		}
	}
	return true
}

// stuck reports whether a pod is not well and of a revision that nobody wants any more. Kubernetes waits for such a pod until
// somebody deletes it, even when a fix has been pushed; it is not serving, so nothing is lost by going on
// (ARCHITECTURE.md, "A fix replaces what is stuck").
func (w *ordered) stuck(m Member) bool {
	if _, ready := readySince(m); ready || m.Report == nil && m.Slot.Node != "" { // of what nobody has spoken nothing is known
		return false
	}
	return w.spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType && !of(m, w.wanted(w.ordinal(m)))
}

// shrink removes what is beyond the wanted ordinals from the highest down, and reports whether the update may go on.
func (w *ordered) shrink() bool {
	for _, m := range w.surplus {
		switch {
		case w.parallel(), m.Over(), m.Slot.Node == "": // what has ended, or never began, is nobody's any more
			w.drain(m)
			continue
		case w.going[m.Slot.UID]:
			return false
		case !w.healthy(m) && slices.ContainsFunc(w.surplus, func(x Member) bool {
			return w.ordinal(x) < w.ordinal(m) && !w.healthy(x) && !x.Over()
		}):
			w.Notes = append(w.Notes, fmt.Sprintf("pod %s stays until those before it are ready or gone", m.Slot.Pod.Name))
			return false
		}
		w.drain(m)
		return false
	}
	return true
}

// roll replaces one pod that is not of the update revision, from the highest ordinal down, once those above it are well.
func (w *ordered) roll() {
	for i := w.last - 1; i >= w.partition && i >= w.first; i-- {
		m, there := w.pods[i]
		if !there || w.going[m.Slot.UID] {
			return
		}
		if !of(m, w.update) {
			w.drain(m)
			return
		}
		if !w.healthy(m) {
			return
		}
	}
}

// healthy reports whether a pod is ready and has been for long enough.
func (w *ordered) healthy(m Member) bool {
	if w.going[m.Slot.UID] {
		return false
	}
	c := Count([]Member{m}, time.Duration(w.spec.MinReadySeconds)*time.Second, w.Now)
	w.WakeAt = fleet.Earliest(w.WakeAt, c.WakeAt)
	return c.Available == 1
}

func (w *ordered) drain(m Member) {
	if !w.going[m.Slot.UID] {
		w.going[m.Slot.UID] = true
		w.Drain = append(w.Drain, m.Slot.UID)
	}
}

// progress says how far it is, and makes the update revision the current one when all pods have it.
func (w *ordered) progress() {
	var updated, available int32
	settled := len(w.surplus) == 0
	for _, p := range w.Place { // deciding again must see no progress
		if p.Set == w.update.ID {
			updated++
		}
	}
	for i := w.first; i < w.last; i++ {
		m, there := w.pods[i]
		settled = settled && there && (of(m, w.wanted(i)) || of(m, w.update) || w.spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType)
		if !there {
			continue
		}
		if of(m, w.update) {
			updated++
		}
		if w.healthy(m) {
			available++
		}
	}
	all := w.last - w.first
	w.Done = settled && available == all && !w.held
	if updated == all && available == all && len(w.surplus) == 0 {
		w.Rollout.Current = w.update.ID
	}
	last := &w.Rollout
	if updated > last.Updated || available > last.Available {
		last.Reason, last.Progress = reasonUpdated, w.Now
	}
	last.Updated, last.Available = updated, available
	if w.Done {
		last.Reason = reasonAvailable // with OnDelete the rest is up to others
		if (updated == all && all > 0) || last.Good == (fleet.ObjectID{}) {
			last.Good = last.Current
		}
	}
	if last.Bad != (fleet.Bad{}) {
		w.Notes = append(w.Notes, badNote(last.Bad))
	}
}
