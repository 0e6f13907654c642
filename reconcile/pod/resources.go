package pod

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-dev/skerry/fleet"
)

// QOSClass is the pod's class (semantics 2.9).
func QOSClass(spec *corev1.Pod) corev1.PodQOSClass {
	guaranteed, set := true, false
	for _, c := range slices.Concat(spec.Spec.InitContainers, spec.Spec.Containers) {
		r := c.Resources
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, asked := r.Requests[name]
			limit, limited := r.Limits[name]
			set = set || (asked && !request.IsZero()) || (limited && !limit.IsZero())
			guaranteed = guaranteed && limited && !limit.IsZero() && (!asked || request.Cmp(limit) == 0)
		}
	}
	switch {
	case guaranteed:
		return corev1.PodQOSGuaranteed
	case set:
		return corev1.PodQOSBurstable
	default:
		return corev1.PodQOSBestEffort
	}
}

// OOMScore is a container's oom_score_adj: whom the kernel kills first when the machine is out of memory
// (semantics 2.9). Memory is what the machine has, in bytes.
func OOMScore(spec *corev1.Pod, c *corev1.Container, memory int64) int {
	const guaranteed, bestEffort, most, least = -997, 1000, 999, 3
	switch QOSClass(spec) {
	case corev1.PodQOSGuaranteed:
		return guaranteed
	case corev1.PodQOSBestEffort:
		return bestEffort
	}
	request := Request(c, corev1.ResourceMemory)
	if memory <= 0 {
		return most
	}
	share := int(1000 * float64(request.Value()) / float64(memory)) // a product of bytes could overflow
	return max(least, min(most, 1000-share))
}

// Request is what a container asks for of a resource: its limit, when it says no more (semantics 1).
func Request(c *corev1.Container, name corev1.ResourceName) resource.Quantity {
	if q, ok := c.Resources.Requests[name]; ok {
		return q
	}
	return c.Resources.Limits[name]
}

// LimitsOf are the cgroup numbers of a container (semantics 2.9).
func LimitsOf(c *corev1.Container) fleet.Limits {
	var l fleet.Limits
	if memory, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
		l.Memory = memory.Value()
	}
	if cpu, ok := c.Resources.Limits[corev1.ResourceCPU]; ok && !cpu.IsZero() {
		l.CPUQuota = max(cpu.MilliValue()*100, 1000)
	}
	request := Request(c, corev1.ResourceCPU)
	l.Shares = uint64(max(request.MilliValue()*1024/1000, 2))
	return l
}
