package workload

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// nothingGood is the note on a rollout that failed and has nothing behind it.
const nothingGood = "there is no earlier version that was good: it cannot be rolled back"

// avoid turns the target to what was good last while the one that Git wants is marked bad. The mark holds for one revision
// of the source: another commit is tried, whatever is in it.
func (r *Rolling) avoid() {
	r.Rollout.Bad, r.Target = avoid(r.Rollout, r.Target, r.Object.Revision, r.sets())
}

// avoid is the mark that still counts, and the target it leaves.
func avoid(rollout fleet.Rollout, target Target, revision fleet.Revision, sets []fleet.Set) (fleet.Bad, Target) {
	bad := rollout.Bad
	switch {
	case bad == (fleet.Bad{}):
	case bad.Revision != revision:
		bad = fleet.Bad{}
	case bad.Want == target.Want:
		for i := range sets {
			if sets[i].ID == rollout.Good {
				return bad, Of(&sets[i])
			}
		}
	}
	return bad, target
}

// goBack marks a rollout that failed as bad and turns to what was good last, where that was opted for. It reports whether
// it did.
func (r *Rolling) goBack(d *appsv1.Deployment) bool {
	why := r.Rollout.Canary.Fault
	if r.Rollout.Reason == reasonExceeded {
		why = fmt.Sprintf("made no progress for %s", time.Duration(*d.Spec.ProgressDeadlineSeconds)*time.Second)
	}
	if !r.Rollback || why == "" || d.Spec.Paused || r.held() || r.Rollout.Bad != (fleet.Bad{}) {
		return false
	}
	good := r.good()
	if good < 0 {
		r.Notes = append(r.Notes, nothingGood)
		return false
	}
	r.Rollout.Good = r.Sets[good].ID
	r.Rollout.Bad = fleet.Bad{Revision: r.Object.Revision, Want: r.Target.Want, Since: r.Now, Why: why}
	r.Rollout.Canary = fleet.Canary{}
	r.avoid()
	return true
}

// good is the index of the set to go back to; -1 if none. Where nothing is remembered (the store was lost) it is the one
// that serves.
func (r *Rolling) good() int {
	at, current := -1, r.current()
	for i := range r.Sets {
		switch {
		case i == current:
		case r.Sets[i].ID == r.Rollout.Good:
			return i
		case r.available(i) > 0 && (at < 0 || r.available(i) > r.available(at)):
			at = i
		}
	}
	return at
}

// StandsStill begins the note on a rollout that is past its progress deadline.
const StandsStill = "the rollout has made no progress"

// explain says why the rollout is not as Git wants it.
func (r *Rolling) explain() {
	last := &r.Rollout
	switch {
	case r.held():
		r.Notes = append(r.Notes, r.Hold)
	case last.Reason == reasonExceeded && last.Bad == (fleet.Bad{}):
		r.Notes = append(r.Notes, fmt.Sprintf(StandsStill+" since %s: it is held as it is until the pods become ready or another commit comes",
			last.Progress.UTC().Format(time.RFC3339)))
	}
	r.explainStep()
	if last.Bad != (fleet.Bad{}) {
		r.Notes = append(r.Notes, badNote(last.Bad))
	}
}

func badNote(bad fleet.Bad) string {
	return fmt.Sprintf("revision %s is bad for it: %s; it was rolled back at %s and stays back until another commit comes",
		bad.Revision.Short(), bad.Why, bad.Since.UTC().Format(time.RFC3339))
}
