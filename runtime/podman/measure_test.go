package podman_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"

	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/podman"
)

func TestMeasureIsOneCallAtMost(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	t.Cleanup(func() { s.Start(t) })
	m, calls := counting(t, s)
	var ids []string
	for n := range 3 {
		_, id := ours(t, m, image, fmt.Sprint(n))
		ids = append(ids, id)
	}
	measure := func(about string, ids []string, measured int, want int64) {
		t.Helper()
		before := calls.Load()
		got, err := m.Measure(t.Context(), ids)
		if err != nil || len(got) != measured {
			t.Errorf("%s: %d were measured, want %d: %+v, %v", about, len(got), measured, got, err)
		}
		if made := calls.Load() - before; made != want {
			t.Errorf("%s: it took %d calls, want %d", about, made, want)
		}
	}
	measure("they were never seen", ids, 3, 1)
	measure("they are known", ids, 3, 0)
	_, last := ours(t, m, image, "last")
	look(t, m)
	measure("one look has seen them all", append(ids, last), 4, 0)
	s.CLI(t, "restart", "--time=0", last)
	measure("one is another process", append(ids, last), 4, 1)
	s.CLI(t, "kill", "--signal=KILL", last)
	s.CLI(t, "wait", last)
	measure("one has ended, some never were", append(ids, last, "no-such", "nor-this"), 3, 1)
	measure("of nothing", nil, 0, 0)

	direct := podman.New(s.URL())
	look(t, direct)
	s.Kill(t)
	if got, err := direct.Measure(t.Context(), ids); err != nil || len(got) != 3 {
		t.Errorf("without Podman %+v, %v", got, err)
	}
	if got, err := direct.Measure(t.Context(), []string{ids[0], last}); !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("without Podman, of one that does not run: %+v, %v", got, err)
	}
}

// Nothing tells Podman 4 of the end of a container whose monitor is dead. A list goes on to say that it runs.
func TestMeasureOfTheUnwatched(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	_, id := ours(t, m, image, "web")
	look(t, m)
	var monitor, process int
	pids := s.CLI(t, "inspect", "--format={{.State.ConmonPid}} {{.State.Pid}}", id)
	if _, err := fmt.Sscan(pids, &monitor, &process); err != nil {
		t.Fatal(pids, err)
	}
	ended := watchProcess(t, process)
	if err := errors.Join(syscall.Kill(monitor, syscall.SIGKILL), syscall.Kill(process, syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if !ended() {
		t.Fatal("its process lives on")
	}
	if got, err := m.Measure(t.Context(), []string{id}); err != nil || len(got) != 0 {
		t.Errorf("it is %+v, %v", got, err)
	}
}

// What was written to files and may be forgotten is no memory of the container's, though its cgroup is charged with it.
func TestMeasureLeavesOutFiles(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	disk := t.TempDir()
	var on syscall.Statfs_t
	if err := syscall.Statfs(disk, &on); err != nil {
		t.Fatal(err)
	}
	const tmpfs = 0x01021994
	if on.Type == tmpfs {
		t.Skip("the temporary folder is in memory")
	}
	m := podman.New(s.URL())
	pod, _ := ours(t, m, image, "web")
	id, err := m.StartContainer(t.Context(), host.Container{
		Name: "fills", PodID: pod, Image: image, Args: []string{"seq", "fill /disk/file 64Mi", "eat 16Mi"},
		Mounts: []host.Mount{{Source: disk, Target: "/disk"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := (machine{m, t, s}).Said(id); err != nil {
		t.Fatal(err)
	}
	got, err := m.Measure(t.Context(), []string{id})
	if err != nil || got[id].Memory < 16<<20 || got[id].Memory > 48<<20 {
		t.Errorf("it is %+v, %v", got, err)
	}
}

// BenchmarkMeasure compares with Podman's own statistics and with the list that a look takes.
func BenchmarkMeasure(b *testing.B) {
	s := lab.Podman(b)
	image := lab.Image(b, s)
	b.Cleanup(func() { s.Reset(b) })
	m := podman.New(s.URL())
	conn, err := bindings.NewConnection(b.Context(), s.URL())
	if err != nil {
		b.Fatal(err)
	}
	pod, err := m.CreatePod(b.Context(), host.Sandbox{Name: "measured"})
	if err != nil {
		b.Fatal(err)
	}
	var ids []string
	for _, many := range []int{1, 20, 100} {
		for len(ids) < many {
			id, err := m.StartContainer(b.Context(), host.Container{
				Name: fmt.Sprint("c", len(ids)), PodID: pod, Image: image, Args: []string{"sleep"},
			})
			if err != nil {
				b.Fatal(err)
			}
			ids = append(ids, id)
		}
		measure := func(ctx context.Context, ids []string) error {
			got, err := m.Measure(ctx, ids)
			if err == nil && len(got) != many {
				err = fmt.Errorf("%d were measured, want %d", len(got), many)
			}
			return err
		}
		for _, way := range []struct {
			name string
			do   func(ctx context.Context) error
		}{
			{"known", func(ctx context.Context) error { return measure(ctx, ids) }},
			{"sought", func(ctx context.Context) error { return measure(ctx, append([]string{"no-such"}, ids...)) }},
			{"stats", func(context.Context) error {
				reports, err := containers.Stats(conn, ids, new(containers.StatsOptions).WithStream(false))
				if err != nil {
					return err
				}
				if report := <-reports; report.Error != nil || len(report.Stats) != many {
					return fmt.Errorf("%d were measured, want %d: %w", len(report.Stats), many, report.Error)
				}
				return nil
			}},
		} {
			b.Run(fmt.Sprintf("%d/%s", many, way.name), func(b *testing.B) {
				for b.Loop() {
					if err := way.do(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
