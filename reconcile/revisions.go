package reconcile

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/place"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// revised is what is known of a StatefulSet or DaemonSet.
func (d *decider) revised(o fleet.Object, sets []fleet.Set) workload.Revised {
	return workload.Revised{
		Object: o, Target: d.target(o, sets), Sets: sets, Rollout: d.rollouts[o.ID], Members: d.members[o.ID],
		Named: d.foreignRevision(o.ID), Hold: d.hold(o), Rollback: d.rollsBack(o), Now: d.in.Now,
	}
}

func (d *decider) statefulSet(o fleet.Object, v *appsv1.StatefulSet) {
	d.move(o.ID, o.Source, "")
	before := d.setsOf(o.ID)
	name := func(ordinal int32) fleet.PodID {
		return fleet.PodID{Namespace: o.ID.Namespace, Name: fmt.Sprintf("%s-%d", o.ID.Name, ordinal)}
	}
	ordered := workload.Order(workload.Ordered{
		Revised: d.revised(o, before), Taken: func(ordinal int32) bool { return d.names[name(ordinal)] > 0 },
	})
	d.keep(before, ordered.Sets)
	d.replace(ordered.Drain, ordered.Target)
	for _, p := range ordered.Place {
		if node := d.unheard(true); node != "" {
			d.note(o.ID, "pod %s waits until node %s has reported: it may run there", name(p.Index), node)
			break
		}
		if !d.ready(o.ID) {
			break
		}
		set := d.sets[p.Set]
		d.place(fleet.Slot{Identity: fleet.Identity{
			Pod: name(p.Index), Owner: o.ID, Source: o.Source, From: set.From, Want: set.Want, Stamp: set.Stamp, Label: set.Label,
			Index: &p.Index, Claims: claimTemplates(v), Service: v.Spec.ServiceName,
		}})
	}
	d.retain(o, v, &ordered.Rollout)
	d.rollouts[o.ID] = ordered.Rollout
	d.say(o.ID, ordered.WakeAt, ordered.Notes)
	d.stands(o.ID, ordered.Done, ordered.Rollout)
	d.forgetDone(o.ID, false)
}

// foreignRevision reports of a revision's name whether it is that of another workload.
func (d *decider) foreignRevision(owner fleet.ObjectID) func(name string) bool {
	return func(name string) bool {
		set, ok := d.sets[fleet.ObjectID{Kind: fleet.KindRevision, Namespace: owner.Namespace, Name: name}]
		return ok && set.Owner != owner
	}
}

// replace drains pods that others take the place of: the images of those are pulled first.
func (d *decider) replace(uids []string, target workload.Target) {
	for _, uid := range uids {
		if s := &d.slots[d.at[uid]]; s.Want != target.Want {
			d.drain(uid, target.Want)
		} else {
			d.drain(uid)
		}
	}
}

func (d *decider) daemonSet(o fleet.Object, v *appsv1.DaemonSet) {
	d.move(o.ID, o.Source, "")
	before := d.setsOf(o.ID)
	spread := workload.Spread(workload.Everywhere{Revised: d.revised(o, before), Nodes: d.seats(v)})
	d.keep(before, spread.Sets)
	d.replace(spread.Drain, spread.Target)
	for _, p := range spread.Place {
		if node := d.unheard(false); node != "" {
			d.note(o.ID, "node %s has not reported yet: nothing is placed before it is known what runs there", node)
			break
		}
		set := d.sets[p.Set]
		born := set.Born
		id := d.name(o.ID.Namespace, o.ID.Name, set.UID, &born)
		if d.place(fleet.Slot{Identity: fleet.Identity{
			Pod: id, Owner: o.ID, Source: o.Source, From: set.From, Want: set.Want, Stamp: set.Stamp, Label: set.Label,
		}, For: p.Node, Tries: p.Tries}) {
			set.Born = born
		}
	}
	d.rollouts[o.ID] = spread.Rollout
	d.say(o.ID, spread.WakeAt, spread.Notes)
	d.stands(o.ID, spread.Done, spread.Rollout)
	d.forgetDone(o.ID, false)
}

// seats are the nodes that a DaemonSet's pods may be on.
func (d *decider) seats(v *appsv1.DaemonSet) map[fleet.NodeName]workload.Seating {
	nodes := map[fleet.NodeName]workload.Seating{}
	spec := &v.Spec.Template.Spec
	tolerations := d.tolerations(fleet.KindDaemonSet, spec)
	for _, n := range d.in.Nodes {
		if !place.Eligible(spec, n) {
			continue
		}
		may, seating := true, workload.Wanted
		if d.nodes[n.Name] == nil || n.Down != "" {
			seating = workload.Unheard
		}
		for _, t := range n.Taints {
			switch t.Effect {
			case corev1.TaintEffectNoExecute:
				may = may && place.Tolerates(tolerations, t)
			case corev1.TaintEffectNoSchedule:
				if !place.Tolerates(tolerations, t) && t.Key != corev1.TaintNodeNotReady {
					seating = workload.Kept
				}
			}
		}
		if may {
			nodes[n.Name] = seating
		}
	}
	return nodes
}
