package reconcile

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/fleet"
)

// runner is a machine whose containers run until they are told to end, and whose store keeps what JSON keeps.
type runner struct {
	*machine
	deaf    bool         // no node has reported
	absent  []fleet.Node // nodes that have not reported yet
	intents []fleet.Intent
	zones   map[string]*time.Location
	started map[string]int  // by UID: how often a container of its was started
	counted map[string]bool // UIDs whose ends are in a ledger
	fatal   func(format string, args ...any)
}

func newRunner(t testing.TB, objects ...fleet.Object) *runner {
	r := &runner{machine: newMachine(t), started: map[string]int{}, counted: map[string]bool{}, fatal: t.Fatalf}
	r.commit(objects...)
	return r
}

func (r *runner) commit(objects ...fleet.Object) { r.want(desiredOf(objects...)) }

func jobOf(name, spec string, change ...func(*batchv1.JobSpec)) fleet.Object {
	v := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: readJobSpec(spec)}
	for _, f := range change {
		f(&v.Spec)
	}
	return jobObject(fleet.KindJob, v, &v.Spec.Template)
}

// cronOf takes the spec of the CronJob, and that of its Jobs.
func cronOf(name, spec, job string) fleet.Object {
	v := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &v.Spec); err != nil {
		panic(err)
	}
	v.Spec.JobTemplate.Spec = readJobSpec(job)
	if v.Spec.ConcurrencyPolicy == "" {
		v.Spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	for _, limit := range []struct {
		at    **int32
		usual int32
	}{{&v.Spec.SuccessfulJobsHistoryLimit, 3}, {&v.Spec.FailedJobsHistoryLimit, 1}} {
		if *limit.at == nil {
			*limit.at = &limit.usual
		}
	}
	return jobObject(fleet.KindCronJob, v, &v.Spec.JobTemplate.Spec.Template)
}

func jobObject(kind string, v metav1.Object, template *corev1.PodTemplateSpec) fleet.Object {
	o := fleet.Object{ID: fleet.ObjectID{Kind: kind, Namespace: v.GetNamespace(), Name: v.GetName()}, Source: "home", Revision: "r1", Template: template.DeepCopy()}
	switch v := v.(type) {
	case *batchv1.Job:
		o.Value = v
	case *batchv1.CronJob:
		o.Value = v
	}
	defaultSpec(&template.Spec)
	o.Hash = fleet.HashTemplate(o.Template)
	return o
}

func readJobSpec(text string) batchv1.JobSpec {
	var s batchv1.JobSpec
	if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil {
		panic(fmt.Sprintf("%s: %s", text, err))
	}
	fill := func(at **int32, n int32) {
		if *at == nil {
			*at = &n
		}
	}
	if s.Completions == nil && s.Parallelism == nil {
		fill(&s.Completions, 1)
	}
	if s.BackoffLimitPerIndex != nil {
		fill(&s.BackoffLimit, math.MaxInt32)
	}
	fill(&s.Parallelism, 1)
	fill(&s.BackoffLimit, 6)
	if s.CompletionMode == nil {
		mode := batchv1.NonIndexedCompletion
		s.CompletionMode = &mode
	}
	if s.PodReplacementPolicy == nil {
		policy := batchv1.TerminatingOrFailed
		if s.PodFailurePolicy != nil {
			policy = batchv1.Failed
		}
		s.PodReplacementPolicy = &policy
	}
	if s.Suspend == nil {
		s.Suspend = new(bool)
	}
	if s.Template.Spec.RestartPolicy == "" {
		s.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
	if len(s.Template.Spec.Containers) == 0 {
		s.Template.Spec.Containers = []corev1.Container{{Name: "main", Image: "work:1"}}
	}
	return s
}

func (r *runner) input() FleetInput {
	in := r.machine.input()
	in.Intents, in.Zones = r.intents, r.zones
	in.Nodes = slices.Concat(in.Nodes, r.absent)
	if r.deaf {
		in.Reports = nil
	}
	return in
}

// decide decides, holds the decision to being the last one for this moment and whatever the order, and commits it.
func (r *runner) decide() Decision {
	d := r.consider()
	r.accept(d)
	return d
}

func (r *runner) consider() Decision {
	in := r.input()
	d := Decide(in)
	again := in
	again.Previous = stored(d.Next)
	again.Intents = slices.DeleteFunc(slices.Clone(in.Intents), func(i fleet.Intent) bool { return slices.Contains(d.Dropped, i) })
	if twice := Decide(again); twice.Changed {
		r.fatal("deciding again changes:\n%s", gocmp.Diff(d.Next, twice.Next))
	}
	if other := Decide(shuffled(in)); encode(other) != encode(d) {
		r.fatal("another order gives another decision:\n%s", gocmp.Diff(d, other))
	}
	return d
}

func (r *runner) accept(d Decision) {
	r.notes = d.Notes
	if d.Changed {
		r.stored = stored(d.Next)
	}
	for _, s := range r.stored.Slots {
		if s.Counted {
			r.counted[s.UID] = true
		}
	}
	r.intents = slices.DeleteFunc(r.intents, func(i fleet.Intent) bool { return slices.Contains(d.Dropped, i) })
}

// stored is an assignment as the store gives it back.
func stored(a fleet.Assignment) fleet.Assignment {
	raw, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	var b fleet.Assignment
	if err := json.Unmarshal(raw, &b); err != nil {
		panic(err)
	}
	return b
}

// take takes a step; what was started runs on.
func (r *runner) take(s fleet.Step) {
	if s.Verb == fleet.Start {
		r.started[s.UID]++
		if r.counted[s.UID] {
			r.fatal("%s is run again, and its end was counted\n%s", s.Pod, r)
		}
	}
	r.machine.take(s)
	if s.Verb != fleet.Start {
		return
	}
	for i := range r.host.Pods {
		if o := &r.host.Pods[i]; o.UID == s.UID {
			o.Containers = slices.Clone(o.Containers)
			for j := range o.Containers {
				if c := &o.Containers[j]; c.Name == s.Container && j == len(o.Containers)-1 {
					c.State, c.Finished, c.ExitCode = fleet.Running, time.Time{}, 0
				}
			}
		}
	}
}

func (r *runner) look() { r.said = []fleet.NodeReport{r.plan().Report} }

// act takes all steps that are due on the node.
func (r *runner) act() bool {
	acted := false
	for _, chain := range r.plan().Chains {
		for _, s := range chain.Steps {
			r.take(s)
			acted = true
		}
	}
	return acted
}

// settle runs until nothing is left to do at this moment.
func (r *runner) settle() {
	r.t.Helper()
	for range 60 {
		r.look()
		if d := r.decide(); !r.act() && !d.Changed {
			return
		}
	}
	r.fatal("does not settle:\n%s", r)
}

func (r *runner) pass(d time.Duration) {
	r.t.Helper()
	r.now = r.now.Add(d)
	r.settle()
}

// finish lets the containers of pods end.
func (r *runner) finish(code int32, pods ...string) {
	r.t.Helper()
	for _, name := range pods {
		s := r.slot(name)
		r.end(s.UID, "main", code)
	}
}

// slot is one by the beginning of its pod's name; the oldest of several that run.
func (r *runner) slot(name string) fleet.Slot {
	r.t.Helper()
	for _, goal := range []fleet.Goal{fleet.Run, fleet.Drain} {
		for _, s := range r.stored.Slots {
			if strings.HasPrefix(s.Pod.Name, name) && s.Goal == goal && !s.Counted {
				return s
			}
		}
	}
	r.fatal("no pod %s:\n%s", name, r)
	return fleet.Slot{}
}

func (r *runner) job(name string) fleet.Job {
	for _, j := range r.stored.Jobs {
		if j.ID.Name == name {
			return j
		}
	}
	return fleet.Job{}
}

// lives are the pods that live, without the last part of their names.
func (r *runner) lives() string {
	var list []string
	for _, o := range r.host.Pods {
		if slices.ContainsFunc(o.Containers, fleet.ObservedContainer.Lives) {
			list = append(list, o.Pod.Name[:strings.LastIndex(o.Pod.Name, "-")])
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func (r *runner) forgetPod(uid string) {
	r.host.Pods = slices.DeleteFunc(slices.Clone(r.host.Pods), func(o fleet.ObservedPod) bool { return o.UID == uid })
}

func (r *runner) expect(what, want string) {
	r.t.Helper()
	if got := r.lives(); got != want {
		r.t.Errorf("%s: %q live, want %q\n%s", what, got, want, r)
	}
}

func (r *runner) expectJob(what, name, want string) {
	r.t.Helper()
	j := r.job(name)
	got := strings.TrimSpace(fmt.Sprintf("%d %d %s %s", j.Succeeded, j.Failed, j.Outcome, j.Reason))
	if j.ID.Name == "" {
		got = "none"
	}
	if got != want {
		r.t.Errorf("%s: %s is %q, want %q\n%s", what, name, got, want, r)
	}
}

func TestJobRuns(t *testing.T) {
	r := newRunner(t, jobOf("work", "{completions: 3, parallelism: 2}"))
	r.settle()
	r.expect("at first", "work work")
	r.finish(0, "work")
	r.pass(time.Second)
	r.expectJob("one done", "work", "1 0")
	r.expect("one done", "work work")
	r.finish(1, "work")
	r.pass(time.Second)
	r.expectJob("one failed", "work", "1 1")
	r.expect("one failed", "work")
	r.pass(8 * time.Second)
	r.expect("nine seconds later", "work")
	r.pass(time.Second)
	r.expect("ten seconds later", "work work")
	r.finish(0, "work")
	r.pass(time.Second)
	r.finish(0, "work")
	r.pass(time.Second)
	r.expectJob("all done", "work", "3 1 Complete CompletionsReached")
	r.expect("all done", "")
	if len(r.host.Pods) != 4 {
		t.Errorf("pods that ended stay:\n%s", r)
	}
	epoch := r.stored.Epoch
	r.pass(1000 * time.Hour)
	if r.stored.Epoch != epoch || len(r.host.Pods) != 4 {
		t.Errorf("something happens to a Job that is over:\n%s", r)
	}
}

func TestJobNobodyHasReported(t *testing.T) {
	r := newRunner(t, jobOf("over", "{backoffLimit: 0}"), jobOf("work", "{completions: 3, parallelism: 2}"))
	r.settle()
	r.finish(1, "over")
	r.finish(0, "work")
	r.pass(time.Second)
	before := encode(r.stored)
	r.deaf = true
	r.now = r.now.Add(time.Minute)
	r.decide()
	if d := gocmp.Diff(before, encode(r.stored)); d != "" {
		t.Errorf("nothing is known, and yet:\n%s", d)
	}
}

func TestJobPodsRemovedByHand(t *testing.T) {
	t.Run("one that ended is not run again", func(t *testing.T) {
		r := newRunner(t, jobOf("work", "{completions: 2, parallelism: 1}"))
		r.settle()
		first := r.slot("work").UID
		r.finish(0, "work")
		r.pass(time.Second)
		r.forgetPod(first)
		r.pass(time.Second)
		if r.started[first] != 1 {
			t.Errorf("it ran %d times", r.started[first])
		}
		r.expect("the second runs", "work")
		r.finish(0, "work")
		r.pass(time.Second)
		r.expectJob("both done", "work", "2 0 Complete CompletionsReached")
	})
	t.Run("nor that of a Job that is over", func(t *testing.T) {
		r := newRunner(t, jobOf("work", "{}"))
		r.settle()
		first := r.slot("work").UID
		r.finish(0, "work")
		r.pass(time.Second)
		r.forgetPod(first)
		r.pass(time.Second)
		if r.started[first] != 1 || len(r.started) != 1 {
			t.Errorf("runs: %v", r.started)
		}
	})
	t.Run("one that runs is run again", func(t *testing.T) {
		r := newRunner(t, jobOf("work", "{}"))
		r.settle()
		r.forgetPod(r.slot("work").UID)
		r.pass(time.Second)
		r.expect("again", "work")
		r.finish(0, "work")
		r.pass(time.Second)
		r.expectJob("done", "work", "1 0 Complete CompletionsReached")
	})
}

func TestJobChanged(t *testing.T) {
	const failing = "{completions: 2, parallelism: 2, backoffLimit: 4"
	start := func(t *testing.T) *runner {
		r := newRunner(t, jobOf("work", failing+"}"))
		r.settle()
		r.finish(1, "work")
		r.pass(time.Second)
		r.expectJob("at first", "work", "0 1")
		return r
	}
	image := func(s *batchv1.JobSpec) { s.Template.Spec.Containers[0].Image = "work:2" }
	for _, test := range []struct {
		name   string
		object fleet.Object
	}{
		{"template", jobOf("work", failing+"}", image)},
		{"completions", jobOf("work", "{completions: 3, parallelism: 2, backoffLimit: 4}")},
		{"podFailurePolicy", jobOf("work", failing+", podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [4]}}]}}")},
		{"completionMode", jobOf("work", failing+", completionMode: Indexed}")},
		{"podReplacementPolicy", jobOf("work", failing+", podReplacementPolicy: Failed}")},
	} {
		t.Run(test.name+" is replaced", func(t *testing.T) {
			r := start(t)
			old := map[string]bool{}
			for _, s := range r.stored.Slots {
				old[s.UID] = true
			}
			r.commit(test.object)
			for range 20 {
				r.look()
				r.decide()
				fresh := 0
				for _, s := range r.stored.Slots {
					if !old[s.UID] {
						fresh++
					}
				}
				if fresh > 0 && slices.ContainsFunc(r.stored.Slots, func(s fleet.Slot) bool { return old[s.UID] }) {
					t.Fatalf("the old pods go first:\n%s", r)
				}
				r.act()
			}
			r.expectJob("counts begin anew", "work", "0 0")
			for _, s := range r.stored.Slots {
				if old[s.UID] || s.Want != test.object.Hash {
					t.Errorf("%s is of the former version\n%s", s.Pod, r)
				}
			}
			if len(r.stored.Slots) != 2 {
				t.Errorf("pods:\n%s", r)
			}
		})
	}
	for _, test := range []struct {
		name, spec string
	}{
		{"parallelism", "{completions: 2, parallelism: 1, backoffLimit: 4}"},
		{"suspend", failing + ", suspend: true}"},
		{"ttl", failing + ", ttlSecondsAfterFinished: 60}"},
		{"deadline", failing + ", activeDeadlineSeconds: 600}"},
		{"backoffLimit", "{completions: 2, parallelism: 2, backoffLimit: 5}"},
	} {
		t.Run(test.name+" is not", func(t *testing.T) {
			r := start(t)
			r.commit(jobOf("work", test.spec))
			r.settle()
			r.expectJob("counts stay", "work", "0 1")
			if want := map[bool]string{true: "", false: "work"}[test.name == "suspend"]; r.lives() != want {
				t.Errorf("%q live", r.lives())
			}
		})
	}
	t.Run("a finished one is run again", func(t *testing.T) {
		r := newRunner(t, jobOf("work", "{}"))
		r.settle()
		r.finish(0, "work")
		r.pass(time.Second)
		r.commit(jobOf("work", "{}", image))
		r.settle()
		r.expect("the new one", "work")
		if len(r.host.Pods) != 1 {
			t.Errorf("the old pod stays:\n%s", r)
		}
		r.finish(0, "work")
		r.pass(time.Second)
		r.expectJob("the new one", "work", "1 0 Complete CompletionsReached")
	})
	t.Run("moved to another source", func(t *testing.T) {
		r := start(t)
		o := jobOf("work", failing+"}")
		o.Source, o.Revision = "other", "o7"
		r.commit(o)
		r.desired.Revisions = map[fleet.SourceName]fleet.Revision{"home": "r2", "other": "o7"}
		r.pass(time.Minute)
		r.expectJob("counts stay", "work", "0 1")
		if j := r.job("work"); j.Source != "other" || j.From != "o7" {
			t.Errorf("its template is looked for in %s at %s", j.Source, j.From)
		}
		for _, s := range r.stored.Slots {
			if s.Source == "other" && s.From != "o7" {
				t.Errorf("the template of %s is looked for in %s at %s", s.Pod, s.Source, s.From)
			}
		}
	})
}

// What the store keeps of a Job is what Git says, also where Git says nothing in many words.
func TestJobStoredTerms(t *testing.T) {
	for _, spec := range []string{
		"podFailurePolicy: {rules: []}",
		"podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [], onExitCodes: {operator: In, values: [1]}}]}",
		"{manualSelector: true, selector: {matchLabels: {}}}",
		"{manualSelector: true, selector: {matchExpressions: []}}",
		"{completions: 2, completionMode: Indexed, successPolicy: {rules: [{succeededCount: 1}]}}",
	} {
		t.Run(spec, func(t *testing.T) {
			r := newRunner(t, jobOf("work", spec))
			r.settle()
			first := r.slot("work").UID
			r.pass(time.Minute)
			if r.slot("work").UID != first || len(r.started) != 1 {
				t.Errorf("it is replaced without a change: %v\n%s", r.started, r)
			}
		})
	}
}

func TestJobCleared(t *testing.T) {
	r := newRunner(t, jobOf("work", "ttlSecondsAfterFinished: 60"))
	r.settle()
	r.finish(0, "work")
	r.pass(time.Second)
	if len(r.host.Pods) != 1 {
		t.Fatalf("its pod stays for a minute:\n%s", r)
	}
	r.pass(time.Minute)
	if len(r.host.Pods) != 0 || len(r.stored.Slots) != 0 {
		t.Errorf("its pod is cleared away:\n%s", r)
	}
	r.pass(time.Hour)
	other := jobOf("work", "ttlSecondsAfterFinished: 60")
	other.Revision = "r2"
	r.commit(other, jobOf("else", "{}"))
	r.settle()
	r.expect("it is not run again", "else")
	r.commit()
	r.settle()
	r.expectJob("no longer in Git", "work", "none")
	r.commit(jobOf("work", "ttlSecondsAfterFinished: 60"))
	r.settle()
	r.expect("in Git again it is another one", "work")
}

func TestJobDeleted(t *testing.T) {
	r := newRunner(t, jobOf("work", "{completions: 2, parallelism: 2}"))
	r.settle()
	r.finish(0, "work")
	r.pass(time.Second)
	r.commit()
	r.settle()
	if len(r.host.Pods)+len(r.stored.Slots)+len(r.stored.Jobs) > 0 {
		t.Errorf("something is left:\n%s", r)
	}
}

func TestJobIndexes(t *testing.T) {
	r := newRunner(t, jobOf("work", "{completions: 3, parallelism: 2, completionMode: Indexed}"))
	r.settle()
	r.expect("names have the index", "work-0 work-1")
	s := r.slot("work-1")
	p := PodOf(s, r.templates[s.Want])
	if p.Spec.Hostname != "work-1" || p.Annotations[batchv1.JobCompletionIndexAnnotation] != "1" || p.Labels[batchv1.JobCompletionIndexAnnotation] != "1" ||
		p.Labels["job-name"] != "work" || p.Labels[batchv1.JobNameLabel] != "work" || p.Labels["controller-uid"] != r.job("work").UID || p.Labels[batchv1.ControllerUidLabel] != r.job("work").UID {
		t.Errorf("hostname %s, labels %v, annotations %v", p.Spec.Hostname, p.Labels, p.Annotations)
	}
	if env := p.Spec.Containers[0].Env; len(env) != 1 || env[0].Name != "JOB_COMPLETION_INDEX" {
		t.Errorf("environment %v", env)
	}
	r.finish(0, "work-1")
	r.pass(time.Second)
	r.expect("the next", "work-0 work-2")
}

func TestJobSuspendedByHand(t *testing.T) {
	r := newRunner(t, jobOf("work", "{}"))
	r.settle()
	id := fleet.ObjectID{Kind: fleet.KindJob, Namespace: "shop", Name: "work"}
	r.intents = []fleet.Intent{{Object: id, Source: "home", Verb: fleet.Suspend, Author: "me", At: r.now, Git: "false"}}
	r.pass(time.Second)
	r.expect("suspended", "")
	r.expectJob("suspended", "work", "0 0")
	r.intents = append(r.intents, fleet.Intent{Object: id, Source: "home", Verb: fleet.Unsuspend, Author: "me", At: r.now, Git: "false"})
	r.pass(time.Second)
	r.expect("resumed", "work")
}

// lose forgets all that was decided; reports come at once or, after a decision, later.
func (r *runner) lose(late bool) {
	r.look()
	r.stored, r.deaf = fleet.Assignment{}, late
	if late {
		r.decide()
		r.now = r.now.Add(time.Second)
		r.deaf = false
	}
}

func TestJobLostStore(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late %t", late), func(t *testing.T) {
			r := newRunner(t, jobOf("over", "{backoffLimit: 0}"), jobOf("done", "{}"), jobOf("indexed", "{completions: 4, parallelism: 2, completionMode: Indexed}"),
				jobOf("work", "{completions: 4, parallelism: 2}"))
			r.settle()
			r.finish(1, "over")
			r.finish(0, "done", "work", "indexed-1")
			r.pass(time.Second)
			r.finish(1, "work")
			r.pass(time.Second)
			before := map[string]bool{}
			for _, s := range r.stored.Slots {
				before[s.UID] = true
			}
			uid := r.job("work").UID
			r.lose(late)
			r.settle()
			for _, s := range r.stored.Slots {
				if !before[s.UID] || s.Goal != fleet.Run {
					t.Errorf("%s %s\n%s", s.Pod, s.Goal, r)
				}
				delete(before, s.UID)
			}
			if len(before) > 0 {
				t.Errorf("lost: %v", before)
			}
			r.expectJob("rebuilt", "over", "0 1 Failed BackoffLimitExceeded")
			r.expectJob("rebuilt", "done", "1 0 Complete CompletionsReached")
			r.expectJob("rebuilt", "work", "1 1")
			r.expectJob("rebuilt", "indexed", "1 0")
			r.expect("what ran runs", "indexed-0 indexed-2 work")
			if d := gocmp.Diff([]int32{1}, r.job("indexed").Done); d != "" {
				t.Error(d)
			}
			if r.job("work").UID != uid {
				t.Errorf("its UID was %s and is %s", uid, r.job("work").UID)
			}
		})
	}
	t.Run("changed meanwhile", func(t *testing.T) {
		r := newRunner(t, jobOf("work", "{completions: 2}"))
		r.settle()
		r.finish(0, "work")
		r.pass(time.Second)
		r.lose(false)
		r.commit(jobOf("work", "{completions: 2}", func(s *batchv1.JobSpec) { s.Template.Spec.Containers[0].Image = "work:2" }))
		r.settle()
		r.expectJob("counts begin anew", "work", "0 0")
		r.expect("the new one", "work")
		if len(r.host.Pods) != 1 {
			t.Errorf("old pods stay:\n%s", r)
		}
	})
}

// atNoon is a runner whose CronJob runs each hour, an hour after it was first seen.
func atNoon(t testing.TB, spec, job string) *runner {
	r := newRunner(t, cronOf("tick", spec, job))
	r.now = start.Add(time.Minute)
	r.settle()
	r.pass(59 * time.Minute)
	return r
}

func runName(at time.Time) string { return fmt.Sprintf("tick-%d", at.Unix()/60) }

var (
	oneRun, twoRun, threeRun = runName(start.Add(time.Hour)), runName(start.Add(2 * time.Hour)), runName(start.Add(3 * time.Hour))
	tick                     = fleet.ObjectID{Kind: fleet.KindCronJob, Namespace: "shop", Name: "tick"}
)

func TestCronRuns(t *testing.T) {
	r := atNoon(t, "schedule: '0 * * * *'", "{}")
	r.expect("on time", oneRun)
	r.finish(0, oneRun)
	r.pass(time.Minute)
	r.expectJob("done", oneRun, "1 0 Complete CompletionsReached")
	if got := r.stored.Crons[0].Success; !got.Equal(r.now) {
		t.Errorf("last success %s", got)
	}
	r.pass(59 * time.Minute)
	r.expect("an hour later", twoRun)
	s := r.slot(twoRun)
	if s.Controller != tick || s.Owner.Name != twoRun || s.Owner.Kind != fleet.KindJob {
		t.Errorf("slot %+v", s)
	}
}

// settle decides until nothing changes: a decision alone must be as good.
func TestCronDecisionIsTheLast(t *testing.T) {
	for _, job := range []string{"{}", "ttlSecondsAfterFinished: 0"} {
		r := atNoon(t, "{schedule: '0 * * * *', successfulJobsHistoryLimit: 0}", job)
		r.finish(0, oneRun)
		r.now = r.now.Add(time.Minute)
		r.look()
		r.decide() // checks
	}
}

func TestCronConcurrency(t *testing.T) {
	for _, test := range []struct{ policy, second, third string }{
		{"Allow", oneRun + " " + twoRun, oneRun + " " + twoRun + " " + threeRun}, {"Forbid", oneRun, oneRun}, {"Replace", twoRun, threeRun},
	} {
		t.Run(test.policy, func(t *testing.T) {
			r := atNoon(t, "{schedule: '0 * * * *', concurrencyPolicy: "+test.policy+"}", "{}")
			r.expect("the first", oneRun)
			r.pass(time.Hour)
			r.expect("the second", test.second)
			r.pass(time.Hour)
			r.expect("the third", test.third)
			if test.policy == "Forbid" {
				r.finish(0, oneRun)
				r.pass(30 * time.Minute)
				r.expect("late", threeRun)
			}
			if test.policy == "Replace" {
				r.expectJob("replaced", oneRun, "none")
				if len(r.host.Pods) != 1 {
					t.Errorf("pods:\n%s", r)
				}
			}
		})
	}
}

func TestCronHistory(t *testing.T) {
	for _, test := range []struct {
		limits string
		want   int
	}{
		{"successfulJobsHistoryLimit: 2, failedJobsHistoryLimit: 1", 3}, {"successfulJobsHistoryLimit: 0, failedJobsHistoryLimit: 0", 0},
		{"successfulJobsHistoryLimit: 9, failedJobsHistoryLimit: 9", 6}, {"successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 0", 1},
	} {
		t.Run(test.limits, func(t *testing.T) {
			r := atNoon(t, "{schedule: '0 * * * *', "+test.limits+"}", "backoffLimit: 0")
			for i := range 6 {
				r.finish(int32(i%2), "tick")
				r.pass(time.Minute)
				if i < 5 {
					r.pass(59 * time.Minute)
				}
			}
			if len(r.stored.Jobs) != test.want || len(r.host.Pods) != test.want || len(r.stored.Slots) != test.want {
				t.Errorf("%d Jobs, %d pods, want %d\n%s", len(r.stored.Jobs), len(r.host.Pods), test.want, r)
			}
		})
	}
}

func TestCronTimeToLive(t *testing.T) {
	r := atNoon(t, "schedule: '0 * * * *'", "ttlSecondsAfterFinished: 60")
	r.finish(0, oneRun)
	r.pass(time.Second)
	r.pass(time.Minute)
	r.pass(time.Minute)
	if len(r.stored.Jobs)+len(r.host.Pods)+len(r.stored.Slots) > 0 {
		t.Errorf("left:\n%s", r)
	}
	r.expect("not run again", "")
}

func TestCronChanged(t *testing.T) {
	t.Run("the template is that of later runs", func(t *testing.T) {
		r := atNoon(t, "schedule: '0 * * * *'", "{}")
		r.commit(cronOf("tick", "schedule: '0 * * * *'", "template: {spec: {containers: [{name: main, image: 'work:2'}]}}"))
		r.pass(time.Minute)
		r.expect("the old one runs on", oneRun)
		old := r.slot(oneRun).UID
		r.pass(time.Hour)
		if got := r.running(); !slices.Equal(got, []string{"work:1", "work:2"}) || r.slot(oneRun).UID != old {
			t.Errorf("images %v", got)
		}
		r.finish(1, oneRun)
		r.pass(time.Second)
		r.pass(10 * time.Second)
		if got := r.running(); !slices.Equal(got, []string{"work:1", "work:2"}) {
			t.Errorf("a replacement is of its Job's own template: %v", got)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		r := atNoon(t, "schedule: '0 * * * *'", "{}")
		r.commit()
		r.settle()
		if len(r.host.Pods)+len(r.stored.Jobs)+len(r.stored.Crons)+len(r.stored.Slots) > 0 {
			t.Errorf("left:\n%s", r)
		}
	})
	t.Run("suspended", func(t *testing.T) {
		r := atNoon(t, "schedule: '0 * * * *'", "{completions: 2}")
		r.commit(cronOf("tick", "{schedule: '0 * * * *', suspend: true}", "{completions: 2}"))
		r.finish(0, oneRun)
		r.pass(3 * time.Hour)
		r.expect("what runs goes on, nothing begins", oneRun)
		r.commit(cronOf("tick", "schedule: '0 * * * *'", "{completions: 2}"))
		r.pass(time.Minute)
		r.expect("the newest missed begins", oneRun+" "+runName(start.Add(4*time.Hour)))
	})
	t.Run("cannot be read for a while", func(t *testing.T) {
		r := atNoon(t, "schedule: '0 * * * *'", "{}")
		good := r.desired
		r.desired.Objects, r.desired.Held = nil, map[fleet.ObjectID]string{tick: "broken"}
		r.pass(90 * time.Minute)
		r.expect("what runs goes on", oneRun)
		r.desired = good
		r.pass(time.Minute)
		r.expect("late", oneRun+" "+twoRun)
	})
	t.Run("runs of a Job that Git has by the same name", func(t *testing.T) {
		r := newRunner(t, cronOf("tick", "schedule: '0 * * * *'", "{}"), jobOf(oneRun, "{}"))
		r.settle()
		r.expect("Git's", oneRun)
		r.pass(time.Hour)
		r.expect("Git's alone", oneRun)
	})
}

func TestCronTriggered(t *testing.T) {
	r := newRunner(t, cronOf("tick", "{schedule: '0 * * * *', suspend: true}", "{}"))
	r.settle()
	intent := fleet.Intent{Object: tick, Source: "home", Verb: fleet.Trigger, Author: "me", At: r.now}
	r.intents = []fleet.Intent{intent}
	r.now = r.now.Add(time.Second)
	r.look()
	r.consider() // and the decision is lost
	r.settle()
	if len(r.stored.Jobs) != 1 || !r.stored.Jobs[0].Manual || len(r.intents) > 0 {
		t.Fatalf("Jobs %v, intents %v", r.stored.Jobs, r.intents)
	}
	name := r.stored.Jobs[0].ID.Name
	r.expect("once", name)
	r.intents = []fleet.Intent{intent} // it could not be withdrawn
	r.pass(time.Second)
	r.expect("still once", name)
	later := intent
	later.At = r.now
	r.intents = []fleet.Intent{later}
	r.pass(time.Second)
	if len(r.stored.Jobs) != 2 {
		t.Errorf("a second time:\n%s", r)
	}
}

func TestCronOutage(t *testing.T) {
	r := newRunner(t, cronOf("tick", "schedule: '0 * * * *'", "{}"))
	r.settle()
	r.pass(1000*time.Hour + 30*time.Minute)
	r.expect("one late run", runName(start.Add(1000*time.Hour)))
	if len(r.started) != 1 {
		t.Errorf("runs %v", r.started)
	}
	r.pass(29 * time.Minute)
	if len(r.started) != 1 {
		t.Errorf("runs %v", r.started)
	}
}

func TestCronLostStore(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, policy := range []string{"Allow", "Forbid", "Replace"} {
			t.Run(fmt.Sprintf("%s, late %t", policy, late), func(t *testing.T) {
				r := atNoon(t, "{schedule: '0 * * * *', concurrencyPolicy: "+policy+"}", "{completions: 2}")
				r.finish(0, oneRun)
				r.pass(10 * time.Second)
				before := len(r.started)
				r.lose(late)
				r.settle()
				r.expect("what ran runs", oneRun)
				if len(r.started) != before {
					t.Errorf("pods were made:\n%s", r)
				}
				r.expectJob("rebuilt", oneRun, "1 0")
				if len(r.stored.Crons) != 1 || !r.stored.Crons[0].Last.Equal(start.Add(time.Hour)) {
					t.Errorf("remembers %+v", r.stored.Crons)
				}
				r.pass(time.Minute)
				r.expect("the minute is not run again", oneRun)
				r.finish(0, oneRun)
				r.pass(time.Minute)
				r.expectJob("goes on", oneRun, "2 0 Complete CompletionsReached")
				r.pass(58 * time.Minute)
				r.expect("the next", twoRun)
			})
		}
	}
	t.Run("a run that is over", func(t *testing.T) {
		r := atNoon(t, "{schedule: '0 * * * *', successfulJobsHistoryLimit: 0}", "ttlSecondsAfterFinished: 100")
		r.finish(0, oneRun)
		r.look()
		r.stored = fleet.Assignment{}
		r.settle()
		r.expect("not again", "")
		r.pass(time.Minute)
		r.expect("not again", "")
		if len(r.host.Pods) > 0 {
			t.Errorf("history keeps none:\n%s", r)
		}
	})
	t.Run("a run triggered by hand", func(t *testing.T) {
		r := newRunner(t, cronOf("tick", "{schedule: '0 * * * *', concurrencyPolicy: Forbid}", "{}"))
		r.settle()
		r.intents = []fleet.Intent{{Object: tick, Source: "home", Verb: fleet.Trigger, Author: "me", At: r.now}}
		r.pass(time.Second)
		name := r.stored.Jobs[0].ID.Name
		r.lose(false)
		r.settle()
		r.expect("runs on", name)
		if len(r.stored.Jobs) != 1 || !r.stored.Jobs[0].Manual {
			t.Errorf("Jobs %+v", r.stored.Jobs)
		}
		r.finish(0, name)
		r.pass(time.Minute)
		r.expectJob("done", name, "1 0 Complete CompletionsReached")
	})
}

// drawJob is any Job, by its words.
func drawJob(t *rapid.T) string {
	fields := []string{fmt.Sprintf("parallelism: %d", rapid.IntRange(1, 4).Draw(t, "parallelism")), fmt.Sprintf("backoffLimit: %d", rapid.IntRange(0, 4).Draw(t, "backoffLimit"))}
	pick := func(text string) {
		if rapid.Bool().Draw(t, text) {
			fields = append(fields, text)
		}
	}
	switch rapid.IntRange(0, 2).Draw(t, "mode") {
	case 0:
		fields = append(fields, fmt.Sprintf("completions: %d", rapid.IntRange(0, 6).Draw(t, "completions")))
	case 1:
		fields = append(fields, "completionMode: Indexed", fmt.Sprintf("completions: %d", rapid.IntRange(3, 6).Draw(t, "completions")))
		pick("backoffLimitPerIndex: 1")
		if slices.Contains(fields, "backoffLimitPerIndex: 1") {
			pick("maxFailedIndexes: 1")
		}
		pick("successPolicy: {rules: [{succeededIndexes: '0-2', succeededCount: 2}]}")
	}
	pick("podReplacementPolicy: Failed")
	pick("activeDeadlineSeconds: 300")
	pick("ttlSecondsAfterFinished: 60")
	if slices.Contains(fields, "podReplacementPolicy: Failed") {
		pick("podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [3]}}, {action: FailJob, onExitCodes: {operator: In, values: [4]}}]}")
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

// TestJobHistories runs Jobs through ends of all kinds, pods removed by hand, late and missing reports, leaders that crash,
// and changed terms.
func TestJobHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := drawJob(rt)
		work := readJobSpec(spec)
		r := newRunner(t)
		r.fatal = rt.Fatalf
		commit := func() {
			r.commit(jobOf("work", spec, func(s *batchv1.JobSpec) { s.Suspend, s.Parallelism = work.Suspend, work.Parallelism }))
		}
		commit()
		most := *work.Parallelism
		check := func(before fleet.Assignment) {
			had, over := map[string]bool{}, false
			for _, s := range before.Slots {
				had[s.UID] = true
			}
			for _, j := range before.Jobs {
				over = over || j.Outcome != ""
			}
			ends := map[string]bool{}
			for _, n := range r.said {
				for i := range n.Pods {
					ends[n.Pods[i].UID] = n.Pods[i].Terminal()
				}
			}
			active, made := int32(0), 0
			for _, s := range r.stored.Slots {
				if s.Goal == fleet.Run && !s.Counted && !ends[s.UID] {
					active++
				}
				if !had[s.UID] {
					made++
				}
			}
			if active > most {
				rt.Fatalf("%d of %d are active:\n%s", active, most, r)
			}
			if made > 0 && (over || *work.Suspend) {
				rt.Fatalf("%d pods made (suspended %t)\n%s", made, *work.Suspend, r)
			}
			for _, j := range r.stored.Jobs {
				if j.Outcome != "" && made > 0 {
					rt.Fatalf("pods made when it is over: %s\n%s", j.Reason, r)
				}
				if work.PodFailurePolicy == nil && *work.CompletionMode == batchv1.NonIndexedCompletion && int(j.Succeeded+j.Failed) != len(r.counted) {
					rt.Fatalf("%d succeeded, %d failed, %d ended\n%s", j.Succeeded, j.Failed, len(r.counted), r)
				}
				if *work.CompletionMode == batchv1.IndexedCompletion {
					if int(j.Succeeded) != len(j.Done) || !slices.IsSorted(j.Done) || len(slices.Compact(slices.Clone(j.Done))) != len(j.Done) {
						rt.Fatalf("%d succeeded, done %v", j.Succeeded, j.Done)
					}
				}
				if *work.Parallelism == 1 && most == 1 && work.BackoffLimitPerIndex == nil && j.Failed > *work.BackoffLimit+1 {
					rt.Fatalf("%d failed of at most %d", j.Failed, *work.BackoffLimit+1)
				}
			}
		}
		for range rapid.IntRange(1, 40).Draw(rt, "events") {
			r.now = r.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
			switch rapid.IntRange(0, 9).Draw(rt, "event") {
			case 0, 1, 2, 3: // a container ends
				if n := len(r.host.Pods); n > 0 {
					r.end(r.host.Pods[rapid.IntRange(0, n-1).Draw(rt, "who")].UID, "main", rapid.SampledFrom([]int32{0, 0, 1, 3, 4}).Draw(rt, "code"))
				}
			case 4: // somebody removes a pod
				if n := len(r.host.Pods); n > 0 {
					r.forgetPod(r.host.Pods[rapid.IntRange(0, n-1).Draw(rt, "who")].UID)
				}
			case 5:
				suspended := !*work.Suspend
				work.Suspend = &suspended
				commit()
			case 6:
				n := rapid.Int32Range(0, 4).Draw(rt, "parallelism")
				work.Parallelism = &n
				most = max(most, n)
				commit()
			case 7:
				r.deaf = !r.deaf
			}
			if rapid.IntRange(0, 3).Draw(rt, "late") > 0 {
				r.look()
			}
			before := r.stored
			if d := r.consider(); rapid.IntRange(0, 4).Draw(rt, "lost") > 0 {
				r.accept(d)
				check(before)
			}
			for _, chain := range r.plan().Chains {
				for _, s := range chain.Steps[:rapid.IntRange(0, len(chain.Steps)).Draw(rt, "cut")] {
					r.take(s)
				}
			}
		}
		// From now on all is well.
		r.deaf = false
		if *work.Suspend || *work.Parallelism == 0 {
			n := int32(1)
			work.Suspend, work.Parallelism = new(bool), &n
			commit()
		}
		for range 100 {
			before := r.stored
			r.look()
			r.decide()
			check(before)
			r.act()
			for _, o := range r.host.Pods {
				r.end(o.UID, "main", 0)
			}
			if j := r.job("work"); !j.Finished.IsZero() {
				return
			}
			r.now = r.now.Add(30 * time.Second)
		}
		rt.Fatalf("does not end: %+v\n%s", r.job("work"), r)
	})
}

// A lost store is rebuilt from what pods there are: the counts, the indexes and how it ended.
func TestJobRebuilt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := strings.NewReplacer(", ttlSecondsAfterFinished: 60", "", ", activeDeadlineSeconds: 300", "").Replace(drawJob(rt))
		r := newRunner(t, jobOf("work", spec))
		r.fatal = rt.Fatalf
		r.settle()
		for range rapid.IntRange(0, 12).Draw(rt, "ends") {
			if n := len(r.host.Pods); n > 0 {
				r.end(r.host.Pods[rapid.IntRange(0, n-1).Draw(rt, "who")].UID, "main", rapid.SampledFrom([]int32{0, 0, 1, 3}).Draw(rt, "code"))
			}
			r.pass(time.Duration(rapid.IntRange(1, 60).Draw(rt, "seconds")) * time.Second)
		}
		r.pass(time.Hour) // no replacement waits any more
		is := func() string {
			j := r.job("work")
			return fmt.Sprintf("%d succeeded, %d failed, done %v, lost %v, %s %s, runs %s", j.Succeeded, j.Failed, j.Done, j.Lost, j.Outcome, j.Reason, r.lives())
		}
		before, pods := is(), encode(r.uids())
		r.lose(rapid.Bool().Draw(rt, "late"))
		r.settle()
		if after := is(); after != before {
			rt.Fatalf("%s\nit was %s\nand is %s\n%s", spec, before, after, r)
		}
		if after := encode(r.uids()); after != pods {
			rt.Fatalf("%s\npods were %s\nand are %s", spec, pods, after)
		}
	})
}

// TestCronHistories runs CronJobs through clocks that jump, leaders that stop and decisions that are lost.
func TestCronHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := rapid.SampledFrom([]string{"Allow", "Forbid", "Replace"}).Draw(rt, "policy")
		schedule := rapid.SampledFrom([]string{"*/5 * * * *", "0 * * * *", "*/7 10-14 * * *"}).Draw(rt, "schedule")
		limit := rapid.IntRange(0, 2).Draw(rt, "limit")
		job := rapid.SampledFrom([]string{"{}", "{completions: 2, parallelism: 2}", "{ttlSecondsAfterFinished: 30}", "{backoffLimit: 0}"}).Draw(rt, "job")
		r := newRunner(t, cronOf("tick", fmt.Sprintf("{schedule: '%s', concurrencyPolicy: %s, successfulJobsHistoryLimit: %d, failedJobsHistoryLimit: %d}", schedule, policy, limit, limit), job))
		r.fatal = rt.Fatalf
		ran := map[time.Time]string{} // UIDs of the first pods
		check := func(before fleet.Assignment) {
			had := map[fleet.ObjectID]bool{}
			for _, j := range before.Jobs {
				had[j.ID] = true
			}
			active := 0
			for _, j := range r.stored.Jobs {
				if j.Finished.IsZero() {
					active++
				}
				if had[j.ID] {
					continue
				}
				if ran[j.Due] != "" {
					rt.Fatalf("%s is run twice", j.Due)
				}
				if j.Due.After(r.now) {
					rt.Fatalf("%s is run at %s", j.Due, r.now)
				}
				ran[j.Due] = "once"
			}
			if active > 1 && policy != "Allow" {
				rt.Fatalf("%d run with %s", active, policy)
			}
			known := map[fleet.ObjectID]bool{}
			for _, j := range r.stored.Jobs {
				known[j.ID] = true
			}
			for _, s := range r.stored.Slots {
				if s.Goal == fleet.Run && !known[s.Owner] {
					rt.Fatalf("%s of a Job that is no more should run\n%s", s.Pod, r)
				}
			}
		}
		for range rapid.IntRange(1, 30).Draw(rt, "events") {
			switch rapid.IntRange(0, 8).Draw(rt, "event") {
			case 0:
				r.now = r.now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "hours")) * time.Hour)
			case 1:
				r.now = r.now.Add(-time.Duration(rapid.IntRange(0, 7200).Draw(rt, "back")) * time.Second)
			case 2, 3, 4:
				r.now = r.now.Add(time.Duration(rapid.IntRange(0, 900).Draw(rt, "seconds")) * time.Second)
			default:
				if n := len(r.host.Pods); n > 0 {
					r.end(r.host.Pods[rapid.IntRange(0, n-1).Draw(rt, "who")].UID, "main", rapid.SampledFrom([]int32{0, 0, 1}).Draw(rt, "code"))
				}
			}
			if rapid.IntRange(0, 3).Draw(rt, "late") > 0 {
				r.look()
			}
			before := r.stored
			if d := r.consider(); rapid.IntRange(0, 4).Draw(rt, "lost") > 0 {
				r.accept(d)
				check(before)
			}
			for _, chain := range r.plan().Chains {
				for _, s := range chain.Steps[:rapid.IntRange(0, len(chain.Steps)).Draw(rt, "cut")] {
					r.take(s)
				}
			}
		}
		// When all runs end and the clock stands still, only what history keeps is left.
		for range 30 {
			before := r.stored
			r.look()
			r.decide()
			check(before)
			r.act()
			for _, o := range r.host.Pods {
				r.end(o.UID, "main", 0)
			}
			r.now = r.now.Add(time.Second)
		}
		finished := 0
		for _, j := range r.stored.Jobs {
			if !j.Finished.IsZero() {
				finished++
			}
		}
		if finished > 2*limit {
			rt.Fatalf("%d finished Jobs are kept of %d\n%s", finished, limit, r)
		}
	})
}

// What diff foretells of Jobs: one runs to its end, runs of CronJobs that are under way do so too, and no clock strikes.
func TestForeseeJobs(t *testing.T) {
	desired := desiredOf(jobOf("work", "{completions: 2, ttlSecondsAfterFinished: 5, activeDeadlineSeconds: 5}"), cronOf("tick", "{schedule: '* * * * *', timeZone: Europe/Berlin}", "{}"),
		jobOf("later", "suspend: true"))
	templates := map[fleet.Hash]*corev1.PodTemplateSpec{}
	for _, o := range desired.Objects {
		templates[o.Hash] = o.Template
	}
	f := Foresee(ForesightInput{Desired: desired, Nodes: []fleet.Node{alpha}, Templates: templates, Now: start})
	if !f.Settled || len(f.Notes) > 0 {
		t.Errorf("settled %t, notes %v", f.Settled, f.Notes)
	}
	for _, j := range f.Next.Jobs {
		if want := map[string]string{"work": "Complete"}[j.ID.Name]; string(j.Outcome) != want || j.Cleared {
			t.Errorf("%s is %q, cleared %t", j.ID.Name, j.Outcome, j.Cleared)
		}
	}
	if len(f.Next.Slots) != 2 || len(f.Next.Jobs) != 2 {
		t.Errorf("slots %v, Jobs %v", f.Next.Slots, f.Next.Jobs)
	}
}

// A Job that fails says so to those that depend on it, and is no reason to look again and again.
func TestJobAtRest(t *testing.T) {
	r := newRunner(t, jobOf("bad", "backoffLimit: 0"), jobOf("good", "{}"), jobOf("paused", "parallelism: 0"), cronOf("tick", "{schedule: '0 * * * *', suspend: true}", "{}"))
	r.settle()
	r.finish(1, "bad")
	r.finish(0, "good")
	r.pass(time.Second)
	r.look()
	if d := r.decide(); d.Changed || !d.WakeAt.IsZero() || len(d.Notes) > 0 {
		t.Errorf("changed %t, wakes at %s, notes %v", d.Changed, d.WakeAt, d.Notes)
	}
	if plan := r.plan(); len(plan.Chains) > 0 {
		t.Errorf("steps %v", plan.Chains)
	}
}

// Two CronJobs, one called as the beginning of the other, do not take each other's runs when the store is lost.
func TestCronNamesThatBegin(t *testing.T) {
	r := newRunner(t, cronOf("tick", "schedule: '0 * * * *'", "{}"), cronOf("tick-1", "schedule: '0 * * * *'", "{}"))
	r.settle()
	r.pass(time.Hour)
	before := r.lives()
	r.lose(false)
	r.settle()
	r.expect("the same", before)
	for _, c := range r.stored.Crons {
		if !c.Last.Equal(start.Add(time.Hour)) {
			t.Errorf("%s remembers %s", c.ID, c.Last)
		}
	}
	for _, j := range r.stored.Jobs {
		if want := j.ID.Name[:strings.LastIndex(j.ID.Name, "-")]; j.Owner.Name != want {
			t.Errorf("%s is of %s", j.ID, j.Owner)
		}
	}
}

// OnFailure: the node restarts containers in place, and the Job fails when that was done too often.
func TestJobOnFailure(t *testing.T) {
	r := newRunner(t, jobOf("work", "{backoffLimit: 2, template: {spec: {restartPolicy: OnFailure}}}"))
	r.settle()
	uid := r.slot("work").UID
	for range 3 {
		r.finish(1, "work")
		for range 8 {
			r.pass(30 * time.Second)
		}
		if r.job("work").Outcome != "" {
			break
		}
	}
	r.expectJob("too many restarts", "work", "0 0 Failed BackoffLimitExceeded")
	if r.started[uid] != 3 || len(r.started) != 1 {
		t.Errorf("runs %v", r.started)
	}
	r.expect("over", "")
}

// A node that has never reported may have anything. What is known to run is not given up for a run that cannot begin yet.
func TestCronNodeThatHasNotReported(t *testing.T) {
	for _, policy := range []string{"Allow", "Forbid", "Replace"} {
		t.Run(policy, func(t *testing.T) {
			r := atNoon(t, "{schedule: '0 * * * *', concurrencyPolicy: "+policy+"}", "{}")
			r.absent = []fleet.Node{{Name: "beta", Address: "10.0.0.12"}}
			r.pass(time.Hour)
			if got := r.lives(); !strings.Contains(got, oneRun) && !strings.Contains(got, twoRun) {
				t.Errorf("nothing runs any more:\n%s", r)
			}
			r.absent = nil
			r.pass(time.Minute)
			r.expect("when it is out of the way", map[string]string{"Allow": oneRun + " " + twoRun, "Forbid": oneRun, "Replace": twoRun}[policy])
		})
	}
	t.Run("the last success is remembered", func(t *testing.T) {
		r := atNoon(t, "{schedule: '0 * * * *', successfulJobsHistoryLimit: 0}", "{}")
		r.absent = []fleet.Node{{Name: "beta", Address: "10.0.0.12"}}
		r.now = r.now.Add(time.Hour)
		r.finish(0, oneRun)
		r.settle()
		if got := r.stored.Crons[0].Success; got.IsZero() {
			t.Errorf("it is forgotten:\n%s", r)
		}
	})
}
