package manifest

import (
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// placing checks what a pod says of where it may run, and of how it is valued against others.
func (c *checker) placing(s *corev1.PodSpec, p *field.Path) {
	if s.NodeName != "" {
		c.all(p.Child("nodeName"), s.NodeName, validation.IsDNS1123Subdomain(s.NodeName))
	}
	for key, value := range s.NodeSelector {
		c.all(p.Child("nodeSelector").Key(key), key, validation.IsQualifiedName(key))
		c.all(p.Child("nodeSelector").Key(key), value, validation.IsValidLabelValue(value))
	}
	if s.PriorityClassName != "" {
		c.all(p.Child("priorityClassName"), s.PriorityClassName, validation.IsDNS1123Subdomain(s.PriorityClassName))
	}
	c.preemption(s.PreemptionPolicy, p.Child("preemptionPolicy"))
	if s.Affinity != nil {
		c.affinities(s.Affinity, p.Child("affinity"))
	}
	for i := range s.Tolerations {
		c.toleration(&s.Tolerations[i], p.Child("tolerations").Index(i))
	}
	c.spreads(s.TopologySpreadConstraints, p.Child("topologySpreadConstraints"))
}

func (c *checker) preemption(policy *corev1.PreemptionPolicy, p *field.Path) {
	if policy != nil {
		oneOf(c, p, *policy, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
}

func (c *checker) affinities(a *corev1.Affinity, p *field.Path) {
	const required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
	if n, at := a.NodeAffinity, p.Child("nodeAffinity"); n != nil {
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			terms := at.Child(required, "nodeSelectorTerms")
			if len(r.NodeSelectorTerms) == 0 {
				c.bad(terms, "must have at least one term")
			}
			for i := range r.NodeSelectorTerms {
				c.nodeTerm(&r.NodeSelectorTerms[i], terms.Index(i))
			}
		}
		for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			t := &n.PreferredDuringSchedulingIgnoredDuringExecution[i]
			c.weight(t.Weight, at.Child(preferred).Index(i))
			c.nodeTerm(&t.Preference, at.Child(preferred).Index(i).Child("preference"))
		}
	}
	pods := func(need []corev1.PodAffinityTerm, wish []corev1.WeightedPodAffinityTerm, at *field.Path) {
		for i := range need {
			c.podTerm(&need[i], at.Child(required).Index(i))
		}
		for i := range wish {
			c.weight(wish[i].Weight, at.Child(preferred).Index(i))
			c.podTerm(&wish[i].PodAffinityTerm, at.Child(preferred).Index(i).Child("podAffinityTerm"))
		}
	}
	if n := a.PodAffinity; n != nil {
		pods(n.RequiredDuringSchedulingIgnoredDuringExecution, n.PreferredDuringSchedulingIgnoredDuringExecution, p.Child("podAffinity"))
	}
	if n := a.PodAntiAffinity; n != nil {
		pods(n.RequiredDuringSchedulingIgnoredDuringExecution, n.PreferredDuringSchedulingIgnoredDuringExecution, p.Child("podAntiAffinity"))
	}
}

func (c *checker) weight(weight int32, p *field.Path) {
	if weight < 1 || weight > 100 {
		c.bad(p.Child("weight"), "must be between 1 and 100")
	}
}

func (c *checker) nodeTerm(t *corev1.NodeSelectorTerm, p *field.Path) {
	for i := range t.MatchExpressions {
		e, at := &t.MatchExpressions[i], p.Child("matchExpressions").Index(i)
		c.all(at.Child("key"), e.Key, validation.IsQualifiedName(e.Key))
		c.nodeOperator(e, at)
	}
	for i := range t.MatchFields {
		f, at := &t.MatchFields[i], p.Child("matchFields").Index(i)
		if f.Key != "metadata.name" {
			c.bad(at.Child("key"), "%q is not allowed: only metadata.name can be asked for", f.Key)
		}
		oneOf(c, at.Child("operator"), f.Operator, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn)
		if len(f.Values) != 1 {
			c.bad(at.Child("values"), "must be exactly one name")
		}
		for j, name := range f.Values {
			c.all(at.Child("values").Index(j), name, validation.IsDNS1123Subdomain(name))
		}
	}
}

func (c *checker) nodeOperator(e *corev1.NodeSelectorRequirement, p *field.Path) {
	at := p.Child("values")
	switch e.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(e.Values) == 0 {
			c.bad(at, "must have at least one value for the operator %s", e.Operator)
		}
		for i, value := range e.Values {
			c.all(at.Index(i), value, validation.IsValidLabelValue(value))
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(e.Values) > 0 {
			c.bad(at, "is not allowed for the operator %s", e.Operator)
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(e.Values) != 1 {
			c.bad(at, "must have exactly one value for the operator %s", e.Operator)
		} else if _, err := strconv.ParseInt(e.Values[0], 10, 64); err != nil {
			c.warn(at.Index(0), "is no whole number: this matches no node")
		}
	default:
		oneOf(c, p.Child("operator"), e.Operator, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists,
			corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt)
	}
}

func (c *checker) podTerm(t *corev1.PodAffinityTerm, p *field.Path) {
	c.topologyKey(t.TopologyKey, p.Child("topologyKey"))
	if t.LabelSelector != nil {
		c.labelSelector(t.LabelSelector, p.Child("labelSelector"))
	}
	if t.NamespaceSelector != nil {
		c.labelSelector(t.NamespaceSelector, p.Child("namespaceSelector"))
	}
	for i, namespace := range t.Namespaces {
		c.all(p.Child("namespaces").Index(i), namespace, validation.IsDNS1123Label(namespace))
	}
	selected := keysOf(t.LabelSelector)
	c.labelKeys(t.MatchLabelKeys, t.LabelSelector != nil, selected, p.Child("matchLabelKeys"))
	c.labelKeys(t.MismatchLabelKeys, t.LabelSelector != nil, nil, p.Child("mismatchLabelKeys"))
	for i, key := range t.MismatchLabelKeys {
		if slices.Contains(t.MatchLabelKeys, key) {
			c.bad(p.Child("mismatchLabelKeys").Index(i), "%q is in matchLabelKeys, too: remove one", key)
		}
	}
}

func (c *checker) topologyKey(key string, p *field.Path) {
	if key == "" {
		c.bad(p, "is required")
		return
	}
	c.all(p, key, validation.IsQualifiedName(key))
}

// labelKeys checks keys whose values a selector gets from the pod's own labels.
func (c *checker) labelKeys(keys []string, selects bool, selected []string, p *field.Path) {
	if len(keys) > 0 && !selects {
		c.bad(p, "is not allowed without a labelSelector")
	}
	for i, key := range keys {
		c.all(p.Index(i), key, validation.IsQualifiedName(key))
		if slices.Contains(selected, key) {
			c.bad(p.Index(i), "%q is in the labelSelector, too: remove one", key)
		}
	}
}

func (c *checker) toleration(t *corev1.Toleration, p *field.Path) {
	if t.Key != "" {
		c.all(p.Child("key"), t.Key, validation.IsQualifiedName(t.Key))
	} else if t.Operator != corev1.TolerationOpExists {
		c.bad(p.Child("operator"), "must be Exists when there is no key")
	}
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		c.bad(p.Child("effect"), "must be NoExecute when there are tolerationSeconds")
	}
	switch t.Operator {
	case "", corev1.TolerationOpEqual:
		c.all(p.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))
	case corev1.TolerationOpExists:
		if t.Value != "" {
			c.bad(p.Child("value"), "is not allowed for the operator Exists")
		}
	default:
		oneOf(c, p.Child("operator"), t.Operator, corev1.TolerationOpEqual, corev1.TolerationOpExists)
	}
	if t.Effect != "" {
		c.effect(t.Effect, p.Child("effect"))
	}
}

func (c *checker) effect(effect corev1.TaintEffect, p *field.Path) {
	oneOf(c, p, effect, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
}

func (c *checker) spreads(list []corev1.TopologySpreadConstraint, p *field.Path) {
	type pair struct {
		key  string
		when corev1.UnsatisfiableConstraintAction
	}
	seen := map[pair]bool{}
	for i := range list {
		s, at := &list[i], p.Index(i)
		if s.MaxSkew < 1 {
			c.bad(at.Child("maxSkew"), "must be greater than 0")
		}
		c.topologyKey(s.TopologyKey, at.Child("topologyKey"))
		oneOf(c, at.Child("whenUnsatisfiable"), s.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)
		if now := (pair{s.TopologyKey, s.WhenUnsatisfiable}); seen[now] {
			c.bad(at, "has the topologyKey and whenUnsatisfiable of another constraint: remove one")
		} else {
			seen[now] = true
		}
		c.minDomains(s, at.Child("minDomains"))
		for name, policy := range map[string]*corev1.NodeInclusionPolicy{"nodeAffinityPolicy": s.NodeAffinityPolicy, "nodeTaintsPolicy": s.NodeTaintsPolicy} {
			if policy != nil {
				oneOf(c, at.Child(name), *policy, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
			}
		}
		if s.LabelSelector != nil {
			c.labelSelector(s.LabelSelector, at.Child("labelSelector"))
		}
		c.labelKeys(s.MatchLabelKeys, s.LabelSelector != nil, keysOf(s.LabelSelector), at.Child("matchLabelKeys"))
	}
}

func (c *checker) minDomains(s *corev1.TopologySpreadConstraint, p *field.Path) {
	switch {
	case s.MinDomains == nil:
	case *s.MinDomains < 1:
		c.bad(p, "must be greater than 0")
	case s.WhenUnsatisfiable != corev1.DoNotSchedule:
		c.bad(p, "is only allowed with whenUnsatisfiable: DoNotSchedule")
	}
}

// keysOf are the labels that a selector asks for.
func keysOf(s *metav1.LabelSelector) []string {
	if s == nil {
		return nil
	}
	keys := slices.Collect(maps.Keys(s.MatchLabels))
	for _, e := range s.MatchExpressions {
		keys = append(keys, e.Key)
	}
	return keys
}
