package workload

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

// Everywhere is the input and the outcome of a DaemonSet, which Object is: Spread changes what it changes in copies of its own.
type Everywhere struct {
	Revised
	Nodes map[fleet.NodeName]Seating // those on which it may have pods

	Place []Seat   // pods to make, in the order of their nodes
	Drain []string // UIDs of pods to remove
}

// Seating is what a DaemonSet has to do with a node on which it may have pods.
type Seating int

// A node that is Wanted should have a pod. One that is Unheard should, too, but nothing is known of it: it gets none, and its pod
// counts as unavailable. One that is Kept has a taint that keeps new pods away (NoSchedule): a pod that is there may stay, none is
// updated there, and it counts for nothing.
const (
	Wanted Seating = iota + 1
	Unheard
	Kept
)

// Desired is how many nodes should have a pod.
func Desired(nodes map[fleet.NodeName]Seating) int {
	n := 0
	for _, s := range nodes {
		if s != Kept {
			n++
		}
	}
	return n
}

// Seat is a node that gets a pod, and how many in a row failed there before it.
type Seat struct {
	Node  fleet.NodeName
	Set   fleet.ObjectID
	Tries int32
}

// Fences are how many pods of a DaemonSet on that many nodes may be too many and how many unavailable: both round up, and if
// both come out zero, one may be unavailable (semantics 1 and 5).
func Fences(s *appsv1.DaemonSet, nodes int) (surge, unavailable int32) {
	u := s.Spec.UpdateStrategy.RollingUpdate
	if u == nil {
		u = &appsv1.RollingUpdateDaemonSet{}
	}
	one := intstr.FromInt32(1)
	surge = daemonShare(u.MaxSurge, nodes, nil)
	unavailable = daemonShare(u.MaxUnavailable, nodes, &one)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func daemonShare(v *intstr.IntOrString, nodes int, otherwise *intstr.IntOrString) int32 {
	if v == nil {
		v = otherwise
	}
	if v == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, nodes, true)
	if err != nil { // validation has refused what does not parse
		return 0
	}
	return int32(max(n, 0))
}

// Spread does what the DaemonSet controller does at a sync (semantics section 5).
func Spread(e Everywhere) Everywhere {
	s := e.Object.Value.(*appsv1.DaemonSet)
	onDelete := s.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	e.settle(func() { e.pass(s) }, onDelete, func() fleet.ObjectID { return e.serves(s) })
	e.trim(s.Spec.RevisionHistoryLimit)
	return e
}

// serves is the revision besides the target of which most pods are available; zero for none.
func (e *Everywhere) serves(s *appsv1.DaemonSet) fleet.ObjectID {
	var best fleet.ObjectID
	var most int32
	for i := range e.Sets {
		set := &e.Sets[i]
		if set.ID == e.Rollout.Target {
			continue
		}
		mine := slices.DeleteFunc(slices.Clone(e.Members), func(m Member) bool { return !of(m, set) })
		if n := Count(mine, time.Duration(s.Spec.MinReadySeconds)*time.Second, e.Now).Available; n > most {
			best, most = set.ID, n
		}
	}
	return best
}

// spread is one look at a DaemonSet.
type spread struct {
	*Everywhere
	spec   *appsv1.DaemonSetSpec
	target *fleet.Set
	nodes  []fleet.NodeName // that should have a pod and are heard, in order
	others []fleet.NodeName // that may keep one, in order
	byNode map[fleet.NodeName]*seat
	gone   map[string]bool
}

// seat is what one node has.
type seat struct {
	old, fresh []Member // that should run: not of the target, and of it; newest first
	leaving    bool     // something is being removed, or waited out
	tries      int32    // how many in a row failed here
}

func (e *Everywhere) pass(s *appsv1.DaemonSet) {
	e.Place, e.Drain = nil, nil
	w := &spread{Everywhere: e, spec: &s.Spec, byNode: map[fleet.NodeName]*seat{}, gone: map[string]bool{}}
	at := w.goal(s.Spec.MinReadySeconds)
	if at < 0 {
		return
	}
	w.target = &w.Sets[at]
	for node, seating := range e.Nodes {
		if seating == Wanted {
			w.nodes = append(w.nodes, node)
		} else {
			w.others = append(w.others, node)
		}
	}
	slices.Sort(w.nodes)
	slices.Sort(w.others)
	w.sit()
	w.leave(s)
	w.manage()
	w.keep(s)
	if s.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType {
		if surge, unavailable := Fences(s, Desired(w.Nodes)); surge > 0 {
			w.surge(surge)
		} else {
			w.replace(unavailable)
		}
	}
	w.progress()
}

// sit finds what each node has. A pod that has ended makes room for another, after a while when it failed.
func (w *spread) sit() {
	for _, m := range w.Members {
		s := w.byNode[m.Slot.Seat()]
		if s == nil {
			s = &seat{}
			w.byNode[m.Slot.Seat()] = s
		}
		switch {
		case m.Slot.Goal != fleet.Run:
			s.leaving = s.leaving || m.Report == nil || !m.Report.Terminal()
		case m.Report != nil && m.Report.Terminal():
			w.ended(s, m)
		case of(m, w.target):
			s.fresh = append(s.fresh, m)
		default:
			s.old = append(s.old, m)
		}
	}
	for _, s := range w.byNode { // of several the one that serves is kept, else the oldest
		for _, list := range [][]Member{s.old, s.fresh} {
			slices.SortFunc(list, func(a, b Member) int {
				return cmp.Or(first(w.available(a), w.available(b)), a.Slot.Created.Compare(b.Slot.Created), cmp.Compare(a.Slot.UID, b.Slot.UID))
			})
		}
	}
}

// The wait before a pod that failed is replaced: Kubernetes' failedPodsBackoff.
const (
	firstWait = time.Second
	lastWait  = 15 * time.Minute
)

// ended lets go of a pod that has ended: at once when it succeeded, after the backoff when it failed.
func (w *spread) ended(s *seat, m Member) {
	if m.Report.Status.Phase == corev1.PodFailed && of(m, w.target) {
		end := Ended(m.Report)
		if end.IsZero() { // no container of it ever ran
			end = m.Slot.Created
		}
		if due := end.Add(min(firstWait<<min(m.Slot.Tries, 10), lastWait)); w.Now.Before(due) {
			w.WakeAt = fleet.Earliest(w.WakeAt, due)
			s.leaving = true
			return
		}
		if end.Sub(m.Slot.Created) < 2*lastWait { // otherwise it ran well enough to begin anew
			s.tries = m.Slot.Tries + 1
		}
	}
	w.drain(m)
}

// leave removes pods from nodes that should have none.
func (w *spread) leave(s *appsv1.DaemonSet) {
	surge, unavailable := Fences(s, Desired(w.Nodes))
	spare := len(w.Members)
	if surge > 0 { // those that serve stay until enough others do
		spare = w.availableOn(func(node fleet.NodeName) bool { return w.Nodes[node] != Kept }) - (Desired(w.Nodes) - int(unavailable))
	}
	for _, m := range w.Members {
		if _, may := w.Nodes[m.Slot.Seat()]; may || m.Slot.Goal != fleet.Run {
			continue
		}
		if w.available(m) {
			if spare <= 0 {
				continue
			}
			spare--
		}
		w.drain(m)
	}
}

func (w *spread) availableOn(node func(fleet.NodeName) bool) int {
	n := 0
	for _, m := range w.Members {
		if node(m.Slot.Seat()) && w.available(m) {
			n++
		}
	}
	return n
}

// manage gives every node a pod that has none, and takes what is too much of one kind.
func (w *spread) manage() {
	onDelete := w.spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	for _, node := range w.nodes {
		s := w.byNode[node]
		if s == nil {
			s = &seat{}
			w.byNode[node] = s
		}
		w.single(s)
		if onDelete && len(s.old) > 0 && len(s.fresh) > 0 {
			if w.available(s.fresh[0]) && !w.available(s.old[0]) {
				w.drain(s.old[0])
			} else {
				w.drain(s.fresh[0])
			}
		}
		if len(s.old)+len(s.fresh) == 0 && !s.leaving {
			w.Place = append(w.Place, Seat{Node: node, Set: w.target.ID, Tries: s.tries})
		}
	}
}

// single takes what is too much of one kind from a node.
func (w *spread) single(s *seat) {
	for _, list := range []*[]Member{&s.old, &s.fresh} {
		for len(*list) > 1 {
			last := (*list)[len(*list)-1]
			*list = (*list)[:len(*list)-1]
			w.drain(last)
			s.leaving = true
		}
	}
}

// keep leaves one pod to a node that may keep one: of an old and a new one the new one, unless the old one alone serves. An update
// with surge that is under way comes to its end there. Of what was not heard nothing is taken.
func (w *spread) keep(ds *appsv1.DaemonSet) {
	surge, _ := Fences(ds, Desired(w.Nodes))
	for _, node := range w.others {
		s := w.byNode[node]
		if s == nil || slices.ContainsFunc(slices.Concat(s.old, s.fresh), func(m Member) bool { return m.Report == nil }) {
			continue
		}
		w.single(s)
		if len(s.old) > 0 && len(s.fresh) > 0 && (surge == 0 || !w.oldServes(s)) {
			w.settlePair(s)
		}
	}
}

// oldServes reports whether of an old and a new pod on a node the old one alone serves.
func (w *spread) oldServes(s *seat) bool { return w.available(s.old[0]) && !w.available(s.fresh[0]) }

// settlePair leaves one of an old and a new pod to a node: what serves is not given up for what does not.
func (w *spread) settlePair(s *seat) {
	if w.oldServes(s) {
		w.drain(s.fresh[0])
	} else {
		w.drain(s.old[0])
	}
}

// replace updates without surge: what does not serve goes at once and counts, then as many that do as may be missing.
func (w *spread) replace(unavailable int32) {
	missing := int32(Desired(w.Nodes) - len(w.nodes)) // of what has not been heard nothing is known
	var candidates []Member
	for _, node := range w.nodes {
		s := w.byNode[node]
		switch {
		case len(s.old) > 0 && len(s.fresh) > 0: // left from an update with surge
			if !w.available(s.old[0]) && !w.available(s.fresh[0]) {
				missing++
			}
			w.settlePair(s)
		case len(s.fresh) > 0:
			if !w.available(s.fresh[0]) {
				missing++
			}
		case len(s.old) == 0:
			missing++
		case s.old[0].Report == nil && s.old[0].Slot.Node != "": // nothing is known of it
			missing++
		case !w.available(s.old[0]):
			missing++
			w.drain(s.old[0])
		case s.leaving: // one after the other
		default:
			candidates = append(candidates, s.old[0])
		}
	}
	for _, m := range candidates {
		if missing >= unavailable {
			return
		}
		missing++
		w.drain(m)
	}
}

// surge updates by a new pod beside the old one, which goes when the new one serves.
func (w *spread) surge(most int32) {
	var beside int32
	var candidates []fleet.NodeName
	for _, node := range w.nodes {
		s := w.byNode[node]
		switch {
		case len(s.old) == 0, s.old[0].Report == nil && s.old[0].Slot.Node != "":
		case len(s.fresh) > 0 && w.available(s.fresh[0]):
			w.drain(s.old[0])
		case len(s.fresh) > 0:
			beside++
		case !w.available(s.old[0]): // it does not serve: nothing is lost by replacing it
			w.drain(s.old[0])
		case s.leaving: // never three at once
			beside++
		default:
			candidates = append(candidates, node)
		}
	}
	for _, node := range candidates {
		if beside >= most {
			return
		}
		beside++
		w.Place = append(w.Place, Seat{Node: node, Set: w.target.ID})
	}
}

// available reports whether a pod serves and will go on doing so.
func (w *spread) available(m Member) bool {
	if w.gone[m.Slot.UID] {
		return false
	}
	c := Count([]Member{m}, time.Duration(w.spec.MinReadySeconds)*time.Second, w.Now)
	w.WakeAt = fleet.Earliest(w.WakeAt, c.WakeAt)
	return c.Available == 1
}

func (w *spread) drain(m Member) {
	if !w.gone[m.Slot.UID] && m.Slot.Goal == fleet.Run {
		w.gone[m.Slot.UID] = true
		w.Drain = append(w.Drain, m.Slot.UID)
	}
}

// progress says how far it is.
func (w *spread) progress() {
	updated, available := int32(len(w.Place)), int32(0)
	done := true
	for _, node := range w.nodes {
		s := w.byNode[node]
		if len(s.fresh) > 0 && !w.gone[s.fresh[0].Slot.UID] {
			updated++
			if w.available(s.fresh[0]) {
				available++
				done = done && !slices.ContainsFunc(s.old, func(m Member) bool { return !w.gone[m.Slot.UID] })
				continue
			}
		}
		onDelete := w.spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
		done = done && onDelete && len(s.old) > 0 && w.available(s.old[0])
	}
	w.Done = done && !w.held && Desired(w.Nodes) == len(w.nodes)
	last := &w.Rollout
	if updated > last.Updated || available > last.Available {
		last.Reason, last.Progress = reasonUpdated, w.Now
	}
	last.Updated, last.Available = updated, available
	if w.Done {
		last.Reason = reasonAvailable
		if int(updated) == len(w.nodes) && updated > 0 || last.Good == (fleet.ObjectID{}) {
			last.Good = w.target.ID
		}
	}
	if last.Bad != (fleet.Bad{}) {
		w.Notes = append(w.Notes, badNote(last.Bad))
	}
}

// Ended is when the last container of a pod ended; the zero time when none says so.
func Ended(p *fleet.PodReport) time.Time {
	var last time.Time
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := c.State.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	return last
}
