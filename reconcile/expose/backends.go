package expose

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

// Backends are those who stand behind each Service but ExternalName ones, in the order of their IDs: of a Service with a
// selector the pods that match it, as Kubernetes' endpointslice controller has them; of one without what Endpoints and
// EndpointSlices of the sources say. Neither is read for a Service with a selector, so that slices which somebody exported
// from a cluster do no harm. A Service that names no IP family has all that its pods have, and fronts choose among them.
func Backends(desired fleet.Desired, pods []Pod) []Backend {
	index := indexOf(pods)
	var hand *byHand
	var list []Backend
	for o, svc := range fleet.Each[*corev1.Service](desired) {
		if isAlias(svc) {
			continue
		}
		b := Backend{Service: o.ID}
		if len(svc.Spec.Selector) > 0 {
			for _, p := range index.match(o.ID.Namespace, svc.Spec.Selector) {
				b.add(svc, p)
			}
		} else {
			if hand == nil {
				hand = writtenByHand(desired)
			}
			hand.fill(&b, svc)
		}
		slices.SortFunc(b.Endpoints, Endpoint.compare)
		b.Endpoints = slices.CompactFunc(b.Endpoints, func(a, b Endpoint) bool { return a.compare(b) == 0 })
		slices.SortFunc(b.Out, Out.compare)
		b.Out = slices.Compact(b.Out)
		list = append(list, b)
	}
	return list
}

// pair is a label in a namespace.
type pair struct{ namespace, key, value string }

// index finds pods by their labels.
type index map[pair][]*Pod

func indexOf(pods []Pod) index {
	ix := index{}
	for i := range pods {
		p := &pods[i]
		if p.Spec == nil {
			continue
		}
		for key, value := range p.Spec.Labels {
			at := pair{p.Slot.Pod.Namespace, key, value}
			ix[at] = append(ix[at], p)
		}
	}
	return ix
}

// match are the pods of a namespace that have all those labels, of which there is at least one.
func (ix index) match(namespace string, selector map[string]string) []*Pod {
	var fewest []*Pod
	first := true
	for key, value := range selector {
		if with := ix[pair{namespace, key, value}]; first || len(with) < len(fewest) {
			fewest, first = with, false
		}
	}
	s := labels.Set(selector).AsSelectorPreValidated()
	var list []*Pod
	for _, p := range fewest {
		if s.Matches(labels.Set(p.Spec.Labels)) {
			list = append(list, p)
		}
	}
	return list
}

// add adds a pod that a Service selects: an endpoint for each of its addresses, or why there is none.
func (b *Backend) add(svc *corev1.Service, p *Pod) {
	out := func(addr netip.Addr, format string, args ...any) {
		b.Out = append(b.Out, Out{p.Slot.Pod, addr, "pod " + p.Slot.Pod.Name + " " + fmt.Sprintf(format, args...)})
	}
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		out(netip.Addr{}, "has ended")
		return
	}
	addrs := addresses(&p.Status)
	if len(addrs) == 0 {
		out(netip.Addr{}, "has no address yet")
		return
	}
	served := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !hasFamily(svc, a) })
	if len(served) == 0 {
		out(addrs[0], "has no address of an IP family that the Service has")
	}
	e := endpointOf(svc, p)
	for _, port := range svc.Spec.Ports {
		if number, ok := targetOf(p.Spec, port); ok {
			e.Ports = append(e.Ports, EndpointPort{port.Name, protocolOf(port.Protocol), number})
		} else {
			out(netip.Addr{}, "has no container port named %s (%s)", port.TargetPort.StrVal, protocolOf(port.Protocol))
		}
	}
	for _, a := range served {
		e.Addr = a
		b.Endpoints = append(b.Endpoints, e)
		switch {
		case e.Ready:
		case e.Terminating:
			out(a, "is being stopped")
		default:
			out(a, "is not ready")
		}
	}
}

// endpointOf is a pod as an endpoint, without address and ports.
func endpointOf(svc *corev1.Service, p *Pod) Endpoint {
	e := Endpoint{
		Pod: p.Slot.Pod, UID: p.Slot.UID, Node: cmp.Or(p.Node, p.Slot.Node),
		Serving: isReady(&p.Status), Terminating: p.Slot.Goal == fleet.Drain,
	}
	e.Ready = svc.Spec.PublishNotReadyAddresses || (e.Serving && !e.Terminating)
	if p.Spec.Spec.Subdomain == svc.Name {
		e.Hostname = p.Spec.Spec.Hostname
	}
	return e
}

func isReady(s *corev1.PodStatus) bool {
	for i := range s.Conditions {
		if s.Conditions[i].Type == corev1.PodReady {
			return s.Conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}

// addresses are a pod's addresses, each once.
func addresses(s *corev1.PodStatus) []netip.Addr {
	texts := s.PodIPs
	if len(texts) == 0 {
		texts = []corev1.PodIP{{IP: s.PodIP}}
	}
	var list []netip.Addr
	for _, text := range texts {
		if a, ok := parse(text.IP); ok && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// hasFamily reports whether a Service may have addresses of a's family, as far as its text says so.
func hasFamily(svc *corev1.Service, a netip.Addr) bool {
	if policyIs(svc, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack) {
		return true
	}
	named := namedFamilies(svc)
	return len(named) == 0 || slices.Contains(named, familyOf(a))
}

// targetOf is where a port of a Service goes in a pod: a number is taken as it is, whether or not a container declares it; a
// name is looked for among containers, then among sidecars.
func targetOf(pod *corev1.Pod, port corev1.ServicePort) (uint16, bool) {
	target := port.TargetPort
	if target.Type == intstr.Int || target.StrVal == "" {
		return uint16(cmp.Or(target.IntVal, port.Port)), true
	}
	if n := namedPorts(pod, target.StrVal, protocolOf(port.Protocol)); len(n) > 0 {
		return n[0], true
	}
	return 0, false
}

// namedPorts are the ports of that name of a pod's containers and sidecars.
func namedPorts(pod *corev1.Pod, name string, protocol corev1.Protocol) []uint16 {
	var list []uint16
	look := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.Name == name && protocolOf(p.Protocol) == protocol {
				list = append(list, uint16(p.ContainerPort))
			}
		}
	}
	for i := range pod.Spec.Containers {
		look(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			look(c)
		}
	}
	return list
}
