package manifest

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

// depend checks what objects depend on. It comes when all is read: what they name may stand behind them. What is not in
// the tree may be in another source; what depends on itself can never start.
func (r *reader) depend() {
	at := field.NewPath("metadata", "annotations").Key(fleet.AnnotationDependsOn).String()
	on := map[fleet.ObjectID][]fleet.ObjectID{}
	for _, p := range r.placed {
		o := p.at.object
		m, err := meta.Accessor(o.Value)
		if err != nil || !slices.Contains(annotated[fleet.AnnotationDependsOn], o.ID.Kind) {
			continue
		}
		text, ok := m.GetAnnotations()[fleet.AnnotationDependsOn]
		if !ok {
			continue
		}
		ids, err := fleet.ParseDependsOn(text, o.ID.Namespace)
		if err != nil { // such an object is not taken
			continue
		}
		on[o.ID] = ids
		for _, id := range ids {
			if r.first[id] == nil {
				r.report(p.from, p.node, o.ID, problem{path: at, kind: Warning,
					text: fmt.Sprintf("there is no %s/%s in this source: it waits until another one has it", id.Kind, id.Name)})
			}
		}
	}
	var circular []placed
	for _, p := range r.placed {
		id := p.at.object.ID
		if circle := circleOf(id, on); circle != nil {
			r.report(p.from, p.node, id, problem{path: at, kind: Error, text: "depends on itself: " + strings.Join(circle, " -> ")})
			circular = append(circular, p)
		}
	}
	for _, p := range circular {
		r.drop(p)
	}
}

// circleOf is the shortest way from an object over what it depends on back to itself, in words; nil if there is none.
func circleOf(id fleet.ObjectID, on map[fleet.ObjectID][]fleet.ObjectID) []string {
	from := map[fleet.ObjectID]fleet.ObjectID{}
	for queue := []fleet.ObjectID{id}; len(queue) > 0; queue = queue[1:] {
		for _, next := range on[queue[0]] {
			if _, seen := from[next]; seen {
				continue
			}
			from[next] = queue[0]
			if next != id {
				queue = append(queue, next)
				continue
			}
			way := []string{next.Kind + "/" + next.Name}
			for at := from[next]; at != id; at = from[at] {
				way = append(way, at.Kind+"/"+at.Name)
			}
			way = append(way, id.Kind+"/"+id.Name)
			slices.Reverse(way)
			return way
		}
	}
	return nil
}

// autoscale checks what autoscalers size: nothing can be sized by two, and what is sized needs no size of its own.
func (r *reader) autoscale() {
	targets, sizedBy := map[fleet.ObjectID]placed{}, map[fleet.ObjectID]placed{}
	for _, p := range r.placed {
		if p.at.object != nil {
			targets[p.at.object.ID] = p
		}
	}
	for _, p := range r.placed {
		if p.at.object == nil {
			continue
		}
		scaler, ok := p.at.object.Value.(*autoscalingv2.HorizontalPodAutoscaler)
		if !ok {
			continue
		}
		ref := scaler.Spec.ScaleTargetRef
		id := fleet.ObjectID{Kind: ref.Kind, Namespace: p.at.object.ID.Namespace, Name: ref.Name}
		if before, ok := sizedBy[id]; ok {
			r.report(p.from, p.node, p.at.object.ID, problem{path: "spec.scaleTargetRef", kind: Error,
				text: fmt.Sprintf("HorizontalPodAutoscaler/%s in %s:%d sizes %s/%s already: remove one", before.at.object.ID.Name, before.at.file, before.at.line, id.Kind, id.Name)})
			r.drop(p)
			continue
		}
		sizedBy[id] = p
		target, ok := targets[id]
		// 0 stands: an autoscaler leaves alone what is at 0.
		if replicas := target.node.get("spec").get("replicas"); ok && replicas != nil && replicas.form != formNull && replicas.text != "0" {
			r.report(target.from, target.node, id, problem{path: "spec.replicas", kind: Warning,
				text: fmt.Sprintf("has no effect: HorizontalPodAutoscaler/%s sizes it; leave it out", scaler.Name)})
		}
	}
}

// serve checks what Services lead to. What they select may be in another source: it is only said.
func (r *reader) serve() {
	pods := map[string][]*fleet.Object{} // by namespace
	for _, p := range r.placed {
		if o := p.at.object; o != nil && o.Template != nil {
			pods[o.ID.Namespace] = append(pods[o.ID.Namespace], o)
		}
	}
	for _, p := range r.placed {
		if p.at.object == nil {
			continue
		}
		id := p.at.object.ID
		service, ok := p.at.object.Value.(*corev1.Service)
		if !ok || len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		var selected []*corev1.PodTemplateSpec
		for _, o := range pods[id.Namespace] {
			if selects(service.Spec.Selector, o) {
				selected = append(selected, o.Template)
			}
		}
		if len(selected) == 0 {
			r.report(p.from, p.node, id, problem{path: "spec.selector", kind: Warning,
				text: "matches no pod template that was taken from this source: nothing is served until this one or another has such pods"})
			continue
		}
		for i, port := range service.Spec.Ports {
			if port.TargetPort.Type == intstr.String && !slices.ContainsFunc(selected, func(t *corev1.PodTemplateSpec) bool { return hasPort(t, port) }) {
				r.report(p.from, p.node, id, problem{path: fmt.Sprintf("spec.ports[%d].targetPort", i), kind: Warning,
					text: fmt.Sprintf("no pod template that is selected in this source has a port named %q of the protocol %s: nothing is served there", port.TargetPort.StrVal, port.Protocol)})
			}
		}
	}
}

// given are the labels that pods get from the kinds that make them, beside those of their templates.
var given = map[string][]string{
	appsv1.DefaultDeploymentUniqueLabelKey: {fleet.KindDeployment},
	appsv1.ControllerRevisionHashLabelKey:  {fleet.KindStatefulSet, fleet.KindDaemonSet},
	appsv1.StatefulSetPodNameLabel:         {fleet.KindStatefulSet},
	appsv1.PodIndexLabel:                   {fleet.KindStatefulSet},
	batchv1.JobNameLabel:                   {fleet.KindJob, fleet.KindCronJob},
	batchv1.ControllerUidLabel:             {fleet.KindJob, fleet.KindCronJob},
	batchv1.JobCompletionIndexAnnotation:   {fleet.KindJob, fleet.KindCronJob},
	"job-name":                             {fleet.KindJob, fleet.KindCronJob},
	"controller-uid":                       {fleet.KindJob, fleet.KindCronJob},
}

// selects reports whether pods of an object may have the labels of a selector.
func selects(selector map[string]string, o *fleet.Object) bool {
	for key, value := range selector {
		if got, ok := o.Template.Labels[key]; (!ok || got != value) && !slices.Contains(given[key], o.ID.Kind) {
			return false
		}
	}
	return true
}

// hasPort reports whether a container that runs as long as its pod has the port that a Service's port names.
func hasPort(t *corev1.PodTemplateSpec, port corev1.ServicePort) bool {
	running := slices.Clone(t.Spec.Containers)
	for _, c := range t.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			running = append(running, c)
		}
	}
	for _, c := range running {
		for _, p := range c.Ports {
			if fillZero(&p.Protocol, corev1.ProtocolTCP); p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol {
				return true
			}
		}
	}
	return false
}
