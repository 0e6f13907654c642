package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// Annotations that Kubernetes' controllers put on what they make.
const (
	annotationRevision = "deployment.kubernetes.io/revision"
	annotationHistory  = "deployment.kubernetes.io/revision-history"
	annotationDesired  = "deployment.kubernetes.io/desired-replicas"
	annotationMax      = "deployment.kubernetes.io/max-replicas"
)

// numbers are how many pods a workload should have and has.
type numbers struct{ desired, updated, ready, available int32 }

// numbers counts as the status of a workload's kind does.
func (v *View) numbers(o fleet.Object) numbers {
	switch w := o.Value.(type) {
	case *appsv1.Deployment:
		s := v.deploymentStatus(o, w)
		return numbers{*w.Spec.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas}
	case *appsv1.StatefulSet:
		s := v.statefulSetStatus(o, w)
		return numbers{*w.Spec.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas}
	case *appsv1.DaemonSet:
		s := v.daemonSetStatus(o, w)
		return numbers{s.DesiredNumberScheduled, s.UpdatedNumberScheduled, s.NumberReady, s.NumberAvailable}
	case *appsv1.ReplicaSet:
		c := v.count(o.ID, w.Spec.MinReadySeconds)
		return numbers{*w.Spec.Replicas, c.Active, c.Ready, c.Available}
	case *corev1.Pod:
		if slices.ContainsFunc(v.members[o.ID], upToDate(o.Hash)) {
			return numbers{1, 1, 1, 1}
		}
		return numbers{desired: 1}
	default:
		return numbers{}
	}
}

// generation counts how often the template of a workload changed: it is what was observed, for View decides on what it shows.
func (v *View) generation(o fleet.Object) int64 {
	if set := v.decided.sets[v.decided.rollouts[o.ID].Target]; set != nil {
		return max(set.Number, 1)
	}
	return 1
}

// collisions are what a workload has of them; nil for none.
func collisions(r fleet.Rollout) *int32 {
	if r.Collisions == 0 {
		return nil
	}
	return &r.Collisions
}

// born is when the oldest of a workload's sets was made.
func born(sets []fleet.Set) metav1.Time {
	var first time.Time
	for i := range sets {
		first = fleet.Earliest(first, sets[i].Created)
	}
	return metav1.Time{Time: first}
}

// Deployments are the desired Deployments with their status, in the order of their IDs.
func (v *View) Deployments() []appsv1.Deployment {
	var list []appsv1.Deployment
	for object, d := range fleet.Each[*appsv1.Deployment](v.in.Desired) {
		out := *d.DeepCopy()
		out.APIVersion, out.Kind = "apps/v1", fleet.KindDeployment
		sign(&out.ObjectMeta, object)
		out.Generation = v.generation(object)
		out.Status = v.deploymentStatus(object, d)
		if set := v.decided.sets[v.decided.rollouts[object.ID].Target]; set != nil {
			annotate(&out.ObjectMeta, annotationRevision, strconv.FormatInt(set.Number, 10))
		}
		var sets []fleet.Set
		for _, g := range v.owned[object.ID] {
			sets = append(sets, g.Set)
		}
		out.CreationTimestamp = born(sets)
		list = append(list, out)
	}
	return list
}

func (v *View) deploymentStatus(object fleet.Object, d *appsv1.Deployment) appsv1.DeploymentStatus {
	r := v.decided.rollouts[object.ID]
	s := appsv1.DeploymentStatus{ObservedGeneration: v.generation(object), CollisionCount: collisions(r)}
	target := v.target(object)
	var leaving int32
	for _, g := range v.owned[object.ID] {
		s.Replicas += g.Active
		s.ReadyReplicas += g.Ready
		s.AvailableReplicas += g.Available
		leaving += g.Present - g.Active
		if target != nil && g.ID == target.ID {
			s.UpdatedReplicas = g.Active
		}
	}
	s.TerminatingReplicas = &leaving
	s.UnavailableReplicas = max(*d.Spec.Replicas-s.AvailableReplicas, 0)
	_, unavailable := workload.Fenceposts(d)
	available := appsv1.DeploymentCondition{
		Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse,
		Reason: "MinimumReplicasUnavailable", Message: "Deployment does not have minimum availability.",
	}
	if s.AvailableReplicas >= *d.Spec.Replicas-unavailable {
		available.Status, available.Reason, available.Message = corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability."
	}
	s.Conditions = append(s.Conditions, available)
	if r.Reason != "" {
		s.Conditions = append(s.Conditions, v.progressing(object, r))
	}
	if why, refused := v.refused(object.ID); refused {
		s.Conditions = append(s.Conditions, appsv1.DeploymentCondition{
			Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: why,
		})
	}
	return s
}

// progressing is a Deployment's condition of that name. What was rolled back is a rollout that failed, however well the
// version does that it went back to.
func (v *View) progressing(object fleet.Object, r fleet.Rollout) appsv1.DeploymentCondition {
	c := appsv1.DeploymentCondition{
		Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: r.Reason,
		LastUpdateTime: metav1.Time{Time: r.Progress}, LastTransitionTime: metav1.Time{Time: r.Progress},
	}
	set := fmt.Sprintf("ReplicaSet %q", r.Target.Name)
	switch r.Reason {
	case "NewReplicaSetCreated":
		c.Message = fmt.Sprintf("Created new replica set %q", r.Target.Name)
	case "FoundNewReplicaSet":
		c.Message = fmt.Sprintf("Found new replica set %q", r.Target.Name)
	case "ReplicaSetUpdated":
		c.Message = set + " is progressing."
	case "NewReplicaSetAvailable":
		c.Message = set + " has successfully progressed."
	case reasonExceeded:
		c.Status, c.Message = corev1.ConditionFalse, set+" has timed out progressing."
	case "DeploymentPaused":
		c.Status, c.Message = corev1.ConditionUnknown, "Deployment is paused"
	case "DeploymentResumed":
		c.Status, c.Message = corev1.ConditionUnknown, "Deployment is resumed"
	}
	if resting := v.resting(object); resting != "" {
		c.Message = set + " " + resting
	}
	if r.Bad != (fleet.Bad{}) {
		c.Status, c.Reason = corev1.ConditionFalse, "RolledBack"
		c.Message = fmt.Sprintf("revision %s is bad: %s; rolled back to %s", r.Bad.Revision, r.Bad.Why, set)
		c.LastTransitionTime = metav1.Time{Time: r.Bad.Since}
	}
	return c
}

// refused says why a workload's pods may not be made.
func (v *View) refused(id fleet.ObjectID) (string, bool) {
	for _, text := range v.noted[id] {
		if why, ok := strings.CutPrefix(text, "FailedCreate: "); ok {
			return why, true
		}
	}
	return "", false
}

// reasonExceeded is the reason of a rollout that stands still.
const reasonExceeded = "ProgressDeadlineExceeded"

// ReplicaSets are all ReplicaSets with their status, in the order of their IDs. One whose template is not to be had shows an
// empty one.
func (v *View) ReplicaSets() []appsv1.ReplicaSet {
	var list []appsv1.ReplicaSet
	for _, set := range v.in.Previous.Sets {
		if set.ID.Kind != fleet.KindReplicaSet {
			continue
		}
		c := v.count(set.ID, set.MinReady)
		leaving := c.Present - c.Active
		rs := appsv1.ReplicaSet{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: fleet.KindReplicaSet},
			ObjectMeta: metav1.ObjectMeta{
				Namespace: set.ID.Namespace, Name: set.ID.Name, UID: types.UID(set.UID), CreationTimestamp: metav1.Time{Time: set.Created}, Generation: 1,
			},
			Spec: appsv1.ReplicaSetSpec{Replicas: &set.Replicas, MinReadySeconds: set.MinReady},
			Status: appsv1.ReplicaSetStatus{
				Replicas: c.Active, FullyLabeledReplicas: c.Active, ReadyReplicas: c.Ready, AvailableReplicas: c.Available,
				TerminatingReplicas: &leaving, ObservedGeneration: 1,
			},
		}
		if template := v.templates[set.Want]; template != nil {
			rs.Spec.Template = *template.DeepCopy()
			rs.Labels = rs.Spec.Template.Labels
		}
		if why, refused := v.refused(set.ID); refused {
			rs.Status.Conditions = []appsv1.ReplicaSetCondition{{
				Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: why,
			}}
		}
		if set.Owner != (fleet.ObjectID{}) {
			v.ofDeployment(&rs, set)
		} else if own, ok := fleet.Lookup[*appsv1.ReplicaSet](v.in.Desired, set.ID); ok {
			own = own.DeepCopy()
			rs.Labels, rs.Annotations, rs.Spec.Selector = own.Labels, own.Annotations, own.Spec.Selector
		}
		Mark(&rs.ObjectMeta, set.Source, set.From)
		list = append(list, rs)
	}
	return list
}

// ofDeployment adds what the Deployment controller would have put on a set of its own.
func (v *View) ofDeployment(rs *appsv1.ReplicaSet, set fleet.Set) {
	annotate(&rs.ObjectMeta, annotationRevision, strconv.FormatInt(set.Number, 10), annotationHistory, history(set),
		annotationDesired, strconv.Itoa(int(set.Recorded)), annotationMax, strconv.Itoa(int(set.Most)))
	rs.OwnerReferences = ownedBy("apps/v1", set.Owner, uidOf(set.Owner))
	rs.Labels = with(rs.Labels, fleet.LabelTemplateHash, set.Label)
	rs.Spec.Template.Labels = with(rs.Spec.Template.Labels, fleet.LabelTemplateHash, set.Label)
	if d, ok := fleet.Lookup[*appsv1.Deployment](v.in.Desired, set.Owner); ok && d.Spec.Selector != nil {
		rs.Spec.Selector = d.Spec.Selector.DeepCopy()
		rs.Spec.Selector.MatchLabels = with(rs.Spec.Selector.MatchLabels, fleet.LabelTemplateHash, set.Label)
	}
}

// history are the revision numbers that a set stood for before, as Kubernetes writes them.
func history(set fleet.Set) string {
	var list []string
	for _, n := range set.Former {
		list = append(list, strconv.FormatInt(n, 10))
	}
	return strings.Join(list, ",")
}

// StatefulSets are the desired StatefulSets with their status, in the order of their IDs.
func (v *View) StatefulSets() []appsv1.StatefulSet {
	var list []appsv1.StatefulSet
	for object, s := range fleet.Each[*appsv1.StatefulSet](v.in.Desired) {
		out := *s.DeepCopy()
		out.APIVersion, out.Kind = "apps/v1", fleet.KindStatefulSet
		sign(&out.ObjectMeta, object)
		out.Generation = v.generation(object)
		out.CreationTimestamp = born(v.revisions[object.ID])
		out.Status = v.statefulSetStatus(object, s)
		list = append(list, out)
	}
	return list
}

func (v *View) statefulSetStatus(object fleet.Object, s *appsv1.StatefulSet) appsv1.StatefulSetStatus {
	r := v.decided.rollouts[object.ID]
	c := v.count(object.ID, s.Spec.MinReadySeconds)
	out := appsv1.StatefulSetStatus{
		ObservedGeneration: v.generation(object), CollisionCount: collisions(r),
		Replicas: int32(len(v.members[object.ID])), ReadyReplicas: c.Ready, AvailableReplicas: c.Available,
		CurrentRevision: r.Current.Name, UpdateRevision: r.Target.Name,
	}
	current, target := v.decided.sets[r.Current], v.target(object)
	for i := range v.members[object.ID] {
		slot := &v.members[object.ID][i].Slot
		if slot.Goal != fleet.Run {
			continue
		}
		if current != nil && slot.Label == current.Label {
			out.CurrentReplicas++
		}
		if target != nil && slot.Label == target.Label {
			out.UpdatedReplicas++
		}
	}
	return out
}

// DaemonSets are the desired DaemonSets with their status, in the order of their IDs.
func (v *View) DaemonSets() []appsv1.DaemonSet {
	var list []appsv1.DaemonSet
	for object, s := range fleet.Each[*appsv1.DaemonSet](v.in.Desired) {
		out := *s.DeepCopy()
		out.APIVersion, out.Kind = "apps/v1", fleet.KindDaemonSet
		sign(&out.ObjectMeta, object)
		out.Generation = v.generation(object)
		out.CreationTimestamp = born(v.revisions[object.ID])
		out.Status = v.daemonSetStatus(object, s)
		list = append(list, out)
	}
	return list
}

// daemonSetStatus counts nodes: of several pods on one the oldest that should run stands for them.
func (v *View) daemonSetStatus(object fleet.Object, s *appsv1.DaemonSet) appsv1.DaemonSetStatus {
	out := appsv1.DaemonSetStatus{ObservedGeneration: v.generation(object), CollisionCount: collisions(v.decided.rollouts[object.ID])}
	seats, target := v.decided.seats(s), v.target(object)
	out.DesiredNumberScheduled = int32(workload.Desired(seats))
	on := map[fleet.NodeName]workload.Member{}
	for _, m := range v.members[object.ID] {
		if m.Slot.Goal != fleet.Run && m.Report != nil && m.Report.Terminal() {
			continue // what is left of it is only to be removed
		}
		before, taken := on[m.Slot.Seat()]
		if !taken || represents(m, before) {
			on[m.Slot.Seat()] = m
		}
	}
	minReady := time.Duration(s.Spec.MinReadySeconds) * time.Second
	for node, m := range on {
		if seating, may := seats[node]; !may || seating == workload.Kept {
			out.NumberMisscheduled++
			continue
		}
		c := workload.Count([]workload.Member{m}, minReady, v.in.Now)
		out.CurrentNumberScheduled++
		out.NumberReady += c.Ready
		out.NumberAvailable += c.Available
		if target != nil && m.Slot.Goal == fleet.Run && m.Slot.Label == target.Label {
			out.UpdatedNumberScheduled++
		}
	}
	out.NumberUnavailable = out.DesiredNumberScheduled - out.NumberAvailable
	return out
}

// represents reports whether of two pods on one node the first stands for them.
func represents(a, b workload.Member) bool {
	if run := a.Slot.Goal == fleet.Run; run != (b.Slot.Goal == fleet.Run) {
		return run
	}
	return fleet.SlotOrder(fleet.Slot{Identity: fleet.Identity{Created: a.Slot.Created, UID: a.Slot.UID}},
		fleet.Slot{Identity: fleet.Identity{Created: b.Slot.Created, UID: b.Slot.UID}}) < 0
}

// ControllerRevisions are the templates that StatefulSets and DaemonSets had, in the order of their IDs.
func (v *View) ControllerRevisions() []appsv1.ControllerRevision {
	var list []appsv1.ControllerRevision
	for _, set := range v.in.Previous.Sets {
		if set.ID.Kind != fleet.KindRevision {
			continue
		}
		c := appsv1.ControllerRevision{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: fleet.KindRevision},
			ObjectMeta: metav1.ObjectMeta{
				Namespace: set.ID.Namespace, Name: set.ID.Name, UID: types.UID(set.UID), CreationTimestamp: metav1.Time{Time: set.Created},
				OwnerReferences: ownedBy("apps/v1", set.Owner, uidOf(set.Owner)),
			},
			Revision: set.Number,
		}
		label := "controller.kubernetes.io/hash"
		if set.Owner.Kind == fleet.KindDaemonSet {
			label = appsv1.ControllerRevisionHashLabelKey
		}
		if template := v.templates[set.Want]; template != nil {
			c.Labels, c.Data = template.Labels, patch(template)
		}
		c.Labels = with(c.Labels, label, set.Label)
		annotate(&c.ObjectMeta, annotationHistory, history(set))
		Mark(&c.ObjectMeta, set.Source, set.From)
		list = append(list, c)
	}
	return list
}

// patch is a template as a revision holds it: what makes a workload have it.
func patch(template *corev1.PodTemplateSpec) runtime.RawExtension {
	raw, err := json.Marshal(struct {
		*corev1.PodTemplateSpec
		Patch string `json:"$patch"`
	}{template, "replace"})
	if err != nil { // cannot happen: it was decoded
		return runtime.RawExtension{}
	}
	return runtime.RawExtension{Raw: []byte(fmt.Sprintf(`{"spec":{"template":%s}}`, raw))}
}
