package diff_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/reconcile/diff"
)

func deployment(replicas int32, containers ...corev1.Container) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: containers}}},
	}
}

func TestFields(t *testing.T) {
	web := corev1.Container{Name: "web", Image: "hello:1", Args: []string{"a", "b"}}
	newer := corev1.Container{Name: "web", Image: "hello:2", Args: []string{"a", "c"}}
	got := diff.Fields(deployment(3, web), deployment(4, corev1.Container{Name: "proxy", Image: "p:1"}, newer))
	want := []diff.Field{
		{Path: "spec.replicas", Old: "3", New: "4"},
		{Path: "spec.template.spec.containers[proxy]", New: `{"image":"p:1","name":"proxy","resources":{}}`},
		{Path: "spec.template.spec.containers[web].args[1]", Old: "b", New: "c"},
		{Path: "spec.template.spec.containers[web].image", Old: "hello:1", New: "hello:2"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if got := diff.Fields(deployment(3, web), deployment(3, web)); got != nil {
		t.Fatalf("equal objects differ in %v", got)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	secret := func(value, other string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"password": []byte(value)}}
		if other != "" {
			s.Data["tls.key"] = []byte(other)
		}
		return s
	}
	got := diff.Fields(secret("hunter2", ""), secret("hunter3", "k"))
	want := []diff.Field{
		{Path: "data.password", Old: "(masked)", New: "(masked)"},
		{Path: "data[tls.key]", New: "(masked)"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if got := diff.Fields(&corev1.Secret{}, secret("hunter2", "")); len(got) == 0 || got[len(got)-1].New == "" {
		t.Fatalf("no fields: %v", got)
	}
	for _, f := range diff.Fields(&corev1.Secret{}, secret("hunter2", "")) {
		if f.Path == "data" && f.New != "(masked)" {
			t.Fatalf("a whole data block shows: %+v", f)
		}
	}
}
