package workload_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	now   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	webID = fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "web"}
)

// value reads a number or percentage; nil for nothing.
func value(s string) *intstr.IntOrString {
	if s == "" {
		return nil
	}
	v := intstr.Parse(s)
	return &v
}

func TestFenceposts(t *testing.T) {
	for _, test := range []struct {
		name             string
		replicas         int32
		surge, down      string
		wantUp, wantDown int32
		recreate         bool
	}{
		{"defaults of 10", 10, "", "", 3, 2, false},
		{"defaults of 1", 1, "", "", 1, 0, false},
		{"defaults of 4", 4, "", "", 1, 1, false},
		{"surge rounds up", 10, "1%", "0", 1, 0, false},
		{"unavailable rounds down", 10, "1", "19%", 1, 1, false},
		{"both zero", 10, "0", "0", 0, 1, false},
		{"both round to zero", 10, "0%", "9%", 0, 1, false},
		{"surge and no unavailable", 10, "1", "9%", 1, 0, false},
		{"unavailable is at most all", 3, "0", "5", 0, 3, false},
		{"surge may be more than all", 3, "200%", "0", 6, 0, false},
		{"100%", 3, "100%", "100%", 3, 3, false},
		{"numbers", 3, "5", "2", 5, 2, false},
		{"no replicas", 0, "3", "3", 0, 0, false},
		{"no replicas and zeros", 0, "0", "0", 0, 0, false},
		{"Recreate", 10, "3", "3", 0, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := deployment(test.replicas, func(d *appsv1.Deployment) {
				d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: value(test.surge), MaxUnavailable: value(test.down)}
				if test.recreate {
					d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
				}
			})
			if up, down := workload.Fenceposts(d); up != test.wantUp || down != test.wantDown {
				t.Errorf("surge %d, unavailable %d; want %d, %d", up, down, test.wantUp, test.wantDown)
			}
		})
	}
	if up, down := workload.Fenceposts(deployment(10)); up != 3 || down != 2 {
		t.Errorf("without rollingUpdate: %d, %d", up, down)
	}
}

func deployment(replicas int32, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	limit, deadline := int32(10), int32(600)
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &replicas, RevisionHistoryLimit: &limit, ProgressDeadlineSeconds: &deadline}}
	for _, f := range change {
		f(d)
	}
	return d
}

func rolling(surge, down string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: value(surge), MaxUnavailable: value(down)}
	}
}

func recreate(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }

func paused(on bool) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Paused = on }
}

// world is one Deployment with perfect nodes: pods that should be made are there at once, and become
// available when told.
type world struct {
	t     testing.TB
	d     *appsv1.Deployment
	hash  fleet.Hash
	r     workload.Rolling
	now   time.Time
	taken map[string]bool
	bad   map[fleet.Hash]bool // templates whose pods never become ready
	lazy  int32               // terminating pods that are still there, by set
	trace strings.Builder

	revision fleet.Revision // empty for one by the template
	stamp    fleet.Stamp
	hold     string
	rollback bool
	steps    string // as the annotation has them
	resumed  time.Time
}

func newWorld(t testing.TB, d *appsv1.Deployment) *world {
	w := &world{t: t, d: d, hash: "v1", now: now, taken: map[string]bool{}, bad: map[fleet.Hash]bool{}}
	w.settle(100)
	w.trace.Reset()
	return w
}

// roll decides once and checks that deciding again changes nothing.
func (w *world) roll() {
	w.t.Helper()
	var steps []fleet.CanaryStep
	if w.steps != "" {
		var err error
		if steps, err = fleet.ParseSteps(w.steps); err != nil {
			w.t.Fatal(err)
		}
	}
	revision := w.revision
	if revision == "" {
		revision = fleet.Revision("rev-" + w.hash)
	}
	in := workload.Rolling{
		Object: fleet.Object{ID: webID, Source: "home", Revision: revision, Value: w.d, Hash: w.hash},
		Target: workload.Target{Want: w.hash, Stamp: w.stamp, From: revision},
		Sets:   w.r.Sets, Rollout: w.r.Rollout, Now: w.now, Taken: func(name string) bool { return w.taken[name] },
		Hold: w.hold, Rollback: w.rollback, Steps: steps, Resumed: w.resumed,
	}
	w.r = workload.Roll(in)
	in.Sets, in.Rollout = w.r.Sets, w.r.Rollout
	if again := workload.Roll(in); !cmp.Equal(again.Sets, w.r.Sets) || again.Rollout != w.r.Rollout {
		w.t.Fatalf("a second look changes:\n%s", cmp.Diff(w.r, again, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Taken" }, cmp.Ignore())))
	}
	for i := range w.r.Sets { // the fleet follows at once; of a smaller set the unavailable go first
		g := &w.r.Sets[i]
		g.Active, g.Available, g.Ready = g.Replicas, min(g.Available, g.Replicas), min(g.Ready, g.Replicas)
		g.Present = max(g.Active, min(g.Present, w.lazy))
		if g.Active == 0 {
			g.Restarts = 0
		}
		g.WakeAt = time.Time{}
	}
	w.write()
}

func (w *world) write() {
	line := w.String() + " " + w.r.Rollout.Reason + "\n"
	if !strings.HasSuffix("\n"+w.trace.String(), "\n"+line) {
		w.trace.WriteString(line)
	}
}

// String has each set as template spec/available, oldest first.
func (w *world) String() string {
	sets := slices.Clone(w.r.Sets)
	slices.SortFunc(sets, func(a, b workload.Generation) int { return strings.Compare(string(a.Want), string(b.Want)) })
	var parts []string
	for _, g := range sets {
		parts = append(parts, fmt.Sprintf("%s#%d %d/%d", g.Want, g.Number, g.Replicas, g.Available))
	}
	return strings.Join(parts, ", ")
}

// ready lets n pods of the newest unfinished sets become available.
func (w *world) ready(n int32) {
	for i := range w.r.Sets {
		g := &w.r.Sets[i]
		if w.bad[g.Want] {
			continue
		}
		more := min(n, g.Active-g.Available)
		g.Available, g.Ready, n = g.Available+more, g.Ready+more, n-more
	}
}

// settle rolls until nothing changes, n pods becoming available a round.
func (w *world) settle(n int32) {
	w.t.Helper()
	for range 200 {
		before := w.String()
		w.now = w.now.Add(time.Second)
		w.roll()
		w.ready(n)
		if w.String() == before {
			return
		}
	}
	w.t.Fatal("does not settle:\n" + w.trace.String())
}

func (w *world) push(hash fleet.Hash, change ...func(*appsv1.Deployment)) {
	w.hash, w.d = hash, w.d.DeepCopy()
	for _, f := range change {
		f(w.d)
	}
	fmt.Fprintf(&w.trace, "-> %s\n", hash)
}

func replicas(n int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Replicas = &n }
}

// TestRollouts compares rollouts, look by look, with testdata/rollouts.txtar: every set as
// template#number spec/available, and the reason of the condition Progressing.
func TestRollouts(t *testing.T) {
	var got []txtar.File
	add := func(name string, d *appsv1.Deployment, story func(w *world)) {
		w := newWorld(t, d)
		story(w)
		got = append(got, txtar.File{Name: name, Data: []byte(w.trace.String())})
	}
	add("10 replicas, defaults, one pod ready at a time", deployment(10), func(w *world) { w.push("v2"); w.settle(1) })
	add("10 replicas, defaults, all at once", deployment(10), func(w *world) { w.push("v2"); w.settle(100) })
	add("4 replicas, no surge", deployment(4, rolling("0", "1")), func(w *world) { w.push("v2"); w.settle(1) })
	add("4 replicas, none unavailable", deployment(4, rolling("1", "0")), func(w *world) { w.push("v2"); w.settle(1) })
	add("1 replica, defaults", deployment(1), func(w *world) { w.push("v2"); w.settle(1) })
	add("1 replica, no surge", deployment(1, rolling("0", "1")), func(w *world) { w.push("v2"); w.settle(1) })
	add("bad image, then back", deployment(10), func(w *world) {
		w.bad["v2"] = true
		w.push("v2")
		w.settle(100)
		w.push("v1")
		w.settle(100)
	})
	add("a third template while the second is bad", deployment(10), func(w *world) {
		w.bad["v2"] = true
		w.push("v2")
		w.settle(100)
		w.push("v3")
		w.settle(1)
	})
	add("rollover without room", deployment(10, rolling("1", "0")), func(w *world) {
		w.bad["v2"] = true
		w.push("v2")
		w.settle(100)
		w.push("v3")
		w.settle(1)
	})
	add("scaled up while it hangs", deployment(10, rolling("3", "2")), func(w *world) {
		w.bad["v2"] = true
		w.push("v2")
		w.settle(100)
		w.push("v2", replicas(30))
		w.settle(100)
	})
	add("scaled down while it hangs", deployment(30, rolling("3", "2")), func(w *world) {
		w.bad["v2"] = true
		w.push("v2")
		w.settle(100)
		w.push("v2", replicas(10))
		w.settle(100)
	})
	add("scaled up with another template", deployment(4), func(w *world) { w.push("v2", replicas(8)); w.settle(2) })
	add("scaled to nothing and back", deployment(3), func(w *world) {
		w.push("v1", replicas(0))
		w.settle(1)
		w.push("v1", replicas(2))
		w.settle(1)
	})
	add("to nothing while it hangs", deployment(10), func(w *world) {
		w.bad["v2"] = true
		w.push("v2")
		w.settle(100)
		w.push("v2", replicas(0))
		w.settle(100)
	})
	add("paused, scaled, resumed", deployment(10), func(w *world) {
		w.push("v2", paused(true))
		w.settle(100)
		w.push("v2", replicas(12))
		w.settle(100)
		w.push("v2", paused(false))
		w.settle(100)
	})
	add("paused halfway and scaled", deployment(10, rolling("3", "2")), func(w *world) {
		w.bad["v2"] = true
		w.push("v2")
		w.settle(100)
		w.push("v2", paused(true), replicas(20))
		w.settle(100)
		w.bad["v2"] = false
		w.settle(100)
		w.push("v2", paused(false))
		w.settle(100)
	})
	add("Recreate", deployment(3, recreate), func(w *world) {
		w.lazy = 3
		w.push("v2")
		w.settle(100)
		w.trace.WriteString("the old pods are gone\n")
		w.lazy = 0
		w.settle(100)
		w.settle(100)
	})

	const file = "testdata/rollouts.txtar"
	archive := &txtar.Archive{Comment: []byte("Rollouts, look by look. Rewritten by go test -update.\n"), Files: got}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(txtar.Format(archive))); d != "" {
		t.Error(d)
	}
}
