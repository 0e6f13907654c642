package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// Fetch is what one look at a source brought.
type Fetch struct {
	Source   fleet.SourceName
	Revision fleet.Revision
	Title    string
	Err      error
}

// fetchTimeout bounds one look: a server that went silent is a server that is down.
const fetchTimeout = 2 * time.Minute

// follow looks at a source again and again.
func (a *Agent) follow(ctx context.Context, s Source) error {
	known := map[fleet.Revision]bool{} // revisions that were seen here, or were looked for because others had
	read := false                      // this process said what the source holds when it was asked last
	for next := time.Now(); ; {
		var asked chan Fetch
		var due <-chan time.Time
		if a.Follow {
			due = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-due:
		case asked = <-a.syncs[s.Name]:
		case asked := <-a.aligns[s.Name]:
			asked.answer <- a.align(ctx, s, asked)
			continue
		case <-a.agreed[s.Name]:
			switch {
			case a.Fleet == nil:
			case !a.reads():
				a.notice(ctx, s)
			case !a.Follow:
			case !read, a.othersSaw(ctx, s.Name, known):
				next = time.Now() // the last leader had not seen it yet, or somebody else was faster
			}
			read = a.reads()
			continue
		case answer := <-a.peeks[s.Name]:
			bounded, cancel := context.WithTimeout(ctx, fetchTimeout)
			snapshot, err := s.Source.Fetch(bounded)
			cancel()
			answer <- peeked{snapshot, err}
			continue
		}
		fetched := a.fetch(ctx, s)
		known[fetched.Revision] = true
		if !a.reads() {
			a.notice(ctx, s)
		}
		if asked != nil {
			asked <- fetched
		}
		now, _ := a.held.get(s.Name)
		next = time.Now().Add(s.Every(now.failures))
	}
}

// fetch looks once, and takes over what it finds.
func (a *Agent) fetch(ctx context.Context, s Source) Fetch {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, fetchTimeout)
	snapshot, err := s.Source.Fetch(bounded)
	cancel()
	a.keeping.Lock()
	defer a.keeping.Unlock()
	before, _ := a.held.get(s.Name)
	next, replaced := before, false
	switch {
	case ctx.Err() != nil:
		return Fetch{Source: s.Name, Err: ctx.Err()}
	case err != nil:
		next.err, next.failures = err, before.failures+1
		if before.err == nil || before.err.Error() != err.Error() {
			a.Log.Warn("source cannot be fetched", "source", s.Name, "revision", before.revision.Short(), "err", err)
		}
	case !a.reads():
		next.err, next.failures, next.checked, next.seen = nil, 0, began, snapshot.Revision
		if before.seen != next.seen {
			a.nodeBell.ring() // to tell the leader
		}
	case !before.checked.IsZero() && snapshot.Revision == before.revision: // the first look of a life reads: settings may have changed
		next.err, next.failures, next.checked, next.seen = nil, 0, began, snapshot.Revision
	default:
		next, replaced = a.read(s, before, snapshot), true
		next.checked, next.seen = began, snapshot.Revision
		if err := a.record(next); err != nil { // what cannot be kept is not taken over: a full disk, say
			a.Log.Error("source cannot be kept", "source", s.Name, "revision", snapshot.Revision.Short(), "err", err)
			next, replaced = before, false
			next.err, next.failures, next.checked = fmt.Errorf("keep revision %s: %w", snapshot.Revision.Short(), err), before.failures+1, time.Time{}
			break
		}
		a.Log.Info("source read", "source", s.Name, "revision", snapshot.Revision.Short(), "title", snapshot.Title,
			"objects", len(next.objects), "faults", len(untaken(next.faults)), "took", time.Since(began).Round(time.Millisecond))
		for _, f := range next.faults {
			if f.Kind != manifest.Warning {
				a.Log.Warn("manifest not taken", "source", s.Name, "fault", f.String())
			}
		}
	}
	if before.err != nil && next.err == nil {
		a.Log.Info("source answers again", "source", s.Name, "revision", next.revision.Short())
	}
	a.Metrics.fetched(next)
	a.held.put(next)
	if a.Fleet != nil && (before.err == nil) != (next.err == nil) { // the others are told by the node's report
		a.nodeBell.ring()
	}
	if replaced { // the node, too: the same revision read anew changes no assignment, but perhaps a ConfigMap
		a.leadBell.ring()
		a.nodeBell.ring()
	}
	a.changed.ring()
	fetched := Fetch{Source: s.Name, Revision: next.revision, Title: next.title, Err: next.err}
	if next.err == nil && next.seen != next.revision { // the leader has not taken it over yet
		fetched.Revision, fetched.Title = next.seen, snapshot.Title
	}
	return fetched
}

// read takes over a snapshot, and what was there before where the snapshot cannot be read.
func (a *Agent) read(s Source, before holding, snapshot sources.Snapshot) holding {
	result := a.Policy.Read(snapshot.Files, snapshot.Dir)
	next := take(s.Name, snapshot.Revision, result, before, s.MayEmpty)
	next.url, next.path, next.title = s.URL, s.Path, snapshot.Title
	a.reckon(&next)
	return next
}

// reckon says how the other nodes of a fleet come to what a source holds.
func (a *Agent) reckon(h *holding) {
	if a.Fleet == nil {
		return
	}
	r := fleet.Reading{Source: h.name, Revision: h.revision}
	keep := func(id fleet.ObjectID, revision fleet.Revision) {
		if revision == h.revision {
			return
		}
		if r.Kept == nil {
			r.Kept = map[fleet.ObjectID]fleet.Revision{}
		}
		r.Kept[id] = revision
	}
	for _, o := range h.objects {
		keep(o.ID, o.Revision)
	}
	for id, back := range h.held {
		keep(id, back.revision)
		r.Held = append(r.Held, id)
	}
	slices.SortFunc(r.Held, fleet.ObjectID.Compare)
	hash, err := fleet.HashObjects(h.objects)
	if err != nil { // values that were decoded can be encoded
		a.Log.Error("what a source holds cannot be hashed", "source", h.name, "err", err)
	}
	r.Hash = hash
	h.reading = &r
}

// take makes a holding from a reading and what was held before.
func take(name fleet.SourceName, revision fleet.Revision, result manifest.Result, before holding, mayEmpty bool) holding {
	for i := range result.Objects {
		result.Objects[i].Source, result.Objects[i].Revision = name, revision
	}
	kept := manifest.Keep(before.objects, result, mayEmpty)
	next := holding{
		name: name, revision: revision, loaded: true, objects: kept.Objects, notes: kept.Notes, asked: kept.Asked, faults: result.Faults,
		url: before.url, path: before.path, applied: before.applied, title: before.title,
	}
	emptied := len(result.Objects) == 0 && !mayEmpty
	for id, back := range before.held { // what was not to be had stays so until it is read or known to be gone
		if !has(next.objects, id) && (emptied || len(result.Broken) > 0) {
			if next.held == nil {
				next.held = map[fleet.ObjectID]heldBack{}
			}
			next.held[id] = back
		}
	}
	return next
}

// record is what is kept on disk of a source: which revision each object was last good in. Contents are not:
// they are read from the source again.
type record struct {
	Source   fleet.SourceName                  `json:"source"`
	Revision fleet.Revision                    `json:"revision"`
	Objects  map[fleet.ObjectID]fleet.Revision `json:"objects"`
}

func (a *Agent) recordFile(name fleet.SourceName) string {
	return filepath.Join(a.DataDir, "sources", fileName(string(name))+".json")
}

// fileName makes a name that can be a file's, and that differs where names differ.
func fileName(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') {
			return r
		}
		return '_'
	}, name)
	if plain == name && !strings.HasPrefix(plain, ".") {
		return plain
	}
	return strings.Trim(plain[max(0, len(plain)-60):], "._") + "-" + fleet.SafeSuffix(name)
}

// record keeps the templates and the record of what a source holds, before anything is decided on it.
func (a *Agent) record(h holding) error {
	if err := a.templates.keep(h.objects); err != nil {
		return err
	}
	r := record{Source: h.name, Revision: h.revision, Objects: map[fleet.ObjectID]fleet.Revision{}}
	for _, o := range h.objects {
		r.Objects[o.ID] = o.Revision
	}
	for id, back := range h.held {
		r.Objects[id] = back.revision
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(a.DataDir, "sources"), 0o700); err != nil {
		return err
	}
	return writeFile(a.recordFile(h.name), raw)
}

// remember reads what a source held when the last agent ended, without its server. What cannot be read again
// is held: left alone as it is.
func (a *Agent) remember(s Source) error {
	h := holding{name: s.Name, url: s.URL, path: s.Path}
	defer func() { a.held.put(h) }()
	raw, err := os.ReadFile(a.recordFile(s.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return fmt.Errorf("read what source %s held: %w; if the file is damaged, remove it", s.Name, err)
	}
	h = a.restore(s, r, false)
	return nil
}

// restore is what a source holds by a record of it. Rest says that the record names only objects of other revisions than its own:
// all others are as its own has them.
func (a *Agent) restore(s Source, r record, rest bool) holding {
	h := holding{name: s.Name, url: s.URL, path: s.Path, loaded: true, revision: r.Revision, held: map[fleet.ObjectID]heldBack{}}
	revisions := map[fleet.Revision]bool{r.Revision: true}
	for _, revision := range r.Objects {
		revisions[revision] = true
	}
	wanted := map[fleet.ObjectID]fleet.Revision{}
	good := map[fleet.Revision]map[fleet.ObjectID]fleet.Object{}
	for revision := range revisions {
		good[revision] = map[fleet.ObjectID]fleet.Object{}
		snapshot, err := s.Source.At(revision)
		if err != nil {
			continue // its objects are held
		}
		result := manifest.Read(snapshot.Files, snapshot.Dir) // it was admitted then, under whatever policy
		if rest && revision == r.Revision {
			result = a.Policy.Read(snapshot.Files, snapshot.Dir)
		}
		for _, o := range result.Objects {
			o.Source, o.Revision = s.Name, revision
			good[revision][o.ID] = o
			if rest && revision == r.Revision {
				wanted[o.ID] = revision
			}
		}
		if revision == r.Revision {
			h.faults, h.title = result.Faults, snapshot.Title
		}
	}
	maps.Copy(wanted, r.Objects)
	for _, id := range slices.SortedFunc(maps.Keys(wanted), fleet.ObjectID.Compare) {
		if o, ok := good[wanted[id]][id]; ok {
			h.objects = append(h.objects, o)
		} else {
			h.held[id] = heldBack{wanted[id], fmt.Sprintf("revision %s of %s, where it was last good, is not to be had", wanted[id].Short(), s.Name)}
		}
	}
	a.reckon(&h)
	return h
}

// peek looks at a source without taking anything over. It asks the loop that follows the source, which alone
// may use it.
func (a *Agent) peek(ctx context.Context, s Source) (sources.Snapshot, error) {
	answer := make(chan peeked, 1)
	select {
	case <-ctx.Done():
		return sources.Snapshot{}, ctx.Err()
	case a.peeks[s.Name] <- answer:
	}
	select {
	case <-ctx.Done():
		return sources.Snapshot{}, ctx.Err()
	case p := <-answer:
		return p.snapshot, p.err
	}
}

type peeked struct {
	snapshot sources.Snapshot
	err      error
}

// sync looks at sources now, all when name is empty, and returns when what they hold is desired.
func (a *Agent) sync(ctx context.Context, name fleet.SourceName) ([]Fetch, error) {
	var out []Fetch
	for _, s := range a.Sources {
		if name != "" && s.Name != name {
			continue
		}
		answer := make(chan Fetch, 1)
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case a.syncs[s.Name] <- answer:
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case fetched := <-answer:
			out = append(out, fetched)
			if fetched.Err == nil && !a.reads() {
				a.awaitLeader(ctx, fetched)
			}
		}
	}
	if name != "" && out == nil {
		return nil, fmt.Errorf("no source is called %s", name)
	}
	return out, nil
}
