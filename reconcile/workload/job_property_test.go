package workload_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

func drawJobSpec(t *rapid.T) string {
	fields := []string{fmt.Sprintf("parallelism: %d", rapid.IntRange(0, 4).Draw(t, "parallelism")), fmt.Sprintf("backoffLimit: %d", rapid.IntRange(0, 5).Draw(t, "backoffLimit"))}
	pick := func(text string) bool {
		if rapid.IntRange(0, 2).Draw(t, text) > 0 {
			return false
		}
		fields = append(fields, text)
		return true
	}
	indexed := false
	switch rapid.IntRange(0, 2).Draw(t, "mode") {
	case 0:
		fields = append(fields, fmt.Sprintf("completions: %d", rapid.IntRange(0, 6).Draw(t, "completions")))
	case 1:
		indexed = true
		fields = append(fields, "completionMode: Indexed", fmt.Sprintf("completions: %d", rapid.IntRange(3, 6).Draw(t, "completions")))
		if pick("backoffLimitPerIndex: 1") {
			pick("maxFailedIndexes: 2")
		}
		pick("successPolicy: {rules: [{succeededIndexes: '0-2', succeededCount: 2}]}")
	}
	if !pick("template: {spec: {restartPolicy: OnFailure}}") && pick("podReplacementPolicy: Failed") {
		last := ""
		if indexed && slices.Contains(fields, "backoffLimitPerIndex: 1") {
			last = ", {action: FailIndex, onExitCodes: {operator: In, values: [5]}}"
		}
		pick("podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [3]}}, {action: FailJob, onExitCodes: {operator: In, values: [4]}}" + last + "]}")
	}
	pick("activeDeadlineSeconds: 500")
	pick("ttlSecondsAfterFinished: 60")
	return "{" + strings.Join(fields, ", ") + "}"
}

// checkJob decides and holds the decision to what must be true of any; it commits it unless it is lost.
func (w *jobWorld) checkJob(rt *rapid.T, truth map[string]bool, lost bool) {
	in := workload.Work{Ledger: w.ledger, Members: w.known(), Hold: w.hold, Now: w.now}
	out := workload.Run(in)
	shuffled := in
	shuffled.Members = slices.Clone(in.Members)
	rand.New(rand.NewSource(3)).Shuffle(len(shuffled.Members), func(i, j int) {
		shuffled.Members[i], shuffled.Members[j] = shuffled.Members[j], shuffled.Members[i]
	})
	other := workload.Run(shuffled)
	slices.Sort(other.Drain)
	drain := slices.Sorted(slices.Values(out.Drain))
	if !gocmp.Equal(out.Ledger, other.Ledger) || !gocmp.Equal(out.Place, other.Place) || !gocmp.Equal(slices.Compact(drain), slices.Compact(other.Drain)) {
		rt.Fatalf("another order of pods: %s", gocmp.Diff(out.Ledger, other.Ledger))
	}
	before, l, s := w.ledger, out.Ledger, out.Ledger.Spec
	if len(out.Place) > 0 && (l.Outcome != "" || *s.Suspend) {
		rt.Fatalf("%d pods made: suspended %t, %s", len(out.Place), *s.Suspend, l.Outcome)
	}
	if before.Outcome != "" && (l.Outcome != before.Outcome || l.Reason != before.Reason) {
		rt.Fatalf("it was %s %s and is %s %s", before.Outcome, before.Reason, l.Outcome, l.Reason)
	}
	for i, uid := range out.Count {
		m := *w.member(uid)
		if m.Report == nil || !m.Report.Terminal() || m.Slot.Counted || slices.Contains(out.Count[:i], uid) {
			rt.Fatalf("%s is counted: %+v", uid, m)
		}
		if m.Slot.Goal == fleet.Drain && m.Report.Status.Phase == corev1.PodFailed {
			rt.Fatalf("%s was told to go and counts as failed", uid)
		}
	}
	for _, uid := range out.Drain {
		m := *w.member(uid)
		if over := m.Slot.Counted || truth[uid]; over && m.Report != nil && m.Report.Terminal() && !l.Cleared {
			rt.Fatalf("%s has ended and is removed", uid)
		}
	}
	if l.Cleared && (s.TTLSecondsAfterFinished == nil || l.Finished.IsZero() || w.now.Before(l.Finished.Add(60*time.Second))) {
		rt.Fatalf("cleared at %s, finished %s", w.now, l.Finished)
	}
	if !l.Finished.IsZero() && l.Outcome == "" {
		rt.Fatalf("finished without an outcome")
	}
	if !out.WakeAt.IsZero() && !out.WakeAt.After(w.now) {
		rt.Fatalf("wakes at %s, and it is %s", out.WakeAt, w.now)
	}
	if lost {
		return
	}
	for _, uid := range out.Count {
		truth[uid] = true
	}
	w.commit(out)
	again := workload.Run(workload.Work{Ledger: w.ledger, Members: w.known(), Hold: w.hold, Now: w.now})
	drains := slices.DeleteFunc(again.Drain, func(uid string) bool { return w.member(uid).Slot.Goal == fleet.Drain })
	if len(again.Place)+len(drains)+len(again.Count) > 0 || !gocmp.Equal(w.ledger, again.Ledger) {
		rt.Fatalf("deciding again: places %d, drains %v, counts %v\n%s", len(again.Place), drains, again.Count, gocmp.Diff(w.ledger, again.Ledger))
	}
	w.work = out
	w.invariants(rt)
}

func (w *jobWorld) invariants(rt *rapid.T) {
	l, s := &w.ledger, &w.ledger.Spec
	active, terminating := int32(0), int32(0)
	busy := map[int32]bool{}
	for _, m := range w.members {
		if m.Slot.Counted || m.Report != nil && m.Report.Terminal() {
			continue
		}
		if m.Slot.Goal == fleet.Drain {
			terminating++
			continue
		}
		active++
		if m.Slot.Index != nil {
			if busy[*m.Slot.Index] {
				rt.Fatalf("two pods of index %d: %s", *m.Slot.Index, w)
			}
			busy[*m.Slot.Index] = true
		}
	}
	if active > *s.Parallelism {
		rt.Fatalf("%d of %d: %s", active, *s.Parallelism, w)
	}
	if s.Completions != nil && l.Outcome == "" && active > *s.Completions-l.Succeeded {
		rt.Fatalf("%d active, %d of %d done: %s", active, l.Succeeded, *s.Completions, w)
	}
	if l.Outcome != "" && active > 0 || !l.Finished.IsZero() && terminating > 0 {
		rt.Fatalf("it is over, and %d run, %d go: %s", active, terminating, w)
	}
	if !slices.IsSorted(l.Done) || len(slices.Compact(slices.Clone(l.Done))) != len(l.Done) || !slices.IsSorted(l.Lost) {
		rt.Fatalf("done %v, lost %v", l.Done, l.Lost)
	}
	if *s.CompletionMode == batchv1.IndexedCompletion && int(l.Succeeded) != len(l.Done) {
		rt.Fatalf("%d succeeded, done %v", l.Succeeded, l.Done)
	}
	for _, i := range l.Lost {
		if slices.Contains(l.Done, i) {
			rt.Fatalf("index %d is done and lost", i)
		}
	}
}

// Whatever becomes of its pods, whatever is reported late or not at all, whichever decisions are lost.
func TestJobIsSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := drawJobSpec(rt)
		w := newJobWorld(t, spec)
		truth := map[string]bool{}              // whose end is counted
		secret := map[string]corev1.PodStatus{} // what happened and is not reported yet
		ok, bad := 0, 0
		say := func(uid string) {
			if status, there := secret[uid]; there {
				w.report(uid, status)
				delete(secret, uid)
			}
		}
		parallel := *w.ledger.Spec.Parallelism
		restricted := w.ledger.Spec.PodFailurePolicy == nil && w.ledger.Spec.BackoffLimitPerIndex == nil
		for range rapid.IntRange(1, 60).Draw(rt, "events") {
			w.members = slices.Clone(w.members)
			pick := func() string {
				if len(w.members) == 0 {
					return ""
				}
				return w.members[rapid.IntRange(0, len(w.members)-1).Draw(rt, "pod")].Slot.UID
			}
			switch rapid.IntRange(0, 11).Draw(rt, "event") {
			case 0, 1, 2, 3: // a pod ends
				uid := pick()
				if uid == "" || w.member(uid).Report != nil && w.member(uid).Report.Terminal() {
					break
				}
				if _, ended := secret[uid]; !ended {
					secret[uid] = ending(rapid.SampledFrom([]int32{0, 0, 1, 1, 3, 4, 5}).Draw(rt, "code"), w.now)
				}
			case 4: // a container is restarted in place
				uid := pick()
				if uid == "" || w.member(uid).Report != nil && w.member(uid).Report.Terminal() {
					break
				}
				w.report(uid, corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", RestartCount: rapid.Int32Range(0, 3).Draw(rt, "restarts")}}})
			case 5: // one that drains is gone
				if uid := pick(); uid != "" && w.member(uid).Slot.Goal == fleet.Drain {
					delete(secret, uid)
					w.members = slices.DeleteFunc(w.members, func(m workload.Member) bool { return m.Slot.UID == uid })
				}
			case 6: // one that ended and was counted is removed by hand
				if uid := pick(); uid != "" && w.member(uid).Slot.Counted {
					w.members = slices.DeleteFunc(w.members, func(m workload.Member) bool { return m.Slot.UID == uid })
				}
			case 7:
				suspended := !*w.ledger.Spec.Suspend
				w.ledger.Spec.Suspend = &suspended
			case 8:
				n := rapid.Int32Range(0, 4).Draw(rt, "parallelism")
				w.ledger.Spec.Parallelism = &n
				parallel = max(parallel, n)
			case 9:
				w.deaf = !w.deaf
			default:
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 200).Draw(rt, "seconds")) * time.Second)
			}
			for _, uid := range slices.Sorted(maps.Keys(secret)) {
				if rapid.Bool().Draw(rt, "reported") {
					say(uid)
				}
			}
			counted := len(truth)
			w.checkJob(rt, truth, rapid.IntRange(0, 3).Draw(rt, "lost") == 0)
			for range len(truth) - counted {
				ok, bad = int(w.ledger.Succeeded), int(w.ledger.Failed)
			}
			if w.ledger.Spec.PodFailurePolicy == nil && *w.ledger.Spec.CompletionMode != batchv1.IndexedCompletion && ok+bad != len(truth) {
				rt.Fatalf("%d + %d of %d ends: %s", ok, bad, len(truth), w)
			}
			if restricted && parallel <= 1 && w.ledger.Failed > *w.ledger.Spec.BackoffLimit+1 {
				rt.Fatalf("%d failed of at most %d: %s", w.ledger.Failed, *w.ledger.Spec.BackoffLimit+1, w)
			}
		}
		// All goes well from here: it ends.
		w.deaf = false
		one := max(1, *w.ledger.Spec.Parallelism)
		w.ledger.Spec.Suspend, w.ledger.Spec.Parallelism = to(false), &one
		for range 60 {
			w.members = slices.Clone(w.members)
			for _, m := range w.members {
				say(m.Slot.UID)
			}
			for _, m := range w.members {
				if m := w.member(m.Slot.UID); m.Report == nil || !m.Report.Terminal() {
					w.report(m.Slot.UID, ending(0, w.now))
				}
			}
			w.members = slices.DeleteFunc(w.members, func(m workload.Member) bool { return m.Slot.Goal == fleet.Drain && m.Slot.Counted })
			w.checkJob(rt, truth, false)
			if !w.ledger.Finished.IsZero() {
				return
			}
			if w.now = w.now.Add(time.Second); !w.work.WakeAt.IsZero() {
				w.now = w.work.WakeAt
			}
		}
		rt.Fatalf("%s does not end: %s", spec, w)
	})
}

// In whichever order and whichever batches ends come to be known, the same is counted, and the Job ends alike.
func TestJobOrderOfReports(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(rt, "pods")
		queue := rapid.Bool().Draw(rt, "work queue")
		spec := fmt.Sprintf("{parallelism: %d, completions: %d, backoffLimit: %d}", n, n+1, rapid.IntRange(0, 6).Draw(rt, "limit"))
		if queue {
			spec = fmt.Sprintf("{parallelism: %d, backoffLimit: %d}", n, rapid.IntRange(0, 6).Draw(rt, "limit"))
		}
		var codes []int32
		for range n {
			codes = append(codes, rapid.SampledFrom([]int32{0, 1}).Draw(rt, "code"))
		}
		run := func(order []int, batch int) fleet.Job {
			w := newJobWorld(t, spec)
			w.decide()
			at := w.now
			w.now = w.now.Add(time.Second) // no replacement is due until all is known
			for k, i := range order {
				w.report(fmt.Sprintf("p%d", i+1), ending(codes[i], at.Add(time.Duration(i)*time.Millisecond)))
				if (k+1)%batch == 0 {
					w.checkJob(rt, map[string]bool{}, false)
				}
			}
			w.checkJob(rt, map[string]bool{}, false)
			return w.ledger
		}
		inOrder := make([]int, n)
		for i := range inOrder {
			inOrder[i] = i
		}
		want := run(inOrder, n)
		order := rapid.Permutation(inOrder).Draw(rt, "order")
		got := run(order, rapid.IntRange(1, n).Draw(rt, "batch"))
		is := func(j fleet.Job) string {
			raw, _ := json.Marshal([]any{j.Outcome, j.Reason})
			return string(raw)
		}
		if is(got) != is(want) {
			rt.Fatalf("%s, codes %v: %s in their order, %s in the order %v", spec, codes, is(want), is(got), order)
		}
		if want.Outcome == "" && (got.Succeeded != want.Succeeded || got.Failed != want.Failed) {
			rt.Fatalf("%s, codes %v in the order %v:\n%s", spec, codes, order, gocmp.Diff(want, got))
		}
	})
}
