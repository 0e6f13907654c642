package expose

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// balancerClass is the loadBalancerClass of ours; none is ours, too.
const balancerClass = "skerry.dev/address"

// isBalanced reports whether a Service is to have an address of a pool: one of another class is somebody else's.
func isBalanced(svc *corev1.Service) bool {
	class := svc.Spec.LoadBalancerClass
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && (class == nil || *class == balancerClass)
}

// balancers gives Services of type LoadBalancer their addresses of pools.
type balancers struct {
	*allocation
	taken map[netip.Addr][]*claim // those that have it: more than one where they share it
}

// bars is who has an address that a Service therefore cannot have; false where nobody has it but those who share it.
func (b *balancers) bars(c *claim, a netip.Addr) (fleet.ObjectID, bool) {
	for _, other := range b.taken[a] {
		if !other.shares(c) {
			return other.id, true
		}
	}
	return fleet.ObjectID{}, false
}

// shares reports whether two Services may have one address: both say so, with the same word; they have no port in common; and where one of them
// serves from the node's own pods alone, these are the same pods, as a node that has the address would have none of the others.
func (c *claim) shares(other *claim) bool {
	if c.svc == nil || other.svc == nil { // of one that was not read nothing is known but that it had it
		return slices.ContainsFunc(c.before.Balancers, func(a netip.Addr) bool { return slices.Contains(other.before.Balancers, a) })
	}
	word := c.svc.Annotations[fleet.AnnotationSharedAddress]
	if word == "" || other.svc.Annotations[fleet.AnnotationSharedAddress] != word {
		return false
	}
	for _, p := range c.svc.Spec.Ports {
		if slices.ContainsFunc(other.svc.Spec.Ports, func(q corev1.ServicePort) bool {
			return p.Port == q.Port && protocolOf(p.Protocol) == protocolOf(q.Protocol)
		}) {
			return false
		}
	}
	local := func(s *corev1.Service) bool {
		return s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	}
	return !local(c.svc) && !local(other.svc) || c.id.Namespace == other.id.Namespace && maps.Equal(c.svc.Spec.Selector, other.svc.Spec.Selector)
}

// fits are the pools that a Service may have an address of, in their order.
func (b *balancers) fits(c *claim) []fleet.AddressPool {
	return slices.DeleteFunc(slices.Clone(b.settings.Pools), func(p fleet.AddressPool) bool {
		name := c.svc.Annotations[fleet.AnnotationPool]
		return (name != "" && name != p.Name) || (len(p.Namespaces) > 0 && !slices.Contains(p.Namespaces, c.id.Namespace))
	})
}

// may reports whether an address is of a pool that fits.
func (b *balancers) may(c *claim, a netip.Addr) bool {
	return slices.ContainsFunc(b.fits(c), func(p fleet.AddressPool) bool {
		return slices.ContainsFunc(p.Addrs, func(r netip.Prefix) bool { return r.Contains(a) })
	})
}

// leave leaves addresses to Services of which nothing is known.
func (b *balancers) leave() {
	for _, e := range b.left {
		for _, a := range e.Balancers {
			b.taken[a] = append(b.taken[a], &claim{id: e.ID, before: e})
		}
	}
}

// keep keeps what a Service had, unless it asks for another or its pool is not there any more.
func (b *balancers) keep(c *claim) {
	if !isBalanced(c.svc) {
		return
	}
	asked, names := parse(c.svc.Spec.LoadBalancerIP)
	for _, a := range c.before.Balancers {
		if _, barred := b.bars(c, a); !barred && b.may(c, a) && slices.Contains(c.families, familyOf(a)) && (!names || familyOf(asked) != familyOf(a) || asked == a) {
			b.give(c, a)
		}
	}
}

func (b *balancers) give(c *claim, a netip.Addr) {
	b.taken[a] = append(b.taken[a], c)
	c.balancers = append(c.balancers, a)
}

// ask gives a Service the address that it asks for.
func (b *balancers) ask(c *claim) {
	text := c.svc.Spec.LoadBalancerIP
	if !isBalanced(c.svc) || text == "" {
		return
	}
	a, ok := parse(text)
	if _, has := family(c.balancers, familyOf(a)); ok && has {
		return
	}
	other, taken := b.bars(c, a)
	switch {
	case !ok:
		b.note(c, "loadBalancerIP %q is no address", text)
	case taken:
		b.note(c, "loadBalancerIP %s is that of %s: ask for another, or for none, or have both share it (%s) with different ports", a, other, fleet.AnnotationSharedAddress)
	case !b.may(c, a):
		b.note(c, "loadBalancerIP %s is in no pool of network.loadBalancerPools that it may have one of", a)
	default:
		b.give(c, a)
	}
}

// choose gives a Service what it has not got: the address of the first pool with one that its name points at, or the next free one.
func (b *balancers) choose(c *claim) {
	if !isBalanced(c.svc) || c.svc.Spec.LoadBalancerIP != "" {
		return
	}
	for _, f := range c.families {
		if _, has := family(c.balancers, f); has {
			continue
		}
		if a, ok := b.free(c, f); ok {
			b.give(c, a)
		} else if len(c.balancers) == 0 && f == c.families[0] {
			b.note(c, "no address is left for it in network.loadBalancerPools: until there is one it is reached at its node ports")
		}
	}
	slices.SortFunc(c.balancers, func(x, y netip.Addr) int {
		return cmp.Compare(slices.Index(c.families, familyOf(x)), slices.Index(c.families, familyOf(y)))
	})
}

func (b *balancers) free(c *claim, f corev1.IPFamily) (netip.Addr, bool) {
	var shared netip.Addr // the first of those that others would share with it
	for a, owners := range b.taken {
		if _, barred := b.bars(c, a); !barred && len(owners) > 0 && familyOf(a) == f && b.may(c, a) && (!shared.IsValid() || a.Less(shared)) {
			shared = a
		}
	}
	if shared.IsValid() {
		return shared, true
	}
	for _, p := range b.fits(c) {
		for _, r := range p.Addrs {
			if familyOf(r.Addr()) != f {
				continue
			}
			size := uint64(1) << min(r.Addr().BitLen()-r.Bits(), mostOffset)
			start := hashOf(c.id.String()) % size
			for i := range min(size, uint64(len(b.taken))+1) { // one of so many is free, if any is
				if a := nth(r.Masked(), (start+i)%size); len(b.taken[a]) == 0 {
					return a, true
				}
			}
		}
	}
	return netip.Addr{}, false
}
