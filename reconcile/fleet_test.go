package reconcile

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var alpha = fleet.Node{Name: "alpha", Address: "10.0.0.11"}

// objectOf is what a source would make of a document: the template as written, the value with the defaults
// that matter here.
func objectOf(v runtime.Object) fleet.Object {
	o := fleet.Object{Source: "home", Revision: "r1", Value: v}
	m := v.(metav1.Object)
	o.ID = fleet.ObjectID{Namespace: m.GetNamespace(), Name: m.GetName()}
	switch v := v.(type) {
	case *appsv1.Deployment:
		o.ID.Kind, o.Template = fleet.KindDeployment, v.Spec.Template.DeepCopy()
		v.Spec.Replicas = orOne(v.Spec.Replicas)
		defaultSpec(&v.Spec.Template.Spec)
	case *appsv1.ReplicaSet:
		o.ID.Kind, o.Template = fleet.KindReplicaSet, v.Spec.Template.DeepCopy()
		v.Spec.Replicas = orOne(v.Spec.Replicas)
		defaultSpec(&v.Spec.Template.Spec)
	case *corev1.Pod:
		o.ID.Kind = fleet.KindPod
		o.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: v.Labels, Annotations: v.Annotations}, Spec: *v.Spec.DeepCopy()}
		defaultSpec(&v.Spec)
	case *corev1.ConfigMap:
		o.ID.Kind = fleet.KindConfigMap
	case *corev1.Secret:
		o.ID.Kind = fleet.KindSecret
	}
	if o.Template != nil {
		o.Hash = fleet.HashTemplate(o.Template)
	}
	return o
}

func orOne(n *int32) *int32 {
	if n == nil {
		n = new(int32)
		*n = 1
	}
	return n
}

func defaultSpec(s *corev1.PodSpec) {
	s.RestartPolicy = cmp.Or(s.RestartPolicy, corev1.RestartPolicyAlways)
	for i := range s.Containers {
		c := &s.Containers[i]
		c.ImagePullPolicy = cmp.Or(c.ImagePullPolicy, corev1.PullIfNotPresent)
		for j := range c.Ports {
			c.Ports[j].Protocol = cmp.Or(c.Ports[j].Protocol, corev1.ProtocolTCP)
		}
	}
}

func desiredOf(objects ...fleet.Object) fleet.Desired {
	d := fleet.Desired{Objects: slices.Clone(objects), Revisions: map[fleet.SourceName]fleet.Revision{"home": "r1"}}
	slices.SortFunc(d.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) })
	return d
}

// decodeAll reads YAML documents.
func decodeAll(t testing.TB, text string) fleet.Desired {
	t.Helper()
	var objects []fleet.Object
	for _, doc := range strings.Split(text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var head metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatal(err)
		}
		var v runtime.Object
		switch head.Kind {
		case fleet.KindDeployment:
			v = &appsv1.Deployment{}
		case fleet.KindReplicaSet:
			v = &appsv1.ReplicaSet{}
		case fleet.KindPod:
			v = &corev1.Pod{}
		case fleet.KindConfigMap:
			v = &corev1.ConfigMap{}
		default:
			t.Fatalf("kind %q", head.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(doc), v); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, objectOf(v))
	}
	return desiredOf(objects...)
}

func podSpec(image string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: image}}}
}

func templateOf(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}, Spec: podSpec(image)}
}

func deploymentOf(name string, replicas int32, image string, change ...func(*appsv1.Deployment)) fleet.Object {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Template: templateOf(image), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		},
	}
	for _, f := range change {
		f(d)
	}
	return objectOf(d)
}

func replicaSetOf(name string, replicas int32, image string) fleet.Object {
	return objectOf(&appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Template: templateOf(image)},
	})
}

func podOf(name, image string, change ...func(*corev1.Pod)) fleet.Object {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: podSpec(image)}
	for _, f := range change {
		f(p)
	}
	return objectOf(p)
}

// machine is a fleet of one node on paper: a store, a host, and what they know of each other.
type machine struct {
	t         testing.TB
	desired   fleet.Desired
	stored    fleet.Assignment
	host      fleet.Host
	said      []fleet.NodeReport // as the store has it
	templates map[fleet.Hash]*corev1.PodTemplateSpec
	attempts  map[string]pod.Tries
	bad       map[string]bool // images whose containers end at once
	now       time.Time
	wake      time.Time
	notes     []fleet.Note
}

func newMachine(t testing.TB, objects ...fleet.Object) *machine {
	m := &machine{t: t, templates: map[fleet.Hash]*corev1.PodTemplateSpec{}, bad: map[string]bool{}, now: start}
	m.want(desiredOf(objects...))
	return m
}

func (m *machine) want(d fleet.Desired) {
	m.desired = d
	for _, o := range d.Objects {
		if o.Template != nil {
			template := o.Template.DeepCopy()
			defaultSpec(&template.Spec)
			m.templates[o.Hash] = template
		}
	}
}

func (m *machine) input() FleetInput {
	return FleetInput{Desired: m.desired, Nodes: []fleet.Node{alpha}, Reports: m.said, Previous: m.stored, Templates: m.templates, Now: m.now}
}

func (m *machine) plan() NodePlan {
	return Plan(NodeInput{
		Node: alpha, Assignment: m.stored, Templates: m.templates, Desired: m.desired, Host: m.host, Attempts: m.attempts, Now: m.now,
	})
}

// decide commits a decision; it reports whether there was one.
func (m *machine) decide() bool {
	d := Decide(m.input())
	m.notes, m.wake = d.Notes, fleet.Earliest(m.wake, d.WakeAt)
	if d.Changed {
		m.stored = d.Next
	}
	return d.Changed
}

func (m *machine) take(s fleet.Step) {
	m.host = after(m.host, s, m.stored, m.templates, m.now)
	if s.Verb == fleet.Start && m.bad[s.Image] {
		m.end(s.UID, s.Container, 1)
	}
}

// end lets the newest run of a container end.
func (m *machine) end(uid, container string, code int32) {
	m.host.Pods = slices.Clone(m.host.Pods)
	for i := range m.host.Pods {
		if o := &m.host.Pods[i]; o.UID == uid {
			o.Containers = slices.Clone(o.Containers)
			for j := len(o.Containers) - 1; j >= 0; j-- {
				if c := &o.Containers[j]; c.Name == container && c.State == fleet.Running {
					c.State, c.ExitCode, c.Finished = fleet.Exited, code, m.now
					return
				}
			}
		}
	}
}

// pass is one round of both loops with all steps taken; it reports whether anything was done.
func (m *machine) pass() bool {
	m.wake = time.Time{}
	plan := m.plan()
	m.said = []fleet.NodeReport{plan.Report}
	acted := m.decide()
	plan = m.plan()
	for _, chain := range plan.Chains {
		for _, s := range chain.Steps {
			m.take(s)
			acted = true
		}
	}
	m.wake = fleet.Earliest(m.wake, plan.WakeAt)
	return acted
}

// settle runs until nothing is left to do, also by time, within an hour of it.
func (m *machine) settle() *machine {
	m.t.Helper()
	end := m.now.Add(time.Hour)
	for range 3000 {
		if m.pass() {
			continue
		}
		if m.wake.IsZero() || m.wake.After(end) {
			return m
		}
		if !m.wake.After(m.now) {
			m.t.Fatalf("wakes at %s, which is not after %s", m.wake, m.now)
		}
		m.now = m.wake
	}
	m.t.Fatalf("does not settle:\n%s", m)
	return nil
}

// String is what there is, one line a slot and one a pod without one.
func (m *machine) String() string {
	var b strings.Builder
	for _, s := range m.stored.Slots {
		fmt.Fprintf(&b, "%s %s %s\n", s.Pod, s.UID, s.Goal)
	}
	for _, o := range m.host.Pods {
		fmt.Fprintf(&b, "  has %s %s %s:", o.Pod, o.UID, o.Infra)
		for _, c := range o.Containers {
			fmt.Fprintf(&b, " %s=%s", c.Image, c.State)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// uids are the pods that should run, by name.
func (m *machine) uids() map[fleet.PodID]string {
	uids := map[fleet.PodID]string{}
	for _, s := range m.stored.Slots {
		if s.Goal == fleet.Run {
			uids[s.Pod] = s.UID
		}
	}
	return uids
}

// running are the images that run, sorted.
func (m *machine) running() []string {
	var images []string
	for _, o := range m.host.Pods {
		for _, c := range o.Containers {
			if c.State == fleet.Running {
				images = append(images, c.Image)
			}
		}
	}
	slices.Sort(images)
	return images
}

func (m *machine) view() *View { return NewView(m.input(), m.templates) }
