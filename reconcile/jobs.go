package reconcile

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/cron"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// job runs a Job of a source. One that changed in what may not change in a living Job is replaced as a whole: everything of
// the old one goes first (semantics 7, the end).
func (d *decider) job(o fleet.Object, v *batchv1.Job) {
	ledger, ok := d.jobs[o.ID]
	if changed := ok && (ledger.Want != o.Hash || !equality.Semantic.DeepEqual(fixed(ledger.Spec), fixed(terms(v.Spec)))); !ok || changed {
		delete(d.jobs, o.ID)
		d.standings[o.ID] = standing{}
		if d.leftovers(o, changed) {
			d.note(o.ID, "it was changed: the pods of its former version go first")
			return
		}
		if node := d.unheard(true); node != "" {
			d.note(o.ID, "it waits until node %s has reported: it may have run there", node)
			return
		}
		ledger = d.newJob(o.ID, o, terms(v.Spec))
	}
	ledger.Owner, ledger.Spec = fleet.ObjectID{}, terms(v.Spec)
	d.moveJob(ledger, o)
	d.runJob(ledger, d.hold(o))
	switch {
	case ledger.Outcome == batchv1.JobFailed:
		d.standings[o.ID] = standing{failed: "which failed: " + ledger.Message, waits: !ledger.Finished.IsZero()}
	default:
		d.standings[o.ID] = standing{ready: ledger.Outcome == batchv1.JobComplete && !ledger.Finished.IsZero()}
	}
}

// terms are what a Job is run under: its spec without the template, but for how containers are restarted.
func terms(s batchv1.JobSpec) batchv1.JobSpec {
	t := *s.DeepCopy()
	t.Template = corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: s.Template.Spec.RestartPolicy}}
	return t
}

// fixed are the terms that a living Job keeps.
func fixed(s batchv1.JobSpec) batchv1.JobSpec {
	s.Parallelism, s.Suspend, s.TTLSecondsAfterFinished, s.ActiveDeadlineSeconds, s.BackoffLimit = nil, nil, nil, nil, nil
	if s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion {
		s.Completions = nil // an Indexed Job may be made larger or smaller
	}
	return s
}

// leftovers removes what is left of a Job's pods from another version of it (all that there are, when it was changed just
// now), and reports whether there was any.
func (d *decider) leftovers(o fleet.Object, all bool) bool {
	left := false
	for _, m := range d.members[o.ID] {
		if all || m.Slot.Goal != fleet.Run || m.Slot.Want != o.Hash || m.Slot.Counted {
			d.drain(m.Slot.UID)
			left = true
		}
	}
	return left
}

// newJob makes a ledger. Where pods exist already the store was lost: their ends are counted as they are found.
func (d *decider) newJob(id fleet.ObjectID, from fleet.Object, spec batchv1.JobSpec) *fleet.Job {
	j := &fleet.Job{
		ID: id, Source: from.Source, From: from.Revision, Want: from.Hash, Spec: spec, Created: d.in.Now,
		UID: fleet.DeriveUID("job", id.String(), string(from.Hash)),
	}
	for _, m := range d.members[id] {
		j.UID = m.Slot.Label
		if m.Slot.Created.Before(j.Created) {
			j.Created, j.Started = m.Slot.Created, m.Slot.Created
		}
	}
	d.jobs[id] = j
	return j
}

// runJob does what is due for one Job.
func (d *decider) runJob(j *fleet.Job, hold string) {
	if d.in.paper {
		j.Spec.TTLSecondsAfterFinished, j.Spec.ActiveDeadlineSeconds = nil, nil
	}
	work := workload.Run(workload.Work{Ledger: *j, Members: d.members[j.ID], Hold: hold, Now: d.in.Now})
	*j = work.Ledger
	for _, uid := range work.Count {
		d.slots[d.at[uid]].Counted = true
	}
	for _, uid := range work.Drain {
		d.drain(uid)
	}
	for _, index := range work.Place {
		if !d.ready(j.ID) {
			break
		}
		base, born := j.ID.Name, j.Born
		if index != nil {
			base = fmt.Sprintf("%s-%d", base, *index)
		}
		if d.place(fleet.Slot{Identity: fleet.Identity{
			Pod: d.name(j.ID.Namespace, base, j.UID, &born), Owner: j.ID, Controller: j.Owner, Source: j.Source, From: j.From, Want: j.Want,
			Label: j.UID, Index: index,
		}}) {
			j.Born = born
		}
	}
	d.say(j.ID, work.WakeAt, work.Notes)
}

// cronJob starts what is due, and runs what was started.
func (d *decider) cronJob(o fleet.Object, v *batchv1.CronJob) {
	memory, known := d.crons[o.ID]
	if !known {
		memory = fleet.Cron{ID: o.ID, Created: d.in.Now}
	}
	memory.Source = o.Source
	d.reviveRuns(o, v, &memory)
	d.trigger(o, v)
	spec := v.Spec
	if d.in.paper {
		no := true
		spec.Suspend = &no
	}
	for { // a run that is over makes room for another, or for nothing
		d.runAll(o)
		due := cron.Due(cron.Input{Spec: spec, Memory: memory, Jobs: d.runsOf(o.ID), Now: d.local, Zone: d.zone(v)})
		if node := d.unheard(true); node != "" && !due.Start.IsZero() {
			d.note(o.ID, "the run of %s waits until node %s has reported: it may have been started there", due.Start.Format(time.RFC3339), node)
			due.Start, due.Replace, due.Memory.Last = time.Time{}, nil, memory.Last
		}
		memory = due.Memory
		for _, id := range slices.Concat(due.Replace, due.Forget) {
			delete(d.jobs, id) // what it still has is drained as nobody's
		}
		if due.Start.IsZero() && len(due.Forget) == 0 {
			d.say(o.ID, due.WakeAt, due.Notes)
			break
		}
		if !due.Start.IsZero() {
			d.startRun(o, v, cron.Name(o.ID, due.Start), due.Start, false)
		}
	}
	d.crons[o.ID] = memory
}

// runAll does what is due for each run of a CronJob, once a decision.
func (d *decider) runAll(o fleet.Object) {
	for _, j := range d.runsOf(o.ID) {
		if d.ran[j.ID] {
			continue
		}
		d.ran[j.ID] = true
		ledger := d.jobs[j.ID]
		d.moveJob(ledger, o)
		d.runJob(ledger, "")
	}
}

func (d *decider) zone(v *batchv1.CronJob) *time.Location {
	if v.Spec.TimeZone == nil {
		return nil
	}
	return d.in.Zones[*v.Spec.TimeZone]
}

// moveJob follows what has the Job now to another source. A template that this one does not have any more stays where it was.
func (d *decider) moveJob(j *fleet.Job, o fleet.Object) {
	if j.Source == o.Source || j.Want != o.Hash {
		return
	}
	j.Source, j.From = o.Source, o.Revision
	d.move(j.ID, j.Source, j.From)
}

// runsOf are the Jobs of a CronJob, in the order of their IDs.
func (d *decider) runsOf(owner fleet.ObjectID) []fleet.Job {
	var list []fleet.Job
	for _, id := range d.runs[owner] {
		if j := d.jobs[id]; j != nil && j.Owner == owner {
			list = append(list, *j)
		}
	}
	slices.SortFunc(list, func(a, b fleet.Job) int { return a.ID.Compare(b.ID) })
	return list
}

// addRun makes a Job one of a CronJob's.
func (d *decider) addRun(j *fleet.Job, owner fleet.ObjectID) {
	j.Owner = owner
	d.runs[owner] = append(d.runs[owner], j.ID)
}

// startRun makes a Job of a CronJob's.
func (d *decider) startRun(o fleet.Object, v *batchv1.CronJob, name string, due time.Time, manual bool) {
	id := fleet.ObjectID{Kind: fleet.KindJob, Namespace: o.ID.Namespace, Name: name}
	if d.jobs[id] != nil {
		return
	}
	if _, own := d.in.Desired.Find(id); own {
		d.note(o.ID, "the run %s cannot be started: a Job of that name is in Git", name)
		return
	}
	j := d.newJob(id, o, terms(v.Spec.JobTemplate.Spec))
	j.Due, j.Manual = due, manual
	d.addRun(j, o.ID)
}

// trigger starts a run for each time that somebody asked for one.
func (d *decider) trigger(o fleet.Object, v *batchv1.CronJob) {
	for _, i := range d.intents[o.ID] {
		if i.Verb != fleet.Trigger {
			continue
		}
		d.startRun(o, v, o.ID.Name+"-"+fleet.SafeSuffix("trigger", i.At.UTC().Format(time.RFC3339Nano)), i.At, true)
		d.drop(i)
	}
}

// reviveRuns makes the ledgers of runs of which pods exist: the store was lost.
func (d *decider) reviveRuns(o fleet.Object, v *batchv1.CronJob, memory *fleet.Cron) {
	for _, id := range d.found[o.ID] {
		members := d.members[id]
		if d.jobs[id] != nil {
			continue
		}
		j := d.newJob(id, o, terms(v.Spec.JobTemplate.Spec))
		d.addRun(j, o.ID)
		j.Want, j.From, j.Manual = members[0].Slot.Want, members[0].Slot.From, true
		var minutes int64
		if _, err := fmt.Sscanf(id.Name, o.ID.Name+"-%d", &minutes); err == nil && cron.Name(o.ID, time.Unix(minutes*60, 0)) == id.Name {
			j.Manual, j.Due = false, time.Unix(minutes*60, 0).UTC()
			if j.Due.After(memory.Last) {
				memory.Last = j.Due
			}
		}
	}
}
