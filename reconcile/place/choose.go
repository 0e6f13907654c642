package place

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
)

// Wish is what one pod wants beyond its kind.
type Wish struct {
	Only  fleet.NodeName   // the node that it is for: it can run nowhere else; empty: any
	Bound []fleet.NodeName // where its volumes are: it can run nowhere else
	Last  fleet.NodeName   // where a pod of its name was just now; empty where that is not known
}

// Choose is the node for a pod of a kind; nothing is put there. Where none will do, why says how many nodes each filter refused,
// in kubectl's words.
func (b *Board) Choose(k *Kind, w Wish) (node fleet.NodeName, why string) {
	l := b.look(k, w)
	var fit []int
	refusals := map[string]int{}
	among := b.among(w)
	for _, i := range among {
		reasons := l.refuses(i)
		if len(reasons) == 0 {
			fit = append(fit, i)
		}
		for _, r := range reasons {
			refusals[r]++
		}
	}
	if others := len(b.nodes) - len(among); others > 0 {
		refusals[mismatch] += others
	}
	if len(fit) == 0 {
		return "", available(len(b.nodes), refusals)
	}
	return b.nodes[b.best(k, w, fit)].Name, ""
}

// among are the nodes that a pod may be put on by its wish alone.
func (b *Board) among(w Wish) []int {
	if w.Only == "" {
		return b.all
	}
	if at, there := b.byName[w.Only]; there {
		return b.all[at : at+1]
	}
	return nil
}

// look is what choosing a node for one pod needs besides what its kind needs: how things are now.
type look struct {
	*Board
	kind    *Kind
	wish    Wish
	fewest  []int    // by spread constraint: pods in the domain that has the fewest
	against []*tally // where pods are that keep this one away
}

func (b *Board) look(k *Kind, w Wish) *look {
	p := b.prepare(k)
	l := &look{Board: b, kind: k, wish: w}
	for i := range p.spreads {
		l.fewest = append(l.fewest, p.spreads[i].fewest())
	}
	for _, kept := range b.keeps {
		if kept.where.total > 0 && kept.matches(k) {
			l.against = append(l.against, kept.where)
		}
	}
	return l
}

// available is kubectl's sentence.
func available(nodes int, refusals map[string]int) string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(refusals)) {
		list = append(list, fmt.Sprintf("%d %s", refusals[reason], reason))
	}
	slices.Sort(list)
	text := fmt.Sprintf("0/%d nodes are available", nodes)
	if len(list) > 0 {
		text += ": " + strings.Join(list, ", ")
	}
	return text + "."
}

// refuses is why a node cannot have a pod; the first filter that refuses, but all resources that are short.
func (l *look) refuses(at int) []string {
	k, m := l.kind, &l.nodes[at]
	p := k.placing
	if p.refused[at] != "" {
		return p.refused[at : at+1]
	}
	if len(k.ports) > 0 && m.taken(k.ports) {
		return []string{"node(s) didn't have free ports for the requested pod ports"}
	}
	if fits(k.asks, m) {
		for _, bound := range l.wish.Bound {
			if bound != m.Name {
				return []string{"node(s) had volume node affinity conflict"}
			}
		}
		return l.apart(at)
	}
	return short(k.asks, m.used, m.room)
}

// fits is short, without the words.
func fits(ask amounts, m *machine) bool {
	return m.used.pods < m.room.pods && (ask.cpu == 0 || m.room.cpu == 0 || ask.cpu <= m.room.cpu-m.used.cpu) &&
		(ask.memory == 0 || m.room.memory == 0 || ask.memory <= m.room.memory-m.used.memory) &&
		(len(ask.other) == 0 && ask.disk == 0 || len(short(ask, m.used, m.room)) == 0)
}

// apart is what other pods have against it.
func (l *look) apart(at int) []string {
	p := l.kind.placing
	for i := range p.spreads {
		s := &p.spreads[i]
		if !s.hard {
			continue
		}
		domain := s.tally.domains.of[at]
		if domain < 0 {
			return []string{"node(s) didn't match pod topology spread constraints (missing required label)"}
		}
		self := 0
		if s.self {
			self = 1
		}
		if s.count[domain]+self-l.fewest[i] > s.skew {
			return []string{"node(s) didn't match pod topology spread constraints"}
		}
	}
	if !p.isNear(at) {
		return []string{"node(s) didn't match pod affinity rules"}
	}
	for _, t := range p.away {
		if domain := t.domains.of[at]; domain >= 0 && t.count[domain] > 0 {
			return []string{"node(s) didn't match pod anti-affinity rules"}
		}
	}
	for _, t := range l.against {
		if domain := t.domains.of[at]; domain >= 0 && t.count[domain] > 0 {
			return []string{"node(s) didn't satisfy existing pods anti-affinity rules"}
		}
	}
	return nil
}

// isNear reports whether required affinity holds on a node. The first pod of a group that is drawn to itself is let in.
func (p *placing) isNear(at int) bool {
	all, any := true, false
	for _, t := range p.near {
		domain := t.domains.of[at]
		if domain < 0 {
			return false
		}
		all = all && t.count[domain] > 0
		any = any || t.total > 0
	}
	return all || !any && p.nearSelf
}

// best is the node with the highest score; of equals the one with the fewest pods, then by name.
func (b *Board) best(k *Kind, w Wish, fit []int) int {
	if len(fit) == 1 {
		return fit[0]
	}
	sum := make([]int64, len(fit))
	b.roomScore(k, fit, sum)
	b.imageScore(k, fit, sum)
	p := k.placing
	normalized(fit, sum, 3, true, func(at int) int64 { return p.unwelcome[at] })
	normalized(fit, sum, 2, false, func(at int) int64 { return p.preferred[at] })
	b.spreadScore(k, fit, sum)
	b.drawScore(k, fit, sum)
	best := 0
	for i, at := range fit {
		if b.nodes[at].Name == w.Last {
			sum[i] += stickiness
		}
		if sum[i] > sum[best] || sum[i] == sum[best] && b.nodes[at].used.pods < b.nodes[fit[best]].used.pods {
			best = i
		}
	}
	return fit[best]
}

// most is the highest score that one plugin gives, before its weight, as in Kubernetes.
const most = 100

// stickiness outweighs what differs between nodes that are about as full, and no preference that a user wrote down.
const stickiness = most

// normalized adds weight times a score that is brought between 0 and most; the highest counts least when it is reversed.
func normalized(fit []int, sum []int64, weight int64, reversed bool, score func(at int) int64) {
	var highest int64
	for _, at := range fit {
		highest = max(highest, score(at))
	}
	if highest == 0 {
		return
	}
	for i, at := range fit {
		s := score(at) * most / highest
		if reversed {
			s = most - s
		}
		sum[i] += weight * s
	}
}

// roomScore: as much as possible stays free (LeastAllocated), and processor and memory are used alike (BalancedAllocation).
func (b *Board) roomScore(k *Kind, fit []int, sum []int64) {
	share := func(room, used, ask int64) int64 {
		if room == 0 {
			return most
		}
		return min(most, (used+ask)*most/room)
	}
	for i, at := range fit {
		m := &b.nodes[at]
		cpu, memory := share(m.room.cpu, m.busy.cpu, k.weighs.cpu), share(m.room.memory, m.busy.memory, k.weighs.memory)
		sum[i] += (most-cpu+most-memory)/2 + most - max(cpu-memory, memory-cpu)/2
	}
}

// imageScore: where images are there already, nothing is pulled.
func (b *Board) imageScore(k *Kind, fit []int, sum []int64) {
	if len(k.images) == 0 {
		return
	}
	for i, at := range fit {
		here := 0
		for _, image := range k.images {
			if b.nodes[at].images[image] {
				here++
			}
		}
		sum[i] += int64(here * most / len(k.images))
	}
}

// spreadScore: where fewer are that count alike, by the constraints that are only wishes, or by host and zone where there are none.
func (b *Board) spreadScore(k *Kind, fit []int, sum []int64) {
	p := k.placing
	crowd := make([]int64, len(fit))
	wished := false
	add := func(t *tally, weight int64) {
		wished = true
		for i, at := range fit {
			if domain := t.domains.of[at]; domain >= 0 {
				crowd[i] += weight * int64(t.count[domain])
			} else {
				crowd[i] += weight * int64(t.total) // as if all were there: it is counted out
			}
		}
	}
	for i := range p.spreads {
		if !p.spreads[i].hard {
			add(p.spreads[i].tally, 1)
		}
	}
	if p.byHost != nil {
		add(p.byHost, 2)
	}
	if p.byZone != nil {
		add(p.byZone, 1)
	}
	if !wished {
		return
	}
	least, highest := slices.Min(crowd), slices.Max(crowd)
	if highest == 0 {
		return
	}
	for i := range fit {
		sum[i] += 2 * most * (highest + least - crowd[i]) / highest
	}
}

// drawScore: preferred affinities, those of the pod and those of the pods that are there.
func (b *Board) drawScore(k *Kind, fit []int, sum []int64) {
	p := k.placing
	score := make([]int64, len(fit))
	drawn := false
	add := func(t *tally, weight int64) {
		if t.total == 0 {
			return
		}
		drawn = true
		for i, at := range fit {
			if domain := t.domains.of[at]; domain >= 0 {
				score[i] += weight * int64(t.count[domain])
			}
		}
	}
	for _, d := range p.draws {
		add(d.tally, d.weight)
	}
	for _, l := range b.likes {
		if l.where.total > 0 && l.matches(k) {
			add(l.where, l.weight)
		}
	}
	if !drawn {
		return
	}
	least, highest := slices.Min(score), slices.Max(score)
	if least == highest {
		return
	}
	for i := range fit {
		sum[i] += 2 * most * (score[i] - least) / (highest - least)
	}
}
