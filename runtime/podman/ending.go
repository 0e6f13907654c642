package podman

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containers/podman/v4/libpod/define"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/containers/podman/v4/pkg/domain/entities"

	"github.com/skerry-dev/skerry/fleet"
)

// ending is what the list of containers does not say of one that ended. It is asked for once.
type ending struct {
	message     string
	outOfMemory bool
}

// endings remembers them by container.
type endings struct {
	mu  sync.Mutex
	all map[string]ending
}

// fill adds to the containers of pods that have ended what there is to know of their ends. What cannot be found out
// now is tried at the next look.
func (m *Machine) fill(ctx context.Context, h *fleet.Host, labels map[string]map[string]string) {
	m.endings.mu.Lock()
	defer m.endings.mu.Unlock()
	known := m.endings.all
	m.endings.all = make(map[string]ending, len(known))
	kernel := sync.OnceValue(kernelLog)
	enough := time.Now().Add(endingBudget)
	for i := range h.Pods {
		for j := range h.Pods[i].Containers {
			c := &h.Pods[i].Containers[j]
			if c.State != fleet.Exited || c.Message != "" {
				continue
			}
			end, ok := known[c.ID]
			if !ok {
				if time.Now().After(enough) { // hundreds at once, after a start: they come bit by bit
					time.AfterFunc(endingBudget, m.monitors.ring)
					continue
				}
				if end, ok = endOf(ctx, c, labels[c.ID], kernel); !ok {
					continue
				}
			}
			m.endings.all[c.ID] = end
			c.Message, c.OutOfMemory = end.message, end.outOfMemory
		}
	}
}

// endingBudget is how long a look goes on finding out about ends.
const endingBudget = time.Second

func endOf(ctx context.Context, c *fleet.ObservedContainer, labels map[string]string, kernel func() []byte) (ending, bool) {
	data, err := containers.Inspect(ctx, c.ID, nil)
	if err != nil {
		return ending{}, false
	}
	end := ending{outOfMemory: data.State != nil && data.State.OOMKilled}
	if !end.outOfMemory && c.ExitCode == 128+int32(syscall.SIGKILL) {
		end.outOfMemory = killedByKernel(kernel(), c.ID)
	}
	policy, path, _ := strings.Cut(labels[fleet.LabelMessage], " ")
	end.message = messageFile(data.Mounts, path)
	if end.message == "" && policy == "FallbackToLogsOnError" && c.ExitCode != 0 {
		end.message = lastWords(ctx, c.ID)
	}
	return end, true
}

// The most that is kept of a message, as in Kubernetes.
const (
	mostMessage  = 4096
	mostLog      = 2048
	mostLogLines = "80"
)

// messageFile reads what a container wrote to its termination message path.
func messageFile(mounts []define.InspectMount, path string) string {
	for _, m := range mounts {
		if m.Destination != path || path == "" {
			continue
		}
		// It is the container's to write to: a link or a pipe in its place is not followed or waited for.
		f, err := os.OpenFile(m.Source, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return ""
		}
		defer f.Close()
		raw, err := io.ReadAll(io.LimitReader(f, mostMessage))
		if err != nil {
			return ""
		}
		return strings.ToValidUTF8(string(raw), "\uFFFD")
	}
	return ""
}

// lastWords are the last lines of a container's log.
func lastWords(ctx context.Context, id string) string {
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan string, 128)
	failed := make(chan error, 1)
	go func() {
		options := new(containers.LogOptions).WithStdout(true).WithStderr(true).WithTail(mostLogLines).WithFollow(false)
		err := containers.Logs(bounded, id, options, lines, lines)
		close(lines)
		failed <- err
	}()
	var b strings.Builder
	for line := range lines {
		b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	if <-failed != nil {
		return ""
	}
	text := b.String()
	return strings.ToValidUTF8(text[max(0, len(text)-mostLog):], "\uFFFD")
}

// killedByKernel reports whether the kernel says that it killed something in a container's cgroup for want of memory.
// Podman before 5 does not know, and the cgroup, which would, is gone by now.
func killedByKernel(log []byte, id string) bool {
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("oom")) && bytes.Contains(line, []byte(id)) {
			return true
		}
	}
	return false
}

// kernelLog is what the kernel said of late; nothing where we may not know.
func kernelLog() []byte {
	const sizeBuffer, readAll = 10, 3 // syslog(2)
	size, err := syscall.Klogctl(sizeBuffer, nil)
	if err != nil || size <= 0 {
		return nil
	}
	log := make([]byte, size)
	n, err := syscall.Klogctl(readAll, log)
	if err != nil || n < 0 {
		return nil
	}
	return log[:n]
}

// labelsOf are the containers' labels by ID.
func labelsOf(all []entities.ListContainer) map[string]map[string]string {
	labels := make(map[string]map[string]string, len(all))
	for i := range all {
		labels[all[i].ID] = all[i].Labels
	}
	return labels
}
