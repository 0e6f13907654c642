package place

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// amounts are what pods ask of a machine.
type amounts struct {
	cpu, memory, disk, pods int64 // thousandths of a core, bytes, bytes
	other                   map[corev1.ResourceName]int64
}

func amountsOf(list corev1.ResourceList) amounts {
	var a amounts
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			a.cpu = q.MilliValue()
		case corev1.ResourceMemory:
			a.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			a.disk = q.Value()
		case corev1.ResourcePods:
			a.pods = q.Value()
		default:
			if a.other == nil {
				a.other = map[corev1.ResourceName]int64{}
			}
			a.other[name] = q.Value()
		}
	}
	return a
}

// add adds n times what another has.
func (a *amounts) add(o amounts, n int64) {
	a.cpu += n * o.cpu
	a.memory += n * o.memory
	a.disk += n * o.disk
	a.pods += n * o.pods
	if len(o.other) > 0 && a.other == nil {
		a.other = map[corev1.ResourceName]int64{}
	}
	for name, amount := range o.other {
		a.other[name] += n * amount
	}
}

// short are what is left too little of, in Kubernetes' words; nothing is short of what is not asked for.
func short(asks, used, room amounts) []string {
	var list []string
	lacks := func(name string, ask, used, room int64) {
		if ask > 0 && ask > room-used {
			list = append(list, "Insufficient "+name)
		}
	}
	if used.pods+asks.pods > room.pods {
		list = append(list, "Too many pods")
	}
	if room.cpu > 0 { // a machine that does not say how much it has is not out of it
		lacks("cpu", asks.cpu, used.cpu, room.cpu)
	}
	if room.memory > 0 {
		lacks("memory", asks.memory, used.memory, room.memory)
	}
	if room.disk > 0 {
		lacks("ephemeral-storage", asks.disk, used.disk, room.disk)
	}
	for _, name := range slices.Sorted(maps.Keys(asks.other)) {
		lacks(string(name), asks.other[name], used.other[name], room.other[name])
	}
	return list
}

// asks are a pod's requests (KEP-753): containers and sidecars side by side, or an init container with the sidecars before it,
// whichever is more, and the overhead. What is limited and not requested is requested.
func asks(spec *corev1.PodSpec) amounts {
	sum, sidecars, most := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			plus(sidecars, requests(c))
			upTo(most, sidecars)
			continue
		}
		alone := requests(c)
		plus(alone, sidecars)
		upTo(most, alone)
	}
	for i := range spec.Containers {
		plus(sum, requests(&spec.Containers[i]))
	}
	plus(sum, sidecars)
	upTo(sum, most)
	plus(sum, spec.Overhead)
	a := amountsOf(sum)
	a.pods = 1
	return a
}

func requests(c *corev1.Container) corev1.ResourceList {
	list := corev1.ResourceList{}
	maps.Copy(list, c.Resources.Limits)
	maps.Copy(list, c.Resources.Requests)
	return list
}

func plus(sum, list corev1.ResourceList) {
	for name, q := range list {
		has := sum[name]
		has.Add(q)
		sum[name] = has
	}
}

func upTo(most, list corev1.ResourceList) {
	for name, q := range list {
		if has, ok := most[name]; !ok || has.Cmp(q) < 0 {
			most[name] = q
		}
	}
}

// What a container that asks for nothing is taken to use when machines are compared, as the scheduler of Kubernetes does it.
var (
	usualCPU    = resource.MustParse("100m")
	usualMemory = resource.MustParse("200Mi")
)

// weighs is asks with the usual for containers that ask for nothing.
func weighs(spec *corev1.PodSpec) amounts {
	a := asks(spec)
	for i := range spec.Containers {
		list := requests(&spec.Containers[i])
		if _, asked := list[corev1.ResourceCPU]; !asked {
			a.cpu += usualCPU.MilliValue()
		}
		if _, asked := list[corev1.ResourceMemory]; !asked {
			a.memory += usualMemory.Value()
		}
	}
	return a
}
