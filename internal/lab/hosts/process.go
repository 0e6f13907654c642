package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Exec runs a command in a host and returns what it printed to stdout, without the last newline. The test ends when it
// fails. Its working directory is /run.
func (h *Host) Exec(command ...string) string {
	h.site.t.Helper()
	out, err := h.ExecErr(h.ctx(), command...)
	if err != nil {
		h.site.t.Fatal(err)
	}
	return out
}

// ExecErr is Exec for a command that may fail, for any goroutine. The error holds what it wrote to stderr; as an
// *exec.ExitError it has the exit code. A command that outlives ctx is killed.
func (h *Host) ExecErr(ctx context.Context, command ...string) (string, error) {
	cmd, err := h.enter(ctx, command...)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return kill(cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for children of it that have its stdout
	err = cmd.Run()
	out := strings.TrimSuffix(stdout.String(), "\n")
	if err != nil {
		return out, fmt.Errorf("%s on host %s: %w: %s", strings.Join(command, " "), h.Name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// process is one that was started to go on running.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts a process in a host, which goes on until it ends by itself, is killed or the power is cut. A name that has
// ended can be started again. What it writes is in Output, and shown when the test fails.
func (h *Host) Start(name string, command ...string) {
	h.site.t.Helper()
	if err := h.start(name, nil, command...); err != nil {
		h.site.t.Fatalf("start %s on host %s: %v", name, h.Name, err)
	}
}

func (h *Host) start(name string, files []*os.File, command ...string) error {
	h.mu.Lock()
	before := h.processes[name]
	h.mu.Unlock()
	if before != nil {
		select {
		case <-before.ended:
		default:
			return errors.New("it runs already")
		}
	}
	out, err := os.OpenFile(h.outputFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd, err := h.enter(h.ctx(), command...)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, files
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	h.mu.Lock()
	h.processes[name] = p
	h.mu.Unlock()
	return nil
}

// outputFile is on the disk, so that a power cut loses nothing of it.
func (h *Host) outputFile(name string) string { return filepath.Join(h.disk, "output", name) }

// Output is what a process wrote so far, through all its starts.
func (h *Host) Output(name string) string {
	h.site.t.Helper()
	raw, err := os.ReadFile(h.outputFile(name))
	if err != nil {
		h.site.t.Fatal(err)
	}
	return string(raw)
}

// Ended is closed when a process has ended.
func (h *Host) Ended(name string) <-chan struct{} {
	h.site.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.processes[name]
	if p == nil {
		h.site.t.Fatalf("%s was not started on host %s", name, h.Name)
	}
	return p.ended
}

// Kill9 kills a process at whatever instruction it is, and returns when it is gone. What it has started goes on.
func (h *Host) Kill9(name string) {
	h.site.t.Helper()
	h.Signal(name, syscall.SIGKILL)
	<-h.Ended(name)
}

// Signal sends a process a signal. One that has ended is no error.
func (h *Host) Signal(name string, signal syscall.Signal) {
	h.site.t.Helper()
	ended := h.Ended(name)
	h.mu.Lock()
	pid := h.processes[name].cmd.Process.Pid
	h.mu.Unlock()
	select {
	case <-ended:
		return
	default:
	}
	if err := kill(pid, signal); err != nil {
		h.site.t.Fatalf("signal %s on host %s: %v", name, h.Name, err)
	}
}

// goOn has nsenter go on, which stops itself when its child is stopped.
func goOn(nsenter int) error {
	if err := syscall.Kill(nsenter, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// kill signals the process that nsenter has put into a host: its only child, and nsenter ends as that does. Itself it is
// deaf until it has one.
func kill(nsenter int, signal syscall.Signal) error {
	id := strconv.Itoa(nsenter)
	for range 1000 {
		raw, err := os.ReadFile(filepath.Join("/proc", id, "task", id, "children"))
		if err != nil {
			return nil //nolint:nilerr // it is gone, and so is its child
		}
		if child, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
			if err := syscall.Kill(child, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
			if signal == syscall.SIGCONT || signal == syscall.SIGKILL {
				return goOn(nsenter)
			}
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("it was never put into the host")
}
