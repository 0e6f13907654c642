package pod_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// TestProjected: volumes of many sources, and those that tell a pod of itself (semantics 2.7).
func TestProjected(t *testing.T) {
	settings := config(
		configMap("a", map[string]string{"x": "ax", "y": "ay"}), configMap("b", map[string]string{"y": "by", "z": "bz"}),
		secret("s", map[string]string{"key": "hunter2", "x": "hunter3"}),
	)
	file := func(path, data string, mode int32) fleet.File {
		return fleet.File{Path: path, Data: []byte(data), Mode: mode}
	}
	for _, test := range []struct {
		name, volume string
		want         []fleet.File
		err          []string // each must be in the error
	}{
		{name: "no sources", volume: `projected: {sources: []}`},
		{name: "one source", volume: `projected: {sources: [{configMap: {name: a}}]}`, want: []fleet.File{file("x", "ax", 0o644), file("y", "ay", 0o644)}},
		{name: "merged, the later wins", volume: `projected: {sources: [{configMap: {name: a}}, {configMap: {name: b}}]}`,
			want: []fleet.File{file("x", "ax", 0o644), file("y", "by", 0o644), file("z", "bz", 0o644)}},
		{name: "merged the other way round", volume: `projected: {sources: [{configMap: {name: b}}, {configMap: {name: a}}]}`,
			want: []fleet.File{file("x", "ax", 0o644), file("y", "ay", 0o644), file("z", "bz", 0o644)}},
		{name: "a secret among them", volume: `projected: {defaultMode: 256, sources: [{secret: {name: s, items: [{key: key, path: sub/key}]}}, {configMap: {name: a, items: [{key: x, path: sub/x, mode: 420}]}}]}`,
			want: []fleet.File{file("sub/key", "hunter2", 0o400), file("sub/x", "ax", 0o644)}},
		{name: "an item over a key", volume: `projected: {sources: [{configMap: {name: a}}, {secret: {name: s, items: [{key: key, path: x, mode: 256}]}}]}`,
			want: []fleet.File{file("x", "hunter2", 0o400), file("y", "ay", 0o644)}},
		{name: "a key over an item takes its mode along", volume: `projected: {sources: [{secret: {name: s, items: [{key: key, path: x, mode: 256}]}}, {configMap: {name: a}}]}`,
			want: []fleet.File{file("x", "ax", 0o644), file("y", "ay", 0o644)}},
		{name: "all three kinds", volume: `projected: {sources: [{configMap: {name: a, items: [{key: x, path: c}]}}, {secret: {name: s, items: [{key: key, path: s}]}},
			{downwardAPI: {items: [{path: d, fieldRef: {fieldPath: metadata.name}}]}}]}`, want: []fleet.File{file("c", "ax", 0o644), file("d", "web-1", 0o644), file("s", "hunter2", 0o644)}},
		{name: "missing map", volume: `projected: {sources: [{configMap: {name: a}}, {configMap: {name: gone}}]}`, err: []string{"ConfigMap shop/gone is not there"}},
		{name: "missing secret", volume: `projected: {sources: [{secret: {name: gone}}]}`, err: []string{"Secret shop/gone is not there"}},
		{name: "missing key", volume: `projected: {sources: [{secret: {name: s, items: [{key: gone, path: x}]}}]}`, err: []string{`Secret shop/s has no key "gone"`}},
		{name: "everything missing is named", volume: `projected: {sources: [{secret: {name: one}}, {configMap: {name: two}}, {configMap: {name: a, items: [{key: three, path: x}]}}]}`,
			err: []string{"Secret shop/one", "ConfigMap shop/two", `no key "three"`}},
		{name: "optional map and secret", volume: `projected: {sources: [{secret: {name: gone, optional: true}}, {configMap: {name: gone, optional: true}}, {configMap: {name: b}}]}`,
			want: []fleet.File{file("y", "by", 0o644), file("z", "bz", 0o644)}},
		{name: "optional key", volume: `projected: {sources: [{secret: {name: s, optional: true, items: [{key: gone, path: x}, {key: key, path: w}]}}]}`, want: []fleet.File{file("w", "hunter2", 0o644)}},
		{name: "one is optional, another is not", volume: `projected: {sources: [{secret: {name: gone, optional: true}}, {configMap: {name: gone}}]}`, err: []string{"ConfigMap shop/gone is not there"}},

		{name: "fields", volume: `downwardAPI: {defaultMode: 292, items: [{path: name, fieldRef: {fieldPath: metadata.name}}, {path: ns, fieldRef: {fieldPath: metadata.namespace}}, {path: u, mode: 256, fieldRef: {fieldPath: metadata.uid}}]}`,
			want: []fleet.File{file("name", "web-1", 0o444), file("ns", "shop", 0o444), file("u", "uid-1", 0o400)}},
		{name: "all labels, all annotations", volume: `downwardAPI: {items: [{path: l, fieldRef: {fieldPath: metadata.labels}}, {path: a, fieldRef: {fieldPath: metadata.annotations}}]}`,
			want: []fleet.File{file("a", `note="two\nlines"`, 0o644), file("l", "a=\"quo\\\"te\"\napp=\"web\"", 0o644)}},
		{name: "one label, one annotation", volume: `downwardAPI: {items: [{path: l, fieldRef: {fieldPath: "metadata.labels['a']"}}, {path: a, fieldRef: {fieldPath: "metadata.annotations['note']"}}, {path: absent, fieldRef: {fieldPath: "metadata.labels['no']"}}]}`,
			want: []fleet.File{file("a", "two\nlines", 0o644), file("absent", "", 0o644), file("l", `quo"te`, 0o644)}},
		{name: "resources", volume: `downwardAPI: {items: [{path: l, resourceFieldRef: {containerName: web, resource: limits.memory}}, {path: m, resourceFieldRef: {containerName: web, resource: limits.memory, divisor: 1Mi}},
			{path: r, resourceFieldRef: {containerName: web, resource: requests.memory, divisor: 1Gi}}, {path: c, resourceFieldRef: {containerName: web, resource: requests.cpu}}]}`,
			want: []fleet.File{file("c", "0", 0o644), file("l", "67108864", 0o644), file("m", "64", 0o644), file("r", "1", 0o644)}},
		{name: "a limit that is not set is the machine's", volume: `downwardAPI: {items: [{path: c, resourceFieldRef: {containerName: web, resource: limits.cpu, divisor: 1m}}, {path: i, resourceFieldRef: {containerName: first, resource: limits.memory, divisor: 1Mi}}]}`,
			want: []fleet.File{file("c", "4000", 0o644), file("i", "1024", 0o644)}},
		{name: "no such container", volume: `downwardAPI: {items: [{path: c, resourceFieldRef: {containerName: gone, resource: limits.cpu}}]}`, err: []string{`no container "gone"`}},
		{name: "no container", volume: `downwardAPI: {items: [{path: c, resourceFieldRef: {resource: limits.cpu}}]}`, err: []string{"no container"}},
		{name: "no such field", volume: `downwardAPI: {items: [{path: c, fieldRef: {fieldPath: spec.gone}}]}`, err: []string{"spec.gone"}},
		{name: "neither", volume: `downwardAPI: {items: [{path: c}]}`, err: []string{"neither a field nor a resource"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := pod.Files(subject(), decode[corev1.Volume](t, test.volume), settings, pod.Place{Allocatable: machine})
			for _, part := range test.err {
				if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "hunter") {
					t.Errorf("error %v, want %q", err, part)
				}
			}
			if len(test.err) > 0 {
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

func TestWrittenOfMany(t *testing.T) {
	for text, want := range map[string][2]bool{
		`downwardAPI: {items: []}`:                                            {true, false},
		`projected: {sources: []}`:                                            {true, false},
		`projected: {sources: [{configMap: {name: a}}]}`:                      {true, false},
		`projected: {sources: [{secret: {name: a}}]}`:                         {true, true},
		`projected: {sources: [{configMap: {name: a}}, {secret: {name: a}}]}`: {true, true},
		`projected: {sources: [{secret: {name: a}}, {configMap: {name: a}}]}`: {true, true},
		`persistentVolumeClaim: {claimName: a}`:                               {},
	} {
		if written, secret := pod.Written(decode[corev1.Volume](t, text)); [2]bool{written, secret} != want {
			t.Errorf("Written(%s) = %v, %v", text, written, secret)
		}
	}
}

// TestClaims: a pod waits for its claims, and has what was made for one whose file is gone.
func TestClaims(t *testing.T) {
	desired := func(names ...string) pod.Config {
		var d fleet.Desired
		for _, name := range names {
			d.Objects = append(d.Objects, fleet.Object{
				ID:    fleet.ObjectID{Kind: fleet.KindPersistentVolumeClaim, Namespace: "shop", Name: name},
				Value: &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}},
			})
		}
		return pod.Config{Desired: d}
	}
	observed := func(namespace, name string) []fleet.ObservedClaim {
		return []fleet.ObservedClaim{{Claim: fleet.ClaimID{Namespace: namespace, Name: name}, PodmanName: namespace + "_" + name}}
	}
	const volumes = "volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]"
	of := func() *scene { return staged(t, always, "one", "web", volumes) }
	with := func(s *scene, c pod.Config, o []fleet.ObservedClaim) *scene { s.Config, s.Claims = c, o; return s }
	const waits = "volume data: PersistentVolumeClaim shop/data is not there"
	for _, test := range []struct {
		name  string
		scene *scene
		steps string
		note  string
	}{
		{"desired", with(of(), desired("data"), nil), "volumes, sandbox, start one", ""},
		{"desired and there", with(of(), desired("data"), observed("shop", "data")), "volumes, sandbox, start one", ""},
		{"only there", with(of(), desired(), observed("shop", "data")), "volumes, sandbox, start one", ""},
		{"missing", of(), "", waits},
		{"another's name", with(of(), desired("other"), observed("shop", "other")), "", waits},
		{"another namespace's", with(of(), desired(), observed("default", "data")), "", waits},
		{"missing, and an initial one runs", of().in("one=running"), "", ""},
		{"missing, and all runs", of().in("one=0 web=running"), "", ""},
		{"missing, for the next container", of().in("one=0"), "", waits},
		{"missing, for a restart", of().in("one=0 web=1"), "", waits},
		{"missing, for another image", of().in("one=0 web=running!"), "", waits},
		{"missing, for a new sandbox", of().box(fleet.Exited).in("one=0 web=137"), "", waits},
		{"there, for a restart", with(of().in("one=0 web=1"), desired("data"), nil), "volumes, retire web, start web/1", ""},
		{"missing, and to go", of().in("one=0 web=running").drains(0), "stop all 30s, teardown, clean", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := pod.Next(test.scene.Input)
			if got := brief(r); got != test.steps {
				t.Errorf("steps %q, want %q", got, test.steps)
			}
			if test.note != "" && (!slices.Contains(r.Notes, test.note) || !r.Late) {
				t.Errorf("notes %q (late %t), want %q", r.Notes, r.Late, test.note)
			}
			for _, s := range r.Steps {
				if s.Verb == fleet.Volume && len(s.Content) > 0 {
					t.Errorf("a claim's content is nobody's to write: %v", s.Content)
				}
			}
		})
	}
}

// Volumes that tell of many things are asked for once, and again when one of those things changed.
func TestProjectedIsWrittenWhenItChanged(t *testing.T) {
	const volumes = `volumes: [{name: all, projected: {sources: [{configMap: {name: a}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}]`
	of := func(value, label string) *scene {
		s := staged(t, always, "", "web", volumes).in("web=running")
		s.Config, s.Spec.Labels = config(configMap("a", map[string]string{"k": value})), map[string]string{"l": label}
		return s
	}
	written := pod.Next(of("v", "x").Input).Steps
	if len(written) != 1 || written[0].Verb != fleet.Volume || len(written[0].Content) != 1 {
		t.Fatalf("steps %v", written)
	}
	for _, test := range []struct {
		value, label string
		again        bool
	}{{"v", "x", false}, {"w", "x", true}, {"v", "y", true}} {
		s := of(test.value, test.label)
		s.Volumes = written[0].Content
		if r := pod.Next(s.Input); (len(r.Steps) > 0) != test.again {
			t.Errorf("%s, %s: steps %v", test.value, test.label, r.Steps)
		}
	}
	over := of("w", "y").edit(func(in *pod.Input) { in.Spec.Spec.RestartPolicy = never })
	over.Observed.Containers[0].State, over.Observed.Containers[0].Finished = fleet.Exited, now.Add(-time.Second)
	if r := pod.Next(over.Input); len(r.Steps) > 0 {
		t.Errorf("over, and yet %v", r.Steps)
	}
}
