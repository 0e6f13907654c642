// Package budget says what a namespace may have: what a pod asks for and may use in all (Requests, Limits), what a
// LimitRange fills in and forbids (Defaults, WithDefaults, Violations), what a ResourceQuota leaves (Ledger), and how
// many pods a PodDisruptionBudget lets go (Disruptions, MayEvict). It does as Kubernetes does, and says it in
// Kubernetes' words (semantics sections 12 and 15).
//
// Everything here is pure: objects and counts in, numbers and sentences out. Nothing that comes in is changed, except
// for a Ledger and a Budget, which are their owner's to count with. Quotas and ranges apply in the order of their names,
// so that those given in another order come to the same. What is created already stays, whatever these say of it: they
// are asked before a pod is made, or taken away by choice. Tables hold every rule, and chance what must always be true:
// no order of pods gets past a quota, and no order of evictions below a budget.
package budget

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Requests are what a pod of that spec asks for: what its containers and sidecars ask for together, or an init
// container with the sidecars that run by then if that is more, and the overhead. A container's limit stands for a
// request that is missing, as in a pod that was created. The list is the caller's.
func Requests(spec *corev1.PodSpec) corev1.ResourceList {
	sum := bare(spec, requestsOf)
	add(sum, spec.Overhead)
	return sum
}

// Limits are what a pod of that spec may use, reckoned like Requests. A resource that not every container limits has a
// limit here all the same, as in Kubernetes; the overhead counts where there is one. The list is the caller's.
func Limits(spec *corev1.PodSpec) corev1.ResourceList {
	sum := bare(spec, limitsOf)
	for name, q := range spec.Overhead {
		if limit, ok := sum[name]; ok && !limit.IsZero() {
			limit.Add(q)
			sum[name] = limit
		}
	}
	return sum
}

// bare is the sum without overhead.
func bare(spec *corev1.PodSpec, of func(*corev1.Container) corev1.ResourceList) corev1.ResourceList {
	sum, sidecars, start := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range spec.Containers {
		add(sum, of(&spec.Containers[i]))
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if sidecar(c) {
			add(sum, of(c))
			add(sidecars, of(c))
			continue
		}
		then := corev1.ResourceList{}
		add(then, of(c))
		add(then, sidecars)
		raise(start, then)
	}
	raise(sum, start)
	return sum
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func limitsOf(c *corev1.Container) corev1.ResourceList { return c.Resources.Limits }

// requestsOf are the requests that the container has in a pod that was created.
func requestsOf(c *corev1.Container) corev1.ResourceList {
	if !lacks(c.Resources.Requests, c.Resources.Limits) {
		return c.Resources.Requests
	}
	return filled(c.Resources.Requests, c.Resources.Limits)
}

// lacks reports whether some resource of the other list is not in list.
func lacks(list, other corev1.ResourceList) bool {
	for name := range other {
		if _, ok := list[name]; !ok {
			return true
		}
	}
	return false
}

// filled is a copy of list with what it lacks from the other lists, of which the first has precedence; nil when there
// is nothing in any.
func filled(list corev1.ResourceList, others ...corev1.ResourceList) corev1.ResourceList {
	var out corev1.ResourceList
	for _, other := range append([]corev1.ResourceList{list}, others...) {
		for name, q := range other {
			if out == nil {
				out = corev1.ResourceList{}
			}
			if _, ok := out[name]; !ok {
				out[name] = q
			}
		}
	}
	return out
}

// add adds more to sum.
func add(sum, more corev1.ResourceList) {
	for name, q := range more {
		sum[name] = plus(sum[name], q)
	}
}

// plus leaves its arguments as they are: a Quantity may hold a pointer.
func plus(a, b resource.Quantity) resource.Quantity {
	sum := a.DeepCopy()
	sum.Add(b)
	return sum
}

// raise makes each resource of list at least what it is in other.
func raise(list, other corev1.ResourceList) {
	for name, q := range other {
		if had, ok := list[name]; !ok || q.Cmp(had) > 0 {
			list[name] = q
		}
	}
}
