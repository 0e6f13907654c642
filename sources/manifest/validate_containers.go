package manifest

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// containers checks all containers of a pod, and what they must not share.
func (c *checker) containers(s *corev1.PodSpec, p *field.Path, volumes map[string]bool) {
	if len(s.Containers) == 0 {
		c.bad(p.Child("containers"), "is required: name at least one container")
	}
	taken := map[string]bool{}
	for i := range s.InitContainers {
		at := p.Child("initContainers").Index(i)
		c.container(&s.InitContainers[i], at, s, volumes, taken)
		c.initContainer(&s.InitContainers[i], at, s)
		c.hostPorts(s.InitContainers[i:i+1], func(int) *field.Path { return at }) // they run one after another
	}
	for i := range s.Containers {
		at := p.Child("containers").Index(i)
		c.container(&s.Containers[i], at, s, volumes, taken)
		c.probes(&s.Containers[i], at, s)
	}
	c.hostPorts(s.Containers, p.Child("containers").Index)
}

// initContainer checks what only init containers may and must not have. One that always restarts is a
// sidecar: it may have probes and hooks.
func (c *checker) initContainer(o *corev1.Container, p *field.Path, pod *corev1.PodSpec) {
	if o.RestartPolicy != nil {
		if oneOf(c, p.Child("restartPolicy"), *o.RestartPolicy, corev1.ContainerRestartPolicyAlways); *o.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			c.probes(o, p, pod)
			return
		}
	}
	for name, set := range map[string]bool{"lifecycle": o.Lifecycle != nil, "livenessProbe": o.LivenessProbe != nil,
		"readinessProbe": o.ReadinessProbe != nil, "startupProbe": o.StartupProbe != nil} {
		if set {
			c.bad(p.Child(name), "is not allowed for an init container without restartPolicy: Always")
		}
	}
}

// hostPorts finds ports of the host that are wanted twice in containers that run at once.
func (c *checker) hostPorts(list []corev1.Container, path func(int) *field.Path) {
	var taken []corev1.ContainerPort
	for i := range list {
		for j, port := range list[i].Ports {
			if port.HostPort == 0 {
				continue
			}
			for _, other := range taken {
				if other.HostPort == port.HostPort && other.Protocol == port.Protocol && overlap(other.HostIP, port.HostIP) {
					c.bad(path(i).Child("ports").Index(j).Child("hostPort"), "%d/%s is wanted twice in this pod", port.HostPort, port.Protocol)
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
