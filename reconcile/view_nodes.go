package reconcile

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/place"
)

// Nodes are the machines of the fleet as placing sees them, in the order of their names.
func (v *View) Nodes() []corev1.Node {
	var list []corev1.Node
	for i := range v.decided.in.Nodes {
		n := &v.decided.in.Nodes[i]
		out := corev1.Node{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: fleet.KindNode},
			ObjectMeta: metav1.ObjectMeta{
				Name: string(n.Name), UID: types.UID(fleet.DeriveUID("node", string(n.Name))), Labels: maps.Clone(n.Labels),
			},
			Spec: corev1.NodeSpec{Unschedulable: n.Unschedulable, Taints: slices.Clone(n.Taints)},
			Status: corev1.NodeStatus{
				Capacity: n.Allocatable, Allocatable: n.Allocatable,
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeInternalIP, Address: n.Address}, {Type: corev1.NodeHostName, Address: string(n.Name)},
				},
				Conditions: []corev1.NodeCondition{v.readiness(n)},
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: n.Version, OperatingSystem: "linux"},
			},
		}
		if n.Unschedulable {
			out.Spec.Taints = append(out.Spec.Taints, place.Unschedulable)
		}
		if git, ok := v.in.Desired.Find(nodeID(n.Name)); ok {
			out.Annotations = maps.Clone(git.Value.(*corev1.Node).Annotations)
			Mark(&out.ObjectMeta, git.Source, git.Revision)
		}
		list = append(list, out)
	}
	return list
}

// readiness is whether a node can look after its pods: nobody knows of one that is silent.
func (v *View) readiness(n *fleet.Node) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "AgentReady"}
	report := v.decided.nodes[n.Name]
	if report != nil {
		c.LastHeartbeatTime = metav1.Time{Time: report.At}
	}
	switch {
	case n.Down != "" && report == nil:
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", n.Down
	case n.Down != "":
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "PodmanNotReady", n.Down
	case report == nil:
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusNeverUpdated", "it has not reported yet"
	case report.Trouble != "":
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "PodmanNotReady", report.Trouble
	}
	for _, s := range v.decided.strains { // what drives pods from a lost node is as old as the loss
		if s.Node == n.Name && s.Key == corev1.TaintNodeUnreachable && c.Status != corev1.ConditionTrue {
			c.LastTransitionTime = metav1.Time{Time: s.Since}
		}
	}
	return c
}

// PriorityClasses are those that are desired, and the two that every fleet has, in the order of their names.
func (v *View) PriorityClasses() []schedulingv1.PriorityClass {
	var list []schedulingv1.PriorityClass
	for object, c := range fleet.Each[*schedulingv1.PriorityClass](v.in.Desired) {
		out := *c.DeepCopy()
		sign(&out.ObjectMeta, object)
		list = append(list, out)
	}
	for name, value := range systemPriorities {
		if slices.ContainsFunc(list, func(c schedulingv1.PriorityClass) bool { return c.Name == name }) {
			continue
		}
		policy := corev1.PreemptLowerPriority
		list = append(list, schedulingv1.PriorityClass{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(fleet.DeriveUID("priorityclass", name))}, Value: value, PreemptionPolicy: &policy,
		})
	}
	slices.SortFunc(list, func(a, b schedulingv1.PriorityClass) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list {
		list[i].APIVersion, list[i].Kind = "scheduling.k8s.io/v1", fleet.KindPriorityClass
	}
	return list
}
