package expose

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Allocate gives Services their addresses and node ports, and those of type LoadBalancer addresses of the pools. What one was given stays its own as long as it is desired, and as
// long as it is not known whether it is. What a Service asks for by name it has, or nothing and a note: an address that is
// outside of the ranges, reserved, or another's leaves it without any. All others are given what a hash of their name points
// at, or the next that is free, so that a lost store gives nearly all of them what they had. Both are in the order of their
// IDs; a Service that was given nothing has no exposure. Allocating again from what was given changes nothing.
func Allocate(desired fleet.Desired, previous []fleet.Exposure, settings fleet.NetworkSettings) ([]fleet.Exposure, []fleet.Note) {
	if !settings.Services {
		return nil, nil
	}
	a := newAllocation(desired, previous, settings)
	for _, step := range []func(*claim){a.keepAddresses, a.askedAddresses, a.newAddresses, a.keepPorts, a.askedPorts, a.newPorts} {
		for _, c := range a.claims {
			step(c)
		}
	}
	b := &balancers{a, map[netip.Addr][]*claim{}}
	b.leave()
	for _, step := range []func(*claim){b.keep, b.ask, b.choose} {
		for _, c := range a.claims {
			if settings.Without == "" {
				step(c)
			}
		}
	}
	next := a.left
	for _, c := range a.claims {
		if e := c.exposure(); len(e.Addrs)+len(e.NodePorts)+len(e.Balancers) > 0 {
			next = append(next, e)
		}
	}
	slices.SortFunc(next, func(a, b fleet.Exposure) int { return a.ID.Compare(b.ID) })
	slices.SortFunc(a.notes, fleet.Note.Compare)
	return next, slices.Compact(a.notes)
}

type allocation struct {
	settings fleet.NetworkSettings
	families []corev1.IPFamily // of the settings, in order
	pools    map[corev1.IPFamily]*pool
	ports    map[portSpot]fleet.ObjectID
	claims   []*claim         // in the order of IDs
	left     []fleet.Exposure // of Services of which nothing is known
	notes    []fleet.Note
}

// claim is what one Service needs.
type claim struct {
	id        fleet.ObjectID
	source    fleet.SourceName
	svc       *corev1.Service
	before    fleet.Exposure
	families  []corev1.IPFamily // of which it needs an address, in order
	asked     map[corev1.IPFamily]netip.Addr
	settled   bool // it is not asked for anything that it did not have
	refused   bool
	addrs     map[corev1.IPFamily]netip.Addr
	ports     map[string]int32
	balancers []netip.Addr
}

func newAllocation(desired fleet.Desired, previous []fleet.Exposure, settings fleet.NetworkSettings) *allocation {
	a := &allocation{settings: settings, pools: map[corev1.IPFamily]*pool{}, ports: map[portSpot]fleet.ObjectID{}}
	for _, p := range settings.Addrs {
		if f := familyOf(p.Addr()); a.pools[f] == nil {
			a.pools[f] = poolOf(p)
			a.families = append(a.families, f)
		}
	}
	previous = slices.Clone(previous)
	slices.SortFunc(previous, func(a, b fleet.Exposure) int { return a.ID.Compare(b.ID) })
	for _, e := range previous {
		if _, there := desired.Find(e.ID); !there && !desired.Known(e.Source, e.ID) {
			a.leave(e)
		}
	}
	before := exposuresByID(previous)
	for o, svc := range fleet.Each[*corev1.Service](desired) {
		if isAlias(svc) || isHeadless(svc) {
			continue
		}
		c := &claim{id: o.ID, source: o.Source, svc: svc, before: before[o.ID], addrs: map[corev1.IPFamily]netip.Addr{}, ports: map[string]int32{}}
		if settings.Without == "" {
			a.read(c)
		}
		a.claims = append(a.claims, c)
	}
	return a
}

// leave leaves a Service what it has.
func (a *allocation) leave(e fleet.Exposure) {
	a.left = append(a.left, e)
	for _, addr := range e.Addrs {
		if p := a.pools[familyOf(addr)]; p != nil && p.prefix.Contains(addr) {
			p.take(addr, e.ID)
		}
	}
	for key, number := range e.NodePorts {
		if at := spotOf(key, number); a.ports[at] == (fleet.ObjectID{}) {
			a.ports[at] = e.ID
		}
	}
}

func (a *allocation) note(c *claim, format string, args ...any) {
	a.notes = append(a.notes, fleet.Note{About: c.id, Text: fmt.Sprintf(format, args...)})
}

// refuse leaves a Service without addresses.
func (a *allocation) refuse(c *claim, format string, args ...any) {
	c.refused = true
	a.note(c, format, args...)
}

// keepAddresses keeps what a Service had, if nothing else is asked for.
func (a *allocation) keepAddresses(c *claim) {
	c.settled = !c.refused
	for f, asked := range c.asked {
		if had, ok := family(c.before.Addrs, f); !ok || had != asked {
			c.settled = false
		}
	}
	if c.settled {
		a.keep(c)
	}
}

func (a *allocation) keep(c *claim) {
	for _, f := range c.families {
		had, ok := family(c.before.Addrs, f)
		if p := a.pools[f]; ok && c.addrs[f] == (netip.Addr{}) && p.prefix.Contains(had) && p.special(had) == "" && p.take(had, c.id) {
			c.addrs[f] = had
		}
	}
}

// askedAddresses gives a Service all addresses that it asks for, or none.
func (a *allocation) askedAddresses(c *claim) {
	if c.refused || len(c.asked) == 0 {
		return
	}
	for _, f := range c.families {
		other, taken := a.pools[f].taken[c.asked[f]]
		if taken && other != c.id && !c.refused {
			a.refuse(c, "clusterIP %s is that of %s: ask for another, or for none", c.asked[f], other)
		}
	}
	if c.refused {
		return
	}
	for _, f := range c.families {
		if asked, ok := c.asked[f]; ok {
			a.pools[f].take(asked, c.id)
			c.addrs[f] = asked
		}
	}
	a.keep(c)
}

// newAddresses gives a Service the addresses that it has not got.
func (a *allocation) newAddresses(c *claim) {
	for _, f := range c.families {
		if c.refused || c.addrs[f].IsValid() {
			continue
		}
		addr, ok := a.pools[f].choose(c.id)
		if !ok {
			a.note(c, "no address is left in %s: give Services a larger range, or remove some", a.pools[f].prefix)
			continue
		}
		c.addrs[f] = addr
	}
}

// exposure is what a Service was given.
func (c *claim) exposure() fleet.Exposure {
	e := fleet.Exposure{ID: c.id, Source: c.source, Balancers: c.balancers}
	for _, f := range c.families {
		if addr, ok := c.addrs[f]; ok && !c.refused {
			e.Addrs = append(e.Addrs, addr)
		}
	}
	if len(c.ports) > 0 {
		e.NodePorts = c.ports
	}
	return e
}
