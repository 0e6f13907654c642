package fleet_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/fleet"
)

func template(t testing.TB, text string) *corev1.PodTemplateSpec {
	t.Helper()
	v := new(corev1.PodTemplateSpec)
	if err := yaml.UnmarshalStrict([]byte(text), v); err != nil {
		t.Fatal(err)
	}
	return v
}

const full = `
metadata: {labels: {app: web, tier: front}, annotations: {note: hi}}
spec:
  restartPolicy: Always
  nodeSelector: {disk: ssd}
  containers:
  - name: web
    image: hello:1
    command: [run]
    env: [{name: A, value: a}, {name: B, valueFrom: {secretKeyRef: {name: s, key: k}}}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]
    ports: [{containerPort: 80, hostPort: 8080}]
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 5}
    volumeMounts: [{name: tmp, mountPath: /tmp}]
    securityContext: {}
  volumes: [{name: tmp, emptyDir: {}}, {name: conf, configMap: {name: a, items: [{key: k, path: p}]}}]
`

// The hashes are fixed: with any other, an upgrade of Skerry or of k8s.io/api would restart every pod.
func TestHashTemplateIsFixed(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       fleet.Hash
	}{
		{"least", `{spec: {containers: [{name: web, image: "hello:1"}]}}`, "60c88b435e461138674d4703ee8d2f13"},
		{"full", full, "419e7dc7ad0f610459b445df39a1aef5"},
		{"nothing", `{}`, "53aa778a9b137a0ca7ab79937d069870"},
	} {
		if got := fleet.HashTemplate(template(t, test.text)); got != test.want {
			t.Errorf("%s: the hash is now %s, was %s, of %s", test.name, got, test.want, fleet.CanonicalTemplate(template(t, test.text)))
		}
	}
	if got := fleet.HashContainer(&corev1.Container{Name: "web", Image: "hello:1"}); got != "c0295ed93c59ad7aa607c37e35c213fa" {
		t.Errorf("the hash of a container is now %s", got)
	}
}

func TestHashTemplate(t *testing.T) {
	plain := `{spec: {containers: [{name: web, image: "hello:1"}]}}`
	for _, test := range []struct {
		name, other string
		same        bool
	}{
		{"order of keys", `{"spec": {"containers": [{"image": "hello:1", "name": "web"}]}}`, true},
		{"empty resources", `{spec: {containers: [{name: web, image: "hello:1", resources: {}}]}}`, true},
		{"empty metadata", `{metadata: {}, spec: {containers: [{name: web, image: "hello:1"}]}}`, true},
		{"nulls", `{metadata: {creationTimestamp: null}, spec: {volumes: null, containers: [{name: web, image: "hello:1", env: null}]}}`, true},
		{"empty lists", `{spec: {volumes: [], containers: [{name: web, image: "hello:1", args: []}]}}`, true},
		{"image", `{spec: {containers: [{name: web, image: "hello:2"}]}}`, false},
		{"a default that is written out", `{spec: {restartPolicy: Always, containers: [{name: web, image: "hello:1"}]}}`, false},
		{"an empty struct that says something", `{spec: {containers: [{name: web, image: "hello:1", securityContext: {}}]}}`, false},
		{"labels", `{metadata: {labels: {a: b}}, spec: {containers: [{name: web, image: "hello:1"}]}}`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if same := fleet.HashTemplate(template(t, plain)) == fleet.HashTemplate(template(t, test.other)); same != test.same {
				t.Errorf("same: %t, %s", same, fleet.CanonicalTemplate(template(t, test.other)))
			}
		})
	}
	with, without := fleet.HashTemplate(template(t, `{spec: {volumes: [{name: a, emptyDir: {}}]}}`)), fleet.HashTemplate(template(t, `{spec: {volumes: [{name: a}]}}`))
	if with == without {
		t.Error("emptyDir: {} is dropped")
	}
}

// What the canonical form keeps is enough to make the template again, with the same hash.
func TestCanonicalTemplateCanBeReadBack(t *testing.T) {
	for _, text := range []string{full, `{}`, `{spec: {containers: [{name: web, resources: {}}], volumes: [{name: a, emptyDir: {}}]}}`} {
		before := template(t, text)
		var after corev1.PodTemplateSpec
		if err := json.Unmarshal(fleet.CanonicalTemplate(before), &after); err != nil {
			t.Fatal(err)
		}
		if fleet.HashTemplate(before) != fleet.HashTemplate(&after) {
			t.Errorf("%s\n%s", fleet.CanonicalTemplate(before), fleet.CanonicalTemplate(&after))
		}
	}
}

// TestHashObjects: what two nodes may read differently without noticing, and what not.
func TestHashObjects(t *testing.T) {
	base := func() []fleet.Object {
		web := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: new(int32)}}
		return []fleet.Object{
			{ID: fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "default", Name: "web"}, Revision: "r1", Value: web, Template: &corev1.PodTemplateSpec{}, Hash: "t1"},
			{ID: fleet.ObjectID{Kind: fleet.KindConfigMap, Namespace: "default", Name: "settings"}, Revision: "r1", Value: &corev1.ConfigMap{Data: map[string]string{"a": "1"}}},
			{ID: fleet.ObjectID{Kind: fleet.KindSecret, Namespace: "default", Name: "key"}, Revision: "r1", Value: &corev1.Secret{Data: map[string][]byte{"a": []byte("1")}}},
		}
	}
	hash := func(list []fleet.Object) fleet.Hash {
		h, err := fleet.HashObjects(list)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for name, test := range map[string]struct {
		change  func([]fleet.Object)
		differs bool
	}{
		"another order":       {func(o []fleet.Object) { slices.Reverse(o) }, false},
		"another template":    {func(o []fleet.Object) { o[0].Hash = "t2" }, true},
		"replicas":            {func(o []fleet.Object) { *o[0].Value.(*appsv1.Deployment).Spec.Replicas = 2 }, false},
		"another revision":    {func(o []fleet.Object) { o[2].Revision = "r2" }, true},
		"a ConfigMap's data":  {func(o []fleet.Object) { o[1].Value.(*corev1.ConfigMap).Data["a"] = "2" }, true},
		"a Secret's data":     {func(o []fleet.Object) { o[2].Value.(*corev1.Secret).Data["a"] = []byte("2") }, false},
		"another name":        {func(o []fleet.Object) { o[2].ID.Name = "other" }, true},
		"a place in the file": {func(o []fleet.Object) { o[1].File, o[1].Line = "moved.yaml", 7 }, false},
	} {
		changed := base()
		test.change(changed)
		if differs := hash(changed) != hash(base()); differs != test.differs {
			t.Errorf("%s: differs %t", name, differs)
		}
	}
}

func TestShapeOf(t *testing.T) {
	shape := func(change func(p *corev1.PodTemplateSpec)) fleet.Hash {
		p := template(t, full)
		p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "hello:1"}}
		change(p)
		before := fleet.HashTemplate(p)
		h := fleet.ShapeOf(p)
		if fleet.HashTemplate(p) != before {
			t.Error("ShapeOf changes its argument")
		}
		return h
	}
	plain := shape(func(*corev1.PodTemplateSpec) {})
	for _, test := range []struct {
		name   string
		change func(p *corev1.PodTemplateSpec)
		same   bool
	}{
		{"image", func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Image = "x" }, true},
		{"init image", func(p *corev1.PodTemplateSpec) { p.Spec.InitContainers[0].Image = "x" }, true},
		{"labels", func(p *corev1.PodTemplateSpec) { p.Labels = nil }, true},
		{"annotations", func(p *corev1.PodTemplateSpec) { p.Annotations["a"] = "b" }, true},
		{"env", func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Env[0].Value = "x" }, false},
		{"container name", func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Name = "x" }, false},
		{"one container more", func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "x"})
		}, false},
		{"node selector", func(p *corev1.PodTemplateSpec) { p.Spec.NodeSelector = nil }, false},
	} {
		if same := shape(test.change) == plain; same != test.same {
			t.Errorf("%s: same %t", test.name, same)
		}
	}
}

func TestHashContainer(t *testing.T) {
	seen := map[fleet.Hash]bool{}
	for _, c := range []corev1.Container{{Name: "a", Image: "b"}, {Name: "ab"}, {Image: "ab"}, {Name: "b", Image: "a"}, {Name: "a"}} {
		if h := fleet.HashContainer(&c); seen[h] {
			t.Errorf("%v has the hash of another", c)
		} else {
			seen[h] = true
		}
	}
	a, b := corev1.Container{Name: "a", Image: "b"}, corev1.Container{Name: "a", Image: "b", Command: []string{"c"}}
	if fleet.HashContainer(&a) != fleet.HashContainer(&b) {
		t.Error("more than name and image counts")
	}
}

var name = rapid.StringMatching(`[a-z0-9]([-a-z0-9.]{0,10}[a-z0-9])?`)

func TestObjectIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := fleet.ObjectID{Kind: rapid.StringMatching(`[A-Z][a-z]{1,10}`).Draw(t, "kind"), Name: name.Draw(t, "name")}
		if rapid.Bool().Draw(t, "namespaced") {
			id.Namespace = name.Draw(t, "namespace")
		}
		if got, err := fleet.ParseObjectID(id.String()); err != nil || got != id {
			t.Fatalf("%v became %v, %v", id, got, err)
		}
		in := map[fleet.ObjectID]fleet.ObjectID{id: id}
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out map[fleet.ObjectID]fleet.ObjectID
		if err := json.Unmarshal(raw, &out); err != nil || !cmp.Equal(in, out) {
			t.Fatalf("%s: %v, %v", raw, out, err)
		}
		pod := fleet.PodID{Namespace: name.Draw(t, "ns"), Name: name.Draw(t, "pod")}
		var back fleet.PodID
		if err := back.UnmarshalText([]byte(pod.String())); err != nil || back != pod {
			t.Fatalf("%v became %v, %v", pod, back, err)
		}
	})
	if id, err := fleet.ParseObjectID(""); err != nil || id != (fleet.ObjectID{}) || id.String() != "" {
		t.Errorf("the zero ID: %v, %v", id, err)
	}
	for _, text := range []string{"web", "a/b/c/d"} {
		if id, err := fleet.ParseObjectID(text); err == nil {
			t.Errorf("%q is %v", text, id)
		}
	}
	if err := new(fleet.PodID).UnmarshalText([]byte("web")); err == nil {
		t.Error("a pod without a namespace")
	}
}

// What the leader stores is what it reads back.
func TestAssignmentRoundTrip(t *testing.T) {
	set := fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "shop", Name: "web-x"}
	now := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	in := fleet.Assignment{
		Epoch: 7, Revisions: map[fleet.SourceName]fleet.Revision{"home": "r1"},
		Slots: []fleet.Slot{
			{Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "shop", Name: "web-x-1"}, UID: "u", Owner: set, Source: "home", Created: now}, Node: "alpha", Goal: fleet.Drain, Drained: now, Next: []fleet.Hash{"h"}},
			{Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "shop", Name: "web-x-2"}, Owner: set, Created: now}, Goal: fleet.Run},
		},
		Sets:     []fleet.Set{{ID: set, Former: []int64{1, 2}, Created: now, Born: 3}},
		Rollouts: []fleet.Rollout{{ID: fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "web"}, Progress: now, Updated: 1, Old: 2, Ready: 3, Available: 4}},
	}
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out fleet.Assignment
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(in, out); d != "" {
		t.Error(d)
	}
}

func TestDeriveUID(t *testing.T) {
	if got := fleet.DeriveUID("pod", "shop/web", "1"); got != "e1d61571-4911-5a56-84d9-beaf9da9036a" {
		t.Errorf("now %s", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SliceOfN(rapid.StringMatching(`[ab]{0,2}`), 1, 3).Draw(t, "a"), rapid.SliceOfN(rapid.StringMatching(`[ab]{0,2}`), 1, 3).Draw(t, "b")
		x, y := fleet.DeriveUID(a...), fleet.DeriveUID(b...)
		if (x == y) != cmp.Equal(a, b) {
			t.Fatalf("%q has %s, %q has %s", a, x, b, y)
		}
		if len(x) != 36 || x[14] != '5' || !strings.ContainsRune("89ab", rune(x[19])) || strings.Count(x, "-") != 4 {
			t.Fatalf("%s is not of RFC 4122", x)
		}
		if s := fleet.SafeSuffix(a...); s == "" || strings.Trim(s, "bcdfghjklmnpqrstvwxz2456789") != "" {
			t.Fatalf("suffix %q", s)
		}
	})
}

func TestMeets(t *testing.T) {
	want := fleet.Limits{Memory: 64 << 20, CPUQuota: 50000, Shares: 256}
	for _, test := range []struct {
		name   string
		change func(l *fleet.Limits)
		meets  bool
	}{
		{"the same", func(*fleet.Limits) {}, true},
		{"whole pages", func(l *fleet.Limits) { l.Memory += 4095 }, true},
		{"a page more", func(l *fleet.Limits) { l.Memory += 4096 }, false},
		{"less memory", func(l *fleet.Limits) { l.Memory-- }, false},
		{"no memory limit", func(l *fleet.Limits) { l.Memory = 0 }, false},
		{"quota", func(l *fleet.Limits) { l.CPUQuota++ }, false},
		{"shares", func(l *fleet.Limits) { l.Shares++ }, false},
		{"shares not read", func(l *fleet.Limits) { l.Shares = 0 }, true},
	} {
		l := want
		test.change(&l)
		if l.Meets(want) != test.meets {
			t.Errorf("%s: %t", test.name, !test.meets)
		}
	}
}

func TestEarliest(t *testing.T) {
	var never time.Time
	one := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	two := one.Add(time.Nanosecond)
	for _, test := range []struct{ a, b, want time.Time }{
		{never, never, never}, {never, one, one}, {one, never, one}, {one, two, one}, {two, one, one}, {one, one, one},
	} {
		if got := fleet.Earliest(test.a, test.b); !got.Equal(test.want) {
			t.Errorf("Earliest(%v, %v) = %v", test.a, test.b, got)
		}
	}
}

func TestKnown(t *testing.T) {
	id := fleet.ObjectID{Kind: fleet.KindPod, Namespace: "shop", Name: "web"}
	d := fleet.Desired{Revisions: map[fleet.SourceName]fleet.Revision{"home": ""}}
	if !d.Known("home", id) || d.Known("other", id) {
		t.Error("only what was read is known")
	}
	d.Held = map[fleet.ObjectID]string{id: "why"}
	if d.Known("home", id) {
		t.Error("what is held is not known")
	}
}

func TestLookup(t *testing.T) {
	a, b := fleet.ObjectID{Kind: "ConfigMap", Namespace: "shop", Name: "a"}, fleet.ObjectID{Kind: "Secret", Namespace: "shop", Name: "a"}
	d := fleet.Desired{Objects: []fleet.Object{{ID: a, Value: &corev1.ConfigMap{}}, {ID: b, Value: &corev1.Secret{}}}}
	if _, ok := fleet.Lookup[*corev1.ConfigMap](d, a); !ok {
		t.Error("it is there")
	}
	if _, ok := fleet.Lookup[*corev1.ConfigMap](d, b); ok {
		t.Error("it is of another kind")
	}
	if _, ok := fleet.Lookup[*corev1.ConfigMap](d, fleet.ObjectID{Kind: "ConfigMap", Namespace: "shop", Name: "b"}); ok {
		t.Error("it is not there")
	}
	n := 0
	for o := range fleet.Each[*corev1.Secret](d) {
		if n++; o.ID != b {
			t.Errorf("%v is no secret", o.ID)
		}
	}
	if n != 1 {
		t.Errorf("%d secrets", n)
	}
}

func TestPodmanNames(t *testing.T) {
	id := fleet.PodID{Namespace: "shop", Name: "web-1"}
	if fleet.PodmanPod(id) != "shop_web-1" || fleet.PodmanContainer(id, "web") != "shop_web-1_web" {
		t.Error("the names are a contract (design, section 4)")
	}
}
