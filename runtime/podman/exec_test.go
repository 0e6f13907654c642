package podman_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/podman"
)

// Podman keeps two processes of a session that has ended for five minutes, and waits three seconds for them when the
// pod is removed. Of ours nothing is kept, however they end.
func TestExecLeavesNothing(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	pod, container := ours(t, m, image, "ours")
	other, theirs := ours(t, m, image, "theirs")

	// Many beside one another, so that some are slow to come to their end.
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for range 6 {
				code, output, err := m.Exec(t.Context(), container, []string{"seq", "print said", "exit 3"})
				if code != 3 || string(output) != "said\n" || err != nil {
					t.Errorf("exec = %d, %q, %v", code, output, err)
				}
			}
		})
	}
	workers.Wait()
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
		if !ends(t, pid) {
			t.Errorf("process %d is left: %s", pid, line)
		}
	}
	if left := s.CLI(t, "inspect", "--format={{.ExecIDs}}", container); left != "[]" {
		t.Errorf("Podman still has sessions: %s", left)
	}

	// The same as anybody else would, for comparison: that session stays, and keeps its pod from going.
	api(t, s, "/containers/"+theirs+"/exec", `{"AttachStdout":true,"Cmd":["exit","0"]}`, func(answer []byte) {
		var session struct{ ID string }
		if err := json.Unmarshal(answer, &session); err != nil {
			t.Fatal(err)
		}
		api(t, s, "/exec/"+session.ID+"/start", `{"Detach":false,"Tty":false}`, func([]byte) {})
	})
	if len(execMonitors(t)) == 0 {
		t.Error("Podman lets go of its sessions by itself: dismiss is not needed any more")
	}
	removal := func(pod string) time.Duration {
		began := time.Now()
		if err := m.RemovePod(t.Context(), pod); err != nil {
			t.Error(err)
		}
		return time.Since(began)
	}
	if fast, slow := removal(pod), removal(other); fast > slow {
		t.Errorf("removal took %s, and %s where a session had been left", fast, slow)
	}
}

// api posts to Podman.
func api(t *testing.T, s *lab.Service, path, body string, answered func(answer []byte)) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.Socket())
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://podman/v4.0.0/libpod"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode > 299 {
		t.Fatalf("%s: %s, %v: %s", path, response.Status, err, answer)
	}
	answered(answer)
}

// ends waits for the end of a process that may have come already.
func ends(t *testing.T, pid int) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for deadline := time.Now().Add(20 * time.Second); ; {
		left := max(time.Until(deadline).Milliseconds(), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left))
		if !errors.Is(err, unix.EINTR) {
			return n == 1
		}
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

// TestExecWithoutPodman: a service that dies in the midst of a command is Podman's failing, and no outcome. The command
// is not left to run on.
func TestExecWithoutPodman(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	t.Cleanup(func() { s.Start(t) })
	m := podman.New(s.URL())
	_, container := ours(t, m, image, "web")
	main := inCgroup(t, container)
	over := make(chan error, 1)
	go func() {
		_, _, err := m.Exec(t.Context(), container, []string{"ignore-term"})
		over <- err
	}()
	command := 0
	for deadline := time.Now().Add(time.Minute); command == 0 && time.Now().Before(deadline); {
		for pid, line := range inCgroup(t, container) {
			if main[pid] == "" && strings.Contains(line, "ignore-term") && !strings.Contains(line, "runc") {
				command = pid
			}
		}
	}
	ended := watchProcess(t, command)
	s.Kill(t)
	if err := <-over; !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("exec = %v", err)
	}
	if !ended() {
		t.Error("the command lives on")
	}
}
