package expose_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// exposureText is exposures as tables have them.
func exposureText(list []fleet.Exposure) string {
	var lines []string
	for _, e := range list {
		line := e.ID.Name
		for _, a := range e.Addrs {
			line += " " + a.String()
		}
		for _, key := range slices.Sorted(maps.Keys(e.NodePorts)) {
			line += fmt.Sprintf(" %s=%d", key, e.NodePorts[key])
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// ported is an exposure with node ports for TCP/80.
func ported(name, addr string, number int32) fleet.Exposure {
	e := given(name, addr)
	e.NodePorts = map[string]int32{"TCP/80": number}
	return e
}

// asking asks for a port of the hosts.
func asking(number int32) edit {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, number }
}

func TestAllocate(t *testing.T) {
	const v4, v6 = "10.96.0.0/24", "fd96::/108"
	prefer, require, single := corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack
	// What a hash points at; that they stay what they are is the promise.
	const a4, b4, a6 = "10.96.0.26", "10.96.0.139", "fd96::2:2244"
	const outside = "is outside of the fleet's addresses for Services: ask for one of those, or for none"
	const noPool = "a: no address is left for it in network.loadBalancerPools: until there is one it is reached at its node ports"
	for _, test := range []struct {
		name     string
		ranges   string
		services []runtime.Object
		previous []fleet.Exposure
		want     string
		notes    string
	}{
		{"a new one", v4, []runtime.Object{service("a")}, nil, "a " + a4, ""},
		{"a kept one", v4, []runtime.Object{service("a")}, []fleet.Exposure{given("a", "10.96.0.99")}, "a 10.96.0.99", ""},
		{"the next free", v4, []runtime.Object{service("a"), service("z", ip(a4))}, nil, "a 10.96.0.27\nz " + a4, ""},
		{"a new selector, type and ports", v4, []runtime.Object{service("a", balanced, byhand, ports(port("", 81, "1", "")))}, []fleet.Exposure{given("a", "10.96.0.99")}, "a 10.96.0.99 TCP/81=32752", noPool},
		{"deleted", v4, []runtime.Object{service("b")}, []fleet.Exposure{given("a", "10.96.0.99")}, "b " + b4, ""},
		{"headless, alias", v4, []runtime.Object{service("a", headless), service("b", alias("x")), service("c", ip(corev1.ClusterIPNone))}, []fleet.Exposure{given("a", "10.96.0.99"), given("b", "10.96.0.98")}, "", ""},

		{"asked for", v4, []runtime.Object{service("a", ip("10.96.0.5"))}, nil, "a 10.96.0.5", ""},
		{"asked for anew", v4, []runtime.Object{service("a", ip("10.96.0.5"))}, []fleet.Exposure{given("a", "10.96.0.99")}, "a 10.96.0.5", ""},
		{"asked for no more", v4, []runtime.Object{service("a")}, []fleet.Exposure{given("a", "10.96.0.5")}, "a 10.96.0.5", ""},
		{"outside", v4, []runtime.Object{service("a", ip("10.97.0.5"))}, []fleet.Exposure{given("a", "10.97.0.5")}, "", "a: clusterIP 10.97.0.5 " + outside},
		{"another family", v4, []runtime.Object{service("a", ip("fd00::5"))}, nil, "", "a: clusterIP fd00::5 " + outside},
		{"nonsense", v4, []runtime.Object{service("a", ip("x"))}, nil, "", `a: clusterIP "x" is no address`},
		{"of DNS", v4, []runtime.Object{service("a", ip("10.96.0.10"))}, nil, "", "a: clusterIP 10.96.0.10 is that of the fleet's DNS: ask for another, or for none"},
		{"of the network", v4, []runtime.Object{service("a", ip("10.96.0.0"))}, nil, "", "a: clusterIP 10.96.0.0 is that of the network itself: ask for another, or for none"},
		{"broadcast", v4, []runtime.Object{service("a", ip("10.96.0.255"))}, nil, "", "a: clusterIP 10.96.0.255 is that for all of the network: ask for another, or for none"},
		{"taken by one that has it", v4, []runtime.Object{service("a", ip("10.96.0.99")), service("b")}, []fleet.Exposure{given("b", "10.96.0.99")}, "b 10.96.0.99",
			"a: clusterIP 10.96.0.99 is that of Service/default/b: ask for another, or for none"},
		{"asked for twice", v4, []runtime.Object{service("a", ip("10.96.0.99")), service("b", ip("10.96.0.99"))}, nil, "a 10.96.0.99",
			"b: clusterIP 10.96.0.99 is that of Service/default/a: ask for another, or for none"},
		{"asked for by one that has it", v4, []runtime.Object{service("a", ip("10.96.0.99")), service("b", ip("10.96.0.99"))}, []fleet.Exposure{given("b", "10.96.0.99")}, "b 10.96.0.99",
			"a: clusterIP 10.96.0.99 is that of Service/default/b: ask for another, or for none"},
		{"given on", v4, []runtime.Object{service("a", ip("10.96.0.5")), service("b", ip("10.96.0.99"))}, []fleet.Exposure{given("a", "10.96.0.99")}, "a 10.96.0.5\nb 10.96.0.99", ""},
		{"two had one", v4, []runtime.Object{service("a"), service("b")}, []fleet.Exposure{given("b", "10.96.0.99"), given("a", "10.96.0.99")}, "a 10.96.0.99\nb " + b4, ""},
		{"another range", "10.96.0.0/16", []runtime.Object{service("a")}, []fleet.Exposure{given("a", "10.97.0.5")}, "a 10.96.198.100", ""},
		{"full", "10.96.0.0/27", crowd(15), nil, "", "last: no address is left in 10.96.0.0/27: give Services a larger range, or remove some"},
		{"too small", "10.96.0.0/28", []runtime.Object{service("a"), service("b", ip("10.96.0.3"))}, nil, "b 10.96.0.3", "a: no address is left in 10.96.0.0/28: give Services a larger range, or remove some"},
		{"no range", "", []runtime.Object{service("a")}, nil, "", "a: the fleet has no addresses for Services"},

		{"single stack", v4 + " " + v6, []runtime.Object{service("a")}, nil, "a " + a4, ""},
		{"the default family", v6 + " " + v4, []runtime.Object{service("a")}, nil, "a " + a6, ""},
		{"the family asked for", v4 + " " + v6, []runtime.Object{service("a", families("", corev1.IPv6Protocol))}, nil, "a " + a6, ""},
		{"the family of the address", v4 + " " + v6, []runtime.Object{service("a", ip("fd96::5"))}, nil, "a fd96::5", ""},
		{"both preferred", v4 + " " + v6, []runtime.Object{service("a", families(prefer))}, nil, "a " + a4 + " " + a6, ""},
		{"both, turned round", v4 + " " + v6, []runtime.Object{service("a", families(require, corev1.IPv6Protocol))}, nil, "a " + a6 + " " + a4, ""},
		{"both by families", v4 + " " + v6, []runtime.Object{service("a", families("", corev1.IPv6Protocol, corev1.IPv4Protocol))}, nil, "a " + a6 + " " + a4, ""},
		{"both asked for", v4 + " " + v6, []runtime.Object{service("a", ip("fd96::5", "10.96.0.5"))}, nil, "a fd96::5 10.96.0.5", ""},
		{"one asked for", v4 + " " + v6, []runtime.Object{service("a", families(prefer), ip("fd96::5"))}, nil, "a fd96::5 " + a4, ""},
		{"one asked for in vain", v4 + " " + v6, []runtime.Object{service("a", families(prefer), ip("fd97::5"))}, nil, "", "a: clusterIP fd97::5 " + outside},
		{"one more", v4 + " " + v6, []runtime.Object{service("a", families(prefer))}, []fleet.Exposure{given("a", "10.96.0.99")}, "a 10.96.0.99 " + a6, ""},
		{"one less", v4 + " " + v6, []runtime.Object{service("a", families(single))}, []fleet.Exposure{given("a", "10.96.0.99", "fd96::99")}, "a 10.96.0.99", ""},
		{"one asked for anew", v4 + " " + v6, []runtime.Object{service("a", families(prefer), ip("10.96.0.5"))}, []fleet.Exposure{given("a", "10.96.0.99", "fd96::99")}, "a 10.96.0.5 fd96::99", ""},
		{"one of two taken", v4 + " " + v6, []runtime.Object{service("a", ip("10.96.0.5", "fd96::5")), service("b"), service("c", ip("fd96::5"))}, []fleet.Exposure{given("b", "10.96.0.5")}, "b 10.96.0.5\nc fd96::5",
			"a: clusterIP 10.96.0.5 is that of Service/default/b: ask for another, or for none"},
		{"two had one, and asked for it", v4 + " " + v6, []runtime.Object{service("a", ip("10.96.0.5")), service("b", families(prefer), ip("10.96.0.5"))}, []fleet.Exposure{given("a", "10.96.0.5"), given("b", "10.96.0.5", "fd96::5")}, "a 10.96.0.5",
			"b: clusterIP 10.96.0.5 is that of Service/default/a: ask for another, or for none"},
		{"single, two asked for", v4 + " " + v6, []runtime.Object{service("a", families(single), ip("fd96::5", "10.96.0.5"))}, nil, "a fd96::5", ""},
		{"single, two asked for, one kept", v4 + " " + v6, []runtime.Object{service("a", ip("fd96::5")), service("b", families(single), ip("fd96::5", "10.96.0.5"))}, []fleet.Exposure{given("b", "fd96::5")}, "b fd96::5",
			"a: clusterIP fd96::5 is that of Service/default/b: ask for another, or for none"},
		{"two families, one not to be had", v4, []runtime.Object{service("a", families("", corev1.IPv4Protocol, corev1.IPv6Protocol))}, nil, "a " + a4, "a: it requires addresses of both IP families, and the fleet has only IPv4 for Services"},
		{"preferred, not to be had", v4, []runtime.Object{service("a", families(prefer))}, nil, "a " + a4, ""},
		{"required, not to be had", v4, []runtime.Object{service("a", families(require))}, nil, "a " + a4, "a: it requires addresses of both IP families, and the fleet has only IPv4 for Services"},
		{"one that is not to be had", v4, []runtime.Object{service("a", families("", corev1.IPv6Protocol))}, nil, "", "a: it wants an IPv6 address, and the fleet has none for Services"},

		{"a node port", v4, []runtime.Object{service("a", nodePort)}, nil, "a " + a4 + " TCP/80=32205", ""},
		{"a node port kept", v4, []runtime.Object{service("a", nodePort)}, []fleet.Exposure{ported("a", "10.96.0.99", 30007)}, "a 10.96.0.99 TCP/80=30007", ""},
		{"a node port that is none", v4, []runtime.Object{service("a", nodePort)}, []fleet.Exposure{ported("a", "10.96.0.99", 32768)}, "a 10.96.0.99 TCP/80=32205", ""},
		{"a node port no more", v4, []runtime.Object{service("a")}, []fleet.Exposure{ported("a", "10.96.0.99", 30007)}, "a 10.96.0.99", ""},
		{"a node port asked for", v4, []runtime.Object{service("a", asking(30007))}, []fleet.Exposure{ported("a", "10.96.0.99", 30008)}, "a 10.96.0.99 TCP/80=30007", ""},
		{"a node port taken", v4, []runtime.Object{service("a", asking(30007)), service("b", nodePort)}, []fleet.Exposure{ported("b", "10.96.0.98", 30007), given("a", "10.96.0.99")},
			"a 10.96.0.99\nb 10.96.0.98 TCP/80=30007", "a: node port 30007 is that of Service/default/b: ask for another, or for none"},
		{"asked for first", v4, []runtime.Object{service("a", nodePort), service("z", asking(32205))}, []fleet.Exposure{given("a", "10.96.0.98"), given("z", "10.96.0.99")},
			"a 10.96.0.98 TCP/80=32206\nz 10.96.0.99 TCP/80=32205", ""},
		{"a node port outside", v4, []runtime.Object{service("a", asking(80))}, nil, "a " + a4, "a: node port 80 is outside of 30000 to 32767: ask for one of those, or for none"},
		{"one of each protocol", v4, []runtime.Object{service("a", asking(30007)), service("b", asking(30007), func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP })}, nil,
			"a " + a4 + " TCP/80=30007\nb " + b4 + " UDP/80=30007", ""},
		{"a balancer without", v4, []runtime.Object{service("a", balanced, func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(bool) })}, nil, "a " + a4, noPool},
		{"a port for health checks", v4, []runtime.Object{service("a", balanced, external(corev1.ServiceExternalTrafficPolicyLocal), func(s *corev1.Service) {
			s.Spec.AllocateLoadBalancerNodePorts, s.Spec.HealthCheckNodePort = new(bool), 30009
		})}, nil, "a " + a4 + " TCP/health=30009", noPool},
		{"one that another has", v4, []runtime.Object{
			service("a", nodePort, asking(30009)),
			service("b", balanced, external(corev1.ServiceExternalTrafficPolicyLocal), func(s *corev1.Service) {
				s.Spec.AllocateLoadBalancerNodePorts, s.Spec.HealthCheckNodePort = new(bool), 30009
			}),
		}, nil, "a " + a4 + " TCP/80=30009\nb " + b4, strings.Replace(noPool, "a:", "b:", 1) + "\nb: node port 30009 is that of Service/default/a: ask for another, or for none"},
		{"a balancer that asks", v4, []runtime.Object{service("a", asking(30007), balanced, func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(bool) })}, nil, "a " + a4 + " TCP/80=30007", noPool},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings, desired := settings(strings.Fields(test.ranges)...), desiredOf(test.services...)
			got, notes := expose.Allocate(desired, test.previous, settings)
			if text := exposureText(got); test.name != "full" && text != test.want {
				t.Errorf("%s, want %s", text, test.want)
			}
			if d := cmp.Diff(test.notes, noteTexts(notes)); d != "" {
				t.Error(d)
			}
			again, twice := expose.Allocate(desired, got, settings)
			if d := cmp.Diff(got, again, addrs) + cmp.Diff(notes, twice); d != "" {
				t.Errorf("again: %s", d)
			}
		})
	}
}

// crowd is so many Services, the last of which is called last.
func crowd(n int) []runtime.Object {
	list := []runtime.Object{service("last")}
	for i := range n - 1 {
		list = append(list, service(fmt.Sprintf("a%02d", i)))
	}
	return list
}

func TestAllocateLeavesTheUnknown(t *testing.T) {
	settings, was := settings("10.96.0.0/24"), ported("a", "10.96.0.99", 30007)
	taker := service("b", ip("10.96.0.99"), asking(30007))
	for name, spoil := range map[string]func(*fleet.Desired){
		"unread": func(d *fleet.Desired) { d.Revisions = nil },
		"held":   func(d *fleet.Desired) { d.Held = map[fleet.ObjectID]string{id("a"): "broken"} },
	} {
		d := desiredOf(taker)
		spoil(&d)
		got, notes := expose.Allocate(d, []fleet.Exposure{was}, settings)
		if diff := cmp.Diff([]fleet.Exposure{was}, got, addrs); diff != "" || len(notes) != 2 {
			t.Errorf("%s: %s %v", name, diff, notes)
		}
	}
	for _, both := range [][]fleet.Exposure{{ported("x", "10.96.0.99", 30007), was}, {was, ported("x", "10.96.0.99", 30007)}} {
		_, notes := expose.Allocate(fleet.Desired{Objects: desiredOf(taker).Objects}, both, settings)
		if text := noteTexts(notes); strings.Count(text, "Service/default/a") != 2 {
			t.Error(text)
		}
	}
	if got, _ := expose.Allocate(desiredOf(taker), []fleet.Exposure{was}, settings); exposureText(got) != "b 10.96.0.99 TCP/80=30007" {
		t.Error(exposureText(got))
	}
	if got, notes := expose.Allocate(desiredOf(taker), []fleet.Exposure{was}, fleet.NetworkSettings{}); got != nil || notes != nil {
		t.Error("Services are off", got, notes)
	}
	if got := fmt.Sprint(expose.Nameservers(fleet.NetworkSettings{Addrs: append(settings.Addrs, netipPrefix("fd96::/108"), netipPrefix("10.0.0.0/30"))})); got != "[10.96.0.10 fd96::a]" {
		t.Error(got)
	}
}

func TestNodePortsRunOut(t *testing.T) {
	var list []corev1.ServicePort
	for i := range int32(2769) {
		list = append(list, corev1.ServicePort{Port: i + 1, Protocol: corev1.ProtocolTCP})
	}
	got, notes := expose.Allocate(desiredOf(service("a", nodePort, ports(list...))), nil, settings("10.96.0.0/24"))
	if len(got[0].NodePorts) != 2768 || noteTexts(notes) != "a: no node port is left for TCP/2769: remove Services that have some" {
		t.Error(len(got[0].NodePorts), noteTexts(notes))
	}
}
