package hosts

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed init.sh
var initScript string

// power is a host that is on: its PID 1, and with it the namespaces.
type power struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// path is a file of the host as the test sees it.
func (p *power) path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "root", path)
}

// PowerOn switches a host on: its disk is as it was, nothing runs but Podman's service, and Podman knows that the machine
// has started anew. It returns when Podman's socket is there. What the test had started it has to start again.
func (h *Host) PowerOn() {
	h.site.t.Helper()
	if err := h.switchOn(); err != nil {
		h.site.t.Fatalf("switch on host %s: %v", h.Name, err)
	}
}

// PowerCut ends all processes of a host at once, and nothing of it gets out to the others: to them, it fell silent. The
// kernel has written to the disk what processes gave it, so there are no torn files.
func (h *Host) PowerCut() {
	h.site.t.Helper()
	if err := h.switchOff(); err != nil {
		h.site.t.Fatalf("cut the power of host %s: %v", h.Name, err)
	}
}

func (h *Host) switchOn() error {
	h.mu.Lock()
	if h.power != nil {
		h.mu.Unlock()
		return errors.New("it is on")
	}
	p, err := h.boot()
	if err == nil {
		h.power = p
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	if err := h.site.wires.plug(h, p.cmd.Process.Pid); err != nil {
		return err
	}
	for _, c := range h.site.watching() {
		c.poweredOn(h)
	}
	if h.site.bare {
		return nil
	}
	return h.startPodman()
}

// boot starts PID 1 and waits until its view of the machine is complete.
func (h *Host) boot() (*power, error) {
	g := h.site.groups
	if err := g.create(h.Name); err != nil {
		return nil, err
	}
	args := append([]string{"-c", initScript, "host", h.Name, h.disk, g.version}, g.branches(h.Name)...)
	cmd := exec.Command("/bin/bash", args...) //nolint:noctx // lives until the power is cut
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true, // an interrupt from the terminal is the test's
	}
	cmd.Dir = "/"
	var complaint strings.Builder
	cmd.Stderr = &complaint
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("its first process: %q: %s", line, complaint.String())
	}
	return &power{cmd, stdin}, nil
}

func (h *Host) switchOff() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.power == nil {
		return nil
	}
	// First the network: dying processes say goodbye on their connections.
	err := h.site.wires.unplug(h)
	for _, c := range h.site.watching() {
		c.read() // opens what there is to be read; it has no name afterwards
	}
	_ = h.power.cmd.Process.Kill()
	for _, p := range h.processes {
		select {
		case <-p.ended:
		default:
			err = errors.Join(err, goOn(p.cmd.Process.Pid)) // a frozen one's parent has to see its end
		}
	}
	at := time.Now()
	_ = h.power.cmd.Wait() // returns when all processes of its namespace are gone
	_ = h.power.stdin.Close()
	h.power = nil
	for _, p := range h.processes {
		<-p.ended
	}
	for _, c := range h.site.watching() {
		c.poweredOff(h, at)
	}
	return errors.Join(err, h.site.wires.remove(h), h.site.groups.remove(h.Name))
}

// podmanProcess is the name under which Podman's service runs.
const podmanProcess = "podman"

// Socket is the path of Podman's socket inside a host, for an agent's configuration.
const Socket = "/run/podman/podman.sock"

// StartPodman starts Podman's service, when it was stopped. When it returns, requests are answered.
func (h *Host) StartPodman() {
	h.site.t.Helper()
	if err := h.startPodman(); err != nil {
		h.site.t.Fatalf("start podman on host %s: %v", h.Name, err)
	}
}

// StopPodman kills Podman's service. Containers go on running; connections to the socket are refused.
func (h *Host) StopPodman() {
	h.site.t.Helper()
	h.Kill9(podmanProcess)
}

func (h *Host) startPodman() error {
	path, err := h.path(Socket)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	// We open the socket and hand it over, as systemd does: connections wait in it until Podman is up.
	var config net.ListenConfig
	listener, err := config.Listen(h.ctx(), "unix", path)
	if err != nil {
		return err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	defer listener.Close() // from here on it is Podman's alone
	file, err := listener.(*net.UnixListener).File()
	if err != nil {
		return err
	}
	defer file.Close()
	return h.start(podmanProcess, []*os.File{file}, "sh", "-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec podman system service --time=0")
}

// enter is a command that runs in a host, in its control groups too.
func (h *Host) enter(ctx context.Context, command ...string) (*exec.Cmd, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.power == nil {
		return nil, fmt.Errorf("host %s is off", h.Name)
	}
	args := []string{
		"--target", strconv.Itoa(h.power.cmd.Process.Pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
		"--", "/bin/sh", "-c", h.site.groups.join() + `cd /run; exec "$@"`, "host",
	}
	return exec.CommandContext(ctx, "nsenter", append(args, command...)...), nil
}
