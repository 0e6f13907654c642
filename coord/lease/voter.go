package lease

import (
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// voter is what a node has granted. It is all in memory: quiet stands for what was forgotten at the start.
type voter struct {
	quiet Instant // before which nothing is granted
	keys  map[string]*granted
}

// granted is what a voter knows of one key.
type granted struct {
	// The grant, if there is one: to which asking of whom, and until when by the voter's clock.
	holder           fleet.NodeName
	incarnation, seq uint64
	until            Instant
	// Until when it is granted to other starts of the holder's process: the fence of one that has ended may be open still, and this one
	// cannot let go for it.
	others Instant
	// Who let go has named the next holder: nobody else gets it for a moment.
	kept      fleet.NodeName
	keptUntil Instant
	// The last word of each asker: what comes after it and is from before is late.
	heard map[fleet.NodeName]word
}

type word struct{ incarnation, seq uint64 }

// heldBack is how long a voter keeps a key for who was named.
const heldBack = 80 * time.Millisecond

func (v *voter) key(key string) *granted {
	g := v.keys[key]
	if g == nil {
		g = &granted{heard: map[fleet.NodeName]word{}}
		v.keys[key] = g
	}
	return g
}

// late reports whether a word of an asker is from before another that was heard, and remembers it if not.
func (g *granted) late(from fleet.NodeName, m Message) bool {
	last, known := g.heard[from]
	if known && last.incarnation == m.Incarnation && m.Seq <= last.seq {
		return true
	}
	g.heard[from] = word{m.Incarnation, m.Seq}
	return false
}

// asked answers an asking: it grants for ttl. False where nothing is to be said.
func (v *voter) asked(from fleet.NodeName, m Message, ttl time.Duration, now Instant) (Message, bool) {
	if now < v.quiet {
		return Message{}, false
	}
	g := v.key(m.Key)
	if g.late(from, m) {
		return Message{}, false
	}
	answer := Message{Key: m.Key, Incarnation: m.Incarnation, Seq: m.Seq}
	switch {
	case g.holder != "" && g.holder != from && now < g.until:
		answer.Kind, answer.To, answer.Left = Refuse, g.holder, g.until-now
	case g.kept != "" && g.kept != from && now < g.keptUntil:
		answer.Kind, answer.To, answer.Left = Refuse, g.kept, g.keptUntil-now
	default:
		switch {
		case g.holder != from:
			g.until, g.others = 0, 0
		case g.incarnation != m.Incarnation:
			g.others = g.until
		}
		// Never less than was granted before, by longer terms perhaps: an asking before this one counts on it.
		g.holder, g.incarnation, g.seq, g.until = from, m.Incarnation, m.Seq, max(g.until, now+ttl)
		g.kept = ""
		answer.Kind = Grant
	}
	return answer, true
}

// dropped ends the grant of who has let go, unless it was granted again since. What another start of that process was granted lasts.
func (v *voter) dropped(from fleet.NodeName, m Message, now Instant) {
	g := v.key(m.Key)
	if g.late(from, m) || g.holder != from || g.incarnation != m.Incarnation || g.seq > m.Seq {
		return
	}
	if now < g.others {
		g.until = g.others
		return
	}
	g.holder = ""
	if m.To != "" {
		g.kept, g.keptUntil = m.To, now+heldBack
	}
}

// forget drops what is long over.
func (v *voter) forget(now Instant, longest time.Duration) {
	for key, g := range v.keys {
		if (g.holder == "" || now >= g.until+longest) && now >= g.keptUntil {
			delete(v.keys, key)
		}
	}
}
