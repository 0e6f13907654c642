package workload_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

var dbID = fleet.ObjectID{Kind: fleet.KindStatefulSet, Namespace: "shop", Name: "db"}

func statefulSet(replicas int32, change ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	limit := int32(10)
	s := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: &replicas, RevisionHistoryLimit: &limit, PodManagementPolicy: appsv1.OrderedReadyPodManagement}}
	for _, f := range change {
		f(s)
	}
	return s
}

func parallel(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }

func onDelete(s *appsv1.StatefulSet) {
	s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
}

func partition(n int32) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) {
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &n}
	}
}

func startAt(n int32) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) { s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: n} }
}

func size(n int32) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) { s.Spec.Replicas = &n }
}

func settling(seconds int32) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = seconds }
}

// row is a StatefulSet's pods. They become ready, or are gone, at the next call of live.
type row struct {
	t        testing.TB
	s        *appsv1.StatefulSet
	hash     fleet.Hash
	revision fleet.Revision
	stamp    fleet.Stamp
	hold     string
	rollback bool
	out      workload.Ordered
	members  []workload.Member
	now      time.Time
	bad      map[fleet.Hash]bool // templates whose pods never become ready
	stranger map[int32]bool      // ordinals whose name somebody else has
	lingers  bool                // draining pods stay for now
	made     int
}

func newRow(t testing.TB, s *appsv1.StatefulSet) *row {
	return &row{t: t, s: s, hash: "v1", revision: "r1", now: now, bad: map[fleet.Hash]bool{}, stranger: map[int32]bool{}}
}

func (r *row) decide(o workload.Ordered) workload.Ordered {
	return workload.Order(workload.Ordered{Revised: workload.Revised{
		Object: fleet.Object{ID: dbID, Source: "home", Revision: r.revision, Value: r.s, Hash: r.hash},
		Target: workload.Target{Want: r.hash, Stamp: r.stamp, From: r.revision}, Sets: o.Sets, Rollout: o.Rollout, Members: slices.Clone(r.members),
		Hold: r.hold, Rollback: r.rollback, Now: r.now,
	},
		Taken: func(ordinal int32) bool {
			return r.stranger[ordinal] || slices.ContainsFunc(r.members, func(m workload.Member) bool { return *m.Slot.Index == ordinal })
		},
	})
}

// look decides once, does what was decided, and holds it to what must always be true.
func (r *row) look() *row {
	r.t.Helper()
	before := r.out.Sets
	r.out = r.decide(r.out)
	if len(before) > 0 && len(r.out.Sets) == 0 {
		r.t.Fatal("all revisions are forgotten")
	}
	for _, uid := range r.out.Drain {
		at := slices.IndexFunc(r.members, func(m workload.Member) bool { return m.Slot.UID == uid })
		if r.members[at].Slot.Goal != fleet.Run {
			r.t.Fatalf("drains %s twice", uid)
		}
		r.members[at].Slot.Goal = fleet.Drain
	}
	for _, p := range r.out.Place {
		if at := slices.IndexFunc(r.members, func(m workload.Member) bool { return *m.Slot.Index == p.Index }); at >= 0 || r.stranger[p.Index] {
			r.t.Fatalf("a second pod of ordinal %d: %s", p.Index, r)
		}
		set := r.set(p.Set)
		r.made++
		r.members = append(r.members, workload.Member{Slot: fleet.Slot{Goal: fleet.Run, Node: "alpha", Identity: fleet.Identity{
			UID: fmt.Sprintf("uid-%03d", r.made), Owner: dbID, Want: set.Want, Stamp: set.Stamp, Label: set.Label, Index: &p.Index, Created: r.now,
			Pod: fleet.PodID{Namespace: "shop", Name: fmt.Sprintf("db-%d", p.Index)},
		}}})
	}
	again := r.decide(r.out)
	if len(again.Place)+len(again.Drain) > 0 || !cmp.Equal(again.Sets, r.out.Sets) || again.Rollout != r.out.Rollout || again.Done != r.out.Done {
		r.t.Fatalf("a second look at %s changes: places %v, drains %v, done %t then %t\n%s\n%s", r, again.Place, again.Drain, r.out.Done, again.Done, cmp.Diff(r.out.Rollout, again.Rollout), cmp.Diff(r.out.Sets, again.Sets))
	}
	return r
}

func (r *row) set(id fleet.ObjectID) fleet.Set {
	r.t.Helper()
	at := slices.IndexFunc(r.out.Sets, func(s fleet.Set) bool { return s.ID == id })
	if at < 0 {
		r.t.Fatalf("no revision %s", id)
	}
	return r.out.Sets[at]
}

func (r *row) setOf(want fleet.Hash) fleet.Set {
	r.t.Helper()
	at := slices.IndexFunc(r.out.Sets, func(s fleet.Set) bool { return s.Want == want })
	if at < 0 {
		r.t.Fatalf("no revision of %s", want)
	}
	return r.out.Sets[at]
}

// live lets new pods become ready and removes those that drain.
func (r *row) live() *row {
	r.now = r.now.Add(time.Second)
	if !r.lingers {
		r.members = slices.DeleteFunc(r.members, func(m workload.Member) bool { return m.Slot.Goal == fleet.Drain })
	}
	for i := range r.members {
		if r.members[i].Report == nil {
			r.report(i, corev1.PodRunning, !r.bad[r.members[i].Slot.Want])
		}
	}
	return r
}

func (r *row) report(at int, phase corev1.PodPhase, ready bool) {
	p := &fleet.PodReport{Identity: r.members[at].Slot.Identity, Status: corev1.PodStatus{Phase: phase}}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: r.now}}}
	}
	r.members[at].Report = p
}

// becomes changes how the pod of an ordinal is.
func (r *row) becomes(ordinal int32, phase corev1.PodPhase, ready bool) *row {
	r.t.Helper()
	at := slices.IndexFunc(r.members, func(m workload.Member) bool { return *m.Slot.Index == ordinal })
	if at < 0 {
		r.t.Fatalf("no pod %d in %s", ordinal, r)
	}
	r.report(at, phase, ready)
	return r
}

// String has every pod as ordinal:template and how it is: + ready, ? not, x ended, ~ unheard of; - behind it while it drains.
func (r *row) String() string {
	members := slices.SortedFunc(slices.Values(r.members), func(a, b workload.Member) int { return int(*a.Slot.Index) - int(*b.Slot.Index) })
	var parts []string
	for _, m := range members {
		mark := "?"
		switch {
		case m.Report == nil:
			mark = "~"
		case m.Report.Terminal():
			mark = "x"
		default:
			if _, ready := m.Report.ReadySince(); ready {
				mark = "+"
			}
		}
		if m.Slot.Goal == fleet.Drain {
			mark += "-"
		}
		parts = append(parts, fmt.Sprintf("%d:%s%s", *m.Slot.Index, m.Slot.Want, mark))
	}
	return strings.Join(parts, " ")
}

// trace looks and lives until nothing changes, and tells what there was after each look, with bars.
func (r *row) trace() string {
	r.t.Helper()
	var lines []string
	for range 300 {
		line := r.look().String()
		if len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
		before := r.String()
		if r.live(); r.String() == before {
			return strings.Join(lines, " | ")
		}
	}
	r.t.Fatalf("does not settle: %s", strings.Join(lines[max(0, len(lines)-10):], " | "))
	return ""
}

func (r *row) settle() *row {
	r.t.Helper()
	r.trace()
	return r
}

func (r *row) push(hash fleet.Hash, change ...func(*appsv1.StatefulSet)) *row {
	r.hash, r.revision, r.s = hash, fleet.Revision(fmt.Sprintf("%s.%d", hash, r.now.Unix())), r.s.DeepCopy()
	for _, f := range change {
		f(r.s)
	}
	return r
}

func (r *row) uids() map[int32]string {
	uids := map[int32]string{}
	for _, m := range r.members {
		if m.Slot.Goal == fleet.Run {
			uids[*m.Slot.Index] = m.Slot.UID
		}
	}
	return uids
}

func wantText(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.ReplaceAll(got, " | ", "\n     "), strings.ReplaceAll(want, " | ", "\n     "))
	}
}

// TestStatefulSets has the rules of semantics section 6, each as what there is after each look.
func TestStatefulSets(t *testing.T) {
	for _, test := range []struct {
		name  string
		set   *appsv1.StatefulSet
		story func(r *row) string
		want  string
	}{
		{"OrderedReady makes one after the other", statefulSet(3), func(r *row) string { return r.trace() },
			"0:v1~ | 0:v1+ 1:v1~ | 0:v1+ 1:v1+ 2:v1~ | 0:v1+ 1:v1+ 2:v1+"},
		{"OrderedReady stops at the first that is not ready", statefulSet(3), func(r *row) string { r.bad["v1"] = true; return r.trace() }, "0:v1~ | 0:v1?"},
		{"Parallel makes all at once", statefulSet(3, parallel), func(r *row) string { return r.trace() }, "0:v1~ 1:v1~ 2:v1~ | 0:v1+ 1:v1+ 2:v1+"},
		{"Parallel waits for nobody", statefulSet(2, parallel), func(r *row) string { r.bad["v1"] = true; r.settle(); return r.push("v1", size(3)).trace() },
			"0:v1? 1:v1? 2:v1~ | 0:v1? 1:v1? 2:v1?"},
		{"start ordinal", statefulSet(2, startAt(5)), func(r *row) string { return r.trace() }, "5:v1~ | 5:v1+ 6:v1~ | 5:v1+ 6:v1+"},
		{"another start ordinal: the new come before the old go, the highest first", statefulSet(2), func(r *row) string { return r.settle().push("v1", startAt(2)).trace() },
			"0:v1+ 1:v1+ 2:v1~ | 0:v1+ 1:v1+ 2:v1+ 3:v1~ | 0:v1+ 1:v1+- 2:v1+ 3:v1+ | 0:v1+- 2:v1+ 3:v1+ | 2:v1+ 3:v1+"},
		{"minReadySeconds holds the next", statefulSet(2, settling(3)), func(r *row) string {
			a := r.look().live().look().String()
			r.now = r.now.Add(2 * time.Second)
			b := r.look().String()
			r.now = r.now.Add(time.Second)
			return a + " | " + b + " | " + r.look().String()
		}, "0:v1+ | 0:v1+ | 0:v1+ 1:v1~"},

		{"scaled down from the top, one at a time", statefulSet(4), func(r *row) string { return r.settle().push("v1", size(1)).trace() },
			"0:v1+ 1:v1+ 2:v1+ 3:v1+- | 0:v1+ 1:v1+ 2:v1+- | 0:v1+ 1:v1+- | 0:v1+"},
		{"scaling down waits for full removal", statefulSet(3), func(r *row) string { r.settle().lingers = true; return r.push("v1", size(1)).trace() },
			"0:v1+ 1:v1+ 2:v1+-"},
		{"Parallel scales down at once", statefulSet(4, parallel), func(r *row) string { return r.settle().push("v1", size(1)).trace() },
			"0:v1+ 1:v1+- 2:v1+- 3:v1+- | 0:v1+"},
		{"an unhealthy pod blocks scaling down of the others", statefulSet(3), func(r *row) string {
			return r.settle().becomes(0, corev1.PodRunning, false).push("v1", size(1)).trace()
		}, "0:v1? 1:v1+ 2:v1+"},
		{"an unhealthy pod is itself removable", statefulSet(3), func(r *row) string {
			return r.settle().becomes(2, corev1.PodRunning, false).push("v1", size(2)).trace()
		}, "0:v1+ 1:v1+ 2:v1?- | 0:v1+ 1:v1+"},
		{"of two unhealthy ones the higher waits", statefulSet(3), func(r *row) string {
			return r.settle().becomes(1, corev1.PodRunning, false).becomes(2, corev1.PodRunning, false).push("v1", size(1)).trace()
		}, "0:v1+ 1:v1? 2:v1?"},
		{"a surplus pod that has ended does not hold up those above it for ever", statefulSet(3), func(r *row) string {
			return r.settle().becomes(1, corev1.PodFailed, false).becomes(2, corev1.PodFailed, false).push("v1", size(1)).settle().String()
		}, "0:v1+"},
		{"nothing is removed while one is missing", statefulSet(3), func(r *row) string {
			r.settle()
			r.members = slices.DeleteFunc(r.members, func(m workload.Member) bool { return *m.Slot.Index == 0 })
			r.push("v1", size(1))
			return r.trace()
		}, "0:v1~ 1:v1+ 2:v1+ | 0:v1+ 1:v1+ 2:v1+- | 0:v1+ 1:v1+- | 0:v1+"},
		{"to nothing", statefulSet(2), func(r *row) string { return r.settle().push("v1", size(0)).trace() }, "0:v1+ 1:v1+- | 0:v1+- | "},

		{"Failed comes back under its name", statefulSet(2), func(r *row) string { return r.settle().becomes(0, corev1.PodFailed, false).trace() },
			"0:v1x- 1:v1+ | 0:v1~ 1:v1+ | 0:v1+ 1:v1+"},
		{"Succeeded comes back under its name", statefulSet(2), func(r *row) string { return r.settle().becomes(1, corev1.PodSucceeded, false).trace() },
			"0:v1+ 1:v1x- | 0:v1+ 1:v1~ | 0:v1+ 1:v1+"},
		{"Failed comes back, Parallel, all at once", statefulSet(2, parallel), func(r *row) string {
			return r.settle().becomes(0, corev1.PodFailed, false).becomes(1, corev1.PodSucceeded, false).trace()
		}, "0:v1x- 1:v1x- | 0:v1~ 1:v1~ | 0:v1+ 1:v1+"},
		{"not before the failed one is gone", statefulSet(1), func(r *row) string {
			r.settle().lingers = true
			return r.becomes(0, corev1.PodFailed, false).trace()
		}, "0:v1x-"},

		{"update from the top, each waits for the one before", statefulSet(3), func(r *row) string { return r.settle().push("v2").trace() },
			"0:v1+ 1:v1+ 2:v1+- | 0:v1+ 1:v1+ 2:v2~ | 0:v1+ 1:v1+- 2:v2+ | 0:v1+ 1:v2~ 2:v2+ | 0:v1+- 1:v2+ 2:v2+ | 0:v2~ 1:v2+ 2:v2+ | 0:v2+ 1:v2+ 2:v2+"},
		{"Parallel updates one at a time all the same", statefulSet(2, parallel), func(r *row) string { return r.settle().push("v2").trace() },
			"0:v1+ 1:v1+- | 0:v1+ 1:v2~ | 0:v1+- 1:v2+ | 0:v2~ 1:v2+ | 0:v2+ 1:v2+"},
		{"a bad update stops at its first pod", statefulSet(3), func(r *row) string { r.settle().bad["v2"] = true; return r.push("v2").trace() },
			"0:v1+ 1:v1+ 2:v1+- | 0:v1+ 1:v1+ 2:v2~ | 0:v1+ 1:v1+ 2:v2?"},
		{"Parallel, a bad update stops at its first pod", statefulSet(3, parallel), func(r *row) string { r.settle().bad["v2"] = true; return r.push("v2").trace() },
			"0:v1+ 1:v1+ 2:v1+- | 0:v1+ 1:v1+ 2:v2~ | 0:v1+ 1:v1+ 2:v2?"},
		{"ours: a fix replaces what is stuck", statefulSet(3), func(r *row) string { r.settle().bad["v2"] = true; return r.push("v2").settle().push("v3").trace() },
			"0:v1+ 1:v1+ 2:v2?- | 0:v1+ 1:v1+ 2:v3~ | 0:v1+ 1:v1+- 2:v3+ | 0:v1+ 1:v3~ 2:v3+ | 0:v1+- 1:v3+ 2:v3+ | 0:v3~ 1:v3+ 2:v3+ | 0:v3+ 1:v3+ 2:v3+"},
		{"ours: a first version that never ran is replaced", statefulSet(2), func(r *row) string { r.bad["v1"] = true; return r.settle().push("v2").trace() },
			"0:v1?- | 0:v2~ | 0:v2+ 1:v2~ | 0:v2+ 1:v2+"},
		{"no update while one is not ready", statefulSet(3), func(r *row) string {
			r.settle()
			r.push("v2", partition(1))
			return r.becomes(0, corev1.PodRunning, false).trace()
		}, "0:v1? 1:v1+ 2:v1+"},
		{"a ready pod is not stuck, however fresh", statefulSet(3, settling(30)), func(r *row) string {
			for range 3 {
				r.look().live()
				r.now = r.now.Add(30 * time.Second)
			}
			r.look().becomes(0, corev1.PodRunning, true) // it was unready for a moment
			r.now = r.now.Add(10 * time.Second)
			return r.push("v2").look().String()
		}, "0:v1+ 1:v1+ 2:v1+"},
		{"minReadySeconds between two updates", statefulSet(2, settling(10)), func(r *row) string {
			r.look().live().now = r.now.Add(10 * time.Second)
			r.look().live().now = r.now.Add(10 * time.Second)
			a := r.push("v2").look().live().look().live().look().String()
			wake := r.out.WakeAt.Sub(r.now)
			r.now = r.now.Add(9 * time.Second)
			b := r.look().String()
			r.now = r.now.Add(time.Second)
			return a + " | " + b + " | " + r.look().String() + " | " + wake.String()
		}, "0:v1+ 1:v2+ | 0:v1+ 1:v2+ | 0:v1+- 1:v2+ | 10s"},

		{"partition", statefulSet(4, partition(2)), func(r *row) string { return r.settle().push("v2").settle().String() }, "0:v1+ 1:v1+ 2:v2+ 3:v2+"},
		{"partition beyond all", statefulSet(2, partition(7)), func(r *row) string { return r.settle().push("v2").trace() }, "0:v1+ 1:v1+"},
		{"partition, a failed pod below comes back as it was", statefulSet(3, partition(2)), func(r *row) string {
			return r.settle().push("v2").settle().becomes(0, corev1.PodFailed, false).trace()
		}, "0:v1x- 1:v1+ 2:v2+ | 0:v1~ 1:v1+ 2:v2+ | 0:v1+ 1:v1+ 2:v2+"},
		{"partition, a pod removed below comes back as it was", statefulSet(3, partition(2)), func(r *row) string {
			r.settle().push("v2").settle()
			r.members = slices.DeleteFunc(r.members, func(m workload.Member) bool { return *m.Slot.Index == 1 })
			return r.trace()
		}, "0:v1+ 1:v1~ 2:v2+ | 0:v1+ 1:v1+ 2:v2+"},
		{"partition, scaled up below it", statefulSet(1, partition(2)), func(r *row) string { return r.settle().push("v2", size(3)).settle().String() },
			"0:v1+ 1:v1+ 2:v2+"},
		{"partition, two pushes", statefulSet(3, partition(2)), func(r *row) string { return r.settle().push("v2").settle().push("v3").settle().String() },
			"0:v1+ 1:v1+ 2:v3+"},
		{"partition, two pushes, a failed pod below", statefulSet(3, partition(2)), func(r *row) string {
			return r.settle().push("v2").settle().push("v3").settle().becomes(1, corev1.PodFailed, false).settle().String()
		}, "0:v1+ 1:v1+ 2:v3+"},
		{"partition lowered goes on", statefulSet(3, partition(2)), func(r *row) string { return r.settle().push("v2").settle().push("v2", partition(0)).trace() },
			"0:v1+ 1:v1+- 2:v2+ | 0:v1+ 1:v2~ 2:v2+ | 0:v1+- 1:v2+ 2:v2+ | 0:v2~ 1:v2+ 2:v2+ | 0:v2+ 1:v2+ 2:v2+"},
		{"partition raised takes nothing back", statefulSet(3), func(r *row) string { return r.settle().push("v2").settle().push("v2", partition(3)).trace() },
			"0:v2+ 1:v2+ 2:v2+"},
		{"partition counts from the start ordinal", statefulSet(3, startAt(5), partition(1)), func(r *row) string { return r.settle().push("v2").settle().String() },
			"5:v1+ 6:v2+ 7:v2+"},

		{"OnDelete restarts nothing", statefulSet(2, onDelete), func(r *row) string { return r.settle().push("v2").trace() }, "0:v1+ 1:v1+"},
		{"OnDelete leaves a stuck one", statefulSet(2, onDelete), func(r *row) string { r.bad["v1"] = true; return r.settle().push("v2").trace() }, "0:v1?"},
		{"OnDelete, what comes back is new", statefulSet(2, onDelete), func(r *row) string {
			return r.settle().push("v2").settle().becomes(0, corev1.PodFailed, false).trace()
		}, "0:v1x- 1:v1+ | 0:v2~ 1:v1+ | 0:v2+ 1:v1+"},
		{"OnDelete scales", statefulSet(2, onDelete), func(r *row) string { return r.settle().push("v2", size(3)).trace() }, "0:v1+ 1:v1+ 2:v2~ | 0:v1+ 1:v1+ 2:v2+"},

		{"scaled and changed: first the size", statefulSet(2), func(r *row) string { return r.settle().push("v2", size(3)).trace() },
			"0:v1+ 1:v1+ 2:v2~ | 0:v1+ 1:v1+- 2:v2+ | 0:v1+ 1:v2~ 2:v2+ | 0:v1+- 1:v2+ 2:v2+ | 0:v2~ 1:v2+ 2:v2+ | 0:v2+ 1:v2+ 2:v2+"},
		{"scaled down and changed: first the size", statefulSet(2), func(r *row) string { return r.settle().push("v2", size(1)).trace() },
			"0:v1+ 1:v1+- | 0:v1+- | 0:v2~ | 0:v2+"},
		{"a third version in the middle", statefulSet(3), func(r *row) string {
			r.settle().push("v2").look().live().look().live().look() // 2 is new, 1 goes
			return r.push("v3").trace()
		}, "0:v1+ 1:v1+- 2:v2+ | 0:v1+ 1:v3~ 2:v2+ | 0:v1+ 1:v3+ 2:v2+- | 0:v1+ 1:v3+ 2:v3~ | 0:v1+- 1:v3+ 2:v3+ | 0:v3~ 1:v3+ 2:v3+ | 0:v3+ 1:v3+ 2:v3+"},

		{"a stranger has the name", statefulSet(3), func(r *row) string { r.stranger[1] = true; return r.trace() }, "0:v1~ | 0:v1+"},
		{"Parallel, a stranger has the name", statefulSet(3, parallel), func(r *row) string { r.stranger[1] = true; return r.trace() },
			"0:v1~ 2:v1~ | 0:v1+ 2:v1+"},
		{"the stranger goes", statefulSet(2), func(r *row) string { r.stranger[1] = true; r.settle(); r.stranger[1] = false; return r.trace() },
			"0:v1+ 1:v1~ | 0:v1+ 1:v1+"},
		{"what nobody has spoken of is waited for", statefulSet(2), func(r *row) string {
			r.settle()
			r.members[0].Report = nil
			return r.push("v2", partition(1)).look().String()
		}, "0:v1~ 1:v1+"},
	} {
		t.Run(test.name, func(t *testing.T) { wantText(t, "it went", test.story(newRow(t, test.set)), test.want) })
	}
}

func TestStatefulSetRevisions(t *testing.T) {
	t.Run("current becomes update at the end", func(t *testing.T) {
		r := newRow(t, statefulSet(2)).settle()
		first := r.setOf("v1").ID
		if r.out.Rollout.Current != first || r.out.Rollout.Good != first || !r.out.Done {
			t.Fatalf("at the start %+v", r.out.Rollout)
		}
		r.push("v2").look().live().look()
		if r.out.Rollout.Current != first || r.out.Rollout.Target != r.setOf("v2").ID || r.out.Done || r.out.Rollout.Good != first {
			t.Errorf("in the middle %+v", r.out.Rollout)
		}
		r.settle()
		if id := r.setOf("v2").ID; r.out.Rollout.Current != id || r.out.Rollout.Good != id || !r.out.Done || r.out.Rollout.Reason != "NewReplicaSetAvailable" {
			t.Errorf("at the end %+v", r.out.Rollout)
		}
	})
	t.Run("not while there is a partition", func(t *testing.T) {
		r := newRow(t, statefulSet(2, partition(1))).settle()
		first := r.setOf("v1").ID
		r.push("v2").settle()
		if r.out.Rollout.Current != first || r.out.Rollout.Good != first || !r.out.Done {
			t.Errorf("current %s, good %s, done %t", r.out.Rollout.Current, r.out.Rollout.Good, r.out.Done)
		}
	})
	t.Run("partition raised in the middle is no failure", func(t *testing.T) {
		r := newRow(t, statefulSet(3)).settle()
		r.rollback = true
		r.push("v2").look().live().look().live()
		r.push("v2", partition(3)).settle()
		if !r.out.Done || r.out.Rollout.Reason != "NewReplicaSetAvailable" {
			t.Errorf("nothing is left to do, and it is not done: %s, %+v", r, r.out.Rollout)
		}
		r.now = r.now.Add(time.Hour)
		r.settle()
		if r.out.Rollout.Bad != (fleet.Bad{}) {
			t.Errorf("nothing is wrong, and it is bad: %+v", r.out.Rollout.Bad)
		}
		wantText(t, "pods", r.String(), "0:v1+ 1:v1+ 2:v2+")
	})
	t.Run("all new, and the partition raised", func(t *testing.T) {
		r := newRow(t, statefulSet(1)).settle()
		r.push("v2").look().live().look()
		r.live().push("v2", partition(1)).look()
		if !r.out.Done || r.out.Rollout.Current != r.setOf("v2").ID {
			t.Errorf("done %t, %+v", r.out.Done, r.out.Rollout)
		}
	})
	t.Run("a revert revives the revision", func(t *testing.T) {
		r := newRow(t, statefulSet(2)).settle()
		first := r.setOf("v1")
		r.push("v2").settle().push("v1").settle()
		again := r.setOf("v1")
		if len(r.out.Sets) != 2 || again.ID != first.ID || again.Label != first.Label || again.Number != 3 || !slices.Equal(again.Former, []int64{1}) {
			t.Errorf("sets %+v", r.out.Sets)
		}
		wantText(t, "pods", r.String(), "0:v1+ 1:v1+")
	})
	t.Run("a revert in the middle touches what is old only once", func(t *testing.T) {
		r := newRow(t, statefulSet(3)).settle()
		before := r.uids()
		r.push("v2").look().live().look().live()
		r.push("v1").settle()
		after := r.uids()
		if after[0] != before[0] || after[1] != before[1] || after[2] == before[2] {
			t.Errorf("before %v, after %v", before, after)
		}
	})
	t.Run("what makes no new revision", func(t *testing.T) {
		r := newRow(t, statefulSet(2)).settle()
		before := r.uids()
		r.push("v1", parallel, settling(3), partition(1), size(3)).settle()
		if after := r.uids(); len(r.out.Sets) != 1 || after[0] != before[0] || after[1] != before[1] {
			t.Errorf("sets %+v, pods %s", r.out.Sets, r)
		}
	})
	for _, test := range []struct {
		limit int32
		want  string
	}{{0, "v5"}, {1, "v4 v5"}, {3, "v2 v3 v4 v5"}} {
		t.Run(fmt.Sprintf("history limit %d", test.limit), func(t *testing.T) {
			r := newRow(t, statefulSet(2, func(s *appsv1.StatefulSet) { s.Spec.RevisionHistoryLimit = &test.limit }))
			for i := range 6 {
				r.push(fleet.Hash(fmt.Sprintf("v%d", i))).settle()
			}
			var left []string
			for _, s := range r.out.Sets {
				left = append(left, string(s.Want))
			}
			slices.Sort(left)
			wantText(t, "left", strings.Join(left, " "), test.want)
		})
	}
	t.Run("history keeps what pods have", func(t *testing.T) {
		zero := int32(0)
		r := newRow(t, statefulSet(3, partition(2), func(s *appsv1.StatefulSet) { s.Spec.RevisionHistoryLimit = &zero })).settle()
		r.push("v2").settle().push("v3").settle()
		r.setOf("v1")
		if len(r.out.Sets) != 2 {
			t.Errorf("sets %+v", r.out.Sets)
		}
	})
	t.Run("pods carry the label of their revision", func(t *testing.T) {
		r := newRow(t, statefulSet(1)).settle()
		if s := r.setOf("v1"); r.members[0].Slot.Label != s.Label || s.ID.Name != "db-"+s.Label || s.ID.Kind != fleet.KindRevision {
			t.Errorf("set %+v, pod %+v", s, r.members[0].Slot)
		}
	})
}

// Of two pods with one name, which only a store older than the fleet can bring, the older stays, and there is no third.
func TestStatefulSetTwins(t *testing.T) {
	twin := func(r *row, goal fleet.Goal, later time.Duration) {
		m := r.members[1]
		m.Slot.UID, m.Slot.Created, m.Slot.Goal = "twin", m.Slot.Created.Add(later), goal
		r.members = append(r.members, m)
	}
	for _, test := range []struct {
		name  string
		goal  fleet.Goal
		later time.Duration
		drain string
	}{
		{"both run", fleet.Run, time.Second, "twin"},
		{"both run, the other is older", fleet.Run, -time.Second, "uid-002"},
		{"the newer goes already", fleet.Drain, time.Second, ""},
		{"the older goes already", fleet.Drain, -time.Second, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRow(t, statefulSet(2)).settle()
			r.lingers = true
			twin(r, test.goal, test.later)
			r.look()
			if got := strings.Join(r.out.Drain, " "); got != test.drain || len(r.out.Place) > 0 {
				t.Errorf("drains %q, places %v, done %t", got, r.out.Place, r.out.Done)
			}
			r.lingers = false
			r.settle()
			wantText(t, "in the end", r.String(), "0:v1+ 1:v1+")
		})
	}
}

func TestStatefulSetStore(t *testing.T) {
	t.Run("lost at rest", func(t *testing.T) {
		r := newRow(t, statefulSet(3)).settle()
		before := r.uids()
		r.out.Sets, r.out.Rollout = []fleet.Set{revived(r.setOf("v1"))}, fleet.Rollout{}
		r.settle()
		if d := cmp.Diff(before, r.uids()); d != "" {
			t.Error(d)
		}
	})
	t.Run("lost in the middle of a partitioned update", func(t *testing.T) {
		r := newRow(t, statefulSet(3, partition(2))).settle().push("v2").settle()
		before := r.uids()
		r.out.Sets, r.out.Rollout = []fleet.Set{revived(r.setOf("v1")), revived(r.setOf("v2"))}, fleet.Rollout{}
		r.settle()
		if d := cmp.Diff(before, r.uids()); d != "" {
			t.Error(d)
		}
		r.becomes(0, corev1.PodFailed, false).settle()
		wantText(t, "below the partition", r.String(), "0:v1+ 1:v1+ 2:v2+")
	})
}

// revived is a set as it is made anew from its pods' labels.
func revived(s fleet.Set) fleet.Set {
	s.Number, s.Former, s.MinReady = 0, nil, 0
	return s
}

// TestStatefulSetIsSafe: whatever happens, at most one healthy pod goes by an update, none of two bear one name, and all is
// well in the end.
func TestStatefulSetIsSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		change := func() []func(*appsv1.StatefulSet) {
			list := []func(*appsv1.StatefulSet){
				func(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement }, size(rapid.Int32Range(0, 4).Draw(rt, "size")),
				partition(rapid.SampledFrom([]int32{0, 0, 0, 1, 3}).Draw(rt, "partition")), settling(rapid.SampledFrom([]int32{0, 0, 2}).Draw(rt, "minReady")),
				startAt(rapid.SampledFrom([]int32{0, 0, 0, 2}).Draw(rt, "start")), func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = "" },
			}
			if rapid.IntRange(0, 3).Draw(rt, "parallel") == 0 {
				list = append(list, parallel)
			}
			if rapid.IntRange(0, 7).Draw(rt, "onDelete") == 0 {
				list = append(list, onDelete)
			}
			return list
		}
		r := newRow(t, statefulSet(3))
		r.rollback = rapid.Bool().Draw(rt, "rollback")
		r.bad["bad"] = true
		for range rapid.IntRange(1, 20).Draw(rt, "events") {
			switch rapid.IntRange(0, 7).Draw(rt, "event") {
			case 0, 1:
				r.push(fleet.Hash(rapid.SampledFrom([]string{"v1", "v2", "v3", "bad"}).Draw(rt, "template")), change()...)
			case 2:
				r.lingers = !r.lingers
			case 3:
				if n := len(r.members); n > 0 {
					m := r.members[rapid.IntRange(0, n-1).Draw(rt, "pod")]
					r.becomes(*m.Slot.Index, corev1.PodFailed, false)
				}
			case 4:
				if n := len(r.members); n > 0 {
					m := r.members[rapid.IntRange(0, n-1).Draw(rt, "pod")]
					r.becomes(*m.Slot.Index, corev1.PodRunning, rapid.Bool().Draw(rt, "ready") && !r.bad[m.Slot.Want])
				}
			case 5:
				r.now = r.now.Add(time.Duration(rapid.IntRange(0, 700).Draw(rt, "seconds")) * time.Second)
			default:
				r.live()
			}
			r.safe(rt)
		}
		r.lingers, r.bad = false, map[fleet.Hash]bool{}
		for i := range r.members {
			if r.members[i].Slot.Goal == fleet.Run && !r.members[i].Slot.Created.IsZero() {
				r.report(i, corev1.PodRunning, true)
			}
		}
		r.push("v9", partition(0), settling(0), func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = "" })
		r.settle()
		if !r.out.Done || r.out.Rollout.Current != r.setOf("v9").ID || len(r.members) != int(*r.s.Spec.Replicas) {
			rt.Fatalf("in the end %s, done %t, %+v", r, r.out.Done, r.out.Rollout)
		}
	})
}

// safe looks once and checks what was decided.
func (r *row) safe(rt *rapid.T) {
	serving := func(m workload.Member) bool {
		if m.Slot.Goal != fleet.Run || m.Report == nil || m.Report.Terminal() {
			return false
		}
		_, ready := m.Report.ReadySince()
		return ready
	}
	before := slices.Clone(r.members)
	was := r.String()
	r.look()
	first := int32(0)
	if r.s.Spec.Ordinals != nil {
		first = r.s.Spec.Ordinals.Start
	}
	last := first + *r.s.Spec.Replicas
	var taken, away int
	for _, m := range before {
		wanted := *m.Slot.Index >= first && *m.Slot.Index < last
		if wanted && !serving(m) {
			away++
		}
		if serving(m) && slices.Contains(r.out.Drain, m.Slot.UID) {
			if taken++; !wanted {
				continue
			}
			if r.s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
				rt.Fatalf("OnDelete took one: %s -> %s", was, r)
			}
			if away > 0 && r.s.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
				rt.Fatalf("a serving pod goes while another does not serve: %s -> %s", was, r)
			}
		}
	}
	if taken > 1 && r.s.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
		rt.Fatalf("%d serving pods go at once: %s -> %s", taken, was, r)
	}
	names := map[int32]int{}
	for _, m := range r.members {
		if m.Slot.Goal == fleet.Run {
			if names[*m.Slot.Index]++; names[*m.Slot.Index] > 1 {
				rt.Fatalf("two of %d: %s", *m.Slot.Index, r)
			}
		}
	}
}
