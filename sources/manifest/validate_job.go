package manifest

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxIndexes       = 100_000 // of an Indexed Job, and of its pods at a time
	maxPolicyRules   = 20
	maxExitCodes     = 255
	maxConditions    = 20
	maxCronJobName   = validation.DNS1123LabelMaxLength - len("-1234567890") // which its Jobs have behind it
	maxIndexesLength = 64 << 10
)

// job checks the spec of a Job with its defaults filled in, on its own or in a CronJob.
func (c *checker) job(s *batchv1.JobSpec, p *field.Path) {
	for name, value := range map[string]*int32{"parallelism": s.Parallelism, "completions": s.Completions, "backoffLimit": s.BackoffLimit,
		"ttlSecondsAfterFinished": s.TTLSecondsAfterFinished, "backoffLimitPerIndex": s.BackoffLimitPerIndex, "maxFailedIndexes": s.MaxFailedIndexes} {
		notNegative(c, p.Child(name), value)
	}
	notNegative(c, p.Child("activeDeadlineSeconds"), s.ActiveDeadlineSeconds)
	if manual := s.ManualSelector; s.Selector != nil && (manual == nil || !*manual) {
		c.bad(p.Child("selector"), "is not allowed: a Job tells its pods by a selector of its own making, so leave it out")
	}
	oneOf(c, p.Child("completionMode"), *s.CompletionMode, batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)
	if *s.CompletionMode == batchv1.IndexedCompletion {
		c.indexed(s, p)
	} else {
		for name, set := range map[string]bool{"backoffLimitPerIndex": s.BackoffLimitPerIndex != nil, "maxFailedIndexes": s.MaxFailedIndexes != nil, "successPolicy": s.SuccessPolicy != nil} {
			if set {
				c.bad(p.Child(name), "is only allowed with completionMode: Indexed")
			}
		}
	}
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		c.bad(p.Child("backoffLimitPerIndex"), "is required with maxFailedIndexes")
	}
	c.replacement(s, p.Child("podReplacementPolicy"))
	c.jobTemplate(s, p.Child("template"))
	if s.PodFailurePolicy != nil {
		c.podFailurePolicy(s, p.Child("podFailurePolicy", "rules"))
	}
}

func (c *checker) indexed(s *batchv1.JobSpec, p *field.Path) {
	switch {
	case s.Completions == nil:
		c.bad(p.Child("completions"), "is required with completionMode: Indexed")
	case *s.Completions > maxIndexes:
		c.problems = append(c.problems, problem{path: p.Child("completions").String(), kind: NotRun,
			text: fmt.Sprintf("cannot be done: an Indexed Job has at most %d indexes here", maxIndexes)})
	case s.MaxFailedIndexes != nil && *s.MaxFailedIndexes > *s.Completions:
		c.bad(p.Child("maxFailedIndexes"), "must not be more than completions (%d)", *s.Completions)
	}
	if *s.Parallelism > maxIndexes {
		c.bad(p.Child("parallelism"), "must not be more than %d with completionMode: Indexed", maxIndexes)
	}
	if s.SuccessPolicy != nil {
		c.successPolicy(s, p.Child("successPolicy", "rules"))
	}
}

func (c *checker) replacement(s *batchv1.JobSpec, p *field.Path) {
	allowed := []batchv1.PodReplacementPolicy{batchv1.Failed}
	if s.PodFailurePolicy == nil {
		allowed = append(allowed, batchv1.TerminatingOrFailed)
	} else if *s.PodReplacementPolicy == batchv1.TerminatingOrFailed {
		c.bad(p, "must be Failed with a podFailurePolicy")
		return
	}
	oneOf(c, p, *s.PodReplacementPolicy, allowed...)
}

// jobTemplate checks the template of pods that end.
func (c *checker) jobTemplate(s *batchv1.JobSpec, p *field.Path) {
	c.templateMeta(&s.Template, p, "Job")
	c.podSpec(&s.Template.Spec, p.Child("spec"))
	at := p.Child("spec", "restartPolicy")
	switch policy := s.Template.Spec.RestartPolicy; {
	case policy == corev1.RestartPolicyAlways: // which it is, too, where nothing is written
		c.bad(at, "is required and must be OnFailure or Never: the pods of a Job end")
	case policy == corev1.RestartPolicyOnFailure && s.PodFailurePolicy != nil:
		c.bad(at, "must be Never with a podFailurePolicy")
	}
}

func (c *checker) podFailurePolicy(s *batchv1.JobSpec, p *field.Path) {
	if len(s.PodFailurePolicy.Rules) > maxPolicyRules {
		c.bad(p, "must not be more than %d", maxPolicyRules)
	}
	for i := range s.PodFailurePolicy.Rules {
		rule, at := &s.PodFailurePolicy.Rules[i], p.Index(i)
		switch {
		case rule.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil:
			c.bad(at.Child("action"), "FailIndex needs backoffLimitPerIndex")
		default:
			oneOf(c, at.Child("action"), rule.Action, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionFailIndex,
				batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount)
		}
		c.either(at, "onExitCodes", rule.OnExitCodes != nil, "onPodConditions", len(rule.OnPodConditions) > 0)
		if rule.OnExitCodes != nil {
			c.onExitCodes(rule.OnExitCodes, at.Child("onExitCodes"), &s.Template.Spec)
		}
		if len(rule.OnPodConditions) > maxConditions {
			c.bad(at.Child("onPodConditions"), "must not be more than %d", maxConditions)
		}
		for j, condition := range rule.OnPodConditions {
			at := at.Child("onPodConditions").Index(j)
			c.all(at.Child("type"), string(condition.Type), validation.IsQualifiedName(string(condition.Type)))
			oneOf(c, at.Child("status"), condition.Status, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)
		}
	}
}

func (c *checker) onExitCodes(o *batchv1.PodFailurePolicyOnExitCodesRequirement, p *field.Path, pod *corev1.PodSpec) {
	oneOf(c, p.Child("operator"), o.Operator, batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	if name := o.ContainerName; name != nil && !slices.ContainsFunc(slices.Concat(pod.InitContainers, pod.Containers), func(o corev1.Container) bool {
		return o.Name == *name
	}) {
		c.bad(p.Child("containerName"), "there is no container %q in this pod", *name)
	}
	values := p.Child("values")
	if len(o.Values) == 0 {
		c.bad(values, "is required: name at least one exit code")
	}
	if len(o.Values) > maxExitCodes {
		c.bad(values, "must not be more than %d", maxExitCodes)
	}
	for i, code := range o.Values {
		if code == 0 && o.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			c.bad(values.Index(i), "must not be 0: a container that ends with 0 did not fail")
		}
		if i > 0 && code == o.Values[i-1] {
			c.bad(values.Index(i), "%d stands twice: remove one", code)
		}
	}
	if !slices.IsSorted(o.Values) {
		c.bad(values, "must be in ascending order")
	}
}

// successPolicy checks when an Indexed Job has done enough.
func (c *checker) successPolicy(s *batchv1.JobSpec, p *field.Path) {
	rules := s.SuccessPolicy.Rules
	if len(rules) == 0 {
		c.bad(p, "is required: give at least one rule")
	}
	if len(rules) > maxPolicyRules {
		c.bad(p, "must not be more than %d", maxPolicyRules)
	}
	for i, rule := range rules {
		at, most := p.Index(i), maxIndexes
		if s.Completions != nil {
			most = int(*s.Completions)
		}
		if rule.SucceededCount == nil && rule.SucceededIndexes == nil {
			c.bad(at, "needs succeededIndexes, succeededCount, or both")
		}
		if rule.SucceededIndexes != nil {
			n, err := countIndexes(*rule.SucceededIndexes, most)
			if err != nil {
				c.bad(at.Child("succeededIndexes"), "%s", err)
				continue
			}
			most = n
		}
		if n := rule.SucceededCount; n != nil && (*n < 1 || int(*n) > most) {
			c.bad(at.Child("succeededCount"), "must be between 1 and %d, the number of indexes", most)
		}
	}
}

// jobName checks that pods can be labelled with the name of their Job and, if it is Indexed, be named after it: their
// number stands behind its name.
func (c *checker) jobName(o *batchv1.Job) {
	if len(o.Name) > validation.LabelValueMaxLength {
		c.bad(field.NewPath("metadata", "name"), "must not be longer than %d characters: pods are labelled with it", validation.LabelValueMaxLength)
		return
	}
	if n := o.Spec.Completions; *o.Spec.CompletionMode == batchv1.IndexedCompletion && n != nil && *n > 0 {
		last := fmt.Sprintf("%s-%d", o.Name, *n-1)
		if o.Name != "" && len(validation.IsDNS1123Label(last)) > 0 {
			c.bad(field.NewPath("metadata", "name"), "%q is not allowed with completionMode: Indexed: pods are named such as %q, which must be a name of letters, digits and dashes of at most %d characters",
				o.Name, last, validation.DNS1123LabelMaxLength)
		}
	}
}
