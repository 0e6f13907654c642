package pod

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skerry-dev/skerry/fleet"
)

// Config is where references to ConfigMaps and Secrets are looked up.
type Config struct {
	Desired fleet.Desired
	// Services are the variables of the namespace's Services, for pods that want them (enableServiceLinks).
	Services []corev1.EnvVar
}

// ConfigMap returns the ConfigMap of that name, if it is there.
func (c Config) ConfigMap(namespace, name string) (*corev1.ConfigMap, bool) {
	return fleet.Lookup[*corev1.ConfigMap](c.Desired, fleet.ObjectID{Kind: fleet.KindConfigMap, Namespace: namespace, Name: name})
}

// Secret returns the Secret of that name, if it is there.
func (c Config) Secret(namespace, name string) (*corev1.Secret, bool) {
	return fleet.Lookup[*corev1.Secret](c.Desired, fleet.ObjectID{Kind: fleet.KindSecret, Namespace: namespace, Name: name})
}

// Claim returns the PersistentVolumeClaim of that name, if it is there.
func (c Config) Claim(namespace, name string) (*corev1.PersistentVolumeClaim, bool) {
	return fleet.Lookup[*corev1.PersistentVolumeClaim](c.Desired, fleet.ObjectID{Kind: fleet.KindPersistentVolumeClaim, Namespace: namespace, Name: name})
}

// ServiceAccount returns the ServiceAccount of that name, if it is there.
func (c Config) ServiceAccount(namespace, name string) (*corev1.ServiceAccount, bool) {
	return fleet.Lookup[*corev1.ServiceAccount](c.Desired, fleet.ObjectID{Kind: fleet.KindServiceAccount, Namespace: namespace, Name: name})
}

// Place is what a pod's fields can refer to beyond its spec.
type Place struct {
	Address     string // of the node
	PodIPs      []string
	Allocatable corev1.ResourceList
}

// Invocation is how a container's process is started. Values may hold secrets: it is made when it is
// needed and never kept, printed or logged.
type Invocation struct {
	Env     map[string]string
	Command []string // replaces the image's entrypoint; nil keeps it
	Args    []string // replaces the image's command; nil keeps it
}

// Invoke resolves a container's environment, command and arguments (semantics 2.6). The error names every
// reference that cannot be resolved, never a value.
func Invoke(spec *corev1.Pod, c *corev1.Container, config Config, place Place) (Invocation, error) {
	env, err := environment(spec, c, config, place)
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	return Invocation{Env: env, Command: expandAll(c.Command, lookup), Args: expandAll(c.Args, lookup)}, err
}

func expandAll(list []string, lookup func(string) (string, bool)) []string {
	var out []string
	for _, s := range list {
		out = append(out, Expand(s, lookup))
	}
	return out
}

func environment(spec *corev1.Pod, c *corev1.Container, config Config, place Place) (map[string]string, error) {
	env := map[string]string{}
	var faults []error
	for _, from := range c.EnvFrom {
		faults = append(faults, importAll(env, spec.Namespace, from, config))
	}
	services := map[string]string{}
	if spec.Spec.EnableServiceLinks == nil || *spec.Spec.EnableServiceLinks {
		for _, e := range config.Services {
			services[e.Name] = e.Value
		}
	}
	lookup := func(name string) (string, bool) {
		if v, ok := env[name]; ok {
			return v, true
		}
		v, ok := services[name]
		return v, ok
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			env[e.Name] = Expand(e.Value, lookup)
			continue
		}
		value, ok, err := valueFrom(spec, c, e.ValueFrom, config, place)
		if err != nil {
			faults = append(faults, fmt.Errorf("env %s: %w", e.Name, err))
		} else if ok {
			env[e.Name] = value
		}
	}
	for name, value := range services { // whatever else sets one goes before
		if _, set := env[name]; !set {
			env[name] = value
		}
	}
	return env, errors.Join(faults...)
}

// importAll adds all keys of a ConfigMap or Secret that are names of variables.
func importAll(env map[string]string, namespace string, from corev1.EnvFromSource, config Config) error {
	add := func(key, value string) {
		if name := from.Prefix + key; len(validation.IsEnvVarName(name)) == 0 {
			env[name] = value
		}
	}
	switch {
	case from.ConfigMapRef != nil:
		m, ok := config.ConfigMap(namespace, from.ConfigMapRef.Name)
		if !ok {
			return missing(from.ConfigMapRef.Optional, "ConfigMap", namespace, from.ConfigMapRef.Name)
		}
		for _, key := range slices.Sorted(maps.Keys(m.Data)) {
			add(key, m.Data[key])
		}
	case from.SecretRef != nil:
		s, ok := config.Secret(namespace, from.SecretRef.Name)
		if !ok {
			return missing(from.SecretRef.Optional, "Secret", namespace, from.SecretRef.Name)
		}
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			add(key, string(s.Data[key]))
		}
	}
	return nil
}

func missing(optional *bool, kind, namespace, name string) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("%s %s/%s is not there", kind, namespace, name)
}

func missingKey(optional *bool, kind, namespace, name, key string) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("%s %s/%s has no key %q", kind, namespace, name, key)
}

// valueFrom resolves one reference; ok is false for an optional one that is absent.
func valueFrom(spec *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource, config Config, place Place) (value string, ok bool, err error) {
	switch {
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		m, ok := config.ConfigMap(spec.Namespace, ref.Name)
		if !ok {
			return "", false, missing(ref.Optional, "ConfigMap", spec.Namespace, ref.Name)
		}
		if v, ok := m.Data[ref.Key]; ok {
			return v, true, nil
		}
		return "", false, missingKey(ref.Optional, "ConfigMap", spec.Namespace, ref.Name, ref.Key)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, ok := config.Secret(spec.Namespace, ref.Name)
		if !ok {
			return "", false, missing(ref.Optional, "Secret", spec.Namespace, ref.Name)
		}
		if v, ok := s.Data[ref.Key]; ok {
			return string(v), true, nil
		}
		return "", false, missingKey(ref.Optional, "Secret", spec.Namespace, ref.Name, ref.Key)
	case from.FieldRef != nil:
		v, err := Field(spec, from.FieldRef.FieldPath, place)
		return v, err == nil, err
	case from.ResourceFieldRef != nil:
		v, err := resourceField(spec, c, from.ResourceFieldRef, place)
		return v, err == nil, err
	default:
		return "", false, errors.New("valueFrom names no source")
	}
}

// Field resolves a downward API path such as metadata.name or metadata.labels['app'].
func Field(spec *corev1.Pod, path string, place Place) (string, error) {
	if key, ok := subscript(path, "metadata.labels"); ok {
		return spec.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return spec.Annotations[key], nil
	}
	switch path {
	case "metadata.name":
		return spec.Name, nil
	case "metadata.namespace":
		return spec.Namespace, nil
	case "metadata.uid":
		return string(spec.UID), nil
	case "spec.nodeName":
		return spec.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return cmp.Or(spec.Spec.ServiceAccountName, "default"), nil // what an API server fills in
	case "status.hostIP", "status.hostIPs":
		return place.Address, nil
	case "status.podIP":
		if len(place.PodIPs) == 0 {
			return "", nil
		}
		return place.PodIPs[0], nil
	case "status.podIPs":
		return strings.Join(place.PodIPs, ","), nil
	default:
		return "", fmt.Errorf("field %q cannot be referred to", path)
	}
}

func subscript(path, of string) (string, bool) {
	rest, ok := strings.CutPrefix(path, of+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// resourceField is a request or limit divided by its divisor, rounded up. A limit that is not set is what
// the node has.
func resourceField(spec *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector, place Place) (string, error) {
	if c == nil || (ref.ContainerName != "" && ref.ContainerName != c.Name) {
		if c = Container(spec, ref.ContainerName); c == nil {
			return "", fmt.Errorf("resource %s: no container %q in this pod", ref.Resource, ref.ContainerName)
		}
	}
	side, name, _ := strings.Cut(ref.Resource, ".")
	var quantity resource.Quantity
	switch side {
	case "requests":
		quantity = Request(c, corev1.ResourceName(name))
	case "limits":
		var set bool
		if quantity, set = c.Resources.Limits[corev1.ResourceName(name)]; !set || quantity.IsZero() {
			quantity = place.Allocatable[corev1.ResourceName(name)]
		}
	default:
		return "", fmt.Errorf("resource %q is neither requests nor limits", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	return strconv.FormatInt(divideUp(quantity, divisor), 10), nil
}

// Container is the pod's container of that name, an initial one or not; nil when there is none.
func Container(spec *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{spec.Spec.InitContainers, spec.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func divideUp(q, divisor resource.Quantity) int64 {
	if divisor.Cmp(resource.MustParse("1")) < 0 { // only cpu has such divisors: both fit in thousandths
		return (q.MilliValue() + divisor.MilliValue() - 1) / divisor.MilliValue()
	}
	if q.Cmp(resource.MustParse("1000000")) < 0 { // small numbers may have thousandths worth keeping
		return (q.MilliValue() + divisor.MilliValue() - 1) / divisor.MilliValue()
	}
	return (q.Value() + divisor.Value() - 1) / divisor.Value()
}
