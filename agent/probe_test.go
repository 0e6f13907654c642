package agent_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

// probes is a container's health as a test sets it, by the path that is asked for, and when it was asked.
type probes struct {
	mu    sync.Mutex
	sick  map[string]bool
	asked map[string][]time.Time // by container and path
}

// answers lets a world's containers answer as the test says.
func answers(w *world) *probes {
	p := &probes{sick: map[string]bool{}, asked: map[string][]time.Time{}}
	w.machine.Answer(func(c host.Container, probe host.Probe) (host.Verdict, error) {
		path := probe.Handler.HTTPGet.Path
		p.mu.Lock()
		defer p.mu.Unlock()
		key := c.Labels[fleet.LabelPodName] + path
		p.asked[key] = append(p.asked[key], time.Now())
		if p.sick[path] {
			return host.Verdict{Text: "HTTP 503"}, nil
		}
		return host.Verdict{Well: true}, nil
	})
	return p
}

func (p *probes) set(path string, sick bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sick[path] = sick
}

// times are how long after began a container was asked.
func (p *probes) times(key string, began time.Time) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []time.Duration
	for _, at := range p.asked[key] {
		list = append(list, at.Sub(began).Truncate(time.Second))
	}
	return list
}

// probed is a pod with probes as YAML.
func probed(name, fields, container string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  %s\n  containers:\n  - name: main\n    image: app:1\n%s", name, fields, container)
}

func probe(kind, path, more string) string {
	return fmt.Sprintf("    %sProbe: {httpGet: {path: %s, port: 80}%s}\n", kind, path, more)
}

// pod is a pod as the Kubernetes dialect shows it; nil when there is none.
func (w *world) pod(name string) *corev1.Pod {
	w.t.Helper()
	view, _, _, err := w.View(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range view.Pods() {
		if p.Name == name {
			return &p
		}
	}
	return nil
}

func (w *world) ready(name string) bool {
	w.t.Helper()
	p := w.pod(name)
	if p == nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// TestReadiness: a pod is ready when its probe says so, is not when it failed often enough, and says why.
func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := answers(w)
		p.set("/ready", true)
		w.repo.push("r1", tree(probed("web", "", probe("readiness", "/ready", ", periodSeconds: 5, failureThreshold: 3, successThreshold: 2"))))
		w.run()
		after(4 * time.Second)
		if w.ready("web") {
			t.Error("it is ready before it said so")
		}
		if s := w.status(); len(s.Waiting) != 1 || !strings.Contains(s.Waiting[0].Text, "HTTP 503") {
			t.Errorf("what is waited for: %v", s.Waiting)
		}
		p.set("/ready", false)
		after(5 * time.Second)
		if w.ready("web") {
			t.Error("one success is not two")
		}
		after(5 * time.Second)
		if !w.ready("web") {
			t.Error("two successes do not make it ready")
		}
		p.set("/ready", true)
		after(10 * time.Second)
		if !w.ready("web") {
			t.Error("two failures are not three")
		}
		after(5 * time.Second)
		if w.ready("web") {
			t.Error("three failures leave it ready")
		}
		if n := w.machine.Calls("StartContainer"); n != 1 {
			t.Errorf("readiness restarted it: %d starts", n)
		}
	})
}

// TestLiveness: a container that fails its probe is stopped within the probe's own grace and starts anew by the
// backoff of all restarts; it is not asked again meanwhile, and then from the beginning.
func TestLiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := answers(w)
		w.machine.Behave("app:1", hosttest.Process{Deaf: true})
		w.repo.push("r1", tree(probed("web", "terminationGracePeriodSeconds: 600",
			probe("liveness", "/live", ", initialDelaySeconds: 7, periodSeconds: 10, failureThreshold: 2, terminationGracePeriodSeconds: 4"))))
		w.run()
		began := time.Now()
		after(15 * time.Second)
		p.set("/live", true) // asked at 7 and 17, 27: it fails at 27, and is dead at 31
		after(13 * time.Second)
		if diff := cmp.Diff([]time.Duration{7 * time.Second, 17 * time.Second, 27 * time.Second}, p.times("web/live", began)); diff != "" {
			t.Error(diff)
		}
		if s := w.pod("web").Status.ContainerStatuses[0]; s.State.Running == nil || s.RestartCount != 0 {
			t.Errorf("it did not get its grace: %+v", s)
		}
		after(4 * time.Second)
		s := w.pod("web").Status.ContainerStatuses[0]
		if s.RestartCount != 1 || s.State.Running == nil || s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ExitCode != 137 {
			t.Errorf("after its grace: %+v", s)
		}
		p.set("/live", false)
		after(time.Minute)
		if s := w.pod("web").Status.ContainerStatuses[0]; s.RestartCount != 1 {
			t.Errorf("%d restarts", s.RestartCount)
		}
		for _, line := range w.machine.Journal() {
			if strings.HasPrefix(line, "StopContainer") && !strings.HasSuffix(line, "within 4s") {
				t.Error(line)
			}
		}
	})
}

// TestStartupHoldsTheOthers: nothing else is asked before the startup probe has passed, and it is not asked again.
func TestStartupHoldsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := answers(w)
		p.set("/up", true)
		w.repo.push("r1", tree(probed("web", "",
			probe("startup", "/up", ", periodSeconds: 5, failureThreshold: 100")+probe("liveness", "/live", ", periodSeconds: 5")+probe("readiness", "/ready", ", periodSeconds: 50"))))
		w.run()
		began := time.Now()
		after(21 * time.Second)
		if live := p.times("web/live", began); len(live) > 0 {
			t.Errorf("liveness was asked at %v", live)
		}
		p.set("/up", false)
		after(5 * time.Second)
		if !w.ready("web") {
			t.Error("readiness was not asked as soon as it was up")
		}
		after(time.Minute)
		up := p.times("web/up", began)
		if last := up[len(up)-1]; last != 25*time.Second {
			t.Errorf("startup was asked at %v", up)
		}
	})
}

// TestStartupFails: a container that does not come up is killed after as many failures as it may have.
func TestStartupFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		answers(w).set("/up", true)
		w.repo.push("r1", tree(probed("web", "restartPolicy: Never", probe("startup", "/up", ", periodSeconds: 5, failureThreshold: 3"))))
		w.run()
		after(9 * time.Second)
		if p := w.pod("web"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("it is %s already", p.Status.Phase)
		}
		after(time.Minute)
		p := w.pod("web")
		if n := w.machine.Calls("StartContainer"); n != 1 || p.Status.ContainerStatuses[0].State.Terminated == nil {
			t.Errorf("%d starts, %+v", n, p.Status.ContainerStatuses)
		}
	})
}

// TestGoingPodIsStillAsked: a pod that is to go is unready at once and is not killed for its liveness, and whoever
// watches its readiness sees it until the end.
func TestGoingPodIsStillAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := answers(w)
		w.mayEmpty = true
		w.machine.Behave("app:1", hosttest.Process{Lingers: 20 * time.Second})
		w.repo.push("r1", tree(probed("web", "", probe("liveness", "/live", ", periodSeconds: 1")+probe("readiness", "/ready", ", periodSeconds: 1"))))
		w.run()
		after(15 * time.Second)
		if !w.ready("web") {
			t.Fatal("it is not ready")
		}
		w.repo.push("r2", tree())
		if _, err := w.Sync(t.Context(), "home"); err != nil {
			t.Fatal(err)
		}
		told := time.Now()
		after(5 * time.Second)
		if w.ready("web") {
			t.Error("it is ready while it goes")
		}
		p.set("/live", true)
		asked := w.machine.Calls("Probe")
		after(10 * time.Second)
		if n := w.machine.Calls("Probe") - asked; n != 10 {
			t.Errorf("it was asked %d times in 10 s, want 10: for its readiness", n)
		}
		live := p.times("web/live", told)
		if last := live[len(live)-1]; last > time.Second {
			t.Errorf("liveness was asked %s after it was told to go", last)
		}
		after(20 * time.Second)
		if w.pod("web") != nil {
			t.Error("it did not go")
		}
	})
}

// TestNewAgentKnowsWhatWasReady: what was ready stays so when the agent is started anew, until it fails; and not all
// is asked at once then.
func TestNewAgentKnowsWhatWasReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := answers(w)
		var pods []string
		for i := range 20 {
			pods = append(pods, probed(fmt.Sprintf("p%d", i), "", probe("startup", "/up", "")+probe("readiness", "/ready", ", periodSeconds: 60, failureThreshold: 1")))
		}
		w.repo.push("r1", tree(pods...))
		w.run()
		after(2 * time.Minute)
		w.stop()
		p.set("/up", true)
		w.run()
		restarted := time.Now()
		after(time.Millisecond)
		for i := range 20 {
			if !w.ready(fmt.Sprintf("p%d", i)) {
				t.Fatalf("p%d is not ready any more", i)
			}
		}
		p.set("/ready", true)
		after(time.Minute)
		spread := map[time.Duration]bool{}
		for i := range 20 {
			name := fmt.Sprintf("p%d", i)
			if w.ready(name) {
				t.Errorf("%s is still ready", name)
			}
			for _, at := range p.times(name+"/ready", restarted) {
				if at >= 0 {
					spread[at.Truncate(3*time.Second)] = true
					break
				}
			}
		}
		if len(spread) < 5 {
			t.Errorf("they were asked in %d moments only", len(spread))
		}
		if n := w.machine.Calls("StartContainer"); n != 20 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestSlowProbeDelaysNoOther: one that never answers is given up after its timeout, counts as a failure, and holds up
// nobody.
func TestSlowProbeDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := w.machine.Stall("Probe", 1)
		defer release()
		w.repo.push("r1", tree(
			probed("a", "", probe("readiness", "/a", ", periodSeconds: 100, timeoutSeconds: 60")),
			probed("b", "", probe("readiness", "/b", ", periodSeconds: 100"))))
		w.run()
		after(2 * time.Second)
		if w.ready("a") == w.ready("b") {
			t.Errorf("a is ready: %v, b is ready: %v", w.ready("a"), w.ready("b"))
		}
		after(70 * time.Second)
		if s := w.status(); !strings.Contains(fmt.Sprint(s.Notes), "no answer within") {
			t.Errorf("notes: %v", s.Notes)
		}
	})
}

// TestProberThatFails: what the prober cannot do is tried three times, counts for nothing, and is said.
func TestProberThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := answers(w)
		w.repo.push("r1", tree(probed("web", "", probe("liveness", "/live", ", periodSeconds: 10, failureThreshold: 1"))))
		w.run()
		after(5 * time.Second)
		asked := len(p.times("web/live", time.Now()))
		for n := range 3 {
			w.machine.Fail("Probe", n+1, fmt.Errorf("no descriptors left"))
		}
		after(10 * time.Second)
		if n := w.machine.Calls("Probe"); n != asked+3 {
			t.Errorf("%d attempts, want three", n-asked)
		}
		after(30 * time.Second)
		if n := w.machine.Calls("StartContainer"); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}
