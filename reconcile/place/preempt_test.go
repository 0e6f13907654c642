package place

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
)

func anybody() func(string) bool { return func(string) bool { return false } }

// atMost is a budget that lets n of some pods go.
func atMost(n int, of ...string) func() func(string) bool {
	return func() func(string) bool {
		left := n
		return func(uid string) bool {
			if !slices.Contains(of, uid) {
				return false
			}
			left--
			return left < 0
		}
	}
}

func TestPreempt(t *testing.T) {
	t.Parallel()
	two := []fleet.Node{nodeOf("a", ""), nodeOf("b", "")} // of 4 cores each
	for name, c := range map[string]struct {
		nodes []fleet.Node
		board func(g *game)
		guard func() func(string) bool
		spec  *corev1.PodSpec
		want  string
	}{
		"as few as needed": {two[:1], func(g *game) {
			k := g.kind("low", specOf("1"), 1)
			for range 4 {
				g.put(k, "a")
			}
		}, anybody, specOf("2"), "a [low-3 low-4]"},
		"only as large as needed": {two[:1], func(g *game) {
			g.put(g.kind("small", specOf("1"), 1), "a")
			g.put(g.kind("large", specOf("3"), 1), "a")
		}, anybody, specOf("3"), "a [large-2]"},
		"the least important": {two[:1], func(g *game) {
			g.put(g.kind("lower", specOf("2"), 1), "a")
			g.put(g.kind("low", specOf("2"), 2), "a")
		}, anybody, specOf("2"), "a [lower-1]"},
		"where they are the least important": {two, func(g *game) {
			g.put(g.kind("low", specOf("4"), 2), "a")
			g.put(g.kind("lower", specOf("4"), 1), "b")
		}, anybody, specOf("2"), "b [lower-2]"},
		"where they are fewer": {two, func(g *game) {
			k := g.kind("low", specOf("2"), 1)
			g.put(k, "a")
			g.put(k, "a")
			g.put(g.kind("large", specOf("4"), 1), "b")
		}, anybody, specOf("4"), "b [large-3]"},
		"where they have begun last": {two, func(g *game) {
			g.put(g.kind("low", specOf("4"), 1), "b")
			g.put(g.kind("low", specOf("4"), 1), "a")
		}, anybody, specOf("4"), "a [low-2]"},
		"equals stay": {two[:1], func(g *game) { g.put(g.kind("same", specOf("4"), 10), "a") }, anybody, specOf("4"), " []"},
		"higher stay": {two[:1], func(g *game) { g.put(g.kind("above", specOf("4"), 11), "a") }, anybody, specOf("4"), " []"},
		"nobody goes in vain": {two[:1], func(g *game) {
			g.put(g.kind("above", specOf("3"), 11), "a")
			g.put(g.kind("low", specOf("1"), 1), "a")
		}, anybody, specOf("2"), " []"},
		"nobody goes where another filter refuses": {two[:1], func(g *game) { g.put(g.kind("low", specOf("4"), 1), "a") }, anybody,
			specOf("1", func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "ssd"} }), " []"},
		"never": {two[:1], func(g *game) { g.put(g.kind("low", specOf("4"), 1), "a") }, anybody, specOf("1", func(s *corev1.PodSpec) {
			never := corev1.PreemptNever
			s.PreemptionPolicy = &never
		}), " []"},
		"a port": {two[:1], func(g *game) {
			g.put(g.kind("other", specOf("1"), 1), "a")
			g.put(g.kind("low", specOf("", onPort(80)), 1), "a")
		}, anybody, specOf("", onPort(80)), "a [low-2]"},
		"anti-affinity": {two[:1], func(g *game) {
			g.put(g.kind("other", specOf("1"), 1), "a")
			g.put(g.kind("low", specOf("", apart(termOf("high", corev1.LabelHostname))), 1), "a")
		}, anybody, specOf("1"), "a [low-2]"},
		"who is leaving is waited for": {two, func(g *game) {
			g.put(g.kind("low", specOf("4"), 1), "a")
			g.put(g.kind("low", specOf("4"), 1), "b", leaving)
		}, anybody, specOf("4"), "b []"},
		"also of higher priority": {two[:1], func(g *game) { g.put(g.kind("above", specOf("4"), 11), "a", leaving) }, anybody, specOf("4"), "a []"},
		"leaving is not enough": {two[:1], func(g *game) {
			g.put(g.kind("low", specOf("1"), 1), "a", leaving)
			g.put(g.kind("low", specOf("3"), 1), "a")
		}, anybody, specOf("4"), " []"}, // until they are gone
		"the budget is spared": {two, func(g *game) {
			g.put(g.kind("low", specOf("4"), 1), "a")
			g.put(g.kind("lower", specOf("4"), 2), "b")
		}, atMost(0, "low-1"), specOf("4"), "b [lower-2]"},
		"a budget lets one go and not two": {two, func(g *game) {
			g.put(g.kind("low", specOf("2"), 1), "a")
			g.put(g.kind("low", specOf("2"), 1), "a")
			g.put(g.kind("lower", specOf("4"), 2), "b")
		}, atMost(1, "low-1", "low-2"), specOf("4"), "b [lower-3]"},
		"the guarded one stays on its node": {two[:1], func(g *game) {
			g.put(g.kind("low", specOf("2"), 1), "a")
			g.put(g.kind("lower", specOf("2"), 2), "a")
		}, atMost(0, "low-1"), specOf("2"), "a [lower-2]"},
		"a budget does not save anybody": {two[:1], func(g *game) { g.put(g.kind("low", specOf("4"), 1), "a") }, atMost(0, "low-1"), specOf("4"), "a [low-1]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGame(c.nodes...)
			c.board(g)
			k := g.kind("high", c.spec, 10)
			if node, why := g.Choose(k, Wish{}); why == "" {
				t.Fatalf("fits on %s anyway", node)
			}
			node, victims := g.Preempt(k, Wish{}, c.guard)
			if got := fmt.Sprint(node, " ", victims); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if again, others := g.Preempt(k, Wish{}, c.guard); again != node || !slices.Equal(others, victims) {
				t.Errorf("asked again: got %s %v, the first time %s %v", again, others, node, victims)
			}
		})
	}
}

// TestPreemptsWhatHelps: who goes is of lower priority and stays otherwise, with them gone the pod fits, and with one of them
// left it does not.
func TestPreemptsWhatHelps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w, b, souls, kinds := drawWorld(t)
		at := rapid.IntRange(0, len(kinds)-1).Draw(t, "newcomer")
		k := kinds[at]
		if _, why := b.Choose(k, Wish{}); why == "" {
			return
		}
		node, victims := b.Preempt(k, Wish{}, anybody)
		if node == "" {
			return
		}
		without := func(gone ...string) *world {
			left := *w
			left.pods = slices.DeleteFunc(slices.Clone(w.pods), func(p soul) bool { return slices.Contains(gone, p.uid) })
			return &left
		}
		on := b.nodes[b.byName[node]]
		if len(victims) == 0 {
			for _, p := range w.pods {
				if p.leaving && p.node == node {
					victims = append(victims, p.uid)
				}
			}
			if !without(victims...).allows(souls[at], on.Node) {
				t.Fatalf("it waits for node %s in vain", node)
			}
			return
		}
		for _, uid := range victims {
			if g := on.on[uid]; g.kind == nil || g.Leaving || g.kind.Priority >= k.Priority {
				t.Fatalf("%s has to go from %s: %+v", uid, node, g)
			}
		}
		if !without(victims...).allows(souls[at], on.Node) {
			t.Fatalf("%v go from %s in vain", victims, node)
		}
		// A pod whose own affinity draws in others may be needed: then all of them are not more than needed.
		if k.Spec.Affinity != nil && k.Spec.Affinity.PodAffinity != nil || len(k.Spec.TopologySpreadConstraints) > 0 {
			return
		}
		for _, uid := range victims {
			if spared := slices.DeleteFunc(slices.Clone(victims), func(v string) bool { return v == uid }); without(spared...).allows(souls[at], on.Node) {
				t.Fatalf("%s has to go from %s for nothing", uid, node)
			}
		}
	})
}
