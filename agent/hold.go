package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/coord/lease"
	"github.com/skerry-dev/skerry/fleet"
)

// holdAgain is when a node campaigns again for an address that its machine could not have.
const holdAgain = 5 * time.Second

// holder campaigns for the addresses that this node may have, and has the machine have those that it wins, for as long as they are its own.
type holder struct {
	*Agent
	loops sync.WaitGroup

	mu        sync.Mutex
	campaigns map[netip.Addr]*campaign
	ending    map[netip.Addr]*campaign // the last one that was ended, by address: the next waits for it
	held      map[netip.Addr]bool
	faults    map[netip.Addr]string
}

// campaign is one address that the node may have.
type campaign struct {
	fleet.Candidacy
	stop context.CancelFunc
	done chan struct{}
}

func (a *Agent) newHolder() *holder {
	return &holder{Agent: a, campaigns: map[netip.Addr]*campaign{}, ending: map[netip.Addr]*campaign{}, held: map[netip.Addr]bool{}, faults: map[netip.Addr]string{}}
}

// want has the node campaign for these addresses and for no others. It does not wait: an address that it has and is not to have any more goes to
// another node as soon as the machine has let go of it.
func (h *holder) want(ctx context.Context, list []fleet.Candidacy) {
	if h.Fleet == nil || h.Fleet.Leases == nil || h.Network == nil || h.Network.Addresses == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	wanted := map[netip.Addr]bool{}
	for a := range h.faults {
		delete(h.faults, a)
	}
	for _, c := range list {
		if why := h.Network.Addresses.Eligible(c.Addr); why != "" {
			h.faults[c.Addr] = why
			continue
		}
		wanted[c.Addr] = true
		if now := h.campaigns[c.Addr]; now != nil {
			now.Heir = c.Heir
			continue
		}
		before := h.ending[c.Addr]
		own, stop := context.WithCancel(ctx)
		now := &campaign{Candidacy: c, stop: stop, done: make(chan struct{})}
		h.campaigns[c.Addr] = now
		h.loops.Go(func() {
			defer close(now.done)
			defer stop()
			if before != nil {
				<-before.done
			}
			h.run(own, now)
		})
	}
	for a, c := range h.campaigns {
		if !wanted[a] {
			c.stop()
			delete(h.campaigns, a)
			h.ending[a] = c
		}
	}
}

// run campaigns again and again until ctx ends.
func (h *holder) run(ctx context.Context, c *campaign) {
	for ctx.Err() == nil {
		own, err := h.Fleet.Leases.Campaign(ctx, c.Addr.String(), c.Rank)
		if err == nil {
			err = h.keep(ctx, c, own)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		h.Log.Error("an address that this node may have cannot be had", "address", c.Addr, "err", err)
		h.note(c.Addr, err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(holdAgain):
		}
	}
}

// keep has the machine have an address until the lease or ctx ends. The address has gone from the machine when it returns.
func (h *holder) keep(ctx context.Context, c *campaign, own *lease.Lease) error {
	err := h.Network.Addresses.Hold(c.Addr, own.Until()) // first of all: others are told of it there
	if err == nil {
		h.has(c.Addr, true)
		h.Log.Info("VIPAcquired", "address", c.Addr, "until", own.Until())
	}
	why := "it could not be had"
	for err == nil {
		select {
		case <-own.Renewed():
			err = h.Network.Addresses.Hold(c.Addr, own.Until())
			h.Metrics.renewed(c.Addr, own.Age())
			continue
		case <-own.Context().Done():
			why = "its lease ended: no majority of the fleet's voters answered in time"
		case <-ctx.Done():
			why = "another node should have it"
		}
		break
	}
	errDrop := h.Network.Addresses.Drop(c.Addr) // shut, whatever it returns
	own.Yield(h.heir(c))
	if h.has(c.Addr, false) {
		h.Log.Info("VIPLost", "address", c.Addr, "why", why)
	}
	return errors.Join(err, errDrop)
}

func (h *holder) heir(c *campaign) fleet.NodeName {
	h.mu.Lock()
	defer h.mu.Unlock()
	return c.Heir
}

// has notes whether the machine has an address, and reports whether that is new.
func (h *holder) has(a netip.Addr, is bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[a] == is {
		return false
	}
	h.held[a] = is
	if !is {
		delete(h.held, a)
	}
	h.Metrics.holds(a, is)
	h.nodeBell.ring()
	return true
}

func (h *holder) note(a netip.Addr, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[a] = why
}

// tell adds to a report what the node has, and why it cannot have what it may.
func (h *holder) tell(report *fleet.NodeReport) {
	if h.Fleet == nil || h.Fleet.Leases == nil {
		return
	}
	report.Electorate = h.Fleet.Leases.Electorate()
	h.mu.Lock()
	defer h.mu.Unlock()
	for a := range h.held {
		report.Holding = append(report.Holding, a)
	}
	slices.SortFunc(report.Holding, netip.Addr.Compare)
	for a, why := range h.faults {
		report.Notes = append(report.Notes, fleet.Note{
			About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(h.Node.Name)}, Text: fmt.Sprintf("it cannot have address %s: %s", a, why),
		})
	}
	slices.SortFunc(report.Notes, fleet.Note.Compare)
}

// end lets go of all addresses, and waits until the machine has.
func (h *holder) end() {
	h.mu.Lock()
	for _, c := range h.campaigns {
		c.stop()
	}
	clear(h.campaigns)
	h.mu.Unlock()
	h.loops.Wait()
}

// withoutSilent are reports without the addresses of nodes that are not heard any more: the store says for some seconds what they said last, and by
// then others have them.
func withoutSilent(reports []fleet.NodeReport, silent []fleet.NodeName) []fleet.NodeReport {
	reports = slices.Clone(reports)
	for i := range reports {
		if slices.Contains(silent, reports[i].Node) {
			reports[i].Holding = nil
		}
	}
	return reports
}
