package hostnet

import (
	"fmt"
	"net/netip"
	"strings"

	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// Sticky fronts have a chain each. First it looks whether the client has been with one of the ends, whose set remembers it
// from its last connection on, and if not, draws one. An end's set goes with the end, and so what was remembered of it.

func stickyChain(k key) string { return stickyPrefix + k.name() }

// endChain is what leads to one end of a sticky front, and the name of the set of clients. All that its rules say is part of
// the name: for how long clients are remembered cannot be changed.
func endChain(k key, f *front, e fleet.End) string {
	return fmt.Sprintf("%s%s-%s-%d-%d", endPrefix, k.name(), plain(e.Addr), e.Port, int(f.sticky.Seconds()))
}

// sticky writes the chains of one front, if it is sticky; have are those that there are.
func (w writer) sticky(k key, f *front, have map[string]bool) {
	if f == nil || f.sticky == 0 {
		return
	}
	ip, addr := string(w.family), "ipv4_addr"
	if w.family == knftables.IPv6Family {
		addr = "ipv6_addr"
	}
	top, in := stickyChain(k), w.grow
	if have[top] {
		in = w.swap
		in.Flush(w.chain(top))
	} else {
		in.Add(w.chain(top))
	}
	var draw []string
	for i, e := range f.slots {
		name := endChain(k, f, e)
		draw = append(draw, fmt.Sprintf("%d : goto %s", i, name))
		if have[name] {
			continue
		}
		w.grow.Add(&knftables.Set{
			Family: w.family, Table: tableName, Name: name, Type: addr,
			Flags: []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag}, Timeout: &f.sticky,
		})
		w.grow.Add(w.chain(name))
		w.rule(name, "update", "@", name, "{", ip, "saddr }")
		w.rule(name, "meta l4proto", k.proto, "dnat to", netip.AddrPortFrom(e.Addr, e.Port))
	}
	for _, e := range f.slots {
		name := endChain(k, f, e)
		w.ruleIn(in, top, ip, "saddr", "@", name, "goto", name)
	}
	w.ruleIn(in, top, "numgen random mod", len(draw), "vmap {", strings.Join(draw, " , "), "}")
}
