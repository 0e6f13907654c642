package manifest

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// networkPolicy checks a NetworkPolicy with its defaults filled in.
func (c *checker) networkPolicy(s *networkingv1.NetworkPolicySpec, p *field.Path) {
	c.labelSelector(&s.PodSelector, p.Child("podSelector"))
	for i, rule := range s.Ingress {
		at := p.Child("ingress").Index(i)
		c.policyPorts(rule.Ports, at.Child("ports"))
		c.peers(rule.From, at.Child("from"))
	}
	for i, rule := range s.Egress {
		at := p.Child("egress").Index(i)
		c.policyPorts(rule.Ports, at.Child("ports"))
		c.peers(rule.To, at.Child("to"))
	}
	types := p.Child("policyTypes")
	if len(s.PolicyTypes) > 2 {
		c.bad(types, "must not be more than 2: Ingress and Egress")
		return
	}
	for i, direction := range s.PolicyTypes {
		oneOf(c, types.Index(i), direction, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)
	}
	const idle = "has no effect: policyTypes does not name %s"
	if len(s.Ingress) > 0 && !slices.Contains(s.PolicyTypes, networkingv1.PolicyTypeIngress) {
		c.warn(p.Child("ingress"), fmt.Sprintf(idle, networkingv1.PolicyTypeIngress))
	}
	if len(s.Egress) > 0 && !slices.Contains(s.PolicyTypes, networkingv1.PolicyTypeEgress) {
		c.warn(p.Child("egress"), fmt.Sprintf(idle, networkingv1.PolicyTypeEgress))
	}
}

func (c *checker) policyPorts(ports []networkingv1.NetworkPolicyPort, p *field.Path) {
	for i, port := range ports {
		at := p.Index(i)
		oneOf(c, at.Child("protocol"), *port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		if port.Port != nil {
			c.portOf(*port.Port, at.Child("port"))
		}
		if port.EndPort == nil {
			continue
		}
		switch at := at.Child("endPort"); {
		case port.Port == nil:
			c.bad(at, "needs port, where the range begins")
		case port.Port.Type == intstr.String:
			c.bad(at, "needs a number as port: a name is no range")
		case *port.EndPort < port.Port.IntVal:
			c.bad(at, "must not be less than port (%d)", port.Port.IntVal)
		default:
			c.portNumber(*port.EndPort, at)
		}
	}
}

func (c *checker) peers(peers []networkingv1.NetworkPolicyPeer, p *field.Path) {
	for i, peer := range peers {
		at := p.Index(i)
		if peer.PodSelector != nil {
			c.labelSelector(peer.PodSelector, at.Child("podSelector"))
		}
		if peer.NamespaceSelector != nil {
			c.labelSelector(peer.NamespaceSelector, at.Child("namespaceSelector"))
		}
		selects := peer.PodSelector != nil || peer.NamespaceSelector != nil
		switch {
		case peer.IPBlock == nil && !selects:
			c.bad(at, "is empty: give podSelector, namespaceSelector or ipBlock; for everybody leave out %s", lastName(p))
		case peer.IPBlock != nil && selects:
			c.bad(at, "must not have both ipBlock and a selector: make two of it")
		}
		if peer.IPBlock != nil {
			c.ipBlock(peer.IPBlock, at.Child("ipBlock"))
		}
	}
}

// lastName is the last name in a path that ends in one.
func lastName(p *field.Path) string {
	text := p.String()
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == '.' {
			return text[i+1:]
		}
	}
	return text
}

func (c *checker) ipBlock(b *networkingv1.IPBlock, p *field.Path) {
	var whole netip.Prefix
	if b.CIDR == "" {
		c.bad(p.Child("cidr"), "is required")
	} else {
		whole, _ = c.cidr(b.CIDR, p.Child("cidr"))
	}
	for i, text := range b.Except {
		at := p.Child("except").Index(i)
		except, ok := c.cidr(text, at)
		if ok && whole.IsValid() && (!whole.Overlaps(except) || except.Bits() <= whole.Bits()) {
			c.bad(at, "%q is not allowed: must be a part of cidr (%s), and not all of it", text, whole)
		}
	}
}
