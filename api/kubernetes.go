package api

import (
	"encoding/json"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
