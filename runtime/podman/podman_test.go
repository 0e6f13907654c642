package podman_test

import (
	"bufio"
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
	"github.com/skerry-dev/skerry/runtime/podman"
	"github.com/skerry-dev/skerry/runtime/volume"
)

// machine is real Podman with somebody at its command line.
type machine struct {
	*podman.Machine
	*testing.T
	lab *lab.Service
}

func (m machine) Kill(container string, _ int32) error {
	_, err := m.lab.CLIErr(m.T, "kill", "--signal=KILL", container)
	return err
}

func (m machine) Said(container string) error {
	ctx, cancel := context.WithCancel(m.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "podman", "logs", "--follow", container)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	cancel()
	_ = cmd.Wait() // killed
	return err
}

func (m machine) Pause(id string) error {
	if exec.CommandContext(m.Context(), "podman", "pod", "exists", id).Run() == nil {
		_, err := m.lab.CLIErr(m.T, "pod", "pause", id)
		return err
	}
	_, err := m.lab.CLIErr(m.T, "pause", id)
	return err
}

func TestConformance(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	hosttest.Run(t, func(t *testing.T) (host.Host, host.Volumes, string) {
		return machine{m, t, s}, &volume.Store{Disk: t.TempDir(), Memory: "/dev/shm/skerry-test"}, image
	})
}

// Whatever a person does at the command line rings, so that the agent looks.
func TestHandsRing(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	pod, container := ours(t, m, image, "web")
	for _, command := range [][]string{
		{"pause", container}, {"unpause", container}, {"rename", container, "odd"}, {"kill", container}, {"rm", "--force", container},
		{"pod", "rm", "--force", pod},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		bell, ready, over := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
		go func() {
			over <- m.Watch(ctx, func() { close(ready) }, func(string) {
				select {
				case bell <- struct{}{}:
				default:
				}
			})
		}()
		<-ready
		s.CLI(t, command...)
		select {
		case <-bell:
		case <-time.After(10 * time.Second):
			t.Errorf("podman %s did not ring", command)
		}
		cancel()
		<-over
	}
}
