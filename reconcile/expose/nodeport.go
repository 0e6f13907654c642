package expose

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Node ports are of this range.
const (
	firstNodePort int32 = 30000
	lastNodePort  int32 = 32767
)

// portSpot is a port of all hosts.
type portSpot struct {
	protocol corev1.Protocol
	number   int32
}

// spotOf is the port of a host that stands for one of a Service, by its key.
func spotOf(key string, number int32) portSpot {
	protocol, _, _ := strings.Cut(key, "/")
	return portSpot{corev1.Protocol(protocol), number}
}

// hasNodePort reports whether a port of a Service is reached on the hosts: it asks for a port of theirs, or leaves it to
// others which one it is.
func hasNodePort(svc *corev1.Service, port corev1.ServicePort) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return port.NodePort != 0 || svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	default:
		return false
	}
}

// open calls f with each port of a Service that needs a port of the hosts and has none yet.
func (c *claim) open(f func(key string, asked int32)) {
	for _, p := range c.svc.Spec.Ports {
		key := fleet.PortKey(protocolOf(p.Protocol), p.Port)
		if _, has := c.ports[key]; !has && hasNodePort(c.svc, p) {
			f(key, p.NodePort)
		}
	}
	if _, has := c.ports[fleet.HealthPort]; !has && hasHealthPort(c.svc) {
		f(fleet.HealthPort, c.svc.Spec.HealthCheckNodePort)
	}
}

// hasHealthPort reports whether balancers outside have to find out which hosts a Service's connections can be sent to.
func hasHealthPort(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// takePort gives a port of the hosts to a Service, unless it is taken: by another or by another port of its own.
func (a *allocation) takePort(c *claim, key string, number int32) bool {
	at := spotOf(key, number)
	if _, taken := a.ports[at]; taken {
		return false
	}
	a.ports[at] = c.id
	c.ports[key] = number
	return true
}

// keepPorts keeps the node ports that a Service had, if no others are asked for.
func (a *allocation) keepPorts(c *claim) {
	c.open(func(key string, asked int32) {
		if had := c.before.NodePorts[key]; had >= firstNodePort && had <= lastNodePort && (asked == 0 || asked == had) {
			a.takePort(c, key, had)
		}
	})
}

// askedPorts gives a Service the node ports that it asks for.
func (a *allocation) askedPorts(c *claim) {
	c.open(func(key string, asked int32) {
		switch {
		case asked == 0:
		case asked < firstNodePort || asked > lastNodePort:
			a.note(c, "node port %d is outside of %d to %d: ask for one of those, or for none", asked, firstNodePort, lastNodePort)
		case !a.takePort(c, key, asked):
			a.note(c, "node port %d is that of %s: ask for another, or for none", asked, a.ports[spotOf(key, asked)])
		}
	})
}

// newPorts gives a Service the node ports that it needs and leaves to others.
func (a *allocation) newPorts(c *claim) {
	const size = lastNodePort - firstNodePort + 1
	c.open(func(key string, asked int32) {
		if asked != 0 {
			return // it was refused
		}
		at := int32(hashOf(c.id.String()+" "+key) % uint64(size))
		for i := range size {
			if a.takePort(c, key, firstNodePort+(at+i)%size) {
				return
			}
		}
		a.note(c, "no node port is left for %s: remove Services that have some", key)
	})
}
