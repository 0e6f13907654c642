// Package coord says what the fleet agrees on, and how: Store keeps the assignment and the nodes' reports,
// Lease is the right to commit. coord/local is one machine; every implementation passes the conformance
// suite coordtest.Run.
//
// The store holds slots, commits and hashes. Specs and secrets never get here.
package coord

import (
	"context"
	"errors"

	"github.com/skerry-dev/skerry/fleet"
)

// ErrLost says that a lease is over: what was decided under it does not count.
var ErrLost = errors.New("the lease is lost")

// Store is the fleet's memory. All methods are safe for concurrent use.
type Store interface {
	// Campaign blocks until this process leads, or ctx ends.
	Campaign(ctx context.Context) (Lease, error)
	// Commit replaces the assignment if lease still holds and next.Epoch is higher than the epoch stored;
	// otherwise it changes nothing and returns ErrLost. When it returns nil the assignment survives a crash.
	Commit(ctx context.Context, lease Lease, next fleet.Assignment) error
	// Load returns the assignment; the zero Assignment before the first Commit. It is read-only.
	Load(ctx context.Context) (fleet.Assignment, error)
	// Report replaces what a node says of itself. It dies with the node's session: a store that is opened
	// anew has no reports until the nodes have spoken.
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
