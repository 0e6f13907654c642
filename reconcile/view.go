package reconcile

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// View is a fleet as Kubernetes would show it: what is desired beside what is. Pods and ReplicaSets are those of the
// assignment in force; how far a workload is comes from deciding now, which is what the leader is about to find. A View is for
// one goroutine.
type View struct {
	in        FleetInput // with what operators and autoscalers say in Desired
	templates map[fleet.Hash]*corev1.PodTemplateSpec
	members   map[fleet.ObjectID][]workload.Member
	owned     map[fleet.ObjectID][]workload.Generation
	revisions map[fleet.ObjectID][]fleet.Set // of StatefulSets and DaemonSets
	runs      map[fleet.ObjectID][]*fleet.Job
	decided   *decider // what deciding finds now
	reports   map[string]*fleet.PodReport
	said      map[fleet.ObjectID]string   // the first that a node says of an object
	noted     map[fleet.ObjectID][]string // what deciding says of an object, but for what operators asked for
	waiting   *[]fleet.Note               // once it was asked for
	services  *exposed                    // once it was asked for
}

// NewView makes a view. in.Previous is the assignment in force. templates may be nil when nothing is asked for that shows pod
// templates or counts by them.
func NewView(in FleetInput, templates map[fleet.Hash]*corev1.PodTemplateSpec) *View {
	v := &View{
		in: in, templates: templates, reports: map[string]*fleet.PodReport{}, revisions: map[fleet.ObjectID][]fleet.Set{},
		said: map[fleet.ObjectID]string{}, noted: map[fleet.ObjectID][]string{},
	}
	for i := range in.Reports {
		for j := range in.Reports[i].Pods {
			v.reports[in.Reports[i].Pods[j].UID] = &in.Reports[i].Pods[j]
		}
		for _, note := range in.Reports[i].Notes {
			if _, before := v.said[note.About]; !before {
				v.said[note.About] = note.Text
			}
		}
	}
	if in.Templates == nil {
		in.Templates = templates
	}
	v.decided = decide(in)
	v.in.Desired = v.decided.in.Desired // what operators and autoscalers say is part of it
	v.members = members(in.Previous.Slots, v.reports)
	v.owned = generations(in.Previous.Sets, v.members, v.in.Desired, in.Now)
	for _, set := range in.Previous.Sets {
		if set.ID.Kind == fleet.KindRevision {
			v.revisions[set.Owner] = append(v.revisions[set.Owner], set)
		}
	}
	for _, note := range v.decided.notes {
		if !v.decided.isAsked(note) {
			v.noted[note.About] = append(v.noted[note.About], note.Text)
		}
	}
	v.runs = runs(v.decided.jobs)
	return v
}

// isAsked reports whether a note only says what an operator asked for.
func (d *decider) isAsked(note fleet.Note) bool {
	for _, i := range d.intents[note.About] {
		if IntentText(i) == note.Text {
			return true
		}
	}
	return false
}

// heard reports whether a node has said anything.
func (v *View) heard(node fleet.NodeName) bool { return v.decided.nodes[node] != nil }

// count counts the pods of one owner.
func (v *View) count(owner fleet.ObjectID, minReady int32) workload.Counts {
	return workload.Count(v.members[owner], time.Duration(minReady)*time.Second, v.in.Now)
}

// target is the set that a workload goes to, or has come to; nil while it waits to begin with what is wanted of it.
func (v *View) target(o fleet.Object) *fleet.Set {
	r := v.decided.rollouts[o.ID]
	set := v.decided.sets[r.Target]
	if set == nil {
		return nil
	}
	if _, undone := v.decided.asked(o.ID, fleet.Undo); undone || r.Bad.Want == o.Hash {
		return set
	}
	restart, restarted := v.decided.asked(o.ID, fleet.Restart)
	if set.Want != o.Hash || (restarted && set.Stamp.Restarted.Before(restart.At)) {
		return nil
	}
	return set
}

// Mark says on an object where it comes from, as all that is shown does.
func Mark(m *metav1.ObjectMeta, source fleet.SourceName, revision fleet.Revision) {
	annotate(m, fleet.LabelSource, string(source), fleet.LabelRevision, string(revision))
}

// uidOf is the UID of an object that has none but its name.
func uidOf(id fleet.ObjectID) types.UID {
	return types.UID(fleet.DeriveUID(strings.ToLower(id.Kind), id.String()))
}

// sign fills in what Kubernetes' server would, of an object of a source.
func sign(m *metav1.ObjectMeta, o fleet.Object) {
	m.UID = uidOf(o.ID)
	Mark(m, o.Source, o.Revision)
}

// ownedBy is a reference to the one who made an object.
func ownedBy(version string, owner fleet.ObjectID, uid types.UID) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{
		APIVersion: version, Kind: owner.Kind, Name: owner.Name, UID: uid, Controller: &yes, BlockOwnerDeletion: &yes,
	}}
}

// timeOf is a time as objects have it; nil for the zero time.
func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t}
}

// Pods are all pods of the assignment with what their nodes report, in the order of their IDs.
func (v *View) Pods() []corev1.Pod {
	list := make([]corev1.Pod, 0, len(v.in.Previous.Slots))
	for i := range v.in.Previous.Slots {
		slot := &v.in.Previous.Slots[i]
		p := v.pod(slot).DeepCopy()
		p.APIVersion, p.Kind = "v1", fleet.KindPod
		Mark(&p.ObjectMeta, slot.Source, slot.From)
		for j := range p.OwnerReferences {
			p.OwnerReferences[j].UID, p.OwnerReferences[j].BlockOwnerDeletion = ownerUID(slot), p.OwnerReferences[j].Controller
		}
		if slot.Goal == fleet.Drain {
			p.DeletionTimestamp = &metav1.Time{Time: slot.Drained}
			p.DeletionGracePeriodSeconds = p.Spec.TerminationGracePeriodSeconds
		}
		p.Status.Phase = corev1.PodPending
		p.Status.Conditions = []corev1.PodCondition{v.scheduled(slot)}
		if slot.Node != "" && !v.heard(slot.Node) { // an agent that was started just now has not looked yet: the pod may well run
			p.Status.Phase, p.Status.Reason = corev1.PodUnknown, "NodeNotReported"
		}
		if r := v.reports[slot.UID]; r != nil {
			p.Status = *r.Status.DeepCopy()
		}
		list = append(list, *p)
	}
	return list
}

// scheduled says whether a pod has a node, and why not. What its node says of it says so, too.
func (v *View) scheduled(slot *fleet.Slot) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: placed(slot)}}
	if slot.Node == "" {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, corev1.PodReasonUnschedulable, v.decided.unplaced[slot.UID]
		c.LastTransitionTime = metav1.Time{Time: slot.Created}
	}
	return c
}

// pod is a slot's pod, which shares memory with its template. One whose template is not to be had is bare.
func (v *View) pod(slot *fleet.Slot) *corev1.Pod {
	if p := PodOf(*slot, v.templates[slot.Want]); p != nil {
		return p
	}
	return PodOf(*slot, &corev1.PodTemplateSpec{})
}

func ownerUID(slot *fleet.Slot) types.UID {
	if slot.Owner.Kind == fleet.KindJob {
		return types.UID(slot.Label)
	}
	return uidOf(slot.Owner)
}

// Claims are the PersistentVolumeClaims that are desired, those that StatefulSets make among them, with their status, in the
// order of their IDs. One is bound when its volume exists, which it does from its first pod on.
func (v *View) Claims() []corev1.PersistentVolumeClaim {
	volumes := map[fleet.ObjectID]string{}
	for i := range v.in.Reports {
		for _, o := range v.in.Reports[i].Claims {
			volumes[o.Claim.Object()] = o.PodmanName
		}
	}
	var list []corev1.PersistentVolumeClaim
	for object, claim := range fleet.Each[*corev1.PersistentVolumeClaim](WithClaims(v.in.Desired, v.in.Previous.Slots)) {
		c := claim.DeepCopy()
		c.APIVersion, c.Kind = "v1", fleet.KindPersistentVolumeClaim
		sign(&c.ObjectMeta, object)
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
		if name, bound := volumes[object.ID]; bound {
			c.Spec.VolumeName = name
			c.Status = corev1.PersistentVolumeClaimStatus{
				Phase: corev1.ClaimBound, AccessModes: claim.Spec.AccessModes, Capacity: claim.Spec.Resources.Requests,
			}
		}
		list = append(list, *c)
	}
	return list
}

// Intents are what operators asked for that is in force and not in Git, in their order.
func (v *View) Intents() []fleet.Intent {
	var list []fleet.Intent
	for _, intents := range v.decided.intents {
		for _, i := range intents {
			if !slices.ContainsFunc(v.decided.dropped, i.Equal) {
				list = append(list, i)
			}
		}
	}
	slices.SortFunc(list, fleet.Intent.Compare)
	return list
}
