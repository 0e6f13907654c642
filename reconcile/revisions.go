package reconcile

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/place"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

func (d *decider) statefulSet(o fleet.Object, v *appsv1.StatefulSet) {
	before := d.setsOf(o.ID)
	name := func(ordinal int32) fleet.PodID {
		return fleet.PodID{Namespace: o.ID.Namespace, Name: fmt.Sprintf("%s-%d", o.ID.Name, ordinal)}
	}
	ordered := workload.Order(workload.Ordered{
		Object: o, Target: d.target(o, before), Sets: before, Rollout: d.rollouts[o.ID], Members: d.members[o.ID],
		Taken: func(ordinal int32) bool { return d.names[name(ordinal)] > 0 },
		Hold:  d.hold(o), Rollback: d.rollsBack(o), Now: d.in.Now,
	})
	d.keep(before, ordered.Sets)
	d.replace(o.ID, ordered.Drain, ordered.Target)
	for _, p := range ordered.Place {
		node, ok := d.node(o.ID)
		if !ok {
			break
		}
		set := d.sets[p.Set]
		d.place(fleet.Slot{Identity: fleet.Identity{
			Pod: name(p.Index), Owner: o.ID, Source: o.Source, From: set.From, Want: set.Want, Stamp: set.Stamp, Label: set.Label,
			Index: &p.Index, Claims: claimTemplates(v), Service: v.Spec.ServiceName,
		}, Node: node})
	}
	ordered.Rollout.Volatile = d.unclaim(o.ID, v)
	d.rollouts[o.ID] = ordered.Rollout
	d.say(o.ID, ordered.WakeAt, ordered.Notes)
	d.stands(o.ID, ordered.Done, ordered.Rollout)
	d.forgetDone(o.ID, ordered.Sets, false)
}

// replace drains pods that others take the place of: the images of those are pulled first.
func (d *decider) replace(owner fleet.ObjectID, uids []string, target workload.Target) {
	for _, uid := range uids {
		if s := &d.slots[d.at[uid]]; s.Want != target.Want {
			d.drain(uid, target.Want)
		} else {
			d.drain(uid)
		}
	}
}

func (d *decider) daemonSet(o fleet.Object, v *appsv1.DaemonSet) {
	before := d.setsOf(o.ID)
	spread := workload.Spread(workload.Everywhere{
		Object: o, Target: d.target(o, before), Sets: before, Rollout: d.rollouts[o.ID], Members: d.members[o.ID],
		Nodes: d.seats(v), Hold: d.hold(o), Rollback: d.rollsBack(o), Now: d.in.Now,
	})
	d.keep(before, spread.Sets)
	d.replace(o.ID, spread.Drain, spread.Target)
	for _, p := range spread.Place {
		set := d.sets[p.Set]
		born := set.Born
		id := d.name(o.ID.Namespace, o.ID.Name, set.UID, &born)
		if d.place(fleet.Slot{Identity: fleet.Identity{
			Pod: id, Owner: o.ID, Source: o.Source, From: set.From, Want: set.Want, Stamp: set.Stamp, Label: set.Label,
		}, Node: p.Node, Tries: p.Tries}) {
			set.Born = born
		}
	}
	d.rollouts[o.ID] = spread.Rollout
	d.say(o.ID, spread.WakeAt, spread.Notes)
	d.stands(o.ID, spread.Done, spread.Rollout)
	d.forgetDone(o.ID, spread.Sets, false)
}

// seats are the nodes that a DaemonSet's pods may be on; those that have not reported get none yet.
func (d *decider) seats(v *appsv1.DaemonSet) map[fleet.NodeName]bool {
	nodes := map[fleet.NodeName]bool{}
	for _, n := range d.in.Nodes {
		if place.Eligible(&v.Spec.Template.Spec, n) {
			nodes[n.Name] = d.nodes[n.Name] != nil
		}
	}
	return nodes
}
