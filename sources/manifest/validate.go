package manifest

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

// checker collects what an API server would refuse. Texts may quote names, never values that could be
// secret: those of Secrets, ConfigMaps and the environment.
type checker struct{ problems []problem }

func (c *checker) bad(p *field.Path, format string, args ...any) {
	c.problems = append(c.problems, problem{path: p.String(), kind: Error, text: fmt.Sprintf(format, args...)})
}

func (c *checker) warn(p *field.Path, text string) {
	c.problems = append(c.problems, problem{path: p.String(), kind: Warning, text: text})
}

// examples are what apimachinery's messages end in: longer than the message, and no easier to read.
var examples = regexp.MustCompile(` \(e\.g\. .*?regex used for validation is '[^']*'\)`)

// all reports each message about a value that may be quoted.
func (c *checker) all(p *field.Path, value string, messages []string) {
	for _, m := range messages {
		c.bad(p, "%q is not allowed: %s", value, examples.ReplaceAllString(m, ""))
	}
}

// oneOf reports a value that is none of those allowed.
func oneOf[T ~string](c *checker, p *field.Path, value T, allowed ...T) {
	if slices.Contains(allowed, value) {
		return
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	c.bad(p, "%q is not allowed: must be one of %s", value, strings.Join(names, ", "))
}

// notNegative reports a number below zero.
func notNegative[T int32 | int64](c *checker, p *field.Path, value *T) {
	if value != nil && *value < 0 {
		c.bad(p, "must not be negative")
	}
}

// either reports when not exactly one of two fields is set.
func (c *checker) either(p *field.Path, one string, hasOne bool, other string, hasOther bool) {
	switch {
	case hasOne && hasOther:
		c.bad(p, "must not have both %s and %s: remove one", one, other)
	case !hasOne && !hasOther:
		c.bad(p, "needs %s or %s", one, other)
	}
}

// validate returns everything that is wrong with an object, and what of it has no effect.
func validate(written runtime.Object, id fleet.ObjectID) []problem {
	c := &checker{}
	spec := field.NewPath("spec")
	o := written.DeepCopyObject()
	if pod, ok := o.(*corev1.Pod); ok {
		defaultPodSpec(&pod.Spec) // without the requests, which would say again what is said of the limits
	} else {
		defaultObject(o) // an API server validates what it has defaulted
	}
	if m, err := meta.Accessor(o); err == nil {
		c.annotations(m.GetAnnotations(), id, field.NewPath("metadata", "annotations"))
	}
	if t := template(written); t != nil {
		c.problems = append(c.problems, podCheck(&t.Spec, templatePath(id.Kind).Child("spec").String())...)
	}
	switch o := o.(type) {
	case *corev1.Namespace:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSLabel)
		if o.Namespace != "" {
			c.warn(field.NewPath("metadata", "namespace"), "has no effect: a Namespace is in no namespace")
		}
		c.podSecurityLabels(o.Labels)
		c.status(&o.Status)
	case *corev1.Node:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.node(&o.Spec, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, fieldsCheck(nodeFields, &written.(*corev1.Node).Spec, "spec")...)
	case *schedulingv1.PriorityClass:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.priorityClass(o)
	case *corev1.ConfigMap:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.configMap(o)
	case *corev1.Secret:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.secret(o, written.(*corev1.Secret))
	case *corev1.ServiceAccount:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.pullSecrets(o.ImagePullSecrets, field.NewPath("imagePullSecrets"))
		c.problems = append(c.problems, accountCheck(written.(*corev1.ServiceAccount))...)
	case *storagev1.StorageClass:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.class(o)
		c.problems = append(c.problems, classCheck(written.(*storagev1.StorageClass))...)
	case *corev1.PersistentVolumeClaim:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.claim(&o.Spec, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, claimCheck(&written.(*corev1.PersistentVolumeClaim).Spec, "spec")...)
	case *corev1.Pod:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.podSpec(&o.Spec, spec)
		c.podAnnotations(o.Annotations, field.NewPath("metadata", "annotations"))
		c.status(&o.Status)
		c.problems = append(c.problems, podCheck(&written.(*corev1.Pod).Spec, "spec")...)
	case *appsv1.ReplicaSet:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.replicaSet(o, spec)
		c.status(&o.Status)
	case *corev1.ReplicationController:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.controller(o, spec)
		c.status(&o.Status)
	case *appsv1.Deployment:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.deployment(o, spec)
		c.status(&o.Status)
	case *appsv1.StatefulSet:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSLabel)
		c.statefulSet(o, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, statefulSetCheck(&written.(*appsv1.StatefulSet).Spec)...)
	case *appsv1.DaemonSet:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.daemonSet(&o.Spec, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, fieldsCheck(daemonSetFields, &written.(*appsv1.DaemonSet).Spec, "spec")...)
	case *batchv1.Job:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.job(&o.Spec, spec)
		c.jobName(o)
		c.status(&o.Status)
		c.problems = append(c.problems, fieldsCheck(jobFields, &written.(*batchv1.Job).Spec, "spec")...)
	case *batchv1.CronJob:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.cronJob(o, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, cronJobCheck(&written.(*batchv1.CronJob).Spec)...)
	case *autoscalingv2.HorizontalPodAutoscaler:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.autoscaler(&o.Spec, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, fieldsCheck(autoscalerFields, &written.(*autoscalingv2.HorizontalPodAutoscaler).Spec, "spec")...)
	case *policyv1.PodDisruptionBudget:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.budget(&o.Spec, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, fieldsCheck(budgetFields, &written.(*policyv1.PodDisruptionBudget).Spec, "spec")...)
	case *corev1.ResourceQuota:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.quota(&o.Spec, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, fieldsCheck(quotaFields, &written.(*corev1.ResourceQuota).Spec, "spec")...)
	case *corev1.LimitRange:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.limitRange(&o.Spec, spec)
		c.problems = append(c.problems, limitRangeCheck(&written.(*corev1.LimitRange).Spec)...)
	case *corev1.Service:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNS1035Label)
		c.service(o, spec)
		c.status(&o.Status)
		c.problems = append(c.problems, serviceCheck(written.(*corev1.Service))...)
	case *corev1.Endpoints: //nolint:staticcheck // deprecated, and still written
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.endpoints(o)
		c.problems = append(c.problems, fieldsCheck(endpointsFields, written.(*corev1.Endpoints), "")...) //nolint:staticcheck // the same
	case *discoveryv1.EndpointSlice:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.endpointSlice(o)
		c.problems = append(c.problems, fieldsCheck(endpointSliceFields, written.(*discoveryv1.EndpointSlice), "")...)
	case *networkingv1.NetworkPolicy:
		c.meta(&o.ObjectMeta, apivalidation.NameIsDNSSubdomain)
		c.networkPolicy(&o.Spec, spec)
		c.problems = append(c.problems, fieldsCheck(networkPolicyFields, &written.(*networkingv1.NetworkPolicy).Spec, "spec")...)
	}
	return c.problems
}

const noStatus = "has no effect: a status is observed, not wished for"

// status notes a status in a manifest.
func (c *checker) status(status any) {
	if !reflect.ValueOf(status).Elem().IsZero() {
		c.warn(field.NewPath("status"), noStatus)
	}
}

// meta checks an object's metadata. Fields that only a server sets are passed over: people keep what
// kubectl get -o yaml printed.
func (c *checker) meta(m *metav1.ObjectMeta, name apivalidation.ValidateNameFunc) {
	p := field.NewPath("metadata")
	switch {
	case m.Name == "" && m.GenerateName != "":
		c.bad(p.Child("generateName"), "cannot be used: what is in a repository needs a name that stays, so write name")
	case m.Name == "":
		c.bad(p.Child("name"), "is required")
	default:
		c.all(p.Child("name"), m.Name, name(m.Name, false))
	}
	if m.Namespace != "" {
		c.all(p.Child("namespace"), m.Namespace, apivalidation.NameIsDNSLabel(m.Namespace, false))
	}
	c.labels(m, p)
	if len(m.OwnerReferences) > 0 {
		c.warn(p.Child("ownerReferences"), "has no effect: what is in a repository has no owner")
	}
	if len(m.Finalizers) > 0 {
		c.warn(p.Child("finalizers"), "has no effect: nothing waits for finalizers")
	}
}

// labels checks labels and annotations.
func (c *checker) labels(m *metav1.ObjectMeta, p *field.Path) {
	for _, key := range slices.Sorted(maps.Keys(m.Labels)) {
		at := p.Child("labels").Key(key)
		c.all(at, key, validation.IsQualifiedName(key))
		c.all(at, m.Labels[key], validation.IsValidLabelValue(m.Labels[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(m.Annotations)) {
		c.all(p.Child("annotations").Key(key), key, validation.IsQualifiedName(strings.ToLower(key)))
	}
	if apivalidation.ValidateAnnotationsSize(m.Annotations) != nil {
		c.bad(p.Child("annotations"), "must not be larger than 256 KiB in all")
	}
}
