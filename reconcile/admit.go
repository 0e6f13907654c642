package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
)

// rules are what a decision knows of LimitRanges and ResourceQuotas: they are asked when a pod is made, and never again
// (semantics 12).
type rules struct {
	ranges   map[string][]*corev1.LimitRange // by namespace
	defaults map[string]*fleet.Defaults
	ledgers  map[string]*budget.Ledger
	charges  map[charged]budget.Charge
}

// charged is what a pod's charge hangs on.
type charged struct {
	want     fleet.Hash
	defaults string // JSON; empty for none
}

// rule reads the limits and quotas of all namespaces, and counts the pods that there are.
func (d *decider) rule() *rules {
	if d.rules != nil {
		return d.rules
	}
	r := &rules{
		ranges: map[string][]*corev1.LimitRange{}, defaults: map[string]*fleet.Defaults{},
		ledgers: budget.Ledgers(d.in.Desired), charges: map[charged]budget.Charge{},
	}
	d.rules = r
	for o, v := range fleet.Each[*corev1.LimitRange](d.in.Desired) {
		r.ranges[o.ID.Namespace] = append(r.ranges[o.ID.Namespace], v)
	}
	for namespace, list := range r.ranges {
		r.defaults[namespace] = budget.Defaults(list)
	}
	if len(r.ledgers) == 0 {
		return r
	}
	for id, set := range d.sets { // what has no object of its own counts, too
		if set.Owner != (fleet.ObjectID{}) && id.Kind == fleet.KindReplicaSet {
			r.ledgers[id.Namespace].Add(budget.ObjectCharge(id.Kind, nil))
		}
	}
	for id, j := range d.jobs {
		if j.Owner != (fleet.ObjectID{}) {
			r.ledgers[id.Namespace].Add(budget.ObjectCharge(id.Kind, nil))
		}
	}
	for i := range d.slots {
		s := &d.slots[i]
		ledger := r.ledgers[s.Pod.Namespace]
		if ledger == nil {
			continue
		}
		if charge, known := d.charge(s); known {
			if report := d.reports[s.UID]; report != nil && report.Terminal() {
				charge = charge.Ended()
			}
			ledger.Add(charge)
		}
	}
	return r
}

// charge is what a slot's pod counts for; false when its template is not to be had.
func (d *decider) charge(s *fleet.Slot) (budget.Charge, bool) {
	key := charged{want: s.Want}
	if s.Defaults != nil {
		text, err := json.Marshal(s.Defaults)
		if err != nil {
			return budget.Charge{}, false
		}
		key.defaults = string(text)
	}
	charge, known := d.rules.charges[key]
	if !known {
		p := PodOf(*s, d.in.Templates[s.Want])
		if p == nil {
			return budget.Charge{}, false
		}
		charge = budget.PodCharge(&p.Spec)
		d.rules.charges[key] = charge
	}
	return charge, true
}

// admit gives a pod that is to be made what its namespace's LimitRanges give, and reports whether they, the quotas and the
// PriorityClass that it names let it be made. If not, a note on what makes it says why, as the condition ReplicaFailure would.
func (d *decider) admit(s *fleet.Slot) bool {
	r, namespace := d.rule(), s.Pod.Namespace
	ranges, ledger := r.ranges[namespace], r.ledgers[namespace]
	refuse := func(why string) bool {
		about := s.Owner
		if s.Controller != (fleet.ObjectID{}) {
			about = s.Controller
		}
		d.note(about, "FailedCreate: a pod is forbidden: %s", why)
		return false
	}
	if template := d.in.Templates[s.Want]; template != nil && d.classless(&template.Spec) {
		return refuse(fmt.Sprintf("no PriorityClass with name %s was found", template.Spec.PriorityClassName))
	}
	if ranges == nil && ledger == nil {
		return true
	}
	s.Defaults = r.defaults[namespace]
	p := PodOf(*s, d.in.Templates[s.Want])
	if p == nil {
		return refuse("its template is not to be had, so that limits and quotas of the namespace cannot be checked")
	}
	if list := append(budget.Violations(ranges, &p.Spec), d.claimViolations(s, p, ranges)...); len(list) > 0 {
		return refuse(list[0])
	}
	if charge, known := d.charge(s); known {
		if ok, why := ledger.Admit(charge); !ok {
			return refuse(why)
		}
	}
	return true
}

// claimViolations is what LimitRanges have against the claims of a pod that have no volume yet.
func (d *decider) claimViolations(s *fleet.Slot, p *corev1.Pod, ranges []*corev1.LimitRange) []string {
	var list []string
	for i := range p.Spec.Volumes {
		v := p.Spec.Volumes[i].PersistentVolumeClaim
		if v == nil {
			continue
		}
		id := fleet.ClaimID{Namespace: s.Pod.Namespace, Name: v.ClaimName}
		claim, ok := fleet.Lookup[*corev1.PersistentVolumeClaim](d.in.Desired, id.Object())
		if set, is := fleet.Lookup[*appsv1.StatefulSet](d.in.Desired, s.Owner); !ok && is {
			at := slices.IndexFunc(set.Spec.VolumeClaimTemplates, func(t corev1.PersistentVolumeClaim) bool { return claimName(t.Name, s.Pod) == id.Name })
			if at < 0 {
				continue
			}
			claim = &set.Spec.VolumeClaimTemplates[at]
		}
		if claim != nil && !d.hasVolume(id) {
			list = append(list, budget.ClaimViolations(ranges, claim)...)
		}
	}
	return list
}

func (d *decider) hasVolume(id fleet.ClaimID) bool {
	return slices.ContainsFunc(d.in.Reports, func(r fleet.NodeReport) bool {
		return slices.ContainsFunc(r.Claims, func(c fleet.ObservedClaim) bool { return c.Claim == id })
	})
}
