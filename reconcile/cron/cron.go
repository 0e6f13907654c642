// Package cron decides which runs of a CronJob are due, which are too late or forbidden, and which old ones are forgotten
// (semantics section 8).
//
// It is pure: the time comes in, and the zone that schedules without one are meant in comes with it. A run is named by its
// scheduled minute, so that the same tick cannot run twice, whatever crashes.
package cron

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Input is all that Due looks at.
type Input struct {
	Spec   batchv1.CronJobSpec // defaulted and validated
	Memory fleet.Cron
	Jobs   []fleet.Job    // that it made and that still exist
	Now    time.Time      // in the zone that a schedule without a timeZone is meant in
	Zone   *time.Location // that spec.timeZone names; nil when it is not known here, or names none
}

// Outcome is what is to be done now.
type Outcome struct {
	Memory  fleet.Cron
	Start   time.Time        // the scheduled minute to run; zero for none
	Replace []fleet.ObjectID // runs to stop first, and to forget
	Forget  []fleet.ObjectID // finished runs beyond the history limits
	WakeAt  time.Time
	Notes   []string
}

// tooMany is how many missed runs are worth a warning.
const tooMany = 100

// Due says which run is due now: of several that were missed the newest, once.
func Due(in Input) Outcome {
	out := Outcome{Memory: in.Memory}
	out.history(in)
	if in.Spec.Suspend != nil && *in.Spec.Suspend {
		return out
	}
	schedule, now, err := read(&in.Spec, in.Zone, in.Now)
	if err != nil {
		out.Notes = append(out.Notes, err.Error())
		return out
	}
	since := in.Memory.Created
	if in.Memory.Last.After(since) {
		since = in.Memory.Last
	}
	if in.Memory.Last.After(in.Now) {
		out.Notes = append(out.Notes, fmt.Sprintf("its last run is of %s, which is still to come: the clock was ahead, and nothing is run until then",
			in.Memory.Last.UTC().Format(time.RFC3339)))
	}
	due, missed, next := last(schedule, since.In(now.Location()), now)
	out.WakeAt = next
	if due.IsZero() {
		return out
	}
	if limit := in.Spec.StartingDeadlineSeconds; limit != nil && due.Add(time.Duration(*limit)*time.Second).Before(now) {
		out.Notes = append(out.Notes, fmt.Sprintf("MissSchedule: the run of %s was not started within %d s: it is left out", due.UTC().Format(time.RFC3339), *limit))
		return out
	}
	if missed > tooMany && in.Spec.StartingDeadlineSeconds == nil {
		out.Notes = append(out.Notes, fmt.Sprintf("TooManyMissedTimes: %d runs were missed, only the newest is run. Is the clock right?", missed))
	}
	out.start(in, due.UTC())
	return out
}

// start runs the one that is due, unless it did already or may not.
func (o *Outcome) start(in Input, due time.Time) {
	if !due.After(o.Memory.Last) || slices.ContainsFunc(in.Jobs, func(j fleet.Job) bool { return j.ID.Name == Name(in.Memory.ID, due) }) {
		return
	}
	running := active(in.Jobs)
	switch {
	case in.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(running) > 0:
		o.Notes = append(o.Notes, fmt.Sprintf("the run of %s waits: %s still runs, and concurrencyPolicy is Forbid", due.Format(time.RFC3339), running[0].Name))
		return
	case in.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent:
		o.Replace = running
	}
	o.Start, o.Memory.Last = due, due
}

// active are the runs that have not finished.
func active(jobs []fleet.Job) []fleet.ObjectID {
	var ids []fleet.ObjectID
	for _, j := range jobs {
		if j.Finished.IsZero() {
			ids = append(ids, j.ID)
		}
	}
	slices.SortFunc(ids, fleet.ObjectID.Compare)
	return ids
}

// Name is what the run of a scheduled minute is called.
func Name(of fleet.ObjectID, due time.Time) string {
	return of.Name + "-" + strconv.FormatInt(due.Unix()/60, 10)
}

// history forgets the oldest finished runs beyond the limits, and remembers when one last ended well.
func (o *Outcome) history(in Input) {
	finished := map[batchv1.JobConditionType][]fleet.Job{}
	for _, j := range in.Jobs {
		if j.Finished.IsZero() {
			continue
		}
		if j.Outcome == batchv1.JobComplete && j.Finished.After(o.Memory.Success) {
			o.Memory.Success = j.Finished
		}
		if j.Cleared { // its time to live is over
			o.Forget = append(o.Forget, j.ID)
			continue
		}
		finished[j.Outcome] = append(finished[j.Outcome], j)
	}
	o.Forget = append(o.Forget, beyond(finished[batchv1.JobComplete], in.Spec.SuccessfulJobsHistoryLimit, 3)...)
	o.Forget = append(o.Forget, beyond(finished[batchv1.JobFailed], in.Spec.FailedJobsHistoryLimit, 1)...)
	slices.SortFunc(o.Forget, fleet.ObjectID.Compare)
}

func beyond(jobs []fleet.Job, limit *int32, otherwise int) []fleet.ObjectID {
	keep := otherwise
	if limit != nil {
		keep = int(*limit)
	}
	if len(jobs) <= keep {
		return nil
	}
	slices.SortFunc(jobs, func(a, b fleet.Job) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return a.ID.Compare(b.ID)
	})
	var ids []fleet.ObjectID
	for _, j := range jobs[:len(jobs)-keep] {
		ids = append(ids, j.ID)
	}
	return ids
}

// read is the schedule, and the time in its zone.
func read(spec *batchv1.CronJobSpec, zone *time.Location, now time.Time) (cron.Schedule, time.Time, error) {
	if spec.TimeZone != nil {
		if zone == nil {
			return nil, now, fmt.Errorf("its time zone %q is not known here: nothing is run", *spec.TimeZone)
		}
		now = now.In(zone)
	}
	schedule, err := cron.ParseStandard(spec.Schedule)
	if err != nil {
		return nil, now, fmt.Errorf("its schedule %q cannot be read: %w", spec.Schedule, err)
	}
	return schedule, now, nil
}

// last is the newest run after since and not after now, zero if none, about how many there were, and when the next one is.
func last(schedule cron.Schedule, since, now time.Time) (newest time.Time, missed int64, next time.Time) {
	first := schedule.Next(since)
	if every, fixed := schedule.(cron.ConstantDelaySchedule); fixed { // @every counts from the run before
		if first.After(now) {
			return time.Time{}, 0, first.UTC()
		}
		n := now.Sub(first) / every.Delay
		newest = first.Add(n * every.Delay)
		return newest, int64(n) + 1, newest.Add(every.Delay).UTC()
	}
	if next = schedule.Next(now); !next.IsZero() {
		next = next.UTC()
	}
	if first.IsZero() || first.After(now) {
		return time.Time{}, 0, next
	}
	second := schedule.Next(first)
	if second.IsZero() || second.After(now) {
		return first, 1, next
	}
	// Going through all of a long outage could take long: begin with a guess, and go back further while it is too late.
	missed = int64(now.Sub(first)/second.Sub(first)) + 1
	newest = first
	for back := second.Sub(first); ; back *= 2 {
		from := now.Add(-back)
		if from.Before(first) {
			from = first
		}
		if at := schedule.Next(from.Add(-time.Second)); !at.IsZero() && !at.After(now) {
			newest = at
			break
		}
	}
	for at := schedule.Next(newest); !at.IsZero() && !at.After(now); at = schedule.Next(at) {
		newest = at
	}
	return newest, missed, next
}
