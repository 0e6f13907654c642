package manifest

import (
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

const (
	maxStabilization = 3600
	maxScalingPeriod = 1800
)

func (c *checker) autoscaler(s *autoscalingv2.HorizontalPodAutoscalerSpec, p *field.Path) {
	c.scaleTarget(&s.ScaleTargetRef, p.Child("scaleTargetRef"))
	if *s.MinReplicas < 1 {
		c.bad(p.Child("minReplicas"), "must be at least 1")
	}
	switch at := p.Child("maxReplicas"); {
	case s.MaxReplicas < 1:
		c.bad(at, "is required and must be at least 1")
	case s.MaxReplicas < *s.MinReplicas:
		c.bad(at, "must not be less than minReplicas (%d)", *s.MinReplicas)
	}
	for i := range s.Metrics {
		c.metric(&s.Metrics[i], p.Child("metrics").Index(i))
	}
	if s.Behavior != nil {
		c.scaling(s.Behavior.ScaleUp, p.Child("behavior", "scaleUp"))
		c.scaling(s.Behavior.ScaleDown, p.Child("behavior", "scaleDown"))
	}
}

// scaleTarget checks what an autoscaler sizes, under the name that Skerry has for it.
func (c *checker) scaleTarget(ref *autoscalingv2.CrossVersionObjectReference, p *field.Path) {
	if ref.Name == "" {
		c.bad(p.Child("name"), "is required")
	} else {
		c.all(p.Child("name"), ref.Name, pathvalidation.IsValidPathSegmentName(ref.Name))
	}
	switch ref.Kind {
	case "":
		c.bad(p.Child("kind"), "is required")
		return
	case fleet.KindDeployment, fleet.KindStatefulSet, fleet.KindReplicaSet:
	default:
		c.cannot(p.Child("kind"), "only a Deployment, StatefulSet or ReplicaSet has replicas to be sized")
		return
	}
	if group, _, _ := strings.Cut(ref.APIVersion, "/"); ref.APIVersion != "" && group != "apps" {
		c.bad(p.Child("apiVersion"), "%s is not in %s: write apiVersion: apps/v1", ref.Kind, ref.APIVersion)
	}
}

// cannot reports what is right and cannot be done.
func (c *checker) cannot(p *field.Path, why string) {
	c.problems = append(c.problems, problem{path: p.String(), kind: NotRun, text: "cannot be done: " + why})
}

// metric checks one metric. What is set must be what its type says; types that cannot be done are told by the table of
// fields.
func (c *checker) metric(m *autoscalingv2.MetricSpec, p *field.Path) {
	sources := map[autoscalingv2.MetricSourceType]struct {
		name string
		set  bool
	}{
		autoscalingv2.ResourceMetricSourceType:          {"resource", m.Resource != nil},
		autoscalingv2.ContainerResourceMetricSourceType: {"containerResource", m.ContainerResource != nil},
		autoscalingv2.PodsMetricSourceType:              {"pods", m.Pods != nil},
		autoscalingv2.ObjectMetricSourceType:            {"object", m.Object != nil},
		autoscalingv2.ExternalMetricSourceType:          {"external", m.External != nil},
	}
	if _, ok := sources[m.Type]; !ok {
		oneOf(c, p.Child("type"), m.Type, autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType,
			autoscalingv2.PodsMetricSourceType, autoscalingv2.ObjectMetricSourceType, autoscalingv2.ExternalMetricSourceType)
		return
	}
	for kind, source := range sources {
		switch {
		case kind == m.Type && !source.set:
			c.bad(p.Child(source.name), "is required for the type %s", m.Type)
		case kind != m.Type && source.set:
			c.bad(p.Child(source.name), "is not allowed for the type %s", m.Type)
		}
	}
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		c.measured(m.Resource.Name, &m.Resource.Target, p.Child("resource"))
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		at := p.Child("containerResource")
		c.measured(m.ContainerResource.Name, &m.ContainerResource.Target, at)
		if m.ContainerResource.Container == "" {
			c.bad(at.Child("container"), "is required")
		} else {
			c.all(at.Child("container"), m.ContainerResource.Container, validation.IsDNS1123Label(m.ContainerResource.Container))
		}
	}
}

// measured checks a metric of what pods use.
func (c *checker) measured(name corev1.ResourceName, t *autoscalingv2.MetricTarget, p *field.Path) {
	switch name {
	case "":
		c.bad(p.Child("name"), "is required: cpu or memory")
	case corev1.ResourceCPU, corev1.ResourceMemory:
	default:
		c.cannot(p.Child("name"), "only cpu and memory of pods are measured")
	}
	p = p.Child("target")
	oneOf(c, p.Child("type"), t.Type, autoscalingv2.UtilizationMetricType, autoscalingv2.AverageValueMetricType)
	if t.Value != nil {
		c.bad(p.Child("value"), "is not allowed for a resource: give averageUtilization or averageValue")
	}
	if t.AverageValue != nil && t.AverageValue.Sign() <= 0 {
		c.bad(p.Child("averageValue"), "must be greater than 0")
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		c.bad(p.Child("averageUtilization"), "must be at least 1")
	}
	switch {
	case t.AverageValue != nil && t.AverageUtilization != nil:
		c.bad(p.Child("averageValue"), "is not allowed together with averageUtilization")
	case t.AverageValue == nil && t.AverageUtilization == nil && t.Type == autoscalingv2.AverageValueMetricType:
		c.bad(p.Child("averageValue"), "is required for the type AverageValue")
	case t.AverageValue == nil && t.AverageUtilization == nil:
		c.bad(p.Child("averageUtilization"), "is required, or averageValue")
	case t.AverageValue != nil && t.Type == autoscalingv2.UtilizationMetricType:
		c.warn(p.Child("type"), "has no effect: averageValue is what counts")
	case t.AverageUtilization != nil && t.Type == autoscalingv2.AverageValueMetricType:
		c.warn(p.Child("type"), "has no effect: averageUtilization is what counts")
	}
}

func (c *checker) scaling(r *autoscalingv2.HPAScalingRules, p *field.Path) {
	if w := r.StabilizationWindowSeconds; w != nil && (*w < 0 || *w > maxStabilization) {
		c.bad(p.Child("stabilizationWindowSeconds"), "must be between 0 and %d", maxStabilization)
	}
	if r.Tolerance != nil && r.Tolerance.Sign() < 0 {
		c.bad(p.Child("tolerance"), "must not be negative")
	}
	oneOf(c, p.Child("selectPolicy"), *r.SelectPolicy, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)
	if len(r.Policies) == 0 {
		c.bad(p.Child("policies"), "must not be empty: leave it out for the usual ones, or write selectPolicy: Disabled")
	}
	for i, policy := range r.Policies {
		at := p.Child("policies").Index(i)
		oneOf(c, at.Child("type"), policy.Type, autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)
		if policy.Value < 1 {
			c.bad(at.Child("value"), "must be at least 1")
		}
		if policy.PeriodSeconds < 1 || policy.PeriodSeconds > maxScalingPeriod {
			c.bad(at.Child("periodSeconds"), "must be between 1 and %d", maxScalingPeriod)
		}
	}
}
