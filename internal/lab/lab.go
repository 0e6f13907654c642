// Package lab gives tests a real Podman that nobody else uses, images for it made on the spot, and registries.
//
// But for Port it works inside scripts/lab only, which `make test` puts around every test binary: there Podman's
// storage, networks, firewall, processes and /run belong to that one test binary and vanish with it.
// Outside of it (`make short`, an editor, no root) each function that needs Podman skips the test and says why.
//
// One service and one set of images are shared by all tests of a binary. A test that leaves objects
// behind, or cares what others left, calls Reset.
//
// Only tests import this package.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Need skips the test when it does not run inside scripts/lab. It is for tests that need no Podman, but
// a machine to themselves: addresses, nftables, mounts, sshd.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv("SKERRY_LAB") == "1" {
		return
	}
	why := os.Getenv("SKERRY_LAB_WHY")
	if why == "" {
		why = "not run by scripts/lab (make test does)"
	}
	t.Skip("no lab:", why)
}

// Service is Podman's API service on a socket of its own. Its methods may be called from several
// goroutines.
type Service struct {
	path string

	mu  sync.Mutex
	cmd *exec.Cmd // nil while the service is down
	log *os.File
}

var shared struct {
	sync.Mutex
	service *Service
	images  bool
}

// Podman returns the service that the tests of this binary share, started when it is down, or skips.
func Podman(t testing.TB) *Service {
	t.Helper()
	Need(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.service == nil {
		// In the lab's own /run, so that neither the default path of Podman's socket exists nor this one
		// can outlive us.
		dir := "/run/skerry-test"
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		log, err := os.Create(filepath.Join(dir, "podman.log"))
		if err != nil {
			t.Fatal(err)
		}
		shared.service = &Service{path: filepath.Join(dir, "podman.sock"), log: log}
	}
	if err := shared.service.start(); err != nil {
		t.Fatal(err)
	}
	return shared.service
}

// Socket is the path of the service's socket, the same one for life.
func (s *Service) Socket() string { return s.path }

// URL is Socket as CONTAINER_HOST and podman.socket in the configuration want it.
func (s *Service) URL() string { return "unix://" + s.path }

// Start brings the service up again after Kill, at the same path. It does nothing when it is up.
// When it returns, requests are answered; the first one waits for the service to be ready.
func (s *Service) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

func (s *Service) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return nil
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// We open the socket and hand it over, as systemd does. So a connection can be made at once and
	// waits in the kernel's queue for Podman: nobody has to ask again and again whether it is up.
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close() // from here on it is Podman's alone: when that dies, connections are refused
	file, err := listener.File()
	if err != nil {
		return err
	}
	defer file.Close()

	// LISTEN_PID has to be the pid of podman itself, which only a shell that turns into it knows.
	cmd := exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec podman system service --time=0`) //nolint:noctx // lives as long as the test binary
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.Dir = "/run" // conmon leaves a file "oom" in the working directory (Podman before 5)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start podman system service: %w", err)
	}
	s.cmd = cmd
	return nil
}

// Kill ends the service with SIGKILL, as a crash would. Containers go on running, connections are cut,
// and new ones are refused until Start. It returns when the process is gone.
func (s *Service) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait() // "signal: killed"
	s.cmd = nil
}

// Pid is the service's process, 0 while it is down.
func (s *Service) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Log returns what the service has written so far.
func (s *Service) Log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// CLI runs podman, beside the service and on the same storage, whether the service is up or not, and returns what
// it printed to stdout without the last newline. The test ends when the command fails.
func (s *Service) CLI(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.CLIErr(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// CLIErr is CLI for a command that may fail. The error holds what the command wrote to stderr; as an
// *exec.ExitError it has the exit code.
func (s *Service) CLIErr(t testing.TB, args ...string) (string, error) {
	t.Helper()
	return podman(context.WithoutCancel(t.Context()), nil, args...) // a Cleanup, too, may call us
}

func podman(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "podman", args...)
	cmd.Dir = "/run"
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	out := strings.TrimSuffix(stdout.String(), "\n")
	if err != nil {
		return out, fmt.Errorf("podman %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// Reset removes every pod, container, volume, secret and network there is, without grace; images stay.
// The service may be down.
func (s *Service) Reset(t testing.TB) {
	t.Helper()
	// Killed first: `rm --force` of a pod would wait for the grace of each container in it.
	script := `
		podman kill --all --signal KILL
		podman pod rm --all --force
		podman rm --all --force --time 0
		podman volume rm --all --force
		podman secret rm --all
		podman network prune --force
	`
	// Most of it takes a process each and mostly finds nothing to do.
	check := `test -n "$(podman ps --all --quiet; podman pod ps --quiet; podman volume ls --quiet; podman secret ls --quiet)"`
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-c", check+" || exit 0\n"+script+"\n! "+check)
	cmd.Dir = "/run"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("reset podman: %v\n%s", err, out)
	}
}

// Address is the first address of a running container (of a pod: of its infra container) in Podman's
// default network. The lab itself can reach it.
func (s *Service) Address(t testing.TB, name string) string {
	t.Helper()
	return s.CLI(t, "inspect", "--type", "container", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
}

// lockFile takes an exclusive lock on a file, made if need be; the returned function lets go of it.
func lockFile(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
