package vip

import (
	"net/netip"
	"time"
)

// fence is what in the kernel lets packets of an address through until a moment, and none after it. An address that it was never told of is
// none of its business. Safe for concurrent use.
type fence interface {
	// kind is "bpf" or "nft".
	kind() string
	// guard puts the fence on a link, and mends it where something of it was lost, which changed says.
	guard(l Link) (changed bool, err error)
	// open lets an address through until a moment of the boot clock.
	open(a netip.Addr, until time.Duration) error
	// shut lets it through no more.
	shut(a netip.Addr) error
	// close takes the fence away from all links.
	close() error
}
