package expose

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/skerry-dev/skerry/fleet"
)

// RoutesInput is what Routes needs to know.
type RoutesInput struct {
	Nodes []fleet.Node // of the fleet, in any order; those that are down, too: their pods may live
	Node  fleet.NodeName
	Mode  fleet.PodNetwork
	Port  uint16 // at which tunnels end
}

// By how much a tunnel makes a packet longer: VXLAN over IPv4, and WireGuard at most.
const (
	wrapping   = 50
	encrypting = 80
)

// plainMTU is what a link has of which nothing is known, and leastMTU what every host of IPv4 takes.
const plainMTU, leastMTU = 1500, 576

// Routes is how one node reaches the pods of the others, and its end of the tunnels, if there are any. A tunnel is chosen for a pair
// of nodes by what both of them say of themselves, and so both choose alike. A node that has no part of the pod network yet is
// passed over; the notes say of which others pods cannot be reached, and why. Routes and notes are in order.
func Routes(in RoutesInput) ([]fleet.Route, fleet.Tunnel, []fleet.Note) {
	at := slices.IndexFunc(in.Nodes, func(n fleet.Node) bool { return n.Name == in.Node })
	if at < 0 || in.Mode == fleet.PodsApart || !in.Nodes[at].Pods.IsValid() {
		return nil, fleet.Tunnel{}, nil
	}
	r := routing{own: &in.Nodes[at], mode: in.Mode}
	for i := range in.Nodes {
		n := &in.Nodes[i]
		if n.Name == in.Node || !n.Pods.IsValid() {
			continue
		}
		route, why := r.to(n)
		if why != "" {
			r.notes = append(r.notes, fleet.Note{
				About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(in.Node)}, Text: fmt.Sprintf("its pods and those of node %s do not reach each other: %s", n.Name, why),
			})
			continue
		}
		r.routes = append(r.routes, route)
	}
	slices.SortFunc(r.routes, func(a, b fleet.Route) int { return cmp.Or(a.Pods.Compare(b.Pods), cmp.Compare(a.Node, b.Node)) })
	r.dropShared(in.Node)
	slices.SortFunc(r.notes, fleet.Note.Compare)
	if !slices.ContainsFunc(r.routes, func(r fleet.Route) bool { return r.Tunnel }) {
		return r.routes, fleet.Tunnel{}, r.notes
	}
	return r.routes, fleet.Tunnel{Pods: r.own.Pods.Masked(), MTU: r.tunnelMTU(in.Nodes), Port: in.Port, WireGuard: r.encrypts()}, r.notes
}

type routing struct {
	own    *fleet.Node
	mode   fleet.PodNetwork
	routes []fleet.Route
	notes  []fleet.Note
}

func (r *routing) encrypts() bool { return r.mode == fleet.PodsWireGuard }

// to is the route to another node, or why there is none.
func (r *routing) to(n *fleet.Node) (fleet.Route, string) {
	addr, ok := nodeAddress(n)
	own, known := nodeAddress(r.own)
	route := fleet.Route{Node: n.Name, Pods: n.Pods.Masked(), Via: addr, Tunnel: r.mode == fleet.PodsVXLAN || r.encrypts()}
	if r.encrypts() {
		route.Key = n.Key
	}
	near := ok && known && r.own.Uplink.Net.Contains(addr) && n.Uplink.Net.Contains(own)
	switch {
	case !known:
		return route, fmt.Sprintf("this node's address %q is none of IPv4 that others could reach (node.address)", r.own.Address)
	case !ok:
		return route, fmt.Sprintf("the address %q of %s is none of IPv4 that others could reach (node.address)", n.Address, n.Name)
	case addr == own:
		return route, fmt.Sprintf("both say that their address is %s (node.address)", addr)
	case route.Pods.Overlaps(r.own.Pods):
		return route, fmt.Sprintf("both have %s of the pod network, until one of them gets another part", route.Pods)
	case r.encrypts() && r.own.Key == fleet.PublicKey{}:
		return route, "network.podNetwork is wireguard, and this node has not told the others its key yet"
	case r.encrypts() && n.Key == fleet.PublicKey{}:
		return route, fmt.Sprintf("network.podNetwork is wireguard, and node %s has not told its key yet: is its Skerry older than this node's?", n.Name)
	case r.encrypts() && n.Key == r.own.Key:
		return route, "both have one key of WireGuard: one is a copy of the other, and has to leave the fleet and join it again"
	case r.mode == fleet.PodsRouted && !near:
		return route, fmt.Sprintf("network.podNetwork is host-gw, and %s and %s are not on one link: vxlan or auto leads there", own, addr)
	case r.mode != fleet.PodsRouted && !near:
		route.Tunnel = true
	}
	return route, ""
}

// nodeAddress is where a node is reached by others.
func nodeAddress(n *fleet.Node) (netip.Addr, bool) {
	a, err := netip.ParseAddr(n.Address)
	a = a.Unmap()
	return a, err == nil && a.Is4() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast()
}

// dropShared leaves of routes to the same pods the first: two nodes have one part for as long as it takes to give one of them another.
func (r *routing) dropShared(name fleet.NodeName) {
	kept := r.routes[:0]
	for _, route := range r.routes {
		if len(kept) > 0 && kept[len(kept)-1].Pods.Overlaps(route.Pods) {
			r.notes = append(r.notes, fleet.Note{
				About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(name)},
				Text:  fmt.Sprintf("its pods and those of node %s do not reach each other: node %s has %s of the pod network, too", route.Node, kept[len(kept)-1].Node, route.Pods),
			})
			continue
		}
		kept = append(kept, route)
	}
	r.routes = kept
}

// tunnelMTU is what fits through every tunnel.
func (r *routing) tunnelMTU(nodes []fleet.Node) int {
	least := 0
	for i := range nodes {
		if m := nodes[i].Uplink.MTU; m > 0 && (least == 0 || m < least) {
			least = m
		}
	}
	if least == 0 {
		least = plainMTU
	}
	if r.encrypts() {
		return max(least-encrypting, leastMTU)
	}
	return max(least-wrapping, leastMTU)
}
