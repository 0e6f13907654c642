// Package expose decides how Services are reached: who stands behind them (Backends), which addresses and ports are theirs
// (Allocate), what the network of a host sends where (Net), what DNS answers (ZoneOf), what containers find in their
// environment (Variables), and which connections NetworkPolicies let through (Allowed). Semantics 2.6, 9 and 13.
//
// Everything in here is a pure function: equal inputs give equal outputs, in whatever order pods, exposures, backends and
// policies come. Nothing is looked up, changed or remembered. What is given to a Service stays its own (Allocate gives back
// what it is given), deciding twice is deciding once, no two Services have one address, and a front's ends are endpoints of
// its own Service. What is not known is left alone: of a source that was not read nothing is forgotten; but a front needs its
// Service's text, so that Net is for when all sources have been read.
//
// Tests are tables of each sentence of the semantics and properties over drawn fleets, held against plain restatements of
// the rules; TestHistories goes through pushes, unread sources and lost stores.
package expose

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Pod is a pod of the assignment, with what is known of it.
type Pod struct {
	Slot   fleet.Slot
	Spec   *corev1.Pod // as reconcile.PodOf makes it; nil where its template is not to be had: nobody's endpoint then
	Status corev1.PodStatus
	Node   fleet.NodeName
}

// Backend is a Service with those who stand behind it.
type Backend struct {
	Service   fleet.ObjectID
	Endpoints []Endpoint // in the order of address, pod and UID
	Out       []Out      // those who are not ready, in the order of pod, address and sentence
}

// Endpoint is one address behind a Service, as an EndpointSlice has it.
type Endpoint struct {
	Addr     netip.Addr
	Pod      fleet.PodID // zero for what somebody wrote by hand
	UID      string
	Node     fleet.NodeName // empty where it is not known
	Hostname string         // under which it is found below a headless Service; may be empty
	// Ready ones have connections. Serving and Terminating ones have them when nobody is ready.
	Ready, Serving, Terminating bool
	Ports                       []EndpointPort // in the order of the Service's ports, or as written by hand
}

// EndpointPort is where one port of a Service goes at an endpoint.
type EndpointPort struct {
	Name     string // of the Service's port; may be empty
	Protocol corev1.Protocol
	Number   uint16
}

// Out says in one sentence why somebody who could stand behind a Service has no new connections, or not at every port.
type Out struct {
	Pod  fleet.PodID // zero for what somebody wrote by hand
	Addr netip.Addr  // zero where there is none
	Why  string
}

func (o Out) compare(p Out) int {
	return cmp.Or(o.Pod.Compare(p.Pod), o.Addr.Compare(p.Addr), cmp.Compare(o.Why, p.Why))
}

func (e Endpoint) compare(f Endpoint) int {
	return cmp.Or(
		e.Addr.Compare(f.Addr), e.Pod.Compare(f.Pod), cmp.Compare(e.UID, f.UID), cmp.Compare(e.Node, f.Node), cmp.Compare(e.Hostname, f.Hostname),
		slices.CompareFunc(e.Ports, f.Ports, func(a, b EndpointPort) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number))
		}),
		cmp.Compare(e.rank(), f.rank()),
	)
}

// rank tells endpoints apart that are alike but for their conditions.
func (e Endpoint) rank() (n int) {
	for i, set := range []bool{e.Ready, e.Serving, e.Terminating} {
		if !set {
			n += 4 >> i
		}
	}
	return n
}

// reserve reports whether the endpoint is sent to when nobody is ready.
func (e Endpoint) reserve() bool { return e.Serving && e.Terminating }

// at is where a port of the Service goes at the endpoint.
func (e Endpoint) at(port corev1.ServicePort) (uint16, bool) {
	for _, p := range e.Ports {
		if p.Name == port.Name && p.Protocol == protocolOf(port.Protocol) {
			return p.Number, true
		}
	}
	return 0, false
}

func protocolOf(p corev1.Protocol) corev1.Protocol { return cmp.Or(p, corev1.ProtocolTCP) }

// isHeadless reports whether a Service is known by DNS only.
func isHeadless(svc *corev1.Service) bool {
	asked := clusterIPs(svc)
	return len(asked) > 0 && asked[0] == corev1.ClusterIPNone && !isAlias(svc)
}

// isAlias reports whether a Service is but another name for something outside.
func isAlias(svc *corev1.Service) bool { return svc.Spec.Type == corev1.ServiceTypeExternalName }

// familyOf is the IP family of an address that is not zero.
func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// family is the first address of an IP family.
func family(list []netip.Addr, of corev1.IPFamily) (netip.Addr, bool) {
	for _, a := range list {
		if familyOf(a) == of {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// parse reads an address as Kubernetes writes them: without a zone, and never as IPv4 inside of IPv6.
func parse(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// clusterIPs are the addresses that a Service asks for by name, in order; none when it leaves the choice to others.
func clusterIPs(svc *corev1.Service) []string {
	if len(svc.Spec.ClusterIPs) > 0 {
		return svc.Spec.ClusterIPs
	}
	if svc.Spec.ClusterIP == "" {
		return nil
	}
	return []string{svc.Spec.ClusterIP}
}

// exposuresByID are exposures by Service; the first of two counts.
func exposuresByID(exposures []fleet.Exposure) map[fleet.ObjectID]fleet.Exposure {
	m := make(map[fleet.ObjectID]fleet.Exposure, len(exposures))
	for _, e := range exposures {
		if _, twice := m[e.ID]; !twice {
			m[e.ID] = e
		}
	}
	return m
}

// backendsByID are backends by Service.
func backendsByID(backends []Backend) map[fleet.ObjectID]Backend {
	m := make(map[fleet.ObjectID]Backend, len(backends))
	for _, b := range backends {
		m[b.Service] = b
	}
	return m
}
