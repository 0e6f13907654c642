package reconcile

import (
	"slices"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// barePod keeps one pod for a Pod of the sources. A Pod that changed beyond what may change in a living
// one is replaced: Git is the truth, and refusing it would leave it a lie (ARCHITECTURE.md, "Bare pods").
func (d *decider) barePod(o fleet.Object) {
	id := fleet.PodID{Namespace: o.ID.Namespace, Name: o.ID.Name}
	shape := fleet.ShapeOf(o.Template)
	members, hold := d.members[o.ID], d.hold(o)
	for _, m := range members {
		s := &d.slots[d.at[m.Slot.UID]]
		switch {
		case s.Goal == fleet.Drain:
		case doubled(s, members):
			d.drain(s.UID)
		case s.Want == o.Hash && s.Source == o.Source:
			d.stands(o.ID, upToDate(o.Hash)(m), fleet.Rollout{})
		case s.Want == o.Hash || s.Shape == shape:
			s.Want, s.From, s.Source = o.Hash, o.Revision, o.Source
		case hold != "":
			d.note(o.ID, "%s", hold)
		default:
			d.drain(s.UID, o.Hash)
		}
	}
	if len(members) > 0 {
		return
	}
	if d.names[id] > 0 {
		at := slices.IndexFunc(d.slots, func(s fleet.Slot) bool { return s.Pod == id })
		d.note(o.ID, "the name is used by a pod of %s: this one waits until that is gone", d.slots[at].Owner)
		return
	}
	if hold != "" {
		d.note(o.ID, "%s", hold)
		return
	}
	if d.ready(o.ID) {
		d.place(fleet.Slot{Identity: fleet.Identity{
			Pod: id, Owner: o.ID, Source: o.Source, From: o.Revision, Want: o.Hash, Shape: shape,
		}})
	}
}

// doubled reports whether another slot stands for the same pod and is newer: a store that is older than the
// fleet remembers a pod that was replaced since.
func doubled(s *fleet.Slot, namesakes []workload.Member) bool {
	return slices.ContainsFunc(namesakes, func(m workload.Member) bool {
		return m.Slot.Goal == fleet.Run && m.Slot.Created.After(s.Created)
	})
}
