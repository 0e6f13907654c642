package podsecurity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func hostProcess(p *pod) {
	if w := p.security().WindowsOptions; w != nil && is(w.HostProcess, true) {
		p.refuse(p.at("windowsOptions", "hostProcess"), "must not be true")
	}
	for _, c := range p.containers {
		if w := c.security.WindowsOptions; w != nil && is(w.HostProcess, true) {
			p.refuse(c.at("windowsOptions", "hostProcess"), "must not be true")
		}
	}
}

func hostNamespaces(p *pod) {
	s := p.template.Spec
	if s.HostNetwork {
		p.refuse(p.path.Child("hostNetwork"), "must not be true")
	}
	if s.HostPID {
		p.refuse(p.path.Child("hostPID"), "must not be true")
	}
	if s.HostIPC {
		p.refuse(p.path.Child("hostIPC"), "must not be true")
	}
}

func privileged(p *pod) {
	for _, c := range p.containers {
		if is(c.security.Privileged, true) {
			p.refuse(c.at("privileged"), "must not be true")
		}
	}
}

// usual are the capabilities that containers have anyway.
var usual = []corev1.Capability{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
	"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}

func addedCapabilities(p *pod) { onlyCapabilities(p, usual) }

// onlyCapabilities refuses each added capability that is not one of a list.
func onlyCapabilities(p *pod, allowed []corev1.Capability) {
	for _, c := range p.containers {
		if c.security.Capabilities == nil {
			continue
		}
		for i, added := range c.security.Capabilities.Add {
			if !slices.Contains(allowed, added) {
				p.refuse(c.at("capabilities", "add").Index(i), fmt.Sprintf("must not be %s", added))
			}
		}
	}
}

func hostPaths(p *pod) {
	for i, v := range p.template.Spec.Volumes {
		if v.HostPath != nil {
			p.refuse(p.path.Child("volumes").Index(i).Child("hostPath"), "must not be used")
		}
	}
}

func hostPorts(p *pod) {
	for _, c := range p.containers {
		for i, port := range c.Ports {
			if port.HostPort != 0 {
				p.refuse(c.path.Child("ports").Index(i).Child("hostPort"), "must not be set")
			}
		}
	}
}

// probedHosts keeps probes and hooks from reaching out to other machines in the node's name.
func probedHosts(p *pod) {
	look := func(get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, at *field.Path) {
		if get != nil && get.Host != "" {
			p.refuse(at.Child("httpGet", "host"), "must not be set")
		}
		if tcp != nil && tcp.Host != "" {
			p.refuse(at.Child("tcpSocket", "host"), "must not be set")
		}
	}
	probe := func(o *corev1.Probe, at *field.Path) {
		if o != nil {
			look(o.HTTPGet, o.TCPSocket, at)
		}
	}
	hook := func(o *corev1.LifecycleHandler, at *field.Path) {
		if o != nil {
			look(o.HTTPGet, o.TCPSocket, at)
		}
	}
	for _, c := range p.containers {
		probe(c.LivenessProbe, c.path.Child("livenessProbe"))
		probe(c.ReadinessProbe, c.path.Child("readinessProbe"))
		probe(c.StartupProbe, c.path.Child("startupProbe"))
		if c.Lifecycle != nil {
			hook(c.Lifecycle.PostStart, c.path.Child("lifecycle", "postStart"))
			hook(c.Lifecycle.PreStop, c.path.Child("lifecycle", "preStop"))
		}
	}
}

func appArmor(p *pod) {
	look := func(profile *corev1.AppArmorProfile, at *field.Path) {
		if profile != nil && profile.Type != corev1.AppArmorProfileTypeRuntimeDefault && profile.Type != corev1.AppArmorProfileTypeLocalhost {
			p.refuse(at, "must be RuntimeDefault or Localhost")
		}
	}
	look(p.security().AppArmorProfile, p.at("appArmorProfile", "type"))
	for _, c := range p.containers {
		look(c.security.AppArmorProfile, c.at("appArmorProfile", "type"))
	}
	notes := p.template.Annotations // how it was said before there were fields
	for _, key := range slices.Sorted(maps.Keys(notes)) {
		if strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) && notes[key] != "" &&
			notes[key] != corev1.DeprecatedAppArmorBetaProfileRuntimeDefault && !strings.HasPrefix(notes[key], corev1.DeprecatedAppArmorBetaProfileNamePrefix) {
			p.refuse(p.meta.Child("annotations").Key(key), "must be runtime/default or localhost/…")
		}
	}
}

// seLinuxTypes are those that do not lead out of a container.
var seLinuxTypes = []string{"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}

func seLinux(p *pod) {
	look := func(o *corev1.SELinuxOptions, at *field.Path) {
		if o == nil {
			return
		}
		if !slices.Contains(seLinuxTypes, o.Type) {
			p.refuse(at.Child("type"), "must be one of "+strings.Join(seLinuxTypes[1:], ", "))
		}
		if o.User != "" {
			p.refuse(at.Child("user"), "must not be set")
		}
		if o.Role != "" {
			p.refuse(at.Child("role"), "must not be set")
		}
	}
	look(p.security().SELinuxOptions, p.at("seLinuxOptions"))
	for _, c := range p.containers {
		look(c.security.SELinuxOptions, c.at("seLinuxOptions"))
	}
}

func procMountUnlessMapped(p *pod) {
	if !p.inUserNamespace() {
		procMount(p)
	}
}

func procMount(p *pod) {
	for _, c := range p.containers {
		if m := c.security.ProcMount; m != nil && *m != corev1.DefaultProcMount {
			p.refuse(c.at("procMount"), "must be Default")
		}
	}
}

func isProfile(s *corev1.SeccompProfile) bool {
	return s.Type == corev1.SeccompProfileTypeRuntimeDefault || s.Type == corev1.SeccompProfileTypeLocalhost
}

const profiles = "must be RuntimeDefault or Localhost"

func seccomp(p *pod) {
	if s := p.security().SeccompProfile; s != nil && !isProfile(s) {
		p.refuse(p.at("seccompProfile", "type"), profiles)
	}
	for _, c := range p.containers {
		if s := c.security.SeccompProfile; s != nil && !isProfile(s) {
			p.refuse(c.at("seccompProfile", "type"), profiles)
		}
	}
}

// safe are the kernel settings that reach no further than the pod.
var safe = []string{"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem"}

func sysctls(p *pod) {
	for i, s := range p.security().Sysctls {
		if !slices.Contains(safe, s.Name) {
			p.refuse(p.at("sysctls").Index(i).Child("name"), fmt.Sprintf("must not be %s", s.Name))
		}
	}
}
