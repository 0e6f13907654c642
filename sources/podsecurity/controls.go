package podsecurity

// check examines a pod in one respect.
type check func(*pod)

// controls are the rows of the standards. Where restricted asks for more than baseline, it takes its place; where
// it is nil, baseline holds for both.
var controls = []struct {
	name                 string
	baseline, restricted check
}{
	{name: "host processes", baseline: hostProcess},
	{name: "host namespaces", baseline: hostNamespaces},
	{name: "privileged containers", baseline: privileged},
	{name: "capabilities", baseline: addedCapabilities, restricted: droppedCapabilities},
	{name: "volumes", baseline: hostPaths, restricted: volumeTypes},
	{name: "host ports", baseline: hostPorts},
	{name: "hosts of probes and hooks", baseline: probedHosts},
	{name: "AppArmor", baseline: appArmor},
	{name: "SELinux", baseline: seLinux},
	{name: "/proc", baseline: procMountUnlessMapped, restricted: procMount},
	{name: "seccomp", baseline: seccomp, restricted: seccompIsSet},
	{name: "sysctls", baseline: sysctls},
	{name: "privilege escalation", restricted: escalation},
	{name: "running as non-root", restricted: nonRoot},
	{name: "running as user 0", restricted: userNotRoot},
}
