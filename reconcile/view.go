package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// View is a fleet as Kubernetes would show it: what is desired beside what is.
type View struct {
	in        FleetInput
	templates map[fleet.Hash]*corev1.PodTemplateSpec
	members   map[fleet.ObjectID][]workload.Member
	owned     map[fleet.ObjectID][]workload.Generation
	decided   *decider // what deciding finds now
	reports   map[string]*fleet.PodReport
}

// NewView makes a view. in.Previous is the assignment in force. templates may be nil when no pods or
// ReplicaSets are asked for.
func NewView(in FleetInput, templates map[fleet.Hash]*corev1.PodTemplateSpec) *View {
	v := &View{in: in, templates: templates, reports: map[string]*fleet.PodReport{}}
	for i := range in.Reports {
		for j := range in.Reports[i].Pods {
			v.reports[in.Reports[i].Pods[j].UID] = &in.Reports[i].Pods[j]
		}
	}
	v.decided = decide(in)
	v.in.Desired = v.decided.in.Desired // what operators and autoscalers say is part of it
	in = v.in
	v.members = members(in.Previous.Slots, v.reports)
	v.owned = generations(in.Previous.Sets, v.members, in.Desired, in.Now)
	return v
}

// heard reports whether a node has said anything.
func (v *View) heard(node fleet.NodeName) bool {
	return slices.ContainsFunc(v.in.Reports, func(r fleet.NodeReport) bool { return r.Node == node })
}

// Waiting says what keeps the fleet from being as desired, one note a workload; nothing when all is as it
// should be. A node that has not acted on the assignment yet is something to wait for, too.
func (v *View) Waiting() []fleet.Note {
	var notes []fleet.Note
	add := func(about fleet.ObjectID, format string, args ...any) {
		notes = append(notes, fleet.Note{About: about, Text: fmt.Sprintf(format, args...)})
	}
	for _, o := range v.in.Desired.Objects {
		if o.Template == nil || v.decided.standings[o.ID].ready {
			continue
		}
		if text := v.behind(o); text != "" {
			add(o.ID, "%s%s", text, v.why(o.ID))
		}
	}
	for i := range v.in.Previous.Slots {
		if s := &v.in.Previous.Slots[i]; s.Goal == fleet.Drain {
			add(s.Pod.Object(), "stopping")
		}
	}
	if len(notes) == 0 { // what these say is soon seen, unless there is nothing else to see
		notes = v.unsaid()
	}
	slices.SortFunc(notes, fleet.Note.Compare)
	return notes
}

// behind says how far a workload is that is not as it should be; empty where nobody waits for it.
func (v *View) behind(o fleet.Object) string {
	switch d := o.Value.(type) {
	case *appsv1.Deployment:
		if d.Spec.Paused {
			return ""
		}
		s := v.deploymentStatus(o, d)
		return fmt.Sprintf("%d of %d pods updated, %d available", s.UpdatedReplicas, *d.Spec.Replicas, s.AvailableReplicas)
	case *appsv1.ReplicaSet:
		return fmt.Sprintf("%d of %d pods available", v.count(o.ID, d.Spec.MinReadySeconds).Available, *d.Spec.Replicas)
	case *appsv1.StatefulSet:
		return v.counted(o.ID, *d.Spec.Replicas, d.Spec.MinReadySeconds)
	case *appsv1.DaemonSet:
		return v.counted(o.ID, int32(len(v.decided.seats(d))), d.Spec.MinReadySeconds)
	case *batchv1.Job:
		return v.jobBehind(o.ID, d)
	case *corev1.Pod:
		return "not ready"
	default:
		return ""
	}
}

// counted says how many of a StatefulSet's or DaemonSet's pods are as they should be.
func (v *View) counted(id fleet.ObjectID, desired, minReady int32) string {
	return fmt.Sprintf("%d of %d pods updated, %d available", v.updated(id).Active, desired, v.count(id, minReady).Available)
}

// updated counts the pods of the revision that a StatefulSet or DaemonSet goes to.
func (v *View) updated(id fleet.ObjectID) workload.Counts {
	target, ok := v.set(v.decided.rollouts[id].Target)
	if !ok {
		return workload.Counts{}
	}
	of := slices.DeleteFunc(slices.Clone(v.members[id]), func(m workload.Member) bool { return m.Slot.Label != target.Label })
	return workload.Count(of, 0, v.in.Now)
}

func (v *View) set(id fleet.ObjectID) (fleet.Set, bool) {
	set, ok := v.decided.sets[id]
	if !ok {
		return fleet.Set{}, false
	}
	return *set, true
}

func (v *View) jobBehind(id fleet.ObjectID, spec *batchv1.Job) string {
	j := v.decided.jobs[id]
	switch {
	case spec.Spec.Suspend != nil && *spec.Spec.Suspend:
		return ""
	case j == nil:
		return "not started"
	case j.Outcome == batchv1.JobFailed:
		return "failed: " + j.Reason + ": " + j.Message
	case j.Spec.Completions == nil:
		return fmt.Sprintf("%d pods succeeded, %d failed", j.Succeeded, j.Failed)
	default:
		return fmt.Sprintf("%d of %d pods succeeded, %d failed", j.Succeeded, *j.Spec.Completions, j.Failed)
	}
}

// unsaid is what was not decided on, acted on or reported yet.
func (v *View) unsaid() []fleet.Note {
	var notes []fleet.Note
	add := func(about fleet.ObjectID, format string, args ...any) {
		notes = append(notes, fleet.Note{About: about, Text: fmt.Sprintf(format, args...)})
	}
	for source, revision := range v.in.Desired.Revisions {
		if v.in.Previous.Revisions[source] != revision {
			add(fleet.ObjectID{}, "%s at %s is not decided on yet", source, revision.Short())
		}
	}
	for _, report := range v.in.Reports {
		if report.Epoch < v.in.Previous.Epoch {
			add(fleet.ObjectID{Kind: fleet.KindNode, Name: string(report.Node)}, "has not acted on the newest assignment yet")
		}
		if report.Pending > 0 {
			add(fleet.ObjectID{Kind: fleet.KindNode, Name: string(report.Node)}, "%d pods are being worked on", report.Pending)
		}
	}
	if len(v.in.Reports) == 0 {
		add(fleet.ObjectID{}, "no node has reported yet")
	}
	return notes
}

func upToDate(want fleet.Hash) func(workload.Member) bool {
	return func(m workload.Member) bool {
		if m.Slot.Goal != fleet.Run || m.Slot.Want != want || m.Report == nil {
			return false
		}
		_, ready := m.Report.ReadySince()
		return ready || m.Report.Status.Phase == corev1.PodSucceeded
	}
}

// why is the first reason why a container of an owner's pods waits.
func (v *View) why(owner fleet.ObjectID) string {
	owners := []fleet.ObjectID{owner}
	for _, g := range v.owned[owner] {
		owners = append(owners, g.ID)
	}
	for _, id := range owners {
		for _, m := range v.members[id] {
			if m.Report == nil {
				continue
			}
			if text := waitsFor(m.Report); text != "" {
				return fmt.Sprintf(" (%s: %s)", m.Slot.Pod.Name, text)
			}
			if text := v.noteOn(m.Slot.Pod.Object()); text != "" {
				return fmt.Sprintf(" (%s: %s)", m.Slot.Pod.Name, text)
			}
		}
	}
	for _, note := range v.decided.notes {
		if note.About == owner {
			return " (" + note.Text + ")"
		}
	}
	return ""
}

// waitsFor is the first reason why a container of a pod waits, but for those that say nothing; or how a pod failed.
func waitsFor(p *fleet.PodReport) string {
	if p.Status.Reason != "" {
		return string(p.Status.Phase) + ": " + p.Status.Reason
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			return w.Reason + ": " + w.Message
		}
		if e := c.State.Terminated; e != nil && e.ExitCode != 0 && p.Status.Phase == corev1.PodFailed {
			text := fmt.Sprintf("Failed: container %s ended with code %d (%s)", c.Name, e.ExitCode, e.Reason)
			if e.Message != "" {
				text += ": " + strings.Join(strings.Fields(e.Message), " ")
			}
			return text
		}
	}
	return ""
}

// noteOn is the first that a node says of an object.
func (v *View) noteOn(id fleet.ObjectID) string {
	for _, report := range v.in.Reports {
		for _, note := range report.Notes {
			if note.About == id {
				return note.Text
			}
		}
	}
	return ""
}

// Claims are the desired PersistentVolumeClaims with their status, in the order of their IDs. One is bound when its
// volume exists, which it does from its first pod on.
func (v *View) Claims() []corev1.PersistentVolumeClaim {
	var list []corev1.PersistentVolumeClaim
	for object, claim := range fleet.Each[*corev1.PersistentVolumeClaim](v.in.Desired) {
		c := claim.DeepCopy()
		c.APIVersion, c.Kind = "v1", fleet.KindPersistentVolumeClaim
		Mark(&c.ObjectMeta, object.Source, object.Revision)
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
		for _, report := range v.in.Reports {
			for _, o := range report.Claims {
				if o.Claim.Object() == object.ID {
					c.Spec.VolumeName = o.PodmanName
					c.Status = corev1.PersistentVolumeClaimStatus{
						Phase: corev1.ClaimBound, AccessModes: claim.Spec.AccessModes, Capacity: claim.Spec.Resources.Requests,
					}
				}
			}
		}
		list = append(list, *c)
	}
	return list
}

func (v *View) count(set fleet.ObjectID, minReady int32) workload.Counts {
	return workload.Count(v.members[set], time.Duration(minReady)*time.Second, v.in.Now)
}

// Deployments are the desired Deployments with their status, in the order of their IDs.
func (v *View) Deployments() []appsv1.Deployment {
	var list []appsv1.Deployment
	for object, d := range fleet.Each[*appsv1.Deployment](v.in.Desired) {
		out := *d.DeepCopy()
		out.APIVersion, out.Kind = "apps/v1", fleet.KindDeployment
		out.UID = types.UID(fleet.DeriveUID("deployment", object.ID.String()))
		out.Status = v.deploymentStatus(object, d)
		Mark(&out.ObjectMeta, object.Source, object.Revision)
		for _, g := range v.owned[object.ID] {
			if g.Want == object.Hash {
				annotate(&out.ObjectMeta, "deployment.kubernetes.io/revision", strconv.FormatInt(g.Number, 10))
				out.CreationTimestamp = metav1.Time{Time: g.Created}
			}
		}
		list = append(list, out)
	}
	return list
}

// Mark says on an object where it comes from, as all that is shown does.
func Mark(m *metav1.ObjectMeta, source fleet.SourceName, revision fleet.Revision) {
	annotate(m, fleet.LabelSource, string(source))
	annotate(m, fleet.LabelRevision, string(revision))
}

func (v *View) deploymentStatus(object fleet.Object, d *appsv1.Deployment) appsv1.DeploymentStatus {
	var s appsv1.DeploymentStatus
	for _, g := range v.owned[object.ID] {
		s.Replicas += g.Active
		s.ReadyReplicas += g.Ready
		s.AvailableReplicas += g.Available
		if g.Want == object.Hash {
			s.UpdatedReplicas += g.Active
		}
	}
	s.UnavailableReplicas = max(*d.Spec.Replicas-s.AvailableReplicas, 0)
	_, unavailable := workload.Fenceposts(d)
	available := appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, Reason: "MinimumReplicasUnavailable"}
	if s.AvailableReplicas >= *d.Spec.Replicas-unavailable {
		available.Status, available.Reason = corev1.ConditionTrue, "MinimumReplicasAvailable"
	}
	s.Conditions = append(s.Conditions, available)
	at := slices.IndexFunc(v.in.Previous.Rollouts, func(r fleet.Rollout) bool { return r.ID == object.ID })
	if at < 0 {
		return s
	}
	rollout := v.in.Previous.Rollouts[at]
	progressing := appsv1.DeploymentCondition{
		Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: rollout.Reason,
		LastUpdateTime: metav1.Time{Time: rollout.Progress}, LastTransitionTime: metav1.Time{Time: rollout.Progress},
	}
	switch rollout.Reason {
	case "ProgressDeadlineExceeded":
		progressing.Status = corev1.ConditionFalse
	case "DeploymentPaused", "DeploymentResumed":
		progressing.Status = corev1.ConditionUnknown
	}
	s.Conditions = append(s.Conditions, progressing)
	if rollout.Collisions > 0 {
		s.CollisionCount = &rollout.Collisions
	}
	return s
}

// ReplicaSets are all sets with their status, in the order of their IDs. A set whose template is not to be
// had shows an empty one.
func (v *View) ReplicaSets() []appsv1.ReplicaSet {
	var list []appsv1.ReplicaSet
	for _, set := range v.in.Previous.Sets {
		c := v.count(set.ID, set.MinReady)
		rs := appsv1.ReplicaSet{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: fleet.KindReplicaSet},
			ObjectMeta: metav1.ObjectMeta{
				Namespace: set.ID.Namespace, Name: set.ID.Name, UID: types.UID(set.UID), CreationTimestamp: metav1.Time{Time: set.Created},
			},
			Spec: appsv1.ReplicaSetSpec{Replicas: &set.Replicas, MinReadySeconds: set.MinReady},
			Status: appsv1.ReplicaSetStatus{
				Replicas: c.Active, FullyLabeledReplicas: c.Active, ReadyReplicas: c.Ready, AvailableReplicas: c.Available,
			},
		}
		Mark(&rs.ObjectMeta, set.Source, set.From)
		if template := v.templates[set.Want]; template != nil {
			rs.Spec.Template = *template.DeepCopy()
			rs.Labels = rs.Spec.Template.Labels
		}
		if set.Owner != (fleet.ObjectID{}) {
			v.ofDeployment(&rs, set)
		} else if own, ok := fleet.Lookup[*appsv1.ReplicaSet](v.in.Desired, set.ID); ok {
			rs.Labels, rs.Spec.Selector = own.Labels, own.Spec.Selector
		}
		list = append(list, rs)
	}
	return list
}

// ofDeployment adds what the Deployment controller would have put on a set of its own.
func (v *View) ofDeployment(rs *appsv1.ReplicaSet, set fleet.Set) {
	annotate(&rs.ObjectMeta, "deployment.kubernetes.io/revision", strconv.FormatInt(set.Number, 10))
	annotate(&rs.ObjectMeta, "deployment.kubernetes.io/desired-replicas", strconv.Itoa(int(set.Recorded)))
	controller := true
	rs.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "apps/v1", Kind: set.Owner.Kind, Name: set.Owner.Name, Controller: &controller,
		UID: types.UID(fleet.DeriveUID("deployment", set.Owner.String())),
	}}
	if rs.Labels == nil {
		rs.Labels = map[string]string{}
	}
	rs.Labels[fleet.LabelTemplateHash] = set.Label
	if d, ok := fleet.Lookup[*appsv1.Deployment](v.in.Desired, set.Owner); ok {
		rs.Spec.Selector = d.Spec.Selector.DeepCopy()
		if rs.Spec.Selector.MatchLabels == nil {
			rs.Spec.Selector.MatchLabels = map[string]string{}
		}
		rs.Spec.Selector.MatchLabels[fleet.LabelTemplateHash] = set.Label
	}
}

// Pods are all pods of the assignment with what their nodes report, in the order of their IDs.
func (v *View) Pods() []corev1.Pod {
	var list []corev1.Pod
	for _, slot := range v.in.Previous.Slots {
		p := PodOf(slot, v.templates[slot.Want])
		if p == nil {
			p = PodOf(slot, &corev1.PodTemplateSpec{})
		}
		p = p.DeepCopy()
		p.APIVersion, p.Kind = "v1", fleet.KindPod
		Mark(&p.ObjectMeta, slot.Source, slot.From)
		if slot.Goal == fleet.Drain {
			p.DeletionTimestamp = &metav1.Time{Time: slot.Drained}
			p.DeletionGracePeriodSeconds = p.Spec.TerminationGracePeriodSeconds
		}
		p.Status.Phase = corev1.PodPending
		if !v.heard(slot.Node) { // an agent that was started just now has not looked yet: the pod may well run
			p.Status.Phase, p.Status.Reason = corev1.PodUnknown, "NodeNotReported"
		}
		if r := v.reports[slot.UID]; r != nil {
			p.Status = *r.Status.DeepCopy()
		}
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}
