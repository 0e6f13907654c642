package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// Decide says what should run where. Deciding again with the outcome as Previous changes nothing.
func Decide(in FleetInput) Decision { return decide(in).decision() }

// looks is how often a decision looks again at most: each time pods went that had no node, or that others need the room of.
const looks = 10

// decide looks again as long as there are fewer pods than workloads were decided on.
func decide(in FleetInput) *decider {
	d := look(in)
	before := in.Previous
	unsettled := d.vanish() || len(d.preempted) > 0
	for range looks {
		if !unsettled {
			break
		}
		in.Previous = d.decision().Next
		in.Previous.Epoch = before.Epoch
		again := look(in)
		unsettled = again.vanish() || len(again.preempted) > 0 || again.decision().Changed
		again.dropped, again.preempted = append(again.dropped, d.dropped...), append(again.preempted, d.preempted...)
		d = again
	}
	d.in.Previous, d.notes = before, append(d.notes, d.preempted...)
	return d
}

// look decides once.
func look(in FleetInput) *decider {
	d := newDecider(in)
	d.intend()
	d.survey()
	d.hear()
	d.adopt()
	d.release()
	d.rebind()
	d.leave()
	d.evict()
	d.index()
	d.autoscale()
	d.generations = generations(d.sortedSets(), d.members, d.in.Desired, d.in.Now)
	for _, o := range d.inOrder() {
		d.workload(o)
	}
	d.abandon()
	d.claims()
	d.sizeSets()
	d.orphans()
	d.schedule()
	d.expose()
	d.elect()
	return d
}

// workload decides on one object and, for those that depend on it, notes how far it is.
func (d *decider) workload(o fleet.Object) {
	switch v := o.Value.(type) {
	case *appsv1.Deployment:
		d.deployment(o, v)
	case *appsv1.ReplicaSet:
		d.replicaSet(o, v)
	case *appsv1.StatefulSet:
		d.statefulSet(o, v)
	case *appsv1.DaemonSet:
		d.daemonSet(o, v)
	case *batchv1.Job:
		d.job(o, v)
	case *batchv1.CronJob:
		d.cronJob(o, v)
	case *corev1.Pod:
		d.barePod(o)
	}
}

// decider carries one decision through its stages.
type decider struct {
	in    FleetInput
	git   fleet.Desired // what Git says, before operators and autoscalers
	local time.Time     // Now in the zone that it came in
	epoch uint64

	reports map[string]*fleet.PodReport // by UID
	nodes   map[fleet.NodeName]*fleet.NodeReport
	exists  map[fleet.NodeName]bool
	// Nodes as they are now: with what Git and operators say of them, and their strains.
	machines map[fleet.NodeName]*fleet.Node
	strains  []fleet.Strain
	bindings map[fleet.ClaimID]fleet.NodeName
	last     map[fleet.PodID]fleet.NodeName // where pods were that this decision found gone
	unplaced map[string]string              // by UID: why a pod has no node
	named    *bool                          // byName, once it was asked
	// preempted says which pods this decision has just sent away for more important ones; adoptees are the UIDs of those that
	// it came upon without a slot.
	preempted []fleet.Note
	adoptees  map[string]bool

	disruptions []*budget.Budget // once reckoned
	reckoned    bool

	heard      []fleet.NodeName // that have ever reported, in order
	doubted    []fleet.Doubt
	electorate fleet.Electorate
	agreed     time.Time
	mute       struct{ up, any fleet.NodeName } // the first that never has: of those that are not down, and of all

	slots   []fleet.Slot
	counted int                 // how many of them there were before anything was decided
	at      map[string]int      // index into slots by UID
	names   map[fleet.PodID]int // how many slots have it

	// As it was before anything was decided: pods by owner, the ReplicaSets of each Deployment, IDs of sets by owner, and of
	// Jobs of CronJobs that only their pods tell of.
	members     map[fleet.ObjectID][]workload.Member
	ordinaled   map[fleet.ObjectID][]int64 // of the assignment before, by StatefulSet; nil until somebody asks
	generations map[fleet.ObjectID][]workload.Generation
	owned       map[fleet.ObjectID][]fleet.ObjectID
	found       map[fleet.ObjectID][]fleet.ObjectID
	runs        map[fleet.ObjectID][]fleet.ObjectID // IDs of Jobs by CronJob, some of them forgotten

	sets      map[fleet.ObjectID]*fleet.Set
	rollouts  map[fleet.ObjectID]fleet.Rollout
	jobs      map[fleet.ObjectID]*fleet.Job
	crons     map[fleet.ObjectID]fleet.Cron
	scalers   map[fleet.ObjectID]fleet.Scaler
	exposures []fleet.Exposure
	unclaimed map[fleet.ClaimID]fleet.SourceName
	prunable  []fleet.Disposable
	// By what comes before the number in their names, nil until somebody asks: claims that have a volume, and desired
	// StatefulSets whose templates make such claims.
	numbered map[fleet.ClaimID][]fleet.ClaimID
	makers   map[fleet.ClaimID][]fleet.ObjectID

	ran       map[fleet.ObjectID]bool // Jobs that were decided on
	intents   map[fleet.ObjectID][]fleet.Intent
	standings map[fleet.ObjectID]standing
	next      map[fleet.ObjectID][]fleet.Hash // by set: templates its pods make room for
	scaling   map[fleet.ObjectID]autoscalingv2.HorizontalPodAutoscalerStatus
	rules     *rules // nil until the first pod is made

	dropped []fleet.Intent
	notes   []fleet.Note
	wakeAt  time.Time
}

func newDecider(in FleetInput) *decider {
	local := in.Now
	in.Now = in.Now.UTC().Round(0)
	in.Nodes = slices.SortedFunc(slices.Values(in.Nodes), func(a, b fleet.Node) int { return cmp.Compare(a.Name, b.Name) })
	p := in.Previous
	d := &decider{
		in: in, git: in.Desired, local: local, epoch: p.Epoch + 1,
		reports: map[string]*fleet.PodReport{}, nodes: map[fleet.NodeName]*fleet.NodeReport{}, exists: map[fleet.NodeName]bool{},
		machines: map[fleet.NodeName]*fleet.Node{}, bindings: map[fleet.ClaimID]fleet.NodeName{}, last: map[fleet.PodID]fleet.NodeName{},
		unplaced: map[string]string{}, adoptees: map[string]bool{},
		slots: slices.Clone(p.Slots), names: make(map[fleet.PodID]int, len(p.Slots)),
		sets:     make(map[fleet.ObjectID]*fleet.Set, len(p.Sets)),
		rollouts: make(map[fleet.ObjectID]fleet.Rollout, len(p.Rollouts)),
		jobs:     make(map[fleet.ObjectID]*fleet.Job, len(p.Jobs)), crons: map[fleet.ObjectID]fleet.Cron{},
		scalers: map[fleet.ObjectID]fleet.Scaler{}, unclaimed: map[fleet.ClaimID]fleet.SourceName{},
		ran: map[fleet.ObjectID]bool{}, intents: map[fleet.ObjectID][]fleet.Intent{}, standings: map[fleet.ObjectID]standing{},
		next: map[fleet.ObjectID][]fleet.Hash{}, scaling: map[fleet.ObjectID]autoscalingv2.HorizontalPodAutoscalerStatus{},
	}
	for _, n := range in.Nodes {
		d.exists[n.Name] = true
	}
	for i := range in.Reports {
		report := &in.Reports[i]
		d.nodes[report.Node] = report
		d.epoch = max(d.epoch, report.Epoch+1, report.Since+1) // a store that was lost counted further
		for j := range report.Pods {
			d.reports[report.Pods[j].UID] = &report.Pods[j]
		}
	}
	for _, set := range p.Sets {
		d.sets[set.ID] = &set
	}
	for _, r := range p.Rollouts {
		d.rollouts[r.ID] = r
	}
	for _, j := range p.Jobs {
		d.jobs[j.ID] = &j
	}
	for _, c := range p.Crons {
		d.crons[c.ID] = c
	}
	for _, s := range p.Scalers {
		d.scalers[s.ID] = s
	}
	for i := range d.slots {
		d.names[d.slots[i].Pod]++
	}
	return d
}

func (d *decider) note(about fleet.ObjectID, format string, args ...any) {
	d.notes = append(d.notes, fleet.Note{About: about, Text: fmt.Sprintf(format, args...)})
}

// say takes over what a workload's decision says.
func (d *decider) say(about fleet.ObjectID, wakeAt time.Time, notes []string) {
	d.wakeAt = fleet.Earliest(d.wakeAt, wakeAt)
	for _, text := range notes {
		d.note(about, "%s", text)
	}
}

func (d *decider) decision() Decision {
	next := fleet.Assignment{Epoch: d.in.Previous.Epoch, Heard: d.heard, Doubted: d.doubted, Electorate: d.electorate, Agreed: d.agreed, Revisions: maps.Clone(d.in.Previous.Revisions), Slots: d.slots}
	for source, revision := range d.in.Desired.Revisions {
		if next.Revisions == nil {
			next.Revisions = map[fleet.SourceName]fleet.Revision{}
		}
		next.Revisions[source] = revision
	}
	for source := range next.Revisions { // a source that is no more is forgotten with its last slot
		if _, read := d.in.Desired.Revisions[source]; !read &&
			!slices.ContainsFunc(d.slots, func(s fleet.Slot) bool { return s.Source == source }) {
			delete(next.Revisions, source)
		}
	}
	next.Readings = slices.Clone(d.in.Desired.Readings)
	for _, r := range d.in.Previous.Readings { // of what was not read this time, the last word counts
		if _, known := next.Revisions[r.Source]; known && !slices.ContainsFunc(next.Readings, func(n fleet.Reading) bool { return n.Source == r.Source }) {
			next.Readings = append(next.Readings, r)
		}
	}
	slices.SortFunc(next.Readings, func(a, b fleet.Reading) int { return cmp.Compare(a.Source, b.Source) })
	next.Sets = d.sortedSets()
	next.Rollouts, next.Crons, next.Scalers = sorted(d.rollouts), sorted(d.crons), sorted(d.scalers)
	for _, id := range slices.SortedFunc(maps.Keys(d.jobs), fleet.ObjectID.Compare) {
		next.Jobs = append(next.Jobs, *d.jobs[id])
	}
	next.Strains, next.Bindings = d.strains, d.bindingList()
	next.Unclaimed, next.Prunable = d.listUnclaimed(), d.prunable
	next.Exposures = d.exposures
	slices.SortFunc(next.Slots, fleet.SlotOrder)
	slices.SortFunc(d.notes, fleet.Note.Compare)
	slices.SortFunc(d.dropped, fleet.Intent.Compare)
	changed := !same(next, d.in.Previous)
	if changed {
		next.Epoch = d.epoch
	}
	return Decision{Next: next, Changed: changed, Dropped: slices.CompactFunc(d.dropped, fleet.Intent.Equal), Notes: slices.Compact(d.notes), WakeAt: d.wakeAt}
}

// sorted are the values in the order of their keys.
func sorted[T any](m map[fleet.ObjectID]T) []T {
	var list []T
	for _, id := range slices.SortedFunc(maps.Keys(m), fleet.ObjectID.Compare) {
		list = append(list, m[id])
	}
	return list
}

func same(a, b fleet.Assignment) bool {
	return maps.Equal(a.Revisions, b.Revisions) && slices.EqualFunc(a.Readings, b.Readings, fleet.Reading.Equal) && slices.Equal(a.Heard, b.Heard) && a.Electorate.Equal(b.Electorate) && a.Agreed.Equal(b.Agreed) && slices.EqualFunc(a.Doubted, b.Doubted, equal) &&
		slices.EqualFunc(a.Slots, b.Slots, func(x, y fleet.Slot) bool {
			return x.UID == y.UID && x.Node == y.Node && x.Goal == y.Goal && x.Want == y.Want && x.Source == y.Source && x.From == y.From &&
				x.Counted == y.Counted
		}) &&
		slices.EqualFunc(a.Sets, b.Sets, equal) && slices.Equal(a.Rollouts, b.Rollouts) && slices.EqualFunc(a.Jobs, b.Jobs, sameJob) &&
		slices.Equal(a.Crons, b.Crons) && slices.EqualFunc(a.Scalers, b.Scalers, equal) && slices.EqualFunc(a.Exposures, b.Exposures, equal) && slices.Equal(a.Unclaimed, b.Unclaimed) && slices.Equal(a.Prunable, b.Prunable) &&
		slices.EqualFunc(a.Strains, b.Strains, equal) && slices.Equal(a.Bindings, b.Bindings)
}

// sameJob passes over what JSON does not tell apart in the terms: nothing and an empty list.
func sameJob(a, b fleet.Job) bool {
	if !equality.Semantic.DeepEqual(a.Spec, b.Spec) {
		return false
	}
	a.Spec, b.Spec = batchv1.JobSpec{}, batchv1.JobSpec{}
	return equal(a, b)
}

func equal[T any](a, b T) bool { return reflect.DeepEqual(a, b) }
