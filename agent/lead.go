package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// lead decides whenever this process leads.
func (a *Agent) lead(ctx context.Context) error {
	vain := 0 // how often in a row it would have led, but for a commit that it has not, or reads differently
	var tried uint64
	for {
		lease, err := a.Store.Campaign(ctx)
		if err != nil {
			return err
		}
		if last, err := a.Store.Load(ctx); err == nil && last.Epoch != tried { // somebody else led
			vain, tried = 0, last.Epoch
		}
		err = a.takeLead(lease.Context(), vain >= insist) //nolint:contextcheck // the lease's context is the one that counts
		if err != nil && lease.Context().Err() == nil {
			vain++
		}
		if err == nil {
			vain = 0
			a.Log.Info("leads")
			err = a.decide(lease) //nolint:contextcheck // the lease's context is the one that counts
		}
		a.leading.Store(false)
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
	if decision.Changed {
		if err := a.Store.Commit(ctx, lease, decision.Next); err != nil {
			return time.Time{}, err
		}
	}
	if len(decision.Dropped) > 0 { // after the commit: what was not done must not be forgotten
		if err := a.Intents.Withdraw(ctx, decision.Dropped); err != nil {
			return time.Time{}, err
		}
	}
	if !decision.Changed {
		return decision.WakeAt, nil
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
	intents, err := a.Intents.Intents(ctx)
	if err != nil {
		return reconcile.FleetInput{}, err
	}
	nodes, err := a.nodes(ctx, reports, previous.Heard)
	if err != nil {
		return reconcile.FleetInput{}, err
	}
	desired := *a.held.desired.Load()
	desired.Rollback = a.rollback
	return reconcile.FleetInput{
		Desired: desired, Nodes: nodes, Stay: a.stay(), Reports: reports, Previous: previous, Intents: intents,
		Templates: a.templates.get(used(previous, desired)), Zones: zones(desired), Network: a.Network.settings(), Now: time.Now(),
	}, nil
}

// zones are the time zones that CronJobs name, as far as they are known.
func zones(desired fleet.Desired) map[string]*time.Location {
	var all map[string]*time.Location
	for _, c := range fleet.Each[*batchv1.CronJob](desired) {
		name := c.Spec.TimeZone
		if name == nil || all[*name] != nil {
			continue
		}
		if zone, err := time.LoadLocation(*name); err == nil {
			if all == nil {
				all = map[string]*time.Location{}
			}
			all[*name] = zone
		}
	}
	return all
}
