package expose

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

// Peer is one side of a connection: a pod, a node, or an address outside.
type Peer struct {
	Pod  *corev1.Pod    // nil for what is no pod
	Node fleet.NodeName // a pod's node, or the node that it is; empty for what is outside
	Addr netip.Addr
}

// PeerPort is where a connection goes.
type PeerPort struct {
	Protocol corev1.Protocol
	Number   uint16
}

// Allowed reports whether NetworkPolicies let a connection begin; answers to it pass in any case, which is not asked here.
// Both ends' policies must allow it. namespaces are the labels of namespaces; each has kubernetes.io/metadata.name besides,
// whether or not it is in there. A pod always reaches itself and its own node, and is reached by it. No policy binds a node,
// or a pod on its node's network, which others know only by its address. An ipBlock is of addresses, those of pods among
// them, as Kubernetes' conformance tests have it.
func Allowed(policies []*networkingv1.NetworkPolicy, namespaces map[string]map[string]string, from, to Peer, port PeerPort) bool {
	if isSame(from, to) || isOwnNode(from, to) || isOwnNode(to, from) {
		return true
	}
	j := judge{policies: policies, namespaces: namespaces, to: to, port: PeerPort{protocolOf(port.Protocol), port.Number}}
	return j.side(networkingv1.PolicyTypeEgress, from, to) && j.side(networkingv1.PolicyTypeIngress, to, from)
}

// isSame reports whether both are one pod.
func isSame(a, b Peer) bool {
	return a.Pod != nil && b.Pod != nil && a.Pod.Namespace == b.Pod.Namespace && a.Pod.Name == b.Pod.Name && a.Pod.UID == b.Pod.UID
}

// isOwnNode reports whether a is the node of pod b, or something on that node's own network.
func isOwnNode(a, b Peer) bool { return !a.bound() && a.Node != "" && a.Node == b.Node }

// bound reports whether policies are for the peer: it is a pod with a network of its own.
func (p Peer) bound() bool { return p.Pod != nil && !p.Pod.Spec.HostNetwork }

type judge struct {
	policies   []*networkingv1.NetworkPolicy
	namespaces map[string]map[string]string
	to         Peer
	port       PeerPort
}

// side reports whether the policies for one end and direction allow the other end: there are none, or one of their rules does.
func (j judge) side(direction networkingv1.PolicyType, self, other Peer) bool {
	if !self.bound() {
		return true
	}
	selected := false
	for _, p := range j.policies {
		if p.Namespace != self.Pod.Namespace || !has(p, direction) || !matches(&p.Spec.PodSelector, self.Pod.Labels) {
			continue
		}
		selected = true
		if j.some(p, direction, other) {
			return true
		}
	}
	return !selected
}

// has reports whether a policy is about a direction.
func has(p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType) bool {
	if len(p.Spec.PolicyTypes) > 0 {
		return slices.Contains(p.Spec.PolicyTypes, direction)
	}
	return direction == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
}

// some reports whether some rule of a policy allows the other end and the port.
func (j judge) some(p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType, other Peer) bool {
	if direction == networkingv1.PolicyTypeIngress {
		return slices.ContainsFunc(p.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
			return j.peers(r.From, p.Namespace, other) && j.ports(r.Ports)
		})
	}
	return slices.ContainsFunc(p.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
		return j.peers(r.To, p.Namespace, other) && j.ports(r.Ports)
	})
}

// peers reports whether one of a rule's peers is the other end; a rule without any is for everybody.
func (j judge) peers(list []networkingv1.NetworkPolicyPeer, namespace string, other Peer) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p networkingv1.NetworkPolicyPeer) bool { return j.peer(p, namespace, other) })
}

func (j judge) peer(p networkingv1.NetworkPolicyPeer, namespace string, other Peer) bool {
	if p.IPBlock != nil {
		return inBlock(p.IPBlock, other.Addr)
	}
	if !other.bound() || (p.PodSelector == nil && p.NamespaceSelector == nil) {
		return false
	}
	if p.NamespaceSelector == nil {
		return other.Pod.Namespace == namespace && matches(p.PodSelector, other.Pod.Labels)
	}
	return matches(p.NamespaceSelector, j.labels(other.Pod.Namespace)) && (p.PodSelector == nil || matches(p.PodSelector, other.Pod.Labels))
}

// labels are those of a namespace, with its name as Kubernetes adds it.
func (j judge) labels(namespace string) map[string]string {
	with := maps.Clone(j.namespaces[namespace])
	if with == nil {
		with = map[string]string{}
	}
	with[corev1.LabelMetadataName] = namespace
	return with
}

// ports reports whether one of a rule's ports is the one that is asked for; a rule without any is for all.
func (j judge) ports(list []networkingv1.NetworkPolicyPort) bool {
	return len(list) == 0 || slices.ContainsFunc(list, j.isPort)
}

// isPort compares with a port of a rule. A name is one of the pod that the connection goes to, in both directions.
func (j judge) isPort(p networkingv1.NetworkPolicyPort) bool {
	protocol := corev1.ProtocolTCP
	if p.Protocol != nil {
		protocol = protocolOf(*p.Protocol)
	}
	switch {
	case protocol != j.port.Protocol:
		return false
	case p.Port == nil:
		return true
	case p.Port.Type == intstr.String:
		return j.to.bound() && slices.Contains(namedPorts(j.to.Pod, p.Port.StrVal, protocol), j.port.Number)
	case p.EndPort != nil:
		return int32(j.port.Number) >= p.Port.IntVal && int32(j.port.Number) <= *p.EndPort
	default:
		return int32(j.port.Number) == p.Port.IntVal
	}
}

// inBlock reports whether an address is in a block and in none of its exceptions.
func inBlock(b *networkingv1.IPBlock, a netip.Addr) bool {
	return inCIDR(b.CIDR, a) && !slices.ContainsFunc(b.Except, func(cidr string) bool { return inCIDR(cidr, a) })
}

func inCIDR(cidr string, a netip.Addr) bool {
	p, err := netip.ParsePrefix(cidr)
	return err == nil && a.IsValid() && p.Contains(a.Unmap())
}

// matches reports whether a selector selects labels; one that makes no sense selects nothing.
func matches(selector *metav1.LabelSelector, of map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(of))
}
