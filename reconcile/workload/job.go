package workload

import (
	"cmp"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Work is the input and the outcome of a Job: Run changes Ledger in a copy of its own.
type Work struct {
	Ledger  fleet.Job
	Members []Member // all its pods, also those that have ended or are being removed
	Hold    string   // why it may not begin yet; empty when it may. One that has begun goes on
	Now     time.Time

	Place  []*int32 // pods to make: their completion indexes, nil for Jobs without
	Drain  []string // UIDs of pods to remove
	Count  []string // UIDs of pods whose end is in the ledger now
	WakeAt time.Time
	Notes  []string

	gone map[string]bool // UIDs in Drain
}

// The wait before a failed pod is replaced (semantics 7).
const (
	firstRetry = 10 * time.Second
	lastRetry  = 600 * time.Second
)

// Run does what the Job controller does at a sync (semantics section 7).
func Run(w Work) Work {
	l := &w.Ledger
	w.gone = map[string]bool{}
	l.Done, l.Lost, l.Tries = slices.Clone(l.Done), slices.Clone(l.Lost), maps.Clone(l.Tries)
	w.shrink()
	w.count()
	suspended := l.Spec.Suspend != nil && *l.Spec.Suspend
	if l.Outcome == "" && l.Started.IsZero() && !suspended && w.Hold == "" {
		l.Started = w.Now
	}
	w.judge(suspended)
	switch {
	case l.Outcome != "":
	case suspended:
		l.Started = time.Time{}
		w.drainAll()
	case l.Started.IsZero():
		w.Notes = append(w.Notes, w.Hold)
	default:
		w.size()
	}
	for _, m := range w.Members { // somebody removed it, and its node began anew before the count was known there
		if m.Slot.Counted && m.Slot.Goal == fleet.Run && m.Report != nil && !m.Report.Terminal() {
			w.drain(m)
		}
	}
	w.judge(suspended) // what is let go by now does not run any more
	if l.Outcome != "" {
		w.Place = nil
		w.finish()
	}
	return w
}

// shrink forgets indexes that an Indexed Job no longer has.
func (w *Work) shrink() {
	l := &w.Ledger
	if !indexed(&l.Spec) {
		return
	}
	beyond := func(i int32) bool { return i >= *l.Spec.Completions }
	l.Done, l.Lost = slices.DeleteFunc(l.Done, beyond), slices.DeleteFunc(l.Lost, beyond)
	l.Succeeded = int32(len(l.Done))
}

func indexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

// active reports whether a pod should run and has not ended.
func active(m Member) bool { return m.Slot.Goal == fleet.Run && !m.Over() }

// terminating reports whether a pod is being removed and still runs as far as is known.
func terminating(m Member) bool {
	if m.Report == nil {
		return m.Slot.Goal != fleet.Run && !m.Slot.Counted
	}
	return m.Slot.Goal != fleet.Run && !m.Report.Terminal()
}

func (w *Work) number(of func(Member) bool) int32 {
	var n int32
	for _, m := range w.Members {
		if of(m) {
			n++
		}
	}
	return n
}

// count enters the ends that are not in the ledger, in the order in which they came about. A pod that was told to go did not
// fail; what it did before counts.
func (w *Work) count() {
	var fresh []Member
	for _, m := range w.Members {
		if m.Over() && !m.Slot.Counted && (m.Slot.Goal == fleet.Run || m.Report.Status.Phase == corev1.PodSucceeded) {
			fresh = append(fresh, m)
		}
	}
	slices.SortFunc(fresh, func(a, b Member) int {
		return cmp.Or(Ended(a.Report).Compare(Ended(b.Report)), cmp.Compare(a.Slot.UID, b.Slot.UID))
	})
	for _, m := range fresh {
		w.Count = append(w.Count, m.Slot.UID)
		if m.Report.Status.Phase == corev1.PodSucceeded {
			w.succeeded(m)
		} else {
			w.failed(m)
		}
	}
}

func (w *Work) succeeded(m Member) {
	l := &w.Ledger
	if indexed(&l.Spec) {
		if m.Slot.Index == nil {
			return
		}
		if _, lost := slices.BinarySearch(l.Lost, *m.Slot.Index); lost || !insert(&l.Done, *m.Slot.Index) {
			return // another pod of that index was first
		}
	}
	l.Succeeded++
	at := Ended(m.Report)
	l.LastSuccess = later(l.LastSuccess, at)
	if !at.Before(l.LastFailure) {
		l.Streak, l.LastFailure = 0, time.Time{}
	}
}

func (w *Work) failed(m Member) {
	l := &w.Ledger
	action, why := judgeFailure(l.Spec.PodFailurePolicy, m)
	switch action {
	case batchv1.PodFailurePolicyActionFailJob:
		l.Failed++
		w.end(batchv1.JobFailed, batchv1.JobReasonPodFailurePolicy, why)
		return
	}
	at := Ended(m.Report)
	if at.IsZero() {
		at = w.Now
	}
	ignored := action == batchv1.PodFailurePolicyActionIgnore
	if !ignored {
		l.Failed++
	}
	if !at.Before(l.LastSuccess) { // what does not count is waited out all the same
		l.Streak++
		l.LastFailure = later(l.LastFailure, at)
	}
	limit := l.Spec.BackoffLimitPerIndex
	if limit == nil || m.Slot.Index == nil {
		return
	}
	if l.Tries == nil {
		l.Tries = map[int32]fleet.Failures{}
	}
	i := *m.Slot.Index
	tries := l.Tries[i]
	tries.Streak, tries.Last = tries.Streak+1, later(tries.Last, at)
	if !ignored {
		tries.Count++
	}
	l.Tries[i] = tries
	_, done := slices.BinarySearch(l.Done, i)
	if !done && (tries.Count > *limit || action == batchv1.PodFailurePolicyActionFailIndex) {
		insert(&l.Lost, i)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// insert puts a number into a sorted list, and reports whether it was not in there.
func insert(list *[]int32, n int32) bool {
	at, there := slices.BinarySearch(*list, n)
	if !there {
		*list = slices.Insert(*list, at, n)
	}
	return !there
}

// end decides how the Job ends. What was decided first stands.
func (w *Work) end(outcome batchv1.JobConditionType, reason, message string) {
	if w.Ledger.Outcome == "" {
		w.Ledger.Outcome, w.Ledger.Reason, w.Ledger.Message = outcome, reason, message
	}
}

// judge says whether the Job has ended, and how. What ends it in failure goes before what completes it.
func (w *Work) judge(suspended bool) {
	l, s := &w.Ledger, &w.Ledger.Spec
	if l.Outcome != "" {
		return
	}
	if !suspended {
		w.deadline()
	}
	restarts, limit := w.restarts(), *s.BackoffLimit
	total := int32(len(l.Done) + len(l.Lost))
	rule, met := successRule(s, l.Done)
	switch {
	case l.Outcome != "":
	case l.Failed > limit, restarts > 0 && restarts >= limit:
		w.end(batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case s.MaxFailedIndexes != nil && int32(len(l.Lost)) > *s.MaxFailedIndexes:
		w.end(batchv1.JobFailed, batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
	case len(l.Lost) > 0 && s.Completions != nil && total >= *s.Completions:
		w.end(batchv1.JobFailed, batchv1.JobReasonFailedIndexes, "Job has failed indexes")
	case met:
		w.end(batchv1.JobComplete, batchv1.JobReasonSuccessPolicy, "Matched rules at index "+rule)
	case s.Completions != nil && l.Succeeded >= *s.Completions, s.Completions == nil && l.Succeeded > 0 && w.number(w.stays) == 0:
		w.end(batchv1.JobComplete, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
}

// stays reports whether a pod runs and is not let go by this decision.
func (w *Work) stays(m Member) bool { return active(m) && !w.gone[m.Slot.UID] }

// drain lets a pod go, once.
func (w *Work) drain(m Member) {
	if !w.gone[m.Slot.UID] {
		w.gone[m.Slot.UID] = true
		w.Drain = append(w.Drain, m.Slot.UID)
	}
}

// deadline ends a Job that has taken too long.
func (w *Work) deadline() {
	l := &w.Ledger
	if l.Spec.ActiveDeadlineSeconds == nil || l.Started.IsZero() {
		return
	}
	due := l.Started.Add(time.Duration(*l.Spec.ActiveDeadlineSeconds) * time.Second)
	if w.Now.Before(due) {
		w.WakeAt = fleet.Earliest(w.WakeAt, due)
		return
	}
	w.end(batchv1.JobFailed, batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
}

// restarts is how often containers of pods that run were restarted in place, where that counts as failing.
func (w *Work) restarts() int32 {
	if w.Ledger.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return 0
	}
	var n int32
	for _, m := range w.Members {
		if !active(m) || m.Report == nil {
			continue
		}
		for _, c := range slices.Concat(m.Report.Status.InitContainerStatuses, m.Report.Status.ContainerStatuses) {
			n += c.RestartCount
		}
	}
	return n
}

// finish removes what still runs, says when nothing does any more, and clears away when the time to live is over.
func (w *Work) finish() {
	l := &w.Ledger
	w.drainAll()
	if l.Finished.IsZero() {
		if len(w.Drain) > 0 || w.number(terminating) > 0 {
			return
		}
		l.Finished = w.Now
	}
	if l.Spec.TTLSecondsAfterFinished == nil {
		return
	}
	due := l.Finished.Add(time.Duration(*l.Spec.TTLSecondsAfterFinished) * time.Second)
	if w.Now.Before(due) {
		w.WakeAt = fleet.Earliest(w.WakeAt, due)
		return
	}
	l.Cleared = true
	for _, m := range w.Members {
		if m.Slot.Goal == fleet.Run && m.Over() {
			w.drain(m)
		}
	}
}

// drainAll removes what runs; what has ended stays to be looked at.
func (w *Work) drainAll() {
	for _, m := range w.Members {
		if w.stays(m) {
			w.drain(m)
		}
	}
}

// size makes pods or removes some, so that as many run as should.
func (w *Work) size() {
	l, s := &w.Ledger, &w.Ledger.Spec
	running := w.active()
	var wanted int32
	switch {
	case s.Completions != nil:
		wanted = min(*s.Parallelism, *s.Completions-l.Succeeded)
	case l.Succeeded > 0:
		wanted = min(*s.Parallelism, int32(len(running)))
	default:
		wanted = *s.Parallelism
	}
	if surplus := int32(len(running)) - wanted; surplus > 0 {
		for _, m := range Victims(running, int(surplus), 0, w.Now) {
			w.drain(m)
		}
		return
	}
	taken := int32(len(running))
	if s.PodReplacementPolicy != nil && *s.PodReplacementPolicy == batchv1.Failed {
		taken += w.number(terminating)
	}
	missing := wanted - taken
	if missing <= 0 {
		return
	}
	if s.BackoffLimitPerIndex == nil && w.tooSoon(l.Streak, l.LastFailure) {
		return
	}
	if !indexed(s) {
		w.Place = append(w.Place, make([]*int32, missing)...)
		return
	}
	w.placeIndexes(missing)
}

// active are the pods that run. Of two with one completion index the younger one is removed.
func (w *Work) active() []Member {
	running := slices.DeleteFunc(slices.Clone(w.Members), func(m Member) bool { return !active(m) })
	if !indexed(&w.Ledger.Spec) {
		return running
	}
	slices.SortFunc(running, func(a, b Member) int {
		return cmp.Or(a.Slot.Created.Compare(b.Slot.Created), cmp.Compare(a.Slot.UID, b.Slot.UID))
	})
	seen := map[int32]bool{}
	return slices.DeleteFunc(running, func(m Member) bool {
		keep := m.Slot.Index != nil && !seen[*m.Slot.Index] && w.pending(*m.Slot.Index)
		if !keep {
			w.drain(m)
			return true
		}
		seen[*m.Slot.Index] = true
		return false
	})
}

// pending reports whether an index has neither succeeded nor failed for good.
func (w *Work) pending(index int32) bool {
	_, done := slices.BinarySearch(w.Ledger.Done, index)
	_, lost := slices.BinarySearch(w.Ledger.Lost, index)
	return !done && !lost && index < *w.Ledger.Spec.Completions
}

// placeIndexes makes pods for the lowest indexes that have none.
func (w *Work) placeIndexes(missing int32) {
	s := &w.Ledger.Spec
	busy := map[int32]bool{}
	wait := s.PodReplacementPolicy != nil && *s.PodReplacementPolicy == batchv1.Failed
	for _, m := range w.Members {
		if m.Slot.Index != nil && !w.gone[m.Slot.UID] && (active(m) || (wait && terminating(m))) {
			busy[*m.Slot.Index] = true
		}
	}
	for i := int32(0); i < *s.Completions && missing > 0; i++ {
		if busy[i] || !w.pending(i) {
			continue
		}
		if tries := w.Ledger.Tries[i]; s.BackoffLimitPerIndex != nil && w.tooSoon(tries.Streak, tries.Last) {
			continue
		}
		w.Place = append(w.Place, &i)
		missing--
	}
}

// tooSoon reports whether so many failures in a row have to be waited out still.
func (w *Work) tooSoon(failures int32, last time.Time) bool {
	if failures == 0 {
		return false
	}
	due := last.Add(min(firstRetry<<min(failures-1, 10), lastRetry))
	if !w.Now.Before(due) {
		return false
	}
	w.WakeAt = fleet.Earliest(w.WakeAt, due)
	return true
}
