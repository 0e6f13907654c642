package lease

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// Peer is another node of the fleet.
type Peer struct {
	Name   fleet.NodeName
	Addr   netip.AddrPort // where its datagrams go
	Secret []byte         // that both have, and nobody else
}

// Equal reports whether two are the same in all.
func (p Peer) Equal(o Peer) bool {
	return p.Name == o.Name && p.Addr == o.Addr && slices.Equal(p.Secret, o.Secret)
}

// Config is what a Node needs to know.
type Config struct {
	Self fleet.NodeName
	Conn net.PacketConn // of UDP; the node closes it
	// Now is the clock; default BootClock.
	Now func() Instant
	// Rules are the terms that an electorate goes by; default TermsOf.
	Rules func(fleet.Electorate) Terms
	Log   *slog.Logger // default: none
}

// Node is one process's part in the leases of its fleet, and what it hears of whether the other nodes live. Safe for concurrent use.
type Node struct {
	cfg  Config
	own  uint64
	bell chan struct{} // rings the loop: something is due, perhaps at another time

	mu      sync.Mutex
	machine *Machine
	peers   map[fleet.NodeName]*neighbour
	leases  map[string]*Lease      // that are held
	waiters map[string]chan *Lease // who campaigns
	ring    func()                 // called when a peer falls silent or is heard again
}

// neighbour is a peer and what is known of it.
type neighbour struct {
	Peer
	*session
	at      netip.AddrPort // where it is
	heard   Instant        // when it was last; 0: never
	said    Instant        // when something was last sent to it
	greeted Instant
	silent  bool
}

// Silence is after which a peer that was heard before is taken for dead: five of its datagrams are missing.
const (
	beats    = 100 * time.Millisecond // between datagrams to a peer, when there is nothing to say
	silence  = 500 * time.Millisecond
	greeting = 5 * time.Millisecond // between greetings of one peer, at least
	crowd    = 50                   // nodes; with more of them beats are rarer
)

// BootClock is the time since the machine was started, also while it was asleep.
func BootClock() Instant {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Sprintf("read the boot clock: %v", err)) // Linux has had it since 2.6.39
	}
	return time.Duration(now.Nano())
}

// NewNode is a node that does nothing before Run. It grants nothing for the first half second.
func NewNode(cfg Config) *Node {
	if cfg.Now == nil {
		cfg.Now = BootClock
	}
	if cfg.Rules == nil {
		cfg.Rules = TermsOf
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	own := random()
	roll := func(n time.Duration) time.Duration { return mathrand.N(n) }
	return &Node{
		cfg: cfg, own: own, bell: make(chan struct{}, 1), machine: NewMachine(cfg.Self, own, cfg.Rules, roll, cfg.Now()),
		peers: map[fleet.NodeName]*neighbour{}, leases: map[string]*Lease{}, waiters: map[string]chan *Lease{}, ring: func() {},
	}
}

// random is a number that nobody can guess, and never 0.
func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return max(1, binary.BigEndian.Uint64(b[:]))
}

// Run takes part until ctx ends or the connection fails. Release leases before: those that are held then run out only.
func (n *Node) Run(ctx context.Context) error {
	defer n.cfg.Conn.Close()
	failed := make(chan error, 1)
	go func() { failed <- n.read() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			n.end()
			n.cfg.Conn.Close()
			<-failed
			return nil
		case err := <-failed:
			n.end()
			return fmt.Errorf("hear other nodes: %w", err)
		case <-n.bell:
		case <-timer.C:
		}
		timer.Reset(n.turn())
	}
}

// read takes datagrams until the connection is closed.
func (n *Node) read() error {
	buffer := make([]byte, mostTaken+1)
	for {
		size, from, err := n.cfg.Conn.ReadFrom(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // an answer that nobody listened there, for instance
			continue
		}
		if size <= mostTaken {
			n.take(buffer[:size], from)
		}
	}
}

// mostTaken is how long a datagram may be at most: none of ours is longer.
const mostTaken = 2 << 10

// take takes one datagram. A peer is answered where its newest came from: its address may be another by now.
func (n *Node) take(raw []byte, from net.Addr) {
	name, err := senderOf(raw)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[name]
	if p == nil {
		return
	}
	before := p.theirs
	d, taken, greet := p.open(raw)
	now := n.cfg.Now()
	if taken {
		n.lives(p, now)
		if before != p.theirs {
			n.ring()
		}
		if udp, is := from.(*net.UDPAddr); is {
			p.at = netip.AddrPortFrom(udp.AddrPort().Addr().Unmap(), udp.AddrPort().Port())
		}
		// A process that has just started may have gone by a newer one than this peer does: it has to hear it where that is known.
		if n.machine.Electorate().Epoch > 0 && n.machine.Elect(d.electorate, now) {
			n.cfg.Log.Info("another electorate for addresses", "epoch", d.electorate.Epoch, "voters", d.electorate.Voters, "from", name)
		}
		for _, m := range d.messages {
			n.machine.Receive(name, m, now)
		}
	}
	if greet && now-p.greeted >= greeting {
		p.greeted = now
		n.write(p, p.greeting(n.machine.Electorate()), now)
	}
	n.settle(now)
	n.wake()
}

// lives notes that a peer was heard.
func (n *Node) lives(p *neighbour, now Instant) {
	p.heard = now
	if p.silent {
		p.silent = false
		n.ring()
	}
}

func (n *Node) wake() {
	select {
	case n.bell <- struct{}{}:
	default:
	}
}

// turn does what is due and returns how long it is until something is.
func (n *Node) turn() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Now()
	next := now + n.beat()
	if at := n.machine.Tick(now); at > 0 {
		next = min(next, at)
	}
	n.settle(now)
	fell := false
	for _, p := range n.peers {
		if now-p.said >= n.beat() {
			n.write(p, p.seal(n.machine.Electorate(), nil), now)
		}
		next = min(next, p.said+n.beat())
		if p.heard == 0 || p.silent {
			continue
		}
		end := p.heard + silence*n.beat()/beats
		if now >= end {
			p.silent, fell = true, true
			n.cfg.Log.Warn("a node is not heard any more: nothing is sent to its pods", "node", p.Name)
			continue
		}
		next = min(next, end)
	}
	if fell {
		n.ring()
	}
	return max(next-now, 0)
}

// beat is how often a peer is told at least that this node lives.
func (n *Node) beat() time.Duration {
	return beats * time.Duration(max(1, (len(n.peers)+crowd-1)/crowd))
}

// settle sends what the machine has to say, and has leases be what it says.
func (n *Node) settle(now Instant) {
	var order []fleet.NodeName
	said := map[fleet.NodeName][]Message{}
	for _, e := range n.machine.Out() {
		if said[e.To] == nil {
			order = append(order, e.To)
		}
		said[e.To] = append(said[e.To], e.Message)
	}
	for _, to := range order {
		p := n.peers[to]
		if p == nil {
			continue
		}
		for _, some := range packed(said[to]) {
			n.write(p, p.seal(n.machine.Electorate(), some), now)
		}
	}
	for key, l := range n.leases {
		until := n.machine.Until(key)
		switch {
		case until > now:
			l.extend(until, now)
		default:
			n.lost(key, l, now)
		}
	}
	for key, waiter := range n.waiters {
		if until := n.machine.Until(key); until > now && n.leases[key] == nil {
			l := newLease(n, key, until, now)
			if p := n.peers[n.machine.Former(key)]; p != nil {
				l.former = p.Addr.Addr().Unmap()
			}
			n.leases[key] = l
			delete(n.waiters, key)
			waiter <- l
		}
	}
}

// packed are messages in as many parts as datagrams are needed.
func packed(messages []Message) [][]Message {
	const room = mostLength - 400 // besides names and electorate
	var parts [][]Message
	size := room
	for _, m := range messages {
		if size += m.size(); size > room || len(parts[len(parts)-1]) == 255 {
			parts, size = append(parts, nil), m.size()
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], m)
	}
	return parts
}

func (n *Node) write(p *neighbour, raw []byte, now Instant) {
	p.said = now
	_, _ = n.cfg.Conn.WriteTo(raw, net.UDPAddrFromAddrPort(p.at)) // what is lost is said again
}

// lost ends a lease that is over. Nobody does anything with the key on this node now: others may have it at once.
func (n *Node) lost(key string, l *Lease, now Instant) {
	delete(n.leases, key)
	l.cancel()
	n.machine.Yield(key, "", now)
}

// end ends the contexts of all leases. They are not given up: what was done with them has not ended yet, perhaps. They run out.
func (n *Node) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, l := range n.leases {
		l.cancel()
		delete(n.leases, key)
	}
}

// SetPeers says who the other nodes are. What is known of those that stay is kept.
func (n *Node) SetPeers(peers []Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.peers
	n.peers = map[fleet.NodeName]*neighbour{}
	for _, p := range peers {
		if p.Name == n.cfg.Self {
			continue
		}
		known := before[p.Name]
		if known == nil || !slices.Equal(known.Secret, p.Secret) {
			known = &neighbour{session: &session{self: n.cfg.Self, peer: p.Name, secret: p.Secret, own: n.own, random: random}}
		}
		if known.Addr != p.Addr {
			known.at = p.Addr
		}
		known.Peer = p
		n.peers[p.Name] = known
	}
	n.wake()
}

// Elect has the node go by an electorate, if that is newer than the one it goes by. The first one must not be older than what an earlier
// process of this node went by: it has to come from where they are decided, and not from memory. From then on the node hears newer ones
// from others, too.
func (n *Node) Elect(e fleet.Electorate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.machine.Elect(e, n.cfg.Now())
	n.settle(n.cfg.Now())
	n.wake()
}

// Electorate is the one that the node goes by: the zero one before any is known.
func (n *Node) Electorate() fleet.Electorate {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.machine.Electorate()
}

// Silent are the nodes that were heard since this one started and are not heard any more, and for how long.
func (n *Node) Silent() map[fleet.NodeName]time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	silent := map[fleet.NodeName]time.Duration{}
	for name, p := range n.peers {
		if p.silent {
			silent[name] = n.cfg.Now() - p.heard
		}
	}
	return silent
}

// Process is this process, as others know it by what it says.
func (n *Node) Process() uint64 { return n.own }

// ProcessOf is the process of a node that was heard last; 0 where none was.
func (n *Node) ProcessOf(name fleet.NodeName) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.peers[name]; p != nil {
		return p.theirs
	}
	return 0
}

// Tell has ring called whenever Silent or ProcessOf changes, instead of what was to be called before. It must not block, nor call the node.
func (n *Node) Tell(ring func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ring = ring
}

// ErrBusy says that a key is campaigned for or held by this process already.
var ErrBusy = errors.New("this process campaigns for it or has it already")

// Campaign waits until this node holds a key, or ctx ends: of several nodes the one with the lowest rank goes first. The lease outlives ctx.
func (n *Node) Campaign(ctx context.Context, key string, rank int) (*Lease, error) {
	won := make(chan *Lease, 1)
	n.mu.Lock()
	if n.waiters[key] != nil || n.leases[key] != nil {
		n.mu.Unlock()
		return nil, fmt.Errorf("campaign for %s: %w", key, ErrBusy)
	}
	n.waiters[key] = won
	now := n.cfg.Now()
	n.machine.Want(key, rank, now)
	n.machine.Tick(now)
	n.settle(now)
	n.mu.Unlock()
	n.wake()
	select {
	case l := <-won:
		return l, nil
	case <-ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case l := <-won: // in the last moment
		delete(n.leases, key)
		l.cancel()
	default:
		delete(n.waiters, key)
	}
	n.machine.Yield(key, "", n.cfg.Now())
	n.settle(n.cfg.Now())
	return nil, ctx.Err()
}

var _ coord.Lease = (*Lease)(nil)

// Lease is the right to a key for a while, which is renewed by itself.
type Lease struct {
	node    *Node
	key     string
	ctx     context.Context //nolint:containedctx // a lease is a context: coord.Lease
	cancel  context.CancelFunc
	renewed chan struct{}
	former  netip.Addr

	mu    sync.Mutex
	until Instant
	timer *time.Timer
}

func newLease(n *Node, key string, until, now Instant) *Lease {
	l := &Lease{node: n, key: key, renewed: make(chan struct{}, 1), until: until}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.timer = time.AfterFunc(until-now, l.cancel)
	return l
}

// extend has it last until another moment.
func (l *Lease) extend(until, now Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until <= l.until || !l.timer.Reset(until-now) { // it had fired: too late
		return
	}
	l.until = until
	select {
	case l.renewed <- struct{}{}:
	default:
	}
}

// Context ends before anybody else can hold the key.
func (l *Lease) Context() context.Context { return l.ctx }

// Until is before which it is held, whatever happens, by the clock of the node (BootClock).
func (l *Lease) Until() Instant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// Former is where the node is that has let go of the key for this one; the zero Addr: none has.
func (l *Lease) Former() netip.Addr { return l.former }

// Age is how long ago the asking began that Until counts from: right after a renewal, how long that took.
func (l *Lease) Age() time.Duration {
	l.node.mu.Lock()
	terms := l.node.machine.terms
	l.node.mu.Unlock()
	return l.node.cfg.Now() - (l.Until() - terms.TTL + terms.Margin)
}

// Over reports whether it is not held any more.
func (l *Lease) Over() bool { return l.node.cfg.Now() >= l.Until() || l.ctx.Err() != nil }

// Renewed rings after Until has become later. It has a capacity of one.
func (l *Lease) Renewed() <-chan struct{} { return l.renewed }

// Release gives it up; whatever was done with it must have ended.
func (l *Lease) Release() { l.Yield("") }

// Yield gives it up for another node, which has it a moment later if it campaigns; empty for whoever is first.
func (l *Lease) Yield(to fleet.NodeName) {
	n := l.node
	n.mu.Lock()
	defer n.mu.Unlock()
	l.cancel()
	l.timer.Stop()
	if n.leases[l.key] != l {
		return
	}
	delete(n.leases, l.key)
	now := n.cfg.Now()
	n.machine.Yield(l.key, to, now)
	n.settle(now)
	n.wake()
}
