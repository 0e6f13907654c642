package fleet

import (
	"net/netip"
	"slices"
)

// Candidacy is an address that a node may have: with others it campaigns for it, and the one with the lowest rank goes first.
type Candidacy struct {
	Addr netip.Addr
	Rank int
	// Heir is who should have it when this node lets go of it: the next in rank that may; empty where nobody is.
	Heir NodeName
}

// Equal reports whether two are the same.
func (e Electorate) Equal(o Electorate) bool {
	return e.Epoch == o.Epoch && e.Fast == o.Fast && slices.Equal(e.Voters, o.Voters)
}

// Electorate is who says which node has an address at a time, and how fast. Of two that follow one another the voters differ by one at most, and
// the next but one comes only when a majority of those in between go by that: so two majorities always have a node in common.
type Electorate struct {
	Epoch  uint64     `json:"epoch"` // grows by one with each
	Voters []NodeName `json:"voters,omitempty"`
	// Fast has addresses move within a third of a second and not half of one, at the price of more messages and of less patience with busy
	// nodes.
	Fast bool `json:"fast,omitempty"`
}
