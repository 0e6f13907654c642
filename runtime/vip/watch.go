package vip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// events is what the kernel tells of links, addresses, default routes and filters.
func events() (*nl.NetlinkSocket, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_TC,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	return s, nil
}

// watch mends what events tell of, until the socket is closed.
func (h *Holder) watch(s *nl.NetlinkSocket, ready map[int]bool) {
	for {
		messages, _, err := s.Receive()
		back := map[int]bool{} // links that are ready again
		heard := false
		switch {
		case h.closed.Load():
			return
		case errors.Is(err, unix.ENOBUFS): // too many at once: some were lost
			heard = true
			for link := range ready {
				back[link] = true
			}
		case err != nil:
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
				h.log.Error("links are not watched any more", "err", err)
				return
			}
		}
		for _, m := range messages {
			if !concerns(m) {
				continue
			}
			heard = true
			if l, err := netlink.LinkDeserialize((*unix.NlMsghdr)(&m.Header), m.Data); err == nil && m.Header.Type == unix.RTM_NEWLINK {
				was := ready[l.Attrs().Index]
				now := linkOf(l).Ready
				ready[l.Attrs().Index] = now
				if now && !was {
					back[l.Attrs().Index] = true
				}
			}
			if m.Header.Type == unix.RTM_DELLINK {
				delete(ready, int(nl.DeserializeIfInfomsg(m.Data).Index))
			}
		}
		if heard {
			h.mend(back)
			if h.changed != nil {
				h.changed()
			}
		}
	}
}

// concerns says whether a message may change on which link an address is, or what is there of it.
func concerns(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return len(m.Data) >= unix.SizeofIfInfomsg && m.Data[0] != unix.AF_BRIDGE // those are of a bridge's ports
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return len(m.Data) >= unix.SizeofRtMsg && m.Data[1] == 0 // length of the destination: the default route
	case unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_DELTFILTER, unix.RTM_DELQDISC:
		return true
	}
	return false
}

// mend puts back what somebody else took away of what is held, and tells the neighbours anew where that was so, or where a link was away.
func (h *Holder) mend(back map[int]bool) {
	have, err := list()
	if err != nil {
		h.log.Warn("addresses could not be looked after", "err", err)
		return
	}
	for _, one := range h.all() {
		changed, err := h.mendOne(one, have, back)
		if changed {
			h.log.Warn("an address of the fleet was put back", "addr", one.addr)
		}
		if err != nil && one.fault != err.Error() {
			h.log.Warn("an address of the fleet is not as it should be", "addr", one.addr, "err", err)
		}
		one.fault = ""
		if err != nil {
			one.fault = err.Error()
		}
	}
}

// mendOne mends one address; changed says that something was missing.
func (h *Holder) mendOne(one *holding, have []address, back map[int]bool) (changed bool, err error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	if !one.taken || one.until <= bootTime() {
		return false, nil
	}
	links, err := uplinks(one.addr, have)
	if err != nil {
		return false, err
	}
	guarded, err := h.guard(links)
	if err != nil {
		return guarded, err
	}
	l := links[0]
	here := func(a address) bool { return a.Addr() == one.addr && a.link == l.Index }
	there := slices.ContainsFunc(have, here)
	if !there { // or it came since
		if have, err = list(); err != nil {
			return guarded, err
		}
		there = slices.ContainsFunc(have, here)
	}
	if !there {
		if err := addAddress(l, one.addr); err != nil {
			return guarded, err
		}
	}
	was := one.link
	one.link = l
	if was.Index != l.Index {
		close(one.stop)
		h.attend(one)
		err = removeAddress(was.Index, one.addr)
	}
	if !there || back[l.Index] || !bytes.Equal(was.MAC, l.MAC) {
		one.again()
	}
	return guarded || !there, err
}
