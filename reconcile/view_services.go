package reconcile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// Service is a Service in one line.
type Service struct {
	ID       fleet.ObjectID     `json:"id"`
	Source   fleet.SourceName   `json:"source"`
	File     string             `json:"file,omitempty"`
	Type     corev1.ServiceType `json:"type"` // as written; Headless for one without an address of its own
	Addrs    []netip.Addr       `json:"addrs,omitempty"`
	External []string           `json:"external,omitempty"` // addresses for clients outside, or what an ExternalName stands for
	// Holders are the nodes that have such an address now, of those that one node of the fleet has at a time; one that nobody has is missing.
	Holders   map[string]fleet.NodeName `json:"holders,omitempty"`
	Ports     []string                  `json:"ports,omitempty"` // as kubectl writes them: 80/TCP, 80:30080/TCP
	Endpoints []Endpoint                `json:"endpoints,omitempty"`
	Ready     int                       `json:"ready"`         // how many endpoints have connections
	Out       []string                  `json:"out,omitempty"` // why somebody has none, in a sentence each
}

// Endpoint is one address behind a Service.
type Endpoint struct {
	Addr  netip.Addr     `json:"addr"`
	Ports []string       `json:"ports,omitempty"` // as 8080/TCP
	Pod   string         `json:"pod,omitempty"`   // its name, in the Service's namespace; empty for what somebody wrote by hand
	Node  fleet.NodeName `json:"node,omitempty"`
	Ready bool           `json:"ready"`
}

// TypeHeadless stands for a Service that is known by DNS alone.
const TypeHeadless corev1.ServiceType = "Headless"

// exposed is what a View knows of Services.
type exposed struct {
	exposures map[fleet.ObjectID]fleet.Exposure
	backends  map[fleet.ObjectID]expose.Backend
}

// exposed finds it out once it is asked for.
func (v *View) exposed() *exposed {
	if v.services != nil {
		return v.services
	}
	status := make(map[string]*corev1.PodStatus, len(v.reports))
	for uid, r := range v.reports {
		status[uid] = &r.Status
	}
	e := &exposed{exposures: map[fleet.ObjectID]fleet.Exposure{}, backends: map[fleet.ObjectID]expose.Backend{}}
	for _, x := range v.in.Previous.Exposures {
		e.exposures[x.ID] = x
	}
	for _, b := range expose.Backends(v.in.Desired, backing(v.in.Previous.Slots, v.decided.in.Templates, status)) {
		e.backends[b.Service] = b
	}
	v.services = e
	return e
}

// ServiceLines are the desired Services, in a line each, in the order of their IDs.
func (v *View) ServiceLines() []Service {
	var list []Service
	e, holders, moving := v.exposed(), map[netip.Addr]fleet.NodeName{}, slices.ContainsFunc(v.in.Nodes, func(n fleet.Node) bool { return n.Fleet != "" })
	for _, r := range v.in.Reports {
		for _, a := range r.Holding {
			holders[a] = r.Node
		}
	}
	for o, svc := range fleet.Each[*corev1.Service](v.in.Desired) {
		given, backend := e.exposures[o.ID], e.backends[o.ID]
		s := Service{ID: o.ID, Source: o.Source, File: o.File, Type: svc.Spec.Type, Addrs: given.Addrs, External: slices.Clone(svc.Spec.ExternalIPs)}
		for _, a := range given.Balancers {
			s.External = append(s.External, a.String())
			node, held := holders[a]
			switch {
			case held && s.Holders == nil:
				s.Holders = map[string]fleet.NodeName{a.String(): node}
			case held:
				s.Holders[a.String()] = node
			case moving:
				s.Out = append(s.Out, fmt.Sprintf("no node has address %s: a majority of the voters %v has to answer, and one node has to be able to have it (notes of nodes say why one is not)",
					a, v.in.Previous.Electorate.Voters))
			}
		}
		switch {
		case svc.Spec.Type == corev1.ServiceTypeExternalName:
			s.External = []string{svc.Spec.ExternalName}
		case svc.Spec.ClusterIP == corev1.ClusterIPNone:
			s.Type = TypeHeadless
		}
		for _, p := range svc.Spec.Ports {
			s.Ports = append(s.Ports, portText(p, given))
		}
		for i := range backend.Endpoints {
			end := endpointLine(&backend.Endpoints[i])
			if end.Ready {
				s.Ready++
			}
			s.Endpoints = append(s.Endpoints, end)
		}
		for _, out := range backend.Out {
			s.Out = append(s.Out, out.Why)
		}
		list = append(list, s)
	}
	return list
}

func portText(p corev1.ServicePort, given fleet.Exposure) string {
	protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
	if number := given.NodePorts[fleet.PortKey(protocol, p.Port)]; number != 0 {
		return fmt.Sprintf("%d:%d/%s", p.Port, number, protocol)
	}
	return fmt.Sprintf("%d/%s", p.Port, protocol)
}

func endpointLine(e *expose.Endpoint) Endpoint {
	line := Endpoint{Addr: e.Addr, Pod: e.Pod.Name, Node: e.Node, Ready: e.Ready}
	for _, p := range e.Ports {
		line.Ports = append(line.Ports, fmt.Sprintf("%d/%s", p.Number, p.Protocol))
	}
	return line
}

// Services are the desired Services with what they were given, in the order of their IDs.
func (v *View) Services() []corev1.Service {
	var list []corev1.Service
	for o, svc := range fleet.Each[*corev1.Service](v.in.Desired) {
		out := *svc.DeepCopy()
		out.APIVersion, out.Kind = "v1", fleet.KindService
		sign(&out.ObjectMeta, o)
		given := v.exposed().exposures[o.ID]
		if len(given.Addrs) > 0 {
			out.Spec.ClusterIP, out.Spec.ClusterIPs = given.Addrs[0].String(), nil
			for _, a := range given.Addrs {
				out.Spec.ClusterIPs = append(out.Spec.ClusterIPs, a.String())
			}
		}
		for i := range out.Spec.Ports {
			p := &out.Spec.Ports[i]
			if number := given.NodePorts[fleet.PortKey(cmp.Or(p.Protocol, corev1.ProtocolTCP), p.Port)]; number != 0 {
				p.NodePort = number
			}
		}
		out.Spec.HealthCheckNodePort = cmp.Or(given.NodePorts[fleet.HealthPort], out.Spec.HealthCheckNodePort)
		for _, a := range given.Balancers {
			out.Status.LoadBalancer.Ingress = append(out.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String()})
		}
		list = append(list, out)
	}
	return list
}

// EndpointSlices are who stands behind Services, one slice a Service and IP family, in the order of the Services' IDs.
func (v *View) EndpointSlices() []discoveryv1.EndpointSlice {
	var list []discoveryv1.EndpointSlice
	for o := range fleet.Each[*corev1.Service](v.in.Desired) {
		backend, known := v.exposed().backends[o.ID]
		if !known {
			continue
		}
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			if s, any := sliceOf(o, backend, family); any || family == discoveryv1.AddressTypeIPv4 {
				list = append(list, s)
			}
		}
	}
	return list
}

func sliceOf(o fleet.Object, b expose.Backend, family discoveryv1.AddressType) (s discoveryv1.EndpointSlice, any bool) {
	s = discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: fleet.KindEndpointSlice},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.ID.Namespace, Name: o.ID.Name + "-" + strings.ToLower(string(family)), OwnerReferences: ownedBy("v1", o.ID, uidOf(o.ID)),
			Labels: map[string]string{discoveryv1.LabelServiceName: o.ID.Name, discoveryv1.LabelManagedBy: "skerry.dev"},
		},
		AddressType: family,
	}
	sign(&s.ObjectMeta, o)
	s.UID = uidOf(fleet.ObjectID{Kind: fleet.KindEndpointSlice, Namespace: s.Namespace, Name: s.Name})
	for i := range b.Endpoints {
		e := &b.Endpoints[i]
		if (family == discoveryv1.AddressTypeIPv4) != e.Addr.Is4() {
			continue
		}
		out := discoveryv1.Endpoint{Addresses: []string{e.Addr.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &e.Ready, Serving: &e.Serving, Terminating: &e.Terminating}}
		if e.Pod != (fleet.PodID{}) {
			out.TargetRef = &corev1.ObjectReference{Kind: fleet.KindPod, Namespace: e.Pod.Namespace, Name: e.Pod.Name}
		}
		if e.Node != "" {
			node := string(e.Node)
			out.NodeName = &node
		}
		if e.Hostname != "" {
			out.Hostname = &e.Hostname
		}
		s.Endpoints = append(s.Endpoints, out)
		for _, p := range e.Ports {
			number := int32(p.Number)
			if !slices.ContainsFunc(s.Ports, func(x discoveryv1.EndpointPort) bool { return *x.Name == p.Name && *x.Protocol == p.Protocol }) {
				s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &number})
			}
		}
	}
	return s, len(s.Endpoints) > 0
}

// NetworkPolicies are those that are desired, in the order of their IDs.
func (v *View) NetworkPolicies() []networkingv1.NetworkPolicy {
	var list []networkingv1.NetworkPolicy
	for o, p := range fleet.Each[*networkingv1.NetworkPolicy](v.in.Desired) {
		out := *p.DeepCopy()
		out.APIVersion, out.Kind = "networking.k8s.io/v1", fleet.KindNetworkPolicy
		sign(&out.ObjectMeta, o)
		list = append(list, out)
	}
	return list
}
