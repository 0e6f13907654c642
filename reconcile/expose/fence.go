package expose

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

// FencesOf are the fences of a node's pods: what Allowed says of each connection, as lists of addresses and ports. Pods are all that
// are known, those of other nodes among them. A pod that no policy selects has no fence.
func FencesOf(desired fleet.Desired, pods []Pod, node fleet.NodeName) []fleet.Fence {
	j := judge{namespaces: map[string]map[string]string{}}
	for _, p := range fleet.Each[*networkingv1.NetworkPolicy](desired) {
		j.policies = append(j.policies, p)
	}
	if len(j.policies) == 0 {
		return nil
	}
	for _, n := range fleet.Each[*corev1.Namespace](desired) {
		j.namespaces[n.Name] = n.Labels
	}
	f := fencing{judge: j}
	for i := range pods {
		p := &pods[i]
		if p.Spec == nil || p.Spec.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue // nobody's, or the node's, address
		}
		for _, a := range addresses(&p.Status) {
			f.peers = append(f.peers, Peer{Pod: p.Spec, Node: cmp.Or(p.Node, p.Slot.Node), Addr: a})
		}
	}
	slices.SortFunc(f.peers, func(a, b Peer) int { return a.Addr.Compare(b.Addr) })
	var fences []fleet.Fence
	for _, p := range f.peers {
		if p.Node != node {
			continue
		}
		fence := fleet.Fence{Pod: p.Addr, Ingress: f.gate(p, networkingv1.PolicyTypeIngress), Egress: f.gate(p, networkingv1.PolicyTypeEgress)}
		if fence.Ingress.Closed || fence.Egress.Closed {
			fences = append(fences, fence)
		}
	}
	return fences
}

type fencing struct {
	judge
	peers []Peer // pods that policies bind
}

// gate is one direction of a pod's fence.
func (f *fencing) gate(self Peer, direction networkingv1.PolicyType) fleet.Gate {
	var g fleet.Gate
	for _, p := range f.policies {
		if p.Namespace != self.Pod.Namespace || !has(p, direction) || !matches(&p.Spec.PodSelector, self.Pod.Labels) {
			continue
		}
		g.Closed = true
		if direction == networkingv1.PolicyTypeIngress {
			for _, r := range p.Spec.Ingress {
				g.Passes = append(g.Passes, f.into(self, f.who(r.From, p.Namespace, self), r.Ports)...)
			}
			continue
		}
		for _, r := range p.Spec.Egress {
			g.Passes = append(g.Passes, f.outOf(self, f.who(r.To, p.Namespace, self), r.Ports)...)
		}
	}
	slices.SortFunc(g.Passes, comparePasses)
	g.Passes = slices.CompactFunc(g.Passes, func(a, b fleet.Pass) bool { return comparePasses(a, b) == 0 })
	return g
}

func comparePasses(a, b fleet.Pass) int {
	return cmp.Or(
		cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last),
		cmp.Compare(len(a.Peers), len(b.Peers)), slices.CompareFunc(a.Peers, b.Peers, netip.Prefix.Compare),
	)
}

// who are the addresses of a rule's peers in the family of the pod's own; nil for everybody, empty for nobody.
func (f *fencing) who(list []networkingv1.NetworkPolicyPeer, namespace string, self Peer) []netip.Prefix {
	if len(list) == 0 {
		return nil
	}
	all := []netip.Prefix{}
	for _, p := range list {
		if p.IPBlock != nil {
			all = append(all, block(p.IPBlock)...)
			continue
		}
		for _, other := range f.peers {
			if f.peer(p, namespace, other) {
				all = append(all, netip.PrefixFrom(other.Addr, other.Addr.BitLen()))
			}
		}
	}
	return outermost(ofFamily(all, familyOf(self.Addr)))
}

// block are the addresses of an ipBlock.
func block(b *networkingv1.IPBlock) []netip.Prefix {
	p, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, text := range b.Except {
		if e, err := netip.ParsePrefix(text); err == nil {
			out = append(out, e.Masked())
		}
	}
	return without(p.Masked(), out)
}

const lastPort = 65535

// numbered is a pass at one of a rule's ports, if it has no name.
func numbered(who []netip.Prefix, p networkingv1.NetworkPolicyPort) (fleet.Pass, bool) {
	pass := fleet.Pass{Peers: who, Protocol: corev1.ProtocolTCP, Last: lastPort}
	if p.Protocol != nil {
		pass.Protocol = protocolOf(*p.Protocol)
	}
	if p.Port == nil {
		return pass, true
	}
	if p.Port.Type == intstr.String {
		return pass, false
	}
	pass.First, pass.Last = uint16(p.Port.IntVal), uint16(p.Port.IntVal)
	if p.EndPort != nil {
		pass.Last = uint16(*p.EndPort)
	}
	return pass, pass.First <= pass.Last
}

// into are the passes of one rule for a pod that connections go to.
func (f *fencing) into(self Peer, who []netip.Prefix, ports []networkingv1.NetworkPolicyPort) []fleet.Pass {
	return passes(who, ports, func(pass fleet.Pass, name string) []fleet.Pass { return named(pass, self.Pod, name) })
}

// outOf are those of one for a pod that connections come from: a port's name is then one of each pod that they may go to.
func (f *fencing) outOf(self Peer, who []netip.Prefix, ports []networkingv1.NetworkPolicyPort) []fleet.Pass {
	return passes(who, ports, func(pass fleet.Pass, name string) []fleet.Pass {
		var list []fleet.Pass
		for _, other := range f.peers {
			if familyOf(other.Addr) != familyOf(self.Addr) {
				continue // there is no way from one to the other, and no rule with both
			}
			if who == nil || slices.ContainsFunc(who, func(p netip.Prefix) bool { return p.Contains(other.Addr) }) {
				pass.Peers = []netip.Prefix{netip.PrefixFrom(other.Addr, other.Addr.BitLen())}
				list = append(list, named(pass, other.Pod, name)...)
			}
		}
		return list
	})
}

// passes are those of one rule; byName those at a port that has a name.
func passes(who []netip.Prefix, ports []networkingv1.NetworkPolicyPort, byName func(pass fleet.Pass, name string) []fleet.Pass) []fleet.Pass {
	if who != nil && len(who) == 0 {
		return nil
	}
	if len(ports) == 0 {
		return []fleet.Pass{{Peers: who, Last: lastPort}}
	}
	var list []fleet.Pass
	for _, p := range ports {
		pass, ok := numbered(who, p)
		switch {
		case ok:
			list = append(list, pass)
		case p.Port.Type == intstr.String:
			list = append(list, byName(pass, p.Port.StrVal)...)
		}
	}
	return list
}

// named is a pass at each port of that name of a pod.
func named(pass fleet.Pass, pod *corev1.Pod, name string) []fleet.Pass {
	var list []fleet.Pass
	for _, number := range namedPorts(pod, name, pass.Protocol) {
		pass.First, pass.Last = number, number
		list = append(list, pass)
	}
	return list
}
