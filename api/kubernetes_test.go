package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// backend has a fleet to look at, and nothing else.
type backend struct {
	Backend
	in reconcile.FleetInput
}

func (b backend) View(context.Context) (*reconcile.View, fleet.Desired, []fleet.Node, error) {
	return reconcile.NewView(b.in, b.in.Templates), b.in.Desired, b.in.Nodes, nil
}

// oneOfEach is a fleet with one object of each kind, as of its first decision.
func oneOfEach() backend {
	one, day := int32(1), "5 4 * * *"
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "app:1"}}},
	}
	job := batchv1.JobSpec{Parallelism: &one, Completions: &one, BackoffLimit: &one, Template: template}
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "shop", Name: name} }
	selector := &metav1.LabelSelector{MatchLabels: template.Labels}
	objects := []struct {
		kind  string
		value runtime.Object
	}{
		{fleet.KindConfigMap, &corev1.ConfigMap{ObjectMeta: meta("x"), Data: map[string]string{"key": "plain"}}},
		{fleet.KindCronJob, &batchv1.CronJob{ObjectMeta: meta("x"), Spec: batchv1.CronJobSpec{Schedule: day, JobTemplate: batchv1.JobTemplateSpec{Spec: job}}}},
		{fleet.KindDaemonSet, &appsv1.DaemonSet{ObjectMeta: meta("everywhere"), Spec: appsv1.DaemonSetSpec{Template: template, Selector: selector}}},
		{fleet.KindDeployment, &appsv1.Deployment{ObjectMeta: meta("x"), Spec: appsv1.DeploymentSpec{Replicas: &one, Template: template, Selector: selector}}},
		{fleet.KindAutoscaler, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: meta("x"), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: fleet.KindStatefulSet, Name: "x"}, MinReplicas: &one, MaxReplicas: 2,
		}}},
		{fleet.KindJob, &batchv1.Job{ObjectMeta: meta("x"), Spec: job}},
		{fleet.KindLimitRange, &corev1.LimitRange{ObjectMeta: meta("x")}},
		{fleet.KindPersistentVolumeClaim, &corev1.PersistentVolumeClaim{ObjectMeta: meta("x")}},
		{fleet.KindDisruptionBudget, &policyv1.PodDisruptionBudget{ObjectMeta: meta("x"), Spec: policyv1.PodDisruptionBudgetSpec{Selector: selector}}},
		{fleet.KindService, &corev1.Service{ObjectMeta: meta("x")}},
		{fleet.KindNetworkPolicy, &networkingv1.NetworkPolicy{ObjectMeta: meta("x")}},
		{fleet.KindQuota, &corev1.ResourceQuota{ObjectMeta: meta("x")}},
		{fleet.KindSecret, &corev1.Secret{ObjectMeta: meta("x"), Data: map[string][]byte{"key": []byte("hidden")}}},
		{fleet.KindStatefulSet, &appsv1.StatefulSet{ObjectMeta: meta("x"), Spec: appsv1.StatefulSetSpec{Replicas: &one, Template: template, Selector: selector}}},
	}
	in := reconcile.FleetInput{
		Desired: fleet.Desired{Revisions: map[fleet.SourceName]fleet.Revision{"home": "r1"}}, Nodes: []fleet.Node{{Name: "alpha"}},
		Reports:   []fleet.NodeReport{{Node: "alpha"}},
		Templates: map[fleet.Hash]*corev1.PodTemplateSpec{}, Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	for _, o := range objects {
		name := o.value.(metav1.Object).GetName()
		object := fleet.Object{ID: fleet.ObjectID{Kind: o.kind, Namespace: "shop", Name: name}, Source: "home", Revision: "r1", Value: o.value}
		switch o.kind {
		case fleet.KindCronJob, fleet.KindDaemonSet, fleet.KindDeployment, fleet.KindJob, fleet.KindStatefulSet:
			object.Template, object.Hash = &template, fleet.HashTemplate(&template)
			in.Templates[object.Hash] = &template
		}
		in.Desired.Objects = append(in.Desired.Objects, object)
	}
	slices.SortFunc(in.Desired.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) })
	in.Previous = reconcile.Decide(in).Next
	return backend{in: in}
}

func get(t *testing.T, h http.Handler, method, path string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	if strings.Contains(w.Body.String(), "hidden") {
		t.Errorf("%s shows a secret", path)
	}
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
	}
	return w.Code, body
}

// TestKubernetesDialect lists and gets one object of each kind.
func TestKubernetesDialect(t *testing.T) {
	h := Handler(oneOfEach())
	count := map[string]int{}
	for _, k := range resources {
		code, list := get(t, h, http.MethodGet, k.prefix+"/"+k.plural)
		if code != http.StatusOK || list["kind"] != k.kind+"List" || list["apiVersion"] != k.apiVersion() {
			t.Errorf("%s: %d, %v %v", k.plural, code, list["apiVersion"], list["kind"])
			continue
		}
		items, _ := list["items"].([]any)
		count[k.plural] = len(items)
		if len(items) == 0 {
			continue
		}
		first, _ := items[0].(map[string]any)
		meta, _ := first["metadata"].(map[string]any)
		if first["kind"] != k.kind || first["apiVersion"] != k.apiVersion() {
			t.Errorf("%s: an item is %v %v", k.plural, first["apiVersion"], first["kind"])
		}
		if !k.namespaced {
			continue
		}
		name, _ := meta["name"].(string)
		path := k.prefix + "/namespaces/shop/" + k.plural
		if code, one := get(t, h, http.MethodGet, path+"/"+name); code != http.StatusOK || gocmp.Diff(first, one) != "" {
			t.Errorf("%s: %d, %s", path, code, gocmp.Diff(first, one))
		}
		if code, _ := get(t, h, http.MethodGet, path+"/none"); code != http.StatusNotFound {
			t.Errorf("%s/none: %d", path, code)
		}
		_, other := get(t, h, http.MethodGet, k.prefix+"/namespaces/other/"+k.plural)
		if items, _ := other["items"].([]any); len(items) > 0 {
			t.Errorf("%s: another namespace has them, too", k.plural)
		}
	}
	want := map[string]int{}
	for _, k := range resources {
		want[k.plural] = 1
	}
	want["namespaces"], want["controllerrevisions"], want["pods"], want["priorityclasses"] = 2, 2, 4, 2
	if d := gocmp.Diff(want, count); d != "" {
		t.Error(d)
	}
	if code, _ := get(t, h, http.MethodGet, "/apis/apps/v2/deployments"); code != http.StatusNotFound {
		t.Errorf("what is not there: %d", code)
	}
	if code, body := get(t, h, http.MethodPost, apps+"/namespaces/shop/deployments"); code != http.StatusMethodNotAllowed || !strings.Contains(body["message"].(string), "Git is the truth") {
		t.Errorf("written: %d %v", code, body)
	}
}
