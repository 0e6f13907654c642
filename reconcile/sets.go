package reconcile

import (
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// generations are the ReplicaSets of each Deployment, counted, in the order of their IDs.
func generations(sets []fleet.Set, of map[fleet.ObjectID][]workload.Member, desired fleet.Desired, now time.Time) map[fleet.ObjectID][]workload.Generation {
	owned := map[fleet.ObjectID][]workload.Generation{}
	for _, set := range sets {
		if set.Owner.Kind != fleet.KindDeployment {
			continue
		}
		if object, ok := desired.Find(set.Owner); ok && object.Hash == set.Want {
			set.MinReady = object.Value.(*appsv1.Deployment).Spec.MinReadySeconds
		}
		counts := workload.Count(of[set.ID], time.Duration(set.MinReady)*time.Second, now)
		owned[set.Owner] = append(owned[set.Owner], workload.Generation{Set: set, Counts: counts})
	}
	return owned
}

func (d *decider) sortedSets() []fleet.Set {
	var sets []fleet.Set
	for _, id := range slices.SortedFunc(maps.Keys(d.sets), fleet.ObjectID.Compare) {
		sets = append(sets, *d.sets[id])
	}
	return sets
}

// setsOf are the sets of one workload, in the order of their IDs.
func (d *decider) setsOf(owner fleet.ObjectID) []fleet.Set {
	var sets []fleet.Set
	for _, id := range d.owned[owner] {
		if set := d.sets[id]; set != nil {
			sets = append(sets, *set)
		}
	}
	slices.SortFunc(sets, func(a, b fleet.Set) int { return a.ID.Compare(b.ID) })
	return sets
}

// keep replaces the sets of a workload.
func (d *decider) keep(before, after []fleet.Set) {
	for i := range before {
		delete(d.sets, before[i].ID)
	}
	for i := range after {
		d.sets[after[i].ID] = &after[i]
	}
}

func (d *decider) deployment(o fleet.Object, v *appsv1.Deployment) {
	owned := d.generations[o.ID]
	var before []fleet.Set
	for i := range owned {
		before = append(before, owned[i].Set)
	}
	steps, _ := fleet.ParseSteps(v.Annotations[fleet.AnnotationSteps]) // it was checked when it was read
	resumed, _ := d.asked(o.ID, fleet.Resume)
	rolled := workload.Roll(workload.Rolling{
		Object: o, Target: d.target(o, before), Sets: owned, Rollout: d.rollouts[o.ID], Now: d.in.Now,
		Taken: func(name string) bool { return d.foreignSet(o.ID, name) },
		Hold:  d.hold(o), Rollback: d.rollsBack(o), Steps: steps, Resumed: resumed.At,
	})
	var after []fleet.Set
	for i := range rolled.Sets {
		set := rolled.Sets[i].Set
		after = append(after, set)
		if set.Want != rolled.Target.Want && makesRoom(v) {
			d.next[set.ID] = []fleet.Hash{rolled.Target.Want}
		}
	}
	d.keep(before, after)
	d.rollouts[o.ID] = rolled.Rollout
	d.say(o.ID, rolled.WakeAt, rolled.Notes)
	d.stands(o.ID, rolled.Complete(v), rolled.Rollout)
	d.forgetDone(o.ID, rolled.Waits(v))
}

// foreignSet reports whether a ReplicaSet of that name belongs to somebody other than the Deployment.
func (d *decider) foreignSet(deployment fleet.ObjectID, name string) bool {
	id := fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: deployment.Namespace, Name: name}
	set, ok := d.sets[id]
	_, desired := d.in.Desired.Find(id)
	return desired || (ok && set.Owner != deployment)
}

// makesRoom reports whether old pods of a Deployment are stopped before new ones run.
func makesRoom(d *appsv1.Deployment) bool {
	surge, _ := workload.Fenceposts(d)
	return surge == 0
}

func (d *decider) replicaSet(o fleet.Object, rs *appsv1.ReplicaSet) {
	set, ok := d.sets[o.ID]
	if !ok {
		if hold := d.hold(o); hold != "" {
			d.note(o.ID, "%s", hold)
			return
		}
		set = &fleet.Set{
			ID: o.ID, From: o.Revision, Created: d.in.Now,
			UID: fleet.DeriveUID("replicaset", o.ID.String()),
		}
		d.sets[o.ID] = set
	}
	if set.Want != o.Hash || set.Source != o.Source { // running pods keep their template (semantics 3)
		set.Want, set.From = o.Hash, o.Revision
	}
	set.Owner, set.Label, set.Source = fleet.ObjectID{}, "", o.Source
	set.Replicas, set.Recorded, set.MinReady = *rs.Spec.Replicas, *rs.Spec.Replicas, rs.Spec.MinReadySeconds
	c := workload.Count(d.members[o.ID], time.Duration(set.MinReady)*time.Second, d.in.Now)
	d.stands(o.ID, c.Available >= set.Replicas && c.Active == set.Replicas, fleet.Rollout{})
}

// sizeSets gives each ReplicaSet the pods it should have.
func (d *decider) sizeSets() {
	for _, id := range slices.SortedFunc(maps.Keys(d.sets), fleet.ObjectID.Compare) {
		set := d.sets[id]
		if id.Kind != fleet.KindReplicaSet {
			continue
		}
		members, count := d.members[id], 0
		for _, m := range members {
			switch {
			case m.Slot.Goal != fleet.Run:
			case m.Report != nil && m.Report.Terminal():
				d.drain(m.Slot.UID) // it will never run again: another takes its place
			default:
				count++
			}
		}
		for ; count < int(set.Replicas); count++ {
			if !d.grow(set) {
				break
			}
		}
		if surplus := count - int(set.Replicas); surplus > 0 {
			minReady := time.Duration(set.MinReady) * time.Second
			for _, m := range workload.Victims(members, surplus, minReady, d.in.Now) {
				d.drain(m.Slot.UID, d.next[id]...)
			}
		}
	}
}

func (d *decider) grow(set *fleet.Set) bool {
	node, ok := d.node(set.ID)
	if !ok {
		return false
	}
	born := set.Born
	id := d.name(set.ID.Namespace, set.ID.Name, set.UID, &born)
	made := d.place(fleet.Slot{Identity: fleet.Identity{
		Pod: id, Owner: set.ID, Controller: set.Owner, Source: set.Source, From: set.From, Want: set.Want, Stamp: set.Stamp, Label: set.Label,
	}, Node: node})
	if made {
		set.Born = born
	}
	return made
}
