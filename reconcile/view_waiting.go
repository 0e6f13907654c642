package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// Waiting says what keeps the fleet from being as desired, one note a workload; nothing when all is as it should be. A node
// that has not acted on the assignment yet is something to wait for, too. Nobody waits for what is paused or suspended, nor
// for CronJobs.
func (v *View) Waiting() []fleet.Note {
	if v.waiting == nil {
		notes := v.findWaiting()
		v.waiting = &notes
	}
	return slices.Clone(*v.waiting)
}

func (v *View) findWaiting() []fleet.Note {
	var notes []fleet.Note
	add := func(about fleet.ObjectID, text string) {
		if text != "" {
			notes = append(notes, fleet.Note{About: about, Text: text})
		}
	}
	for _, o := range v.in.Desired.Objects {
		if o.Template != nil {
			add(o.ID, v.behind(o))
		}
	}
	for i := range v.in.Previous.Slots {
		if s := &v.in.Previous.Slots[i]; s.Goal == fleet.Drain {
			add(s.Pod.Object(), "stopping"+v.stopping(s))
		}
	}
	if len(notes) == 0 { // what these say is soon seen, unless there is nothing else to see
		notes = v.unsaid()
	}
	slices.SortFunc(notes, fleet.Note.Compare)
	return notes
}

// Stopped reports whether all that is waited for waits for somebody in turn: a commit, or a hand that lets it go on.
func (v *View) Stopped() bool {
	waiting := v.Waiting()
	for _, n := range waiting {
		o, ok := v.in.Desired.Find(n.About)
		if !ok || !v.stopped(o, 0) {
			return false
		}
	}
	return len(waiting) > 0
}

// stopped reports whether a workload does not go on by itself, or waits for one that does not. Depth ends circles.
func (v *View) stopped(o fleet.Object, depth int) bool {
	if v.decided.standings[o.ID].waits {
		return true
	}
	if v.held(o) == "" || depth > len(v.in.Desired.Objects) {
		return false
	}
	return slices.ContainsFunc(dependsOn(o), func(id fleet.ObjectID) bool {
		on, ok := v.in.Desired.Find(id)
		return ok && v.stopped(on, depth+1)
	})
}

// stopping says what a pod's end waits for.
func (v *View) stopping(s *fleet.Slot) string {
	switch text := v.said[s.Pod.Object()]; {
	case text != "":
		return " (" + text + ")"
	case !v.heard(s.Node) && len(v.in.Reports) > 0:
		return fmt.Sprintf(" (node %s has not reported)", s.Node)
	default:
		return ""
	}
}

// behind says how far a workload is that is not as it should be, and why; empty where nobody waits for it.
func (v *View) behind(o fleet.Object) string {
	held := v.held(o)
	if v.decided.standings[o.ID].ready && held == "" {
		return ""
	}
	switch w := o.Value.(type) {
	case *appsv1.Deployment:
		if w.Spec.Paused {
			return ""
		}
	case *batchv1.Job:
		if w.Spec.Suspend != nil && *w.Spec.Suspend {
			return ""
		}
	case *batchv1.CronJob:
		return ""
	}
	if held != "" {
		return held
	}
	n := v.numbers(o)
	if bad := v.decided.rollouts[o.ID].Bad; bad != (fleet.Bad{}) {
		text := fmt.Sprintf("revision %s is bad for it: %s; it was rolled back, %d of %d pods available", bad.Revision.Short(), bad.Why, n.available, n.desired)
		if n.available < n.desired {
			text += v.why(o)
		}
		return text
	}
	var text string
	switch w := o.Value.(type) {
	case *appsv1.Deployment, *appsv1.DaemonSet:
		text = fmt.Sprintf("%d of %d pods updated, %d available", n.updated, n.desired, n.available)
	case *appsv1.StatefulSet:
		text = fmt.Sprintf("%d of %d pods updated, %d available", n.updated, n.desired, n.available)
		if to := n.desired - min(partition(w), n.desired); to != n.desired {
			text = fmt.Sprintf("%d of %d pods updated (partition %d), %d of %d available", min(n.updated, to), to, partition(w), n.available, n.desired)
		}
	case *appsv1.ReplicaSet:
		text = fmt.Sprintf("%d of %d pods available", n.available, n.desired)
	case *batchv1.Job:
		text = v.jobBehind(o.ID, w)
	default:
		text = "not ready"
	}
	if r := v.decided.rollouts[o.ID]; r.Reason == reasonExceeded {
		text += ", no progress since " + r.Progress.UTC().Format(time.RFC3339)
	}
	return text + v.why(o)
}

// partition is how many of a StatefulSet's pods, from the lowest on, are not to be updated.
func partition(s *appsv1.StatefulSet) int32 {
	if u := s.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil && s.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType {
		return *u.Partition
	}
	return 0
}

// held says what a workload waits for before it begins or rolls; empty when it does not.
func (v *View) held(o fleet.Object) string {
	begun := true
	switch o.Value.(type) {
	case *appsv1.Deployment, *appsv1.StatefulSet, *appsv1.DaemonSet:
		begun = v.target(o) != nil
	case *appsv1.ReplicaSet:
		begun = v.decided.sets[o.ID] != nil
	case *batchv1.Job:
		j := v.decided.jobs[o.ID]
		begun = j != nil && (!j.Started.IsZero() || j.Outcome != "")
	case *corev1.Pod:
		begun = len(v.members[o.ID]) > 0
	}
	if begun {
		return ""
	}
	return v.decided.hold(o)
}

func (v *View) jobBehind(id fleet.ObjectID, spec *batchv1.Job) string {
	j := v.decided.jobs[id]
	switch {
	case j == nil:
		return "not started"
	case j.Outcome == batchv1.JobFailed:
		return fmt.Sprintf("failed: %s: %s; %s", j.Reason, j.Message, succeeded(j, spec.Spec.Completions))
	case j.Outcome != "" && j.Finished.IsZero():
		return "complete, but its last pods are still stopping"
	default:
		return succeeded(j, spec.Spec.Completions)
	}
}

func succeeded(j *fleet.Job, completions *int32) string {
	if completions == nil {
		return fmt.Sprintf("%d pods succeeded, %d failed", j.Succeeded, j.Failed)
	}
	return fmt.Sprintf("%d of %d pods succeeded, %d failed", j.Succeeded, *completions, j.Failed)
}

// acted reports whether a node has acted on all that was decided about it: nodes of a fleet, which say by which commits they go, on
// the last decision about their own pods.
func (v *View) acted(report *fleet.NodeReport) bool {
	if report.Revisions == nil {
		return report.Epoch >= v.in.Previous.Epoch
	}
	for source, revision := range report.Revisions {
		if decided, known := v.in.Previous.Revisions[source]; known && decided != revision {
			return false
		}
	}
	return report.Epoch >= v.in.Previous.EpochOf(report.Node)
}

// unsaid is what was not decided on, acted on or reported yet.
func (v *View) unsaid() []fleet.Note {
	var notes []fleet.Note
	add := func(about fleet.ObjectID, format string, args ...any) {
		notes = append(notes, fleet.Note{About: about, Text: fmt.Sprintf(format, args...)})
	}
	for source, revision := range v.in.Desired.Revisions {
		if v.in.Previous.Revisions[source] != revision {
			add(fleet.ObjectID{}, "%s at %s is not decided on yet", source, revision.Short())
		}
	}
	for _, report := range v.in.Reports {
		if !v.acted(&report) {
			add(fleet.ObjectID{Kind: fleet.KindNode, Name: string(report.Node)}, "has not acted on the newest assignment yet")
		}
		if report.Pending > 0 {
			add(fleet.ObjectID{Kind: fleet.KindNode, Name: string(report.Node)}, "%d pods are being worked on", report.Pending)
		}
	}
	if len(v.in.Reports) == 0 {
		add(fleet.ObjectID{}, "no node has reported yet")
	}
	return notes
}

func upToDate(want fleet.Hash) func(workload.Member) bool {
	return func(m workload.Member) bool {
		if m.Slot.Goal != fleet.Run || m.Slot.Want != want || m.Report == nil {
			return false
		}
		_, ready := m.Report.ReadySince()
		return ready || m.Report.Status.Phase == corev1.PodSucceeded
	}
}

// why is the one reason, in brackets, that says most of why a workload is not further.
func (v *View) why(o fleet.Object) string {
	text := v.resting(o)
	if text == "" {
		text = v.podsWhy(o)
	}
	for _, note := range v.noted[o.ID] {
		if text == "" && !strings.HasPrefix(note, workload.StandsStill) && !strings.HasPrefix(note, "revision ") { // said already
			text = note
		}
	}
	if text == "" {
		text = v.unmet(o)
	}
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// steps are those of a Deployment's rollout while it goes by them; nil when it does not.
func (v *View) steps(o fleet.Object) []fleet.CanaryStep {
	r := v.decided.rollouts[o.ID]
	if o.ID.Kind != fleet.KindDeployment || r.Bad.Want != "" || r.Target == r.Good {
		return nil
	}
	steps, _ := fleet.ParseSteps(annotation(o, fleet.AnnotationSteps)) // it was checked when it was read
	if int(r.Canary.Step) >= len(steps) {
		return nil
	}
	return steps
}

// resting says where a rollout on steps pauses or was stopped.
func (v *View) resting(o fleet.Object) string {
	r, steps := v.decided.rollouts[o.ID], v.steps(o)
	at := int(r.Canary.Step)
	switch {
	case steps == nil:
		return ""
	case r.Canary.Fault != "":
		return fmt.Sprintf("stopped at step %d of %d: %s", at+1, len(steps), r.Canary.Fault)
	case steps[at].Size != nil:
		return ""
	case steps[at].Pause == 0:
		return fmt.Sprintf("pauses at step %d of %d until somebody resumes it", at+1, len(steps))
	default:
		return fmt.Sprintf("pauses at step %d of %d until %s", at+1, len(steps), r.Canary.Since.Add(steps[at].Pause).UTC().Format(time.RFC3339))
	}
}

// podsWhy is the first reason why a pod of a workload is not well: those of the set that it goes to come first.
func (v *View) podsWhy(o fleet.Object) string {
	if o.ID.Kind != fleet.KindDeployment {
		return v.podWhy(v.members[o.ID])
	}
	target := v.decided.rollouts[o.ID].Target
	if text := v.podWhy(v.members[target]); text != "" {
		return text
	}
	for _, g := range v.owned[o.ID] {
		if g.ID == target {
			continue
		}
		if text := v.podWhy(v.members[g.ID]); text != "" {
			return text
		}
	}
	return ""
}

// podWhy is the first reason why one of the pods is not well; if all that is left of those are pods that failed, the latest.
func (v *View) podWhy(members []workload.Member) string {
	var last *workload.Member
	for i := range members {
		m := &members[i]
		switch {
		case m.Report == nil:
			if text := v.decided.unplaced[m.Slot.UID]; text != "" {
				return m.Slot.Pod.Name + ": " + text
			}
		case m.Report.Status.Phase == corev1.PodFailed:
			if last == nil || workload.Ended(m.Report).After(workload.Ended(last.Report)) {
				last = m
			}
			continue
		default:
			if text := waitsFor(m.Report); text != "" {
				return m.Slot.Pod.Name + ": " + text
			}
		}
		if text := v.said[m.Slot.Pod.Object()]; text != "" {
			return m.Slot.Pod.Name + ": " + text
		}
	}
	if last == nil {
		return ""
	}
	return last.Slot.Pod.Name + ": " + failed(last.Report)
}

// unmet is what has to come from outside.
func (v *View) unmet(o fleet.Object) string {
	switch w := o.Value.(type) {
	case *appsv1.StatefulSet:
		if w.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
			return "updateStrategy is OnDelete: each pod is updated when somebody deletes it"
		}
	case *appsv1.DaemonSet:
		for _, n := range v.in.Nodes {
			if v.decided.seats(w)[n.Name] == workload.Unheard {
				return fmt.Sprintf("node %s has not reported", n.Name)
			}
		}
		if w.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
			return "updateStrategy is OnDelete: each pod is updated when somebody deletes it"
		}
	}
	return ""
}

// waitsFor is the first reason why a container of a pod waits, but for those that say nothing.
func waitsFor(p *fleet.PodReport) string {
	if p.Status.Reason != "" {
		return string(p.Status.Phase) + ": " + p.Status.Reason
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
				return brief(w.Reason + ": " + w.Message)
			}
		}
	}
	return ""
}

// failed says how a pod failed.
func failed(p *fleet.PodReport) string {
	if p.Status.Reason != "" {
		return brief("Failed: " + strings.TrimSuffix(p.Status.Reason+": "+p.Status.Message, ": "))
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			e := list[i].State.Terminated
			if e == nil || e.ExitCode == 0 {
				continue
			}
			text := fmt.Sprintf("Failed: container %s ended with code %d", list[i].Name, e.ExitCode)
			if e.Reason != "" {
				text += " (" + e.Reason + ")"
			}
			if e.Message != "" {
				text += ": " + e.Message
			}
			return brief(text)
		}
	}
	return "Failed"
}

// longest is how much of what a container says of itself there is room for.
const longest = 240

// brief is a text in one line that is not too long.
func brief(text string) string {
	text = strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ":")
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + "…"
	}
	return text
}
