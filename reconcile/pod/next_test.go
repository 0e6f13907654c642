package pod_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	now  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	born = now.Add(-2 * time.Hour)
)

// scene is an Input under construction.
type scene struct{ pod.Input }

// web is a scene with the pod shop/web-1, to be run, and nothing of it there.
func web(t *testing.T, spec string) *scene {
	t.Helper()
	p := decode[corev1.PodSpec](t, spec)
	for i := range p.Containers {
		if p.Containers[i].ImagePullPolicy == "" {
			p.Containers[i].ImagePullPolicy = corev1.PullIfNotPresent
		}
	}
	if p.RestartPolicy == "" {
		p.RestartPolicy = corev1.RestartPolicyAlways
	}
	slot := fleet.Slot{Identity: fleet.Identity{
		Pod: fleet.PodID{Namespace: "shop", Name: "web-1"}, UID: "uid-1", Created: born, Want: "want", From: "0123456789",
	}, Node: "alpha", Goal: fleet.Run,
	}
	return &scene{pod.Input{
		Slot: slot, Now: now, Place: pod.Place{Address: "10.0.0.11"},
		Spec: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "uid-1"}, Spec: *p},
	}}
}

const one = `{containers: [{name: web, image: hello:1}]}`

func (s *scene) edit(change func(in *pod.Input)) *scene { change(&s.Input); return s }

// box adds a sandbox with an infra container in that state.
func (s *scene) box(infra fleet.ContainerState) *scene {
	s.Observed = &fleet.ObservedPod{ID: "box", PodmanName: "shop_web-1", Infra: infra, PodReport: fleet.PodReport{Identity: fleet.Identity{Pod: s.Slot.Pod, UID: s.Slot.UID}}}
	return s
}

// has adds a container to the sandbox: state is its state, and for an exited one code and age of its end.
func (s *scene) has(name, image string, state fleet.ContainerState, change ...func(c *fleet.ObservedContainer)) *scene {
	c := fleet.ObservedContainer{
		ID: fmt.Sprintf("c%d", len(s.Observed.Containers)), Name: name, Image: image, State: state,
		PodmanName: fleet.PodmanContainer(s.Slot.Pod, name), Created: born, Hash: fleet.HashContainer(&corev1.Container{Name: name, Image: image}),
	}
	if state != fleet.Created {
		c.Started = now.Add(-time.Minute)
	}
	if state == fleet.Exited {
		c.Finished = now
	}
	for _, f := range change {
		f(&c)
	}
	s.Observed.Containers = append(s.Observed.Containers, c)
	return s
}

func ran(start, end time.Duration) func(*fleet.ObservedContainer) {
	return func(c *fleet.ObservedContainer) { c.Started, c.Finished = now.Add(-start), now.Add(-end) }
}
func code(n int32) func(*fleet.ObservedContainer) {
	return func(c *fleet.ObservedContainer) { c.ExitCode = n }
}
func attempt(n int, backoff time.Duration) func(*fleet.ObservedContainer) {
	return func(c *fleet.ObservedContainer) { c.Attempt, c.Backoff = n, backoff }
}
func called(name string) func(*fleet.ObservedContainer) {
	return func(c *fleet.ObservedContainer) { c.PodmanName = name }
}
func limited(l fleet.Limits) func(*fleet.ObservedContainer) {
	return func(c *fleet.ObservedContainer) { c.Limits = &l }
}

func (s *scene) tried(container string, a pod.Attempt) *scene {
	if s.Attempts == nil {
		s.Attempts = pod.Tries{}
	}
	s.Attempts[container] = a
	return s
}

func (s *scene) drains(after time.Duration, next ...string) *scene {
	s.Slot.Goal, s.Slot.Drained, s.Volumes = fleet.Drain, now.Add(-after), fleet.Volumes{}
	for i, image := range next {
		s.Slot.Next = []fleet.Hash{"next"}
		s.Next = append(s.Next, corev1.Container{Name: fmt.Sprintf("n%d", i), Image: image, ImagePullPolicy: corev1.PullAlways})
	}
	return s
}

// show is a Result as text: what a user would see and what the applier would get.
func show(r pod.Result) string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprint(&b, s)
		if s.ID != "" {
			fmt.Fprintf(&b, " id=%s", s.ID)
		}
		if s.Policy != "" {
			fmt.Fprintf(&b, " policy=%s", s.Policy)
		}
		if s.Verb == fleet.Start || s.Verb == fleet.Retire {
			fmt.Fprintf(&b, " attempt=%d backoff=%s", s.Attempt, s.Backoff)
		}
		for _, name := range slices.Sorted(mapKeys(s.Content)) {
			fmt.Fprintf(&b, " %s", name)
		}
		b.WriteByte('\n')
	}
	if r.Gone {
		b.WriteString("gone\n")
	}
	if !r.WakeAt.IsZero() {
		fmt.Fprintf(&b, "wake in %s\n", r.WakeAt.Sub(now))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", strings.ReplaceAll(n, "\n", " / "))
	}
	fmt.Fprintf(&b, "phase %s\n", r.Status.Phase)
	for _, c := range r.Status.ContainerStatuses {
		fmt.Fprintf(&b, "  %s: %s restarts=%d", c.Name, stateText(c.State), c.RestartCount)
		if c.LastTerminationState.Terminated != nil {
			fmt.Fprintf(&b, ", before: %s", stateText(c.LastTerminationState))
		}
		if c.Ready {
			b.WriteString(", ready")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func stateText(s corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("terminated %d %s", s.Terminated.ExitCode, s.Terminated.Reason)
	default:
		return strings.TrimSpace("waiting " + s.Waiting.Reason + " " + strings.ReplaceAll(s.Waiting.Message, "\n", " / "))
	}
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestNext compares what Next decides in named scenes with testdata/next.txtar.
func TestNext(t *testing.T) {
	const (
		two      = `{containers: [{name: web, image: hello:1}, {name: proxy, image: proxy:1, imagePullPolicy: Always}]}`
		missing  = `{containers: [{name: web, image: hello:1, envFrom: [{secretRef: {name: gone}}]}, {name: proxy, image: proxy:1}]}`
		mounted  = `{containers: [{name: web, image: hello:1}], volumes: [{name: conf, configMap: {name: a}}, {name: tmp, emptyDir: {}}]}`
		unfound  = `{containers: [{name: web, image: hello:1}], volumes: [{name: conf, configMap: {name: gone}}]}`
		never    = `{restartPolicy: Never, containers: [{name: web, image: hello:1}]}`
		failing  = `{restartPolicy: OnFailure, containers: [{name: web, image: hello:1}]}`
		neverTwo = `{restartPolicy: Never, containers: [{name: web, image: hello:1}, {name: proxy, image: proxy:1}]}`
		limits   = `{containers: [{name: web, image: hello:1, resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 250m}}}]}`
		brief    = `{terminationGracePeriodSeconds: 5, containers: [{name: web, image: hello:1}]}`
	)
	settings := config(configMap("a", map[string]string{"k": "v"}))
	written := fleet.Volumes{"conf": pod.ContentHash([]fleet.File{{Path: "k", Data: []byte("v"), Mode: 0o644}})}
	configured := func(in *pod.Input) { in.Config = settings }
	wanted := fleet.Limits{Memory: 64 << 20, CPUQuota: 50000, Shares: 256}
	pulled := func(failures int, ago time.Duration) pod.Attempt {
		return pod.Attempt{Verb: fleet.Pull, Image: "hello:1", Failures: failures, Last: now.Add(-ago), Failure: pod.Failure{Text: "no such image"}}
	}
	started := func(failures int, ago time.Duration) pod.Attempt {
		return pod.Attempt{Verb: fleet.Start, Image: "hello:1", Failures: failures, Last: now.Add(-ago), Failure: pod.Failure{Text: "no such program"}}
	}
	podTry := func(verb fleet.Verb, failures int, ago time.Duration) pod.Attempt {
		return pod.Attempt{Verb: verb, Failures: failures, Last: now.Add(-ago), Failure: pod.Failure{Text: "busy"}}
	}

	scenes := []struct {
		name  string
		scene *scene
	}{
		{"absent", web(t, two)},
		{"absent with volumes", web(t, mounted).edit(configured)},
		{"absent and busy", web(t, one).edit(func(in *pod.Input) { in.Busy = true })},
		{"broken sandbox", web(t, two).box(fleet.Exited).has("web", "hello:1", fleet.Exited, code(137), attempt(2, 20*time.Second)).has("proxy", "proxy:1", fleet.Running)},
		{"broken sandbox without infra", web(t, one).box(fleet.Unknown).has("web", "hello:1", fleet.Running)},
		{"broken sandbox that was never started", web(t, one).box(fleet.Created)},
		{"broken sandbox, all of it done", web(t, failing).box(fleet.Exited).has("web", "hello:1", fleet.Exited, code(0))},
		{"broken sandbox, failed with OnFailure", web(t, failing).box(fleet.Exited).has("web", "hello:1", fleet.Exited, code(1))},
		{"broken sandbox, ran with Never", web(t, never).box(fleet.Exited).has("web", "hello:1", fleet.Exited, code(1))},
		{"paused sandbox", web(t, two).box(fleet.Paused).has("web", "hello:1", fleet.Paused).has("proxy", "proxy:1", fleet.Paused)},
		{"as it should be", web(t, two).box(fleet.Running).has("web", "hello:1", fleet.Running).has("proxy", "proxy:1", fleet.Running)},
		{"empty sandbox", web(t, one).box(fleet.Running)},
		{"one of two is missing", web(t, two).box(fleet.Running).has("proxy", "proxy:1", fleet.Running)},

		{"container created and never started", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Created)},
		{"container paused", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Paused)},
		{"container stopping in a pod that drains", web(t, one).drains(0).edit(func(in *pod.Input) { in.Busy = true }).box(fleet.Running).has("web", "hello:1", fleet.Stopping)},
		{"container stopping", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Stopping)},
		{"container orphaned", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Orphaned, attempt(2, 20*time.Second))},
		{"container orphaned with Never", web(t, never).box(fleet.Running).has("web", "hello:1", fleet.Orphaned)},
		{"container orphaned in a pod that drains", web(t, one).drains(0).box(fleet.Running).has("web", "hello:1", fleet.Orphaned)},
		{"container unknown", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Unknown, attempt(1, 10*time.Second)).has("web", "hello:1", fleet.Exited, code(1))},

		{"ended for the first time", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(1))},
		{"ended well with Always", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Exited)},
		{"ended well with OnFailure", web(t, failing).box(fleet.Running).has("web", "hello:1", fleet.Exited)},
		{"failed with OnFailure", web(t, failing).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(3))},
		{"failed with OnFailure and waits", web(t, failing).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(3), attempt(1, 10*time.Second))},
		{"ended well with Never", web(t, never).box(fleet.Running).has("web", "hello:1", fleet.Exited)},
		{"failed with Never", web(t, never).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(3))},
		{"one failed and one runs, Never", web(t, neverTwo).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(3)).has("proxy", "proxy:1", fleet.Running)},
		{"crash loop", web(t, one).box(fleet.Running).
			has("web", "hello:1", fleet.Exited, code(1), attempt(3, 40*time.Second), ran(20*time.Second, 15*time.Second)).
			has("web", "hello:1", fleet.Exited, code(2), attempt(2, 20*time.Second), called("shop_web-1_web_2"))},
		{"crash loop is over", web(t, one).box(fleet.Running).
			has("web", "hello:1", fleet.Exited, code(1), attempt(3, 40*time.Second), ran(60*time.Second, 40*time.Second)).
			has("web", "hello:1", fleet.Exited, code(2), attempt(2, 20*time.Second), called("shop_web-1_web_2"))},
		{"older ones are removed", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Running, attempt(4, 0)).
			has("web", "hello:1", fleet.Exited, attempt(1, 0)).has("web", "hello:1", fleet.Exited, attempt(3, 0)).has("web", "hello:1", fleet.Exited, attempt(2, 0))},

		{"killed between retire and start", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(1), attempt(2, 0), called("shop_web-1_web_2"))},
		{"killed between create and start", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Created, attempt(3, 40*time.Second)).
			has("web", "hello:1", fleet.Exited, code(1), attempt(2, 20*time.Second), ran(time.Minute, 25*time.Second), called("shop_web-1_web_2"))},
		{"killed between stop and retire of an image change", web(t, one).box(fleet.Running).has("web", "hello:0", fleet.Exited, code(143), attempt(5, 300*time.Second))},

		{"image changed", web(t, two).box(fleet.Running).has("web", "hello:0", fleet.Running, attempt(1, 10*time.Second)).
			has("web", "hello:0", fleet.Exited, attempt(0, 0), called("shop_web-1_web_0")).has("proxy", "proxy:1", fleet.Running)},
		{"image changed and cannot be had", web(t, one).box(fleet.Running).has("web", "hello:0", fleet.Running).tried("web", pulled(1, 0))},
		{"image changed during a crash loop", web(t, one).box(fleet.Running).has("web", "hello:0", fleet.Exited, code(1), attempt(5, 160*time.Second))},
		{"image changed after a pull of another failed", web(t, one).box(fleet.Running).has("web", "hello:0", fleet.Running).
			tried("web", pod.Attempt{Verb: fleet.Pull, Image: "hello:typo", Failures: 9, Last: now, Failure: pod.Failure{Text: "no"}})},
		{"image changed and grace of its own", web(t, brief).box(fleet.Running).has("web", "hello:0", fleet.Running)},
		{"renamed", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Running, called("mine"))},
		{"renamed and the name is taken", web(t, one).edit(func(in *pod.Input) { in.Taken = map[string]bool{"shop_web-1_web": true} }).
			box(fleet.Running).has("web", "hello:1", fleet.Running, called("mine"))},
		{"rename failed lately", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Running, called("mine")).tried("web", podTry(fleet.Rename, 1, 0))},
		{"limits as wanted", web(t, limits).box(fleet.Running).has("web", "hello:1", fleet.Running, limited(wanted))},
		{"limits drifted", web(t, limits).box(fleet.Running).has("web", "hello:1", fleet.Running, limited(fleet.Limits{Memory: 64 << 20, CPUQuota: 100000, Shares: 256}))},
		{"limits unknown", web(t, limits).box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"limits failed lately", web(t, limits).box(fleet.Running).has("web", "hello:1", fleet.Running, limited(fleet.Limits{})).tried("web", podTry(fleet.Limit, 2, time.Second))},
		{"unpause failed lately", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Paused).tried("web", podTry(fleet.Unpause, 1, 0))},
		{"unpause of the pod failed lately", web(t, one).box(fleet.Paused).has("web", "hello:1", fleet.Paused).tried("", podTry(fleet.Unpause, 1, 0))},
		{"removal failed lately", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Unknown).tried("web", podTry(fleet.Remove, 3, time.Second))},
		{"stop for an image failed lately", web(t, one).box(fleet.Running).has("web", "hello:0", fleet.Running).tried("web", podTry(fleet.Stop, 1, 0))},
		{"removal of an older one failed lately", web(t, one).box(fleet.Running).has("web", "hello:1", fleet.Running, attempt(2, 0)).
			has("web", "hello:1", fleet.Exited, attempt(1, 0)).has("web", "hello:1", fleet.Exited, attempt(0, 0)).tried("web", podTry(fleet.Remove, 1, 0))},

		{"pull failed", web(t, two).tried("web", pulled(1, 0))},
		{"pull failed and nothing else", web(t, one).tried("web", pulled(3, 10*time.Second))},
		{"pull failed long ago", web(t, one).tried("web", pulled(3, 40*time.Second))},
		{"start failed", web(t, one).box(fleet.Running).tried("web", started(1, time.Second))},
		{"start met a conflict", web(t, one).box(fleet.Running).tried("web", pod.Attempt{Verb: fleet.Start, Image: "hello:1", Failures: 2, Last: now, Failure: pod.Failure{Text: "taken", Conflict: true}})},
		{"sandbox met a conflict", web(t, one).tried("", pod.Attempt{Verb: fleet.Sandbox, Failures: 1, Last: now, Failure: pod.Failure{Text: "port 80 is taken", Conflict: true}})},
		{"sandbox may be tried again", web(t, one).tried("", podTry(fleet.Sandbox, 3, 4*time.Second))},

		{"config is missing", web(t, missing)},
		{"config is missing for a restart", web(t, missing).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(1)).has("proxy", "proxy:1", fleet.Running)},
		{"config is missing for an image change", web(t, missing).box(fleet.Running).has("web", "hello:0", fleet.Running).has("proxy", "proxy:1", fleet.Running)},
		{"config went away while it runs", web(t, missing).box(fleet.Running).has("web", "hello:1", fleet.Running).has("proxy", "proxy:1", fleet.Running)},
		{"volume is missing", web(t, unfound)},
		{"volume is missing for a restart", web(t, unfound).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(1))},
		{"volume is missing and it runs", web(t, unfound).box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"volume is missing for an image change", web(t, unfound).box(fleet.Running).has("web", "hello:0", fleet.Running, attempt(1, 0)).has("web", "hello:0", fleet.Exited)},
		{"volume lies there", web(t, mounted).edit(configured).edit(func(in *pod.Input) { in.Volumes = written }).box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"volume lies there for a restart", web(t, mounted).edit(configured).edit(func(in *pod.Input) { in.Volumes = written }).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(1))},
		{"volume has other content", web(t, mounted).edit(configured).edit(func(in *pod.Input) { in.Volumes = fleet.Volumes{"conf": "old"} }).box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"volume cannot be written", web(t, mounted).edit(configured).box(fleet.Running).has("web", "hello:1", fleet.Running).tried("", podTry(fleet.Volume, 1, 0))},
		{"volume cannot be written for a restart", web(t, mounted).edit(configured).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(1)).tried("", podTry(fleet.Volume, 1, 0))},

		{"pod name is taken", web(t, one).edit(func(in *pod.Input) { in.Taken = map[string]bool{"shop_web-1": true} })},
		{"container name is taken", web(t, two).edit(func(in *pod.Input) { in.Taken = map[string]bool{"shop_web-1_proxy": true} })},
		{"other names are taken", web(t, one).edit(func(in *pod.Input) { in.Taken = map[string]bool{"shop_web-2": true} })},
		{"host port is taken", web(t, one).edit(func(in *pod.Input) { in.Blocked = "host port 80/TCP is used by pod shop/old" })},

		{"template is missing", web(t, one).edit(func(in *pod.Input) { in.Spec = nil }).box(fleet.Running).has("web", "hello:1", fleet.Exited, code(1))},
		{"template is missing and nothing there", web(t, one).edit(func(in *pod.Input) { in.Spec = nil })},

		{"drain", web(t, two).drains(0).box(fleet.Running).has("web", "hello:1", fleet.Running).has("proxy", "proxy:1", fleet.Running)},
		{"drain half of the grace later", web(t, one).drains(20*time.Second).box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"drain long overdue", web(t, one).drains(time.Hour).box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"drain with nothing running", web(t, one).drains(0).box(fleet.Running).has("web", "hello:1", fleet.Exited)},
		{"drain a broken sandbox", web(t, one).drains(0).box(fleet.Exited)},
		{"drain a paused container", web(t, two).drains(0).box(fleet.Running).has("web", "hello:1", fleet.Paused).has("proxy", "proxy:1", fleet.Running)},
		{"drain of what is gone but its volumes", web(t, one).drains(0)},
		{"drain of what is gone", web(t, one).drains(0).edit(func(in *pod.Input) { in.Volumes = nil })},
		{"drain of what is gone, busy", web(t, one).drains(0).edit(func(in *pod.Input) { in.Volumes, in.Busy = nil, true })},
		{"drain of what is gone but cannot be cleaned", web(t, one).drains(0).tried("", podTry(fleet.Clean, 1, 0))},
		{"drain, busy", web(t, one).drains(0).edit(func(in *pod.Input) { in.Busy = true }).box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"drain without a template", web(t, one).drains(10*time.Second).edit(func(in *pod.Input) { in.Spec = nil }).box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"drain without a template failed lately", web(t, one).drains(0).edit(func(in *pod.Input) { in.Spec = nil }).box(fleet.Running).
			has("web", "hello:1", fleet.Running).tried("", podTry(fleet.Teardown, 2, time.Second))},
		{"drain failed lately", web(t, one).drains(0).box(fleet.Running).has("web", "hello:1", fleet.Running).tried("", podTry(fleet.Teardown, 2, time.Second))},
		{"drain to make room", web(t, one).drains(time.Minute, "hello:2", "proxy:2").box(fleet.Running).has("web", "hello:1", fleet.Running)},
		{"drain to make room, one image cannot be had", web(t, one).drains(time.Minute, "hello:2", "proxy:2").box(fleet.Running).has("web", "hello:1", fleet.Running).
			tried("n0", pod.Attempt{Verb: fleet.Pull, Image: "hello:2", Failures: 1, Last: now, Failure: pod.Failure{Text: "no"}})},
		{"drain to make room for another image than the one that failed", web(t, one).drains(time.Minute, "hello:3").box(fleet.Running).has("web", "hello:1", fleet.Running).
			tried("n0", pod.Attempt{Verb: fleet.Pull, Image: "hello:2", Failures: 1, Last: now, Failure: pod.Failure{Text: "no"}})},
		{"drain to make room for what is never pulled", web(t, one).drains(time.Minute, "hello:2").edit(func(in *pod.Input) { in.Next[0].ImagePullPolicy = corev1.PullNever }).
			box(fleet.Running).has("web", "hello:1", fleet.Running)},
	}

	const file = "testdata/next.txtar"
	if *update {
		archive := &txtar.Archive{Comment: []byte("What pod.Next decides in the scenes of TestNext. Rewritten by go test -update.\n")}
		for _, s := range scenes {
			archive.Files = append(archive.Files, txtar.File{Name: s.name, Data: []byte(show(pod.Next(s.scene.Input)))})
		}
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) != len(scenes) {
		t.Errorf("%s has %d scenes, not %d", file, len(archive.Files), len(scenes))
	}
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			at := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == s.name })
			if at < 0 {
				t.Fatalf("not in %s", file)
			}
			if d := cmp.Diff(string(archive.Files[at].Data), show(pod.Next(s.scene.Input))); d != "" {
				t.Error(d)
			}
		})
	}
}
