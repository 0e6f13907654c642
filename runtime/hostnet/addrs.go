package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// heldLabel is the end of the label that an address has which is here for Services, by which it is known again. A label begins with
// the link's name and has 15 letters at most; where the name leaves no room for it, it is cut.
const heldLabel = ":sky"

// hold makes the machine have these addresses for Services, and no others that were added for that: a machine that ended in between
// may have left some. Addresses of IPv6 are not held: they have no labels.
func hold(want []netip.Addr) error {
	all, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	missing := map[netip.Addr]bool{}
	for _, a := range want {
		if a.Is4() {
			missing[a] = true
		}
	}
	var errs []error
	for i := range all {
		a, ok := netip.AddrFromSlice(all[i].IP.To4())
		switch {
		case !ok:
		case missing[a]:
			delete(missing, a) // also when it is the machine's own
		case strings.HasSuffix(all[i].Label, heldLabel):
			link, err := netlink.LinkByIndex(all[i].LinkIndex)
			if err == nil {
				err = netlink.AddrDel(link, &all[i])
			}
			if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				errs = append(errs, fmt.Errorf("give up address %s: %w", a, err))
			}
		}
	}
	for _, a := range want {
		if !missing[a] {
			continue
		}
		if err := add(a, all); err != nil {
			errs = append(errs, fmt.Errorf("take address %s: %w", a, err))
		}
	}
	return errors.Join(errs...)
}

// add adds an address to the link on whose network it is, or that leads to all others, and tells the neighbours.
func add(a netip.Addr, have []netlink.Addr) error {
	index := 0
	for _, h := range have {
		if ones, _ := h.Mask.Size(); ones < a.BitLen() && h.Contains(a.AsSlice()) {
			index = h.LinkIndex
		}
	}
	if index == 0 {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
		if err != nil || len(routes) == 0 {
			return errors.Join(errors.New("it is on no network of this machine, which has no default route either"), err)
		}
		index = routes[0].LinkIndex
	}
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	name := link.Attrs().Name
	err = netlink.AddrReplace(link, &netlink.Addr{
		IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
		Label: name[:min(len(name), unix.IFNAMSIZ-1-len(heldLabel))] + heldLabel,
		// It lasts, and is never chosen for what the machine itself sends.
		ValidLft: math.MaxUint32, PreferedLft: 0,
	})
	if err != nil || link.Attrs().HardwareAddr == nil {
		return err
	}
	return announce(link, a)
}

// announce tells the neighbours on a link that an address is here, as a question and as an answer: some heed only one of them.
func announce(link netlink.Link, a netip.Addr) error {
	const request, reply = 1, 2
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("tell neighbours: %w", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Protocol: binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ARP)), Ifindex: link.Attrs().Index, Halen: 6}
	for i := range to.Halen {
		to.Addr[i] = 0xff
	}
	own, addr := link.Attrs().HardwareAddr, a.As4()
	for _, operation := range []uint16{request, reply} {
		p := binary.BigEndian.AppendUint16(nil, 1) // Ethernet
		p = binary.BigEndian.AppendUint16(p, unix.ETH_P_IP)
		p = append(p, 6, 4)
		p = binary.BigEndian.AppendUint16(p, operation)
		p = append(append(p, own...), addr[:]...)
		target := make([]byte, 6)
		if operation == reply {
			target = own
		}
		p = append(append(p, target...), addr[:]...)
		if err := unix.Sendto(fd, p, 0, to); err != nil {
			return fmt.Errorf("tell neighbours: %w", err)
		}
	}
	return nil
}
