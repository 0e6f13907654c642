package manifest

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) container(o *corev1.Container, p *field.Path, pod *corev1.PodSpec, volumes, taken map[string]bool) {
	c.name(o.Name, p.Child("name"), taken, "container")
	switch {
	case o.Image == "":
		c.bad(p.Child("image"), "is required")
	case strings.TrimSpace(o.Image) != o.Image:
		c.bad(p.Child("image"), "must not begin or end with a blank")
	}
	oneOf(c, p.Child("imagePullPolicy"), o.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	oneOf(c, p.Child("terminationMessagePolicy"), o.TerminationMessagePolicy, corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	c.ports(o.Ports, p.Child("ports"), pod.HostNetwork)
	c.environment(o, p)
	c.mounts(o, p.Child("volumeMounts"), volumes)
	c.resources(&o.Resources, p.Child("resources"))
	c.security(o.SecurityContext, p.Child("securityContext"))
}

// name checks a name that must be a label and stand once.
func (c *checker) name(name string, p *field.Path, taken map[string]bool, what string) {
	switch {
	case name == "":
		c.bad(p, "is required")
	case taken[name]:
		c.bad(p, "%q stands twice: each %s needs a name of its own", name, what)
	default:
		c.all(p, name, validation.IsDNS1123Label(name))
	}
	taken[name] = true
}

func (c *checker) ports(list []corev1.ContainerPort, p *field.Path, hostNetwork bool) {
	taken := map[string]bool{}
	for i, port := range list {
		at := p.Index(i)
		if port.Name != "" {
			c.all(at.Child("name"), port.Name, validation.IsValidPortName(port.Name))
			if taken[port.Name] {
				c.bad(at.Child("name"), "%q stands twice: each port needs a name of its own", port.Name)
			}
			taken[port.Name] = true
		}
		if port.ContainerPort == 0 {
			c.bad(at.Child("containerPort"), "is required")
		} else {
			c.all(at.Child("containerPort"), fmt.Sprint(port.ContainerPort), validation.IsValidPortNum(int(port.ContainerPort)))
		}
		if port.HostPort != 0 {
			c.all(at.Child("hostPort"), fmt.Sprint(port.HostPort), validation.IsValidPortNum(int(port.HostPort)))
			if hostNetwork && port.HostPort != port.ContainerPort {
				c.bad(at.Child("hostPort"), "must be the same as containerPort with hostNetwork")
			}
		}
		if port.HostIP != "" {
			c.ip(port.HostIP, at.Child("hostIP"))
		}
		oneOf(c, at.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
	}
}

func (c *checker) resources(r *corev1.ResourceRequirements, p *field.Path) {
	for name, limit := range r.Limits {
		c.resource(name, p.Child("limits").Key(string(name)))
		if limit.Sign() < 0 {
			c.bad(p.Child("limits").Key(string(name)), "must not be negative")
		}
	}
	for name, request := range r.Requests {
		at := p.Child("requests").Key(string(name))
		c.resource(name, at)
		if request.Sign() < 0 {
			c.bad(at, "must not be negative")
		}
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			c.bad(at, "%s must not be more than the limit, %s", request.String(), limit.String())
		}
	}
}

// resource checks the name of a resource.
func (c *checker) resource(name corev1.ResourceName, p *field.Path) {
	switch {
	case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage:
	case strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
	case !strings.Contains(string(name), "/"):
		c.bad(p, "unknown resource %q: must be cpu, memory, ephemeral-storage, hugepages-<size> or have a domain", name)
	default:
		c.all(p, string(name), validation.IsQualifiedName(string(name)))
	}
}

func (c *checker) security(s *corev1.SecurityContext, p *field.Path) {
	if s == nil {
		return
	}
	c.userID(p.Child("runAsUser"), s.RunAsUser)
	c.groupID(p.Child("runAsGroup"), s.RunAsGroup)
	c.seccomp(s.SeccompProfile, p.Child("seccompProfile"))
	if s.ProcMount != nil {
		oneOf(c, p.Child("procMount"), *s.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
	}
	if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
		return
	}
	if s.Privileged != nil && *s.Privileged {
		c.bad(p.Child("allowPrivilegeEscalation"), "must not be false in a privileged container")
	}
	if s.Capabilities != nil {
		for _, added := range s.Capabilities.Add {
			if added == "CAP_SYS_ADMIN" {
				c.bad(p.Child("allowPrivilegeEscalation"), "must not be false with the capability CAP_SYS_ADMIN")
			}
		}
	}
}
