package workload

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

// Generation is one ReplicaSet of a Deployment with what is known of its pods.
type Generation struct {
	fleet.Set
	Counts
}

// Rolling is the input and the outcome of one Deployment's rollout: Roll changes Sets and Rollout in place,
// in copies of its own.
type Rolling struct {
	Object  fleet.Object // the Deployment, with what operators asked for
	Target  Target       // what it should run; what it goes back to, when Roll has decided that
	Sets    []Generation // all that it owns
	Rollout fleet.Rollout
	// Taken reports whether a ReplicaSet name belongs to somebody else.
	Taken func(name string) bool
	// Hold says why a rollout may not begin yet; empty when it may. One that has begun goes on.
	Hold string
	// Rollback: a rollout that fails goes back to what was good last.
	Rollback bool
	Steps    []fleet.CanaryStep // how a rollout goes; nil for all at once
	Resumed  time.Time          // when somebody last asked it to go on
	Now      time.Time

	WakeAt time.Time
	Notes  []string
}

// The reasons of the condition Progressing, as Kubernetes has them.
const (
	reasonNew       = "NewReplicaSetCreated"
	reasonFound     = "FoundNewReplicaSet"
	reasonUpdated   = "ReplicaSetUpdated"
	reasonAvailable = "NewReplicaSetAvailable"
	reasonPaused    = "DeploymentPaused"
	reasonResumed   = "DeploymentResumed"
	reasonExceeded  = "ProgressDeadlineExceeded"
)

// Roll does what the Deployment controller does at a sync (semantics section 4), as often as that changes
// anything.
func Roll(r Rolling) Rolling {
	r.Sets = slices.Clone(r.Sets)
	d := r.Object.Value.(*appsv1.Deployment)
	if r.Rollout.ID == (fleet.ObjectID{}) {
		r.Rollout = fleet.Rollout{ID: r.Object.ID, Progress: r.Now}
	}
	r.Rollout.Source = r.Object.Source
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		r.Steps = nil
	}
	r.avoid()
	h, sets := r.history(), r.sets()
	h.stamp(sets)
	r.take(sets)
	r.pause(d)
	r.settle(d)
	if r.goBack(d) {
		r.settle(d)
	}
	r.explain()
	for i := range r.Sets {
		r.WakeAt = fleet.Earliest(r.WakeAt, r.Sets[i].WakeAt)
	}
	slices.SortFunc(r.Sets, func(a, b Generation) int { return a.ID.Compare(b.ID) })
	return r
}

// settle looks until nothing changes any more.
func (r *Rolling) settle(d *appsv1.Deployment) {
	for r.sync(d) {
	}
	r.trim(d)
	r.progress(d)
}

// sync is one look of the Deployment controller, and reports whether it changed a size.
func (r *Rolling) sync(d *appsv1.Deployment) bool {
	changed, held := false, r.held()
	if d.Spec.Paused || held || r.scalingEvent(d) {
		r.adoptNew(d, false)
		for r.scale(d) {
			changed = true
		}
	}
	if d.Spec.Paused || held {
		return changed
	}
	r.adoptNew(d, true)
	r.advance(d)
	step := r.roll
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		step = r.recreate
	}
	for step(d) {
		changed = true
	}
	return changed
}

// held reports whether the rollout has to wait for something else before it begins.
func (r *Rolling) held() bool {
	if r.Hold == "" || r.Rollout.Bad != (fleet.Bad{}) { // the way back waits for nobody
		return false
	}
	at := r.current()
	return at < 0 || (r.Sets[at].Replicas == 0 && r.Rollout.Target != r.Sets[at].ID)
}

// Fenceposts are how many pods may be too many and how many too few (semantics 4).
func Fenceposts(d *appsv1.Deployment) (surge, unavailable int32) {
	replicas := *d.Spec.Replicas
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || replicas == 0 {
		return 0, 0
	}
	rolling := d.Spec.Strategy.RollingUpdate
	if rolling == nil {
		rolling = &appsv1.RollingUpdateDeployment{}
	}
	surge = portion(rolling.MaxSurge, replicas, true)
	unavailable = portion(rolling.MaxUnavailable, replicas, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, replicas)
}

// portion is a number or percentage of replicas; 25 % where nothing is said. Validation has refused what
// does not parse.
func portion(v *intstr.IntOrString, replicas int32, up bool) int32 {
	if v == nil {
		quarter := intstr.FromString("25%")
		v = &quarter
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(replicas), up)
	if err != nil {
		return 0
	}
	return int32(max(n, 0))
}

// current is the index of the set that stands for the target; -1 if none.
func (r *Rolling) current() int {
	return r.Target.find(len(r.Sets), func(i int) *fleet.Set { return &r.Sets[i].Set })
}

func (r *Rolling) sets() []fleet.Set {
	sets := make([]fleet.Set, len(r.Sets))
	for i := range r.Sets {
		sets[i] = r.Sets[i].Set
	}
	return sets
}

// take takes over what was changed in copies of the sets.
func (r *Rolling) take(sets []fleet.Set) {
	for i := range sets {
		r.Sets[i].Set = sets[i]
	}
}

func (r *Rolling) history() history {
	return history{kind: fleet.KindReplicaSet, object: r.Object, target: r.Target, taken: r.Taken, now: r.Now}
}

// adoptNew finds the new set or makes it, and gives it the highest number.
func (r *Rolling) adoptNew(d *appsv1.Deployment, create bool) {
	h, sets := r.history(), r.sets()
	at, reason := r.Target.in(sets), ""
	switch {
	case at >= 0 && h.adopt(sets, at):
		reason = reasonFound
	case at < 0 && create:
		made := h.create(sets, &r.Rollout.Collisions)
		made.MinReady = d.Spec.MinReadySeconds
		r.Sets = append(r.Sets, Generation{Set: made})
		sets, at, reason = append(sets, made), len(sets), reasonNew
	}
	r.take(sets)
	if at < 0 {
		return
	}
	if create && r.Rollout.Target != r.Sets[at].ID {
		r.Rollout.Target = r.Sets[at].ID
		r.startSteps(at, d)
	}
	if reason != "" {
		r.moved(reason)
	}
}

// resize sets how many pods a set should have.
func (r *Rolling) resize(at int, replicas int32, d *appsv1.Deployment) bool {
	replicas = max(replicas, 0)
	changed := r.Sets[at].Replicas != replicas
	r.Sets[at].Replicas = replicas
	surge, _ := Fenceposts(d)
	r.Sets[at].Recorded, r.Sets[at].Most = *d.Spec.Replicas, *d.Spec.Replicas+surge
	return changed
}

// roll does one step of a rolling update and reports whether it changed anything.
func (r *Rolling) roll(d *appsv1.Deployment) bool {
	replicas := *d.Spec.Replicas
	surge, unavailable := Fenceposts(d)
	at := r.current()
	total := r.total()

	size, most := r.Sets[at].Replicas, r.most(replicas)
	switch {
	case size > replicas:
		size = replicas
	case size < most && total < replicas+surge:
		size += min(replicas+surge-total, most-size)
	}
	if r.resize(at, size, d) {
		return true
	}

	old := r.oldActive(at)
	budget := total - (replicas - unavailable) - (r.Sets[at].Replicas - r.available(at))
	budget = min(budget, total-r.Sets[at].Replicas-(replicas-most)) // what a canary has not come for yet stays
	if len(old) == 0 || budget <= 0 {
		return false
	}
	changed := false
	for _, i := range old { // what is not available costs nothing to lose
		sick := min(budget, r.Sets[i].Replicas-r.available(i))
		if sick > 0 {
			changed = r.resize(i, r.Sets[i].Replicas-sick, d) || changed
			budget -= sick
		}
	}
	var available int32
	for i := range r.Sets {
		available += r.available(i)
	}
	spare := min(available-(replicas-unavailable), r.total()-r.Sets[at].Replicas-(replicas-most))
	for _, i := range old {
		if give := min(spare, r.Sets[i].Replicas); give > 0 {
			changed = r.resize(i, r.Sets[i].Replicas-give, d) || changed
			spare -= give
		}
	}
	return changed
}

// recreate stops every old pod before it makes a new one.
func (r *Rolling) recreate(d *appsv1.Deployment) bool {
	at, changed, present := r.current(), false, false
	for i := range r.Sets {
		if i != at {
			changed = (r.Sets[i].Replicas > 0 && r.resize(i, 0, d)) || changed
			present = present || r.Sets[i].Present > 0
		}
	}
	if changed || present {
		return changed
	}
	return r.resize(at, *d.Spec.Replicas, d)
}

// available is how many of a set's pods are available and will stay: of a set that was just made smaller,
// not more than it may keep.
func (r *Rolling) available(at int) int32 { return min(r.Sets[at].Available, r.Sets[at].Replicas) }

func (r *Rolling) total() int32 {
	var n int32
	for i := range r.Sets {
		n += r.Sets[i].Replicas
	}
	return n
}

// unproven reports whether a set is a canary that another one followed: it goes before what was good.
func (r *Rolling) unproven(g *Generation) bool { return len(r.Steps) > 0 && g.ID != r.Rollout.Good }

// oldActive are the sets with pods besides the new one, in the order in which they are given up: the oldest first.
func (r *Rolling) oldActive(current int) []int {
	var old []int
	for i := range r.Sets {
		if i != current && r.Sets[i].Replicas > 0 {
			old = append(old, i)
		}
	}
	slices.SortFunc(old, func(a, b int) int {
		x, y := &r.Sets[a], &r.Sets[b]
		return cmp.Or(first(r.unproven(x), r.unproven(y)), x.Created.Compare(y.Created), x.ID.Compare(y.ID))
	})
	return old
}

// moved notes progress.
func (r *Rolling) moved(reason string) {
	r.Rollout.Reason, r.Rollout.Progress = reason, r.Now
}

// pause notes when a Deployment is paused or goes on: time spent paused does not count as standing still.
func (r *Rolling) pause(d *appsv1.Deployment) {
	switch {
	case d.Spec.Paused && !r.Rollout.Paused:
		r.moved(reasonPaused)
	case !d.Spec.Paused && r.Rollout.Paused:
		r.moved(reasonResumed)
	}
	r.Rollout.Paused = d.Spec.Paused
}

// Complete reports whether all pods are of the new template and available, and none of another is left.
func (r *Rolling) Complete(d *appsv1.Deployment) bool {
	at := r.current()
	if at < 0 {
		return false
	}
	// Pods beyond a set's size are being let go by this very decision: deciding again must find no more.
	if r.held() || r.Sets[at].Replicas != *d.Spec.Replicas || r.available(at) != r.Sets[at].Replicas {
		return false
	}
	return len(r.oldActive(at)) == 0
}

// Waits reports whether the rollout waits for somebody to let it go on.
func (r *Rolling) Waits(d *appsv1.Deployment) bool {
	return d.Spec.Paused || (r.resting() && !r.Resumed.After(r.Rollout.Canary.Since) && (r.Rollout.Canary.Fault != "" || r.Steps[r.Rollout.Canary.Step].Pause == 0))
}

// trim forgets old sets beyond the history limit.
func (r *Rolling) trim(d *appsv1.Deployment) {
	if !d.Spec.Paused && !r.Complete(d) {
		return
	}
	current := r.current()
	var idle []fleet.Set
	for i, g := range r.Sets {
		if i != current && g.Replicas == 0 && g.Present == 0 && g.ID != r.Rollout.Good {
			idle = append(idle, g.Set)
		}
	}
	gone := surplus(idle, d.Spec.RevisionHistoryLimit)
	r.Sets = slices.DeleteFunc(r.Sets, func(g Generation) bool {
		return slices.ContainsFunc(gone, func(old fleet.Set) bool { return old.ID == g.ID })
	})
}

// progress keeps the condition Progressing: it reports, and never stops anything (semantics 4).
func (r *Rolling) progress(d *appsv1.Deployment) {
	if d.Spec.Paused || r.held() {
		return
	}
	// What was decided is counted and not what nodes report of it: deciding again must see no progress.
	var updated, old, ready, available int32
	at := r.current()
	for i := range r.Sets {
		if i == at {
			updated = r.Sets[i].Replicas
		} else {
			old += r.Sets[i].Replicas
		}
		ready += min(r.Sets[i].Ready, r.Sets[i].Replicas)
		available += r.available(i)
	}
	last := &r.Rollout
	forward := updated > last.Updated || old < last.Old || ready > last.Ready || available > last.Available
	last.Updated, last.Old, last.Ready, last.Available = updated, old, ready, available
	if r.Complete(d) {
		if last.Reason != reasonAvailable {
			r.moved(reasonAvailable)
		}
		last.Canary = fleet.Canary{}
		if *d.Spec.Replicas > 0 || last.Good == (fleet.ObjectID{}) { // what never ran was not good
			last.Good = r.Sets[at].ID
		}
		return
	}
	if forward {
		r.moved(reasonUpdated)
		last.Reason = reasonUpdated
	}
	if d.Spec.ProgressDeadlineSeconds == nil || last.Reason == reasonAvailable || r.resting() {
		return // a finished rollout cannot be late, nor one that is told to wait
	}
	deadline := last.Progress.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second)
	switch {
	case last.Reason == reasonExceeded:
	case r.Now.Before(deadline):
		r.WakeAt = fleet.Earliest(r.WakeAt, deadline)
	default:
		last.Reason = reasonExceeded
	}
}
