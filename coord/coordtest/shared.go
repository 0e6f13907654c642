package coordtest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// Shared is the memory of a fleet of many nodes, in this process: it keeps what is said, ends sessions by time, and can be cut off
// from each node in either direction. Given the same calls it does the same. It is made for bubbles of testing/synctest, at a
// thousand nodes: nothing polls, a report costs the same however many nodes there are, and others are rung Latency later, once
// for all that came meanwhile.
type Shared struct {
	// TTL is after which a node that is not heard of has no session, and no lease. A holder's context ends a fifth of it before.
	TTL time.Duration
	// Latency is from a change to the bells of others.
	Latency time.Duration
	// Slow is how long a decision is on its way: the disks of a majority take their time.
	Slow time.Duration
	// Weigh counts what is written, which costs time.
	Weigh bool

	mu      sync.Mutex
	clients map[fleet.NodeName]*Node
	order   []*Node // in the order of their first calls, for rings and turns
	ringing bool

	memory  memory
	reports map[fleet.NodeName]spoken
	sorted  []fleet.NodeReport // nil: has to be made anew
	leader  *turn
	queue   []*turn
	written int64
	session int
}

// memory is all that outlives sessions. Its slices and maps are replaced, never changed.
type memory struct {
	assignment fleet.Assignment
	intents    []fleet.Intent
	nodes      []fleet.Node
	charter    fleet.Charter
	tokens     map[string]coord.Token
}

// spoken is a report, and the session that it dies with.
type spoken struct {
	report  fleet.NodeReport
	session int
}

// NewShared returns an empty memory.
func NewShared(ttl time.Duration) *Shared {
	return &Shared{TTL: ttl, Latency: time.Millisecond, clients: map[fleet.NodeName]*Node{}, reports: map[fleet.NodeName]spoken{}}
}

// Written is how many bytes of JSON were written since the beginning, as far as they differ from what was there. Zero without Weigh.
func (s *Shared) Written() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// Node is the client of one node. After Crash there is another.
type Node struct {
	shared *Shared
	name   fleet.NodeName

	// All below is under the lock of the memory.
	parted     bool // it is dumb, or was when it crashed, because it is cut off
	dead       bool
	deaf       bool // hears nothing of the memory
	dumb       bool // is not heard by it
	session    int  // 0: expired
	said       map[fleet.NodeName]fleet.NodeReport
	known      memory             // while deaf: what was last known
	heard      []fleet.NodeReport // likewise
	away       string
	watchers   []*watcher
	silence    *time.Timer // ends the session, while dumb
	loneliness *time.Timer // sets away
}

type watcher struct{ bell func() }

var (
	_ coord.Store   = (*Node)(nil)
	_ coord.Intents = (*Node)(nil)
	_ coord.Roll    = (*Node)(nil)
	_ coord.Tokens  = (*Node)(nil)
)

// Node is the client of a node: the same until it crashes or is closed.
func (s *Shared) Node(name fleet.NodeName) *Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.clients[name]
	if before != nil && !before.dead {
		return before
	}
	s.session++
	n := &Node{shared: s, name: name, session: s.session, said: map[fleet.NodeName]fleet.NodeReport{}}
	if before != nil { // the network is what it was, and what was known is in a file
		n.deaf, n.known, n.heard = before.deaf, before.known, before.heard
		s.order = slices.DeleteFunc(s.order, func(o *Node) bool { return o == before })
		if before.parted {
			n.dumb, n.parted, n.session = true, true, 0
		}
		if n.deaf || n.dumb {
			n.away = awayReason
		}
	}
	s.clients[name] = n
	s.order = append(s.order, n)
	return n
}

// Client is Node, for RunShared.
func (s *Shared) Client(name fleet.NodeName) Client { return s.Node(name) }

// Crash ends a node's client without a word: its session lives on until nothing was heard of it for the TTL.
func (s *Shared) Crash(name fleet.NodeName) {
	defer s.ring(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.clients[name]
	if n == nil || n.dead {
		return
	}
	if !n.deaf {
		n.remember()
	}
	s.hush(n)
	n.dead = true
	n.watchers = nil
	if t := s.leader; t != nil && t.node == n {
		t.cancel()
	}
}

// Close ends a client as a planned stop does: its session ends at once where it is heard.
func (n *Node) Close() {
	s := n.shared
	defer s.ring(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.dead {
		return
	}
	if !n.deaf {
		n.remember()
	}
	n.dead, n.watchers = true, nil
	if t := s.leader; t != nil && t.node == n {
		t.cancel()
	}
	if !n.dumb {
		s.expire(n)
	}
}

// Cut parts a node from the memory, both ways.
func (s *Shared) Cut(name fleet.NodeName) { s.Part(name, true, true) }

// Heal ends every cut of a node.
func (s *Shared) Heal(name fleet.NodeName) { s.Part(name, false, false) }

// Leader is who leads as far as the memory knows; empty while nobody does.
func (s *Shared) Leader() fleet.NodeName {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == nil {
		return ""
	}
	return s.leader.node.name
}

// Compact has nothing to forget: no history is kept.
func (*Shared) Compact() {}

const awayReason = "no member answers: the network is cut"

// Part says in which directions a node is parted from the memory. deaf: it hears nothing, not even whether what it writes is
// done. dumb: nothing that it writes arrives.
func (s *Shared) Part(name fleet.NodeName, deaf, dumb bool) {
	n := s.Node(name)
	defer s.ring(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if deaf && !n.deaf {
		n.remember()
	}
	wasCut := n.deaf || n.dumb
	n.deaf, n.parted = deaf, dumb
	switch {
	case dumb && !n.dumb:
		s.hush(n)
	case !dumb && n.dumb:
		n.dumb = false
		stop(n.silence)
		if n.session == 0 {
			s.session++
			n.session = s.session
		}
		for _, r := range n.said {
			s.keep(n, r)
		}
	}
	switch cut := n.deaf || n.dumb; {
	case cut && !wasCut:
		s.lonely(n)
	case !cut && wasCut:
		stop(n.loneliness)
		n.away = ""
		if t := s.leader; t != nil && t.node == n {
			stop(t.fade)
			if t.ctx.Err() != nil {
				s.free(t)
			}
		}
	}
	s.next()
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// hush makes a node unheard: its session ends in time. Under the lock.
func (s *Shared) hush(n *Node) {
	if n.dumb {
		return
	}
	n.dumb = true
	n.silence = time.AfterFunc(s.TTL, func() {
		defer s.ring(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		if n.dumb {
			s.expire(n)
		}
	})
}

// lonely lets a node find out that nothing answers: its lease ends early enough, and it says that it is away. Under the lock.
func (s *Shared) lonely(n *Node) {
	n.loneliness = time.AfterFunc(s.TTL, func() {
		s.mu.Lock()
		if n.deaf || n.dumb {
			n.away = awayReason
		}
		s.mu.Unlock()
		n.ring()
	})
	if t := s.leader; t != nil && t.node == n {
		t.fade = time.AfterFunc(s.TTL-s.TTL/5, t.Release)
	}
}

// expire ends a session, and what hangs on it. Under the lock.
func (s *Shared) expire(n *Node) {
	for name, r := range s.reports {
		if r.session == n.session {
			delete(s.reports, name)
			s.sorted = nil
		}
	}
	n.session = 0
	if s.leader != nil && s.leader.node == n {
		s.free(s.leader)
	}
}

// ring calls watchers: those of one node at once, and of all others a little later.
func (s *Shared) ring(now *Node) {
	if now != nil {
		now.ring()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ringing {
		return
	}
	s.ringing = true
	time.AfterFunc(s.Latency, func() {
		s.mu.Lock()
		s.ringing = false
		var hear []*Node
		for _, n := range s.order {
			if !n.deaf {
				hear = append(hear, n)
			}
		}
		s.mu.Unlock()
		for _, n := range hear {
			n.ring()
		}
	})
}

func (n *Node) ring() {
	n.shared.mu.Lock()
	list := slices.Clone(n.watchers)
	n.shared.mu.Unlock()
	for _, w := range list {
		w.bell()
	}
}

// remember keeps what is known, for when nothing is heard. Under the lock.
func (n *Node) remember() { n.known, n.heard = n.shared.memory, n.shared.list() }

// list are all reports, in order. Under the lock.
func (s *Shared) list() []fleet.NodeReport {
	if s.sorted == nil {
		s.sorted = make([]fleet.NodeReport, 0, len(s.reports))
		for _, r := range s.reports {
			s.sorted = append(s.sorted, r.report)
		}
		slices.SortFunc(s.sorted, func(a, b fleet.NodeReport) int { return cmp.Compare(a.Node, b.Node) })
	}
	return s.sorted
}

// keep puts a report in. Under the lock.
func (s *Shared) keep(n *Node, r fleet.NodeReport) {
	if s.Weigh {
		s.written += weigh(s.reports[r.Node].report, r)
	}
	s.reports[r.Node] = spoken{r, n.session}
	s.sorted = nil
}

// now is what a node knows. Under the lock.
func (n *Node) now() *memory {
	if n.deaf {
		return &n.known
	}
	return &n.shared.memory
}

// write changes the memory, where it hears the node; one that does not hear it cannot know.
func (n *Node) write(ctx context.Context, f func(m *memory) error) error {
	s := n.shared
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if n.dumb || n.dead {
		s.mu.Unlock()
		return fmt.Errorf("%w: the network is cut", coord.ErrAway)
	}
	err := f(&s.memory)
	deaf := n.deaf
	s.mu.Unlock()
	if err == nil {
		s.ring(n)
	}
	if deaf {
		return fmt.Errorf("%w: no answer came back", coord.ErrAway)
	}
	return err
}

// Watch calls bell after changes.
func (n *Node) Watch(ctx context.Context, bell func()) error {
	w := &watcher{bell}
	n.shared.mu.Lock()
	if !n.dead {
		n.watchers = append(n.watchers, w)
	}
	n.shared.mu.Unlock()
	bell()
	<-ctx.Done()
	n.shared.mu.Lock()
	n.watchers = slices.DeleteFunc(slices.Clone(n.watchers), func(o *watcher) bool { return o == w })
	n.shared.mu.Unlock()
	return ctx.Err()
}

// Commit replaces the assignment.
func (n *Node) Commit(ctx context.Context, held coord.Lease, next fleet.Assignment) error {
	t, ok := held.(*turn)
	if !ok || t.node != n || t.ctx.Err() != nil {
		return coord.ErrLost
	}
	if n.shared.Slow > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(n.shared.Slow):
		}
	}
	return n.write(ctx, func(m *memory) error {
		if n.shared.leader != t || t.ctx.Err() != nil || next.Epoch <= m.assignment.Epoch {
			return coord.ErrLost
		}
		if n.shared.Weigh {
			n.shared.written += weigh(m.assignment, next)
		}
		m.assignment = next
		return nil
	})
}

// Load returns the assignment.
func (n *Node) Load(context.Context) (fleet.Assignment, error) {
	n.shared.mu.Lock()
	defer n.shared.mu.Unlock()
	return n.now().assignment, nil
}

// Report keeps what a node says, or has it said later.
func (n *Node) Report(_ context.Context, report fleet.NodeReport) error {
	s := n.shared
	s.mu.Lock()
	n.said[report.Node] = report
	if !n.dumb && !n.dead {
		s.keep(n, report)
	}
	s.mu.Unlock()
	s.ring(n)
	return nil
}

// Reports returns what nodes said last.
func (n *Node) Reports(context.Context) ([]fleet.NodeReport, error) {
	s := n.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.deaf && !n.dumb {
		return s.list(), nil
	}
	list := n.heard
	if !n.deaf {
		list = s.list()
	}
	by := map[fleet.NodeName]fleet.NodeReport{}
	for _, r := range list {
		by[r.Node] = r
	}
	maps.Copy(by, n.said)
	return slices.SortedFunc(maps.Values(by), func(a, b fleet.NodeReport) int { return cmp.Compare(a.Node, b.Node) }), nil
}

// Intend remembers an intent.
func (n *Node) Intend(ctx context.Context, intent fleet.Intent) error {
	return n.write(ctx, func(m *memory) error {
		if !slices.ContainsFunc(m.intents, intent.Equal) {
			m.intents = append(slices.Clone(m.intents), intent)
			slices.SortFunc(m.intents, fleet.Intent.Compare)
		}
		return nil
	})
}

// Intents returns what is remembered.
func (n *Node) Intents(context.Context) ([]fleet.Intent, error) {
	n.shared.mu.Lock()
	defer n.shared.mu.Unlock()
	return n.now().intents, nil
}

// Withdraw forgets intents.
func (n *Node) Withdraw(ctx context.Context, gone []fleet.Intent) error {
	return n.write(ctx, func(m *memory) error {
		m.intents = slices.DeleteFunc(slices.Clone(m.intents), func(i fleet.Intent) bool { return slices.ContainsFunc(gone, i.Equal) })
		return nil
	})
}

// enroll puts a node, or nothing, in the place of whoever had the name.
func (m *memory) enroll(name fleet.NodeName, node ...fleet.Node) {
	m.nodes = append(slices.DeleteFunc(slices.Clone(m.nodes), func(n fleet.Node) bool { return n.Name == name }), node...)
	slices.SortFunc(m.nodes, func(a, b fleet.Node) int { return cmp.Compare(a.Name, b.Name) })
}

// Register keeps what a node says of itself.
func (n *Node) Register(ctx context.Context, node fleet.Node) error {
	return n.write(ctx, func(m *memory) error {
		m.enroll(node.Name, node)
		return nil
	})
}

// Nodes returns who was registered.
func (n *Node) Nodes(context.Context) ([]fleet.Node, error) {
	n.shared.mu.Lock()
	defer n.shared.mu.Unlock()
	return n.now().nodes, nil
}

// Dismiss forgets a node and its report.
func (n *Node) Dismiss(ctx context.Context, name fleet.NodeName) error {
	return n.write(ctx, func(m *memory) error {
		m.enroll(name)
		delete(n.shared.reports, name)
		delete(n.said, name)
		n.shared.sorted = nil
		return nil
	})
}

// Charter returns what was granted.
func (n *Node) Charter(context.Context) (fleet.Charter, error) {
	n.shared.mu.Lock()
	defer n.shared.mu.Unlock()
	return n.now().charter, nil
}

// Grant keeps a charter.
func (n *Node) Grant(ctx context.Context, charter fleet.Charter) error {
	return n.write(ctx, func(m *memory) error {
		m.charter = charter
		return nil
	})
}

// Away says that the node has been cut off for the TTL.
func (n *Node) Away() string {
	n.shared.mu.Lock()
	defer n.shared.mu.Unlock()
	return n.away
}

// Offer keeps a token.
func (n *Node) Offer(ctx context.Context, token coord.Token) error {
	return n.write(ctx, func(m *memory) error {
		tokens := maps.Clone(m.tokens)
		if tokens == nil {
			tokens = map[string]coord.Token{}
		}
		tokens[token.ID] = token
		m.tokens = tokens
		return nil
	})
}

// Offered returns a token that has not expired.
func (n *Node) Offered(ctx context.Context, id string) (coord.Token, error) {
	var token coord.Token
	err := n.write(ctx, func(m *memory) error { // it asks the memory itself
		found, ok := m.tokens[id]
		if !ok || !time.Now().Before(found.Expires) {
			return coord.ErrToken
		}
		token = found
		return nil
	})
	return token, err
}

// Redeem ends a token.
func (n *Node) Redeem(ctx context.Context, id string, node fleet.Node) (coord.Token, error) {
	var token coord.Token
	err := n.write(ctx, func(m *memory) error {
		found, ok := m.tokens[id]
		switch {
		case !ok || !time.Now().Before(found.Expires):
			return coord.ErrToken
		case slices.ContainsFunc(m.nodes, func(o fleet.Node) bool { return o.Name == node.Name }):
			return coord.ErrTaken
		}
		m.tokens = maps.Clone(m.tokens)
		delete(m.tokens, id)
		m.enroll(node.Name, node)
		token = found
		return nil
	})
	if err != nil {
		return coord.Token{}, err
	}
	return token, nil
}

// turn is a wish to lead, and then the lease.
type turn struct {
	node   *Node
	ctx    context.Context //nolint:containedctx // a lease is a context: coord.Lease
	cancel context.CancelFunc
	come   chan struct{} // closed when it leads
	fade   *time.Timer   // ends it while nothing answers; nil when all is well
}

func (t *turn) Context() context.Context { return t.ctx }

// Release gives the turn up; a memory that does not hear it gives it to others in its own time.
func (t *turn) Release() {
	t.cancel()
	s := t.node.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == t && !t.node.dumb {
		s.free(t)
	}
}

// Campaign waits for its turn: first come, first served, of those who are heard and hear.
func (n *Node) Campaign(ctx context.Context) (coord.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := n.shared
	t := &turn{node: n, come: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(ctx)
	s.mu.Lock()
	s.queue = append(s.queue, t)
	s.next()
	s.mu.Unlock()
	select {
	case <-t.come:
		context.AfterFunc(t.ctx, t.Release) //nolint:contextcheck // is made of ctx
		return t, nil
	case <-ctx.Done():
		s.mu.Lock()
		s.queue = slices.DeleteFunc(s.queue, func(o *turn) bool { return o == t })
		s.mu.Unlock()
		t.Release() // it may have come just now
		return nil, ctx.Err()
	}
}

// free ends a leader's time. Under the lock.
func (s *Shared) free(t *turn) {
	t.cancel()
	s.leader = nil
	s.next()
}

// next lets the first lead who can. Under the lock.
func (s *Shared) next() {
	if s.leader != nil {
		return
	}
	i := slices.IndexFunc(s.queue, func(t *turn) bool { return !t.node.deaf && !t.node.dumb && !t.node.dead && t.ctx.Err() == nil })
	if i < 0 {
		return
	}
	s.leader = s.queue[i]
	s.queue = slices.Delete(s.queue, i, i+1)
	close(s.leader.come)
}
