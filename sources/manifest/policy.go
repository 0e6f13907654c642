package manifest

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/podsecurity"
)

// Policy is what a node asks of pods beyond being well formed. The zero Policy asks for nothing.
type Policy struct {
	// PodSecurity is the level of the Pod Security Standards that pods are held to in namespaces whose
	// label says nothing about it. The labels are those of the Namespaces in the tree that is read.
	PodSecurity podsecurity.Level
}

// placed is an object with pods and the document that it was read from.
type placed struct {
	from origin
	node *node
	at   *found
}

// admit holds all pods to the standards of their namespaces. It comes last: a Namespace may stand behind its
// pods.
func (r *reader) admit(p Policy) {
	for _, pod := range r.pods {
		o := pod.at.object
		labels := map[string]string{}
		if namespace := r.first[fleet.ObjectID{Kind: fleet.KindNamespace, Name: o.ID.Namespace}]; namespace != nil {
			labels = namespace.labels
		}
		enforced, by := p.PodSecurity, "the node (policy.podSecurity)"
		if label, ok := labels[podsecurity.EnforceLabel]; ok { // one that is no level counts as the strictest
			enforced, _ = podsecurity.ParseLevel(label)
			by = "Namespace/" + o.ID.Namespace
		}
		if r.violates(pod, NotRun, enforced, by+" enforces") {
			pod.at.object = nil
			r.broken[pod.from.file] = true
			continue
		}
		if warned, err := podsecurity.ParseLevel(labels[podsecurity.WarnLabel]); err == nil {
			r.violates(pod, Warning, warned, "Namespace/"+o.ID.Namespace+" warns by")
		}
	}
}

// violates reports where pods are not of a level.
func (r *reader) violates(pod placed, why FaultKind, level podsecurity.Level, who string) bool {
	o := pod.at.object
	meta, spec := field.NewPath("spec", "template", "metadata"), field.NewPath("spec", "template", "spec")
	if o.ID.Kind == fleet.KindPod {
		meta, spec = field.NewPath("metadata"), field.NewPath("spec")
	}
	violations := podsecurity.Check(level, o.Template, meta, spec)
	for _, v := range violations {
		r.report(pod.from, pod.node, o.ID, problem{path: v.Path, kind: why,
			text: fmt.Sprintf("%s: %s the Pod Security Standard %q", v.Text, who, level)})
	}
	return len(violations) > 0
}

// podSecurityLabels checks what the labels of a Namespace ask of its pods.
func (c *checker) podSecurityLabels(labels map[string]string) {
	p := field.NewPath("metadata", "labels")
	for _, key := range []string{podsecurity.EnforceLabel, podsecurity.WarnLabel} {
		if label, ok := labels[key]; ok {
			if _, err := podsecurity.ParseLevel(label); err != nil {
				c.bad(p.Key(key), "%q is not allowed: %s", label, err)
			}
		}
		version, ok := labels[key+"-version"]
		switch {
		case !ok || version == "latest":
		case podsecurity.IsVersion(version):
			c.warn(p.Key(key+"-version"), "has no effect: pods are held to the latest version of the standards")
		default:
			c.bad(p.Key(key+"-version"), "%q is not allowed: must be latest, or a version such as v1.35", version)
		}
	}
}
