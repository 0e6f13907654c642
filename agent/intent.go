package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// Intend takes an operator's wish: it fills in when it was made and what Git says of the field now, and keeps it. It is an
// error when the object is not there, cannot do that, or has no such revision to go back to.
func (a *Agent) Intend(ctx context.Context, wish api.Wish) (fleet.Intent, error) {
	taken, err := a.intend(ctx, wish)
	if err != nil && !errors.Is(err, coord.ErrAway) {
		err = &api.Refusal{Text: err.Error()}
	}
	return taken, err
}

func (a *Agent) intend(ctx context.Context, wish api.Wish) (fleet.Intent, error) {
	i := wish.Intent
	o, ok := a.held.desired.Load().Find(i.Object)
	if i.Object.Kind == fleet.KindNode {
		if err := a.isNode(ctx, i.Object.Name); err != nil {
			return i, err
		}
		o.ID, ok = i.Object, true
	}
	if !ok {
		return i, fmt.Errorf("%s is not there: no source has it", i.Object)
	}
	if err := reconcile.Heeds(o, i.Verb); err != nil {
		return i, err
	}
	if i.Verb == fleet.Scale && i.Replicas < 0 {
		return i, fmt.Errorf("%s cannot be scaled to %d", i.Object, i.Replicas)
	}
	if i.Verb == fleet.DrainNode {
		view, _, _, err := a.View(ctx)
		if err != nil {
			return i, err
		}
		if err := view.Drainable(fleet.NodeName(i.Object.Name), wish.IgnoreDaemonSets, wish.DeleteEmptyDir); err != nil {
			return i, err
		}
	}
	if i.Verb == fleet.Undo {
		in, err := a.fleetInput(ctx)
		if err != nil {
			return i, err
		}
		if i.Number, err = reconcile.Before(in.Previous, i.Object, i.Number); err != nil {
			return i, err
		}
	}
	i.Source, i.At, i.Git = o.Source, time.Now().UTC(), reconcile.FieldOf(o, i.Verb)
	if err := a.Intents.Intend(ctx, i); err != nil {
		return i, err
	}
	a.Log.Info("intent", "object", i.Object.String(), "verb", string(i.Verb), "author", i.Author)
	return i, nil
}

// isNode says why there is no node of that name.
func (a *Agent) isNode(ctx context.Context, name string) error {
	reports, err := a.Store.Reports(ctx)
	if err != nil {
		return err
	}
	nodes, err := a.nodes(ctx, reports, nil)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if string(n.Name) == name {
			return nil
		}
		names = append(names, string(n.Name))
	}
	return fmt.Errorf("there is no node %s; there are %s", name, strings.Join(names, ", "))
}
