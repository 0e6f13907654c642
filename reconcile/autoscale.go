package reconcile

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/scale"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// scaleTarget is what a HorizontalPodAutoscaler sizes.
func scaleTarget(id fleet.ObjectID, hpa *autoscalingv2.HorizontalPodAutoscaler) fleet.ObjectID {
	ref := hpa.Spec.ScaleTargetRef
	return fleet.ObjectID{Kind: ref.Kind, Namespace: id.Namespace, Name: ref.Name}
}

// autoscale lets each HorizontalPodAutoscaler size its target. What it says goes before what Git says of replicas (semantics
// 14); of two for one target the first one counts.
func (d *decider) autoscale() {
	taken := map[fleet.ObjectID]fleet.ObjectID{}
	for o, hpa := range fleet.Each[*autoscalingv2.HorizontalPodAutoscaler](d.in.Desired) {
		target := scaleTarget(o.ID, hpa)
		object, ok := d.in.Desired.Find(target)
		field := replicasOf(object.Value)
		switch first, double := taken[target]; {
		case !ok || field == nil:
			d.note(o.ID, "FailedGetScale: %s is not there", target)
			continue
		case double:
			d.note(o.ID, "AmbiguousSelector: %s is sized by %s already", target, first)
			continue
		}
		taken[target] = o.ID
		memory := d.scalers[o.ID]
		memory.ID, memory.Source, memory.Target = o.ID, o.Source, target
		git, _ := d.git.Find(target)
		memory.Git = FieldOf(git, fleet.Scale)
		replicas := **field
		if i, asked := d.asked(target, fleet.Scale); asked && i.Replicas > 0 { // 0 turns the autoscaler off; anything else is a beginning for the autoscaler, no more
			memory.Replicas = i.Replicas
			d.drop(i)
		} else if memory.Replicas > 0 && replicas > 0 {
			replicas = memory.Replicas
		} else if found := d.has(target); found > 0 && replicas > 0 {
			replicas = found
		}
		out := scale.Scale(scale.Input{Scaler: hpa, Memory: memory, Replicas: replicas, Pods: d.measured(target), Now: d.in.Now})
		d.scalers[o.ID] = out.Memory
		d.scaling[o.ID] = out.Status
		if !d.in.paper { // where nothing is measured
			d.say(o.ID, out.WakeAt, out.Notes)
		}
	}
	for id, s := range d.scalers {
		if _, wanted := d.in.Desired.Find(id); !wanted && d.in.Desired.Known(s.Source, id) && !d.outlives(s, taken) {
			delete(d.scalers, id)
		}
	}
	d.in.Desired = Effective(d.in.Desired, nil, sorted(d.scalers))
}

// outlives reports whether the number of an autoscaler that is gone still counts: as in Kubernetes the target stays as it is
// until somebody says another number, be it Git, an operator or another autoscaler.
func (d *decider) outlives(s fleet.Scaler, taken map[fleet.ObjectID]fleet.ObjectID) bool {
	git, ok := d.git.Find(s.Target)
	_, asked := d.asked(s.Target, fleet.Scale)
	_, another := taken[s.Target]
	if !ok || s.Replicas == 0 || asked || another || FieldOf(git, fleet.Scale) != s.Git {
		return false
	}
	d.note(s.Target, "%s is gone: it stays at %d pods until Git says another number than %s, or somebody does", s.ID, s.Replicas, s.Git)
	return true
}

// has is how many pods a target is found to have: the store was lost, or the autoscaler is new.
func (d *decider) has(target fleet.ObjectID) int32 {
	var n int32
	if target.Kind == fleet.KindDeployment {
		for _, set := range d.setsOf(target) {
			n += set.Replicas
		}
		return n
	}
	for _, m := range d.members[target] {
		if m.Slot.Goal == fleet.Run {
			n++
		}
	}
	return n
}

// measured are the pods of a target as an autoscaler sees them.
func (d *decider) measured(target fleet.ObjectID) []scale.Pod {
	owners := []fleet.ObjectID{target}
	if target.Kind == fleet.KindDeployment {
		for _, set := range d.setsOf(target) {
			owners = append(owners, set.ID)
		}
	}
	var pods []scale.Pod
	for _, owner := range owners {
		for _, m := range d.members[owner] {
			pods = append(pods, d.scalePod(m))
		}
	}
	return pods
}

func (d *decider) scalePod(m workload.Member) scale.Pod {
	p := scale.Pod{Report: m.Report, Draining: m.Slot.Goal != fleet.Run}
	if made := PodOf(m.Slot, d.in.Templates[m.Slot.Want]); made != nil {
		p.Spec = &made.Spec
	}
	return p
}

// metered reports of each workload whether an autoscaler asks what its pods use.
func metered(desired fleet.Desired) map[fleet.ObjectID]bool {
	var all map[fleet.ObjectID]bool
	for o, hpa := range fleet.Each[*autoscalingv2.HorizontalPodAutoscaler](desired) {
		if all == nil {
			all = map[fleet.ObjectID]bool{}
		}
		all[scaleTarget(o.ID, hpa)] = true
	}
	return all
}
