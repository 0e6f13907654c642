package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/fleet"
)

// RouteProtocol is by whom routes to pods of other nodes say that they were made: what does not say so is not ours.
const RouteProtocol netlink.RouteProtocol = 83

// lay makes the machine's routes to pods of other nodes those that are wanted, with the tunnel that some of them need, and takes away
// all others of ours. A route of somebody else is never replaced: what it leads to is left to it, and the error says so.
func (w *WireGuard) lay(want []fleet.Route, tunnel fleet.Tunnel) error {
	peers := slices.DeleteFunc(slices.Clone(want), func(r fleet.Route) bool { return !r.Tunnel })
	var device netlink.Link
	var errs []error
	if len(peers) > 0 {
		name, make := tunnelName, makeTunnel
		if tunnel.WireGuard {
			name, make = wireguardName, w.make
		}
		var err error
		if device, err = make(tunnel, peers); err != nil {
			errs = append(errs, fmt.Errorf("make the tunnel %s: %w", name, err))
		}
	}
	all, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("list routes: %w", err))...)
	}
	foreign := slices.DeleteFunc(slices.Clone(all), func(r netlink.Route) bool { return r.Protocol == RouteProtocol })
	missing := map[netip.Prefix]netlink.Route{}
	for _, r := range want {
		next, err := asRoute(r, device, foreign)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("pods of node %s are not reached: %w", r.Node, err))
		case r.Tunnel && device == nil: // it was said why
		default:
			missing[r.Pods] = next
		}
	}
	for i := range all {
		is := &all[i]
		if is.Protocol != RouteProtocol {
			continue
		}
		to, _ := routed(is)
		next, wanted := missing[to]
		switch {
		case wanted && sameWay(is, &next):
			delete(missing, to)
		case wanted: // it is replaced in one go
		default:
			if err := netlink.RouteDel(is); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("take away the route to %s: %w", to, err))
			}
		}
	}
	for _, r := range want {
		if next, is := missing[r.Pods]; is {
			if err := netlink.RouteReplace(&next); err != nil {
				errs = append(errs, fmt.Errorf("pods of node %s are not reached: route %s by %s: %w", r.Node, r.Pods, r.Via, err))
			}
		}
	}
	// When nothing leads through it any more.
	if len(peers) == 0 || tunnel.WireGuard {
		errs = append(errs, removeTunnel())
	}
	if len(peers) == 0 || !tunnel.WireGuard {
		errs = append(errs, w.remove())
	}
	return errors.Join(errs...)
}

// routed is where a route leads; the zero Prefix for one that leads to all there is.
func routed(r *netlink.Route) (to netip.Prefix, bounded bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok && bits > 0
}

// asRoute is a route as the kernel has it. Foreign are those that somebody else has made.
func asRoute(r fleet.Route, device netlink.Link, foreign []netlink.Route) (netlink.Route, error) {
	for i := range foreign {
		if to, bounded := routed(&foreign[i]); bounded && r.Pods.Bits() <= to.Bits() && to.Overlaps(r.Pods) { // one to more is no hindrance
			return netlink.Route{}, fmt.Errorf("%s is in the way of the machine's route to %s%s", r.Pods, to, through(foreign[i].LinkIndex))
		}
	}
	way := netlink.Route{
		Dst: &net.IPNet{IP: r.Pods.Addr().AsSlice(), Mask: net.CIDRMask(r.Pods.Bits(), r.Pods.Addr().BitLen())}, Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
	switch {
	case r.Tunnel && device == nil:
		return way, nil
	case r.Tunnel && r.Key != fleet.PublicKey{}: // whose pods they are, WireGuard knows by itself
		way.LinkIndex, way.Scope = device.Attrs().Index, netlink.SCOPE_LINK
		return way, nil
	case r.Tunnel:
		way.LinkIndex, way.Gw, way.Flags = device.Attrs().Index, r.Pods.Addr().AsSlice(), int(netlink.FLAG_ONLINK)
		return way, nil
	}
	link := linkOf(r.Via, foreign)
	if link == 0 {
		return netlink.Route{}, fmt.Errorf("no link of this machine has %s for a neighbour", r.Via)
	}
	way.LinkIndex, way.Gw = link, r.Via.AsSlice()
	return way, nil
}

// linkOf is the link on which a neighbour is; 0 where there is none.
func linkOf(neighbour netip.Addr, routes []netlink.Route) int {
	best, link := netip.Prefix{}, 0
	metric := 0
	for i := range routes {
		r := &routes[i]
		to, ok := routed(r)
		if !ok || r.Gw != nil || r.Via != nil || len(r.MultiPath) > 0 || r.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 || !to.Contains(neighbour) {
			continue
		}
		if link == 0 || to.Bits() > best.Bits() || to.Bits() == best.Bits() && r.Priority < metric {
			best, link, metric = to, r.LinkIndex, r.Priority
		}
	}
	return link
}

// through names a link, for people.
func through(index int) string {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return ""
	}
	return " (dev " + link.Attrs().Name + ")"
}

// sameWay reports whether a route that is there leads where one that is wanted does.
func sameWay(is, want *netlink.Route) bool {
	return is.LinkIndex == want.LinkIndex && is.Gw.Equal(want.Gw) && is.Priority == 0 && is.Flags&unix.RTNH_F_DEAD == 0
}
