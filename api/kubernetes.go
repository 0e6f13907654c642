package api

import (
	"encoding/json"
	"net/http"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// resource is one kind as the Kubernetes API names it.
type resource struct {
	prefix     string // /api/v1 or /apis/apps/v1
	plural     string
	kind       string
	namespaced bool
	list       func(view *reconcile.View, desired fleet.Desired, nodes []fleet.Node) []metav1.Object
}

var resources = []resource{
	{"/api/v1", "namespaces", fleet.KindNamespace, false, listNamespaces},
	{"/api/v1", "nodes", fleet.KindNode, false, listNodes},
	{"/api/v1", "pods", fleet.KindPod, true, func(v *reconcile.View, _ fleet.Desired, _ []fleet.Node) []metav1.Object {
		return pointers[corev1.Pod](v.Pods())
	}},
	{"/api/v1", "persistentvolumeclaims", fleet.KindPersistentVolumeClaim, true, func(v *reconcile.View, _ fleet.Desired, _ []fleet.Node) []metav1.Object {
		return pointers[corev1.PersistentVolumeClaim](v.Claims())
	}},
	{"/api/v1", "configmaps", fleet.KindConfigMap, true, listConfigMaps},
	{"/api/v1", "secrets", fleet.KindSecret, true, listSecrets},
	{"/apis/apps/v1", "deployments", fleet.KindDeployment, true, func(v *reconcile.View, _ fleet.Desired, _ []fleet.Node) []metav1.Object {
		return pointers[appsv1.Deployment](v.Deployments())
	}},
	{"/apis/apps/v1", "replicasets", fleet.KindReplicaSet, true, func(v *reconcile.View, _ fleet.Desired, _ []fleet.Node) []metav1.Object {
		return pointers[appsv1.ReplicaSet](v.ReplicaSets())
	}},
}

// kubernetes adds the read-only Kubernetes dialect.
func (s *server) kubernetes(mux *http.ServeMux) {
	for _, k := range resources {
		mux.HandleFunc("GET "+k.prefix+"/"+k.plural, s.lists(k))
		if !k.namespaced {
			mux.HandleFunc("GET "+k.prefix+"/"+k.plural+"/{name}", s.gets(k))
			continue
		}
		mux.HandleFunc("GET "+k.prefix+"/namespaces/{namespace}/"+k.plural, s.lists(k))
		mux.HandleFunc("GET "+k.prefix+"/namespaces/{namespace}/"+k.plural+"/{name}", s.gets(k))
	}
	for _, prefix := range []string{"/api/", "/apis/"} {
		mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				failure(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed,
					"this API is read-only: Git is the truth; change the manifests and push, or use skerry apply")
				return
			}
			failure(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		})
	}
}

// objects are a kind's objects in one namespace; in all when it is empty.
func (s *server) objects(r *http.Request, k resource) ([]metav1.Object, error) {
	view, desired, nodes, err := s.View(r.Context())
	if err != nil {
		return nil, err
	}
	list := []metav1.Object{}
	for _, o := range k.list(view, desired, nodes) {
		if namespace := r.PathValue("namespace"); namespace == "" || o.GetNamespace() == namespace {
			list = append(list, o)
		}
	}
	return list, nil
}

func (k resource) apiVersion() string {
	return strings.TrimPrefix(strings.TrimPrefix(k.prefix, "/apis/"), "/api/")
}

func (s *server) lists(k resource) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		items, err := s.objects(r, k)
		answer(w, struct {
			metav1.TypeMeta `json:",inline"`
			Metadata        metav1.ListMeta `json:"metadata"`
			Items           []metav1.Object `json:"items"`
		}{TypeMeta: metav1.TypeMeta{APIVersion: k.apiVersion(), Kind: k.kind + "List"}, Items: items}, err)
	}
}

func (s *server) gets(k resource) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		items, err := s.objects(r, k)
		if err != nil {
			answer(w, nil, err)
			return
		}
		for _, o := range items {
			if o.GetName() == r.PathValue("name") {
				answer(w, o, nil)
				return
			}
		}
		failure(w, http.StatusNotFound, metav1.StatusReasonNotFound, k.plural+" \""+r.PathValue("name")+"\" not found")
	}
}

// failure is an error as Kubernetes writes it.
func failure(w http.ResponseWriter, code int, reason metav1.StatusReason, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{ // the client is gone if this fails
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Message: text, Reason: reason, Code: int32(code),
	})
}

// pointers are a list's items as objects.
func pointers[T any, P interface {
	*T
	metav1.Object
}](list []T) []metav1.Object {
	out := make([]metav1.Object, len(list))
	for i := range list {
		out[i] = P(&list[i])
	}
	return out
}

func listConfigMaps(_ *reconcile.View, d fleet.Desired, _ []fleet.Node) []metav1.Object {
	var list []metav1.Object
	for o, m := range fleet.Each[*corev1.ConfigMap](d) {
		m = m.DeepCopy()
		m.APIVersion, m.Kind = "v1", fleet.KindConfigMap
		reconcile.Mark(&m.ObjectMeta, o.Source, o.Revision)
		list = append(list, m)
	}
	return list
}

// listSecrets has what Secrets are called, never what is in them.
func listSecrets(_ *reconcile.View, d fleet.Desired, _ []fleet.Node) []metav1.Object {
	var list []metav1.Object
	for o, s := range fleet.Each[*corev1.Secret](d) {
		bare := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: fleet.KindSecret}, ObjectMeta: *s.ObjectMeta.DeepCopy(), Type: s.Type, Immutable: s.Immutable}
		reconcile.Mark(&bare.ObjectMeta, o.Source, o.Revision)
		list = append(list, bare)
	}
	return list
}

// listNamespaces has those of the sources, and those that something is in without any saying so.
func listNamespaces(v *reconcile.View, d fleet.Desired, _ []fleet.Node) []metav1.Object {
	var list []metav1.Object
	seen := map[string]bool{}
	for o, n := range fleet.Each[*corev1.Namespace](d) {
		n = n.DeepCopy()
		n.APIVersion, n.Kind = "v1", fleet.KindNamespace
		n.Status.Phase = corev1.NamespaceActive
		reconcile.Mark(&n.ObjectMeta, o.Source, o.Revision)
		seen[n.Name] = true
		list = append(list, n)
	}
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name] = true
			list = append(list, &corev1.Namespace{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: fleet.KindNamespace},
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name}},
				Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
			})
		}
	}
	add("default")
	for _, o := range d.Objects {
		add(o.ID.Namespace)
	}
	for _, p := range v.Pods() {
		add(p.Namespace)
	}
	return list
}

func listNodes(_ *reconcile.View, _ fleet.Desired, nodes []fleet.Node) []metav1.Object {
	var list []metav1.Object
	for _, n := range nodes {
		ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "AgentReady"}
		if n.Down != "" {
			ready = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "PodmanNotReady", Message: n.Down}
		}
		list = append(list, &corev1.Node{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: fleet.KindNode},
			ObjectMeta: metav1.ObjectMeta{Name: string(n.Name), Labels: n.Labels},
			Status: corev1.NodeStatus{
				Capacity: n.Allocatable, Allocatable: n.Allocatable,
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeInternalIP, Address: n.Address}, {Type: corev1.NodeHostName, Address: string(n.Name)},
				},
				Conditions: []corev1.NodeCondition{ready},
			},
		})
	}
	return list
}
