package workload

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	Object  fleet.Object // the Deployment
	Sets    []Generation // all that it owns
	Rollout fleet.Rollout
	// Taken reports whether a ReplicaSet name belongs to somebody else.
	Taken func(name string) bool
	Now   time.Time

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
	for i := range r.Sets { // an old set is the Deployment's, whichever source that comes from by now
		if r.Sets[i].Want != r.Object.Hash {
			r.Sets[i].Source = r.Object.Source
		}
	}
	r.pause(d)
	for r.sync(d) {
	}
	r.trim(d)
	r.progress(d)
	for i := range r.Sets {
		r.WakeAt = fleet.Earliest(r.WakeAt, r.Sets[i].WakeAt)
	}
	slices.SortFunc(r.Sets, func(a, b Generation) int { return a.ID.Compare(b.ID) })
	return r
}

// sync is one look of the Deployment controller, and reports whether it changed a size.
func (r *Rolling) sync(d *appsv1.Deployment) bool {
	changed := false
	if d.Spec.Paused || r.scalingEvent(d) {
		r.adoptNew(d, false)
		for r.scale(d) {
			changed = true
		}
	}
	if d.Spec.Paused {
		return changed
	}
	r.adoptNew(d, true)
	step := r.roll
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		step = r.recreate
	}
	for step(d) {
		changed = true
	}
	return changed
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

// current is the index of the set whose template is the Deployment's, the oldest if several; -1 if none.
func (r *Rolling) current() int {
	at := -1
	for i := range r.Sets {
		if r.Sets[i].Want == r.Object.Hash && (at < 0 || older(&r.Sets[i], &r.Sets[at])) {
			at = i
		}
	}
	return at
}

func older(a, b *Generation) bool {
	return cmp.Or(a.Created.Compare(b.Created), a.ID.Compare(b.ID)) < 0
}

// adoptNew finds the new set or makes it, and gives it the highest number.
func (r *Rolling) adoptNew(d *appsv1.Deployment, create bool) {
	var highest int64
	for i := range r.Sets {
		highest = max(highest, r.Sets[i].Number)
	}
	if at := r.current(); at >= 0 {
		set := &r.Sets[at]
		if set.Source != r.Object.Source {
			set.Source, set.From = r.Object.Source, r.Object.Revision
		}
		if set.Number < highest || set.Number == 0 {
			if set.Number != 0 {
				set.Former = append(slices.Clone(set.Former), set.Number)
			}
			set.Number, set.From = highest+1, r.Object.Revision
			r.moved(reasonFound)
		}
		return
	}
	if !create {
		return
	}
	label := fleet.SafeSuffix(string(r.Object.Hash), collisionMark(r.Rollout.Collisions))
	for r.Taken(r.Object.ID.Name+"-"+label) || r.named(r.Object.ID.Name+"-"+label) {
		r.Rollout.Collisions++
		label = fleet.SafeSuffix(string(r.Object.Hash), collisionMark(r.Rollout.Collisions))
	}
	id := fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: r.Object.ID.Namespace, Name: r.Object.ID.Name + "-" + label}
	r.Sets = append(r.Sets, Generation{Set: fleet.Set{
		ID: id, Owner: r.Object.ID, Source: r.Object.Source, From: r.Object.Revision, Want: r.Object.Hash, Label: label,
		MinReady: d.Spec.MinReadySeconds, Number: highest + 1, Created: r.Now,
		UID: fleet.DeriveUID("replicaset", id.String()), // not of the time: diff foretells the pods' names
	}})
	r.moved(reasonNew)
}

func collisionMark(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

// named reports whether one of the Deployment's own sets with another template has that name.
func (r *Rolling) named(name string) bool {
	return slices.ContainsFunc(r.Sets, func(g Generation) bool { return g.ID.Name == name })
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

	size := r.Sets[at].Replicas
	switch {
	case size > replicas:
		size = replicas
	case size < replicas && total < replicas+surge:
		size += min(replicas+surge-total, replicas-size)
	}
	if r.resize(at, size, d) {
		return true
	}

	old := r.oldActive(at)
	budget := total - (replicas - unavailable) - (r.Sets[at].Replicas - r.available(at))
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
	spare := available - (replicas - unavailable)
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

// oldActive are the sets with pods besides the new one, oldest first.
func (r *Rolling) oldActive(current int) []int {
	var old []int
	for i := range r.Sets {
		if i != current && r.Sets[i].Replicas > 0 {
			old = append(old, i)
		}
	}
	slices.SortFunc(old, func(a, b int) int {
		if older(&r.Sets[a], &r.Sets[b]) {
			return -1
		}
		return 1
	})
	return old
}

// scalingEvent reports whether the Deployment's replicas changed since its active sets were last sized.
func (r *Rolling) scalingEvent(d *appsv1.Deployment) bool {
	return slices.ContainsFunc(r.Sets, func(g Generation) bool {
		return g.Replicas > 0 && g.Recorded != *d.Spec.Replicas
	})
}

// scale sizes the sets of a Deployment that was scaled or is paused: in proportion when several are active.
// It reports whether it changed a size.
func (r *Rolling) scale(d *appsv1.Deployment) bool {
	replicas := *d.Spec.Replicas
	at := r.current()
	var active []int
	for i := range r.Sets {
		if r.Sets[i].Replicas > 0 {
			active = append(active, i)
		}
	}
	switch {
	case len(active) == 1 || (len(active) == 0 && at >= 0):
		only := at
		if len(active) == 1 {
			only = active[0]
		}
		return r.resize(only, replicas, d)
	case len(active) == 0: // paused before it ever ran
		return false
	}
	if at >= 0 && r.Sets[at].Replicas == replicas && r.available(at) == replicas {
		changed := r.resize(at, replicas, d)
		for _, i := range active {
			if i != at {
				changed = r.resize(i, 0, d) || changed
			}
		}
		return changed
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return false
	}
	return r.distribute(d, active)
}

// distribute spreads the pods that a scaling adds or takes over the active sets (semantics 4).
func (r *Rolling) distribute(d *appsv1.Deployment, active []int) bool {
	var allowed int32
	if *d.Spec.Replicas > 0 {
		surge, _ := Fenceposts(d)
		allowed = *d.Spec.Replicas + surge
	}
	before := r.total()
	add := allowed - before
	slices.SortFunc(active, func(a, b int) int {
		x, y := &r.Sets[a], &r.Sets[b]
		byAge := cmp.Or(x.Created.Compare(y.Created), x.ID.Compare(y.ID))
		if add > 0 {
			byAge = -byAge // newer first when growing
		}
		return cmp.Or(-cmp.Compare(x.Replicas, y.Replicas), byAge)
	})
	sizes := make(map[int]int32, len(active))
	left := add
	for _, i := range active {
		sizes[i] = r.Sets[i].Replicas
		if add != 0 {
			share := proportion(&r.Sets[i], cmp.Or(r.Sets[i].Most, before), allowed, left, add)
			sizes[i] += share
			left -= share
		}
	}
	sizes[active[0]] += left
	changed := false
	for _, i := range active {
		changed = r.resize(i, sizes[i], d) || changed
	}
	return changed
}

// proportion is a set's share of what is added or taken, never more than what is left of it.
// most is how many pods its Deployment might have when it was sized last; where that is not known, how many
// there are.
func proportion(g *Generation, most, allowed, left, add int32) int32 {
	if left == 0 {
		return 0
	}
	share := -g.Replicas
	if allowed > 0 {
		share = rounded(float64(g.Replicas)*float64(allowed)/float64(max(most, 1))) - g.Replicas
	}
	if add > 0 {
		return min(share, left)
	}
	return max(share, left)
}

func rounded(f float64) int32 {
	if f < 0 {
		return int32(f - 0.5)
	}
	return int32(f + 0.5)
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
	if r.Sets[at].Replicas != *d.Spec.Replicas || r.available(at) != r.Sets[at].Replicas {
		return false
	}
	return len(r.oldActive(at)) == 0
}

// trim forgets old sets beyond the history limit.
func (r *Rolling) trim(d *appsv1.Deployment) {
	if !d.Spec.Paused && !r.Complete(d) {
		return
	}
	limit := 10
	if d.Spec.RevisionHistoryLimit != nil {
		limit = int(*d.Spec.RevisionHistoryLimit)
	}
	current := r.current()
	var idle []fleet.Set
	for i, g := range r.Sets {
		if i != current && g.Replicas == 0 && g.Present == 0 {
			idle = append(idle, g.Set)
		}
	}
	if len(idle) <= limit {
		return
	}
	slices.SortFunc(idle, func(a, b fleet.Set) int { // after a lost store some have no number
		return cmp.Or(cmp.Compare(a.Number, b.Number), a.Created.Compare(b.Created), a.ID.Compare(b.ID))
	})
	gone := idle[:len(idle)-limit]
	r.Sets = slices.DeleteFunc(r.Sets, func(g Generation) bool {
		return slices.ContainsFunc(gone, func(old fleet.Set) bool { return old.ID == g.ID })
	})
}

// progress keeps the condition Progressing: it reports, and never stops anything (semantics 4).
func (r *Rolling) progress(d *appsv1.Deployment) {
	if d.Spec.Paused {
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
		return
	}
	if forward {
		r.moved(reasonUpdated)
		last.Reason = reasonUpdated
	}
	if d.Spec.ProgressDeadlineSeconds == nil || last.Reason == reasonAvailable {
		return // a finished rollout cannot be late
	}
	deadline := last.Progress.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second)
	switch {
	case last.Reason == reasonExceeded:
	case r.Now.Before(deadline):
		r.WakeAt = fleet.Earliest(r.WakeAt, deadline)
	default:
		last.Reason = reasonExceeded
	}
	if last.Reason == reasonExceeded {
		r.Notes = append(r.Notes, "the rollout has made no progress since "+metav1.Time{Time: last.Progress}.UTC().Format(time.RFC3339)+
			": it is held as it is until the pods become ready or another commit comes")
	}
}
