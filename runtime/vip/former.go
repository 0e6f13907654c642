package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Connections over TCP that were led to pods by the machine which had an address before, the former one, are known to that one only. For a while
// its words of them that come here are sent on to it, with both of their addresses as they are. What it does not know either, or has for a
// process of its own that the address was taken from, is reset there: who asks is not left to wait.

// formerTable is what the table with these rules is called, for IPv4.
const formerTable = "skerry-vip-former"

// fewHops is how many machines a packet may come through that send it on: the address may go on while it is under way, and be back at a machine
// that sends it to one where it has been.
const fewHops = 8

// formers is which machines had addresses just before this one, and of which addresses this machine is the former one. Safe for concurrent use.
type formers struct {
	mu sync.Mutex
	line
	written bool                                    // the table
	until   map[string]map[netip.Addr]time.Duration // by set: the elements that may be there yet, and when they go by themselves
}

// The sets of the table.
const (
	formerMap = "sk-former"    // address -> the former machine
	lingerSet = "sk-lingering" // addresses of which this is the former machine
)

// ledElsewhere is of connections that are led to a pod, as connection tracking has it (IPS_DST_NAT).
const ledElsewhere = 0x20

// Where an IPv4 packet has its TTL, and the checksum of its header.
const (
	timeToLive = 8
	headerSum  = 10
)

func newFormers() *formers {
	return &formers{until: map[string]map[netip.Addr]time.Duration{formerMap: {}, lingerSet: {}}}
}

// expect has the table be there, which takes the kernel longer than what comes later.
func (f *formers) expect() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.written {
		return nil
	}
	return f.write()
}

// from has what goes on of connections to an address, and is not known here, be sent to its former machine for a while; the zero Addr: to nobody.
// That machine must be a neighbour: a router would send it back here.
func (f *formers) from(a, former netip.Addr, d time.Duration) error {
	element := nftables.SetElement{Key: a.AsSlice(), Timeout: d}
	if former.IsValid() {
		element.Val = former.AsSlice()
	}
	if err := f.put(formerMap, a, element, former.IsValid()); err != nil {
		return fmt.Errorf("send what goes on of %s to who had it before: %w", a, err)
	}
	return nil
}

// lingers has this machine be the former one of an address for a while; 0: it is not any more.
func (f *formers) lingers(a netip.Addr, d time.Duration) error {
	if err := f.put(lingerSet, a, nftables.SetElement{Key: a.AsSlice(), Timeout: d}, d > 0); err != nil {
		return fmt.Errorf("reset what does not go on of %s: %w", a, err)
	}
	return nil
}

// put has an element be in a set, or not. What is there is removed first, in a transaction of its own: it may have gone by itself, and the kernel
// changes none.
func (f *formers) put(set string, a netip.Addr, element nftables.SetElement, wanted bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if until, known := f.until[set][a]; known && bootTime() < until+time.Second {
		err := f.change(func(conn *nftables.Conn) error {
			return conn.SetDeleteElements(f.set(set), []nftables.SetElement{{Key: element.Key}})
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	delete(f.until[set], a)
	if !wanted {
		return nil
	}
	add := func(conn *nftables.Conn) error {
		return conn.SetAddElements(f.set(set), []nftables.SetElement{element})
	}
	until := bootTime() + element.Timeout
	err := f.change(add)
	if errors.Is(err, unix.ENOENT) { // nobody expected it, or somebody took the table away
		if err = f.write(); err == nil {
			err = f.change(add)
		}
	}
	if err == nil {
		f.until[set][a] = until
	}
	return err
}

// change carries out what is said.
func (f *formers) change(say func(*nftables.Conn) error) error {
	conn, err := f.connect()
	if err == nil {
		err = say(conn)
	}
	if err != nil {
		f.forget()
		return err
	}
	return f.flush(conn)
}

// close takes away all that was written.
func (f *formers) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget()
	return sweepTables(formerTable)
}

func (*formers) table() *nftables.Table {
	return &nftables.Table{Name: formerTable, Family: nftables.TableFamilyIPv4}
}

func (f *formers) set(name string) *nftables.Set {
	s := &nftables.Set{Table: f.table(), Name: name, HasTimeout: true, KeyType: nftables.TypeIPAddr}
	if name == formerMap {
		s.IsMap, s.DataType = true, nftables.TypeIPAddr
	}
	return s
}

// write writes the table anew, with nothing in its sets.
func (f *formers) write() error {
	err := f.change(func(conn *nftables.Conn) error {
		t := f.table()
		conn.AddTable(t)
		conn.DelTable(t)
		conn.AddTable(t)
		if err := errors.Join(conn.AddSet(f.set(formerMap), nil), conn.AddSet(f.set(lingerSet), nil)); err != nil {
			return err
		}
		in := conn.AddChain(&nftables.Chain{
			Table: t, Name: "sk-in", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
		})
		unknown := []expr.Any{
			&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			masked(binary.NativeEndian.AppendUint32(nil, expr.CtStateBitNEW|expr.CtStateBitINVALID)),
			isNot(make([]byte, 4)),
		}
		for _, b := range goesOn {
			unknown = append(unknown, b.match()...)
		}
		unknown = append(unknown, bytesAt(tcpFlags, 1), masked([]byte{tcpBoth}), isNot([]byte{tcpSYN}), bytesAt(destination, 4))
		lookUp := &expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: formerMap}
		hops := func(more byte) []expr.Any {
			return []expr.Any{bytesAt(timeToLive, 1), &expr.Cmp{Register: 1, Op: expr.CmpOpGt, Data: []byte{more}}}
		}
		conn.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: slices.Concat(unknown, []expr.Any{lookUp}, hops(fewHops), []expr.Any{
			&expr.Immediate{Register: 1, Data: []byte{fewHops}},
			&expr.Payload{
				OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: timeToLive, Len: 1,
				CsumType: expr.CsumTypeInet, CsumOffset: headerSum,
			},
		})})
		conn.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: slices.Concat(hops(1), unknown, []expr.Any{lookUp, &expr.Dup{RegAddr: 1}, &expr.Verdict{Kind: expr.VerdictDrop}})})
		// Here, because to what comes to a process of this machine that was connected no later hook is asked.
		conn.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, is([]byte{unix.IPPROTO_TCP}),
			bytesAt(destination, 4), &expr.Lookup{SourceRegister: 1, SetName: lingerSet},
			&expr.Ct{Key: expr.CtKeySTATUS, Register: 1}, masked(binary.NativeEndian.AppendUint32(nil, ledElsewhere)), is(make([]byte, 4)),
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		}})
		return nil
	})
	f.written = err == nil
	return err
}

// near reports whether an address is on one of the networks of a link.
func near(a netip.Addr, l Link, have []address) bool {
	return slices.ContainsFunc(have, func(h address) bool { return h.link == l.Index && h.Contains(a) && !h.IsSingleIP() })
}
