package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Service is a `podman system service` that this process starts and looks after, for machines on which
// nobody else does.
type Service struct {
	path     string
	listener *os.File
	log      *slog.Logger
}

// NewService listens on the socket with that URL and returns the service that will answer there once Run
// runs; connections made until then wait. A file left by one that died is replaced: nobody answers on it, as
// the caller has made sure by Ping.
func NewService(url string, log *slog.Logger) (*Service, error) {
	path, ok := strings.CutPrefix(url, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return nil, fmt.Errorf("podman socket %s is not unix:///absolute/path: Skerry can start Podman only on such a one", url)
	}
	if _, err := exec.LookPath("podman"); err != nil {
		return nil, fmt.Errorf("nobody answers at %s, and podman is not installed: %w", url, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := Listen(path)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	file, err := listener.File()
	if err != nil {
		return nil, err
	}
	return &Service{path: path, listener: file, log: log}, nil
}

// Listen makes a unix socket that only root may open, from its first moment on.
func Listen(path string) (*net.UnixListener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

// restPeriod is how long a service that died is left dead: one that dies at once must not take the machine.
const restPeriod = 500 * time.Millisecond

// Run starts the service, again whenever it dies, until ctx ends; then it is told to stop and waited for.
// Containers go on running throughout.
func (s *Service) Run(ctx context.Context) {
	// The kernel ends the service with us (Pdeathsig), which it takes to mean with this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer s.listener.Close()
	defer os.Remove(s.path)
	for ctx.Err() == nil {
		err := s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("podman system service ended, it is started again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(restPeriod):
		}
	}
}

func (s *Service) once(ctx context.Context) error {
	// The socket is handed over as systemd does it. LISTEN_PID has to be podman's own, which only a shell that
	// turns into it knows beforehand.
	cmd := exec.CommandContext(ctx, "sh", "-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec podman system service --time=0")
	cmd.ExtraFiles = []*os.File{s.listener}
	cmd.Dir = "/" // Podman 4 leaves a file where it runs when a container is out of memory
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	tail := &lastLine{}
	cmd.Stderr = tail
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, tail.line)
	}
	return errors.New("it stopped by itself")
}

// lastLine keeps the last line that was written to it.
type lastLine struct{ line string }

func (l *lastLine) Write(b []byte) (int, error) {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	l.line = lines[len(lines)-1]
	return len(b), nil
}
