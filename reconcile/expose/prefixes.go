package expose

import (
	"net/netip"
	"slices"
)

// outermost are prefixes in order, without those that are within others.
func outermost(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, netip.Prefix.Compare)
	kept := list[:0]
	for _, p := range list {
		if len(kept) == 0 || !kept[len(kept)-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}

// without is what is left of a prefix when others are taken out, as few prefixes as can be, in order.
func without(p netip.Prefix, out []netip.Prefix) []netip.Prefix {
	touched := false
	for _, o := range out {
		if o.Bits() <= p.Bits() && o.Contains(p.Addr()) {
			return nil
		}
		touched = touched || p.Overlaps(o)
	}
	if !touched {
		return []netip.Prefix{p}
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	return append(without(low, out), without(netip.PrefixFrom(upper(low), low.Bits()), out)...)
}

// upper is the first address of the half beside a lower half.
func upper(low netip.Prefix) netip.Addr {
	b := low.Addr().AsSlice()
	at := low.Bits() - 1
	b[at/8] |= 0x80 >> (at % 8)
	a, _ := netip.AddrFromSlice(b)
	return a
}
