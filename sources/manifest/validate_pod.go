package manifest

import (
	"fmt"
	"math"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podSpec checks a pod spec with its defaults filled in.
func (c *checker) podSpec(s *corev1.PodSpec, p *field.Path) {
	oneOf(c, p.Child("restartPolicy"), s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	oneOf(c, p.Child("dnsPolicy"), s.DNSPolicy, corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)
	if s.DNSPolicy == corev1.DNSNone && (s.DNSConfig == nil || len(s.DNSConfig.Nameservers) == 0) {
		c.bad(p.Child("dnsConfig", "nameservers"), "is required with the dnsPolicy None")
	}
	notNegative(c, p.Child("terminationGracePeriodSeconds"), s.TerminationGracePeriodSeconds)
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		c.bad(p.Child("activeDeadlineSeconds"), "must be between 1 and %d", math.MaxInt32)
	}
	if s.Hostname != "" {
		c.all(p.Child("hostname"), s.Hostname, validation.IsDNS1123Label(s.Hostname))
	}
	if s.Subdomain != "" {
		c.all(p.Child("subdomain"), s.Subdomain, validation.IsDNS1123Label(s.Subdomain))
	}
	if s.ServiceAccountName != "" {
		c.all(p.Child("serviceAccountName"), s.ServiceAccountName, validation.IsDNS1123Subdomain(s.ServiceAccountName))
	}
	if s.NodeName != "" {
		c.all(p.Child("nodeName"), s.NodeName, validation.IsDNS1123Subdomain(s.NodeName))
	}
	for key, value := range s.NodeSelector {
		c.all(p.Child("nodeSelector").Key(key), key, validation.IsQualifiedName(key))
		c.all(p.Child("nodeSelector").Key(key), value, validation.IsValidLabelValue(value))
	}
	c.hostAliases(s.HostAliases, p.Child("hostAliases"))
	c.podSecurity(s, p)
	volumes := c.volumes(s.Volumes, p.Child("volumes"))
	c.containers(s, p, volumes)
}

func (c *checker) hostAliases(list []corev1.HostAlias, p *field.Path) {
	for i, alias := range list {
		if _, err := netip.ParseAddr(alias.IP); err != nil {
			c.bad(p.Index(i).Child("ip"), "%q is not allowed: must be an IP address", alias.IP)
		}
		for j, name := range alias.Hostnames {
			c.all(p.Index(i).Child("hostnames").Index(j), name, validation.IsDNS1123Subdomain(name))
		}
	}
}

func (c *checker) podSecurity(s *corev1.PodSpec, p *field.Path) {
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		c.bad(p.Child("shareProcessNamespace"), "is not allowed together with hostPID")
	}
	sc := s.SecurityContext
	p = p.Child("securityContext")
	c.userID(p.Child("runAsUser"), sc.RunAsUser)
	c.groupID(p.Child("runAsGroup"), sc.RunAsGroup)
	c.groupID(p.Child("fsGroup"), sc.FSGroup)
	for i := range sc.SupplementalGroups {
		c.groupID(p.Child("supplementalGroups").Index(i), &sc.SupplementalGroups[i])
	}
	c.seccomp(sc.SeccompProfile, p.Child("seccompProfile"))
}

func (c *checker) userID(p *field.Path, id *int64) {
	if id != nil {
		c.all(p, fmt.Sprint(*id), validation.IsValidUserID(*id))
	}
}

func (c *checker) groupID(p *field.Path, id *int64) {
	if id != nil {
		c.all(p, fmt.Sprint(*id), validation.IsValidGroupID(*id))
	}
}

func (c *checker) seccomp(s *corev1.SeccompProfile, p *field.Path) {
	if s == nil {
		return
	}
	oneOf(c, p.Child("type"), s.Type, corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	if local := s.Type == corev1.SeccompProfileTypeLocalhost; local && (s.LocalhostProfile == nil || *s.LocalhostProfile == "") {
		c.bad(p.Child("localhostProfile"), "is required for the type Localhost")
	} else if !local && s.LocalhostProfile != nil {
		c.bad(p.Child("localhostProfile"), "is only allowed for the type Localhost")
	}
}

// containers checks all containers of a pod, and what they must not share.
func (c *checker) containers(s *corev1.PodSpec, p *field.Path, volumes map[string]bool) {
	if len(s.Containers) == 0 {
		c.bad(p.Child("containers"), "is required: name at least one container")
	}
	taken := map[string]bool{}
	for i := range s.InitContainers {
		at := p.Child("initContainers").Index(i)
		c.container(&s.InitContainers[i], at, s, volumes, taken)
		c.initContainer(&s.InitContainers[i], at)
	}
	for i := range s.Containers {
		c.container(&s.Containers[i], p.Child("containers").Index(i), s, volumes, taken)
	}
	c.hostPorts(s, p)
}

// initContainer checks what only init containers must not have. One that always restarts is a sidecar and
// may have probes and hooks.
func (c *checker) initContainer(o *corev1.Container, p *field.Path) {
	if o.RestartPolicy != nil && *o.RestartPolicy == corev1.ContainerRestartPolicyAlways {
		return
	}
	for name, set := range map[string]bool{"lifecycle": o.Lifecycle != nil, "livenessProbe": o.LivenessProbe != nil,
		"readinessProbe": o.ReadinessProbe != nil, "startupProbe": o.StartupProbe != nil} {
		if set {
			c.bad(p.Child(name), "is not allowed for an init container without restartPolicy: Always")
		}
	}
}

// hostPorts finds ports of the host that two containers of the pod want.
func (c *checker) hostPorts(s *corev1.PodSpec, p *field.Path) {
	var taken []corev1.ContainerPort
	for i := range s.Containers {
		for j, port := range s.Containers[i].Ports {
			if port.HostPort == 0 {
				continue
			}
			for _, other := range taken {
				if other.HostPort == port.HostPort && other.Protocol == port.Protocol && overlap(other.HostIP, port.HostIP) {
					c.bad(p.Child("containers").Index(i).Child("ports").Index(j).Child("hostPort"),
						"%d/%s is wanted twice in this pod", port.HostPort, port.Protocol)
					break
				}
			}
			taken = append(taken, port)
		}
	}
}

// overlap reports whether two addresses of the host can be the same: none and the unspecified ones are all.
func overlap(a, b string) bool {
	one, err := netip.ParseAddr(a)
	two, err2 := netip.ParseAddr(b)
	return err != nil || err2 != nil || one.IsUnspecified() || two.IsUnspecified() || one == two
}
