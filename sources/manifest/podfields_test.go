package manifest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// paths lists the fields of a type down to those without fields of their own; a path in whole is not gone
// into.
func paths(t reflect.Type, path string, whole func(string) bool) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if path != "" && whole(path) {
		return []string{path + "/..."}
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
		return paths(t.Elem(), path+"[]", whole)
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return []string{path}
	}
	var out []string
	for i := range t.NumField() {
		next := path
		if name := jsonName(t.Field(i)); name != "" {
			next = join(path, name)
		}
		out = append(out, paths(t.Field(i).Type, next, whole)...)
	}
	return out
}

// TestPodFieldsComplete holds the table against the type: no field of a new k8s.io/api may be forgotten,
// and no entry may name what does not exist.
func TestPodFieldsComplete(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, f := range podFields {
		if listed[f.path] {
			t.Errorf("%s stands twice in the table", f.path)
		}
		listed[f.path] = true
	}
	actual := map[string]bool{}
	for _, path := range paths(reflect.TypeFor[corev1.PodSpec](), "", func(p string) bool { return listed[p+"/..."] }) {
		actual[path] = true
		if !listed[path] {
			t.Errorf("%s is missing in the table: decide what is done with it", path)
		}
	}
	for path := range listed {
		if !actual[path] {
			t.Errorf("%s is in the table, and no field of a PodSpec", path)
		}
	}
}

// TestWorkloadFieldsComplete does the same for the kinds around the pod, all of whose fields are done: a
// new one must be looked at.
func TestWorkloadFieldsComplete(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of   reflect.Type
		want string
	}{
		{reflect.TypeFor[appsv1.DeploymentSpec](), "replicas selector template strategy minReadySeconds revisionHistoryLimit paused progressDeadlineSeconds"},
		{reflect.TypeFor[appsv1.DeploymentStrategy](), "type rollingUpdate"},
		{reflect.TypeFor[appsv1.RollingUpdateDeployment](), "maxUnavailable maxSurge"},
		{reflect.TypeFor[appsv1.ReplicaSetSpec](), "replicas minReadySeconds selector template"},
		{reflect.TypeFor[corev1.PodTemplateSpec](), "metadata spec"},
		{reflect.TypeFor[corev1.ConfigMap](), "kind apiVersion metadata immutable data binaryData"},
		{reflect.TypeFor[corev1.Secret](), "kind apiVersion metadata immutable data stringData type"},
	} {
		if got := strings.Join(members(c.of), " "); got != c.want {
			t.Errorf("%s has the fields %s, and %s are looked at", c.of.Name(), got, c.want)
		}
	}
}
