package lease

import (
	"maps"
	"slices"

	"github.com/skerry-dev/skerry/fleet"
)

// claim is what a node has been granted of one key.
type claim struct {
	sent  map[uint64]Instant         // when askings were begun, by seq: those that may be answered still
	acked map[fleet.NodeName]Instant // the newest asking that a voter has granted: when it was begun
	floor uint64                     // what was asked up to this one does not count any more
	until Instant                    // it is held before this, and not from then on
}

func newClaim(seq uint64) *claim {
	return &claim{sent: map[uint64]Instant{}, acked: map[fleet.NodeName]Instant{}, floor: seq}
}

// begins has only what is asked from now on count.
func (c *claim) begins(seq uint64) {
	c.floor = seq
	clear(c.sent)
	clear(c.acked)
}

// asks notes an asking. It must be called before anybody is asked.
func (c *claim) asks(seq uint64, now Instant, terms Terms) {
	c.sent[seq] = now
	maps.DeleteFunc(c.sent, func(_ uint64, at Instant) bool { return now-at > terms.TTL })
}

// granted takes account of what a voter says, and reports whether the lease is longer now.
func (c *claim) granted(voter fleet.NodeName, seq uint64, e fleet.Electorate, terms Terms) bool {
	at, open := c.sent[seq]
	if !open || seq <= c.floor || !votes(e, voter) {
		return false
	}
	if before, has := c.acked[voter]; has && before >= at {
		return false
	}
	c.acked[voter] = at
	need := majority(len(e.Voters))
	if len(c.acked) < need {
		return false
	}
	list := slices.Sorted(maps.Values(c.acked))
	until := list[len(list)-need] + terms.TTL - terms.Margin
	longer := until > c.until
	c.until = max(c.until, until)
	return longer
}

// holds reports whether it is held at a moment.
func (c *claim) holds(now Instant) bool { return now < c.until }
