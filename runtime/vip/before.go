package vip

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Connections over TCP that were led to pods by the machine which had an address before are known to that one only. For a while its words of
// them that come here are sent on to it: they keep both of their addresses, and are not looked at any more on this machine.

// beforeTable is what the table with that rule is called. It is there from the first address that came from another machine.
const beforeTable = "skerry-vip-before"

// before is which machines had addresses just before this one. The zero value is ready. Safe for concurrent use.
type before struct {
	mu  sync.Mutex
	had map[netip.Addr]former
}

// former is a machine that had an address, and until when what is not known here is sent on to it, by the boot clock.
type former struct {
	at    netip.Addr
	until time.Duration
}

// note has what goes on of connections to an address, and is not known here, be sent to the machine at an address of its own until a moment;
// the zero Addr: to nobody. That machine must be a neighbour: a router would send it back here.
func (b *before) note(a, at netip.Addr, until time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := bootTime()
	maps.DeleteFunc(b.had, func(_ netip.Addr, f former) bool { return f.until-now < leastTimeout })
	if _, known := b.had[a]; !known && !at.IsValid() {
		return nil
	}
	if b.had == nil {
		b.had = map[netip.Addr]former{}
	}
	if b.had[a] = (former{at, until}); !at.IsValid() {
		delete(b.had, a)
	}
	if err := b.write(now); err != nil {
		return fmt.Errorf("send what goes on of %s to who had it before: %w", a, err)
	}
	return nil
}

// write writes the table anew: the kernel changes no element that is there.
func (b *before) write(now time.Duration) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: beforeTable, Family: nftables.TableFamilyIPv4}
	conn.AddTable(t)
	conn.DelTable(t)
	conn.AddTable(t)
	had := &nftables.Set{
		Table: t, Name: "sk-before", IsMap: true, HasTimeout: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeIPAddr,
	}
	var elements []nftables.SetElement
	for a, f := range b.had {
		elements = append(elements, nftables.SetElement{Key: a.AsSlice(), Val: f.at.AsSlice(), Timeout: f.until - now})
	}
	if err := conn.AddSet(had, elements); err != nil {
		return err
	}
	c := conn.AddChain(&nftables.Chain{
		Table: t, Name: "sk-in", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	rule := []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		masked(binary.NativeEndian.AppendUint32(nil, expr.CtStateBitNEW|expr.CtStateBitINVALID)),
		isNot(make([]byte, 4)),
	}
	for _, b := range goesOn {
		rule = append(rule, bytesAt(b.at, 1), is([]byte{b.is}))
	}
	conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: append(rule,
		bytesAt(tcpFlags, 1), masked([]byte{tcpBoth}), isNot([]byte{tcpSYN}),
		bytesAt(destination, 4),
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: had.Name},
		&expr.Dup{RegAddr: 1},
		&expr.Verdict{Kind: expr.VerdictDrop},
	)})
	return conn.Flush()
}

// end takes away all that note has done.
func (b *before) end() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.had == nil {
		return nil
	}
	b.had = nil
	return sweepTables(beforeTable)
}

// near reports whether an address is on one of the networks of a link.
func near(a netip.Addr, l Link, have []address) bool {
	return slices.ContainsFunc(have, func(h address) bool { return h.link == l.Index && h.Contains(a) && !h.IsSingleIP() })
}
