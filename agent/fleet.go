package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/lease"
	"github.com/skerry-dev/skerry/fleet"
)

// Fleet is what an agent has to know of the fleet that its node belongs to.
type Fleet struct {
	Roll coord.Roll
	Lead bool // this node may lead
	// Stay is how long pods of a lost node are waited for, from when its session ended.
	Stay time.Duration
	// Leases is what nodes hear of one another many times a second, and who has an address by that. nil: nothing, and nobody has one.
	Leases *lease.Node
	// Holder has the addresses that this node may have; nil: it has none.
	Holder *Holder
	// Leader is who leads, as far as is known here; empty while nobody does.
	Leader func() fleet.NodeName
	// Bring fetches a commit of a source from other nodes' clones into this node's. Its error is one line for people. nil: there is no
	// other way to a commit than its source.
	Bring func(ctx context.Context, source fleet.SourceName, revision fleet.Revision) error
}

// ErrFleet says that something is not done on a node of a fleet.
var ErrFleet = errors.New("this node belongs to a fleet, which runs what its Git sources say and nothing else: commit it there")

func (a *Agent) mayLead() bool { return a.Fleet == nil || a.Fleet.Lead }

// reads reports whether this process says what the sources hold: a node alone, or the leader. All others follow what the leader
// has decided on.
func (a *Agent) reads() bool { return a.Fleet == nil || a.leading.Load() }

// unjoined is since when a node belongs to its fleet that has not told anybody so far: it makes nothing.
const unjoined = math.MaxUint64

func (a *Agent) sinceFile() string { return filepath.Join(a.DataDir, "fleet", "since") }

// rememberSince reads what join has written. Where there is nothing, the machine is new, and slots of its name may be those of
// another that was removed: the leader may be about to make them elsewhere.
func (a *Agent) rememberSince() error {
	a.since.Store(unjoined)
	raw, err := os.ReadFile(a.sinceFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if epoch, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64); err == nil {
		a.since.Store(epoch)
	}
	return nil
}

// join puts down which assignment is the newest. It comes before registering: whoever decides for this machine decides later, and whoever
// decides without knowing of it has no slots for it.
func (a *Agent) join(ctx context.Context) error {
	if a.since.Load() != unjoined {
		return nil
	}
	assignment, err := a.Store.Load(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.sinceFile()), 0o700); err != nil {
		return err
	}
	if err := writeFile(a.sinceFile(), strconv.AppendUint(nil, assignment.Epoch, 10)); err != nil {
		return err
	}
	a.since.Store(assignment.Epoch)
	a.nodeBell.ring()
	return nil
}

// register says who this node is, until somebody has heard it.
func (a *Agent) register(ctx context.Context) error {
	for ctx.Err() == nil {
		err := a.join(ctx)
		if err == nil {
			err = a.Fleet.Roll.Register(ctx, a.Config.Node)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, coord.ErrUnknown) {
			a.Log.Error("this node was removed from its fleet: what runs here is left alone; skerry node leave forgets the fleet", "err", err)
			break // the rest of the agent goes on
		}
		a.Log.Warn("the fleet cannot be told who this node is", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(blindLook):
		}
	}
	return nil
}

// nodes are the machines of the fleet, those down of which nothing is heard. Heard are those that have ever been.
func (a *Agent) nodes(ctx context.Context, reports []fleet.NodeReport, heard []fleet.NodeName) ([]fleet.Node, error) {
	if a.Fleet == nil {
		return []fleet.Node{a.Config.Node}, nil
	}
	known, err := a.Fleet.Roll.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	nodes := slices.Clone(known)
	for i := range nodes {
		name := nodes[i].Name
		switch {
		case slices.ContainsFunc(reports, func(r fleet.NodeReport) bool { return r.Node == name }):
		case slices.Contains(heard, name):
			nodes[i].Down = "nothing is heard of its agent"
		default:
			nodes[i].Down, nodes[i].New = "it has joined, and its agent was not heard of yet", true
		}
	}
	return nodes, nil
}

// stay is how long pods of a lost node are waited for; 0 for the default.
func (a *Agent) stay() time.Duration {
	if a.Fleet == nil {
		return 0
	}
	return a.Fleet.Stay
}

// insist is after how many turns in a row a process leads although it has not the commit, or reads it differently: nobody is there who
// does better. A lost commit, or an upgrade of all servers, would end all deciding otherwise.
const insist = 3

// alignment asks the loop that follows a source to align it.
type alignment struct {
	own     bool // by what there is here, where that is something else
	patient bool // not if it was in vain just now
	answer  chan error
}

// takeLead makes sure that this process knows what the last decision was made on: whoever decides on less would take down what it
// has not heard of. It returns when all sources are as they were then; with own, as near to that as can be here.
func (a *Agent) takeLead(ctx context.Context, own bool) error {
	if a.Fleet == nil {
		return nil
	}
	var faults []error
	for _, s := range a.Sources {
		answer := make(chan error, 1)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case a.aligns[s.Name] <- alignment{own: own, answer: answer}:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-answer:
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	a.leading.Store(true)
	for _, agreed := range a.agreed {
		agreed.ring() // look at the sources now
	}
	return nil
}

// alignAgain is how long a reading that this node could not come to is not tried again, unless it is to lead: trying fetches, and
// reads the whole source.
const alignAgain = 10 * time.Second

// notice aligns a source after something changed, if that was not in vain just now.
func (a *Agent) notice(ctx context.Context, s Source) {
	_ = a.align(ctx, s, alignment{patient: true}) // said where it was noticed
}

// align makes what a source holds what the leader decided on, and fetches what templates lack. It is called by the loop that follows
// the source, and does nothing when it is so already.
func (a *Agent) align(ctx context.Context, s Source, asked alignment) error {
	for _, revision := range a.lacked.take(s.Name) {
		if err := a.obtain(ctx, s, revision); err != nil {
			a.Log.Warn("a commit that pods here are made from is not to be had", "source", s.Name, "revision", revision.Short(), "err", err)
			continue
		}
		a.nodeBell.ring()
	}
	assignment, err := a.Store.Load(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(assignment.Readings, func(r fleet.Reading) bool { return r.Source == s.Name })
	if at < 0 {
		return nil
	}
	want := assignment.Readings[at]
	a.keeping.Lock()
	defer a.keeping.Unlock()
	before, _ := a.held.get(s.Name)
	if before.reading != nil && before.reading.Equal(want) && before.misread == "" {
		return nil
	}
	if asked.patient && before.missed != nil && before.missed.Equal(want) && time.Since(before.missedAt) < alignAgain {
		return errors.New(before.misread)
	}
	var known []fleet.ObjectID
	if asked.own {
		known = runs(assignment, s.Name)
	}
	next, err := a.follows(ctx, s, want, before, known)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // the agent ends, which says nothing about the commit
	}
	if err != nil {
		next = before
		next.misread, next.missed, next.missedAt = err.Error(), &want, time.Now()
	}
	if next.misread != before.misread && next.misread != "" {
		a.Log.Error("this node holds to what it has", "source", s.Name, "revision", before.revision.Short(), "wanted", want.Revision.Short(), "err", err)
	}
	a.held.put(next)
	if err == nil {
		a.Log.Info("source follows the leader", "source", s.Name, "revision", next.revision.Short(), "objects", len(next.objects))
		a.leadBell.ring()
		a.nodeBell.ring()
	}
	a.changed.ring()
	return err
}

// runs are the objects of a source that an assignment knows of: of which something runs, or goes with them.
func runs(assignment fleet.Assignment, source fleet.SourceName) []fleet.ObjectID {
	list := []fleet.ObjectID{}
	for i := range assignment.Slots {
		if slot := &assignment.Slots[i]; slot.Source == source && slot.Goal == fleet.Run {
			above := slot.Owner
			if slot.Controller != (fleet.ObjectID{}) {
				above = slot.Controller
			}
			list = append(list, above)
		}
	}
	for i := range assignment.Rollouts {
		if r := &assignment.Rollouts[i]; r.Source == source {
			list = append(list, r.ID)
		}
	}
	for i := range assignment.Jobs {
		if j := &assignment.Jobs[i]; j.Source == source && j.Owner == (fleet.ObjectID{}) {
			list = append(list, j.ID)
		}
	}
	for i := range assignment.Crons {
		if c := &assignment.Crons[i]; c.Source == source {
			list = append(list, c.ID)
		}
	}
	for _, p := range assignment.Prunable {
		if p.Source == source {
			list = append(list, p.Claim.Object())
		}
	}
	return list
}

// follows is what a source holds by a reading of the leader's. An error says why this node cannot come to the same; that is none
// where known are given: those of them that are not read here are held.
func (a *Agent) follows(ctx context.Context, s Source, want fleet.Reading, before holding, known []fleet.ObjectID) (holding, error) {
	if err := a.obtain(ctx, s, want.Revision); err != nil {
		nowhere := fmt.Errorf("the fleet goes by revision %s, which is not to be had here: %w", want.Revision.Short(), err)
		if known == nil {
			return before, nowhere
		}
		a.Log.Warn("this node leads without the commit that was decided on, and leaves workloads alone: nobody else leads", "source", s.Name, "err", nowhere)
		return a.keeps(a.without(s, want, before, known), before)
	}
	older := map[fleet.Revision]bool{}
	for _, r := range want.Kept {
		older[r] = true
	}
	var missing []error // which are so where it was decided on, too, perhaps
	for r := range older {
		if err := a.obtain(ctx, s, r); err != nil {
			missing = append(missing, fmt.Errorf("the fleet keeps objects of revision %s, which is not to be had here: %w", r.Short(), err))
		}
	}
	next := a.restore(s, record{Source: s.Name, Revision: want.Revision, Objects: want.Kept}, true)
	next.checked, next.err, next.failures = before.checked, before.err, before.failures
	a.leave(&next, want)
	if next.reading.Hash != want.Hash {
		differs := fmt.Errorf("revision %s reads differently here (%s) than where it was decided on (%s): are all nodes of one version of Skerry?",
			want.Revision.Short(), next.reading.Hash, want.Hash)
		if known == nil {
			return before, errors.Join(append(missing, differs)...)
		}
		a.Log.Warn("this node leads by what it reads itself: nobody else leads", "source", s.Name, "err", differs)
		for _, id := range known {
			if _, held := next.held[id]; !held && !has(next.objects, id) {
				next.held[id] = heldBack{want.Revision, fmt.Sprintf("revision %s has it not as this version of Skerry reads it", want.Revision.Short())}
			}
		}
	}
	return a.keeps(next, before)
}

// leave has a holding leave alone what was not to be had where it was decided: else this node would read more than the leader did, and not come
// to the same.
func (a *Agent) leave(h *holding, want fleet.Reading) {
	left := 0
	for _, id := range want.Held {
		if _, held := h.held[id]; held || !has(h.objects, id) {
			continue
		}
		if h.held == nil {
			h.held = map[fleet.ObjectID]heldBack{}
		}
		h.held[id] = heldBack{cmp.Or(want.Kept[id], want.Revision), "where it was decided it was not to be had"}
		left++
	}
	if left > 0 {
		h.objects = slices.DeleteFunc(slices.Clone(h.objects), func(o fleet.Object) bool { return slices.Contains(want.Held, o.ID) })
		a.reckon(h)
	}
}

// keeps is next, if it could be recorded.
func (a *Agent) keeps(next, before holding) (holding, error) {
	if err := a.record(next); err != nil {
		return before, fmt.Errorf("keep revision %s: %w", next.revision.Short(), err)
	}
	return next, nil
}

// without is what a source holds for whoever leads without the commit that was decided on: workloads are left alone, for nobody knows
// what they are by now, and all else is as it was known here last. The next look at the source reads it anew, whatever it finds.
func (a *Agent) without(s Source, want fleet.Reading, before holding, known []fleet.ObjectID) holding {
	next := holding{name: s.Name, url: s.URL, path: s.Path, loaded: true, revision: before.revision, title: before.title, held: map[fleet.ObjectID]heldBack{}}
	next.err, next.failures = before.err, before.failures
	if !before.loaded {
		next.revision = want.Revision
	}
	maps.Copy(next.held, before.held)
	unknown := heldBack{want.Revision, fmt.Sprintf("revision %s, which it was decided on by, is not to be had", want.Revision.Short())}
	for _, id := range known {
		next.held[id] = unknown
	}
	for _, o := range before.objects {
		if _, held := next.held[o.ID]; o.Template != nil || held {
			next.held[o.ID] = unknown
		} else {
			next.objects = append(next.objects, o)
		}
	}
	a.reckon(&next)
	return next
}

// obtainPatience is how long the source is waited for before other nodes are asked for a commit: one of them has it.
const obtainPatience = 20 * time.Second

// obtain has a commit in the clone: it is there, or comes from the source, or from another node. The error says in one line why it
// does not.
func (a *Agent) obtain(ctx context.Context, s Source, revision fleet.Revision) error {
	if _, err := s.Source.At(revision); err == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, obtainPatience)
	_, fetchErr := s.Source.Fetch(bounded)
	cancel()
	_, err := s.Source.At(revision)
	if err == nil {
		return nil
	}
	if fetchErr == nil {
		fetchErr = errors.New("its source answers and has it not (was something else force-pushed?)")
	}
	if a.Fleet.Bring == nil {
		return fetchErr
	}
	bounded, cancel = context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if broughtErr := a.Fleet.Bring(bounded, s.Name, revision); broughtErr != nil {
		return fmt.Errorf("%w; %w", fetchErr, broughtErr)
	}
	_, err = s.Source.At(revision)
	return err
}

// lacked are commits that are needed here and not in the clone. The zero value works.
type lacked struct {
	mu   sync.Mutex
	all  map[fleet.SourceName][]fleet.Revision
	next map[commit]time.Time // when it may be asked for again
}

type commit struct {
	source   fleet.SourceName
	revision fleet.Revision
}

// lackAgain is how long a commit that was not to be had is not asked for.
const lackAgain = 15 * time.Second

// add reports whether it is time to look for it.
func (l *lacked) add(source fleet.SourceName, revision fleet.Revision, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := commit{source, revision}
	if now.Before(l.next[c]) {
		return false
	}
	if l.all == nil {
		l.all, l.next = map[fleet.SourceName][]fleet.Revision{}, map[commit]time.Time{}
	}
	l.all[source], l.next[c] = append(l.all[source], revision), now.Add(lackAgain)
	return true
}

// take returns what was added for a source since the last time.
func (l *lacked) take(source fleet.SourceName) []fleet.Revision {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.all[source]
	delete(l.all, source)
	return list
}

// othersSaw reports whether another node has seen a revision of a source that is not among those known, and adds it to them.
func (a *Agent) othersSaw(ctx context.Context, source fleet.SourceName, known map[fleet.Revision]bool) bool {
	reports, err := a.Store.Reports(ctx)
	if err != nil {
		return false
	}
	news := false
	for i := range reports {
		if seen := reports[i].Seen[source]; seen != "" && !known[seen] {
			known[seen], news = true, true
		}
	}
	return news
}

// leaderPatience is how long a sync on a node that follows waits for the leader to take over what was fetched.
const leaderPatience = 15 * time.Second

// awaitLeader returns when the fleet goes by what was fetched here, or has not come to it in time.
func (a *Agent) awaitLeader(ctx context.Context, fetched Fetch) {
	ctx, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	for {
		changed := a.Changed()
		h, _ := a.held.get(fetched.Source)
		if h.revision == fetched.Revision {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
