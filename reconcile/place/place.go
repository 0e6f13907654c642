// Package place decides which node gets a pod (semantics section 16): filters first, in Kubernetes' order and with its words for
// why a node is out, then scores, and of equals the one with the fewest pods, by name. It never moves what runs.
//
// It is pure. A Board is the fleet as placing sees it, and changes as pods are put on it, so that of many pods placed in one
// decision each sees those before it.
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
	return named(spec, node) && selected(spec, node)
}

func named(spec *corev1.PodSpec, node fleet.Node) bool {
	return spec.NodeName == "" || spec.NodeName == string(node.Name)
}

func selected(spec *corev1.PodSpec, node fleet.Node) bool {
	if !labels.SelectorFromSet(spec.NodeSelector).Matches(labels.Set(node.Labels)) {
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
