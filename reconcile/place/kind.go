package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skerry-dev/skerry/fleet"
)

// Kind is what pods have in common that are placed alike: one namespace, labels and spec. Board.Kind makes it.
type Kind struct {
	// Group is whose pods are spread. Of a Deployment it is the ReplicaSet, as in Kubernetes: pods of the version before say nothing
	// about where those of this one are when it is gone.
	Group fleet.ObjectID

	namespace string
	labels    labels.Set
	Spec      *corev1.PodSpec
	Priority  int32

	asks, weighs amounts
	ports        []port
	images       []string
	on           map[int]int // by node: how many
	leaving      map[int]int // how many of them are leaving
	hits         []*tally
	seen         int // how many of the board's tallies were looked at for hits

	placing *placing // nil until one of them is to be placed
}

// keep is a required anti-affinity: others that it matches are kept away from where pods that have it are.
type keep struct {
	matches func(*Kind) bool
	where   *tally
}

// like is a preferred affinity (an anti-affinity where the weight is negative), or a required one with weight 1: others that it
// matches are drawn to where pods that have it are.
type like struct {
	keep
	weight int64
}

// placing is what has to be known of a kind when a pod of it is placed. It is worked out once, and its tallies stay true.
type placing struct {
	refused   []string // by node: why it is out whatever is on it; empty when it is not
	near      []*tally // required affinity, a tally a term: pods that match all of the terms
	nearSelf  bool     // its own pods match all of the terms
	away      []*tally // required anti-affinity
	spreads   []spread
	draws     []draw // preferred affinity and anti-affinity of its own
	byHost    *tally // pods of its group
	byZone    *tally // nil where no node has a zone
	preferred []int64
	unwelcome []int64
}

// draw is a preferred term of a pod's own.
type draw struct {
	*tally
	weight int64
}

// spread is a topology spread constraint.
type spread struct {
	*tally
	hard    bool
	skew    int
	least   int  // minDomains
	self    bool // the pod matches itself
	reached []bool
	domains int // that count
}

// Kind makes a kind. Labels and spec are those of the pods, defaulted, and are not changed from then on.
func (b *Board) Kind(group fleet.ObjectID, namespace string, set map[string]string, spec *corev1.PodSpec, priority int32) *Kind {
	k := &Kind{
		Group: group, namespace: namespace, labels: set, Spec: spec, Priority: priority, asks: asks(spec), weighs: weighs(spec), on: map[int]int{}, leaving: map[int]int{},
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				k.ports = append(k.ports, port{p.HostPort, p.Protocol, p.HostIP})
			}
		}
		k.images = append(k.images, fleet.ImageName(c.Image))
	}
	b.kinds = append(b.kinds, k)
	b.reach(k)
	return k
}

// reach notes what a kind's pods mean for others.
func (b *Board) reach(k *Kind) {
	a := k.Spec.Affinity
	if a == nil {
		return
	}
	here := func(t corev1.PodAffinityTerm) keep {
		return keep{b.term(k, t), b.presence(t.TopologyKey, func(other *Kind) bool { return other == k })}
	}
	if anti := a.PodAntiAffinity; anti != nil {
		for _, t := range anti.RequiredDuringSchedulingIgnoredDuringExecution {
			b.keeps = append(b.keeps, here(t))
		}
		for _, t := range anti.PreferredDuringSchedulingIgnoredDuringExecution {
			b.likes = append(b.likes, like{here(t.PodAffinityTerm), -int64(t.Weight)})
		}
	}
	if near := a.PodAffinity; near != nil {
		for _, t := range near.RequiredDuringSchedulingIgnoredDuringExecution {
			b.likes = append(b.likes, like{here(t), 1})
		}
		for _, t := range near.PreferredDuringSchedulingIgnoredDuringExecution {
			b.likes = append(b.likes, like{here(t.PodAffinityTerm), int64(t.Weight)})
		}
	}
}

// term is whether pods are those that a term of a kind's is about.
func (b *Board) term(k *Kind, t corev1.PodAffinityTerm) func(*Kind) bool {
	selector := keyed(k, t.LabelSelector, t.MatchLabelKeys, t.MismatchLabelKeys)
	namespaces := t.Namespaces
	if len(namespaces) == 0 && t.NamespaceSelector == nil {
		namespaces = []string{k.namespace}
	}
	inside, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector) // of nil: nothing
	if err != nil {
		inside = labels.Nothing()
	}
	return func(other *Kind) bool {
		return (slices.Contains(namespaces, other.namespace) || inside.Matches(b.labelsOf(other.namespace))) && selector.Matches(other.labels)
	}
}

// keyed is a selector with the pod's own values of some labels, or with all but those.
func keyed(k *Kind, selector *metav1.LabelSelector, match, mismatch []string) labels.Selector {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil || selector == nil {
		return labels.Nothing()
	}
	own := func(keys []string, op metav1.LabelSelectorOperator) {
		for _, key := range keys {
			value, has := k.labels[key]
			if !has {
				continue
			}
			r, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: []string{value}}}})
			if err != nil {
				continue
			}
			list, _ := r.Requirements()
			s = s.Add(list...)
		}
	}
	own(match, metav1.LabelSelectorOpIn)
	own(mismatch, metav1.LabelSelectorOpNotIn)
	return s
}

// prepare works out what placing a kind needs.
func (b *Board) prepare(k *Kind) *placing {
	if k.placing != nil {
		return k.placing
	}
	p := &placing{refused: make([]string, len(b.nodes)), preferred: make([]int64, len(b.nodes)), unwelcome: make([]int64, len(b.nodes))}
	k.placing = p
	fits := make([]bool, len(b.nodes)) // by selector and affinity
	for i := range b.nodes {
		n := b.nodes[i].Node
		fits[i] = selected(k.Spec, n)
		p.refused[i] = standing(k.Spec, n, fits[i])
		p.unwelcome[i], p.preferred[i] = unwelcome(k.Spec, n), preferred(k.Spec, n)
	}
	b.prepareTerms(k, p)
	for _, c := range k.Spec.TopologySpreadConstraints {
		p.spreads = append(p.spreads, b.spread(k, c, fits))
	}
	if len(p.spreads) == 0 && k.Group != (fleet.ObjectID{}) {
		p.byHost = b.group(k.Group, corev1.LabelHostname)
		if b.domain(corev1.LabelTopologyZone).number > 1 {
			p.byZone = b.group(k.Group, corev1.LabelTopologyZone)
		}
	}
	return p
}

// mismatch is what is said of a node that a pod does not want.
const mismatch = "node(s) didn't match Pod's node affinity/selector"

// standing is why a node is out for a pod whatever is on it.
func standing(spec *corev1.PodSpec, n fleet.Node, fits bool) string {
	switch {
	case !named(spec, n):
		return "node(s) didn't match the requested node name"
	case n.Unschedulable && !Tolerates(spec.Tolerations, Unschedulable):
		return "node(s) were unschedulable"
	}
	if why := untolerated(spec, n); why != "" {
		return why
	}
	if !fits {
		return mismatch
	}
	return ""
}

func preferred(spec *corev1.PodSpec, n fleet.Node) int64 {
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return 0
	}
	var sum int64
	for _, t := range spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
		if termHolds(t.Preference, n) {
			sum += int64(t.Weight)
		}
	}
	return sum
}

func (b *Board) prepareTerms(k *Kind, p *placing) {
	a := k.Spec.Affinity
	if a == nil {
		return
	}
	if a.PodAffinity != nil {
		var terms []func(*Kind) bool
		for _, t := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, b.term(k, t))
		}
		all := func(other *Kind) bool {
			return !slices.ContainsFunc(terms, func(matches func(*Kind) bool) bool { return !matches(other) })
		}
		for _, t := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			p.near = append(p.near, b.presence(t.TopologyKey, all))
		}
		p.nearSelf = all(k)
		for _, t := range a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			p.draws = append(p.draws, draw{b.presence(t.PodAffinityTerm.TopologyKey, b.term(k, t.PodAffinityTerm)), int64(t.Weight)})
		}
	}
	if a.PodAntiAffinity != nil {
		for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			p.away = append(p.away, b.presence(t.TopologyKey, b.term(k, t)))
		}
		for _, t := range a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			p.draws = append(p.draws, draw{b.presence(t.PodAffinityTerm.TopologyKey, b.term(k, t.PodAffinityTerm)), -int64(t.Weight)})
		}
	}
}

// spread compiles a constraint. Domains count when a node of them may have the pod by selector and affinity, and by taints where
// the constraint says so, and has the labels of all hard constraints.
func (b *Board) spread(k *Kind, c corev1.TopologySpreadConstraint, fits []bool) spread {
	selector := keyed(k, c.LabelSelector, c.MatchLabelKeys, nil)
	of := func(other *Kind) bool { return other.namespace == k.namespace && selector.Matches(other.labels) }
	honors := func(policy *corev1.NodeInclusionPolicy, otherwise bool) bool {
		return policy == nil && otherwise || policy != nil && *policy == corev1.NodeInclusionPolicyHonor
	}
	byFit, byTaint := honors(c.NodeAffinityPolicy, true), honors(c.NodeTaintsPolicy, false)
	only := make([]bool, len(b.nodes))
	s := spread{hard: c.WhenUnsatisfiable == corev1.DoNotSchedule, skew: int(c.MaxSkew), self: of(k)}
	if c.MinDomains != nil {
		s.least = int(*c.MinDomains)
	}
	for i := range b.nodes {
		only[i] = (!byFit || fits[i]) && (!byTaint || untolerated(k.Spec, b.nodes[i].Node) == "") && b.hasKeys(i, k.Spec.TopologySpreadConstraints, c.WhenUnsatisfiable)
	}
	s.tally = b.tally(c.TopologyKey, of, only)
	s.reached = make([]bool, s.tally.domains.number)
	for i, domain := range s.tally.domains.of {
		if only[i] && domain >= 0 && !s.reached[domain] {
			s.reached[domain] = true
			s.domains++
		}
	}
	return s
}

// hasKeys reports whether a node has the labels of all constraints of one sort.
func (b *Board) hasKeys(at int, constraints []corev1.TopologySpreadConstraint, sort corev1.UnsatisfiableConstraintAction) bool {
	return !slices.ContainsFunc(constraints, func(c corev1.TopologySpreadConstraint) bool {
		return c.WhenUnsatisfiable == sort && b.domain(c.TopologyKey).of[at] < 0
	})
}

// fewest is how many pods the domain has that has the fewest.
func (s *spread) fewest() int {
	if s.domains < s.least {
		return 0
	}
	fewest := -1
	for domain, counts := range s.reached {
		if counts && (fewest < 0 || s.count[domain] < fewest) {
			fewest = s.count[domain]
		}
	}
	return max(fewest, 0)
}

// AsksFor reports whether a spec asks for other pods by one of these labels.
func AsksFor(spec *corev1.PodSpec, keys ...string) bool {
	asks := func(s *metav1.LabelSelector) bool {
		if s == nil {
			return false
		}
		return slices.ContainsFunc(keys, func(key string) bool {
			_, has := s.MatchLabels[key]
			return has || slices.ContainsFunc(s.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool { return e.Key == key })
		})
	}
	for _, c := range spec.TopologySpreadConstraints {
		if asks(c.LabelSelector) {
			return true
		}
	}
	term := func(t corev1.PodAffinityTerm) bool { return asks(t.LabelSelector) }
	weighted := func(t corev1.WeightedPodAffinityTerm) bool { return asks(t.PodAffinityTerm.LabelSelector) }
	a := spec.Affinity
	return a != nil && (a.PodAffinity != nil && (slices.ContainsFunc(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, term) ||
		slices.ContainsFunc(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, weighted)) ||
		a.PodAntiAffinity != nil && (slices.ContainsFunc(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, term) ||
			slices.ContainsFunc(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, weighted)))
}
