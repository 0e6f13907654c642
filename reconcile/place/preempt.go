package place

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Preempt is the node that would take a pod which fits nowhere if pods of lower priority went from it, and their UIDs, the most
// important first; nothing where that does not help. Where it is enough to wait for pods that are leaving, nobody has to go.
// Nothing is taken off the board. Of several nodes the one is chosen where the fewest budgets are broken, then where the most
// important victim is the least important, then where they are the least important together, the fewest, and have begun the
// latest (semantics 16).
//
// guard starts to ask disruption budgets anew: what it gives says of one pod after the other whether its budget speaks against
// it, if those that it said nothing against are gone.
func (b *Board) Preempt(k *Kind, w Wish, guard func() func(uid string) bool) (node fleet.NodeName, victims []string) {
	if k.Spec.PreemptionPolicy != nil && *k.Spec.PreemptionPolicy == corev1.PreemptNever {
		return "", nil
	}
	p := b.prepare(k)
	for _, at := range b.among(w) {
		if p.refused[at] == "" && b.awaits(at, k, w) {
			return b.nodes[at].Name, nil
		}
	}
	var best *prey
	for _, at := range b.among(w) {
		if p.refused[at] != "" || !b.has(at, k.Priority) {
			continue
		}
		if found := b.clear(at, k, w, guard()); found != nil && (best == nil || found.compare(best) < 0) {
			best = found
		}
	}
	if best == nil {
		return "", nil
	}
	for _, g := range best.guests {
		victims = append(victims, g.UID)
	}
	return b.nodes[best.at].Name, victims
}

// awaits reports whether a node takes the pod as soon as those that leave it are gone.
func (b *Board) awaits(at int, k *Kind, w Wish) bool {
	m := &b.nodes[at]
	leaving := slices.DeleteFunc(slices.Collect(maps.Values(m.on)), func(g guest) bool { return !g.Leaving })
	if len(leaving) == 0 {
		return false
	}
	for _, g := range leaving {
		b.Take(m.Name, g.UID)
	}
	fits := len(b.look(k, w).refuses(at)) == 0
	for _, g := range leaving {
		b.Put(m.Name, g.kind, g.Guest)
	}
	return fits
}

// has reports whether a node has a pod of lower priority that stays.
func (b *Board) has(at int, priority int32) bool {
	for _, g := range b.nodes[at].on {
		if g.kind.Priority < priority && !g.Leaving {
			return true
		}
	}
	return false
}

// prey is who would have to go from a node.
type prey struct {
	at     int
	broken int
	guests []guest // the most important first
}

// clear finds who has to go: all of lower priority, but for those that fit beside the newcomer, the guarded and the important
// ones first.
func (b *Board) clear(at int, k *Kind, w Wish, guarded func(uid string) bool) *prey {
	m := &b.nodes[at]
	lower := slices.DeleteFunc(slices.Collect(maps.Values(m.on)), func(g guest) bool { return g.Leaving || g.kind.Priority >= k.Priority })
	slices.SortFunc(lower, important)
	broken := map[string]bool{}
	for _, g := range lower {
		broken[g.UID] = guarded(g.UID)
	}
	slices.SortStableFunc(lower, func(x, y guest) int { return -compareBools(broken[x.UID], broken[y.UID]) })
	for _, g := range lower {
		b.Take(m.Name, g.UID)
	}
	fits := func() bool { return len(b.look(k, w).refuses(at)) == 0 }
	found := &prey{at: at}
	possible := fits()
	for _, g := range lower {
		b.Put(m.Name, g.kind, g.Guest)
		if possible && !fits() {
			b.Take(m.Name, g.UID)
			found.guests = append(found.guests, g)
			if broken[g.UID] {
				found.broken++
			}
		}
	}
	for _, g := range found.guests {
		b.Put(m.Name, g.kind, g.Guest)
	}
	if !possible {
		return nil
	}
	slices.SortFunc(found.guests, important)
	return found
}

// important orders guests: those of higher priority first, then those that began earlier.
func important(x, y guest) int {
	return cmp.Or(-cmp.Compare(x.kind.Priority, y.kind.Priority), x.Since.Compare(y.Since), cmp.Compare(x.UID, y.UID))
}

func (p *prey) compare(o *prey) int {
	return cmp.Or(
		cmp.Compare(p.broken, o.broken),
		cmp.Compare(p.guests[0].kind.Priority, o.guests[0].kind.Priority),
		cmp.Compare(p.weight(), o.weight()),
		cmp.Compare(len(p.guests), len(o.guests)),
		-p.guests[0].Since.Compare(o.guests[0].Since),
		cmp.Compare(p.at, o.at),
	)
}

// weight is how important they are together; counted from the lowest priority, so that more of them never weigh less.
func (p *prey) weight() int64 {
	var sum int64
	for _, g := range p.guests {
		sum += int64(g.kind.Priority) + 1<<31
	}
	return sum
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
