package hosttest

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-dev/skerry/runtime/host"
)

// measured are what containers have used.
func (b *bench) measured(ids ...string) map[string]host.Measurement {
	b.Helper()
	measured, err := b.Measure(b.Context(), ids)
	b.must(err)
	return measured
}

// burns measures a container until it has used that much of the processors. No bell rings for that.
func (b *bench) burns(id string, until time.Duration) host.Measurement {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	var m host.Measurement
	for ctx.Err() == nil {
		var ok bool
		if m, ok = b.measured(id)[id]; !ok {
			b.Fatalf("container %s is not measured", id)
		}
		if m.CPU >= until {
			return m
		}
	}
	b.Fatalf("container %s has used %s, and not %s", id, m.CPU, until)
	return m
}

// says starts a container and waits until it has written a line.
func (b *bench) says(pod, name string, command ...string) (id string) {
	b.Helper()
	hand := b.hand()
	id = b.start(b.container(pod, name, command...))
	b.must(hand.Said(id))
	return id
}

var measureTests = map[string]func(*bench){
	"processor time grows": func(b *bench) {
		pod := b.create(b.sandbox())
		id, idle := b.says(pod, "app", "burn"), b.busy(pod, "idle", "sleep")
		first, before := b.burns(id, time.Nanosecond), b.measured(idle)[idle]
		second, after := b.burns(id, first.CPU+100*time.Millisecond), b.measured(idle)[idle]
		if !second.At.After(first.At) {
			b.Errorf("at %s it was %s, and %s at %s", first.At, first.CPU, second.CPU, second.At)
		}
		// One thread, and the machine's counters are a tick or two behind its clock.
		if used, passed := second.CPU-first.CPU, second.At.Sub(first.At); used > passed*5/4+20*time.Millisecond {
			b.Errorf("%s of processor time in %s", used, passed)
		}
		if used := after.CPU - before.CPU; used < 0 || used > 50*time.Millisecond {
			b.Errorf("the other one, which sleeps, used %s", used)
		}
	},
	"memory is what it holds": func(b *bench) {
		pod := b.create(b.sandbox())
		const held = 32 << 20
		id, little := b.says(pod, "app", "eat", "32Mi"), b.busy(pod, "little", "sleep")
		both := b.measured(id, little)
		if m := both[id]; m.Memory < held || m.Memory > held+24<<20 {
			b.Errorf("it holds %d bytes, and measured are %d", held, m.Memory)
		}
		if m := both[little]; m.Memory < 0 || m.Memory > 24<<20 {
			b.Errorf("it holds hardly anything, and measured are %d", m.Memory)
		}
	},
	"only what runs": func(b *bench) {
		pod := b.create(b.sandbox())
		id, ended, removed := b.start(b.container(pod, "app", "sleep")), b.busy(pod, "ended", "sleep"), b.start(b.container(pod, "removed", "sleep"))
		if measured := b.measured(id, ended, removed); len(measured) != 3 {
			b.Errorf("measured are %+v", measured)
		}
		b.must(b.StopContainer(b.Context(), ended, 10*time.Second))
		b.must(b.RemoveContainer(b.Context(), removed))
		for range 2 {
			measured := b.measured(ended, "no-such", id, removed, "")
			if m, ok := measured[id]; len(measured) != 1 || !ok || m.At.IsZero() {
				b.Errorf("measured are %+v", measured)
			}
		}
		if measured := b.measured(); len(measured) != 0 {
			b.Errorf("nothing was asked for, and measured are %+v", measured)
		}
	},
	"one that ends by itself": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "exit", "1"))
		b.ended(id)
		if measured := b.measured(id); len(measured) != 0 {
			b.Errorf("measured are %+v", measured)
		}
	},
	"one that is paused": func(b *bench) {
		hand := b.hand()
		id := b.says(b.create(b.sandbox()), "app", "burn")
		b.burns(id, time.Millisecond)
		b.must(hand.Pause(id))
		first := b.measured(id)[id]
		if second := b.measured(id)[id]; first.CPU < time.Millisecond || second.CPU != first.CPU || !second.At.After(first.At) {
			b.Errorf("first %+v, then %+v", first, second)
		}
		b.must(b.Unpause(b.Context(), id))
		b.burns(id, first.CPU+time.Millisecond)
	},
	"a stop holds up nobody": func(b *bench) {
		pod := b.create(b.sandbox())
		id, other := b.busy(pod, "app", "ignore-term"), b.busy(pod, "other", "sleep")
		b.look()
		ctx, cancel := context.WithTimeout(b.Context(), 100*time.Millisecond)
		defer cancel()
		if err := b.StopContainer(ctx, id, 2*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			b.Fatalf("stop = %v", err)
		}
		if measured := b.measured(id, other); len(measured) != 2 {
			b.Errorf("measured are %+v", measured)
		}
		b.must(b.StopContainer(b.Context(), id, 2*time.Second)) // waits for the end of the first
		if measured := b.measured(id, other); len(measured) != 1 || measured[other].At.IsZero() {
			b.Errorf("measured are %+v", measured)
		}
	},
}
