package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a link of the machine on which an address may be.
type Link struct {
	Index int
	Name  string
	MAC   net.HardwareAddr // six bytes: it is Ethernet; nil: it is not
	Ready bool             // it is up and has a carrier
}

func linkOf(l netlink.Link) Link {
	a := l.Attrs()
	made := Link{Index: a.Index, Name: a.Name, Ready: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0}
	if len(a.HardwareAddr) == 6 {
		made.MAC = a.HardwareAddr
	}
	return made
}

// there says whether the link still is.
func (l Link) there() bool {
	found, err := netlink.LinkByIndex(l.Index)
	return err == nil && found.Attrs().Name == l.Name
}

// uplinks are the links that an address's neighbours are behind. It is to be on the first: the one on whose network it is, or that leads to
// all others. The rest are further ones on the same network: Linux answers for its addresses on any link.
func uplinks(a netip.Addr, have []address) ([]Link, error) {
	have = slices.Clone(have)
	slices.SortStableFunc(have, func(a, b address) int { return b.Bits() - a.Bits() })
	var indices []int
	for _, h := range have {
		if !h.IsSingleIP() && h.Contains(a) && !slices.Contains(indices, h.link) {
			indices = append(indices, h.link)
		}
	}
	if len(indices) == 0 {
		index, err := defaultLink(a)
		if err != nil {
			return nil, err
		}
		indices = []int{index}
	}
	var all []Link
	for i, index := range indices {
		found, err := netlink.LinkByIndex(index)
		if err != nil {
			return nil, fmt.Errorf("look at link %d: %w", index, err)
		}
		l := linkOf(found)
		switch {
		case l.MAC != nil:
			all = append(all, l)
		case i == 0:
			return nil, fmt.Errorf("the link %s, on which it would be, is not Ethernet: there are no neighbours to tell", l.Name)
		}
	}
	return all, nil
}

// defaultLink is the one that the default route of an address's family leads to.
func defaultLink(a netip.Addr) (int, error) {
	family := netlink.FAMILY_V6
	if a.Is4() {
		family = netlink.FAMILY_V4
	}
	routes, err := netlink.RouteList(nil, family)
	if err != nil {
		return 0, fmt.Errorf("list routes: %w", err)
	}
	index, least := 0, 0
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones > 0 {
				continue
			}
		}
		link := r.LinkIndex
		if link == 0 && len(r.MultiPath) > 0 {
			link = r.MultiPath[0].LinkIndex
		}
		if link != 0 && (index == 0 || r.Priority < least) {
			index, least = link, r.Priority
		}
	}
	if index == 0 {
		return 0, errors.New("it is on no network of this machine, which has no default route either")
	}
	return index, nil
}

// Eligible says why this machine could not have an address now, for people; "" is that it could. It asks the kernel, which takes some 100
// µs. Options.Changed rings when the answer may be another.
func (h *Holder) Eligible(a netip.Addr) (why string) {
	have, err := list()
	if err != nil {
		return err.Error()
	}
	links, err := uplinks(a.Unmap(), have)
	switch {
	case err != nil:
		return err.Error()
	case !links[0].Ready:
		return fmt.Sprintf("the link %s is down or has no carrier", links[0].Name)
	}
	return ""
}
