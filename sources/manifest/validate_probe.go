package manifest

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// probes checks the probes and hooks of a container that may have them.
func (c *checker) probes(o *corev1.Container, p *field.Path, pod *corev1.PodSpec) {
	c.probe(o.LivenessProbe, p.Child("livenessProbe"), o.Ports, false)
	c.probe(o.StartupProbe, p.Child("startupProbe"), o.Ports, false)
	c.probe(o.ReadinessProbe, p.Child("readinessProbe"), o.Ports, true)
	if o.Lifecycle != nil {
		at := p.Child("lifecycle")
		c.hook(o.Lifecycle.PostStart, at.Child("postStart"), o.Ports, *pod.TerminationGracePeriodSeconds)
		c.hook(o.Lifecycle.PreStop, at.Child("preStop"), o.Ports, *pod.TerminationGracePeriodSeconds)
		c.signal(o.Lifecycle.StopSignal, at.Child("stopSignal"))
	}
}

// probe checks a probe with its defaults filled in. Ports are those of its container.
func (c *checker) probe(o *corev1.Probe, p *field.Path, ports []corev1.ContainerPort, readiness bool) {
	if o == nil {
		return
	}
	c.one(p, map[string]bool{"exec": o.Exec != nil, "httpGet": o.HTTPGet != nil, "tcpSocket": o.TCPSocket != nil, "grpc": o.GRPC != nil})
	c.handler(o.Exec, o.HTTPGet, o.TCPSocket, p, ports)
	if o.GRPC != nil {
		c.all(p.Child("grpc", "port"), fmt.Sprint(o.GRPC.Port), validation.IsValidPortNum(int(o.GRPC.Port)))
	}
	for name, value := range map[string]*int32{"initialDelaySeconds": &o.InitialDelaySeconds, "timeoutSeconds": &o.TimeoutSeconds,
		"periodSeconds": &o.PeriodSeconds, "successThreshold": &o.SuccessThreshold, "failureThreshold": &o.FailureThreshold} {
		notNegative(c, p.Child(name), value)
	}
	if !readiness && o.SuccessThreshold > 1 {
		c.bad(p.Child("successThreshold"), "must be 1 for this probe")
	}
	if grace := o.TerminationGracePeriodSeconds; grace != nil {
		switch {
		case readiness:
			c.bad(p.Child("terminationGracePeriodSeconds"), "is not allowed for a readiness probe")
		case *grace < 1:
			c.bad(p.Child("terminationGracePeriodSeconds"), "must be greater than 0")
		}
	}
}

// one reports when not exactly one of several fields is set.
func (c *checker) one(p *field.Path, set map[string]bool) {
	n := 0
	for _, is := range set {
		if is {
			n++
		}
	}
	switch {
	case n == 0:
		c.bad(p, "has no handler: give one of exec, httpGet and the like")
	case n > 1:
		c.bad(p, "has more than one handler: give only one")
	}
}

func (c *checker) handler(exec *corev1.ExecAction, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, p *field.Path, ports []corev1.ContainerPort) {
	if exec != nil && len(exec.Command) == 0 {
		c.bad(p.Child("exec", "command"), "is required")
	}
	if get != nil {
		at := p.Child("httpGet")
		c.port(get.Port, at.Child("port"), ports)
		oneOf(c, at.Child("scheme"), get.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
		for i, h := range get.HTTPHeaders {
			if len(validation.IsHTTPHeaderName(h.Name)) > 0 {
				c.bad(at.Child("httpHeaders").Index(i).Child("name"), "%q is not the name of an HTTP header", h.Name)
			}
		}
	}
	if tcp != nil {
		c.port(tcp.Port, p.Child("tcpSocket", "port"), ports)
	}
}

// port checks a port by number, or by name among those of the container.
func (c *checker) port(port intstr.IntOrString, p *field.Path, ports []corev1.ContainerPort) {
	if port.Type != intstr.String {
		c.all(p, fmt.Sprint(port.IntVal), validation.IsValidPortNum(int(port.IntVal)))
		return
	}
	wrong := validation.IsValidPortName(port.StrVal)
	c.all(p, port.StrVal, wrong)
	if len(wrong) == 0 && !slices.ContainsFunc(ports, func(o corev1.ContainerPort) bool { return o.Name == port.StrVal }) {
		c.warn(p, fmt.Sprintf("this container has no port named %q: it can never succeed", port.StrVal))
	}
}
