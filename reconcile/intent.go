package reconcile

import (
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-dev/skerry/fleet"
)

// FieldOf is what an object says of the field that an intent stands for; empty for verbs that stand for none. An intent
// remembers it, and is dropped when Git says something else.
func FieldOf(o fleet.Object, verb fleet.IntentVerb) string {
	switch verb {
	case fleet.Scale:
		if n := replicasOf(o.Value); n != nil {
			return strconv.Itoa(int(**n))
		}
	case fleet.Pause, fleet.Resume:
		if d, ok := o.Value.(*appsv1.Deployment); ok {
			return strconv.FormatBool(d.Spec.Paused)
		}
	case fleet.Suspend, fleet.Unsuspend:
		if s := suspendOf(o.Value); s != nil {
			return strconv.FormatBool(*s != nil && **s)
		}
	case fleet.Undo, fleet.Restart:
		return string(o.Hash)
	case fleet.Cordon, fleet.DrainNode, fleet.Uncordon:
		n, ok := o.Value.(*corev1.Node)
		return strconv.FormatBool(ok && n.Spec.Unschedulable)
	case fleet.Trigger:
	}
	return ""
}

// Heeds says why an object cannot do what an intent asks for; nil when it can.
func Heeds(o fleet.Object, verb fleet.IntentVerb) error {
	var ok bool
	switch verb {
	case fleet.Scale:
		ok = replicasOf(o.Value) != nil
	case fleet.Pause, fleet.Resume:
		_, ok = o.Value.(*appsv1.Deployment)
	case fleet.Suspend, fleet.Unsuspend:
		ok = suspendOf(o.Value) != nil
	case fleet.Restart, fleet.Undo:
		switch o.Value.(type) {
		case *appsv1.Deployment, *appsv1.StatefulSet, *appsv1.DaemonSet:
			ok = true
		}
	case fleet.Trigger:
		_, ok = o.Value.(*batchv1.CronJob)
	case fleet.Cordon, fleet.DrainNode, fleet.Uncordon:
		ok = o.ID.Kind == fleet.KindNode
	default:
		return fmt.Errorf("%q is no intent", verb)
	}
	if !ok {
		return fmt.Errorf("a %s cannot %s", o.ID.Kind, verb)
	}
	return nil
}

// Before is the revision of a workload to go back to: the one of that number, or for 0 the newest before the one it goes to.
func Before(a fleet.Assignment, id fleet.ObjectID, number int64) (int64, error) {
	at := slices.IndexFunc(a.Rollouts, func(r fleet.Rollout) bool { return r.ID == id })
	if at < 0 {
		return 0, fmt.Errorf("%s has no history", id)
	}
	var now, best int64
	for _, s := range a.Sets {
		if s.ID == a.Rollouts[at].Target {
			now = s.Number
		}
	}
	for _, s := range a.Sets {
		switch {
		case s.Owner != id:
		case number != 0 && (s.Number == number || slices.Contains(s.Former, number)):
			return number, nil
		case number == 0 && s.Number < now:
			best = max(best, s.Number)
		}
	}
	if best == 0 && number == 0 {
		return 0, fmt.Errorf("%s has no revision to go back to", id)
	}
	if number != 0 {
		return 0, fmt.Errorf("%s has no revision %d", id, number)
	}
	return best, nil
}

// replicasOf is where an object says how many pods it wants; nil for kinds that do not.
func replicasOf(o runtime.Object) **int32 {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Replicas
	case *appsv1.ReplicaSet:
		return &o.Spec.Replicas
	case *appsv1.StatefulSet:
		return &o.Spec.Replicas
	default:
		return nil
	}
}

// suspendOf is where an object says that it is suspended; nil for kinds that do not.
func suspendOf(o runtime.Object) **bool {
	switch o := o.(type) {
	case *batchv1.CronJob:
		return &o.Spec.Suspend
	case *batchv1.Job:
		return &o.Spec.Suspend
	default:
		return nil
	}
}

// Effective is what is desired once operators are heard and autoscalers have their say: Git's objects, but for the fields
// that intents and scalers stand for. Objects that nobody speaks of are shared with desired.
func Effective(desired fleet.Desired, intents []fleet.Intent, scalers []fleet.Scaler) fleet.Desired {
	if len(intents)+len(scalers) == 0 {
		return desired
	}
	touched := map[fleet.ObjectID]runtime.Object{}
	edit := func(id fleet.ObjectID) runtime.Object {
		o, ok := desired.Find(id)
		if !ok {
			return nil
		}
		if touched[id] == nil {
			touched[id] = o.Value.DeepCopyObject()
		}
		return touched[id]
	}
	for _, i := range current(desired, intents) {
		o := edit(i.Object)
		switch d, _ := o.(*appsv1.Deployment); {
		case i.Verb == fleet.Scale && replicasOf(o) != nil:
			*replicasOf(o) = &i.Replicas
		case (i.Verb == fleet.Pause || i.Verb == fleet.Resume) && d != nil:
			d.Spec.Paused = i.Verb == fleet.Pause
		case (i.Verb == fleet.Suspend || i.Verb == fleet.Unsuspend) && suspendOf(o) != nil:
			suspended := i.Verb == fleet.Suspend
			*suspendOf(o) = &suspended
		}
	}
	for _, s := range scalers {
		if s.Replicas > 0 {
			if o := edit(s.Target); replicasOf(o) != nil {
				*replicasOf(o) = &s.Replicas
			}
		}
	}
	if len(touched) == 0 {
		return desired
	}
	desired.Objects = slices.Clone(desired.Objects)
	for i := range desired.Objects {
		if o := touched[desired.Objects[i].ID]; o != nil {
			desired.Objects[i].Value = o
		}
	}
	return desired
}

// current are the intents that count, in their order: of several for one field the newest, and none that Git has overtaken.
func current(desired fleet.Desired, intents []fleet.Intent) []fleet.Intent {
	sorted := slices.SortedFunc(slices.Values(intents), fleet.Intent.Compare)
	var list []fleet.Intent
	for i, intent := range sorted {
		if i+1 < len(sorted) && sorted[i+1].Object == intent.Object && sorted[i+1].Field() == intent.Field() && intent.Verb != fleet.Trigger {
			continue
		}
		if !overtaken(desired, intent) {
			list = append(list, intent)
		}
	}
	return list
}

// overtaken reports whether Git has changed the field that an intent stands for, or the object is no more.
func overtaken(desired fleet.Desired, i fleet.Intent) bool {
	o, ok := desired.Find(i.Object)
	if !ok {
		return false
	}
	return Heeds(o, i.Verb) != nil || FieldOf(o, i.Verb) != i.Git
}

// intend hears the operators: what Git has overtaken, what was done and what a newer intent replaces is dropped.
func (d *decider) intend() {
	counting := current(d.in.Desired, d.in.Intents)
	for _, i := range d.in.Intents {
		if !slices.ContainsFunc(counting, i.Equal) {
			d.drop(i)
		}
	}
	for _, i := range counting {
		o, ok := d.in.Desired.Find(i.Object)
		if i.Object.Kind == fleet.KindNode && d.exists[fleet.NodeName(i.Object.Name)] {
			o, ok = fleet.Object{ID: i.Object}, true // what nodes say of themselves is in no source
		}
		if i.Object.Kind == fleet.KindNode && !d.exists[fleet.NodeName(i.Object.Name)] { // another machine may get its name
			d.drop(i)
			continue
		}
		if !ok {
			if d.in.Desired.Known(i.Source, i.Object) {
				d.drop(i)
			}
			continue
		}
		if i.Verb == fleet.Scale && i.Git == strconv.Itoa(int(i.Replicas)) || (i.Verb == fleet.Unsuspend || i.Verb == fleet.Uncordon) && i.Git == "false" {
			d.drop(i)
			continue
		}
		d.intents[o.ID] = append(d.intents[o.ID], i)
		d.note(o.ID, "%s", IntentText(i))
	}
	d.in.Desired = Effective(d.in.Desired, d.in.Intents, nil)
}

func (d *decider) drop(i fleet.Intent) { d.dropped = append(d.dropped, i) }

// asked is the intent of one of those verbs for an object.
func (d *decider) asked(id fleet.ObjectID, verbs ...fleet.IntentVerb) (fleet.Intent, bool) {
	for _, i := range d.intents[id] {
		if slices.Contains(verbs, i.Verb) {
			return i, true
		}
	}
	return fleet.Intent{}, false
}

// IntentText says in one sentence what somebody asked for.
func IntentText(i fleet.Intent) string {
	what := string(i.Verb)
	switch i.Verb {
	case fleet.Scale:
		what = fmt.Sprintf("scale to %d, Git says %s", i.Replicas, i.Git)
	case fleet.Undo:
		what = fmt.Sprintf("undo to revision %d", i.Number)
	}
	return fmt.Sprintf("not in Git: %s (by %s at %s)", what, i.Author, i.At.UTC().Format("2006-01-02T15:04:05Z"))
}

// Drained reports whether operators want a node emptied: the newest of their words on it says so.
func Drained(intents []fleet.Intent, node fleet.NodeName) bool {
	var last fleet.Intent
	for _, i := range intents {
		about := i.Object == nodeID(node) && slices.Contains([]fleet.IntentVerb{fleet.Cordon, fleet.DrainNode, fleet.Uncordon}, i.Verb)
		if about && !i.At.Before(last.At) {
			last = i
		}
	}
	return last.Verb == fleet.DrainNode
}
