package apply

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
	"github.com/skerry-dev/skerry/runtime/host"
)

// maxHostname is the longest name the kernel takes.
const maxHostname = 63

func sandbox(slot fleet.Slot, p *corev1.Pod) host.Sandbox {
	s := host.Sandbox{Name: fleet.PodmanPod(slot.Pod), Hostname: p.Spec.Hostname, Labels: podLabels(slot)}
	if s.Hostname == "" {
		s.Hostname = strings.TrimRight(slot.Pod.Name[:min(len(slot.Pod.Name), maxHostname)], "-.")
	}
	for i := range p.Spec.Containers {
		for _, port := range p.Spec.Containers[i].Ports {
			if port.HostPort != 0 {
				s.Ports = append(s.Ports, host.Port{
					HostIP: port.HostIP, Host: uint16(port.HostPort), Container: uint16(port.ContainerPort),
					Protocol: strings.ToLower(string(port.Protocol)),
				})
			}
		}
	}
	for _, alias := range p.Spec.HostAliases {
		for _, name := range alias.Hostnames {
			s.Hosts = append(s.Hosts, name+":"+alias.IP)
		}
	}
	return s
}

func podLabels(slot fleet.Slot) map[string]string {
	labels := map[string]string{
		fleet.LabelPodName: slot.Pod.Name, fleet.LabelPodNamespace: slot.Pod.Namespace, fleet.LabelPodUID: slot.UID,
		fleet.LabelSource: string(slot.Source), fleet.LabelRevision: string(slot.From), fleet.LabelHash: string(slot.Want),
		fleet.LabelOwner:   slot.Owner.String(),
		fleet.LabelCreated: slot.Created.UTC().Format(time.RFC3339Nano),
	}
	for key, value := range map[string]string{
		fleet.LabelController: slot.Controller.String(), fleet.LabelShape: string(slot.Shape), fleet.LabelSetHash: slot.Label,
	} {
		if value != "" {
			labels[key] = value
		}
	}
	return labels
}

func (r *run) containerSpec(c *corev1.Container, s fleet.Step, invocation pod.Invocation) host.Container {
	labels := map[string]string{
		fleet.LabelPodName: r.Slot.Pod.Name, fleet.LabelPodNamespace: r.Slot.Pod.Namespace, fleet.LabelPodUID: r.Slot.UID,
		fleet.LabelContainerName: c.Name, fleet.LabelContainerHash: string(fleet.HashContainer(c)),
		fleet.LabelAttempt: strconv.Itoa(s.Attempt), fleet.LabelBackoff: s.Backoff.String(),
		fleet.LabelSource: string(r.Slot.Source), fleet.LabelHash: string(r.Slot.Want),
	}
	return host.Container{
		Name: fleet.PodmanContainer(r.Slot.Pod, c.Name), PodID: r.podID, Image: c.Image,
		Entrypoint: invocation.Command, Args: invocation.Args, Env: invocation.Env,
		WorkDir: c.WorkingDir, Stdin: c.Stdin, TTY: c.TTY, Labels: labels,
		Mounts: r.mounts(c), Limits: pod.LimitsOf(c), Security: security(r.Pod, c),
	}
}

func inMemory(v *corev1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
}

func (r *run) mounts(c *corev1.Container) []host.Mount {
	var mounts []host.Mount
	for _, m := range c.VolumeMounts {
		at := slices.IndexFunc(r.Pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if at < 0 {
			continue // validation has refused it
		}
		v := &r.Pod.Spec.Volumes[at]
		written, secret := pod.Written(v)
		mount := host.Mount{
			Source: r.Volumes.Path(r.Chain.UID, v.Name, secret || inMemory(v)), Target: m.MountPath,
			ReadOnly: m.ReadOnly || written,
		}
		if v.HostPath != nil {
			mount.Source = v.HostPath.Path
		}
		mounts = append(mounts, mount)
	}
	return mounts
}

// security overlays the container's settings on the pod's, field by field.
func security(p *corev1.Pod, c *corev1.Container) host.Security {
	var user, group *int64
	var s host.Security
	if x := p.Spec.SecurityContext; x != nil {
		user, group = x.RunAsUser, x.RunAsGroup
		for _, g := range x.SupplementalGroups {
			s.Groups = append(s.Groups, strconv.FormatInt(g, 10))
		}
		s.Unconfined = unconfined(x.SeccompProfile)
	}
	if x := c.SecurityContext; x != nil {
		if x.RunAsUser != nil {
			user = x.RunAsUser
		}
		if x.RunAsGroup != nil {
			group = x.RunAsGroup
		}
		if x.SeccompProfile != nil {
			s.Unconfined = unconfined(x.SeccompProfile)
		}
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
	if user != nil {
		s.User = strconv.FormatInt(*user, 10)
	}
	if group != nil {
		if user == nil {
			s.User = "0"
		}
		s.User += ":" + strconv.FormatInt(*group, 10)
	}
	return s
}

func unconfined(p *corev1.SeccompProfile) bool {
	return p != nil && p.Type == corev1.SeccompProfileTypeUnconfined
}
