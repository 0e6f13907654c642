package podman

import (
	"os"
	"slices"

	nettypes "github.com/containers/common/libnetwork/types"
	"github.com/containers/podman/v4/pkg/signal"
	"github.com/containers/podman/v4/pkg/specgen"
	spec "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

func podSpec(s host.Sandbox) (specgen.PodSpecGenerator, error) {
	var p specgen.PodSpecGenerator
	p.Name, p.Hostname, p.Labels, p.Sysctl = s.Name, s.Hostname, s.Labels, s.Sysctls
	p.ExitPolicy = "continue" // the agent alone says when a pod is over
	p.HostAdd = s.Hosts
	p.SharedNamespaces = []string{"net", "uts"}
	if s.IPC == host.Own {
		p.SharedNamespaces = append(p.SharedNamespaces, "ipc")
	}
	if s.PID == host.Shared {
		p.SharedNamespaces = append(p.SharedNamespaces, "pid")
	}
	if s.Network == host.Machine {
		p.NetNS = specgen.Namespace{NSMode: specgen.Host}
		if p.Hostname == "" { // or Podman names it after the pod
			name, err := os.Hostname()
			if err != nil {
				return p, err
			}
			p.Hostname = name
		}
	}
	if s.Bridge != "" {
		p.NetNS = specgen.Namespace{NSMode: specgen.Bridge}
		p.Networks = map[string]nettypes.PerNetworkOptions{s.Bridge: {}}
	}
	for _, port := range s.Ports {
		mapping := nettypes.PortMapping{HostIP: port.HostIP, HostPort: port.Host, ContainerPort: port.Container, Protocol: port.Protocol}
		if !slices.Contains(p.PortMappings, mapping) { // an initial container may name a port of another one
			p.PortMappings = append(p.PortMappings, mapping)
		}
	}
	return p, resolver(&p, s.DNS)
}

func containerSpec(c host.Container, claimAt func(path string) (name string, ok bool)) *specgen.SpecGenerator {
	s := specgen.NewSpecGenerator(c.Image, false)
	s.Name, s.Pod, s.Labels = c.Name, c.PodID, c.Labels
	s.Entrypoint, s.Command, s.Env = c.Entrypoint, c.Args, c.Env
	s.WorkDir, s.CreateWorkingDir = c.WorkDir, c.WorkDir != ""
	s.Stdin, s.Terminal = c.Stdin, c.TTY
	s.RestartPolicy = "no" // the agent alone restarts
	s.ResourceLimits = resources(c.Limits, false)
	s.OOMScoreAdj = &c.OOMScore
	if number, err := signal.ParseSignalNameOrNumber(c.StopSignal); c.StopSignal != "" && err == nil {
		s.StopSignal = &number
	}
	if c.PID == host.Machine {
		s.PidNS = specgen.Namespace{NSMode: specgen.Host}
	}
	if c.IPC == host.Machine {
		s.IpcNS = specgen.Namespace{NSMode: specgen.Host}
	}
	for _, m := range c.Mounts {
		if name, ok := claimAt(m.Source); ok {
			// Without nocopy what the image has there would be put into the volume, which Kubernetes does not do.
			s.Volumes = append(s.Volumes, &specgen.NamedVolume{Name: name, Dest: m.Target, Options: append(options(m), "nocopy")})
			continue
		}
		s.Mounts = append(s.Mounts, spec.Mount{Type: "bind", Source: m.Source, Destination: m.Target, Options: append(options(m), "rbind")})
	}
	x := c.Security
	s.User, s.Groups, s.CapAdd, s.CapDrop = x.User, x.Groups, x.CapAdd, x.CapDrop
	s.Privileged, s.ReadOnlyFilesystem, s.NoNewPrivileges = x.Privileged, x.ReadOnlyRoot, x.NoNewPrivileges
	s.SeccompProfilePath = x.Seccomp
	if x.Unconfined {
		s.SeccompProfilePath = "unconfined"
	}
	if x.UnmaskedProc {
		s.Unmask = []string{"ALL"}
	}
	return s
}

func options(m host.Mount) []string {
	propagation := "rprivate"
	switch m.Propagation {
	case corev1.MountPropagationHostToContainer:
		propagation = "rslave"
	case corev1.MountPropagationBidirectional:
		propagation = "rshared"
	}
	if m.ReadOnly {
		return []string{propagation, "ro"}
	}
	return []string{propagation}
}

// period is the CFS period of Kubernetes, in microseconds.
const period = uint64(100_000)

// resources are limits as the OCI says them. What is unlimited is left out, unless a limit may be in force
// that has to go.
func resources(l fleet.Limits, undo bool) *spec.LinuxResources {
	r := &spec.LinuxResources{CPU: &spec.LinuxCPU{Shares: &l.Shares}}
	if l.CPUQuota > 0 || undo {
		p := period
		quota := l.CPUQuota
		if quota == 0 {
			quota = -1
		}
		r.CPU.Quota, r.CPU.Period = &quota, &p
	}
	if l.Memory > 0 || undo {
		limit := l.Memory
		if limit == 0 {
			limit = -1
		}
		r.Memory = &spec.LinuxMemory{Limit: &limit}
	}
	return r
}
