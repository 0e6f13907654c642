package lease

import (
	"maps"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// How a node goes about it. None of this is needed for there to be one holder at most.
const (
	patience = 60 * time.Millisecond // for a majority, before what was granted is given back
	rankStep = 15 * time.Millisecond // by which those of a lower rank let others go first
	backOff  = 60 * time.Millisecond // after an asking in vain, and up to twice that
	lookIn   = 2 * time.Second       // how often who is refused asks at least
	hurry    = 3 * time.Millisecond  // between askings of who was offered it: not all voters may have heard that it is free
)

// Machine is one node's part in all leases: as a voter, and as one who asks. It is not safe for concurrent use, and does nothing by
// itself: whoever has it calls Receive and Tick, and sends what is in Out.
//
// Moments are of the node's own clock and never go back. Who holds a key must stop at Until by itself, and must have stopped before it
// calls Yield.
type Machine struct {
	self        fleet.NodeName
	incarnation uint64
	rules       func(fleet.Electorate) Terms
	electorate  fleet.Electorate
	terms       Terms                               // of the electorate
	roll        func(n time.Duration) time.Duration // 0 ≤ roll(n) < n
	seq         uint64
	voter       *voter
	keys        map[string]*pursuit
	out         []Envelope
}

// pursuit is one key that the node wants.
type pursuit struct {
	*claim
	rank    int
	state   pursuing
	next    Instant                    // when something is to be done: asked (again), or given back
	offered Instant                    // until when it is kept for this node
	former  fleet.NodeName             // who offered it
	refused map[fleet.NodeName]refusal // by voter
}

// refusal is whose a key is with a voter, and until when at most.
type refusal struct {
	holder fleet.NodeName
	until  Instant
}

// pursuing is how far a node is with a key that it wants.
type pursuing int

const (
	waiting pursuing = iota // for somebody else, or its turn
	asking                  // for the first time, until a majority has granted or patience ends
	holding
)

// NewMachine is the machine of a process that has just started. Incarnation is another one at each start. Rules are the terms that an
// electorate goes by, TermsOf as a rule. Roll is a random duration below n, and is only asked when an asking was in vain.
func NewMachine(self fleet.NodeName, incarnation uint64, rules func(fleet.Electorate) Terms, roll func(n time.Duration) time.Duration, now Instant) *Machine {
	terms := rules(fleet.Electorate{})
	return &Machine{
		self: self, incarnation: incarnation, rules: rules, terms: terms, roll: roll,
		voter: &voter{quiet: now + terms.Longest, keys: map[string]*granted{}}, keys: map[string]*pursuit{},
	}
}

// Electorate is whom the machine goes by.
func (m *Machine) Electorate() fleet.Electorate { return m.electorate }

// Elect has it go by another electorate, if that is newer, and says so.
func (m *Machine) Elect(e fleet.Electorate, now Instant) bool {
	if e.Epoch <= m.electorate.Epoch {
		return false
	}
	m.electorate, m.terms = e, m.rules(e)
	for _, p := range m.keys { // what is held is held for as long as it was granted; from now on others are asked, by other terms perhaps
		p.begins(m.seq)
		p.next = now
		if p.state != holding {
			p.state = waiting
		}
	}
	return true
}

// Want has the node ask for a key: of several nodes that with the lowest rank goes first. Asked again it changes the rank.
func (m *Machine) Want(key string, rank int, now Instant) {
	p := m.keys[key]
	if p == nil {
		p = &pursuit{claim: newClaim(m.seq), refused: map[fleet.NodeName]refusal{}, next: now + m.turn(rank)}
		m.keys[key] = p
	}
	p.rank = rank
}

func (m *Machine) turn(rank int) time.Duration { return time.Duration(rank) * rankStep }

// Yield lets go of a key, for a node that should have it next; empty for none in particular. The node does not want it any more. Whatever it
// did as the holder must have ended.
func (m *Machine) Yield(key string, to fleet.NodeName, now Instant) {
	p := m.keys[key]
	if p == nil {
		return
	}
	delete(m.keys, key)
	m.letGo(key, p, to, now)
	if to != "" && to != m.self {
		m.say(to, Message{Kind: Offer, Key: key}, now)
	}
}

// letGo tells the voters.
func (m *Machine) letGo(key string, p *pursuit, to fleet.NodeName, now Instant) {
	m.seq++
	p.begins(m.seq)
	p.until = 0
	m.toVoters(Message{Kind: Drop, Key: key, Incarnation: m.incarnation, Seq: m.seq, To: to}, now)
}

// Until is before which a key is held; it is not from that moment on. 0: it is not held.
func (m *Machine) Until(key string) Instant {
	if p := m.keys[key]; p != nil && p.state == holding {
		return p.until
	}
	return 0
}

// Former is who has let go of a key that is held for this very node; empty: nobody has.
func (m *Machine) Former(key string) fleet.NodeName {
	if p := m.keys[key]; p != nil && p.state == holding {
		return p.former
	}
	return ""
}

// Receive takes a message of another node.
func (m *Machine) Receive(from fleet.NodeName, msg Message, now Instant) {
	switch msg.Kind {
	case Ask:
		if !votes(m.electorate, m.self) || msg.Epoch != m.electorate.Epoch {
			return
		}
		if answer, ok := m.voter.asked(from, msg, m.terms.TTL, now); ok {
			m.say(from, answer, now)
		}
	case Drop:
		m.voter.dropped(from, msg, now)
	case Grant:
		if p := m.keys[msg.Key]; p != nil && msg.Incarnation == m.incarnation {
			m.granted(p, from, msg.Seq, now)
		}
	case Refuse:
		if p := m.keys[msg.Key]; p != nil && msg.Incarnation == m.incarnation && msg.Seq > p.floor {
			m.refused(p, from, msg, now)
		}
	case Offer:
		if p := m.keys[msg.Key]; p != nil && p.state != holding {
			p.state, p.next, p.offered, p.former = waiting, now, now+heldBack, from
		}
	}
}

func (m *Machine) granted(p *pursuit, from fleet.NodeName, seq uint64, now Instant) {
	delete(p.refused, from)
	if !p.claim.granted(from, seq, m.electorate, m.terms) || !p.holds(now) || p.state == holding {
		return
	}
	p.state, p.next = holding, p.sent[seq]+m.terms.Renew
	if now >= p.offered { // somebody else may have had it since
		p.former = ""
	}
}

func (m *Machine) refused(p *pursuit, from fleet.NodeName, msg Message, now Instant) {
	p.refused[from] = refusal{msg.To, now + msg.Left}
	if p.state != asking {
		return
	}
	// Whoever cannot have a majority waits until it may: as long as all but so many voters refuse.
	var list []Instant
	holders := map[fleet.NodeName]bool{}
	for voter, r := range p.refused {
		if votes(m.electorate, voter) && r.until > now {
			list = append(list, r.until)
			holders[r.holder] = true
		}
	}
	spare := len(m.electorate.Voters) - majority(len(m.electorate.Voters))
	if len(list) <= spare {
		return
	}
	slices.Sort(list)
	m.giveBack(msg.Key, p, now)
	if now < p.offered {
		p.next = now + hurry
		return
	}
	if len(holders) > 1 { // others ask as well, in vain as it seems: they give back what they have, and would all be back when it would be over
		return
	}
	p.next = min(list[len(list)-1-spare]+m.turn(p.rank), now+lookIn)
}

// giveBack ends an asking that was in vain: what some have granted is for others.
func (m *Machine) giveBack(key string, p *pursuit, now Instant) {
	m.letGo(key, p, "", now)
	p.state, p.next = waiting, now+backOff+m.turn(p.rank)+m.roll(backOff)
}

// Tick does what is due, and returns when something will be next; 0 for never.
func (m *Machine) Tick(now Instant) (next Instant) {
	for _, key := range slices.Sorted(maps.Keys(m.keys)) {
		p := m.keys[key]
		if p.state == holding && !p.holds(now) {
			p.state, p.next = waiting, now+m.turn(p.rank)
			clear(p.refused)
		}
		for p.next <= now {
			m.due(key, p, now)
		}
		wake := p.next
		if p.state == holding {
			wake = min(wake, p.until)
		}
		if next == 0 || wake < next {
			next = wake
		}
	}
	m.voter.forget(now, m.terms.Longest)
	return next
}

// due does what is due of one key.
func (m *Machine) due(key string, p *pursuit, now Instant) {
	switch p.state {
	case waiting:
		p.state, p.next = asking, now+patience
		p.begins(m.seq)
		clear(p.refused)
		m.ask(key, p, now)
	case asking:
		m.giveBack(key, p, now)
	case holding:
		p.next = now + m.terms.Renew
		m.ask(key, p, now)
	}
}

// ask asks all voters.
func (m *Machine) ask(key string, p *pursuit, now Instant) {
	m.seq++
	p.asks(m.seq, now, m.terms)
	m.toVoters(Message{Kind: Ask, Key: key, Incarnation: m.incarnation, Seq: m.seq}, now)
}

// toVoters says something to all voters.
func (m *Machine) toVoters(msg Message, now Instant) {
	for _, voter := range m.electorate.Voters {
		m.say(voter, msg, now)
	}
}

// say sends a message, or has it received at once where it is for this very node.
func (m *Machine) say(to fleet.NodeName, msg Message, now Instant) {
	msg.Epoch = m.electorate.Epoch
	if to == m.self {
		m.Receive(m.self, msg, now)
		return
	}
	m.out = append(m.out, Envelope{to, msg})
}

// Out is what is to be sent now, in order. It is empty afterwards.
func (m *Machine) Out() []Envelope {
	out := m.out
	m.out = nil
	return out
}
