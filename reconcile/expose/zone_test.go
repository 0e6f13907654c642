package expose_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// zoneText is a zone's records, without what all names end in.
func zoneText(z fleet.Zone) string {
	short := func(name string) string { return strings.TrimSuffix(name, ".default.svc.cluster.local") }
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(z.Addresses)) {
		for _, a := range z.Addresses[name] {
			lines = append(lines, short(name)+" A "+a.String())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(z.Services)) {
		for _, s := range z.Services[name] {
			lines = append(lines, fmt.Sprintf("%s SRV %d %s", short(name), s.Port, short(s.Target)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(z.Aliases)) {
		lines = append(lines, short(name)+" CNAME "+z.Aliases[name])
	}
	for _, a := range slices.SortedFunc(maps.Keys(z.Names), netip.Addr.Compare) {
		lines = append(lines, a.String()+" PTR "+short(z.Names[a]))
	}
	return strings.Join(lines, "\n")
}

func lines(list ...string) string { return strings.Join(list, "\n") }

func TestZone(t *testing.T) {
	web := ports(port("web", 80, "http", corev1.ProtocolTCP), port("", 81, "1", ""), port("dns", 53, "53", corev1.ProtocolUDP))
	for _, test := range []struct {
		name      string
		services  []*corev1.Service
		exposures []fleet.Exposure
		pods      []expose.Pod
		want      string
	}{
		{"nothing", nil, []fleet.Exposure{given("a", "10.96.0.20")}, nil, ""},
		{"no address", []*corev1.Service{service("a")}, nil, []expose.Pod{pod("p", "a", "10.0.0.1")}, ""},
		{"an address, though nobody serves", []*corev1.Service{service("a")}, []fleet.Exposure{given("a", "10.96.0.20")}, nil, lines("a A 10.96.0.20", "10.96.0.20 PTR a")},
		{"two families", []*corev1.Service{service("a")}, []fleet.Exposure{given("a", "fd96::20", "10.96.0.20")}, nil,
			lines("a A 10.96.0.20", "a A fd96::20", "10.96.0.20 PTR a", "fd96::20 PTR a")},
		{"named ports", []*corev1.Service{service("a", web)}, []fleet.Exposure{given("a", "10.96.0.20")}, []expose.Pod{pod("p", "a", "10.0.0.1")},
			lines("a A 10.96.0.20", "_dns._udp.a SRV 53 a", "_web._tcp.a SRV 80 a", "10.96.0.20 PTR a")},
		{"an alias", []*corev1.Service{service("a", alias("DB.Example.org.")), service("b", alias("192.0.2.1"))}, nil, nil, "a CNAME db.example.org"},
		{"headless", []*corev1.Service{service("a", headless)}, nil,
			[]expose.Pod{pod("p", "a", "10.0.0.2 fd00::2"), pod("q", "a", "10.0.0.1"), pod("r", "a", "10.0.0.3", sick), pod("s", "a", "10.0.0.4", draining)},
			lines("10-0-0-1.a A 10.0.0.1", "10-0-0-2.a A 10.0.0.2", "a A 10.0.0.1", "a A 10.0.0.2", "a A fd00::2", "fd00--2.a A fd00::2",
				"10.0.0.1 PTR 10-0-0-1.a", "10.0.0.2 PTR 10-0-0-2.a", "fd00::2 PTR fd00--2.a")},
		{"headless, nobody ready", []*corev1.Service{service("a", headless)}, nil, []expose.Pod{pod("p", "a", "10.0.0.2", sick), pod("q", "a", "10.0.0.1", draining)}, ""},
		{"headless, ports", []*corev1.Service{service("a", headless, web)}, nil, []expose.Pod{pod("p", "a", "10.0.0.1", host("db-0", "a")), pod("q", "a", "10.0.0.2", host("db-1", "a"))},
			lines("a A 10.0.0.1", "a A 10.0.0.2", "db-0.a A 10.0.0.1", "db-1.a A 10.0.0.2", "_dns._udp.a SRV 53 db-0.a", "_dns._udp.a SRV 53 db-1.a",
				"_web._tcp.a SRV 9000 db-0.a", "_web._tcp.a SRV 9000 db-1.a", "10.0.0.1 PTR db-0.a", "10.0.0.2 PTR db-1.a")},
		{"a hostname that is not ready", []*corev1.Service{service("a", headless)}, nil, []expose.Pod{pod("p", "a", "10.0.0.1", host("db-0", "a"), sick)}, ""},
		{"a hostname published before ready", []*corev1.Service{service("a", headless, unready, ports())}, nil, []expose.Pod{pod("p", "a", "10.0.0.1", host("DB-0", "a"), sick)},
			lines("a A 10.0.0.1", "db-0.a A 10.0.0.1", "10.0.0.1 PTR db-0.a")},
		{"a hostname of a Service with an address", []*corev1.Service{service("a")}, []fleet.Exposure{given("a", "10.96.0.20")}, []expose.Pod{pod("p", "a", "10.0.0.1", host("db-0", "a"))},
			lines("a A 10.96.0.20", "10.96.0.20 PTR a")},
		{"a subdomain of another", []*corev1.Service{service("a", headless), service("b", headless, func(s *corev1.Service) { s.Spec.Selector["app"] = "a" })}, nil, []expose.Pod{pod("p", "a", "10.0.0.1", host("db-0", "b"))},
			lines("10-0-0-1.a A 10.0.0.1", "a A 10.0.0.1", "b A 10.0.0.1", "db-0.b A 10.0.0.1", "10.0.0.1 PTR db-0.b")},
		{"one hostname, two pods", []*corev1.Service{service("a", headless)}, nil, []expose.Pod{pod("p", "a", "10.0.0.2", host("h", "a")), pod("q", "a", "10.0.0.1", host("h", "a"))},
			lines("a A 10.0.0.1", "a A 10.0.0.2", "h.a A 10.0.0.1", "h.a A 10.0.0.2", "10.0.0.1 PTR h.a", "10.0.0.2 PTR h.a")},
		{"headless pods on a host, twice", []*corev1.Service{service("a", headless, ports(port("web", 80, "80", "")))}, nil, []expose.Pod{pod("p", "a", "10.0.0.1"), pod("q", "a", "10.0.0.1")},
			lines("10-0-0-1.a A 10.0.0.1", "a A 10.0.0.1", "_web._tcp.a SRV 80 10-0-0-1.a", "10.0.0.1 PTR 10-0-0-1.a")},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d fleet.Desired
			for _, s := range test.services {
				d.Objects = append(d.Objects, desiredOf(s).Objects...)
			}
			z := expose.ZoneOf(d, test.exposures, expose.Backends(d, test.pods), "Cluster.Local.")
			if diff := cmp.Diff(test.want, zoneText(z)); diff != "" {
				t.Error(diff)
			}
			if z.Domain != "cluster.local" {
				t.Error(z.Domain)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	multi := ports(port("web", 80, "1", ""), port("x-y", 53, "1", corev1.ProtocolUDP))
	for _, test := range []struct {
		name      string
		services  []*corev1.Service
		exposures []fleet.Exposure
		want      string
	}{
		{"one port", []*corev1.Service{service("redis-primary")}, []fleet.Exposure{given("redis-primary", "10.0.0.11", "fd00::11")}, lines(
			"REDIS_PRIMARY_SERVICE_HOST=10.0.0.11", "REDIS_PRIMARY_SERVICE_PORT=80", "REDIS_PRIMARY_PORT=tcp://10.0.0.11:80", "REDIS_PRIMARY_PORT_80_TCP=tcp://10.0.0.11:80",
			"REDIS_PRIMARY_PORT_80_TCP_PROTO=tcp", "REDIS_PRIMARY_PORT_80_TCP_PORT=80", "REDIS_PRIMARY_PORT_80_TCP_ADDR=10.0.0.11")},
		{"two ports, IPv6, a digit", []*corev1.Service{service("8a", multi)}, []fleet.Exposure{given("8a", "fd00::1")}, lines(
			"_8A_SERVICE_HOST=fd00::1", "_8A_SERVICE_PORT=80", "_8A_SERVICE_PORT_WEB=80", "_8A_SERVICE_PORT_X_Y=53", "_8A_PORT=tcp://[fd00::1]:80",
			"_8A_PORT_80_TCP=tcp://[fd00::1]:80", "_8A_PORT_80_TCP_PROTO=tcp", "_8A_PORT_80_TCP_PORT=80", "_8A_PORT_80_TCP_ADDR=fd00::1",
			"_8A_PORT_53_UDP=udp://[fd00::1]:53", "_8A_PORT_53_UDP_PROTO=udp", "_8A_PORT_53_UDP_PORT=53", "_8A_PORT_53_UDP_ADDR=fd00::1")},
		{"without", []*corev1.Service{service("a", headless), service("b", alias("x")), service("c"), service("d", ports()), service("e", func(s *corev1.Service) { s.Namespace = "kube" })},
			[]fleet.Exposure{given("a", "10.0.0.1"), given("b", "10.0.0.2"), given("d", "10.0.0.3")}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d fleet.Desired
			for _, s := range test.services {
				d.Objects = append(d.Objects, desiredOf(s).Objects...)
			}
			var got []string
			for _, v := range expose.Variables(d, test.exposures, "default") {
				got = append(got, v.Name+"="+v.Value)
			}
			if diff := cmp.Diff(test.want, lines(got...)); diff != "" {
				t.Error(diff)
			}
		})
	}
	// In Kubernetes it is chance which one it is.
	list := expose.Variables(desiredOf(service("a"), service("a-service")), []fleet.Exposure{given("a-service", "10.0.0.2"), given("a", "10.0.0.1")}, "default")
	at := slices.IndexFunc(list, func(v corev1.EnvVar) bool { return v.Name == "A_SERVICE_PORT" })
	if list[at].Value != "80" || slices.ContainsFunc(list[at+1:], func(v corev1.EnvVar) bool { return v.Name == "A_SERVICE_PORT" }) {
		t.Error(list)
	}
}
