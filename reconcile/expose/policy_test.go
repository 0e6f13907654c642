package expose_test

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

type (
	netPeer = networkingv1.NetworkPolicyPeer
	netPort = networkingv1.NetworkPolicyPort
	ingress = networkingv1.NetworkPolicyIngressRule
	egress  = networkingv1.NetworkPolicyEgressRule
)

// peer is a pod with app: <name>, which runs on its own node and has a port http.
func peer(namespace, name, addr string) expose.Peer {
	return expose.Peer{Node: fleet.NodeName("node-" + name), Addr: netip.MustParseAddr(addr), Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
	}}
}

func onHost(p expose.Peer) expose.Peer {
	p.Pod = p.Pod.DeepCopy()
	p.Pod.Spec.HostNetwork = true
	return p
}

func app(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func team(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"team": name}}
}

// policy is for pods of namespace shop with app: <of>, or for all when it is empty.
func policy(of string, edits ...func(*networkingv1.NetworkPolicySpec)) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}}
	if of != "" {
		p.Spec.PodSelector = *app(of)
	}
	for _, e := range edits {
		e(&p.Spec)
	}
	return p
}

type spec = networkingv1.NetworkPolicySpec

func in(rules ...ingress) func(*spec) {
	return func(s *spec) { s.Ingress = append(s.Ingress, rules...) }
}
func out(rules ...egress) func(*spec) { return func(s *spec) { s.Egress = append(s.Egress, rules...) } }
func kinds(list ...networkingv1.PolicyType) func(*spec) {
	return func(s *spec) { s.PolicyTypes = list }
}
func from(peers ...netPeer) ingress { return ingress{From: peers} }
func to(peers ...netPeer) egress    { return egress{To: peers} }
func block(cidr string, except ...string) netPeer {
	return netPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr, Except: except}}
}

func at(port string, end int32, protocol corev1.Protocol) netPort {
	p := netPort{}
	if port != "" {
		v := intstr.Parse(port)
		p.Port = &v
	}
	if end > 0 {
		p.EndPort = &end
	}
	if protocol != "" {
		p.Protocol = &protocol
	}
	return p
}

// TestAllowed asks for connections from pod web to pod db, both in namespace shop, unless said otherwise.
func TestAllowed(t *testing.T) {
	web, db := peer("shop", "web", "10.0.0.1"), peer("shop", "db", "10.0.0.2")
	stranger := peer("bank", "web", "10.0.0.3")
	outside := expose.Peer{Addr: netip.MustParseAddr("192.0.2.7")}
	node, ownNode := expose.Peer{Node: "node-x", Addr: netip.MustParseAddr("198.51.100.1")}, expose.Peer{Node: "node-db", Addr: netip.MustParseAddr("198.51.100.2")}
	const inType, outType = networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	denied := policy("db")
	elsewhere := policy("db")
	elsewhere.Namespace = "bank"
	tcp := func(n uint16) expose.PeerPort { return expose.PeerPort{Protocol: corev1.ProtocolTCP, Number: n} }
	ported := func(list ...netPort) *networkingv1.NetworkPolicy { return policy("db", in(ingress{Ports: list})) }
	type policies = []*networkingv1.NetworkPolicy
	wrong := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Near"}}}
	for _, test := range []struct {
		name     string
		policies policies
		from, to expose.Peer
		port     expose.PeerPort
		want     bool
	}{
		{"no policy", nil, web, db, tcp(80), true},
		{"others are selected", policies{policy("cache")}, web, db, tcp(80), true},
		{"of another namespace", policies{elsewhere}, web, db, tcp(80), true},
		{"no rules: nothing", policies{denied}, web, db, tcp(80), false},
		{"no rules: nothing from outside", policies{denied}, outside, db, tcp(80), false},
		{"no selector: all pods", policies{policy("")}, web, db, tcp(80), false},
		{"an empty rule: everything", policies{policy("db", in(ingress{}))}, stranger, db, tcp(80), true},
		{"an empty rule: from outside, too", policies{policy("db", in(ingress{}))}, outside, db, tcp(80), true},
		{"the union of policies", policies{denied, policy("db", in(from(netPeer{PodSelector: app("web")})))}, web, db, tcp(80), true},
		{"the union of rules", policies{policy("db", in(from(netPeer{PodSelector: app("cache")}), from(netPeer{PodSelector: app("web")})))}, web, db, tcp(80), true},

		{"types absent: no egress without a section", policies{policy("web")}, web, db, tcp(80), true},
		{"types absent: an empty egress section", policies{policy("web", func(s *spec) { s.Egress = []egress{} })}, web, db, tcp(80), true},
		{"types absent: an egress section", policies{policy("web", out(to(netPeer{PodSelector: app("cache")})))}, web, db, tcp(80), false},
		{"types absent: ingress always", policies{policy("db", out(egress{}))}, web, db, tcp(80), false},
		{"egress only", policies{policy("db", kinds(outType))}, web, db, tcp(80), true},
		{"egress only, of the other", policies{policy("web", kinds(outType))}, web, db, tcp(80), false},
		{"egress, an empty rule", policies{policy("web", kinds(outType), out(egress{}))}, web, outside, tcp(80), true},
		{"an egress section that is not meant", policies{policy("web", kinds(inType), out(to(netPeer{PodSelector: app("cache")})))}, web, db, tcp(80), true},

		{"a pod of the same namespace", policies{policy("db", in(from(netPeer{PodSelector: app("web")})))}, web, db, tcp(80), true},
		{"a pod selector alone: same namespace", policies{policy("db", in(from(netPeer{PodSelector: app("web")})))}, stranger, db, tcp(80), false},
		{"an empty pod selector: all of the namespace", policies{policy("db", in(from(netPeer{PodSelector: &metav1.LabelSelector{}})))}, web, db, tcp(80), true},
		{"an empty pod selector: nobody else", policies{policy("db", in(from(netPeer{PodSelector: &metav1.LabelSelector{}})))}, stranger, db, tcp(80), false},
		{"a namespace alone: all its pods", policies{policy("db", in(from(netPeer{NamespaceSelector: team("money")})))}, stranger, db, tcp(80), true},
		{"a namespace by name", policies{policy("db", in(from(netPeer{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "shop"}}})))}, web, db, tcp(80), true},
		{"all namespaces", policies{policy("db", in(from(netPeer{NamespaceSelector: &metav1.LabelSelector{}})))}, stranger, db, tcp(80), true},
		{"all namespaces, not outside", policies{policy("db", in(from(netPeer{NamespaceSelector: &metav1.LabelSelector{}})))}, outside, db, tcp(80), false},
		{"in one item both must hold", policies{policy("db", in(from(netPeer{NamespaceSelector: team("money"), PodSelector: app("cache")})))}, stranger, db, tcp(80), false},
		{"in one item both hold", policies{policy("db", in(from(netPeer{NamespaceSelector: team("money"), PodSelector: app("web")})))}, stranger, db, tcp(80), true},
		{"of two items one must hold", policies{policy("db", in(from(netPeer{NamespaceSelector: team("money")}, netPeer{PodSelector: app("cache")})))}, stranger, db, tcp(80), true},
		{"an item that says nothing", policies{policy("db", in(from(netPeer{})))}, web, db, tcp(80), false},
		{"a selector that makes no sense", policies{policy("db", in(from(netPeer{PodSelector: wrong})))}, web, db, tcp(80), false},

		{"a block", policies{policy("db", in(from(block("192.0.2.0/24"))))}, outside, db, tcp(80), true},
		{"another block", policies{policy("db", in(from(block("203.0.113.0/24"))))}, outside, db, tcp(80), false},
		{"an exception", policies{policy("db", in(from(block("192.0.2.0/24", "192.0.2.4/30"))))}, outside, db, tcp(80), false},
		{"an exception in one, not in another", policies{policy("db", in(from(block("192.0.2.0/24", "192.0.2.4/30"), block("192.0.2.7/32"))))}, outside, db, tcp(80), true},
		{"a block of pods", policies{policy("web", kinds(outType), out(to(block("10.0.0.0/24"))))}, web, db, tcp(80), true},
		{"a block of the other family", policies{policy("db", in(from(block("::/0"))))}, outside, db, tcp(80), false},
		{"a block that makes no sense", policies{policy("db", in(from(block("x"))))}, outside, db, tcp(80), false},
		{"to a block", policies{policy("web", kinds(outType), out(to(block("192.0.2.0/24"))))}, web, outside, tcp(80), true},

		{"a port", policies{ported(at("80", 0, ""))}, web, db, tcp(80), true},
		{"another port", policies{ported(at("81", 0, ""))}, web, db, tcp(80), false},
		{"one of two ports", policies{ported(at("81", 0, ""), at("80", 0, ""))}, web, db, tcp(80), true},
		{"another protocol", policies{ported(at("80", 0, corev1.ProtocolUDP))}, web, db, tcp(80), false},
		{"all ports of a protocol", policies{ported(at("", 0, corev1.ProtocolUDP))}, web, db, expose.PeerPort{Protocol: corev1.ProtocolUDP, Number: 53}, true},
		{"no port is all of TCP", policies{ported(at("", 0, ""))}, web, db, expose.PeerPort{Number: 53}, true},
		{"no port is nothing of UDP", policies{ported(at("", 0, ""))}, web, db, expose.PeerPort{Protocol: corev1.ProtocolUDP, Number: 53}, false},
		{"first of a range", policies{ported(at("80", 90, ""))}, web, db, tcp(80), true},
		{"last of a range", policies{ported(at("80", 90, ""))}, web, db, tcp(90), true},
		{"after a range", policies{ported(at("80", 90, ""))}, web, db, tcp(91), false},
		{"before a range", policies{ported(at("80", 90, ""))}, web, db, tcp(79), false},
		{"a name", policies{ported(at("http", 0, ""))}, web, db, tcp(8080), true},
		{"a name, another port", policies{ported(at("http", 0, ""))}, web, db, tcp(80), false},
		{"a name nobody has", policies{ported(at("https", 0, ""))}, web, db, tcp(8080), false},
		{"a name at the other end", policies{policy("web", kinds(outType), out(egress{Ports: []netPort{at("http", 0, "")}}))}, web, db, tcp(8080), true},
		{"a name outside", policies{policy("web", kinds(outType), out(egress{Ports: []netPort{at("http", 0, "")}}))}, web, outside, tcp(8080), false},
		{"a name of a pod on a host", policies{policy("web", kinds(outType), out(egress{Ports: []netPort{at("http", 0, "")}}))}, web, onHost(db), tcp(8080), false},
		{"peer and port must both hold", policies{policy("db", in(ingress{From: []netPeer{{PodSelector: app("cache")}}, Ports: []netPort{at("80", 0, "")}}))}, web, db, tcp(80), false},
		{"not across rules", policies{policy("db", in(ingress{From: []netPeer{{PodSelector: app("cache")}}}, ingress{Ports: []netPort{at("81", 0, "")}}))}, web, db, tcp(80), false},

		{"both ends must allow: the source", policies{policy("web", kinds(outType), out(to(netPeer{PodSelector: app("db")}))), denied}, web, db, tcp(80), false},
		{"both ends must allow: the target", policies{policy("db", in(from(netPeer{PodSelector: app("web")}))), policy("web", kinds(outType))}, web, db, tcp(80), false},
		{"both ends allow", policies{policy("db", in(from(netPeer{PodSelector: app("web")}))), policy("web", kinds(outType), out(to(netPeer{PodSelector: app("db")})))}, web, db, tcp(80), true},

		{"its own node", policies{denied}, ownNode, db, tcp(80), true},
		{"to its own node", policies{policy("db", kinds(outType))}, db, ownNode, tcp(80), true},
		{"another node", policies{denied}, node, db, tcp(80), false},
		{"another node in a block", policies{policy("db", in(from(block("198.51.100.1/32"))))}, node, db, tcp(80), true},
		{"itself", policies{policy("", kinds(inType, outType))}, db, db, tcp(80), true},
		{"a pod on a host is not bound", policies{policy("", kinds(inType, outType))}, outside, onHost(db), tcp(80), true},
		{"a pod on a host is nobody's peer", policies{policy("db", in(from(netPeer{PodSelector: app("web")})))}, onHost(web), db, tcp(80), false},
		{"a pod on a host has an address", policies{policy("db", in(from(block("10.0.0.1/32"))))}, onHost(web), db, tcp(80), true},
		{"two outside", policies{policy("", kinds(inType, outType))}, outside, node, tcp(80), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespaces := map[string]map[string]string{"bank": {"team": "money"}}
			for range 2 {
				if got := expose.Allowed(test.policies, namespaces, test.from, test.to, test.port); got != test.want {
					t.Errorf("allowed: %v", got)
				}
				if got := fenced(test.policies, namespaces, []expose.Peer{web, db, stranger}, test.from, test.to, test.port); got != test.want {
					t.Errorf("let through by fences: %v", got)
				}
				for i, j := 0, len(test.policies)-1; i < j; i, j = i+1, j-1 {
					test.policies[i], test.policies[j] = test.policies[j], test.policies[i]
				}
			}
			if len(namespaces["bank"]) != 1 {
				t.Error("changed what it was given")
			}
		})
	}
}
