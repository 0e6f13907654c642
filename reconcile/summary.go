package reconcile

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Workload is a Deployment, a ReplicaSet of its own, or a bare Pod.
type Workload struct {
	ID        fleet.ObjectID   `json:"id"`
	Source    fleet.SourceName `json:"source"`
	Revision  fleet.Revision   `json:"revision"`
	File      string           `json:"file,omitempty"`
	Desired   int32            `json:"desired"`
	Updated   int32            `json:"updated"`
	Ready     int32            `json:"ready"`
	Available int32            `json:"available"`
	State     string           `json:"state"` // Ready, or Progressing, Stuck, Paused
}

// Line is a pod in one line.
type Line struct {
	ID       fleet.PodID    `json:"id"`
	Node     fleet.NodeName `json:"node"`
	Owner    fleet.ObjectID `json:"owner"`
	Phase    string         `json:"phase"` // as kubectl shows it: Running, CrashLoopBackOff, Terminating, …
	Ready    int            `json:"ready"`
	Total    int            `json:"total"`
	Restarts int32          `json:"restarts"`
	IP       string         `json:"ip,omitempty"`
	Created  time.Time      `json:"created"`
}

// Workloads are the desired Deployments, ReplicaSets and Pods in a line each.
func (v *View) Workloads() []Workload {
	var list []Workload
	waiting := map[fleet.ObjectID]bool{}
	for _, n := range v.Waiting() {
		waiting[n.About] = true
	}
	line := func(o fleet.Object, desired int32) Workload {
		w := Workload{ID: o.ID, Source: o.Source, Revision: o.Revision, File: o.File, Desired: desired, State: "Ready"}
		if waiting[o.ID] {
			w.State = "Progressing"
		}
		return w
	}
	deployments := v.Deployments()
	at := 0
	for o, d := range fleet.Each[*appsv1.Deployment](v.in.Desired) {
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
	for _, rs := range v.ReplicaSets() {
		if o, own := v.in.Desired.Find(fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: rs.Namespace, Name: rs.Name}); own {
			w := line(o, *rs.Spec.Replicas)
			w.Updated, w.Ready, w.Available = rs.Status.Replicas, rs.Status.ReadyReplicas, rs.Status.AvailableReplicas
			list = append(list, w)
		}
	}
	for o := range fleet.Each[*corev1.Pod](v.in.Desired) {
		w := line(o, 1)
		if !waiting[o.ID] {
			w.Updated, w.Ready, w.Available = 1, 1, 1
		}
		list = append(list, w)
	}
	return list
}

// Lines are all pods in a line each, in the order of their IDs.
func (v *View) Lines() []Line {
	var list []Line
	for _, p := range v.Pods() {
		line := Line{
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
