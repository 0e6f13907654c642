package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/check"
	"github.com/skerry-dev/skerry/runtime/dns"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/hostnet"
	"github.com/skerry-dev/skerry/runtime/proxy"
)

// The values of network.services besides auto, which is on where the machine can and off elsewhere.
const (
	servicesOn  = "on"
	servicesOff = "off"
)

// What pods' network is called in Podman and on the machine, and where the cluster's DNS answers: behind an address of the range
// of Services, which leads to a high port, so that whoever has port 53 keeps it.
const (
	bridgeName = "skerry"
	bridgeLink = "skerry0"
	dnsPort    = 10053
	dnsNumber  = 10 // of the address in the range of Services, as everywhere
	nodeBits   = 24 // of podCIDR, a node's part
)

// settings are the network's, from a configuration that was checked.
func (n networkConfig) settings() fleet.NetworkSettings {
	s := fleet.NetworkSettings{
		Services: true, Pods: netip.MustParsePrefix(n.PodCIDR), Addrs: []netip.Prefix{netip.MustParsePrefix(n.ServiceCIDR)}, Domain: n.Domain,
		Between: fleet.PodNetwork(n.PodNetwork), TunnelPort: n.VXLANPort,
	}
	if s.Between == fleet.PodsWireGuard {
		s.TunnelPort = n.WireGuardPort
	}
	s.Pools = n.pools()
	s.DNS = s.Addrs[0].Masked().Addr()
	for range dnsNumber {
		s.DNS = s.DNS.Next()
	}
	return s
}

// settings are the network's, with the fleet's own addresses.
func (c config) settings() fleet.NetworkSettings {
	s := c.Network.settings()
	s.Virtual, s.Fast = c.Fleet.virtual(), c.Fleet.Failover == failoverFast
	return s
}

// pools are what Services of type LoadBalancer get their addresses of.
func (n networkConfig) pools() []fleet.AddressPool {
	var list []fleet.AddressPool
	for _, p := range n.LoadBalancerPools {
		pool := fleet.AddressPool{Name: p.Name, Namespaces: p.Namespaces}
		for _, cidr := range p.CIDRs {
			pool.Addrs = append(pool.Addrs, netip.MustParsePrefix(cidr))
		}
		list = append(list, pool)
	}
	return list
}

// virtual are the fleet's own addresses.
func (f fleetConfig) virtual() []netip.Addr {
	var list []netip.Addr
	for _, text := range f.VirtualIPs {
		list = append(list, netip.MustParseAddr(text).Unmap())
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// network makes what Services need of this machine. Where they cannot or must not be served whole, it changes nothing of the machine.
// Pods is the part of the pod network that is this machine's. Without a member there are no other machines.
func (c config) network(ctx context.Context, machine host.Bridges, pods netip.Prefix, member *membership, log *slog.Logger) (*agent.Network, error) {
	if c.Network.Services == servicesOff {
		return c.proxied("network.services is off", log), nil //nolint:contextcheck // it lives as long as the process
	}
	if !pods.IsValid() { // the agent begins anew when it has one
		return c.proxied("the fleet has not given this node its part of the pod network yet", log), nil //nolint:contextcheck // it lives as long as the process
	}
	var wireguard *hostnet.WireGuard
	if member == nil {
		c.Network.PodNetwork = string(fleet.PodsApart)
	} else {
		wireguard = member.wireguard
	}
	n, err := c.whole(ctx, machine, pods, wireguard, log)
	if err != nil && c.Network.Services != servicesOn {
		log.Warn("node ports alone are served of Services", "why", err)
		return c.proxied(err.Error(), log), nil //nolint:contextcheck // it lives as long as the process
	}
	return n, err
}

// proxied serves Services at node ports alone.
func (c config) proxied(why string, log *slog.Logger) *agent.Network {
	settings := c.settings()
	settings.Without = why
	return &agent.Network{Settings: settings, Rules: proxy.New(log), Checks: check.New(log)}
}

// whole serves Services by the machine's own network.
func (c config) whole(ctx context.Context, machine host.Bridges, pods netip.Prefix, wireguard *hostnet.WireGuard, log *slog.Logger) (*agent.Network, error) {
	settings := c.settings()
	bridge := host.Bridge{Name: bridgeName, Interface: bridgeLink, Subnet: pods}
	if err := free(bridge, settings.Addrs...); err != nil {
		return nil, err
	}
	rules, err := hostnet.New(log, wireguard) //nolint:contextcheck // it asks the kernel once
	if err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(bridge.Gateway(), dnsPort)
	packets, listener, err := listenFree(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("listen for DNS on %s: %w", at, err)
	}
	return &agent.Network{
		Settings: settings, Bridge: bridge, Rules: rules, Checks: check.New(log), DNSAt: at,
		Ensure:   func(ctx context.Context) error { return ensure(ctx, machine, bridge, rules) },
		Prepare:  func() (bool, error) { return prepare(bridge.Interface, settings.Addrs) },
		Announce: func(pods []netip.Addr) error { return hostnet.Announce(bridge.Interface, pods...) },
		Watch: func(ctx context.Context, ring func()) error {
			group, ctx := errgroup.WithContext(ctx)
			group.Go(func() error { return rules.Watch(ctx, ring) })
			group.Go(func() error { return hostnet.WatchPorts(ctx, bridge.Interface, ring) })
			if settings.Between != fleet.PodsApart {
				group.Go(func() error { return hostnet.WatchRoutes(ctx, ring) })
			}
			return group.Wait()
		},
		Names: dns.New(dns.Config{Log: log}), Packets: packets, Listener: listener,
	}, nil
}

// ensureTimeout bounds making a network, for which rules have to wait.
const ensureTimeout = 10 * time.Second

// ensure makes a network in Podman. An end of a tunnel that was there before it is in the way. Where Podman has lost the network and left its
// link, which has our name and no port, that is.
func ensure(ctx context.Context, machine host.Bridges, bridge host.Bridge, rules *hostnet.Net) error {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	err := machine.EnsureBridge(ctx, bridge)
	if err == nil {
		return nil
	}
	if had, err := rules.Aside(func() error { return machine.EnsureBridge(ctx, bridge) }); had && err == nil {
		return nil
	}
	link, errLink := netlink.LinkByName(bridge.Interface)
	links, errLinks := netlink.LinkList()
	if errLink != nil || errLinks != nil || slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().MasterIndex == link.Attrs().Index }) {
		return err
	}
	if errDel := netlink.LinkDel(link); errDel != nil {
		return errors.Join(err, fmt.Errorf("remove the link %s that is left of it: %w", bridge.Interface, errDel))
	}
	return machine.EnsureBridge(ctx, bridge)
}

// prepare makes a bridge and its ports as Services need them, if it is there yet; fresh says that a port was not. The machine itself
// gets a route to the Services: one without a default route would not even try.
func prepare(bridge string, services []netip.Prefix) (fresh bool, err error) {
	link, err := netlink.LinkByName(bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find %s: %w", bridge, err)
	}
	if link.Attrs().Flags&net.FlagUp == 0 { // Podman is about to make it: nobody is on it yet, and it takes no route
		return false, nil
	}
	if err := pin(link); err != nil {
		return false, err
	}
	if err := hostnet.PrepareBridge(bridge); err != nil {
		return false, err
	}
	for _, p := range services {
		to := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK}); err != nil {
			return false, fmt.Errorf("route %s to %s: %w", p, bridge, err)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return false, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex != link.Attrs().Index {
			continue
		}
		changed, err := hostnet.PreparePort(l.Attrs().Name)
		if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) { // its pod went
			return false, err
		}
		fresh = fresh || changed
	}
	return fresh, nil
}

// pin keeps a bridge's own hardware address as it is. Left to itself a bridge takes the lowest of its ports', so that it changes as
// pods come and go: those that stay then send to an address that nobody has, until they notice.
func pin(bridge netlink.Link) error {
	const set = "3" // NET_ADDR_SET
	name := bridge.Attrs().Name
	how, err := os.ReadFile(filepath.Join("/sys/class/net", name, "addr_assign_type"))
	if err == nil && strings.TrimSpace(string(how)) == set {
		return nil
	}
	if err := netlink.LinkSetHardwareAddr(bridge, bridge.Attrs().HardwareAddr); err != nil {
		return fmt.Errorf("keep the address of %s: %w", name, err)
	}
	return nil
}

// free is an error that names the routes of this machine which pods or Services would be in the way of.
func free(bridge host.Bridge, services ...netip.Prefix) error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("read the machine's routes: %w", err)
	}
	var taken []string
	for _, r := range routes {
		if r.Dst == nil || r.Protocol == hostnet.RouteProtocol {
			continue
		}
		to, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if !ok || ones == 0 {
			continue
		}
		link := ""
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			link = l.Attrs().Name
		}
		prefix := netip.PrefixFrom(to.Unmap(), ones)
		for _, ours := range append([]netip.Prefix{bridge.Subnet}, services...) {
			if link != bridge.Interface && prefix.Overlaps(ours) {
				taken = append(taken, fmt.Sprintf("%s is in the way of %s (dev %s)", ours, prefix, link))
			}
		}
	}
	if len(taken) > 0 {
		return fmt.Errorf("network.podCIDR and network.serviceCIDR must be free on this machine: %s", strings.Join(taken, "; "))
	}
	return nil
}

// listenFree listens on an address that the machine may not have yet: Podman makes the bridge with its first pod.
func listenFree(ctx context.Context, at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var fault error
		err := c.Control(func(fd uintptr) { fault = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(err, fault)
	}}
	packets, err := lc.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, nil, err
	}
	listener, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, nil, errors.Join(err, packets.Close())
	}
	return packets, listener, nil
}
