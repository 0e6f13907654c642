// Package vip makes a machine have addresses that one machine of a fleet has at a time. Who may, and until when, is decided elsewhere:
// this package has the kernel keep to it, also when the process is frozen or killed.
//
// Two things keep two machines from having an address, and never one alone. It is on the machine that holds it and on no other. And on
// the link there is a fence that compares the clock with a deadline for each packet of it: ARP, neighbour discovery and IP. The fence
// is a program for filters of BPF, which stay when the process goes; where a kernel lacks that, rules of nftables with elements that expire.
// What an earlier process left is taken away when the next one starts.
//
// The fence stands on the links that lead to the address's neighbours, and nowhere else. What the machine and its pods say to the address
// themselves, and frames of a VLAN, do not pass it. It does not hold for a filter of somebody else that comes before ours and
// accepts a packet, nor against a machine that was paused as a whole, with its clock: that goes on with what was left of its deadline.
//
// An address lasts (/32 or /128), and is never the source of what the machine sends by itself; IPv6 does not ask first whether it is
// free. What is not ours stays: other filters and their qdisc, tables, addresses.
//
// It is tested with real packets between network namespaces in scripts/lab, with both fences.
package vip

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/runtime/host"
)

var _ host.Addresses = (*Holder)(nil)

// The kinds of fence.
const (
	FenceBPF = "bpf"
	FenceNFT = "nft"

	fenceNFTOld = "nft-old" // as it is before Linux 5.16
)

// Options are how addresses are held. The zero Options will do.
type Options struct {
	// Fence is FenceBPF or FenceNFT; empty: the first of them that this kernel can do.
	Fence string
	// Announcer tells others where an address is; nil: neighbours are told by ARP and neighbour advertisements.
	Announcer Announcer
	// Conflict is called when another machine says that it has an address that is held here, with the one it says it has it at; at most
	// once a second for each address. Nil: nobody is told. It must not block.
	Conflict func(a netip.Addr, mac net.HardwareAddr)
	// Changed is a bell: links, addresses or default routes of the machine changed, and Eligible may say something else. It rings more
	// often than that is so. Nil: nobody is told. It must not block.
	Changed func()
}

// Holder holds addresses on a machine, or rather in the network namespace in which its methods are called. One process has one of it.
type Holder struct {
	log      *slog.Logger
	conflict func(netip.Addr, net.HardwareAddr)
	changed  func()
	fence    fence
	tell     Announcer
	wire     *wire // nil: somebody else tells
	events   *nl.NetlinkSocket
	formers  *formers
	closed   atomic.Bool
	loops    sync.WaitGroup

	mu   sync.Mutex
	held map[netip.Addr]*holding // those that were dropped, too
}

// Open takes away what an earlier process left, and looks what this kernel can do. The error is for people; nothing is held after it.
func Open(log *slog.Logger, o Options) (*Holder, error) {
	h := &Holder{log: log, conflict: o.Conflict, changed: o.Changed, tell: o.Announcer, formers: newFormers(), held: map[netip.Addr]*holding{}}
	if err := Sweep(); err != nil {
		return nil, fmt.Errorf("take away what an earlier agent left of addresses: %w", err)
	}
	var err error
	if h.fence, err = choose(o.Fence); err != nil {
		return nil, err
	}
	if h.tell == nil {
		if h.wire, err = newWire(); err != nil {
			return nil, errors.Join(err, h.end())
		}
		h.tell = h.wire
	}
	if h.events, err = events(); err != nil {
		return nil, errors.Join(err, h.end())
	}
	links, err := netlink.LinkList()
	if err != nil {
		h.events.Close()
		return nil, errors.Join(fmt.Errorf("list links: %w", err), h.end())
	}
	ready := map[int]bool{}
	for _, l := range links {
		ready[l.Attrs().Index] = linkOf(l).Ready
	}
	h.loops.Go(func() { h.watch(h.events, ready) })
	log.Info("addresses of the fleet can be held", "fence", h.fence.kind())
	return h, nil
}

// Sweep takes away what processes left that have ended: first the addresses, and when they are gone, what stood before them. Open does so
// itself.
func Sweep() error {
	known, err := remembered()
	if err != nil {
		return err
	}
	byTables, err := rememberedByTables()
	if err != nil {
		return err
	}
	if err := sweepAddresses(append(known, byTables...)); err != nil {
		return err
	}
	return errors.Join(sweepFilters(0), sweepTables(nftTable), sweepTables(formerTable))
}

// choose makes the fence that is wanted, or the best that there can be.
func choose(kind string) (fence, error) {
	var why []error
	if kind == "" || kind == FenceBPF {
		var f *bpfFence
		taken, err := occupied()
		if err == nil && kind == "" && taken != "" {
			err = fmt.Errorf("the link %s has a qdisc ingress, beside which there can be no clsact", taken)
		}
		if err == nil {
			f, err = newBPF()
		}
		if err == nil {
			return f, nil
		}
		why = append(why, fmt.Errorf("by BPF: %w", err))
	}
	if kind == "" || kind == FenceNFT {
		f, err := newNFT(true)
		if err == nil {
			return f, nil
		}
		why = append(why, fmt.Errorf("by nftables: %w", err))
	}
	if kind == "" || kind == FenceNFT || kind == fenceNFTOld {
		f, err := newNFT(false)
		if err == nil {
			return f, nil
		}
		why = append(why, fmt.Errorf("by nftables without the hook egress: %w", err))
	}
	return nil, fmt.Errorf("addresses of the fleet need a fence in the kernel, for which there is nothing here: %w", errors.Join(why...))
}

// Expect prepares for what may come; see host.Addresses.
func (h *Holder) Expect() {
	if err := h.formers.expect(); err != nil {
		h.log.Warn("connections that are under way are lost when an address of the fleet moves: this kernel cannot send them on", "err", err)
	}
}

// Hold makes the machine have an address; see host.Addresses.
func (h *Holder) Hold(a netip.Addr, until time.Duration, former netip.Addr) error {
	one := h.one(a.Unmap())
	one.mu.Lock()
	defer one.mu.Unlock()
	now := bootTime()
	if h.closed.Load() {
		return fmt.Errorf("hold address %s: closed", a)
	}
	if until <= now {
		return fmt.Errorf("hold address %s: the time for it was over %v ago", a, now-until)
	}
	if one.taken && one.until > now {
		if err := h.fence.open(one.addr, until); err != nil {
			return fmt.Errorf("hold address %s: %w", a, err)
		}
		one.until = until
		return nil
	}
	if one.taken { // others may have had it meanwhile
		if err := h.give(one, 0); err != nil {
			return fmt.Errorf("take address %s: %w", a, err)
		}
	}
	if err := h.take(one, until, former.Unmap()); err != nil {
		return fmt.Errorf("take address %s: %w", a, err)
	}
	return nil
}

// take makes the machine have an address that it has not. one.mu is locked.
func (h *Holder) take(one *holding, until time.Duration, former netip.Addr) error {
	have, err := list()
	if err != nil {
		return err
	}
	for _, a := range have {
		if a.Addr() == one.addr && !a.ours() {
			return fmt.Errorf("the machine has it from somebody else: %w", host.ErrConflict)
		}
	}
	links, err := uplinks(one.addr, have)
	if err != nil {
		return err
	}
	if _, err := h.guard(links); err != nil {
		return err
	}
	if err := h.formers.lingers(one.addr, 0); err != nil {
		return err
	}
	if err := h.fence.open(one.addr, until); err != nil {
		return err
	}
	l := links[0]
	if !former.Is4() || !near(former, l, have) {
		former = netip.Addr{}
	} else { // now: what has been led to a pod here cannot be sent back
		h.sendBack(one.addr, former)
	}
	if err := addAddress(l, one.addr); err != nil {
		return errors.Join(err, h.fence.shut(one.addr, 0))
	}
	told := h.tell.Announce(l, one.addr)
	one.taken, one.until, one.since, one.link, one.conflicts = true, until, time.Now(), l, 0
	h.attend(one)
	h.log.Info("took an address of the fleet", "addr", one.addr, "link", l.Name)
	if told != nil {
		h.log.Warn("neighbours were not told of an address", "addr", one.addr, "err", told)
	}
	if !former.IsValid() { // it comes from another machine than the last time
		h.sendBack(one.addr, former)
	}
	return nil
}

// sendBack has connections that are under way go on where they are.
func (h *Holder) sendBack(a, former netip.Addr) {
	if !a.Is4() {
		return
	}
	if err := h.formers.from(a, former, host.Linger); err != nil {
		h.log.Warn("connections to an address that are under way are lost", "addr", a, "err", err)
	}
}

// guard puts the fence on links, and says whether it was not there.
func (h *Holder) guard(links []Link) (changed bool, err error) {
	for _, l := range links {
		put, err := h.fence.guard(l)
		if err != nil {
			return changed, err
		}
		changed = changed || put
	}
	return changed, nil
}

// Drop makes the machine have an address no more; see host.Addresses.
func (h *Holder) Drop(a netip.Addr, lingers bool) error {
	one := h.one(a.Unmap())
	one.mu.Lock()
	defer one.mu.Unlock()
	if !one.taken {
		return nil
	}
	until := time.Duration(0)
	if lingers {
		until = bootTime() + host.Linger
	}
	if err := h.give(one, until); err != nil {
		return fmt.Errorf("give up address %s: %w", a, err)
	}
	if lingers && one.addr.Is4() {
		if err := h.formers.lingers(one.addr, host.Linger); err != nil {
			h.log.Warn("who is connected to this machine itself by an address that it had is not told that it is gone", "addr", one.addr, "err", err)
		}
	}
	h.log.Info("gave up an address of the fleet", "addr", one.addr)
	return nil
}

// give makes the machine have an address no more that it has; what goes on there may do so until a moment. one.mu is locked.
func (h *Holder) give(one *holding, lingers time.Duration) error {
	errShut := h.fence.shut(one.addr, lingers)
	errGone := removeAddress(one.link.Index, one.addr)
	if errShut != nil && errGone != nil {
		time.Sleep(one.until - bootTime()) // it shuts by itself
	}
	one.until = 0
	if errGone == nil {
		one.taken = false
		close(one.stop)
	}
	return errors.Join(errShut, errGone)
}

// State is what the machine has; see host.Addresses.
func (h *Holder) State() []host.Held {
	var all []host.Held
	for _, one := range h.all() {
		one.mu.Lock()
		if one.taken {
			all = append(all, host.Held{
				Addr: one.addr, Link: one.link.Name, Since: one.since, Open: one.until > bootTime(), Fence: h.fence.kind(), Conflicts: one.conflicts,
			})
		}
		one.mu.Unlock()
	}
	return all
}

// Close drops all addresses and leaves nothing behind. Nothing can be held afterwards. After an error the fence stays where it is.
func (h *Holder) Close() error {
	h.closed.Store(true)
	var errs []error
	for _, one := range h.all() {
		errs = append(errs, h.Drop(one.addr, false))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	h.events.Close()
	h.loops.Wait()
	return h.end()
}

// end gives up what Open has made.
func (h *Holder) end() error {
	if h.wire != nil {
		h.wire.close()
	}
	return errors.Join(h.fence.close(), h.formers.close())
}

// one is what there is of an address, made when it is asked for first.
func (h *Holder) one(a netip.Addr) *holding {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[a] == nil {
		h.held[a] = &holding{addr: a}
	}
	return h.held[a]
}

func (h *Holder) all() []*holding {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Values(h.held), func(a, b *holding) int { return a.addr.Compare(b.addr) })
}

// bootTime is the time since the machine was started, also while it slept.
func bootTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // there is one since Linux 2.6.39
	return time.Duration(t.Nano())
}
