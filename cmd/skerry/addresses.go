package main

import (
	"net"
	"net/netip"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/runtime/vip"
)

// carry has the machine able to have addresses that one node of the fleet has at a time. What an earlier process left is taken away.
// Where the machine cannot, or only votes, it has none.
func (m *membership) carry(n *agent.Network, metrics *agent.Metrics) {
	if m.Role == pki.RoleWitness || n == nil || n.Settings.Without != "" {
		return
	}
	n.Links = m.links
	if m.machine != nil {
		return
	}
	holder, err := vip.Open(m.log, vip.Options{
		Conflict: func(a netip.Addr, mac net.HardwareAddr) {
			m.log.Error("VIPConflict", "address", a, "mac", mac, "what", "another machine says that it has this address, which this node has: who is it?")
		},
		Changed: func() {
			select {
			case m.links <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		m.log.Warn("this node has none of the addresses of which one node has each at a time", "why", err)
		return
	}
	m.machine = holder
	m.holder.Use(holder, metrics)
}
