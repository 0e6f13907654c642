package expose

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// ZoneOf is what DNS answers for Services below a domain (kubernetes/dns, version 1.1 of its schema). A Service with addresses
// has them under <name>.<namespace>.svc.<domain>. A headless one has its ready endpoints there, and each of them under
// <hostname>.<name>…, where the hostname is that of a pod whose subdomain is the Service, or else its address with dashes. A
// named port is found under _<port>._<protocol>.<name>…; ExternalName is an alias, unless it names an address, of which there
// are none in DNS. Addresses are named after the Service that has them, or that of the pod's headless Services whose name for
// it is a hostname, the first by ID.
//
// <ip-with-dashes>.<namespace>.pod.<domain> is left out: such a name is its own answer and needs no list. There is no Service
// kubernetes.default.
func ZoneOf(desired fleet.Desired, exposures []fleet.Exposure, backends []Backend, domain string) fleet.Zone {
	z := zoning{
		zone: fleet.Zone{
			Domain: lower(domain), Addresses: map[string][]netip.Addr{}, Services: map[string][]fleet.SRV{}, Aliases: map[string]string{},
			Names: map[netip.Addr]string{},
		},
		named: map[netip.Addr]rank{},
	}
	given, behind := exposuresByID(exposures), backendsByID(backends)
	for o, svc := range fleet.Each[*corev1.Service](desired) {
		name := lower(o.ID.Name + "." + o.ID.Namespace + ".svc." + z.zone.Domain)
		switch {
		case isAlias(svc):
			z.alias(name, svc.Spec.ExternalName)
		case isHeadless(svc):
			z.headless(name, behind[o.ID].Endpoints)
		default:
			z.service(name, svc, given[o.ID].Addrs)
		}
	}
	z.sort()
	return z.zone
}

// rank says how good a name for an address is: the lower the better.
type rank int

const (
	ofService rank = iota + 1
	ofHostname
	ofAddress
)

type zoning struct {
	zone  fleet.Zone
	named map[netip.Addr]rank
}

// lower is a name as a Zone has it.
func lower(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (z *zoning) alias(name, target string) {
	target = lower(target)
	if _, isAddr := parse(target); target != "" && !isAddr {
		z.zone.Aliases[name] = target
	}
}

func (z *zoning) service(name string, svc *corev1.Service, addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	for _, a := range addrs {
		z.address(name, a)
		z.name(a, name, ofService)
	}
	for _, p := range svc.Spec.Ports {
		z.port(name, p.Name, protocolOf(p.Protocol), fleet.SRV{Target: name, Port: uint16(p.Port)})
	}
}

func (z *zoning) headless(name string, endpoints []Endpoint) {
	for _, e := range endpoints {
		if !e.Ready {
			continue
		}
		how, label := ofHostname, lower(e.Hostname)
		if label == "" {
			how, label = ofAddress, dashed(e.Addr)
		}
		host := label + "." + name
		z.address(name, e.Addr)
		z.address(host, e.Addr)
		z.name(e.Addr, host, how)
		for _, p := range e.Ports {
			z.port(name, p.Name, p.Protocol, fleet.SRV{Target: host, Port: p.Number})
		}
	}
}

// dashed is an address as a label: 10-0-0-1, or fd00--1.
func dashed(a netip.Addr) string { return strings.NewReplacer(".", "-", ":", "-").Replace(a.String()) }

func (z *zoning) address(name string, a netip.Addr) {
	z.zone.Addresses[name] = append(z.zone.Addresses[name], a)
}

// port adds an answer to who serves a port; one without a name is not asked for.
func (z *zoning) port(service, port string, protocol corev1.Protocol, answer fleet.SRV) {
	if port != "" {
		name := lower("_" + port + "._" + string(protocol) + "." + service)
		z.zone.Services[name] = append(z.zone.Services[name], answer)
	}
}

// name names an address unless it has a name that is as good.
func (z *zoning) name(a netip.Addr, name string, how rank) {
	if had, ok := z.named[a]; !ok || how < had {
		z.named[a], z.zone.Names[a] = how, name
	}
}

// sort puts all answers in order, each once.
func (z *zoning) sort() {
	for name, list := range z.zone.Addresses {
		slices.SortFunc(list, netip.Addr.Compare)
		z.zone.Addresses[name] = slices.Compact(list)
	}
	for name, list := range z.zone.Services {
		slices.SortFunc(list, func(a, b fleet.SRV) int { return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port)) })
		z.zone.Services[name] = slices.Compact(list)
	}
}
