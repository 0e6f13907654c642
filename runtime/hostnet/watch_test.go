package hostnet

import (
	"context"
	"math"
	"testing"
	"time"

	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// rung waits for a bell.
func rung(t *testing.T, bell <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-bell:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: it does not ring", why)
	}
}

// watching runs a watch until the test ends; bell has a place for each ring.
func watching(t *testing.T, watch func(ctx context.Context, ring func()) error) <-chan struct{} {
	t.Helper()
	bell := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watch(ctx, func() { bell <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ended: %v", err)
		}
	})
	return bell
}

// TestWatchRings: when rules of ours are changed by others, and at no other time.
func TestWatchRings(t *testing.T) {
	newYard(t)
	n := newNet(t)
	bell := watching(t, n.Watch)
	// Until it rings nobody knows that it watches.
	serve(t, n, aFront(tcp, vip, 80, ends(1)))
	for begun := time.Now(); len(bell) == 0; {
		run(t, "nft delete element ip skerry sk-addrs { 10.96.0.10 }")
		run(t, "nft add element ip skerry sk-addrs { 10.96.0.10 }")
		if time.Since(begun) > 5*time.Second {
			t.Fatal("it does not ring")
		}
	}
	settle := func() {
		t.Helper()
		if _, err := n.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		run(t, "nft delete element ip skerry sk-addrs { 10.96.0.10 }")
		for {
			rung(t, bell, "the last of what was before")
			n.mu.Lock()
			sure := n.sure
			n.mu.Unlock()
			if !sure {
				break
			}
		}
		if _, err := n.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		for len(bell) > 0 {
			<-bell
		}
	}
	settle()

	sticky := aFront(tcp, vip, 81, ends(1, 2))
	sticky.Sticky = time.Hour
	serve(t, n, aFront(tcp, vip, 80, ends(1, 2)), sticky)
	run(t, "nft add table ip foreign")
	run(t, "nft add chain ip foreign input { type filter hook input priority 0 ; }")
	serve(t, n, aFront(tcp, vip, 80, ends(1)))
	run(t, "nft delete table ip foreign")
	run(t, "nft flush ruleset")
	rung(t, bell, "a flush")
	if len(bell) > 0 {
		t.Error("it rang for what was not ours, or by ourselves")
	}
	if lost, err := n.Check(t.Context()); err != nil || !lost {
		t.Errorf("lost %v, %v", lost, err)
	}
	serve(t, n, aFront(tcp, vip, 80, ends(1)))
	run(t, "nft add table ip foreign")
	if lost, err := n.Check(t.Context()); err != nil || lost {
		t.Errorf("lost %v, %v", lost, err)
	}
	must(t, n.Serve(t.Context(), fleet.HostNet{}))
}

// TestPortsRing: a link that becomes a port rings once, whatever is done to it.
func TestPortsRing(t *testing.T) {
	newYard(t)
	bell := watching(t, func(ctx context.Context, ring func()) error { return WatchPorts(ctx, "skbr0", ring) })
	add := func(name string) {
		run(t, "ip link add "+name+" type veth peer name "+name+"p")
		run(t, "ip link set "+name+" master skbr0 up")
		for range 2 {
			_, err := PreparePort(name)
			must(t, err)
		}
	}
	for begun := time.Now(); len(bell) == 0; { // until it does nobody knows that it watches
		add("vnew")
		run(t, "ip link del vnew")
		if time.Since(begun) > 5*time.Second {
			t.Fatal("it does not ring")
		}
	}
	for len(bell) > 0 {
		<-bell
	}
	for range 3 {
		run(t, "ip link add vother type veth peer name votherp")
		run(t, "ip link del vother")
		add("vnew")
		rung(t, bell, "a new port")
		run(t, "ip link del vnew")
	}
	add("vnew")
	rung(t, bell, "the last one")
	if len(bell) > 0 {
		t.Errorf("it rang %d times too often", len(bell))
	}
	run(t, "ip link del vnew")
}

// counted counts what is written.
type counted struct {
	*knftables.Fake
	generation uint32
}

func (c *counted) Run(ctx context.Context, tx *knftables.Transaction) error {
	c.generation++
	return c.Fake.Run(ctx, tx)
}

// TestWatchIsLate: what others wrote before us, and is told of after that, does not make what we wrote theirs, nor theirs ours.
func TestWatchIsLate(t *testing.T) {
	for i := range uint32(40) {
		about := i%2 == 1 // our tables
		n, nft, _ := paper()
		c := &counted{Fake: nft, generation: math.MaxUint32 - i/2} // it begins anew, sooner or later
		n.nft, n.kernel.generation = c, func() (uint32, error) { return c.generation, nil }
		must(t, n.Serve(t.Context(), crowd(3, 1)))
		heard, theirs := c.generation, map[uint32]bool{}
		for i := range 2 {
			c.generation++ // somebody else
			theirs[c.generation] = true
			must(t, n.Serve(t.Context(), crowd(3, 2+i)))
		}
		rings := 0
		for id := heard + 1; newer(c.generation+1, id); id++ {
			if n.foreign(id, about || !theirs[id]) {
				rings++
			}
		}
		if about != (rings > 0) || about == n.sure {
			t.Errorf("about our tables: %v, and it rang %d times; sure: %v", about, rings, n.sure)
		}
		if !about && (n.seen != c.generation || len(n.own) > 0) {
			t.Errorf("seen up to %d of %d, with %v left", n.seen, c.generation, n.own)
		}
	}
}
