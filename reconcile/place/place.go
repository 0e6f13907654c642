// Package place decides which nodes a pod may run on (semantics section 16).
//
// It is pure. So far it knows what keeps a pod from a node for good: names, labels and required affinity.
package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/skerry-dev/skerry/fleet"
)

// Eligible reports whether a pod may run on a node by spec.nodeName, spec.nodeSelector and its required node affinity: all
// of them must hold.
func Eligible(spec *corev1.PodSpec, node fleet.Node) bool {
	if spec.NodeName != "" && spec.NodeName != string(node.Name) {
		return false
	}
	has := labels.Set(node.Labels)
	if !labels.SelectorFromSet(spec.NodeSelector).Matches(has) {
		return false
	}
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil || spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	return slices.ContainsFunc(spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms,
		func(t corev1.NodeSelectorTerm) bool { return termHolds(t, node) })
}

// termHolds reports whether all expressions of a term hold; an empty term matches nothing.
func termHolds(t corev1.NodeSelectorTerm, node fleet.Node) bool {
	if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
		return false
	}
	for _, e := range t.MatchExpressions {
		if !holds(e, labels.Set(node.Labels)) {
			return false
		}
	}
	for _, e := range t.MatchFields {
		if !holds(e, labels.Set{"metadata.name": string(node.Name)}) {
			return false
		}
	}
	return true
}

var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
	corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
}

func holds(e corev1.NodeSelectorRequirement, has labels.Set) bool {
	r, err := labels.NewRequirement(e.Key, operators[e.Operator], e.Values)
	return err == nil && r.Matches(has)
}
