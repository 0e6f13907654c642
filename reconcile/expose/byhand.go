package expose

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// byHand are the endpoints that somebody wrote down, by the Service they are for.
type byHand struct {
	//nolint:staticcheck // Endpoints are deprecated, and what people have in Git all the same
	endpoints map[fleet.ObjectID]*corev1.Endpoints
	slices    map[fleet.ObjectID][]*discoveryv1.EndpointSlice
}

func writtenByHand(desired fleet.Desired) *byHand {
	//nolint:staticcheck // as above
	h := &byHand{map[fleet.ObjectID]*corev1.Endpoints{}, map[fleet.ObjectID][]*discoveryv1.EndpointSlice{}}
	//nolint:staticcheck // as above
	for o, e := range fleet.Each[*corev1.Endpoints](desired) {
		if e.Labels[discoveryv1.LabelSkipMirror] != "true" {
			h.endpoints[serviceID(o.ID.Namespace, o.ID.Name)] = e
		}
	}
	for o, s := range fleet.Each[*discoveryv1.EndpointSlice](desired) {
		if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
			id := serviceID(o.ID.Namespace, name)
			h.slices[id] = append(h.slices[id], s)
		}
	}
	return h
}

func serviceID(namespace, name string) fleet.ObjectID {
	return fleet.ObjectID{Kind: fleet.KindService, Namespace: namespace, Name: name}
}

// fill adds what was written down for a Service without a selector.
func (h *byHand) fill(b *Backend, svc *corev1.Service) {
	if e := h.endpoints[b.Service]; e != nil {
		for i := range e.Subsets {
			s := &e.Subsets[i]
			ports := subsetPorts(s.Ports)
			for j := range s.Addresses {
				b.written(svc, subsetEndpoint(&s.Addresses[j], true, ports), s.Addresses[j].IP)
			}
			for j := range s.NotReadyAddresses {
				b.written(svc, subsetEndpoint(&s.NotReadyAddresses[j], false, ports), s.NotReadyAddresses[j].IP)
			}
		}
	}
	for _, s := range h.slices[b.Service] {
		if s.AddressType == discoveryv1.AddressTypeFQDN {
			b.Out = append(b.Out, Out{Why: fmt.Sprintf("EndpointSlice %s names hosts: only addresses are served", s.Name)})
			continue
		}
		ports := slicePorts(s.Ports)
		for i := range s.Endpoints {
			if e := &s.Endpoints[i]; len(e.Addresses) > 0 { // several stand for one, and the first is used, as kube-proxy does
				b.written(svc, sliceEndpoint(e, ports), e.Addresses[0])
			}
		}
	}
}

// written adds an endpoint that somebody wrote down.
func (b *Backend) written(svc *corev1.Service, e Endpoint, text string) {
	a, ok := parse(text)
	switch {
	case !ok:
		b.Out = append(b.Out, Out{Why: fmt.Sprintf("endpoint %q is no address", text)})
		return
	case !hasFamily(svc, a):
		b.Out = append(b.Out, Out{Addr: a, Why: fmt.Sprintf("endpoint %s is not of an IP family that the Service has", a)})
		return
	case !e.Ready:
		b.Out = append(b.Out, Out{Addr: a, Why: fmt.Sprintf("endpoint %s is said to be not ready", a)})
	}
	e.Addr = a
	b.Endpoints = append(b.Endpoints, e)
}

func subsetEndpoint(a *corev1.EndpointAddress, ready bool, ports []EndpointPort) Endpoint {
	e := Endpoint{Hostname: a.Hostname, Ready: ready, Serving: ready, Ports: ports}
	if a.NodeName != nil {
		e.Node = fleet.NodeName(*a.NodeName)
	}
	return e
}

func subsetPorts(ports []corev1.EndpointPort) []EndpointPort {
	var list []EndpointPort
	for _, p := range ports {
		list = append(list, EndpointPort{p.Name, protocolOf(p.Protocol), uint16(p.Port)})
	}
	return list
}

// sliceEndpoint is an endpoint of a slice: what it does not say is that it is ready, serving and there to stay.
func sliceEndpoint(e *discoveryv1.Endpoint, ports []EndpointPort) Endpoint {
	c := &e.Conditions
	made := Endpoint{
		Ready: c.Ready == nil || *c.Ready, Serving: c.Serving == nil || *c.Serving, Terminating: c.Terminating != nil && *c.Terminating,
		Ports: ports,
	}
	if e.Hostname != nil {
		made.Hostname = *e.Hostname
	}
	if e.NodeName != nil {
		made.Node = fleet.NodeName(*e.NodeName)
	}
	return made
}

// slicePorts leaves out ports without a number, as kube-proxy does.
func slicePorts(ports []discoveryv1.EndpointPort) []EndpointPort {
	var list []EndpointPort
	for _, p := range ports {
		if p.Port == nil {
			continue
		}
		made := EndpointPort{Protocol: corev1.ProtocolTCP, Number: uint16(*p.Port)}
		if p.Name != nil {
			made.Name = *p.Name
		}
		if p.Protocol != nil {
			made.Protocol = cmp.Or(*p.Protocol, made.Protocol)
		}
		list = append(list, made)
	}
	return list
}
