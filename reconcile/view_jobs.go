package reconcile

import (
	"cmp"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/cron"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// annotationManual is on Jobs that somebody started by hand, as kubectl create job --from does it.
const annotationManual = "cronjob.kubernetes.io/instantiate"

// runs are the Jobs of each CronJob, the oldest first.
func runs(jobs map[fleet.ObjectID]*fleet.Job) map[fleet.ObjectID][]*fleet.Job {
	of := map[fleet.ObjectID][]*fleet.Job{}
	for _, j := range jobs {
		if j.Owner != (fleet.ObjectID{}) {
			of[j.Owner] = append(of[j.Owner], j)
		}
	}
	for _, list := range of {
		slices.SortFunc(list, func(a, b *fleet.Job) int {
			return cmp.Or(a.Due.Compare(b.Due), a.Created.Compare(b.Created), a.ID.Compare(b.ID))
		})
	}
	return of
}

// Jobs are those of sources and those that CronJobs made, with their status, in the order of their IDs.
func (v *View) Jobs() []batchv1.Job {
	ids := slices.Collect(maps.Keys(v.decided.jobs))
	for object := range fleet.Each[*batchv1.Job](v.in.Desired) {
		if v.decided.jobs[object.ID] == nil {
			ids = append(ids, object.ID)
		}
	}
	slices.SortFunc(ids, fleet.ObjectID.Compare)
	list := make([]batchv1.Job, 0, len(ids))
	for _, id := range ids {
		list = append(list, v.job(id))
	}
	return list
}

func (v *View) job(id fleet.ObjectID) batchv1.Job {
	ledger := v.decided.jobs[id]
	var out batchv1.Job
	object, desired := v.in.Desired.Find(id)
	if own, ok := object.Value.(*batchv1.Job); ok && desired {
		out = *own.DeepCopy()
		Mark(&out.ObjectMeta, object.Source, object.Revision)
	} else {
		out = v.made(ledger)
	}
	out.APIVersion, out.Kind, out.Generation = "batch/v1", fleet.KindJob, 1
	out.UID = uidOf(id)
	if ledger != nil {
		out.UID, out.CreationTimestamp = types.UID(ledger.UID), metav1.Time{Time: ledger.Created}
		selects := map[string]string{batchv1.ControllerUidLabel: ledger.UID}
		out.Spec.Selector = &metav1.LabelSelector{MatchLabels: selects}
		out.Spec.Template.Labels = with(out.Spec.Template.Labels, batchv1.ControllerUidLabel, ledger.UID, "controller-uid", ledger.UID,
			batchv1.JobNameLabel, id.Name, "job-name", id.Name)
	}
	out.Status = v.jobStatus(id, &out.Spec)
	return out
}

// made is a Job that is remembered and that no source has: a CronJob made it, mostly.
func (v *View) made(ledger *fleet.Job) batchv1.Job {
	var out batchv1.Job
	out.Namespace, out.Name = ledger.ID.Namespace, ledger.ID.Name
	out.Spec = *ledger.Spec.DeepCopy()
	if template := v.templates[ledger.Want]; template != nil {
		out.Spec.Template = *template.DeepCopy()
	}
	if ledger.Owner != (fleet.ObjectID{}) {
		zone := time.UTC
		if c, ok := fleet.Lookup[*batchv1.CronJob](v.in.Desired, ledger.Owner); ok {
			out.Labels, out.Annotations = maps.Clone(c.Spec.JobTemplate.Labels), maps.Clone(c.Spec.JobTemplate.Annotations)
			if named := v.decided.zone(c); named != nil {
				zone = named
			}
		}
		out.OwnerReferences = ownedBy("batch/v1", ledger.Owner, uidOf(ledger.Owner))
		if ledger.Manual {
			annotate(&out.ObjectMeta, annotationManual, "manual")
		} else {
			annotate(&out.ObjectMeta, batchv1.CronJobScheduledTimestampAnnotation, ledger.Due.In(zone).Format(time.RFC3339))
		}
	}
	Mark(&out.ObjectMeta, ledger.Source, ledger.From)
	return out
}

func (v *View) jobStatus(id fleet.ObjectID, spec *batchv1.JobSpec) batchv1.JobStatus {
	var active, ready, leaving int32
	for _, m := range v.members[id] {
		switch {
		case m.Over():
		case m.Slot.Goal != fleet.Run:
			leaving++
		default:
			active++
			if m.Report == nil {
				continue
			}
			if _, is := m.Report.ReadySince(); is {
				ready++
			}
		}
	}
	s := batchv1.JobStatus{
		Active: active, Ready: &ready, Terminating: &leaving, UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{},
	}
	suspended := spec.Suspend != nil && *spec.Suspend
	j := v.decided.jobs[id]
	if j != nil {
		s.StartTime, s.Succeeded, s.Failed = timeOf(j.Started), j.Succeeded, j.Failed
		if spec.CompletionMode != nil && *spec.CompletionMode == batchv1.IndexedCompletion {
			s.CompletedIndexes = workload.FormatIndexes(j.Done)
			if spec.BackoffLimitPerIndex != nil {
				lost := workload.FormatIndexes(j.Lost)
				s.FailedIndexes = &lost
			}
		}
		if j.Outcome == batchv1.JobComplete {
			s.CompletionTime = timeOf(j.Finished)
		}
		s.Conditions = outcome(j)
	}
	if suspended && len(s.Conditions) == 0 {
		s.Conditions = []batchv1.JobCondition{{
			Type: batchv1.JobSuspended, Status: corev1.ConditionTrue, Reason: "JobSuspended", Message: "Job suspended",
		}}
	}
	return s
}

// outcome are the conditions of a Job that has ended: one as soon as it is known how, another when none of its pods runs any
// more.
func outcome(j *fleet.Job) []batchv1.JobCondition {
	if j.Outcome == "" {
		return nil
	}
	known := batchv1.JobSuccessCriteriaMet
	if j.Outcome == batchv1.JobFailed {
		known = batchv1.JobFailureTarget
	}
	var list []batchv1.JobCondition
	add := func(kind batchv1.JobConditionType) {
		at := metav1.Time{Time: j.Finished}
		list = append(list, batchv1.JobCondition{
			Type: kind, Status: corev1.ConditionTrue, Reason: j.Reason, Message: j.Message, LastProbeTime: at, LastTransitionTime: at,
		})
	}
	add(known)
	if !j.Finished.IsZero() {
		add(j.Outcome)
	}
	return list
}

// CronJobs are the desired CronJobs with their status, in the order of their IDs.
func (v *View) CronJobs() []batchv1.CronJob {
	var list []batchv1.CronJob
	for object, c := range fleet.Each[*batchv1.CronJob](v.in.Desired) {
		out := *c.DeepCopy()
		out.APIVersion, out.Kind, out.Generation = "batch/v1", fleet.KindCronJob, 1
		sign(&out.ObjectMeta, object)
		memory := v.decided.crons[object.ID]
		out.CreationTimestamp = metav1.Time{Time: memory.Created}
		out.Status = batchv1.CronJobStatus{LastScheduleTime: timeOf(memory.Last), LastSuccessfulTime: timeOf(memory.Success)}
		for _, j := range v.runs[object.ID] {
			if j.Finished.IsZero() {
				out.Status.Active = append(out.Status.Active, corev1.ObjectReference{
					APIVersion: "batch/v1", Kind: fleet.KindJob, Namespace: j.ID.Namespace, Name: j.ID.Name, UID: types.UID(j.UID),
				})
			}
		}
		list = append(list, out)
	}
	return list
}

// nextRun is when a CronJob runs next; zero when it does not.
func (v *View) nextRun(object fleet.Object, c *batchv1.CronJob) time.Time {
	return cron.Due(cron.Input{Spec: c.Spec, Memory: v.decided.crons[object.ID], Now: v.decided.local, Zone: v.decided.zone(c)}).WakeAt
}
