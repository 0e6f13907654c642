package manifest

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What an EndpointSlice holds at most.
const (
	maxEndpoints     = 1000
	maxEndpointAddrs = 100
	maxEndpointPorts = 20000
	maxTopology      = 16
	maxHints         = 8
)

//nolint:staticcheck // deprecated, and still written
func (c *checker) endpoints(o *corev1.Endpoints) {
	for i := range o.Subsets {
		subset, at := &o.Subsets[i], field.NewPath("subsets").Index(i)
		if len(subset.Addresses)+len(subset.NotReadyAddresses) == 0 {
			c.bad(at, "needs addresses or notReadyAddresses")
		}
		for name, list := range map[string][]corev1.EndpointAddress{"addresses": subset.Addresses, "notReadyAddresses": subset.NotReadyAddresses} {
			for j := range list {
				at := at.Child(name).Index(j)
				c.reachable(list[j].IP, at.Child("ip"))
				if list[j].Hostname != "" {
					c.all(at.Child("hostname"), list[j].Hostname, validation.IsDNS1123Label(list[j].Hostname))
				}
				c.nodeName(list[j].NodeName, at.Child("nodeName"))
			}
		}
		names := map[string]int{}
		for j, port := range subset.Ports {
			list := at.Child("ports")
			at := list.Index(j)
			if c.portName(port.Name, len(subset.Ports) > 1, at.Child("name")) {
				c.twice(names, port.Name, j, at.Child("name"), list)
			}
			c.portNumber(port.Port, at.Child("port"))
			oneOf(c, at.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
			c.appProtocol(port.AppProtocol, at.Child("appProtocol"))
		}
	}
}

// nodeName checks the name of a node.
func (c *checker) nodeName(name *string, p *field.Path) {
	if name != nil {
		c.all(p, *name, apivalidation.NameIsDNSSubdomain(*name, false))
	}
}

// endpointSlice checks an EndpointSlice with its defaults filled in.
func (c *checker) endpointSlice(o *discoveryv1.EndpointSlice) {
	if o.Labels[discoveryv1.LabelServiceName] == "" {
		c.warn(field.NewPath("metadata", "labels").Key(discoveryv1.LabelServiceName), "is missing: the endpoints are those of no Service")
	}
	switch at := field.NewPath("addressType"); o.AddressType {
	case "":
		c.bad(at, "is required: IPv4, IPv6 or FQDN")
	default:
		oneOf(c, at, o.AddressType, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	}
	c.atMost(len(o.Endpoints), maxEndpoints, field.NewPath("endpoints"))
	for i := range o.Endpoints {
		c.endpoint(&o.Endpoints[i], o.AddressType, field.NewPath("endpoints").Index(i))
	}
	ports := field.NewPath("ports")
	c.atMost(len(o.Ports), maxEndpointPorts, ports)
	names := map[string]int{}
	for i, port := range o.Ports {
		at := ports.Index(i)
		if *port.Name == "" || c.portName(*port.Name, false, at.Child("name")) { // one may have no name, among several, too
			c.twice(names, *port.Name, i, at.Child("name"), ports)
		}
		oneOf(c, at.Child("protocol"), *port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		if port.Port != nil { // none is every port
			c.portNumber(*port.Port, at.Child("port"))
		}
		c.appProtocol(port.AppProtocol, at.Child("appProtocol"))
	}
}

// atMost reports a list that is too long.
func (c *checker) atMost(length, limit int, p *field.Path) {
	if length > limit {
		c.bad(p, "must not be more than %d", limit)
	}
}

func (c *checker) endpoint(e *discoveryv1.Endpoint, kind discoveryv1.AddressType, p *field.Path) {
	addresses := p.Child("addresses")
	if len(e.Addresses) == 0 {
		c.bad(addresses, "is required")
	}
	c.atMost(len(e.Addresses), maxEndpointAddrs, addresses)
	for i, text := range e.Addresses {
		at := addresses.Index(i)
		switch kind {
		case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
			if addr, ok := c.reachable(text, at); ok && string(familyOf(addr)) != string(kind) {
				c.bad(at, "%q is not allowed: must be of the addressType, %s", text, kind)
			}
		case discoveryv1.AddressTypeFQDN:
			if text == "" {
				c.bad(at, "must not be empty")
				continue
			}
			for _, err := range validation.IsFullyQualifiedDomainName(at, text) {
				c.all(at, text, []string{err.Detail})
			}
		}
	}
	if e.Hostname != nil {
		c.all(p.Child("hostname"), *e.Hostname, validation.IsDNS1123Label(*e.Hostname))
	}
	c.nodeName(e.NodeName, p.Child("nodeName"))
	topology := p.Child("deprecatedTopology")
	c.atMost(len(e.DeprecatedTopology), maxTopology, topology)
	for _, key := range slices.Sorted(maps.Keys(e.DeprecatedTopology)) {
		c.all(topology.Key(key), key, validation.IsQualifiedName(key))
		c.all(topology.Key(key), e.DeprecatedTopology[key], validation.IsValidLabelValue(e.DeprecatedTopology[key]))
	}
	if _, ok := e.DeprecatedTopology[corev1.LabelTopologyZone]; ok {
		c.bad(topology.Key(corev1.LabelTopologyZone), "is not allowed: write zone")
	}
	if e.Hints != nil {
		c.hints(e.Hints, p.Child("hints"))
	}
}

func (c *checker) hints(h *discoveryv1.EndpointHints, p *field.Path) {
	c.atMost(len(h.ForZones), maxHints, p.Child("forZones"))
	for i, zone := range h.ForZones {
		c.all(p.Child("forZones").Index(i).Child("name"), zone.Name, validation.IsValidLabelValue(zone.Name))
	}
	c.atMost(len(h.ForNodes), maxHints, p.Child("forNodes"))
	for i, node := range h.ForNodes {
		c.nodeName(&node.Name, p.Child("forNodes").Index(i).Child("name"))
	}
}
