package main

import (
	"log/slog"
	"net"
	"net/netip"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/runtime/vip"
)

// holdAddresses has the machine able to have addresses that one node of the fleet has at a time. Where it cannot, it has none: nil.
func holdAddresses(n *agent.Network, log *slog.Logger) *vip.Holder {
	bells := make(chan struct{}, 1)
	holder, err := vip.Open(log, vip.Options{
		Conflict: func(a netip.Addr, mac net.HardwareAddr) {
			log.Error("VIPConflict", "address", a, "mac", mac, "what", "another machine says that it has this address, which this node has: who is it?")
		},
		Changed: func() {
			select {
			case bells <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		log.Warn("this node has none of the addresses of which one node has each at a time", "why", err)
		return nil
	}
	n.Addresses, n.Links = holder, bells
	return holder
}
