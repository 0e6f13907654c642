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

var logID = fleet.ObjectID{Kind: fleet.KindDaemonSet, Namespace: "shop", Name: "log"}

func daemonSet(change ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	limit := int32(10)
	s := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{RevisionHistoryLimit: &limit}}
	for _, f := range change {
		f(s)
	}
	return s
}

func daemonUpdate(surge, down string) func(*appsv1.DaemonSet) {
	return func(s *appsv1.DaemonSet) {
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: value(surge), MaxUnavailable: value(down)}
	}
}

func daemonOnDelete(s *appsv1.DaemonSet) {
	s.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
}

func daemonSettling(seconds int32) func(*appsv1.DaemonSet) {
	return func(s *appsv1.DaemonSet) { s.Spec.MinReadySeconds = seconds }
}

// TestFences has semantics 1: for DaemonSets both round up, and 0/0 is one unavailable.
func TestFences(t *testing.T) {
	for _, test := range []struct {
		name             string
		nodes            int
		surge, down      string
		wantUp, wantDown int32
	}{
		{"defaults", 10, "", "", 0, 1},
		{"unavailable rounds up", 10, "", "11%", 0, 2},
		{"surge rounds up", 10, "11%", "0", 2, 0},
		{"a little is one", 3, "1%", "0", 1, 0},
		{"both zero", 10, "0", "0", 0, 1},
		{"both zero by percent", 10, "0%", "0%", 0, 1},
		{"no nodes", 0, "", "50%", 0, 1},
		{"no nodes, surge", 0, "50%", "0", 0, 1},
		{"numbers", 4, "0", "3", 0, 3},
		{"all", 4, "0", "100%", 0, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			if up, down := workload.Fences(daemonSet(daemonUpdate(test.surge, test.down)), test.nodes); up != test.wantUp || down != test.wantDown {
				t.Errorf("surge %d, unavailable %d; want %d, %d", up, down, test.wantUp, test.wantDown)
			}
		})
	}
	if up, down := workload.Fences(daemonSet(), 7); up != 0 || down != 1 {
		t.Errorf("without rollingUpdate: %d, %d", up, down)
	}
}

// field is a DaemonSet's pods. They become ready, or are gone, at the next call of live.
type field struct {
	t        testing.TB
	s        *appsv1.DaemonSet
	hash     fleet.Hash
	revision fleet.Revision
	hold     string
	rollback bool
	out      workload.Everywhere
	members  []workload.Member
	nodes    map[fleet.NodeName]workload.Seating
	now      time.Time
	bad      map[fleet.Hash]bool
	lingers  bool
	made     int
}

func newField(t testing.TB, s *appsv1.DaemonSet, nodes ...fleet.NodeName) *field {
	f := &field{t: t, s: s, hash: "v1", revision: "r1", now: now, bad: map[fleet.Hash]bool{}, nodes: map[fleet.NodeName]workload.Seating{}}
	for _, n := range nodes {
		f.nodes[n] = workload.Wanted
	}
	return f
}

func (f *field) decide(e workload.Everywhere) workload.Everywhere {
	return workload.Spread(workload.Everywhere{Revised: workload.Revised{
		Object: fleet.Object{ID: logID, Source: "home", Revision: f.revision, Value: f.s, Hash: f.hash},
		Target: workload.Target{Want: f.hash, From: f.revision}, Sets: e.Sets, Rollout: e.Rollout, Members: slices.Clone(f.members),
		Hold: f.hold, Rollback: f.rollback, Now: f.now,
	}, Nodes: f.nodes})
}

func (f *field) look() *field {
	f.t.Helper()
	f.out = f.decide(f.out)
	for _, uid := range f.out.Drain {
		at := slices.IndexFunc(f.members, func(m workload.Member) bool { return m.Slot.UID == uid })
		if f.members[at].Slot.Goal != fleet.Run {
			f.t.Fatalf("drains %s twice", uid)
		}
		f.members[at].Slot.Goal = fleet.Drain
	}
	for _, p := range f.out.Place {
		if f.nodes[p.Node] != workload.Wanted {
			f.t.Fatalf("a pod on %s, which should have none", p.Node)
		}
		at := slices.IndexFunc(f.out.Sets, func(s fleet.Set) bool { return s.ID == p.Set })
		set := f.out.Sets[at]
		f.made++
		f.members = append(f.members, workload.Member{Slot: fleet.Slot{Goal: fleet.Run, Node: p.Node, Tries: p.Tries, Identity: fleet.Identity{
			UID: fmt.Sprintf("uid-%03d", f.made), Owner: logID, Want: set.Want, Stamp: set.Stamp, Label: set.Label, Created: f.now,
		}}})
	}
	again := f.decide(f.out)
	if len(again.Place)+len(again.Drain) > 0 || !cmp.Equal(again.Sets, f.out.Sets) || again.Rollout != f.out.Rollout || again.Done != f.out.Done {
		f.t.Fatalf("a second look at %s changes: places %v, drains %v, done %t then %t\n%s\n%s", f, again.Place, again.Drain, f.out.Done, again.Done,
			cmp.Diff(f.out.Rollout, again.Rollout), cmp.Diff(f.out.Sets, again.Sets))
	}
	return f
}

func (f *field) live() *field {
	f.now = f.now.Add(time.Second)
	if !f.lingers {
		f.members = slices.DeleteFunc(f.members, func(m workload.Member) bool { return m.Slot.Goal == fleet.Drain })
	}
	for i := range f.members {
		if f.members[i].Report == nil {
			f.report(i, corev1.PodRunning, !f.bad[f.members[i].Slot.Want])
		}
	}
	return f
}

func (f *field) report(at int, phase corev1.PodPhase, ready bool) {
	p := &fleet.PodReport{Identity: f.members[at].Slot.Identity, Status: corev1.PodStatus{Phase: phase}}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: f.now}}}
	}
	if p.Terminal() {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.Time{Time: f.now}}}}}
	}
	f.members[at].Report = p
}

// becomes changes how the newest pod of a node is that should run.
func (f *field) becomes(node fleet.NodeName, phase corev1.PodPhase, ready bool) *field {
	f.t.Helper()
	for i := len(f.members) - 1; i >= 0; i-- {
		if f.members[i].Slot.Node == node && f.members[i].Slot.Goal == fleet.Run {
			f.report(i, phase, ready)
			return f
		}
	}
	f.t.Fatalf("no pod on %s in %s", node, f)
	return f
}

// String has every pod as node:template, marked as row's.
func (f *field) String() string {
	members := slices.SortedStableFunc(slices.Values(f.members), func(a, b workload.Member) int { return strings.Compare(string(a.Slot.Node), string(b.Slot.Node)) })
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
		parts = append(parts, fmt.Sprintf("%s:%s%s", m.Slot.Node, m.Slot.Want, mark))
	}
	return strings.Join(parts, " ")
}

func (f *field) trace() string {
	f.t.Helper()
	var lines []string
	for range 300 {
		line := f.look().String()
		if len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
		before := f.String()
		if f.live(); f.String() == before {
			return strings.Join(lines, " | ")
		}
	}
	f.t.Fatalf("does not settle: %s", strings.Join(lines[max(0, len(lines)-10):], " | "))
	return ""
}

func (f *field) settle() *field {
	f.t.Helper()
	f.trace()
	return f
}

func (f *field) push(hash fleet.Hash, change ...func(*appsv1.DaemonSet)) *field {
	f.hash, f.revision, f.s = hash, fleet.Revision(fmt.Sprintf("%s.%d", hash, f.now.Unix())), f.s.DeepCopy()
	for _, c := range change {
		c(f.s)
	}
	return f
}

func (f *field) uids() map[fleet.NodeName]string {
	uids := map[fleet.NodeName]string{}
	for _, m := range f.members {
		if m.Slot.Goal == fleet.Run {
			uids[m.Slot.Node] += m.Slot.UID
		}
	}
	return uids
}

// TestDaemonSets has the rules of semantics section 5, each as what there is after each look.
func TestDaemonSets(t *testing.T) {
	three := []fleet.NodeName{"a", "b", "c"}
	for _, test := range []struct {
		name  string
		set   *appsv1.DaemonSet
		nodes []fleet.NodeName
		story func(f *field) string
		want  string
	}{
		{"one on each node", daemonSet(), three, func(f *field) string { return f.trace() }, "a:v1~ b:v1~ c:v1~ | a:v1+ b:v1+ c:v1+"},
		{"a node joins", daemonSet(), three[:1], func(f *field) string { f.settle().nodes["b"] = workload.Wanted; return f.trace() }, "a:v1+ b:v1~ | a:v1+ b:v1+"},
		{"a node leaves the selection", daemonSet(), three, func(f *field) string { delete(f.settle().nodes, "b"); return f.trace() },
			"a:v1+ b:v1+- c:v1+ | a:v1+ c:v1+"},
		{"a node that may keep its pod, and gets none", daemonSet(), three, func(f *field) string {
			f.settle().nodes["b"] = workload.Kept
			a := f.look().String()
			f.members = slices.DeleteFunc(f.members, func(m workload.Member) bool { return m.Slot.Node == "b" })
			return a + " | " + f.trace()
		}, "a:v1+ b:v1+ c:v1+ | a:v1+ c:v1+"},
		{"a node that may keep its pod, and has two", daemonSet(), three[:2], func(f *field) string {
			m := f.settle().members[1]
			m.Slot.UID, m.Slot.Created = "twin", m.Slot.Created.Add(time.Second)
			f.members = append(f.members, m)
			f.nodes["b"] = workload.Kept
			return f.push("v2").trace() + fmt.Sprintf(", done %t", f.out.Done)
		}, "a:v1+- b:v1+ b:v1+- | a:v2~ b:v1+ | a:v2+ b:v1+, done true"},
		{"an update waits for a node that is not heard", daemonSet(), three[:2], func(f *field) string {
			f.settle().nodes["b"] = workload.Unheard
			return f.push("v2").trace() + fmt.Sprintf(", done %t", f.out.Done)
		}, "a:v1+ b:v1+, done false"},
		{"a node of which nothing is known keeps two", daemonSet(), three[:2], func(f *field) string {
			m := f.settle().members[1]
			m.Slot.UID, m.Report = "twin", nil
			f.members = append(f.members, m)
			f.nodes["b"] = workload.Unheard
			return f.look().String()
		}, "a:v1+ b:v1+ b:v1~"},
		{"update, one at a time", daemonSet(), three, func(f *field) string { return f.settle().push("v2").trace() },
			"a:v1+- b:v1+ c:v1+ | a:v2~ b:v1+ c:v1+ | a:v2+ b:v1+- c:v1+ | a:v2+ b:v2~ c:v1+ | a:v2+ b:v2+ c:v1+- | a:v2+ b:v2+ c:v2~ | a:v2+ b:v2+ c:v2+"},
		{"update, 34% of three is two", daemonSet(daemonUpdate("", "34%")), three, func(f *field) string { return f.settle().push("v2").trace() },
			"a:v1+- b:v1+- c:v1+ | a:v2~ b:v2~ c:v1+ | a:v2+ b:v2+ c:v1+- | a:v2+ b:v2+ c:v2~ | a:v2+ b:v2+ c:v2+"},
		{"a bad update stops at the first", daemonSet(), three, func(f *field) string { f.bad["v2"] = true; return f.settle().push("v2").trace() },
			"a:v1+- b:v1+ c:v1+ | a:v2~ b:v1+ c:v1+ | a:v2? b:v1+ c:v1+"},
		{"a fix goes first where it is broken", daemonSet(), three, func(f *field) string { f.bad["v2"] = true; return f.settle().push("v2").settle().push("v3").trace() },
			"a:v2?- b:v1+ c:v1+ | a:v3~ b:v1+ c:v1+ | a:v3+ b:v1+- c:v1+ | a:v3+ b:v3~ c:v1+ | a:v3+ b:v3+ c:v1+- | a:v3+ b:v3+ c:v3~ | a:v3+ b:v3+ c:v3+"},
		{"unavailable old ones go at once, and count", daemonSet(daemonUpdate("", "1")), three, func(f *field) string {
			return f.settle().becomes("b", corev1.PodRunning, false).becomes("c", corev1.PodRunning, false).push("v2").look().live().look().live().look().String()
		}, "a:v1+- b:v2+ c:v2+"},
		{"unavailable old ones count", daemonSet(daemonUpdate("", "2")), three, func(f *field) string {
			return f.settle().becomes("b", corev1.PodRunning, false).push("v2").look().String()
		}, "a:v1+- b:v1?- c:v1+"},
		{"a node without a pod counts as unavailable", daemonSet(daemonUpdate("", "1")), three, func(f *field) string {
			f.settle().nodes["d"] = workload.Wanted
			return f.push("v2").look().String()
		}, "a:v1+ b:v1+ c:v1+ d:v2~"},
		{"minReadySeconds between two", daemonSet(daemonSettling(5)), three[:2], func(f *field) string {
			f.settle().now = f.now.Add(time.Minute)
			return f.push("v2").look().live().look().live().look().String()
		}, "a:v2+ b:v1+"},

		{"surge: the new one comes beside the old", daemonSet(daemonUpdate("1", "0")), three[:2], func(f *field) string { return f.settle().push("v2").trace() },
			"a:v1+ a:v2~ b:v1+ | a:v1+- a:v2+ b:v1+ b:v2~ | a:v2+ b:v1+- b:v2+ | a:v2+ b:v2+"},
		{"surge on as many nodes as may be", daemonSet(daemonUpdate("34%", "0")), three, func(f *field) string { return f.settle().push("v2").look().String() },
			"a:v1+ a:v2~ b:v1+ b:v2~ c:v1+"},
		{"surge, a bad one stops it and costs nothing", daemonSet(daemonUpdate("1", "0")), three[:2], func(f *field) string {
			f.bad["v2"] = true
			return f.settle().push("v2").settle().String()
		}, "a:v1+ a:v2? b:v1+"},
		{"surge, an unavailable old one is replaced at once", daemonSet(daemonUpdate("1", "0")), three[:2], func(f *field) string {
			return f.settle().becomes("b", corev1.PodRunning, false).push("v2").look().String()
		}, "a:v1+ a:v2~ b:v1?-"},
		{"surge, a third version in the middle: never three on a node", daemonSet(daemonUpdate("1", "0")), three[:1], func(f *field) string {
			f.bad["v2"] = true
			return f.settle().push("v2").settle().push("v3").trace()
		}, "a:v1+ a:v2?- | a:v1+ a:v3~ | a:v1+- a:v3+ | a:v3+"},
		{"surge, a third version while only the second serves", daemonSet(daemonUpdate("1", "0")), three[:1], func(f *field) string {
			f.settle().push("v2").look().live()
			f.members[0].Report.Status.Conditions = nil
			return f.push("v3").look().String()
		}, "a:v1?- a:v2+"},
		{"surge, reverted in the middle", daemonSet(daemonUpdate("1", "0")), three[:2], func(f *field) string {
			f.bad["v2"] = true
			return f.settle().push("v2").settle().push("v1").trace()
		}, "a:v1+ a:v2?- b:v1+ | a:v1+ b:v1+"},
		{"surge given up in the middle", daemonSet(daemonUpdate("1", "0")), three[:1], func(f *field) string {
			return f.settle().push("v2").look().push("v2", daemonUpdate("0", "1")).trace()
		}, "a:v1+ a:v2~- | a:v1+- | a:v2~ | a:v2+"},
		{"surge, a node gets none any more in the middle: it comes to its end there", daemonSet(daemonUpdate("1", "0")), three[:1], func(f *field) string {
			f.settle().push("v2").look().nodes["a"] = workload.Kept
			return f.trace()
		}, "a:v1+ a:v2~ | a:v1+- a:v2+ | a:v2+"},
		{"surge, given up where a node gets none any more", daemonSet(daemonUpdate("1", "0")), three[:1], func(f *field) string {
			f.bad["v2"] = true
			f.settle().push("v2").settle().nodes["a"] = workload.Kept
			return f.look().String() + " | " + f.push("v2", daemonUpdate("0", "1")).trace()
		}, "a:v1+ a:v2? | a:v1+ a:v2?- | a:v1+"},
		{"surge, nodes leave: their old ones stay while others are not available", daemonSet(daemonUpdate("1", "0")), three, func(f *field) string {
			f.settle().becomes("a", corev1.PodRunning, false)
			delete(f.nodes, "c")
			return f.look().String()
		}, "a:v1? b:v1+ c:v1+"},
		{"surge, nodes leave", daemonSet(daemonUpdate("1", "0")), three, func(f *field) string { delete(f.settle().nodes, "c"); return f.look().String() },
			"a:v1+ b:v1+ c:v1+-"},

		{"OnDelete replaces nothing", daemonSet(daemonOnDelete), three[:2], func(f *field) string { return f.settle().push("v2").trace() }, "a:v1+ b:v1+"},
		{"OnDelete, what was deleted comes back new", daemonSet(daemonOnDelete), three[:2], func(f *field) string {
			f.settle().push("v2").settle()
			f.members = f.members[:1]
			return f.trace()
		}, "a:v1+ b:v2~ | a:v1+ b:v2+"},
		{"OnDelete, a failed one comes back new", daemonSet(daemonOnDelete), three[:1], func(f *field) string {
			f.settle().push("v2").settle().becomes("a", corev1.PodFailed, false)
			f.now = f.now.Add(time.Second)
			return f.settle().String()
		}, "a:v2+"},
		{"OnDelete, an old one and a new one on a node: one goes", daemonSet(daemonOnDelete), three[:1], func(f *field) string {
			f.settle().push("v2").look()
			m := f.members[0]
			at := slices.IndexFunc(f.out.Sets, func(s fleet.Set) bool { return s.Want == "v2" })
			m.Slot.UID, m.Slot.Want, m.Slot.Label = "twin", "v2", f.out.Sets[at].Label
			m.Slot.Created = m.Slot.Created.Add(time.Second)
			f.members = append(f.members, m)
			return fmt.Sprint(strings.Count(f.settle().String(), ":"))
		}, "1"},
		{"Succeeded comes back at once", daemonSet(), three[:1], func(f *field) string {
			return f.settle().becomes("a", corev1.PodSucceeded, false).look().live().String()
		}, "a:v1+"},
		{"two of one node: the older stays", daemonSet(), three[:1], func(f *field) string {
			m := f.settle().members[0]
			m.Slot.UID, m.Slot.Created = "twin", m.Slot.Created.Add(time.Second)
			f.members = append(f.members, m)
			return f.look().String()
		}, "a:v1+ a:v1+-"},
		{"waits until the one before is gone", daemonSet(), three[:1], func(f *field) string { f.settle().lingers = true; return f.push("v2").trace() }, "a:v1+-"},
		{"no nodes", daemonSet(), nil, func(f *field) string { return f.trace() }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantText(t, "it went", test.story(newField(t, test.set, test.nodes...)), test.want)
		})
	}
}

func TestDaemonSetBackoff(t *testing.T) {
	t.Run("grows", func(t *testing.T) {
		f := newField(t, daemonSet(), "a").settle()
		wait := time.Second
		for range 13 {
			f.becomes("a", corev1.PodFailed, false)
			if wait > time.Second { // the first look of a round may come late
				f.now = f.now.Add(wait - time.Second)
				if f.look(); len(f.out.Place)+len(f.out.Drain) > 0 {
					t.Fatalf("replaced before %s", wait)
				}
				if due := f.now.Add(time.Second); !f.out.WakeAt.Equal(due) {
					t.Fatalf("wakes at %s, want %s", f.out.WakeAt, due)
				}
				f.now = f.now.Add(time.Second)
			} else {
				f.now = f.now.Add(wait)
			}
			if f.look(); len(f.out.Drain) != 1 {
				t.Fatalf("not replaced after %s: %s", wait, f)
			}
			f.look().live().look().live()
			if got := f.String(); got != "a:v1+" {
				t.Fatalf("after %s: %s", wait, got)
			}
			wait = min(2*wait, 15*time.Minute)
		}
	})
	t.Run("begins anew after a good run", func(t *testing.T) {
		f := newField(t, daemonSet(), "a").settle()
		for range 5 {
			f.becomes("a", corev1.PodFailed, false)
			f.now = f.now.Add(time.Hour)
			f.settle()
		}
		f.now = f.now.Add(time.Hour)
		f.becomes("a", corev1.PodFailed, false).now = f.now.Add(time.Hour)
		f.settle()
		if tries := f.members[0].Slot.Tries; tries != 0 {
			t.Errorf("%d tries after an hour", tries)
		}
	})
	t.Run("is of one node", func(t *testing.T) {
		f := newField(t, daemonSet(), "a", "b").settle()
		for range 6 {
			f.becomes("a", corev1.PodFailed, false)
			f.now = f.now.Add(time.Minute)
			f.settle()
		}
		f.becomes("b", corev1.PodFailed, false).now = f.now.Add(time.Second)
		if f.look(); len(f.out.Drain) != 1 {
			t.Errorf("waits for another's failures: %s", f)
		}
	})
	t.Run("also of a pod that never had a container", func(t *testing.T) {
		f := newField(t, daemonSet(), "a").settle()
		f.members[0].Slot.Tries, f.members[0].Slot.Created = 8, f.now
		f.becomes("a", corev1.PodFailed, false)
		f.members[0].Report.Status.ContainerStatuses = nil
		f.now = f.now.Add(time.Second)
		if f.look(); len(f.out.Drain) > 0 {
			t.Errorf("eight failed in a row, and it is replaced at once")
		}
	})
	t.Run("a fix does not wait for it", func(t *testing.T) {
		f := newField(t, daemonSet(), "a").settle()
		f.members[0].Slot.Tries, f.members[0].Slot.Created = 12, f.now
		f.becomes("a", corev1.PodFailed, false).now = f.now.Add(2 * time.Second)
		if f.push("v2").look(); len(f.out.Drain) != 1 {
			t.Errorf("the fix waits until %s", f.out.WakeAt)
		}
		f.look().live().look()
		if tries := f.members[0].Slot.Tries; tries != 0 {
			t.Errorf("the fix begins with %d tries", tries)
		}
	})
}

func TestDaemonSetRevisions(t *testing.T) {
	t.Run("a rollback without unnecessary restarts", func(t *testing.T) {
		f := newField(t, daemonSet(), "a", "b", "c").settle()
		before, first := f.uids(), f.out.Sets[0]
		f.push("v2").look().live().look().live().push("v1").settle()
		after := f.uids()
		if after["b"] != before["b"] || after["c"] != before["c"] || after["a"] == before["a"] {
			t.Errorf("before %v, after %v", before, after)
		}
		at := slices.IndexFunc(f.out.Sets, func(s fleet.Set) bool { return s.ID == first.ID })
		if len(f.out.Sets) != 2 || at < 0 || f.out.Sets[at].Number != 3 || !slices.Equal(f.out.Sets[at].Former, []int64{1}) {
			t.Errorf("sets %+v", f.out.Sets)
		}
	})
	t.Run("what makes no new one", func(t *testing.T) {
		f := newField(t, daemonSet(), "a", "b").settle()
		before := f.uids()
		f.push("v1", daemonUpdate("1", "0"), daemonSettling(3)).settle()
		if d := cmp.Diff(before, f.uids()); d != "" || len(f.out.Sets) != 1 {
			t.Errorf("%s%+v", d, f.out.Sets)
		}
	})
	t.Run("history", func(t *testing.T) {
		one := int32(1)
		f := newField(t, daemonSet(func(s *appsv1.DaemonSet) { s.Spec.RevisionHistoryLimit = &one }), "a", "b")
		for i := range 5 {
			f.push(fleet.Hash(fmt.Sprintf("v%d", i))).settle()
		}
		if len(f.out.Sets) != 2 {
			t.Errorf("sets %+v", f.out.Sets)
		}
	})
	t.Run("a lost store", func(t *testing.T) {
		f := newField(t, daemonSet(), "a", "b").settle()
		before := f.uids()
		f.out.Sets, f.out.Rollout = []fleet.Set{revived(f.out.Sets[0])}, fleet.Rollout{}
		f.settle()
		if d := cmp.Diff(before, f.uids()); d != "" {
			t.Error(d)
		}
	})
}

// TestDaemonSetIsSafe: at most one pod a node, two with surge; no more serving pods are taken than may be; in the end each node
// has one of the newest.
func TestDaemonSetIsSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		strategy := func() func(*appsv1.DaemonSet) {
			if rapid.Bool().Draw(rt, "with surge") {
				return daemonUpdate(rapid.SampledFrom([]string{"1", "2", "50%"}).Draw(rt, "surge"), "0")
			}
			return daemonUpdate("0", rapid.SampledFrom([]string{"1", "2", "50%"}).Draw(rt, "unavailable"))
		}
		names := []fleet.NodeName{"a", "b", "c", "d"}
		f := newField(t, daemonSet(), names[:rapid.IntRange(1, 4).Draw(rt, "nodes")]...)
		f.bad["bad"] = true
		f.rollback = rapid.Bool().Draw(rt, "rollback")
		for range rapid.IntRange(1, 20).Draw(rt, "events") {
			switch rapid.IntRange(0, 7).Draw(rt, "event") {
			case 0, 1:
				f.push(fleet.Hash(rapid.SampledFrom([]string{"v1", "v2", "v3", "bad"}).Draw(rt, "template")), strategy(), daemonSettling(rapid.SampledFrom([]int32{0, 0, 2}).Draw(rt, "minReady")))
			case 2:
				f.lingers = !f.lingers
			case 3, 4:
				if n := len(f.members); n > 0 {
					i := rapid.IntRange(0, n-1).Draw(rt, "pod")
					if r := f.members[i].Report; r == nil || !r.Terminal() {
						f.report(i, rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodFailed}).Draw(rt, "phase"), rapid.Bool().Draw(rt, "ready") && !f.bad[f.members[i].Slot.Want])
					}
				}
			case 5:
				node := rapid.SampledFrom(names).Draw(rt, "node")
				switch rapid.IntRange(0, 4).Draw(rt, "what") {
				case 0:
					delete(f.nodes, node)
				case 1:
					f.nodes[node] = workload.Kept
				case 2:
					f.nodes[node] = workload.Unheard
				default:
					f.nodes[node] = workload.Wanted
				}
			case 6:
				f.now = f.now.Add(time.Duration(rapid.IntRange(0, 700).Draw(rt, "seconds")) * time.Second)
			default:
				f.live()
			}
			f.safe(rt)
		}
		f.lingers, f.bad = false, nil
		for _, n := range names {
			f.nodes[n] = workload.Wanted
		}
		for i := range f.members {
			if r := f.members[i].Report; r != nil && !r.Terminal() {
				f.report(i, corev1.PodRunning, true)
			}
		}
		f.push("v9", daemonSettling(0))
		for range 3 {
			f.now = f.now.Add(time.Hour)
			f.settle()
		}
		if got := f.String(); !f.out.Done || got != "a:v9+ b:v9+ c:v9+ d:v9+" {
			rt.Fatalf("in the end %s, done %t", got, f.out.Done)
		}
	})
}

func (f *field) safe(rt *rapid.T) {
	minReady := time.Duration(f.s.Spec.MinReadySeconds) * time.Second
	should := 0
	for _, seating := range f.nodes {
		if seating == workload.Wanted {
			should++
		}
	}
	serving := func() map[fleet.NodeName]bool {
		nodes := map[fleet.NodeName]bool{}
		for _, m := range f.members {
			if f.nodes[m.Slot.Node] == workload.Wanted && workload.Count([]workload.Member{m}, minReady, f.now).Available == 1 {
				nodes[m.Slot.Node] = true
			}
		}
		return nodes
	}
	alive := func() map[fleet.NodeName]int {
		n := map[fleet.NodeName]int{}
		for _, m := range f.members {
			if m.Report == nil || !m.Report.Terminal() {
				n[m.Slot.Node]++
			}
		}
		return n
	}
	before, had, was := serving(), alive(), f.String()
	f.look()
	after := serving()
	surge, unavailable := workload.Fences(f.s, should)
	if surge > 0 {
		unavailable = 0
	}
	if len(after) < min(len(before), should-int(unavailable)) {
		rt.Fatalf("%d of %d serve, were %d, %d may be missing: %s -> %s", len(after), should, len(before), unavailable, was, f)
	}
	most := 1
	if surge > 0 {
		most = 2
	}
	for node, n := range alive() {
		if n > max(most, had[node]) {
			rt.Fatalf("%d pods on %s: %s -> %s", n, node, was, f)
		}
	}
}
