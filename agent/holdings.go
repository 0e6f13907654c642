package agent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// holding is what one source holds. It is replaced whole, never changed.
type holding struct {
	name    fleet.SourceName
	url     string
	path    string
	applied bool // by hand, not from a configured source
	// abandoned: nobody holds it. It stands for what was deleted of a source that is not read any more.
	abandoned bool
	revision  fleet.Revision
	title     string
	reading   *fleet.Reading // how other nodes come to the same; nil where there are none
	loaded    bool           // objects are known; until then nothing is known about the source
	objects   []fleet.Object
	held      map[fleet.ObjectID]heldBack
	notes     []fleet.Note
	asked     []fleet.Note // on objects that are kept because they ask for it, and that the source has no more
	faults    []manifest.Fault
	checked   time.Time      // the last look that succeeded
	seen      fleet.Revision // what that look found; the revision of its own, but on nodes that follow the leader
	err       error          // of the last look
	failures  int            // looks in a row that failed
	misread   string         // why it is not what the leader decided on; empty when it is
	missed    *fleet.Reading // which it is not, and when that was tried last; nil when it is
	missedAt  time.Time
}

// heldBack is an object that is known to exist and whose content is not to be had.
type heldBack struct {
	revision fleet.Revision // in which it was last good
	why      string
}

// holdings is what all sources hold, and what follows from it.
type holdings struct {
	mu      sync.Mutex // guards replacing
	all     map[fleet.SourceName]holding
	desired atomic.Pointer[fleet.Desired]
	notes   atomic.Pointer[[]fleet.Note] // of objects that two sources want
}

func newHoldings() *holdings {
	h := &holdings{all: map[fleet.SourceName]holding{}}
	h.desired.Store(&fleet.Desired{})
	h.notes.Store(&[]fleet.Note{})
	return h
}

// put replaces what some sources hold, all at once: an object that moves from one to another is never wanted
// by nobody.
func (h *holdings) put(list ...holding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range list {
		h.all[n.name] = n
	}
	h.merge()
}

func (h *holdings) merge() {
	desired, notes := merge(slices.Collect(maps.Values(h.all)))
	h.desired.Store(&desired)
	h.notes.Store(&notes)
}

// get returns what one source holds.
func (h *holdings) get(name fleet.SourceName) (holding, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.all[name]
	return n, ok
}

// list is what all sources hold, in the order of their names, what was applied by hand last.
func (h *holdings) list() []holding {
	h.mu.Lock()
	defer h.mu.Unlock()
	return inOrder(slices.Collect(maps.Values(h.all)))
}

func inOrder(list []holding) []holding {
	slices.SortFunc(list, func(a, b holding) int {
		switch {
		case a.applied == b.applied:
			return cmp.Compare(a.name, b.name)
		case b.applied:
			return -1
		default:
			return 1
		}
	})
	return list
}

// merge joins what the sources hold. An object that two of them want is taken from the first, and a note
// names both.
func merge(all []holding) (fleet.Desired, []fleet.Note) {
	d := fleet.Desired{Revisions: map[fleet.SourceName]fleet.Revision{}, Held: map[fleet.ObjectID]string{}}
	owner := map[fleet.ObjectID]fleet.Object{}
	var notes []fleet.Note
	for _, h := range inOrder(all) {
		if !h.loaded {
			continue
		}
		d.Revisions[h.name] = h.revision
		if h.reading != nil {
			d.Readings = append(d.Readings, *h.reading)
		}
		if h.abandoned {
			if d.Abandoned == nil {
				d.Abandoned = map[fleet.SourceName]bool{}
			}
			d.Abandoned[h.name] = true
		}
		for _, o := range h.objects {
			if first, taken := owner[o.ID]; taken {
				notes = append(notes, fleet.Note{About: o.ID, Text: fmt.Sprintf(
					"wanted by two sources: taken from %s (%s), not from %s (%s); remove one of them", first.Source, first.File, o.Source, o.File)})
				continue
			}
			owner[o.ID] = o
			d.Objects = append(d.Objects, o)
		}
		for id, back := range h.held {
			d.Held[id] = back.why
		}
		notes = append(append(notes, h.notes...), h.asked...)
	}
	for id := range d.Held {
		if _, had := owner[id]; had {
			delete(d.Held, id)
		}
	}
	slices.SortFunc(d.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) })
	return d, notes
}
