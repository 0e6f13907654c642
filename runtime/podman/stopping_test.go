package podman_test

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/podman"
)

// Podman 4.3 forgets a container that is being stopped when it is removed, and leaves its process: nobody
// sees it any more, and it runs on beside its successor, until its pod's cgroup is removed (17 s) or for
// ever. An agent that was killed in the midst of a stop finds just that.
func TestRemovalInTheMidstOfAStop(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	t.Cleanup(func() { s.Start(t) })
	m := podman.New(s.URL())
	for name, remove := range map[string]func(pod, container string) error{
		"container": func(_, container string) error { return m.RemoveContainer(t.Context(), container) },
		"pod":       func(pod, _ string) error { return m.RemovePod(t.Context(), pod) },
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := ours(t, m, image, name)
			id, err := m.StartContainer(t.Context(), host.Container{
				Name: name + "-deaf", PodID: pod, Image: image, Args: []string{"seq", "print up", "ignore-term"},
				Labels: map[string]string{fleet.LabelPodUID: "uid-" + name, fleet.LabelContainerName: "deaf"},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := (machine{m, t, s}).Said(id); err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(s.CLI(t, "inspect", "--format={{.State.Pid}}", id))
			if err != nil {
				t.Fatal(err)
			}
			ended := watchProcess(t, pid)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if err := m.StopContainer(ctx, id, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("stop = %v", err)
			}
			s.Kill(t) // with it goes the one that would kill after the grace
			s.Start(t)
			if err := remove(pod, id); err != nil {
				t.Fatal(err)
			}
			if !ended() {
				t.Error("its process lives on")
			}
			for _, p := range look(t, m).Pods {
				for _, c := range p.Containers {
					if c.ID == id {
						t.Errorf("it is still there: %+v", c)
					}
				}
			}
		})
	}
}

// watchProcess returns a function that waits for the end of a process that is no child of ours, but not long.
func watchProcess(t *testing.T, pid int) (ended func() bool) {
	t.Helper()
	const pidfdOpen = 434 // on every architecture
	fd, _, errno := syscall.Syscall(pidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { syscall.Close(int(fd)) })
	poll, err := syscall.EpollCreate1(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(poll) })
	if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, int(fd), &syscall.EpollEvent{Events: syscall.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	return func() bool {
		for {
			n, err := syscall.EpollWait(poll, make([]syscall.EpollEvent, 1), 5000)
			if !errors.Is(err, syscall.EINTR) {
				return n == 1
			}
		}
	}
}
