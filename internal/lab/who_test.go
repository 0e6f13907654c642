package lab

import (
	"testing"
	"time"
)

// TestOverlaps: what two answered one after another is no overlap, and what they answered at once is one.
func TestOverlaps(t *testing.T) {
	start := time.Now()
	// said is who answers which questions; each takes a millisecond.
	said := func(by string, from, to int) (all []Answer) {
		for ms := from; ms < to; ms += 2 {
			at := start.Add(time.Duration(ms) * time.Millisecond)
			all = append(all, Answer{by, at, at.Add(time.Millisecond)})
		}
		return all
	}
	join := func(parts ...[]Answer) (all []Answer) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for name, c := range map[string]struct {
		answers []Answer
		want    time.Duration // of overlaps, in all
	}{
		"one after another":     {join(said("a", 0, 100), said("b", 100, 200), said("a", 200, 300)), 0},
		"at the same question":  {join(said("a", 0, 102), said("b", 100, 200)), 0},
		"for a while":           {join(said("a", 0, 140), said("b", 100, 200)), 37 * time.Millisecond},
		"nested":                {join(said("a", 0, 300), said("b", 100, 200)), 97 * time.Millisecond},
		"it was gone meanwhile": {join(said("a", 0, 100), said("a", 200, 300), said("b", 110, 190)), 0},
		"nobody":                {nil, 0},
	} {
		var got time.Duration
		for _, o := range Overlaps(Tenures(c.answers)) {
			got += o.Until.Sub(o.From)
		}
		if got != c.want {
			t.Errorf("%s: %v of overlaps, want %v", name, got, c.want)
		}
	}
}
