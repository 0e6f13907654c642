package podman

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// each calls do for every process of the machine, until it returns false.
func each(do func(pid int) bool) {
	dir, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && !do(pid) {
			return
		}
	}
}

func commandLine(pid int) []string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(raw, []byte{0})), "\x00")
}

// killTree kills a process and all that came of it, as far as they are in a container: children of children, and
// whoever is in the session that it leads, also when the parent is gone. They are stopped before they are killed, so
// that none can start another meanwhile.
func killTree(root int, container string) {
	stopped := map[int]bool{}
	for {
		grown := false
		for pid := range family(root, stopped, container) {
			if !stopped[pid] {
				stopped[pid], grown = true, true
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			}
		}
		if !grown {
			break
		}
	}
	for pid := range stopped {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// family are the processes in the container that are root, descend from it or from one that is known, or share its
// session.
func family(root int, known map[int]bool, container string) map[int]bool {
	type process struct{ parent, session int }
	all := map[int]process{}
	each(func(pid int) bool {
		if parent, session, ok := lineage(pid); ok {
			all[pid] = process{parent, session}
		}
		return true
	})
	found := map[int]bool{}
	isOurs := func(pid int) bool { return pid == root || known[pid] || found[pid] }
	for grown := true; grown; {
		grown = false
		for pid, p := range all {
			if found[pid] || !(isOurs(pid) || isOurs(p.parent) || p.session == root) {
				continue
			}
			if !inContainer(pid, container) {
				continue
			}
			found[pid], grown = true, true
		}
	}
	return found
}

// lineage is a process's parent and session.
func lineage(pid int) (parent, session int, ok bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	// pid (name) state parent group session ...: a name may hold anything.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 4 {
		return 0, 0, false
	}
	parent, parentErr := strconv.Atoi(fields[1])
	session, sessionErr := strconv.Atoi(fields[3])
	return parent, session, parentErr == nil && sessionErr == nil
}

// inContainer reports whether a process is in a container's cgroup: a number may stand for somebody else by now.
func inContainer(pid int, container string) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && bytes.Contains(raw, []byte(container))
}
