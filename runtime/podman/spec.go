package podman

import (
	nettypes "github.com/containers/common/libnetwork/types"
	"github.com/containers/podman/v4/pkg/specgen"
	spec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

func podSpec(s host.Sandbox) specgen.PodSpecGenerator {
	var p specgen.PodSpecGenerator
	p.Name, p.Hostname, p.Labels = s.Name, s.Hostname, s.Labels
	p.ExitPolicy = "continue" // the agent alone says when a pod is over
	p.HostAdd = s.Hosts
	for _, port := range s.Ports {
		p.PortMappings = append(p.PortMappings, nettypes.PortMapping{
			HostIP: port.HostIP, HostPort: port.Host, ContainerPort: port.Container, Protocol: port.Protocol,
		})
	}
	return p
}

func containerSpec(c host.Container) *specgen.SpecGenerator {
	s := specgen.NewSpecGenerator(c.Image, false)
	s.Name, s.Pod, s.Labels = c.Name, c.PodID, c.Labels
	s.Entrypoint, s.Command, s.Env = c.Entrypoint, c.Args, c.Env
	s.WorkDir, s.CreateWorkingDir = c.WorkDir, c.WorkDir != ""
	s.Stdin, s.Terminal = c.Stdin, c.TTY
	s.RestartPolicy = "no" // the agent alone restarts
	s.ResourceLimits = resources(c.Limits, false)
	for _, m := range c.Mounts {
		s.Mounts = append(s.Mounts, mount(m))
	}
	x := c.Security
	s.User, s.Groups, s.CapAdd, s.CapDrop = x.User, x.Groups, x.CapAdd, x.CapDrop
	s.Privileged, s.ReadOnlyFilesystem, s.NoNewPrivileges = x.Privileged, x.ReadOnlyRoot, x.NoNewPrivileges
	if x.Unconfined {
		s.SeccompProfilePath = "unconfined"
	}
	return s
}

func mount(m host.Mount) spec.Mount {
	options := []string{"rbind", "rprivate"}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return spec.Mount{Type: "bind", Source: m.Source, Destination: m.Target, Options: options}
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
