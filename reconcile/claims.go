package reconcile

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// A volume with data in it goes only where somebody said so: the claim, by the annotation skerry.dev/prune, or its StatefulSet,
// by persistentVolumeClaimRetentionPolicy. What was said is remembered while it is in Git, because it has to be known when it
// no longer is. If the memory is lost, the volumes stay.

func claimTemplates(v *appsv1.StatefulSet) []string {
	var names []string
	for i := range v.Spec.VolumeClaimTemplates {
		names = append(names, v.Spec.VolumeClaimTemplates[i].Name)
	}
	return names
}

// unclaim lists claims whose volumes go because their StatefulSet was scaled down, and says which would go with it: names of
// claim templates, with commas.
func (d *decider) unclaim(id fleet.ObjectID, v *appsv1.StatefulSet) string {
	templates := claimTemplates(v)
	var volatile []string
	policy := v.Spec.PersistentVolumeClaimRetentionPolicy
	for i := range v.Spec.VolumeClaimTemplates {
		t := &v.Spec.VolumeClaimTemplates[i]
		if t.Annotations[fleet.AnnotationPrune] == "true" ||
			(policy != nil && policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType) {
			volatile = append(volatile, t.Name)
		}
	}
	if policy != nil && policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		first := int32(0)
		if v.Spec.Ordinals != nil {
			first = v.Spec.Ordinals.Start
		}
		d.eachClaim(id, templates, func(claim fleet.ClaimID, ordinal int32) {
			if ordinal < first || ordinal >= first+*v.Spec.Replicas {
				d.unclaimed[claim] = true
			}
		})
	}
	return strings.Join(volatile, ",")
}

// eachClaim calls f for each volume that a StatefulSet's claim templates made and that still exists.
func (d *decider) eachClaim(owner fleet.ObjectID, templates []string, f func(claim fleet.ClaimID, ordinal int32)) {
	for i := range d.in.Reports {
		for _, c := range d.in.Reports[i].Claims {
			if c.Claim.Namespace != owner.Namespace {
				continue
			}
			if _, own := d.in.Desired.Find(c.Claim.Object()); own { // the claim has an object of its own
				continue
			}
			for _, t := range templates {
				if ordinal, is := ordinalOf(c.Claim.Name, t+"-"+owner.Name+"-"); is {
					f(c.Claim, ordinal)
				}
			}
		}
	}
}

// ordinalOf is the number behind a prefix, without leading zeros or signs.
func ordinalOf(name, prefix string) (int32, bool) {
	text, ok := strings.CutPrefix(name, prefix)
	if !ok || text == "" || (len(text) > 1 && text[0] == '0') || len(text) > 9 {
		return 0, false
	}
	var n int32
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + c - '0'
	}
	return n, true
}

// abandonVolatile lists the claims that go with a StatefulSet that is desired no more, and reports whether any is left.
func (d *decider) abandonVolatile(r fleet.Rollout) bool {
	if r.Volatile == "" || d.in.Desired.Abandoned[r.Source] {
		return false
	}
	left := false
	d.eachClaim(r.ID, strings.Split(r.Volatile, ","), func(claim fleet.ClaimID, _ int32) {
		d.unclaimed[claim], left = true, true
	})
	return left
}

// claims remembers which claims go with their data, and lists those that are gone from the sources.
func (d *decider) claims() {
	exists := map[fleet.ClaimID]fleet.SourceName{}
	for i := range d.in.Reports {
		for _, c := range d.in.Reports[i].Claims {
			exists[c.Claim] = c.Source
		}
	}
	for o, claim := range fleet.Each[*corev1.PersistentVolumeClaim](d.in.Desired) {
		if claim.Annotations[fleet.AnnotationPrune] == "true" {
			d.prunable = append(d.prunable, fleet.ClaimID{Namespace: o.ID.Namespace, Name: o.ID.Name})
		}
	}
	for _, id := range d.in.Previous.Prunable {
		source, there := exists[id]
		if _, wanted := d.in.Desired.Find(id.Object()); wanted || (!there && len(d.in.Reports) > 0) {
			continue
		}
		d.prunable = append(d.prunable, id)
		if there && d.gone(source, id.Object()) && !d.in.Desired.Abandoned[source] {
			d.unclaimed[id] = true
		}
	}
	slices.SortFunc(d.prunable, fleet.ClaimID.Compare)
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
	slices.SortFunc(desired.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) })
	desired.Objects = slices.CompactFunc(desired.Objects, func(a, b fleet.Object) bool { return a.ID == b.ID })
	return desired
}

// claimName is what the claim of a pod is called that is made from a template.
func claimName(template string, pod fleet.PodID) string { return template + "-" + pod.Name }
