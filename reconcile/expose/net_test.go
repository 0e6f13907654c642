package expose_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// netOf is the network of node a, as text.
func netOf(in expose.NetInput, pods []expose.Pod) (string, []fleet.Note) {
	in.Node, in.Backends = "a", expose.Backends(in.Desired, pods)
	net, notes := expose.Net(in)
	var lines []string
	for _, f := range net.Fronts {
		lines = append(lines, frontText(f))
	}
	return strings.Join(lines, "\n"), notes
}

// TestEnds is the choice of ends, as kube-proxy has it.
func TestEnds(t *testing.T) {
	here, there := pod("p", "a", "10.0.0.1"), pod("q", "a", "10.0.0.2", on("b"))
	hereSick, thereSick := pod("p", "a", "10.0.0.1", sick), pod("q", "a", "10.0.0.2", on("b"), sick)
	hereGoes, thereGoes := pod("p", "a", "10.0.0.1", draining), pod("q", "a", "10.0.0.2", on("b"), draining)
	hereLost := pod("p", "a", "10.0.0.1", draining, sick)
	const p, q, none, elsewhere = " 10.0.0.1:8080", " 10.0.0.2:8080", " reject", " drop"
	for _, test := range []struct {
		name           string
		pods           []expose.Pod
		cluster, local string
	}{
		{"nobody", nil, none, none},
		{"ready", []expose.Pod{here, there}, p + q, p},
		{"ready elsewhere", []expose.Pod{there}, q, elsewhere},
		{"one unready", []expose.Pod{hereSick, there}, q, elsewhere},
		{"all unready", []expose.Pod{hereSick, thereSick}, none, none},
		{"one goes", []expose.Pod{hereGoes, there}, q, p},
		{"the other goes", []expose.Pod{here, thereGoes}, p, p},
		{"all go", []expose.Pod{hereGoes, thereGoes}, p + q, p},
		{"all go elsewhere", []expose.Pod{thereGoes}, q, elsewhere},
		{"goes unready", []expose.Pod{hereLost}, none, none},
		{"goes unready beside one that goes", []expose.Pod{hereLost, thereGoes}, q, elsewhere},
		{"ended", []expose.Pod{pod("p", "a", "10.0.0.1", phase(corev1.PodFailed))}, none, none},
		{"of nobody knows which node", []expose.Pod{pod("p", "a", "10.0.0.1", on(""))}, p, elsewhere},
	} {
		t.Run(test.name, func(t *testing.T) {
			svc := service("a", nodePort)
			exposure := given("a", "10.96.0.20")
			exposure.NodePorts = map[string]int32{"TCP/80": 30080}
			for _, policy := range []struct {
				edits []edit
				want  string
			}{
				{nil, "* TCP/30080 masquerade" + test.cluster + "\n10.96.0.20 TCP/80 masquerade" + test.cluster},
				{[]edit{internal(corev1.ServiceInternalTrafficPolicyLocal)}, "* TCP/30080 masquerade" + test.cluster + "\n10.96.0.20 TCP/80 masquerade" + test.local},
				{[]edit{external(corev1.ServiceExternalTrafficPolicyLocal)}, "* TCP/30080" + test.local + "\n10.96.0.20 TCP/80 masquerade" + test.cluster},
			} {
				svc := svc.DeepCopy()
				for _, e := range policy.edits {
					e(svc)
				}
				got, notes := netOf(expose.NetInput{Desired: desiredOf(svc), Exposures: []fleet.Exposure{exposure}}, test.pods)
				if d := cmp.Diff(policy.want, got); d != "" || len(notes) > 0 {
					t.Error(d, notes)
				}
			}
		})
	}
}

func TestFronts(t *testing.T) {
	sticky := func(seconds int32) edit {
		return func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			if seconds > 0 {
				s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
			}
		}
	}
	near := func(s *corev1.Service) {
		d := corev1.ServiceTrafficDistributionPreferSameNode
		s.Spec.TrafficDistribution = &d
	}
	ranged := func(ranges ...string) edit {
		return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = ranges }
	}
	balancing := func(e fleet.Exposure) []fleet.Exposure {
		e.Balancers = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		return []fleet.Exposure{e}
	}
	pods := []expose.Pod{pod("p", "a", "10.0.0.1 fd00::1"), pod("q", "a", "10.0.0.2", on("b")), pod("r", "b", "10.0.0.3"), pod("s", "n", "10.0.0.8"), pod("t", "n", "10.0.0.9", on(""))}
	one := []fleet.Exposure{given("a", "10.96.0.20")}
	withPorts := func(e fleet.Exposure, key string, number int32) []fleet.Exposure {
		e.NodePorts = map[string]int32{key: number}
		return []fleet.Exposure{e}
	}
	const both = " 10.0.0.1:8080 10.0.0.2:8080"
	for _, test := range []struct {
		name      string
		services  []*corev1.Service
		exposures []fleet.Exposure
		want      string
		notes     string
	}{
		{"no address", []*corev1.Service{service("a", externalIPs("192.0.2.1"))}, nil, "", ""},
		{"headless", []*corev1.Service{service("a", headless)}, one, "", ""},
		{"an alias", []*corev1.Service{service("a", alias("x"))}, one, "", ""},
		{"gone", nil, one, "", ""},
		{"sticky", []*corev1.Service{service("a", sticky(0))}, one, "10.96.0.20 TCP/80 masquerade sticky 3h0m0s" + both, ""},
		{"sticky for so long", []*corev1.Service{service("a", sticky(60))}, one, "10.96.0.20 TCP/80 masquerade sticky 1m0s" + both, ""},
		{"the same node", []*corev1.Service{service("a", near)}, one, "10.96.0.20 TCP/80 masquerade 10.0.0.1:8080", ""},
		{"the same node, and one of which nobody knows where", []*corev1.Service{service("n", near)}, []fleet.Exposure{given("n", "10.96.0.20")}, "10.96.0.20 TCP/80 masquerade 10.0.0.8:8080 10.0.0.9:8080", ""},
		{"two ports of a protocol", []*corev1.Service{service("a", ports(port("x", 80, "1", ""), port("y", 81, "2", "")))}, one,
			"10.96.0.20 TCP/80 masquerade 10.0.0.1:1 10.0.0.2:1\n10.96.0.20 TCP/81 masquerade 10.0.0.1:2 10.0.0.2:2", ""},
		{"one name in two protocols", []*corev1.Service{service("a", ports(port("", 53, "1", ""), port("", 53, "2", corev1.ProtocolUDP)))}, one,
			"10.96.0.20 TCP/53 masquerade 10.0.0.1:1 10.0.0.2:1\n10.96.0.20 UDP/53 masquerade 10.0.0.1:2 10.0.0.2:2", ""},
		{"two ports", []*corev1.Service{service("a", ports(port("web", 80, "http", ""), port("dns", 53, "53", corev1.ProtocolUDP)))}, one,
			"10.96.0.20 TCP/80 masquerade 10.0.0.1:9000 10.0.0.2:9000\n10.96.0.20 UDP/53 masquerade 10.0.0.1:53 10.0.0.2:53", ""},
		{"two families", []*corev1.Service{service("a")}, []fleet.Exposure{given("a", "fd96::20", "10.96.0.20")},
			"10.96.0.20 TCP/80 masquerade" + both + "\nfd96::20 TCP/80 masquerade [fd00::1]:8080", ""},
		{"a node port of two families", []*corev1.Service{service("a", nodePort, external(corev1.ServiceExternalTrafficPolicyLocal))}, withPorts(given("a", "10.96.0.20", "fd96::20"), "TCP/80", 30001),
			"* TCP/30001 10.0.0.1:8080 [fd00::1]:8080\n10.96.0.20 TCP/80 masquerade" + both + "\nfd96::20 TCP/80 masquerade [fd00::1]:8080", ""},
		{"a node port of before", []*corev1.Service{service("a")}, withPorts(given("a", "10.96.0.20"), "TCP/80", 30001), "10.96.0.20 TCP/80 masquerade" + both, ""},
		{"external addresses", []*corev1.Service{service("a", externalIPs("192.0.2.1", "fd01::1", "x"))}, one,
			"10.96.0.20 TCP/80 masquerade" + both + "\n192.0.2.1 TCP/80 masquerade" + both,
			"a: external address \"x\" is none\na: nothing is served at fd01::1: the Service has no IPv6 address"},
		{"a load balancer", []*corev1.Service{service("a", balanced, external(corev1.ServiceExternalTrafficPolicyLocal), externalIPs("198.51.100.1"))}, withPorts(balancing(one[0])[0], "TCP/80", 30001),
			"* TCP/30001 10.0.0.1:8080\n10.96.0.20 TCP/80 masquerade" + both + "\n198.51.100.1 TCP/80 10.0.0.1:8080", ""},
		{"its sources", []*corev1.Service{service("a", balanced, ranged("10.0.0.0/8", "10.1.0.0/16", "fd00::/8"))}, balancing(one[0]), "10.96.0.20 TCP/80 masquerade" + both + "\n198.51.100.1 TCP/80 from [10.0.0.0/8] masquerade" + both, ""},
		{"sources that are none", []*corev1.Service{service("a", balanced, ranged("x"))}, balancing(one[0]), "10.96.0.20 TCP/80 masquerade" + both + "\n198.51.100.1 TCP/80 from [] masquerade" + both,
			`a: source range "x" is none: nobody is let through by it`},
		{"two with one", []*corev1.Service{service("b", externalIPs("192.0.2.1")), service("a", externalIPs("192.0.2.1", "192.0.2.1"))}, []fleet.Exposure{given("b", "10.96.0.21"), one[0]},
			"10.96.0.20 TCP/80 masquerade" + both + "\n10.96.0.21 TCP/80 masquerade 10.0.0.3:8080\n192.0.2.1 TCP/80 masquerade" + both,
			"b: 192.0.2.1 port 80 (TCP) is that of Service/default/a, and not of Service/default/b: give one of them another"},
		{"another's own", []*corev1.Service{service("a", externalIPs("10.96.0.21")), service("b")}, []fleet.Exposure{one[0], given("b", "10.96.0.21")},
			"10.96.0.20 TCP/80 masquerade" + both + "\n10.96.0.21 TCP/80 masquerade 10.0.0.3:8080",
			"a: 10.96.0.21 port 80 (TCP) is that of Service/default/b, and not of Service/default/a: give one of them another"},
		{"two with one node port", []*corev1.Service{service("a", nodePort), service("b", nodePort)}, append(withPorts(given("b", "10.96.0.21"), "TCP/80", 30001), withPorts(one[0], "TCP/80", 30001)...),
			"* TCP/30001 masquerade" + both + "\n10.96.0.20 TCP/80 masquerade" + both + "\n10.96.0.21 TCP/80 masquerade 10.0.0.3:8080",
			"b: node port 30001 (TCP) is that of Service/default/a, and not of Service/default/b: give one of them another"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := expose.NetInput{Exposures: test.exposures}
			for _, s := range test.services {
				in.Desired.Objects = append(in.Desired.Objects, desiredOf(s).Objects...)
			}
			in.Desired = desiredOf(values(in.Desired)...)
			got, notes := netOf(in, pods)
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(test.notes, noteTexts(notes)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSharedAddress(t *testing.T) {
	// Two pods on one node's own network: one end, ready as long as one of them is.
	pods := []expose.Pod{pod("p", "a", "192.0.2.1"), pod("q", "a", "192.0.2.1", draining), pod("r", "a", "192.0.2.1")}
	got, _ := netOf(expose.NetInput{Desired: desiredOf(service("a")), Exposures: []fleet.Exposure{given("a", "10.96.0.20")}}, pods)
	if want := "10.96.0.20 TCP/80 masquerade 192.0.2.1:8080"; got != want {
		t.Error(got)
	}
	net, _ := expose.Net(expose.NetInput{Pods: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")}})
	if len(net.Pods) != 2 || net.Pods[0].String() != "10.1.0.0/24" {
		t.Error(net.Pods)
	}
}

// TestHealthChecks: how many ready ends a node has itself.
func TestHealthChecks(t *testing.T) {
	pods := []expose.Pod{pod("p", "a", "10.0.0.1"), pod("q", "a", "10.0.0.2", sick), pod("r", "a", "10.0.0.3", on("b")), pod("s", "a", "10.0.0.4", draining)}
	local := desiredOf(service("a", balanced, external(corev1.ServiceExternalTrafficPolicyLocal)))
	e := given("a", "10.96.0.20")
	e.NodePorts = map[string]int32{fleet.HealthPort: 30009}
	for node, want := range map[fleet.NodeName]int{"a": 1, "b": 1, "c": 0} {
		net, _ := expose.Net(expose.NetInput{Desired: local, Exposures: []fleet.Exposure{e}, Backends: expose.Backends(local, pods), Node: node})
		if len(net.Checks) != 1 || net.Checks[0] != (fleet.HealthCheck{Service: id("a"), Number: 30009, Ends: want}) {
			t.Errorf("%s: %v", node, net.Checks)
		}
		for _, f := range net.Fronts {
			if f.Number == 30009 {
				t.Errorf("%s: a front at the port for checks: %+v", node, f)
			}
		}
	}
	cluster := desiredOf(service("a", balanced))
	if net, _ := expose.Net(expose.NetInput{Desired: cluster, Exposures: []fleet.Exposure{e}, Node: "a"}); net.Checks != nil {
		t.Errorf("all nodes have ends for it: %v", net.Checks)
	}
}
