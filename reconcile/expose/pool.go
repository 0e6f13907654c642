package expose

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/skerry-dev/skerry/fleet"
)

// Offsets in a range of ClusterIPs.
const (
	dnsOffset  = 10 // of the fleet's DNS
	automatic  = 17 // the first that is given without being asked for: after the network's own address and 16 more
	mostOffset = 62 // bits of a range that are made use of
)

// Nameservers are the addresses of the fleet's DNS: one in each range that is large enough, in order. No Service has them.
func Nameservers(settings fleet.NetworkSettings) []netip.Addr {
	var list []netip.Addr
	for _, p := range settings.Addrs {
		if a := nth(p.Masked(), dnsOffset); p.Contains(a) {
			list = append(list, a)
		}
	}
	return list
}

// pool is a range of addresses and who has them.
type pool struct {
	prefix netip.Prefix
	size   uint64 // how many addresses are there to be given without being asked for
	free   uint64 // how many of those nobody has
	taken  map[netip.Addr]fleet.ObjectID
}

func poolOf(prefix netip.Prefix) *pool {
	p := &pool{prefix: prefix.Masked(), taken: map[netip.Addr]fleet.ObjectID{}}
	all := uint64(1) << min(prefix.Addr().BitLen()-prefix.Bits(), mostOffset)
	if all > automatic+1 {
		p.size = all - automatic - 1 // the last one is the broadcast address
	}
	p.free = p.size
	return p
}

// nth is the address that far into a range.
func nth(prefix netip.Prefix, offset uint64) netip.Addr {
	if prefix.Addr().Is4() {
		b := prefix.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(offset))
		return netip.AddrFrom4(b)
	}
	b := prefix.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+offset)
	return netip.AddrFrom16(b)
}

// automatic reports whether an address of the range is one that is given without being asked for.
func (p *pool) automatic(a netip.Addr) bool {
	return p.size > 0 && a.Compare(nth(p.prefix, automatic)) >= 0 && a.Compare(nth(p.prefix, automatic+p.size-1)) <= 0
}

// special says whose an address is that no Service may have; empty for all others.
func (p *pool) special(a netip.Addr) string {
	switch bits := a.BitLen() - p.prefix.Bits(); {
	case a == nth(p.prefix, dnsOffset):
		return "that of the fleet's DNS"
	case bits > 1 && a == p.prefix.Addr():
		return "that of the network itself"
	case bits > 1 && a.Is4() && a == nth(p.prefix, uint64(1)<<bits-1):
		return "that for all of the network"
	}
	return ""
}

// take gives an address to a Service, unless another has it.
func (p *pool) take(a netip.Addr, id fleet.ObjectID) bool {
	if other, taken := p.taken[a]; taken {
		return other == id
	}
	p.taken[a] = id
	if p.automatic(a) {
		p.free--
	}
	return true
}

// choose gives a Service the address that its name points at, or the next one that is free.
func (p *pool) choose(id fleet.ObjectID) (netip.Addr, bool) {
	if p.free == 0 {
		return netip.Addr{}, false
	}
	for at := hashOf(id.String()) % p.size; ; at = (at + 1) % p.size {
		a := nth(p.prefix, automatic+at)
		if _, taken := p.taken[a]; !taken {
			p.take(a, id)
			return a, true
		}
	}
}

// hashOf spreads names evenly, and the same way everywhere.
func hashOf(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(sum[:8])
}
