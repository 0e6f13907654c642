package manifest

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) replicaSet(o *appsv1.ReplicaSet, p *field.Path) {
	notNegative(c, p.Child("replicas"), o.Spec.Replicas)
	notNegative(c, p.Child("minReadySeconds"), &o.Spec.MinReadySeconds)
	c.template(&o.Spec.Template, p.Child("template"))
	c.selector(o.Spec.Selector, &o.Spec.Template, p)
}

func (c *checker) deployment(o *appsv1.Deployment, p *field.Path) {
	s := &o.Spec
	notNegative(c, p.Child("replicas"), s.Replicas)
	notNegative(c, p.Child("minReadySeconds"), &s.MinReadySeconds)
	notNegative(c, p.Child("revisionHistoryLimit"), s.RevisionHistoryLimit)
	notNegative(c, p.Child("progressDeadlineSeconds"), s.ProgressDeadlineSeconds)
	if s.ProgressDeadlineSeconds != nil && *s.ProgressDeadlineSeconds >= 0 && *s.ProgressDeadlineSeconds <= s.MinReadySeconds {
		c.bad(p.Child("progressDeadlineSeconds"), "must be greater than minReadySeconds (%d)", s.MinReadySeconds)
	}
	c.strategy(&s.Strategy, p.Child("strategy"))
	c.template(&s.Template, p.Child("template"))
	c.selector(s.Selector, &s.Template, p)
}

// template checks the pod template of a workload whose pods always run.
func (c *checker) template(t *corev1.PodTemplateSpec, p *field.Path) {
	c.labels(&t.ObjectMeta, p.Child("metadata"))
	if t.Name != "" || t.GenerateName != "" {
		c.warn(p.Child("metadata", "name"), "has no effect: pods are named after their ReplicaSet")
	}
	if t.Namespace != "" {
		c.warn(p.Child("metadata", "namespace"), "has no effect: pods live in the namespace of their owner")
	}
	spec := p.Child("spec")
	c.podSpec(&t.Spec, spec)
	if policy := t.Spec.RestartPolicy; policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure {
		c.bad(spec.Child("restartPolicy"), "%q is not allowed here: must be Always", policy)
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		c.bad(spec.Child("activeDeadlineSeconds"), "is not allowed here: the pods of this kind run for ever")
	}
}

// selector checks that a workload selects the pods that it makes.
func (c *checker) selector(s *metav1.LabelSelector, t *corev1.PodTemplateSpec, p *field.Path) {
	at := p.Child("selector")
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		c.bad(at, "is required: repeat labels of the template in matchLabels")
		return
	}
	errs := metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, at)
	for _, err := range errs {
		c.problems = append(c.problems, problem{path: err.Field, kind: Error, text: err.ErrorBody()})
	}
	if len(errs) > 0 {
		return
	}
	if selects, err := metav1.LabelSelectorAsSelector(s); err != nil {
		c.bad(at, "cannot be used: %s", err)
	} else if !selects.Matches(labels.Set(t.Labels)) {
		c.bad(p.Child("template", "metadata", "labels"), "must match spec.selector, which they do not")
	}
}

func (c *checker) strategy(s *appsv1.DeploymentStrategy, p *field.Path) {
	rolling := p.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			c.bad(rolling, "is not allowed with the type Recreate: remove it, or set type: RollingUpdate")
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		unavailable, surge := s.RollingUpdate.MaxUnavailable, s.RollingUpdate.MaxSurge
		one := c.share(unavailable, rolling.Child("maxUnavailable"))
		two := c.share(surge, rolling.Child("maxSurge"))
		if !one || !two {
			return
		}
		if unavailable.Type == intstr.String && percent(unavailable) > 100 {
			c.bad(rolling.Child("maxUnavailable"), "must not be more than 100%%")
		}
		if percent(unavailable) == 0 && percent(surge) == 0 {
			c.bad(rolling.Child("maxUnavailable"), "must not be 0 when maxSurge is 0: nothing could ever be replaced")
		}
	default:
		oneOf(c, p.Child("type"), s.Type, appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType)
	}
}

// share checks a number of pods or a percentage of them.
func (c *checker) share(v *intstr.IntOrString, p *field.Path) bool {
	if v.Type == intstr.String && len(validation.IsValidPercent(v.StrVal)) > 0 {
		c.bad(p, "%q is not allowed: must be a whole number, or a percentage such as \"25%%\"", v.StrVal)
		return false
	}
	if v.Type == intstr.String && len(v.StrVal) > 9 {
		c.bad(p, "is too large")
		return false
	}
	if v.Type == intstr.Int && v.IntVal < 0 {
		c.bad(p, "must not be negative")
		return false
	}
	return true
}

// percent is the number in front of a percent sign, or the number of pods.
func percent(v *intstr.IntOrString) int {
	if v.Type == intstr.Int {
		return int(v.IntVal)
	}
	n := 0
	for _, digit := range v.StrVal[:len(v.StrVal)-1] {
		n = n*10 + int(digit-'0')
	}
	return n
}
