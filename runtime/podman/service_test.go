package podman_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/podman"
)

// services are the podman services that this process has started.
func services(t *testing.T) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		children, _ := os.ReadFile(list) // its thread may be gone
		for _, child := range strings.Fields(string(children)) {
			line, _ := os.ReadFile("/proc/" + child + "/cmdline")
			if pid, err := strconv.Atoi(child); err == nil && strings.HasPrefix(string(line), "podman\x00system\x00service") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func TestService(t *testing.T) {
	lab.Need(t)
	before := services(t)
	mine := func() int {
		t.Helper()
		for _, pid := range services(t) {
			if !slices.Contains(before, pid) {
				return pid
			}
		}
		t.Fatal("no podman service was started")
		return 0
	}
	path := filepath.Join(t.TempDir(), "deep", "podman.sock")
	service, err := podman.NewService("unix://"+path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("the socket is %v, %v", info.Mode(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		service.Run(ctx)
		close(ran)
	}()
	m := podman.New("unix://" + path)
	if err := m.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := mine()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The connection that died with it may be noticed once; then calls wait for the next one.
	if err := m.Ping(t.Context()); err != nil {
		if err := m.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if second := mine(); second == first {
		t.Fatal("it is still the first")
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("after a restart the socket is %v, %v", info, err)
	}
	cancel()
	<-ran
	if got := services(t); !slices.Equal(got, before) {
		t.Errorf("services %v run, want %v", got, before)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if err := m.Ping(t.Context()); !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("Ping = %v", err)
	}
}

func TestServiceReplacesADeadOne(t *testing.T) {
	lab.Need(t)
	path := filepath.Join(t.TempDir(), "podman.sock")
	dead, err := podman.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	service, err := podman.NewService("unix://"+path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		service.Run(ctx)
		close(ran)
	}()
	if err := podman.New("unix://" + path).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	<-ran
}

func TestServiceRefusesWhatIsNoSocket(t *testing.T) {
	for _, url := range []string{"tcp://127.0.0.1:1", "unix://relative.sock", "/run/podman.sock", "ssh://x/run/p.sock", ""} {
		if _, err := podman.NewService(url, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("NewService(%q) succeeded", url)
		}
	}
}
