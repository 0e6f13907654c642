package apply_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

// bench is a runner on a machine in memory.
type bench struct {
	*hosttest.Host
	runner   *apply.Runner
	outcomes chan apply.Outcome
}

func newBench(makers int) *bench {
	h := hosttest.New()
	h.AddImage("web:1", "db:1")
	b := &bench{Host: h, outcomes: make(chan apply.Outcome, 16)}
	b.runner = &apply.Runner{Host: h, Volumes: h.Volumes, Prober: h, Pulls: new(apply.Pulls), Outcomes: b.outcomes, Makers: make(chan struct{}, makers)}
	return b
}

// run runs one chain to its end.
func (b *bench) run(ctx context.Context, w apply.Work) apply.Outcome {
	b.runner.Go(ctx, w)
	return <-b.outcomes
}

// text is an outcome in short: each step with what became of it.
func text(o apply.Outcome) []string {
	var lines []string
	for _, d := range o.Steps {
		words := []string{string(d.Step.Verb)}
		if d.Step.Container != "" {
			words = append(words, d.Step.Container)
		}
		if d.Err != nil {
			words = append(words, "failed")
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

func want(t *testing.T, got apply.Outcome, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, text(got)); diff != "" {
		for _, d := range got.Steps {
			t.Logf("%s: %v", d.Step, d.Err)
		}
		t.Fatal(diff)
	}
}

var id = fleet.PodID{Namespace: "shop", Name: "web"}

// work is a pod with the containers web and db that is not there yet.
func work() apply.Work {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "web", Image: "web:1"}, {Name: "db", Image: "db:1"},
		}},
	}
	w := apply.Work{
		Chain: fleet.Chain{Pod: id, UID: "u1", Goal: fleet.Run},
		Slot: fleet.Slot{Identity: fleet.Identity{
			Pod: id, UID: "u1", Source: "home", From: "abcdef", Want: "hash", Label: "label",
			Owner:      fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "shop", Name: "web-1"},
			Controller: fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "web"},
			Created:    time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
		}, Node: "alpha", Goal: fleet.Run,
		},
		Pod: p, Node: fleet.Node{Name: "alpha", Address: "10.0.0.11"},
	}
	w.Chain.Steps = steps(
		fleet.Step{Verb: fleet.Volume}, fleet.Step{Verb: fleet.Sandbox},
		fleet.Step{Verb: fleet.Pull, Container: "web", Image: "web:1"}, fleet.Step{Verb: fleet.Start, Container: "web", Image: "web:1"},
		fleet.Step{Verb: fleet.Pull, Container: "db", Image: "db:1"}, fleet.Step{Verb: fleet.Start, Container: "db", Image: "db:1", Attempt: 3, Backoff: 40 * time.Second},
	)
	return w
}

func steps(list ...fleet.Step) []fleet.Step {
	for i := range list {
		list[i].Pod, list[i].UID = id, "u1"
	}
	return list
}

// running is a bench on which work has been done, and what was seen then.
func running(t *testing.T, makers int) (*bench, apply.Work) {
	t.Helper()
	b, w := newBench(makers), work()
	for _, d := range b.run(t.Context(), w).Steps {
		if d.Err != nil {
			t.Fatalf("%s: %v", d.Step, d.Err)
		}
	}
	return b, b.again(t, w)
}

// again is the same work after another look.
func (b *bench) again(t *testing.T, w apply.Work) apply.Work {
	t.Helper()
	seen, err := b.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Seen = seen
	return w
}

// podmans is Podman's ID of a container that was seen.
func podmans(w apply.Work, container string) string {
	list := w.Seen.Pods[0].Containers
	return list[slices.IndexFunc(list, func(c fleet.ObservedContainer) bool { return c.Name == container })].ID
}

func TestOrder(t *testing.T) {
	b, w := newBench(1), work()
	o := b.run(t.Context(), w)
	want(t, o, "volumes", "sandbox", "pull web", "start web", "pull db", "start db")
	if diff := cmp.Diff(w.Chain, o.Chain); diff != "" {
		t.Error(diff)
	}
	calls := []string{"CreatePod shop_web", "Pull web:1", "Message u1 web-0", "StartContainer shop_web_web", "Pull db:1", "Message u1 db-1", "StartContainer shop_web_db"}
	if diff := cmp.Diff(calls, b.Journal()); diff != "" {
		t.Error(diff)
	}
}

func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	all := []string{"volumes", "sandbox", "pull web", "start web", "pull db", "start db"}
	for _, c := range []struct {
		name string
		fail func(b *bench)
		want []string
	}{
		{"none", func(*bench) {}, all},
		{"a pull skips the rest of its container", func(b *bench) { b.Fail("Pull", 1, broken) }, []string{"volumes", "sandbox", "pull web failed", "pull db", "start db"}},
		{"a start", func(b *bench) { b.Fail("StartContainer", 1, broken) }, []string{"volumes", "sandbox", "pull web", "start web failed", "pull db", "start db"}},
		{"both", func(b *bench) { b.Fail("Pull", 1, broken); b.Fail("StartContainer", 1, broken) }, []string{"volumes", "sandbox", "pull web failed", "pull db", "start db failed"}},
		{"the pod ends the chain", func(b *bench) { b.Fail("CreatePod", 1, host.ErrConflict) }, []string{"volumes", "sandbox failed"}},
		{"no Podman ends the chain", func(b *bench) { b.Fail("Pull", 1, fmt.Errorf("pull: %w", host.ErrUnavailable)) }, []string{"volumes", "sandbox", "pull web failed"}},
		{"the last", func(b *bench) { b.Fail("StartContainer", 2, broken) }, []string{"volumes", "sandbox", "pull web", "start web", "pull db", "start db failed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(1)
			c.fail(b)
			want(t, b.run(t.Context(), work()), c.want...)
		})
	}
}

func TestVolumeFailureEndsTheChain(t *testing.T) {
	b, w := newBench(1), work()
	w.Pod.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	b.Fail("Scratch", 1, errors.New("disk full"))
	o := b.run(t.Context(), w)
	want(t, o, "volumes failed")
	if got := o.Steps[0].Err.Error(); got != "volume scratch: disk full" {
		t.Error(got)
	}
}

func TestCutBetweenSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1)
		ctx, cancel := context.WithCancel(t.Context())
		release := b.Stall("StartContainer", 1)
		b.runner.Go(ctx, work())
		synctest.Wait()
		cancel()
		o := <-b.outcomes
		release()
		want(t, o, "volumes", "sandbox", "pull web", "start web failed")
		if !errors.Is(o.Steps[3].Err, context.Canceled) {
			t.Errorf("it failed with %v", o.Steps[3].Err)
		}
		want(t, b.run(ctx, work())) // nothing at all
	})
}

func TestTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := newBench(1), work()
		b.RemoveImage("web:1")
		b.Publish("web:1", 90*time.Second)
		o := b.run(t.Context(), w)
		if got := o.Steps[2].Took; got != 90*time.Second {
			t.Errorf("the pull took %s", got)
		}
	})
}

// No more than that many chains make something at a time, while waiting for processes and images is free.
func TestMakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const makers, chains = 2, 5
		b := newBench(makers)
		var release []func()
		for n := range chains {
			release = append(release, b.Stall("CreatePod", n+1))
		}
		for n := range chains {
			w := work()
			w.Slot.Pod.Name, w.Slot.UID = fmt.Sprint("web", n), fmt.Sprint("u", n)
			w.Chain.Steps = w.Chain.Steps[1:2]
			b.runner.Go(t.Context(), w)
		}
		// Two more wait for a process that takes no notice, and two for an image.
		b.Behave("web:1", hosttest.Process{Deaf: true})
		b.Publish("slow:1", time.Hour)
		for range 2 {
			deaf := b.AddContainer(host.Container{Name: "deaf" + fmt.Sprint(len(release)), Image: "web:1"})
			release = append(release, func() {})
			for _, s := range []fleet.Step{{Verb: fleet.Stop, Container: "web", ID: deaf, Grace: time.Minute}, {Verb: fleet.Pull, Image: "slow:1", Policy: corev1.PullIfNotPresent}} {
				w := work()
				w.Chain.Steps = steps(s)
				b.runner.Go(t.Context(), w)
			}
		}
		for n := range chains {
			synctest.Wait()
			if got := b.Calls("CreatePod"); got != min(makers+n, chains) {
				t.Errorf("after %d were done, %d have begun", n, got)
			}
			if b.Calls("StopContainer") != 2 || b.Calls("Pull") != 2 {
				t.Errorf("%d stops and %d pulls have begun", b.Calls("StopContainer"), b.Calls("Pull"))
			}
			release[n]()
		}
		for range chains + 4 {
			if o := <-b.outcomes; o.Steps[0].Err != nil {
				t.Error(o.Steps[0].Err)
			}
		}
		b.runner.Wait()
	})
}

// A chain that waits for its turn is cut like any other.
func TestCutWhileWaitingForATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1)
		release := b.Stall("CreatePod", 1)
		b.runner.Go(t.Context(), work())
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		w := work()
		w.Chain.Steps = w.Chain.Steps[1:]
		b.runner.Go(ctx, w)
		synctest.Wait()
		cancel()
		o := <-b.outcomes
		want(t, o, "sandbox failed")
		if !errors.Is(o.Steps[0].Err, context.Canceled) || b.Calls("CreatePod") != 1 {
			t.Errorf("it failed with %v", o.Steps[0].Err)
		}
		release()
		want(t, <-b.outcomes, "volumes", "sandbox", "pull web", "start web", "pull db", "start db")
	})
}

func TestStopOfAWholePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := running(t, 1)
		web, db := podmans(w, "web"), podmans(w, "db")
		if err := b.Kill(db, 1); err != nil {
			t.Fatal(err)
		}
		w = b.again(t, w)
		if err := b.Delete(web); err != nil { // after the look
			t.Fatal(err)
		}
		w.Chain.Steps = steps(fleet.Step{Verb: fleet.Stop, ID: w.Seen.Pods[0].ID, Grace: time.Minute})
		want(t, b.run(t.Context(), w), "stop")
		if got := b.Calls("StopContainer"); got != 1 {
			t.Errorf("%d containers were told to stop, want the one that ran", got)
		}
	})
}

func TestStopsOfAPodRunBesideOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1)
		b.Behave("web:1", hosttest.Process{Deaf: true})
		b.Behave("db:1", hosttest.Process{Deaf: true})
		w := work()
		b.run(t.Context(), w)
		w = b.again(t, w)
		w.Chain.Steps = steps(fleet.Step{Verb: fleet.Stop, ID: w.Seen.Pods[0].ID, Grace: time.Minute}, fleet.Step{Verb: fleet.Teardown, ID: w.Seen.Pods[0].ID}, fleet.Step{Verb: fleet.Clean})
		o := b.run(t.Context(), w)
		want(t, o, "stop", "teardown", "clean")
		if o.Steps[0].Took != time.Minute {
			t.Errorf("both together took %s", o.Steps[0].Took)
		}
		if diff := cmp.Diff("image db:1 image2\nimage web:1 image1\n", b.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStepsOnWhatIsThere(t *testing.T) {
	b, w := running(t, 1)
	web := podmans(w, "web")
	w.Pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: quantity("32Mi"), corev1.ResourceCPU: quantity("500m")}
	if err := b.Pause(web); err != nil {
		t.Fatal(err)
	}
	w.Chain.Steps = steps(
		fleet.Step{Verb: fleet.Unpause, Container: "web", ID: web}, fleet.Step{Verb: fleet.Limit, Container: "web", ID: web},
		fleet.Step{Verb: fleet.Stop, Container: "web", ID: web, Grace: time.Second}, fleet.Step{Verb: fleet.Retire, Container: "web", ID: web, Attempt: 4},
		fleet.Step{Verb: fleet.Start, Container: "web", Attempt: 5, Backoff: 20 * time.Second},
	)
	want(t, b.run(t.Context(), w), "unpause web", "limit web", "stop web", "retire web", "start web")
	w = b.again(t, w)
	names := map[string]string{}
	for _, c := range w.Seen.Pods[0].Containers {
		names[c.PodmanName] = fmt.Sprint(c.State, " ", c.Attempt, " ", c.Backoff)
	}
	now := map[string]string{"shop_web_db": "running 3 40s", "shop_web_web": "running 5 20s", "shop_web_web_4": "exited 0 0s"}
	if diff := cmp.Diff(now, names); diff != "" {
		t.Fatal(diff)
	}

	writes := b.Writes()
	w.Chain.Steps = steps(fleet.Step{Verb: fleet.Retire, Container: "web", ID: web, Attempt: 4}, fleet.Step{Verb: fleet.Remove, Container: "web", ID: web})
	want(t, b.run(t.Context(), w), "retire web", "remove web")
	if got := b.Writes() - writes; got != 1 {
		t.Errorf("%d writes: what is retired already was retired again", got)
	}
	w.Chain.Steps = steps(fleet.Step{Verb: fleet.Limit, Container: "none", ID: web}, fleet.Step{Verb: "dance"})
	want(t, b.run(t.Context(), w), "limit none failed", "dance failed")
}

// In a pod that runs only what is written is written anew: the data of its containers is theirs.
func TestVolumesOfARunningPod(t *testing.T) {
	b, w := newBench(1), work()
	w.Desired = desired()
	group := int64(2000)
	w.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	w.Pod.Spec.Volumes = []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	b.run(t.Context(), w)
	w = b.again(t, w)
	w.Seen.Volumes, _ = b.Volumes.List()
	owned, written := b.Calls("Own"), b.Calls("Write")
	w.Chain.Steps = steps(fleet.Step{Verb: fleet.Volume})
	if o := b.run(t.Context(), w); o.Steps[0].Err != nil {
		t.Fatal(o.Steps[0].Err)
	}
	if owned != 1 || b.Calls("Own") != owned || b.Calls("Write") != written+1 {
		t.Errorf("owned %d times, then %d; written %d times, then %d", owned, b.Calls("Own"), written, b.Calls("Write"))
	}
}

// Two that stand for one container may live at a time: one that nobody watches over any more, and its successor.
func TestStopsTwoOfOneName(t *testing.T) {
	b, w := running(t, 1)
	pod := w.Seen.Pods[0]
	twin, ok := b.Container("shop_web_web")
	if !ok {
		t.Fatal("there is no container")
	}
	twin.Name = "shop_web_web_0"
	b.AddContainer(twin)
	w = b.again(t, w)
	w.Chain.Steps = steps(fleet.Step{Verb: fleet.Stop, ID: pod.ID, Grace: 10 * time.Second, Last: []string{"db"}})
	want(t, b.run(t.Context(), w), "stop")
	if n := b.Calls("StopContainer"); n != 3 {
		t.Errorf("%d were told to end, want 3", n)
	}
}
