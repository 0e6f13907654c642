package podman

import (
	"testing"

	nettypes "github.com/containers/common/libnetwork/types"
	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	spec "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

func TestPodSpec(t *testing.T) {
	shared := []string{"net", "uts", "ipc"}
	for _, c := range []struct {
		name string
		box  host.Sandbox
		want specgen.PodSpecGenerator
	}{
		{"plain", host.Sandbox{}, specgen.PodSpecGenerator{PodBasicConfig: specgen.PodBasicConfig{SharedNamespaces: shared}}},
		{"names", host.Sandbox{Name: "shop_web", Hostname: "web", Labels: map[string]string{"a": "b"}, Sysctls: map[string]string{"net.x": "1"}, Hosts: []string{"a:192.0.2.1"}},
			specgen.PodSpecGenerator{
				PodBasicConfig: specgen.PodBasicConfig{
					SharedNamespaces: shared, Name: "shop_web", Hostname: "web", Labels: map[string]string{"a": "b"}, Sysctl: map[string]string{"net.x": "1"},
				},
				PodNetworkConfig: specgen.PodNetworkConfig{HostAdd: []string{"a:192.0.2.1"}},
			}},
		{"the machine's IPC", host.Sandbox{IPC: host.Machine}, specgen.PodSpecGenerator{PodBasicConfig: specgen.PodBasicConfig{SharedNamespaces: []string{"net", "uts"}}}},
		{"the machine's processes", host.Sandbox{PID: host.Machine}, specgen.PodSpecGenerator{PodBasicConfig: specgen.PodBasicConfig{SharedNamespaces: shared}}},
		{"processes of the pod", host.Sandbox{PID: host.Shared}, specgen.PodSpecGenerator{PodBasicConfig: specgen.PodBasicConfig{SharedNamespaces: []string{"net", "uts", "ipc", "pid"}}}},
		{"a port that two containers name", host.Sandbox{Ports: []host.Port{
			{Host: 80, Container: 8080, Protocol: "tcp"}, {Host: 80, Container: 8080, Protocol: "tcp"}, {Host: 80, Container: 8080, Protocol: "udp"}, {HostIP: "192.0.2.1", Host: 81, Container: 8080},
		}}, specgen.PodSpecGenerator{
			PodBasicConfig: specgen.PodBasicConfig{SharedNamespaces: shared},
			PodNetworkConfig: specgen.PodNetworkConfig{PortMappings: []nettypes.PortMapping{
				{HostPort: 80, ContainerPort: 8080, Protocol: "tcp"}, {HostPort: 80, ContainerPort: 8080, Protocol: "udp"}, {HostIP: "192.0.2.1", HostPort: 81, ContainerPort: 8080},
			}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.ExitPolicy = "continue"
			got, err := podSpec(c.box)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
	got, err := podSpec(host.Sandbox{Network: host.Machine})
	if err != nil || got.NetNS.NSMode != specgen.Host {
		t.Errorf("in the machine's network it has %+v, %v", got.NetNS, err)
	}
	if _, err := podSpec(host.Sandbox{DNS: host.DNS{Alone: true, Nameservers: []string{"x"}}}); err == nil {
		t.Error("a name server that is none is taken")
	}
}

func TestContainerSpec(t *testing.T) {
	claims := func(path string) (string, bool) {
		if path == "/claims/shop_data" {
			return "shop_data", true
		}
		return "", false
	}
	s := containerSpec(host.Container{
		Name: "shop_web_web", PodID: "pod", Image: "web:1", Entrypoint: []string{"/app"}, Args: []string{"-v"}, Env: map[string]string{"A": "b"}, WorkDir: "/srv",
		Labels: map[string]string{"l": "x"}, OOMScore: 7, StopSignal: "SIGUSR1",
		Mounts: []host.Mount{
			{Source: "/claims/shop_data", Target: "/data"}, {Source: "/claims/shop_data", Target: "/ro", ReadOnly: true},
			{Source: "/srv", Target: "/srv", Propagation: corev1.MountPropagationHostToContainer}, {Source: "/srv", Target: "/both", Propagation: corev1.MountPropagationBidirectional},
			{Source: "/tmp/x", Target: "/x", ReadOnly: true, Propagation: corev1.MountPropagationNone},
		},
		Limits: fleet.Limits{Shares: 512},
		Security: host.Security{
			User: "1:2", Groups: []string{"3"}, CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, ReadOnlyRoot: true, NoNewPrivileges: true, Seccomp: "/profiles/a",
		},
	}, claims)
	wantVolumes := []*specgen.NamedVolume{
		{Name: "shop_data", Dest: "/data", Options: []string{"rprivate", "nocopy"}}, {Name: "shop_data", Dest: "/ro", Options: []string{"rprivate", "ro", "nocopy"}},
	}
	if diff := cmp.Diff(wantVolumes, s.Volumes); diff != "" {
		t.Error(diff)
	}
	wantMounts := []spec.Mount{
		{Type: "bind", Source: "/srv", Destination: "/srv", Options: []string{"rslave", "rbind"}}, {Type: "bind", Source: "/srv", Destination: "/both", Options: []string{"rshared", "rbind"}},
		{Type: "bind", Source: "/tmp/x", Destination: "/x", Options: []string{"rprivate", "ro", "rbind"}},
	}
	if diff := cmp.Diff(wantMounts, s.Mounts); diff != "" {
		t.Error(diff)
	}
	type seen struct {
		Name, Pod, Image, WorkDir, User, Restart, Seccomp string
		Entrypoint, Command, Groups, Add, Drop            []string
		ReadOnly, NoNew, Privileged                       bool
		Signal                                            int
		Score                                             int
	}
	want := seen{
		Name: "shop_web_web", Pod: "pod", Image: "web:1", WorkDir: "/srv", User: "1:2", Restart: "no", Seccomp: "/profiles/a",
		Entrypoint: []string{"/app"}, Command: []string{"-v"}, Groups: []string{"3"}, Add: []string{"NET_ADMIN"}, Drop: []string{"ALL"},
		ReadOnly: true, NoNew: true, Signal: 10, Score: 7,
	}
	if s.StopSignal == nil || s.OOMScoreAdj == nil {
		t.Fatalf("it has %v, %v", s.StopSignal, s.OOMScoreAdj)
	}
	got := seen{
		Name: s.Name, Pod: s.Pod, Image: s.Image, WorkDir: s.WorkDir, User: s.User, Restart: s.RestartPolicy, Seccomp: s.SeccompProfilePath,
		Entrypoint: s.Entrypoint, Command: s.Command, Groups: s.Groups, Add: s.CapAdd, Drop: s.CapDrop,
		ReadOnly: s.ReadOnlyFilesystem, NoNew: s.NoNewPrivileges, Privileged: s.Privileged, Signal: int(*s.StopSignal), Score: *s.OOMScoreAdj,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !s.CreateWorkingDir {
		t.Error("a working directory that is not there is not made")
	}

	bare := containerSpec(host.Container{Security: host.Security{Unconfined: true, UnmaskedProc: true, Privileged: true}, PID: host.Machine, IPC: host.Machine}, claims)
	if bare.SeccompProfilePath != "unconfined" || len(bare.Unmask) != 1 || bare.Unmask[0] != "ALL" || !bare.Privileged || bare.StopSignal != nil || bare.CreateWorkingDir {
		t.Errorf("it is %+v", bare.ContainerSecurityConfig)
	}
	if bare.PidNS.NSMode != specgen.Host || bare.IpcNS.NSMode != specgen.Host {
		t.Errorf("its namespaces are %+v, %+v", bare.PidNS, bare.IpcNS)
	}
	shared := containerSpec(host.Container{PID: host.Shared}, claims)
	if shared.PidNS.NSMode != "" {
		t.Errorf("processes that are the pod's are %+v", shared.PidNS)
	}
}

func TestResources(t *testing.T) {
	p := func(v int64) *int64 { return &v }
	u := func(v uint64) *uint64 { return &v }
	for _, c := range []struct {
		name   string
		limits fleet.Limits
		undo   bool
		want   spec.LinuxResources
	}{
		{"shares alone", fleet.Limits{Shares: 2}, false, spec.LinuxResources{CPU: &spec.LinuxCPU{Shares: u(2)}}},
		{"all", fleet.Limits{Shares: 512, CPUQuota: 50_000, Memory: 1 << 20}, false, spec.LinuxResources{
			CPU: &spec.LinuxCPU{Shares: u(512), Quota: p(50_000), Period: u(100_000)}, Memory: &spec.LinuxMemory{Limit: p(1 << 20)},
		}},
		{"limits that are to go", fleet.Limits{Shares: 2}, true, spec.LinuxResources{
			CPU: &spec.LinuxCPU{Shares: u(2), Quota: p(-1), Period: u(100_000)}, Memory: &spec.LinuxMemory{Limit: p(-1)},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(&c.want, resources(c.limits, c.undo)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
