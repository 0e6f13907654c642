package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
)

// PodOf is a slot's pod as Kubernetes would hold it, made from its defaulted template, with which it may share memory. It is
// nil when the template is.
func PodOf(slot fleet.Slot, template *corev1.PodTemplateSpec) *corev1.Pod {
	if template == nil {
		return nil
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: slot.Pod.Name, Namespace: slot.Pod.Namespace, UID: types.UID(slot.UID),
		CreationTimestamp: metav1.Time{Time: slot.Created}, Labels: template.Labels, Annotations: template.Annotations,
	}, Spec: *budget.WithDefaults(&template.Spec, slot.Defaults)}
	p.Spec.NodeName = string(slot.Node)
	if slot.Stamp.Config != "" {
		annotate(&p.ObjectMeta, fleet.AnnotationConfig, string(slot.Stamp.Config))
	}
	if !slot.Stamp.Restarted.IsZero() {
		annotate(&p.ObjectMeta, fleet.AnnotationRestartedAt, slot.Stamp.Restarted.UTC().Format("2006-01-02T15:04:05Z"))
	}
	version := "apps/v1"
	switch slot.Owner.Kind {
	case fleet.KindPod:
		return p
	case fleet.KindStatefulSet:
		ofStatefulSet(p, slot)
	case fleet.KindJob:
		version = "batch/v1"
		ofJob(p, slot)
	case fleet.KindDaemonSet:
		label(p, "controller-revision-hash", slot.Label)
	default:
		label(p, fleet.LabelTemplateHash, slot.Label)
	}
	controller := true
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: version, Kind: slot.Owner.Kind, Name: slot.Owner.Name, Controller: &controller}}
	return p
}

// label adds labels, keys and values in turn, to a copy; those without a value are left out.
func label(p *corev1.Pod, pairs ...string) {
	p.Labels = with(p.Labels, pairs...)
}

// annotate does the same with annotations.
func annotate(m *metav1.ObjectMeta, pairs ...string) {
	m.Annotations = with(m.Annotations, pairs...)
}

func with(m map[string]string, pairs ...string) map[string]string {
	c := maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		if c == nil {
			c = map[string]string{}
		}
		c[pairs[i]] = pairs[i+1]
	}
	return c
}

// ofStatefulSet gives a pod its ordinal: a name that others know, and claims of its own in place of volumes of the same names
// (semantics 6).
func ofStatefulSet(p *corev1.Pod, slot fleet.Slot) {
	ordinal := ""
	if slot.Index != nil {
		ordinal = strconv.Itoa(int(*slot.Index))
	}
	label(p, "controller-revision-hash", slot.Owner.Name+"-"+slot.Label, "statefulset.kubernetes.io/pod-name", p.Name, "apps.kubernetes.io/pod-index", ordinal)
	p.Spec.Hostname = p.Name
	p.Spec.Subdomain = slot.Service
	p.Spec.Volumes = slices.DeleteFunc(slices.Clone(p.Spec.Volumes), func(v corev1.Volume) bool { return slices.Contains(slot.Claims, v.Name) })
	for _, name := range slot.Claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(name, slot.Pod)},
		}})
	}
}

// indexVariable is where the processes of an Indexed Job find their index.
const indexVariable = "JOB_COMPLETION_INDEX"

// ofJob labels a pod as its Job's, and tells its processes which index they are to complete (semantics 7).
func ofJob(p *corev1.Pod, slot fleet.Slot) {
	label(p, batchv1.ControllerUidLabel, slot.Label, "controller-uid", slot.Label, batchv1.JobNameLabel, slot.Owner.Name, "job-name", slot.Owner.Name)
	if slot.Index == nil {
		return
	}
	index := strconv.Itoa(int(*slot.Index))
	label(p, batchv1.JobCompletionIndexAnnotation, index)
	annotate(&p.ObjectMeta, batchv1.JobCompletionIndexAnnotation, index)
	if p.Spec.Hostname == "" {
		p.Spec.Hostname = fmt.Sprintf("%s-%s", slot.Owner.Name, index)
	}
	for _, list := range []*[]corev1.Container{&p.Spec.InitContainers, &p.Spec.Containers} {
		*list = slices.Clone(*list)
		for i := range *list {
			c := &(*list)[i]
			if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == indexVariable }) {
				continue
			}
			c.Env = append(slices.Clone(c.Env), corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
				APIVersion: "v1", FieldPath: fmt.Sprintf("metadata.annotations['%s']", batchv1.JobCompletionIndexAnnotation),
			}}})
		}
	}
}
