package reconcile

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
)

// evict drains the nodes that operators want drained, as far as disruption budgets let pods go (semantics 15). What a budget keeps
// now goes when it lets it: deciding is asked again whenever a report changes. A node that was removed and whose agent goes on
// reporting is emptied: its pods run elsewhere.
func (d *decider) evict() {
	for i := range d.slots {
		s := &d.slots[i]
		if s.Goal != fleet.Run || s.Node == "" {
			continue
		}
		n := d.machines[s.Node]
		if n == nil && d.nodes[s.Node] != nil { // without its word it may be a machine that has another name now
			s.Goal, s.Drained, s.Epoch = fleet.Drain, d.in.Now, d.epoch
		}
		if n == nil || n.Down != "" || s.Owner.Kind == fleet.KindDaemonSet {
			continue
		}
		if _, drained := d.asked(nodeID(s.Node), fleet.DrainNode); !drained {
			continue
		}
		if ok, why := budget.Evict(d.disruptable(s), d.budgets()); !ok {
			d.note(s.Pod.Object(), "it is kept on node %s, which is being drained: %s", s.Node, why)
			continue
		}
		s.Goal, s.Drained, s.Epoch = fleet.Drain, d.in.Now, d.epoch
	}
}

// disruptable is a pod as budgets see it.
func (d *decider) disruptable(s *fleet.Slot) budget.Member {
	m := budget.Member{Slot: *s, Report: d.reports[s.UID]}
	if p := PodOf(*s, d.in.Templates[s.Want]); p != nil {
		m.Labels = p.Labels
	}
	return m
}

// budgets are all disruption budgets, reckoned once a decision; what is evicted counts in them.
func (d *decider) budgets() []*budget.Budget {
	if d.reckoned {
		return d.disruptions
	}
	d.reckoned = true
	var members []budget.Member
	for _, b := range fleet.Each[*policyv1.PodDisruptionBudget](d.in.Desired) {
		if members == nil {
			for i := range d.slots {
				members = append(members, d.disruptable(&d.slots[i]))
			}
		}
		reckoned := budget.Disruptions(b, slices.DeleteFunc(slices.Clone(members), func(m budget.Member) bool {
			return m.Slot.Pod.Namespace != b.Namespace
		}), scaleOf(d.in.Desired))
		d.disruptions = append(d.disruptions, &reckoned)
	}
	return d.disruptions
}

// scaleOf is how many pods each workload should have that can be scaled.
func scaleOf(desired fleet.Desired) map[fleet.ObjectID]int32 {
	scales := map[fleet.ObjectID]int32{}
	for _, o := range desired.Objects {
		switch w := o.Value.(type) {
		case *appsv1.Deployment:
			scales[o.ID] = *w.Spec.Replicas
		case *appsv1.StatefulSet:
			scales[o.ID] = *w.Spec.Replicas
		case *appsv1.ReplicaSet:
			scales[o.ID] = *w.Spec.Replicas
		}
	}
	return scales
}
