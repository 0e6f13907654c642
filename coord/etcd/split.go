package etcd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// A part is a field of the assignment: how it becomes keys, and back.
type part struct {
	name string
	// split yields what lies under the keys name/id, or under name itself for id "".
	split func(a *fleet.Assignment, yield func(id string, value any))
	// read decodes one value.
	read func(raw []byte) (any, error)
	// join puts values that were read in their place and order.
	join func(a *fleet.Assignment, values []item)
}

// item is a value that was read, and its key.
type item struct {
	key   string
	value any
}

// split are the fields of an assignment, but for the epoch, which is in the head. TestEveryFieldIsCarried finds one that is missing.
var fields = []part{
	whole("revisions", func(a *fleet.Assignment) *map[fleet.SourceName]fleet.Revision { return &a.Revisions }),
	whole("heard", func(a *fleet.Assignment) *[]fleet.NodeName { return &a.Heard }),
	whole("doubted", func(a *fleet.Assignment) *[]fleet.Doubt { return &a.Doubted }),
	one("electorate", func(a *fleet.Assignment) *fleet.Electorate { return &a.Electorate }),
	one("agreed", func(a *fleet.Assignment) *time.Time { return &a.Agreed }),
	list("slot", func(a *fleet.Assignment) *[]fleet.Slot { return &a.Slots },
		func(s *fleet.Slot) string { return s.UID }, func(a, b *fleet.Slot) int { return fleet.SlotOrder(*a, *b) }),
	objects("set", func(a *fleet.Assignment) *[]fleet.Set { return &a.Sets }, func(s *fleet.Set) fleet.ObjectID { return s.ID }),
	objects("rollout", func(a *fleet.Assignment) *[]fleet.Rollout { return &a.Rollouts }, func(r *fleet.Rollout) fleet.ObjectID { return r.ID }),
	objects("job", func(a *fleet.Assignment) *[]fleet.Job { return &a.Jobs }, func(j *fleet.Job) fleet.ObjectID { return j.ID }),
	objects("cron", func(a *fleet.Assignment) *[]fleet.Cron { return &a.Crons }, func(c *fleet.Cron) fleet.ObjectID { return c.ID }),
	objects("scaler", func(a *fleet.Assignment) *[]fleet.Scaler { return &a.Scalers }, func(s *fleet.Scaler) fleet.ObjectID { return s.ID }),
	objects("exposure", func(a *fleet.Assignment) *[]fleet.Exposure { return &a.Exposures }, func(e *fleet.Exposure) fleet.ObjectID { return e.ID }),
	list("reading", func(a *fleet.Assignment) *[]fleet.Reading { return &a.Readings }, func(r *fleet.Reading) string { return string(r.Source) },
		func(a, b *fleet.Reading) int { return cmp.Compare(a.Source, b.Source) }),
	whole("strains", func(a *fleet.Assignment) *[]fleet.Strain { return &a.Strains }),
	whole("bindings", func(a *fleet.Assignment) *[]fleet.Binding { return &a.Bindings }),
	whole("unclaimed", func(a *fleet.Assignment) *[]fleet.Disposable { return &a.Unclaimed }),
	whole("prunable", func(a *fleet.Assignment) *[]fleet.Disposable { return &a.Prunable }),
}

func list[T any](name string, field func(*fleet.Assignment) *[]T, id func(*T) string, order func(a, b *T) int) part {
	return part{
		name: name,
		split: func(a *fleet.Assignment, yield func(string, any)) {
			for i := range *field(a) {
				v := &(*field(a))[i]
				yield(id(v), v)
			}
		},
		read: decode[T],
		join: func(a *fleet.Assignment, values []item) {
			slices.SortFunc(values, func(a, b item) int {
				return cmp.Or(order(a.value.(*T), b.value.(*T)), cmp.Compare(a.key, b.key))
			})
			all := make([]T, len(values))
			for i, v := range values {
				all[i] = *v.value.(*T)
			}
			*field(a) = all
		},
	}
}

func objects[T any](name string, field func(*fleet.Assignment) *[]T, id func(*T) fleet.ObjectID) part {
	return list(name, field, func(v *T) string { return id(v).String() }, func(a, b *T) int { return id(a).Compare(id(b)) })
}

func whole[T any](name string, field func(*fleet.Assignment) *T) part {
	return part{
		name: name,
		split: func(a *fleet.Assignment, yield func(string, any)) {
			if v := field(a); reflect.ValueOf(v).Elem().Len() > 0 {
				yield("", v)
			}
		},
		read: decode[T],
		join: func(a *fleet.Assignment, values []item) { *field(a) = *values[0].value.(*T) },
	}
}

// one is a single value; its zero value is not written.
func one[T any](name string, field func(*fleet.Assignment) *T) part {
	return part{
		name: name,
		split: func(a *fleet.Assignment, yield func(string, any)) {
			if v := field(a); !reflect.ValueOf(v).Elem().IsZero() {
				yield("", v)
			}
		},
		read: decode[T],
		join: func(a *fleet.Assignment, values []item) { *field(a) = *values[0].value.(*T) },
	}
}

func decode[T any](raw []byte) (any, error) {
	v := new(T)
	return v, json.Unmarshal(raw, v)
}

// head is what every commit writes.
type head struct {
	Epoch uint64 `json:"epoch"`
	// Staged is how many chunks of this epoch count beside the other keys, and before them.
	Staged int `json:"staged,omitempty"`
}

// split makes keys below assignment/ of an assignment: all but the head.
func split(a *fleet.Assignment) (map[string][]byte, error) {
	keys := map[string][]byte{}
	var failed error
	for _, p := range fields {
		p.split(a, func(id string, value any) {
			key := p.name
			if id != "" {
				key += "/" + id
			}
			for keys[key] != nil { // two of one name; both are kept
				key += "+"
			}
			raw, err := json.Marshal(value)
			if err != nil {
				failed = fmt.Errorf("write %s: %w", key, err)
				return
			}
			keys[key] = raw
		})
	}
	return keys, failed
}

// partOf is the part that a key below assignment/ belongs to. A key that this version does not know belongs to none.
func partOf(key string) (int, bool) {
	name, _, _ := strings.Cut(key, "/")
	i := slices.IndexFunc(fields, func(p part) bool { return p.name == name })
	return i, i >= 0
}

// join is the opposite of split.
func join(epoch uint64, entries map[string]*entry) (fleet.Assignment, error) {
	a := fleet.Assignment{Epoch: epoch}
	values := make([][]item, len(fields))
	for key, e := range entries {
		i, known := partOf(key)
		if !known {
			continue
		}
		if e.decoded == nil {
			v, err := fields[i].read(e.value)
			if err != nil {
				return fleet.Assignment{}, fmt.Errorf("read %s of the assignment: %w", key, err)
			}
			e.decoded = v
		}
		values[i] = append(values[i], item{key, e.decoded})
	}
	for i, p := range fields {
		if len(values[i]) > 0 {
			p.join(&a, values[i])
		}
	}
	return a, nil
}
