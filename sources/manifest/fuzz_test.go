package manifest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// FuzzRead: reading never panics, is the same twice, takes each document or says why not, and what a good
// object is written back as has the same hash.
func FuzzRead(f *testing.F) {
	golden, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range golden {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name == "want" {
				continue
			}
			for _, doc := range strings.Split(string(file.Data), "\n---\n") {
				f.Add([]byte(doc))
			}
		}
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("? {a: b}\n: c"))
	f.Add([]byte(bareDeployment))
	for _, spec := range []string{"{type: LoadBalancer, ports: null, clusterIPs: ['']}", "{clusterIP: None, clusterIPs: [null], ports: [{targetPort: ''}]}", "{type: ExternalName, externalName: ., sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: null}}",
		"{externalIPs: ['', '::%', '0x7f.1'], ports: [{port: 2147483647, targetPort: '0'}, {port: -2147483648}]}", "{type: LoadBalancer, loadBalancerSourceRanges: [' 10.0.0.0/8', '::/0', '0/0', '1.2.3.4/-1', '1.2.3.4/032']}"} {
		f.Add([]byte("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: " + spec + "}"))
	}
	for _, spec := range []string{"{ingress: [null, {from: [{ipBlock: null}], ports: [{endPort: 1}, {port: '', endPort: 0}]}]}", "{egress: [{to: [{ipBlock: {cidr: '::/0', except: ['0.0.0.0/0', '']}}]}], policyTypes: ['', null]}"} {
		f.Add([]byte("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: " + spec + "}"))
	}
	f.Add([]byte("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: FQDN, endpoints: [null, {addresses: ['', ., null]}], ports: [null, {port: 0}]}"))
	f.Add([]byte("{apiVersion: v1, kind: Endpoints, metadata: {name: a}, subsets: [null, {addresses: [null], ports: [null]}]}"))
	for _, schedule := range []string{"TZ=", "CRON_TZ=UTC", "@every", "@every -1s", "@every 1ns", "*/0 * * * *", ", , , , ,", "? ? ? ? ?", "0 0 30 2 *", "-1- * * * *", "0-59/99999999999999999999 * * * *"} {
		f.Add(fmt.Appendf(nil, "{apiVersion: batch/v1, kind: CronJob, metadata: {name: a}, spec: {schedule: %q, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: b}]}}}}}}", schedule))
	}
	_ = filepath.WalkDir("testdata/tree", func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if data, err := os.ReadFile(name); err == nil {
				f.Add(data)
			}
		}
		return nil
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := fstest.MapFS{"a.yaml": {Data: data}, "b.json": {Data: data}}
		r := Read(fsys, ".")
		if diff := cmp.Diff(summary(r), summary(Read(fsys, "."))); diff != "" {
			t.Fatal(diff)
		}
		for _, o := range r.Objects {
			again := o.Value.DeepCopyObject()
			if defaultObject(again); ofServices[o.ID.Kind] && !cmp.Equal(again, o.Value) {
				t.Errorf("%s: defaulted twice, it differs:\n%s", o.ID, cmp.Diff(o.Value, again))
			}
		}
		for _, fault := range r.Faults {
			if fault.Text == "" || fault.File == "" || fault.Line < 0 {
				t.Errorf("an empty fault: %+v", fault)
			}
		}
		for _, o := range r.Objects {
			if o.Template == nil {
				continue
			}
			// The template is the object as written; everything else of it is not hashed.
			written := map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": map[string]any{"name": "again"},
				"spec": map[string]any{"selector": map[string]any{"matchLabels": o.Template.Labels}, "template": o.Template}}
			if policy := o.Template.Spec.RestartPolicy; policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure {
				written = map[string]any{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": map[string]any{"name": "again"},
					"spec": map[string]any{"schedule": "@daily", "jobTemplate": map[string]any{"spec": map[string]any{"template": o.Template}}}}
			}
			text, err := yaml.Marshal(written)
			if err != nil {
				t.Fatal(err)
			}
			again := Read(fstest.MapFS{"a.yaml": {Data: text}}, ".")
			if len(again.Objects) != 1 {
				continue // a Pod may be what a template may not, and one of a StatefulSet has its claims beside it
			}
			if again.Objects[0].Hash != o.Hash {
				t.Errorf("written back, the hash is another:\n%s", text)
			}
		}
	})
}

// FuzzKustomization: rendering never panics outside of kustomize, is the same twice, asks for nothing in
// the network and starts nothing.
func FuzzKustomization(f *testing.F) {
	for _, name := range []string{"testdata/kustomize.txtar", "testdata/kustomize_errors.txtar"} {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if slices.Contains(names, filepath.Base(file.Name)) {
				f.Add(file.Data, []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"))
			}
		}
	}
	f.Add([]byte("generators: [a.yaml]"), []byte("{apiVersion: builtin, kind: SecretGenerator, metadata: {name: a}, literals: [a=b]}"))
	f.Add([]byte("transformers: [a.yaml]\nresources: [b]"), []byte("{apiVersion: builtin, kind: PrefixTransformer, metadata: {name: a}, prefix: a, fieldSpecs: [{path: metadata/name}]}"))
	http.DefaultTransport = noNetwork{f}
	f.Setenv("PATH", "")
	f.Fuzz(func(t *testing.T, kustomization, file []byte) {
		fsys := fstest.MapFS{"kustomization.yaml": {Data: kustomization}, "a.yaml": {Data: file},
			"b/kustomization.yaml": {Data: []byte("resources: [c.yaml]")}, "b/c.yaml": {Data: []byte(bareDeployment)}}
		r := Read(fsys, ".")
		if diff := cmp.Diff(summary(r), summary(Read(fsys, "."))); diff != "" {
			t.Fatal(diff)
		}
		for _, fault := range r.Faults {
			if strings.Contains(fault.Text, "git' program") || strings.Contains(fault.Text, "clon") || strings.Contains(fault.Text, "exec") {
				t.Error(fault)
			}
		}
	})
}
