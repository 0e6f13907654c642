package podman_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/podman"
)

// Podman keeps two processes of a session that has ended for five minutes, and waits three seconds for them when the
// container is removed. Of ours nothing is kept, however they end.
func TestExecLeavesNothing(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	pod, container := ours(t, m, image, "ours")
	other, theirs := ours(t, m, image, "theirs")

	for range 3 {
		if code, output, err := m.Exec(t.Context(), container, []string{"seq", "print said", "exit 3"}); code != 3 || string(output) != "said\n" || err != nil {
			t.Fatalf("exec = %d, %q, %v", code, output, err)
		}
	}
	// It is given up at any moment: before it is made, while it starts, when it runs.
	for i := range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*15*time.Millisecond)
		if _, _, err := m.Exec(ctx, container, []string{"hang"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("exec that is given up = %v", err)
		}
		cancel()
		for pid, line := range inCgroup(t, container) {
			if strings.Contains(line, "hang") || strings.Contains(line, "ignore-term") {
				t.Errorf("given up after %d ms: process %d is left: %s", i*15, pid, line)
			}
		}
	}
	for pid, line := range execMonitors(t) {
		if !watchProcess(t, pid)() {
			t.Errorf("process %d is left: %s", pid, line)
		}
	}
	if left := s.CLI(t, "inspect", "--format={{.ExecIDs}}", container); left != "[]" {
		t.Errorf("Podman still has sessions: %s", left)
	}

	// The same by hand, for comparison: its session stays.
	s.CLI(t, "exec", "--detach", theirs, "exit", "0")
	if len(execMonitors(t)) == 0 {
		t.Error("Podman lets go of its sessions by itself: dismiss is not needed any more")
	}
	began := time.Now()
	if err := m.RemovePod(t.Context(), pod); err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	began = time.Now()
	if err := m.RemovePod(t.Context(), other); err != nil {
		t.Error(err)
	}
	if slow := time.Since(began); took > slow {
		t.Errorf("removal took %s, and %s where a session had been left", took, slow)
	}
}

// inCgroup are the processes of a container with their command lines.
func inCgroup(t *testing.T, container string) map[int]string {
	t.Helper()
	return processes(t, func(dir, _ string) bool {
		raw, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		return err == nil && strings.Contains(string(raw), "libpod-"+container) && !strings.Contains(string(raw), "conmon")
	})
}

// execMonitors are Podman's processes for exec sessions.
func execMonitors(t *testing.T) map[int]string {
	t.Helper()
	return processes(t, func(_, line string) bool {
		return strings.Contains(line, "conmon") && strings.Contains(line, "--exec-process-spec")
	})
}

func processes(t *testing.T, is func(dir, line string) bool) map[int]string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may have ended
		line := strings.ReplaceAll(string(raw), "\x00", " ")
		if is(dir, line) && line != "" {
			found[pid] = line
		}
	}
	return found
}

// TestExecWithoutPodman: a service that dies in the midst of a command is Podman's failing, and no outcome.
func TestExecWithoutPodman(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	t.Cleanup(func() { s.Start(t) })
	m := podman.New(s.URL())
	_, container := ours(t, m, image, "web")
	dir := t.TempDir()
	_ = dir
	over := make(chan error, 1)
	go func() {
		code, output, err := m.Exec(t.Context(), container, []string{"sleep"})
		if err == nil {
			err = fmt.Errorf("no error, but code %d and %q", code, output)
			code = -1
		}
		over <- err
	}()
	for len(inCgroup(t, container)) < 2 {
		if t.Context().Err() != nil {
			return
		}
	}
	s.Kill(t)
	err := <-over
	s.Start(t)
	t.Log(err)
}
