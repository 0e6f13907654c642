package fleet

import (
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is one desired object: decoded, validated, defaulted, and where it came from.
type Object struct {
	ID       ObjectID
	Source   SourceName
	Revision Revision // the revision in which it was last read in good form
	File     string   // path inside the source, with slashes
	Line     int      // first line of its document in File, from 1; 0 where unknown
	Value    runtime.Object

	// Template is the pod template as written, before defaults; nil for kinds without pods. A bare Pod's
	// own metadata (labels, annotations) and spec are its template.
	Template *corev1.PodTemplateSpec
	// Hash is HashTemplate(Template); empty where Template is nil.
	Hash Hash
}

// Desired is everything the fleet should be, over all sources.
type Desired struct {
	// Objects are in the order of their IDs, each ID once.
	Objects []Object
	// Revisions has every source that was read at least once, with the revision Objects were read from.
	// What belongs to a source that is not in here is left as it is: nothing is known about it.
	Revisions map[SourceName]Revision
	// Readings say of sources of a fleet how every node comes to the same objects, in the order of their names.
	Readings []Reading
	// Held are objects known to exist whose content cannot be had, with the reason. They are left as they
	// are: not changed, not removed.
	Held map[ObjectID]string
	// Abandoned are sources in Revisions that nobody reads any more, of which something was deleted by hand. What has
	// data in it is not taken for gone with them.
	Abandoned map[SourceName]bool
	// Rollback are sources whose workloads go back to what was good last when a rollout fails, unless they say
	// otherwise themselves.
	Rollback map[SourceName]bool
}

// Known reports whether the absence of an object from d means that it should not be: its source was read
// and the object is not held.
func (d Desired) Known(source SourceName, id ObjectID) bool {
	_, read := d.Revisions[source]
	_, held := d.Held[id]
	return read && !held
}

// Find returns the object with that ID. O(log n).
func (d Desired) Find(id ObjectID) (Object, bool) {
	at, ok := slices.BinarySearchFunc(d.Objects, id, func(o Object, id ObjectID) int { return o.ID.Compare(id) })
	if !ok {
		return Object{}, false
	}
	return d.Objects[at], true
}

// Each yields the objects whose value is a T, in the order of their IDs.
func Each[T runtime.Object](d Desired) iter.Seq2[Object, T] {
	return func(yield func(Object, T) bool) {
		for _, o := range d.Objects {
			if v, ok := o.Value.(T); ok && !yield(o, v) {
				return
			}
		}
	}
}

// Lookup returns the value of an object if it is there and a T.
func Lookup[T runtime.Object](d Desired, id ObjectID) (T, bool) {
	o, _ := d.Find(id)
	v, ok := o.Value.(T)
	return v, ok
}
