package manifest

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/podsecurity"
)

// TestPolicyKeepsWhatRuns: when a level is raised, what was let in before is kept in its last version, as pods
// run on in Kubernetes. What goes from the tree goes.
func TestPolicyKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"a.yaml": {Data: []byte("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostPID: true, containers: [{name: a, image: x}]}}")},
		"b.yaml": {Data: []byte("{apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{name: a, image: x}]}}")},
	}
	before := Read(fsys, ".")
	if diff := cmp.Diff(summary(before), summary(Policy{PodSecurity: podsecurity.Privileged}.Read(fsys, "."))); diff != "" {
		t.Errorf("the zero policy and that of the level privileged differ:\n%s", diff)
	}
	after := Policy{PodSecurity: podsecurity.Baseline}.Read(fsys, ".")
	if len(before.Objects) != 2 || len(after.Objects) != 1 || !after.Lost("a.yaml") || after.Lost("b.yaml") {
		t.Fatalf("before:\n%s\nafter:\n%s", summary(before), summary(after))
	}
	kept := Keep(before.Objects, after, false)
	if len(kept.Objects) != 2 || len(kept.Notes) != 1 || kept.Notes[0].About != (fleet.ObjectID{Kind: "Pod", Namespace: "default", Name: "a"}) {
		t.Errorf("got %v and the notes %v, want both pods and a note on a", kept.Objects, kept.Notes)
	}
	delete(fsys, "a.yaml")
	if kept := Keep(before.Objects, Policy{PodSecurity: podsecurity.Baseline}.Read(fsys, "."), false); len(kept.Objects) != 1 {
		t.Errorf("got %v, want only what is still there", kept.Objects)
	}
}

// TestNamespaceAsksInKustomizations: labels and pods may come from renderings, and faults still name the file.
func TestNamespaceAsksInKustomizations(t *testing.T) {
	t.Parallel()
	r := Read(fstest.MapFS{
		"ns.yaml":              {Data: []byte("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: baseline}}}")},
		"k/kustomization.yaml": {Data: []byte("namespace: shop\nresources: [pod.yaml]\n")},
		"k/pod.yaml":           {Data: []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  hostPID: true\n  containers: [{name: a, image: x}]\n")},
	}, ".")
	const want = `Namespace/shop from ns.yaml:1
NotRun k/pod.yaml:5: Pod/shop/a: spec.hostPID: must not be true: Namespace/shop enforces the Pod Security Standard "baseline"
broken "k/pod.yaml"
`
	if diff := cmp.Diff(want, summary(r)); diff != "" {
		t.Errorf("want (-) and got (+) differ:\n%s", diff)
	}
}
