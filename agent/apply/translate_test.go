package apply_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

// planted must be found nowhere but in what it is for.
const planted = "hunter2-planted"

// desired has a ConfigMap named config and a Secret named secret.
func desired() fleet.Desired {
	return fleet.Desired{Objects: []fleet.Object{
		{ID: fleet.ObjectID{Kind: fleet.KindConfigMap, Namespace: "shop", Name: "config"}, Value: &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "config"}, Data: map[string]string{"COLOR": "blue", "not a name": "x"},
		}},
		{ID: fleet.ObjectID{Kind: fleet.KindSecret, Namespace: "shop", Name: "secret"}, Value: &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "secret"}, Data: map[string][]byte{"password": []byte(planted)},
		}},
	}}
}

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func secretKey(name, key string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "secret"}, Key: key,
	}}}
}

// made runs the chain and returns what the container web was made from.
func made(t *testing.T, b *bench, w apply.Work) host.Container {
	t.Helper()
	for _, d := range b.run(t.Context(), w).Steps {
		if d.Err != nil {
			t.Fatalf("%s: %v", d.Step, d.Err)
		}
	}
	c, ok := b.Container("shop_web_web")
	if !ok {
		t.Fatal("there is no container")
	}
	return c
}

func TestInvocation(t *testing.T) {
	b, w := newBench(1), work()
	w.Desired = desired()
	w.Node.Allocatable = corev1.ResourceList{corev1.ResourceCPU: quantity("4")}
	c := &w.Pod.Spec.Containers[0]
	c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}}}
	c.Env = []corev1.EnvVar{
		field("IP", "status.podIP"), field("NODE_IP", "status.hostIP"), field("NAME", "metadata.name"), field("APP", "metadata.labels['app']"),
		secretKey("PASSWORD", "password"), {Name: "URL", Value: "http://$(IP)/$(COLOR)"},
		{Name: "CPUS", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
	}
	c.Command, c.Args = []string{"/app", "$(NAME)"}, []string{"--color=$(COLOR)", "$$(COLOR)"}
	c.WorkingDir, c.Stdin, c.TTY = "/srv", true, true
	got := made(t, b, w)
	seen := b.again(t, w).Seen.Pods[0]
	ip := seen.IPs[0].String()
	want := map[string]string{
		"COLOR": "blue", "IP": ip, "NODE_IP": "10.0.0.11", "NAME": "web", "APP": "web", "PASSWORD": planted,
		"URL": "http://" + ip + "/blue", "CPUS": "4",
	}
	if diff := cmp.Diff(want, got.Env); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/app", "web", "--color=blue", "$(COLOR)"}, append(got.Entrypoint, got.Args...)); diff != "" {
		t.Error(diff)
	}
	if got.WorkDir != "/srv" || !got.Stdin || !got.TTY || got.PodID != seen.ID || got.Image != "web:1" {
		t.Errorf("made from %+v", got)
	}
	if n := b.Calls("PodAddresses"); n != 1 {
		t.Errorf("addresses were asked for %d times, want once, for the container that needs them", n)
	}
}

func TestLabels(t *testing.T) {
	b, w := newBench(1), work()
	w.Slot.Shape = "shape"
	c := made(t, b, w)
	box, _ := b.Pod("shop_web")
	if diff := cmp.Diff(map[string]string{
		"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "u1",
		"skerry.dev/source": "home", "skerry.dev/revision": "abcdef", "skerry.dev/template-hash": "hash", "skerry.dev/shape-hash": "shape",
		"skerry.dev/owner": "ReplicaSet/shop/web-1", "skerry.dev/controller": "Deployment/shop/web",
		"skerry.dev/pod-template-hash": "label", "skerry.dev/created": "2026-01-02T02:04:05.000000006Z",
	}, box.Labels); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{
		"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "u1",
		"io.kubernetes.container.name": "web", "skerry.dev/container-hash": string(fleet.HashContainer(&w.Pod.Spec.Containers[0])),
		"skerry.dev/attempt": "0", "skerry.dev/backoff": "0s", "skerry.dev/source": "home", "skerry.dev/template-hash": "hash",
		"skerry.dev/termination": "File /dev/termination-log",
	}, c.Labels); diff != "" {
		t.Error(diff)
	}
	// What Look makes of them is what they were made from.
	p := b.again(t, w).Seen.Pods[0]
	want := fleet.PodReport{Identity: fleet.Identity{
		Pod: id, UID: "u1", Owner: w.Slot.Owner, Controller: w.Slot.Controller, Source: "home", From: "abcdef", Want: "hash",
		Shape: "shape", Label: "label", Created: w.Slot.Created.UTC(),
	},
	}
	if diff := cmp.Diff(want, p.PodReport); diff != "" {
		t.Error(diff)
	}
}

func TestSandbox(t *testing.T) {
	long := strings.Repeat("abcdefgh-", 7) + "ijklm" // 68 characters, of which the 63rd is a dash
	for _, c := range []struct {
		name string
		edit func(w *apply.Work)
		want host.Sandbox
	}{
		{"plain", func(*apply.Work) {}, host.Sandbox{Name: "shop_web", Hostname: "web"}},
		{"its own host name", func(w *apply.Work) { w.Pod.Spec.Hostname = "other" }, host.Sandbox{Name: "shop_web", Hostname: "other"}},
		{"a long name", func(w *apply.Work) { w.Slot.Pod.Name, w.Pod.Name = long, long }, host.Sandbox{Name: "shop_" + long, Hostname: strings.TrimSuffix(long[:63], "-")}},
		{"ports and hosts", func(w *apply.Work) {
			w.Pod.Spec.Containers[0].Ports = []corev1.ContainerPort{
				{ContainerPort: 80}, {HostPort: 8080, ContainerPort: 80, Protocol: corev1.ProtocolTCP, HostIP: "10.0.0.11"},
			}
			w.Pod.Spec.Containers[1].Ports = []corev1.ContainerPort{{HostPort: 53, ContainerPort: 5353, Protocol: corev1.ProtocolUDP}}
			w.Pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.1.1", Hostnames: []string{"a", "b"}}}
		}, host.Sandbox{
			Name: "shop_web", Hostname: "web", Hosts: []string{"a:10.1.1.1", "b:10.1.1.1"}, Ports: []host.Port{
				{HostIP: "10.0.0.11", Host: 8080, Container: 80, Protocol: "tcp"}, {Host: 53, Container: 5353, Protocol: "udp"},
			},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBench(1), work()
			c.edit(&w)
			w.Chain.Steps = steps(fleet.Step{Verb: fleet.Sandbox})
			if o := b.run(t.Context(), w); o.Steps[0].Err != nil {
				t.Fatal(o.Steps[0].Err)
			}
			got, _ := b.Pod(c.want.Name)
			got.Labels = nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if len(got.Hostname) > 63 {
				t.Errorf("the host name has %d characters", len(got.Hostname))
			}
		})
	}
}

func TestMounts(t *testing.T) {
	b, w := newBench(1), work()
	w.Desired = desired()
	local := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	limit, folder := quantity("1Mi"), corev1.HostPathDirectoryOrCreate
	mode := int32(0o400)
	w.Pod.Spec.Volumes = []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("config")}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret", DefaultMode: &mode}}},
		{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &limit}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/data", Type: &folder}}},
	}
	w.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "config", MountPath: "/config"}, {Name: "secret", MountPath: "/secret"}, {Name: "disk", MountPath: "/disk"},
		{Name: "memory", MountPath: "/memory", ReadOnly: true}, {Name: "data", MountPath: "/data"},
	}
	want := []host.Mount{
		{Source: "/disk/u1/config", Target: "/config", ReadOnly: true},
		{Source: "/memory/u1/secret", Target: "/secret", ReadOnly: true},
		{Source: "/disk/u1/disk", Target: "/disk"},
		{Source: "/memory/u1/memory", Target: "/memory", ReadOnly: true},
		{Source: "/srv/data", Target: "/data"},
		{Source: "/disk/u1/.messages/web-0", Target: "/dev/termination-log"},
	}
	if diff := cmp.Diff(want, made(t, b, w).Mounts); diff != "" {
		t.Error(diff)
	}
	files, memory, err := b.Volumes.Files("u1", "secret")
	if diff := cmp.Diff([]fleet.File{{Path: "password", Data: []byte(planted), Mode: 0o400}}, files); diff != "" || !memory || err != nil {
		t.Error(diff, memory, err)
	}
	if files, memory, err := b.Volumes.Files("u1", "config"); len(files) != 2 || memory || err != nil {
		t.Error(files, memory, err)
	}
	if text := b.String() + strings.Join(b.Journal(), "\n"); strings.Contains(text, planted) {
		t.Errorf("the machine shows the secret:\n%s", text)
	}
}

// Whatever fails, what comes out names a secret and never its value.
func TestOutcomesHaveNoSecrets(t *testing.T) {
	for _, verb := range []string{"", "Write", "CreatePod", "Pull", "PodAddresses", "StartContainer"} {
		for _, key := range []string{"password", "missing"} {
			t.Run(verb+" "+key, func(t *testing.T) {
				b, w := newBench(1), work()
				w.Desired = desired()
				w.Pod.Spec.Volumes = []corev1.Volume{{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret"}}}}
				c := &w.Pod.Spec.Containers[0]
				c.Env = []corev1.EnvVar{field("IP", "status.podIP"), secretKey("PASSWORD", "password"), secretKey("OTHER", key)}
				c.Args = []string{"--password=$(PASSWORD)"}
				if verb != "" {
					b.Fail(verb, 1, errors.New("broken"))
				}
				o := b.run(t.Context(), w)
				failed := false
				for _, d := range o.Steps {
					failed = failed || d.Err != nil
					if text := fmt.Sprintf("%+v %v %s", d.Step, d.Err, d.Step); strings.Contains(text, planted) {
						t.Errorf("an outcome has it: %s", text)
					}
				}
				if text := fmt.Sprintf("%+v", o); strings.Contains(text, planted) {
					t.Errorf("the outcome has it: %s", text)
				}
				if failed != (verb != "" || key == "missing") {
					t.Errorf("outcome %v", text(o))
				}
			})
		}
	}
}

func TestSecurity(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	yes, no := true, false
	free, confined := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}, &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	type pod = corev1.PodSecurityContext
	type container = corev1.SecurityContext
	for _, c := range []struct {
		name string
		pod  *pod
		ctr  *container
		want host.Security
	}{
		{"neither", nil, nil, host.Security{}},
		{"empty", &pod{}, &container{}, host.Security{}},
		{"the pod's user", &pod{RunAsUser: number(1000)}, nil, host.Security{User: "1000"}},
		{"the pod's user and group", &pod{RunAsUser: number(1000), RunAsGroup: number(2000)}, &container{}, host.Security{User: "1000:2000"}},
		{"the container's user over the pod's", &pod{RunAsUser: number(1000), RunAsGroup: number(2000)}, &container{RunAsUser: number(5)}, host.Security{User: "5:2000"}},
		{"root over the pod's", &pod{RunAsUser: number(1000)}, &container{RunAsUser: number(0)}, host.Security{User: "0"}},
		{"the container's group over the pod's", &pod{RunAsUser: number(1), RunAsGroup: number(2)}, &container{RunAsGroup: number(3)}, host.Security{User: "1:3"}},
		{"groups", &pod{SupplementalGroups: []int64{7, 8}}, nil, host.Security{Groups: []string{"7", "8"}}},
		{"unconfined pod", &pod{SeccompProfile: free}, &container{}, host.Security{Unconfined: true}},
		{"confined container in it", &pod{SeccompProfile: free}, &container{SeccompProfile: confined}, host.Security{}},
		{"unconfined container", nil, &container{SeccompProfile: free}, host.Security{Unconfined: true}},
		{"powers", nil, &container{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}}, host.Security{CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}}},
		{"privileged", nil, &container{Privileged: &yes, AllowPrivilegeEscalation: &yes}, host.Security{Privileged: true}},
		{"locked", nil, &container{Privileged: &no, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes}, host.Security{NoNewPrivileges: true, ReadOnlyRoot: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBench(1), work()
			w.Pod.Spec.SecurityContext, w.Pod.Spec.Containers[0].SecurityContext = c.pod, c.ctr
			if diff := cmp.Diff(c.want, made(t, b, w).Security); diff != "" {
				t.Error(diff)
			}
		})
	}
}
