package apply_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

func pointer[T any](v T) *T { return &v }

// TestSandboxNamespaces: what a pod shares, what it is called, and how it resolves names.
func TestSandboxNamespaces(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(s *corev1.PodSpec)
		want host.Sandbox
	}{
		{"the machine's network", func(s *corev1.PodSpec) {
			s.HostNetwork = true
			// The process listens by itself: nothing is to be published.
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		}, host.Sandbox{Network: host.Machine}},
		{"the machine's processes", func(s *corev1.PodSpec) { s.HostPID = true }, host.Sandbox{Hostname: "web", PID: host.Machine}},
		{"the machine's IPC", func(s *corev1.PodSpec) { s.HostIPC = true }, host.Sandbox{Hostname: "web", IPC: host.Machine}},
		{"processes of the pod", func(s *corev1.PodSpec) { s.ShareProcessNamespace = pointer(true) }, host.Sandbox{Hostname: "web", PID: host.Shared}},
		{"processes of each container", func(s *corev1.PodSpec) { s.ShareProcessNamespace = pointer(false) }, host.Sandbox{Hostname: "web"}},
		{"a name in the cluster", func(s *corev1.PodSpec) { s.Hostname, s.Subdomain = "web-0", "db" }, host.Sandbox{Hostname: "web-0"}},
		{"the whole of it", func(s *corev1.PodSpec) { s.Subdomain, s.SetHostnameAsFQDN = "db", pointer(true) },
			host.Sandbox{Hostname: "web.db.shop.svc.cluster.local"}},
		{"the whole of none", func(s *corev1.PodSpec) { s.SetHostnameAsFQDN = pointer(true) }, host.Sandbox{Hostname: "web"}},
		{"ports of initial containers and of any protocol", func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Name: "side", Ports: []corev1.ContainerPort{{ContainerPort: 1, HostPort: 2, Protocol: corev1.ProtocolUDP}}}}
			s.Containers[1].Ports = []corev1.ContainerPort{{ContainerPort: 3, HostPort: 4, Protocol: corev1.ProtocolSCTP, HostIP: "::1"}, {ContainerPort: 5}}
		}, host.Sandbox{Hostname: "web", Ports: []host.Port{{Host: 2, Container: 1, Protocol: "udp"}, {HostIP: "::1", Host: 4, Container: 3, Protocol: "sctp"}}}},
		{"settings of the kernel", func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "9"}, {Name: "kernel/shm_rmid_forced", Value: "1"}}}
		}, host.Sandbox{Hostname: "web", Sysctls: map[string]string{"net.core.somaxconn": "9", "kernel.shm_rmid_forced": "1"}}},
		{"names as the cluster's", func(s *corev1.PodSpec) { s.DNSPolicy = corev1.DNSClusterFirst }, host.Sandbox{Hostname: "web"}},
		{"names as the machine's, and more", func(s *corev1.PodSpec) {
			s.DNSPolicy = corev1.DNSDefault
			s.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}, Searches: []string{"a.example"}, Options: []corev1.PodDNSConfigOption{
				{Name: "ndots", Value: pointer("2")}, {Name: "edns0"}, {Name: "empty", Value: pointer("")},
			}}
		}, host.Sandbox{Hostname: "web", DNS: host.DNS{Nameservers: []string{"192.0.2.1"}, Searches: []string{"a.example"}, Options: []string{"ndots:2", "edns0", "empty:"}}}},
		{"names as asked for alone", func(s *corev1.PodSpec) {
			s.DNSPolicy, s.DNSConfig = corev1.DNSNone, &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}}
		}, host.Sandbox{Hostname: "web", DNS: host.DNS{Alone: true, Nameservers: []string{"192.0.2.1"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBench(1), work()
			c.edit(&w.Pod.Spec)
			w.Chain.Steps = steps(fleet.Step{Verb: fleet.Sandbox})
			if o := b.run(t.Context(), w); o.Steps[0].Err != nil {
				t.Fatal(o.Steps[0].Err)
			}
			c.want.Name = "shop_web"
			got, _ := b.Pod("shop_web")
			got.Labels = nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The kernel takes 64 bytes, and Kubernetes makes no pod whose name it would have to cut.
func TestHostnameTooLong(t *testing.T) {
	const domain = ".shop.svc.cluster.local"
	for _, c := range []struct {
		length int
		good   bool
	}{{64, true}, {65, false}} {
		b, w := newBench(1), work()
		w.Pod.Spec.Hostname = strings.Repeat("a", 20)
		w.Pod.Spec.Subdomain = strings.Repeat("b", c.length-20-1-len(domain))
		w.Pod.Spec.SetHostnameAsFQDN = pointer(true)
		w.Chain.Steps = steps(fleet.Step{Verb: fleet.Sandbox})
		err := b.run(t.Context(), w).Steps[0].Err
		if (err == nil) != c.good {
			t.Errorf("%d characters: %v", c.length, err)
		}
		if err != nil && !strings.Contains(err.Error(), "is 65 characters long, and the kernel takes 64") {
			t.Error(err)
		}
	}
}

// TestHosts: a pod with a name in the cluster has an /etc/hosts of ours, unless it brings its own.
func TestHosts(t *testing.T) {
	aliases := []corev1.HostAlias{{IP: "192.0.2.9", Hostnames: []string{"a", "b.example"}}, {IP: "2001:db8::9", Hostnames: []string{"c"}}}
	const local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, c := range []struct {
		name string
		edit func(s *corev1.PodSpec)
		want string // empty: none of ours
	}{
		{"no name", func(*corev1.PodSpec) {}, ""},
		{"no name, aliases", func(s *corev1.PodSpec) { s.HostAliases = aliases }, ""}, // those are Podman's to write
		{"a name", func(s *corev1.PodSpec) { s.Subdomain = "db" }, local + "IP\tweb.db.shop.svc.cluster.local\tweb\n"},
		{"another name, and aliases", func(s *corev1.PodSpec) { s.Hostname, s.Subdomain, s.HostAliases = "web-0", "db", aliases },
			local + "IP\tweb-0.db.shop.svc.cluster.local\tweb-0\n192.0.2.9\ta\tb.example\n2001:db8::9\tc\n"},
		{"one of its own", func(s *corev1.PodSpec) {
			s.Subdomain = "db"
			s.Volumes = []corev1.Volume{{Name: "own", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			s.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "own", MountPath: "/etc/hosts"}}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBench(1), work()
			c.edit(&w.Pod.Spec)
			container := made(t, b, w)
			ip := b.again(t, w).Seen.Pods[0].IPs[0].String()
			var ours []host.Mount
			for _, m := range container.Mounts {
				if m.Target == "/etc/hosts" && strings.Contains(m.Source, ".etc") {
					ours = append(ours, m)
				}
			}
			if c.want == "" {
				if len(ours) > 0 {
					t.Errorf("it has %+v", ours)
				}
				return
			}
			if len(ours) != 1 {
				t.Fatalf("it has %+v", ours)
			}
			files, _, err := b.Volumes.Files("u1", ".etc")
			if err != nil || len(files) != 1 || string(files[0].Data) != strings.Replace(c.want, "IP", ip, 1) || files[0].Mode != 0o644 {
				t.Errorf("it has %+v, %v; want\n%s", files, err, c.want)
			}
		})
	}
}

// claimed is what is desired with a claim.
func claimed() fleet.Desired {
	return sorted([]fleet.Object{{ID: fleet.ObjectID{Kind: fleet.KindPersistentVolumeClaim, Namespace: "shop", Name: "data"}, Source: "home", Value: &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceStorage: quantity("2Gi")},
		}},
	}}})
}

// TestClaims: what a claim's volume is made from, and what is seen of it.
func TestClaims(t *testing.T) {
	for _, c := range []struct {
		name    string
		desired fleet.Desired
		want    map[string]string
	}{
		{"a claim", claimed(), map[string]string{fleet.LabelClaim: "shop/data", fleet.LabelClaimSize: "2Gi", fleet.LabelSource: "home"}},
		{"no claim any more", fleet.Desired{}, map[string]string{fleet.LabelClaim: "shop/data"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBench(1), work()
			w.Desired = c.desired
			w.Pod.Spec.Volumes = []corev1.Volume{
				{Name: "rw", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
				{Name: "ro", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data", ReadOnly: true}}},
			}
			w.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "rw", MountPath: "/rw"}, {Name: "ro", MountPath: "/ro"}}
			mounts := made(t, b, w).Mounts
			if diff := cmp.Diff([]host.Mount{{Source: "/claims/shop_data", Target: "/rw"}, {Source: "/claims/shop_data", Target: "/ro", ReadOnly: true}}, mounts[:2]); diff != "" {
				t.Error(diff)
			}
			got, there := b.Claim("shop_data")
			if diff := cmp.Diff(c.want, got.Labels); diff != "" || !there {
				t.Error(diff)
			}
		})
	}
}

// TestFSGroup: whom volumes are given to. What is the machine's, or only to be read, is nobody's to give.
func TestFSGroup(t *testing.T) {
	b, w := newBench(1), work()
	w.Desired = claimed()
	w.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: pointer(int64(2000)), SupplementalGroups: []int64{7}}
	claim := func(readOnly bool) *corev1.PersistentVolumeClaimVolumeSource {
		return &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data", ReadOnly: readOnly}
	}
	w.Pod.Spec.Volumes = []corev1.Volume{
		{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "ro", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: claim(true)}},
		{Name: "machine", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv", Type: pointer(corev1.HostPathDirectoryOrCreate)}}},
	}
	c := made(t, b, w)
	if diff := cmp.Diff([]string{"7", "2000"}, c.Security.Groups); diff != "" {
		t.Error(diff)
	}
	for path, given := range map[string]bool{"/disk/u1/disk": true, "/memory/u1/memory": true, "/claims/shop_data": false, "/srv": false} {
		if group, ok := b.Volumes.Owner(path); ok != given || given && group != 2000 {
			t.Errorf("%s is given to %d, %v", path, group, ok)
		}
	}
}

// TestMountsOfPaths: paths of volumes, their propagation, and paths that are none.
func TestMountsOfPaths(t *testing.T) {
	b, w := newBench(1), work()
	w.Pod.Spec.Volumes = []corev1.Volume{
		{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "machine", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv", Type: pointer(corev1.HostPathDirectoryOrCreate)}}},
	}
	web := &w.Pod.Spec.Containers[0]
	web.Env = []corev1.EnvVar{field("NAME", "metadata.name"), {Name: "UP", Value: ".."}, {Name: "ABS", Value: "/etc"}, {Name: "EMPTY"}}
	web.VolumeMounts = []corev1.VolumeMount{
		{Name: "disk", MountPath: "/a", SubPath: "x/y", ReadOnly: true},
		{Name: "machine", MountPath: "/b", SubPathExpr: "logs/$(NAME)"},
		{Name: "machine", MountPath: "/c", MountPropagation: pointer(corev1.MountPropagationHostToContainer)},
		{Name: "machine", MountPath: "/d", MountPropagation: pointer(corev1.MountPropagationBidirectional)},
		{Name: "machine", MountPath: "/e", SubPathExpr: "$(EMPTY)"},
	}
	got := made(t, b, w).Mounts
	wanted := []host.Mount{
		{Target: "/a", ReadOnly: true}, {Target: "/b"},
		{Source: "/srv", Target: "/c", Propagation: corev1.MountPropagationHostToContainer},
		{Source: "/srv", Target: "/d", Propagation: corev1.MountPropagationBidirectional},
		{Source: "/srv", Target: "/e"},
	}
	for i, source := range []string{"/disk/u1/disk/x/y", "/srv/logs/web"} {
		if shown, ok := b.Volumes.Shows(got[i].Source); !ok || shown != source {
			t.Errorf("%s shows %q, wanted %q", got[i].Target, shown, source)
		}
		wanted[i].Source = got[i].Source
	}
	if got[0].Source == got[1].Source {
		t.Error("two mounts lie at one place")
	}
	if diff := cmp.Diff(wanted, got[:len(wanted)]); diff != "" {
		t.Error(diff)
	}
	for expr, text := range map[string]string{"$(UP)/etc": "with .. in it", "$(ABS)": "begins with a slash", "a/$(UP)": "with .. in it", "$(NONE)": "no variable NONE"} {
		t.Run(expr, func(t *testing.T) {
			b, w := newBench(1), work()
			w.Pod.Spec.Volumes = []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			w.Pod.Spec.Containers[0].Env = web.Env
			w.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "disk", MountPath: "/a", SubPathExpr: expr}}
			o := b.run(t.Context(), w)
			want(t, o, "volumes", "sandbox", "pull web", "start web failed", "pull db", "start db")
			if err := o.Steps[3].Err; !errors.Is(err, apply.ErrConfig) || !strings.Contains(err.Error(), text) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// TestSecurityOfPods goes on where TestSecurity ends.
func TestSecurityOfPods(t *testing.T) {
	type pod = corev1.PodSecurityContext
	type container = corev1.SecurityContext
	local := func(name string) *corev1.SeccompProfile {
		return &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &name}
	}
	for _, c := range []struct {
		name  string
		image string // whom it runs as
		pod   *pod
		ctr   *container
		want  host.Security
		err   string
	}{
		{name: "a profile of ours", pod: &pod{SeccompProfile: local("a/b.json")}, want: host.Security{Seccomp: "/profiles/a/b.json"}},
		{name: "the container's over the pod's", pod: &pod{SeccompProfile: local("a.json")}, ctr: &container{SeccompProfile: local("b.json")}, want: host.Security{Seccomp: "/profiles/b.json"}},
		{name: "none over the pod's", pod: &pod{SeccompProfile: local("a.json")}, ctr: &container{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}, want: host.Security{Unconfined: true}},
		{name: "the default over the pod's", pod: &pod{SeccompProfile: local("a.json")}, ctr: &container{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}},
		{name: "a profile that leads out", ctr: &container{SeccompProfile: local("../../etc/passwd")}, want: host.Security{Seccomp: "/profiles/etc/passwd"}},
		{name: "all of /proc", ctr: &container{ProcMount: pointer(corev1.UnmaskedProcMount)}, want: host.Security{UnmaskedProc: true}},
		{name: "the usual of /proc", ctr: &container{ProcMount: pointer(corev1.DefaultProcMount)}},
		{name: "groups, the volumes' among them", pod: &pod{SupplementalGroups: []int64{7}, FSGroup: pointer(int64(9))}, want: host.Security{Groups: []string{"7", "9"}}},
		{name: "a group and the image's user", image: "1000:2000", pod: &pod{RunAsGroup: pointer(int64(3000))}, want: host.Security{User: "1000:3000"}},
		{name: "a group and the image's named user", image: "app", ctr: &container{RunAsGroup: pointer(int64(3000))}, want: host.Security{User: "app:3000"}},
		{name: "a group and nobody", pod: &pod{RunAsGroup: pointer(int64(3000))}, want: host.Security{User: "0:3000"}},
		{name: "not root, and the image is not", image: "1000", pod: &pod{RunAsNonRoot: pointer(true)}},
		{name: "not root, and the image is", pod: &pod{RunAsNonRoot: pointer(true)}, err: "image will run as root"},
		{name: "not root, and the image says 0", image: "0:7", pod: &pod{RunAsNonRoot: pointer(true)}, err: "image will run as root"},
		{name: "not root, and the image says a name", image: "app:app", pod: &pod{RunAsNonRoot: pointer(true)}, err: "non-numeric user (app)"},
		{name: "root where it must not be", pod: &pod{RunAsNonRoot: pointer(true)}, ctr: &container{RunAsUser: pointer(int64(0))}, err: "breaks non-root policy"},
		{name: "the container may be root", pod: &pod{RunAsNonRoot: pointer(true)}, ctr: &container{RunAsNonRoot: pointer(false)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBench(1), work()
			b.runner.Profiles = "/profiles"
			b.SetUser("web:1", c.image)
			w.Pod.Spec.SecurityContext, w.Pod.Spec.Containers[0].SecurityContext = c.pod, c.ctr
			w.Chain.Steps = w.Chain.Steps[:4] // the first container alone
			if c.err == "" {
				if diff := cmp.Diff(c.want, made(t, b, w).Security); diff != "" {
					t.Error(diff)
				}
				return
			}
			o := b.run(t.Context(), w)
			want(t, o, "volumes", "sandbox", "pull web", "start web failed")
			if err := o.Steps[3].Err; !errors.Is(err, apply.ErrConfig) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("it says %v, want %q", err, c.err)
			}
		})
	}
}
