package manifest

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/podsecurity"
)

// Policy is what a node takes, and what it asks of pods beyond being well formed. The zero Policy asks for nothing.
type Policy struct {
	// PodSecurity is the level of the Pod Security Standards that pods are held to in namespaces whose
	// label says nothing about it. The labels are those of the Namespaces in the tree that is read.
	PodSecurity podsecurity.Level
}

// placed is an object that was taken and the document that it was read from. Who finds fault with it afterwards drops it.
type placed struct {
	from origin
	node *node
	at   *found
}

// admit holds all pods to the standards of their namespaces. It comes last: a Namespace may stand behind its
// pods.
func (r *reader) admit(p Policy) {
	for _, pod := range r.placed {
		o := pod.at.object
		if o == nil || o.Template == nil {
			continue
		}
		labels := map[string]string{}
		if namespace := r.first[fleet.ObjectID{Kind: fleet.KindNamespace, Name: o.ID.Namespace}]; namespace != nil {
			labels = namespace.labels
		}
		enforced, by := p.enforced(o.ID.Namespace, labels)
		if r.violates(pod, NotRun, enforced, by+" enforces") {
			r.drop(pod)
			continue
		}
		if warned, err := podsecurity.ParseLevel(labels[podsecurity.WarnLabel]); err == nil {
			r.violates(pod, Warning, warned, "Namespace/"+o.ID.Namespace+" warns by")
		}
	}
}

// drop leaves out what was taken at first.
func (r *reader) drop(p placed) {
	p.at.object = nil
	r.broken[p.from.file] = true
}

// enforced is the level that pods of a namespace with those labels are held to, and by whom.
func (p Policy) enforced(namespace string, labels map[string]string) (level podsecurity.Level, by string) {
	if label, ok := labels[podsecurity.EnforceLabel]; ok { // one that is no level counts as the strictest
		level, _ = podsecurity.ParseLevel(label)
		return level, "Namespace/" + namespace
	}
	return p.PodSecurity, "the node (policy.podSecurity)"
}

// Refused says where an object that has been read is not of the level that pods of its namespace are held to, a sentence a
// field; nothing when it may be run. Labels are the namespace's.
func (p Policy) Refused(o fleet.Object, labels map[string]string) []string {
	if o.Template == nil {
		return nil
	}
	level, by := p.enforced(o.ID.Namespace, labels)
	var list []string
	for _, v := range check(o, level) {
		list = append(list, fmt.Sprintf("%s: %s: %s: %s enforces the Pod Security Standard %q", o.ID, v.Path, v.Text, by, level))
	}
	return list
}

func check(o fleet.Object, level podsecurity.Level) []podsecurity.Violation {
	template := templatePath(o.ID.Kind)
	return podsecurity.Check(level, o.Template, template.Child("metadata"), template.Child("spec"))
}

// violates reports where pods are not of a level.
func (r *reader) violates(pod placed, why FaultKind, level podsecurity.Level, who string) bool {
	o := *pod.at.object
	violations := check(o, level)
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
