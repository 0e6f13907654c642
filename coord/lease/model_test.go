package lease

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// model is all that a small fleet can do, as far as it is allowed to: every order of askings, of messages that are lost, doubled and
// late, of restarts, of clocks that differ, and of pauses (a node that does nothing for a while is one order among others).
type model struct {
	candidates       []fleet.NodeName
	terms            Terms
	quick            fleet.NodeName     // whose clock gains a tick in each TTL
	gains            Instant            // how many
	asks             []int              // that each candidate may make
	yields, restarts int                // of all together
	electorates      []fleet.Electorate // that may come one after the other; the first is there
	agreed           bool               // the next but one waits until a majority of those in between go by that, and a TTL more
	end              Instant
}

// world is one moment of a model. It is copied, never changed.
type world struct {
	now    Instant
	nodes  map[fleet.NodeName]*being
	wires  map[flight]bool // what may arrive, now and any time later
	yields int
	starts int
	elects int     // how many of the electorates are there
	ready  Instant // when a majority went by the last one, by the clock; 0: not yet
	how    *trail
}

type flight struct {
	from fleet.NodeName
	Envelope
}

// being is a node: its machine, and until when the fence in its kernel is open, which outlives the machine.
type being struct {
	*Machine
	asked int
	open  Instant
}

// trail is how a moment came to be.
type trail struct {
	now    Instant
	format string
	args   []any
	before *trail
}

func (t *trail) String() string {
	if t == nil {
		return ""
	}
	return t.before.String() + fmt.Sprintf("%d: "+t.format+"\n", append([]any{int(t.now)}, t.args...)...)
}

const key = "192.0.2.1"

func (w *world) copied(format string, args ...any) *world {
	next := *w
	next.nodes = maps.Clone(w.nodes)
	next.wires = maps.Clone(w.wires)
	next.how = &trail{w.now, format, args, w.how}
	return &next
}

// touch is a node that may be changed.
func (w *world) touch(name fleet.NodeName) *being {
	b := *w.nodes[name]
	m := *b.Machine
	v := *m.voter
	v.keys = map[string]*granted{}
	for k, g := range m.voter.keys {
		copied := *g
		copied.heard = maps.Clone(g.heard)
		v.keys[k] = &copied
	}
	keys := map[string]*pursuit{}
	for k, p := range m.keys {
		copied, claim := *p, *p.claim
		claim.sent, claim.acked = maps.Clone(p.sent), maps.Clone(p.acked)
		copied.claim, copied.refused = &claim, map[fleet.NodeName]Instant{}
		keys[k] = &copied
	}
	m.voter, m.keys = &v, keys
	b.Machine = &m
	w.nodes[name] = &b
	return &b
}

// settle takes what a node did: what it sends, and until when its fence is open now. That something is somebody else's says only when to
// ask again, which may be at any time here; so does an offer.
func (w *world) settle(name fleet.NodeName) {
	b := w.nodes[name]
	for _, e := range b.Out() {
		if e.Kind != Refuse && e.Kind != Offer {
			w.wires[flight{name, e}] = true
		}
	}
	b.open = max(b.open, b.Until(key))
}

func (m *model) clock(name fleet.NodeName, now Instant) Instant {
	if name == m.quick {
		return now + now/m.terms.TTL*m.gains
	}
	return now
}

func (m *model) machine(name fleet.NodeName, incarnation uint64, now Instant, e fleet.Electorate) *Machine {
	machine := NewMachine(name, incarnation, func(fleet.Electorate) Terms { return m.terms }, func(time.Duration) time.Duration { return 0 }, m.clock(name, now))
	machine.Elect(e, m.clock(name, now))
	return machine
}

// wants has a node want the key, and ask when it is told to only.
func (m *model) wants(b *being, now Instant) *pursuit {
	if b.keys[key] == nil {
		b.Want(key, 0, now)
	}
	return b.keys[key]
}

func (m *model) begin() *world {
	w := &world{nodes: map[fleet.NodeName]*being{}, wires: map[flight]bool{}, elects: 1}
	for _, name := range m.everybody() {
		machine := m.machine(name, 1, 0, m.electorates[0])
		machine.voter.quiet = 0 // the fleet has been there for long
		w.nodes[name] = &being{Machine: machine}
	}
	return w
}

func (m *model) everybody() []fleet.NodeName {
	all := slices.Clone(m.candidates)
	for _, e := range m.electorates {
		all = append(all, e.Voters...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// next is all that may happen next.
func (m *model) next(w *world) (list []*world) {
	for _, name := range m.everybody() {
		now := m.clock(name, w.now)
		if at := slices.Index(m.candidates, name); at >= 0 && w.nodes[name].asked < m.asks[at] {
			n := w.copied("%s asks", name)
			b := n.touch(name)
			b.asked++
			p := m.wants(b, now)
			if p.state == waiting || !p.holds(now) {
				p.begins(b.seq)
				p.state = asking
			}
			b.ask(key, p, now)
			n.settle(name)
			list = append(list, n)
		}
		if b := w.nodes[name]; w.yields < m.yields && b.keys[key] != nil {
			for _, to := range append([]fleet.NodeName{""}, m.candidates...) {
				if to == name {
					continue
				}
				n := w.copied("%s yields to %q", name, to)
				n.yields++
				b := n.touch(name)
				b.open = 0 // the fence is shut first
				b.Yield(key, to, now)
				n.settle(name)
				list = append(list, n)
			}
		}
		if w.starts < m.restarts {
			n := w.copied("%s starts anew", name)
			n.starts++
			b := n.touch(name)
			e := b.electorate
			if m.agreed {
				e = m.electorates[0] // what it last knew may be old
			}
			b.Machine = m.machine(name, b.incarnation+1, w.now, e)
			list = append(list, n)
		}
		if at := w.nodes[name].electorate.Epoch; int(at) < w.elects {
			n := w.copied("%s hears of electorate %d", name, at+1)
			n.touch(name).Elect(m.electorates[at], now)
			n.settle(name)
			n.agree(m)
			list = append(list, n)
		}
	}
	for f := range w.wires {
		if m.deliverable(w, f.Envelope) {
			list = append(list, m.deliver(w, f.from, f.Envelope)...)
		}
	}
	if w.elects < len(m.electorates) && (!m.agreed || w.elects == 1 || w.ready > 0 && w.now >= w.ready+m.terms.TTL) {
		n := w.copied("electorate %d", w.elects+1)
		n.elects++
		n.ready = 0
		list = append(list, n)
	}
	if w.now < m.end {
		n := w.copied("a tick")
		n.now++
		list = append(list, n)
	}
	return list
}

// deliver is what comes of a message that arrives. A grant arrives at once, or not before the node does something else: between, it makes no
// difference to anything but how soon the fence is open, and the sooner the worse.
func (m *model) deliver(w *world, from fleet.NodeName, e Envelope) []*world {
	n := w.copied("%s hears of %s: %+v", e.To, from, e.Message)
	n.touch(e.To).Receive(from, e.Message, m.clock(e.To, w.now))
	n.settle(e.To)
	answer := flight{e.To, Envelope{from, Message{Kind: Grant, Key: key, Epoch: n.nodes[e.To].electorate.Epoch, Incarnation: e.Incarnation, Seq: e.Seq}}}
	if e.Kind != Ask || !n.wires[answer] {
		return []*world{n}
	}
	soon := n.copied("%s hears at once", from)
	soon.touch(from).Receive(e.To, answer.Message, m.clock(from, w.now))
	soon.settle(from)
	return []*world{n, soon}
}

// deliverable reports whether it is of interest that a message arrives now.
func (m *model) deliverable(w *world, e Envelope) bool {
	return e.Kind != Grant || w.nodes[e.To].seq > e.Seq
}

// agree notes when a majority of the newest electorate goes by it.
func (w *world) agree(m *model) {
	e := m.electorates[w.elects-1]
	n := 0
	for _, voter := range e.Voters {
		if w.nodes[voter].electorate.Epoch >= e.Epoch {
			n++
		}
	}
	if w.ready == 0 && n >= majority(len(e.Voters)) {
		w.ready = max(w.now, 1)
	}
}

// holders are whose fences are open.
func (m *model) holders(w *world) (list []fleet.NodeName) {
	for name, b := range w.nodes {
		if b.open > m.clock(name, w.now) {
			list = append(list, name)
		}
	}
	return list
}

// id is what of a world decides what can happen.
func (m *model) id(w *world, everybody []fleet.NodeName) [16]byte {
	b := make([]byte, 0, 512)
	put := func(list ...uint64) {
		for _, n := range list {
			b = append(b, byte(n), byte(n>>8))
		}
	}
	at := func(name fleet.NodeName) uint64 { return uint64(name[0]) }
	put(uint64(w.now), uint64(w.yields), uint64(w.starts), uint64(w.elects), uint64(w.ready))
	for _, name := range everybody {
		n := w.nodes[name]
		now := m.clock(name, w.now)
		put('|', uint64(n.asked), n.seq, n.incarnation, n.electorate.Epoch, uint64(max(n.open, now)), uint64(max(n.voter.quiet, now)))
		if g := n.voter.keys[key]; g != nil {
			if g.holder != "" && g.until > now {
				put('g', at(g.holder), g.incarnation, g.seq, uint64(g.until))
			}
			if g.kept != "" && g.keptUntil > now {
				put('k', at(g.kept), uint64(g.keptUntil))
			}
			for _, other := range everybody {
				if h, has := g.heard[other]; has {
					put('h', at(other), h.incarnation, h.seq)
				}
			}
		}
		if p := n.keys[key]; p != nil {
			put('p', uint64(p.state), p.floor, uint64(max(p.until, now)))
			for seq := p.floor + 1; seq <= n.seq; seq++ {
				if sent, has := p.sent[seq]; has {
					put('s', seq, uint64(sent))
				}
			}
			for _, other := range everybody {
				if acked, has := p.acked[other]; has {
					put('a', at(other), uint64(acked))
				}
			}
		}
	}
	var list []uint64
	for f := range w.wires {
		e, from := f.Envelope, f.from
		if m.alive(w, from, e) {
			to := uint64(0)
			if e.Message.To != "" {
				to = at(e.Message.To)
			}
			list = append(list, at(from)<<48|at(e.To)<<40|to<<32|uint64(e.Kind)<<24|e.Epoch<<20|e.Incarnation<<16|e.Seq)
		}
	}
	slices.Sort(list)
	for _, n := range list {
		put(n, n>>16, n>>32, n>>48)
	}
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// alive reports whether a message may change anything still.
func (m *model) alive(w *world, from fleet.NodeName, e Envelope) bool {
	to := w.nodes[e.To]
	switch e.Kind {
	case Grant:
		p := to.keys[key]
		return p != nil && e.Incarnation == to.incarnation && e.Seq > p.floor
	case Ask, Drop:
		g := to.voter.keys[key]
		if g == nil || w.starts < m.restarts {
			return true
		}
		last, known := g.heard[from]
		return !known || last.incarnation != e.Incarnation || e.Seq > last.seq
	default:
		return false
	}
}

// search goes through all that can happen. It returns how two came to hold at once, empty when nobody can, and how many moments it saw.
func (m *model) search() (how string, moments int) {
	first, everybody := m.begin(), m.everybody()
	seen := map[[16]byte]bool{m.id(first, everybody): true}
	queue := []*world{first}
	for len(queue) > 0 {
		w := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, n := range m.next(w) {
			if len(m.holders(n)) > 1 {
				return n.how.String() + fmt.Sprint(m.holders(n)), len(seen)
			}
			id := m.id(n, everybody)
			if seen[id] {
				continue
			}
			seen[id] = true
			maps.DeleteFunc(n.wires, func(f flight, _ bool) bool { return !m.alive(n, f.from, f.Envelope) })
			queue = append(queue, n)
		}
	}
	return "", len(seen)
}

// ticks are terms in ticks: a lease of three, of which one is margin.
var ticks = Terms{TTL: 3, Renew: 1, Margin: 1, Longest: 3}

func electorate(epoch uint64, voters ...fleet.NodeName) fleet.Electorate {
	return fleet.Electorate{Epoch: epoch, Voters: voters}
}

// TestNoTwoHolders goes through all that can happen to small fleets, with the code that runs. Where an assumption is broken it must find
// two holders: else it would see nothing.
func TestNoTwoHolders(t *testing.T) {
	trio := []fleet.Electorate{electorate(1, "a", "b", "c")}
	ab := []fleet.NodeName{"a", "b"}
	once, twice := []int{1, 1}, []int{2, 1}
	more := []fleet.Electorate{trio[0], electorate(2, "a", "b", "c", "d"), electorate(3, "a", "b", "c", "d", "e")}
	forgetful := ticks
	forgetful.Longest = 0
	for name, c := range map[string]struct {
		model
		two bool // hold at once
	}{
		"renewing, and another":          {model{candidates: ab, asks: twice, end: 3}, false},
		"one starts anew":                {model{candidates: ab, asks: once, restarts: 1, end: 4}, false},
		"letting go":                     {model{candidates: ab, asks: once, yields: 1, end: 4}, false},
		"letting go, and starting anew":  {model{candidates: ab, asks: once, yields: 1, restarts: 1, end: 1}, false},
		"a candidate that does not vote": {model{candidates: []fleet.NodeName{"a", "d"}, asks: once, end: 4}, false},
		"clocks within the margin":       {model{candidates: ab, quick: "c", gains: 1, asks: once, end: 8}, false},
		"a quick holder":                 {model{candidates: ab, quick: "a", gains: 1, asks: once, end: 8}, false},
		"more voters, one by one":        {model{candidates: []fleet.NodeName{"a", "e"}, asks: once, electorates: more, agreed: true, end: 4}, false},

		"clocks beyond the margin": {model{candidates: ab, quick: "c", gains: 3, asks: once, end: 8}, true},
		"voters that forget":       {model{candidates: ab, terms: forgetful, asks: once, restarts: 1, end: 5}, true},
		"more voters, all at once": {model{candidates: []fleet.NodeName{"a", "e"}, asks: once, electorates: more, end: 2}, true},
	} {
		if c.electorates == nil {
			c.electorates = trio
		}
		if c.terms == (Terms{}) {
			c.terms = ticks
		}
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			how, moments := c.search()
			t.Logf("%d moments in %s", moments, time.Since(began).Round(time.Second/10))
			if (how != "") != c.two {
				t.Errorf("two hold at once: %v, want %v\n%s", how != "", c.two, how)
			}
		})
	}
}
