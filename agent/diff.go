package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/reconcile/diff"
	"github.com/skerry-dev/skerry/sources/git"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// Diff says what would happen if set were applied or, when it stands for a Git source, pushed; nil: if the
// sources' newest revisions were taken over now. It is decided and planned by the code that would do it.
func (a *Agent) Diff(ctx context.Context, set *api.Set) (api.Diff, error) {
	in, err := a.fleetInput(ctx)
	if err != nil {
		return api.Diff{}, err
	}
	seen, err := a.look(ctx)
	if err != nil {
		return api.Diff{}, fmt.Errorf("look at the machine: %w", err)
	}
	var out api.Diff
	var candidate []holding
	if set == nil {
		candidate, out = a.newest(ctx)
	} else if candidate, out, err = a.candidate(*set); err != nil {
		return api.Diff{}, err
	}
	after, notes := merge(candidate)
	before := in.Desired
	foresight := reconcile.Foresee(reconcile.ForesightInput{
		Desired: after, Previous: in.Previous, Nodes: in.Nodes, Hosts: map[fleet.NodeName]fleet.Host{a.Config.Node.Name: seen},
		Reports: in.Reports, Before: &before,
		Templates: a.templatesWith(in.Previous, before, after), Intents: in.Intents, Now: in.Now,
	})
	out.Objects = objectDiffs(before, after)
	out.Settled = foresight.Settled
	for _, s := range foresight.Steps {
		out.Steps = append(out.Steps, api.Step{Node: s.Node, Verb: string(s.Verb), Pod: s.Pod, Text: s.String()})
	}
	out.Notes = slices.Concat(notes, foresight.Notes)
	slices.SortFunc(out.Notes, fleet.Note.Compare)
	out.Notes = slices.Compact(out.Notes)
	return out, nil
}

// templatesWith are the templates that a foresight needs, those of objects that nobody holds yet among them.
func (a *Agent) templatesWith(assignment fleet.Assignment, before, after fleet.Desired) map[fleet.Hash]*corev1.PodTemplateSpec {
	templates := a.templates.get(used(assignment, before))
	all := make(map[fleet.Hash]*corev1.PodTemplateSpec, len(templates))
	for hash, t := range templates {
		all[hash] = t
	}
	for _, o := range after.Objects {
		if o.Template != nil && all[o.Hash] == nil {
			t := o.Template.DeepCopy()
			manifest.DefaultTemplate(t)
			all[o.Hash] = t
		}
	}
	return all
}

// newest is what all sources would hold after a look at each, which changes nothing.
func (a *Agent) newest(ctx context.Context) ([]holding, api.Diff) {
	out := api.Diff{Against: "what is running"}
	all := a.held.list()
	for i, h := range all {
		at := slices.IndexFunc(a.Sources, func(s Source) bool { return s.Name == h.name })
		if at < 0 {
			continue
		}
		if snapshot, err := a.peek(ctx, a.Sources[at]); err != nil {
			all[i].err = err
		} else if snapshot.Revision != h.revision {
			all[i] = a.read(a.Sources[at], h, snapshot)
		}
		out.Sources = append(out.Sources, sourceStatus(all[i]))
		out.Faults = append(out.Faults, faults(all[i].faults)...)
	}
	return all, out
}

// candidate is what all sources would hold with a set. A set from a Git work tree whose folder is a Git
// source's stands for that source after a push; so do the objects of any other set that a Git source owns,
// but then what the set does not mention stays.
func (a *Agent) candidate(set api.Set) ([]holding, api.Diff, error) {
	out := api.Diff{Set: set.Name, Against: "what was applied from " + string(set.Name)}
	next, err := a.applied(set)
	if err != nil {
		return nil, out, err
	}
	all := a.held.list()
	desired := a.held.desired.Load()
	for i, h := range all {
		if h.applied || !h.loaded {
			continue
		}
		mine := func(o fleet.Object) bool {
			have, ok := desired.Find(o.ID)
			return ok && have.Source == h.name
		}
		checkout := set.Path != "" && set.Path == h.path && !set.Partial
		same := slices.ContainsFunc(set.Remotes, func(remote string) bool { return git.Same(remote, h.url) })
		if !slices.ContainsFunc(next.objects, mine) && !(checkout && same) {
			continue
		}
		out.Against = fmt.Sprintf("source %s at %s", h.name, h.revision.Short())
		if checkout {
			result, err := reading(set)
			if err != nil {
				return nil, out, err
			}
			mayEmpty := slices.ContainsFunc(a.Sources, func(s Source) bool { return s.Name == h.name && s.MayEmpty })
			all[i] = take(h.name, set.Revision, result, h, mayEmpty)
			return all, out, nil
		}
		all[i] = overlaid(h, next, mine)
		next.objects = slices.DeleteFunc(slices.Clone(next.objects), mine)
	}
	at := slices.IndexFunc(all, func(h holding) bool { return h.name == next.name })
	switch {
	case at >= 0:
		all[at] = next
	case len(next.objects) > 0:
		all = append(all, next)
	}
	return all, out, nil
}

// overlaid is a source with some of its objects replaced.
func overlaid(h, by holding, mine func(fleet.Object) bool) holding {
	h.objects = slices.Clone(h.objects)
	for i := range h.objects {
		at := slices.IndexFunc(by.objects, func(o fleet.Object) bool { return o.ID == h.objects[i].ID })
		if at >= 0 && mine(h.objects[i]) {
			h.objects[i] = by.objects[at]
			h.objects[i].Source = h.name
		}
	}
	h.revision = by.revision
	return h
}

// objectDiffs are the objects that differ, in the order of their IDs.
func objectDiffs(before, after fleet.Desired) []api.ObjectDiff {
	var out []api.ObjectDiff
	for _, o := range after.Objects {
		old, had := before.Find(o.ID)
		if !had {
			out = append(out, api.ObjectDiff{ID: o.ID, Change: "create", File: o.File})
			continue
		}
		if fields := diff.Fields(old.Value, o.Value); len(fields) > 0 {
			out = append(out, api.ObjectDiff{ID: o.ID, Change: "change", File: o.File, Fields: fields})
		}
	}
	for _, o := range before.Objects {
		if _, stays := after.Find(o.ID); !stays {
			out = append(out, api.ObjectDiff{ID: o.ID, Change: "delete", File: o.File})
		}
	}
	slices.SortFunc(out, func(x, y api.ObjectDiff) int { return strings.Compare(x.ID.String(), y.ID.String()) })
	return out
}
