package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Connections over TCP that were led to pods by the machine which had an address before are known to that one only. For a while its words of
// them that come here are sent on to it: they keep both of their addresses, and are not looked at any more on this machine.

// beforeTable is what the table with that rule is called. It is there from the first address that came from another machine.
const beforeTable = "skerry-vip-before"

// sendBack has what goes on of connections to an address, and is not known here, be sent to the machine at to, for a while. To must be a
// neighbour: a router would send it back here. The zero Addr: it is sent to nobody.
func sendBack(a, to netip.Addr, d time.Duration) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("speak to nftables: %w", err)
	}
	t := &nftables.Table{Name: beforeTable, Family: nftables.TableFamilyIPv4}
	known := &nftables.Set{
		Table: t, Name: "sk-before", IsMap: true, HasTimeout: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeIPAddr,
	}
	one := []nftables.SetElement{{Key: a.AsSlice(), Val: netip.IPv4Unspecified().AsSlice(), Timeout: d}}
	conn.AddTable(t)
	errSet := conn.AddSet(known, nil)
	c := conn.AddChain(&nftables.Chain{
		Table: t, Name: "sk-in", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	conn.FlushChain(c)
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
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: known.Name},
		&expr.Dup{RegAddr: 1},
		&expr.Verdict{Kind: expr.VerdictDrop},
	)})
	// An element that is there is not written anew, and one that is not there cannot be removed.
	errs := []error{errSet, conn.SetAddElements(known, one), conn.SetDeleteElements(known, one)}
	if to.IsValid() {
		one[0].Val = to.AsSlice()
		errs = append(errs, conn.SetAddElements(known, one))
	}
	if err := errors.Join(append(errs, conn.Flush())...); err != nil {
		return fmt.Errorf("send what goes on of %s to who had it before: %w", a, err)
	}
	return nil
}

// near reports whether an address is on one of the networks of a link.
func near(a netip.Addr, l Link, have []address) bool {
	return slices.ContainsFunc(have, func(h address) bool { return h.link == l.Index && h.Contains(a) && !h.IsSingleIP() })
}
