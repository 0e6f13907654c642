package workload

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

// startSteps begins with a new set at the first step that would add to it. Where nothing else runs there is nothing to be
// careful about.
func (r *Rolling) startSteps(at int, d *appsv1.Deployment) {
	c := fleet.Canary{Steps: stepsText(r.Steps), Since: r.Now, Restarts: r.Sets[at].Restarts}
	if len(r.oldActive(at)) == 0 {
		c.Step = int32(len(r.Steps))
	}
	beyond := false // the last size, and so the pauses behind it
	for i := range r.Steps {
		size := r.sizeAt(int32(i), *d.Spec.Replicas)
		switch {
		case r.Steps[i].Size != nil && size <= r.available(at):
			c.Step, beyond = int32(i)+1, size < r.available(at)
		case r.Steps[i].Size == nil && beyond && int(c.Step) == i:
			c.Step++
		}
	}
	r.Rollout.Canary = c
}

// stepsText tells lists of steps apart.
func stepsText(steps []fleet.CanaryStep) string {
	var parts []string
	for _, s := range steps {
		if s.Size != nil {
			parts = append(parts, s.Size.String())
		} else {
			parts = append(parts, "pause "+s.Pause.String())
		}
	}
	return strings.Join(parts, ", ")
}

// onSteps reports whether the rollout has steps before it. What has been good is not gone to by steps.
func (r *Rolling) onSteps() bool {
	return int(r.Rollout.Canary.Step) < len(r.Steps) && r.Rollout.Bad.Want == "" && r.Rollout.Target != r.Rollout.Good
}

// resting reports whether the rollout waits because it was told to.
func (r *Rolling) resting() bool {
	return r.onSteps() && (r.Rollout.Canary.Fault != "" || r.Steps[r.Rollout.Canary.Step].Size == nil)
}

// most is how many pods may be new at the step that the rollout is at.
func (r *Rolling) most(replicas int32) int32 {
	if !r.onSteps() {
		return replicas
	}
	return r.sizeAt(r.Rollout.Canary.Step, replicas)
}

// sizeAt is how many pods are new at a step: a pause keeps what the step before it had.
func (r *Rolling) sizeAt(step, replicas int32) int32 {
	for i := step; i >= 0; i-- {
		if size := r.Steps[i].Size; size != nil {
			n, err := intstr.GetScaledValueFromIntOrPercent(size, int(replicas), true)
			if err != nil { // the annotation was checked when it was read
				return 0
			}
			return min(int32(n), replicas)
		}
	}
	return 0
}

// advance goes on to the next step where the one at hand is done, and stops for good where new pods fail that had been well.
func (r *Rolling) advance(d *appsv1.Deployment) {
	at, c := r.current(), &r.Rollout.Canary
	if len(r.Steps) == 0 || r.Rollout.Bad.Want != "" || r.Rollout.Target == r.Rollout.Good {
		return
	}
	if c.Steps != stepsText(r.Steps) { // they were changed on the way: what is there already counts
		r.startSteps(at, d)
	}
	if !r.onSteps() {
		return
	}
	c.Reached = min(c.Reached, r.Sets[at].Replicas) // those that scaling took are not lost
	if c.Fault != "" {
		if !r.Resumed.After(c.Since) {
			return
		}
		c.Fault, c.Since, c.Restarts = "", r.Now, r.Sets[at].Restarts
		c.Reached = min(c.Reached, r.ready(at))
		r.moved(reasonUpdated)
	}
	for r.onSteps() {
		if c.Fault = r.fault(at); c.Fault != "" {
			c.Since = r.Now
			return
		}
		if !r.stepDone(*d.Spec.Replicas, at) {
			return
		}
		c.Step, c.Since = c.Step+1, r.Now
		r.moved(reasonUpdated)
	}
}

// stepDone reports whether the step at hand has what it waits for.
func (r *Rolling) stepDone(replicas int32, at int) bool {
	c := &r.Rollout.Canary
	step := r.Steps[c.Step]
	if step.Size != nil {
		n := r.sizeAt(c.Step, replicas)
		return r.Sets[at].Replicas >= n && r.available(at) >= n
	}
	return r.Resumed.After(c.Since) || (step.Pause > 0 && !r.Now.Before(c.Since.Add(step.Pause)))
}

// explainStep says what a rollout on steps waits for.
func (r *Rolling) explainStep() {
	c := &r.Rollout.Canary
	switch {
	case !r.onSteps():
	case c.Fault != "":
		r.Notes = append(r.Notes, fmt.Sprintf("the rollout was stopped at step %d of %d: %s. It stays as it is until another commit comes or somebody resumes it",
			c.Step+1, len(r.Steps), c.Fault))
	case r.Steps[c.Step].Size != nil:
	case r.Steps[c.Step].Pause == 0:
		r.Notes = append(r.Notes, fmt.Sprintf("the rollout pauses at step %d of %d until somebody resumes it", c.Step+1, len(r.Steps)))
	default:
		end := c.Since.Add(r.Steps[c.Step].Pause)
		r.WakeAt = fleet.Earliest(r.WakeAt, end)
		r.Notes = append(r.Notes, fmt.Sprintf("the rollout pauses at step %d of %d until %s", c.Step+1, len(r.Steps), end.UTC().Format(time.RFC3339)))
	}
}

// fault says what is wrong with new pods that had been well; empty for nothing. What takes old pods down in the same moment (the
// machine was switched off) is not the new version's fault: then it is only asked of them to come back.
func (r *Rolling) fault(at int) string {
	c, g := &r.Rollout.Canary, &r.Sets[at]
	var others, most int32
	for _, i := range r.oldActive(at) {
		others, most = others+min(r.Sets[i].Ready, r.Sets[i].Replicas), most+r.Sets[i].Replicas
	}
	c.Others = min(max(c.Others, others), most)
	if others < c.Others {
		c.Restarts, c.Reached = max(c.Restarts, g.Restarts), min(c.Reached, r.ready(at))
		return ""
	}
	c.Reached = max(c.Reached, r.available(at))
	switch ready := r.ready(at); {
	case g.Restarts > c.Restarts:
		return fmt.Sprintf("a container of a new pod was restarted (%s)", g.Trouble)
	case ready < c.Reached:
		return fmt.Sprintf("%d of %d new pods that were ready still are (%s)", ready, c.Reached, g.Trouble)
	default:
		return ""
	}
}

// ready is how many of a set's pods are ready as far as is known: of an agent that has just started nothing is known.
func (r *Rolling) ready(at int) int32 {
	return min(r.Sets[at].Ready+r.Sets[at].Silent, r.Sets[at].Replicas)
}

// scaleSteps sizes the sets of a Deployment that was scaled on its steps: no more pods are new than the step has, and the
// others make up for it, the largest set first.
func (r *Rolling) scaleSteps(d *appsv1.Deployment) bool {
	at, replicas := r.current(), *d.Spec.Replicas
	changed := r.resize(at, min(r.Sets[at].Replicas, r.most(replicas)), d)
	old := r.oldActive(at)
	slices.SortStableFunc(old, func(a, b int) int { return -cmp.Compare(r.Sets[a].Replicas, r.Sets[b].Replicas) })
	missing := replicas - r.total()
	for _, i := range old {
		size := max(r.Sets[i].Replicas+missing, 0)
		missing -= size - r.Sets[i].Replicas
		changed = r.resize(i, size, d) || changed
	}
	return changed
}
