package workload_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// jobWorld is a Job, its pods, and what is known of them.
type jobWorld struct {
	t       testing.TB
	work    workload.Work // as it was decided last
	ledger  fleet.Job
	members []workload.Member
	born    int
	deaf    bool // no node has reported: nothing is known of any pod
	hold    string
	now     time.Time
}

func jobSpec(t testing.TB, text string) batchv1.JobSpec {
	t.Helper()
	var s batchv1.JobSpec
	if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil {
		t.Fatalf("%s: %s", text, err)
	}
	return defaulted(s)
}

// defaulted has the defaults that a source gives (semantics 1).
func defaulted(s batchv1.JobSpec) batchv1.JobSpec {
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = to(int32(1))
	}
	if s.BackoffLimitPerIndex != nil {
		s.BackoffLimit = cmp.Or(s.BackoffLimit, to(int32(math.MaxInt32)))
	}
	replace := batchv1.TerminatingOrFailed
	if s.PodFailurePolicy != nil {
		replace = batchv1.Failed
	}
	s.Parallelism, s.BackoffLimit, s.Suspend = cmp.Or(s.Parallelism, to(int32(1))), cmp.Or(s.BackoffLimit, to(int32(6))), cmp.Or(s.Suspend, to(false))
	s.CompletionMode, s.PodReplacementPolicy = cmp.Or(s.CompletionMode, to(batchv1.NonIndexedCompletion)), cmp.Or(s.PodReplacementPolicy, &replace)
	s.Template.Spec.RestartPolicy = cmp.Or(s.Template.Spec.RestartPolicy, corev1.RestartPolicyNever)
	return s
}

func to[T any](v T) *T { return &v }

func newJobWorld(t testing.TB, spec string) *jobWorld {
	return &jobWorld{t: t, now: now, ledger: fleet.Job{
		ID: fleet.ObjectID{Kind: fleet.KindJob, Namespace: "shop", Name: "work"}, UID: "job", Created: now, Spec: jobSpec(t, spec),
	}}
}

// known are the pods as they are known.
func (w *jobWorld) known() []workload.Member {
	list := slices.Clone(w.members)
	if w.deaf {
		for i := range list {
			list[i].Report = nil
		}
	}
	return list
}

// decide decides and commits: what the store gives back is what was written.
func (w *jobWorld) decide() {
	w.t.Helper()
	before, _ := json.Marshal(w.ledger)
	w.work = workload.Run(workload.Work{Ledger: w.ledger, Members: w.known(), Hold: w.hold, Now: w.now})
	if after, _ := json.Marshal(w.ledger); string(after) != string(before) {
		w.t.Errorf("the ledger that came in was changed:\n%s\n%s", before, after)
	}
	w.commit(w.work)
	again := workload.Run(workload.Work{Ledger: w.ledger, Members: w.known(), Hold: w.hold, Now: w.now})
	if len(again.Place)+len(again.Drain)+len(again.Count) > 0 && !again.Ledger.Cleared || !gocmp.Equal(w.ledger, again.Ledger) {
		w.t.Errorf("deciding again: places %d, drains %v, counts %v\n%s", len(again.Place), again.Drain, again.Count, gocmp.Diff(w.ledger, again.Ledger))
	}
}

func (w *jobWorld) commit(out workload.Work) {
	raw, err := json.Marshal(out.Ledger)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledger = fleet.Job{}
	if err := json.Unmarshal(raw, &w.ledger); err != nil {
		w.t.Fatal(err)
	}
	w.members = slices.Clone(w.members)
	for i := range w.members {
		m := &w.members[i]
		if slices.Contains(out.Drain, m.Slot.UID) {
			m.Slot.Goal = fleet.Drain
		}
		if slices.Contains(out.Count, m.Slot.UID) {
			m.Slot.Counted = true
		}
	}
	for _, index := range out.Place {
		w.born++
		uid := fmt.Sprintf("p%d", w.born)
		w.members = append(w.members, workload.Member{Slot: fleet.Slot{
			Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "shop", Name: uid}, UID: uid, Created: w.now, Index: index}, Goal: fleet.Run, Node: "alpha",
		}})
	}
}

func (w *jobWorld) member(uid string) *workload.Member {
	w.t.Helper()
	i := slices.IndexFunc(w.members, func(m workload.Member) bool { return m.Slot.UID == uid })
	if i < 0 {
		w.t.Fatalf("no pod %s: %s", uid, w)
	}
	return &w.members[i]
}

// report says how a pod is.
func (w *jobWorld) report(uid string, status corev1.PodStatus) {
	w.t.Helper()
	m := w.member(uid)
	m.Report = &fleet.PodReport{Identity: m.Slot.Identity, Status: status}
}

func exited(name string, code int32, at time.Time) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.Time{Time: at}}}}
}

func ending(code int32, at time.Time) corev1.PodStatus {
	s := corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{exited("main", code, at)}}
	if code == 0 {
		s.Phase = corev1.PodSucceeded
	}
	return s
}

// do takes one line of a script. Each line ends in a decision, but for those that end in a comma.
//
//	ok p1 p2        pods succeed            fail p1=3 p2     pods fail, with an exit code
//	restarts p1=3   containers of a pod were restarted so often
//	gone p1         a pod that drains is no more
//	+10s            time goes by            set {yaml}       the terms change
//	deaf, hear      no node has reported    hold, free       it may not begin
//	decide          nothing
func (w *jobWorld) do(line string) {
	w.t.Helper()
	line, more := strings.CutSuffix(strings.TrimSpace(line), ",")
	verb, rest, _ := strings.Cut(line, " ")
	pods := strings.Fields(rest)
	each := func(f func(uid string, n int32)) {
		for _, p := range pods {
			uid, text, given := strings.Cut(p, "=")
			n := 1
			if given {
				var err error
				if n, err = strconv.Atoi(text); err != nil {
					w.t.Fatal(err)
				}
			}
			f(uid, int32(n))
		}
	}
	switch verb {
	case "ok":
		each(func(uid string, _ int32) { w.report(uid, ending(0, w.now)) })
	case "fail":
		each(func(uid string, code int32) { w.report(uid, ending(code, w.now)) })
	case "restarts":
		each(func(uid string, n int32) {
			w.report(uid, corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", RestartCount: n}}})
		})
	case "gone":
		each(func(uid string, _ int32) {
			if w.member(uid).Slot.Goal == fleet.Run {
				w.t.Fatalf("%s does not drain: %s", uid, w)
			}
			w.members = slices.DeleteFunc(slices.Clone(w.members), func(m workload.Member) bool { return m.Slot.UID == uid })
		})
	case "set":
		if err := yaml.Unmarshal([]byte(rest), &w.ledger.Spec); err != nil {
			w.t.Fatal(err)
		}
	case "deaf", "hear":
		w.deaf = verb == "deaf"
	case "hold", "free":
		w.hold = map[string]string{"hold": "waits for something"}[verb]
	case "decide":
	default:
		d, err := time.ParseDuration(strings.TrimPrefix(verb, "+"))
		if err != nil {
			w.t.Fatalf("%s: %s", line, err)
		}
		w.now = w.now.Add(d)
	}
	if !more {
		w.decide()
	}
}

// String is what there is: pods that run, that are being removed, that are kept; then the ledger.
func (w *jobWorld) String() string {
	var run, drain, kept []string
	for _, m := range w.members {
		name := m.Slot.UID
		if m.Slot.Index != nil {
			name += fmt.Sprintf("[%d]", *m.Slot.Index)
		}
		switch over := m.Report != nil && m.Report.Terminal(); {
		case m.Slot.Goal == fleet.Drain:
			drain = append(drain, name)
		case over:
			kept = append(kept, name)
		default:
			run = append(run, name)
		}
	}
	var b strings.Builder
	part := func(name, value string) {
		if value != "" {
			b.WriteString("; " + strings.TrimSpace(name+" "+value))
		}
	}
	l := &w.ledger
	part("run", strings.Join(run, " "))
	part("drain", strings.Join(drain, " "))
	part("kept", strings.Join(kept, " "))
	part("ok", some(l.Succeeded))
	part("failed", some(l.Failed))
	part("done", workload.FormatIndexes(l.Done))
	part("lost", workload.FormatIndexes(l.Lost))
	part("", strings.TrimSpace(string(l.Outcome)+" "+l.Reason))
	if !l.Finished.IsZero() {
		part("", "finished")
	}
	if l.Cleared {
		part("", "cleared")
	}
	if !w.work.WakeAt.IsZero() {
		part("wakes", w.work.WakeAt.Sub(w.now).String())
	}
	return strings.TrimPrefix(b.String(), "; ")
}

// some is a number, and empty for none.
func some(n int32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// script runs lines of the form "what happens => what there is then"; without an arrow nothing is compared.
func (w *jobWorld) script(text string) {
	w.t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		what, want, compare := strings.Cut(line, "=>")
		w.do(what)
		if want = strings.TrimSpace(want); compare && w.String() != want {
			w.t.Errorf("%s\n got %s\nwant %s", strings.TrimSpace(what), w, want)
		}
	}
}

const onFailure = "template: {spec: {restartPolicy: OnFailure}}"

func TestJob(t *testing.T) {
	for _, test := range []struct{ name, spec, script string }{
		{"one pod is the default", "", `
			decide => run p1
			ok p1 => kept p1; ok 1; Complete CompletionsReached; finished
			+1h => kept p1; ok 1; Complete CompletionsReached; finished`},

		// Wanted active.
		{"as many as are still to be completed", "{completions: 5, parallelism: 2}", `
			decide => run p1 p2
			ok p1 => run p2 p3; kept p1; ok 1
			ok p2 p3 => run p4 p5; kept p1 p2 p3; ok 3
			ok p4 => run p5; kept p1 p2 p3 p4; ok 4
			ok p5 => kept p1 p2 p3 p4 p5; ok 5; Complete CompletionsReached; finished`},
		{"never more than completions", "{completions: 2, parallelism: 10}", `
			decide => run p1 p2`},
		{"completions alone: one after the other", "{completions: 2}", `
			decide => run p1
			ok p1 => run p2; kept p1; ok 1`},
		{"no completions wanted at all", "{completions: 0}", `
			decide => Complete CompletionsReached; finished`},
		{"parallelism is made smaller", "{completions: 5, parallelism: 3}", `
			decide,
			decide => run p1 p2 p3
			set {parallelism: 1} => run p3; drain p1 p2
			gone p1 p2 => run p3
			ok p3 => run p4; kept p3; ok 1`},
		{"parallelism is made larger", "{completions: 5, parallelism: 1}", `
			decide => run p1
			set {parallelism: 3} => run p1 p2 p3`},
		{"parallelism 0 is a pause", "{completions: 2, parallelism: 1}", `
			decide => run p1
			set {parallelism: 0} => drain p1
			gone p1 =>
			+1h =>
			set {parallelism: 2} => run p2 p3
			ok p2 p3 => kept p2 p3; ok 2; Complete CompletionsReached; finished`},
		{"parallelism 0 from the start", "{completions: 2, parallelism: 0}", `
			decide =>
			set {parallelism: 1} => run p1`},

		// Work queues.
		{"work queue: one success and nobody runs any more", "parallelism: 3", `
			decide => run p1 p2 p3
			ok p1 => run p2 p3; kept p1; ok 1
			ok p2 => run p3; kept p1 p2; ok 2
			ok p3 => kept p1 p2 p3; ok 3; Complete CompletionsReached; finished`},
		{"work queue: who fails after a success is not replaced", "parallelism: 3", `
			decide,
			decide
			ok p1 => run p2 p3; kept p1; ok 1
			fail p2 => run p3; kept p1 p2; ok 1; failed 1
			+1h => run p3; kept p1 p2; ok 1; failed 1
			ok p3 => kept p1 p2 p3; ok 2; failed 1; Complete CompletionsReached; finished`},
		{"work queue: who fails before any success is replaced", "parallelism: 2", `
			decide => run p1 p2
			fail p1 => run p2; kept p1; failed 1; wakes 10s
			+10s => run p2 p3; kept p1; failed 1`},
		{"work queue: more parallelism after a success makes no pods", "parallelism: 2", `
			decide
			ok p1 => run p2; kept p1; ok 1
			set {parallelism: 5} => run p2; kept p1; ok 1`},
		{"work queue: paused after a success", "parallelism: 2", `
			decide
			ok p1 => run p2; kept p1; ok 1
			set {parallelism: 0}
			gone p2 => kept p1; ok 1; Complete CompletionsReached; finished`},
		{"work queue: suspended after a success", "parallelism: 2", `
			decide
			ok p1
			set {suspend: true}
			gone p2`},
		{"work queue: too many failures beat a success", "{parallelism: 2, backoffLimit: 0}", `
			decide
			ok p1,
			fail p2 => kept p1 p2; ok 1; failed 1; Failed BackoffLimitExceeded; finished`},
		{"work queue: too many failures beat a success that came before", "{parallelism: 2, backoffLimit: 0}", `
			decide
			ok p1
			fail p2 => kept p1 p2; ok 1; failed 1; Failed BackoffLimitExceeded; finished`},

		// Never.
		{"Never: backoffLimit + 1 pods in all", "backoffLimit: 2", `
			decide => run p1
			fail p1 => kept p1; failed 1; wakes 10s
			+10s => run p2; kept p1; failed 1
			fail p2 => kept p1 p2; failed 2; wakes 20s
			+20s => run p3; kept p1 p2; failed 2
			fail p3 => kept p1 p2 p3; failed 3; Failed BackoffLimitExceeded; finished
			+1h => kept p1 p2 p3; failed 3; Failed BackoffLimitExceeded; finished`},
		{"Never: backoffLimit 0 is one pod", "backoffLimit: 0", `
			decide
			fail p1 => kept p1; failed 1; Failed BackoffLimitExceeded; finished`},
		{"Never: failed pods stay, active ones go", "{completions: 4, parallelism: 3, backoffLimit: 0}", `
			decide => run p1 p2 p3
			ok p1 => run p2 p3 p4; kept p1; ok 1
			fail p2 => drain p3 p4; kept p1 p2; ok 1; failed 1; Failed BackoffLimitExceeded
			gone p3 => drain p4; kept p1 p2; ok 1; failed 1; Failed BackoffLimitExceeded
			gone p4 => kept p1 p2; ok 1; failed 1; Failed BackoffLimitExceeded; finished`},
		{"Never: restarts do not count", "backoffLimit: 1", `
			decide
			restarts p1=5 => run p1`},
		{"Never: several fail at once", "{completions: 3, parallelism: 3, backoffLimit: 1}", `
			decide
			fail p1 p2 p3 => kept p1 p2 p3; failed 3; Failed BackoffLimitExceeded; finished`},
		{"backoffLimit is made larger", "backoffLimit: 0", `
			decide
			set {backoffLimit: 1},
			fail p1 => kept p1; failed 1; wakes 10s`},
		{"backoffLimit is made larger when it is over", "backoffLimit: 0", `
			decide
			fail p1
			set {backoffLimit: 5} => kept p1; failed 1; Failed BackoffLimitExceeded; finished`},

		// OnFailure.
		{"OnFailure: restarts reach the limit", "{backoffLimit: 3, " + onFailure + "}", `
			decide
			restarts p1=2 => run p1
			restarts p1=3 => drain p1; Failed BackoffLimitExceeded
			gone p1 => Failed BackoffLimitExceeded; finished`},
		{"OnFailure: restarts of all pods together", "{backoffLimit: 3, completions: 2, parallelism: 2, " + onFailure + "}", `
			decide
			restarts p1=1 p2=1 => run p1 p2
			restarts p2=2 => drain p1 p2; Failed BackoffLimitExceeded`},
		{"OnFailure: backoffLimit 0 allows no restart, and no restart is none", "{backoffLimit: 0, " + onFailure + "}", `
			decide
			restarts p1=0 => run p1
			restarts p1=1 => drain p1; Failed BackoffLimitExceeded`},
		{"OnFailure: restarts of a pod that came through do not count", "{backoffLimit: 2, completions: 2, " + onFailure + "}", `
			decide
			restarts p1=1
			ok p1 => run p2; kept p1; ok 1
			restarts p2=1 => run p2; kept p1; ok 1`},
		{"OnFailure: a pod that failed for good counts and is replaced", "{backoffLimit: 2, " + onFailure + "}", `
			decide
			fail p1 => kept p1; failed 1; wakes 10s
			+10s => run p2; kept p1; failed 1`},

		// Backoff.
		{"backoff: doubles up to ten minutes", "{backoffLimit: 20}", `
			decide
			fail p1 => kept p1; failed 1; wakes 10s
			+9s => kept p1; failed 1; wakes 1s
			+1s => run p2; kept p1; failed 1
			fail p2 => kept p1 p2; failed 2; wakes 20s
			+20s,
			decide
			fail p3 => kept p1 p2 p3; failed 3; wakes 40s
			+40s
			fail p4 => kept p1 p2 p3 p4; failed 4; wakes 1m20s
			+80s
			fail p5 => kept p1 p2 p3 p4 p5; failed 5; wakes 2m40s
			+160s
			fail p6 => kept p1 p2 p3 p4 p5 p6; failed 6; wakes 5m20s
			+320s
			fail p7 => kept p1 p2 p3 p4 p5 p6 p7; failed 7; wakes 10m0s
			+600s
			fail p8 => kept p1 p2 p3 p4 p5 p6 p7 p8; failed 8; wakes 10m0s`},
		{"backoff: a success resets it", "{completions: 5, parallelism: 2, backoffLimit: 20}", `
			decide
			fail p1 => run p2; kept p1; failed 1; wakes 10s
			+10s => run p2 p3; kept p1; failed 1
			fail p3 => run p2; kept p1 p3; failed 2; wakes 20s
			+1s,
			ok p2 => run p4 p5; kept p1 p2 p3; ok 1; failed 2
			fail p4 => run p5; kept p1 p2 p3 p4; ok 1; failed 3; wakes 10s`},
		{"backoff: from the finish time, however late it is reported", "", `
			decide
			fail p1,
			+8s => kept p1; failed 1; wakes 2s
			+1m => run p2; kept p1; failed 1`},
		{"backoff: a failure before the last success does not count", "{completions: 3, parallelism: 2}", `
			decide
			fail p1,
			+1s,
			ok p2 => run p3 p4; kept p1 p2; ok 1; failed 1`},
		{"backoff: pods that run do so on", "{completions: 2, parallelism: 2}", `
			decide
			fail p1 => run p2; kept p1; failed 1; wakes 10s`},

		// Deadline.
		{"deadline: from the start", "{activeDeadlineSeconds: 100}", `
			decide => run p1; wakes 1m40s
			+99s => run p1; wakes 1s
			+1s => drain p1; Failed DeadlineExceeded
			gone p1 => Failed DeadlineExceeded; finished`},
		{"deadline: beats the backoff limit", "{activeDeadlineSeconds: 100, backoffLimit: 0}", `
			decide
			+100s,
			fail p1 => kept p1; failed 1; Failed DeadlineExceeded; finished`},
		{"deadline: comes while a replacement waits", "{activeDeadlineSeconds: 15}", `
			decide
			fail p1 => kept p1; failed 1; wakes 10s
			+10s
			fail p2 => kept p1 p2; failed 2; wakes 5s
			+5s => kept p1 p2; failed 2; Failed DeadlineExceeded; finished`},
		{"deadline: 0 is over at once", "{activeDeadlineSeconds: 0}", `
			decide => Failed DeadlineExceeded; finished`},
		{"deadline: is not that of a Job that waits to begin", "{activeDeadlineSeconds: 10}", `
			hold =>
			+1h =>
			free => run p1; wakes 10s`},
		{"deadline: begins anew on resume", "{activeDeadlineSeconds: 100}", `
			decide
			+90s,
			set {suspend: true} => drain p1
			gone p1 =>
			+1h =>
			set {suspend: false} => run p2; wakes 1m40s
			+99s => run p2; wakes 1s
			+1s => drain p2; Failed DeadlineExceeded`},
		{"deadline: does not end one that is suspended meanwhile", "{activeDeadlineSeconds: 100}", `
			decide
			+100s,
			set {suspend: true} => drain p1`},
		{"deadline: is set when it runs", "", `
			decide => run p1
			+50s,
			set {activeDeadlineSeconds: 60} => run p1; wakes 10s
			+10s => drain p1; Failed DeadlineExceeded`},

		// Suspend.
		{"suspended from the start", "suspend: true", `
			decide =>
			+1h =>
			set {suspend: false} => run p1`},
		{"suspend: active pods go, and do not count as failures", "{completions: 3, parallelism: 2, backoffLimit: 0}", `
			decide
			ok p1 => run p2 p3; kept p1; ok 1
			set {suspend: true} => drain p2 p3; kept p1; ok 1
			fail p2 p3 => drain p2 p3; kept p1; ok 1
			gone p2 p3 => kept p1; ok 1
			set {suspend: false} => run p4 p5; kept p1; ok 1`},
		{"suspend: a pod that comes through all the same counts", "{completions: 2, parallelism: 2}", `
			decide
			set {suspend: true} => drain p1 p2
			ok p1 => drain p1 p2; ok 1
			gone p1 p2 => ok 1
			set {suspend: false} => run p3; ok 1`},
		{"suspend: one that fails before it is known counts", "", `
			decide
			fail p1,
			set {suspend: true} => kept p1; failed 1
			set {suspend: false} => kept p1; failed 1; wakes 10s`},
		{"suspend: completes if that was all", "", `
			decide
			set {suspend: true} => drain p1
			ok p1 => drain p1; ok 1; Complete CompletionsReached; finished`},

		// Replacement.
		{"replacement: as soon as one goes", "{completions: 2, parallelism: 2}", `
			decide
			set {suspend: true} => drain p1 p2
			set {suspend: false} => run p3 p4; drain p1 p2`},
		{"replacement: only when it is over", "{completions: 2, parallelism: 2, podReplacementPolicy: Failed}", `
			decide
			set {suspend: true} => drain p1 p2
			set {suspend: false} => drain p1 p2
			gone p1 => run p3; drain p2
			fail p2 => run p3 p4; drain p2`},
		{"replacement: only when it is over, Indexed", "{completions: 2, parallelism: 2, completionMode: Indexed, podReplacementPolicy: Failed}", `
			decide => run p1[0] p2[1]
			set {suspend: true}
			set {suspend: false} => drain p1[0] p2[1]
			gone p2 => run p3[1]; drain p1[0]`},
		{"replacement: as soon as one goes, Indexed", "{completions: 2, parallelism: 2, completionMode: Indexed}", `
			decide
			set {suspend: true}
			set {suspend: false} => run p3[0] p4[1]; drain p1[0] p2[1]
			ok p1 => run p4[1]; drain p1[0] p2[1] p3[0]; ok 1; done 0`},

		// Time to live.
		{"ttl: unset is for ever", "", `
			decide
			ok p1
			+10000h => kept p1; ok 1; Complete CompletionsReached; finished`},
		{"ttl: 0 is at once", "ttlSecondsAfterFinished: 0", `
			decide
			ok p1 => drain p1; ok 1; Complete CompletionsReached; finished; cleared
			gone p1 => ok 1; Complete CompletionsReached; finished; cleared
			+1h => ok 1; Complete CompletionsReached; finished; cleared`},
		{"ttl: from when it finished", "{ttlSecondsAfterFinished: 60, completions: 2, parallelism: 2, backoffLimit: 0}", `
			decide
			fail p1 => drain p2; kept p1; failed 1; Failed BackoffLimitExceeded
			+5m => drain p2; kept p1; failed 1; Failed BackoffLimitExceeded
			gone p2 => kept p1; failed 1; Failed BackoffLimitExceeded; finished; wakes 1m0s
			+59s => kept p1; failed 1; Failed BackoffLimitExceeded; finished; wakes 1s
			+1s => drain p1; failed 1; Failed BackoffLimitExceeded; finished; cleared
			gone p1 => failed 1; Failed BackoffLimitExceeded; finished; cleared`},
		{"ttl: is set afterwards", "", `
			decide
			ok p1
			+1h,
			set {ttlSecondsAfterFinished: 60} => drain p1; ok 1; Complete CompletionsReached; finished; cleared`},

		// Indexed.
		{"Indexed: the lowest pending first", "{completions: 5, parallelism: 2, completionMode: Indexed}", `
			decide => run p1[0] p2[1]
			ok p2 => run p1[0] p3[2]; kept p2[1]; ok 1; done 1
			ok p3 => run p1[0] p4[3]; kept p2[1] p3[2]; ok 2; done 1,2
			fail p1 => run p4[3]; kept p1[0] p2[1] p3[2]; ok 2; failed 1; done 1,2; wakes 10s
			+10s => run p4[3] p5[0]; kept p1[0] p2[1] p3[2]; ok 2; failed 1; done 1,2
			ok p4 => run p5[0] p6[4]; kept p1[0] p2[1] p3[2] p4[3]; ok 3; failed 1; done 1-3
			ok p5 p6 => kept p1[0] p2[1] p3[2] p4[3] p5[0] p6[4]; ok 5; failed 1; done 0-4; Complete CompletionsReached; finished`},
		{"Indexed: an index succeeds once", "{completions: 2, parallelism: 2, completionMode: Indexed}", `
			decide
			set {suspend: true}
			set {suspend: false} => run p3[0] p4[1]; drain p1[0] p2[1]
			ok p1 p3 => run p4[1]; drain p1[0] p2[1]; kept p3[0]; ok 1; done 0`},
		{"Indexed: backoffLimit is of all together", "{completions: 3, parallelism: 3, completionMode: Indexed, backoffLimit: 1}", `
			decide
			fail p1 => run p2[1] p3[2]; kept p1[0]; failed 1; wakes 10s
			fail p2 => drain p3[2]; kept p1[0] p2[1]; failed 2; Failed BackoffLimitExceeded`},
		{"Indexed: made smaller", "{completions: 4, parallelism: 4, completionMode: Indexed}", `
			decide => run p1[0] p2[1] p3[2] p4[3]
			ok p3 p4 => run p1[0] p2[1]; kept p3[2] p4[3]; ok 2; done 2,3
			set {completions: 2, parallelism: 2} => run p1[0] p2[1]; kept p3[2] p4[3]
			ok p1 p2 => kept p1[0] p2[1] p3[2] p4[3]; ok 2; done 0,1; Complete CompletionsReached; finished`},
		{"Indexed: made larger", "{completions: 2, parallelism: 2, completionMode: Indexed}", `
			decide
			ok p1
			set {completions: 3, parallelism: 3} => run p2[1] p3[2]; kept p1[0]; ok 1; done 0`},

		// Limits per index.
		{"per index: a failed one does not stop the others", "{completions: 3, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 1}", `
			decide => run p1[0] p2[1] p3[2]
			fail p1 => run p2[1] p3[2]; kept p1[0]; failed 1; wakes 10s
			fail p2 => run p3[2]; kept p1[0] p2[1]; failed 2; wakes 10s
			+10s => run p3[2] p4[0] p5[1]; kept p1[0] p2[1]; failed 2
			fail p4 => run p3[2] p5[1]; kept p1[0] p2[1] p4[0]; failed 3; lost 0
			+1h => run p3[2] p5[1]; kept p1[0] p2[1] p4[0]; failed 3; lost 0
			ok p3 p5 => kept p1[0] p2[1] p3[2] p4[0] p5[1]; ok 2; failed 3; done 1,2; lost 0; Failed FailedIndexes; finished`},
		{"per index: 0 is one pod each", "{completions: 2, parallelism: 1, completionMode: Indexed, backoffLimitPerIndex: 0}", `
			decide => run p1[0]
			fail p1 => run p2[1]; kept p1[0]; failed 1; lost 0
			ok p2 => kept p1[0] p2[1]; ok 1; failed 1; done 1; lost 0; Failed FailedIndexes; finished`},
		{"per index: each waits for itself", "{completions: 2, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 9}", `
			decide
			fail p1
			+10s => run p2[1] p3[0]; kept p1[0]; failed 1
			fail p3 => run p2[1]; kept p1[0] p3[0]; failed 2; wakes 20s
			fail p2 => kept p1[0] p2[1] p3[0]; failed 3; wakes 10s
			+10s => run p4[1]; kept p1[0] p2[1] p3[0]; failed 3; wakes 10s
			+10s => run p4[1] p5[0]; kept p1[0] p2[1] p3[0]; failed 3`},
		{"per index: one that waits lets the next begin", "{completions: 3, parallelism: 1, completionMode: Indexed, backoffLimitPerIndex: 9}", `
			decide => run p1[0]
			fail p1 => run p2[1]; kept p1[0]; failed 1; wakes 10s`},
		{"maxFailedIndexes", "{completions: 4, parallelism: 4, completionMode: Indexed, backoffLimitPerIndex: 0, maxFailedIndexes: 1}", `
			decide
			fail p1 => run p2[1] p3[2] p4[3]; kept p1[0]; failed 1; lost 0
			fail p2 => drain p3[2] p4[3]; kept p1[0] p2[1]; failed 2; lost 0,1; Failed MaxFailedIndexesExceeded`},
		{"maxFailedIndexes 0", "{completions: 2, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 0, maxFailedIndexes: 0}", `
			decide
			fail p1 => drain p2[1]; kept p1[0]; failed 1; lost 0; Failed MaxFailedIndexesExceeded`},
		{"per index: with a backoffLimit of all, too", "{completions: 3, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 5, backoffLimit: 1}", `
			decide
			fail p1 p2 => drain p3[2]; kept p1[0] p2[1]; failed 2; Failed BackoffLimitExceeded`},

		// podFailurePolicy.
		{"FailIndex", `{completions: 2, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 5,
			podFailurePolicy: {rules: [{action: FailIndex, onExitCodes: {operator: In, values: [42]}}]}}`, `
			decide
			fail p1=42 => run p2[1]; kept p1[0]; failed 1; lost 0
			fail p2=1 => kept p1[0] p2[1]; failed 2; lost 0; wakes 10s`},
		{"FailJob", `{completions: 2, parallelism: 2, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}}`, `
			decide
			fail p1=42 => drain p2; kept p1; failed 1; Failed PodFailurePolicy
			gone p2 => kept p1; failed 1; Failed PodFailurePolicy; finished`},
		{"FailJob beats the backoff limit", `{backoffLimit: 0, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}}`, `
			decide
			fail p1=42 => kept p1; failed 1; Failed PodFailurePolicy; finished`},
		{"Ignore: not counted, and replaced", `{backoffLimit: 0, podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [42]}}]}}`, `
			decide
			fail p1=42,
			+10s => run p2; kept p1
			fail p2=42,
			+10m => run p3; kept p1 p2
			fail p3=1 => kept p1 p2 p3; failed 1; Failed BackoffLimitExceeded; finished`},
		{"Ignore: waits like any other failure", `{backoffLimit: 0, podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [42]}}]}}`, `
			decide
			fail p1=42 => kept p1; wakes 10s`},
		{"Count", `{backoffLimit: 1, podFailurePolicy: {rules: [{action: Count, onExitCodes: {operator: In, values: [42]}}, {action: FailJob, onExitCodes: {operator: In, values: [42]}}]}}`, `
			decide
			fail p1=42 => kept p1; failed 1; wakes 10s`},

		// successPolicy.
		{"successPolicy: some indexes", `{completions: 4, parallelism: 4, completionMode: Indexed, successPolicy: {rules: [{succeededIndexes: "0,2-3"}]}}`, `
			decide
			ok p1 p3 => run p2[1] p4[3]; kept p1[0] p3[2]; ok 2; done 0,2
			ok p4 => drain p2[1]; kept p1[0] p3[2] p4[3]; ok 3; done 0,2,3; Complete SuccessPolicy
			gone p2 => kept p1[0] p3[2] p4[3]; ok 3; done 0,2,3; Complete SuccessPolicy; finished`},
		{"successPolicy: so many", `{completions: 4, parallelism: 4, completionMode: Indexed, successPolicy: {rules: [{succeededCount: 2}]}}`, `
			decide
			ok p1 => run p2[1] p3[2] p4[3]; kept p1[0]; ok 1; done 0
			ok p4 => drain p2[1] p3[2]; kept p1[0] p4[3]; ok 2; done 0,3; Complete SuccessPolicy`},
		{"successPolicy: so many of some", `{completions: 4, parallelism: 4, completionMode: Indexed, successPolicy: {rules: [{succeededIndexes: "0-2", succeededCount: 2}]}}`, `
			decide
			ok p1 p4 => run p2[1] p3[2]; kept p1[0] p4[3]; ok 2; done 0,3
			ok p2 => drain p3[2]; kept p1[0] p2[1] p4[3]; ok 3; done 0,1,3; Complete SuccessPolicy`},
		{"successPolicy: whichever rule", `{completions: 4, parallelism: 4, completionMode: Indexed, successPolicy: {rules: [{succeededIndexes: "3"}, {succeededIndexes: "0-1"}]}}`, `
			decide
			ok p1 => run p2[1] p3[2] p4[3]; kept p1[0]; ok 1; done 0
			ok p2 => drain p3[2] p4[3]; kept p1[0] p2[1]; ok 2; done 0,1; Complete SuccessPolicy`},
		{"successPolicy: lost indexes do not matter", `{completions: 3, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 0, successPolicy: {rules: [{succeededIndexes: "0"}]}}`, `
			decide
			fail p2 => run p1[0] p3[2]; kept p2[1]; failed 1; lost 1
			ok p1 => drain p3[2]; kept p1[0] p2[1]; ok 1; failed 1; done 0; lost 1; Complete SuccessPolicy`},
		{"successPolicy: never met, all done", `{completions: 2, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 0, successPolicy: {rules: [{succeededIndexes: "0-1"}]}}`, `
			decide
			fail p1 => run p2[1]; kept p1[0]; failed 1; lost 0
			ok p2 => kept p1[0] p2[1]; ok 1; failed 1; done 1; lost 0; Failed FailedIndexes; finished`},
		{"successPolicy: what ends it in failure goes before", `{completions: 3, parallelism: 3, completionMode: Indexed, backoffLimit: 0, successPolicy: {rules: [{succeededIndexes: "0"}]}}`, `
			decide
			ok p1,
			fail p2 => drain p3[2]; kept p1[0] p2[1]; ok 1; failed 1; done 0; Failed BackoffLimitExceeded`},
		{"successPolicy: the deadline goes before", `{completions: 2, parallelism: 2, completionMode: Indexed, activeDeadlineSeconds: 10, successPolicy: {rules: [{succeededIndexes: "0"}]}}`, `
			decide
			+10s,
			ok p1 => drain p2[1]; kept p1[0]; ok 1; done 0; Failed DeadlineExceeded`},

		// When nothing is known of pods.
		{"unheard of: what ended is not taken for running", "{completions: 2, parallelism: 2, backoffLimit: 0}", `
			decide
			ok p1 => run p2; kept p1; ok 1
			deaf => run p2; kept p1; ok 1
			hear => run p2; kept p1; ok 1`},
		{"unheard of: pods of a Job that is over stay", "backoffLimit: 0", `
			decide
			fail p1 => kept p1; failed 1; Failed BackoffLimitExceeded; finished
			deaf => kept p1; failed 1; Failed BackoffLimitExceeded; finished`},
		{"unheard of: pods of an index that is done stay", "{completions: 2, parallelism: 2, completionMode: Indexed}", `
			decide
			ok p1 => run p2[1]; kept p1[0]; ok 1; done 0
			deaf => run p2[1]; kept p1[0]; ok 1; done 0`},
		{"unheard of: what runs runs on", "{completions: 4, parallelism: 2}", `
			decide
			deaf => run p1 p2
			+1h => run p1 p2
			hear => run p1 p2`},
		{"held: what has begun goes on", "completions: 2", `
			decide => run p1
			hold => run p1
			ok p1 => run p2; kept p1; ok 1`},
	} {
		t.Run(test.name, func(t *testing.T) { newJobWorld(t, test.spec).script(test.script) })
	}
}

// Of two pods that have one index, which happens when a leader comes back, the younger one goes.
func TestJobDuplicateIndexes(t *testing.T) {
	w := newJobWorld(t, "{completions: 3, parallelism: 2, completionMode: Indexed}")
	w.script("decide => run p1[0] p2[1]")
	w.members = append(w.members, workload.Member{Slot: fleet.Slot{Identity: fleet.Identity{UID: "p9", Created: w.now.Add(time.Second), Index: to(int32(1))}, Goal: fleet.Run}})
	w.script("decide => run p1[0] p2[1]; drain p9[1]")
	w.members = append(w.members, workload.Member{Slot: fleet.Slot{Identity: fleet.Identity{UID: "p8", Created: w.now.Add(-time.Second), Index: to(int32(0))}, Goal: fleet.Run}},
		workload.Member{Slot: fleet.Slot{Identity: fleet.Identity{UID: "p7", Created: w.now}, Goal: fleet.Run}},
		workload.Member{Slot: fleet.Slot{Identity: fleet.Identity{UID: "p6", Created: w.now, Index: to(int32(3))}, Goal: fleet.Run}})
	w.script("decide => run p2[1] p8[0]; drain p1[0] p9[1] p7 p6[3]")
}

// The wait is from the end of the last failure, also when an earlier one comes to be known after it.
func TestJobBackoffOfLateReports(t *testing.T) {
	w := newJobWorld(t, "{completions: 3, parallelism: 2, backoffLimit: 9}")
	w.script("decide\n+5s")
	w.script("fail p2 => run p1; kept p2; failed 1; wakes 10s")
	w.report("p1", ending(1, w.now.Add(-5*time.Second)))
	w.script("decide => kept p1 p2; failed 2; wakes 20s")
}

// What became of an index first stands, also when two pods of it were under way.
func TestJobDoneAndLost(t *testing.T) {
	const spec = "{completions: 2, parallelism: 1, completionMode: Indexed, backoffLimitPerIndex: 0}"
	newJobWorld(t, spec).script(`
		decide => run p1[0]
		set {suspend: true}
		set {suspend: false} => run p2[0]; drain p1[0]
		fail p2 => run p3[1]; drain p1[0]; kept p2[0]; failed 1; lost 0
		ok p1 => run p3[1]; drain p1[0]; kept p2[0]; failed 1; lost 0
		ok p3 => drain p1[0]; kept p2[0] p3[1]; ok 1; failed 1; done 1; lost 0; Failed FailedIndexes; finished`)
	newJobWorld(t, spec).script(`
		decide
		set {suspend: true}
		set {suspend: false} => run p2[0]; drain p1[0]
		ok p1,
		+1s,
		fail p2 => run p3[1]; drain p1[0]; kept p2[0]; ok 1; failed 1; done 0
		ok p3 => drain p1[0]; kept p2[0] p3[1]; ok 2; failed 1; done 0,1; Complete CompletionsReached; finished`)
}

// What ends a run of failures is a success after them, whenever it comes to be known.
func TestJobBackoffOfLateSuccess(t *testing.T) {
	w := newJobWorld(t, "{completions: 3, parallelism: 2, backoffLimit: 9}")
	w.script("decide\n+5s")
	w.script("fail p2 => run p1; kept p2; failed 1; wakes 10s")
	w.report("p1", ending(0, w.now.Add(-5*time.Second)))
	w.script("decide => kept p1 p2; ok 1; failed 1; wakes 10s")

	w = newJobWorld(t, "{completions: 3, parallelism: 2, backoffLimit: 9}")
	w.script("decide\n+5s")
	w.script("ok p2 => run p1 p3; kept p2; ok 1")
	w.report("p1", ending(1, w.now.Add(-time.Second)))
	w.script("decide => run p3 p4; kept p1 p2; ok 1; failed 1")
}

func TestJobMessages(t *testing.T) {
	for _, test := range []struct{ name, spec, script, want string }{
		{"complete", "", "decide\nok p1", "Reached expected number of succeeded pods"},
		{"backoff limit", "backoffLimit: 0", "decide\nfail p1", "Job has reached the specified backoff limit"},
		{"deadline", "activeDeadlineSeconds: 1", "decide\n+1s", "Job was active longer than specified deadline"},
		{"max failed indexes", "{completions: 2, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 0, maxFailedIndexes: 0}", "decide\nfail p1", "Job has exceeded the specified maximal number of failed indexes"},
		{"failed indexes", "{completions: 1, completionMode: Indexed, backoffLimitPerIndex: 0}", "decide\nfail p1", "Job has failed indexes"},
		{"success policy", `{completions: 2, parallelism: 2, completionMode: Indexed, successPolicy: {rules: [{succeededIndexes: "1"}, {succeededCount: 1}]}}`, "decide\nok p1", "Matched rules at index 1"},
		{"pod failure policy", "podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [3]}}, {action: FailJob, onExitCodes: {operator: NotIn, values: [1, 2]}}]}", "decide\nfail p1=5",
			"Container main for pod shop/p1 failed with exit code 5 matching FailJob rule at index 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newJobWorld(t, test.spec)
			w.script(test.script)
			if w.ledger.Message != test.want {
				t.Errorf("got %q, want %q", w.ledger.Message, test.want)
			}
		})
	}
}

// What a policy makes of a failed pod: not counted, counted, the end of its index or of the Job.
func TestPodFailurePolicy(t *testing.T) {
	main := func(codes ...int32) corev1.PodStatus {
		s := corev1.PodStatus{Phase: corev1.PodFailed}
		for i, code := range codes {
			s.ContainerStatuses = append(s.ContainerStatuses, exited([]string{"main", "side", "third"}[i], code, now))
		}
		return s
	}
	initial := func(code int32) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodFailed, InitContainerStatuses: []corev1.ContainerStatus{exited("first", code, now)},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}}}}
	}
	condition := func(kind, status string) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodFailed, Conditions: []corev1.PodCondition{{Type: corev1.PodConditionType(kind), Status: corev1.ConditionStatus(status)}}}
	}
	disrupted := main(137)
	disrupted.Conditions = condition("DisruptionTarget", "True").Conditions
	for _, test := range []struct {
		name, rules string
		status      corev1.PodStatus
		want        string
	}{
		{"no rule", "[]", main(1), "Count"},
		{"In", "[{action: FailJob, onExitCodes: {operator: In, values: [1, 42]}}]", main(42), "FailJob"},
		{"not In", "[{action: FailJob, onExitCodes: {operator: In, values: [1, 42]}}]", main(2), "Count"},
		{"NotIn", "[{action: FailJob, onExitCodes: {operator: NotIn, values: [1, 42]}}]", main(2), "FailJob"},
		{"not NotIn", "[{action: FailJob, onExitCodes: {operator: NotIn, values: [1, 42]}}]", main(42), "Count"},
		{"0 is never NotIn", "[{action: FailJob, onExitCodes: {operator: NotIn, values: [1]}}]", main(0, 1), "Count"},
		{"0 is never NotIn, another is", "[{action: FailJob, onExitCodes: {operator: NotIn, values: [1]}}]", main(0, 2), "FailJob"},
		{"0 is never In", "[{action: FailJob, onExitCodes: {operator: In, values: [0]}}]", main(0, 1), "Count"},
		{"any container", "[{action: FailJob, onExitCodes: {operator: In, values: [42]}}]", main(1, 42), "FailJob"},
		{"the container named", "[{action: FailJob, onExitCodes: {containerName: side, operator: In, values: [42]}}]", main(1, 42), "FailJob"},
		{"not the container named", "[{action: FailJob, onExitCodes: {containerName: main, operator: In, values: [42]}}]", main(1, 42), "Count"},
		{"an initial container", "[{action: FailJob, onExitCodes: {operator: In, values: [5]}}]", initial(5), "FailJob"},
		{"the initial container named", "[{action: FailJob, onExitCodes: {containerName: first, operator: In, values: [5]}}]", initial(5), "FailJob"},
		{"one that waits has no exit code", "[{action: FailJob, onExitCodes: {containerName: main, operator: NotIn, values: [5]}}]", initial(5), "Count"},
		{"first match wins", "[{action: Ignore, onExitCodes: {operator: In, values: [42]}}, {action: FailJob, onExitCodes: {operator: In, values: [42]}}]", main(42), "Ignore"},
		{"the second rule", "[{action: Ignore, onExitCodes: {operator: In, values: [41]}}, {action: FailJob, onExitCodes: {operator: In, values: [42]}}]", main(42), "FailJob"},
		{"rules before containers", "[{action: Ignore, onExitCodes: {operator: In, values: [2]}}, {action: FailJob, onExitCodes: {operator: In, values: [1]}}]", main(1, 2), "Ignore"},
		{"Count ends the search", "[{action: Count, onExitCodes: {operator: In, values: [42]}}, {action: FailJob, onExitCodes: {operator: NotIn, values: [1]}}]", main(42), "Count"},
		{"condition", "[{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}]", condition("DisruptionTarget", "True"), "Ignore"},
		{"condition of another status", "[{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}]", condition("DisruptionTarget", "False"), "Count"},
		{"condition that is False", "[{action: Ignore, onPodConditions: [{type: Example, status: 'False'}]}]", condition("Example", "False"), "Ignore"},
		{"condition that is not there", "[{action: Ignore, onPodConditions: [{type: Example, status: 'False'}]}]", main(1), "Count"},
		{"one of several conditions", "[{action: FailJob, onPodConditions: [{type: A, status: 'True'}, {type: B, status: 'True'}]}]", condition("B", "True"), "FailJob"},
		{"condition before exit code", "[{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}, {action: FailJob, onExitCodes: {operator: In, values: [137]}}]", disrupted, "Ignore"},
		{"exit code before condition", "[{action: FailJob, onExitCodes: {operator: In, values: [137]}}, {action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}]", disrupted, "FailJob"},
		{"FailIndex", "[{action: FailIndex, onExitCodes: {operator: In, values: [42]}}]", main(42), "FailIndex"},
		{"FailIndex for others", "[{action: FailIndex, onExitCodes: {operator: In, values: [42]}}]", main(1), "Count"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newJobWorld(t, "{completions: 2, parallelism: 1, completionMode: Indexed, backoffLimitPerIndex: 3, podFailurePolicy: {rules: "+test.rules+"}}")
			w.do("decide")
			w.report("p1", test.status)
			w.do("decide")
			got := "Ignore"
			switch l := w.ledger; {
			case l.Reason == "PodFailurePolicy" && l.Failed == 1:
				got = "FailJob"
			case len(l.Lost) == 1 && l.Failed == 1:
				got = "FailIndex"
			case l.Failed == 1 && l.Tries[0].Count == 1 && l.Outcome == "":
				got = "Count"
			case l.Failed != 0 || l.Outcome != "" || l.Tries[0].Count > 0:
				got = w.String()
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	t.Run("condition's message", func(t *testing.T) {
		w := newJobWorld(t, "podFailurePolicy: {rules: [{action: FailJob, onPodConditions: [{type: ConfigIssue, status: 'True'}]}]}")
		w.do("decide")
		w.report("p1", condition("ConfigIssue", "True"))
		w.do("decide")
		if want := "Pod shop/p1 has condition ConfigIssue matching FailJob rule at index 0"; w.ledger.Message != want {
			t.Errorf("got %q, want %q", w.ledger.Message, want)
		}
	})
}

func TestIndexes(t *testing.T) {
	for _, test := range []struct {
		text string
		list []int32
	}{
		{"", nil}, {"0", []int32{0}}, {"1,3-5,7", []int32{1, 3, 4, 5, 7}}, {"0,1", []int32{0, 1}}, {"0-2", []int32{0, 1, 2}},
		{"0,1,3,4", []int32{0, 1, 3, 4}}, {"0-3,5,9-11", []int32{0, 1, 2, 3, 5, 9, 10, 11}},
	} {
		if got := workload.FormatIndexes(test.list); got != test.text {
			t.Errorf("%v is written %q, want %q", test.list, got, test.text)
		}
		if d := gocmp.Diff(test.list, workload.ParseIndexes(test.text)); d != "" {
			t.Errorf("%q: %s", test.text, d)
		}
	}
	if d := gocmp.Diff([]int32{1, 2}, workload.ParseIndexes("1-2")); d != "" { // Kubernetes reads both
		t.Error(d)
	}
}

// startTime is when it began, begins anew on resume, and is not there while it is suspended.
func TestJobStarted(t *testing.T) {
	w := newJobWorld(t, "")
	w.hold = "waits"
	w.do("decide")
	if !w.ledger.Started.IsZero() || len(w.work.Notes) != 1 {
		t.Errorf("started %s while it waits, notes %v", w.ledger.Started, w.work.Notes)
	}
	w.hold = ""
	w.do("+10s")
	if !w.ledger.Started.Equal(now.Add(10 * time.Second)) {
		t.Errorf("started %s", w.ledger.Started)
	}
	w.do("+10s")
	if !w.ledger.Started.Equal(now.Add(10 * time.Second)) {
		t.Errorf("started %s", w.ledger.Started)
	}
	w.do("set {suspend: true}")
	if !w.ledger.Started.IsZero() {
		t.Errorf("started %s while it is suspended", w.ledger.Started)
	}
	w.do("+10s,")
	w.do("set {suspend: false}")
	if !w.ledger.Started.Equal(now.Add(30 * time.Second)) {
		t.Errorf("started %s after it was resumed", w.ledger.Started)
	}
}
