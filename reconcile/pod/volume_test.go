package pod_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

func TestFiles(t *testing.T) {
	settings := config(
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a"},
			Data:       map[string]string{"b.conf": "bee", "a.conf": "ay"}, BinaryData: map[string][]byte{"z.bin": {0, 255}},
		},
		secret("s", map[string]string{"key": "hunter2"}),
	)
	file := func(path, data string, mode int32) fleet.File {
		return fleet.File{Path: path, Data: []byte(data), Mode: mode}
	}
	for _, test := range []struct {
		name, volume string
		want         []fleet.File
		err          string
	}{
		{name: "all keys in order", volume: `configMap: {name: a}`, want: []fleet.File{file("a.conf", "ay", 0o644), file("b.conf", "bee", 0o644), file("z.bin", "\x00\xff", 0o644)}},
		{name: "no items are all keys", volume: `configMap: {name: a, items: []}`, want: []fleet.File{file("a.conf", "ay", 0o644), file("b.conf", "bee", 0o644), file("z.bin", "\x00\xff", 0o644)}},
		{name: "default mode", volume: `secret: {secretName: s, defaultMode: 256}`, want: []fleet.File{file("key", "hunter2", 0o400)}},
		{
			name: "items select, rename, have modes", volume: `configMap: {name: a, defaultMode: 256, items: [{key: b.conf, path: sub/x}, {key: a.conf, path: a, mode: 511}]}`,
			want: []fleet.File{file("a", "ay", 0o777), file("sub/x", "bee", 0o400)},
		},
		{name: "binary items", volume: `configMap: {name: a, items: [{key: z.bin, path: z}]}`, want: []fleet.File{file("z", "\x00\xff", 0o644)}},
		{name: "one key twice", volume: `secret: {secretName: s, items: [{key: key, path: b}, {key: key, path: a}]}`, want: []fleet.File{file("a", "hunter2", 0o644), file("b", "hunter2", 0o644)}},
		{name: "missing map", volume: `configMap: {name: gone}`, err: "ConfigMap shop/gone is not there"},
		{name: "missing secret", volume: `secret: {secretName: gone}`, err: "Secret shop/gone is not there"},
		{name: "missing item", volume: `secret: {secretName: s, items: [{key: gone, path: a}]}`, err: `Secret shop/s has no key "gone"`},
		{name: "optional map", volume: `configMap: {name: gone, optional: true}`},
		{name: "optional secret", volume: `secret: {secretName: gone, optional: true}`},
		{name: "optional item", volume: `configMap: {name: a, optional: true, items: [{key: gone, path: x}, {key: a.conf, path: a}]}`, want: []fleet.File{file("a", "ay", 0o644)}},
		{name: "not ours to write", volume: `emptyDir: {}`, err: "not one the agent writes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := pod.Files(subject(), decode[corev1.Volume](t, test.volume), settings, pod.Place{Allocatable: machine})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "hunter2") {
					t.Fatalf("error %v, want %q", err, test.err)
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

func TestWritten(t *testing.T) {
	for text, want := range map[string][2]bool{
		`configMap: {name: a}`: {true, false}, `secret: {secretName: a}`: {true, true}, `emptyDir: {}`: {}, `hostPath: {path: /x}`: {},
	} {
		if written, secret := pod.Written(decode[corev1.Volume](t, text)); [2]bool{written, secret} != want {
			t.Errorf("Written(%s) = %v, %v", text, written, secret)
		}
	}
}

func TestContentHash(t *testing.T) {
	sets := map[string][]fleet.File{
		"none":          nil,
		"one":           {{Path: "a", Data: []byte("x"), Mode: 0o644}},
		"other data":    {{Path: "a", Data: []byte("y"), Mode: 0o644}},
		"other mode":    {{Path: "a", Data: []byte("x"), Mode: 0o600}},
		"other path":    {{Path: "b", Data: []byte("x"), Mode: 0o644}},
		"empty file":    {{Path: "a", Mode: 0o644}},
		"two":           {{Path: "a", Data: []byte("x"), Mode: 0o644}, {Path: "b", Mode: 0o644}},
		"two in a file": {{Path: "a", Data: []byte("x\"b\" 644 0\n"), Mode: 0o644}},
		"path in data":  {{Path: "a\" 644 1\nx", Mode: 0o644}},
	}
	seen := map[fleet.Hash]string{}
	for name, files := range sets {
		h := pod.ContentHash(files)
		if other, twice := seen[h]; twice {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[h] = name
		if h != pod.ContentHash(files) || len(h) != 32 {
			t.Errorf("%s: %q is not a stable hash", name, h)
		}
	}
	// Fixed: an upgrade that computed another hash would rewrite every volume.
	if got := pod.ContentHash(sets["one"]); got != "181983c548ed8f900001771d12542faf" {
		t.Errorf("the hash of one file is now %s", got)
	}
}

// subject is a pod that volumes are written for.
func subject() *corev1.Pod {
	limit := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1", UID: "uid-1",
			Labels: map[string]string{"app": "web", "a": `quo"te`}, Annotations: map[string]string{"note": "two\nlines"},
		},
		Spec: corev1.PodSpec{
			Containers:     []corev1.Container{{Name: "web", Resources: corev1.ResourceRequirements{Limits: limit}}},
			InitContainers: []corev1.Container{{Name: "first"}},
		},
	}
}

var machine = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourceCPU: resource.MustParse("4")}
