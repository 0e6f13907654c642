package expose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// NetInput is what Net needs to know.
type NetInput struct {
	Desired   fleet.Desired // all sources read: who is not in it is served no more
	Exposures []fleet.Exposure
	Backends  []Backend
	Node      fleet.NodeName // whose network it is
	Pods      []netip.Prefix // of pods
}

// Net is what the network of one node should be: a front for each address and port at which a Service is reached, with the
// ends that kube-proxy would choose. A Service without an address of its own has no fronts at all. A front on any address of
// the host has the ends of all families of its Service, those of each chosen for themselves. Of two Services with one address
// and port that one has it to which it was given as its own (a ClusterIP), or else the first by ID; a note names both. Notes are
// in order.
//
// Where it differs from kube-proxy: with externalTrafficPolicy Local pods of the node, too, reach only ends of the node by an
// address from outside. Zones are not known, so that trafficDistribution PreferClose and PreferSameZone choose nothing.
func Net(in NetInput) (fleet.HostNet, []fleet.Note) {
	n := &netting{node: in.Node, taken: map[spot]fleet.ObjectID{}}
	exposures, backends := exposuresByID(in.Exposures), backendsByID(in.Backends)
	var services []*served
	for o, svc := range fleet.Each[*corev1.Service](in.Desired) {
		e := exposures[o.ID]
		if len(e.Addrs)+len(e.NodePorts) == 0 || isHeadless(svc) || isAlias(svc) {
			continue
		}
		s := &served{id: o.ID, svc: svc, exposure: e, endpoints: backends[o.ID].Endpoints}
		services = append(services, s)
		for i := range svc.Spec.Ports {
			s.ports = append(s.ports, n.ends(s, svc.Spec.Ports[i]))
			n.inside(s, i)
		}
	}
	for _, s := range services {
		n.outside(s)
	}
	slices.SortFunc(n.fronts, fleet.FrontOrder)
	slices.SortFunc(n.notes, fleet.Note.Compare)
	var held []netip.Addr
	var checks []fleet.HealthCheck
	for _, s := range services {
		held = append(held, s.exposure.Balancers...)
		if number := s.exposure.NodePorts[fleet.HealthPort]; number != 0 && hasHealthPort(s.svc) {
			checks = append(checks, fleet.HealthCheck{Service: s.id, Number: uint16(number), Ends: s.here(in.Node)})
		}
	}
	slices.SortFunc(held, netip.Addr.Compare)
	pods := slices.Clone(in.Pods)
	slices.SortFunc(pods, netip.Prefix.Compare)
	return fleet.HostNet{Fronts: n.fronts, Pods: slices.Compact(pods), Addrs: slices.Compact(held), Checks: checks}, slices.Compact(n.notes)
}

// spot is what no two fronts have in common.
type spot struct {
	addr     netip.Addr
	protocol corev1.Protocol
	number   uint16
}

type netting struct {
	node   fleet.NodeName
	taken  map[spot]fleet.ObjectID
	fronts []fleet.Front
	notes  []fleet.Note
}

// served is a Service that has fronts.
type served struct {
	id        fleet.ObjectID
	svc       *corev1.Service
	exposure  fleet.Exposure
	endpoints []Endpoint
	ports     []ends // of each port
}

// inside adds the fronts of one port at the Service's own addresses.
func (n *netting) inside(s *served, port int) {
	local := s.svc.Spec.InternalTrafficPolicy != nil && *s.svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	for _, a := range s.exposure.Addrs {
		f := s.front(port, a, uint16(s.svc.Spec.Ports[port].Port))
		f.Masquerade = true // who is no pod comes from outside of what routes lead back to
		f.Ends, f.Verdict = s.ports[port].choose(local, familyOf(a))
		n.add(f)
	}
}

// outside adds the fronts for clients outside: external addresses, those of a load balancer, and node ports.
func (n *netting) outside(s *served) {
	local := s.svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	addrs := n.externals(s)
	var from []netip.Prefix
	if s.svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		addrs = append(addrs, s.exposure.Balancers...)
		from = n.sources(s)
	}
	for i, p := range s.svc.Spec.Ports {
		for _, a := range addrs {
			if _, has := family(s.exposure.Addrs, familyOf(a)); !has {
				n.note(s.id, fmt.Sprintf("nothing is served at %s: the Service has no %s address", a, familyOf(a)))
				continue
			}
			f := s.front(i, a, uint16(p.Port))
			f.Masquerade = !local
			if slices.Contains(s.exposure.Balancers, a) {
				f.From = ofFamily(from, familyOf(a))
			}
			f.Ends, f.Verdict = s.ports[i].choose(local, familyOf(a))
			n.add(f)
		}
		number := s.exposure.NodePorts[fleet.PortKey(protocolOf(p.Protocol), p.Port)]
		if number == 0 || !hasNodePort(s.svc, p) {
			continue
		}
		f := s.front(i, netip.Addr{}, uint16(number))
		f.Masquerade = !local
		f.Ends, f.Verdict = s.ports[i].choose(local, s.families()...)
		n.add(f)
	}
}

// here is how many ready endpoints a node has.
func (s *served) here(node fleet.NodeName) int {
	addrs := map[netip.Addr]bool{}
	for _, e := range s.endpoints {
		if e.Ready && e.Node != "" && e.Node == node {
			addrs[e.Addr] = true
		}
	}
	return len(addrs)
}

// sources are its loadBalancerSourceRanges; nil for none.
func (n *netting) sources(s *served) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range s.svc.Spec.LoadBalancerSourceRanges {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			n.note(s.id, fmt.Sprintf("source range %q is none: nobody is let through by it", text))
			continue
		}
		list = append(list, p.Masked())
	}
	if len(s.svc.Spec.LoadBalancerSourceRanges) > 0 && list == nil {
		list = []netip.Prefix{} // none of them makes sense: that does not let everybody through
	}
	return outermost(list)
}

// ofFamily are the prefixes of an IP family; nil of nil alone.
func ofFamily(list []netip.Prefix, f corev1.IPFamily) []netip.Prefix {
	if list == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return familyOf(p.Addr()) != f })
}

// families are those that the Service has an address of; both where it has none.
func (s *served) families() []corev1.IPFamily {
	if len(s.exposure.Addrs) == 0 {
		return []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
	var list []corev1.IPFamily
	for _, a := range s.exposure.Addrs {
		list = append(list, familyOf(a))
	}
	return list
}

// externals are the Service's externalIPs.
func (n *netting) externals(s *served) []netip.Addr {
	var list []netip.Addr
	for _, text := range s.svc.Spec.ExternalIPs {
		a, ok := parse(text)
		if !ok {
			n.note(s.id, fmt.Sprintf("external address %q is none", text))
			continue
		}
		list = append(list, a)
	}
	return list
}

// front is a front without ends.
func (s *served) front(port int, addr netip.Addr, number uint16) fleet.Front {
	p := s.svc.Spec.Ports[port]
	return fleet.Front{Service: s.id, Port: p.Name, Protocol: protocolOf(p.Protocol), Addr: addr, Number: number, Sticky: stickiness(s.svc)}
}

// stickiness is how long a client stays with an end; 0 where it does not.
func stickiness(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

// add adds a front unless somebody has its place.
func (n *netting) add(f fleet.Front) {
	at := spot{f.Addr, f.Protocol, f.Number}
	other, taken := n.taken[at]
	switch {
	case !taken:
		n.taken[at] = f.Service
		n.fronts = append(n.fronts, f)
	case other != f.Service:
		where := "node port"
		if f.Addr.IsValid() {
			where = f.Addr.String() + " port"
		}
		n.note(f.Service, fmt.Sprintf("%s %d (%s) is that of %s, and not of %s: give one of them another", where, f.Number, f.Protocol, other, f.Service))
	}
}

func (n *netting) note(about fleet.ObjectID, text string) {
	n.notes = append(n.notes, fleet.Note{About: about, Text: text})
}
