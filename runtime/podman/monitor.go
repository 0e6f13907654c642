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

// monitorGrace is how long a process may be gone before its monitor has to have said so.
const monitorGrace = 2 * time.Second

// monitors watches over the monitors of running containers.
type monitors struct {
	mu      sync.Mutex
	changed func()               // rings; nil while nobody listens
	watched map[int]bool         // monitors by process
	odd     map[string]time.Time // containers that were found without, and when first
	visible bool                 // a monitor was seen once: processes are not hidden from this agent
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

// unwatched is a container of which Podman says that it runs, and that nobody watches over.
type unwatched struct {
	since time.Time
	lives bool // its process is there
}

// find returns the containers of a list that nobody watches over any more, for some time at least: in the midst of its
// end a container looks so, too. It goes on watching over the monitors of all others.
func (m *monitors) find(all []entities.ListContainer) map[string]unwatched {
	odd := map[string]bool{} // by container: whether its process lives
	for i := range all {
		c := &all[i]
		if state(c.State) != fleet.Running || c.Pid == 0 {
			continue
		}
		parent, _, ok := lineage(c.Pid)
		lives := ok && inContainer(c.Pid, c.ID)
		if lives && isMonitor(parent) {
			m.watch(parent)
			continue
		}
		odd[c.ID] = lives
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.odd
	m.odd = make(map[string]time.Time, len(odd))
	late := map[string]unwatched{}
	for id, lives := range odd {
		since, known := before[id]
		if !known {
			since = time.Now()
			time.AfterFunc(monitorGrace, m.ring)
		}
		m.odd[id] = since
		// An agent in a process namespace of its own sees nobody's, and must not think them dead.
		if m.visible && time.Since(since) >= monitorGrace {
			late[id] = unwatched{since, lives}
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
	m.visible = true
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

// container is an unwatched container as it is.
func (u unwatched) container(o fleet.ObservedContainer) fleet.ObservedContainer {
	if u.lives {
		o.State = fleet.Orphaned
		return o
	}
	o.State, o.ExitCode, o.Finished, o.Limits = fleet.Exited, fleet.LostCode, u.since.UTC().Truncate(time.Second), nil
	o.Message = "how it ended is not known: Podman's monitor of it was killed"
	return o
}
