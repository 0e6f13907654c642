package expose_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// rolled is a node of a roll, by what is on its link.
func rolled(name, address, net string, mtu int, pods string) fleet.Node {
	n := fleet.Node{Name: fleet.NodeName(name), Address: address, Uplink: fleet.Uplink{MTU: mtu}}
	if net != "" {
		n.Uplink.Net = netip.MustParsePrefix(net)
	}
	if pods != "" {
		n.Pods = netip.MustParsePrefix(pods)
	}
	return n
}

func routesText(routes []fleet.Route, tunnel fleet.Tunnel) string {
	var lines []string
	for _, r := range routes {
		line := fmt.Sprintf("%s %s by %s", r.Node, r.Pods, r.Via)
		if r.Tunnel {
			line += " in a tunnel"
		}
		if r.Key != (fleet.PublicKey{}) {
			line += fmt.Sprintf(" by key %d", r.Key[0])
		}
		lines = append(lines, line)
	}
	if tunnel != (fleet.Tunnel{}) {
		kind := "tunnel"
		if tunnel.WireGuard {
			kind = "WireGuard"
		}
		lines = append(lines, fmt.Sprintf("%s of %s, %d bytes, port %d", kind, tunnel.Pods, tunnel.MTU, tunnel.Port))
	}
	return strings.Join(lines, "\n")
}

func TestRoutes(t *testing.T) {
	a := rolled("a", "10.0.0.11", "10.0.0.0/24", 1500, "10.42.0.0/24")
	b := rolled("b", "10.0.0.12", "10.0.0.0/24", 9000, "10.42.1.0/24")
	far := rolled("far", "192.0.2.1", "192.0.2.0/24", 1450, "10.42.2.0/24")
	down := rolled("down", "10.0.0.13", "10.0.0.0/24", 1500, "10.42.3.0/24")
	down.Down = "nothing is heard of its agent"
	with := func(n fleet.Node, edit func(*fleet.Node)) fleet.Node {
		edit(&n)
		return n
	}
	keyed := func(n fleet.Node, key byte) fleet.Node {
		n.Key = fleet.PublicKey{key}
		return n
	}
	address := func(text string) func(*fleet.Node) { return func(n *fleet.Node) { n.Address = text } }
	uplink := func(net string) func(*fleet.Node) {
		return func(n *fleet.Node) { n.Uplink.Net = netip.MustParsePrefix(net) }
	}
	for _, test := range []struct {
		name  string
		mode  fleet.PodNetwork
		nodes []fleet.Node
		want  string
		notes []string
	}{
		{"alone", fleet.PodsAuto, []fleet.Node{a}, "", nil},
		{"not on the roll", fleet.PodsAuto, []fleet.Node{b, far}, "", nil},
		{"without a part of its own", fleet.PodsAuto, []fleet.Node{with(a, func(n *fleet.Node) { n.Pods = netip.Prefix{} }), b}, "", nil},
		{"none", fleet.PodsApart, []fleet.Node{a, b, far}, "", nil},
		{"on one link", fleet.PodsAuto, []fleet.Node{down, a, b}, "b 10.42.1.0/24 by 10.0.0.12\ndown 10.42.3.0/24 by 10.0.0.13", nil},
		{"each pair by itself", "", []fleet.Node{far, b, a}, "b 10.42.1.0/24 by 10.0.0.12\nfar 10.42.2.0/24 by 192.0.2.1 in a tunnel\ntunnel of 10.42.0.0/24, 1400 bytes, port 4789", nil},
		{"tunnels alone", fleet.PodsVXLAN, []fleet.Node{a, b}, "b 10.42.1.0/24 by 10.0.0.12 in a tunnel\ntunnel of 10.42.0.0/24, 1450 bytes, port 4789", nil},
		{"plain routes alone", fleet.PodsRouted, []fleet.Node{a, b, far}, "b 10.42.1.0/24 by 10.0.0.12", []string{"node far do not reach each other: network.podNetwork is host-gw, and 10.0.0.11 and 192.0.2.1 are not on one link"}},
		{"only one of them sees the other", fleet.PodsAuto, []fleet.Node{a, with(b, uplink("10.0.0.12/32"))}, "b 10.42.1.0/24 by 10.0.0.12 in a tunnel\ntunnel of 10.42.0.0/24, 1450 bytes, port 4789", nil},
		{"only the other sees it", fleet.PodsAuto, []fleet.Node{with(a, uplink("10.0.0.11/32")), b}, "b 10.42.1.0/24 by 10.0.0.12 in a tunnel\ntunnel of 10.42.0.0/24, 1450 bytes, port 4789", nil},
		{"a node that says nothing of its link", fleet.PodsAuto, []fleet.Node{a, with(far, func(n *fleet.Node) { n.Uplink = fleet.Uplink{} })}, "far 10.42.2.0/24 by 192.0.2.1 in a tunnel\ntunnel of 10.42.0.0/24, 1450 bytes, port 4789", nil},
		{"nobody says anything", fleet.PodsAuto, []fleet.Node{rolled("a", "10.0.0.11", "", 0, "10.42.0.0/24"), rolled("b", "10.0.0.12", "", 0, "10.42.1.0/24")}, "b 10.42.1.0/24 by 10.0.0.12 in a tunnel\ntunnel of 10.42.0.0/24, 1450 bytes, port 4789", nil},
		{"a narrow link", fleet.PodsVXLAN, []fleet.Node{a, with(b, func(n *fleet.Node) { n.Uplink.MTU = 1280 })}, "b 10.42.1.0/24 by 10.0.0.12 in a tunnel\ntunnel of 10.42.0.0/24, 1230 bytes, port 4789", nil},
		{"a node that joins", fleet.PodsAuto, []fleet.Node{a, with(b, func(n *fleet.Node) { n.Pods = netip.Prefix{} })}, "", nil},
		{"a node at no address", fleet.PodsAuto, []fleet.Node{a, with(b, address("127.0.0.1")), far}, "far 10.42.2.0/24 by 192.0.2.1 in a tunnel\ntunnel of 10.42.0.0/24, 1400 bytes, port 4789", []string{`node b do not reach each other: the address "127.0.0.1" of b is none of IPv4`}},
		{"a node of IPv6", fleet.PodsAuto, []fleet.Node{a, with(b, address("fd00::1"))}, "", []string{`the address "fd00::1" of b`}},
		{"itself at no address", fleet.PodsAuto, []fleet.Node{with(a, address("")), b}, "", []string{`node b do not reach each other: this node's address "" is none`}},
		{"one address", fleet.PodsAuto, []fleet.Node{a, with(b, address("10.0.0.11"))}, "", []string{"both say that their address is 10.0.0.11"}},
		{"one part of two", fleet.PodsAuto, []fleet.Node{a, with(b, func(n *fleet.Node) { n.Pods = a.Pods })}, "", []string{"both have 10.42.0.0/24 of the pod network"}},
		{"keys that nobody asks for", fleet.PodsAuto, []fleet.Node{keyed(a, 1), keyed(b, 2), keyed(far, 3)}, "b 10.42.1.0/24 by 10.0.0.12\nfar 10.42.2.0/24 by 192.0.2.1 in a tunnel\ntunnel of 10.42.0.0/24, 1400 bytes, port 4789", nil},
		{"encrypted", fleet.PodsWireGuard, []fleet.Node{keyed(far, 3), keyed(a, 1), keyed(b, 2)}, "b 10.42.1.0/24 by 10.0.0.12 in a tunnel by key 2\nfar 10.42.2.0/24 by 192.0.2.1 in a tunnel by key 3\nWireGuard of 10.42.0.0/24, 1370 bytes, port 4789", nil},
		{"encrypted on a narrow link", fleet.PodsWireGuard, []fleet.Node{keyed(a, 1), keyed(with(b, func(n *fleet.Node) { n.Uplink.MTU = 600 }), 2)}, "b 10.42.1.0/24 by 10.0.0.12 in a tunnel by key 2\nWireGuard of 10.42.0.0/24, 576 bytes, port 4789", nil},
		{"encrypted, nobody says anything of links", fleet.PodsWireGuard, []fleet.Node{keyed(rolled("a", "10.0.0.11", "", 0, "10.42.0.0/24"), 1), keyed(rolled("b", "10.0.0.12", "", 0, "10.42.1.0/24"), 2)}, "b 10.42.1.0/24 by 10.0.0.12 in a tunnel by key 2\nWireGuard of 10.42.0.0/24, 1420 bytes, port 4789", nil},
		{"a node without a key", fleet.PodsWireGuard, []fleet.Node{keyed(a, 1), b, keyed(down, 4)}, "down 10.42.3.0/24 by 10.0.0.13 in a tunnel by key 4\nWireGuard of 10.42.0.0/24, 1420 bytes, port 4789", []string{"node b do not reach each other: network.podNetwork is wireguard, and node b has not told its key yet"}},
		{"itself without a key", fleet.PodsWireGuard, []fleet.Node{a, keyed(b, 2)}, "", []string{"network.podNetwork is wireguard, and this node has not told the others its key yet"}},
		{"one key of two", fleet.PodsWireGuard, []fleet.Node{keyed(a, 1), keyed(b, 1)}, "", []string{"both have one key of WireGuard"}},
		{"one part of two others", fleet.PodsAuto, []fleet.Node{a, b, with(down, func(n *fleet.Node) { n.Pods = b.Pods })}, "b 10.42.1.0/24 by 10.0.0.12", []string{"node down do not reach each other: node b has 10.42.1.0/24"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			routes, tunnel, notes := expose.Routes(expose.RoutesInput{Nodes: test.nodes, Node: "a", Mode: test.mode, Port: 4789})
			if diff := cmp.Diff(test.want, routesText(routes, tunnel)); diff != "" {
				t.Error(diff)
			}
			if len(notes) != len(test.notes) {
				t.Fatalf("notes are %v, want %q", notes, test.notes)
			}
			for i, n := range notes {
				if n.About != (fleet.ObjectID{Kind: fleet.KindNode, Name: "a"}) || !strings.Contains(n.Text, test.notes[i]) {
					t.Errorf("%v; want %q", n, test.notes[i])
				}
			}
		})
	}
}

// TestRoutesAlways holds routes of drawn fleets to what must always be true.
func TestRoutesAlways(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []fleet.Node
		for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
			lan := rapid.IntRange(0, 2).Draw(t, "lan")
			n := rolled(fmt.Sprintf("n%d", i), fmt.Sprintf("10.0.%d.%d", lan, i), fmt.Sprintf("10.0.%d.0/24", lan), rapid.SampledFrom([]int{0, 1280, 1420, 1500, 9000}).Draw(t, "mtu"), fmt.Sprintf("10.42.%d.0/24", rapid.IntRange(0, 8).Draw(t, "part")))
			switch rapid.IntRange(0, 9).Draw(t, "odd") {
			case 0:
				n.Pods = netip.Prefix{}
			case 1:
				n.Address = rapid.SampledFrom([]string{"", "::1", "fd00::1", "127.0.0.1", "10.0.0.0"}).Draw(t, "address")
			case 2:
				n.Uplink = fleet.Uplink{}
			case 3:
				n.Down = "down"
			}
			if rapid.IntRange(0, 9).Draw(t, "keyless") > 0 {
				n.Key = fleet.PublicKey{byte(i + 1)}
			}
			nodes = append(nodes, n)
		}
		mode := rapid.SampledFrom([]fleet.PodNetwork{"", fleet.PodsAuto, fleet.PodsApart, fleet.PodsRouted, fleet.PodsVXLAN, fleet.PodsWireGuard}).Draw(t, "mode")
		type pair struct{ from, to fleet.NodeName }
		all, ends := map[pair]fleet.Route{}, map[fleet.NodeName]fleet.Tunnel{}
		for _, n := range nodes {
			in := expose.RoutesInput{Nodes: nodes, Node: n.Name, Mode: mode, Port: 4789}
			routes, tunnel, notes := expose.Routes(in)
			in.Nodes = shuffled(t, nodes)
			again, againTunnel, againNotes := expose.Routes(in)
			if diff := cmp.Diff([]any{routes, tunnel, notes}, []any{again, againTunnel, againNotes}, addrs); diff != "" {
				t.Fatalf("the order matters:\n%s", diff)
			}
			if mode == fleet.PodsApart && len(routes) > 0 {
				t.Fatalf("%v", routes)
			}
			wraps := false
			for i, r := range routes {
				if r.Node == n.Name || r.Pods.Overlaps(n.Pods) || r.Via.String() == n.Address {
					t.Fatalf("%s has a route to itself: %v", n.Name, r)
				}
				if i > 0 && (routes[i-1].Pods.Compare(r.Pods) >= 0 || routes[i-1].Pods.Overlaps(r.Pods)) {
					t.Fatalf("%v", routes)
				}
				if mode == fleet.PodsRouted && r.Tunnel || (mode == fleet.PodsVXLAN || mode == fleet.PodsWireGuard) && !r.Tunnel || (mode == fleet.PodsWireGuard) != (r.Key != fleet.PublicKey{}) {
					t.Fatalf("%s: %v", mode, r)
				}
				wraps = wraps || r.Tunnel
				all[pair{n.Name, r.Node}] = r
			}
			if wraps != (tunnel != fleet.Tunnel{}) || wraps && (tunnel.Pods != n.Pods || tunnel.WireGuard != (mode == fleet.PodsWireGuard)) {
				t.Fatalf("%v with the tunnel %v", routes, tunnel)
			}
			ends[n.Name] = tunnel
		}
		for p, r := range all {
			back, ok := all[pair{p.to, p.from}]
			if ok && back.Tunnel != r.Tunnel {
				t.Fatalf("%s and %s do not agree: %v, %v", p.from, p.to, r, back)
			}
			if ok && r.Tunnel && ends[p.from].MTU != ends[p.to].MTU {
				t.Fatalf("tunnels of %s and %s are not of one size: %v", p.from, p.to, ends)
			}
		}
	})
}
