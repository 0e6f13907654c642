package pod_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// crash lets a container that ran for that long end, and returns how long its successor has to wait and
// the step that starts it.
func crash(t *testing.T, image string, c fleet.ObservedContainer, ran time.Duration) (time.Duration, fleet.Step) {
	t.Helper()
	s := web(t, `{containers: [{name: web, image: "`+image+`"}]}`).box(fleet.Running)
	c.ID, c.Name, c.PodmanName, c.State, c.ExitCode = "c0", "web", "shop_web-1_web", fleet.Exited, 1
	c.Started, c.Finished = now.Add(-ran), now
	s.Observed.Containers = []fleet.ObservedContainer{c}
	var wait time.Duration
	r := pod.Next(s.Input)
	if len(r.Steps) == 0 {
		wait = r.WakeAt.Sub(now)
		s.Now = r.WakeAt.Add(-time.Nanosecond)
		if early := pod.Next(s.Input); len(early.Steps) > 0 {
			t.Fatalf("it is restarted before its time: %v", early.Steps)
		}
		s.Now = r.WakeAt
		r = pod.Next(s.Input)
	}
	if len(r.Steps) == 0 || r.Steps[len(r.Steps)-1].Verb != fleet.Start {
		t.Fatalf("it is not restarted after %s: %v", wait, r.Steps)
	}
	return wait, r.Steps[len(r.Steps)-1]
}

func made(s fleet.Step) fleet.ObservedContainer {
	return fleet.ObservedContainer{
		Image: s.Image, Attempt: s.Attempt, Backoff: s.Backoff, Hash: fleet.HashContainer(&corev1.Container{Name: "web", Image: s.Image}),
	}
}

func TestCrashBackoff(t *testing.T) {
	first := made(fleet.Step{Image: "hello:1"})
	type run struct {
		image string
		ran   time.Duration
		wait  int // seconds until its successor starts
	}
	quick := func(seconds ...int) (runs []run) {
		for _, s := range seconds {
			runs = append(runs, run{"hello:1", time.Second, s})
		}
		return runs
	}
	for _, test := range []struct {
		name string
		runs []run
	}{
		{"series", quick(0, 10, 20, 40, 80, 160, 300, 300, 300)},
		{"ten minutes exactly do not clear it", append(quick(0, 10, 20), run{"hello:1", 600 * time.Second, 40}, run{"hello:1", time.Second, 80})},
		{"a longer run clears it", append(quick(0, 10, 20), run{"hello:1", 601 * time.Second, 0}, run{"hello:1", time.Second, 10}, run{"hello:1", time.Second, 20})},
		{"another image clears it", append(quick(0, 10, 20, 40), run{"hello:2", time.Second, 0}, run{"hello:2", time.Second, 10}, run{"hello:2", time.Second, 20})},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := first
			for i, run := range test.runs {
				wait, start := crash(t, run.image, c, run.ran)
				if want := time.Duration(run.wait) * time.Second; wait != want {
					t.Fatalf("end %d: waits %s, want %s", i, wait, want)
				}
				if start.Attempt != i+1 {
					t.Fatalf("end %d: attempt %d", i, start.Attempt)
				}
				c = made(start)
			}
		})
	}
}

func TestNotBefore(t *testing.T) {
	series := func(a pod.Attempt) (waits []int) {
		a.Last = now
		for a.Failures = 1; a.Failures <= 9; a.Failures++ {
			waits = append(waits, int(a.NotBefore().Sub(now)/time.Second))
		}
		return waits
	}
	for _, test := range []struct {
		name string
		try  pod.Attempt
		want []int
	}{
		{"pull", pod.Attempt{Verb: fleet.Pull}, []int{10, 20, 40, 80, 160, 300, 300, 300, 300}},
		{"start", pod.Attempt{Verb: fleet.Start}, []int{10, 20, 40, 80, 160, 300, 300, 300, 300}},
		{"start with a conflict", pod.Attempt{Verb: fleet.Start, Failure: pod.Failure{Conflict: true}}, []int{1, 2, 4, 8, 16, 32, 64, 120, 120}},
		{"sandbox", pod.Attempt{Verb: fleet.Sandbox}, []int{1, 2, 4, 8, 16, 32, 64, 120, 120}},
		{"teardown", pod.Attempt{Verb: fleet.Teardown}, []int{1, 2, 4, 8, 16, 32, 64, 120, 120}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := cmp.Diff(test.want, series(test.try)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestGrace(t *testing.T) {
	for _, test := range []struct {
		name    string
		spec    string
		drained time.Duration // ago
		next    []string
		want    time.Duration
	}{
		{"default", one, 0, nil, 30 * time.Second},
		{"its own", `{terminationGracePeriodSeconds: 60, containers: [{name: web}]}`, 0, nil, time.Minute},
		{"what is left", `{terminationGracePeriodSeconds: 60, containers: [{name: web}]}`, 45 * time.Second, nil, 15 * time.Second},
		{"never less than 2 s", `{terminationGracePeriodSeconds: 60, containers: [{name: web}]}`, 59 * time.Second, nil, 2 * time.Second},
		{"never less than 2 s, long after", `{terminationGracePeriodSeconds: 60, containers: [{name: web}]}`, time.Hour, nil, 2 * time.Second},
		{"1 is 2", `{terminationGracePeriodSeconds: 1, containers: [{name: web}]}`, 0, nil, 2 * time.Second},
		{"0 is 2 s, too", `{terminationGracePeriodSeconds: 0, containers: [{name: web}]}`, 0, nil, 2 * time.Second},
		{"never longer, whatever the clock", `{terminationGracePeriodSeconds: 60, containers: [{name: web}]}`, -time.Hour, nil, time.Minute},
		{"all of it after a pull", `{terminationGracePeriodSeconds: 60, containers: [{name: web}]}`, time.Hour, []string{"hello:2"}, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := pod.Next(web(t, test.spec).drains(test.drained, test.next...).box(fleet.Running).has("web", "hello:1", fleet.Running).Input)
			for _, s := range r.Steps {
				if s.Verb == fleet.Stop && s.Grace != test.want {
					t.Errorf("grace %s, want %s", s.Grace, test.want)
				}
			}
			if len(r.Steps) < 3 || r.Steps[len(r.Steps)-3].Verb != fleet.Stop {
				t.Errorf("no stop before teardown and clean: %v", r.Steps)
			}
		})
	}
}

// TestStatus is semantics 2.3.
func TestStatus(t *testing.T) {
	always := `{containers: [{name: a, image: i}, {name: b, image: i}]}`
	onFailure := `{restartPolicy: OnFailure, containers: [{name: a, image: i}, {name: b, image: i}]}`
	never := `{restartPolicy: Never, containers: [{name: a, image: i}, {name: b, image: i}]}`
	type cs = []func(*scene)
	run := func(name string, f ...func(*fleet.ObservedContainer)) func(*scene) {
		return func(s *scene) { s.has(name, "i", fleet.Running, f...) }
	}
	end := func(name string, n int32, f ...func(*fleet.ObservedContainer)) func(*scene) {
		return func(s *scene) { s.has(name, "i", fleet.Exited, append(f, code(n))...) }
	}
	at := func(ago time.Duration) func(*fleet.ObservedContainer) {
		return func(c *fleet.ObservedContainer) { c.Started = now.Add(-ago) }
	}
	for _, test := range []struct {
		name, spec string
		containers cs
		goal       fleet.Goal
		infra      fleet.ContainerState
		phase      corev1.PodPhase
		ready      corev1.ConditionStatus
		reason     string
		since      time.Time
		containing corev1.ConditionStatus // of ContainersReady
	}{
		{"nothing yet", always, nil, fleet.Run, fleet.Running, corev1.PodPending, "False", "ContainersNotReady", born, "False"},
		{"one runs, one never ran", always, cs{run("a")}, fleet.Run, fleet.Running, corev1.PodPending, "False", "ContainersNotReady", born, "False"},
		{"all run", always, cs{run("a", at(20*time.Second)), run("b", at(10*time.Second))}, fleet.Run, fleet.Running, corev1.PodRunning, "True", "", now.Add(-10 * time.Second), "True"},
		{"one ended, Always", always, cs{run("a"), end("b", 1, ran(50*time.Second, 5*time.Second))}, fleet.Run, fleet.Running, corev1.PodRunning, "False", "ContainersNotReady", now.Add(-5 * time.Second), "False"},
		{"all ended, Always", always, cs{end("a", 0), end("b", 0)}, fleet.Run, fleet.Running, corev1.PodRunning, "False", "ContainersNotReady", now, "False"},
		{"in a crash loop", always, cs{run("a"), end("b", 1, attempt(3, time.Hour))}, fleet.Run, fleet.Running, corev1.PodRunning, "False", "ContainersNotReady", now, "False"},
		{"all succeeded, OnFailure", onFailure, cs{end("a", 0), end("b", 0)}, fleet.Run, fleet.Running, corev1.PodSucceeded, "False", "PodCompleted", now, "False"},
		{"one failed, OnFailure", onFailure, cs{end("a", 0), end("b", 1, attempt(1, time.Hour))}, fleet.Run, fleet.Running, corev1.PodRunning, "False", "ContainersNotReady", now, "False"},
		{"one succeeded, one runs, OnFailure", onFailure, cs{end("a", 0), run("b")}, fleet.Run, fleet.Running, corev1.PodRunning, "False", "ContainersNotReady", now, "False"},
		{"all succeeded, Never", never, cs{end("a", 0), end("b", 0)}, fleet.Run, fleet.Running, corev1.PodSucceeded, "False", "PodCompleted", now, "False"},
		{"one failed, Never", never, cs{end("a", 0), end("b", 2)}, fleet.Run, fleet.Running, corev1.PodFailed, "False", "PodFailed", now, "False"},
		{"one failed, one runs, Never", never, cs{end("a", 1), run("b")}, fleet.Run, fleet.Running, corev1.PodRunning, "False", "ContainersNotReady", now, "False"},
		{"being deleted", always, cs{run("a", at(20*time.Second)), run("b", at(10*time.Second))}, fleet.Drain, fleet.Running, corev1.PodRunning, "False", "PodDeleting", now, "True"},
		{"the whole pod is frozen", always, cs{run("a"), run("b")}, fleet.Run, fleet.Paused, corev1.PodRunning, "True", "", now.Add(-time.Minute), "True"},
		{"the sandbox died under them", always, cs{run("a"), run("b")}, fleet.Run, fleet.Exited, corev1.PodRunning, "False", "ContainersNotReady", born, "False"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := web(t, test.spec).box(test.infra)
			for _, add := range test.containers {
				add(s)
			}
			if s.Slot.Goal = test.goal; test.goal == fleet.Drain {
				s.Slot.Drained = now
			}
			got := pod.Next(s.Input).Status
			report := fleet.PodReport{Status: got}
			ready, containers := report.Condition(corev1.PodReady), report.Condition(corev1.ContainersReady)
			type brief struct {
				Phase  corev1.PodPhase
				Ready  corev1.ConditionStatus
				Reason string
				Since  time.Time
				All    corev1.ConditionStatus
			}
			want := brief{test.phase, test.ready, test.reason, test.since, test.containing}
			if d := cmp.Diff(want, brief{got.Phase, ready.Status, ready.Reason, ready.LastTransitionTime.Truncate(time.Second), containers.Status}); d != "" {
				t.Error(d)
			}
			for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized} {
				if c := report.Condition(kind); c == nil || c.Status != corev1.ConditionTrue {
					t.Errorf("%s is %v", kind, c)
				}
			}
			if got.HostIP != "10.0.0.11" || !got.StartTime.Time.Equal(born) {
				t.Errorf("host %s, start %v", got.HostIP, got.StartTime)
			}
		})
	}
}

func TestQOS(t *testing.T) {
	for _, test := range []struct {
		name, containers string
		want             corev1.PodQOSClass
	}{
		{"nothing", `[{name: a}]`, corev1.PodQOSBestEffort},
		{"zeros", `[{name: a, resources: {limits: {cpu: 0, memory: 0}}}]`, corev1.PodQOSBestEffort},
		{"limits only", `[{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]`, corev1.PodQOSGuaranteed},
		{"equal in other units", `[{name: a, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1000m, memory: 1024Mi}}}]`, corev1.PodQOSGuaranteed},
		{"one resource", `[{name: a, resources: {limits: {cpu: 1}}}]`, corev1.PodQOSBurstable},
		{"a smaller request", `[{name: a, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1m}}}]`, corev1.PodQOSBurstable},
		{"requests only", `[{name: a, resources: {requests: {cpu: 1}}}]`, corev1.PodQOSBurstable},
		{"one of two", `[{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}, {name: b}]`, corev1.PodQOSBurstable},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := pod.Next(web(t, "{containers: "+test.containers+"}").Input).Status.QOSClass; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestLimitsOf(t *testing.T) {
	for _, test := range []struct {
		name, resources string
		want            fleet.Limits
	}{
		{"nothing", `{}`, fleet.Limits{Shares: 2}},
		{"limits", `{limits: {cpu: 1500m, memory: 64Mi}}`, fleet.Limits{Memory: 64 << 20, CPUQuota: 150000, Shares: 1536}},
		{"requests", `{requests: {cpu: 100m}}`, fleet.Limits{Shares: 102}},
		{"both", `{limits: {cpu: 2}, requests: {cpu: 1}}`, fleet.Limits{CPUQuota: 200000, Shares: 1024}},
		{"least quota", `{limits: {cpu: 1m}}`, fleet.Limits{CPUQuota: 1000, Shares: 2}},
		{"a request of zero", `{limits: {cpu: 1}, requests: {cpu: 0}}`, fleet.Limits{CPUQuota: 100000, Shares: 2}},
		{"a limit of zero", `{limits: {cpu: 0, memory: 0}}`, fleet.Limits{Shares: 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := corev1.Container{Resources: *decode[corev1.ResourceRequirements](t, test.resources)}
			if d := cmp.Diff(test.want, pod.LimitsOf(&c)); d != "" {
				t.Error(d)
			}
		})
	}
}

// Whatever a pod looks like: a start comes last for its container and after its pull, nothing is asked for
// while a chain runs, a sandbox is made before what goes into it, and only its own containers are named.
func TestNextIsSafe(t *testing.T) {
	states := []fleet.ContainerState{fleet.Created, fleet.Running, fleet.Paused, fleet.Exited, fleet.Stopping, fleet.Unknown}
	verbs := []fleet.Verb{fleet.Pull, fleet.Start, fleet.Stop, fleet.Remove, fleet.Teardown, fleet.Limit, fleet.Clean}
	rapid.Check(t, func(rt *rapid.T) {
		s := web(t, `{containers: [{name: a, image: "i:1"}, {name: b, image: "i:1"}], volumes: [{name: v, emptyDir: {}}]}`)
		s.Spec.Spec.RestartPolicy = rapid.SampledFrom([]corev1.RestartPolicy{"Always", "OnFailure", "Never"}).Draw(rt, "policy")
		if rapid.Bool().Draw(rt, "sandbox") {
			s.box(rapid.SampledFrom(states).Draw(rt, "infra"))
			for i := range rapid.IntRange(0, 5).Draw(rt, "containers") {
				ago := time.Duration(rapid.IntRange(0, 400).Draw(rt, "ago")) * time.Second
				s.has(rapid.SampledFrom([]string{"a", "b", "stranger"}).Draw(rt, "name"), rapid.SampledFrom([]string{"i:1", "i:2"}).Draw(rt, "image"),
					rapid.SampledFrom(states).Draw(rt, "state"), code(int32(rapid.IntRange(0, 1).Draw(rt, "code"))), attempt(i, time.Duration(i)*10*time.Second),
					ran(ago+time.Minute, ago))
			}
		}
		for _, name := range []string{"", "a", "b"} {
			if rapid.IntRange(0, 3).Draw(rt, "failed") == 0 {
				s.tried(name, pod.Attempt{Verb: rapid.SampledFrom(verbs).Draw(rt, "verb"), Image: rapid.SampledFrom([]string{"", "i:1"}).Draw(rt, "tried"),
					Failures: rapid.IntRange(1, 5).Draw(rt, "failures"), Last: now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(rt, "last")) * time.Second)})
			}
		}
		if rapid.Bool().Draw(rt, "drain") {
			s.drains(time.Duration(rapid.IntRange(0, 60).Draw(rt, "since")) * time.Second)
			if rapid.Bool().Draw(rt, "no template") {
				s.Spec = nil
			}
		}
		r := pod.Next(s.Input)
		box, pulled, done := s.Observed != nil, map[string]bool{}, map[string]bool{}
		for _, step := range r.Steps {
			if step.UID != "uid-1" || step.Pod != s.Slot.Pod {
				rt.Fatalf("a step for somebody else: %v", step)
			}
			if done[step.Container] && step.Container != "" {
				rt.Fatalf("%v after the start of its container: %v", step, r.Steps)
			}
			switch step.Verb {
			case fleet.Teardown:
				box = false
			case fleet.Sandbox:
				box = true
			case fleet.Pull:
				pulled[step.Container] = true
			case fleet.Start:
				if !box || !pulled[step.Container] {
					rt.Fatalf("started too early: %v", r.Steps)
				}
				done[step.Container] = true
			case fleet.Remove, fleet.Retire, fleet.Rename, fleet.Limit:
				if step.ID == "" {
					rt.Fatalf("%v of nothing", step)
				}
			}
		}
		s.Busy = true
		if again := pod.Next(s.Input); len(again.Steps) > 0 {
			rt.Fatalf("steps while busy: %v", again.Steps)
		} else if d := cmp.Diff(r.Status, again.Status, cmp.Comparer(func(a, b metav1.Time) bool { return a.Equal(&b) })); d != "" {
			rt.Fatalf("busy looks otherwise: %s", d)
		}
	})
}

// Each container has a series of its own, whatever its role: crashed is the nth run of one that ends after that long.
func TestCrashBackoffOfAll(t *testing.T) {
	type want struct {
		wait    time.Duration // until the next run
		backoff time.Duration // that the next run brings along
	}
	for _, role := range []struct{ name, inits, mains, rest string }{
		{"initial", "web", "m", ""}, {"sidecar", "web:side", "m", "m=running"}, {"sidecar before all", "web:side", "m", ""}, {"main", "one", "web m", "one=0 m=running"},
	} {
		for _, c := range []struct {
			name    string
			attempt int
			backoff time.Duration
			ran     time.Duration
			image   string
			want    want
		}{
			{"first", 0, 0, time.Second, "i:1", want{0, 10 * time.Second}},
			{"second", 1, 10 * time.Second, time.Second, "i:1", want{10 * time.Second, 20 * time.Second}},
			{"longest", 9, 300 * time.Second, time.Second, "i:1", want{300 * time.Second, 300 * time.Second}},
			{"after ten minutes", 9, 300 * time.Second, 10 * time.Minute, "i:1", want{300 * time.Second, 300 * time.Second}},
			{"after more than ten minutes", 9, 300 * time.Second, 10*time.Minute + time.Second, "i:1", want{0, 10 * time.Second}},
			{"another image", 9, 300 * time.Second, time.Second, "i:0", want{0, 10 * time.Second}},
		} {
			t.Run(role.name+", "+c.name, func(t *testing.T) {
				s := staged(t, onFailure, role.inits, role.mains).in(role.rest).
					has("web", c.image, fleet.Exited, code(1), attempt(c.attempt, c.backoff), ran(c.ran, 0))
				r := pod.Next(s.Input)
				var got want
				if !r.WakeAt.IsZero() {
					if len(r.Steps) > 0 {
						t.Fatalf("it waits, and yet %v", r.Steps)
					}
					got.wait, s.Now = r.WakeAt.Sub(now), r.WakeAt
					r = pod.Next(s.Input)
				}
				for _, step := range r.Steps {
					if step.Verb == fleet.Start && step.Container == "web" {
						got.backoff = step.Backoff
						if step.Attempt != c.attempt+1 {
							t.Errorf("attempt %d", step.Attempt)
						}
					}
				}
				if got != c.want {
					t.Errorf("got %v, want %v", got, c.want)
				}
			})
		}
	}
}

// What runs in a sandbox that dies may have run for long: that clears the series, too, though nobody saw it end.
func TestLongRunInADeadSandbox(t *testing.T) {
	for name, state := range map[string]fleet.ContainerState{"lost": fleet.Created, "as if it ran": fleet.Running} {
		s := staged(t, always, "", "web").box(fleet.Exited).has("web", "i:1", state, at(24*time.Hour), attempt(5, 300*time.Second))
		for _, step := range pod.Next(s.Input).Steps {
			if step.Verb == fleet.Start && step.Backoff != 10*time.Second {
				t.Errorf("%s: it ran for a day, and its successor is to wait %s", name, step.Backoff)
			}
		}
	}
}

// What never ran was no attempt, in a dead sandbox neither.
func TestNeverRanInADeadSandbox(t *testing.T) {
	r := pod.Next(staged(t, always, "", "web").box(fleet.Exited).in("web=created").Input)
	if got := brief(r); got != "teardown, sandbox, start web" {
		t.Errorf("steps %q", got)
	}
}
