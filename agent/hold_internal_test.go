package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/skerry-dev/skerry/coord/lease"
	"github.com/skerry-dev/skerry/coord/lease/leasetest"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// street is the machines of a fleet on one link, and who of them lets an address through at a moment. Machines stay when their agents die: what
// their kernels let through ends by itself alone.
type street struct {
	t     *testing.T
	lan   *leasetest.LAN
	began time.Time
	mu    sync.Mutex
	story []string
	open  map[netip.Addr]map[fleet.NodeName]time.Duration // until when
	agent map[fleet.NodeName]*process
	names []fleet.NodeName
	wants []fleet.Candidacy
	// By address: whom what is not known to the last that has it is sent on to, and whether the last that dropped it lets it go on.
	former  map[netip.Addr]netip.Addr
	lingers map[netip.Addr]bool
}

// process is an agent's part in addresses.
type process struct {
	*Holder
	leases *lease.Node
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

func newStreet(t *testing.T, addresses int, names ...fleet.NodeName) *street {
	s := &street{t: t, lan: leasetest.NewLAN(), began: time.Now(), open: map[netip.Addr]map[fleet.NodeName]time.Duration{}, former: map[netip.Addr]netip.Addr{}, lingers: map[netip.Addr]bool{}, agent: map[fleet.NodeName]*process{}, names: names}
	for i := range addresses {
		s.wants = append(s.wants, fleet.Candidacy{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})})
	}
	return s
}

// now is the boot clock of all machines: none of them is ever switched off.
func (s *street) now() time.Duration { return time.Since(s.began) + time.Hour }

// kernel is one machine's addresses: host.Addresses by the book.
type kernel struct {
	*street
	name  fleet.NodeName
	fault func(netip.Addr) error
}

func (k *kernel) State() (list []host.Held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for a, by := range k.open {
		if until := by[k.name]; until > 0 {
			list = append(list, host.Held{Addr: a, Link: "eth0", Fence: "book", Open: until > k.now(), Conflicts: 3})
		}
	}
	return list
}

func (k *kernel) Expect() {}

func (k *kernel) Eligible(netip.Addr) string { return "" }

func (k *kernel) Hold(a netip.Addr, until time.Duration, former netip.Addr) error {
	if k.fault != nil {
		if err := k.fault(a); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if until <= now {
		return errors.New("it is past")
	}
	if k.open[a] == nil {
		k.open[a] = map[fleet.NodeName]time.Duration{}
	}
	if k.open[a][k.name] <= now {
		k.story = append(k.story, fmt.Sprintf("%s: %s has %s", now-time.Hour, k.name, a))
		k.former[a] = former
	}
	k.open[a][k.name] = until
	for other, end := range k.open[a] {
		if other != k.name && end > now {
			k.t.Errorf("%s and %s have %s at once\n%s", k.name, other, a, strings.Join(k.story, "\n"))
		}
	}
	return nil
}

func (k *kernel) Drop(a netip.Addr, lingers bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open[a] != nil {
		if k.open[a][k.name] > k.now() {
			k.lingers[a] = lingers
		}
		k.open[a][k.name] = 0
	}
	return nil
}

// start starts an agent on a machine, with what it does first of all: it shuts what an earlier one left open.
func (s *street) start(name fleet.NodeName, fault ...func(netip.Addr) error) *process {
	k := &kernel{street: s, name: name}
	for _, f := range fault {
		k.fault = f
	}
	for _, c := range s.wants {
		_ = k.Drop(c.Addr, false)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, leases: lease.NewNode(lease.Config{Self: name, Conn: s.lan.Plug(name), Now: s.now})}
	var peers []lease.Peer
	for _, other := range s.names {
		peers = append(peers, lease.Peer{Name: other, Addr: leasetest.AddrOf(other), Secret: []byte(min(name, other) + "+" + max(name, other))})
	}
	p.leases.SetPeers(peers)
	p.leases.Elect(fleet.Electorate{Epoch: 1, Voters: s.names[:3]})
	p.Holder = NewHolder(p.leases, slog.New(slog.DiscardHandler))
	p.Use(k, nil)
	p.ended.Go(func() { _ = p.leases.Run(ctx) })
	s.agent[name] = p
	p.want(s.wants)
	return p
}

// kill ends an agent without giving it the time for anything: nothing that it says is heard, and nothing that it does to the machine is done.
func (s *street) kill(name fleet.NodeName) {
	p := s.agent[name]
	for _, other := range s.names {
		s.lan.Part(name, other, true)
	}
	s.mu.Lock()
	was := map[netip.Addr]time.Duration{}
	for a, by := range s.open {
		was[a] = by[name]
	}
	s.mu.Unlock()
	p.cancel()
	p.End()
	p.ended.Wait()
	s.mu.Lock()
	for a, until := range was { // the kernel lets it through until then
		if until > 0 {
			s.open[a][name] = until
		}
	}
	s.mu.Unlock()
	for _, other := range s.names {
		s.lan.Part(name, other, false)
	}
	delete(s.agent, name)
}

// has is who has an address.
func (s *street) has(a netip.Addr) (list []fleet.NodeName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, until := range s.open[a] {
		if until > s.now() {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func (s *street) end() {
	for _, p := range s.agent {
		p.End()
		p.cancel()
		p.ended.Wait()
	}
}

// someone waits until somebody has each address, or a second.
func (s *street) someone(within time.Duration) {
	s.t.Helper()
	<-time.After(within)
	for _, c := range s.wants {
		if got := s.has(c.Addr); len(got) != 1 {
			s.t.Fatalf("%s: %v have %s\n%s", s.now()-time.Hour, got, c.Addr, strings.Join(s.story, "\n"))
		}
	}
}

// TestAddressMetrics: how it is with the addresses that a node has is told when somebody asks.
func TestAddressMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreet(t, 1, "a", "b", "c")
		defer s.end()
		registry := prometheus.NewRegistry()
		metrics := NewMetrics(registry)
		text := func() string {
			w := httptest.NewRecorder()
			promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
			return w.Body.String()
		}
		for _, name := range s.names {
			s.start(name)
		}
		s.someone(2 * time.Second)
		address := s.wants[0].Addr
		has := s.agent[s.has(address)[0]]
		metrics.addressesOf(has.Holder)
		for _, want := range []string{
			`skerry_address_fence_open{address="192.0.2.1",fence="book",link="eth0"} 1`, `skerry_address_conflicts{address="192.0.2.1"} 3`,
			`skerry_address_lease_age_seconds{address="192.0.2.1"} 0.`,
		} {
			if got := text(); !strings.Contains(got, want) {
				t.Errorf("no %s in\n%s", want, got)
			}
		}
		has.want(nil)
		<-time.After(time.Second)
		if got := text(); strings.Contains(got, "skerry_address_fence_open{") || strings.Contains(got, "lease_age_seconds{") {
			t.Errorf("it has none any more:\n%s", got)
		}
	})
}

// TestHolder: an address is had by one, goes to the heir when it is not wanted any more, and elsewhere when the machine cannot have it.
func TestHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreet(t, 1, "a", "b", "c")
		defer s.end()
		address := s.wants[0].Addr
		a := s.start("a")
		s.start("b")
		s.start("c", func(netip.Addr) error { return errors.New("the machine cannot") })
		s.someone(2 * time.Second)
		first := s.has(address)[0]
		var report fleet.NodeReport
		s.agent[first].tell(&report)
		if !slices.Equal(report.Holding, []netip.Addr{address}) || report.Electorate.Epoch != 1 {
			t.Errorf("%s reports %v, %+v", first, report.Holding, report.Electorate)
		}
		heir := fleet.NodeName("a")
		if first == "a" {
			heir = "b"
		}
		s.agent[first].want([]fleet.Candidacy{{Addr: address, Heir: heir}})
		s.agent[first].want(nil)
		<-time.After(20 * time.Millisecond)
		if got := s.has(address); !slices.Equal(got, []fleet.NodeName{heir}) {
			t.Errorf("20 ms after it was let go %v have it, want %s", got, heir)
		}
		if !s.lingers[address] || s.former[address] != leasetest.AddrOf(first).Addr() {
			t.Errorf("what is under way goes on with %v: %v, and %s lets it: %v", first, s.former[address], first, s.lingers[address])
		}
		s.agent[first].want(s.wants) // it does not take it back
		<-time.After(10 * time.Second)
		if got := s.has(address); !slices.Equal(got, []fleet.NodeName{heir}) {
			t.Errorf("%v have it, want %s still", got, heir)
		}
		s.kill(heir)
		s.someone(time.Second)
		if s.former[address].IsValid() {
			t.Errorf("what was under way goes on with who was killed")
		}
		report = fleet.NodeReport{}
		s.agent["c"].tell(&report)
		if s.start(heir); len(report.Holding) > 0 {
			t.Error("the machine that cannot says that it can")
		}
		if len(a.campaigns) > 1 {
			t.Error("a campaigns twice")
		}
	})
}

// TestSimHolders: whatever befalls agents and the links between them, nobody has what another machine lets through, and healed, somebody has each.
func TestSimHolders(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			s := newStreet(t, 3, "a", "b", "c", "d")
			defer s.end()
			for _, name := range s.names {
				s.start(name)
			}
			for range 60 {
				name, other := s.names[r.IntN(4)], s.names[r.IntN(4)]
				switch r.IntN(8) {
				case 0, 1:
					s.lan.Part(name, other, true)
				case 2:
					s.lan.Part(name, other, true)
					s.lan.Part(other, name, true)
				case 3, 4:
					s.lan.Part(name, other, false)
					s.lan.Part(other, name, false)
				case 5:
					if s.agent[name] != nil {
						s.kill(name)
					}
				case 6:
					if s.agent[name] == nil {
						s.start(name)
					}
				default:
					if p := s.agent[name]; p != nil {
						p.want(s.wants[:r.IntN(4)])
					}
				}
				<-time.After(time.Duration(r.IntN(600)) * time.Millisecond)
			}
			for _, name := range s.names {
				for _, other := range s.names {
					s.lan.Part(name, other, false)
				}
				if s.agent[name] == nil {
					s.start(name)
				}
				s.agent[name].want(s.wants)
			}
			s.someone(3 * time.Second)
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}
