package lease

import (
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// TestDropEndsItsOwnGrant has a node let go that was started anew: what an earlier start of it was granted is not its to give away. That one's
// fence is in the kernel and may be open still, and of two starts messages come in any order.
func TestDropEndsItsOwnGrant(t *testing.T) {
	type said struct {
		kind             Kind
		incarnation, seq uint64
		at               Instant
	}
	const ttl = 500 * time.Millisecond
	for name, c := range map[string]struct {
		said []said
		at   Instant // when another asks
		free bool
	}{
		"granted and dropped":          {[]said{{Ask, 1, 1, 0}, {Drop, 1, 2, 10}}, 20, true},
		"dropped after a restart":      {[]said{{Ask, 1, 1, 0}, {Ask, 2, 1, 10}, {Drop, 2, 2, 20}}, 30, false},
		"and the first grant is over":  {[]said{{Ask, 1, 1, 0}, {Ask, 2, 1, 10}, {Drop, 2, 2, 20}}, 500, true},
		"renewed, dropped when over":   {[]said{{Ask, 1, 1, 0}, {Ask, 2, 1, 10}, {Ask, 2, 2, 400}, {Drop, 2, 3, 510}}, 520, true},
		"a late drop among two starts": {[]said{{Ask, 2, 3, 0}, {Ask, 1, 5, 10}, {Ask, 2, 1, 20}, {Drop, 2, 2, 30}}, 40, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := &voter{keys: map[string]*granted{}}
			for _, s := range c.said {
				m := Message{Kind: s.kind, Key: key, Incarnation: s.incarnation, Seq: s.seq}
				if s.kind == Drop {
					v.dropped("a", m, s.at*time.Millisecond)
					continue
				}
				if answer, ok := v.asked("a", m, ttl, s.at*time.Millisecond); !ok || answer.Kind != Grant {
					t.Fatalf("asking %d.%d: %+v, %v, want it granted", s.incarnation, s.seq, answer, ok)
				}
			}
			answer, _ := v.asked(fleet.NodeName("b"), Message{Kind: Ask, Key: key, Incarnation: 1, Seq: 1}, ttl, c.at*time.Millisecond)
			if free := answer.Kind == Grant; free != c.free {
				t.Errorf("another is granted it: %v, want %v", free, c.free)
			}
		})
	}
}
