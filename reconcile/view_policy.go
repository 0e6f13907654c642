package reconcile

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
)

// Autoscalers are the desired HorizontalPodAutoscalers with their status, in the order of their IDs.
func (v *View) Autoscalers() []autoscalingv2.HorizontalPodAutoscaler {
	var list []autoscalingv2.HorizontalPodAutoscaler
	for object, a := range fleet.Each[*autoscalingv2.HorizontalPodAutoscaler](v.in.Desired) {
		out := *a.DeepCopy()
		out.APIVersion, out.Kind, out.Generation = "autoscaling/v2", fleet.KindAutoscaler, 1
		sign(&out.ObjectMeta, object)
		out.Status = v.decided.scaling[object.ID]
		out.Status.ObservedGeneration = &out.Generation
		list = append(list, out)
	}
	return list
}

// DisruptionBudgets are the desired PodDisruptionBudgets with their status, in the order of their IDs. Pods are told by their
// labels: without templates none is covered.
func (v *View) DisruptionBudgets() []policyv1.PodDisruptionBudget {
	var list []policyv1.PodDisruptionBudget
	var pods map[string][]budget.Member // by namespace, once a budget is there
	var scales map[fleet.ObjectID]int32
	for object, b := range fleet.Each[*policyv1.PodDisruptionBudget](v.in.Desired) {
		out := *b.DeepCopy()
		out.APIVersion, out.Kind, out.Generation = "policy/v1", fleet.KindDisruptionBudget, 1
		sign(&out.ObjectMeta, object)
		if pods == nil {
			pods, scales = v.disruptable(), scaleOf(v.in.Desired)
		}
		reckoned := budget.Disruptions(b, pods[object.ID.Namespace], scales)
		out.Status = reckoned.Status()
		out.Status.ObservedGeneration = out.Generation
		list = append(list, out)
	}
	return list
}

// disruptable are all pods as budgets see them, by namespace.
func (v *View) disruptable() map[string][]budget.Member {
	pods := map[string][]budget.Member{}
	for i := range v.in.Previous.Slots {
		s := &v.in.Previous.Slots[i]
		pods[s.Pod.Namespace] = append(pods[s.Pod.Namespace], budget.Member{Slot: *s, Labels: v.pod(s).Labels, Report: v.reports[s.UID]})
	}
	return pods
}

// Quotas are the desired ResourceQuotas with what is used of them, in the order of their IDs.
func (v *View) Quotas() []corev1.ResourceQuota {
	var list []corev1.ResourceQuota
	for object, q := range fleet.Each[*corev1.ResourceQuota](v.in.Desired) {
		out := *q.DeepCopy()
		out.APIVersion, out.Kind = "v1", fleet.KindQuota
		sign(&out.ObjectMeta, object)
		if status, ok := v.decided.rule().ledgers[object.ID.Namespace].Status(object.ID.Name); ok {
			out.Status = status
		}
		list = append(list, out)
	}
	return list
}

// LimitRanges are those that are desired, in the order of their IDs.
func (v *View) LimitRanges() []corev1.LimitRange {
	var list []corev1.LimitRange
	for object, l := range fleet.Each[*corev1.LimitRange](v.in.Desired) {
		out := *l.DeepCopy()
		out.APIVersion, out.Kind = "v1", fleet.KindLimitRange
		sign(&out.ObjectMeta, object)
		list = append(list, out)
	}
	return list
}
