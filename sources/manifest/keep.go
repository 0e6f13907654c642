package manifest

import (
	"bytes"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/skerry-dev/skerry/fleet"
)

// Kept is what a source should be taken to hold now, given what it held before.
type Kept struct {
	Objects []fleet.Object // in the order of their IDs
	// Notes say of each object that is kept in an older version why. Asked say it of those that asked for it by the
	// annotation skerry.dev/prune, and that are not in the source any more.
	Notes, Asked []fleet.Note
}

// Keep joins a reading with what the same source last held in good form: an object that could not be read
// keeps its last good version, and only what is known to be gone goes, unless its last good version asks by the
// annotation skerry.dev/prune to stay. A source that has nothing at all any more keeps everything, unless mayEmpty says
// that this may be meant.
//
// Objects in result must have Source and Revision set already.
func Keep(before []fleet.Object, result Result, mayEmpty bool) Kept {
	kept := Kept{Objects: slices.Clone(result.Objects)}
	refused := map[fleet.ObjectID]Fault{}
	for _, f := range result.Faults {
		if f.Kind != Warning && f.Object != (fleet.ObjectID{}) {
			if _, told := refused[f.Object]; !told {
				refused[f.Object] = f
			}
		}
	}
	emptied := len(result.Objects) == 0 && !mayEmpty
	for _, old := range before {
		if _, read := slices.BinarySearchFunc(result.Objects, old.ID, compareID); read {
			continue
		}
		fault, isRefused := refused[old.ID]
		var why string
		asked := false
		switch {
		case isRefused:
			why = fault.String()
		case result.Lost(old.File):
			why = old.File + " could not be read"
		case result.mayHold(old.ID):
			why = "a file that cannot be read speaks of it"
		case stays(old):
			asked, why = true, fmt.Sprintf("it is gone from its source, and %s is \"false\"; remove it with skerry delete", fleet.AnnotationPrune)
		case emptied:
			why = "the source has nothing in it any more; if that is meant, set allowEmpty on it"
		default:
			continue
		}
		kept.Objects = append(kept.Objects, old)
		list := &kept.Notes
		if asked {
			list = &kept.Asked
		}
		*list = append(*list, fleet.Note{About: old.ID, Text: fmt.Sprintf("kept as of %s: %s", old.Revision.Short(), why)})
	}
	slices.SortFunc(kept.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) })
	return kept
}

// stays reports whether an object asks to be kept when its source has it no more.
func stays(o fleet.Object) bool {
	m, err := meta.Accessor(o.Value)
	return err == nil && m.GetAnnotations()[fleet.AnnotationPrune] == "false"
}

// mayHold reports whether a file of which not even the names could be read may be where an object went: it
// speaks of it. A file that does not, a chart's template say, keeps nothing from being removed.
func (r Result) mayHold(id fleet.ObjectID) bool {
	return slices.ContainsFunc(r.unread, func(text []byte) bool { return bytes.Contains(text, []byte(id.Name)) })
}

func compareID(o fleet.Object, id fleet.ObjectID) int { return o.ID.Compare(id) }
