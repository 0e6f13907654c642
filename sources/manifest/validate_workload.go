package manifest

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

func (c *checker) replicaSet(o *appsv1.ReplicaSet, p *field.Path) {
	notNegative(c, p.Child("replicas"), o.Spec.Replicas)
	notNegative(c, p.Child("minReadySeconds"), &o.Spec.MinReadySeconds)
	c.template(&o.Spec.Template, p.Child("template"), fleet.KindReplicaSet)
	c.selector(o.Spec.Selector, &o.Spec.Template, p)
}

func (c *checker) controller(o *corev1.ReplicationController, p *field.Path) {
	s := &o.Spec
	notNegative(c, p.Child("replicas"), s.Replicas)
	notNegative(c, p.Child("minReadySeconds"), &s.MinReadySeconds)
	if s.Template == nil {
		c.bad(p.Child("template"), "is required")
		return
	}
	c.template(s.Template, p.Child("template"), kindController)
	switch {
	case len(s.Selector) == 0:
		c.bad(p.Child("selector"), "is required: repeat labels of the template, or give the template labels")
	case !labels.SelectorFromSet(s.Selector).Matches(labels.Set(s.Template.Labels)):
		c.bad(p.Child("template", "metadata", "labels"), "must match spec.selector, which they do not")
	}
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
	if _, ok := o.Annotations[fleet.AnnotationSteps]; ok && s.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		c.bad(field.NewPath("metadata", "annotations").Key(fleet.AnnotationSteps), "needs the strategy RollingUpdate: with Recreate all pods are new at once")
	}
	c.template(&s.Template, p.Child("template"), fleet.KindReplicaSet)
	c.selector(s.Selector, &s.Template, p)
}

// templateMeta checks the metadata of a pod template. Owner is the kind that pods are named after.
func (c *checker) templateMeta(t *corev1.PodTemplateSpec, p *field.Path, owner string) {
	p = p.Child("metadata")
	c.labels(&t.ObjectMeta, p)
	c.podAnnotations(t.Annotations, p.Child("annotations"))
	c.noAnnotations(t.Annotations, p.Child("annotations"), "of a pod template")
	if t.Name != "" || t.GenerateName != "" {
		c.warn(p.Child("name"), fmt.Sprintf("has no effect: pods are named after their %s", owner))
	}
	if t.Namespace != "" {
		c.warn(p.Child("namespace"), "has no effect: pods live in the namespace of their owner")
	}
}

// template checks the pod template of a workload whose pods always run. Claims are volumes beside those of the template.
func (c *checker) template(t *corev1.PodTemplateSpec, p *field.Path, owner string, claims ...string) {
	c.templateMeta(t, p, owner)
	spec := p.Child("spec")
	c.podSpec(&t.Spec, spec, claims...)
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
	if !c.labelSelector(s, at) {
		return
	}
	if selects, err := metav1.LabelSelectorAsSelector(s); err != nil {
		c.bad(at, "cannot be used: %s", err)
	} else if !selects.Matches(labels.Set(t.Labels)) {
		c.bad(p.Child("template", "metadata", "labels"), "must match spec.selector, which they do not")
	}
}

// labelSelector checks the form of a selector, and reports whether it can be used.
func (c *checker) labelSelector(s *metav1.LabelSelector, p *field.Path) bool {
	errs := metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, p)
	for _, err := range errs {
		c.problems = append(c.problems, problem{path: err.Field, kind: Error, text: err.ErrorBody()})
	}
	return len(errs) == 0
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
		c.notAll(unavailable, rolling.Child("maxUnavailable"))
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

// notAll reports a percentage over one hundred.
func (c *checker) notAll(v *intstr.IntOrString, p *field.Path) {
	if v.Type == intstr.String && percent(v) > 100 {
		c.bad(p, "must not be more than 100%%")
	}
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
