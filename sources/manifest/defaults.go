package manifest

import (
	"maps"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

// defaultObject fills in what Kubernetes would, in place.
func defaultObject(o runtime.Object) {
	switch o := o.(type) {
	case *corev1.Namespace:
		defaultNamespace(o)
	case *corev1.Secret:
		defaultSecret(o)
	case *storagev1.StorageClass:
		fill(&o.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		fill(&o.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	case *schedulingv1.PriorityClass:
		fill(&o.PreemptionPolicy, corev1.PreemptLowerPriority)
	case *corev1.PersistentVolumeClaim:
		defaultClaim(&o.Spec)
	case *corev1.ResourceQuota:
		roundUp(o.Spec.Hard)
	case *corev1.LimitRange:
		defaultLimits(o.Spec.Limits)
	case *corev1.Pod:
		DefaultPod(o)
	case *corev1.ReplicationController:
		defaultController(o)
	case *appsv1.ReplicaSet:
		fill(&o.Spec.Replicas, 1)
		DefaultTemplate(&o.Spec.Template)
	case *appsv1.Deployment:
		defaultDeployment(o)
	case *appsv1.StatefulSet:
		defaultStatefulSet(&o.Spec)
	case *appsv1.DaemonSet:
		defaultDaemonSet(&o.Spec)
	case *batchv1.Job:
		defaultJob(&o.Spec)
		if len(o.Labels) == 0 {
			o.Labels = maps.Clone(o.Spec.Template.Labels)
		}
	case *batchv1.CronJob:
		defaultCronJob(&o.Spec)
	case *autoscalingv2.HorizontalPodAutoscaler:
		defaultAutoscaler(&o.Spec)
	case *corev1.Service:
		defaultService(&o.Spec)
	case *corev1.Endpoints: //nolint:staticcheck // deprecated, and still written
		defaultEndpoints(o)
	case *discoveryv1.EndpointSlice:
		defaultEndpointSlice(o)
	case *networkingv1.NetworkPolicy:
		defaultNetworkPolicy(&o.Spec)
	}
}

// fill sets a field that was left out.
func fill[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// fillZero sets a field that was left out or is zero.
func fillZero[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func defaultNamespace(o *corev1.Namespace) {
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	o.Labels[corev1.LabelMetadataName] = o.Name
}

// defaultSecret merges what was written in plain into the data, as an API server does.
func defaultSecret(o *corev1.Secret) {
	fillZero(&o.Type, corev1.SecretTypeOpaque)
	if len(o.StringData) > 0 && o.Data == nil {
		o.Data = make(map[string][]byte, len(o.StringData))
	}
	for key, value := range o.StringData {
		o.Data[key] = []byte(value)
	}
	o.StringData = nil
}

func defaultDeployment(o *appsv1.Deployment) {
	fill(&o.Spec.Replicas, 1)
	fill(&o.Spec.RevisionHistoryLimit, 10)
	fill(&o.Spec.ProgressDeadlineSeconds, 600)
	fillZero(&o.Spec.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if o.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		fill(&o.Spec.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		fill(&o.Spec.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		fill(&o.Spec.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	DefaultTemplate(&o.Spec.Template)
}

func defaultClaim(s *corev1.PersistentVolumeClaimSpec) {
	fill(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(s.Resources.Limits)
	roundUp(s.Resources.Requests)
}

// DefaultTemplate fills in what Kubernetes would in a pod template, in place. Doing it again changes
// nothing.
func DefaultTemplate(t *corev1.PodTemplateSpec) { defaultPodSpec(&t.Spec) }

// DefaultPod fills in what Kubernetes would in a pod, in place: what DefaultTemplate does, and requests
// that were left out are those of the limits. Doing it again changes nothing.
func DefaultPod(p *corev1.Pod) {
	defaultPodSpec(&p.Spec)
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			defaultRequests(&list[i].Resources)
		}
	}
}

func defaultRequests(r *corev1.ResourceRequirements) {
	if len(r.Limits) > 0 && r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; !ok {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

func defaultPodSpec(s *corev1.PodSpec) {
	fillZero(&s.RestartPolicy, corev1.RestartPolicyAlways)
	fillZero(&s.DNSPolicy, corev1.DNSClusterFirst)
	fillZero(&s.SchedulerName, corev1.DefaultSchedulerName)
	fill(&s.TerminationGracePeriodSeconds, 30)
	fill(&s.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	fill(&s.SecurityContext, corev1.PodSecurityContext{})
	fillZero(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i])
	}
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i], s.HostNetwork)
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i], s.HostNetwork)
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(&c, s.HostNetwork)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
}

func defaultContainer(c *corev1.Container, hostNetwork bool) {
	fillZero(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	fillZero(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	fillZero(&c.ImagePullPolicy, pullPolicy(c.Image))
	for i := range c.Ports {
		p := &c.Ports[i]
		fillZero(&p.Protocol, corev1.ProtocolTCP)
		if hostNetwork {
			fillZero(&p.HostPort, p.ContainerPort)
		}
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && from.FieldRef != nil {
			fillZero(&from.FieldRef.APIVersion, "v1")
		}
	}
	roundUp(c.Resources.Limits)
	roundUp(c.Resources.Requests)
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		defaultProbe(p)
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
}

// roundUp makes quantities multiples of a thousandth, upwards: nothing smaller can be asked for.
func roundUp(list corev1.ResourceList) {
	for name, q := range list {
		rounded := q.DeepCopy()
		rounded.RoundUp(-3)
		list[name] = rounded
	}
}

// pullPolicy is Always for images that may change under their name.
func pullPolicy(image string) corev1.PullPolicy {
	if strings.Contains(image, "@") {
		return corev1.PullIfNotPresent
	}
	name := image[strings.LastIndexByte(image, '/')+1:]
	if _, tag, ok := strings.Cut(name, ":"); ok && tag != "latest" {
		return corev1.PullIfNotPresent
	}
	return corev1.PullAlways
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	fillZero(&p.TimeoutSeconds, 1)
	fillZero(&p.PeriodSeconds, 10)
	fillZero(&p.SuccessThreshold, 1)
	fillZero(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		fill(&p.GRPC.Service, "")
	}
}

func defaultHTTPGet(g *corev1.HTTPGetAction) {
	if g == nil {
		return
	}
	fillZero(&g.Path, "/")
	fillZero(&g.Scheme, corev1.URISchemeHTTP)
}

// filesMode is what files of a volume get that says nothing about it.
const filesMode int32 = 0o644

func defaultVolume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case v.HostPath != nil:
		fill(&v.HostPath.Type, corev1.HostPathUnset)
	case v.ConfigMap != nil:
		fill(&v.ConfigMap.DefaultMode, filesMode)
	case v.Secret != nil:
		fill(&v.Secret.DefaultMode, filesMode)
	case v.DownwardAPI != nil:
		fill(&v.DownwardAPI.DefaultMode, filesMode)
		defaultDownward(v.DownwardAPI.Items)
	case v.Projected != nil:
		fill(&v.Projected.DefaultMode, filesMode)
		for i := range v.Projected.Sources {
			if s := &v.Projected.Sources[i]; s.DownwardAPI != nil {
				defaultDownward(s.DownwardAPI.Items)
			} else if s.ServiceAccountToken != nil {
				fill(&s.ServiceAccountToken.ExpirationSeconds, 3600)
			}
		}
	}
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if ref := items[i].FieldRef; ref != nil {
			fillZero(&ref.APIVersion, "v1")
		}
	}
}

// asWritten is the pod template of an object before its defaults, as a copy; nil for kinds without pods.
func asWritten(o runtime.Object) *corev1.PodTemplateSpec {
	if pod, ok := o.(*corev1.Pod); ok {
		t := &corev1.PodTemplateSpec{Spec: *pod.Spec.DeepCopy()}
		t.Labels, t.Annotations = maps.Clone(pod.Labels), maps.Clone(pod.Annotations)
		return t
	}
	return template(o).DeepCopy()
}

// template is where an object has its pod template; nil for kinds without one.
func template(o runtime.Object) *corev1.PodTemplateSpec {
	switch o := o.(type) {
	case *corev1.ReplicationController:
		return o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	}
	return nil
}

// templatePath is the path of the pod template in objects of a kind that has pods; nil for a Pod, which is its own.
func templatePath(kind string) *field.Path {
	switch kind {
	case fleet.KindPod:
		return nil
	case fleet.KindCronJob:
		return field.NewPath("spec", "jobTemplate", "spec", "template")
	}
	return field.NewPath("spec", "template")
}
