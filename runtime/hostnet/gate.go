package hostnet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// A gate is a chain that lets through what it may, and drops all else. Many pods have the same, and so a gate's name is a hash of what
// it lets through: it never changes, what leads to it does.

// direction is whose address a gate looks at.
type direction string

const (
	into  direction = "saddr" // of who begins
	outOf direction = "daddr" // of where it goes
)

// gate is a chain, and its name.
type gate struct {
	name string
	fleet.Gate
	direction
}

func gateOf(g fleet.Gate, d direction) gate {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %v", d, g))
	return gate{gatePrefix + hex.EncodeToString(sum[:10]), g, d}
}

// is reports whether two gates are the same; nil is none.
func (g *gate) is(o *gate) bool {
	if g == nil || o == nil {
		return g == o
	}
	return g.name == o.name
}

// gate writes a new chain.
func (w writer) gate(g gate) {
	w.grow.Add(w.chain(g.name))
	for _, p := range g.Passes {
		var words []any
		if p.Peers != nil {
			words = append(words, string(w.family), string(g.direction), "{", strings.Join(texts(p.Peers), ", "), "}")
		}
		if p.Protocol != "" {
			words = append(words, "meta l4proto", protocol(p.Protocol))
			switch {
			case p.First == p.Last: // nft before 1.0.3 takes no range of one
				words = append(words, "th dport", p.First)
			case p.First > 0 || p.Last < sharing-1:
				words = append(words, fmt.Sprintf("th dport %d-%d", p.First, p.Last))
			}
		}
		w.rule(g.name, append(words, "return")...)
	}
	w.rule(g.name, "drop")
}

func texts(list []netip.Prefix) []string {
	var all []string
	for _, p := range list {
		all = append(all, p.String())
	}
	return all
}

// guard is the gate of a front that not everybody may come to; nil for none.
func guard(family knftables.Family, f *fleet.Front) *gate {
	if f.From == nil {
		return nil
	}
	g := fleet.Gate{Closed: true}
	if from := slices.DeleteFunc(slices.Clone(f.From), func(p netip.Prefix) bool { return familyOf(p.Addr()) != family }); len(from) > 0 {
		g.Passes = []fleet.Pass{{Peers: from, Last: sharing - 1}}
	}
	made := gateOf(g, into)
	return &made
}

// fence takes up a pod's fence.
func (t *table) fence(f fleet.Fence) {
	at := ip(f.Pod)
	if familyOf(at) != t.family {
		return
	}
	for _, side := range []struct {
		fleet.Gate
		direction
		of string
	}{{f.Ingress, into, mapIngress}, {f.Egress, outOf, mapEgress}} {
		if side.Closed {
			g := gateOf(side.Gate, side.direction)
			t.gates[g.name] = g
			t.fences = append(t.fences, element{side.of, at.String(), "jump " + g.name})
		}
	}
}
