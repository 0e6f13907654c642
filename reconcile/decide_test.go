package reconcile

import (
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

func goals(a fleet.Assignment) map[string]int {
	m := map[string]int{}
	for _, s := range a.Slots {
		m[string(s.Goal)]++
	}
	return m
}

// TestKept is promise 4: nothing is pruned because it could not be read.
func TestKept(t *testing.T) {
	everything := []fleet.Object{deploymentOf("web", 2, "hello:1"), replicaSetOf("set", 1, "hello:1"), podOf("bare", "hello:1")}
	hold := func(d *fleet.Desired, ids ...fleet.ObjectID) {
		d.Held = map[fleet.ObjectID]string{}
		for _, id := range ids {
			d.Held[id] = "web.yaml:3: no such field"
		}
	}
	for _, test := range []struct {
		name string
		then func(d *fleet.Desired)
		want map[string]int // slots by goal
		note string
	}{
		{"source not read", func(d *fleet.Desired) { d.Objects, d.Revisions = nil, nil }, map[string]int{"Run": 4}, "its 4 pods are kept as they are"},
		{"another source was read", func(d *fleet.Desired) {
			d.Objects, d.Revisions = nil, map[fleet.SourceName]fleet.Revision{"other": "r1"}
		}, map[string]int{"Run": 4}, "source home was not read"},
		{"all held", func(d *fleet.Desired) {
			hold(d, everything[0].ID, everything[1].ID, everything[2].ID)
			d.Objects = nil
		}, map[string]int{"Run": 4}, "kept as it is: web.yaml:3: no such field"},
		{"one held", func(d *fleet.Desired) {
			hold(d, everything[0].ID)
			d.Objects = nil
		}, map[string]int{"Run": 2, "Drain": 2}, "kept as it is"},
		{"gone", func(d *fleet.Desired) { d.Objects = nil }, map[string]int{"Drain": 4}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, everything...).settle()
			m.desired.Objects = slices.Clone(m.desired.Objects)
			test.then(&m.desired)
			m.decide()
			if d := gocmp.Diff(test.want, goals(m.stored)); d != "" {
				t.Error(d)
			}
			if test.note != "" && !slices.ContainsFunc(m.notes, func(n fleet.Note) bool { return strings.Contains(n.Text, test.note) }) {
				t.Errorf("no note %q in %v", test.note, m.notes)
			}
			m.settle()
			if got := goals(m.stored); got["Run"] != test.want["Run"] || got["Drain"] != 0 {
				t.Errorf("in the end %v", got)
			}
			if test.name == "gone" && (len(m.stored.Sets) > 0 || len(m.stored.Rollouts) > 0 || len(m.host.Pods) > 0 || len(m.host.Volumes) > 0) {
				t.Errorf("left are %+v\n%s", m.stored, m)
			}
		})
	}
}

func TestKeptPodsAreLookedAfter(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 2, "hello:1")).settle()
	m.desired.Objects, m.desired.Revisions = nil, nil
	m.end(m.host.Pods[0].UID, "web", 1)
	m.settle()
	if d := gocmp.Diff([]string{"hello:1", "hello:1"}, m.running()); d != "" {
		t.Error(d)
	}
}

func TestBarePods(t *testing.T) {
	labelled := func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }
	noted := func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }
	host := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
	for _, test := range []struct {
		name    string
		object  fleet.Object
		stays   bool
		running string
	}{
		{"nothing", podOf("bare", "hello:1"), true, "hello:1"},
		{"label", podOf("bare", "hello:1", labelled), true, "hello:1"},
		{"annotation", podOf("bare", "hello:1", noted), true, "hello:1"},
		{"image", podOf("bare", "hello:2"), true, "hello:2"},
		{"image and label", podOf("bare", "hello:2", labelled), true, "hello:2"},
		{"anything else", podOf("bare", "hello:1", host), false, "hello:1"},
		{"image and anything else", podOf("bare", "hello:2", host), false, "hello:2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, podOf("bare", "hello:1")).settle()
			before := m.stored.Slots[0]
			m.now = m.now.Add(time.Minute)
			m.want(desiredOf(test.object))
			m.decide()
			if s := m.stored.Slots[0]; !test.stays && (s.Goal != fleet.Drain || len(s.Next) != 1 || s.Next[0] != test.object.Hash) {
				t.Errorf("it should drain to make room: %+v", s)
			}
			m.settle()
			after := m.stored.Slots[0]
			if (before.UID == after.UID) != test.stays || after.Want != test.object.Hash || len(m.stored.Slots) != 1 {
				t.Errorf("before %+v\nafter  %+v", before, after)
			}
			if d := gocmp.Diff([]string{test.running}, m.running()); d != "" {
				t.Error(d)
			}
		})
	}
}

// A pod follows its object to another source: when it is deleted there it must go.
func TestObjectsMove(t *testing.T) {
	moved := func(o fleet.Object) fleet.Object {
		o.Source, o.Revision = "other", "r7"
		return o
	}
	for _, object := range []fleet.Object{podOf("web", "hello:1"), replicaSetOf("web", 1, "hello:1"), deploymentOf("web", 1, "hello:1")} {
		t.Run(object.ID.Kind, func(t *testing.T) {
			m := newMachine(t, object).settle()
			before := m.uids()
			d := desiredOf(moved(object))
			d.Revisions = map[fleet.SourceName]fleet.Revision{"other": "r7"}
			m.want(d)
			m.settle()
			if diff := gocmp.Diff(before, m.uids()); diff != "" {
				t.Errorf("moving touches pods: %s", diff)
			}
			for _, set := range m.stored.Sets {
				if set.Source != "other" || set.From != "r7" {
					t.Errorf("the template of %s is looked for in %s at %s", set.ID, set.Source, set.From)
				}
			}
			m.desired.Objects = nil
			m.settle()
			if len(m.stored.Slots) > 0 || len(m.stored.Sets) > 0 || len(m.host.Pods) > 0 {
				t.Errorf("left are\n%s", m)
			}
		})
	}
}

func TestNameIsUsedByAnothersPod(t *testing.T) {
	m := newMachine(t, replicaSetOf("web", 1, "hello:1")).settle()
	name, uid := m.stored.Slots[0].Pod.Name, m.stored.Slots[0].UID
	m.want(desiredOf(replicaSetOf("web", 1, "hello:1"), podOf(name, "hello:2")))
	m.settle()
	if len(m.stored.Slots) != 1 || m.stored.Slots[0].UID != uid || len(m.notes) != 1 || !strings.Contains(m.notes[0].Text, "ReplicaSet/shop/web") {
		t.Errorf("notes %v\n%s", m.notes, m)
	}
	m.want(desiredOf(podOf(name, "hello:2")))
	m.settle()
	if d := gocmp.Diff([]string{"hello:2"}, m.running()); d != "" {
		t.Error(d)
	}
	// The other way round: a set gives its pods names that are free.
	m.want(desiredOf(podOf(name, "hello:2"), replicaSetOf("web", 1, "hello:1")))
	m.settle()
	if d := gocmp.Diff([]string{"hello:1", "hello:2"}, m.running()); d != "" {
		t.Error(d)
	}
}

// A store that is older than the fleet may remember a pod that was replaced since under the same name.
func TestOlderStore(t *testing.T) {
	other := podOf("bare", "hello:1", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	for _, test := range []struct {
		name    string
		changes []fleet.Object // since
	}{
		{"by another", []fleet.Object{other}},
		{"by another and back", []fleet.Object{other, podOf("bare", "hello:1")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, podOf("bare", "hello:1")).settle()
			old := m.stored
			for _, object := range test.changes {
				m.now = m.now.Add(time.Minute)
				m.want(desiredOf(object))
				m.settle()
			}
			uid := m.stored.Slots[0].UID
			m.stored = old
			m.settle()
			if len(m.stored.Slots) != 1 || m.stored.Slots[0].UID != uid {
				t.Errorf("there is one pod, %s, and the store has\n%s", uid, m)
			}
		})
	}
}

func TestRelease(t *testing.T) {
	drained := func() *machine {
		m := newMachine(t, podOf("bare", "hello:1")).settle()
		m.desired.Objects = nil
		m.said = []fleet.NodeReport{m.plan().Report}
		m.decide()
		return m
	}
	epoch := drained().stored.Epoch
	for _, test := range []struct {
		name   string
		report func(m *machine) []fleet.NodeReport
		gone   bool
	}{
		{"nothing said", func(m *machine) []fleet.NodeReport { return nil }, false},
		{"said before it was told", func(m *machine) []fleet.NodeReport { return []fleet.NodeReport{{Node: "alpha", Epoch: epoch - 1}} }, false},
		{"said by another", func(m *machine) []fleet.NodeReport { return []fleet.NodeReport{{Node: "beta", Epoch: epoch}} }, false},
		{"still there", func(m *machine) []fleet.NodeReport {
			r := m.said[0]
			r.Epoch = epoch
			return []fleet.NodeReport{r}
		}, false},
		{"gone", func(m *machine) []fleet.NodeReport { return []fleet.NodeReport{{Node: "alpha", Epoch: epoch}} }, true},
		{"gone at a later epoch", func(m *machine) []fleet.NodeReport { return []fleet.NodeReport{{Node: "alpha", Epoch: epoch + 9}} }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := drained()
			m.said = test.report(m)
			m.decide()
			if gone := len(m.stored.Slots) == 0; gone != test.gone {
				t.Errorf("gone: %t", gone)
			}
		})
	}
}

func TestNothingIsPlacedOnASilentNode(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 2, "hello:1"), podOf("bare", "hello:1"))
	m.decide()
	if len(m.stored.Slots) != 0 || len(m.notes) != 2 || !strings.Contains(m.notes[0].Text, "no node has reported yet") {
		t.Errorf("slots %v, notes %v", m.stored.Slots, m.notes)
	}
	m.settle()
	if len(m.running()) != 3 {
		t.Errorf("in the end %v", m.running())
	}
}

// What a lost store is made anew from does not hang on who reported first.
func TestAdoptInAnyOrder(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 4, "hello:1"), replicaSetOf("set", 2, "hello:1")).settle()
	all := m.plan().Report.Pods
	in := m.input()
	in.Previous = fleet.Assignment{}
	in.Reports = []fleet.NodeReport{{Node: "alpha", Pods: all[:2]}, {Node: "beta", Pods: all[1:4]}, {Node: "gamma", Pods: all[4:]}}
	in.Nodes = append(slices.Clone(in.Nodes), fleet.Node{Name: "beta"}, fleet.Node{Name: "gamma"})
	want := Decide(in)
	if len(want.Next.Slots) != 6 {
		t.Fatalf("%d slots of 6 pods", len(want.Next.Slots))
	}
	slices.Reverse(in.Reports)
	in.Reports[1], in.Reports[2] = in.Reports[2], in.Reports[1]
	got := Decide(in)
	for i := range got.Next.Slots { // a pod that two nodes have is whoever's
		got.Next.Slots[i].Node, want.Next.Slots[i].Node = "", ""
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRecreateWaits(t *testing.T) {
	change := func(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }
	m := newMachine(t, deploymentOf("web", 3, "hello:1", change)).settle()
	m.want(desiredOf(deploymentOf("web", 3, "hello:2", change)))
	for range 20 {
		m.said = []fleet.NodeReport{m.plan().Report}
		m.decide()
		if chains := m.plan().Chains; len(chains) > 0 {
			for _, s := range chains[0].Steps { // one pod at a time
				m.take(s)
			}
		}
		images := m.running()
		if slices.Contains(images, "hello:1") && slices.Contains(images, "hello:2") {
			t.Fatalf("both run: %v", images)
		}
	}
	if d := gocmp.Diff([]string{"hello:2", "hello:2", "hello:2"}, m.settle().running()); d != "" {
		t.Error(d)
	}
}

// A bad version stops by itself, and a revert brings back the pods that it had not taken yet.
func TestBadVersionAndBack(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 10, "hello:1")).settle()
	before := m.uids()
	m.bad["bad:1"] = true
	m.want(desiredOf(deploymentOf("web", 10, "bad:1")))
	m.settle()
	if got := m.running(); len(got) != 8 {
		t.Fatalf("%d good pods run, want 8", len(got))
	}
	if got := goals(m.stored); got["Run"] != 13 {
		t.Fatalf("%v, want 8 old and 5 new", got)
	}
	m.want(desiredOf(deploymentOf("web", 10, "hello:1")))
	m.settle()
	kept := 0
	for name, uid := range m.uids() {
		if before[name] == uid {
			kept++
		}
	}
	if kept != 8 || len(m.running()) != 10 || len(m.stored.Sets) != 2 {
		t.Errorf("%d kept, %d run, %d sets", kept, len(m.running()), len(m.stored.Sets))
	}
}

func TestEndedPodsOfASetAreReplaced(t *testing.T) {
	m := newMachine(t, replicaSetOf("set", 2, "hello:1")).settle()
	report := m.plan().Report
	report.Pods[0].Status.Phase = corev1.PodFailed
	m.said = []fleet.NodeReport{report}
	m.decide()
	if d := gocmp.Diff(map[string]int{"Run": 2, "Drain": 1}, goals(m.stored)); d != "" {
		t.Error(d)
	}
}

// TestRenamedMachineBeforeItSpeaks: what the fleet's only machine had under its old name is left alone until the machine says what it has.
func TestRenamedMachineBeforeItSpeaks(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 2, "a:1"), podOf("one", "a:1")).settle()
	was := m.uids()
	in := m.input()
	in.Nodes, in.Reports = []fleet.Node{{Name: "omega"}}, nil
	d := Decide(in)
	for _, s := range d.Next.Slots {
		if s.Goal != fleet.Run {
			t.Errorf("%s is to go before anything is known of it", s.Pod)
		}
	}
	in.Previous, in.Reports = d.Next, m.input().Reports
	for i := range in.Reports {
		in.Reports[i].Node = "omega"
	}
	for _, s := range Decide(in).Next.Slots {
		if was[s.Pod] != s.UID || s.Goal != fleet.Run || s.Node != "omega" {
			t.Errorf("%s is %s with goal %s on %s, want %s to run on omega", s.Pod, s.UID, s.Goal, s.Node, was[s.Pod])
		}
	}
}
