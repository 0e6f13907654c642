// Package podsecurity holds pods to the Pod Security Standards of Kubernetes, in their latest version, and says
// of each field that is in the way what it must be.
//
// It is a function of a pod template as it was written: it reads nothing, changes nothing, and has no opinion
// on what Skerry runs. Whose level counts is for the caller to say.
//
// Tests are a table of what each control refuses and lets pass.
package podsecurity

import (
	"errors"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Level is one of the standards. The zero Level is Privileged.
type Level string

// The levels, each with what the ones before it ask.
const (
	Privileged Level = "privileged" // asks nothing
	Baseline   Level = "baseline"   // no known ways to take over the machine
	Restricted Level = "restricted" // hardened as well as pods can be
)

// Labels by which a Namespace says which level its pods are held to. Behind each, with -version at its end, may
// stand another one for the version of the standards.
const (
	EnforceLabel = "pod-security.kubernetes.io/enforce"
	WarnLabel    = "pod-security.kubernetes.io/warn"
)

// ParseLevel reads the name of a level; with an error comes the strictest one.
func ParseLevel(name string) (Level, error) {
	switch level := Level(name); level {
	case Privileged, Baseline, Restricted:
		return level, nil
	}
	return Restricted, errors.New("must be one of privileged, baseline, restricted")
}

var version = regexp.MustCompile(`^v1\.(0|[1-9][0-9]*)$`)

// IsVersion reports whether text names a version of the standards.
func IsVersion(text string) bool { return text == "latest" || version.MatchString(text) }

// Violation is a field that is not as a level wants it.
type Violation struct {
	Path string // as Kubernetes writes it, from the paths that Check was given
	Text string // what the field must be: "must not be true"
}

// Check lists what in a pod template is not of a level, in the order of the standards' controls. Meta and spec are
// where the template's metadata and spec stand in their object.
func Check(level Level, t *corev1.PodTemplateSpec, meta, spec *field.Path) []Violation {
	if level == "" || level == Privileged {
		return nil
	}
	p := &pod{template: t, meta: meta, path: spec}
	p.listContainers()
	for _, control := range controls {
		switch { // a level that there is not is held to be the strictest
		case level != Baseline && control.restricted != nil:
			control.restricted(p)
		case control.baseline != nil:
			control.baseline(p)
		}
	}
	return p.violations
}

// pod is a template under examination.
type pod struct {
	template   *corev1.PodTemplateSpec
	meta, path *field.Path
	containers []container
	violations []Violation
}

type container struct {
	*corev1.Container
	path     *field.Path
	security *corev1.SecurityContext // never nil
}

func (p *pod) listContainers() {
	add := func(list []corev1.Container, path *field.Path) {
		for i := range list {
			c := container{&list[i], path.Index(i), list[i].SecurityContext}
			if c.security == nil {
				c.security = &corev1.SecurityContext{}
			}
			p.containers = append(p.containers, c)
		}
	}
	add(p.template.Spec.InitContainers, p.path.Child("initContainers"))
	add(p.template.Spec.Containers, p.path.Child("containers"))
}

func (p *pod) refuse(at *field.Path, text string) {
	p.violations = append(p.violations, Violation{Path: at.String(), Text: text})
}

// security is the security context of the whole pod, never nil.
func (p *pod) security() *corev1.PodSecurityContext {
	if s := p.template.Spec.SecurityContext; s != nil {
		return s
	}
	return &corev1.PodSecurityContext{}
}

// inUserNamespace reports whether root in the pod is not root on the machine.
func (p *pod) inUserNamespace() bool {
	users := p.template.Spec.HostUsers
	return users != nil && !*users
}

// at is a field of the pod's security context, and of the container's.
func (p *pod) at(names ...string) *field.Path {
	return p.path.Child("securityContext", names...)
}

func (c container) at(names ...string) *field.Path {
	return c.path.Child("securityContext", names...)
}

// is reports whether a switch is set, to either side.
func is(b *bool, value bool) bool { return b != nil && *b == value }
