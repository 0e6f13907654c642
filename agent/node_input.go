package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// nodeInput is all that a pass plans on.
func (w *worker) nodeInput(ctx context.Context) (reconcile.NodeInput, error) {
	// The assignment is read before the host: what it drains and the host no longer has is truly gone.
	since := w.since.Load() // before the assignment: what it has later is for this machine
	assignment, err := w.Store.Load(ctx)
	if err != nil {
		return reconcile.NodeInput{}, err
	}
	if err := w.lookIfNeeded(ctx); err != nil {
		return reconcile.NodeInput{}, err
	}
	if err := w.meter.measure(ctx); err != nil {
		w.Log.Warn("what containers use cannot be measured", "err", err)
	}
	nodes, err := w.roll(ctx)
	if err != nil {
		return reconcile.NodeInput{}, err
	}
	desired := reconcile.WithClaims(*w.held.desired.Load(), assignment.Slots)
	busy, hooks := make(map[string]bool, len(w.busy)), map[string][]string{}
	for uid, b := range w.busy {
		busy[uid] = true
		if len(b.hooks) > 0 {
			hooks[uid] = b.hooks
		}
	}
	others, silent, notes, err := w.others(ctx)
	w.unheard = notes
	if err != nil {
		return reconcile.NodeInput{}, err
	}
	leaving := false
	if w.Fleet != nil {
		intents, err := w.Intents.Intents(ctx)
		if err != nil {
			return reconcile.NodeInput{}, err
		}
		leaving = reconcile.Drained(intents, w.Node.Name)
	}
	w.drains(assignment.Slots)
	return reconcile.NodeInput{
		Fleet: w.Fleet != nil, Others: others, Silent: silent, Draining: w.draining, Leaving: leaving,
		Node: w.Node, Nodes: nodes, Assignment: assignment, Since: since, Templates: w.templatesFor(assignment, desired), Desired: desired,
		Host: w.seen, Health: w.probers.snapshot(), Usage: w.meter.used, Network: w.Network.settings(), DNS: w.Network.at(), Past: w.pasts.all, Busy: busy, Hooks: hooks,
		Attempts: w.attempts, Now: time.Now(),
	}, nil
}

// drains notes since when this node knows of its pods that they are to go: the clock of whoever decided it may be another.
func (w *worker) drains(slots []fleet.Slot) {
	before := w.draining
	w.draining = map[string]time.Time{}
	for i := range slots {
		s := &slots[i]
		if s.Node != w.Node.Name || s.Goal != fleet.Drain {
			continue
		}
		since, known := before[s.UID]
		if !known {
			since = time.Now()
			if w.Fleet == nil {
				since = s.Drained
			}
		}
		w.draining[s.UID] = since
	}
}

// lookIfNeeded looks at the machine, unless nothing happened since the last look: another assignment alone is
// planned on what is known. Whatever we do to a pod ends with an outcome, and so with another look.
func (w *worker) lookIfNeeded(ctx context.Context) error {
	if !w.stale && w.watching.Load() && time.Since(w.seenAt) < fullLook {
		return nil
	}
	began := time.Now()
	w.stale = true // until it is known to have worked
	seen, err := w.look(ctx)
	if err != nil {
		return err
	}
	w.seen, w.seenAt, w.stale = seen, began, false
	return nil
}

// look is the machine with the volumes that were written.
func (a *Agent) look(ctx context.Context) (fleet.Host, error) {
	bounded, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	seen, err := a.Host.Look(bounded)
	if err != nil {
		return fleet.Host{}, err
	}
	seen.Volumes, err = a.Volumes.List()
	return seen, err
}

// templatesFor are the templates of an assignment's slots. One that is not on disk is rendered from the commit that the slot names.
// What a commit has not it never will: it is read for a template once.
func (w *worker) templatesFor(assignment fleet.Assignment, desired fleet.Desired) map[fleet.Hash]*corev1.PodTemplateSpec {
	want := used(assignment, desired)
	got := w.templates.get(want)
	maps.DeleteFunc(w.vain, func(v sought, _ time.Time) bool { return !want[v.hash] })
	for i := range assignment.Slots {
		s := &assignment.Slots[i]
		from := sought{s.Want, commit{s.Source, s.From}}
		again, before := w.vain[from]
		if got[s.Want] != nil || before && (again.IsZero() || time.Now().Before(again)) {
			continue
		}
		objects, ok := w.render(s.Source, s.From)
		if !ok {
			continue
		}
		again = time.Time{}
		if err := w.templates.keep(objects); err != nil {
			w.Log.Warn("templates cannot be kept", "err", err)
			again = time.Now().Add(fullLook)
		}
		if got = w.templates.get(want); got[s.Want] == nil {
			w.vain[from] = again
		}
	}
	return got
}

// render reads the objects of one revision of a configured source; false when that is not to be had.
func (a *Agent) render(source fleet.SourceName, revision fleet.Revision) ([]fleet.Object, bool) {
	at := slices.IndexFunc(a.Sources, func(s Source) bool { return s.Name == source })
	if at < 0 {
		return nil, false
	}
	snapshot, err := a.Sources[at].Source.At(revision)
	if err != nil {
		if a.Fleet != nil && a.lacked.add(source, revision, time.Now()) {
			a.agreed[source].ring()
		}
		return nil, false
	}
	return manifest.Read(snapshot.Files, snapshot.Dir).Objects, true
}
