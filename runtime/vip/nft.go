package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nftTable is what our table is called, in each family.
const nftTable = "skerry-vip"

// leastTimeout is how long an element has to last to be written at all: the kernel counts in ticks, and takes less than one for for ever.
const leastTimeout = 25 * time.Millisecond

// nftFence is for machines without BPF: chains of each link that drop what has an address of a set and not of another, whose elements go
// by themselves. Their time is relative, and so it is reckoned just before it is written, and the clock is looked at again
// afterwards: a process that is frozen in between opens the fence for some microseconds when it goes on.
//
// Where links have no hook for what goes out (before Linux 5.16), ARP and IP are looked at where they leave the machine's own stack.
type nftFence struct {
	egress bool

	mu sync.Mutex
	line
	links map[int]Link
	known map[netip.Addr]passage // as it was wanted last
}

// newNFT writes the fence for loopback, to see whether this kernel can do that, and removes it.
func newNFT(egress bool) (*nftFence, error) {
	f := &nftFence{egress: egress, links: map[int]Link{}, known: map[netip.Addr]passage{}}
	if err := f.build(map[int]Link{1: {Index: 1, Name: "lo"}}); err != nil {
		return nil, err
	}
	return f, sweepTables(nftTable)
}

func (f *nftFence) kind() string { return FenceNFT }

func (f *nftFence) guard(l Link) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.links[l.Index].Name == l.Name {
		if conn, err := f.connect(); err == nil {
			if _, err := conn.ListChain(f.tables()[0], chainName("in", l)); err == nil {
				return false, nil
			}
		}
		f.forget() // else it may read later what was meant for this
	}
	f.links[l.Index] = l
	if err := f.rebuild(); err != nil {
		delete(f.links, l.Index)
		return false, fmt.Errorf("fence %s: %w", l.Name, err)
	}
	return true, nil
}

func (f *nftFence) open(a netip.Addr, until time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[a] = passage{Until: until}
	if err := f.renew(a); err != nil {
		return fmt.Errorf("open the fence: %w", err)
	}
	return nil
}

func (f *nftFence) shut(a netip.Addr, lingers time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[a] = passage{Lingers: lingers}
	if err := f.renew(a); err != nil {
		return fmt.Errorf("shut the fence: %w", err)
	}
	return nil
}

func (f *nftFence) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget()
	return sweepTables(nftTable)
}

// renew writes an address, and all else when the tables are gone.
func (f *nftFence) renew(a netip.Addr) error {
	err := f.write(a, slack)
	if errors.Is(err, unix.ENOENT) {
		err = f.rebuild()
	}
	return err
}

// rebuild writes all there should be, which may be there already.
func (f *nftFence) rebuild() error {
	links := maps.Clone(f.links)
	for {
		err := f.build(links)
		if err == nil {
			break
		}
		// A link that is gone takes nobody's fence along.
		n := len(links)
		maps.DeleteFunc(links, func(_ int, l Link) bool { return !l.there() })
		if len(links) == n {
			return err
		}
	}
	for a := range f.known {
		if err := f.write(a, slack); err != nil {
			return err
		}
	}
	return nil
}

// slack is how long a write may take at first before what was reckoned for it is wrong.
const slack = 2 * time.Millisecond

// write has the kernel know an address, and until when it passes. That takes within at most, or it is written again with more of it.
func (f *nftFence) write(a netip.Addr, within time.Duration) error {
	conn, err := f.connect()
	if err != nil {
		return err
	}
	begun := bootTime()
	key := []nftables.SetElement{{Key: a.AsSlice()}}
	var errs []error
	timed := false
	// last has an address be in a set until a moment. An element that is there is not written anew, and one that is not there cannot be removed.
	last := func(set *nftables.Set, until time.Duration) {
		left := until - begun - within
		one := []nftables.SetElement{{Key: a.AsSlice(), Timeout: max(left, leastTimeout)}}
		errs = append(errs, conn.SetAddElements(set, one), conn.SetDeleteElements(set, one))
		if left >= leastTimeout {
			timed = true
			errs = append(errs, conn.SetAddElements(set, one))
		}
	}
	for _, t := range f.tables() {
		known, open := f.sets(t, len(a.AsSlice()))
		errs = append(errs, conn.SetAddElements(known, key))
		last(open, f.known[a].Until)
		if a.Is4() {
			last(lingering(t), f.known[a].Lingers)
		}
	}
	if err := errors.Join(append(errs, f.flush(conn))...); err != nil {
		return err
	}
	if timed && bootTime()-begun > within {
		return f.write(a, 2*within)
	}
	return nil
}

// line is a connection to nftables that is kept: to close one on which something was removed takes the kernel milliseconds. Not safe for
// concurrent use; the zero value is ready.
type line struct{ conn *nftables.Conn }

func (l *line) connect() (_ *nftables.Conn, err error) {
	if l.conn == nil {
		l.conn, err = nftables.New(nftables.AsLasting())
	}
	return l.conn, err
}

// flush carries out what was written to a connection. One that failed is not used again: answers may be left in it.
func (l *line) flush(conn *nftables.Conn) error {
	err := conn.Flush()
	if err != nil {
		l.forget()
	}
	return err
}

// forget closes it; the next connect makes another.
func (l *line) forget() {
	if l.conn != nil {
		_ = l.conn.CloseLasting()
		l.conn = nil
	}
}

// tables are ours, the one first that is always there.
func (f *nftFence) tables() []*nftables.Table {
	all := []*nftables.Table{{Name: nftTable, Family: nftables.TableFamilyNetdev}}
	if !f.egress {
		all = append(all, &nftables.Table{Name: nftTable, Family: nftables.TableFamilyARP}, &nftables.Table{Name: nftTable, Family: nftables.TableFamilyINet})
	}
	return all
}

// sets are those of a table for addresses of as many bytes: all that are known, and those that pass.
func (*nftFence) sets(t *nftables.Table, size int) (known, open *nftables.Set) {
	suffix, kind := "4", nftables.TypeIPAddr
	if size == 16 {
		suffix, kind = "6", nftables.TypeIP6Addr
	}
	return &nftables.Set{Table: t, Name: "sk-known" + suffix, KeyType: kind},
		&nftables.Set{Table: t, Name: "sk-open" + suffix, KeyType: kind, HasTimeout: true}
}

// lingering is the set of a table for addresses of IPv4 of which some goes on.
func lingering(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: "sk-linger4", KeyType: nftables.TypeIPAddr, HasTimeout: true}
}

// build writes tables, sets and chains, as they are wherever they are not.
func (f *nftFence) build(links map[int]Link) error {
	conn, err := f.connect()
	if err != nil {
		return err
	}
	var errs []error
	tables := f.tables()
	for _, t := range tables {
		conn.AddTable(t)
		errs = append(errs, conn.AddSet(lingering(t), nil))
		for _, size := range []int{4, 16} {
			known, open := f.sets(t, size)
			errs = append(errs, conn.AddSet(known, nil), conn.AddSet(open, nil))
		}
	}
	for _, index := range slices.Sorted(maps.Keys(links)) {
		l := links[index]
		f.chain(conn, l, &nftables.Chain{Table: tables[0], Name: chainName("in", l), Hooknum: nftables.ChainHookIngress, Device: l.Name}, incoming)
		if f.egress {
			f.chain(conn, l, &nftables.Chain{Table: tables[0], Name: chainName("out", l), Hooknum: nftables.ChainHookEgress, Device: l.Name}, outgoing)
			continue
		}
		isARP := func(a field) bool { return a.ether == unix.ETH_P_ARP }
		arp := slices.DeleteFunc(slices.Clone(outgoing), func(a field) bool { return !isARP(a) })
		f.chain(conn, l, &nftables.Chain{Table: tables[1], Name: chainName("out", l), Hooknum: nftables.ChainHookRef(1)}, arp) // NF_ARP_OUT
		// Behind all translation of addresses.
		f.chain(conn, l, &nftables.Chain{
			Table: tables[2], Name: chainName("out", l), Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(math.MaxInt32),
		}, slices.DeleteFunc(slices.Clone(outgoing), isARP))
	}
	return errors.Join(append(errs, f.flush(conn))...)
}

func chainName(direction string, l Link) string {
	return "sk-" + direction + "-" + strconv.Itoa(l.Index)
}

// chain writes the rules of a link in one direction.
func (f *nftFence) chain(conn *nftables.Conn, l Link, c *nftables.Chain, fields []field) {
	c.Type = nftables.ChainTypeFilter
	if c.Priority == nil {
		c.Priority = nftables.ChainPriorityFilter
	}
	conn.AddChain(c)
	conn.FlushChain(c)
	for _, a := range fields {
		known, open := f.sets(c.Table, a.size)
		var rule []expr.Any
		has := func(where []content) {
			for _, b := range where {
				rule = append(rule, b.match()...)
			}
		}
		add := func(more ...expr.Any) {
			conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: append(slices.Clip(rule), more...)})
		}
		if c.Device == "" {
			rule = append(rule, &expr.Meta{Key: expr.MetaKeyOIF, Register: 1}, is(binary.NativeEndian.AppendUint32(nil, uint32(l.Index))))
		}
		rule = append(rule, &expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, is([]byte{byte(a.ether >> 8), byte(a.ether)}))
		if a.lingers {
			every := rule
			has(goesOn)
			add(bytesAt(a.at, a.size), &expr.Lookup{SourceRegister: 1, SetName: lingering(c.Table).Name},
				bytesAt(tcpFlags, 1), masked([]byte{tcpBoth}), isNot([]byte{tcpSYN}), &expr.Verdict{Kind: expr.VerdictReturn})
			rule = every
		}
		has(a.where)
		if a.except != 0 {
			rule = append(rule, bytesAt(a.except, a.size), &expr.Lookup{SourceRegister: 1, SetName: known.Name, Invert: true})
		}
		add(bytesAt(a.at, a.size),
			&expr.Lookup{SourceRegister: 1, SetName: known.Name},
			&expr.Lookup{SourceRegister: 1, SetName: open.Name, Invert: true},
			&expr.Verdict{Kind: expr.VerdictDrop})
	}
}

// bytesAt is what stands in a packet, from the network header on.
func bytesAt(at, size int) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: uint32(at), Len: uint32(size)}
}

// match is that a packet has it.
func (c content) match() []expr.Any {
	match := []expr.Any{bytesAt(c.at, 1)}
	if c.mask != 0 {
		match = append(match, masked([]byte{c.mask}))
	}
	return append(match, is([]byte{c.is}))
}

func is(b []byte) expr.Any    { return &expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: b} }
func isNot(b []byte) expr.Any { return &expr.Cmp{Register: 1, Op: expr.CmpOpNeq, Data: b} }

// masked leaves of what was read these bits.
func masked(b []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(b)), Mask: b, Xor: make([]byte, len(b))}
}

// tablesOf are those with a name that there are, whichever process made them. A kernel without nftables has none.
func tablesOf(conn *nftables.Conn, name string) ([]*nftables.Table, error) {
	all, err := conn.ListTables()
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list tables of nftables: %w", err)
	}
	return slices.DeleteFunc(all, func(t *nftables.Table) bool { return t.Name != name }), nil
}

// sweepTables removes all with a name.
func sweepTables(name string) error {
	conn, err := nftables.New()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("speak to nftables: %w", err)
	}
	all, err := tablesOf(conn, name)
	if err != nil || len(all) == 0 {
		return err
	}
	for _, t := range all {
		conn.DelTable(t)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove tables %s: %w", name, err)
	}
	return nil
}

// rememberedByTables are the addresses of IPv6 that tables know which an earlier process left.
func rememberedByTables() (found []netip.Addr, err error) {
	conn, err := nftables.New()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("speak to nftables: %w", err)
	}
	all, err := tablesOf(conn, nftTable)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		known, _ := new(nftFence).sets(t, 16)
		elements, err := conn.GetSetElements(known)
		if err != nil {
			return nil, fmt.Errorf("look into the fence of an earlier process: %w", err)
		}
		for _, e := range elements {
			if a, ok := netip.AddrFromSlice(e.Key); ok {
				found = append(found, a)
			}
		}
	}
	return found, nil
}
