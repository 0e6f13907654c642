package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/skerry-dev/skerry/coord/lease"
)

// openLeases is this node's part in who has an address: by datagrams, at the port on which it serves the fleet.
func (m *membership) openLeases(ctx context.Context) (*lease.Node, error) {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp", m.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for datagrams of the fleet: %w", err)
	}
	return lease.NewNode(lease.Config{Self: m.identity.Name(), Conn: conn, Log: m.log}), nil
}

// meet says who the other nodes are. One whose certificate is not that of its name is left out, and one that has said none yet.
func (m *membership) meet(ctx context.Context) {
	nodes, err := m.store.Nodes(ctx)
	if err != nil {
		return
	}
	var peers []lease.Peer
	for _, n := range nodes {
		if n.Name == m.identity.Name() || n.Fleet == "" || len(n.Certificate) == 0 {
			continue
		}
		addr, err := netip.ParseAddrPort(n.Fleet)
		if err != nil {
			if resolved, errResolve := net.ResolveUDPAddr("udp", n.Fleet); errResolve == nil {
				addr, err = resolved.AddrPort(), nil
			}
		}
		if err == nil {
			var secret []byte
			if secret, err = m.identity.Secret(n.Name, n.Certificate); err == nil {
				peers = append(peers, lease.Peer{Name: n.Name, Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), Secret: secret})
			}
		}
		if err != nil {
			m.log.Warn("a node is not talked to by datagrams", "node", n.Name, "err", err)
		}
	}
	if slices.EqualFunc(peers, m.met, lease.Peer.Equal) {
		return
	}
	m.met = peers
	m.leases.SetPeers(peers)
}
