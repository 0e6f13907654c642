package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/coord/local"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
	"github.com/skerry-dev/skerry/sources"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// repository is a source in memory whose revisions are set by the test.
type repository struct {
	mu      sync.Mutex
	trees   map[fleet.Revision]fs.FS
	newest  fleet.Revision
	err     error
	slow    time.Duration
	late    fs.FS // what only a fetch has
	fetches []time.Time
}

func (r *repository) push(revision fleet.Revision, tree fs.FS) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trees == nil {
		r.trees = map[fleet.Revision]fs.FS{}
	}
	r.trees[revision], r.newest = tree, revision
}

func (r *repository) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *repository) Fetch(context.Context) (sources.Snapshot, error) {
	time.Sleep(r.slow) // in a bubble
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fetches = append(r.fetches, time.Now())
	if r.err != nil {
		return sources.Snapshot{}, r.err
	}
	if r.late != nil {
		r.trees[r.newest] = r.late
	}
	return sources.Snapshot{Revision: r.newest, Files: r.trees[r.newest], Dir: "."}, nil
}

func (r *repository) At(revision fleet.Revision) (sources.Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tree, ok := r.trees[revision]
	if !ok {
		return sources.Snapshot{}, fs.ErrNotExist
	}
	return sources.Snapshot{Revision: revision, Files: tree, Dir: "."}, nil
}

// world is an agent on a machine in memory.
type world struct {
	*agent.Agent
	t       *testing.T
	machine *hosttest.Host
	repo    *repository
	dir     string
	name    fleet.SourceName // of the source
	node    fleet.NodeName
	// mayEmpty is the source's.
	mayEmpty bool
	stop     func()
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, machine: hosttest.New(), repo: &repository{}, dir: t.TempDir(), name: "home", node: "n1"}
	w.machine.AddImage("app:1", "app:2")
	w.repo.push("r0", fstest.MapFS{})
	return w
}

// interval is how often the source is looked at; failures double it.
const interval = 10 * time.Second

// run starts an agent, which stops when the test ends or the returned world's stop is called.
func (w *world) run() {
	w.t.Helper()
	store, err := local.Open(filepath.Join(w.dir, "store.db"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.Agent, err = agent.New(agent.Config{
		Node: fleet.Node{Name: w.node, Address: "10.0.0.1"}, DataDir: w.dir, RunDir: filepath.Join(w.dir, "run"),
		Store: store, Host: w.machine, Volumes: w.machine.Volumes, Follow: true, Act: true, Log: slog.New(slog.DiscardHandler),
		Sources: []agent.Source{{Name: w.name, Path: ".", Source: w.repo, MayEmpty: w.mayEmpty, Every: func(failures int) time.Duration {
			return interval << failures
		}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Agent.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the agent ended with %v", err)
		}
		if err := store.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(w.stop)
}

func (w *world) status() api.Status {
	w.t.Helper()
	s, err := w.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// after lets time pass, and what it brings.
func after(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

func tree(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i, text := range files {
		m[fmt.Sprintf("f%d.yaml", i)] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func pod(name, image, more string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  containers: [{name: main, image: '%s', imagePullPolicy: IfNotPresent}]\n%s", name, image, more)
}

// TestCrashBackoff follows a container that always ends at once for an hour: restarts come after 0, 10, 20,
// 40, 80, 160 and then always 300 seconds (semantics 2.2), also across restarts of the agent.
func TestCrashBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.Behave("app:1", hosttest.Process{Ends: true, Code: 1})
		w.repo.push("r1", tree(pod("crasher", "app:1", "")))
		w.run()
		began := time.Now()
		var starts []time.Duration
		seen := 0
		for time.Since(began) < 25*time.Minute {
			after(time.Second)
			if n := w.machine.Calls("StartContainer"); n > seen {
				seen = n
				for range n - len(starts) {
					starts = append(starts, time.Since(began).Round(5*time.Second))
				}
				if n == 4 { // the series is in the containers' labels, not in the agent
					w.stop()
					w.run()
				}
			}
		}
		want := []time.Duration{0, 0, 10, 30, 70, 150, 310, 610, 910, 1210}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, starts); diff != "" {
			t.Fatalf("starts (wanted -, had +):\n%s", diff)
		}
	})
}

// TestImageBackoff: pulls that fail are tried again after 10, 20, 40 … 300 seconds, and do not hold up others.
func TestImageBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("waits", "nowhere:1", ""), pod("runs", "app:1", "")))
		w.run()
		began := time.Now()
		var pulls []time.Duration
		for time.Since(began) < 20*time.Minute {
			after(time.Second)
			for n := w.machine.Calls("Pull") - 1; n > len(pulls); { // one is for the pod that runs
				pulls = append(pulls, time.Since(began).Round(5*time.Second))
			}
		}
		want := []time.Duration{0, 10, 30, 70, 150, 310, 610, 910}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, pulls); diff != "" {
			t.Fatalf("pulls (wanted -, had +):\n%s", diff)
		}
		w.machine.AddImage("nowhere:1")
		after(5 * time.Minute)
		if s := w.status(); !s.Settled {
			t.Fatalf("not settled: %v", s.Waiting)
		}
	})
}

// TestSlowPull: a pull that takes an hour holds up its own pod only, and not the end of that.
func TestSlowPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.Publish("slow:1", time.Hour)
		w.repo.push("r1", tree(pod("slow", "slow:1", "")))
		w.run()
		after(time.Minute)
		w.repo.push("r2", tree(pod("slow", "slow:1", ""), pod("quick", "app:1", "")))
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 2 || s.Pods[0].Phase != "Running" || s.Pods[1].Phase != "ContainerCreating" {
			t.Fatalf("pods: %+v", s.Pods)
		}
		w.repo.push("r3", tree(pod("quick", "app:1", "")))
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 1 || !s.Settled {
			t.Fatalf("a pod that was pulling does not go: %+v, waiting for %v", s.Pods, s.Waiting)
		}
	})
}

// TestReplacedPodWaitsForItsImage: a bare pod that changes is not stopped before the image of what follows it
// is there.
func TestReplacedPodWaitsForItsImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.machine.Publish("big:1", 10*time.Minute)
		w.repo.push("r2", tree(pod("one", "big:1", "  hostname: other\n")))
		after(5 * time.Minute)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].Ready != 1 {
			t.Fatalf("the old pod should still run: %+v", s.Pods)
		}
		after(10 * time.Minute)
		if s := w.status(); !s.Settled || len(s.Pods) != 1 || s.Pods[0].Ready != 1 {
			t.Fatalf("the new pod should run: %+v, waiting for %v", s.Pods, s.Waiting)
		}
		if n := w.machine.Calls("Pull"); n != 3 { // the first, the one before the stop, the look before the start
			t.Errorf("%d pulls", n)
		}
	})
}

// TestFullLook: what no event told of is found within 30 seconds, and a watch that broke does not matter.
func TestFullLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(95 * time.Second)
		if err := w.machine.Limit("default_one_main", fleet.Limits{Memory: 1 << 20, Shares: 2}); err != nil {
			t.Fatal(err)
		}
		after(31 * time.Second)
		if w.machine.Calls("LimitContainer") != 1 {
			t.Fatal("limits changed by hand were not found by the full look")
		}
		w.machine.BreakWatch()
		after(time.Second)
		if err := w.machine.Delete("default_one_main"); err != nil {
			t.Fatal(err)
		}
		after(2 * time.Second)
		if s := w.status(); !s.Settled {
			t.Fatalf("not healed after the watch broke: %v", s.Waiting)
		}
	})
}

// TestPodmanAway: without Podman nothing is changed and it is said; when it is back, work goes on.
func TestPodmanAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.machine.Down()
		w.repo.push("r2", tree(pod("one", "app:1", ""), pod("two", "app:1", "")))
		after(10 * time.Minute)
		if s := w.status(); s.Podman == "ok" {
			t.Fatal("nobody says that Podman is away")
		}
		w.machine.Up()
		after(20 * time.Second)
		if s := w.status(); s.Podman != "ok" || !s.Settled || len(s.Pods) != 2 {
			t.Fatalf("podman %q, pods %+v, waiting for %v", s.Podman, s.Pods, s.Waiting)
		}
		if n := w.machine.Calls("CreatePod"); n != 2 {
			t.Errorf("%d pods were made, want 2", n)
		}
	})
}

// TestSourceFails: the last good revision stays, looks become rarer, and it is said.
func TestSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.repo.fail(errors.New("the server is on fire"))
		before := len(w.repo.fetches)
		after(20 * time.Minute)
		s := w.status()
		if s.Sources[0].State != "Failing" || !strings.Contains(s.Sources[0].Error, "on fire") || s.Sources[0].Revision != "r1" || len(s.Pods) != 1 {
			t.Fatalf("source %+v, pods %+v", s.Sources[0], s.Pods)
		}
		// 10 s doubled each time: 20, 40 … reach 20 minutes in seven steps.
		if n := len(w.repo.fetches) - before; n < 5 || n > 8 {
			t.Errorf("%d looks in 20 minutes at a server that is down", n)
		}
		w.repo.fail(nil)
		w.repo.push("r2", tree(pod("one", "app:2", "")))
		if _, err := w.Sync(t.Context(), "home"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if s := w.status(); s.Sources[0].State != "Synced" || s.Sources[0].Revision != "r2" || !s.Settled {
			t.Fatalf("source %+v, waiting for %v", s.Sources[0], s.Waiting)
		}
	})
}

// TestLostRevisionAndEmptied: what is held is kept as well when the source has nothing in it any more.
func TestLostRevisionAndEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.stop()
		delete(w.repo.trees, "r1")
		w.repo.push("r2", tree())
		w.run()
		after(10 * time.Minute)
		if s := w.status(); len(s.Pods) != 1 {
			t.Fatalf("pods %+v, notes %v", s.Pods, s.Notes)
		}
	})
}

// TestSameRevisionReadAgain: what could not be had at the start and can be fetched is used at once.
func TestSameRevisionReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		files := tree(pod("one", "app:1", "  volumes: [{name: c, configMap: {name: c}}]\n"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
		w.repo.push("r1", files)
		w.run()
		after(time.Minute)
		w.stop()
		delete(w.repo.trees, "r1") // the clone is damaged
		if err := w.machine.Delete("default_one"); err != nil {
			t.Fatal(err)
		}
		w.repo.late = files
		w.repo.slow = 3 * time.Second
		w.run()
		after(8 * time.Second)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].Phase != "Running" {
			t.Fatalf("pods %+v, notes %v", s.Pods, s.Notes)
		}
	})
}

// TestSourceTakenOutOfTheConfiguration: its pods are kept until somebody says what should become of them.
func TestSourceTakenOutOfTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		files := tree(pod("one", "app:1", ""))
		w.repo.push("r1", files)
		w.run()
		after(time.Minute)
		w.stop()
		w.name = "other"
		w.repo.push("r2", tree(pod("two", "app:1", "")))
		w.run()
		after(time.Minute)
		s := w.status()
		if len(s.Pods) != 2 || !strings.Contains(fmt.Sprint(s.Notes), "source home was not read yet, or is not configured any more: its 1 pods are kept") {
			t.Fatalf("pods %+v, notes %v", s.Pods, s.Notes)
		}
		read := manifest.Read(files, ".")
		object, err := agent.Encode(read.Objects[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Delete(t.Context(), api.Set{Name: "/folder", Objects: []api.Object{object}}); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].ID.Name != "two" || len(s.Sources) != 1 {
			t.Fatalf("pods %+v, sources %+v", s.Pods, s.Sources)
		}
	})
}

// TestDiskFull: what cannot be kept is not taken over, and is tried again.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		// A file where a folder should be refuses writing as a full disk does, to root too.
		templates := filepath.Join(w.dir, "templates")
		if err := errors.Join(os.RemoveAll(templates), os.WriteFile(templates, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		w.repo.push("r2", tree(pod("one", "app:2", "")))
		after(5 * time.Minute)
		if s := w.status(); s.Sources[0].Revision != "r1" || s.Sources[0].State != "Failing" {
			t.Fatalf("source %+v", s.Sources[0])
		}
		if err := os.Remove(templates); err != nil {
			t.Fatal(err)
		}
		after(20 * time.Minute)
		if s := w.status(); s.Sources[0].Revision != "r2" || !s.Settled {
			t.Fatalf("source %+v, waiting for %v", s.Sources[0], s.Waiting)
		}
	})
}

// TestLostRevisionIsHeld: an object that is broken now, and whose last good revision is gone, is left alone.
func TestLostRevisionIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.repo.push("r2", tree(strings.Replace(pod("one", "app:1", ""), "image:", "imge:", 1)))
		after(time.Minute)
		w.stop()
		delete(w.repo.trees, "r1")
		writes := w.machine.Writes()
		w.run()
		after(10 * time.Minute)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].Phase != "Running" || s.Sources[0].State != "Faulty" {
			t.Fatalf("pods %+v, source %+v", s.Pods, s.Sources[0])
		}
		if now := w.machine.Writes(); now != writes {
			t.Errorf("%d calls changed something:\n%v", now-writes, w.machine.Journal())
		}
		w.stop() // and once more: what is held is kept in mind
		w.run()
		after(10 * time.Minute)
		if s := w.status(); len(s.Pods) != 1 {
			t.Fatalf("gone after the second restart: %+v", s.Pods)
		}
		if err := w.machine.Delete("default_one_main"); err != nil { // its template is on disk: it is looked after all the same
			t.Fatal(err)
		}
		after(time.Minute)
		if s := w.status(); s.Pods[0].Phase != "Running" {
			t.Fatalf("pods %+v", s.Pods)
		}
	})
}

// set is what a command would send of files.
func set(t *testing.T, name fleet.SourceName, files fs.FS) api.Set {
	t.Helper()
	out := api.Set{Name: name, Revision: "r"}
	for _, o := range manifest.Read(files, ".").Objects {
		object, err := agent.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		out.Objects = append(out.Objects, object)
	}
	return out
}

// settled waits as apply --wait does, and fails when that ends before it is so.
func (w *world) settled() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Minute)
	defer cancel()
	if err := api.Follow(ctx, w.Agent, func(api.Progress) error { return nil }); err != nil {
		w.t.Fatalf("never settled: %v, %v", err, w.status().Waiting)
	}
}

// TestAppliedSets: what is said to be so is so, and an object that moves between sets is not touched.
func TestAppliedSets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		one := tree(pod("one", "app:1", ""))
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(w.Apply(t.Context(), set(t, "/a", one)))
		w.settled()
		if n := w.machine.Calls("StartContainer"); n != 1 {
			t.Fatalf("settled after %d starts", n)
		}
		writes := w.machine.Writes()
		must(w.Apply(t.Context(), set(t, "/b", one)))
		w.settled()
		if now := w.machine.Writes(); now != writes {
			t.Errorf("moving to another set did something: %v", w.machine.Journal())
		}
		if s := w.status(); len(s.Notes) > 0 || len(s.Sources) != 2 || s.Sources[1].Name != "/b" {
			t.Errorf("notes %v, sources %+v", s.Notes, s.Sources)
		}
		// A set that cannot be kept is not applied, takes nothing away, and does not come back by itself.
		blocked := filepath.Join(w.dir, "applied", "c-"+fleet.SafeSuffix("/c")+".json")
		must(os.MkdirAll(blocked, 0o700))
		if err := w.Apply(t.Context(), set(t, "/c", one)); err == nil {
			t.Fatal("a set that cannot be kept was applied")
		}
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].Phase != "Running" {
			t.Fatalf("a failed apply took the pod down: %+v", s.Pods)
		}
		must(os.RemoveAll(blocked))
		lost := filepath.Join(w.dir, "run", "applied", "b-"+fleet.SafeSuffix("/b")+".json") // the second of two to be kept
		must(errors.Join(os.Remove(lost), os.Mkdir(lost, 0o700)))
		if err := w.Apply(t.Context(), set(t, "/d", one)); err == nil {
			t.Fatal("a set was applied although what it takes from cannot be kept")
		}
		must(os.Remove(lost))
		w.stop()
		w.run()
		after(time.Minute)
		if s := w.status(); len(s.Sources) != 2 || s.Sources[1].Name != "/b" || len(s.Pods) != 1 {
			t.Fatalf("a refused apply came back: %+v", s.Sources)
		}
		must(w.Delete(t.Context(), set(t, "/b", one)))
		w.settled()
		if s := w.status(); len(s.Pods) != 0 {
			t.Fatalf("settled with pods: %+v", s.Pods)
		}
	})
}

// TestAppliedSecretsOutliveRestarts: a set of nothing but Secrets is on disk as an empty one.
func TestAppliedSecretsOutliveRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		secret := tree("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n")
		if err := w.Apply(t.Context(), set(t, "/s", secret)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			w.stop()
			w.run()
			if s := w.status(); len(s.Sources) != 2 || s.Sources[1].Objects != 1 {
				t.Fatalf("sources: %+v", s.Sources)
			}
		}
	})
}

// TestImageOfARunningPod: a bare pod whose new image cannot be had runs on, and is not said to be as it should
// be; and a pull that hangs does not hold up the next change.
func TestImageOfARunningPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.repo.push("r2", tree(pod("one", "nowhere:1", "")))
		after(10 * time.Minute)
		if s := w.status(); s.Settled || s.Pods[0].Ready != 1 {
			t.Fatalf("settled %v, pods %+v", s.Settled, s.Pods)
		}
		w.machine.Publish("slow:1", 24*time.Hour)
		w.repo.push("r3", tree(pod("one", "slow:1", "")))
		after(10 * time.Minute)
		w.repo.push("r4", tree(pod("one", "app:2", "")))
		after(10 * time.Minute)
		if s := w.status(); !s.Settled || s.Pods[0].Ready != 1 {
			t.Fatalf("waiting for %v, pods %+v", s.Waiting, s.Pods)
		}
	})
}

// TestNothingIsHot: what goes on failing, or does not help, is tried ever more rarely.
func TestNothingIsHot(t *testing.T) {
	for name, c := range map[string]struct {
		verb  string
		most  int // calls in an hour
		spoil func(w *world)
	}{
		"a sandbox, after volumes that can be written": {"CreatePod", 50, func(w *world) {
			for n := range 5000 {
				w.machine.Fail("CreatePod", n+1, errors.New("no space left on device"))
			}
			w.repo.push("r2", tree(pod("two", "app:1", "  volumes: [{name: v, emptyDir: {}}]\n")))
		}},
		"volumes of a pod that is no more": {"Remove", 50, func(w *world) {
			for n := range 5000 {
				w.machine.Fail("Remove", n+1, errors.New("device or resource busy"))
			}
			if err := w.machine.Volumes.Scratch("0a1b2c3d", "v", false, 0); err != nil {
				w.t.Fatal(err)
			}
		}},
		"a limit that does not show": {"LimitContainer", 50, func(w *world) {
			for n := range 5000 {
				w.machine.Lose("LimitContainer", n+1, nil)
			}
			go func() { // somebody else has another opinion, every minute
				for range 60 {
					_ = w.machine.Limit("default_one_main", fleet.Limits{Memory: 1 << 20, Shares: 2})
					time.Sleep(time.Minute)
				}
			}()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.repo.push("r1", tree(pod("one", "app:1", "")))
				w.run()
				after(time.Minute)
				before := w.machine.Calls(c.verb)
				c.spoil(w)
				after(time.Hour)
				if n := w.machine.Calls(c.verb) - before; n < 3 || n > c.most {
					t.Errorf("%s was called %d times in an hour", c.verb, n)
				}
			})
		})
	}
}

// TestWatchThatEndsAtOnce: Podman says that it streams events, and then that it cannot.
func TestWatchThatEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		before := w.machine.Calls("Watch")
		for range 600 {
			w.machine.BreakWatch()
			after(100 * time.Millisecond)
		}
		if n := w.machine.Calls("Watch") - before; n > 20 {
			t.Errorf("the stream was opened %d times in a minute", n)
		}
	})
}

// TestRenamedNode: a machine with another name keeps its pods.
func TestRenamedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", ""), pod("two", "app:1", "")))
		w.run()
		after(time.Minute)
		w.stop()
		if err := w.machine.Delete("default_two"); err != nil { // what the old name had and is gone is made anew
			t.Fatal(err)
		}
		starts := w.machine.Calls("StartContainer")
		w.node = "n2"
		w.run()
		after(time.Minute)
		s := w.status()
		if !s.Settled || len(s.Pods) != 2 || s.Pods[0].Node != "n2" || s.Pods[1].Node != "n2" {
			t.Fatalf("pods %+v, waiting for %v", s.Pods, s.Waiting)
		}
		if n := w.machine.Calls("StartContainer") - starts; n != 1 {
			t.Errorf("%d containers were started, want 1", n)
		}
		w.repo.push("r2", tree(pod("one", "app:1", "")))
		after(time.Minute)
		if s := w.status(); !s.Settled || len(s.Pods) != 1 {
			t.Fatalf("pods %+v, waiting for %v", s.Pods, s.Waiting)
		}
	})
}

// TestDiffDoesNotPutOffLooks: looking at a source for a diff is no look of the loop that follows it.
func TestDiffDoesNotPutOffLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		for range 10 {
			after(interval / 2)
			if _, err := w.Diff(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if s := w.status(); s.Sources[0].Revision != "r1" {
			t.Fatalf("still at %s", s.Sources[0].Revision)
		}
	})
}

// TestSettingsChange: the first look of a life takes effect although the revision is the one before.
func TestSettingsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.repo.push("r2", tree())
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 1 {
			t.Fatalf("an emptied source was pruned: %+v", s.Pods)
		}
		w.stop()
		w.mayEmpty, w.repo.slow = true, 3*time.Second
		w.run()
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 0 || !s.Settled {
			t.Fatalf("pods %+v", s.Pods)
		}
	})
}

// TestPodmanAwayIsNotSettled: nobody knows how things are.
func TestPodmanAwayIsNotSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		w.machine.Down()
		after(time.Minute)
		_, _, nodes, err := w.View(t.Context())
		if s := w.status(); err != nil || s.Settled || nodes[0].Down == "" {
			t.Fatalf("settled %v, node %+v, %v", s.Settled, nodes[0], err)
		}
	})
}

// TestAppliedTwicePlansNothing applies real manifests to a machine in memory, twice: trees of this project and,
// where it is there, the corpus.
func TestAppliedTwicePlansNothing(t *testing.T) {
	trees := map[string]string{"tree": "../sources/manifest/testdata/tree", "hello": "../examples/hello/manifests"}
	const corpus = "../../shared/corpus"
	entries, err := os.ReadDir(corpus)
	if err != nil {
		t.Log("without the corpus: " + err.Error())
	}
	for _, e := range entries {
		if e.IsDir() {
			trees[e.Name()] = filepath.Join(corpus, e.Name())
		}
	}
	for name, dir := range trees {
		t.Run(name, func(t *testing.T) {
			read := manifest.Read(os.DirFS(dir), ".")
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for _, o := range read.Objects {
					if o.Template != nil {
						for _, c := range o.Template.Spec.Containers {
							w.machine.Publish(c.Image, time.Second)
						}
					}
				}
				w.repo.push("r1", os.DirFS(dir))
				w.run()
				after(10 * time.Minute)
				s := w.status()
				if len(read.Objects) > 0 && s.Sources[0].Objects == 0 {
					t.Fatalf("nothing was taken: %+v", s.Sources[0])
				}
				writes := w.machine.Writes()
				d, err := w.Diff(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if !d.Empty() {
					t.Errorf("a second apply would do something: %+v\n%+v", d.Objects, d.Steps)
				}
				w.repo.push("r2", os.DirFS(dir)) // the same once more
				after(10 * time.Minute)
				if now := w.machine.Writes(); now != writes {
					t.Errorf("%d calls changed something", now-writes)
				}
			})
		})
	}
}
