package pod_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// life is one pod on a host on paper: it carries steps out, lets containers end as they are meant to, and holds every step to
// what must be true of any.
type life struct {
	t  *rapid.T
	in pod.Input
	// ends are how the runs of each container end, in turn: an exit code, or sick for one that its probes want killed. Once
	// there are no more, it runs on (sidecars, and all with Always), or ends with 0.
	ends     map[string][]int
	runs     map[string]int  // by container, how often it was started
	reached  map[string]bool // in this sandbox: initial containers that ended well, sidecars that were started
	done     map[string]bool // ended well, and is not to run again (OnFailure), or at all (Never)
	over     string          // why nothing is to be started any more
	rebooted bool
	made     int
	log      []string
}

const sick = -1

func newLife(t *rapid.T, spec *scene) *life {
	l := &life{t: t, in: spec.Input, ends: map[string][]int{}, runs: map[string]int{}, reached: map[string]bool{}, done: map[string]bool{}}
	l.in.Slot.Created = now
	l.in.Health = map[string]pod.Health{}
	return l
}

func drawLife(t *testing.T, rt *rapid.T) *life {
	policy := rapid.SampledFrom([]corev1.RestartPolicy{always, onFailure, never}).Draw(rt, "policy")
	marks := rapid.SampledFrom([]string{"", "", "startup", "liveness", "readiness", "startup,liveness", "liveness,readiness", "startup,readiness,liveness"})
	var inits, mains []string
	for i := range rapid.IntRange(0, 3).Draw(rt, "initial") {
		if rapid.Bool().Draw(rt, "sidecar") {
			inits = append(inits, fmt.Sprintf("s%d:side,%s", i, marks.Draw(rt, "probes")))
		} else {
			inits = append(inits, fmt.Sprintf("i%d", i))
		}
	}
	for i := range rapid.IntRange(1, 2).Draw(rt, "main") {
		mains = append(mains, fmt.Sprintf("m%d:%s", i, marks.Draw(rt, "probes")))
	}
	l := newLife(rt, staged(t, policy, strings.Join(inits, " "), strings.Join(mains, " ")))
	for _, c := range l.containers() {
		for range rapid.IntRange(0, 3).Draw(rt, "troubles") {
			l.ends[c.Name] = append(l.ends[c.Name], rapid.SampledFrom([]int{0, 1, 3, sick}).Draw(rt, "end"))
		}
	}
	return l
}

func (l *life) spec() *corev1.PodSpec { return &l.in.Spec.Spec }

func (l *life) containers() []corev1.Container {
	return slices.Concat(l.spec().InitContainers, l.spec().Containers)
}

func (l *life) container(name string) *corev1.Container { return pod.Container(l.in.Spec, name) }

func (l *life) kind(name string) string {
	for _, c := range l.spec().InitContainers {
		if c.Name == name {
			if c.RestartPolicy != nil {
				return "sidecar"
			}
			return "initial"
		}
	}
	return "main"
}

func (l *life) failf(format string, args ...any) {
	l.t.Helper()
	l.t.Fatalf("%s\n%s\n%s", fmt.Sprintf(format, args...), strings.Join(l.log, "\n"), l)
}

func (l *life) say(format string, args ...any) {
	l.log = append(l.log, fmt.Sprintf("%6s ", l.in.Now.Sub(now))+fmt.Sprintf(format, args...))
}

// String is what there is.
func (l *life) String() string {
	if l.in.Observed == nil {
		return "nothing"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, over %q, past %v:", l.in.Observed.Infra, l.over, l.in.Observed.Past)
	for _, c := range l.in.Observed.Containers {
		fmt.Fprintf(&b, " %s/%d=%s(%d)", c.Name, c.Attempt, c.State, c.ExitCode)
	}
	return b.String()
}

// next asks what to do, and holds the answer to what does not hang on the host.
func (l *life) next() pod.Result {
	l.t.Helper()
	r := pod.Next(l.in)
	for _, s := range r.Steps { // the agent keeps this before it begins
		if s.Verb == fleet.Sandbox && len(s.Past) > 0 {
			l.in.Past = s.Past
		}
	}
	if again := pod.Next(l.in); !cmp.Equal(r, again) {
		l.failf("asked twice: %s", cmp.Diff(r, again))
	}
	if o := l.in.Observed; o != nil {
		other, observed := l.in, *o
		observed.Containers = slices.Clone(o.Containers)
		rand.New(rand.NewSource(int64(len(l.log)))).Shuffle(len(observed.Containers), func(i, j int) {
			observed.Containers[i], observed.Containers[j] = observed.Containers[j], observed.Containers[i]
		})
		other.Observed = &observed
		if d := cmp.Diff(r, pod.Next(other)); d != "" {
			l.failf("another order: %s", d)
		}
	}
	if !r.WakeAt.IsZero() && !r.WakeAt.After(l.in.Now) {
		l.failf("wakes at %s, which is not after %s", r.WakeAt, l.in.Now)
	}
	for _, s := range r.Steps {
		if l.over != "" && (s.Verb == fleet.Start || s.Verb == fleet.Sandbox || s.Verb == fleet.Pull) {
			l.failf("%s, and yet %s", l.over, s)
		}
	}
	if terminal := r.Status.Phase == succeeded || r.Status.Phase == failed; terminal && len(r.Steps) > 0 {
		l.failf("%s, and yet %v", r.Status.Phase, r.Steps)
	} else if terminal && l.over == "" {
		l.failf("%s, though it is not over", r.Status.Phase)
	}
	return r
}

// take carries out one step, a second later.
func (l *life) take(s fleet.Step) {
	l.t.Helper()
	l.in.Now = l.in.Now.Add(time.Second)
	l.say("%s", s)
	switch s.Verb {
	case fleet.Pull, fleet.Hook:
	case fleet.Volume:
		l.in.Volumes = s.Content
	case fleet.Sandbox:
		if l.in.Observed != nil {
			l.failf("a second sandbox")
		}
		l.in.Observed = &fleet.ObservedPod{ID: "box", PodmanName: "shop_web-1", Infra: fleet.Running, Past: s.Past, PodReport: fleet.PodReport{Identity: fleet.Identity{Pod: l.in.Slot.Pod, UID: l.in.Slot.UID}}}
		l.reached = map[string]bool{}
	case fleet.Teardown:
		l.in.Observed = nil
	case fleet.Start:
		l.start(s)
	case fleet.Stop:
		l.stop(s)
	default:
		l.onOne(s)
	}
}

func (l *life) start(s fleet.Step) {
	l.t.Helper()
	if l.in.Observed == nil || l.in.Observed.Infra != fleet.Running {
		l.failf("started without a sandbox: %s", s)
	}
	for _, c := range l.in.Observed.Containers {
		if c.Name == s.Container && (c.State == fleet.Running || c.State == fleet.Paused || c.PodmanName == fleet.PodmanContainer(s.Pod, s.Container)) {
			l.failf("started beside %s, which is %s: %s", c.PodmanName, c.State, s)
		}
	}
	if l.done[s.Container] {
		l.failf("started again, though it is done: %s", s)
	}
	for _, c := range l.spec().InitContainers {
		if c.Name == s.Container {
			break
		}
		if !l.reached[c.Name] {
			l.failf("started before %s had its turn: %s", c.Name, s)
		}
	}
	l.made++
	l.runs[s.Container]++
	c := l.container(s.Container)
	l.in.Observed.Containers = append(slices.Clone(l.in.Observed.Containers), fleet.ObservedContainer{
		ID: fmt.Sprintf("c%d", l.made), PodmanName: fleet.PodmanContainer(s.Pod, s.Container), Name: s.Container, Image: s.Image, State: fleet.Running,
		Created: l.in.Now, Started: l.in.Now, Hash: fleet.HashContainer(c), Attempt: s.Attempt, Backoff: s.Backoff,
	})
	if l.kind(s.Container) == "sidecar" && c.StartupProbe == nil {
		l.reached[s.Container] = true
	}
}

func (l *life) stop(s fleet.Step) {
	l.t.Helper()
	if s.Container == "" {
		var sidecars []string
		for _, c := range slices.Backward(l.spec().InitContainers) {
			if l.kind(c.Name) == "sidecar" && l.alive(c.Name) {
				sidecars = append(sidecars, c.Name)
			}
		}
		if d := cmp.Diff(sidecars, s.Last); d != "" {
			l.failf("last are %v: %s", s.Last, d)
		}
	}
	for _, c := range l.in.Observed.Containers {
		if c.State == fleet.Running && (s.ID == c.ID || s.Container == "") {
			l.end(c.ID, rapid.SampledFrom([]int32{0, 143, 137}).Draw(l.t, "code"), s.Container == "")
		}
	}
}

func (l *life) onOne(s fleet.Step) {
	l.t.Helper()
	if s.Verb == fleet.Unpause && s.Container == "" {
		l.in.Observed.Infra = fleet.Running
		return
	}
	i := -1
	if l.in.Observed != nil {
		l.in.Observed.Containers = slices.Clone(l.in.Observed.Containers)
		i = slices.IndexFunc(l.in.Observed.Containers, func(c fleet.ObservedContainer) bool { return c.ID == s.ID })
	}
	if i < 0 {
		l.failf("there is no such container: %s", s)
	}
	switch c := &l.in.Observed.Containers[i]; s.Verb {
	case fleet.Retire:
		c.PodmanName = fmt.Sprintf("%s_%d", fleet.PodmanContainer(s.Pod, s.Container), s.Attempt)
	case fleet.Remove:
		l.in.Observed.Containers = slices.Delete(l.in.Observed.Containers, i, i+1)
	case fleet.Unpause:
		c.State = fleet.Running
	default:
		l.failf("an unexpected step: %s", s)
	}
}

func (l *life) alive(name string) bool {
	return slices.ContainsFunc(l.in.Observed.Containers, func(c fleet.ObservedContainer) bool {
		return c.Name == name && (c.State == fleet.Running || c.State == fleet.Paused)
	})
}

// end lets a container end, and notes what follows from that. One that was told to because its pod is over says nothing new.
func (l *life) end(id string, code int32, over bool) {
	l.in.Observed.Containers = slices.Clone(l.in.Observed.Containers)
	i := slices.IndexFunc(l.in.Observed.Containers, func(c fleet.ObservedContainer) bool { return c.ID == id })
	c := &l.in.Observed.Containers[i]
	c.State, c.ExitCode, c.Finished = fleet.Exited, code, l.in.Now
	l.say("%s ends with %d", c.Name, code)
	if over {
		return
	}
	h := l.in.Health[id]
	l.judge(c.Name, code == 0 && h[pod.Liveness].Verdict != pod.Failed && h[pod.Startup].Verdict != pod.Failed)
}

// judge notes what it means that a container ended, well or not.
func (l *life) judge(name string, well bool) {
	policy := l.spec().RestartPolicy
	switch l.kind(name) {
	case "initial":
		if well {
			l.reached[name] = true
		} else if policy == never {
			l.over = name + " failed for good"
		}
	case "main":
		if policy == never || policy == onFailure && well {
			l.done[name] = true
		}
		if !slices.ContainsFunc(l.spec().Containers, func(c corev1.Container) bool { return !l.done[c.Name] }) {
			l.over = "all are done"
		}
	}
}

// happen lets one thing happen that containers do by themselves; it reports whether there was any.
func (l *life) happen() bool {
	if l.in.Observed == nil || l.in.Observed.Infra != fleet.Running {
		return false
	}
	for _, c := range l.in.Observed.Containers {
		if c.State != fleet.Running {
			continue
		}
		l.in.Now = l.in.Now.Add(time.Second)
		ends, n := l.ends[c.Name], l.runs[c.Name]-1
		spec := l.container(c.Name)
		switch {
		case n < len(ends) && ends[n] == sick && l.probe(c.ID, spec, pod.Failed):
			return true
		case n < len(ends) && ends[n] == sick:
			if spec.StartupProbe == nil && spec.LivenessProbe == nil {
				l.end(c.ID, 1, false)
				return true
			}
		case n < len(ends):
			l.end(c.ID, int32(ends[n]), false)
			return true
		case l.probe(c.ID, spec, pod.Passed):
			return true
		case l.kind(c.Name) == "initial" || l.kind(c.Name) == "main" && l.spec().RestartPolicy != always:
			l.end(c.ID, 0, false)
			return true
		}
	}
	return false
}

// probe lets the next probe of a container that has none yet have that verdict; it reports whether there was one.
func (l *life) probe(id string, spec *corev1.Container, verdict pod.Verdict) bool {
	wanted := pod.Next(l.in).Probes
	for _, p := range wanted {
		if p.Container != id || l.in.Health[id][p.Kind].Verdict != pod.Undecided || p.Kind == pod.Readiness && verdict == pod.Failed {
			continue
		}
		h := pod.Health{}
		for k, v := range l.in.Health[id] {
			h[k] = v
		}
		h[p.Kind] = pod.Tally{Verdict: verdict, Since: l.in.Now}
		l.in.Health[id] = h
		l.say("%s %s: %s", spec.Name, p.Kind, verdict)
		if l.kind(spec.Name) == "sidecar" && p.Kind == pod.Startup && verdict == pod.Passed {
			l.reached[spec.Name] = true
		}
		return true
	}
	return false
}

// reboot takes the sandbox, and all that runs in it with it.
func (l *life) reboot() {
	if l.in.Observed == nil {
		return
	}
	o := *l.in.Observed
	o.Infra = rapid.SampledFrom([]fleet.ContainerState{fleet.Exited, fleet.Created, fleet.Unknown}).Draw(l.t, "infra")
	o.Containers = slices.Clone(o.Containers)
	l.say("reboot")
	unseen := rapid.Bool().Draw(l.t, "unseen")
	l.in.Observed = &o
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.State != fleet.Running && c.State != fleet.Paused {
			continue
		}
		if unseen {
			c.State = fleet.Created
		} else {
			c.State, c.ExitCode, c.Finished = fleet.Exited, 137, l.in.Now
		}
		l.judge(c.Name, false)
	}
	l.rebooted = true
	if l.spec().RestartPolicy == never && len(o.Containers) > 0 && l.over == "" {
		l.over = "it ran once"
	}
}

// trouble is something that befalls the pod.
func (l *life) trouble() {
	switch rapid.IntRange(0, 5).Draw(l.t, "trouble") {
	case 0:
		l.reboot()
	case 1:
		if l.in.Observed != nil && len(l.in.Observed.Containers) > 0 {
			l.in.Observed.Containers = slices.Clone(l.in.Observed.Containers)
			c := rapid.SampledFrom(l.in.Observed.Containers).Draw(l.t, "frozen")
			for i := range l.in.Observed.Containers {
				if x := &l.in.Observed.Containers[i]; x.ID == c.ID && x.State == fleet.Running {
					x.State = fleet.Paused
					l.say("%s is frozen", x.Name)
				}
			}
		}
	case 2: // another image, of a pod that runs on
		if l.spec().RestartPolicy == always {
			p := l.in.Spec.DeepCopy()
			c := rapid.SampledFrom(l.containers()).Draw(l.t, "changed")
			pod.Container(p, c.Name).Image = rapid.SampledFrom([]string{"i:1", "i:2"}).Draw(l.t, "image")
			l.in.Spec = p
			l.say("%s is to be %s", c.Name, pod.Container(p, c.Name).Image)
		}
	case 3: // somebody removes a main container, or an old one
		if l.in.Observed != nil && l.spec().RestartPolicy == always && len(l.in.Observed.Containers) > 0 {
			c := rapid.SampledFrom(l.in.Observed.Containers).Draw(l.t, "removed")
			all := len(l.spec().Containers) > 1 || l.kind(c.Name) == "main"
			if kind := l.kind(c.Name); kind == "main" || kind == "sidecar" && all {
				l.say("%s is removed", c.Name)
				l.in.Observed.Containers = slices.DeleteFunc(slices.Clone(l.in.Observed.Containers), func(o fleet.ObservedContainer) bool { return o.ID == c.ID })
			}
		}
	}
}

// settle runs until nothing is left to do, and nothing happens by itself.
func (l *life) settle() pod.Result {
	l.t.Helper()
	for range 600 {
		r := l.next()
		for _, s := range r.Steps {
			l.take(s)
		}
		if len(r.Steps) > 0 || l.happen() {
			continue
		}
		if r.WakeAt.IsZero() {
			return r
		}
		l.in.Now = r.WakeAt
	}
	l.failf("does not come to rest")
	return pod.Result{}
}

// cut takes the first n of the steps, but a sandbox always with the removal of the one before it: see TestPastOutlivesItsSandbox.
func (l *life) cut(steps []fleet.Step, n int) {
	l.t.Helper()
	for i, s := range steps {
		if i >= n && (s.Verb != fleet.Sandbox && s.Verb != fleet.Volume || i == 0 || steps[0].Verb != fleet.Teardown || n == 0) {
			return
		}
		l.take(s)
	}
}

// atRest holds a pod at rest to what was to become of it.
func (l *life) atRest(r pod.Result) {
	l.t.Helper()
	phase := r.Status.Phase
	if l.over != "" {
		for _, c := range l.containers() {
			if l.in.Observed != nil && l.alive(c.Name) {
				l.failf("%s, and yet %s runs", l.over, c.Name)
			}
		}
		if phase != succeeded && phase != failed && !l.rebooted {
			l.failf("%s, and yet %s", l.over, phase)
		}
		if len(r.Probes) > 0 {
			l.failf("%s, and yet there are probes %v", l.over, r.Probes)
		}
		return
	}
	if phase != running {
		l.failf("at rest, and yet %s", phase)
	}
	if c := (&fleet.PodReport{Status: r.Status}).Condition(corev1.PodReady); c.Status != corev1.ConditionTrue {
		l.failf("at rest, and yet not ready: %s", c.Message)
	}
	for _, c := range l.in.Observed.Containers {
		if c.State == fleet.Running && c.Hash != fleet.HashContainer(l.container(c.Name)) {
			l.failf("%s runs %s", c.Name, c.Image)
		}
	}
	if r.Late || len(r.Notes) > 0 {
		l.failf("at rest, and yet late %t, notes %q", r.Late, r.Notes)
	}
}

// What is known of the runs in a sandbox that died must not hang on its successor being made in one go: a machine that just
// came up may refuse that for a while.
func TestPastOutlivesItsSandbox(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLife(rt, staged(t, onFailure, "", "web aux"))
		for _, s := range l.next().Steps {
			l.take(s)
		}
		l.happen() // web succeeds
		l.reboot()
		for _, s := range l.next().Steps[:1] {
			l.take(s)
		}
		for _, s := range l.next().Steps { // aux runs again, web does not
			l.take(s)
		}
	})
}

// TestLives runs pods of all kinds through what may befall them.
func TestLives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := drawLife(t, rt)
		for range rapid.IntRange(0, 15).Draw(rt, "events") {
			r := l.next()
			l.cut(r.Steps, rapid.IntRange(0, len(r.Steps)).Draw(rt, "cut"))
			switch rapid.IntRange(0, 3).Draw(rt, "event") {
			case 0, 1:
				l.happen()
			case 2:
				l.in.Now = l.in.Now.Add(time.Duration(rapid.IntRange(0, 60).Draw(rt, "seconds")) * time.Second)
			case 3:
				l.trouble()
			}
		}
		l.atRest(l.settle())
	})
}

// A pod that nothing befalls ends as its containers do, and no container runs more often than it failed.
func TestQuietLives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := drawLife(t, rt)
		r := l.settle()
		l.atRest(r)
		for _, c := range slices.Concat(r.Status.InitContainerStatuses, r.Status.ContainerStatuses) {
			if want := max(l.runs[c.Name]-1, 0); int(c.RestartCount) != want {
				l.failf("%s was started %d times, and has %d restarts", c.Name, l.runs[c.Name], c.RestartCount)
			}
		}
	})
}
