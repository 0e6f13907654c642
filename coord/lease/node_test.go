package lease

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/coordtest"
	"github.com/skerry-dev/skerry/coord/lease/leasetest"
	"github.com/skerry-dev/skerry/fleet"
)

// lan is nodes on a network.
type lan struct {
	*leasetest.LAN
	t       *testing.T
	mu      sync.Mutex // guards what follows
	nodes   map[fleet.NodeName]*Node
	crashed map[fleet.NodeName]context.CancelFunc
}

var names = []fleet.NodeName{"a", "b", "c"}

func newLAN(t *testing.T) *lan {
	return &lan{LAN: leasetest.NewLAN(), t: t, nodes: map[fleet.NodeName]*Node{}, crashed: map[fleet.NodeName]context.CancelFunc{}}
}

// start starts a node's process, anew if it crashed.
func (l *lan) start(name fleet.NodeName) *Node {
	if n := l.nodes[name]; n != nil {
		return n
	}
	began := time.Now()
	n := NewNode(Config{Self: name, Conn: l.Plug(name), Now: func() Instant { return time.Since(began) + time.Hour }})
	var peers []Peer
	for _, other := range names {
		secret := "of " + string(min(name, other)) + " and " + string(max(name, other))
		peers = append(peers, Peer{Name: other, Addr: leasetest.AddrOf(other), Secret: []byte(secret)})
	}
	n.SetPeers(peers)
	n.Elect(fleet.Electorate{Epoch: 1, Voters: names})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = n.Run(ctx)
	}()
	l.nodes[name] = n
	l.crashed[name] = func() {
		cancel()
		<-ended
	}
	l.t.Cleanup(l.crashed[name])
	return n
}

func (l *lan) Campaign(ctx context.Context, node fleet.NodeName) (coord.Lease, error) {
	l.mu.Lock()
	for _, name := range names {
		l.start(name) //nolint:contextcheck // a process outlives who campaigns
	}
	n := l.nodes[node]
	l.mu.Unlock()
	lease, err := n.Campaign(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	return lease, nil
}

func (l *lan) Crash(node fleet.NodeName) {
	l.Cut(node)
	l.crashed[node]()
	l.mu.Lock()
	delete(l.nodes, node)
	l.mu.Unlock()
	l.Heal(node)
}

func (l *lan) part(node fleet.NodeName, cut bool) {
	for _, other := range names {
		l.Part(node, other, cut)
		l.Part(other, node, cut)
	}
}

func (l *lan) Cut(node fleet.NodeName)  { l.part(node, true) }
func (l *lan) Heal(node fleet.NodeName) { l.part(node, false) }

func TestLeases(t *testing.T) {
	coordtest.RunLeases(t, func(t *testing.T, test func(*testing.T, coordtest.Leases)) {
		synctest.Test(t, func(t *testing.T) { test(t, newLAN(t)) })
	})
}

// held campaigns and returns what was won.
func held(t *testing.T, n *Node) *Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := n.Campaign(ctx, key, 0)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLeaseIsRenewed: as long as all is well, its end is never near, and who holds is told of each renewal.
func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		n := l.start("a")
		l.start("b")
		l.start("c")
		lease := held(t, n)
		began := time.Now()
		for rounds := 0; time.Since(began) < time.Minute; rounds++ {
			<-lease.Renewed()
			if left := lease.Until() - n.cfg.Now(); left < Usual.TTL-Usual.Renew-Usual.Margin || lease.Context().Err() != nil {
				t.Fatalf("%s are left after %d renewals", left, rounds)
			}
		}
		if _, err := n.Campaign(t.Context(), key, 0); !errors.Is(err, ErrBusy) {
			t.Errorf("a second campaign of one process: %v", err)
		}
		lease.Release()
	})
}

// TestYieldToAnother: the one that is named has it a moment later, whoever else waits.
func TestYieldToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		for _, name := range names {
			l.start(name)
		}
		lease := held(t, l.nodes["a"])
		won := make(chan fleet.NodeName, 2)
		for _, name := range names[1:] {
			go func() {
				next, err := l.nodes[name].Campaign(t.Context(), key, 0)
				if err != nil {
					return
				}
				won <- name
				<-t.Context().Done()
				next.Release()
			}()
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		began := time.Now()
		lease.Yield("c")
		if got := <-won; got != "c" || time.Since(began) > 10*time.Millisecond {
			t.Errorf("%s has it after %s", got, time.Since(began))
		}
	})
}

// TestSilent: who was heard and is not any more is told of within half a second and a beat, who never was is not, and who is back is taken back.
func TestSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		rang := make(chan struct{}, 16)
		n := l.start("a")
		n.Tell(func() { rang <- struct{}{} })
		l.start("b")
		<-time.After(10 * time.Second)
		if got := n.Silent(); len(got) > 0 { // c never ran
			t.Errorf("silent: %v", got)
		}
		for len(rang) > 0 { // that b was heard for the first time
			<-rang
		}
		l.Cut("b")
		began := time.Now()
		<-rang
		if got := n.Silent(); len(got) != 1 || got["b"] == 0 || time.Since(began) > silence+beats {
			t.Errorf("silent: %v after %s", got, time.Since(began))
		}
		l.Heal("b")
		<-rang
		if got := n.Silent(); len(got) > 0 {
			t.Errorf("silent: %v", got)
		}
	})
}

// TestElectorateIsHeard: a node hears of newer electorates from others, but not of its first one: it may have gone by a newer one before it
// was started anew.
func TestElectorateIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		a := l.start("a")
		l.start("b")
		began := time.Now()
		fresh := NewNode(Config{Self: "c", Conn: l.Plug("c"), Now: func() Instant { return time.Since(began) + time.Hour }})
		fresh.SetPeers([]Peer{{Name: "a", Addr: leasetest.AddrOf("a"), Secret: []byte("of a and c")}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = fresh.Run(ctx)
		}()
		<-time.After(time.Second)
		if e := fresh.Electorate(); e.Epoch != 0 {
			t.Errorf("it goes by %+v, which somebody told it", e)
		}
		fresh.Elect(fleet.Electorate{Epoch: 1, Voters: names})
		a.Elect(fleet.Electorate{Epoch: 2, Voters: names[:2]})
		<-time.After(time.Second)
		for name, n := range map[string]*Node{"b": l.nodes["b"], "c": fresh} {
			if e := n.Electorate(); e.Epoch != 2 {
				t.Errorf("%s goes by %+v", name, e)
			}
		}
		cancel()
		<-ended
	})
}

// TestOldWords: whoever recorded all datagrams and sends them again, at any time and from the life of processes before, is not heard.
func TestOldWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		var tape [][]byte
		var mu sync.Mutex
		l.Spy(func(_, to fleet.NodeName, raw []byte) {
			mu.Lock()
			defer mu.Unlock()
			if to == "a" {
				tape = append(tape, raw)
			}
		})
		a := l.start("a")
		l.start("b")
		<-time.After(5 * time.Second)
		l.Crash("b")
		l.start("b")
		<-time.After(5 * time.Second)
		l.Crash("b")
		<-time.After(5 * time.Second)
		if got := a.Silent(); len(got) != 1 {
			t.Fatalf("silent: %v", got)
		}
		mu.Lock()
		recorded := append([][]byte(nil), tape...)
		mu.Unlock()
		for _, raw := range recorded {
			a.take(raw, nil)
		}
		if got := a.Silent(); len(got) != 1 {
			t.Error("the dead were heard")
		}
		l.start("b")
		<-time.After(time.Second)
		if got := a.Silent(); len(got) > 0 {
			t.Error("who is back is not heard")
		}
	})
}
