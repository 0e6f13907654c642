package vip

import (
	"net/netip"
	"time"
)

// passage is until when something of an address may pass, by the boot clock: all of it, and what goes on of it.
type passage struct{ Until, Lingers time.Duration }

// fence is what in the kernel lets packets of an address through until a moment, and none after it. An address that it was never told of is
// none of its business. Safe for concurrent use.
type fence interface {
	// kind is "bpf" or "nft".
	kind() string
	// guard puts the fence on a link, and mends it where something of it was lost, which changed says.
	guard(l Link) (changed bool, err error)
	// open lets an address through until a moment of the boot clock.
	open(a netip.Addr, until time.Duration) error
	// shut lets it through no more, but for what goes on of it over TCP and IPv4 until lingers, a moment of the boot clock; past: nothing.
	shut(a netip.Addr, lingers time.Duration) error
	// close takes the fence away from all links.
	close() error
}
