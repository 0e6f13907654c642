package reconcile

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// Decide says what should run where. Deciding again with the outcome as Previous changes nothing.
func Decide(in FleetInput) Decision {
	d := newDecider(in)
	d.adopt()
	d.release()
	d.deployments()
	d.replicaSets()
	d.abandonSets()
	d.sizeSets()
	d.barePods()
	d.orphans()
	return d.decision()
}

// decider carries one decision through its stages.
type decider struct {
	in       FleetInput
	epoch    uint64
	reports  map[string]*fleet.PodReport // by UID
	nodes    map[fleet.NodeName]*fleet.NodeReport
	exists   map[fleet.NodeName]bool
	slots    []fleet.Slot
	at       map[string]int // index into slots by UID
	names    map[fleet.PodID]bool
	sets     map[fleet.ObjectID]*fleet.Set
	rollouts map[fleet.ObjectID]fleet.Rollout
	next     map[fleet.ObjectID][]fleet.Hash // by set: templates its pods make room for
	notes    []fleet.Note
	wakeAt   time.Time
}

func newDecider(in FleetInput) *decider {
	in.Now = in.Now.UTC().Round(0)
	d := &decider{
		in: in, epoch: in.Previous.Epoch + 1,
		reports: map[string]*fleet.PodReport{}, nodes: map[fleet.NodeName]*fleet.NodeReport{}, exists: map[fleet.NodeName]bool{},
		slots: slices.Clone(in.Previous.Slots), names: map[fleet.PodID]bool{},
		sets:     make(map[fleet.ObjectID]*fleet.Set, len(in.Previous.Sets)),
		rollouts: make(map[fleet.ObjectID]fleet.Rollout, len(in.Previous.Rollouts)),
		next:     map[fleet.ObjectID][]fleet.Hash{},
	}
	for _, n := range in.Nodes {
		d.exists[n.Name] = true
	}
	for i := range in.Reports {
		report := &in.Reports[i]
		d.nodes[report.Node] = report
		for j := range report.Pods {
			d.reports[report.Pods[j].UID] = &report.Pods[j]
		}
	}
	for _, set := range in.Previous.Sets {
		d.sets[set.ID] = &set
	}
	for _, r := range in.Previous.Rollouts {
		d.rollouts[r.ID] = r
	}
	for i := range d.slots {
		d.names[d.slots[i].Pod] = true
	}
	return d
}

func (d *decider) note(about fleet.ObjectID, format string, args ...any) {
	d.notes = append(d.notes, fleet.Note{About: about, Text: fmt.Sprintf(format, args...)})
}

// adopt makes slots of pods that run and that no slot names: the store was lost, or is older than they are.
// Whether they should stay is decided with all others.
func (d *decider) adopt() {
	const adopted = -1
	known := make(map[string]int, len(d.slots)) // index into slots
	for i := range d.slots {
		known[d.slots[i].UID] = i
	}
	var found []fleet.Slot
	for _, report := range d.in.Reports {
		for i := range report.Pods {
			p := &report.Pods[i]
			if p.UID == "" {
				continue
			}
			if i, is := known[p.UID]; is {
				if i != adopted && d.slots[i].Node != report.Node { // the machine was given another name
					d.slots[i].Node, d.slots[i].Epoch = report.Node, d.epoch
				}
				continue
			}
			known[p.UID] = adopted
			found = append(found, fleet.Slot{Identity: p.Identity, Node: report.Node, Goal: fleet.Run, Epoch: d.epoch})
		}
	}
	slices.SortFunc(found, fleet.SlotOrder) // what a set is made from must not hang on who reported first
	for _, s := range found {
		d.slots = append(d.slots, s)
		d.names[s.Pod] = true
		if s.Owner.Kind == fleet.KindReplicaSet {
			d.revive(d.reports[s.UID])
		}
	}
}

// revive makes the set of an adopted pod, or counts the pod in if it was made by this very decision.
func (d *decider) revive(p *fleet.PodReport) {
	set, ok := d.sets[p.Owner]
	if !ok {
		set = &fleet.Set{
			ID: p.Owner, Owner: p.Controller, Source: p.Source, From: p.From, Want: p.Want, Label: p.Label, Created: p.Created,
			UID: fleet.DeriveUID("replicaset", p.Owner.String()),
		}
		d.sets[p.Owner] = set
	} else if set.Number != 0 || set.Recorded != 0 {
		return // remembered: what it should have is known better than what there is
	}
	set.Replicas++
	if p.Created.Before(set.Created) {
		set.Created = p.Created
	}
}

// release drops slots whose pods their node says are gone.
func (d *decider) release() {
	defer d.index()
	d.slots = slices.DeleteFunc(d.slots, func(s fleet.Slot) bool {
		if d.nowhere(s) {
			delete(d.names, s.Pod)
			return true
		}
		if s.Goal != fleet.Drain {
			return false
		}
		report, heard := d.nodes[s.Node]
		gone := heard && report.Epoch >= s.Epoch && d.reports[s.UID] == nil
		if gone {
			delete(d.names, s.Pod)
		}
		return gone
	})
}

// nowhere reports whether a slot is on a node that is no more, and no other has its pod.
func (d *decider) nowhere(s fleet.Slot) bool {
	return len(d.in.Reports) > 0 && d.reports[s.UID] == nil && !d.exists[s.Node]
}

func (d *decider) index() {
	d.at = make(map[string]int, len(d.slots))
	for i := range d.slots {
		d.at[d.slots[i].UID] = i
	}
}

// members are the slots of each owner with what is reported of them.
func members(slots []fleet.Slot, reports map[string]*fleet.PodReport) map[fleet.ObjectID][]workload.Member {
	count := map[fleet.ObjectID]int{}
	for i := range slots {
		count[slots[i].Owner]++
	}
	m := make(map[fleet.ObjectID][]workload.Member, len(count))
	for i := range slots {
		s := &slots[i]
		list := m[s.Owner]
		if list == nil {
			list = make([]workload.Member, 0, count[s.Owner]) // a slot is large: growing would copy it often
		}
		m[s.Owner] = append(list, workload.Member{Slot: *s, Report: reports[s.UID]})
	}
	return m
}

func (d *decider) members() map[fleet.ObjectID][]workload.Member { return members(d.slots, d.reports) }

// generations are the sets of each Deployment, counted, in the order of their IDs.
func generations(sets []fleet.Set, of map[fleet.ObjectID][]workload.Member, desired fleet.Desired, now time.Time) map[fleet.ObjectID][]workload.Generation {
	owned := map[fleet.ObjectID][]workload.Generation{}
	for _, set := range sets {
		if set.Owner == (fleet.ObjectID{}) {
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

func (d *decider) deployments() {
	owned := generations(d.sortedSets(), d.members(), d.in.Desired, d.in.Now)
	for object, deployment := range fleet.Each[*appsv1.Deployment](d.in.Desired) {
		rolled := workload.Roll(workload.Rolling{
			Object: object, Sets: owned[object.ID], Rollout: d.rollouts[object.ID], Now: d.in.Now,
			Taken: func(name string) bool { return d.foreignSet(object.ID, name) },
		})
		for _, old := range owned[object.ID] {
			delete(d.sets, old.ID)
		}
		for i := range rolled.Sets {
			set := rolled.Sets[i].Set
			d.sets[set.ID] = &set
			if set.Want != object.Hash && makesRoom(deployment) {
				d.next[set.ID] = []fleet.Hash{object.Hash}
			}
		}
		d.rollouts[object.ID] = rolled.Rollout
		d.wakeAt = fleet.Earliest(d.wakeAt, rolled.WakeAt)
		for _, text := range rolled.Notes {
			d.note(object.ID, "%s", text)
		}
	}
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

func (d *decider) replicaSets() {
	for object, rs := range fleet.Each[*appsv1.ReplicaSet](d.in.Desired) {
		set, ok := d.sets[object.ID]
		if !ok {
			set = &fleet.Set{
				ID: object.ID, From: object.Revision, Created: d.in.Now,
				UID: fleet.DeriveUID("replicaset", object.ID.String()),
			}
			d.sets[object.ID] = set
		}
		if set.Want != object.Hash || set.Source != object.Source { // running pods keep their template (semantics 3)
			set.Want, set.From = object.Hash, object.Revision
		}
		set.Owner, set.Label, set.Source = fleet.ObjectID{}, "", object.Source
		set.Replicas, set.Recorded, set.MinReady = *rs.Spec.Replicas, *rs.Spec.Replicas, rs.Spec.MinReadySeconds
	}
}

// abandonSets empties the sets of what is desired no more, and forgets them once they are empty.
func (d *decider) abandonSets() {
	members := d.members()
	for id, set := range d.sets {
		above := set.Owner
		if above == (fleet.ObjectID{}) {
			above = id
		}
		if _, wanted := d.in.Desired.Find(above); wanted || !d.in.Desired.Known(set.Source, above) {
			continue
		}
		set.Replicas = 0
		if len(members[id]) == 0 {
			delete(d.sets, id)
		}
	}
	for id, r := range d.rollouts {
		if _, wanted := d.in.Desired.Find(id); !wanted && d.in.Desired.Known(r.Source, id) {
			delete(d.rollouts, id)
		}
	}
}

// sizeSets gives each set the pods it should have.
func (d *decider) sizeSets() {
	members := d.members()
	for _, id := range slices.SortedFunc(maps.Keys(d.sets), fleet.ObjectID.Compare) {
		set := d.sets[id]
		active := 0
		for _, m := range members[id] {
			switch {
			case m.Slot.Goal != fleet.Run:
			case m.Report != nil && m.Report.Terminal():
				d.drain(m.Slot.UID) // it will never run again: another takes its place
			default:
				active++
			}
		}
		for ; active < int(set.Replicas); active++ {
			if !d.grow(set) {
				break
			}
		}
		if surplus := active - int(set.Replicas); surplus > 0 {
			minReady := time.Duration(set.MinReady) * time.Second
			for _, m := range workload.Victims(members[id], surplus, minReady, d.in.Now) {
				d.drain(m.Slot.UID, d.next[id]...)
			}
		}
	}
}

// node is where the next pod goes: with one node there is no choice.
func (d *decider) node(about fleet.ObjectID) (fleet.NodeName, bool) {
	for _, n := range d.in.Nodes {
		if d.nodes[n.Name] != nil { // what is there already must be known before anything is added
			return n.Name, true
		}
	}
	d.note(about, "no node has reported yet: nothing can be placed")
	return "", false
}

// maxNameBase is where Kubernetes cuts a generated name before its suffix.
const maxNameBase = 58

func (d *decider) grow(set *fleet.Set) bool {
	node, ok := d.node(set.ID)
	if !ok {
		return false
	}
	base := set.ID.Name + "-"
	base = base[:min(len(base), maxNameBase)]
	id := fleet.PodID{Namespace: set.ID.Namespace}
	for id.Name == "" || d.names[id] {
		set.Born++
		suffix := "zzzzz" + fleet.SafeSuffix(set.UID, strconv.Itoa(set.Born))
		id.Name = base + suffix[len(suffix)-5:]
	}
	d.place(fleet.Slot{Identity: fleet.Identity{
		Pod: id, Owner: set.ID, Controller: set.Owner, Source: set.Source, From: set.From, Want: set.Want, Label: set.Label,
	}, Node: node,
	})
	return true
}

func (d *decider) place(s fleet.Slot) {
	s.UID = fleet.DeriveUID("pod", s.Pod.String(), strconv.FormatUint(d.epoch, 10), d.in.Now.Format(time.RFC3339Nano))
	s.Goal, s.Created, s.Epoch = fleet.Run, d.in.Now, d.epoch
	d.at[s.UID] = len(d.slots)
	d.slots = append(d.slots, s)
	d.names[s.Pod] = true
}

// drain sets a slot's goal, once.
func (d *decider) drain(uid string, next ...fleet.Hash) {
	if s := &d.slots[d.at[uid]]; s.Goal == fleet.Run {
		s.Goal, s.Drained, s.Epoch, s.Next = fleet.Drain, d.in.Now, d.epoch, next
	}
}

// barePods keeps one pod for each Pod of the sources. A Pod that changed beyond what may change in a living
// one is replaced: Git is the truth, and refusing it would leave it a lie (ARCHITECTURE.md, "Bare pods").
func (d *decider) barePods() {
	byPod := map[fleet.PodID][]int{}
	for i := range d.slots {
		byPod[d.slots[i].Pod] = append(byPod[d.slots[i].Pod], i)
	}
	for object := range fleet.Each[*corev1.Pod](d.in.Desired) {
		id := fleet.PodID{Namespace: object.ID.Namespace, Name: object.ID.Name}
		shape := fleet.ShapeOf(object.Template)
		for _, i := range byPod[id] {
			s := &d.slots[i]
			switch {
			case s.Owner != object.ID:
				d.note(object.ID, "the name is used by a pod of %s: this one waits until that is gone", s.Owner)
			case s.Goal == fleet.Drain:
			case d.doubled(s, byPod[id]):
				d.drain(s.UID)
			case s.Want == object.Hash && s.Source == object.Source:
			case s.Want == object.Hash || s.Shape == shape:
				s.Want, s.From, s.Source = object.Hash, object.Revision, object.Source
			default:
				d.drain(s.UID, object.Hash)
			}
		}
		if len(byPod[id]) > 0 {
			continue
		}
		if node, ok := d.node(object.ID); ok {
			d.place(fleet.Slot{Identity: fleet.Identity{
				Pod: id, Owner: object.ID, Source: object.Source, From: object.Revision, Want: object.Hash, Shape: shape,
			}, Node: node,
			})
		}
	}
}

// doubled reports whether another slot stands for the same pod and is newer: a store that is older than the
// fleet remembers a pod that was replaced since.
func (d *decider) doubled(s *fleet.Slot, namesakes []int) bool {
	return slices.ContainsFunc(namesakes, func(i int) bool {
		other := &d.slots[i]
		return other.Owner == s.Owner && other.Goal == fleet.Run && other.Created.After(s.Created)
	})
}

// orphans drains what nothing stands behind any more, and says what is left alone because nothing is known.
func (d *decider) orphans() {
	unread := map[fleet.SourceName]int{}
	for i := range d.slots {
		s := &d.slots[i]
		if s.Goal != fleet.Run {
			continue
		}
		above := s.Owner
		if s.Controller != (fleet.ObjectID{}) {
			above = s.Controller
		}
		if _, wanted := d.in.Desired.Find(above); wanted {
			continue
		}
		if !d.in.Desired.Known(s.Source, above) {
			if _, read := d.in.Desired.Revisions[s.Source]; !read {
				unread[s.Source]++
			}
			continue
		}
		d.drain(s.UID)
	}
	for source, pods := range unread {
		d.note(fleet.ObjectID{}, "source %s was not read yet, or is not configured any more: its %d pods are kept as they are (skerry delete with its manifests takes them down)", source, pods)
	}
	for id, why := range d.in.Desired.Held {
		d.note(id, "kept as it is: %s", why)
	}
}

func (d *decider) decision() Decision {
	next := fleet.Assignment{Epoch: d.in.Previous.Epoch, Revisions: maps.Clone(d.in.Previous.Revisions), Slots: d.slots}
	for source, revision := range d.in.Desired.Revisions {
		if next.Revisions == nil {
			next.Revisions = map[fleet.SourceName]fleet.Revision{}
		}
		next.Revisions[source] = revision
	}
	for source := range next.Revisions { // a source that is no more is forgotten with its last slot
		if _, read := d.in.Desired.Revisions[source]; !read &&
			!slices.ContainsFunc(d.slots, func(s fleet.Slot) bool { return s.Source == source }) {
			delete(next.Revisions, source)
		}
	}
	next.Sets = d.sortedSets()
	for _, id := range slices.SortedFunc(maps.Keys(d.rollouts), fleet.ObjectID.Compare) {
		next.Rollouts = append(next.Rollouts, d.rollouts[id])
	}
	slices.SortFunc(next.Slots, fleet.SlotOrder)
	slices.SortFunc(d.notes, fleet.Note.Compare)
	changed := !same(next, d.in.Previous)
	if changed {
		next.Epoch = d.epoch
	}
	return Decision{Next: next, Changed: changed, Notes: slices.Compact(d.notes), WakeAt: d.wakeAt}
}

func same(a, b fleet.Assignment) bool {
	return maps.Equal(a.Revisions, b.Revisions) &&
		slices.EqualFunc(a.Slots, b.Slots, func(x, y fleet.Slot) bool {
			return x.UID == y.UID && x.Node == y.Node && x.Goal == y.Goal && x.Want == y.Want && x.Source == y.Source && x.From == y.From
		}) &&
		slices.EqualFunc(a.Sets, b.Sets, func(x, y fleet.Set) bool { return reflect.DeepEqual(x, y) }) &&
		slices.Equal(a.Rollouts, b.Rollouts)
}
