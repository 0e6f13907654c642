package hostnet

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/fleet"
)

// Uplink is the link that has an address of the machine. Where neighbours cannot be told packets for others (a tunnel, a point-to-point
// line), nobody but the machine itself is on it.
func Uplink(addr netip.Addr) (fleet.Uplink, error) {
	addr = ip(addr)
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fleet.Uplink{}, fmt.Errorf("list addresses: %w", err)
	}
	for i := range all {
		if a, ok := netip.AddrFromSlice(all[i].IP); !ok || ip(a) != addr {
			continue
		}
		link, err := netlink.LinkByIndex(all[i].LinkIndex)
		if err != nil {
			return fleet.Uplink{}, fmt.Errorf("find the link of %s: %w", addr, err)
		}
		bits, _ := all[i].Mask.Size()
		if at := link.Attrs(); at.RawFlags&(unix.IFF_NOARP|unix.IFF_POINTOPOINT|unix.IFF_LOOPBACK) != 0 {
			bits = addr.BitLen()
		}
		return fleet.Uplink{Net: netip.PrefixFrom(addr, bits).Masked(), MTU: link.Attrs().MTU}, nil
	}
	return fleet.Uplink{}, fmt.Errorf("no link of this machine has the address %s", addr)
}
