package cron_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	gocmp "github.com/google/go-cmp/cmp"
	robfig "github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/cron"
)

var (
	hour     = time.Date(2016, 5, 19, 10, 0, 0, 0, time.UTC) // a Thursday
	nightly  = fleet.ObjectID{Kind: fleet.KindCronJob, Namespace: "shop", Name: "nightly"}
	never    = time.Time{}
	minutes  = func(n int) time.Time { return hour.Add(time.Duration(n) * time.Minute) }
	withZone = func(name string) *time.Location {
		zone, err := time.LoadLocation(name)
		if err != nil {
			panic(err)
		}
		return zone
	}
)

func to[T any](v T) *T { return &v }

// input is a CronJob with the defaults that a source gives.
func input(schedule string, change ...func(*cron.Input)) cron.Input {
	in := cron.Input{
		Spec: batchv1.CronJobSpec{
			Schedule: schedule, ConcurrencyPolicy: batchv1.AllowConcurrent, Suspend: to(false),
			SuccessfulJobsHistoryLimit: to(int32(3)), FailedJobsHistoryLimit: to(int32(1)),
		},
		Memory: fleet.Cron{ID: nightly, Source: "home", Created: hour},
	}
	for _, f := range change {
		f(&in)
	}
	return in
}

func created(at time.Time) func(*cron.Input) { return func(in *cron.Input) { in.Memory.Created = at } }
func last(at time.Time) func(*cron.Input)    { return func(in *cron.Input) { in.Memory.Last = at } }
func now(at time.Time) func(*cron.Input)     { return func(in *cron.Input) { in.Now = at } }
func deadline(seconds int) func(*cron.Input) {
	return func(in *cron.Input) { in.Spec.StartingDeadlineSeconds = to(int64(seconds)) }
}
func suspended(in *cron.Input) { in.Spec.Suspend = to(true) }
func forbid(in *cron.Input)    { in.Spec.ConcurrencyPolicy = batchv1.ForbidConcurrent }
func replace(in *cron.Input)   { in.Spec.ConcurrencyPolicy = batchv1.ReplaceConcurrent }
func policy(p string) func(*cron.Input) {
	return func(in *cron.Input) { in.Spec.ConcurrencyPolicy = batchv1.ConcurrencyPolicy(p) }
}
func zone(name string) func(*cron.Input) {
	return func(in *cron.Input) { in.Spec.TimeZone, in.Zone = &name, withZone(name) }
}
func jobs(list ...fleet.Job) func(*cron.Input) {
	return func(in *cron.Input) { in.Jobs = append(in.Jobs, list...) }
}

// run is the Job of a scheduled minute; ended is when and how it ended, if it did.
func run(due time.Time, ended ...any) fleet.Job {
	j := fleet.Job{ID: fleet.ObjectID{Kind: fleet.KindJob, Namespace: "shop", Name: cron.Name(nightly, due)}, Owner: nightly, Due: due, Created: due, Started: due}
	if len(ended) > 0 {
		j.Finished, j.Outcome = due.Add(time.Minute), ended[0].(batchv1.JobConditionType)
	}
	return j
}

// What Kubernetes' controller does at a sync, by its cases.
func TestDue(t *testing.T) {
	const complete = batchv1.JobComplete
	week := hour.Add(7*24*time.Hour + time.Minute)
	for _, test := range []struct {
		name     string
		schedule string
		change   []func(*cron.Input)
		start    time.Time
		wake     time.Time // zero: not looked at
	}{
		{"never ran, not time", "0 * * * *", []func(*cron.Input){now(minutes(30))}, never, minutes(60)},
		{"never ran, on time", "0 * * * *", []func(*cron.Input){now(minutes(60))}, minutes(60), minutes(120)},
		{"never ran, a second early", "0 * * * *", []func(*cron.Input){now(minutes(60).Add(-time.Second))}, never, minutes(60)},
		{"never ran, a nanosecond early", "0 * * * *", []func(*cron.Input){now(minutes(60).Add(-time.Nanosecond))}, never, minutes(60)},
		{"never ran, just after", "0 * * * *", []func(*cron.Input){now(minutes(61))}, minutes(60), minutes(120)},
		{"never ran, is time, suspended", "0 * * * *", []func(*cron.Input){now(minutes(61)), suspended}, never, never},
		{"never ran, past the deadline", "0 * * * *", []func(*cron.Input){now(minutes(61)), deadline(10)}, never, minutes(120)},
		{"never ran, within the deadline", "0 * * * *", []func(*cron.Input){now(minutes(61)), deadline(1000000)}, minutes(60), minutes(120)},
		{"a second within the deadline", "0 * * * *", []func(*cron.Input){now(minutes(61)), deadline(61)}, minutes(60), never},
		{"a second past the deadline", "0 * * * *", []func(*cron.Input){now(minutes(61)), deadline(59)}, never, never},
		{"short deadlines need no luck", "0 * * * *", []func(*cron.Input){now(minutes(60).Add(time.Second)), deadline(2)}, minutes(60), never},
		{"created in the minute itself", "0 * * * *", []func(*cron.Input){created(minutes(60)), now(minutes(60))}, never, minutes(120)},
		{"created after the minute", "0 * * * *", []func(*cron.Input){created(minutes(60).Add(time.Second)), now(minutes(61))}, never, minutes(120)},

		{"ran and is done, not time", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(minutes(30))}, never, minutes(60)},
		{"ran and is done, is time", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(minutes(61))}, minutes(60), minutes(120)},
		{"ran and is done, is time, suspended", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(minutes(61)), suspended}, never, never},
		{"ran and is done, past the deadline", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(minutes(61)), deadline(10)}, never, never},
		{"ran and is done, within the deadline", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(minutes(61)), deadline(1000000)}, minutes(60), never},

		{"still runs, not time, Allow", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(30))}, never, minutes(60)},
		{"still runs, not time, Forbid", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(30)), forbid}, never, minutes(60)},
		{"still runs, not time, Replace", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(30)), replace}, never, minutes(60)},
		{"still runs, is time, Allow", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(61))}, minutes(60), never},
		{"still runs, is time, Forbid", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(61)), forbid}, never, minutes(120)},
		{"still runs, is time, Replace", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(61)), replace}, minutes(60), never},
		{"still runs, is time, suspended", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(61)), suspended}, never, never},
		{"still runs, past the deadline", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(61)), deadline(10)}, never, never},
		{"still runs, within the deadline", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour)), now(minutes(61)), deadline(1000000)}, minutes(60), never},
		{"Forbid: starts late when the other ends", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(minutes(95)), forbid}, minutes(60), never},
		{"Forbid: starts late within the deadline", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(minutes(61)), forbid, deadline(100)}, minutes(60), never},
		{"Forbid: not when it is too late then", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(minutes(95)), forbid, deadline(100)}, never, never},

		{"long overdue, no deadline, Allow", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(week)}, week.Add(-time.Minute), week.Add(59 * time.Minute)},
		{"long overdue, no deadline, Forbid", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(week), forbid}, week.Add(-time.Minute), never},
		{"long overdue, no deadline, Replace", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(week), replace}, week.Add(-time.Minute), never},
		{"long overdue, medium deadline", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(week), deadline(7200)}, week.Add(-time.Minute), never},
		{"long overdue, short deadline", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(week), deadline(10)}, never, never},
		{"long overdue, long deadline", "0 * * * *", []func(*cron.Input){last(hour), jobs(run(hour, complete)), now(week), deadline(1000000)}, week.Add(-time.Minute), never},
		{"long overdue, never ran", "0 * * * *", []func(*cron.Input){now(week)}, week.Add(-time.Minute), never},

		// mostRecentScheduleTime
		{"missed five", "0 * * * *", []func(*cron.Input){created(hour.Add(10 * time.Second)), now(minutes(301))}, minutes(300), minutes(360)},
		{"complex", "30 6-16/4 * * 1-5", []func(*cron.Input){last(minutes(30)), now(minutes(24*60 + 31))}, minutes(24*60 + 30), minutes(28*60 + 30)},
		{"another complex, skips the weekend", "30 10,11,12 * * 1-5", []func(*cron.Input){last(minutes(30)), now(minutes(30*60 + 30))}, minutes(26*60 + 30), minutes(96*60 + 30)},
		{"longer between runs", "30 6-16/4 * * 1-5", []func(*cron.Input){last(minutes(30)), now(minutes(96*60 + 31))}, minutes(96*60 + 30), never},
		{"shorter between runs", "30 6-16/4 * * 1-5", []func(*cron.Input){now(minutes(24*60 + 31))}, minutes(24*60 + 30), never},
		{"once a week, missed two", "0 12 * * 4", []func(*cron.Input){last(hour.Add(2 * time.Hour)), now(hour.Add(19*24*time.Hour + 90*time.Minute))}, hour.Add(14*24*time.Hour + 2*time.Hour), hour.Add(21*24*time.Hour + 2*time.Hour)},
		{"once a week, never ran", "0 12 * * 5", []func(*cron.Input){now(hour.Add(6 * time.Hour))}, never, hour.Add(26 * time.Hour)},
		{"ran in the minute of its creation", "0 * * * *", []func(*cron.Input){last(hour), now(hour.Add(30 * time.Second))}, never, minutes(60)},
		{"ran a minute ago", "*/5 * * * *", []func(*cron.Input){last(minutes(30)), now(minutes(31))}, never, minutes(35)},
		{"ran a minute ago, deadline", "*/5 * * * *", []func(*cron.Input){last(minutes(30)), now(minutes(31)), deadline(60)}, never, minutes(35)},
		{"ran two minutes ago, deadline", "*/5 * * * *", []func(*cron.Input){last(minutes(30)), now(minutes(32)), deadline(60)}, never, minutes(35)},
		{"first runs close together, then none for long", "0,1 0 1 1 *", []func(*cron.Input){created(time.Date(2010, 12, 31, 0, 0, 0, 0, time.UTC)), now(hour)}, time.Date(2016, 1, 1, 0, 1, 0, 0, time.UTC), time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"only in leap years", "0 0 29 2 *", []func(*cron.Input){created(hour.AddDate(-9, 0, 0)), now(hour)}, time.Date(2016, 2, 29, 0, 0, 0, 0, time.UTC), time.Date(2020, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"never fires", "59 23 31 2 *", []func(*cron.Input){created(hour.Add(10 * time.Second)), now(minutes(60))}, never, never},
		{"never fires, no matter how long", "0 0 30 2 *", []func(*cron.Input){now(hour.AddDate(20, 0, 0))}, never, never},
		{"missed ten years of minutes", "* * * * *", []func(*cron.Input){created(hour.AddDate(-10, 0, 0)), now(hour.Add(30 * time.Second))}, hour, minutes(1)},

		// @every is anchored at the creation or the last run.
		{"@every: not yet", "@every 1h", []func(*cron.Input){now(minutes(59))}, never, minutes(60)},
		{"@every: wakes at its time, whenever it is asked", "@every 1h", []func(*cron.Input){now(minutes(10))}, never, minutes(60)},
		{"@every: on time", "@every 1h", []func(*cron.Input){now(minutes(60))}, minutes(60), minutes(120)},
		{"@every: late", "@every 1h", []func(*cron.Input){now(minutes(75))}, minutes(60), minutes(120)},
		{"@every: the newest of several missed", "@every 1h", []func(*cron.Input){now(minutes(200))}, minutes(180), minutes(240)},
		{"@every: from the last run", "@every 1h", []func(*cron.Input){last(minutes(7)), now(minutes(70))}, minutes(67), minutes(127)},
		{"@every: after a week, from the last run", "@every 1h", []func(*cron.Input){created(minutes(-59)), last(minutes(1)), now(minutes(7 * 24 * 60))}, minutes(6*24*60 + 23*60 + 1), minutes(7*24*60 + 1)},
		{"@every: a deadline does not move it", "@every 1h", []func(*cron.Input){now(minutes(60).Add(time.Second)), deadline(600)}, minutes(60), minutes(120)},
		{"@every: past the deadline", "@every 1h", []func(*cron.Input){now(minutes(75)), deadline(600)}, never, minutes(120)},
		{"@every: a deadline longer than it does not move it", "@every 1m", []func(*cron.Input){now(minutes(5).Add(20 * time.Second)), deadline(90)}, minutes(5), minutes(6)},
		{"@every: seconds", "@every 90s", []func(*cron.Input){now(minutes(3))}, minutes(3), minutes(3).Add(90 * time.Second)},
		{"@every: shorter than a minute", "@every 20s", []func(*cron.Input){last(hour.Add(20 * time.Second)), now(hour.Add(45 * time.Second))}, hour.Add(40 * time.Second), hour.Add(time.Minute)},
		{"@every: created between seconds", "@every 1h", []func(*cron.Input){created(hour.Add(400 * time.Millisecond)), now(minutes(60))}, minutes(60), never},

		// What schedules mean.
		{"? is any", "0 12 ? * ?", []func(*cron.Input){now(minutes(121))}, minutes(120), minutes(26 * 60)},
		{"@hourly", "@hourly", []func(*cron.Input){now(minutes(61))}, minutes(60), minutes(120)},
		{"@daily", "@daily", []func(*cron.Input){now(minutes(14*60 + 1))}, minutes(14 * 60), minutes(38 * 60)},
		{"@weekly is Sunday", "@weekly", []func(*cron.Input){now(time.Date(2016, 5, 22, 0, 1, 0, 0, time.UTC))}, time.Date(2016, 5, 22, 0, 0, 0, 0, time.UTC), never},
		{"@monthly", "@monthly", []func(*cron.Input){now(time.Date(2016, 6, 1, 0, 1, 0, 0, time.UTC))}, time.Date(2016, 6, 1, 0, 0, 0, 0, time.UTC), never},
		{"@yearly", "@yearly", []func(*cron.Input){now(time.Date(2017, 1, 1, 0, 1, 0, 0, time.UTC))}, time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC), never},
		{"names", "0 0 * jun mon", []func(*cron.Input){now(time.Date(2016, 6, 6, 0, 1, 0, 0, time.UTC))}, time.Date(2016, 6, 6, 0, 0, 0, 0, time.UTC), never},
		{"day of month or day of week: the day of week", "0 0 13 * 5", []func(*cron.Input){now(time.Date(2016, 5, 20, 0, 1, 0, 0, time.UTC))}, time.Date(2016, 5, 20, 0, 0, 0, 0, time.UTC), never},
		{"day of month or day of week: the day of month", "0 0 13 * 5", []func(*cron.Input){now(time.Date(2016, 6, 13, 0, 1, 0, 0, time.UTC))}, time.Date(2016, 6, 13, 0, 0, 0, 0, time.UTC), time.Date(2016, 6, 17, 0, 0, 0, 0, time.UTC)},
		{"day of month alone", "0 0 21 * *", []func(*cron.Input){now(time.Date(2016, 6, 1, 0, 0, 0, 0, time.UTC))}, time.Date(2016, 5, 21, 0, 0, 0, 0, time.UTC), never},
		{"day of week alone", "0 0 ? * 1", []func(*cron.Input){now(time.Date(2016, 5, 24, 0, 0, 0, 0, time.UTC))}, time.Date(2016, 5, 23, 0, 0, 0, 0, time.UTC), never},

		// Time zones.
		{"zone: of the CronJob", "0 12 * * *", []func(*cron.Input){zone("Europe/Berlin"), created(minutes(-60)), now(minutes(1))}, hour, minutes(24 * 60)},
		{"zone: not the time there", "0 10 * * *", []func(*cron.Input){zone("Europe/Berlin"), created(minutes(-60)), now(minutes(1))}, never, hour.Add(22 * time.Hour)},
		{"zone: of the clock where none is named", "0 12 * * *", []func(*cron.Input){created(minutes(-60)), now(minutes(1).In(withZone("Europe/Berlin")))}, hour, minutes(24 * 60)},
		{"zone: the CronJob's before that of the clock", "0 19 * * *", []func(*cron.Input){zone("Asia/Tokyo"), created(minutes(-60)), now(minutes(1).In(withZone("Europe/Berlin")))}, hour, minutes(24 * 60)},
		{"zone: half an hour off", "30 15 * * *", []func(*cron.Input){zone("Asia/Kolkata"), created(minutes(-60)), now(minutes(1))}, hour, never},
		{"gap: a time that is not there does not come that day", "30 2 * * *", []func(*cron.Input){zone("Europe/Berlin"), last(time.Date(2026, 3, 28, 1, 30, 0, 0, time.UTC)), now(time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC))}, never, time.Date(2026, 3, 30, 0, 30, 0, 0, time.UTC)},
		{"gap: hours go on", "0 * * * *", []func(*cron.Input){zone("Europe/Berlin"), last(time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC)), now(time.Date(2026, 3, 29, 1, 0, 5, 0, time.UTC))}, time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 3, 29, 2, 0, 0, 0, time.UTC)},
		{"gap: the hour after it", "0 3 * * *", []func(*cron.Input){zone("Europe/Berlin"), last(time.Date(2026, 3, 28, 2, 0, 0, 0, time.UTC)), now(time.Date(2026, 3, 29, 1, 0, 5, 0, time.UTC))}, time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 3, 30, 1, 0, 0, 0, time.UTC)},
		{"doubled hour: once, and", "30 2 * * *", []func(*cron.Input){zone("Europe/Berlin"), last(time.Date(2026, 10, 24, 0, 30, 0, 0, time.UTC)), now(time.Date(2026, 10, 25, 0, 30, 5, 0, time.UTC))}, time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC)},
		{"doubled hour: once more, as in Kubernetes", "30 2 * * *", []func(*cron.Input){zone("Europe/Berlin"), last(time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)), now(time.Date(2026, 10, 25, 1, 30, 5, 0, time.UTC))}, time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC), time.Date(2026, 10, 26, 1, 30, 0, 0, time.UTC)},
		{"doubled hour: missed both", "30 2 * * *", []func(*cron.Input){zone("Europe/Berlin"), last(time.Date(2026, 10, 24, 0, 30, 0, 0, time.UTC)), now(time.Date(2026, 10, 25, 12, 0, 0, 0, time.UTC))}, time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC), never},

		// What changes meanwhile.
		{"schedule changed: from the last run on", "*/15 * * * *", []func(*cron.Input){last(hour), now(minutes(20))}, minutes(15), minutes(30)},
		{"schedule changed: the next is far off", "0 12 1 1 *", []func(*cron.Input){last(hour), now(minutes(61))}, never, time.Date(2017, 1, 1, 12, 0, 0, 0, time.UTC)},
		{"schedule changed to one whose time of today is over: it runs late", "0 9 * * *", []func(*cron.Input){created(hour.AddDate(0, 0, -9)), last(time.Date(2016, 5, 19, 3, 0, 0, 0, time.UTC)), now(minutes(120))}, minutes(-60), never},
		{"clock back: before the last run nothing is run", "0 * * * *", []func(*cron.Input){last(minutes(120)), now(minutes(61))}, never, never},
		{"clock back: in the minute of the last run", "0 * * * *", []func(*cron.Input){last(minutes(60)), now(minutes(60))}, never, minutes(120)},
		{"clock back: before it was created", "0 * * * *", []func(*cron.Input){now(minutes(-30))}, never, never},
		{"clock forward: one run", "0 * * * *", []func(*cron.Input){last(hour), now(hour.AddDate(1, 0, 0))}, hour.AddDate(1, 0, 0), never},
		{"the Job of that minute is there already", "0 * * * *", []func(*cron.Input){jobs(run(minutes(60))), now(minutes(61))}, never, minutes(120)},
		{"the Job of that minute is there, and over", "0 * * * *", []func(*cron.Input){jobs(run(minutes(60), complete)), now(minutes(61))}, never, minutes(120)},
		{"the Job of an hour ago does not keep it", "0 * * * *", []func(*cron.Input){jobs(run(hour, complete)), now(minutes(61))}, minutes(60), never},
		{"resumed: only the newest missed", "0 * * * *", []func(*cron.Input){last(hour), now(minutes(301))}, minutes(300), never},
		{"resumed: none within the deadline", "0 * * * *", []func(*cron.Input){last(hour), now(minutes(301)), deadline(30)}, never, never},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := input(test.schedule, test.change...)
			out := decide(t, in)
			if !out.Start.Equal(test.start) {
				t.Errorf("starts %s, want %s", out.Start, test.start)
			}
			if !out.Start.IsZero() && !out.Memory.Last.Equal(out.Start) {
				t.Errorf("remembers %s", out.Memory.Last)
			}
			if out.Start.IsZero() && !out.Memory.Last.Equal(in.Memory.Last) {
				t.Errorf("remembers %s of nothing", out.Memory.Last)
			}
			if !test.wake.IsZero() && !out.WakeAt.Equal(test.wake) {
				t.Errorf("wakes at %s, want %s", out.WakeAt, test.wake)
			}
			if !out.WakeAt.IsZero() && !out.WakeAt.After(in.Now) {
				t.Errorf("wakes at %s, which is not after %s", out.WakeAt, in.Now)
			}
		})
	}
}

// decide decides, and holds the decision to being the last one for this moment.
func decide(t interface {
	Helper()
	Errorf(string, ...any)
}, in cron.Input) cron.Outcome {
	t.Helper()
	out := cron.Due(in)
	again := in
	again.Memory = out.Memory
	again.Jobs = slices.DeleteFunc(slices.Clone(in.Jobs), func(j fleet.Job) bool {
		return slices.Contains(out.Forget, j.ID) || slices.Contains(out.Replace, j.ID)
	})
	if !out.Start.IsZero() {
		again.Jobs = append(again.Jobs, run(out.Start))
	}
	if twice := cron.Due(again); !twice.Start.IsZero() || len(twice.Replace)+len(twice.Forget) > 0 || !gocmp.Equal(twice.Memory, out.Memory) {
		t.Errorf("deciding again: %+v", twice)
	}
	backwards := in
	backwards.Jobs = slices.Clone(in.Jobs)
	slices.Reverse(backwards.Jobs)
	if d := gocmp.Diff(out, cron.Due(backwards)); d != "" {
		t.Errorf("another order of Jobs: %s", d)
	}
	return out
}

func TestTooManyMissed(t *testing.T) {
	for _, test := range []struct {
		name   string
		in     cron.Input
		missed string // empty for no note
	}{
		{"100", input("0 * * * *", now(minutes(100*60+1))), ""},
		{"101", input("0 * * * *", now(minutes(101*60+1))), "TooManyMissedTimes: 101 "},
		{"@every", input("@every 1h", now(minutes(150*60+1))), "TooManyMissedTimes: 150 "},
		{"a deadline lets only few count", input("0 * * * *", now(minutes(1000*60+1)), deadline(7200)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := decide(t, test.in)
			if out.Start.IsZero() {
				t.Errorf("nothing starts")
			}
			if (test.missed == "") != (len(out.Notes) == 0) || len(out.Notes) > 0 && !strings.HasPrefix(out.Notes[0], test.missed) {
				t.Errorf("notes %q, want %q", out.Notes, test.missed)
			}
		})
	}
}

func TestBadSchedules(t *testing.T) {
	for _, test := range []struct {
		name string
		in   cron.Input
		want string
	}{
		{"what cannot be read", input("* * * *", now(minutes(61))), `its schedule "* * * *" cannot be read`},
		{"a zone that is not known", input("0 * * * *", now(minutes(61)), func(in *cron.Input) { in.Spec.TimeZone = to("Bad/Zone") }), `its time zone "Bad/Zone" is not known here`},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := decide(t, test.in)
			if !out.Start.IsZero() || len(out.Notes) != 1 || !strings.HasPrefix(out.Notes[0], test.want) {
				t.Errorf("%+v", out)
			}
		})
	}
}

func TestConcurrency(t *testing.T) {
	manual := fleet.Job{ID: fleet.ObjectID{Kind: fleet.KindJob, Namespace: "shop", Name: "nightly-abcde"}, Owner: nightly, Manual: true, Created: minutes(30)}
	ending := run(hour)
	ending.Outcome = batchv1.JobFailed // its pods are still there
	for _, test := range []struct {
		name    string
		in      cron.Input
		start   bool
		replace []fleet.ObjectID
	}{
		{"Replace takes all that run", input("0 * * * *", replace, last(hour), jobs(run(hour), run(minutes(-60)), run(minutes(-120), batchv1.JobComplete)), now(minutes(61))), true, []fleet.ObjectID{run(minutes(-60)).ID, run(hour).ID}},
		{"Replace takes nothing before its time", input("0 * * * *", replace, last(hour), jobs(run(hour)), now(minutes(59))), false, nil},
		{"Replace takes nothing past the deadline", input("0 * * * *", replace, last(hour), jobs(run(hour)), now(minutes(65)), deadline(60)), false, nil},
		{"Forbid waits for what still has pods", input("0 * * * *", forbid, last(hour), jobs(ending), now(minutes(61))), false, nil},
		{"Forbid waits for what was triggered by hand", input("0 * * * *", forbid, last(hour), jobs(manual), now(minutes(61))), false, nil},
		{"Allow does not", input("0 * * * *", last(hour), jobs(manual), now(minutes(61))), true, nil},
		{"Replace of a Job whose minute it is", input("0 * * * *", replace, jobs(run(minutes(60))), now(minutes(61))), false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := decide(t, test.in)
			if out.Start.IsZero() == test.start {
				t.Errorf("starts %s", out.Start)
			}
			if d := gocmp.Diff(test.replace, out.Replace); d != "" {
				t.Error(d)
			}
			if test.in.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(out.Notes) != 1 {
				t.Errorf("notes %q", out.Notes)
			}
		})
	}
}

// The oldest finished Jobs beyond the limits go, those that came through and those that failed apart.
func TestHistory(t *testing.T) {
	const complete, failed = batchv1.JobComplete, batchv1.JobFailed
	list := []fleet.Job{
		run(minutes(0), complete), run(minutes(1), failed), run(minutes(2), complete), run(minutes(3), failed), run(minutes(4), complete),
		run(minutes(5), complete), run(minutes(6), failed), run(minutes(7)), run(minutes(8), complete),
	}
	for _, test := range []struct {
		success, failed *int32
		want            []int // minutes of those that go
	}{
		{to(int32(3)), to(int32(1)), []int{0, 1, 2, 3}}, {to(int32(0)), to(int32(0)), []int{0, 1, 2, 3, 4, 5, 6, 8}}, {to(int32(9)), to(int32(9)), nil},
		{to(int32(1)), to(int32(9)), []int{0, 2, 4, 5}}, {to(int32(9)), to(int32(0)), []int{1, 3, 6}}, {nil, nil, []int{0, 1, 2, 3}},
	} {
		in := input("@yearly", jobs(list...), now(minutes(10)), func(in *cron.Input) {
			in.Spec.SuccessfulJobsHistoryLimit, in.Spec.FailedJobsHistoryLimit = test.success, test.failed
		})
		var want []fleet.ObjectID
		for _, n := range test.want {
			want = append(want, run(minutes(n)).ID)
		}
		for _, change := range []func(*cron.Input){func(*cron.Input) {}, suspended, func(in *cron.Input) { in.Spec.TimeZone = to("Bad/Zone") }} {
			change(&in)
			out := decide(t, in)
			if d := gocmp.Diff(want, out.Forget); d != "" {
				t.Error(d)
			}
			if !out.Memory.Success.Equal(minutes(9)) {
				t.Errorf("last success %s", out.Memory.Success)
			}
		}
	}
	t.Run("what was cleared goes, and does not count", func(t *testing.T) {
		cleared := run(minutes(9), complete)
		cleared.Cleared = true
		out := decide(t, input("@yearly", jobs(run(minutes(0), complete), run(minutes(1), complete), run(minutes(2), complete), cleared), now(minutes(20))))
		if d := gocmp.Diff([]fleet.ObjectID{cleared.ID}, out.Forget); d != "" {
			t.Error(d)
		}
	})
	t.Run("the last success is not forgotten with its Job", func(t *testing.T) {
		in := input("@yearly", now(minutes(20)))
		in.Memory.Success = minutes(3)
		if out := decide(t, in); !out.Memory.Success.Equal(minutes(3)) {
			t.Errorf("last success %s", out.Memory.Success)
		}
	})
}

func TestName(t *testing.T) {
	if got := cron.Name(nightly, time.Unix(28000000*60, 0)); got != "nightly-28000000" {
		t.Errorf("got %s", got)
	}
}

// @every shorter than a minute: two runs of one minute must not be taken for one.
func TestTwoRunsAMinute(t *testing.T) {
	in := input("@every 20s", last(hour.Add(20*time.Second)), jobs(run(hour.Add(20*time.Second), batchv1.JobComplete)), now(hour.Add(41*time.Second)))
	if out := decide(t, in); !out.Start.IsZero() && cron.Name(nightly, out.Start) == in.Jobs[0].ID.Name {
		t.Errorf("starts %s, called as the one before: %s", out.Start, in.Jobs[0].ID.Name)
	}
}

var schedules = []string{
	"* * * * *", "*/5 * * * *", "0 * * * *", "7 3 * * *", "30 2 * * *", "0 0 * * 0", "0 0 13 * 5", "0,1 0 1 1 *", "30 6-16/4 * * 1-5", "@hourly",
	"*/7 */5 * * *", "59 23 31 * *", "0 0 29 2 *", "15,16,17 1 * 2-4 *", "* 5 * * 1",
}

var zones = []string{"", "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca"}

// The run that is due is the newest that there was, as going through all of them finds it.
func TestNewestOfAll(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		schedule := rapid.SampledFrom(schedules).Draw(rt, "schedule")
		from := time.Date(rapid.IntRange(2015, 2027).Draw(rt, "year"), 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 365*24*3600).Draw(rt, "second")) * time.Second)
		span := time.Duration(rapid.SampledFrom([]int{60, 3600, 86400, 40 * 86400, 3 * 365 * 86400}).Draw(rt, "span")) * time.Second
		at := from.Add(time.Duration(rapid.Int64Range(0, int64(span/time.Second)).Draw(rt, "later")) * time.Second)
		in := input(schedule, created(from), now(at))
		local := time.UTC
		if name := rapid.SampledFrom(zones).Draw(rt, "zone"); name != "" {
			zone(name)(&in)
			local = in.Zone
		}
		s, err := robfig.ParseStandard(schedule)
		if err != nil {
			rt.Fatal(err)
		}
		want, count := time.Time{}, 0
		for next := s.Next(from.In(local)); !next.IsZero() && !next.After(at) && count < 200_000; next = s.Next(next) {
			want = next
			count++
		}
		if count == 200_000 {
			return
		}
		out := decide(rt, in)
		if !out.Start.Equal(want) {
			rt.Fatalf("%s in %s from %s to %s: starts %s, want %s of %d", schedule, local, from, at, out.Start, want, count)
		}
		if !out.WakeAt.Equal(s.Next(at.In(local))) {
			rt.Fatalf("wakes at %s", out.WakeAt)
		}
	})
}

// What schedules mean is what a scan of every minute finds, where no clock is changed.
func TestAgainstEachMinute(t *testing.T) {
	field := func(rt *rapid.T, name string, low, high int) (string, func(int) bool) {
		a := rapid.IntRange(low, high).Draw(rt, name)
		b := rapid.IntRange(a, high).Draw(rt, name+" to")
		step := rapid.IntRange(1, 4).Draw(rt, name+" step")
		switch rapid.IntRange(0, 4).Draw(rt, name+" form") {
		case 0:
			return "*", func(int) bool { return true }
		case 1:
			return "?", func(int) bool { return true }
		case 2:
			return fmt.Sprint(a), func(n int) bool { return n == a }
		case 3:
			return fmt.Sprintf("%d-%d/%d", a, b, step), func(n int) bool { return n >= a && n <= b && (n-a)%step == 0 }
		default:
			return fmt.Sprintf("%d,%d", a, b), func(n int) bool { return n == a || n == b }
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		minute, isMinute := field(rt, "minute", 0, 59)
		hourly, isHour := field(rt, "hour", 0, 23)
		day, isDay := field(rt, "day", 1, 28)
		weekday, isWeekday := field(rt, "weekday", 0, 6)
		free := strings.Contains("*?", day) || strings.Contains("*?", weekday)
		from := hour.Add(time.Duration(rapid.IntRange(0, 100000).Draw(rt, "second")) * time.Second)
		at := from.Add(time.Duration(rapid.IntRange(0, 9*86400).Draw(rt, "later")) * time.Second)
		want := time.Time{}
		for m := from.Truncate(time.Minute).Add(time.Minute); !m.After(at); m = m.Add(time.Minute) {
			onDay := isDay(m.Day()) || isWeekday(int(m.Weekday()))
			if free {
				onDay = isDay(m.Day()) && isWeekday(int(m.Weekday()))
			}
			if isMinute(m.Minute()) && isHour(m.Hour()) && onDay {
				want = m
			}
		}
		schedule := fmt.Sprintf("%s %s %s * %s", minute, hourly, day, weekday)
		if out := decide(rt, input(schedule, created(from), now(at))); !out.Start.Equal(want) {
			rt.Fatalf("%s from %s to %s: starts %s, want %s", schedule, from, at, out.Start, want)
		}
	})
}

// However the clock goes, leaders stop and decisions are lost: no scheduled minute runs twice, Forbid never has two that run,
// Replace has one, each tick that was seen on time runs with Allow, and after a gap there is one late run.
func TestWalks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		schedule := rapid.SampledFrom([]string{"* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "@every 7m", "@every 1h"}).Draw(rt, "schedule")
		in := input(schedule, policy(rapid.SampledFrom([]string{"Allow", "Forbid", "Replace"}).Draw(rt, "policy")), created(hour))
		if rapid.Bool().Draw(rt, "deadline") {
			deadline(rapid.IntRange(1, 7200).Draw(rt, "seconds"))(&in)
		}
		s, err := robfig.ParseStandard(schedule)
		if err != nil {
			rt.Fatal(err)
		}
		_, every := s.(robfig.ConstantDelaySchedule)
		ran := map[time.Time]bool{}
		at, latest := hour, hour // the latest is how far the clock ever was when it was decided
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			exact := false
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				at = at.Add(time.Duration(rapid.IntRange(0, 600).Draw(rt, "seconds")) * time.Second)
			case 1: // an outage, or the clock is put forward
				at = at.Add(time.Duration(rapid.IntRange(0, 400).Draw(rt, "hours")) * time.Hour)
			case 2: // back
				at = at.Add(-time.Duration(rapid.IntRange(0, 7200).Draw(rt, "back")) * time.Second)
			case 3: // a run ends
				for i := range in.Jobs {
					if in.Jobs[i].Finished.IsZero() && rapid.Bool().Draw(rt, "ends") {
						in.Jobs[i].Finished, in.Jobs[i].Outcome = at, rapid.SampledFrom([]batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed}).Draw(rt, "how")
					}
				}
			default: // exactly when it asked to be woken
				in.Now = at
				if wake := cron.Due(in).WakeAt; !wake.IsZero() {
					at, exact = wake, true
				}
			}
			in.Now = at
			out := decide(rt, in)
			if rapid.IntRange(0, 4).Draw(rt, "lost") == 0 {
				continue
			}
			in.Memory = out.Memory
			in.Jobs = slices.DeleteFunc(slices.Clone(in.Jobs), func(j fleet.Job) bool {
				return slices.Contains(out.Replace, j.ID) || slices.Contains(out.Forget, j.ID)
			})
			if exact && !out.Start.Equal(at) && in.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent && at.After(latest) {
				rt.Fatalf("%s: woken at %s, it starts %s", schedule, at, out.Start)
			}
			if at.After(latest) {
				latest = at
			}
			if out.Start.IsZero() {
				continue
			}
			if ran[out.Start] {
				rt.Fatalf("%s ran twice", out.Start)
			}
			ran[out.Start] = true
			if out.Start.After(at) {
				rt.Fatalf("%s starts at %s", out.Start, at)
			}
			if d := in.Spec.StartingDeadlineSeconds; d != nil && at.Sub(out.Start) > time.Duration(*d)*time.Second {
				rt.Fatalf("%s starts %s too late", out.Start, at.Sub(out.Start))
			}
			if next := s.Next(out.Start); !every && !next.After(at) {
				rt.Fatalf("%s starts at %s, and %s is newer", out.Start, at, next)
			}
			if every {
				if off := out.Start.Sub(hour) % s.(robfig.ConstantDelaySchedule).Delay; off != 0 {
					rt.Fatalf("%s: %s is %s off", schedule, out.Start, off)
				}
			}
			in.Jobs = append(in.Jobs, run(out.Start))
			active := 0
			for _, j := range in.Jobs {
				if j.Finished.IsZero() {
					active++
				}
			}
			if in.Spec.ConcurrencyPolicy != batchv1.AllowConcurrent && active > 1 {
				rt.Fatalf("%d run with %s", active, in.Spec.ConcurrencyPolicy)
			}
		}
	})
}
