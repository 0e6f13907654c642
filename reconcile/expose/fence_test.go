package expose_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// fenced is what FencesOf makes of policies for one connection, as a kernel would go through it.
func fenced(policies []*networkingv1.NetworkPolicy, namespaces map[string]map[string]string, known []expose.Peer, from, to expose.Peer, port expose.PeerPort) bool {
	var d fleet.Desired
	for i, p := range policies {
		d.Objects = append(d.Objects, fleet.Object{ID: fleet.ObjectID{Kind: "NetworkPolicy", Namespace: p.Namespace, Name: string(rune('a' + i))}, Value: p})
	}
	for name, labels := range namespaces {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		d.Objects = append(d.Objects, fleet.Object{ID: fleet.ObjectID{Kind: "Namespace", Name: name}, Value: n})
	}
	known = slices.DeleteFunc(slices.Clone(known), func(p expose.Peer) bool { return p.Addr == from.Addr || p.Addr == to.Addr })
	var pods []expose.Pod
	for _, p := range append(known, from, to) {
		if p.Pod != nil {
			pods = append(pods, expose.Pod{Spec: p.Pod, Node: p.Node, Status: corev1.PodStatus{PodIP: p.Addr.String(), PodIPs: []corev1.PodIP{{IP: p.Addr.String()}}}})
		}
	}
	host := func(p expose.Peer) bool { return p.Pod == nil || p.Pod.Spec.HostNetwork }
	if from.Addr == to.Addr || (from.Node == to.Node && from.Node != "" && (host(from) || host(to))) { // neither is forwarded past a pod's fence
		return true
	}
	open := func(self, other expose.Peer, gate func(fleet.Fence) fleet.Gate) bool {
		for _, f := range expose.FencesOf(d, pods, self.Node) {
			if g := gate(f); f.Pod == self.Addr && self.Pod != nil && g.Closed {
				return slices.ContainsFunc(g.Passes, func(p fleet.Pass) bool {
					protocol := port.Protocol
					if protocol == "" {
						protocol = corev1.ProtocolTCP
					}
					return (p.Peers == nil || slices.ContainsFunc(p.Peers, func(r netip.Prefix) bool { return r.Contains(other.Addr) })) &&
						(p.Protocol == "" || p.Protocol == protocol && p.First <= port.Number && port.Number <= p.Last)
				})
			}
		}
		return true
	}
	return open(from, to, func(f fleet.Fence) fleet.Gate { return f.Egress }) && open(to, from, func(f fleet.Fence) fleet.Gate { return f.Ingress })
}

// TestFencesAreAllowed: whatever the policies, fences let through what Allowed says.
func TestFencesAreAllowed(t *testing.T) {
	known := []expose.Peer{peer("shop", "web", "10.0.0.1"), peer("shop", "db", "10.0.0.2"), peer("bank", "web", "10.0.0.3"), onHost(peer("bank", "db", "10.9.0.1"))}
	ends := append(slices.Clone(known), expose.Peer{Addr: netip.MustParseAddr("192.0.2.7")})
	namespaces := map[string]map[string]string{"bank": {"team": "money"}, "shop": {}}
	peers := rapid.SampledFrom([]netPeer{
		{PodSelector: app("web")}, {PodSelector: &metav1.LabelSelector{}}, {NamespaceSelector: team("money")}, {NamespaceSelector: &metav1.LabelSelector{}, PodSelector: app("db")},
		block("10.0.0.0/30", "10.0.0.3/32"), block("0.0.0.0/0", "192.0.2.0/24", "10.0.0.2/31"), block("192.0.2.4/30"), block("fd00::/8"), {},
	})
	numbers := rapid.SampledFrom([]netPort{at("80", 0, ""), at("80", 8080, ""), at("http", 0, ""), at("", 0, corev1.ProtocolUDP), at("", 0, ""), at("90", 80, "")})
	policies := rapid.Custom(func(t *rapid.T) *networkingv1.NetworkPolicy {
		p := policy(rapid.SampledFrom([]string{"", "web", "db"}).Draw(t, "of"))
		p.Namespace = rapid.SampledFrom([]string{"shop", "bank"}).Draw(t, "namespace")
		for range rapid.IntRange(0, 2).Draw(t, "in") {
			p.Spec.Ingress = append(p.Spec.Ingress, ingress{From: rapid.SliceOfN(peers, 0, 2).Draw(t, "from"), Ports: rapid.SliceOfN(numbers, 0, 2).Draw(t, "ports")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "out") {
			p.Spec.Egress = append(p.Spec.Egress, egress{To: rapid.SliceOfN(peers, 0, 2).Draw(t, "to"), Ports: rapid.SliceOfN(numbers, 0, 2).Draw(t, "ports")})
		}
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(policies, 0, 3).Draw(t, "policies")
		from, to := rapid.SampledFrom(ends).Draw(t, "from"), rapid.SampledFrom(ends).Draw(t, "to")
		port := expose.PeerPort{Protocol: rapid.SampledFrom([]corev1.Protocol{"", corev1.ProtocolUDP}).Draw(t, "protocol"), Number: rapid.SampledFrom([]uint16{79, 80, 8080, 8081}).Draw(t, "port")}
		want := expose.Allowed(list, namespaces, from, to, port)
		if got := fenced(list, namespaces, known, from, to, port); got != want {
			t.Fatalf("from %v to %v at %v: allowed %v, let through %v", from.Addr, to.Addr, port, want, got)
		}
	})
}

// TestFences: what a kernel is given.
func TestFences(t *testing.T) {
	db, web := pod("db", "db", "10.0.0.2 fd00::2", on("n")), pod("web", "web", "10.0.0.1", on("m"))
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: *app("db"), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress: []ingress{{From: []netPeer{{PodSelector: app("web")}, block("10.0.0.0/30", "10.0.0.0/31")}, Ports: []netPort{at("80", 90, "")}}},
	}}
	d := desiredOf(policy)
	want := []fleet.Fence{
		{Pod: netip.MustParseAddr("10.0.0.2"), Egress: fleet.Gate{Closed: true}, Ingress: fleet.Gate{Closed: true, Passes: []fleet.Pass{
			{Peers: []netip.Prefix{netipPrefix("10.0.0.1/32"), netipPrefix("10.0.0.2/31")}, Protocol: corev1.ProtocolTCP, First: 80, Last: 90},
		}}},
		{Pod: netip.MustParseAddr("fd00::2"), Egress: fleet.Gate{Closed: true}, Ingress: fleet.Gate{Closed: true}},
	}
	pods := []expose.Pod{db, web}
	for range 5 {
		rand.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
		if diff := cmp.Diff(want, expose.FencesOf(d, pods, "n"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
	}
	if got := expose.FencesOf(d, pods, "m"); got != nil {
		t.Errorf("a pod that no policy selects: %v", got)
	}
}

// TestFenceIsOfOneFamily: rules know the addresses of one only.
func TestFenceIsOfOneFamily(t *testing.T) {
	web := pod("web", "web", "10.0.0.1 fd00::1", on("n"))
	web.Spec.Spec.Containers = []corev1.Container{{Name: "web", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}
	for _, to := range [][]netPeer{nil, {{PodSelector: app("web")}}, {block("0.0.0.0/0"), block("::/0")}} {
		policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
			Egress:      []networkingv1.NetworkPolicyEgressRule{{To: to, Ports: []netPort{at("http", 0, "")}}},
		}}
		for _, f := range expose.FencesOf(desiredOf(policy), []expose.Pod{web}, "n") {
			if p := f.Egress.Passes; len(p) != 1 || len(p[0].Peers) != 1 || p[0].Peers[0].Addr() != f.Pod {
				t.Errorf("%v: %v", f.Pod, p)
			}
		}
	}
}
