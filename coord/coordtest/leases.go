package coordtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// Leases are nodes that campaign for one thing, and that can be parted from all others.
type Leases interface {
	// Campaign waits until a node has it.
	Campaign(ctx context.Context, node fleet.NodeName) (coord.Lease, error)
	// Crash ends a node's process without a word.
	Crash(node fleet.NodeName)
	// Cut parts a node from all others, both ways, and Heal ends that.
	Cut(node fleet.NodeName)
	Heal(node fleet.NodeName)
}

// RunLeases runs the suite of what every coord.Lease must do. run runs a test with new nodes called a, b and c: in a bubble of
// testing/synctest where they are made for one.
func RunLeases(t *testing.T, run func(t *testing.T, test func(t *testing.T, l Leases))) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, l Leases)
	}{
		{"one has it at a time, and the next as soon as it is released", released},
		{"who is cut off lets go before another has it", cutOff},
		{"who crashed is followed", crashed},
		{"a campaign ends with its context", givenUp},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, c.test) })
	}
}

// campaign campaigns until a node has it. then runs as soon as it does.
func campaign(t *testing.T, l Leases, node fleet.NodeName, then func()) <-chan coord.Lease {
	led := make(chan coord.Lease, 1)
	ctx := t.Context()
	go func() {
		lease, err := l.Campaign(ctx, node)
		if err != nil {
			close(led)
			return
		}
		then()
		led <- lease
	}()
	return led
}

func released(t *testing.T, l Leases) {
	first := soon(t, campaign(t, l, "a", func() {}))
	overlap := false
	second := campaign(t, l, "b", func() { overlap = first.Context().Err() == nil })
	select {
	case <-second:
		t.Fatal("two have it")
	case <-time.After(3 * time.Second):
	}
	if first.Context().Err() != nil {
		t.Fatal("it was lost though nothing happened")
	}
	first.Release()
	if first.Context().Err() == nil {
		t.Fatal("its context lives on")
	}
	first.Release() // twice is once
	next := soon(t, second)
	if overlap {
		t.Fatal("two had it at once")
	}
	if next.Context().Err() != nil {
		t.Fatal("the next lease was disturbed")
	}
	next.Release()
	soon(t, campaign(t, l, "a", func() {})).Release()
}

func cutOff(t *testing.T, l Leases) {
	first := soon(t, campaign(t, l, "a", func() {}))
	overlap := false
	led := campaign(t, l, "b", func() { overlap = first.Context().Err() == nil })
	l.Cut("a")
	second := soon(t, led)
	if overlap {
		t.Fatal("two had it at once")
	}
	again := campaign(t, l, "a", func() { overlap = second.Context().Err() == nil })
	l.Heal("a")
	select {
	case <-again:
		t.Fatal("it was taken from who has it")
	case <-second.Context().Done():
		t.Fatal("who has it lost it because another was back")
	case <-time.After(3 * time.Second):
	}
	second.Release()
	soon(t, again).Release()
	if overlap {
		t.Fatal("two had it at once")
	}
}

func crashed(t *testing.T, l Leases) {
	soon(t, campaign(t, l, "a", func() {}))
	led := campaign(t, l, "b", func() {})
	l.Crash("a")
	second := soon(t, led)
	second.Release()
	soon(t, campaign(t, l, "a", func() {})).Release()
}

func givenUp(t *testing.T, l Leases) {
	first := soon(t, campaign(t, l, "a", func() {}))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := l.Campaign(ctx, "b")
		failed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("a campaign that was given up: %v", err)
	}
	first.Release()
	soon(t, campaign(t, l, "c", func() {})).Release()
}

// LeasesOf are the leases of a shared memory: who leads it.
func LeasesOf(f Fleet) Leases { return leads{f} }

type leads struct{ Fleet }

func (l leads) Campaign(ctx context.Context, node fleet.NodeName) (coord.Lease, error) {
	return l.Client(node).Campaign(ctx)
}
