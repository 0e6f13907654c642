package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// What was applied by hand is kept as a set a SOURCE: objects in DataDir, but Secrets in RunDir, which lies in
// memory. After a reboot those are gone, and what needs them waits until the set is applied again.

func (a *Agent) appliedFile(name fleet.SourceName, secret bool) string {
	if secret {
		return appliedFile(a.RunDir, name)
	}
	return appliedFile(a.DataDir, name)
}

// HasApplied reports whether something that was applied under that name is kept below a data folder.
func HasApplied(dataDir string, name fleet.SourceName) bool {
	_, err := os.Stat(appliedFile(dataDir, name))
	return err == nil
}

func appliedFile(root string, name fleet.SourceName) string {
	return filepath.Join(root, "applied", fileName(string(name))+".json")
}

// Apply makes a set desired. What other sets had of it is the set's from then on: what was applied last
// counts, as with kubectl.
func (a *Agent) Apply(_ context.Context, set api.Set) error {
	if a.Fleet != nil {
		return ErrFleet
	}
	a.keeping.Lock()
	defer a.keeping.Unlock()
	if err := a.refuse(set, func(fleet.ObjectID) bool { return false }); err != nil {
		return err
	}
	next, err := a.applied(set)
	if err != nil {
		return err
	}
	if err := a.admit(set, next.objects); err != nil {
		return err
	}
	changed := []holding{next}
	for _, h := range a.held.list() {
		if h.applied && h.name != next.name {
			if left, lost := without(h, func(o fleet.Object) bool { return has(next.objects, o.ID) }); lost {
				changed = append(changed, left)
			}
		}
	}
	return a.take(changed)
}

// admit holds what a set brings to the node's policy: whoever sent it may have read it under another.
func (a *Agent) admit(set api.Set, objects []fleet.Object) error {
	labels := map[string]map[string]string{}
	for o, n := range fleet.Each[*corev1.Namespace](*a.held.desired.Load()) {
		labels[o.ID.Name] = n.Labels
	}
	for _, o := range objects {
		if n, ok := o.Value.(*corev1.Namespace); ok {
			labels[n.Name] = n.Labels
		}
	}
	var refused []string
	for _, o := range objects {
		if slices.ContainsFunc(set.Objects, func(s api.Object) bool { return s.ID == o.ID }) {
			refused = append(refused, a.Policy.Refused(o, labels[o.ID.Namespace])...)
		}
	}
	if len(refused) > 0 {
		return &api.Refusal{Text: strings.Join(refused, "\n")}
	}
	return nil
}

// without is a holding without some of its objects.
func without(h holding, gone func(fleet.Object) bool) (left holding, lost bool) {
	before := len(h.objects)
	h.objects = slices.DeleteFunc(slices.Clone(h.objects), gone)
	h.notes = nil
	h.asked = slices.DeleteFunc(slices.Clone(h.asked), func(n fleet.Note) bool { return !has(h.objects, n.About) })
	return h, len(h.objects) < before
}

func has(objects []fleet.Object, id fleet.ObjectID) bool {
	return slices.ContainsFunc(objects, func(o fleet.Object) bool { return o.ID == id })
}

// leftOver reports whether an object is there only because it asked to be kept: its source has it no more.
func (a *Agent) leftOver(id fleet.ObjectID) bool {
	return slices.ContainsFunc(a.held.list(), func(h holding) bool {
		return slices.ContainsFunc(h.asked, func(n fleet.Note) bool { return n.About == id })
	})
}

// refuse says no to objects that a Git source owns, but for some: what a push says would be undone at the next sync.
func (a *Agent) refuse(set api.Set, but func(fleet.ObjectID) bool) error {
	desired := a.held.desired.Load()
	var owned []string
	for _, o := range set.Objects {
		if have, ok := desired.Find(o.ID); ok && !but(o.ID) && slices.ContainsFunc(a.Sources, func(s Source) bool { return s.Name == have.Source }) {
			owned = append(owned, fmt.Sprintf("%s belongs to source %s (%s, commit %s)", o.ID, have.Source, have.File, have.Revision.Short()))
		}
	}
	if owned == nil {
		return nil
	}
	return &api.Refusal{Text: strings.Join(owned, "\n") + "\nGit is the truth for these: change them there and push"}
}

// applied is what a set's source would hold after it was applied.
func (a *Agent) applied(set api.Set) (holding, error) {
	before, had := a.held.get(set.Name)
	if !had {
		before = holding{name: set.Name, applied: true, path: set.Path}
	}
	result, err := reading(set)
	if err != nil {
		return holding{}, err
	}
	if set.Partial { // what it does not mention stays
		for _, old := range before.objects {
			if !slices.ContainsFunc(result.Objects, func(o fleet.Object) bool { return o.ID == old.ID }) {
				result.Objects = append(result.Objects, old)
			}
		}
		slices.SortFunc(result.Objects, func(x, y fleet.Object) int { return x.ID.Compare(y.ID) })
	}
	return take(set.Name, set.Revision, result, before, false), nil
}

// reading is a set as if it had just been read.
func reading(set api.Set) (manifest.Result, error) {
	result := manifest.Result{Broken: map[string]bool{}}
	for _, file := range set.Broken {
		result.Broken[file] = true
	}
	for _, o := range set.Objects {
		object, err := decode(o)
		if err != nil {
			return result, err
		}
		result.Objects = append(result.Objects, object)
	}
	slices.SortFunc(result.Objects, func(x, y fleet.Object) int { return x.ID.Compare(y.ID) })
	return result, nil
}

// take keeps holdings on disk, the one that gains objects first, and makes all of them desired at once. After
// a crash in between an object is wanted twice, which is settled at the next look; it is never lost.
func (a *Agent) take(changed []holding) error {
	now := time.Now()
	for i := range changed {
		h := &changed[i]
		h.checked, h.loaded = now, true
		h.revision = newRevision(h.name, now)
		err := a.templates.keep(h.objects)
		if err == nil {
			err = a.store(*h)
		}
		if err != nil { // what is refused must not come back with the next agent
			return errors.Join(fmt.Errorf("keep what was applied: %w", err), a.takeBack(changed[:i+1]))
		}
	}
	a.held.put(changed...)
	a.leadBell.ring()
	a.changed.ring()
	return nil
}

// takeBack puts on disk again what is held of sets.
func (a *Agent) takeBack(changed []holding) error {
	var faults []error
	for _, h := range changed {
		if before, had := a.held.get(h.name); had {
			faults = append(faults, a.store(before))
			continue
		}
		for _, secret := range []bool{false, true} {
			if err := os.Remove(a.appliedFile(h.name, secret)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

// newRevision names one state of an applied set. It is not a hash of the content, which may be secret, but
// differs at each change, so that a change that was not decided on yet can be told.
func newRevision(name fleet.SourceName, now time.Time) fleet.Revision {
	return fleet.Revision(strings.ReplaceAll(fleet.DeriveUID(string(name), now.Format(time.RFC3339Nano)), "-", ""))
}

// Delete makes the objects of a set desired no more.
func (a *Agent) Delete(ctx context.Context, set api.Set) error {
	if a.Fleet != nil {
		return ErrFleet
	}
	a.keeping.Lock()
	defer a.keeping.Unlock()
	if err := a.refuse(set, a.leftOver); err != nil {
		return err
	}
	assignment, err := a.Store.Load(ctx)
	if err != nil {
		return err
	}
	gone := map[fleet.ObjectID]bool{}
	for _, o := range set.Objects {
		gone[o.ID] = true
	}
	// A set that becomes empty stays until the agent ends: Decide must know that nothing is wanted of it.
	var changed []holding
	for _, source := range abandoned(assignment, a.held.list(), gone) {
		changed = append(changed, holding{name: source, applied: true, abandoned: true})
	}
	for _, h := range a.held.list() {
		if !h.applied { // what a source has no more, and keeps because it was asked to, is let go
			if left, lost := without(h, func(o fleet.Object) bool { return gone[o.ID] && a.leftOver(o.ID) }); lost {
				left.notes = h.notes
				if err := a.record(left); err != nil {
					return err
				}
				a.held.put(left)
				a.leadBell.ring()
			}
			continue
		}
		all := h.name == set.Name && !set.Partial
		if left, lost := without(h, func(o fleet.Object) bool { return all || gone[o.ID] }); lost {
			changed = append(changed, left)
		}
	}
	return a.take(changed)
}

// abandoned are the sources that nobody holds any more and all of whose pods belong to objects that should
// go: a source that was taken out of the configuration, for one.
func abandoned(assignment fleet.Assignment, held []holding, gone map[fleet.ObjectID]bool) []fleet.SourceName {
	all := map[fleet.SourceName]bool{}
	for i := range assignment.Slots {
		s := &assignment.Slots[i]
		if slices.ContainsFunc(held, func(h holding) bool { return h.name == s.Source }) {
			continue
		}
		only, seen := all[s.Source]
		all[s.Source] = (only || !seen) && (gone[s.Owner] || gone[s.Controller])
	}
	var list []fleet.SourceName
	for source, only := range all {
		if only {
			list = append(list, source)
		}
	}
	slices.Sort(list)
	return list
}

// stored is a set on disk.
type stored struct {
	Name     fleet.SourceName `json:"name"`
	Revision fleet.Revision   `json:"revision"`
	Objects  []storedObject   `json:"objects"`
}

type storedObject struct {
	api.Object
	Revision fleet.Revision `json:"revision"`
}

func (a *Agent) store(h holding) error {
	parts := map[bool]stored{false: {Name: h.name, Revision: h.revision}, true: {Name: h.name, Revision: h.revision}}
	for _, o := range h.objects {
		encoded, err := Encode(o)
		if err != nil {
			return err
		}
		secret := o.ID.Kind == fleet.KindSecret
		part := parts[secret]
		part.Objects = append(part.Objects, storedObject{Object: encoded, Revision: o.Revision})
		parts[secret] = part
	}
	// Both are tried: where one cannot be written, what is taken back must still be in the other.
	return errors.Join(storePart(a.appliedFile(h.name, false), parts[false]), storePart(a.appliedFile(h.name, true), parts[true]))
}

func storePart(file string, part stored) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	raw, err := json.Marshal(part)
	if err != nil {
		return err
	}
	return writeFile(file, raw) // os.CreateTemp makes files 0600
}

// rememberApplied reads what was applied before.
func (a *Agent) rememberApplied() error {
	entries, err := os.ReadDir(filepath.Join(a.DataDir, "applied"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := filepath.Join(a.DataDir, "applied", e.Name())
		h, err := readStored(file)
		if err != nil {
			return fmt.Errorf("read what was applied: %w; if the file is damaged, remove it and apply again", err)
		}
		secrets, err := readStored(a.appliedFile(h.name, true))
		if err == nil {
			h.objects = append(h.objects, secrets.objects...)
			slices.SortFunc(h.objects, func(x, y fleet.Object) int { return x.ID.Compare(y.ID) })
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read what was applied: %w", err)
		}
		if len(h.objects) == 0 {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
		a.held.put(h)
	}
	return nil
}

func readStored(file string) (holding, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return holding{}, err
	}
	var s stored
	if err := json.Unmarshal(raw, &s); err != nil {
		return holding{}, fmt.Errorf("%s: %w", file, err)
	}
	h := holding{name: s.Name, revision: s.Revision, applied: true, loaded: true}
	for _, o := range s.Objects {
		object, err := decode(o.Object)
		if err != nil {
			return holding{}, fmt.Errorf("%s: %w", file, err)
		}
		object.Source, object.Revision = s.Name, o.Revision
		h.objects = append(h.objects, object)
	}
	return h, nil
}

// Encode is an object on its way to an agent or to disk.
func Encode(o fleet.Object) (api.Object, error) {
	raw, err := json.Marshal(o.Value)
	if err != nil {
		return api.Object{}, fmt.Errorf("encode %s: %w", o.ID, err)
	}
	return api.Object{ID: o.ID, File: o.File, Line: o.Line, Value: raw, Template: o.Template}, nil
}

func decode(o api.Object) (fleet.Object, error) {
	value, known := manifest.New(o.ID.Kind)
	if !known {
		return fleet.Object{}, fmt.Errorf("%s: not a kind that Skerry runs", o.ID)
	}
	out := fleet.Object{ID: o.ID, File: o.File, Line: o.Line, Value: value, Template: o.Template}
	if err := json.Unmarshal(o.Value, out.Value); err != nil {
		return fleet.Object{}, fmt.Errorf("%s: what was sent is not one: %w", o.ID, err)
	}
	if o.Template != nil {
		out.Hash = fleet.HashTemplate(o.Template)
	}
	return out, nil
}
