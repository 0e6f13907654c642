package manifest

import (
	"strings"
	"time"
	_ "time/tzdata" // what time zones are called must not depend on what is installed

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) cronJob(o *batchv1.CronJob, p *field.Path) {
	s := &o.Spec
	if len(o.Name) > maxCronJobName {
		c.bad(field.NewPath("metadata", "name"), "must not be longer than %d characters: its Jobs are named after it", maxCronJobName)
	}
	c.schedule(s.Schedule, p.Child("schedule"))
	c.timeZone(s.TimeZone, p.Child("timeZone"))
	notNegative(c, p.Child("startingDeadlineSeconds"), s.StartingDeadlineSeconds)
	oneOf(c, p.Child("concurrencyPolicy"), s.ConcurrencyPolicy, batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)
	notNegative(c, p.Child("successfulJobsHistoryLimit"), s.SuccessfulJobsHistoryLimit)
	notNegative(c, p.Child("failedJobsHistoryLimit"), s.FailedJobsHistoryLimit)
	job, meta := p.Child("jobTemplate"), p.Child("jobTemplate", "metadata")
	c.labels(&s.JobTemplate.ObjectMeta, meta)
	c.noAnnotations(s.JobTemplate.Annotations, meta.Child("annotations"), "of the Jobs of a CronJob")
	if s.JobTemplate.Name != "" || s.JobTemplate.GenerateName != "" {
		c.warn(meta.Child("name"), "has no effect: Jobs are named after their CronJob")
	}
	if s.JobTemplate.Namespace != "" {
		c.warn(meta.Child("namespace"), "has no effect: Jobs live in the namespace of their CronJob")
	}
	c.job(&s.JobTemplate.Spec, job.Child("spec"))
}

func (c *checker) schedule(text string, p *field.Path) {
	switch {
	case text == "":
		c.bad(p, "is required, such as \"0 3 * * *\" for each night at three")
		return
	case strings.Contains(text, "TZ"):
		c.bad(p, "%q is not allowed: name the time zone in spec.timeZone", text)
		return
	}
	schedule, err := cron.ParseStandard(text)
	switch {
	case err != nil:
		c.bad(p, "%q is not a schedule such as \"0 3 * * *\" or @hourly: %s", text, err)
	case !fires(schedule):
		c.bad(p, "%q never comes: there is no such day", text)
	}
}

// leapYear begins a year with every day that there is. A schedule looks five years ahead.
var leapYear = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// fires reports whether a schedule has any time at all.
func fires(s cron.Schedule) bool {
	if fields, ok := s.(*cron.SpecSchedule); ok {
		if fields.Minute == 0 || fields.Hour == 0 { // nothing but commas: it would be looked for in vain for long
			return false
		}
		utc := *fields
		utc.Location = time.UTC
		s = &utc
	}
	return !s.Next(leapYear.Add(-time.Second)).IsZero()
}

func (c *checker) timeZone(name *string, p *field.Path) {
	if name == nil {
		return
	}
	if _, err := time.LoadLocation(*name); err != nil || *name == "" || strings.EqualFold(*name, "Local") {
		c.bad(p, "unknown time zone %q: write one such as Europe/Berlin, or leave it out for that of the machine", *name)
	}
}

// cronJobCheck reports the fields of a CronJob as written that are not done, those of its Jobs among them.
func cronJobCheck(s *batchv1.CronJobSpec) []problem {
	return append(fieldsCheck(cronJobFields, s, "spec"), fieldsCheck(jobFields, &s.JobTemplate.Spec, "spec.jobTemplate.spec")...)
}
