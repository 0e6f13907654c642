package agent

import (
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

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
	view := reconcile.NewView(in, nil)
	s := api.Status{
		Node: a.Config.Node.Name, Version: a.Version, Podman: *a.podman.Load(), Epoch: in.Previous.Epoch,
		Waiting: view.Waiting(), Workloads: workloads(view, in), Pods: podLines(view),
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
	slices.SortFunc(s.Notes, fleet.Note.Compare)
	s.Notes = slices.Compact(s.Notes)
	return s, nil
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

func workloads(view *reconcile.View, in reconcile.FleetInput) []api.Workload {
	var list []api.Workload
	waiting := map[fleet.ObjectID]bool{}
	for _, n := range view.Waiting() {
		waiting[n.About] = true
	}
	line := func(o fleet.Object, desired int32) api.Workload {
		w := api.Workload{ID: o.ID, Source: o.Source, Revision: o.Revision, File: o.File, Desired: desired, State: "Ready"}
		if waiting[o.ID] {
			w.State = "Progressing"
		}
		return w
	}
	deployments := view.Deployments()
	at := 0
	for o, d := range fleet.Each[*appsv1.Deployment](in.Desired) {
		w, s := line(o, *d.Spec.Replicas), deployments[at].Status
		at++
		w.Updated, w.Ready, w.Available = s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas
		for _, c := range s.Conditions {
			if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
				w.State = "Stuck"
			}
		}
		if d.Spec.Paused {
			w.State = "Paused"
		}
		list = append(list, w)
	}
	for _, rs := range view.ReplicaSets() {
		if o, own := in.Desired.Find(fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: rs.Namespace, Name: rs.Name}); own {
			w := line(o, *rs.Spec.Replicas)
			w.Updated, w.Ready, w.Available = rs.Status.Replicas, rs.Status.ReadyReplicas, rs.Status.AvailableReplicas
			list = append(list, w)
		}
	}
	for o := range fleet.Each[*corev1.Pod](in.Desired) {
		w := line(o, 1)
		if !waiting[o.ID] {
			w.Updated, w.Ready, w.Available = 1, 1, 1
		}
		list = append(list, w)
	}
	return list
}

func podLines(view *reconcile.View) []api.Pod {
	var list []api.Pod
	for _, p := range view.Pods() {
		line := api.Pod{
			ID: fleet.PodID{Namespace: p.Namespace, Name: p.Name}, Node: fleet.NodeName(p.Spec.NodeName),
			Owner: fleet.ObjectID{Kind: fleet.KindPod, Namespace: p.Namespace, Name: p.Name},
			Phase: phase(&p), Total: len(p.Status.ContainerStatuses), IP: p.Status.PodIP, Created: p.CreationTimestamp.Time,
		}
		for _, o := range p.OwnerReferences {
			line.Owner = fleet.ObjectID{Kind: o.Kind, Namespace: p.Namespace, Name: o.Name}
		}
		for _, c := range p.Status.ContainerStatuses {
			line.Restarts += c.RestartCount
			if c.Ready {
				line.Ready++
			}
		}
		list = append(list, line)
	}
	return list
}

// phase is what kubectl would show in the STATUS column.
func phase(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "Terminating"
	}
	for _, c := range p.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil:
			return c.State.Waiting.Reason
		case c.State.Terminated != nil:
			return c.State.Terminated.Reason
		}
	}
	return string(p.Status.Phase)
}

// View is the fleet for the Kubernetes dialect.
func (a *Agent) View(ctx context.Context) (*reconcile.View, fleet.Desired, []fleet.Node, error) {
	in, err := a.fleetInput(ctx)
	if err != nil {
		return nil, fleet.Desired{}, nil, err
	}
	for i := range in.Nodes {
		in.Nodes[i].Down = *a.podman.Load()
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
