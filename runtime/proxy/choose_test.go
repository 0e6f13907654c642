package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// ends are some, by the last part of their address.
func ends(last ...byte) []fleet.End {
	var out []fleet.End
	for _, n := range last {
		out = append(out, fleet.End{Addr: netip.AddrFrom4([4]byte{10, 42, 0, n}), Port: 80})
	}
	return out
}

func TestChoose(t *testing.T) {
	for _, test := range []struct {
		name  string
		ends  []byte
		tried []byte
		last  byte
		drawn int
		of    int // how many there are to draw from; 0: none is drawn
		want  byte
	}{
		{"none", nil, nil, 0, 0, 0, 0},
		{"the only one", []byte{1}, nil, 0, 0, 1, 1},
		{"the first", []byte{1, 2, 3}, nil, 0, 0, 3, 1},
		{"the last", []byte{1, 2, 3}, nil, 0, 2, 3, 3},
		{"of those that are left", []byte{1, 2, 3}, []byte{2}, 0, 1, 2, 3},
		{"none is left", []byte{1, 2}, []byte{2, 1}, 0, 0, 0, 0},
		{"what was tried and is gone", []byte{1, 2}, []byte{9}, 0, 1, 2, 2},
		{"where it was", []byte{1, 2, 3}, nil, 2, 0, 0, 2},
		{"where it was is tried", []byte{1, 2, 3}, []byte{2}, 2, 1, 2, 3},
		{"where it was is gone", []byte{1, 3}, nil, 2, 1, 2, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			of := 0
			got, ok := choose(ends(test.ends...), ends(test.tried...), ends(test.last)[0], func(n int) int { of = n; return test.drawn })
			var want fleet.End
			if test.want != 0 {
				want = ends(test.want)[0]
			}
			if got != want || ok != (test.want != 0) || of != test.of {
				t.Errorf("%v %v, drawn from %d", got, ok, of)
			}
		})
	}
}

// TestStickyClients goes through one story of a front: who comes when, who is there, and where it leads.
func TestStickyClients(t *testing.T) {
	const first, last = 0, 1 // of those that may be drawn
	var c choice
	begun := time.Unix(1e9, 0)
	for i, step := range []struct {
		at     time.Duration
		client string
		ends   []byte
		tried  []byte
		drawn  int
		want   byte
		known  int // clients, afterwards
	}{
		{0, "192.0.2.1", []byte{1, 2}, nil, last, 2, 1},
		{1 * time.Second, "192.0.2.2", []byte{1, 2}, nil, first, 1, 2},
		{9 * time.Second, "192.0.2.1", []byte{1, 2}, nil, first, 2, 2},
		{18 * time.Second, "192.0.2.1", []byte{1, 2}, nil, first, 2, 1},          // the other one is forgotten, this one came again
		{28 * time.Second, "192.0.2.1", []byte{1, 2}, nil, first, 1, 1},          // too late
		{29 * time.Second, "192.0.2.1", []byte{1, 2}, []byte{1}, first, 2, 1},    // its end does not answer: it moves,
		{30 * time.Second, "192.0.2.1", []byte{1, 2}, nil, first, 2, 1},          // and stays
		{31 * time.Second, "192.0.2.1", []byte{1, 3}, nil, last, 3, 1},           // its end is gone
		{32 * time.Second, "192.0.2.1", []byte{1, 2, 3}, nil, first, 3, 1},       // and comes back too late
		{33 * time.Second, "192.0.2.1", nil, nil, first, 0, 1},                   // nobody is there for a while,
		{34 * time.Second, "192.0.2.1", []byte{1, 3}, nil, first, 3, 1},          // which changes nothing
		{35 * time.Second, "192.0.2.1", []byte{1, 3}, []byte{3, 1}, first, 0, 1}, // nobody answers,
		{44*time.Second - 1, "192.0.2.1", []byte{1, 3}, nil, first, 3, 1},        // which is no connection
	} {
		c.serve(fleet.Front{Sticky: 10 * time.Second, Ends: ends(step.ends...)})
		got, ok := c.next(netip.MustParseAddr(step.client), ends(step.tried...), begun.Add(step.at), func(n int) int { return min(step.drawn, n-1) })
		var want fleet.End
		if step.want != 0 {
			want = ends(step.want)[0]
		}
		if got != want || ok != (step.want != 0) || c.clients.len() != step.known {
			t.Errorf("step %d, %s: %v %v, %d are known", i, step.at, got, ok, c.clients.len())
		}
	}
	c.serve(fleet.Front{Ends: ends(1)})
	if n := c.clients.len(); n != 0 {
		t.Errorf("%d are known to a front that is not sticky", n)
	}
}

// TestStickyClientsAreBounded: the one that came the longest ago goes.
func TestStickyClientsAreBounded(t *testing.T) {
	var c choice
	c.serve(fleet.Front{Sticky: time.Hour, Ends: ends(1, 2)})
	client := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }
	for n := range clientsMax + 10 {
		c.next(client(n), nil, time.Unix(1e9, int64(n)), rand.IntN)
	}
	_, forgotten := c.clients.get(client(9))
	_, known := c.clients.get(client(10))
	if c.clients.len() != clientsMax || forgotten || !known {
		t.Errorf("%d are known", c.clients.len())
	}
}

// TestEveryEndIsChosen about as often as any other.
func TestEveryEndIsChosen(t *testing.T) {
	var c choice
	c.serve(fleet.Front{Ends: ends(1, 2, 3, 4)})
	dice := rand.New(rand.NewPCG(1, 2))
	times := map[fleet.End]int{}
	for range 4000 {
		end, _ := c.next(netip.Addr{}, nil, time.Time{}, dice.IntN)
		times[end]++
	}
	for _, e := range ends(1, 2, 3, 4) {
		if times[e] < 900 || times[e] > 1100 {
			t.Error(fmt.Sprint(times))
		}
	}
}
