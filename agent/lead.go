package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// lead decides whenever this process leads.
func (a *Agent) lead(ctx context.Context) error {
	for {
		lease, err := a.Store.Campaign(ctx)
		if err != nil {
			return err
		}
		err = a.decide(lease) //nolint:contextcheck // the lease's context is the one that counts
		lease.Release()
		if err == nil || errors.Is(err, coord.ErrLost) || ctx.Err() != nil {
			continue
		}
		// A full disk, say: what runs is looked after all the same, and deciding is tried again.
		a.Log.Error("nothing can be decided", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(blindLook):
		}
	}
}

// decide decides for as long as the lease holds.
func (a *Agent) decide(lease coord.Lease) error {
	ctx := lease.Context()
	for {
		wakeAt, err := a.decideOnce(ctx, lease)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.leadBell:
		case <-at(wakeAt):
		}
	}
}

// at is a channel that is ready at a time; never for the zero time.
func at(t time.Time) <-chan time.Time {
	if t.IsZero() {
		return nil
	}
	return time.After(time.Until(t))
}

func (a *Agent) decideOnce(ctx context.Context, lease coord.Lease) (time.Time, error) {
	in, err := a.fleetInput(ctx)
	if err != nil {
		return time.Time{}, err
	}
	began := time.Now()
	decision := reconcile.Decide(in)
	a.Metrics.passed("decide", time.Since(began))
	if old := a.leadNotes.Swap(&decision.Notes); !slices.Equal(*old, decision.Notes) {
		a.changed.ring()
	}
	if !decision.Changed {
		return decision.WakeAt, nil
	}
	if err := a.Store.Commit(ctx, lease, decision.Next); err != nil {
		return time.Time{}, err
	}
	a.Log.Info("decided", "epoch", decision.Next.Epoch, "pods", len(decision.Next.Slots), "sets", len(decision.Next.Sets),
		"draining", draining(decision.Next))
	a.nodeBell.ring()
	if len(decision.Next.Sets) != len(in.Previous.Sets) || len(decision.Next.Slots) < len(in.Previous.Slots) {
		a.keeping.Lock()
		err := a.templates.prune(used(decision.Next, *a.held.desired.Load()))
		a.keeping.Unlock()
		if err != nil {
			a.Log.Warn("old templates cannot be removed", "err", err)
		}
	}
	return decision.WakeAt, nil
}

func draining(a fleet.Assignment) int {
	n := 0
	for i := range a.Slots {
		if a.Slots[i].Goal == fleet.Drain {
			n++
		}
	}
	return n
}

// fleetInput is what a decision is made on now.
func (a *Agent) fleetInput(ctx context.Context) (reconcile.FleetInput, error) {
	previous, err := a.Store.Load(ctx)
	if err != nil {
		return reconcile.FleetInput{}, err
	}
	reports, err := a.Store.Reports(ctx)
	if err != nil {
		return reconcile.FleetInput{}, err
	}
	return reconcile.FleetInput{
		Desired: *a.held.desired.Load(), Nodes: []fleet.Node{a.Config.Node}, Reports: reports, Previous: previous, Now: time.Now(),
	}, nil
}
