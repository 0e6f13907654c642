package pod_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// config holds objects as a source would.
func config(objects ...runtime.Object) pod.Config {
	var d fleet.Desired
	for _, o := range objects {
		m := o.(metav1.Object)
		kind := fleet.KindConfigMap
		if _, secret := o.(*corev1.Secret); secret {
			kind = fleet.KindSecret
		}
		d.Objects = append(d.Objects, fleet.Object{ID: fleet.ObjectID{Kind: kind, Namespace: m.GetNamespace(), Name: m.GetName()}, Value: o})
	}
	for i := 1; i < len(d.Objects); i++ { // by ID, as Desired promises
		for j := i; j > 0 && d.Objects[j].ID.Compare(d.Objects[j-1].ID) < 0; j-- {
			d.Objects[j], d.Objects[j-1] = d.Objects[j-1], d.Objects[j]
		}
	}
	return pod.Config{Desired: d}
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Data: data}
}

func secret(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

func decode[T any](t *testing.T, text string) *T {
	t.Helper()
	v := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestInvoke(t *testing.T) {
	settings := config(
		configMap("a", map[string]string{"COLOUR": "red", "SIZE": "L", "not a name": "x", "1ST": "one"}),
		configMap("b", map[string]string{"COLOUR": "blue"}),
		secret("s", map[string]string{"PASSWORD": "hunter2", "COLOUR": "grey"}),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "elsewhere"}, Data: map[string]string{"K": "v"}},
	)
	for _, test := range []struct {
		name, container string
		want            pod.Invocation
		err             []string // each must be in the error
	}{
		{name: "nothing", container: `{}`, want: pod.Invocation{Env: map[string]string{}}},
		{
			name: "envFrom, the later wins, what is no name is passed over", container: `envFrom: [{configMapRef: {name: a}}, {configMapRef: {name: b}}]`,
			want: pod.Invocation{Env: map[string]string{"COLOUR": "blue", "SIZE": "L"}},
		},
		{
			name: "envFrom, the other order", container: `envFrom: [{configMapRef: {name: b}}, {secretRef: {name: s}}]`,
			want: pod.Invocation{Env: map[string]string{"COLOUR": "grey", "PASSWORD": "hunter2"}},
		},
		{
			name: "env over envFrom", container: `{envFrom: [{configMapRef: {name: b}}], env: [{name: COLOUR, value: green}]}`,
			want: pod.Invocation{Env: map[string]string{"COLOUR": "green"}},
		},
		{
			name: "env twice, the later wins", container: `env: [{name: A, value: one}, {name: A, value: two}]`,
			want: pod.Invocation{Env: map[string]string{"A": "two"}},
		},
		{
			name: "prefix", container: `envFrom: [{prefix: P_, configMapRef: {name: b}}, {configMapRef: {name: b}}]`,
			want: pod.Invocation{Env: map[string]string{"P_COLOUR": "blue", "COLOUR": "blue"}},
		},
		{
			name: "expansion sees what came before only", container: `env: [{name: A, value: "$(B)"}, {name: B, value: b}, {name: C, value: "$(B)$(A)"}]`,
			want: pod.Invocation{Env: map[string]string{"A": "$(B)", "B": "b", "C": "b$(B)"}},
		},
		{
			name:      "expansion sees envFrom and references",
			container: `{envFrom: [{configMapRef: {name: b}}], env: [{name: P, valueFrom: {secretKeyRef: {name: s, key: PASSWORD}}}, {name: U, value: "u:$(P)@$(COLOUR)"}]}`,
			want:      pod.Invocation{Env: map[string]string{"COLOUR": "blue", "P": "hunter2", "U": "u:hunter2@blue"}},
		},
		{
			name: "a variable refers to its former self", container: `env: [{name: A, value: a}, {name: A, value: "$(A)b"}]`,
			want: pod.Invocation{Env: map[string]string{"A": "ab"}},
		},
		{
			name: "a referenced value is not expanded",
			container: `{env: [{name: A, value: a}, {name: B, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['dollar']"}}}],
                         args: ["$(B)"]}`,
			want: pod.Invocation{Env: map[string]string{"A": "a", "B": "$(A)"}, Args: []string{"$(A)"}},
		},
		{
			name: "command and args", container: `{env: [{name: P, valueFrom: {secretKeyRef: {name: s, key: PASSWORD}}}], command: [run, "--as=$(P)"], args: ["$$(P)", "$(NO)"]}`,
			want: pod.Invocation{Env: map[string]string{"P": "hunter2"}, Command: []string{"run", "--as=hunter2"}, Args: []string{"$(P)", "$(NO)"}},
		},
		{
			name: "optional things that are missing",
			container: `{envFrom: [{configMapRef: {name: gone, optional: true}}, {secretRef: {name: gone, optional: true}}, {configMapRef: {name: b}}],
                         env: [{name: COLOUR, valueFrom: {configMapKeyRef: {name: gone, key: x, optional: true}}},
                               {name: K, valueFrom: {configMapKeyRef: {name: b, key: gone, optional: true}}},
                               {name: L, valueFrom: {secretKeyRef: {name: s, key: gone, optional: true}}},
                               {name: M, valueFrom: {secretKeyRef: {name: gone, key: gone, optional: true}}}]}`,
			want: pod.Invocation{Env: map[string]string{"COLOUR": "blue"}},
		},
		{
			name: "all that is missing is named at once",
			container: `{envFrom: [{configMapRef: {name: noMap}}, {secretRef: {name: noSecret}}],
                         env: [{name: A, valueFrom: {configMapKeyRef: {name: b, key: noKey}}}, {name: B, valueFrom: {secretKeyRef: {name: s, key: noSecretKey}}},
                               {name: C, valueFrom: {configMapKeyRef: {name: elsewhere, key: K}}}, {name: D, valueFrom: {}},
                               {name: E, valueFrom: {fieldRef: {fieldPath: spec.secretKey}}}]}`,
			err: []string{"ConfigMap shop/noMap", "Secret shop/noSecret", `ConfigMap shop/b has no key "noKey"`, `Secret shop/s has no key "noSecretKey"`,
				"ConfigMap shop/elsewhere", "env D", `"spec.secretKey"`},
		},
		{
			name: "fields", container: `env: [
                  {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}},
                  {name: PODUID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}, {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app.io/x']"}}},
                  {name: NOLABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['no']"}}}, {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}},
                  {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, {name: SA, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}},
                  {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}},
                  {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}, {name: HOSTS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}]`,
			want: pod.Invocation{Env: map[string]string{
				"NAME": "web-1", "NS": "shop", "PODUID": "uid-1", "LABEL": "web", "NOLABEL": "", "NOTE": "hi", "NODE": "alpha", "SA": "robot",
				"IP": "10.42.0.7", "IPS": "10.42.0.7,fd00::7", "HOST": "10.0.0.11", "HOSTS": "10.0.0.11",
			}},
		},
		{
			name: "resources, rounded up", container: `{resources: {requests: {cpu: 1200m, memory: 64Mi}, limits: {cpu: 1500m, memory: 100M}}, env: [
                  {name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}},
                  {name: C, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}, {name: D, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}},
                  {name: E, valueFrom: {resourceFieldRef: {resource: requests.memory}}}, {name: F, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Gi}}},
                  {name: G, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1M}}}]}`,
			want: pod.Invocation{Env: map[string]string{"A": "2", "B": "1500", "C": "2", "D": "96", "E": "67108864", "F": "1", "G": "100"}},
		},
		{
			name: "a limit that is not set is what the node has", container: `env: [
                  {name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Gi}}},
                  {name: C, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}]`,
			want: pod.Invocation{Env: map[string]string{"A": "4", "B": "8", "C": "0"}},
		},
		{
			name: "a request that is not set is the limit", container: `{resources: {limits: {cpu: 250m, memory: 32Mi}}, env: [
                  {name: A, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}, {name: B, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}]}`,
			want: pod.Invocation{Env: map[string]string{"A": "250", "B": "32"}},
		},
		{
			name: "resources of another container", container: `env: [{name: A, valueFrom: {resourceFieldRef: {containerName: other, resource: limits.cpu, divisor: 1m}}}]`,
			want: pod.Invocation{Env: map[string]string{"A": "100"}},
		},
		{
			name: "resources of no container, and no resource", container: `env: [{name: A, valueFrom: {resourceFieldRef: {containerName: nobody, resource: limits.cpu}}}, {name: B, valueFrom: {resourceFieldRef: {resource: cpu}}}]`,
			err: []string{`no container "nobody"`, `"cpu" is neither`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := decode[corev1.Container](t, test.container)
			c.Name = "web"
			spec := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "shop", Name: "web-1", UID: "uid-1", Labels: map[string]string{"app.io/x": "web"},
					Annotations: map[string]string{"note": "hi", "dollar": "$(A)"},
				},
				Spec: corev1.PodSpec{NodeName: "alpha", ServiceAccountName: "robot", Containers: []corev1.Container{*c, {
					Name: "other", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("100m")}},
				}}},
			}
			got, err := pod.Invoke(spec, c, settings, pod.Place{
				Address: "10.0.0.11", PodIPs: []string{"10.42.0.7", "fd00::7"},
				Allocatable: corev1.ResourceList{"cpu": resource.MustParse("3900m"), "memory": resource.MustParse("8Gi")},
			})
			if test.err != nil {
				if err == nil {
					t.Fatalf("no error, but %v", got)
				}
				for _, part := range test.err {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error %q does not name %q", err, part)
					}
				}
				for _, value := range []string{"hunter2", "blue", "grey"} {
					if strings.Contains(err.Error(), value) {
						t.Errorf("error %q shows the value %q", err, value)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// With nothing known of the pod yet (Next only asks whether it could be made) fields are empty, not errors.
func TestFieldsWithoutPlace(t *testing.T) {
	spec := &corev1.Pod{}
	for _, path := range []string{"status.podIP", "status.podIPs", "status.hostIP", "metadata.labels['x']"} {
		if got, err := pod.Field(spec, path, pod.Place{}); err != nil || got != "" {
			t.Errorf("Field(%s) = %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"", "metadata.labels", "metadata.labels['x'", "status.phase"} {
		if got, err := pod.Field(spec, path, pod.Place{}); err == nil {
			t.Errorf("Field(%s) = %q without an error", path, got)
		}
	}
}
