// Package local is the fleet of one machine: the assignment in a bbolt file, reports in memory, and a lease
// that is granted whenever nobody in this process holds it. bbolt locks the file, so no second process can
// have it open.
package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// Store implements coord.Store, coord.Intents and coord.Roll for one machine.
type Store struct {
	db   *bbolt.DB
	turn chan struct{} // holds one token while nobody leads

	mu         sync.Mutex
	assignment fleet.Assignment
	intents    []fleet.Intent // in order; replaced whole, never changed
	nodes      []fleet.Node   // in order; replaced whole, never changed
	charter    fleet.Charter
	reports    map[fleet.NodeName]fleet.NodeReport
	holder     *lease
	watchers   map[int]func()
	next       int
}

var (
	_ coord.Store   = (*Store)(nil)
	_ coord.Intents = (*Store)(nil)
	_ coord.Roll    = (*Store)(nil)
)

// ErrInUse says that another process has the file open.
var ErrInUse = errors.New("in use by another process")

var (
	bucket        = []byte("skerry")
	assignmentKey = []byte("assignment")
	intentsKey    = []byte("intents")
	nodesKey      = []byte("nodes")
	charterKey    = []byte("charter")
)

// Open opens or creates the file, which must lie in an existing folder. A file that another process has open
// is ErrInUse.
func Open(file string) (*Store, error) {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Millisecond, NoFreelistSync: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open store %s: %w", file, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", file, err)
	}
	s := &Store{db: db, turn: make(chan struct{}, 1), reports: map[fleet.NodeName]fleet.NodeReport{}, watchers: map[int]func(){}}
	s.turn <- struct{}{}
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return nil
		}
		return errors.Join(read(b, assignmentKey, &s.assignment), read(b, intentsKey, &s.intents),
			read(b, nodesKey, &s.nodes), read(b, charterKey, &s.charter))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read store %s: %w", file, err), db.Close())
	}
	return s, nil
}

// read reads what was put under a key, if anything was.
func read(b *bbolt.Bucket, key []byte, into any) error {
	raw := b.Get(key)
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// put writes something under a key. When it returns nil that survives a crash.
func (s *Store) put(key []byte, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		return b.Put(key, raw)
	})
}

// Close closes the file. A lease that is held ends.
func (s *Store) Close() error {
	s.mu.Lock()
	holder := s.holder
	s.mu.Unlock()
	if holder != nil {
		holder.Release()
	}
	return s.db.Close()
}

type lease struct {
	store  *Store
	ctx    context.Context //nolint:containedctx // a lease is a context: coord.Lease
	cancel context.CancelFunc
	once   sync.Once
}

func (l *lease) Context() context.Context { return l.ctx }

func (l *lease) Release() {
	l.once.Do(func() {
		l.cancel()
		l.store.mu.Lock()
		l.store.holder = nil
		l.store.mu.Unlock()
		l.store.turn <- struct{}{}
	})
}

// Campaign waits for its turn.
func (s *Store) Campaign(ctx context.Context) (coord.Lease, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.turn:
	}
	l := &lease{store: s}
	l.ctx, l.cancel = context.WithCancel(ctx)
	s.mu.Lock()
	s.holder = l
	s.mu.Unlock()
	return l, nil
}

// Commit writes the assignment.
func (s *Store) Commit(ctx context.Context, held coord.Lease, next fleet.Assignment) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := held.(*lease); !ok || l != s.holder || l.ctx.Err() != nil || next.Epoch <= s.assignment.Epoch {
		return coord.ErrLost
	}
	if err := s.put(assignmentKey, next); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.assignment = next
	s.ring()
	return nil
}

// Load returns the assignment.
func (s *Store) Load(context.Context) (fleet.Assignment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.assignment, nil
}

// Intend remembers an intent.
func (s *Store) Intend(_ context.Context, intent fleet.Intent) error {
	return s.change(func(list []fleet.Intent) []fleet.Intent {
		list = append(list, intent)
		slices.SortFunc(list, fleet.Intent.Compare)
		return list
	})
}

// Withdraw forgets intents.
func (s *Store) Withdraw(_ context.Context, gone []fleet.Intent) error {
	return s.change(func(list []fleet.Intent) []fleet.Intent {
		return slices.DeleteFunc(list, func(i fleet.Intent) bool { return slices.ContainsFunc(gone, i.Equal) })
	})
}

// change replaces the intents by what f makes of a copy of them.
func (s *Store) change(f func([]fleet.Intent) []fleet.Intent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := f(slices.Clone(s.intents))
	if slices.EqualFunc(next, s.intents, fleet.Intent.Equal) {
		return nil
	}
	if err := s.put(intentsKey, next); err != nil {
		return fmt.Errorf("keep intents: %w", err)
	}
	s.intents = next
	s.ring()
	return nil
}

// Intents returns what is remembered.
func (s *Store) Intents(context.Context) ([]fleet.Intent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.intents, nil
}

// Report keeps what a node says.
func (s *Store) Report(_ context.Context, report fleet.NodeReport) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports[report.Node] = report
	s.ring()
	return nil
}

// Reports returns what the nodes said last.
func (s *Store) Reports(context.Context) ([]fleet.NodeReport, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.reports), func(a, b fleet.NodeReport) int { return cmp.Compare(a.Node, b.Node) }), nil
}

// Register keeps what a node says of itself.
func (s *Store) Register(_ context.Context, node fleet.Node) error {
	return s.enroll(node.Name, node)
}

// Dismiss forgets a node and its report.
func (s *Store) Dismiss(_ context.Context, name fleet.NodeName) error {
	return s.enroll(name)
}

// enroll puts a node, or nothing, in the place of whoever had the name.
func (s *Store) enroll(name fleet.NodeName, node ...fleet.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(s.nodes), func(n fleet.Node) bool { return n.Name == name })
	next = append(next, node...)
	slices.SortFunc(next, func(a, b fleet.Node) int { return cmp.Compare(a.Name, b.Name) })
	if err := s.put(nodesKey, next); err != nil {
		return fmt.Errorf("keep node %s: %w", name, err)
	}
	s.nodes = next
	if len(node) == 0 {
		delete(s.reports, name)
	}
	s.ring()
	return nil
}

// Nodes returns who was registered.
func (s *Store) Nodes(context.Context) ([]fleet.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes, nil
}

// Charter returns what was granted.
func (s *Store) Charter(context.Context) (fleet.Charter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.charter, nil
}

// Grant keeps a charter.
func (s *Store) Grant(_ context.Context, charter fleet.Charter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.put(charterKey, charter); err != nil {
		return fmt.Errorf("keep charter: %w", err)
	}
	s.charter = charter
	s.ring()
	return nil
}

// Away is empty: nothing is between this process and its own file.
func (s *Store) Away() string { return "" }

// ring calls the watchers, which do not block.
func (s *Store) ring() {
	for _, bell := range s.watchers {
		bell()
	}
}

// Watch calls bell after changes.
func (s *Store) Watch(ctx context.Context, bell func()) error {
	s.mu.Lock()
	id := s.next
	s.next++
	s.watchers[id] = bell
	bell()
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	delete(s.watchers, id)
	s.mu.Unlock()
	return ctx.Err()
}
