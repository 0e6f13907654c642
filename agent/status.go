package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/sources/manifest"
)

var _ api.Backend = (*Agent)(nil)

// Status is the fleet in one page.
func (a *Agent) Status(ctx context.Context) (api.Status, error) {
	in, err := a.fleetInput(ctx)
	if err != nil {
		return api.Status{}, err
	}
	if a.Fleet != nil && a.Fleet.Leases != nil {
		in.Reports = withoutSilent(in.Reports, a.Fleet.Leases.Silent())
	}
	view := reconcile.NewView(in, nil)
	s := api.Status{
		Node: a.Config.Node.Name, Version: a.Version, Podman: *a.podman.Load(), Epoch: in.Previous.Epoch,
		Waiting: view.Waiting(), Workloads: view.Workloads(), Pods: view.Lines(),
	}
	if a.Fleet != nil {
		s.Fleet = &api.FleetStatus{Leader: a.Fleet.Leader(), Store: cmp.Or(a.Fleet.Roll.Away(), "ok"), Nodes: view.Machines()}
	}
	if a.Network.settings().Services {
		s.Services = view.ServiceLines()
	}
	for _, i := range view.Intents() {
		s.Intents = append(s.Intents, api.Intent{Intent: i, Text: reconcile.IntentText(i)})
	}
	if s.Podman == "" {
		s.Podman = "ok"
	}
	if s.Podman != "ok" {
		s.Waiting = append(s.Waiting, fleet.Note{
			About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(a.Config.Node.Name)}, Text: "cannot be looked at: " + s.Podman,
		})
	}
	s.Settled = len(s.Waiting) == 0
	s.Stopped = s.Podman == "ok" && view.Stopped()
	for _, h := range a.held.list() {
		if h.applied && len(h.objects) == 0 { // all of it was deleted
			continue
		}
		s.Sources = append(s.Sources, sourceStatus(h))
	}
	s.Notes = slices.Concat(*a.held.notes.Load(), *a.leadNotes.Load())
	for _, r := range in.Reports {
		s.Notes = append(s.Notes, r.Notes...)
	}
	for _, pull := range a.pulls.List() {
		s.Notes = append(s.Notes, fleet.Note{About: pull.Pod.Object(), Text: pullText(pull)})
	}
	slices.SortFunc(s.Notes, fleet.Note.Compare)
	s.Notes = slices.DeleteFunc(slices.Compact(s.Notes), func(n fleet.Note) bool {
		return slices.ContainsFunc(s.Intents, func(i api.Intent) bool { return i.Object == n.About && i.Text == n.Text })
	})
	return s, nil
}

func pullText(p apply.Pulling) string {
	const mega = 1_000_000
	text := fmt.Sprintf("container %s: pulling image %s", p.Container, p.Image)
	if p.Total > 0 {
		text += fmt.Sprintf(", %.1f of %.1f MB", float64(p.Done)/mega, float64(p.Total)/mega)
	}
	return text
}

// untaken are the faults that keep something from being taken.
func untaken(faults []manifest.Fault) []manifest.Fault {
	return slices.DeleteFunc(slices.Clone(faults), func(f manifest.Fault) bool { return f.Kind == manifest.Warning })
}

func sourceStatus(h holding) api.SourceStatus {
	s := api.SourceStatus{
		Name: h.name, URL: h.url, Revision: h.revision, Title: h.title, Checked: h.checked, Objects: len(h.objects),
		Faults: faults(h.faults), State: "Synced",
	}
	if h.err == nil && h.misread != "" {
		s.State, s.Error = "Held", h.misread
		return s
	}
	mistakes := slices.ContainsFunc(h.faults, func(f manifest.Fault) bool { return f.Kind == manifest.Error })
	switch {
	case h.err != nil:
		s.State, s.Error = "Failing", h.err.Error()
	case !h.loaded:
		s.State = "Unread"
	case mistakes || len(h.held) > 0 || len(h.notes) > 0:
		s.State = "Faulty"
	}
	return s
}

func faults(list []manifest.Fault) []api.Fault {
	var out []api.Fault
	for _, f := range list {
		out = append(out, api.Fault{Kind: string(f.Kind), File: f.File, Line: f.Line, Text: f.String()})
	}
	return out
}

// View is the fleet for the Kubernetes dialect.
func (a *Agent) View(ctx context.Context) (*reconcile.View, fleet.Desired, []fleet.Node, error) {
	in, err := a.fleetInput(ctx)
	if err != nil {
		return nil, fleet.Desired{}, nil, err
	}
	if a.Fleet == nil {
		for i := range in.Nodes {
			in.Nodes[i].Down = *a.podman.Load()
		}
	}
	return reconcile.NewView(in, a.templates.get(used(in.Previous, in.Desired))), in.Desired, in.Nodes, nil
}

// Sync fetches sources now.
func (a *Agent) Sync(ctx context.Context, name fleet.SourceName) ([]api.Fetched, error) {
	fetched, err := a.sync(ctx, name)
	var out []api.Fetched
	for _, f := range fetched {
		line := api.Fetched{Source: f.Source, Revision: f.Revision, Title: f.Title}
		if f.Err != nil {
			line.Error = f.Err.Error()
		}
		out = append(out, line)
	}
	return out, err
}
