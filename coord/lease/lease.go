// Package lease says who of a fleet has something at a time: a lease that lasts for half a second and is renewed five times in
// that, granted by a majority of voters, in memory, beside the fleet's store and without it (PaxosLease, Trencseni et al.,
// arXiv 1209.4187, with grants in place of its two phases).
//
// Why there are never two holders: a voter has one grant of a key at a time and refuses everybody else until that is over by its own
// clock. Who asks notes the time before it asks, and counts what a majority granted from then on, less a margin: so its lease ends before the
// grants do, as long as no clock runs faster than another by more than the margin. Two majorities have a voter in common. A voter that starts
// anew has forgotten its grants, and grants nothing for as long as one lasts. Who lets go says so only after it has. Messages may be lost, doubled,
// late and from before a restart: none makes a grant longer than it is, or ends one that is newer. No clock has to be set right.
//
// voter.go and claim.go are those rules, machine.go puts them together and says when to ask; they are pure: messages and moments in,
// messages out. TestNoTwoHolders goes through all that can happen to small fleets with that very code. session.go and wire.go see to it
// that messages are of who they seem to be, and no older than they seem; node.go is the loop.
package lease

import (
	"slices"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// Instant is a moment of one machine's own clock, which goes on while the machine sleeps (CLOCK_BOOTTIME): the time since it was
// started. Those of two machines have nothing to do with each other.
type Instant = time.Duration

// Terms are how long things take. All nodes of a fleet must go by the same.
type Terms struct {
	TTL     time.Duration // how long a grant lasts
	Renew   time.Duration // how often a holder asks again
	Margin  time.Duration // by how much a holder lets go before its grants end: how far clocks may drift apart in a TTL, and more
	Longest time.Duration // the longest TTL that any node may go by: for so long a voter that starts grants nothing
}

// Longest is the longest time to live that there is.
const Longest = 500 * time.Millisecond

// The terms to choose from: half a second is lost at worst when a holder loses power, or a third.
var (
	Usual = Terms{TTL: 500 * time.Millisecond, Renew: 100 * time.Millisecond, Margin: 10 * time.Millisecond, Longest: Longest}
	Fast  = Terms{TTL: 300 * time.Millisecond, Renew: 75 * time.Millisecond, Margin: 8 * time.Millisecond, Longest: Longest}
)

// TermsOf are those that an electorate goes by.
func TermsOf(e fleet.Electorate) Terms {
	if e.Fast {
		return Fast
	}
	return Usual
}

// Kind is what a message is.
type Kind uint8

// The kinds of messages. What is not one of these is passed over.
const (
	Ask    Kind = iota + 1 // may I have it, or have it for longer? To voters
	Grant                  // you may, from when you asked
	Refuse                 // somebody else has it
	Drop                   // I have let go. To voters
	Offer                  // I have let go for you. To who should have it next
)

// Message is one word between two nodes about one key.
type Message struct {
	Kind Kind
	Key  string
	// Epoch is that of the electorate that the sender goes by.
	Epoch uint64
	// Incarnation and Seq say which asking it is about: of which start of the asker's process, and which of that. Seq grows.
	Incarnation, Seq uint64
	To               fleet.NodeName // Drop: who should have it next; empty: anybody. Refuse: whose it is
	Left             time.Duration  // Refuse: for how much longer, at most
}

// Envelope is a message and whom it is for.
type Envelope struct {
	To fleet.NodeName
	Message
}

// majority is how many of so many voters decide.
func majority(voters int) int { return voters/2 + 1 }

func votes(e fleet.Electorate, node fleet.NodeName) bool { return slices.Contains(e.Voters, node) }
