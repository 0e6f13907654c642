package expose_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// TestBalancers gives addresses of pools. Lines are services with what they got, then notes.
func TestBalancers(t *testing.T) {
	asks := func(addr string) edit { return func(s *corev1.Service) { s.Spec.LoadBalancerIP = addr } }
	class := func(name string) edit { return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &name } }
	pooled := func(name string) edit {
		return func(s *corev1.Service) { s.Annotations = map[string]string{"skerry.dev/pool": name} }
	}
	sharing := func(word string, port int32) edit {
		return func(s *corev1.Service) {
			s.Annotations = map[string]string{"skerry.dev/shared-address": word}
			s.Spec.Ports[0].Port = port
		}
	}
	local := func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy, s.Spec.Selector = corev1.ServiceExternalTrafficPolicyLocal, map[string]string{"app": "other"}
	}
	had := func(name string, addrs ...string) fleet.Exposure {
		e := given(name)
		for _, a := range addrs {
			e.Balancers = append(e.Balancers, netip.MustParseAddr(a))
		}
		return e
	}
	pool := func(name string, cidrs ...string) fleet.AddressPool {
		p := fleet.AddressPool{Name: name}
		for _, c := range cidrs {
			p.Addrs = append(p.Addrs, netip.MustParsePrefix(c))
		}
		return p
	}
	one, two := pool("one", "192.0.2.1/32"), pool("two", "198.51.100.8/31", "fd01::/126")
	private := two
	private.Namespaces = []string{"other"}
	for _, test := range []struct {
		name     string
		pools    []fleet.AddressPool
		services []*corev1.Service
		before   []fleet.Exposure
		want     string
	}{
		{"none of another type", []fleet.AddressPool{one}, []*corev1.Service{service("a", nodePort)}, nil, "a"},
		{"no pools", nil, []*corev1.Service{service("a", balanced)}, nil, "a\na: no address is left for it in network.loadBalancerPools: until there is one it is reached at its node ports"},
		{"the first pool first, then the next", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced), service("b", balanced)}, nil, "a 192.0.2.1\nb 198.51.100.8"},
		{"all are taken", []fleet.AddressPool{one}, []*corev1.Service{service("a", balanced), service("b", balanced)}, nil,
			"a 192.0.2.1\nb\nb: no address is left for it in network.loadBalancerPools: until there is one it is reached at its node ports"},
		{"what it had", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced), service("b", balanced)}, []fleet.Exposure{had("b", "192.0.2.1")}, "a 198.51.100.9\nb 192.0.2.1"},
		{"what it had is in no pool any more", []fleet.AddressPool{two}, []*corev1.Service{service("a", balanced)}, []fleet.Exposure{had("a", "192.0.2.1")}, "a 198.51.100.9"},
		{"what it asks for", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced, asks("198.51.100.8"))}, []fleet.Exposure{had("a", "192.0.2.1")}, "a 198.51.100.8"},
		{"what another has", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced, asks("192.0.2.1")), service("b", balanced)}, []fleet.Exposure{had("b", "192.0.2.1")},
			"a\nb 192.0.2.1\na: loadBalancerIP 192.0.2.1 is that of Service/default/b: ask for another, or for none, or have both share it (skerry.dev/shared-address) with different ports"},
		{"shared", []fleet.AddressPool{one}, []*corev1.Service{service("a", balanced, sharing("x", 80)), service("b", balanced, sharing("x", 443))}, nil, "a 192.0.2.1\nb 192.0.2.1"},
		{"shared with what has it", []fleet.AddressPool{two, one}, []*corev1.Service{service("a", balanced, sharing("x", 80)), service("b", balanced, sharing("x", 443))},
			[]fleet.Exposure{had("b", "192.0.2.1")}, "a 192.0.2.1\nb 192.0.2.1"},
		{"shared by another word", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced, sharing("x", 80)), service("b", balanced, sharing("y", 443))}, nil, "a 192.0.2.1\nb 198.51.100.8"},
		{"shared, and of one port", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced, sharing("x", 80)), service("b", balanced, sharing("x", 80))}, nil, "a 192.0.2.1\nb 198.51.100.8"},
		{"shared, and of pods that are not the same", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced, sharing("x", 80), local), service("b", balanced, sharing("x", 443))}, nil,
			"a 192.0.2.1\nb 198.51.100.8"},
		{"shared no more", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced), service("b", balanced, sharing("x", 443))},
			[]fleet.Exposure{had("a", "192.0.2.1"), had("b", "192.0.2.1")}, "a 192.0.2.1\nb 198.51.100.8"},
		{"what is in no pool", []fleet.AddressPool{one}, []*corev1.Service{service("a", balanced, asks("203.0.113.1"))}, nil,
			"a\na: loadBalancerIP 203.0.113.1 is in no pool of network.loadBalancerPools that it may have one of"},
		{"what is none", []fleet.AddressPool{one}, []*corev1.Service{service("a", balanced, asks("x"))}, nil, "a\na: loadBalancerIP \"x\" is no address"},
		{"a pool by name", []fleet.AddressPool{one, two}, []*corev1.Service{service("a", balanced, pooled("two"))}, nil, "a 198.51.100.9"},
		{"a pool of other namespaces", []fleet.AddressPool{private, one}, []*corev1.Service{service("a", balanced)}, nil, "a 192.0.2.1"},
		{"somebody else's class", []fleet.AddressPool{one}, []*corev1.Service{service("a", balanced, class("example.com/x"))}, nil, "a"},
		{"our class", []fleet.AddressPool{one}, []*corev1.Service{service("a", balanced, class("skerry.dev/address"))}, nil, "a 192.0.2.1"},
		{"of both families", []fleet.AddressPool{two}, []*corev1.Service{service("a", balanced, families(corev1.IPFamilyPolicyPreferDualStack))}, nil, "a 198.51.100.9 fd01::3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d fleet.Desired
			for _, s := range test.services {
				d.Objects = append(d.Objects, desiredOf(s).Objects...)
			}
			set := settings("10.96.0.0/24", "fd96::/120")
			set.Pools = test.pools
			got, notes := expose.Allocate(d, test.before, set)
			again, _ := expose.Allocate(d, got, set)
			if !slices.EqualFunc(got, again, func(a, b fleet.Exposure) bool { return slices.Equal(a.Balancers, b.Balancers) }) {
				t.Errorf("allocating again: %v, then %v", got, again)
			}
			var lines []string
			for _, e := range got {
				line := e.ID.Name
				for _, a := range e.Balancers {
					line += " " + a.String()
				}
				lines = append(lines, line)
			}
			if notes := noteTexts(notes); notes != "" {
				lines = append(lines, notes)
			}
			if got := strings.Join(lines, "\n"); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestUnreadKeepsBalancers: of a Service of which nothing is known the address is nobody else's.
func TestUnreadKeepsBalancers(t *testing.T) {
	set := settings("10.96.0.0/24")
	set.Pools = []fleet.AddressPool{{Name: "one", Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}}
	before := given("gone")
	before.Source, before.Balancers = "unread", []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	got, _ := expose.Allocate(desiredOf(service("a", balanced)), []fleet.Exposure{before}, set)
	for _, e := range got {
		if (e.ID.Name == "gone") != (len(e.Balancers) == 1) {
			t.Errorf("%v", e)
		}
	}
}
