package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
)

// TestWhatHoldsAPodDies: the processes that Podman keeps beside a container's and a pod's own are killed, one kind after
// the other.
func TestWhatHoldsAPodDies(t *testing.T) {
	w := newWorld(t)
	w.pod("watched", `
  containers:
  - {name: main, THIS, args: [serve]}
  - {name: other, THIS, args: [sleep]}`)
	w.pod("orphaned", `
  containers:
  - {name: main, THIS, args: [serve], readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}`)
	w.pod("whole", `
  initContainers:
  - {name: first, THIS, args: [append, /host/whole, first]}
  - {name: side, THIS, restartPolicy: Always, args: [seq, "append /host/whole side", "write /tmp/up 1", sleep],
     startupProbe: {exec: {command: [cat, /tmp/up]}, periodSeconds: 1, failureThreshold: 60}}
  containers:
  - {name: main, THIS, args: [seq, "append /host/whole main", serve], readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}`)
	w.pod("half", `
  restartPolicy: OnFailure
  initContainers:
  - {name: first, THIS, args: [append, /host/half, first]}
  containers:
  - {name: done, THIS, args: [append, /host/half, done]}
  - {name: rest, THIS, args: [seq, "append /host/half rest", serve], readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}`)
	w.pod("once", `
  restartPolicy: Never
  containers:
  - {name: main, THIS, args: [seq, "append /host/once main", "until /host/never"]}`)
	w.pod("neighbour", `
  containers:
  - {name: main, THIS, args: [sleep]}`)
	w.commit("pods")
	w.start()
	w.must("sync")
	for _, name := range []string{"watched", "orphaned", "whole", "once", "neighbour"} {
		w.untilPod(name, "ready", ready)
	}
	w.untilPod("half", "half done", func(p *corev1.Pod) bool {
		return containerOf(p, "done").State.Terminated != nil && containerOf(p, "rest").Ready
	})
	before := w.pods()

	// Podman hears of a container's end from its monitor alone.
	killMonitor := func(container string) {
		monitor, err := strconv.Atoi(w.podman.CLI(t, "inspect", "--format={{.State.ConmonPid}}", container))
		if err != nil {
			t.Fatal(err)
		}
		ended := watch(t, monitor)
		if err := syscall.Kill(monitor, syscall.SIGKILL); err != nil || !ended(long) {
			t.Fatalf("monitor %d of %s is not killed: %v", monitor, container, err)
		}
	}
	process, orphan := watch(t, w.pid("default_watched_main")), w.pid("default_orphaned_main")
	killMonitor("default_watched_main")
	killMonitor("default_orphaned_main")
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	replaced := func(t *testing.T, name string) *corev1.Pod {
		t.Helper()
		return w.untilPod(name, "with a new container", func(p *corev1.Pod) bool {
			return ready(p) && containerOf(p, "main").ContainerID != containerOf(before[name], "main").ContainerID
		})
	}
	w.scene("a container that ended without its monitor is replaced", func(t *testing.T) {
		if p := replaced(t, "orphaned"); get(t, p.Status.PodIP, "/") == "" {
			t.Error("the new one does not answer")
		}
	})
	w.scene("a container that runs without its monitor is replaced", func(t *testing.T) {
		p := replaced(t, "watched")
		if !process(long) {
			t.Error("the process that nobody watches lives on beside the new one")
		}
		if was, is := containerOf(before["watched"], "other"), containerOf(p, "other"); was.ContainerID != is.ContainerID {
			t.Errorf("the other container was restarted: %+v", is)
		}
		if get(t, p.Status.PodIP, "/") == "" {
			t.Error("the new one does not answer")
		}
	})

	for _, name := range []string{"whole", "half", "once"} {
		infra := w.podman.CLI(t, "pod", "inspect", "--format={{.InfraContainerID}}", "default_"+name)
		w.podman.CLI(t, "kill", "--signal=KILL", infra)
	}
	w.scene("a pod without its namespaces starts over", func(t *testing.T) {
		p := w.untilPod("whole", "ready in a new sandbox", func(p *corev1.Pod) bool {
			return ready(p) && containerOf(p, "main").ContainerID != containerOf(before["whole"], "main").ContainerID
		})
		if got := w.lines("whole"); !slices.Equal(got, []string{"first", "side", "main", "first", "side", "main"}) {
			t.Errorf("these ran: %v", got)
		}
		if p.UID != before["whole"].UID {
			t.Errorf("it is another pod: %s, and was %s", p.UID, before["whole"].UID)
		}
		for _, name := range []string{"first", "side", "main"} {
			if c := containerOf(p, name); c.RestartCount != 1 {
				t.Errorf("container %s: %+v", name, c)
			}
		}
	})
	w.scene("what ended well in it does not run again", func(t *testing.T) {
		p := w.untilPod("half", "half done again", func(p *corev1.Pod) bool {
			rest := containerOf(p, "rest")
			return rest.Ready && rest.ContainerID != containerOf(before["half"], "rest").ContainerID
		})
		if got := w.lines("half"); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"done", "first", "first", "rest", "rest"}) {
			t.Errorf("these ran: %v", got)
		}
		if c := containerOf(p, "done"); c.State.Terminated == nil || c.State.Terminated.ExitCode != 0 || c.RestartCount != 0 {
			t.Errorf("the one that ended well: %+v", c)
		}
	})
	w.scene("a pod that is never restarted is Failed", func(t *testing.T) {
		w.untilPod("once", "Failed", inPhase(corev1.PodFailed))
		if got := w.lines("once"); len(got) != 1 {
			t.Errorf("it ran %d times", len(got))
		}
	})
	if diff := cmp.Diff(ids(before, "neighbour"), ids(w.pods(), "neighbour")); diff != "" {
		t.Errorf("a pod to which nothing happened: %s", diff)
	}
}

// TestPowerCut: every process dies at once and /run is empty when the machine comes back, as is what lay in memory.
func TestPowerCut(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", deployment("web", 2, w.image, ""))
	w.pod("staged", `
  initContainers:
  - {name: first, THIS, args: [append, /host/staged, first]}
  - {name: side, THIS, restartPolicy: Always, args: [seq, "append /host/staged side", sleep]}
  containers:
  - {name: main, THIS, args: [seq, "append /host/staged main", "append /shared/kept line", serve], readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}`)
	w.pod("once", `
  restartPolicy: Never
  containers:
  - {name: main, THIS, args: [seq, "append /host/once main", "until /host/never"]}`)
	w.pod("job", `
  restartPolicy: Never
  containers:
  - {name: main, THIS, args: [append, /host/job, main]}`)
	w.pod("half", `
  restartPolicy: OnFailure
  containers:
  - {name: done, THIS, args: [append, /host/half, done]}
  - {name: rest, THIS, args: [seq, "append /host/half rest", sleep]}`)
	w.commit("pods")
	w.start()
	w.must("sync")
	w.untilPod("staged", "ready", ready)
	w.podman.CLI(t, "kill", "--signal=KILL", "default_staged_main")
	w.untilPod("staged", "ready after a crash", func(p *corev1.Pod) bool { return ready(p) && containerOf(p, "main").RestartCount == 1 })
	w.untilPod("once", "ready", ready)
	w.untilPod("job", "Succeeded", inPhase(corev1.PodSucceeded))
	w.untilPod("half", "half done", func(p *corev1.Pod) bool {
		return containerOf(p, "done").State.Terminated != nil && containerOf(p, "rest").State.Running != nil
	})
	web := func(s api.Status) bool {
		n := 0
		for _, p := range s.Pods {
			if strings.HasPrefix(p.ID.Name, "web-") && p.Ready == 1 {
				n++
			}
		}
		return n == 2
	}
	w.until(long, "both of web ready", web)
	before := w.pods()

	w.powerCut()
	w.podman.Start(t)
	if seen := w.podman.CLI(t, "ps", "--all", "--format={{.Status}}"); strings.Contains(seen, "Up") || !strings.Contains(seen, "Created") && !strings.Contains(seen, "Exited (0)") {
		t.Fatalf("this is not what Podman shows after a reboot:\n%s", seen)
	}
	w.start()

	w.scene("what should run runs again, as the same pods", func(t *testing.T) {
		w.until(long, "both of web ready", web)
		p := w.untilPod("staged", "ready", ready)
		for name, was := range before {
			if now := w.pods()[name]; now == nil || now.UID != was.UID {
				t.Errorf("pod %s is not what it was: %v", name, now)
			}
		}
		want := []string{"first", "side", "main", "main", "first", "side", "main"}
		if got := w.lines("staged"); !slices.Equal(got, want) {
			t.Errorf("these ran: %v, want %v", got, want)
		}
		if got := get(t, p.Status.PodIP, "/file?path=/shared/kept"); got != "line\nline\nline\n" {
			t.Errorf("what was in the emptyDir on disk: %q", got)
		}
	})
	w.scene("restarts are counted on", func(t *testing.T) {
		p := w.pods()["staged"]
		for name, want := range map[string]int32{"first": 1, "side": 1, "main": 2} {
			if c := containerOf(p, name); c.RestartCount != want {
				t.Errorf("container %s was restarted %d times, want %d", name, c.RestartCount, want)
			}
		}
		for name, p := range w.pods() {
			if c := containerOf(p, "main"); strings.HasPrefix(name, "web-") && c.RestartCount != 1 {
				t.Errorf("pod %s was restarted %d times", name, c.RestartCount)
			}
		}
	})
	w.scene("a pod that is never restarted is Failed", func(t *testing.T) {
		p := w.untilPod("once", "Failed", inPhase(corev1.PodFailed))
		if c := containerOf(p, "main"); c.State.Terminated == nil || c.State.Terminated.ExitCode != 137 {
			t.Errorf("its container: %+v", c)
		}
		if got := w.lines("once"); len(got) != 1 {
			t.Errorf("it ran %d times", len(got))
		}
	})
	w.scene("what had ended well before does not run again, and still did", func(t *testing.T) {
		w.untilPod("half", "half done again", func(p *corev1.Pod) bool {
			rest := containerOf(p, "rest")
			return rest.State.Running != nil && rest.ContainerID != containerOf(before["half"], "rest").ContainerID
		})
		if got := w.lines("half"); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"done", "rest", "rest"}) {
			t.Errorf("these ran: %v", got)
		}
		if got := w.lines("job"); len(got) != 1 {
			t.Errorf("the job ran %d times", len(got))
		}
		if p := w.pods()["job"]; p.Status.Phase != corev1.PodSucceeded {
			t.Errorf("the job had Succeeded, and is now %s: %+v", p.Status.Phase, p.Status.ContainerStatuses)
		}
	})
}

// powerCut kills the agent, Podman and all that runs in containers, and takes from the disk what would have been in memory.
// It does what it does to the lab alone.
func (w *world) powerCut() {
	w.t.Helper()
	if host, err := os.Hostname(); os.Getenv("SKERRY_LAB") != "1" || err != nil || host != "lab" {
		w.t.Fatal("a machine that is not the lab is not cut off")
	}
	w.kill()
	w.podman.Kill(w.t)
	var ended []func(time.Duration) bool
	for _, pid := range w.pids(func(p process) bool {
		return p.monitor || p.execMonitor || p.aardvark || strings.Contains(p.cgroup, "libpod")
	}) {
		ended = append(ended, watch(w.t, pid))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			w.t.Fatal(err)
		}
	}
	for _, e := range ended {
		if !e(long) {
			w.t.Fatal("a process survives the power cut")
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		w.t.Fatal(err)
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 1 &&
			(strings.HasPrefix(f[1], "/run/netns/") || strings.HasPrefix(f[1], "/var/lib/containers/storage/") || strings.HasPrefix(f[1], "/run/containers/")) {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH) // it may have gone with the one around it
		}
	}
	unmount(w.dir)
	namespaces, _ := filepath.Glob("/run/netns/*")
	for _, path := range append(namespaces, "/run/containers", "/run/libpod", "/run/runc", "/run/crun", "/dev/shm/libpod_lock", filepath.Dir(w.socket())) {
		if err := os.RemoveAll(path); err != nil {
			w.t.Fatal(err)
		}
	}
	w.command("ip", "link", "delete", "skerry0")
	w.command("iptables", "-t", "nat", "-F")
	w.command("iptables", "-F")
}
