package reconcile

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

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
					d.slots[i].Node, d.slots[i].For, d.slots[i].Epoch = report.Node, "", d.epoch
				}
				continue
			}
			known[p.UID] = adopted
			found = append(found, fleet.Slot{Identity: p.Identity, Node: report.Node, Goal: fleet.Run, Epoch: d.epoch})
		}
	}
	slices.SortFunc(found, fleet.SlotOrder) // what a set is made from must not hang on who reported first
	for _, s := range found {
		if taken := d.names[s.Pod] > 0; taken && s.Owner.Kind != fleet.KindPod && s.Owner.Kind != fleet.KindStatefulSet {
			// The store was lost while its node was: another has been given the name meanwhile.
			s.Goal, s.Drained = fleet.Drain, d.in.Now
		}
		d.slots = append(d.slots, s)
		d.names[s.Pod]++
		d.adoptees[s.UID] = true
		if s.Goal == fleet.Drain {
			continue
		}
		switch s.Owner.Kind {
		case fleet.KindReplicaSet:
			d.revive(d.reports[s.UID])
		case fleet.KindStatefulSet, fleet.KindDaemonSet:
			d.reviveRevision(s)
		}
	}
}

// revive makes the set of an adopted pod, or counts the pod in if it was made by this very decision.
func (d *decider) revive(p *fleet.PodReport) {
	set, ok := d.sets[p.Owner]
	if !ok {
		set = &fleet.Set{
			ID: p.Owner, Owner: p.Controller, Source: p.Source, From: p.From, Want: p.Want, Stamp: p.Stamp, Label: p.Label, Created: p.Created,
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

// reviveRevision makes the revision of a pod whose set is not remembered.
func (d *decider) reviveRevision(s fleet.Slot) {
	id := fleet.ObjectID{Kind: fleet.KindRevision, Namespace: s.Owner.Namespace, Name: s.Owner.Name + "-" + s.Label}
	if set, known := d.sets[id]; known {
		if s.Created.Before(set.Created) && set.Number == 0 {
			set.Created = s.Created
		}
		return
	}
	d.sets[id] = &fleet.Set{
		ID: id, Owner: s.Owner, Source: s.Source, From: s.From, Want: s.Want, Stamp: s.Stamp, Label: s.Label, Created: s.Created,
		UID: fleet.DeriveUID("replicaset", id.String()),
	}
}

// adopted reports whether a pod became a slot in this very decision.
func (d *decider) adopted(m workload.Member) bool {
	return m.Slot.Goal == fleet.Run && d.adoptees[m.Slot.UID]
}

// hear remembers which nodes have ever reported. Pods of one that never has may run on it without anybody here knowing: the
// store was lost, perhaps.
func (d *decider) hear() {
	before := make(map[fleet.NodeName]bool, len(d.in.Previous.Heard))
	for _, name := range d.in.Previous.Heard {
		before[name] = true
	}
	doubted := make(map[fleet.NodeName]fleet.Doubt, len(d.in.Previous.Doubted))
	for _, doubt := range d.in.Previous.Doubted {
		doubted[doubt.Node] = doubt
	}
	for _, n := range d.in.Nodes {
		doubt, doubts := doubted[n.Name]
		switch {
		case doubts && d.nodes[n.Name] == nil:
			d.doubt(doubt)
			if before[n.Name] {
				d.heard = append(d.heard, n.Name)
			}
		case before[n.Name] || d.nodes[n.Name] != nil:
			d.heard = append(d.heard, n.Name)
		case n.New:
		case n.Down == "":
			d.mute.up, d.mute.any = cmp.Or(d.mute.up, n.Name), cmp.Or(d.mute.any, n.Name)
		default:
			d.mute.any = cmp.Or(d.mute.any, n.Name)
		}
	}
}

// doubt takes account of a node that may run what nobody remembers, because a backup was restored: what must not exist twice is not
// made before it speaks or is removed, and all else not before it has had the time that pods of a lost node are waited for.
func (d *decider) doubt(doubt fleet.Doubt) {
	d.doubted = append(d.doubted, doubt)
	d.mute.any = cmp.Or(d.mute.any, doubt.Node)
	stay := cmp.Or(d.in.Stay, defaultStay)
	if over := doubt.Since.Add(stay); d.in.Now.Before(over) && doubt.Since.Before(d.in.Now.Add(stay)) {
		d.mute.up = cmp.Or(d.mute.up, doubt.Node)
		d.wakeAt = fleet.Earliest(d.wakeAt, over)
	}
	d.note(nodeID(doubt.Node), "nothing was heard of it since a backup was restored, and it may have pods that the backup does not know: "+
		"what must not run twice waits for it; if it is gone for good, skerry node remove %s", doubt.Node)
}

// unheard is the first node that has never reported, not counting those that are down or counting them too; empty when all
// have. Nothing is made that may be there already, and what must not exist twice not even while a node is down.
func (d *decider) unheard(down bool) fleet.NodeName {
	if down {
		return d.mute.any
	}
	return d.mute.up
}

// move makes pods those of the source that has their owner now, and their template with it; an empty revision leaves that
// where it was.
func (d *decider) move(owner fleet.ObjectID, source fleet.SourceName, from fleet.Revision) {
	for _, m := range d.members[owner] {
		if s := &d.slots[d.at[m.Slot.UID]]; s.Source != source {
			s.Source, s.From = source, cmp.Or(from, s.From)
		}
	}
}

// release drops slots whose pods their node says are gone.
func (d *decider) release() {
	d.slots = slices.DeleteFunc(d.slots, func(s fleet.Slot) bool {
		if d.nowhere(s) {
			d.free(s.Pod)
			return true
		}
		if s.Goal != fleet.Drain && !s.Counted {
			return false
		}
		report, heard := d.nodes[s.Node]
		gone := heard && report.Epoch >= s.Epoch && d.reports[s.UID] == nil
		if gone {
			d.free(s.Pod)
			d.last[s.Pod] = s.Node
		}
		return gone
	})
	d.at = make(map[string]int, len(d.slots))
	for i := range d.slots {
		d.at[d.slots[i].UID] = i
	}
}

func (d *decider) free(name fleet.PodID) {
	if d.names[name]--; d.names[name] <= 0 {
		delete(d.names, name)
	}
}

// nowhere reports whether a slot is on a node that is no more, or for a machine that had the name of another by now, and no other has
// its pod.
func (d *decider) nowhere(s fleet.Slot) bool {
	if len(d.in.Reports) == 0 || d.reports[s.UID] != nil || s.Node == "" {
		return false
	}
	report := d.nodes[s.Node]
	return !d.exists[s.Node] || report != nil && report.Trouble == "" && 0 < report.Since && s.Epoch <= report.Since
}

// index sorts what there is by what it belongs to.
func (d *decider) index() {
	d.members, d.counted = members(d.slots, d.reports), len(d.slots)
	d.owned, d.found, d.runs = map[fleet.ObjectID][]fleet.ObjectID{}, map[fleet.ObjectID][]fleet.ObjectID{}, map[fleet.ObjectID][]fleet.ObjectID{}
	for id, set := range d.sets {
		d.owned[set.Owner] = append(d.owned[set.Owner], id)
	}
	for id, j := range d.jobs {
		d.runs[j.Owner] = append(d.runs[j.Owner], id)
	}
	for id, list := range d.members {
		if above := list[0].Slot.Controller; id.Kind == fleet.KindJob && above != (fleet.ObjectID{}) && slices.ContainsFunc(list, d.adopted) {
			d.found[above] = append(d.found[above], id)
		}
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

// ready reports whether pods may be made: what is there already must be known before anything is added.
func (d *decider) ready(about fleet.ObjectID) bool {
	if node := d.unheard(false); node != "" && len(d.nodes) > 0 {
		d.note(about, "node %s has not reported yet: nothing is placed before it is known what runs there", node)
		return false
	}
	if len(d.nodes) == 0 {
		d.note(about, "no node has reported yet: nothing can be placed")
	}
	return len(d.nodes) > 0
}

// vanish drops pods that should go and never had a node: nobody has to be told. It reports whether there were any.
func (d *decider) vanish() bool {
	before := len(d.slots)
	d.slots = slices.DeleteFunc(d.slots, func(s fleet.Slot) bool { return s.Node == "" && s.Goal == fleet.Drain })
	return len(d.slots) < before
}

// maxNameBase is where Kubernetes cuts a generated name before its suffix.
const maxNameBase = 58

// name is a pod's that nobody has: it hangs on who makes it and how many were made, not on the moment, so that diff foretells
// it.
func (d *decider) name(namespace, base, uid string, born *int) fleet.PodID {
	base += "-"
	base = base[:min(len(base), maxNameBase)]
	id := fleet.PodID{Namespace: namespace}
	for id.Name == "" || d.names[id] > 0 {
		*born++
		suffix := "zzzzz" + fleet.SafeSuffix(uid, strconv.Itoa(*born))
		id.Name = base + suffix[len(suffix)-5:]
	}
	return id
}

// place makes a slot, without a node unless it has one already, if limits and quotas of its namespace let it in.
func (d *decider) place(s fleet.Slot) bool {
	if !d.admit(&s) {
		return false
	}
	s.UID = fleet.DeriveUID("pod", s.Pod.String(), strconv.FormatUint(d.epoch, 10), d.in.Now.Format(time.RFC3339Nano))
	s.Goal, s.Created, s.Epoch = fleet.Run, d.in.Now, d.epoch
	d.at[s.UID] = len(d.slots)
	d.slots = append(d.slots, s)
	d.names[s.Pod]++
	return true
}

// drain sets a slot's goal, once.
func (d *decider) drain(uid string, next ...fleet.Hash) {
	if s := &d.slots[d.at[uid]]; s.Goal == fleet.Run {
		s.Goal, s.Drained, s.Epoch, s.Next = fleet.Drain, d.in.Now, d.epoch, next
	}
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
			if s.Owner.Kind == fleet.KindJob && s.Owner != above && d.jobs[s.Owner] == nil {
				d.drain(s.UID) // its CronJob has forgotten that run
			}
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
