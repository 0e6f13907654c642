package manifest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

// What Services may have at most and at least.
const (
	minNodePort = 30000
	maxNodePort = 32767
	maxAffinity = 86400 // seconds
)

// service checks a Service with its defaults filled in.
func (c *checker) service(o *corev1.Service, p *field.Path) {
	s := &o.Spec
	for _, key := range slices.Sorted(maps.Keys(s.Selector)) {
		at := p.Child("selector").Key(key)
		c.all(at, key, validation.IsQualifiedName(key))
		c.all(at, s.Selector[key], validation.IsValidLabelValue(s.Selector[key]))
	}
	c.servicePorts(s, p.Child("ports"))
	c.affinity(s, p)
	for i, text := range s.ExternalIPs {
		c.reachable(text, p.Child("externalIPs").Index(i))
	}
	if s.InternalTrafficPolicy != nil {
		oneOf(c, p.Child("internalTrafficPolicy"), *s.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	}
	if s.TrafficDistribution != nil {
		oneOf(c, p.Child("trafficDistribution"), *s.TrafficDistribution, corev1.ServiceTrafficDistributionPreferClose,
			corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)
	}
	switch s.Type {
	case corev1.ServiceTypeExternalName:
		c.elsewhere(s, p)
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		c.clusterIPs(s, p)
	default:
		oneOf(c, p.Child("type"), s.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
		return // what else is right depends on it
	}
	c.outside(s, p)
	c.balancer(s, p)
}

func (c *checker) servicePorts(s *corev1.ServiceSpec, p *field.Path) {
	if len(s.Ports) == 0 && s.ClusterIP != corev1.ClusterIPNone && s.Type != corev1.ServiceTypeExternalName {
		c.bad(p, "is required: without ports nothing is served; only a headless Service (clusterIP: None) needs none")
	}
	names, numbers, nodePorts := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range s.Ports {
		port, at := &s.Ports[i], p.Index(i)
		if c.portName(port.Name, len(s.Ports) > 1, at.Child("name")) {
			c.twice(names, port.Name, i, at.Child("name"), p)
		}
		oneOf(c, at.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		if c.portNumber(port.Port, at.Child("port")) {
			c.twice(numbers, fleet.PortKey(port.Protocol, port.Port), i, at.Child("port"), p)
		}
		if port.TargetPort != intstr.FromInt32(port.Port) { // otherwise all is said
			c.portOf(port.TargetPort, at.Child("targetPort"))
		}
		c.appProtocol(port.AppProtocol, at.Child("appProtocol"))
		switch at := at.Child("nodePort"); {
		case port.NodePort == 0:
		case s.Type == corev1.ServiceTypeClusterIP || s.Type == corev1.ServiceTypeExternalName:
			c.bad(at, "is not allowed with the type %s: remove it, or set type: NodePort", s.Type)
		case c.nodePort(port.NodePort, at):
			c.twice(nodePorts, fleet.PortKey(port.Protocol, port.NodePort), i, at, p)
		}
	}
}

// twice reports what an earlier port in the list has already.
func (c *checker) twice(taken map[string]int, key string, i int, at, list *field.Path) {
	if first, ok := taken[key]; ok {
		c.bad(at, "%q stands twice, first in %s", key, list.Index(first))
		return
	}
	taken[key] = i
}

// portName checks the name of a port that others are told by, and reports whether there is one.
func (c *checker) portName(name string, required bool, p *field.Path) bool {
	switch {
	case name != "":
		wrong := validation.IsDNS1123Label(name)
		c.all(p, name, wrong)
		return len(wrong) == 0
	case required:
		c.bad(p, "is required where there are several ports")
	}
	return false
}

func (c *checker) portNumber(port int32, p *field.Path) bool {
	wrong := validation.IsValidPortNum(int(port))
	c.all(p, fmt.Sprint(port), wrong)
	return len(wrong) == 0
}

// portOf checks a port of pods, by number or by name.
func (c *checker) portOf(port intstr.IntOrString, p *field.Path) {
	if port.Type == intstr.String {
		c.all(p, port.StrVal, validation.IsValidPortName(port.StrVal))
		return
	}
	c.portNumber(port.IntVal, p)
}

func (c *checker) appProtocol(name *string, p *field.Path) {
	if name != nil {
		c.all(p, *name, validation.IsQualifiedName(*name))
	}
}

func (c *checker) nodePort(port int32, p *field.Path) bool {
	if port < minNodePort || port > maxNodePort {
		c.bad(p, "%d is not allowed: must be between %d and %d", port, minNodePort, maxNodePort)
		return false
	}
	return true
}

func (c *checker) affinity(s *corev1.ServiceSpec, p *field.Path) {
	oneOf(c, p.Child("sessionAffinity"), s.SessionAffinity, corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP)
	if s.SessionAffinity != corev1.ServiceAffinityClientIP {
		return
	}
	if seconds := *s.SessionAffinityConfig.ClientIP.TimeoutSeconds; seconds < 1 || seconds > maxAffinity {
		c.bad(p.Child("sessionAffinityConfig", "clientIP", "timeoutSeconds"), "must be between 1 and %d", maxAffinity)
	}
}

// elsewhere checks a Service that is only another name.
func (c *checker) elsewhere(s *corev1.ServiceSpec, p *field.Path) {
	at := p.Child("externalName")
	name := strings.TrimSuffix(s.ExternalName, ".")
	if name == "" {
		c.bad(at, "is required with the type ExternalName")
	} else {
		c.all(at, s.ExternalName, validation.IsDNS1123Subdomain(name))
	}
	if _, err := netip.ParseAddr(name); err == nil {
		c.warn(at, "is an address and is taken for a name, which nobody finds: write a Service without selector, and an EndpointSlice")
	}
	const text = "is not allowed with the type ExternalName"
	if s.ClusterIP != "" {
		c.bad(p.Child("clusterIP"), text)
	} else if len(s.ClusterIPs) > 0 {
		c.bad(p.Child("clusterIPs"), text)
	}
	if len(s.IPFamilies) > 0 {
		c.bad(p.Child("ipFamilies"), text)
	}
	if s.IPFamilyPolicy != nil {
		c.bad(p.Child("ipFamilyPolicy"), text)
	}
}

// clusterIPs checks the addresses of a Service's own, and their families.
func (c *checker) clusterIPs(s *corev1.ServiceSpec, p *field.Path) {
	one, all := p.Child("clusterIP"), p.Child("clusterIPs")
	policy, families := *s.IPFamilyPolicy, p.Child("ipFamilies")
	oneOf(c, p.Child("ipFamilyPolicy"), policy, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)
	for i, family := range s.IPFamilies {
		oneOf(c, families.Index(i), family, corev1.IPv4Protocol, corev1.IPv6Protocol)
		if slices.Contains(s.IPFamilies[:i], family) {
			c.bad(families.Index(i), "%s stands twice", family)
		}
	}
	const several = "must not be more than one with the ipFamilyPolicy SingleStack"
	if policy == corev1.IPFamilyPolicySingleStack && len(s.IPFamilies) > 1 {
		c.bad(families, several)
	}
	switch {
	case s.ClusterIP == "" && len(s.ClusterIPs) > 0:
		c.bad(all, "needs clusterIP: repeat the first of them there")
		return
	case s.ClusterIP == "":
		return
	case s.ClusterIPs[0] != s.ClusterIP:
		c.bad(all.Index(0), "%q is not allowed: must be the clusterIP (%s)", s.ClusterIPs[0], s.ClusterIP)
		return
	case s.ClusterIP == corev1.ClusterIPNone:
		if len(s.ClusterIPs) > 1 {
			c.bad(all, "must be None alone")
		}
		if s.Type != corev1.ServiceTypeClusterIP {
			c.bad(one, "None is not allowed with the type %s", s.Type)
		}
		return
	case len(s.ClusterIPs) > 2:
		c.bad(all, "must not be more than 2")
		return
	case len(s.ClusterIPs) > 1 && policy == corev1.IPFamilyPolicySingleStack:
		c.bad(all, several)
	}
	var had []corev1.IPFamily
	for i, text := range s.ClusterIPs {
		at, or := all.Index(i), ""
		if i == 0 {
			at, or = one, "None, or "
		}
		addr, ok := c.address(text, at, or)
		if !ok {
			return
		}
		family := familyOf(addr)
		if slices.Contains(had, family) {
			c.bad(at, "%q is not allowed: there is a clusterIP of %s already", text, family)
		} else if i < len(s.IPFamilies) && family != s.IPFamilies[i] {
			c.bad(at, "%q is not allowed: must be of %s, as ipFamilies[%d] says", text, s.IPFamilies[i], i)
		}
		had = append(had, family)
	}
}

// outside checks how a Service is reached from outside.
func (c *checker) outside(s *corev1.ServiceSpec, p *field.Path) {
	at := p.Child("externalTrafficPolicy")
	switch {
	case reachedFromOutside(s):
		oneOf(c, at, s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	case s.ExternalTrafficPolicy != "":
		c.bad(at, "is not allowed: nobody reaches this Service from outside; remove it, or set type: NodePort")
	}
	if s.HealthCheckNodePort == 0 {
		return
	}
	at = p.Child("healthCheckNodePort")
	if s.Type != corev1.ServiceTypeLoadBalancer || s.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		c.bad(at, "is only allowed with type: LoadBalancer and externalTrafficPolicy: Local")
		return
	}
	c.nodePort(s.HealthCheckNodePort, at)
	for i, port := range s.Ports {
		if port.NodePort == s.HealthCheckNodePort && port.Protocol == corev1.ProtocolTCP {
			c.bad(at, "%d stands twice, first in %s", s.HealthCheckNodePort, p.Child("ports").Index(i))
		}
	}
}

// balancer checks what only a LoadBalancer has.
func (c *checker) balancer(s *corev1.ServiceSpec, p *field.Path) {
	for i, text := range s.LoadBalancerSourceRanges {
		c.cidr(text, p.Child("loadBalancerSourceRanges").Index(i))
	}
	if s.LoadBalancerClass != nil {
		c.all(p.Child("loadBalancerClass"), *s.LoadBalancerClass, validation.IsQualifiedName(*s.LoadBalancerClass))
	}
	if s.Type == corev1.ServiceTypeLoadBalancer {
		return
	}
	for name, set := range map[string]bool{"loadBalancerSourceRanges": len(s.LoadBalancerSourceRanges) > 0,
		"loadBalancerClass": s.LoadBalancerClass != nil, "allocateLoadBalancerNodePorts": s.AllocateLoadBalancerNodePorts != nil} {
		if set {
			c.bad(p.Child(name), "is only allowed with type: LoadBalancer")
		}
	}
}

// address checks an address in its only form: others read one with leading zeros, or of IPv4 in IPv6, in different ways. Or
// says what else is allowed.
func (c *checker) address(text string, p *field.Path, or string) (addr netip.Addr, ok bool) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil || addr.Zone() != "":
		c.bad(p, "%q is not allowed: must be %san IP address", text, or)
	case addr.Is4In6():
		c.bad(p, "%q is not allowed: write %s", text, addr.Unmap())
	default:
		return addr, true
	}
	return netip.Addr{}, false
}

// reachable checks the address of somebody who can be reached through a network, and reports whether it is one.
func (c *checker) reachable(text string, p *field.Path) (addr netip.Addr, ok bool) {
	if addr, ok = c.address(text, p, ""); !ok {
		return addr, false
	}
	var what string
	switch {
	case addr.IsUnspecified():
		what = "an unspecified address"
	case addr.IsLoopback():
		what = "a loopback address"
	case addr.IsMulticast():
		what = "a multicast address"
	case addr.IsLinkLocalUnicast():
		what = "a link-local address"
	default:
		return addr, true
	}
	c.bad(p, "%q is not allowed: must not be %s", text, what)
	return addr, false
}

// cidr checks a range of addresses.
func (c *checker) cidr(text string, p *field.Path) (prefix netip.Prefix, ok bool) {
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		c.bad(p, "%q is not allowed: must be a range of addresses such as 10.1.0.0/16 or fd00:1::/64", text)
	case prefix.Addr().Is4In6():
		c.bad(p, "%q is not allowed: write it as a range of IPv4", text)
	case prefix != prefix.Masked():
		c.warn(p, fmt.Sprintf("is read as %s: write that", prefix.Masked()))
		return prefix.Masked(), true
	default:
		return prefix, true
	}
	return netip.Prefix{}, false
}

func familyOf(addr netip.Addr) corev1.IPFamily {
	if addr.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
