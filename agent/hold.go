package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/coord/lease"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// holdAgain is when a node campaigns again for an address that its machine could not have.
const holdAgain = 5 * time.Second

// Holder campaigns for the addresses that this node may have, and has the machine have those that it wins, for as long as they are its own. It
// outlives agents: one that begins anew in the same process lets go of nothing. Safe for concurrent use.
type Holder struct {
	leases  *lease.Node
	log     *slog.Logger
	metrics *Metrics
	ctx     context.Context //nolint:containedctx // what campaigns live in
	stop    context.CancelFunc
	loops   sync.WaitGroup

	mu        sync.Mutex
	machine   Addresses // nil: it has none
	ring      func()    // called when something of what tell says changed
	campaigns map[netip.Addr]*campaign
	ending    map[netip.Addr]*campaign // the last one that was ended, by address: the next waits for it
	held      map[netip.Addr]*lease.Lease
	unfit     map[netip.Addr]string // why the machine could not have one
	faults    map[netip.Addr]string // why it could not when it was tried
}

// campaign is one address that the node may have.
type campaign struct {
	fleet.Candidacy
	stop context.CancelFunc
	done chan struct{}
}

// NewHolder holds nothing yet.
func NewHolder(leases *lease.Node, log *slog.Logger) *Holder {
	h := &Holder{
		leases: leases, log: log, ring: func() {}, campaigns: map[netip.Addr]*campaign{}, ending: map[netip.Addr]*campaign{},
		held: map[netip.Addr]*lease.Lease{}, unfit: map[netip.Addr]string{}, faults: map[netip.Addr]string{},
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// Use has the holder use a machine's addresses. It is called once; before, nothing is campaigned for. Metrics may be nil.
func (h *Holder) Use(machine Addresses, metrics *Metrics) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.machine, h.metrics = machine, metrics
	metrics.addressesOf(h)
}

// tellTo has ring called when something changed that should be reported, and nobody else any more. It must not block.
func (h *Holder) tellTo(ring func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ring = ring
}

// want has the node campaign for these addresses and for no others. It does not wait: an address that it has and is not to have any more goes to
// another node as soon as the machine has let go of it.
func (h *Holder) want(list []fleet.Candidacy) {
	h.mu.Lock()
	machine := h.machine
	h.mu.Unlock()
	if machine == nil {
		return
	}
	unfit := map[netip.Addr]string{}
	for _, c := range list {
		if why := machine.Eligible(c.Addr); why != "" { // it asks the kernel
			unfit[c.Addr] = why
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unfit = unfit
	wanted := map[netip.Addr]bool{}
	for _, c := range list {
		if unfit[c.Addr] != "" {
			continue
		}
		wanted[c.Addr] = true
		if now := h.campaigns[c.Addr]; now != nil {
			now.Heir = c.Heir
			continue
		}
		before := h.ending[c.Addr]
		own, stop := context.WithCancel(h.ctx)
		now := &campaign{Candidacy: c, stop: stop, done: make(chan struct{})}
		h.campaigns[c.Addr] = now
		h.loops.Go(func() {
			defer close(now.done)
			defer stop()
			if before != nil {
				<-before.done
			}
			h.run(own, machine, now)
		})
	}
	for a, c := range h.campaigns {
		if !wanted[a] {
			c.stop()
			delete(h.campaigns, a)
			delete(h.faults, a)
			h.ending[a] = c
		}
	}
}

// run campaigns again and again until ctx ends.
func (h *Holder) run(ctx context.Context, machine Addresses, c *campaign) {
	machine.Expect()
	for ctx.Err() == nil {
		own, err := h.leases.Campaign(ctx, c.Addr.String(), c.Rank)
		if err == nil {
			err = h.keep(ctx, machine, c, own)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		h.log.Error("an address that this node may have cannot be had", "address", c.Addr, "err", err)
		h.fails(c.Addr, err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(holdAgain):
		}
	}
}

// keep has the machine have an address until the lease or ctx ends. The address has gone from the machine when it returns. An error is the
// machine's: that the lease ended is none.
func (h *Holder) keep(ctx context.Context, machine Addresses, c *campaign, own *lease.Lease) error {
	err := machine.Hold(c.Addr, own.Until(), own.Former()) // first of all: others are told of it there
	if err == nil {
		h.fails(c.Addr, "")
		if h.has(c.Addr, own) {
			h.log.Info("VIPAcquired", "address", c.Addr)
		}
	}
	why, lingers := "it could not be had", false
	for err == nil {
		select {
		case <-own.Renewed():
			err = machine.Hold(c.Addr, own.Until(), netip.Addr{})
			h.metrics.renewed(c.Addr, own.Age())
			continue
		case <-own.Context().Done():
			why = "its lease ended: no majority of the fleet's voters answered in time"
		case <-ctx.Done():
			why, lingers = "another node should have it", !own.Over()
		}
		break
	}
	if err != nil && own.Over() { // this process was not run for so long that it was over
		err, why = nil, "its lease ended while this process stood still"
	}
	errDrop := machine.Drop(c.Addr, lingers) // shut, whatever it returns
	own.Yield(h.heir(c))
	if h.has(c.Addr, nil) {
		h.log.Info("VIPLost", "address", c.Addr, "why", why)
	}
	return errors.Join(err, errDrop)
}

func (h *Holder) heir(c *campaign) fleet.NodeName {
	h.mu.Lock()
	defer h.mu.Unlock()
	return c.Heir
}

// has notes by what the machine has an address, nil for not at all, and reports whether it had it or had it not before.
func (h *Holder) has(a netip.Addr, own *lease.Lease) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, was := h.held[a]
	if h.held[a] = own; own == nil {
		delete(h.held, a)
	}
	if was == (own != nil) {
		return false
	}
	h.metrics.holds(a, own != nil)
	h.ring()
	return true
}

// fails notes why the machine could not have an address; empty: it can.
func (h *Holder) fails(a netip.Addr, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.faults[a] == why {
		return
	}
	h.faults[a] = why
	if why == "" {
		delete(h.faults, a)
	}
	h.ring()
}

// tell adds to a report what the node has and could have, and why it cannot have what it may.
func (h *Holder) tell(report *fleet.NodeReport) {
	report.Electorate, report.Process = h.leases.Electorate(), h.leases.Process()
	h.mu.Lock()
	defer h.mu.Unlock()
	for a := range h.held {
		report.Holding = append(report.Holding, a)
	}
	slices.SortFunc(report.Holding, netip.Addr.Compare)
	for a := range h.campaigns {
		if h.faults[a] == "" {
			report.Seeking = append(report.Seeking, a)
		}
	}
	slices.SortFunc(report.Seeking, netip.Addr.Compare)
	for _, list := range []map[netip.Addr]string{h.unfit, h.faults} {
		for a, why := range list {
			report.Notes = append(report.Notes, fleet.Note{
				About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(report.Node)}, Text: fmt.Sprintf("it cannot have address %s: %s", a, why),
			})
		}
	}
	slices.SortFunc(report.Notes, fleet.Note.Compare)
}

// End lets go of all addresses, for others to have, and waits until the machine has. It is the last call.
func (h *Holder) End() {
	h.stop()
	h.loops.Wait()
}

// withoutSilent are reports without the addresses of nodes that are not heard any more: the store says for some seconds what they said last, and by
// then others have them.
func withoutSilent(reports []fleet.NodeReport, silent map[fleet.NodeName]time.Duration) []fleet.NodeReport {
	reports = slices.Clone(reports)
	for i := range reports {
		if _, is := silent[reports[i].Node]; is {
			reports[i].Holding = nil
		}
	}
	return reports
}

// rulesLost is after how long without the rules that are planned a node leaves addresses to others.
const rulesLost = 5 * time.Second

// hold campaigns for the addresses that are planned. A node whose rules cannot be made leaves them to others.
func (w *worker) hold(plan *reconcile.NodePlan, turned bool) {
	plan.Report.Notes = append(plan.Report.Notes, w.unheard...)
	if w.holder == nil {
		return
	}
	if turned {
		w.turned = time.Now()
		w.holder.want(plan.Candidacies)
	} else if time.Since(w.turned) > rulesLost {
		w.holder.want(nil)
	}
	w.holder.tell(&plan.Report)
}
