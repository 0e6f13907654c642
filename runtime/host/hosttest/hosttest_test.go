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
		for tag, user := range map[string]string{"1": "", "user": "app", "uid": "1000", "uidgid": "1000:2000"} {
			h.AddImage("localhost/skerry-test:" + tag)
			h.SetUser("localhost/skerry-test:"+tag, user)
		}
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
		h.Volumes.Write("u", "v", host.Written{Content: "h"})
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
		if err := h.Volumes.Write("u", "v", host.Written{Content: "h"}); err != nil {
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
			if err := h.Pull(t.Context(), host.Pull{Image: "registry.example/web:latest", Policy: c.policy}); err != nil || time.Since(began) != c.after {
				t.Errorf("%s: %v after %s", c.policy, err, time.Since(began))
			}
		}
		h.RemoveImage("registry.example/web")
		h.Withdraw("registry.example/web")
		if err := h.Pull(t.Context(), host.Pull{Image: "registry.example/web", Policy: corev1.PullIfNotPresent}); err == nil || errors.Is(err, host.ErrNotFound) {
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
	if err := h.Volumes.Write("uid-web", "secret", host.Written{Secret: true, Files: []fleet.File{{Path: "key", Data: []byte("planted")}}, Content: "x"}); err != nil {
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

func TestReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		h.AddImage("web:1", "job:1")
		h.Behave("job:1", hosttest.Process{Ends: true, Code: 4})
		h.Behave("web:1", hosttest.Process{Ends: true, After: time.Hour})
		pod, _ := h.CreatePod(t.Context(), box("web"))
		job := app(pod, "web")
		job.Name, job.Image = "a_web_job", "job:1"
		for _, c := range []host.Container{app(pod, "web"), job} {
			if _, err := h.StartContainer(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		for volume, memory := range map[string]bool{"disk": false, "memory": true} {
			if err := h.Volumes.Scratch("uid-web", volume, memory, 0); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := h.Look(t.Context())
		watched, executed := make(chan error), make(chan int)
		go func() { watched <- h.Watch(t.Context(), func() {}, func(string) {}) }()
		go func() {
			code, _, _ := h.Exec(t.Context(), "a_web_app", []string{"hang"})
			executed <- code
		}()
		time.Sleep(time.Minute)
		h.Reboot()
		if err := <-watched; !errors.Is(err, host.ErrUnavailable) {
			t.Errorf("Watch = %v", err)
		}
		if code := <-executed; code != 137 {
			t.Errorf("Exec = %d", code)
		}
		time.Sleep(2 * time.Hour) // what is dead does not end
		after, err := h.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := before.Pods[0]
		want.Infra, want.IPs = fleet.Created, nil
		want.Containers[0].State, want.Containers[0].Limits = fleet.Created, nil
		if want.Containers[0].Started.IsZero() || want.Containers[1].ExitCode != 4 {
			t.Fatalf("before: %+v", want.Containers)
		}
		if diff := cmp.Diff(want, after.Pods[0]); diff != "" {
			t.Error(diff)
		}
		const all = `pod a_web pod3 created
  container a_web_app container5 created image web:1 attempt 2 memory 1048576 cpu 1000
  container a_web_job container6 exited 4 image job:1 attempt 2 memory 1048576 cpu 1000
image job:1 image2
image web:1 image1
volume /disk/uid-web/disk
`
		if diff := cmp.Diff(all, h.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		h.AddImage("web:1")
		pod, _ := h.CreatePod(t.Context(), box("web"))
		later := func(string) error { time.Sleep(time.Hour); return nil }
		early := func(id string) error { return h.StopContainer(t.Context(), id, time.Second) }
		for _, c := range []struct {
			process hosttest.Process
			then    func(id string) error // what happens to it
			label   string
			want    fleet.ObservedContainer
		}{
			{hosttest.Process{Ends: true, Code: 1, Message: "oh"}, nil, "File /dev/termination-log", fleet.ObservedContainer{ExitCode: 1, Message: "oh"}},
			{hosttest.Process{Ends: true, Code: 1, Message: "oh"}, nil, "", fleet.ObservedContainer{ExitCode: 1}},
			{hosttest.Process{Ends: true, Code: 137, OutOfMemory: true}, nil, "", fleet.ObservedContainer{ExitCode: 137, OutOfMemory: true}},
			{hosttest.Process{Ends: true, After: time.Minute, Code: 137, OutOfMemory: true}, later, "", fleet.ObservedContainer{ExitCode: 137, OutOfMemory: true}},
			{hosttest.Process{Ends: true, After: time.Minute, Code: 137, OutOfMemory: true}, early, "", fleet.ObservedContainer{}},
			{hosttest.Process{Message: "oh"}, h.Starve, "File /x", fleet.ObservedContainer{ExitCode: 137, OutOfMemory: true, Message: "oh"}},
			{hosttest.Process{}, func(id string) error { return errors.Join(h.Say(id, "bye"), h.Kill(id, 2)) }, "File /x", fleet.ObservedContainer{ExitCode: 2, Message: "bye"}},
			{hosttest.Process{Message: "oh"}, nil, "File /x", fleet.ObservedContainer{}}, // it lives
		} {
			h.Behave("web:1", c.process)
			spec := app(pod, "web")
			spec.Labels[fleet.LabelMessage] = c.label
			id, err := h.StartContainer(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			if c.then != nil {
				if err := c.then(id); err != nil {
					t.Error(err)
				}
			}
			got := state(t, h)
			if got.ExitCode != c.want.ExitCode || got.Message != c.want.Message || got.OutOfMemory != c.want.OutOfMemory {
				t.Errorf("%+v with %q: it is %+v", c.process.Message, c.label, got)
			}
			if err := h.Delete(id); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNamespaces(t *testing.T) {
	h := hosttest.New()
	h.AddImage("web:1")
	s := box("web")
	s.Network, s.PID, s.IPC = host.Machine, host.Shared, host.Machine
	s.Sysctls, s.DNS = map[string]string{"a": "1"}, host.DNS{Nameservers: []string{"192.0.2.1"}}
	pod, err := h.CreatePod(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Sysctls["a"], s.DNS.Nameservers[0] = "2", "192.0.2.2"
	if kept, _ := h.Pod(pod); kept.Sysctls["a"] != "1" || kept.DNS.Nameservers[0] != "192.0.2.1" {
		t.Errorf("what was handed over is still the caller's: %+v", kept)
	}
	sharing, alone := app(pod, "web"), app(pod, "web")
	sharing.PID, alone.Name = host.Shared, "a_web_alone"
	for _, c := range []host.Container{sharing, alone} {
		if _, err := h.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	const want = `pod a_web pod2 running network machine ipc machine pid shared
  container a_web_alone container5 running image web:1 attempt 2 memory 1048576 cpu 1000
  container a_web_app container4 running image web:1 attempt 2 memory 1048576 cpu 1000 pid shared
image web:1 image1
`
	if diff := cmp.Diff(want, h.String()); diff != "" {
		t.Error(diff)
	}
	if err := h.KillInfra(pod); err != nil {
		t.Fatal(err)
	}
	seen, err := h.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := seen.Pods[0].Containers; c[0].State != fleet.Running || c[1].State != fleet.Exited || c[1].ExitCode != 137 {
		t.Errorf("the first process of all is dead, and there are %+v", c)
	}
	other, err := h.CreatePod(t.Context(), box("other"))
	if err != nil {
		t.Fatal(err)
	}
	sharing = app(other, "other")
	sharing.PID = host.Shared
	if _, err := h.StartContainer(t.Context(), sharing); err == nil {
		t.Error("it shares process IDs with nobody")
	}
}

func TestUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, id := running(t)
		check := func(about string, cpu time.Duration, memory int64) {
			t.Helper()
			got, err := h.Measure(t.Context(), []string{id, "no-such"})
			want := map[string]host.Measurement{id: {CPU: cpu, Memory: memory, At: time.Now()}}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Error(about, diff, err)
			}
		}
		use := func(cpu, memory int64) {
			t.Helper()
			if err := h.Use("a_web_app", hosttest.Usage{CPU: cpu, Memory: memory}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Hour)
		check("nothing was said", 0, 0)
		use(500, 1<<20)
		time.Sleep(10 * time.Second)
		check("half a processor", 5*time.Second, 1<<20)
		time.Sleep(10 * time.Second)
		use(2000, 2<<20)
		check("what is used stays used", 10*time.Second, 2<<20)
		time.Sleep(10 * time.Second)
		if err := h.Pause(id); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		check("it is paused", 30*time.Second, 2<<20)
		if err := h.Unpause(t.Context(), id); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		check("and goes on", 32*time.Second, 2<<20)

		writes := h.Writes()
		h.Down()
		if got, err := h.Measure(t.Context(), []string{id}); !errors.Is(err, host.ErrUnavailable) || got != nil {
			t.Errorf("without Podman %+v, %v", got, err)
		}
		h.Up()
		if err := h.Kill(id, 1); err != nil {
			t.Error(err)
		}
		if got, err := h.Measure(t.Context(), []string{id}); err != nil || len(got) != 0 || h.Writes() != writes {
			t.Errorf("it ended, and is %+v, %v", got, err)
		}
		if err := h.Use("no-such", hosttest.Usage{}); !errors.Is(err, host.ErrNotFound) {
			t.Errorf("Use of what never was: %v", err)
		}

		h.Behave("web:1", hosttest.Process{Uses: hosttest.Usage{CPU: 1000, Memory: 3}})
		again := app("none", "again")
		id = h.AddContainer(again)
		time.Sleep(time.Minute)
		check("its image does that", time.Minute, 3)
	})
}
