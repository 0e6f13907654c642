package manifest

import (
	"fmt"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/meta"
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
