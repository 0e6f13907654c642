// Package agent owns every loop and every goroutine: sources are fetched, the leader decides, the node acts
// and looks. Decisions themselves are in reconcile; what is done to the machine is in apply and behind its
// ports.
//
// The loops meet in four places only: what the sources hold (atomic, replaced whole), the store (assignment
// and reports), bells (channels of capacity one that carry no truth), and the outcomes of chains. Any of them
// may be killed at any instruction; the next pass goes on from what it finds.
package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/sources"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// Config is what an agent is made of. All fields but Network, Sources, Fleet and Metrics must be set.
type Config struct {
	Node    fleet.Node
	Version string
	// DataDir keeps what must survive a restart: templates, what sources and applied sets held. RunDir lies in
	// memory and keeps the secrets of applied sets.
	DataDir, RunDir string
	Store           coord.Store
	Intents         coord.Intents
	Host            host.Host
	Volumes         host.Volumes
	Prober          host.Prober
	Network         *Network // nil: Services are not served
	Sources         []Source
	Fleet           *Fleet          // nil: this node is all there is
	Policy          manifest.Policy // what sources must hold to
	// Follow: look at the sources by itself, and not only when asked. Act: decide, and change the machine. An
	// agent does both; apply without an agent only acts, diff does neither.
	Follow, Act bool
	Makers      int // how many pods are made or removed at a time; 0: a sensible number
	Metrics     *Metrics
	Log         *slog.Logger
}

// Source is a configured source and when to look at it.
type Source struct {
	Name   fleet.SourceName
	URL    string // for people: no credentials in it
	Path   string // folder inside the repository, "." for all of it
	Source sources.Source
	// Every says how long to wait before the next look, after so many failures in a row.
	Every func(failures int) time.Duration
	// MayEmpty says that a source that has nothing in it any more means it.
	MayEmpty bool
	// Rollback says that its workloads go back to what was good last when a rollout fails.
	Rollback bool
}

// Agent is one node's agent. Create it with New, then Run it; the other methods may be called while it runs.
type Agent struct {
	Config

	held      *holdings
	templates *templates
	rollback  map[fleet.SourceName]bool // sources whose workloads go back
	syncs     map[fleet.SourceName]chan chan Fetch
	peeks     map[fleet.SourceName]chan chan peeked
	aligns    map[fleet.SourceName]chan alignment
	agreed    map[fleet.SourceName]bell // the assignment changed
	leading   atomic.Bool               // this process decides
	since     atomic.Uint64             // as in fleet.NodeReport; unjoined until that is known
	lacked    lacked                    // commits that templates have to be read from

	// storeBell: something in the store changed. leadBell: sources or reports did. nodeBell: the assignment did. hostBell: the machine did.
	storeBell, leadBell, nodeBell, hostBell bell
	changed                                 broadcast
	leadNotes                               atomic.Pointer[[]fleet.Note]
	podman                                  atomic.Pointer[string] // "" when it answers
	looked                                  chan struct{}          // closed after the first pass
	watching                                atomic.Bool
	pulls                                   apply.Pulls
	working                                 sync.Map // UIDs of pods with a chain under way, for listen
	// keeping is held while templates are written and what needs them is made desired, and while templates that
	// nothing needs are removed.
	keeping sync.Mutex
}

// New prepares an agent: it reads what sources and applied sets held when the last one ended, so that the
// first decision is not made on nothing. It starts no goroutine and touches no network.
func New(cfg Config) (*Agent, error) {
	a := &Agent{
		Config: cfg, templates: newTemplates(cfg.DataDir), syncs: map[fleet.SourceName]chan chan Fetch{},
		peeks:    map[fleet.SourceName]chan chan peeked{},
		rollback: map[fleet.SourceName]bool{}, aligns: map[fleet.SourceName]chan alignment{}, agreed: map[fleet.SourceName]bell{},
		storeBell: newBell(), leadBell: newBell(), nodeBell: newBell(), hostBell: newBell(),
	}
	a.held, a.looked = newHoldings(), make(chan struct{})
	cfg.Metrics.of(a)
	down := "not asked yet"
	a.podman.Store(&down)
	a.leadNotes.Store(&[]fleet.Note{})
	var faults []error
	for _, s := range cfg.Sources {
		a.rollback[s.Name] = s.Rollback
		a.syncs[s.Name] = make(chan chan Fetch)
		a.peeks[s.Name] = make(chan chan peeked)
		a.aligns[s.Name], a.agreed[s.Name] = make(chan alignment), newBell()
		faults = append(faults, a.remember(s))
	}
	if cfg.Fleet == nil {
		faults = append(faults, a.rememberApplied())
	} else {
		faults = append(faults, a.rememberSince())
	}
	return a, errors.Join(faults...)
}

// Looked is closed when the agent has looked at its machine and said what is there, or has failed to: until then it knows nothing
// of its pods.
func (a *Agent) Looked() <-chan struct{} { return a.looked }

// Run runs all loops until ctx ends, and waits for them: chains that are under way are cut between steps.
// Containers go on running. The error is nil when ctx ended.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var loops sync.WaitGroup
	run := func(loop func(context.Context) error) {
		loops.Go(func() {
			if err := loop(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	for _, s := range a.Sources {
		run(func(ctx context.Context) error { return a.follow(ctx, s) })
	}
	if n := a.Network; n.whole() && a.Act {
		run(func(ctx context.Context) error { return n.Names.Serve(ctx, n.Packets, n.Listener) })
		run(a.watchNetwork)
	}
	if a.Fleet != nil {
		run(a.register)
	}
	if a.Act {
		if a.mayLead() {
			run(a.lead)
		}
		run(a.node)
		run(a.listen)
	}
	run(func(ctx context.Context) error { return a.Store.Watch(ctx, a.storeBell.ring) })
	run(a.heed)
	loops.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// heed passes on what the store tells. What other nodes report is for whoever leads, but for what Services make of it: with many nodes there is
// always something.
func (a *Agent) heed(ctx context.Context) error {
	var epoch uint64
	var nodes []fleet.Node
	var others [sha256.Size]byte
	if a.Fleet != nil && a.Fleet.Leases != nil {
		a.Fleet.Leases.Tell(a.storeBell.ring)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.storeBell:
		}
		a.leadBell.ring()
		a.changed.ring()
		if now, err := a.roll(ctx); err == nil && !slices.EqualFunc(now, nodes, met) {
			nodes = now
			a.nodeBell.ring()
		}
		answers := a.Fleet != nil && a.Fleet.Leases != nil && a.Fleet.Roll.Away() == "" // before the look: what is read then is not from memory
		assignment, err := a.Store.Load(ctx)
		if err != nil {
			continue
		}
		// What is only remembered, while the store is away, may be older than what this node went by before it was started.
		if answers {
			a.Fleet.Leases.Elect(assignment.Electorate)
		}
		others = a.heedOthers(ctx, others)
		decided := assignment.Epoch != epoch
		epoch = assignment.Epoch
		if decided {
			a.nodeBell.ring()
		}
		if decided || a.Fleet != nil && a.leading.Load() {
			for _, agreed := range a.agreed {
				agreed.ring()
			}
		}
	}
}

// bell makes a loop look again. It carries no truth; ringing twice is ringing once.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// broadcast tells any number of listeners that something changed. The zero value works.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// next is closed at the next ring.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// Changed returns a channel that is closed at the next change of anything that Status shows.
func (a *Agent) Changed() <-chan struct{} { return a.changed.next() }
