package podman

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containers/podman/v4/pkg/domain/entities"

	"github.com/skerry-dev/skerry/fleet"
)

// Podman learns of a container's end from its monitor, conmon, which is the parent of its first process. When that is
// killed, the container is "running" for ever, whatever becomes of it, and its output goes nowhere. No event tells.

// grace is how long a process may be gone before its monitor has to have said so.
const monitorGrace = 2 * time.Second

// monitors watches over the monitors of running containers.
type monitors struct {
	mu      sync.Mutex
	changed func()               // rings; nil while nobody listens
	watched map[int]bool         // monitors by process
	gone    map[string]time.Time // containers whose process was found gone, and when first
}

// listen has changed called when a monitor may have died.
func (m *monitors) listen(changed func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = changed
}

func (m *monitors) ring() {
	m.mu.Lock()
	changed := m.changed
	m.mu.Unlock()
	if changed != nil {
		changed()
	}
}

// states are the containers of a list that are not what Podman says: Unknown for those that nobody watches over any
// more. It goes on watching over the monitors of all others.
func (m *monitors) states(all []entities.ListContainer) map[string]fleet.ContainerState {
	parents := map[string]int{} // of the processes that are to be seen, by container
	var missing []string
	for i := range all {
		c := &all[i]
		if state(c.State) != fleet.Running || c.Pid == 0 {
			continue
		}
		if parent, _, ok := lineage(c.Pid); ok && inContainer(c.Pid, c.ID) {
			parents[c.ID] = parent
		} else {
			missing = append(missing, c.ID)
		}
	}
	odd := map[string]fleet.ContainerState{}
	visible := false // an agent in a process namespace of its own sees nobody's, and must not think them dead
	for id, parent := range parents {
		if isMonitor(parent) {
			visible = true
			m.watch(parent)
			continue
		}
		odd[id] = fleet.Unknown
	}
	if !visible {
		return nil
	}
	for _, id := range m.overdue(missing) {
		odd[id] = fleet.Unknown
	}
	return odd
}

// overdue are those of the containers whose process is gone that have been so for too long. It rings when the others
// may be.
func (m *monitors) overdue(missing []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.gone
	m.gone = make(map[string]time.Time, len(missing))
	var late []string
	for _, id := range missing {
		since, known := before[id]
		if !known {
			since = time.Now()
			time.AfterFunc(monitorGrace, m.ring)
		}
		m.gone[id] = since
		if time.Since(since) >= monitorGrace {
			late = append(late, id)
		}
	}
	return late
}

func isMonitor(pid int) bool {
	name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return err == nil && strings.HasPrefix(string(name), "conmon")
}

// watch rings some time after a monitor ended. By then Podman knows, if it was the container's end.
func (m *monitors) watch(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watched[pid] || m.changed == nil {
		return
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return // it is gone, or the kernel is older than this: the full look finds out
	}
	process := os.NewFile(uintptr(fd), "pidfd")
	conn, err := process.SyscallConn()
	if err != nil {
		_ = process.Close()
		return
	}
	if m.watched == nil {
		m.watched = map[int]bool{}
	}
	m.watched[pid] = true
	go func() {
		defer process.Close()
		asked := false
		err := conn.Read(func(uintptr) bool { // it can be read when the process has ended
			defer func() { asked = true }()
			return asked
		})
		if err != nil {
			return // such files cannot be waited for here: the full look finds out
		}
		m.mu.Lock()
		delete(m.watched, pid)
		m.mu.Unlock()
		time.AfterFunc(time.Second, m.ring)
	}()
}
