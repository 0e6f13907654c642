package expose

import (
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Variables are what containers of a namespace find in their environment of its Services that have an address, in the order
// of the Services' names, and of each in the order that the kubelet has (FOO_SERVICE_HOST first). Each name is there once: of
// Services foo and foo-service, which both have FOO_SERVICE_PORT, the first by name has it; in Kubernetes it is chance. The
// first address of a Service is its host.
func Variables(desired fleet.Desired, exposures []fleet.Exposure, namespace string) []corev1.EnvVar {
	given := exposuresByID(exposures)
	var list []corev1.EnvVar
	seen := map[string]bool{}
	set := func(name, value string) {
		if !seen[name] {
			seen[name] = true
			list = append(list, corev1.EnvVar{Name: name, Value: value})
		}
	}
	for o, svc := range fleet.Each[*corev1.Service](desired) {
		addrs := given[o.ID].Addrs
		if o.ID.Namespace != namespace || len(addrs) == 0 || len(svc.Spec.Ports) == 0 || isHeadless(svc) || isAlias(svc) {
			continue
		}
		name, host := variable(o.ID.Name), addrs[0]
		set(name+"_SERVICE_HOST", host.String())
		set(name+"_SERVICE_PORT", strconv.Itoa(int(svc.Spec.Ports[0].Port)))
		for _, p := range svc.Spec.Ports {
			if p.Name != "" {
				set(name+"_SERVICE_PORT_"+variable(p.Name), strconv.Itoa(int(p.Port)))
			}
		}
		for i, p := range svc.Spec.Ports {
			links(set, name, host, p, i == 0)
		}
	}
	return list
}

// links sets what Docker once set of containers that were linked.
func links(set func(name, value string), name string, host netip.Addr, p corev1.ServicePort, first bool) {
	number, protocol := strconv.Itoa(int(p.Port)), string(protocolOf(p.Protocol))
	url := strings.ToLower(protocol) + "://" + netip.AddrPortFrom(host, uint16(p.Port)).String()
	if first {
		set(name+"_PORT", url)
	}
	prefix := name + "_PORT_" + number + "_" + strings.ToUpper(protocol)
	set(prefix, url)
	set(prefix+"_PROTO", strings.ToLower(protocol))
	set(prefix+"_PORT", number)
	set(prefix+"_ADDR", host.String())
}

// variable is a name as the kubelet makes a variable's of it.
func variable(name string) string {
	name = strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name))
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}
