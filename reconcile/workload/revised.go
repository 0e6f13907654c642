package workload

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// Revised is what the decisions about StatefulSets and DaemonSets have in common: both keep their templates as revisions, and
// count pods by those.
type Revised struct {
	Object   fleet.Object // with what operators asked for
	Target   Target       // what it should run; what it goes back to, when that has been decided
	Sets     []fleet.Set  // its revisions
	Rollout  fleet.Rollout
	Members  []Member               // all its pods, also those being removed
	Named    func(name string) bool // whether a revision's name belongs to somebody else; nil for nobody
	Hold     string                 // as Rolling has it
	Rollback bool                   // as Rolling has it, after the default deadline
	Now      time.Time

	Done   bool // all pods are there, of the revision they should have, and available
	WakeAt time.Time
	Notes  []string

	held bool // it has to wait for something else before it begins
}

// settle passes over it once, and once more when that found that it has to go back. Otherwise is the revision to go back to
// where none is remembered.
func (r *Revised) settle(pass func(), onDelete bool, otherwise func() fleet.ObjectID) {
	r.Sets = slices.Clone(r.Sets)
	if r.Rollout.ID == (fleet.ObjectID{}) {
		r.Rollout = fleet.Rollout{ID: r.Object.ID, Progress: r.Now}
	}
	r.Rollout.Source = r.Object.Source
	look := func() {
		r.Rollout.Bad, r.Target = avoid(r.Rollout, r.Target, r.Object.Revision, r.Sets)
		r.Notes, r.Done, r.WakeAt, r.held = nil, false, time.Time{}, false
		pass()
	}
	look()
	if r.Rollback && !r.Done && !onDelete && r.late(otherwise) {
		look()
	}
}

// goal is the index of the revision that pods should have, which it makes if need be; -1 while it may not begin.
func (r *Revised) goal(minReady int32) int {
	h := history{kind: fleet.KindRevision, object: r.Object, target: r.Target, taken: r.Named, now: r.Now}
	h.stamp(r.Sets)
	at := r.Target.in(r.Sets)
	begun := at >= 0 && (r.Rollout.Target == r.Sets[at].ID || r.runs(&r.Sets[at]))
	reason := ""
	switch {
	case r.Hold != "" && r.Rollout.Bad == (fleet.Bad{}) && !begun:
		r.Notes, r.held = append(r.Notes, r.Hold), true
		if at = slices.IndexFunc(r.Sets, func(s fleet.Set) bool { return s.ID == r.Rollout.Target }); at < 0 {
			return -1
		}
	case at < 0:
		r.Sets = append(r.Sets, h.create(r.Sets, &r.Rollout.Collisions))
		at, reason = len(r.Sets)-1, reasonNew
	case h.adopt(r.Sets, at):
		reason = reasonFound
	}
	set := &r.Sets[at]
	set.MinReady = minReady
	if r.Rollout.Target != set.ID || reason != "" {
		r.Rollout.Target, r.Rollout.Reason, r.Rollout.Progress = set.ID, cmp.Or(reason, reasonUpdated), r.Now
	}
	return at
}

// runs reports whether a pod of a revision should run.
func (r *Revised) runs(s *fleet.Set) bool {
	return slices.ContainsFunc(r.Members, func(m Member) bool { return m.Slot.Goal == fleet.Run && of(m, s) })
}

// of reports whether a pod is made from a set's template. Its label says so; a set that was stamped later has another stamp.
func of(m Member, s *fleet.Set) bool { return m.Slot.Want == s.Want && m.Slot.Label == s.Label }

// defaultDeadline is how long a rollout of a kind without progressDeadlineSeconds may stand still before it is rolled back,
// where that was opted for: what a Deployment has by default.
const defaultDeadline = 600 * time.Second

// late marks a rollout as bad that has made no progress for the default deadline, where there is something to go back to. It
// reports whether it did.
func (r *Revised) late(otherwise func() fleet.ObjectID) bool {
	last := &r.Rollout
	if last.Bad != (fleet.Bad{}) || last.Good == last.Target || last.Reason == reasonAvailable || last.Target == (fleet.ObjectID{}) {
		return false
	}
	if deadline := last.Progress.Add(defaultDeadline); r.Now.Before(deadline) {
		r.WakeAt = fleet.Earliest(r.WakeAt, deadline)
		return false
	}
	if !r.sick() { // a node that is silent is not the new version's fault
		return false
	}
	if id := otherwise(); last.Good == (fleet.ObjectID{}) && id != last.Target {
		last.Good = id
	}
	if last.Good == (fleet.ObjectID{}) {
		r.Notes = append(r.Notes, nothingGood)
		return false
	}
	last.Bad = fleet.Bad{Revision: r.Object.Revision, Want: r.Target.Want, Since: r.Now, Why: fmt.Sprintf("made no progress for %s", defaultDeadline)}
	return true
}

// sick reports whether a pod of the revision that the rollout goes to is known not to be well.
func (r *Revised) sick() bool {
	at := slices.IndexFunc(r.Sets, func(s fleet.Set) bool { return s.ID == r.Rollout.Target })
	return at >= 0 && slices.ContainsFunc(r.Members, func(m Member) bool {
		_, ready := readySince(m)
		return m.Report != nil && !ready && of(m, &r.Sets[at])
	})
}

// trim forgets revisions beyond the history limit that nothing refers to.
func (r *Revised) trim(limit *int32) {
	var idle []fleet.Set
	for _, set := range r.Sets {
		if set.ID != r.Rollout.Target && set.ID != r.Rollout.Current && set.ID != r.Rollout.Good &&
			!slices.ContainsFunc(r.Members, func(m Member) bool { return of(m, &set) }) {
			idle = append(idle, set)
		}
	}
	gone := surplus(idle, limit)
	r.Sets = slices.DeleteFunc(r.Sets, func(set fleet.Set) bool {
		return slices.ContainsFunc(gone, func(old fleet.Set) bool { return old.ID == set.ID })
	})
	slices.SortFunc(r.Sets, func(a, b fleet.Set) int { return a.ID.Compare(b.ID) })
}
