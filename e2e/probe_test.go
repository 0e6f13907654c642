package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestProbes: what containers are asked, and what follows from what they say. All of it is one commit; each scene waits for
// its own pods.
func TestProbes(t *testing.T) {
	w := newWorld(t)
	w.pod("steady", `
  containers:
  - {name: web, THIS, args: [serve], ports: [{name: http, containerPort: 8080}],
     livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, failureThreshold: 60},
     readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1, failureThreshold: 60}}
  - {name: door, THIS, args: [tcp], env: [{name: PORT, value: "8081"}], ports: [{name: door, containerPort: 8081}],
     livenessProbe: {tcpSocket: {port: door}, periodSeconds: 1, failureThreshold: 60}}
  - {name: rpc, THIS, args: [grpc], env: [{name: CONTROL_PORT, value: "8082"}],
     livenessProbe: {grpc: {port: 9090}, periodSeconds: 1, failureThreshold: 60}}
  - {name: file, THIS, args: [sleep],
     livenessProbe: {exec: {command: [ls, /host]}, periodSeconds: 1, failureThreshold: 60}}`)
	w.pod("http", `
  containers:
  - {name: main, THIS, args: [serve], ports: [{name: http, containerPort: 8080}],
     lifecycle: {preStop: {exec: {command: [append, /host/http, hook]}}},
     livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, timeoutSeconds: 10}}`)
	w.pod("grpc", `
  containers:
  - {name: main, THIS, args: [grpc],
     livenessProbe: {grpc: {port: 9090}, periodSeconds: 1, timeoutSeconds: 10}}`)
	w.pod("exec", `
  containers:
  - {name: main, THIS, args: [sleep],
     livenessProbe: {exec: {command: [cat, /host/exec-lives]}, periodSeconds: 1, timeoutSeconds: 10}}`)
	w.touch("exec-lives")
	w.pod("tcp", `
  containers:
  - {name: main, THIS, args: [sleep], ports: [{name: door, containerPort: 8080}],
     livenessProbe: {tcpSocket: {port: door}, periodSeconds: 1, timeoutSeconds: 10}}`)
	w.pod("deaf", `
  terminationGracePeriodSeconds: 600
  containers:
  - {name: main, THIS, args: [ignore-term],
     livenessProbe: {exec: {command: [exit, "1"]}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 2}}`)
	w.pod("once", `
  restartPolicy: Never
  terminationGracePeriodSeconds: 2
  containers:
  - {name: main, THIS, args: [ignore-term],
     livenessProbe: {exec: {command: [exit, "1"]}, periodSeconds: 1, failureThreshold: 1}}`)
	w.pod("slow", `
  containers:
  - {name: main, THIS, args: [serve],
     startupProbe: {httpGet: {path: "/status?code=503", port: 8080}, periodSeconds: 1, failureThreshold: 2}}`)
	w.pod("held", `
  containers:
  - {name: main, THIS, args: [serve],
     startupProbe: {httpGet: {path: "/file?path=/host/held-up", port: 8080}, periodSeconds: 1, failureThreshold: 600},
     livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 10},
     readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 300, timeoutSeconds: 10}}`)
	w.pod("gated", `
  initContainers:
  - {name: side, THIS, restartPolicy: Always, args: [sleep],
     startupProbe: {exec: {command: [cat, /host/gate]}, periodSeconds: 1, failureThreshold: 600}}
  - {name: next, THIS, args: [append, /host/gated, next]}
  containers:
  - {name: main, THIS, args: [seq, "append /host/gated main", sleep]}`)
	w.pod("moody", `
  containers:
  - {name: main, THIS, args: [serve], ports: [{name: http, containerPort: 8080}],
     readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}}
  - {name: other, THIS, args: [sleep]}`)
	w.pod("hung", `
  containers:
  - {name: main, THIS, args: [sleep],
     readinessProbe: {exec: {command: [hang]}, periodSeconds: 300, failureThreshold: 1}}`)
	w.pod("leaving", `
  terminationGracePeriodSeconds: 600
  containers:
  - {name: main, THIS, args: [serve], env: [{name: LINGER, value: 600s}],
     livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 600},
     readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, failureThreshold: 600}}`)
	w.commit("pods with probes")
	w.start()
	w.must("sync")
	steady := ids(map[string]*corev1.Pod{"steady": w.untilPod("steady", "ready", ready)}, "steady")

	restarted := func(t *testing.T, pod string) corev1.ContainerStatus {
		t.Helper()
		return containerOf(w.untilPod(pod, "restarted", func(p *corev1.Pod) bool {
			return containerOf(p, "main").RestartCount >= 1 && containerOf(p, "main").LastTerminationState.Terminated != nil
		}), "main")
	}
	w.scene("liveness restarts what is not well", func(t *testing.T) {
		before := map[string]*corev1.Pod{}
		for _, name := range []string{"http", "grpc", "exec"} {
			before[name] = w.untilPod(name, "ready", ready)
			if c := containerOf(before[name], "main"); c.RestartCount != 0 {
				t.Errorf("pod %s was well, and restarted: %+v", name, c)
			}
		}
		get(t, before["http"].Status.PodIP, "/unhealthy")
		get(t, before["grpc"].Status.PodIP, "/unhealthy")
		if err := os.Remove(w.host("exec-lives")); err != nil {
			t.Fatal(err)
		}
		for name, p := range before {
			c := restarted(t, name)
			if end := c.LastTerminationState.Terminated; c.ContainerID == containerOf(p, "main").ContainerID || end.ExitCode != 0 || end.Reason != "Completed" {
				t.Errorf("%s: %s was told to end and did: %+v", name, containerOf(p, "main").ContainerID, end)
			}
		}
		w.touch("exec-lives")
		restarted(t, "tcp") // nobody listens there
		if got := w.lines("http"); !slices.Equal(got, []string{"hook"}) {
			t.Errorf("its preStop hook was run when it was killed for its probe: %v", got)
		}
	})
	w.scene("it does so within the probe's own grace period", func(t *testing.T) {
		c := restarted(t, "deaf")
		end := c.LastTerminationState.Terminated
		if end.ExitCode != 137 || end.Reason != "Error" {
			t.Errorf("it takes no notice of TERM, and ended so: %+v", end)
		}
		if ran := end.FinishedAt.Sub(end.StartedAt.Time); ran > long { // the pod's is ten minutes
			t.Errorf("it ran for %s", ran)
		}
	})
	w.scene("what is never restarted stays dead", func(t *testing.T) {
		p := w.untilPod("once", "Failed", inPhase(corev1.PodFailed))
		if c := containerOf(p, "main"); c.RestartCount != 0 || c.State.Terminated == nil || c.State.Terminated.ExitCode != 137 {
			t.Errorf("its container: %+v", c)
		}
	})
	w.scene("a container that does not start in time is restarted", func(t *testing.T) {
		restarted(t, "slow")
		p := w.pods()["slow"]
		if c := containerOf(p, "main"); c.Ready || c.Started == nil || *c.Started {
			t.Errorf("it counts as started: %+v", c)
		}
	})
	w.scene("until it has started nothing else is asked", func(t *testing.T) {
		asked := 0
		w.hears("default_held_main", func(line string) bool {
			if strings.HasPrefix(line, "GET /healthz") || strings.HasPrefix(line, "GET /readyz") {
				t.Errorf("it was asked before it had started: %s", line)
			}
			if strings.HasPrefix(line, "GET /file") {
				asked++
			}
			return asked == 3
		})
		p := w.pods()["held"]
		if c := containerOf(p, "main"); ready(p) || c.Started == nil || *c.Started {
			t.Errorf("it counts as started: %+v", c)
		}
		if out := w.must("status"); !strings.Contains(out, "container main is not started: HTTP 404") {
			t.Errorf("status does not say what it waits for:\n%s", out)
		}
		w.touch("held-up")
		p = w.untilPod("held", "ready", ready) // its readiness is asked every five minutes, and at once
		if c := containerOf(p, "main"); c.RestartCount != 0 || c.Started == nil || !*c.Started {
			t.Errorf("it started: %+v", c)
		}
		w.hears("default_held_main", func(line string) bool { return line == "GET /healthz" })
	})
	w.scene("a sidecar that has not started keeps the next one waiting", func(t *testing.T) {
		p := w.untilPod("gated", "with its sidecar running", func(p *corev1.Pod) bool { return containerOf(p, "side").State.Running != nil })
		for _, name := range []string{"next", "main"} {
			if c := containerOf(p, name); c.State.Waiting == nil || c.State.Waiting.Reason != "PodInitializing" {
				t.Errorf("%s does not wait: %+v", name, c)
			}
		}
		if got := w.lines("gated"); len(got) > 0 {
			t.Errorf("these did not wait: %v", got)
		}
		w.touch("gate")
		w.untilPod("gated", "ready", ready)
		if got := w.lines("gated"); !slices.Equal(got, []string{"next", "main"}) {
			t.Errorf("then these ran: %v", got)
		}
	})
	w.scene("readiness comes and goes, and restarts nothing", func(t *testing.T) {
		before := w.untilPod("moody", "ready", ready)
		get(t, before.Status.PodIP, "/unready")
		p := w.untilPod("moody", "not ready", func(p *corev1.Pod) bool { return !ready(p) })
		if c := conditionOf(p, corev1.ContainersReady); c.Status != corev1.ConditionFalse || !strings.Contains(c.Message, "main") || strings.Contains(c.Message, "other") {
			t.Errorf("which one is not: %+v", c)
		}
		if !containerOf(p, "other").Ready || containerOf(p, "main").Ready {
			t.Errorf("main alone is not ready: %+v", p.Status.ContainerStatuses)
		}
		if out := w.must("status"); !strings.Contains(out, "container main is not ready: HTTP 503") {
			t.Errorf("status does not say why:\n%s", out)
		}
		get(t, before.Status.PodIP, "/ready")
		after := w.untilPod("moody", "ready again", ready)
		one := func(p *corev1.Pod) map[string]*corev1.Pod { return map[string]*corev1.Pod{"moody": p} }
		if diff := cmp.Diff(ids(one(before), "moody"), ids(one(after), "moody")); diff != "" {
			t.Error(diff)
		}
	})
	w.scene("a command that hangs is killed with all that came of it", func(t *testing.T) {
		w.untilPod("hung", "running and not ready", func(p *corev1.Pod) bool {
			return containerOf(p, "main").State.Running != nil && strings.Contains(w.must("status"), "container main is not ready: no answer within 1s")
		})
		main := w.running()["default_hung_main"]
		for _, pid := range w.pids(func(p process) bool { return strings.Contains(p.cgroup, main) }) {
			if line := w.commandLine(pid); strings.Contains(line, "hang") || strings.Contains(line, "ignore-term") {
				t.Errorf("this is left of the probe: %d %s", pid, line)
			}
		}
	})
	w.scene("Podman keeps nothing of commands that ended", func(t *testing.T) {
		// Those of now may be under way; they have to be gone long before the five minutes for which Podman keeps them.
		over := time.Now().Add(long)
		for _, pid := range w.pids(func(p process) bool { return p.execMonitor }) {
			if !watch(t, pid)(max(time.Until(over), 0)) {
				t.Errorf("this is left of an exec session: %s", w.commandLine(pid))
			}
		}
	})
	w.scene("an agent that is killed and comes back finds them as ready as they were", func(t *testing.T) {
		names := []string{"steady", "moody", "held"}
		before := w.pods()
		asked := w.requests(before["moody"].Status.PodIP, "/readyz")
		w.kill()
		w.start()
		// By the time it has asked moody again twice it has had every chance to think otherwise. held is asked every 5 minutes.
		early := map[string]bool{}
		for deadline := time.Now().Add(long); w.requests(before["moody"].Status.PodIP, "/readyz") < asked+2 && time.Now().Before(deadline); {
			now := w.pods()
			for _, name := range names {
				p := now[name]
				switch {
				case p != nil && p.Status.Phase == corev1.PodUnknown: // the agent has not looked yet, and says so
				case p == nil, len(p.Status.ContainerStatuses) == 0:
					early[name] = true
				case !ready(p):
					t.Fatalf("pod %s is not ready: %+v", name, p.Status)
				}
			}
		}
		if len(early) > 0 {
			t.Errorf("before it had looked, it said of these that they are Pending: %v", early)
		}
		if diff := cmp.Diff(ids(before, names...), ids(w.pods(), names...)); diff != "" {
			t.Errorf("restarted: %s", diff)
		}
	})
	w.scene("a pod that is told to go is not ready from then on, is asked whether it is, and not whether it lives", func(t *testing.T) {
		w.untilPod("leaving", "ready", ready)
		w.remove("leaving.yaml")
		w.commit("without the leaving one")
		w.must("sync")
		p := w.untilPod("leaving", "not ready", func(p *corev1.Pod) bool { return !ready(p) })
		if c := containerOf(p, "main"); c.State.Running == nil || conditionOf(p, corev1.PodReady).Reason != "PodDeleting" {
			t.Errorf("it should run and not be ready for that it goes: %+v", p.Status)
		}
		told, asked, last := false, 0, false
		w.hears("default_leaving_main", func(line string) bool {
			switch {
			case line == "received TERM":
				told = true
			case told && line == "GET /readyz":
				asked++
			case told && line == "GET /healthz" && asked > 0: // one may have been under way
				last = true
			}
			return asked == 3
		})
		if last {
			t.Error("it is still asked whether it lives")
		}
		get(t, p.Status.PodIP, "/exit?code=0")
		w.untilGone("leaving")
	})
	w.scene("all that was nobody else's business", func(t *testing.T) {
		now := w.pods()
		if diff := cmp.Diff(steady, ids(now, "steady")); diff != "" || !ready(now["steady"]) {
			t.Errorf("the pod that was always well: %s", diff)
		}
		if c := containerOf(now["once"], "main"); c.RestartCount != 0 || c.State.Running != nil {
			t.Errorf("the one that is never restarted: %+v", c)
		}
	})
}

// requests is how often a path of the test image's server was asked for.
func (w *world) requests(ip, path string) int {
	w.t.Helper()
	for line := range strings.Lines(get(w.t, ip, "/requests")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == path {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				w.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// process is what tells one of the lab's from another.
type process struct {
	cgroup      string
	monitor     bool // conmon, of a container
	execMonitor bool // conmon, of an exec session
	aardvark    bool
}

// pids are the processes of the lab that are as described.
func (w *world) pids(is func(process) bool) []int {
	w.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		w.t.Fatal(err)
	}
	var list []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			w.t.Fatal(err)
		}
		cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil {
			continue // it has ended
		}
		line := w.commandLine(pid)
		conmon, ofExec := strings.HasSuffix(strings.SplitN(line, " ", 2)[0], "conmon"), strings.Contains(line, "--exec-process-spec")
		if is(process{string(cgroup), conmon && !ofExec, conmon && ofExec, strings.Contains(line, "aardvark-dns")}) {
			list = append(list, pid)
		}
	}
	return list
}

// commandLine is empty for a process that has ended.
func (w *world) commandLine(pid int) string {
	raw, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return strings.TrimSpace(strings.ReplaceAll(string(raw), "\x00", " "))
}
