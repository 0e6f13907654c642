package fleet

import "strings"

// SysctlName writes a kernel setting with dots between its parts. Which of dot and slash comes first in a name is what
// divides it; the other one then stands for itself, as in net/ipv4/conf/eth0.100/forwarding.
func SysctlName(name string) string {
	if at := strings.IndexAny(name, "./"); at < 0 || name[at] == '.' {
		return name
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(name)
}
