package manifest

import (
	"fmt"

	schedulingv1 "k8s.io/api/scheduling/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// prioritize checks the PriorityClasses that pods name, and that one class at most is everybody's.
func (r *reader) prioritize() {
	classes := map[string]*schedulingv1.PriorityClass{}
	var common placed
	for _, p := range r.placed {
		if p.at.object == nil {
			continue
		}
		class, ok := p.at.object.Value.(*schedulingv1.PriorityClass)
		if !ok {
			continue
		}
		if class.GlobalDefault && common.at != nil {
			before := common.at
			r.report(p.from, p.node, p.at.object.ID, problem{path: "globalDefault", kind: Error,
				text: fmt.Sprintf("%s in %s:%d is the default already: only one can be", before.object.ID, before.file, before.line)})
			r.drop(p)
			continue
		}
		if class.GlobalDefault {
			common = p
		}
		classes[class.Name] = class
	}
	for _, p := range r.placed {
		if p.at.object != nil && p.at.object.Template != nil {
			r.priority(p, classes)
		}
	}
}

// priority checks the class that a pod template names. It may be in another source.
func (r *reader) priority(p placed, classes map[string]*schedulingv1.PriorityClass) {
	o := p.at.object
	spec, at := &o.Template.Spec, templatePath(o.ID.Kind).Child("spec")
	value, known := systemClasses[spec.PriorityClassName]
	if class := classes[spec.PriorityClassName]; class != nil {
		value, known = class.Value, true
	}
	switch {
	case spec.PriorityClassName == "":
	case known && spec.Priority != nil && *spec.Priority != value:
		r.report(p.from, p.node, o.ID, problem{path: at.Child("priority").String(), kind: Error,
			text: fmt.Sprintf("must be %d, as the PriorityClass %s says: leave it out", value, spec.PriorityClassName)})
		r.drop(p)
	case !known && r.first[fleet.ObjectID{Kind: fleet.KindPriorityClass, Name: spec.PriorityClassName}] == nil:
		r.report(p.from, p.node, o.ID, problem{path: at.Child("priorityClassName").String(), kind: Warning,
			text: fmt.Sprintf("there is no PriorityClass/%s in this source: no pods are made until another one has it", spec.PriorityClassName)})
	}
}
