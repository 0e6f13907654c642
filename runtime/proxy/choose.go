package proxy

import (
	"net/netip"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// clientsMax is how many clients of a sticky front are remembered: some ten megabytes.
const clientsMax = 1 << 16

// choice leads clients of one front to its ends. Not for concurrent use.
type choice struct {
	front   fleet.Front
	clients recent[netip.Addr, stay] // of a sticky front, by their last connection
}

// stay is where a sticky client was led last, and when.
type stay struct {
	end fleet.End
	at  time.Time
}

// serve makes f what is chosen from. Where clients were before, they stay, if f has that end.
func (c *choice) serve(f fleet.Front) {
	c.front = f
	if f.Sticky == 0 {
		c.clients = recent[netip.Addr, stay]{}
	}
}

// next is the end for a connection of a client that none of tried took; none when no other is left.
func (c *choice) next(client netip.Addr, tried []fleet.End, now time.Time, draw func(n int) int) (fleet.End, bool) {
	if c.front.Sticky == 0 {
		return choose(c.front.Ends, tried, fleet.End{}, draw)
	}
	for {
		old, s, ok := c.clients.oldest()
		if !ok || now.Sub(s.at) < c.front.Sticky {
			break
		}
		c.clients.remove(old)
	}
	s, _ := c.clients.get(client)
	end, ok := choose(c.front.Ends, tried, s.end, draw)
	if !ok {
		return fleet.End{}, false
	}
	// At once and not when the end has taken it, so that connections that begin together stay together.
	c.clients.use(client, stay{end, now})
	if c.clients.len() > clientsMax {
		old, _, _ := c.clients.oldest()
		c.clients.remove(old)
	}
	return end, true
}

// choose is one of the ends that were not tried: last, if it is among them, or whichever is drawn. draw is given how many there
// are, and says which.
func choose(ends, tried []fleet.End, last fleet.End, draw func(n int) int) (fleet.End, bool) {
	left := ends
	if len(tried) > 0 {
		left = slices.DeleteFunc(slices.Clone(ends), func(e fleet.End) bool { return slices.Contains(tried, e) })
	}
	switch {
	case len(left) == 0:
		return fleet.End{}, false
	case slices.Contains(left, last):
		return last, true
	}
	return left[draw(len(left))], true
}
