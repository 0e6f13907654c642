package manifest

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) budget(s *policyv1.PodDisruptionBudgetSpec, p *field.Path) {
	c.either(p, "minAvailable", s.MinAvailable != nil, "maxUnavailable", s.MaxUnavailable != nil)
	for name, share := range map[string]*intstr.IntOrString{"minAvailable": s.MinAvailable, "maxUnavailable": s.MaxUnavailable} {
		if share != nil && c.share(share, p.Child(name)) {
			c.notAll(share, p.Child(name))
		}
	}
	if s.Selector == nil {
		c.warn(p.Child("selector"), "is missing: the budget is of no pods; {} is of all in its namespace")
	} else {
		c.labelSelector(s.Selector, p.Child("selector"))
	}
	if policy := s.UnhealthyPodEvictionPolicy; policy != nil {
		oneOf(c, p.Child("unhealthyPodEvictionPolicy"), *policy, policyv1.IfHealthyBudget, policyv1.AlwaysAllow)
	}
}
