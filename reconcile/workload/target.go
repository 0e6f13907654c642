package workload

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// Target is what a workload should run, by Git and by what operators asked for.
type Target struct {
	Set  fleet.ObjectID // the very set, where one is meant; zero for any that will do
	Want fleet.Hash
	// Stamp: pods that were restarted later than Restarted will do; a Config of "" asks for none in particular.
	Stamp fleet.Stamp
	From  fleet.Revision // where the template can be read
}

// Of is the target of running one set again.
func Of(s *fleet.Set) Target { return Target{Set: s.ID, Want: s.Want, Stamp: s.Stamp, From: s.From} }

// Is reports whether what has that template and stamp is what should run.
func (t Target) Is(want fleet.Hash, stamp fleet.Stamp) bool {
	return want == t.Want && (t.Stamp.Config == "" || stamp.Config == t.Stamp.Config) && !stamp.Restarted.Before(t.Stamp.Restarted)
}

// find is the index of the set among n that stands for the target, -1 if none: that restarted last, else the one in use last;
// of those that differ in nothing the oldest (semantics 4).
func (t Target) find(n int, set func(i int) *fleet.Set) int {
	at := -1
	for i := range n {
		s := set(i)
		if s.ID == t.Set {
			return i
		}
		if t.Is(s.Want, s.Stamp) && (at < 0 || preferred(s, set(at))) {
			at = i
		}
	}
	return at
}

func (t Target) in(sets []fleet.Set) int {
	return t.find(len(sets), func(i int) *fleet.Set { return &sets[i] })
}

func preferred(a, b *fleet.Set) bool {
	if c := a.Stamp.Restarted.Compare(b.Stamp.Restarted); c != 0 {
		return c > 0
	}
	if a.Stamp.Config != b.Stamp.Config && a.Number != b.Number {
		return a.Number > b.Number
	}
	return cmp.Or(a.Created.Compare(b.Created), a.ID.Compare(b.ID)) < 0
}

// history is what revisions of one workload share: Deployments keep ReplicaSets, the others ControllerRevisions.
type history struct {
	kind   string // of the sets
	object fleet.Object
	target Target
	taken  func(name string) bool // whether a set's name belongs to somebody else; nil for nobody
	now    time.Time
}

// stamp notes of a set that says nothing about its configuration that it runs with the one at hand: that changes of it roll
// was asked for just now.
func (h *history) stamp(sets []fleet.Set) {
	if h.target.Stamp.Config == "" || h.target.in(sets) >= 0 {
		return
	}
	silent := h.target
	silent.Stamp.Config = ""
	if at := silent.in(sets); at >= 0 && sets[at].Stamp.Config == "" {
		sets[at].Stamp.Config = h.target.Stamp.Config
	}
}

// adopt gives the set at that index the highest number, and reports whether it had another.
func (h *history) adopt(sets []fleet.Set, at int) bool {
	set := &sets[at]
	if set.Source != h.object.Source {
		set.Source, set.From = h.object.Source, h.target.From
	}
	highest := newest(sets)
	if set.Number == highest && set.Number != 0 {
		return false
	}
	if set.Number != 0 {
		set.Former = append(slices.Clone(set.Former), set.Number)
	}
	set.Number, set.From = highest+1, h.target.From
	return true
}

// create is a set for the target, with the highest number. Collisions counts names that were taken (semantics 1).
func (h *history) create(sets []fleet.Set, collisions *int32) fleet.Set {
	label := h.label(*collisions)
	for h.used(sets, label) {
		*collisions++
		label = h.label(*collisions)
	}
	id := fleet.ObjectID{Kind: h.kind, Namespace: h.object.ID.Namespace, Name: h.object.ID.Name + "-" + label}
	return fleet.Set{
		ID: id, Owner: h.object.ID, Source: h.object.Source, From: h.target.From, Want: h.target.Want, Stamp: h.target.Stamp, Label: label,
		Number: newest(sets) + 1, Created: h.now,
		UID: fleet.DeriveUID("replicaset", id.String()), // not of the time: diff foretells the pods' names
	}
}

func (h *history) used(sets []fleet.Set, label string) bool {
	name := h.object.ID.Name + "-" + label
	return (h.taken != nil && h.taken(name)) || slices.ContainsFunc(sets, func(s fleet.Set) bool { return s.ID.Name == name })
}

func (h *history) label(collisions int32) string {
	mark := ""
	if collisions > 0 {
		mark = strconv.Itoa(int(collisions))
	}
	if h.target.Stamp == (fleet.Stamp{}) {
		return fleet.SafeSuffix(string(h.target.Want), mark)
	}
	return fleet.SafeSuffix(string(h.target.Want), h.target.Stamp.String(), mark)
}

func newest(sets []fleet.Set) int64 {
	var highest int64
	for i := range sets {
		highest = max(highest, sets[i].Number)
	}
	return highest
}

// byAge orders sets by number, and where that says nothing (after a lost store) by age.
func byAge(a, b fleet.Set) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), a.Created.Compare(b.Created), a.ID.Compare(b.ID))
}

// defaultHistory is how many old revisions are kept where nothing is said.
const defaultHistory = 10

// surplus are the sets beyond the history limit among those that nobody needs.
func surplus(idle []fleet.Set, limit *int32) []fleet.Set {
	keep := defaultHistory
	if limit != nil {
		keep = int(*limit)
	}
	if len(idle) <= keep {
		return nil
	}
	slices.SortFunc(idle, byAge)
	return idle[:len(idle)-keep]
}
