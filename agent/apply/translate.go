package apply

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
	"github.com/skerry-dev/skerry/runtime/host"
)

// maxHostname is the longest name the kernel takes.
const maxHostname = 63

// defaultDomain is below which pods have their names on a node without Services.
const defaultDomain = "cluster.local"

// sandbox is what a pod's namespaces are made from.
func sandbox(slot fleet.Slot, p *corev1.Pod, past fleet.Past, cluster Cluster) (host.Sandbox, error) {
	s := host.Sandbox{Name: fleet.PodmanPod(slot.Pod), Labels: slot.Labels(), DNS: dns(p, cluster)}
	if len(past) > 0 {
		text, err := json.Marshal(past)
		if err != nil {
			return s, err
		}
		s.Labels[fleet.LabelPast] = string(text)
	}
	if p.Spec.HostNetwork {
		s.Network = host.Machine
	} else {
		var err error
		s.Bridge = cluster.Bridge
		if s.Hostname, err = hostname(p, cluster); err != nil {
			return s, err
		}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			s.Ports = append(s.Ports, ports(c.Ports)...)
		}
	}
	s.PID, s.IPC = processes(p), host.Own
	if p.Spec.HostIPC {
		s.IPC = host.Machine
	}
	for _, alias := range p.Spec.HostAliases {
		for _, name := range alias.Hostnames {
			s.Hosts = append(s.Hosts, name+":"+alias.IP)
		}
	}
	if x := p.Spec.SecurityContext; x != nil {
		for _, sysctl := range x.Sysctls {
			if s.Sysctls == nil {
				s.Sysctls = map[string]string{}
			}
			s.Sysctls[fleet.SysctlName(sysctl.Name)] = sysctl.Value
		}
	}
	return s, nil
}

func processes(p *corev1.Pod) host.Namespace {
	switch {
	case p.Spec.HostPID:
		return host.Machine
	case p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace:
		return host.Shared
	default:
		return host.Own
	}
}

func ports(list []corev1.ContainerPort) []host.Port {
	var ports []host.Port
	for _, port := range list {
		if port.HostPort != 0 {
			ports = append(ports, host.Port{
				HostIP: port.HostIP, Host: uint16(port.HostPort), Container: uint16(port.ContainerPort),
				Protocol: strings.ToLower(string(port.Protocol)),
			})
		}
	}
	return ports
}

// shortName is the pod's name among its siblings, as its processes have it.
func shortName(p *corev1.Pod) string {
	if p.Spec.Hostname != "" {
		return p.Spec.Hostname
	}
	return strings.TrimRight(p.Name[:min(len(p.Name), maxHostname)], "-.")
}

// fullName is the pod's name in the cluster's domain; empty for a pod without a subdomain.
func fullName(p *corev1.Pod, cluster Cluster) string {
	if p.Spec.Subdomain == "" {
		return ""
	}
	return strings.Join([]string{shortName(p), p.Spec.Subdomain, p.Namespace, "svc", cmp.Or(cluster.Domain, defaultDomain)}, ".")
}

func hostname(p *corev1.Pod, cluster Cluster) (string, error) {
	full := fullName(p, cluster)
	if full == "" || p.Spec.SetHostnameAsFQDN == nil || !*p.Spec.SetHostnameAsFQDN {
		return shortName(p), nil
	}
	if len(full) > maxHostname+1 {
		return "", fmt.Errorf("setHostnameAsFQDN: %s is %d characters long, and the kernel takes %d", full, len(full), maxHostname+1)
	}
	return full, nil
}

// dns is how a pod resolves names. Nobody answers for the cluster yet, so that ClusterFirst is what Default is, as in
// Kubernetes on a node without a cluster's DNS.
func dns(p *corev1.Pod, cluster Cluster) host.DNS {
	d := host.DNS{Alone: p.Spec.DNSPolicy == corev1.DNSNone}
	if first := clusterFirst(p, cluster); first {
		of := p.Namespace + ".svc." + cluster.Domain
		d = host.DNS{
			Alone: true, Nameservers: []string{cluster.DNS.String()}, Searches: []string{of, "svc." + cluster.Domain, cluster.Domain},
			Options: []string{"ndots:5"},
		}
	}
	if c := p.Spec.DNSConfig; c != nil {
		d.Nameservers, d.Searches = append(d.Nameservers, c.Nameservers...), append(d.Searches, c.Searches...)
		for _, o := range c.Options {
			if o.Value != nil {
				o.Name += ":" + *o.Value
			}
			d.Options = slices.DeleteFunc(d.Options, func(have string) bool { return option(have) == option(o.Name) })
			d.Options = append(d.Options, o.Name)
		}
	}
	return d
}

func option(text string) string {
	name, _, _ := strings.Cut(text, ":")
	return name
}

// clusterFirst reports whether a pod asks the cluster's DNS: by default, but on the machine's own network only where it says so.
func clusterFirst(p *corev1.Pod, cluster Cluster) bool {
	policy := p.Spec.DNSPolicy
	return cluster.DNS.IsValid() && (policy == corev1.DNSClusterFirstWithHostNet || (!p.Spec.HostNetwork && policy == corev1.DNSClusterFirst))
}

// containerSpec is what a container is made from. It holds secrets.
func (r *run) containerSpec(ctx context.Context, c *corev1.Container, s fleet.Step) (host.Container, error) {
	var none host.Container
	place := r.place()
	if wantsPodIP(c) || r.Pod.Spec.Subdomain != "" {
		var err error
		if place.PodIPs, err = r.addresses(ctx); err != nil {
			return none, err
		}
	}
	invocation, err := pod.Invoke(r.Pod, c, r.config(), place)
	if err != nil {
		return none, err
	}
	security, err := r.security(ctx, c)
	if err != nil {
		return none, err
	}
	mounts, err := r.mounts(ctx, c, s, invocation.Env)
	if err != nil {
		return none, err
	}
	if hosts, err := r.hosts(place.PodIPs); err != nil {
		return none, err
	} else if hosts != nil && !slices.ContainsFunc(mounts, func(m host.Mount) bool { return m.Target == hosts.Target }) {
		mounts = append(mounts, *hosts)
	}
	memory := r.Node.Allocatable[corev1.ResourceMemory]
	spec := host.Container{
		Name: fleet.PodmanContainer(r.Slot.Pod, c.Name), PodID: r.podID, Image: c.Image,
		Entrypoint: invocation.Command, Args: invocation.Args, Env: invocation.Env,
		WorkDir: c.WorkingDir, Stdin: c.Stdin, TTY: c.TTY,
		Labels: map[string]string{
			fleet.LabelPodName: r.Slot.Pod.Name, fleet.LabelPodNamespace: r.Slot.Pod.Namespace, fleet.LabelPodUID: r.Slot.UID,
			fleet.LabelContainerName: c.Name, fleet.LabelContainerHash: string(fleet.HashContainer(c)),
			fleet.LabelAttempt: strconv.Itoa(s.Attempt), fleet.LabelBackoff: s.Backoff.String(),
			fleet.LabelSource: string(r.Slot.Source), fleet.LabelHash: string(r.Slot.Want),
			fleet.LabelMessage: string(cmp.Or(c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)) + " " + messagePath(c),
		},
		Mounts: mounts, Limits: pod.LimitsOf(c), OOMScore: pod.OOMScore(r.Pod, c, memory.Value()),
		PID: processes(r.Pod), Security: security,
	}
	if r.Pod.Spec.HostIPC {
		spec.IPC = host.Machine
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		spec.StopSignal = string(*c.Lifecycle.StopSignal)
	}
	return spec, nil
}

// wantsPodIP reports whether a container's environment holds its pod's address, which is known only once
// the sandbox runs.
func wantsPodIP(c *corev1.Container) bool {
	return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
		return e.ValueFrom != nil && e.ValueFrom.FieldRef != nil &&
			(e.ValueFrom.FieldRef.FieldPath == "status.podIP" || e.ValueFrom.FieldRef.FieldPath == "status.podIPs")
	})
}

// hostsVolume is a written volume that no pod can name.
const hostsVolume = ".etc"

// hosts is an /etc/hosts of ours, for a pod that has a name in the cluster, which Podman's has not, and for one in the
// machine's network that has other names, which Podman leaves out. Nil for every other pod.
func (r *run) hosts(ips []string) (*host.Mount, error) {
	full, machine := fullName(r.Pod, r.Cluster), r.Pod.Spec.HostNetwork
	var b strings.Builder
	switch {
	case machine && len(r.Pod.Spec.HostAliases) > 0:
		raw, err := os.ReadFile("/etc/hosts")
		if err != nil {
			return nil, err
		}
		b.Write(raw)
		b.WriteByte('\n')
	case machine || full == "":
		return nil, nil
	default:
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
		for _, ip := range ips {
			fmt.Fprintf(&b, "%s\t%s\t%s\n", ip, full, shortName(r.Pod))
		}
	}
	for _, alias := range r.Pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	files := []fleet.File{{Path: "hosts", Data: []byte(b.String()), Mode: 0o644}}
	if err := r.Volumes.Write(r.Chain.UID, hostsVolume, host.Written{Files: files, Content: pod.ContentHash(files)}); err != nil {
		return nil, err
	}
	return &host.Mount{Source: filepath.Join(r.Volumes.Path(r.Chain.UID, hostsVolume, false), "hosts"), Target: "/etc/hosts"}, nil
}

// security overlays the container's settings on the pod's, field by field.
func (r *run) security(ctx context.Context, c *corev1.Container) (host.Security, error) {
	var s host.Security
	var image string
	var err error
	if pod.NeedsImageUser(r.Pod, c) {
		if image, err = r.Host.ImageUser(ctx, c.Image); err != nil {
			return s, err
		}
	}
	if s.User, err = pod.User(r.Pod, c, image); err != nil {
		return s, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if x := r.Pod.Spec.SecurityContext; x != nil {
		for _, g := range x.SupplementalGroups {
			s.Groups = append(s.Groups, strconv.FormatInt(g, 10))
		}
		if x.FSGroup != nil {
			s.Groups = append(s.Groups, strconv.FormatInt(*x.FSGroup, 10))
		}
		r.seccomp(&s, x.SeccompProfile)
	}
	if x := c.SecurityContext; x != nil {
		r.seccomp(&s, x.SeccompProfile)
		s.UnmaskedProc = x.ProcMount != nil && *x.ProcMount == corev1.UnmaskedProcMount
		s.Privileged = x.Privileged != nil && *x.Privileged
		s.ReadOnlyRoot = x.ReadOnlyRootFilesystem != nil && *x.ReadOnlyRootFilesystem
		s.NoNewPrivileges = x.AllowPrivilegeEscalation != nil && !*x.AllowPrivilegeEscalation
		if x.Capabilities != nil {
			for _, name := range x.Capabilities.Add {
				s.CapAdd = append(s.CapAdd, string(name))
			}
			for _, name := range x.Capabilities.Drop {
				s.CapDrop = append(s.CapDrop, string(name))
			}
		}
	}
	return s, nil
}

// seccomp sets a filter, if there is one to set. Profiles lie in a folder of the agent's own, and nowhere else.
func (r *run) seccomp(s *host.Security, p *corev1.SeccompProfile) {
	if p == nil {
		return
	}
	s.Unconfined, s.Seccomp = p.Type == corev1.SeccompProfileTypeUnconfined, ""
	if p.Type == corev1.SeccompProfileTypeLocalhost && p.LocalhostProfile != nil {
		s.Seccomp = filepath.Join(r.Profiles, filepath.Clean("/"+*p.LocalhostProfile))
	}
}
