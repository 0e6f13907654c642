package fleet

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
)

// Job is the ledger of a Job: what became of its pods, whether or not they still exist. Each end is counted in the
// very commit that marks its slot as counted, so none is counted twice or forgotten.
type Job struct {
	ID     ObjectID   `json:"id"`
	UID    string     `json:"uid"`
	Owner  ObjectID   `json:"owner,omitzero"` // the CronJob; zero for a Job of a source
	Source SourceName `json:"source"`
	From   Revision   `json:"from"`
	Want   Hash       `json:"want"`
	// Spec are the terms it runs under, without its template: a CronJob may have others by now.
	Spec batchv1.JobSpec `json:"spec"`
	// Manual: somebody triggered it, the CronJob's schedule did not.
	Manual  bool      `json:"manual,omitempty"`
	Due     time.Time `json:"due,omitzero"` // the scheduled minute that it stands for
	Created time.Time `json:"created"`
	Born    int       `json:"born,omitempty"` // pods made so far, for their names

	Started   time.Time `json:"started,omitzero"` // zero while it is suspended
	Succeeded int32     `json:"succeeded,omitempty"`
	Failed    int32     `json:"failed,omitempty"`
	// Done and Lost are completion indexes that succeeded, or failed for good, in order.
	Done []int32 `json:"done,omitempty"`
	Lost []int32 `json:"lost,omitempty"`
	// Tries are the failures of each index, where there is a limit per index.
	Tries map[int32]Failures `json:"tries,omitempty"`
	// Streak is how many failures there were since the last success, counted or ignored, and LastFailure when the last was.
	Streak      int32     `json:"streak,omitempty"`
	LastFailure time.Time `json:"lastFailure,omitzero"`
	LastSuccess time.Time `json:"lastSuccess,omitzero"`

	// Outcome is empty while it runs, Complete or Failed as soon as it is known how it ends. Reason and Message
	// are those of the condition, as Kubernetes has them. Finished is when no pod of it ran any more.
	Outcome  batchv1.JobConditionType `json:"outcome,omitempty"`
	Reason   string                   `json:"reason,omitempty"`
	Message  string                   `json:"message,omitempty"`
	Finished time.Time                `json:"finished,omitzero"`
	// Cleared: its time to live is over, its pods are removed. It is remembered as long as a source has it, so
	// that it is not run again.
	Cleared bool `json:"cleared,omitempty"`
}

// Failures are how many there were that counted, how many in all, and when the last was.
type Failures struct {
	Count  int32     `json:"count,omitempty"`
	Streak int32     `json:"streak"`
	Last   time.Time `json:"last"`
}

// Cron is what the leader remembers of a CronJob.
type Cron struct {
	ID      ObjectID   `json:"id"`
	Source  SourceName `json:"source"`
	Created time.Time  `json:"created"`          // when it was first seen
	Last    time.Time  `json:"last,omitzero"`    // the newest scheduled minute that was run
	Success time.Time  `json:"success,omitzero"` // when a run last ended well
}
