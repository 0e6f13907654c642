package manifest

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
)

// value is a piece of a manifest that can be written in many ways.
type value struct {
	text string   // a scalar as it is written
	keys []string // of a map
	list []value
	vals []value
}

func object(pairs ...any) value {
	v := value{}
	for i := 0; i < len(pairs); i += 2 {
		v.keys = append(v.keys, pairs[i].(string))
		switch p := pairs[i+1].(type) {
		case string:
			v.vals = append(v.vals, value{text: p})
		case value:
			v.vals = append(v.vals, p)
		}
	}
	return v
}

func list(items ...value) value { return value{list: items} }

// write writes a value as YAML, in an order and layout of the generator's choice.
func (v value) write(t *rapid.T, indent int) string {
	pad := strings.Repeat("  ", indent)
	comment := func() string {
		return rapid.SampledFrom([]string{"", "", " # why", "\n" + pad + "# above", "\n"}).Draw(t, "comment")
	}
	switch {
	case v.keys != nil:
		order := make([]int, len(v.keys))
		for i := range order {
			order[i] = i
		}
		rand.New(rand.NewSource(rapid.Int64().Draw(t, "order"))).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		flow := rapid.IntRange(0, 4).Draw(t, "flow") == 0
		var parts []string
		for _, i := range order {
			if flow {
				parts = append(parts, fmt.Sprintf("%q: %s", v.keys[i], v.vals[i].flow()))
				continue
			}
			parts = append(parts, pad+v.keys[i]+": "+strings.TrimPrefix(v.vals[i].write(t, indent+1), pad+"  ~"))
		}
		if flow {
			return "{" + strings.Join(parts, ", ") + "}" + comment() + "\n"
		}
		return comment() + "\n" + strings.Join(parts, "")
	case v.list != nil:
		out := comment() + "\n"
		for _, item := range v.list {
			out += pad + "- " + item.write(t, indent+1)
		}
		return out
	}
	return v.text + comment() + "\n"
}

// flow writes a value in one line.
func (v value) flow() string {
	var parts []string
	for i, key := range v.keys {
		parts = append(parts, key+": "+v.vals[i].flow())
	}
	for _, item := range v.list {
		parts = append(parts, item.flow())
	}
	switch {
	case v.keys != nil:
		return "{" + strings.Join(parts, ", ") + "}"
	case v.list != nil:
		return "[" + strings.Join(parts, ",  ") + "]"
	}
	return v.text
}

// TestHashIsOfContent: order of keys, layout, comments and quantities' spelling do not change the hash.
func TestHashIsOfContent(t *testing.T) {
	t.Parallel()
	manifest := object("apiVersion", "apps/v1", "kind", "Deployment", "metadata", object("name", "web"),
		"spec", object("replicas", "2", "selector", object("matchLabels", object("app", "web")),
			"template", object("metadata", object("labels", object("app", "web", "tier", "front"), "annotations", object("a", `"1"`, "b", "x")),
				"spec", object("terminationGracePeriodSeconds", "5", "containers", list(
					object("name", "a", "image", "nginx:1", "command", list(value{text: "a"}, value{text: `"b"`}),
						"resources", object("limits", object("cpu", "1000m", "memory", "1Gi")),
						"env", list(object("name", "A", "value", `"yes"`), object("name", "B", "valueFrom", object("secretKeyRef", object("name", "s", "key", "k"))))),
					object("name", "b", "image", "busybox:1"))))))
	want := one(t, manifest.flow()).Hash
	rapid.Check(t, func(rt *rapid.T) {
		text := manifest.write(rt, 0)
		r := Read(fstest.MapFS{"moved.yaml": {Data: []byte(text)}}, ".")
		if len(r.Objects) != 1 {
			rt.Fatalf("%s\n%v", text, r.Faults)
		}
		if r.Objects[0].Hash != want {
			rt.Fatalf("got hash %s, want %s, of\n%s", r.Objects[0].Hash, want, text)
		}
	})
	if other := one(t, strings.Replace(manifest.flow(), "nginx:1", "nginx:2", 1)).Hash; other == want {
		t.Error("another image has the same hash")
	}
}

// TestDefaultingIsIdempotent defaults random templates twice.
func TestDefaultingIsIdempotent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &corev1.Pod{Spec: corev1.PodSpec{
			HostNetwork:   rapid.Bool().Draw(t, "hostNetwork"),
			RestartPolicy: rapid.SampledFrom([]corev1.RestartPolicy{"", "Always", "Never"}).Draw(t, "restartPolicy"),
			InitContainers: []corev1.Container{{
				StartupProbe: &corev1.Probe{FailureThreshold: rapid.Int32Range(0, 3).Draw(t, "failures"), ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}},
				Lifecycle:    &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{}}},
			}},
			Containers: []corev1.Container{{
				Image:         rapid.SampledFrom([]string{"a", "a:1", "a@sha256:0", "h:5/a"}).Draw(t, "image"),
				Ports:         []corev1.ContainerPort{{ContainerPort: rapid.Int32Range(1, 9).Draw(t, "port")}},
				LivenessProbe: &corev1.Probe{PeriodSeconds: rapid.Int32Range(0, 3).Draw(t, "period"), ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{}}},
			}},
			Volumes: []corev1.Volume{{Name: "a"}, {Name: "b", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}},
		}}
		template := &corev1.PodTemplateSpec{Spec: *p.Spec.DeepCopy()}
		DefaultPod(p)
		again := p.DeepCopy()
		DefaultPod(again)
		if diff := cmp.Diff(p, again); diff != "" {
			t.Fatal(diff)
		}
		DefaultTemplate(template)
		twice := template.DeepCopy()
		DefaultTemplate(twice)
		if diff := cmp.Diff(template, twice); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestOrderOfFilesIsFixed: the same files give the same result, and objects come in the order of their IDs.
func TestOrderOfFilesIsFixed(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{}
	for i := range 20 {
		fsys[fmt.Sprintf("d%d/f%d.yaml", i%3, i)] = &fstest.MapFile{Data: []byte(fmt.Sprintf(
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: c%d, a: b, c: d}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: ok%d}}", i%15, i%17))}
	}
	first := Read(fsys, ".")
	for range 5 {
		if diff := cmp.Diff(summary(first), summary(Read(fsys, "."))); diff != "" {
			t.Fatal(diff)
		}
	}
	if !slices.IsSortedFunc(first.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) }) {
		t.Error("objects are not in order")
	}
}
