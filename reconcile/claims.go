package reconcile

import (
	"cmp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// A volume with data in it goes only where somebody said so: the claim, by the annotation skerry.dev/prune, or its StatefulSet,
// by persistentVolumeClaimRetentionPolicy. What was said is remembered while it is in Git, because it has to be known when it
// no longer is. If the memory is lost, the volumes stay.

// MayGo reports whether an assignment gives a claim's volume up, and nothing that was read since speaks against it.
func MayGo(assignment fleet.Assignment, desired fleet.Desired, claim fleet.ClaimID) bool {
	at := slices.IndexFunc(assignment.Unclaimed, func(u fleet.Disposable) bool { return u.Claim == claim })
	if at < 0 {
		return false
	}
	source := assignment.Unclaimed[at].Source
	_, wanted := desired.Find(claim.Object())
	return !wanted && desired.Known(source, claim.Object()) && !desired.Abandoned[source]
}

func claimTemplates(v *appsv1.StatefulSet) []string {
	var names []string
	for i := range v.Spec.VolumeClaimTemplates {
		names = append(names, v.Spec.VolumeClaimTemplates[i].Name)
	}
	return names
}

// retain decides what becomes of the claims of a desired StatefulSet, and remembers what will become of them when it is
// desired no more.
func (d *decider) retain(o fleet.Object, v *appsv1.StatefulSet, r *fleet.Rollout) {
	policy := v.Spec.PersistentVolumeClaimRetentionPolicy
	var volatile []string
	for i := range v.Spec.VolumeClaimTemplates {
		t := &v.Spec.VolumeClaimTemplates[i]
		if t.Annotations[fleet.AnnotationPrune] == "true" ||
			(policy != nil && policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType) {
			volatile = append(volatile, t.Name)
		}
	}
	r.Volatile = strings.Join(volatile, ",")
	had := d.ordinals(o.ID)
	for ordinal := range had {
		if r.Beyond == 0 {
			r.Lowest = ordinal
		}
		r.Lowest, r.Beyond = min(r.Lowest, ordinal), max(r.Beyond, ordinal+1)
	}
	if policy == nil || policy.WhenScaled != appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		return
	}
	// Only what this very scaling down lets go of: volumes that were kept before are kept.
	d.eachClaim(o.ID, claimTemplates(v), func(claim fleet.ClaimID, ordinal int64) {
		if !within(v, ordinal) && (had[ordinal] || d.goes(claim)) {
			d.unclaimed[claim] = o.Source
		}
	})
}

// within reports whether a StatefulSet wants a pod of that ordinal.
func within(v *appsv1.StatefulSet, ordinal int64) bool {
	first := int64(0)
	if v.Spec.Ordinals != nil {
		first = int64(v.Spec.Ordinals.Start)
	}
	return ordinal >= first && ordinal < first+int64(*v.Spec.Replicas)
}

// ordinals are those of which a StatefulSet has a pod, or had one until now.
func (d *decider) ordinals(owner fleet.ObjectID) map[int64]bool {
	if d.ordinaled == nil {
		d.ordinaled = map[fleet.ObjectID][]int64{}
		for i := range d.in.Previous.Slots { // those that are gone by now, too
			if s := &d.in.Previous.Slots[i]; s.Index != nil {
				d.ordinaled[s.Owner] = append(d.ordinaled[s.Owner], int64(*s.Index))
			}
		}
	}
	had := map[int64]bool{}
	for _, ordinal := range d.ordinaled[owner] {
		had[ordinal] = true
	}
	for _, m := range d.members[owner] {
		if m.Slot.Index != nil {
			had[int64(*m.Slot.Index)] = true
		}
	}
	for i := d.counted; i < len(d.slots); i++ { // those that were made just now
		if s := &d.slots[i]; s.Owner == owner && s.Index != nil {
			had[int64(*s.Index)] = true
		}
	}
	return had
}

// goes reports whether it was decided before that a claim's volume goes.
func (d *decider) goes(claim fleet.ClaimID) bool {
	return slices.ContainsFunc(d.in.Previous.Unclaimed, func(u fleet.Disposable) bool { return u.Claim == claim })
}

// volumes are the claims that have one. Before a node has reported they are those that were to go when one had.
func (d *decider) volumes() []fleet.ClaimID {
	var list []fleet.ClaimID
	for i := range d.in.Reports {
		for _, c := range d.in.Reports[i].Claims {
			list = append(list, c.Claim)
		}
	}
	if len(d.in.Reports) == 0 {
		for _, u := range d.in.Previous.Unclaimed {
			list = append(list, u.Claim)
		}
	}
	return list
}

// eachClaim calls f for each volume that a StatefulSet's claim templates made and that still exists. One whose claim has an
// object of its own is that object's, and one that another StatefulSet may have made is left out.
func (d *decider) eachClaim(owner fleet.ObjectID, templates []string, f func(claim fleet.ClaimID, ordinal int64)) {
	if d.numbered == nil {
		d.numbered = map[fleet.ClaimID][]fleet.ClaimID{}
		for _, claim := range d.volumes() {
			if made, _, is := numbered(claim); is {
				d.numbered[made] = append(d.numbered[made], claim)
			}
		}
	}
	for _, t := range templates {
		for _, claim := range d.numbered[fleet.ClaimID{Namespace: owner.Namespace, Name: t + "-" + owner.Name}] {
			_, own := d.in.Desired.Find(claim.Object())
			_, held := d.in.Desired.Held[claim.Object()]
			if _, ordinal, is := numbered(claim); is && !own && !held && !d.templated(claim, owner) {
				f(claim, ordinal)
			}
		}
	}
}

// templated reports whether a claim's name is one that a desired StatefulSet other than but gives.
func (d *decider) templated(claim fleet.ClaimID, but fleet.ObjectID) bool {
	if d.makers == nil {
		d.makers = map[fleet.ClaimID][]fleet.ObjectID{}
		for o, v := range fleet.Each[*appsv1.StatefulSet](d.in.Desired) {
			for _, t := range claimTemplates(v) {
				made := fleet.ClaimID{Namespace: o.ID.Namespace, Name: t + "-" + o.ID.Name}
				d.makers[made] = append(d.makers[made], o.ID)
			}
		}
	}
	made, _, is := numbered(claim)
	return is && slices.ContainsFunc(d.makers[made], func(id fleet.ObjectID) bool { return id != but })
}

// numbered takes the name of a claim apart that a StatefulSet's template may have made: what comes before the last dash (the
// names of template and set), and the number behind it, without leading zeros or signs.
func numbered(claim fleet.ClaimID) (made fleet.ClaimID, ordinal int64, is bool) {
	at := strings.LastIndexByte(claim.Name, '-')
	text := claim.Name[at+1:]
	if at < 0 || text == "" || (len(text) > 1 && text[0] == '0') || len(text) > 10 {
		return fleet.ClaimID{}, 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return fleet.ClaimID{}, 0, false
		}
		ordinal = ordinal*10 + int64(c-'0')
	}
	return fleet.ClaimID{Namespace: claim.Namespace, Name: claim.Name[:at]}, ordinal, true
}

// abandonVolatile lists the claims that go with a StatefulSet that is desired no more, and reports whether it must be
// remembered for their sake.
func (d *decider) abandonVolatile(r fleet.Rollout) bool {
	if r.Volatile == "" || d.in.Desired.Abandoned[r.Source] {
		return false
	}
	left := len(d.in.Reports) == 0 || len(d.members[r.ID]) > 0 // there may be volumes that nobody has seen yet
	d.eachClaim(r.ID, strings.Split(r.Volatile, ","), func(claim fleet.ClaimID, ordinal int64) {
		if ordinal >= r.Lowest && ordinal < r.Beyond {
			d.unclaimed[claim], left = r.Source, true
		}
	})
	return left
}

// claims remembers which claims go with their data, and lists those that are gone from the sources. Where a claim came from
// is remembered, too: its volume says only where it came from when it was made.
func (d *decider) claims() {
	for o, claim := range fleet.Each[*corev1.PersistentVolumeClaim](d.in.Desired) {
		if claim.Annotations[fleet.AnnotationPrune] == "true" {
			id := fleet.ClaimID{Namespace: o.ID.Namespace, Name: o.ID.Name}
			d.prunable = append(d.prunable, fleet.Disposable{Claim: id, Source: o.Source})
		}
	}
	exists := map[fleet.ClaimID]bool{}
	for _, claim := range d.volumes() {
		exists[claim] = true
	}
	for _, p := range d.in.Previous.Prunable {
		there := exists[p.Claim]
		if _, wanted := d.in.Desired.Find(p.Claim.Object()); wanted || (!there && len(d.in.Reports) > 0) {
			continue
		}
		d.prunable = append(d.prunable, p)
		if there && d.gone(p.Source, p.Claim.Object()) && !d.in.Desired.Abandoned[p.Source] && !d.templated(p.Claim, fleet.ObjectID{}) {
			d.unclaimed[p.Claim] = p.Source
		}
	}
	slices.SortFunc(d.prunable, fleet.Disposable.Compare)
}

// listUnclaimed are the claims whose volumes go, in order.
func (d *decider) listUnclaimed() []fleet.Disposable {
	var list []fleet.Disposable
	for claim, source := range d.unclaimed {
		list = append(list, fleet.Disposable{Claim: claim, Source: source})
	}
	slices.SortFunc(list, fleet.Disposable.Compare)
	return list
}

// WithClaims is what is desired with the claims that StatefulSets make for their pods, unless claims of those names are
// there already.
func WithClaims(desired fleet.Desired, slots []fleet.Slot) fleet.Desired {
	var made []fleet.Object
	for i := range slots {
		s := &slots[i]
		if len(s.Claims) == 0 {
			continue
		}
		o, ok := desired.Find(s.Owner)
		if !ok {
			continue
		}
		v, ok := o.Value.(*appsv1.StatefulSet)
		if !ok {
			continue
		}
		for j := range v.Spec.VolumeClaimTemplates {
			claim := v.Spec.VolumeClaimTemplates[j].DeepCopy()
			claim.Namespace, claim.Name = s.Pod.Namespace, claimName(claim.Name, s.Pod)
			id := fleet.ObjectID{Kind: fleet.KindPersistentVolumeClaim, Namespace: claim.Namespace, Name: claim.Name}
			if _, own := desired.Find(id); !own {
				made = append(made, fleet.Object{ID: id, Source: o.Source, Revision: o.Revision, File: o.File, Line: o.Line, Value: claim})
			}
		}
	}
	if len(made) == 0 {
		return desired
	}
	desired.Objects = slices.Concat(desired.Objects, made)
	slices.SortFunc(desired.Objects, func(a, b fleet.Object) int { return cmp.Or(a.ID.Compare(b.ID), cmp.Compare(a.Source, b.Source)) })
	desired.Objects = slices.CompactFunc(desired.Objects, func(a, b fleet.Object) bool { return a.ID == b.ID })
	return desired
}

// claimName is what the claim of a pod is called that is made from a template.
func claimName(template string, pod fleet.PodID) string { return template + "-" + pod.Name }
