package agent_test

import (
	"context"
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
	rollback bool
	policy   manifest.Policy
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
		Store: store, Intents: store, Host: w.machine, Prober: w.machine, Volumes: w.machine.Volumes, Policy: w.policy, Follow: true, Act: true, Log: slog.New(slog.DiscardHandler),
		Sources: []agent.Source{{Name: w.name, Path: ".", Source: w.repo, MayEmpty: w.mayEmpty, Rollback: w.rollback, Every: func(failures int) time.Duration {
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

// loseStore removes what the store of a stopped agent kept.
func (w *world) loseStore() {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.dir, "store.db")); err != nil {
		w.t.Fatal(err)
	}
}

func replaceOnce(s, old, by string) string { return strings.Replace(s, old, by, 1) }

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
