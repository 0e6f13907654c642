package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/internal/lab"
)

// long is how long anything is waited for: it comes much sooner, unless it never comes.
const long = 90 * time.Second

// TestInitialContainersAndSidecars: what runs before a pod's containers, and what runs beside them.
func TestInitialContainersAndSidecars(t *testing.T) {
	w := newWorld(t)
	w.pod("relay", `
  initContainers:
  - {name: first, THIS, args: [seq, "write /shared/baton handed-over", "append /host/relay first"]}
  - {name: second, THIS, args: [seq, "cat /shared/baton", "append /host/relay second"]}
  containers:
  - {name: main, THIS, args: [seq, "append /host/relay main", serve], readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}`)
	w.pod("hopeless", `
  restartPolicy: Never
  initContainers:
  - {name: fails, THIS, args: [exit, "3"]}
  - {name: later, THIS, args: [append, /host/hopeless, later]}
  containers:
  - {name: main, THIS, args: [append, /host/hopeless, main]}`)
	w.pod("midway", `
  initContainers:
  - {name: first, THIS, args: [append, /host/midway, first]}
  - {name: second, THIS, args: [seq, "until /host/midway-go", "append /host/midway second"]}
  - {name: third, THIS, args: [append, /host/midway, third]}
  containers:
  - {name: main, THIS, args: [seq, "append /host/midway main", sleep]}`)
	w.pod("ship", `
  restartPolicy: Never
  initContainers:
  - {name: one, THIS, restartPolicy: Always, args: [seq, "append /host/ship one", sleep], env: [{name: TERM_FILE, value: /host/ship-one}]}
  - {name: between, THIS, args: [append, /host/ship, between]}
  - {name: two, THIS, restartPolicy: Always, args: [seq, "append /host/ship two", sleep], env: [{name: TERM_FILE, value: /host/ship-two}, {name: LINGER, value: 300ms}]}
  containers:
  - {name: main, THIS, args: [seq, "append /host/ship main", sleep], env: [{name: TERM_FILE, value: /host/ship-main}, {name: LINGER, value: 300ms}]}`)
	for name, policy := range map[string]string{"job-never": "Never", "job-onfailure": "OnFailure"} {
		w.pod(name, `
  restartPolicy: `+policy+`
  initContainers:
  - {name: side, THIS, restartPolicy: Always, args: [sleep]}
  containers:
  - {name: main, THIS, args: [exit, "0"]}`)
	}
	w.commit("pods with initial containers")
	w.start()
	w.must("sync")

	w.scene("they run one after another, and hand on what they made", func(t *testing.T) {
		p := w.untilPod("relay", "ready", ready)
		if got := w.lines("relay"); !slices.Equal(got, []string{"first", "second", "main"}) {
			t.Errorf("they ran in this order: %v", got)
		}
		if got := get(t, p.Status.PodIP, "/file?path=/shared/baton"); got != "handed-over" {
			t.Errorf("what the first one wrote into the emptyDir reads %q", got)
		}
		for _, c := range p.Status.InitContainerStatuses {
			if end := c.State.Terminated; end == nil || end.Reason != "Completed" || c.RestartCount != 0 {
				t.Errorf("an initial container that ended well: %+v", c)
			}
		}
	})
	w.scene("one that fails ends a pod that is never restarted", func(t *testing.T) {
		p := w.untilPod("hopeless", "Failed", inPhase(corev1.PodFailed))
		if c := containerOf(p, "fails"); c.State.Terminated == nil || c.State.Terminated.ExitCode != 3 || c.RestartCount != 0 {
			t.Errorf("the one that failed: %+v", c)
		}
		if c := containerOf(p, "main"); c.State.Waiting == nil || c.State.Waiting.Reason != "PodInitializing" {
			t.Errorf("main, which never had its turn: %+v", c)
		}
		if got := w.lines("hopeless"); len(got) > 0 {
			t.Errorf("these ran after one had failed: %v", got)
		}
	})
	w.scene("an agent that is killed in their midst goes on where it was", func(t *testing.T) {
		p := w.untilPod("midway", "at its second initial container", func(p *corev1.Pod) bool {
			return containerOf(p, "second").State.Running != nil
		})
		second := containerOf(p, "second").ContainerID
		w.kill()
		w.start()
		w.touch("midway-go")
		p = w.untilPod("midway", "ready", ready)
		if got := w.lines("midway"); !slices.Equal(got, []string{"first", "second", "third", "main"}) {
			t.Errorf("they ran in this order: %v", got)
		}
		if c := containerOf(p, "second"); c.ContainerID != second || c.RestartCount != 0 {
			t.Errorf("the one that ran meanwhile was %s and is now %+v", second, c)
		}
	})
	w.scene("sidecars do not keep a pod from its end", func(t *testing.T) {
		for _, name := range []string{"job-never", "job-onfailure"} {
			p := w.untilPod(name, "Succeeded", inPhase(corev1.PodSucceeded))
			if c := containerOf(p, "side"); c.State.Terminated == nil {
				t.Errorf("%s: the sidecar of a pod that is over: %+v", name, c)
			}
			if c := containerOf(p, "main"); c.RestartCount != 0 {
				t.Errorf("%s: main ended well and was run again: %+v", name, c)
			}
		}
	})
	w.scene("a sidecar that crashes is run again, whatever the pod's policy, and nothing else", func(t *testing.T) {
		before := w.untilPod("ship", "ready", ready)
		if got := w.lines("ship"); !slices.Equal(got, []string{"one", "between", "two", "main"}) {
			t.Errorf("they started in this order: %v", got)
		}
		w.podman.CLI(t, "kill", "--signal=KILL", "default_ship_one")
		after := w.untilPod("ship", "ready with a new sidecar", func(p *corev1.Pod) bool {
			return ready(p) && containerOf(p, "one").RestartCount == 1
		})
		if end := containerOf(after, "one").LastTerminationState.Terminated; end == nil || end.ExitCode != 137 || end.Reason != "Error" {
			t.Errorf("how it ended: %+v", end)
		}
		for _, name := range []string{"two", "main"} {
			if was, is := containerOf(before, name), containerOf(after, name); was.ContainerID != is.ContainerID {
				t.Errorf("%s was restarted, too: %+v", name, is)
			}
		}
	})
	w.scene("sidecars stop last, in reverse order", func(t *testing.T) {
		w.remove("ship.yaml")
		w.commit("without the ship")
		w.must("sync")
		w.untilGone("ship")
		last := time.Time{}
		for _, name := range []string{"main", "two", "one"} { // each but the last lingers for 300 ms
			signal, at := w.told("ship-" + name)
			if signal != "TERM" || !at.After(last) {
				t.Errorf("%s was told %s at %s; the one before it went at %s", name, signal, at, last)
			}
			last = at.Add(300 * time.Millisecond)
		}
	})
}

// TestHooks: what is to be done after a start and before a stop.
func TestHooks(t *testing.T) {
	w := newWorld(t)
	hooked := w.fifo("early-hook")
	w.pod("early", `
  containers:
  - {name: first, THIS, args: [sleep], lifecycle: {postStart: {exec: {command: [seq, "append /host/early-hook begins", "until /host/early-go", "append /host/early hook"]}}}}
  - {name: second, THIS, args: [seq, "append /host/early second", sleep]}`)
	w.pod("asked", `
  initContainers:
  - {name: side, THIS, restartPolicy: Always, args: [serve], ports: [{name: door, containerPort: 8080}], startupProbe: {tcpSocket: {port: door}, periodSeconds: 1, failureThreshold: 600}}
  containers:
  - {name: main, THIS, args: [sleep], lifecycle: {postStart: {httpGet: {path: /started, port: 8080}}}}`)
	w.pod("bad", `
  terminationGracePeriodSeconds: 2
  containers:
  - {name: main, THIS, args: [sleep], lifecycle: {postStart: {exec: {command: [seq, "print-err no luck", "exit 7"]}}}}
  - {name: other, THIS, args: [sleep]}`)
	w.pod("quits", `
  containers:
  - {name: main, THIS, args: [sleep], env: [{name: TERM_FILE, value: /host/quits}], lifecycle: {preStop: {exec: {command: [append, /host/quits, hook]}}}}`)
	w.pod("rests", `
  containers:
  - {name: main, THIS, args: [sleep], env: [{name: TERM_FILE, value: /host/rests}], lifecycle: {preStop: {sleep: {seconds: 3}}}}
  - {name: hasty, THIS, args: [sleep], env: [{name: TERM_FILE, value: /host/rests-hasty}]}`)
	w.pod("called", `
  terminationGracePeriodSeconds: 600
  containers:
  - {name: main, THIS, args: [serve], env: [{name: LINGER, value: 600s}], ports: [{name: http, containerPort: 8080}], lifecycle: {preStop: {httpGet: {path: /bye, port: http}}}}`)
	late, lateTold := w.fifo("late-hook"), w.fifo("late")
	w.pod("late", `
  terminationGracePeriodSeconds: 3
  containers:
  - {name: main, THIS, args: [sleep], env: [{name: TERM_FILE, value: /host/late}, {name: LINGER, value: 600s}], lifecycle: {preStop: {exec: {command: [seq, "append /host/late-hook begins", "until /host/never"]}}}}`)
	w.pod("signal", `
  os: {name: linux}
  containers:
  - {name: main, THIS, args: [sleep], env: [{name: TERM_FILE, value: /host/signal}], lifecycle: {stopSignal: SIGINT}}`)
	w.write("image.yaml", strings.ReplaceAll(w.manifest("image", `
  containers:
  - {name: main, THIS, args: [sleep], env: [{name: TERM_FILE, value: /host/image}]}`), w.image, lab.TestImageStop))
	w.commit("pods with hooks")
	w.start()
	w.must("sync")

	w.scene("postStart is done before the next container starts", func(t *testing.T) {
		if got := hooked.line(); got != "begins" {
			t.Fatalf("the hook says %q", got)
		}
		for _, c := range w.containers() {
			if c.Pod == "early" && c.Container == "second" {
				t.Errorf("the second container is there while the first one's hook runs: %+v", c)
			}
		}
		w.touch("early-go")
		w.untilPod("early", "ready", ready)
		if got := w.lines("early"); !slices.Equal(got, []string{"hook", "second"}) {
			t.Errorf("the order was %v", got)
		}
	})
	w.scene("postStart may be a request", func(t *testing.T) {
		p := w.untilPod("asked", "ready", ready)
		if got := get(t, p.Status.PodIP, "/requests"); !strings.Contains(got, "/started 1\n") {
			t.Errorf("the sidecar was asked for:\n%s", got)
		}
	})
	w.scene("a postStart that fails costs the container its life", func(t *testing.T) {
		p := w.untilPod("bad", "waiting after a restart", func(p *corev1.Pod) bool {
			return containerOf(p, "main").RestartCount >= 1 && crashLooping(p, "main")
		})
		if c := containerOf(p, "other"); c.State.Running == nil || c.RestartCount != 0 {
			t.Errorf("the other container: %+v", c)
		}
		if out := w.must("status"); !strings.Contains(out, "postStart hook failed: exit code 7: no luck") {
			t.Errorf("status does not say what was wrong:\n%s", out)
		}
	})

	for _, name := range []string{"quits", "rests", "called", "late", "signal", "image"} {
		w.untilPod(name, "ready", ready)
	}
	called := w.pods()["called"]
	lateEnded := watch(t, w.pid("default_late_main"))
	for _, name := range []string{"quits", "rests", "called", "late", "signal", "image"} {
		w.remove(name + ".yaml")
	}
	w.commit("without most")
	began := time.Now()
	w.must("sync")

	w.scene("preStop longer than the grace period is given up, and the process has two seconds still", func(t *testing.T) {
		if got := late.line(); got != "begins" {
			t.Fatalf("the hook says %q", got)
		}
		_, at := parseTold(t, lateTold.line())
		if took := at.Sub(began); took < 3*time.Second {
			t.Errorf("TERM came %s after all began, before the grace period of 3 s was over", took)
		}
		if !lateEnded(long) {
			t.Fatal("a process that lingers for 600 s outlives its grace period")
		}
		// Podman counts in whole seconds.
		if took := time.Since(at); took < 1900*time.Millisecond {
			t.Errorf("it was killed %s after TERM", took)
		}
	})
	w.scene("preStop by command comes before TERM", func(t *testing.T) {
		w.untilGone("quits")
		if got := w.lines("quits"); len(got) != 2 || got[0] != "hook" || !strings.HasPrefix(got[1], "TERM ") {
			t.Errorf("the order was %v", got)
		}
	})
	w.scene("preStop by sleeping puts TERM off, for its own container alone", func(t *testing.T) {
		w.untilGone("rests")
		_, at := w.told("rests")
		if took := at.Sub(began); took < 3*time.Second {
			t.Errorf("TERM came after %s, before the hook had slept its 3 s", took)
		}
		if _, other := w.told("rests-hasty"); !other.Before(at) {
			t.Errorf("the container without a hook was told at %s, the one with it at %s", other, at)
		}
	})
	w.scene("preStop by request comes before TERM", func(t *testing.T) {
		var asked bool
		w.hears("default_called_main", func(line string) bool {
			asked = asked || line == "GET /bye"
			return line == "received TERM"
		})
		if !asked {
			t.Error("TERM came, and the hook had not asked yet")
		}
		get(t, called.Status.PodIP, "/exit?code=0")
		w.untilGone("called")
	})
	w.scene("the signal is the one of the pod, or the image's", func(t *testing.T) {
		for _, name := range []string{"signal", "image"} {
			w.untilGone(name)
			if signal, _ := w.told(name); signal != "INT" {
				t.Errorf("pod %s was told %s", name, signal)
			}
		}
	})
}

// TestEnds: what is to be seen of a container that ended, and what follows.
func TestEnds(t *testing.T) {
	w := newWorld(t)
	w.pod("retried", `
  initContainers:
  - {name: fails, THIS, args: [seq, "append /host/retried again", "exit 3"]}
  containers:
  - {name: main, THIS, args: [append, /host/retried, main]}`)
	w.pod("fresh", `
  containers:
  - {name: main, THIS, args: [seq, "append /marker mine", "cat /marker", "exit 1"], terminationMessagePolicy: FallbackToLogsOnError}`)
	w.pod("words", `
  restartPolicy: Never
  containers:
  - {name: file, THIS, args: [seq, "print noise", "write /dev/termination-log because", "exit 4"]}
  - {name: elsewhere, THIS, args: [seq, "write /tmp/why so", "exit 0"], terminationMessagePath: /tmp/why}
  - {name: log, THIS, args: [seq, "print the last words", "exit 5"], terminationMessagePolicy: FallbackToLogsOnError}
  - {name: well, THIS, args: [seq, "print all is well", "exit 0"], terminationMessagePolicy: FallbackToLogsOnError}`)
	w.pod("greedy", `
  containers:
  - {name: main, THIS, args: [eat, 256Mi], resources: {limits: {memory: 32Mi}}}`)
	w.pod("late", `
  activeDeadlineSeconds: 6
  terminationGracePeriodSeconds: 2
  containers:
  - {name: main, THIS, args: [sleep]}
  - {name: deaf, THIS, args: [ignore-term]}`)
	w.commit("pods that end")
	w.start()
	w.must("sync")

	w.scene("a container that wants too much memory is killed for it, and run again", func(t *testing.T) {
		p := w.untilPod("greedy", "waiting after a restart", func(p *corev1.Pod) bool {
			return containerOf(p, "main").RestartCount >= 1 && crashLooping(p, "main")
		})
		if end := containerOf(p, "main").LastTerminationState.Terminated; end == nil || end.Reason != "OOMKilled" || end.ExitCode != 137 {
			t.Errorf("how it ended: %+v", end)
		}
		if out := w.must("status"); !strings.Contains(out, "container main ended with code 137 (out of memory)") {
			t.Errorf("status does not say why:\n%s", out)
		}
	})
	w.scene("their last words are kept", func(t *testing.T) {
		p := w.untilPod("words", "Failed", inPhase(corev1.PodFailed))
		for name, want := range map[string]corev1.ContainerStateTerminated{
			"file":      {ExitCode: 4, Reason: "Error", Message: "because"},
			"elsewhere": {ExitCode: 0, Reason: "Completed", Message: "so"},
			"log":       {ExitCode: 5, Reason: "Error", Message: "the last words\n"},
			"well":      {ExitCode: 0, Reason: "Completed"},
		} {
			end := containerOf(p, name).State.Terminated
			if end == nil || end.ExitCode != want.ExitCode || end.Reason != want.Reason || end.Message != want.Message {
				t.Errorf("container %s ended as %+v, want code %d, reason %s, message %q", name, end, want.ExitCode, want.Reason, want.Message)
			}
		}
	})
	w.scene("a pod whose time is up is Failed and stopped", func(t *testing.T) {
		p := w.untilPod("late", "Failed", inPhase(corev1.PodFailed))
		if p.Status.Reason != "DeadlineExceeded" {
			t.Errorf("reason %s, message %s", p.Status.Reason, p.Status.Message)
		}
		for name, code := range map[string]int32{"main": 0, "deaf": 137} {
			c := containerOf(p, name)
			if c.State.Terminated == nil || c.State.Terminated.ExitCode != code || c.RestartCount != 0 {
				t.Errorf("container %s: %+v", name, c)
				continue
			}
			// Podman's times are whole seconds.
			if ran := c.State.Terminated.FinishedAt.Sub(p.Status.StartTime.Time); ran < 5*time.Second {
				t.Errorf("container %s was stopped %s after the pod began", name, ran)
			}
		}
	})
	// The first restart is at once, the second one ten seconds after the end before.
	backsOff := func(t *testing.T, pod, name string) *corev1.Pod {
		t.Helper()
		p := w.untilPod(pod, "waiting after two restarts", func(p *corev1.Pod) bool {
			return containerOf(p, name).RestartCount >= 2 && crashLooping(p, name)
		})
		runs := w.runs(pod, name)
		if len(runs) != 2 {
			t.Fatalf("of container %s there should be the last one and one before: %+v", name, runs)
		}
		if wait := runs[1].Started.Sub(runs[0].Finished); wait < 9*time.Second { // whole seconds, both of them
			t.Errorf("container %s of pod %s was restarted %s after its end", name, pod, wait)
		}
		return p
	}
	w.scene("a restart is a new container, and the one before is kept", func(t *testing.T) {
		p := backsOff(t, "fresh", "main")
		end := containerOf(p, "main").LastTerminationState.Terminated
		if end.Message != "mine\n" { // a line for each run that wrote to the same layer
			t.Errorf("what the last one found in its file: %q", end.Message)
		}
	})
	w.scene("an initial container that fails is tried again, and nothing else runs", func(t *testing.T) {
		p := backsOff(t, "retried", "fails")
		want := slices.Repeat([]string{"again"}, int(containerOf(p, "fails").RestartCount)+1)
		if got := w.lines("retried"); !slices.Equal(got, want) {
			t.Errorf("these ran: %v, want %v", got, want)
		}
		if c := containerOf(p, "main"); c.State.Waiting == nil || p.Status.Phase != corev1.PodPending {
			t.Errorf("the pod is %s, its container %+v", p.Status.Phase, c)
		}
		if out := w.must("status"); !strings.Contains(out, "container fails ended with code 3") {
			t.Errorf("status does not say why:\n%s", out)
		}
	})
}

// ---- what these tests share ----
