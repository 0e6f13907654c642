package manifest

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

// sysctlName is the name of a setting of the kernel, its parts divided by dots or slashes.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

const maxSysctlName = 253

// sysctls checks the kernel settings of a pod. Those that hold for the whole machine are not the pod's to
// set, and neither are those of a namespace that it shares with the machine.
func (c *checker) sysctls(s *corev1.PodSpec, p *field.Path) {
	taken := map[string]bool{}
	for i, sysctl := range s.SecurityContext.Sysctls {
		at := p.Index(i).Child("name")
		name := fleet.SysctlName(sysctl.Name)
		network, namespaced := sysctlNamespace(name)
		switch {
		case name == "":
			c.bad(at, "is required")
		case len(name) > maxSysctlName || !sysctlName.MatchString(name):
			c.bad(at, "%q is not allowed: must be the name of a kernel setting, such as net.ipv4.tcp_syncookies", sysctl.Name)
		case taken[name]:
			c.bad(at, "%q stands twice: remove one", sysctl.Name)
		case !namespaced:
			c.bad(at, "%q is not allowed: it holds for the whole machine; a pod has kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* and net.* of its own", sysctl.Name)
		case network && s.HostNetwork:
			c.bad(at, "%q is not allowed together with hostNetwork", sysctl.Name)
		case !network && s.HostIPC:
			c.bad(at, "%q is not allowed together with hostIPC", sysctl.Name)
		}
		taken[name] = true
	}
}

// sysctlNamespace says in which namespace of a pod a setting is: that of the network or that of
// inter-process communication.
func sysctlNamespace(name string) (network, namespaced bool) {
	if strings.HasPrefix(name, "net.") {
		return true, true
	}
	for _, prefix := range []string{"kernel.shm", "kernel.msg", "fs.mqueue."} {
		if strings.HasPrefix(name, prefix) {
			return false, true
		}
	}
	return false, name == "kernel.sem"
}
