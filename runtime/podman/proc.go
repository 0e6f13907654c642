package podman

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
)

// addresses are a pod's, read from its network namespace through its infra process: list calls do not have
// them, and one inspect a pod would be paid at every look. They last as long as the infra container.
func (m *Machine) addresses(infra string, pid int) []netip.Addr {
	if pid == 0 {
		return nil
	}
	key := infra + "/" + strconv.Itoa(pid)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ips, known := m.ips[key]; known {
		return slices.Clone(ips) // the caller's own
	}
	trie, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/fib_trie")
	if err != nil {
		return nil
	}
	ips := localAddresses(trie)
	if len(ips) > 0 {
		m.ips[key] = ips
	}
	return slices.Clone(ips)
}

// forget drops addresses of infra containers that are no more.
func (m *Machine) forget(live map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.ips {
		if infra, _, _ := strings.Cut(key, "/"); !live[infra] {
			delete(m.ips, key)
		}
	}
}

// localAddresses finds a namespace's own IPv4 addresses in its fib_trie: a leaf "|-- A.B.C.D" followed by
// "/32 host LOCAL".
func localAddresses(trie []byte) []netip.Addr {
	var ips []netip.Addr
	var leaf string
	lines := bufio.NewScanner(bytes.NewReader(trie))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if rest, ok := strings.CutPrefix(line, "|-- "); ok {
			leaf = rest
			continue
		}
		if line != "/32 host LOCAL" {
			continue
		}
		if ip, err := netip.ParseAddr(leaf); err == nil && !ip.IsLoopback() && !slices.Contains(ips, ip) {
			ips = append(ips, ip)
		}
	}
	return ips
}

// groupsOf are a container's cgroups by controller, through its process; nil when that is not there. The container's
// cgroup is the one that bears its ID: its process may have gone into one below.
func groupsOf(pid int, id string) map[string]string {
	if pid == 0 {
		return nil
	}
	membership, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil
	}
	groups := cgroups(membership)
	for controller, group := range groups {
		at := strings.Index(group, id)
		if at < 0 {
			delete(groups, controller)
			continue
		}
		end := strings.IndexByte(group[at:], '/')
		if end >= 0 {
			groups[controller] = group[:at+end]
		}
	}
	return groups
}

// limitsOf reads what a container's cgroup allows; nil where that cannot be read. Both cgroup versions are
// known; version 2 has weights instead of shares, which are left out.
func limitsOf(pid int, id string) *fleet.Limits {
	groups := groupsOf(pid, id)
	if groups == nil {
		return nil
	}
	var l fleet.Limits
	var shares int64
	type limit struct {
		file string
		into *int64
	}
	var read []limit
	if memory, ok := groups["memory"]; ok {
		cpu := path.Join("/sys/fs/cgroup/cpu", groups["cpu"])
		read = []limit{
			{path.Join("/sys/fs/cgroup/memory", memory, "memory.limit_in_bytes"), &l.Memory},
			{path.Join(cpu, "cpu.cfs_quota_us"), &l.CPUQuota},
			{path.Join(cpu, "cpu.shares"), &shares},
		}
	} else {
		dir := path.Join("/sys/fs/cgroup", groups[""])
		read = []limit{
			{path.Join(dir, "memory.max"), &l.Memory},
			{path.Join(dir, "cpu.max"), &l.CPUQuota},
		}
	}
	for _, r := range read {
		n, ok := number(r.file)
		if !ok {
			return nil
		}
		*r.into = n
	}
	l.Shares = uint64(shares)
	return &l
}

// cgroups reads /proc/PID/cgroup: controller → path. The unified hierarchy's controller is "".
func cgroups(membership []byte) map[string]string {
	groups := map[string]string{}
	for line := range strings.Lines(string(membership)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for _, controller := range strings.Split(fields[1], ",") {
			groups[controller] = fields[2]
		}
	}
	return groups
}

// number reads the first number of a limit's file. What is unlimited is 0; ok is false when it cannot be read.
func number(file string) (n int64, ok bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
	if first == "max" {
		return 0, true
	}
	n, err = strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, false
	}
	if n < 0 || n >= 1<<62 { // cgroup v1 writes "no limit" as -1 or as a number near the largest
		return 0, true
	}
	return n, true
}
