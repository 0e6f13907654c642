package hosttest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

func TestConformance(t *testing.T) {
	hosttest.Run(t, func(*testing.T) (host.Host, host.Volumes, string) {
		h := hosttest.New()
		h.AddImage("localhost/skerry-test:1")
		h.BehaveAs("localhost/skerry-test:1", hosttest.TestImage)
		return h, h.Volumes, "localhost/skerry-test:1"
	})
}

// box is a pod of ours.
func box(name string) host.Sandbox {
	return host.Sandbox{Name: "a_" + name, Labels: map[string]string{
		fleet.LabelPodName: name, fleet.LabelPodNamespace: "a", fleet.LabelPodUID: "uid-" + name, fleet.LabelOwner: "Pod/a/" + name,
	}}
}

func app(pod, name string) host.Container {
	return host.Container{Name: "a_" + name + "_app", PodID: pod, Image: "web:1", Labels: map[string]string{
		fleet.LabelPodUID: "uid-" + name, fleet.LabelContainerName: "app", fleet.LabelAttempt: "2",
	}, Limits: fleet.Limits{Memory: 1 << 20, CPUQuota: 1000, Shares: 2}}
}

// running is a machine with one pod and one container in it.
func running(t *testing.T) (h *hosttest.Host, pod, container string) {
	t.Helper()
	h = hosttest.New()
	h.AddImage("web:1")
	pod, err := h.CreatePod(t.Context(), box("web"))
	if err != nil {
		t.Fatal(err)
	}
	container, err = h.StartContainer(t.Context(), app(pod, "web"))
	if err != nil {
		t.Fatal(err)
	}
	return h, pod, container
}

// state is the only container's.
func state(t *testing.T, h *hosttest.Host) fleet.ObservedContainer {
	t.Helper()
	seen, err := h.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seen.Pods[0].Containers[0]
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		full := errors.New("disk full")
		h.Fail("CreatePod", 2, full)
		h.Lose("CreatePod", 3, host.ErrUnavailable)
		for n, want := range []error{nil, full, host.ErrUnavailable, nil} {
			if _, err := h.CreatePod(t.Context(), box(string(rune('a'+n)))); !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", n+1, err, want)
			}
		}
		seen, _ := h.Look(t.Context())
		var names []string
		for _, p := range seen.Pods {
			names = append(names, p.Pod.Name)
		}
		if diff := cmp.Diff([]string{"a", "c", "d"}, names); diff != "" {
			t.Error(diff) // the second failed, of the third only the answer was lost
		}

		release := h.Stall("RemovePod", 1)
		removed := make(chan error, 1)
		go func() { removed <- h.RemovePod(t.Context(), seen.Pods[0].ID) }()
		synctest.Wait()
		if seen, _ := h.Look(t.Context()); len(seen.Pods) != 3 {
			t.Error("a stalled call was carried out")
		}
		release()
		release()
		if err := <-removed; err != nil {
			t.Error(err)
		}
		if seen, _ := h.Look(t.Context()); len(seen.Pods) != 2 {
			t.Error("a released call was not carried out")
		}

		h.Stall("Look", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := h.Look(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stalled call whose context ends: %v", err)
		}
		h.Volumes.Write("u", "v", false, nil, "h")
		want := map[string]int{"CreatePod": 4, "Look": 4, "RemovePod": 1, "Write": 1}
		if diff := cmp.Diff(want, h.AllCalls()); diff != "" || h.Calls("CreatePod") != 4 || h.Writes() != 6 {
			t.Error(diff, h.Calls("CreatePod"), h.Writes())
		}
		if diff := cmp.Diff([]string{"CreatePod a_a", "CreatePod a_b", "CreatePod a_c", "CreatePod a_d", "RemovePod a_a", "Write u v"}, h.Journal()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDownAndUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, _ := running(t)
		watched := make(chan error, 1)
		go func() { watched <- h.Watch(t.Context(), func() {}, func(string) {}) }()
		synctest.Wait()
		h.Down()
		if err := <-watched; !errors.Is(err, host.ErrUnavailable) {
			t.Errorf("Watch = %v", err)
		}
		if _, err := h.Look(t.Context()); !errors.Is(err, host.ErrUnavailable) {
			t.Errorf("Look = %v", err)
		}
		if err := h.Volumes.Write("u", "v", false, nil, "h"); err != nil {
			t.Errorf("volumes need no Podman: %v", err)
		}
		h.Up()
		if c := state(t, h); c.State != fleet.Running {
			t.Errorf("it is %s", c.State)
		}
		go func() { watched <- h.Watch(t.Context(), func() {}, func(string) {}) }()
		synctest.Wait()
		h.BreakWatch()
		if err := <-watched; !errors.Is(err, host.ErrUnavailable) {
			t.Errorf("Watch = %v", err)
		}
	})
}

func TestProcesses(t *testing.T) {
	for _, c := range []struct {
		name    string
		process hosttest.Process
		grace   time.Duration
		takes   time.Duration
		code    int32
	}{
		{"obedient", hosttest.Process{Told: 143}, time.Minute, 0, 143},
		{"lingering", hosttest.Process{Lingers: 10 * time.Second}, time.Minute, 10 * time.Second, 0},
		{"lingering too long", hosttest.Process{Lingers: time.Hour}, time.Minute, time.Minute, 137},
		{"deaf", hosttest.Process{Deaf: true}, time.Minute, time.Minute, 137},
		{"ended long ago", hosttest.Process{Ends: true, Code: 3}, time.Minute, 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := hosttest.New()
				h.AddImage("web:1")
				h.Behave("web:1", c.process)
				pod, _ := h.CreatePod(t.Context(), box("web"))
				id, err := h.StartContainer(t.Context(), app(pod, "web"))
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if err := h.StopContainer(t.Context(), id, c.grace); err != nil || time.Since(began) != c.takes {
					t.Errorf("stop = %v after %s", err, time.Since(began))
				}
				if got := state(t, h); got.State != fleet.Exited || got.ExitCode != c.code {
					t.Errorf("it is %+v", got)
				}
			})
		})
	}
}

func TestACrashRings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		h.AddImage("web:1")
		h.Behave("web:1", hosttest.Process{Ends: true, After: 3*time.Hour + 500*time.Millisecond, Code: 9})
		pod, _ := h.CreatePod(t.Context(), box("web"))
		began := time.Now()
		id, err := h.StartContainer(t.Context(), app(pod, "web"))
		if err != nil {
			t.Fatal(err)
		}
		bell := make(chan time.Time, 8)
		go h.Watch(t.Context(), func() {}, func(string) { bell <- time.Now() })
		synctest.Wait()
		if err := h.Pause(id); err != nil {
			t.Fatal(err)
		}
		<-bell
		time.Sleep(4 * time.Hour) // frozen, it does not end
		if c := state(t, h); c.State != fleet.Paused {
			t.Errorf("it is %s", c.State)
		}
		if err := h.Unpause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		<-bell
		c := state(t, h)
		if want := began.Add(4 * time.Hour).UTC().Truncate(time.Second); c.State != fleet.Exited || c.ExitCode != 9 || !c.Finished.Equal(want) {
			t.Errorf("it is %+v, want its end at %s", c, want)
		}
	})
}

func TestRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		h.Publish("registry.example/web", time.Minute)
		began := time.Now()
		for _, c := range []struct {
			policy corev1.PullPolicy
			after  time.Duration
		}{{corev1.PullIfNotPresent, time.Minute}, {corev1.PullIfNotPresent, time.Minute}, {corev1.PullNever, time.Minute}, {corev1.PullAlways, 2 * time.Minute}} {
			if err := h.Pull(t.Context(), "registry.example/web:latest", c.policy); err != nil || time.Since(began) != c.after {
				t.Errorf("%s: %v after %s", c.policy, err, time.Since(began))
			}
		}
		h.RemoveImage("registry.example/web")
		h.Withdraw("registry.example/web")
		if err := h.Pull(t.Context(), "registry.example/web", corev1.PullIfNotPresent); err == nil || errors.Is(err, host.ErrNotFound) {
			t.Errorf("what is nowhere: %v", err)
		}
	})
}

func TestByHand(t *testing.T) {
	h, pod, container := running(t)
	for _, err := range []error{
		h.Limit(container, fleet.Limits{Memory: 5, Shares: 2}), h.Rename(container, "odd"), h.Become(container, fleet.Unknown),
		h.KillInfra(pod),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	h.AddPod(host.Sandbox{Name: "theirs"})
	h.AddContainer(host.Container{Name: "alone", Image: "web:1"})
	h.HalfMake(box("half"))
	if err := h.Volumes.Write("uid-web", "secret", true, []fleet.File{{Path: "key", Data: []byte("planted")}}, "x"); err != nil {
		t.Error(err)
	}
	const want = `pod a_half pod8 created
pod a_web pod2 exited
  container odd container4 unknown image web:1 attempt 2 memory 5 cpu 0
pod theirs pod5 running 10.88.0.6 (a stranger's)
container alone container7 running image web:1
image web:1 image1
volume /memory/uid-web/secret key
`
	if diff := cmp.Diff(want, h.String()); diff != "" {
		t.Error(diff)
	}
	seen, err := h.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"theirs": true, "alone": true}, seen.Taken); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"odd", "a_half", "a_web", "theirs", "alone"} {
		if err := h.Delete(name); err != nil {
			t.Error(err)
		}
	}
	if err := h.Delete("odd"); !errors.Is(err, host.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if diff := cmp.Diff("image web:1 image1\nvolume /memory/uid-web/secret key\n", h.String()); diff != "" {
		t.Error(diff)
	}
}
