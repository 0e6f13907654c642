package hostnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages about nftables, as the kernel numbers them, and attributes in them.
const (
	newGeneration  = 15 // NFT_MSG_NEWGEN: the end of a transaction
	generationID   = 1  // NFTA_GEN_ID
	tableOfMessage = 1  // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE
)

// Watch calls ring whenever somebody other than Serve has changed our tables, so that Check has something to say, until ctx ends. It
// blocks. What others do to their own tables does not ring, and Check need not look for it.
func (n *Net) Watch(ctx context.Context, ring func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return fmt.Errorf("watch the kernel's rules: %w", err)
	}
	defer context.AfterFunc(ctx, socket.Close)()
	ours := false // a message of the present transaction was about one of our tables
	for {
		messages, _, err := socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS): // too many at once: some were lost
			ours = true
			n.unsure()
			ring()
			continue
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("watch the kernel's rules: %w", err)
		}
		for _, m := range messages {
			attrs := attributes(after(m.Data, nl.SizeofNfgenmsg))
			if m.Header.Type&0xff != newGeneration {
				ours = ours || string(terminated(attrs[tableOfMessage])) == tableName
				continue
			}
			if id := attrs[generationID]; len(id) == 4 && n.foreign(binary.BigEndian.Uint32(id), ours) {
				ring()
			}
			ours = false
		}
	}
}

func after(b []byte, n int) []byte { return b[min(n, len(b)):] }

// terminated is a string of C.
func terminated(b []byte) []byte {
	if len(b) > 0 && b[len(b)-1] == 0 {
		return b[:len(b)-1]
	}
	return b
}

// foreign reports whether a transaction that ended in a generation was somebody else's, and about our tables.
func (n *Net) foreign(id uint32, ours bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.sure && !newer(id, n.seen):
		return false // written or looked at since
	case ours && !slices.Contains(n.own, id):
		n.sure = false
		return true
	case n.sure && id == n.seen+1:
		n.saw(id)
	}
	return false
}

// unsure has the next Check look.
func (n *Net) unsure() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sure = false
}

// WatchPorts calls ring whenever a link becomes a port of a bridge, until ctx ends: it has to be prepared, which does not ring again. It
// blocks.
func WatchPorts(ctx context.Context, bridge string, ring func()) error {
	updates := make(chan netlink.LinkUpdate, 64)
	ports := map[int]bool{} // those that were told of
	var lost error
	done := make(chan struct{})
	defer close(done)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ErrorCallback: func(err error) { lost = err }})
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				return fmt.Errorf("watch links: %w", lost)
			}
			link, master := u.Attrs().Index, u.Attrs().MasterIndex
			if u.Header.Type != syscall.RTM_NEWLINK || master == 0 {
				delete(ports, link)
				continue
			}
			if m, err := netlink.LinkByIndex(master); err == nil && m.Attrs().Name == bridge && !ports[link] {
				ports[link] = true
				ring()
			}
		}
	}
}

// WatchRoutes calls ring whenever routes to pods of other nodes may have been lost, or have to lead elsewhere, until ctx ends: when
// somebody else removes one, or the tunnel, and when addresses and default routes of the machine come and go, or a link goes up or down.
// It blocks.
func WatchRoutes(ctx context.Context, ring func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	defer context.AfterFunc(ctx, socket.Close)()
	running := map[int32]bool{} // links, as they were told of
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	for _, l := range links {
		running[int32(l.Attrs().Index)] = l.Attrs().RawFlags&unix.IFF_RUNNING != 0
	}
	for {
		messages, _, err := socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			ring()
			continue
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("watch routes: %w", err)
		}
		for _, m := range messages {
			if concernsRoutes(m, running) {
				ring()
				break
			}
		}
	}
}

// concernsRoutes reports whether a message of the kernel may be about our routes.
func concernsRoutes(m syscall.NetlinkMessage, running map[int32]bool) bool {
	switch m.Header.Type {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return true
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			return false
		}
		route := nl.DeserializeRtMsg(m.Data)
		return route.Dst_len == 0 || m.Header.Type == unix.RTM_DELROUTE && route.Protocol == uint8(RouteProtocol)
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			return false
		}
		link, attrs := nl.DeserializeIfInfomsg(m.Data), attributes(m.Data[unix.SizeofIfInfomsg:])
		if m.Header.Type == unix.RTM_DELLINK {
			delete(running, link.Index)
			name := string(terminated(attrs[unix.IFLA_IFNAME]))
			return name == tunnelName || name == wireguardName
		}
		was, is := running[link.Index], link.Flags&unix.IFF_RUNNING != 0
		running[link.Index] = is
		return was != is && attrs[unix.IFLA_MASTER] == nil // ports of a bridge come and go with pods
	}
	return false
}
