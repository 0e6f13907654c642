// Package coord says what the fleet agrees on, and how: Store keeps the assignment and the nodes' reports,
// Lease is the right to commit, Roll is who belongs to the fleet. coord/local is one machine, coord/etcd many; every
// implementation passes the conformance suite coordtest.Run.
//
// The store holds slots, commits and hashes. Specs and secrets never get here.
package coord

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// What callers branch on.
var (
	// ErrLost says that a lease is over: what was decided under it does not count.
	ErrLost = errors.New("the lease is lost")
	// ErrAway says that the fleet's memory cannot be reached, or has no quorum: nothing was changed, as far as anybody knows.
	ErrAway = errors.New("the fleet's store does not answer")
	// ErrTaken says that a node of that name belongs to the fleet already.
	ErrTaken = errors.New("the name is taken")
	// ErrUnknown says that a node does not belong to the fleet, or was dismissed.
	ErrUnknown = errors.New("this node does not belong to the fleet any more")
	// ErrToken says that there is no such token: it never was, has expired, or was used.
	ErrToken = errors.New("the token is not valid: it is wrong, too old, or was used already")
)

// Store is the fleet's memory. All methods are safe for concurrent use.
//
// Reads never wait for the network: what was last known is the answer while the fleet's memory is away (static stability), and
// Roll.Away says so. Writes that could not be made are ErrAway.
type Store interface {
	// Campaign blocks until this process leads, or ctx ends.
	Campaign(ctx context.Context) (Lease, error)
	// Commit replaces the assignment if lease still holds and next.Epoch is higher than the epoch stored;
	// otherwise it changes nothing and returns ErrLost. When it returns nil the assignment survives a crash.
	Commit(ctx context.Context, lease Lease, next fleet.Assignment) error
	// Load returns the assignment; the zero Assignment before the first Commit. It is read-only.
	Load(ctx context.Context) (fleet.Assignment, error)
	// Report replaces what a node says of itself. It dies with the node's session: a store that is opened
	// anew has no reports until the nodes have spoken. It does not wait for a store that is away: what was said last is told
	// once it answers, and that is no error.
	Report(ctx context.Context, report fleet.NodeReport) error
	// Reports returns the latest report of each node, in the order of their names. They are read-only.
	Reports(ctx context.Context) ([]fleet.NodeReport, error)
	// Watch calls bell after every change of the assignment or of a report, and once at the start. It blocks
	// until ctx ends. Changes that come close together may share one call; bell must not block.
	Watch(ctx context.Context, bell func()) error
}

// Intents is where the wishes of operators wait and are remembered. All methods are safe for concurrent use.
type Intents interface {
	// Intend adds an intent. When it returns nil the intent survives a crash, and watchers of the store are rung.
	Intend(ctx context.Context, intent fleet.Intent) error
	// Intents returns all that were added and not withdrawn, in their order. They are read-only.
	Intents(ctx context.Context) ([]fleet.Intent, error)
	// Withdraw forgets those that equal one of the list; what is not there is no error. Decide says which count no more,
	// and says it again when this fails: it need not be fenced.
	Withdraw(ctx context.Context, list []fleet.Intent) error
}

// Lease is the right to commit.
type Lease interface {
	// Context ends before anybody else can hold the lease.
	Context() context.Context
	// Release gives the lease up; its context has ended when it returns. Twice is once.
	Release()
}

// Roll is who belongs to the fleet, and what all of them go by. All methods are safe for concurrent use.
type Roll interface {
	// Register keeps what a node says of itself: its address, labels, taints and size. It outlives the node's session.
	Register(ctx context.Context, node fleet.Node) error
	// Nodes returns all that were registered and not dismissed, in the order of their names. They are read-only.
	Nodes(ctx context.Context) ([]fleet.Node, error)
	// Dismiss forgets a node, and its report with it. One that is not there is no error.
	Dismiss(ctx context.Context, node fleet.NodeName) error
	// Charter returns what all nodes go by; the zero Charter before the first Grant. It is read-only.
	Charter(ctx context.Context) (fleet.Charter, error)
	// Grant replaces the charter. Watchers of the store are rung.
	Grant(ctx context.Context, charter fleet.Charter) error
	// Away is why the fleet's memory cannot be reached, for people; empty while it answers. Watchers of the store are rung when
	// it changes.
	Away() string
}

// Tokens are what lets machines join, each one of them once.
type Tokens interface {
	// Offer keeps a token until it expires.
	Offer(ctx context.Context, token Token) error
	// Offered returns a token that may be redeemed still: ErrToken when there is none. It is looked at before it is redeemed,
	// so that a wrong secret ends nobody's token. It asks the fleet's memory itself: an old answer is of no use here.
	Offered(ctx context.Context, id string) (Token, error)
	// Redeem ends a token and registers the node that came with it, both or neither: ErrToken when the token is not there,
	// ErrTaken when the name is. Of several that redeem one token, one succeeds.
	Redeem(ctx context.Context, id string, node fleet.Node) (Token, error)
}

// Token is a permission to join. What proves it (a secret) is not in it, only its hash.
type Token struct {
	ID      string    `json:"id"`
	Hash    []byte    `json:"hash"`   // SHA-256 of the secret
	Server  bool      `json:"server"` // whoever joins may vote
	Expires time.Time `json:"expires"`
}
