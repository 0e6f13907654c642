package reconcile

import "github.com/skerry-dev/skerry/fleet"

// abandon lets go of what is desired no more: sets are emptied, and what is remembered is forgotten once nothing is left of
// it.
func (d *decider) abandon() {
	for id, set := range d.sets {
		above, source := set.Owner, set.Source
		if above == (fleet.ObjectID{}) {
			above = id
		} else if r, ok := d.rollouts[above]; ok { // an old template may be that of another source
			source = r.Source
		}
		if !d.gone(source, above) {
			continue
		}
		set.Replicas = 0
		members := d.members[id]
		if id.Kind == fleet.KindRevision {
			members = d.members[above]
		}
		if len(members) == 0 {
			delete(d.sets, id)
		}
	}
	for id, r := range d.rollouts {
		if d.gone(r.Source, id) && !d.abandonVolatile(r) {
			delete(d.rollouts, id)
		}
	}
	for id, j := range d.jobs {
		above, source := id, j.Source
		if j.Owner != (fleet.ObjectID{}) {
			above, source = j.Owner, d.crons[j.Owner].Source
		}
		if d.gone(source, above) {
			delete(d.jobs, id)
		}
	}
	for id, c := range d.crons {
		if d.gone(c.Source, id) {
			delete(d.crons, id)
		}
	}
}

// gone reports whether an object is known to be desired no more.
func (d *decider) gone(source fleet.SourceName, id fleet.ObjectID) bool {
	_, wanted := d.in.Desired.Find(id)
	return !wanted && d.in.Desired.Known(source, id)
}
