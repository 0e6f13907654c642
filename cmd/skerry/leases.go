package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/skerry-dev/skerry/coord/lease"
	"github.com/skerry-dev/skerry/fleet"
)

// openLeases is this node's part in who has an address: by datagrams, at the port on which it serves the fleet.
func (m *membership) openLeases(ctx context.Context) (*lease.Node, error) {
	_, port, err := net.SplitHostPort(m.Listen)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	// On all addresses: this machine's may be another tomorrow. What is not of this fleet is not looked at.
	conn, err := lc.ListenPacket(ctx, "udp", net.JoinHostPort("", port))
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
	secrets := map[string][]byte{} // by name and certificate; nil where that is none
	for _, n := range nodes {
		if n.Name == m.identity.Name() || n.Fleet == "" || len(n.Certificate) == 0 {
			continue
		}
		key := string(n.Name) + " " + string(n.Certificate)
		secret, known := m.secrets[key]
		if !known {
			if secret, err = m.identity.Secret(n.Name, n.Certificate); err != nil {
				m.log.Warn("a node is not talked to by datagrams", "node", n.Name, "err", err)
			}
		}
		secrets[key] = secret
		if addr := datagramsOf(n); secret != nil && addr.IsValid() {
			peers = append(peers, lease.Peer{Name: n.Name, Addr: addr, Secret: secret})
		}
	}
	m.secrets = secrets
	if slices.EqualFunc(peers, m.met, lease.Peer.Equal) {
		return
	}
	m.met = peers
	m.leases.SetPeers(peers)
}

// datagramsOf is where a node hears datagrams: at the port of its fleet address, and where it said last that it is.
func datagramsOf(n fleet.Node) netip.AddrPort {
	at, err := netip.ParseAddrPort(n.Fleet)
	if err != nil {
		return netip.AddrPort{}
	}
	addr := at.Addr()
	if now, err := netip.ParseAddr(n.Address); err == nil && !addr.IsLoopback() {
		addr = now
	}
	return netip.AddrPortFrom(addr.Unmap(), at.Port())
}

// talk takes part in the leases until close: longer than the agent, which has to let go of what it holds and say so.
func (m *membership) talk(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := m.leases.Run(ctx); err != nil {
			m.log.Error("nobody hears this node by datagrams any more: it can have no address", "err", err)
		}
	}()
	m.hush = func() {
		cancel()
		<-ended
	}
}
