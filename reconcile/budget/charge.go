package budget

import (
	"iter"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-dev/skerry/fleet"
)

// Charge is what one object counts for against quotas. It is read-only, and good for every pod of one spec: reckon it
// once. The zero Charge is nothing.
type Charge struct {
	// Resources are in the words of a quota's spec.hard.
	Resources corev1.ResourceList
	pod       *traits // nil for what is no pod: a quota with scopes does not see it
}

// traits are what quotas ask of a pod besides its resources.
type traits struct {
	terminating, bestEffort, crossing bool
	priority                          string
	// missing are the containers, in order, that leave out a resource which they must name where a quota tracks it.
	missing map[corev1.ResourceName][]string
}

const (
	countPods = corev1.ResourceName("count/pods")
	ofClass   = ".storageclass.storage.k8s.io/"
	asRequest = corev1.DefaultResourceRequestsPrefix
	asLimit   = "limits."
)

// PodCharge is what a pod of that spec counts for, which has its defaults (WithDefaults).
func PodCharge(spec *corev1.PodSpec) Charge {
	t := &traits{
		terminating: spec.ActiveDeadlineSeconds != nil && *spec.ActiveDeadlineSeconds >= 0, priority: spec.PriorityClassName,
		bestEffort: bestEffort(spec), crossing: crossing(spec.Affinity), missing: map[corev1.ResourceName][]string{},
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			t.note(&list[i])
		}
	}
	for _, names := range t.missing {
		slices.Sort(names)
	}
	sum := compute(Requests(spec), Limits(spec))
	sum[corev1.ResourcePods], sum[countPods] = *one(), *one()
	return Charge{Resources: sum, pod: t}
}

// Ended is what the pod counts for once all its containers have ended for good: one object that is still there.
func (c Charge) Ended() Charge {
	return Charge{Resources: corev1.ResourceList{countPods: *one()}, pod: c.pod}
}

func one() *resource.Quantity { return resource.NewQuantity(1, resource.DecimalSI) }

// note notes which resources the container leaves out.
func (t *traits) note(c *corev1.Container) {
	note := func(names ...corev1.ResourceName) {
		for _, name := range names {
			t.missing[name] = append(t.missing[name], c.Name)
		}
	}
	asked := requestsOf(c)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if _, ok := asked[name]; !ok {
			note(name, asRequest+name)
		}
		if _, ok := c.Resources.Limits[name]; !ok {
			note(asLimit + name)
		}
	}
}

// compute are requests and limits in the words of quotas.
func compute(asked, allowed corev1.ResourceList) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for name, q := range asked {
		switch {
		case native(name) || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			sum[name], sum[asRequest+name] = q, q
		case extended(name):
			sum[asRequest+name] = q
		}
	}
	for name, q := range allowed {
		if native(name) {
			sum[asLimit+name] = q
		}
	}
	return sum
}

func native(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage
}

// bestEffort reports whether no container asks for CPU or memory or limits it.
func bestEffort(spec *corev1.PodSpec) bool {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			r := list[i].Resources
			if !r.Requests.Cpu().IsZero() || !r.Requests.Memory().IsZero() || !r.Limits.Cpu().IsZero() || !r.Limits.Memory().IsZero() {
				return false
			}
		}
	}
	return true
}

// crossing reports whether the pod wants to be near or far from pods of other namespaces.
func crossing(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	var weighted []corev1.WeightedPodAffinityTerm
	if a.PodAffinity != nil {
		terms = append(terms, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted = append(weighted, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution...)
	}
	if a.PodAntiAffinity != nil {
		terms = append(terms, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted = append(weighted, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution...)
	}
	for _, w := range weighted {
		terms = append(terms, w.PodAffinityTerm)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}

// counted is how quotas call objects of a kind; alias: the name without count/ is good, too.
var counted = map[string]struct {
	name  string
	alias bool
}{
	fleet.KindConfigMap:             {"configmaps", true},
	fleet.KindSecret:                {"secrets", true},
	fleet.KindQuota:                 {"resourcequotas", true},
	fleet.KindPersistentVolumeClaim: {"persistentvolumeclaims", true},
	"Service":                       {"services", true},
	fleet.KindServiceAccount:        {"serviceaccounts", false},
	fleet.KindLimitRange:            {"limitranges", false},
	fleet.KindDeployment:            {"deployments.apps", false},
	fleet.KindReplicaSet:            {"replicasets.apps", false},
	fleet.KindStatefulSet:           {"statefulsets.apps", false},
	fleet.KindDaemonSet:             {"daemonsets.apps", false},
	fleet.KindRevision:              {"controllerrevisions.apps", false},
	fleet.KindJob:                   {"jobs.batch", false},
	fleet.KindCronJob:               {"cronjobs.batch", false},
	fleet.KindAutoscaler:            {"horizontalpodautoscalers.autoscaling", false},
	fleet.KindDisruptionBudget:      {"poddisruptionbudgets.policy", false},
	"Ingress":                       {"ingresses.networking.k8s.io", false},
	"NetworkPolicy":                 {"networkpolicies.networking.k8s.io", false},
}

// ObjectCharge is what an object counts for that is no pod. Its value may be nil, where nothing but its existence is
// known or of interest. Of a Pod it is nothing: that counts as the pod that it becomes.
func ObjectCharge(kind string, value runtime.Object) Charge {
	as, ok := counted[kind]
	if !ok {
		return Charge{}
	}
	sum := corev1.ResourceList{corev1.ResourceName("count/" + as.name): *one()}
	if as.alias {
		sum[corev1.ResourceName(as.name)] = *one()
	}
	switch o := value.(type) {
	case *corev1.PersistentVolumeClaim:
		storage(sum, o)
	case *corev1.Service:
		ports(sum, &o.Spec)
	}
	return Charge{Resources: sum}
}

func storage(sum corev1.ResourceList, claim *corev1.PersistentVolumeClaim) {
	class, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]
	if !ok && claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
	}
	if class != "" {
		sum[corev1.ResourceName(class+ofClass)+corev1.ResourcePersistentVolumeClaims] = *one()
	}
	size, ok := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return
	}
	size = size.DeepCopy()
	size.RoundUp(0)
	sum[corev1.ResourceRequestsStorage] = size
	if class != "" {
		sum[corev1.ResourceName(class+ofClass)+corev1.ResourceRequestsStorage] = size
	}
}

func ports(sum corev1.ResourceList, s *corev1.ServiceSpec) {
	balanced := s.Type == corev1.ServiceTypeLoadBalancer
	if balanced {
		sum[corev1.ResourceServicesLoadBalancers] = *one()
	}
	n := 0
	for _, p := range s.Ports {
		chosen := s.AllocateLoadBalancerNodePorts != nil && !*s.AllocateLoadBalancerNodePorts
		if s.Type == corev1.ServiceTypeNodePort || balanced && (!chosen || p.NodePort != 0) {
			n++
		}
	}
	if n > 0 {
		sum[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(int64(n), resource.DecimalSI)
	}
}

// inOrder yields a list in the order of its names.
func inOrder(list corev1.ResourceList) iter.Seq2[corev1.ResourceName, resource.Quantity] {
	return func(yield func(corev1.ResourceName, resource.Quantity) bool) {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			if !yield(name, list[name]) {
				return
			}
		}
	}
}
