package reconcile

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// State is how a workload is, in one word.
type State string

// The states.
const (
	StateReady       State = "Ready"       // as it should be
	StateProgressing State = "Progressing" // on the way there; of a Job: its pods run
	StateWaiting     State = "Waiting"     // for something else to be ready or complete before it begins
	StateStuck       State = "Stuck"       // its rollout made no progress for too long, or was stopped at a step; a CronJob that cannot run
	StatePaused      State = "Paused"      // its rollout waits for somebody, or at a step for its time to come
	StateRolledBack  State = "RolledBack"  // it runs what was good last, and not what Git says
	StateSuspended   State = "Suspended"   // a Job or CronJob that is not to run for now
	StateScheduled   State = "Scheduled"   // a CronJob between two runs, of which the last one ended well
	StateRunning     State = "Running"     // a CronJob of which a run is under way
	StateComplete    State = "Complete"    // a Job that ended well
	StateFailed      State = "Failed"      // a Job that did not; a CronJob of which the last run did not
)

// Workload is an object that runs pods, in one line.
type Workload struct {
	ID       fleet.ObjectID   `json:"id"`
	Source   fleet.SourceName `json:"source"`
	Revision fleet.Revision   `json:"revision"`
	File     string           `json:"file,omitempty"`
	// Desired is how many pods it should have, of a Job how many should succeed. Updated and Available are 0 for Jobs, and all of
	// them for CronJobs.
	Desired   int32 `json:"desired"`
	Updated   int32 `json:"updated"`
	Ready     int32 `json:"ready"`
	Available int32 `json:"available"`
	State     State `json:"state"`
	// Note is what the line has to say besides, in a few words; empty for nothing.
	Note string `json:"note,omitempty"`
	// Bad is the revision that the workload was rolled back from. It is not tried again there.
	Bad    *fleet.Bad `json:"bad,omitempty"`
	Scaler *Scaling   `json:"scaler,omitempty"` // what sizes it; nil for nothing
	Job    *JobCount  `json:"job,omitempty"`    // of a Job
	Cron   *Schedule  `json:"cron,omitempty"`   // of a CronJob
}

// Scaling is what a HorizontalPodAutoscaler makes of a workload.
type Scaling struct {
	Name     string    `json:"name"`
	Min      int32     `json:"min"`
	Max      int32     `json:"max"`
	Replicas int32     `json:"replicas"`        // 0 before the first measurement
	Scaled   time.Time `json:"scaled,omitzero"` // when it last changed them
	Why      string    `json:"why,omitempty"`   // why it cannot scale
}

// JobCount is what became of a Job's pods.
type JobCount struct {
	Active    int32 `json:"active"`
	Succeeded int32 `json:"succeeded"`
	Failed    int32 `json:"failed"`
}

// Schedule is how a CronJob runs. Its Jobs are counted here, as far as they are still remembered.
type Schedule struct {
	Schedule  string    `json:"schedule"`
	TimeZone  string    `json:"timeZone,omitempty"`
	Last      time.Time `json:"last,omitzero"`    // the newest scheduled minute that was run
	Success   time.Time `json:"success,omitzero"` // when a run last ended well
	Next      time.Time `json:"next,omitzero"`    // zero while it is suspended
	Active    int       `json:"active"`
	Succeeded int       `json:"succeeded"`
	Failed    int       `json:"failed"`
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

// Workloads are the desired objects that run pods, in a line each, in the order of their IDs. Jobs of CronJobs are counted with
// those.
func (v *View) Workloads() []Workload {
	waiting := map[fleet.ObjectID]bool{}
	for _, n := range v.Waiting() {
		waiting[n.About] = true
	}
	scalers := v.scalings()
	var list []Workload
	for _, o := range v.in.Desired.Objects {
		w := Workload{ID: o.ID, Source: o.Source, Revision: o.Revision, File: o.File, Scaler: scalers[o.ID]}
		switch value := o.Value.(type) {
		case *batchv1.CronJob:
			w.State, w.Cron = v.schedule(o, value)
		case *batchv1.Job:
			v.jobLine(&w, o, value)
		case *appsv1.Deployment, *appsv1.StatefulSet, *appsv1.DaemonSet, *appsv1.ReplicaSet, *corev1.Pod:
			n := v.numbers(o)
			w.Desired, w.Updated, w.Ready, w.Available = n.desired, n.updated, n.ready, n.available
			w.State = v.state(o, waiting[o.ID])
			if bad := v.decided.rollouts[o.ID].Bad; bad != (fleet.Bad{}) {
				w.Bad = &bad
			}
			w.Note = v.note(o, &w)
		default:
			continue
		}
		list = append(list, w)
	}
	return list
}

// state is how a workload is that should have pods at all times.
func (v *View) state(o fleet.Object, waiting bool) State {
	r := v.decided.rollouts[o.ID]
	d, _ := o.Value.(*appsv1.Deployment)
	switch {
	case d != nil && d.Spec.Paused:
		return StatePaused
	case r.Bad != (fleet.Bad{}):
		return StateRolledBack
	case !waiting:
		return StateReady
	case v.held(o) != "":
		return StateWaiting
	case r.Canary.Fault != "" || r.Reason == reasonExceeded:
		return StateStuck
	case v.resting(o) != "":
		return StatePaused
	default:
		return StateProgressing
	}
}

// note is what a line says besides its numbers.
func (v *View) note(o fleet.Object, w *Workload) string {
	var parts []string
	if w.Bad != nil {
		parts = append(parts, "bad: "+w.Bad.Revision.Short())
	}
	if steps := v.steps(o); steps != nil && v.target(o) != nil {
		parts = append(parts, fmt.Sprintf("step %d of %d", v.decided.rollouts[o.ID].Canary.Step+1, len(steps)))
	}
	if s := w.Scaler; s != nil {
		text := fmt.Sprintf("scaled %d-%d by %s", s.Min, s.Max, s.Name)
		if s.Why != "" {
			text += ", which cannot"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// scalings are what autoscalers make of their targets.
func (v *View) scalings() map[fleet.ObjectID]*Scaling {
	of := map[fleet.ObjectID]*Scaling{}
	for o, a := range fleet.Each[*autoscalingv2.HorizontalPodAutoscaler](v.in.Desired) {
		memory, known := v.decided.scalers[o.ID]
		target := scaleTarget(o.ID, a)
		if of[target] != nil || !known {
			continue
		}
		s := &Scaling{Name: a.Name, Min: 1, Max: a.Spec.MaxReplicas, Replicas: memory.Replicas, Scaled: memory.Scaled, Why: memory.Why}
		if a.Spec.MinReplicas != nil {
			s.Min = *a.Spec.MinReplicas
		}
		of[target] = s
	}
	return of
}

func (v *View) jobLine(w *Workload, o fleet.Object, job *batchv1.Job) {
	s := v.jobStatus(o.ID, &job.Spec)
	w.Desired, w.Ready = 1, *s.Ready
	if job.Spec.Completions != nil {
		w.Desired = *job.Spec.Completions
	}
	w.Job = &JobCount{Active: s.Active, Succeeded: s.Succeeded, Failed: s.Failed}
	j := v.decided.jobs[o.ID]
	switch {
	case j != nil && j.Outcome == batchv1.JobFailed:
		w.State, w.Note = StateFailed, j.Reason
	case j != nil && j.Outcome == batchv1.JobComplete && !j.Finished.IsZero():
		w.State = StateComplete
	case job.Spec.Suspend != nil && *job.Spec.Suspend:
		w.State = StateSuspended
	case v.held(o) != "":
		w.State = StateWaiting
	default:
		w.State = StateProgressing
	}
}

func (v *View) schedule(o fleet.Object, c *batchv1.CronJob) (State, *Schedule) {
	memory := v.decided.crons[o.ID]
	s := &Schedule{Schedule: c.Spec.Schedule, Last: memory.Last, Success: memory.Success, Next: v.nextRun(o, c)}
	if c.Spec.TimeZone != nil {
		s.TimeZone = *c.Spec.TimeZone
	}
	var last batchv1.JobConditionType
	for _, j := range v.runs[o.ID] {
		switch {
		case j.Finished.IsZero():
			s.Active++
			continue
		case j.Outcome == batchv1.JobFailed:
			s.Failed++
		default:
			s.Succeeded++
		}
		last = j.Outcome
	}
	switch {
	case s.Active > 0:
		return StateRunning, s
	case c.Spec.Suspend != nil && *c.Spec.Suspend:
		return StateSuspended, s
	case s.Next.IsZero():
		return StateStuck, s
	case last == batchv1.JobFailed:
		return StateFailed, s
	default:
		return StateScheduled, s
	}
}

// Lines are all pods in a line each, in the order of their IDs.
func (v *View) Lines() []Line {
	bare := *v
	bare.templates = nil // nothing of them is shown
	var list []Line
	for _, p := range bare.Pods() {
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
	switch {
	case p.DeletionTimestamp != nil:
		return "Terminating"
	case p.Status.Phase == corev1.PodFailed && p.Status.Reason != "":
		return p.Status.Reason
	}
	for _, c := range p.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil:
			return c.State.Waiting.Reason
		case c.State.Terminated != nil && c.State.Terminated.Reason == "":
			return fmt.Sprintf("ExitCode:%d", c.State.Terminated.ExitCode)
		case c.State.Terminated != nil:
			return c.State.Terminated.Reason
		}
	}
	return string(p.Status.Phase)
}
