package place

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Unschedulable is the taint of a node that is cordoned, as its pods tolerate it or not.
var Unschedulable = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

// Tolerates reports whether one of the tolerations tolerates a taint (semantics 16): an empty effect is any, an empty key with
// Exists any taint, and Equal compares values.
func Tolerates(tolerations []corev1.Toleration, taint corev1.Taint) bool {
	return slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool { return tolerates(t, taint) })
}

func tolerates(t corev1.Toleration, taint corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	if t.Operator == corev1.TolerationOpExists {
		return true
	}
	return t.Key != "" && t.Value == taint.Value
}

// Stay is how long pods may stay on a node with a NoExecute taint: forever when the second value is false. Of several
// tolerations the shortest stay counts; without one that tolerates it they have to go at once.
func Stay(tolerations []corev1.Toleration, taint corev1.Taint) (limit time.Duration, limited bool) {
	tolerated := false
	for _, t := range tolerations {
		if !tolerates(t, taint) {
			continue
		}
		if t.TolerationSeconds != nil {
			stay := max(0, time.Duration(*t.TolerationSeconds)*time.Second)
			if !limited || stay < limit {
				limit, limited = stay, true
			}
		}
		tolerated = true
	}
	return limit, limited || !tolerated
}

// untolerated is the first taint that keeps a pod from a node, in Kubernetes' words; empty when none does.
func untolerated(spec *corev1.PodSpec, node fleet.Node) string {
	taints := slices.SortedFunc(slices.Values(node.Taints), func(a, b corev1.Taint) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Effect, b.Effect))
	})
	for _, taint := range taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !Tolerates(spec.Tolerations, taint) {
			return fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)
		}
	}
	return ""
}

// unwelcome counts the PreferNoSchedule taints that a pod does not tolerate.
func unwelcome(spec *corev1.PodSpec, node fleet.Node) int64 {
	var n int64
	for _, taint := range node.Taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && !Tolerates(spec.Tolerations, taint) {
			n++
		}
	}
	return n
}
