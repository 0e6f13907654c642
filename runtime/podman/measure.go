package podman

import (
	"context"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/containers/podman/v4/pkg/domain/entities"

	"github.com/skerry-dev/skerry/runtime/host"
)

// Podman has statistics of its own, and they mean another thing in each version: memory is all that is charged, the
// cache of files too (4.3), anonymous pages alone (4.9), or the working set (5.8). One container that is gone fails
// the whole call, it waits for the lock of each, and costs several times as much (BenchmarkMeasure).

// Measure reads what the kernel counts for containers. Podman is asked, for a list, only where the last one does not
// lead to a process that runs.
func (m *Machine) Measure(ctx context.Context, ids []string) (map[string]host.Measurement, error) {
	measured := make(map[string]host.Measurement, len(ids))
	missing := m.measure(ids, measured)
	if len(missing) == 0 {
		return measured, nil
	}
	ctx, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	all, err := containers.List(ctx, new(containers.ListOptions).WithAll(true))
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", kind(ctx, err))
	}
	m.recall(all)
	m.measure(missing, measured)
	return measured, nil
}

// recall keeps the processes that a list of containers has.
func (m *Machine) recall(all []entities.ListContainer) {
	pids := make(map[string]int, len(all))
	for i := range all {
		if pid := all[i].Pid; pid > 0 {
			pids[all[i].ID] = pid
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pids = pids
}

// measure adds those that are known to run, and returns the others.
func (m *Machine) measure(ids []string, measured map[string]host.Measurement) (missing []string) {
	m.mu.Lock()
	pids := m.pids // it is replaced, and never written to
	m.mu.Unlock()
	for _, id := range ids {
		pid := pids[id]
		one, ok := usage("/sys/fs/cgroup", groupsOf(pid, id))
		// Where memory is not counted the process is still there: its cgroup did not go in the midst of this.
		if ok = ok && (one.Memory > 0 || inContainer(pid, id)); !ok {
			missing = append(missing, id)
			continue
		}
		measured[id] = one
	}
	return missing
}

// usage reads what was used in cgroups, by controller, below the folder where they are mounted. Both versions are known,
// and machines on which some controllers are of one and some of the other.
func usage(root string, groups map[string]string) (host.Measurement, bool) {
	unified, known := groups[""]
	dir := path.Join(root, unified)
	if len(groups) > 1 { // the second version is mounted beside the controllers of the first
		dir = path.Join(root, "unified", unified)
	}
	var memory, idle, cpu int64
	counted, countedIdle, ok := false, false, false
	if group, first := groups["memory"]; first {
		memory, counted = number(path.Join(root, "memory", group, "memory.usage_in_bytes"))
		idle, countedIdle = field(path.Join(root, "memory", group, "memory.stat"), "total_inactive_file")
	} else if known {
		memory, counted = number(path.Join(dir, "memory.current"))
		idle, countedIdle = field(path.Join(dir, "memory.stat"), "inactive_file")
	}
	at := time.Now()
	if group, first := groups["cpuacct"]; first {
		cpu, ok = number(path.Join(root, "cpuacct", group, "cpuacct.usage"))
	} else if known {
		cpu, ok = field(path.Join(dir, "cpu.stat"), "usage_usec")
		cpu *= int64(time.Microsecond)
	}
	if !counted || !countedIdle {
		memory, idle = 0, 0
	}
	return host.Measurement{CPU: time.Duration(cpu), Memory: max(memory-idle, 0), At: at}, ok
}

// field reads the number behind a name in a file that has one a line.
func field(file, name string) (n int64, ok bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(raw)) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			n, err = strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
