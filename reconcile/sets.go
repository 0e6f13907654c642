package reconcile

import (
	"cmp"
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
	if rolled.Waits(v) {
		s := d.standings[o.ID]
		s.waits = true
		d.standings[o.ID] = s
	}
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
		var stay []workload.Member
		for _, m := range d.members[id] {
			switch {
			case m.Slot.Goal != fleet.Run:
			case m.Report != nil && m.Report.Terminal():
				d.drain(m.Slot.UID) // it will never run again: another takes its place
			case d.strays(set, m):
				d.drain(m.Slot.UID)
			default:
				stay = append(stay, m)
			}
		}
		for count := len(stay); count < int(set.Replicas); count++ {
			if !d.grow(set) {
				break
			}
		}
		if surplus := len(stay) - int(set.Replicas); surplus > 0 {
			minReady := time.Duration(set.MinReady) * time.Second
			for _, m := range workload.Victims(stay, surplus, minReady, d.in.Now) {
				d.drain(m.Slot.UID, d.next[id]...)
			}
		}
	}
}

// strays reports whether a pod was made with another configuration than its set stands for, is not ready with it, and would be
// made with the right one now: a set that was gone back to had to be filled up while the wrong one was all there was.
func (d *decider) strays(set *fleet.Set, m workload.Member) bool {
	if set.Stamp.Config == "" || m.Slot.Stamp.Config == "" || m.Slot.Stamp.Config == set.Stamp.Config || m.Report == nil {
		return false
	}
	_, ready := m.Report.ReadySince()
	return !ready && d.configNow(set) == set.Stamp.Config
}

// configNow is the stamp of the configuration that a pod of a set is made with now; empty where that does not matter, or is not
// known.
func (d *decider) configNow(set *fleet.Set) fleet.Hash {
	template := d.in.Templates[set.Want]
	if set.Stamp.Config == "" || template == nil {
		return ""
	}
	return configOf(d.in.Desired, set.ID.Namespace, &template.Spec)
}

func (d *decider) grow(set *fleet.Set) bool {
	if !d.ready(set.ID) {
		return false
	}
	born := set.Born
	id := d.name(set.ID.Namespace, set.ID.Name, set.UID, &born)
	stamp := set.Stamp
	stamp.Config = cmp.Or(d.configNow(set), stamp.Config)
	made := d.place(fleet.Slot{Identity: fleet.Identity{
		Pod: id, Owner: set.ID, Controller: set.Owner, Source: set.Source, From: set.From, Want: set.Want, Stamp: stamp, Label: set.Label,
	}})
	if made {
		set.Born = born
	}
	return made
}
