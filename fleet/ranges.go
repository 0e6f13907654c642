package fleet

import "net/netip"

// RangeOf is the part of a fleet's pod network that one of its nodes has, bits long. What a node has it keeps, unless another whose name
// comes first has it too; else it gets the first that is free. It is false when none is left, or the node is not among nodes.
func RangeOf(nodes []Node, name NodeName, network netip.Prefix, bits int) (netip.Prefix, bool) {
	taken := map[netip.Prefix]bool{}
	var own netip.Prefix
	found, shared := false, false
	for _, n := range nodes {
		if n.Name == name {
			own, found = n.Pods, true
		}
	}
	for _, n := range nodes {
		if n.Name == name || !n.Pods.IsValid() {
			continue
		}
		taken[n.Pods] = true
		shared = shared || n.Pods == own && n.Name < name
	}
	if !found {
		return netip.Prefix{}, false
	}
	if own.IsValid() && !shared && own.Bits() == bits && network.Contains(own.Addr()) {
		return own, true
	}
	for a := network.Masked().Addr(); network.Contains(a); {
		p := netip.PrefixFrom(a, bits)
		if !taken[p] {
			return p, true
		}
		a = after(p)
		if !a.IsValid() {
			break
		}
	}
	return netip.Prefix{}, false
}

// after is the first address behind a range; the zero Addr behind the last.
func after(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	bit := p.Bits() - 1
	for i := bit / 8; i >= 0; i-- {
		step := byte(1)
		if i == bit/8 {
			step = 1 << (7 - bit%8)
		}
		raw[i] += step
		if raw[i] >= step { // no carry
			a, _ := netip.AddrFromSlice(raw)
			return a
		}
	}
	return netip.Addr{}
}
