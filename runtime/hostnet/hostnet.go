// Package hostnet makes Services work on one machine: it is host.Network by nftables. Connections to the address of a
// Service are shared out among its ends by the kernel (destination NAT), and what nobody serves is refused at once.
//
// There are two tables, `ip skerry` and `ip6 skerry`, the second where it is needed; no other table, no iptables rule and
// no mark is written or looked at. All ends lie in one map, by address, protocol and port of the front and a slot. A second
// map leads from a front to the chain for as many ends as it has, whose one rule draws a slot. So a change of ends is
// elements that come and go, in one transaction; rules are added only for a number of ends above 16 that was not seen before,
// and for sticky fronts, which have a chain each.
//
// What is in the kernel is remembered and not asked for. The first Serve of a process looks once which chains there are, keeps
// them, and writes all elements anew in one transaction: connections under way do not notice, new ones meet the old elements or
// the new, and sticky clients stay where they are. Tables of another version of this package are replaced, and so are those in which
// a change fails, which is when somebody else has been at them; then a connection that begins in that very moment may be lost.
//
// What it does not do: node ports answer on all addresses of the machine but those of loopback (that would take
// route_localnet, which opens 127.0.0.1 to the network; whoever listens there keeps it). A machine without a route to a
// Service's address cannot reach it itself, because the kernel looks for a route first; pods and clients outside are not
// concerned. A datagram of the machine itself that is refused fails in the socket with EPERM and not with ECONNREFUSED. Which
// end a sticky client has, each machine knows for itself. Where a node port is masqueraded, so are other destination NATs of
// the machine that have its number as their port, for clients that are no pods.
//
// Pods of other nodes are reached by routes in the machine's main table, which bear RouteProtocol, and where they need one through the device
// skerry-vx, or skerry-wg where tunnels are WireGuard's. All of it is looked at with each Serve: it costs less than a millisecond, and not all
// that takes it away is told of. What is there as it should be is not touched.
//
// For pods of one bridge there are PrepareBridge and PreparePort, which is a matter of links and not of rules.
//
// The text of transactions is tested with knftables' fake, everything else with real packets between network namespaces in
// scripts/lab. SCTP is tested as text alone, and of WireGuard what the kernel's is told, but not the kernel's itself.
package hostnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"

	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

var _ host.Network = (*Net)(nil)

// Net is the rules of a machine, or rather of the network namespace in which its methods are called. One process has
// one of it.
type Net struct {
	log *slog.Logger
	nft knftables.Interface
	kernel

	mu    sync.Mutex
	known bool // have is what the kernel has
	have  map[knftables.Family]*table
	due   map[key]int         // fronts of UDP, and how often flows of theirs are still to be looked for
	here  map[netip.Addr]bool // as it was wanted last; nil: not known
	gone  map[netip.Addr]bool // what was here, with flows still to forget
	bare  bool                // the machine has no addresses for Services
	apart bool                // it has no routes of ours
	seen  uint32              // the generation in which all was well
	sure  bool                // there is one
	own   []uint32            // later ones that are known to be ours, in order
	lost  bool                // rules were lost, and are not written yet
}

// New looks whether this machine can, and changes nothing. Tunnels are made by wireguard where it is wanted, which may be nil: then there are
// none of it, and what the kernel has of an earlier process is taken away all the same. The error is for people.
func New(log *slog.Logger, wireguard *WireGuard) (*Net, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("services need the rights of root: the agent writes nftables rules")
	}
	nft, err := knftables.New("", "")
	if err != nil {
		return nil, fmt.Errorf("services need nftables 1.0.1 or newer, as the command nft (the package nftables), and a kernel with it: %w", err)
	}
	tx := nft.NewTransaction()
	remove(tx, knftables.IPv4Family)
	probed, _ := wanted(knftables.IPv4Family, probe, nil)
	probed.build(tx)
	if err := nft.Check(context.Background(), tx); err != nil {
		return nil, fmt.Errorf("services need more of nftables than this kernel has (Linux 5.10 with NAT and connection tracking has it): %w", err)
	}
	return with(log, nft, kernel{forget, generation, count, hold, wireguard.lay}), nil
}

// kernel is what is asked of it past nft. They are fields for tests without one.
type kernel struct {
	forget     func(stale) error                                               // deletes flows that go where they should not
	generation func() (uint32, error)                                          // how often the rules were changed by anybody
	count      func(context.Context, knftables.Family) (map[string]int, error) // what is in a table
	hold       func(want []netip.Addr) error                                   // makes the machine have addresses for Services
	lay        func([]fleet.Route, fleet.Tunnel) error                         // makes the machine have routes to pods of other nodes
}

// with is a Net on any nftables.
func with(log *slog.Logger, nft knftables.Interface, k kernel) *Net {
	return &Net{log: log, nft: nft, kernel: k, due: map[key]int{}, gone: map[netip.Addr]bool{}}
}

// Serve makes the machine's rules those of want; see host.Network.
func (n *Net) Serve(ctx context.Context, want fleet.HostNet) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.write(ctx, want, false)
	if err != nil && ctx.Err() == nil {
		// What is there is not what it should be.
		n.log.Warn("the rules of services were not as they were left, and are written anew", "err", err)
		err = n.write(ctx, want, true)
	}
	if err != nil {
		return fmt.Errorf("write rules of services: %w", err)
	}
	var held, laid error
	if !n.bare || len(want.Addrs) > 0 { // others take addresses away, too, and nobody tells
		held = n.hold(want.Addrs)
		n.bare = held == nil && len(want.Addrs) == 0
	}
	if !n.apart || len(want.Routes) > 0 { // and so do they with routes
		laid = n.lay(want.Routes, want.Tunnel)
		n.apart = laid == nil && len(want.Routes) == 0
	}
	partly := errors.Join(held, laid)
	if err := n.clear(); err != nil {
		return errors.Join(err, partly)
	}
	if partly != nil {
		return host.Partly{Err: partly}
	}
	return nil
}

// write writes what is wanted: as changes of what is there, or anew.
func (n *Net) write(ctx context.Context, want fleet.HostNet, anew bool) error {
	steps := [3]*knftables.Transaction{n.nft.NewTransaction(), n.nft.NewTransaction(), n.nft.NewTransaction()}
	tx := steps[1]
	next := map[knftables.Family]*table{}
	due := map[key]bool{}
	for _, family := range families {
		have := n.have[family]
		now, differs := wanted(family, want, have)
		w := writer{steps[0], steps[1], steps[2], family}
		switch {
		case !n.known && now != nil && !anew:
			found, err := n.count(ctx, family)
			if err != nil {
				return err
			}
			if whole(&table{family: family}, found) && now.unharmed(found) {
				now.adopt(w, found)
				break
			}
			fallthrough
		case !n.known:
			remove(tx, family)
			if now != nil {
				now.build(tx)
			}
		case now == nil && have == nil:
		case now == nil:
			remove(tx, family)
		case have == nil:
			now.build(tx)
		default:
			w.update(have, now, differs)
		}
		if now != nil {
			next[family] = now
		}
		if now == nil && have != nil {
			differs.keys = changed(have, &table{})
		}
		for _, k := range differs.keys {
			if k.proto == "udp" {
				due[k] = true
			}
		}
	}
	if err := n.run(ctx, steps[:]); err != nil {
		return err
	}
	n.known, n.have, n.lost = true, next, false
	for k := range due {
		n.due[k] = sweeps
	}
	here := make(map[netip.Addr]bool, len(want.Here))
	for _, a := range want.Here {
		here[ip(a)] = true
		delete(n.gone, ip(a)) // another pod has it by now, whose flows stay
	}
	for a := range n.here {
		if !here[a] {
			n.gone[a] = true
		}
	}
	n.here = here
	return nil
}

// sweeps is how often flows of UDP that should go elsewhere are looked for: the kernel does not tell of one whose first packet was
// led to its end just before the change, and is under way.
const sweeps = 2

// run runs transactions, those that do anything. After an error nothing is known of what is in the kernel.
func (n *Net) run(ctx context.Context, steps []*knftables.Transaction) error {
	steps = slices.DeleteFunc(steps, func(tx *knftables.Transaction) bool { return tx.NumOperations() == 0 })
	if len(steps) == 0 {
		return nil
	}
	before, errBefore := n.generation()
	based := n.known
	// Cut short, it may have been done all the same.
	n.known = false
	for _, tx := range steps {
		if err := n.nft.Run(ctx, tx); err != nil {
			n.have = nil
			return err
		}
	}
	// Only if nobody else wrote in between are these generations ours.
	after, errAfter := n.generation()
	alone := errBefore == nil && errAfter == nil && after == before+uint32(len(steps))
	switch {
	case alone && (!based || n.sure && before == n.seen):
		n.saw(after)
	case alone: // others wrote before, of which Watch is about to hear
		for id := before + 1; id != after+1; id++ {
			n.own = append(n.own, id)
		}
	default:
		n.sure = false
	}
	return nil
}

func orEmpty(t *table) *table {
	if t == nil {
		return &table{}
	}
	return t
}

// clear forgets the UDP flows of fronts that changed, and all to pods that are no more.
func (n *Net) clear() error {
	if len(n.due)+len(n.gone) == 0 {
		return nil
	}
	if err := n.forget(stale{due: n.due, gone: n.gone, have: n.have}); err != nil {
		return fmt.Errorf("forget flows of services: %w", err)
	}
	clear(n.gone)
	for k := range n.due {
		if n.due[k]--; n.due[k] == 0 {
			delete(n.due, k)
		}
	}
	return nil
}

// Check says whether somebody removed rules of ours; see host.Network.
func (n *Net) Check(ctx context.Context) (lost bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.known {
		return n.lost, nil // the next Serve writes all in any case
	}
	at, err := n.generation()
	if err == nil && n.sure && at == n.seen {
		return false, nil
	}
	errGeneration := err
	for _, family := range families {
		if t := n.have[family]; t != nil {
			have, err := n.count(ctx, family)
			if err != nil {
				return false, fmt.Errorf("look at the rules of services: %w", err)
			}
			if !whole(t, have) {
				n.known, n.have, n.sure, n.lost = false, nil, false, true
				return true, nil
			}
		}
	}
	// Asked before the look, so that what happened during it is found the next time.
	n.saw(at)
	n.sure = errGeneration == nil
	return false, nil
}

// saw notes that in a generation all was well.
func (n *Net) saw(id uint32) {
	n.seen, n.sure = id, true
	n.own = slices.DeleteFunc(n.own, func(own uint32) bool { return !newer(own, id) })
}

// newer reports whether a generation is newer than another. Their numbers begin anew after the highest.
func newer(id, than uint32) bool { return int32(id-than) > 0 }
