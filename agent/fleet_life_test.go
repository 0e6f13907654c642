package agent_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
)

// inFleet runs a test on a fleet in a bubble.
func inFleet(t *testing.T, servers, agents int, test func(t *testing.T, f *simulated)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, servers, agents)
		defer f.end()
		f.all()
		after(10 * time.Second)
		test(t, f)
	})
}

// TestFleetSpreads: what is pushed is spread over the nodes, and each of them shows the same.
func TestFleetSpreads(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 10, "")))
		after(time.Minute)
		want := map[fleet.NodeName]int{"n000": 2, "n001": 2, "n002": 2, "n003": 2, "n004": 2}
		if got := f.on("web"); !maps.Equal(got, want) {
			t.Fatalf("pods by node: %v", got)
		}
		for _, m := range f.nodes {
			s := f.status(m)
			if !s.Settled || len(s.Pods) != 10 || len(s.Fleet.Nodes) != 5 || s.Sources[0].Revision != f.origin.newest {
				t.Errorf("from %s: settled %t, %d pods, %v, %v", m.node.Name, s.Settled, len(s.Pods), s.Sources, s.Waiting)
			}
			for _, n := range s.Fleet.Nodes {
				if n.State != "Ready" || n.Revisions["home"] != f.origin.newest {
					t.Errorf("from %s: %+v", m.node.Name, n)
				}
			}
		}
		epoch := f.assignment().Epoch
		after(10 * time.Minute)
		if now := f.assignment().Epoch; now != epoch {
			t.Errorf("nothing happened, and yet epoch %d became %d", epoch, now)
		}
	})
}

// TestLostNode: pods of a node that lost its power run elsewhere after the stated time, those that must not exist twice do not, and
// what is surplus goes when the node is back.
func TestLostNode(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 10, ""), statefulSet("db", "app:1", 5)))
		after(2 * time.Minute)
		if n := len(f.on("db")); n != 5 {
			t.Fatalf("the set is on %d nodes: %v", n, f.running())
		}
		lost := f.nodes[4]
		lost.kill() // its containers run on: nobody elsewhere can know
		after(simTTL + simStay - 2*time.Second)
		if n := len(f.running()); n != 15 {
			t.Errorf("too early: %d run", n)
		}
		after(6 * time.Second)
		if got := f.on("web"); got["n004"] != 2 || len(f.running()) != 17 {
			t.Errorf("two pods should run a second time: %v", f.running())
		}
		s := f.status(f.nodes[1])
		if s.Fleet.Nodes[4].State != "Lost" {
			t.Errorf("%+v", s.Fleet.Nodes[4])
		}
		lost.start()
		after(30 * time.Second)
		if got := f.running(); len(got) != 15 || f.on("db")["n004"] != 1 {
			t.Errorf("the surplus stays: %v", got)
		}
		lost.powerCut()
		after(time.Minute)
		if got := f.running(); f.on("db")["n004"] != 0 || len(got) != 14 {
			t.Errorf("the set's pod should wait for its node: %v", got)
		}
		lost.start()
		after(time.Minute)
		if got := f.running(); len(got) != 15 || f.on("db")["n004"] != 1 {
			t.Errorf("the set's pod should be back where it was: %v", got)
		}
	})
}

// TestLeaderDies: whoever leads next goes on from what was decided.
func TestLeaderDies(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 6, "")))
		after(time.Minute)
		f.origin.push(tree(spreadOut("web", "app:2", 6, "")))
		after(interval + 2*time.Second) // in the middle of it
		for _, m := range f.nodes[:2] {
			m.kill()
			after(8 * time.Second)
			m.start()
			after(time.Second)
		}
		after(2 * time.Minute)
		if s := f.status(f.nodes[3]); !s.Settled || len(f.running()) != 6 {
			t.Errorf("%v, %v", s.Waiting, f.running())
		}
	})
}

// TestNodesWithoutTheStore: they look after what they have, take nothing new, and take it when they hear of it.
func TestNodesWithoutTheStore(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		f.origin.push(tree(statefulSet("db", "app:1", 5)))
		after(2 * time.Minute)
		cut := f.nodes[3]
		cut.part(true, true)
		after(20 * time.Second)
		cut.kill()
		cut.start() // from what it knows
		after(5 * time.Second)
		for _, line := range f.running() {
			if pod, node, _ := strings.Cut(line, "@"); node == "n003" {
				if err := cut.machine.Kill("default_"+strings.TrimPrefix(pod, "default/")+"_main", 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		after(30 * time.Second)
		if got := f.on("db"); got["n003"] != 1 {
			t.Errorf("what was killed is not back: %v", f.running())
		}
		f.origin.push(tree(statefulSet("db", "app:2", 5)))
		after(time.Minute)
		if s := f.status(cut); s.Fleet.Store == "ok" {
			t.Error("a node that is cut off says that all is well")
		}
		cut.part(false, false)
		after(3 * time.Minute)
		if s := f.status(cut); !s.Settled || s.Sources[0].Revision != f.origin.newest || s.Fleet.Store != "ok" {
			t.Errorf("%v, %v, %s", s.Waiting, s.Sources, s.Fleet.Store)
		}
	})
}

// TestCommitsFromOthers: a node that the Git server does not answer gets the very commit from another, and what reads it differently
// holds to what it has.
func TestCommitsFromOthers(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		apart := f.nodes[4]
		apart.clone.cut = true
		f.origin.push(tree(spreadOut("web", "app:1", 5, ""), configMap("a")))
		after(time.Minute)
		if got := f.on("web"); got["n004"] != 1 {
			t.Errorf("pods by node: %v", got)
		}
		if s := f.status(apart); s.Sources[0].Revision != f.origin.newest {
			t.Errorf("it goes by %v", s.Sources)
		}
		before := f.origin.newest
		apart.clone.mu.Lock()
		other := &origin{trees: maps.Clone(f.origin.trees), newest: before}
		apart.clone.origin, apart.clone.cut = other, false
		apart.clone.mu.Unlock()
		pushed := f.origin.push(tree(spreadOut("web", "app:1", 5, ""), configMap("b")))
		other.mu.Lock()
		other.trees[pushed], other.newest = tree(spreadOut("web", "app:1", 5, ""), configMap("c")), pushed
		other.mu.Unlock()
		after(time.Minute)
		s := f.status(apart)
		if s.Sources[0].State != "Held" || s.Sources[0].Revision != before || !strings.Contains(s.Sources[0].Error, "reads differently here") {
			t.Errorf("%+v", s.Sources[0])
		}
		if s = f.status(f.nodes[1]); !slices.ContainsFunc(s.Notes, func(n fleet.Note) bool {
			return n.About.Name == "n004" && strings.Contains(n.Text, "is held at revision")
		}) {
			t.Errorf("others do not hear of it: %v", s.Notes)
		}
	})
}

// TestHeldNodeIsQuiet: a node that cannot come to what was decided does not try with each word of any other.
func TestHeldNodeIsQuiet(t *testing.T) {
	inFleet(t, 1, 2, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 3, ""), configMap("a")))
		after(time.Minute)
		apart := f.nodes[2]
		apart.clone.mu.Lock()
		other := &origin{trees: maps.Clone(f.origin.trees), newest: f.origin.newest}
		apart.clone.origin = other
		apart.clone.mu.Unlock()
		pushed := f.origin.push(tree(spreadOut("web", "app:1", 3, ""), configMap("b")))
		other.mu.Lock()
		other.trees[pushed], other.newest = tree(spreadOut("web", "app:1", 3, ""), configMap("c")), pushed
		other.mu.Unlock()
		after(time.Minute)
		apart.clone.mu.Lock()
		before := apart.clone.reads
		apart.clone.mu.Unlock()
		drain := api.Wish{Intent: fleet.Intent{Object: fleet.ObjectID{Kind: fleet.KindNode, Name: "n001"}, Author: "ada"}}
		for i := range 120 {
			drain.Verb = []fleet.IntentVerb{fleet.Cordon, fleet.Uncordon}[i%2]
			if _, err := f.nodes[0].Intend(t.Context(), drain); err != nil {
				t.Fatal(err)
			}
			after(time.Second)
		}
		apart.clone.mu.Lock()
		defer apart.clone.mu.Unlock()
		if n := apart.clone.reads - before; n > 60 {
			t.Errorf("it read a commit %d times in two minutes", n)
		}
	})
}

// TestTemplateNowhere: a template that is in no commit any more as this version reads it is looked for in its commit once, and not with
// each decision.
func TestTemplateNowhere(t *testing.T) {
	inFleet(t, 1, 1, func(t *testing.T, f *simulated) {
		pushed := f.origin.push(tree(spreadOut("web", "app:1", 2, ""), spreadOut("other", "app:1", 1, "")))
		after(time.Minute)
		for _, m := range f.nodes {
			m.kill()
			if err := os.RemoveAll(filepath.Join(m.dir, "templates")); err != nil {
				t.Fatal(err)
			}
		}
		f.origin.mu.Lock()
		f.origin.trees[pushed] = tree("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web}\nspec: {unheardOf: 1}\n", spreadOut("other", "app:1", 1, ""))
		f.origin.mu.Unlock()
		f.all()
		after(2 * time.Minute)
		node := f.nodes[1]
		node.clone.mu.Lock()
		reads := node.clone.reads
		node.clone.mu.Unlock()
		epoch := f.assignment().Epoch
		for i := range 30 { // each is a decision or two
			scale := fleet.Intent{Object: fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "default", Name: "other"}, Verb: fleet.Scale, Replicas: int32(1 + i%2), Author: "ada"}
			if _, err := f.nodes[0].Intend(t.Context(), api.Wish{Intent: scale}); err != nil {
				t.Fatal(err)
			}
			after(10 * time.Second)
		}
		node.clone.mu.Lock()
		defer node.clone.mu.Unlock()
		if n := node.clone.reads - reads; n > 32 || f.assignment().Epoch < epoch+30 {
			t.Errorf("it read a commit %d times, with 30 fetches, in epochs %d to %d", n, epoch, f.assignment().Epoch)
		}
		if web := f.on("web"); sum(web) != 2 {
			t.Errorf("%v", web)
		}
	})
}

// TestBrokenFileInAFleet: what was last good of a broken file stays, whoever leads, also on nodes that came later.
func TestBrokenFileInAFleet(t *testing.T) {
	inFleet(t, 3, 1, func(t *testing.T, f *simulated) {
		late := f.nodes[2]
		late.kill()
		late.clone.has = map[fleet.Revision]bool{}
		f.origin.push(tree(spreadOut("web", "app:1", 2, ""), spreadOut("other", "app:1", 1, "")))
		after(time.Minute)
		f.origin.push(tree("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web\n", spreadOut("other", "app:2", 1, "")))
		after(time.Minute)
		late.start()
		after(30 * time.Second)
		for _, m := range f.nodes[:2] {
			m.kill()
		}
		after(2 * time.Minute) // the late one leads now
		f.nodes[0].start()
		f.nodes[1].start()
		after(2 * time.Minute)
		if web, other := f.on("web"), f.on("other"); sum(web) != 2 || sum(other) != 1 {
			t.Errorf("%v", f.running())
		}
	})
}

func sum(m map[fleet.NodeName]int) int {
	n := 0
	for _, x := range m {
		n += x
	}
	return n
}

func configMap(value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {key: " + value + "}\n"
}

// TestDrain: a drained node's pods go elsewhere, and it gets none until somebody says so.
func TestDrain(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 10, "")))
		after(time.Minute)
		drain := api.Wish{Intent: fleet.Intent{Object: fleet.ObjectID{Kind: fleet.KindNode, Name: "n001"}, Verb: fleet.DrainNode, Author: "ada"}}
		if _, err := f.nodes[3].Intend(t.Context(), drain); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if got := f.on("web"); got["n001"] != 0 || sum(got) != 10 {
			t.Errorf("%v", got)
		}
		f.origin.push(tree(spreadOut("web", "app:1", 15, "")))
		after(time.Minute)
		if got := f.on("web"); got["n001"] != 0 || sum(got) != 15 {
			t.Errorf("%v", got)
		}
		drain.Verb = fleet.Uncordon
		if _, err := f.nodes[0].Intend(t.Context(), drain); err != nil {
			t.Fatal(err)
		}
		f.origin.push(tree(spreadOut("web", "app:1", 18, "")))
		after(time.Minute)
		if got := f.on("web"); got["n001"] != 3 || sum(got) != 18 {
			t.Errorf("%v", got)
		}
		unknown := api.Wish{Intent: fleet.Intent{Object: fleet.ObjectID{Kind: fleet.KindNode, Name: "nobody"}, Verb: fleet.Cordon}}
		if _, err := f.nodes[0].Intend(t.Context(), unknown); err == nil || !strings.Contains(err.Error(), "there is no node nobody") {
			t.Errorf("%v", err)
		}
	})
}

// TestPodmanDies: a node whose Podman is dead gets no pods, and its pods are left: they run on.
func TestPodmanDies(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 5, "")))
		after(time.Minute)
		f.nodes[4].machine.Down()
		after(5 * time.Minute)
		s := f.status(f.nodes[0])
		if n := s.Fleet.Nodes[4]; n.State != "NotReady" || n.Pods != 1 || n.Why == "" {
			t.Errorf("%+v", n)
		}
		f.origin.push(tree(spreadOut("web", "app:1", 9, "")))
		after(time.Minute)
		if got := f.on("web"); sum(got) != 8 || slices.Contains(slices.Collect(maps.Keys(got)), "n004") { // it cannot be looked at
			t.Errorf("%v", got)
		}
		f.nodes[4].machine.Up()
		after(time.Minute)
		if got := f.on("web"); sum(got) != 9 || got["n004"] != 1 {
			t.Errorf("%v", got)
		}
	})
}

// TestFleetTakesNothingByHand: what is not in Git is refused.
func TestFleetTakesNothingByHand(t *testing.T) {
	inFleet(t, 1, 1, func(t *testing.T, f *simulated) {
		if err := f.nodes[0].Apply(t.Context(), set(t, "/srv/x", tree(pod("p", "app:1", "")))); err == nil || !strings.Contains(err.Error(), "belongs to a fleet") {
			t.Errorf("%v", err)
		}
	})
}

// TestSyncAnywhere: a sync on any node has the leader look, and ends when the fleet goes by what it found.
func TestSyncAnywhere(t *testing.T) {
	inFleet(t, 3, 1, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 2, "")))
		after(time.Minute)
		for _, m := range f.nodes {
			pushed := f.origin.push(tree(spreadOut("web", "app:1", 2, ""), configMap(string(m.node.Name))))
			began := time.Now()
			fetched, err := m.Sync(t.Context(), "")
			if err != nil || len(fetched) != 1 || fetched[0].Revision != pushed || fetched[0].Error != "" {
				t.Fatalf("%s: %v, %v", m.node.Name, fetched, err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("%s: it took %s", m.node.Name, took)
			}
			after(100 * time.Millisecond) // the leader itself says so before it has decided
			if now := f.assignment().Revisions["home"]; now != pushed {
				t.Errorf("%s: the fleet goes by %s", m.node.Name, now)
			}
		}
	})
}

// TestDiffOfAFleet: any node says what a push would change on every node, and nothing when nothing would.
func TestDiffOfAFleet(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		mounting := strings.Replace(spreadOut("web", "app:1", 5, ""), "      containers:", "      volumes: [{name: s, configMap: {name: settings}}]\n      containers:", 1)
		mounting = strings.Replace(mounting, "imagePullPolicy: IfNotPresent", "imagePullPolicy: IfNotPresent, volumeMounts: [{name: s, mountPath: /s}]", 1)
		f.origin.push(tree(mounting, configMap("a"), statefulSet("db", "app:1", 2)))
		after(2 * time.Minute)
		for _, m := range f.nodes {
			if d, err := m.Diff(t.Context(), nil); err != nil || !d.Empty() || !d.Settled {
				t.Fatalf("from %s: %+v, %v", m.node.Name, d, err)
			}
		}
		f.origin.push(tree(strings.Replace(mounting, "app:1", "app:2", 1), configMap("a"), statefulSet("db", "app:1", 2)))
		d, err := f.nodes[3].Diff(t.Context(), nil)
		if err != nil || len(d.Objects) != 1 || !d.Settled {
			t.Fatalf("%+v, %v", d, err)
		}
		starts := map[fleet.NodeName]int{}
		for _, s := range d.Steps {
			if strings.HasPrefix(s.Pod.Name, "db-") {
				t.Errorf("what did not change is touched: %+v", s)
			}
			if s.Verb == string(fleet.Start) {
				starts[s.Node]++
			}
		}
		if sum(starts) != 5 || len(starts) < 4 {
			t.Errorf("starts by node: %v", starts)
		}
	})
}

// TestImagesThatAreThere: a pod goes where its image is already, all else being equal.
func TestImagesThatAreThere(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *simulated) {
		f.nodes[3].machine.AddImage("large:1")
		for _, m := range f.nodes {
			m.machine.Publish("large:1", time.Minute)
		}
		f.origin.push(tree(spreadOut("other", "large:1", 0, "")))
		after(time.Minute)
		f.origin.push(tree(spreadOut("web", "large:1", 1, "")))
		after(time.Minute)
		if got := f.on("web"); got["n003"] != 1 {
			t.Errorf("%v", got)
		}
	})
}

// TestUpgradeThatReadsDifferently: a fleet whose servers all read a commit differently than it was decided on (after an upgrade, say)
// goes on: what they cannot read is left alone, and the next commit is taken.
func TestUpgradeThatReadsDifferently(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprint(servers), func(t *testing.T) {
			inFleet(t, servers, 1, func(t *testing.T, f *simulated) {
				files := tree(spreadOut("web", "app:1", 2, ""), spreadOut("other", "app:1", 1, ""), configMap("a"))
				pushed := f.origin.push(files)
				after(time.Minute)
				before := f.running()
				for _, m := range f.nodes {
					m.kill()
				}
				f.origin.mu.Lock()
				f.origin.trees[pushed] = tree("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web}\nspec: {unheardOf: 1}\n", spreadOut("other", "app:1", 1, ""), configMap("b"))
				f.origin.mu.Unlock()
				f.all()
				after(3 * time.Minute)
				if got := f.running(); !slices.Equal(got, before) {
					t.Errorf("what ran is %v, was %v", got, before)
				}
				f.origin.push(tree(spreadOut("web", "app:1", 3, ""), spreadOut("other", "app:1", 2, ""), configMap("b")))
				after(time.Minute)
				if web, other := f.on("web"), f.on("other"); sum(web) != 3 || sum(other) != 2 {
					t.Errorf("%v", f.running())
				}
				for _, m := range f.nodes {
					if s := f.status(m); s.Sources[0].State != "Synced" || s.Sources[0].Revision != f.origin.newest {
						t.Errorf("at %s: %+v", m.node.Name, s.Sources[0])
					}
				}
			})
		})
	}
}

// TestCommitNobodyHas: what was last good in a commit that is nowhere any more is left alone, and keeps nobody from following or leading.
func TestCommitNobodyHas(t *testing.T) {
	inFleet(t, 3, 1, func(t *testing.T, f *simulated) {
		first := f.origin.push(tree(spreadOut("web", "app:1", 2, ""), spreadOut("other", "app:1", 1, "")))
		after(time.Minute)
		f.origin.push(tree("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web\n", spreadOut("other", "app:1", 1, "")))
		after(time.Minute)
		for _, m := range f.nodes {
			m.kill()
			delete(m.clone.has, first)
		}
		f.all()
		after(2 * time.Minute)
		f.origin.push(tree("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web\n", spreadOut("other", "app:1", 2, "")))
		after(time.Minute)
		if web, other := f.on("web"), f.on("other"); sum(web) != 2 || sum(other) != 2 {
			t.Errorf("%v", f.running())
		}
		f.nodes[0].kill()
		f.origin.push(tree(spreadOut("web", "app:1", 3, ""), spreadOut("other", "app:1", 2, "")))
		after(2 * time.Minute)
		if web, other := f.on("web"), f.on("other"); sum(web) < 3 || sum(other) < 2 {
			t.Errorf("%v", f.running())
		}
	})
}

// serve gives a node's clone another Git server.
func (m *member) serve(by *origin) {
	m.clone.mu.Lock()
	defer m.clone.mu.Unlock()
	m.clone.origin = by
}

// forced is what the Git server has after a commit that only the leader saw was pushed over: all but the leader have never heard of it.
func (f *simulated) forced(leader *member, files fstest.MapFS) *origin {
	other := &origin{trees: maps.Clone(f.origin.trees), newest: f.origin.newest, pushes: 100}
	for _, m := range f.nodes {
		if m != leader {
			m.serve(other)
		}
	}
	leader.keeps = true
	f.origin.push(files)
	return other
}

func (f *simulated) leader() *member {
	f.t.Helper()
	at := slices.IndexFunc(f.nodes, func(m *member) bool { return m.node.Name == f.shared.Leader() })
	if at < 0 {
		f.t.Fatal("nobody leads")
	}
	return f.nodes[at]
}

// TestForcedPush: nodes that cannot have the commit that the leader goes by any more hold to what they have, say why, and go on with the
// next.
func TestForcedPush(t *testing.T) {
	inFleet(t, 3, 1, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 4, ""), configMap("a")))
		after(time.Minute)
		before, leader := f.origin.newest, f.leader()
		other := f.forced(leader, tree(spreadOut("web", "app:1", 4, ""), configMap("b")))
		after(time.Minute)
		for _, m := range f.nodes {
			if s := f.status(m).Sources[0]; m != leader && (s.State != "Held" || s.Revision != before ||
				!strings.Contains(s.Error, "is not to be had here: its source answers and has it not (was something else force-pushed?)") || strings.Contains(s.Error, "\n")) {
				t.Errorf("%s: %+v", m.node.Name, s)
			}
		}
		if s := f.status(leader); !slices.ContainsFunc(s.Notes, func(n fleet.Note) bool { return strings.Contains(n.Text, "is held at revision") }) {
			t.Errorf("the leader does not say so: %v", s.Notes)
		}
		leader.serve(other)
		other.push(tree(spreadOut("web", "app:1", 5, ""), configMap("c")))
		after(time.Minute)
		for _, m := range f.nodes {
			if s := f.status(m).Sources[0]; s.State != "Synced" || s.Revision != other.newest {
				t.Errorf("%s: %+v", m.node.Name, s)
			}
		}
		if web := f.on("web"); sum(web) != 5 {
			t.Errorf("%v", web)
		}
	})
}

// TestLeaderAndItsCommitAreLost: a commit that only the leader had, and that is nowhere any more, does not keep others from leading.
// What runs runs on, and what the Git server has is taken, be it new or what they had before.
func TestLeaderAndItsCommitAreLost(t *testing.T) {
	for name, newer := range map[string]bool{"another commit": true, "the one before": false} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, 3, 1, func(t *testing.T, f *simulated) {
				first := tree(spreadOut("web", "app:1", 4, ""), configMap("a"))
				f.origin.push(first)
				after(time.Minute)
				leader := f.leader()
				other := f.forced(leader, tree(spreadOut("web", "app:1", 4, ""), spreadOut("lost", "app:1", 4, ""), configMap("b")))
				after(time.Minute)
				for _, m := range f.nodes {
					m.clone.mu.Lock()
					m.clone.cut = true
					m.clone.mu.Unlock()
				}
				leader.powerCut()
				before := f.on("web")
				delete(before, leader.node.Name)
				after(3 * time.Minute)
				if f.shared.Leader() == "" || len(before) == 0 {
					t.Fatal("nobody leads")
				}
				web := f.on("web")
				for node, n := range before {
					if web[node] < n {
						t.Errorf("pods by node: %v, were %v", web, before)
					}
				}
				want := 4
				if newer {
					other.push(tree(spreadOut("web", "app:1", 6, ""), configMap("c")))
					want = 6
				}
				for _, m := range f.nodes {
					m.clone.mu.Lock()
					m.clone.cut = false
					m.clone.mu.Unlock()
				}
				after(2 * time.Minute)
				if got, gone := sum(f.on("web")), sum(f.on("lost")); got != want || gone != 0 {
					t.Errorf("%d pods of web, %d of what is in no commit any more: %v", got, gone, f.running())
				}
				for _, m := range f.nodes {
					if m == leader {
						continue
					}
					if s := f.status(m).Sources[0]; s.State != "Synced" || s.Revision != other.newest {
						t.Errorf("%s: %+v", m.node.Name, s)
					}
				}
			})
		})
	}
}

// TestSilentGitServer: a Git server that takes questions and does not answer does not keep a node from what another node has.
func TestSilentGitServer(t *testing.T) {
	inFleet(t, 1, 1, func(t *testing.T, f *simulated) {
		apart := f.nodes[1]
		apart.clone.mu.Lock()
		apart.clone.silent = true
		apart.clone.mu.Unlock()
		after(5 * time.Minute)
		f.origin.push(tree(spreadOut("web", "app:1", 2, "")))
		after(5 * time.Minute)
		if s := f.status(apart).Sources[0]; s.Revision != f.origin.newest {
			t.Errorf("%+v", s)
		}
	})
}

// gauges are what Prometheus is told of the fleet by a node.
func (m *member) gauges() map[string]float64 {
	m.fleet.t.Helper()
	families, err := m.metrics.Gather()
	if err != nil {
		m.fleet.t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, g := range f.GetMetric() {
			if name, of := strings.CutPrefix(f.GetName(), "skerry_fleet_"); of {
				for _, l := range g.GetLabel() {
					name += " " + l.GetValue()
				}
				all[name] = g.GetGauge().GetValue()
			}
		}
	}
	return all
}

// TestFleetMetrics: who leads, how many nodes there are of each state, and whether the store answers.
func TestFleetMetrics(t *testing.T) {
	inFleet(t, 3, 1, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 2, "")))
		after(time.Minute)
		lost := f.nodes[3]
		lost.powerCut()
		after(time.Minute)
		leaders := 0.0
		for _, m := range f.nodes[:3] {
			got := m.gauges()
			leaders += got["leader"]
			delete(got, "leader")
			want := map[string]float64{"store_up": 1, "epoch": float64(f.assignment().Epoch), "nodes Ready": 3, "nodes NotReady": 0, "nodes Lost": 1}
			if !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", m.node.Name, got, want)
			}
		}
		if leaders != 1 || f.leader().gauges()["leader"] != 1 {
			t.Errorf("%v nodes say that they lead", leaders)
		}
		f.nodes[0].part(true, true)
		after(time.Minute)
		if got := f.nodes[0].gauges(); got["store_up"] != 0 || got["leader"] != 0 {
			t.Errorf("cut off, it says %v", got)
		}
	})
}

// TestOtherMachineOfThatName: a machine that joins under the name of one that was removed makes nothing that was meant for that one. The
// leader may be about to make it elsewhere: here it decides just then, and its decision takes a while to arrive.
func TestOtherMachineOfThatName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, 3)
		defer f.end()
		f.shared.Slow = 50 * time.Millisecond
		f.all()
		f.origin.push(tree(withData(statefulSet("kv", "app:1", 4)) + "  podManagementPolicy: Parallel\n"))
		after(30 * time.Second)
		leader, other, burnt := f.nodes[0], f.nodes[1], f.nodes[3]
		if n := f.on("kv-")[burnt.node.Name]; n != 1 {
			t.Fatalf("%d pods are on %s: %v", n, burnt.node.Name, f.running())
		}
		leader.kill()
		burnt.powerCut()
		burnt.part(false, false)
		if err := f.shared.Node(other.node.Name).Dismiss(t.Context(), burnt.node.Name); err != nil {
			t.Fatal(err)
		}
		burnt.renew()
		after(20 * time.Second)
		leader.start()
		after(5 * time.Millisecond)
		burnt.start()
		for range 200 {
			after(50 * time.Millisecond)
			pods := map[string]bool{}
			for _, line := range f.running() {
				pod, _, _ := strings.Cut(line, "@")
				if pods[pod] {
					t.Fatalf("%s lives twice: %v", pod, f.running())
				}
				pods[pod] = true
			}
		}
		if n := len(f.running()); n != 4 {
			t.Errorf("%d pods run: %v", n, f.running())
		}
	})
}

// TestLeaderThatHasLess: who leads without a commit that others have, because nobody else could, is followed by them, and goes on with them when it
// has it, also where a file of it cannot be read.
func TestLeaderThatHasLess(t *testing.T) {
	inFleet(t, 3, 0, func(t *testing.T, f *simulated) {
		f.origin.push(tree(spreadOut("web", "app:1", 4, ""), configMap("a")))
		after(time.Minute)
		apart := f.nodes[slices.IndexFunc(f.nodes, func(m *member) bool { return m != f.leader() })]
		cut := func(is bool) {
			apart.clone.mu.Lock()
			apart.clone.cut = is
			apart.clone.mu.Unlock()
			for _, m := range f.nodes {
				m.keeps = is
			}
		}
		cut(true)
		files := tree(spreadOut("web", "app:1", 4, ""), spreadOut("more", "app:1", 2, ""), configMap("b"))
		files["broken.yaml"] = &fstest.MapFile{Data: []byte("kind: [")}
		f.origin.push(files)
		after(time.Minute)
		for _, m := range f.nodes {
			if m != apart {
				m.powerCut()
			}
		}
		after(5 * time.Minute)
		if f.leader() != apart {
			t.Fatal("it does not lead")
		}
		for _, m := range f.nodes {
			if m != apart {
				m.start()
			}
		}
		after(5 * time.Minute)
		files = tree(spreadOut("more", "app:1", 2, ""), configMap("b")) // what is not read any more may be in the broken file
		files["broken.yaml"] = &fstest.MapFile{Data: []byte("kind: [")}
		f.origin.push(files)
		cut(false)
		after(5 * time.Minute)
		for _, m := range f.nodes {
			if s := f.status(m).Sources[0]; s.Revision != f.origin.newest || s.State == "Held" {
				t.Errorf("%s: %+v", m.node.Name, s)
			}
		}
		if web, more := sum(f.on("web")), sum(f.on("more")); web != 4 || more != 2 {
			t.Errorf("%d of web, %d of more", web, more)
		}
	})
}
