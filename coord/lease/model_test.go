package lease

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/bits"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// model is all that a small fleet can do, as far as it is allowed to: every order of askings, of messages that are lost, doubled and
// late, of restarts, of clocks that differ, and of pauses (a node that does nothing for a while is one order among others). There is no end
// of time: moments are told apart by what is left of what lasts, not by when they are.
//
// It runs the code of the package, on one node at a time. What comes of what happens to a node depends on nothing but the node, so it is
// worked out once, and a moment of the fleet is some numbers: of the nodes' states, and of the messages that may arrive.
//
// What is left out, because what is looked at can do it as well, or worse:
//
//   - That a grant arrives late. What was granted to a node changes nothing that it tells others, and the more it has been granted, the
//     sooner and longer it holds. So a grant arrives at once, or never: one that arrives after the node has begun anew, let go or heard of
//     another electorate does not count, and until then the sooner is the worse. ("late" has
//     them arrive whenever they may.)
//   - That a voter refuses, and that it keeps a key for who was named: that the asking is lost is worse, as the voter heeds older messages
//     still. (Not so after restarts: a message of another start of the process has a voter heed older ones.)
//   - Which of several nodes it is that something happens to, where they have the same part in the model.
type model struct {
	candidates  []fleet.NodeName
	asks        []int              // that each candidate may make
	yields      int                // of all together; as are
	gives       int                // askings given back,
	restarts    int                // and
	forgets     int                // voters that forget what is long over
	heirs       bool               // who yields may name the next
	electorates []fleet.Electorate // that may come one after the other; the first is there
	atOnce      bool               // the next but one does not wait until a majority goes by that in between, and for the longest TTL then
	stale       bool               // who starts anew may know the first only
	terms, fast Terms
	quick       []fleet.NodeName // whose clocks may gain a tick
	rest        int              // but not again for so many
	late        bool             // grants may arrive late
	answers     bool             // and count from when they arrive

	names  []fleet.NodeName
	group  []*renaming
	beings []*being
	ids    map[string]uint32 // of beings
	loose  []flight
	wires  map[flight]uint16
	moves  map[move]outcome
	alive  map[uint64]bool
}

// world is one moment of a model.
type world struct {
	nodes                          [5]uint32
	wires                          [8]uint64 // what may arrive, now and any time later
	yields, gives, starts, forgets uint8
	elects                         uint8 // how many of the electorates are there
	ready                          uint8 // how long a majority has gone by the last one, and one more; 0: it does not
}

type flight struct {
	from fleet.NodeName
	Envelope
}

// being is a node: its machine, and until when the fence in its kernel is open, which outlives the machine. It is copied, never changed.
// By its clock it is always the same time: what passes is taken from what lasts.
type being struct {
	*Machine
	asked  int
	open   Instant
	rested int // ticks since its clock has gained one
}

// move is what happens to a node, and outcome what comes of it.
type move struct {
	node uint32
	what deed
	arg  uint16
}

type outcome struct {
	node uint32
	sent []uint16
}

type deed uint8

const (
	asks deed = iota
	yields
	gives
	starts
	forgets
	elects // the electorate of this index
	hears  // the flight of this number
	ticks
	leaps // its clock gains a tick in one
)

// renaming gives nodes the names of others that have the same part.
type renaming struct {
	to     []int
	beings []uint32 // and one more; 0: not worked out yet
	wires  []uint16
}

// trail is how a moment came to be.
type trail struct {
	what   deed
	who    int // -1: the fleet
	arg    uint16
	more   string
	before *trail
}

const (
	key  = "192.0.2.1"
	tick = heldBack // a moment in which a voter keeps a key for who was named is one
	noon = 1000 * tick
)

func (b *being) copied() *being {
	c, m, v := *b, *b.Machine, *b.voter
	v.keys = map[string]*granted{}
	for k, g := range b.voter.keys {
		copied := *g
		copied.heard = maps.Clone(g.heard)
		v.keys[k] = &copied
	}
	m.voter, m.keys, c.Machine = &v, map[string]*pursuit{}, &m
	for k, p := range b.keys {
		copied, claim := *p, *p.claim
		claim.sent, claim.acked = maps.Clone(p.sent), maps.Clone(p.acked)
		copied.claim, copied.refused = &claim, map[fleet.NodeName]refusal{}
		m.keys[k] = &copied
	}
	return &c
}

// pass takes time from all that lasts.
func (b *being) pass(d time.Duration) {
	b.open -= d
	b.voter.quiet -= d
	for _, g := range b.voter.keys {
		g.until -= d
		g.others -= d
		g.keptUntil -= d
	}
	for _, p := range b.keys {
		p.until -= d
		for seq := range p.sent {
			p.sent[seq] -= d
		}
		for voter := range p.acked {
			p.acked[voter] -= d
		}
	}
}

// number is that of a state of a node, of which all is forgotten that makes no difference any more.
func (m *model) number(b *being) uint32 {
	b.open, b.voter.quiet = max(b.open, noon), max(b.voter.quiet, noon)
	text := fmt.Sprint(b.self, b.asked, b.seq, b.incarnation, b.electorate.Epoch, (b.open-noon)/tick, (b.voter.quiet-noon)/tick, b.rested)
	if g := b.voter.keys[key]; g != nil {
		if g.until <= noon && (!m.heirs || m.restarts == 0) { // else the holder may still name another
			g.holder = ""
		}
		if g.holder == "" {
			g.incarnation, g.seq, g.until = 0, 0, noon
		}
		if g.holder == "" || g.others <= noon {
			g.others = noon
		}
		if g.keptUntil <= noon {
			g.kept = ""
		}
		if g.kept == "" {
			g.keptUntil = noon
		}
		g.until = max(g.until, noon)
		text += fmt.Sprint("g", g.holder, g.incarnation, " ", g.seq, (g.until-noon)/tick, (g.others-noon)/tick, g.kept, (g.keptUntil-noon)/tick, g.heard)
	}
	if p := b.keys[key]; p != nil {
		// What was asked so long ago makes no lease longer.
		useless := func(at Instant) bool { return at+b.terms.TTL-b.terms.Margin <= noon }
		if m.answers { // it makes no difference when it was
			for seq := range p.sent {
				p.sent[seq] = noon
			}
		}
		maps.DeleteFunc(p.sent, func(_ uint64, at Instant) bool { return useless(at) })
		maps.DeleteFunc(p.acked, func(_ fleet.NodeName, at Instant) bool { return useless(at) })
		p.until = max(p.until, noon)
		if p.state == holding && !p.holds(noon) {
			p.state = waiting
		}
		p.next, p.offered, p.former = 0, 0, ""
		text += fmt.Sprint("p", p.state, (p.until-noon)/tick, p.sent, p.acked)
	}
	id, known := m.ids[text]
	if !known {
		id = uint32(len(m.beings))
		m.ids[text] = id
		m.beings = append(m.beings, b)
	}
	return id
}

// wire is the number of a flight.
func (m *model) wire(f flight) uint16 {
	id, known := m.wires[f]
	if !known {
		id = uint16(len(m.loose))
		if int(id) >= 64*len(world{}.wires) {
			panic("too many messages")
		}
		m.wires[f] = id
		m.loose = append(m.loose, f)
	}
	return id
}

// does is what comes of a move.
func (m *model) does(id uint32, what deed, arg uint16) outcome {
	mv := move{id, what, arg}
	if out, known := m.moves[mv]; known {
		return out
	}
	b := m.beings[id].copied()
	p := b.keys[key]
	switch what {
	case asks:
		b.asked++
		if p == nil {
			b.Want(key, 0, noon)
			p = b.keys[key]
		}
		if p.state == asking {
			p.state = waiting // as who is offered it
		}
		b.due(key, p, noon)
	case yields:
		b.open = 0 // the fence is shut first
		to := fleet.NodeName("")
		if arg > 0 {
			to = m.names[arg-1]
		}
		b.Yield(key, to, noon)
	case gives:
		b.due(key, p, noon)
	case starts:
		b.Machine = m.machine(b.self, b.incarnation+1, m.electorates[arg])
	case forgets:
		b.voter.forget(noon, b.terms.Longest)
	case elects:
		b.Elect(m.electorates[arg], noon)
	case hears:
		f := m.loose[arg]
		if m.answers && f.Kind == Grant {
			p.sent[f.Seq] = noon
		}
		b.Receive(f.from, f.Message, noon)
	case ticks:
		b.pass(tick)
		b.rested = min(b.rested+1, m.rest)
	case leaps:
		b.pass(2 * tick)
		b.rested = 0
	}
	out := outcome{}
	for _, e := range b.Out() {
		if e.Kind != Refuse && e.Kind != Offer { // these say only when to ask, which may be at any time here
			out.sent = append(out.sent, m.wire(flight{b.self, e}))
		}
	}
	b.open = max(b.open, b.Until(key))
	out.node = m.number(b)
	m.moves[mv] = out
	return out
}

func (m *model) machine(name fleet.NodeName, incarnation uint64, e fleet.Electorate) *Machine {
	rules := func(e fleet.Electorate) Terms {
		if e.Fast {
			return m.fast
		}
		return m.terms
	}
	machine := NewMachine(name, incarnation, rules, func(time.Duration) time.Duration { return 0 }, noon)
	machine.Elect(e, noon)
	return machine
}

func (m *model) begin() world {
	m.names = slices.Clone(m.candidates)
	for _, e := range m.electorates {
		m.names = append(m.names, e.Voters...)
	}
	slices.Sort(m.names)
	m.names = slices.Compact(m.names)
	m.beings, m.ids, m.loose, m.wires, m.moves, m.alive = nil, map[string]uint32{}, nil, map[flight]uint16{}, map[move]outcome{}, map[uint64]bool{}
	w := world{elects: 1}
	for i, name := range m.names {
		machine := m.machine(name, 1, m.electorates[0])
		machine.voter.quiet = 0 // the fleet has been there for long
		w.nodes[i] = m.number(&being{Machine: machine, rested: m.rest})
	}
	m.group = nil
	m.renamings(nil)
	return w
}

// part is what a node may do in the model.
func (m *model) part(name fleet.NodeName) string {
	text := fmt.Sprint(slices.Contains(m.quick, name))
	if at := slices.Index(m.candidates, name); at >= 0 {
		text += fmt.Sprint("asks", m.asks[at])
	}
	for _, e := range m.electorates {
		text += fmt.Sprint(votes(e, name))
	}
	return text
}

// renamings finds all that give each node the name of one with the same part.
func (m *model) renamings(to []int) {
	if len(to) == len(m.names) {
		if !slices.IsSorted(to) {
			m.group = append(m.group, &renaming{to: slices.Clone(to)})
		}
		return
	}
	for i, name := range m.names {
		if !slices.Contains(to, i) && m.part(name) == m.part(m.names[len(to)]) {
			m.renamings(append(slices.Clone(to), i))
		}
	}
}

// renamed is a world with other names.
func (m *model) renamed(w world, r *renaming) world {
	to := func(name fleet.NodeName) fleet.NodeName {
		if name == "" {
			return ""
		}
		return m.names[r.to[slices.Index(m.names, name)]]
	}
	out := w
	for i := range m.names {
		id := w.nodes[i]
		for int(id) >= len(r.beings) {
			r.beings = append(r.beings, 0)
		}
		if r.beings[id] == 0 {
			b := m.beings[id].copied()
			b.self = to(b.self)
			for _, g := range b.voter.keys {
				g.holder, g.kept = to(g.holder), to(g.kept)
				heard := map[fleet.NodeName]word{}
				for name, word := range g.heard {
					heard[to(name)] = word
				}
				g.heard = heard
			}
			for _, p := range b.keys {
				acked := map[fleet.NodeName]Instant{}
				for name, at := range p.acked {
					acked[to(name)] = at
				}
				p.acked = acked
			}
			r.beings[id] = m.number(b) + 1
		}
		out.nodes[r.to[i]] = r.beings[id] - 1
	}
	out.wires = world{}.wires
	for wire := range w.flying() {
		for int(wire) >= len(r.wires) {
			r.wires = append(r.wires, 0)
		}
		if r.wires[wire] == 0 {
			f := m.loose[wire]
			f.from, f.Envelope.To, f.Message.To = to(f.from), to(f.Envelope.To), to(f.Message.To)
			r.wires[wire] = m.wire(f) + 1
		}
		out.send(r.wires[wire] - 1)
	}
	return out
}

// less puts worlds in some order.
func (w *world) less(other *world) bool {
	if c := slices.Compare(w.nodes[:], other.nodes[:]); c != 0 {
		return c < 0
	}
	return slices.Compare(w.wires[:], other.wires[:]) < 0
}

func (w *world) send(wires ...uint16) {
	for _, wire := range wires {
		w.wires[wire/64] |= 1 << (wire % 64)
	}
}

// flying is what may arrive.
func (w *world) flying() func(func(uint16) bool) {
	return func(yield func(uint16) bool) {
		for i, set := range w.wires {
			for ; set != 0; set &= set - 1 {
				if !yield(uint16(64*i + bits.TrailingZeros64(set))) {
					return
				}
			}
		}
	}
}

// next is all that may happen next.
func (m *model) next(w world, then func(world, deed, int, uint16, string)) {
	does := func(n world, i int, what deed, arg uint16) world {
		out := m.does(n.nodes[i], what, arg)
		n.nodes[i] = out.node
		n.send(out.sent...)
		return n
	}
	for i, name := range m.names {
		b := m.beings[w.nodes[i]]
		p := b.keys[key]
		if at := slices.Index(m.candidates, name); at >= 0 && b.asked < m.asks[at] {
			then(does(w, i, asks, 0), asks, i, 0, "")
		}
		if int(w.yields) < m.yields && p != nil {
			for to := range len(m.names) + 1 {
				if to > 0 && (!m.heirs || m.names[to-1] == name || !slices.Contains(m.candidates, m.names[to-1])) {
					continue
				}
				n := does(w, i, yields, uint16(to))
				n.yields++
				then(n, yields, i, uint16(to), "")
			}
		}
		if int(w.gives) < m.gives && p != nil && p.state == asking {
			n := does(w, i, gives, 0)
			n.gives++
			then(n, gives, i, 0, "")
		}
		at := b.electorate.Epoch
		if int(w.starts) < m.restarts {
			knew := uint16(at - 1)
			if m.stale {
				knew = 0
			}
			n := does(w, i, starts, knew)
			n.starts++
			then(n, starts, i, knew, "")
		}
		if int(w.forgets) < m.forgets {
			n := does(w, i, forgets, 0)
			n.forgets++
			if n.nodes != w.nodes {
				then(n, forgets, i, 0, "")
			}
		}
		if int(at) < int(w.elects) {
			n := does(w, i, elects, uint16(at))
			m.agree(&n)
			then(n, elects, i, uint16(at), "")
		}
	}
	for wire := range w.flying() {
		f := m.loose[wire]
		i := slices.Index(m.names, f.Envelope.To)
		out := m.does(w.nodes[i], hears, wire)
		n := w
		n.nodes[i] = out.node
		switch {
		case f.Kind != Ask:
			then(n, hears, i, wire, "")
		case len(out.sent) > 0 && m.late:
			n.send(out.sent...)
			then(n, hears, i, wire, ", and grants it")
		case len(out.sent) > 0:
			then(n, hears, i, wire, ", and grants it in vain")
			from := slices.Index(m.names, f.from)
			if m.lives(&n, out.sent[0]) {
				n.nodes[from] = m.does(n.nodes[from], hears, out.sent[0]).node
				then(n, hears, i, wire, ", and grants it")
			}
		case m.restarts > 0:
			then(n, hears, i, wire, ", and does not grant it")
		}
	}
	if at := int(w.elects); at < len(m.electorates) && (m.atOnce || at == 1 || time.Duration(w.ready)*tick > m.terms.Longest) {
		n := w
		n.elects++
		n.ready = 0
		then(n, elects, -1, uint16(at), "")
	}
	m.tick(w, 0, then)
}

// tick lets time pass on all nodes from one on.
func (m *model) tick(w world, i int, then func(world, deed, int, uint16, string)) {
	if i == len(m.names) {
		if w.ready > 0 && time.Duration(w.ready)*tick <= m.terms.Longest {
			w.ready++
		}
		then(w, ticks, -1, 0, "")
		return
	}
	n := w
	n.nodes[i] = m.does(w.nodes[i], ticks, 0).node
	m.tick(n, i+1, then)
	if slices.Contains(m.quick, m.names[i]) && m.beings[w.nodes[i]].rested >= m.rest {
		n.nodes[i] = m.does(w.nodes[i], leaps, 0).node
		m.tick(n, i+1, then)
	}
}

// agree notes when a majority of the newest electorate goes by it.
func (m *model) agree(w *world) {
	e := m.electorates[w.elects-1]
	n := 0
	for i, name := range m.names {
		if votes(e, name) && m.beings[w.nodes[i]].electorate.Epoch >= e.Epoch {
			n++
		}
	}
	if w.ready == 0 && n >= majority(len(e.Voters)) {
		w.ready = 1
	}
}

// lives reports whether a message may change anything still.
func (m *model) lives(w *world, wire uint16) bool {
	f := &m.loose[wire]
	to, from := w.nodes[slices.Index(m.names, f.Envelope.To)], w.nodes[slices.Index(m.names, f.from)]
	// A voter heeds older messages once more after a restart, its own or the sender's, and when it has forgotten newer ones.
	final := int(w.starts) == m.restarts && int(w.forgets) == m.forgets && m.beings[from].incarnation == 1
	at := uint64(to)<<32 | uint64(wire)<<1
	if final {
		at |= 1
	}
	lives, known := m.alive[at]
	if !known {
		lives = m.matters(m.beings[to], f, final)
		m.alive[at] = lives
	}
	return lives
}

func (m *model) matters(to *being, f *flight, final bool) bool {
	switch f.Kind {
	case Grant:
		p := to.keys[key]
		if p == nil || f.Incarnation != to.incarnation {
			return false
		}
		at, open := p.sent[f.Seq]
		before, has := p.acked[f.from]
		return open && (m.answers || !has || before < at)
	case Ask, Drop:
		if f.Kind == Ask && f.Epoch < to.electorate.Epoch && !m.stale {
			return false
		}
		g := to.voter.keys[key]
		if g == nil || !final {
			return true
		}
		last, known := g.heard[f.from]
		return !known || f.Seq > last.seq
	default:
		return false
	}
}

// holders are whose fences are open.
func (m *model) holders(w *world) (list []fleet.NodeName) {
	for i, name := range m.names {
		if m.beings[w.nodes[i]].open > noon {
			list = append(list, name)
		}
	}
	return list
}

func (m *model) contested(w *world) bool {
	n := 0
	for i := range m.names {
		if m.beings[w.nodes[i]].open > noon {
			n++
		}
	}
	return n > 1
}

// tell tells how a moment came to be.
func (m *model) tell(t *trail) string {
	var list []string
	for ; t != nil; t = t.before {
		list = append(list, m.say(t)+"\n")
	}
	slices.Reverse(list)
	return strings.Join(list, "")
}

// say says what happened.
func (m *model) say(t *trail) string {
	name := "the fleet"
	if t.who >= 0 {
		name = string(m.names[t.who])
	}
	switch t.what {
	case hears:
		f := m.loose[t.arg]
		kind := map[Kind]string{Ask: "asks", Grant: "grants it", Drop: "has let go"}[f.Kind]
		if f.Message.To != "" {
			kind += " for " + string(f.Message.To)
		}
		return fmt.Sprintf("%s hears that %s %s (%d.%d, electorate %d)%s", name, f.from, kind, f.Incarnation, f.Seq, f.Epoch, t.more)
	case yields:
		if t.arg > 0 {
			return fmt.Sprintf("%s yields to %s", name, m.names[t.arg-1])
		}
		return name + " yields"
	case elects:
		return fmt.Sprintf("%s has electorate %d", name, t.arg+1)
	case ticks:
		return "a tick"
	default:
		return name + " " + map[deed]string{asks: "asks", gives: "gives back", starts: "starts anew", forgets: "forgets what is over"}[t.what]
	}
}

// search goes through all that can happen, along one way to its end or step by step for the shortest way. It returns how two came to hold
// at once, empty when nobody can, and how many moments it saw.
//
// Of a moment that was seen 64 bits are kept: among ten million, that any two are taken for one another is as likely as 1 in 400,000, and with
// other bits in every run.
func (m *model) search(shortest bool) (how string, moments int) {
	type step struct {
		world
		how *trail
	}
	first := m.begin()
	seed := maphash.MakeSeed()
	seen := map[uint64]struct{}{}
	var stack []step
	var found *trail
	var both string
	var at step
	then := func(n world, what deed, i int, arg uint16, more string) {
		for wire := range n.flying() {
			if !m.lives(&n, wire) {
				n.wires[wire/64] &^= 1 << (wire % 64)
			}
		}
		least := n
		for _, r := range m.group {
			if other := m.renamed(n, r); other.less(&least) {
				least = other
			}
		}
		hash := maphash.Comparable(seed, least)
		if _, known := seen[hash]; known || found != nil {
			return
		}
		seen[hash] = struct{}{}
		how := &trail{what, i, arg, more, at.how}
		if m.contested(&n) {
			found = how
			both = fmt.Sprint(m.holders(&n), " hold at once")
		}
		stack = append(stack, step{n, how})
	}
	then(first, ticks, -1, 0, "")
	for len(stack) > 0 && found == nil {
		if shortest {
			at, stack = stack[0], stack[1:]
		} else {
			at, stack = stack[len(stack)-1], stack[:len(stack)-1]
		}
		m.next(at.world, then)
	}
	if found == nil {
		return "", len(seen)
	}
	return m.tell(found) + both, len(seen)
}

func lasting(ttl, margin time.Duration) Terms {
	return Terms{TTL: ttl * tick, Renew: tick, Margin: margin * tick, Longest: ttl * tick}
}

func electorate(epoch uint64, voters ...fleet.NodeName) fleet.Electorate {
	return fleet.Electorate{Epoch: epoch, Voters: voters}
}

// TestNoTwoHolders goes through all that can happen to small fleets, with the code that runs. Where an assumption is broken it must find
// two holders: else it would see nothing.
func TestNoTwoHolders(t *testing.T) {
	type nodes = []fleet.NodeName
	trio := []fleet.Electorate{electorate(1, "a", "b", "c")}
	one, two := []fleet.Electorate{electorate(1, "a")}, []fleet.Electorate{electorate(1, "a", "b")}
	few := []fleet.Electorate{one[0], electorate(2, "a", "b"), electorate(3, "a", "b", "c")}
	fewer := []fleet.Electorate{trio[0], electorate(2, "b", "c"), electorate(3, "c")}
	more := []fleet.Electorate{trio[0], electorate(2, "a", "b", "c", "d"), electorate(3, "a", "b", "c", "d", "e")}
	fast := []fleet.Electorate{trio[0], {Epoch: 2, Voters: trio[0].Voters, Fast: true}}
	ab, ac, ad, ae, de := nodes{"a", "b"}, nodes{"a", "c"}, nodes{"a", "d"}, nodes{"a", "e"}, nodes{"d", "e"}
	once, twice, both, thrice := []int{1, 1}, []int{2, 1}, []int{2, 2}, []int{3, 3}
	// A lease needs no margin where clocks go alike. Two ticks are enough to be renewed within.
	usual, drifting := lasting(2, 0), lasting(4, 1)
	longer, shorter, forgetful := lasting(3, 0), usual, usual
	shorter.Longest, forgetful.Longest = longer.Longest, 0
	const short, full, deep = 0, 1, 2
	most := full
	switch {
	case os.Getenv("SKERRY_MODEL") == "deep":
		most = deep
	case testing.Short():
		most = short
	}
	total := 0
	for _, c := range []struct {
		name string
		size int // which runs it is too large for
		model
		two bool // hold at once
	}{
		{"renewing, and another", short, model{candidates: ab, asks: thrice}, false},
		{"renewing, and another, deep", deep, model{candidates: ab, asks: []int{4, 4}}, false},
		{"renewing, and two others", short, model{candidates: nodes{"a", "b", "c"}, asks: []int{2, 1, 1}}, false},
		{"renewing, and two others, deep", deep, model{candidates: nodes{"a", "b", "c"}, asks: []int{2, 2, 2}}, false},
		{"a lease of three ticks", short, model{candidates: ab, asks: both, terms: longer}, false},
		{"a lease of three ticks, deep", deep, model{candidates: ab, asks: []int{4, 2}, terms: longer, yields: 1}, false},
		{"grants that arrive late", short, model{candidates: ab, asks: twice, late: true}, false},
		{"grants that arrive late, and letting go", full, model{candidates: ab, asks: twice, yields: 1, late: true}, false},
		{"candidates without votes", short, model{candidates: de, asks: both}, false},
		{"candidates without votes, deep", deep, model{candidates: de, asks: both, yields: 1, gives: 1}, false},
		{"a candidate without a vote", full, model{candidates: ad, asks: both, yields: 1}, false},
		{"a candidate without a vote, deep", deep, model{candidates: ad, asks: both, yields: 1, gives: 1}, false},
		{"one starts anew", full, model{candidates: ab, asks: both, restarts: 1}, false},
		{"one starts anew, deep", deep, model{candidates: ab, asks: thrice, restarts: 1}, false},
		{"two start anew", short, model{candidates: ab, asks: once, restarts: 2}, false},
		{"two start anew, deep", deep, model{candidates: ab, asks: both, restarts: 2}, false},
		{"letting go", full, model{candidates: ab, asks: []int{3, 2}, yields: 1}, false},
		{"letting go for another", full, model{candidates: ab, asks: both, yields: 1, heirs: true}, false},
		{"letting go, deep", deep, model{candidates: ab, asks: thrice, yields: 2, heirs: true}, false},
		{"letting go, and starting anew", full, model{candidates: ab, asks: twice, yields: 1, restarts: 1}, false},
		{"letting go for another, and starting anew", short, model{candidates: ab, asks: once, yields: 1, heirs: true, restarts: 1}, false},
		{"letting go for another, and starting anew, deep", deep, model{candidates: ab, asks: twice, yields: 1, heirs: true, restarts: 1}, false},
		{"giving back", full, model{candidates: ab, asks: both, gives: 2}, false},
		{"giving back, and letting go, deep", deep, model{candidates: ab, asks: thrice, gives: 2, yields: 1}, false},
		{"giving back, and starting anew", full, model{candidates: ab, asks: twice, gives: 1, restarts: 1}, false},
		{"giving back, and starting anew, deep", deep, model{candidates: ab, asks: []int{3, 1}, gives: 1, restarts: 1}, false},
		{"forgetting", full, model{candidates: ab, asks: twice, yields: 1, gives: 1, forgets: 2}, false},
		{"forgetting, and starting anew, deep", deep, model{candidates: ab, asks: twice, yields: 1, forgets: 1, restarts: 1}, false},
		{"clocks within the margin", short, model{candidates: ab, asks: once, terms: drifting, quick: nodes{"a", "b", "c"}, rest: 2}, false},
		{"a voter with a quick clock", short, model{candidates: ab, asks: twice, terms: drifting, quick: nodes{"c"}, rest: 2}, false},
		{"a holder with a quick clock", short, model{candidates: ab, asks: twice, terms: drifting, quick: nodes{"a"}, rest: 2}, false},
		{"a candidate with a quick clock", short, model{candidates: ab, asks: twice, terms: drifting, quick: nodes{"b"}, rest: 2}, false},
		{"a quick clock, and starting anew", full, model{candidates: ab, asks: once, restarts: 1, terms: drifting, quick: nodes{"c"}, rest: 2}, false},
		{"clocks within the margin, deep", deep, model{candidates: ab, asks: twice, yields: 1, terms: drifting, quick: nodes{"a", "b", "c"}, rest: 2}, false},
		{"one voter alone", short, model{candidates: ab, asks: []int{3, 2}, electorates: one, yields: 1, gives: 1, restarts: 1}, false},
		{"two voters", full, model{candidates: ab, asks: both, electorates: two, yields: 1, restarts: 1}, false},
		{"two voters, deep", deep, model{candidates: ab, asks: thrice, electorates: two, yields: 1, restarts: 1}, false},
		{"from one voter to three", short, model{candidates: ac, asks: twice, electorates: few}, false},
		{"from one voter to three, and starting anew", short, model{candidates: ac, asks: once, electorates: few, restarts: 1}, false},
		{"from three voters to one", full, model{candidates: ac, asks: twice, electorates: fewer}, false},
		{"from three voters to one, and starting anew", full, model{candidates: ac, asks: once, electorates: fewer, restarts: 1}, false},
		{"from three voters to five", full, model{candidates: ae, asks: once, electorates: more}, false},
		{"from three voters to five, deep", deep, model{candidates: ae, asks: twice, electorates: more}, false},
		{"shorter leases", full, model{candidates: ab, asks: both, terms: longer, fast: shorter, electorates: fast}, false},
		{"shorter leases, and starting anew", full, model{candidates: ab, asks: once, terms: longer, fast: shorter, electorates: fast, restarts: 1}, false},
		{"longer leases", short, model{candidates: ab, asks: twice, terms: shorter, fast: longer, electorates: fast}, false},

		{"but clocks beyond the margin", short, model{candidates: ab, asks: once, terms: drifting, quick: nodes{"c"}}, true},
		{"but voters that grant as soon as they start", short, model{candidates: ab, terms: forgetful, asks: once, restarts: 1}, true},
		{"but electorates all at once", short, model{candidates: ae, asks: once, electorates: more, atOnce: true}, true},
		{"but going back to an older electorate", short, model{candidates: ac, asks: once, electorates: few, stale: true, restarts: 1}, true},
		{"but grants from when they arrive", short, model{candidates: ab, asks: once, late: true, answers: true}, true},
	} {
		if c.size > most {
			continue
		}
		if c.electorates == nil {
			c.electorates = trio
		}
		if c.terms == (Terms{}) {
			c.terms = usual
		}
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			how, moments := c.search(false)
			total += moments
			t.Logf("%d moments, of %d states of nodes, in %s", moments, len(c.beings), time.Since(began).Round(time.Second/100))
			if how != "" && !c.two {
				how, _ = c.search(true)
			}
			if (how != "") != c.two {
				t.Errorf("two hold at once: %v, want %v\n%s", how != "", c.two, how)
			}
		})
	}
	t.Logf("%d moments in all", total)
}
