package manifest

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// environment checks env and envFrom. Values are never quoted.
func (c *checker) environment(o *corev1.Container, p *field.Path) {
	for i, from := range o.EnvFrom {
		at := p.Child("envFrom").Index(i)
		if from.Prefix != "" {
			c.all(at.Child("prefix"), from.Prefix, validation.IsRelaxedEnvVarName(from.Prefix))
		}
		switch {
		case from.ConfigMapRef != nil && from.SecretRef != nil:
			c.bad(at, "has two sources: give either configMapRef or secretRef")
		case from.ConfigMapRef != nil:
			c.objectName(from.ConfigMapRef.Name, at.Child("configMapRef", "name"))
		case from.SecretRef != nil:
			c.objectName(from.SecretRef.Name, at.Child("secretRef", "name"))
		default:
			c.bad(at, "has no source: give configMapRef or secretRef")
		}
	}
	for i := range o.Env {
		at := p.Child("env").Index(i)
		if o.Env[i].Name == "" {
			c.bad(at.Child("name"), "is required")
		} else {
			c.all(at.Child("name"), o.Env[i].Name, validation.IsRelaxedEnvVarName(o.Env[i].Name))
		}
		if from := o.Env[i].ValueFrom; from != nil {
			if o.Env[i].Value != "" {
				c.bad(at.Child("valueFrom"), "is not allowed beside value: remove one")
			}
			c.valueFrom(from, at.Child("valueFrom"))
		}
	}
}

// objectName checks the name of a ConfigMap or Secret that is referred to.
func (c *checker) objectName(name string, p *field.Path) {
	if name == "" {
		c.bad(p, "is required")
		return
	}
	c.all(p, name, validation.IsDNS1123Subdomain(name))
}

func (c *checker) valueFrom(from *corev1.EnvVarSource, p *field.Path) {
	sources := 0
	for _, set := range []bool{from.FieldRef != nil, from.ResourceFieldRef != nil, from.ConfigMapKeyRef != nil, from.SecretKeyRef != nil, from.FileKeyRef != nil} {
		if set {
			sources++
		}
	}
	switch {
	case sources == 0:
		c.bad(p, "has no source: give one of fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef")
	case sources > 1:
		c.bad(p, "has more than one source: give only one")
	}
	if f := from.FieldRef; f != nil {
		c.fieldRef(f, p.Child("fieldRef"), podFacts)
	}
	if f := from.ResourceFieldRef; f != nil {
		c.resourceRef(f, p.Child("resourceFieldRef"))
	}
	if f := from.ConfigMapKeyRef; f != nil {
		c.keyRef(f.Name, f.Key, p.Child("configMapKeyRef"))
	}
	if f := from.SecretKeyRef; f != nil {
		c.keyRef(f.Name, f.Key, p.Child("secretKeyRef"))
	}
}

func (c *checker) keyRef(name, key string, p *field.Path) {
	c.objectName(name, p.Child("name"))
	if key == "" {
		c.bad(p.Child("key"), "is required")
		return
	}
	c.all(p.Child("key"), key, validation.IsConfigMapKey(key))
}

// podFacts are the fields of a pod that its environment may have.
var podFacts = []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
	"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}

// fieldRef checks which field of a pod is asked for. Facts are those allowed beside labels and annotations.
func (c *checker) fieldRef(f *corev1.ObjectFieldSelector, p *field.Path, facts []string) {
	if f.APIVersion != "v1" {
		c.bad(p.Child("apiVersion"), "must be v1")
	}
	at := p.Child("fieldPath")
	if f.FieldPath == "" {
		c.bad(at, "is required")
		return
	}
	switch base, key, ok := subscript(f.FieldPath); {
	case ok && base == "metadata.annotations":
		c.all(at, key, validation.IsQualifiedName(strings.ToLower(key)))
	case ok && base == "metadata.labels":
		c.all(at, key, validation.IsQualifiedName(key))
	case !slices.Contains(facts, f.FieldPath):
		c.bad(at, "%q is not allowed: must be one of %s, metadata.labels['…'], metadata.annotations['…']", f.FieldPath, strings.Join(facts, ", "))
	}
}

// subscript splits a path such as metadata.labels['app'].
func subscript(path string) (base, key string, ok bool) {
	base, rest, ok := strings.Cut(path, "['")
	if !ok {
		return path, "", false
	}
	key, ok = strings.CutSuffix(rest, "']")
	return base, key, ok
}

// divisors are the units in which resources may be handed to a container.
var divisors = map[string][]string{
	"cpu":    {"0", "1m", "1"},
	"memory": {"0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"},
}

func (c *checker) resourceRef(f *corev1.ResourceFieldSelector, p *field.Path) {
	at := p.Child("resource")
	if f.Resource == "" {
		c.bad(at, "is required")
		return
	}
	side, name, _ := strings.Cut(f.Resource, ".")
	if side != "limits" && side != "requests" || name != "cpu" && name != "memory" && name != "ephemeral-storage" && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) {
		c.bad(at, "%q is not allowed: must be limits or requests of cpu, memory or ephemeral-storage, such as limits.cpu", f.Resource)
		return
	}
	allowed := divisors[name]
	if allowed == nil {
		allowed = divisors["memory"]
	}
	if divisor := f.Divisor.String(); !slices.Contains(allowed, divisor) {
		c.bad(p.Child("divisor"), "%q is not allowed: must be one of %s", divisor, strings.Join(allowed[1:], ", "))
	}
}
