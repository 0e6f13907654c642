package expose

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// read finds out which addresses a Service needs, and which it asks for by name. It refuses what can never be.
func (a *allocation) read(c *claim) {
	c.asked = map[corev1.IPFamily]netip.Addr{}
	for _, text := range clusterIPs(c.svc) {
		addr, ok := parse(text)
		if !ok {
			a.refuse(c, "clusterIP %q is no address", text)
			return
		}
		p := a.pools[familyOf(addr)]
		if p == nil || !p.prefix.Contains(addr) {
			a.refuse(c, "clusterIP %s is outside of the fleet's addresses for Services: ask for one of those, or for none", addr)
			return
		}
		if whose := p.special(addr); whose != "" {
			a.refuse(c, "clusterIP %s is %s: ask for another, or for none", addr, whose)
			return
		}
		c.asked[familyOf(addr)] = addr
	}
	a.choose(c, namedFamilies(c.svc))
	for f := range c.asked {
		if !slices.Contains(c.families, f) {
			delete(c.asked, f)
		}
	}
}

// choose are the families that a Service has an address of, as far as the fleet has such addresses.
func (a *allocation) choose(c *claim, preferred []corev1.IPFamily) {
	dual := len(preferred) > 1 || policyIs(c.svc, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)
	if policyIs(c.svc, corev1.IPFamilyPolicySingleStack) {
		dual = false
	}
	wanted := unique(append(preferred, a.families...))
	if !dual {
		wanted = wanted[:min(1, len(wanted))]
	}
	for _, f := range wanted {
		if a.pools[f] != nil {
			c.families = append(c.families, f)
		}
	}
	required := policyIs(c.svc, corev1.IPFamilyPolicyRequireDualStack) || (c.svc.Spec.IPFamilyPolicy == nil && dual)
	switch {
	case len(c.families) == 0 && len(wanted) > 0:
		a.refuse(c, "it wants an %s address, and the fleet has none for Services", wanted[0])
	case len(c.families) == 0:
		a.refuse(c, "the fleet has no addresses for Services")
	case required && len(c.families) < 2:
		a.note(c, "it requires addresses of both IP families, and the fleet has only %s for Services", c.families[0])
	}
}

// policyIs reports whether a Service's ipFamilyPolicy is one of those.
func policyIs(svc *corev1.Service, policies ...corev1.IPFamilyPolicy) bool {
	return svc.Spec.IPFamilyPolicy != nil && slices.Contains(policies, *svc.Spec.IPFamilyPolicy)
}

// namedFamilies are the IP families that a Service names, in order: those of the addresses that it asks for come first.
func namedFamilies(svc *corev1.Service) []corev1.IPFamily {
	var list []corev1.IPFamily
	for _, text := range clusterIPs(svc) {
		if a, ok := parse(text); ok {
			list = append(list, familyOf(a))
		}
	}
	return unique(append(list, svc.Spec.IPFamilies...))
}

// unique keeps the first of each.
func unique(list []corev1.IPFamily) []corev1.IPFamily {
	var kept []corev1.IPFamily
	for _, f := range list {
		if !slices.Contains(kept, f) {
			kept = append(kept, f)
		}
	}
	return kept
}
