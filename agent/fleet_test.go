package agent_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/coord/coordtest"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
	"github.com/skerry-dev/skerry/sources"
)

// simTTL is how long a node's session lives on, simStay how long pods of a lost node are waited for then.
const (
	simTTL  = 5 * time.Second
	simStay = 25 * time.Second
)

// origin is the Git server of a simulated fleet.
type origin struct {
	mu     sync.Mutex
	trees  map[fleet.Revision]fs.FS
	newest fleet.Revision
	pushes int
}

func (o *origin) push(files fstest.MapFS) fleet.Revision {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pushes++
	o.newest = fleet.Revision(fmt.Sprintf("%040d", o.pushes))
	o.trees[o.newest] = files
	return o.newest
}

// clone is a node's of the origin: it outlives the node's agent. It implements sources.Source.
type clone struct {
	origin *origin
	mu     sync.Mutex
	has    map[fleet.Revision]bool
	cut    bool
	silent bool // the server takes questions and does not answer
	reads  int  // how often a commit was read
}

func (c *clone) Fetch(ctx context.Context) (sources.Snapshot, error) {
	c.mu.Lock()
	cut, silent, origin := c.cut, c.silent, c.origin
	c.mu.Unlock()
	if silent {
		<-ctx.Done()
		return sources.Snapshot{}, ctx.Err()
	}
	if cut {
		return sources.Snapshot{}, fmt.Errorf("the Git server does not answer")
	}
	origin.mu.Lock()
	newest := origin.newest
	origin.mu.Unlock()
	c.take(newest)
	return c.At(newest)
}

func (c *clone) take(revision fleet.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.has[revision] = true
}

func (c *clone) At(revision fleet.Revision) (sources.Snapshot, error) {
	c.mu.Lock()
	has, origin := c.has[revision], c.origin
	c.reads++
	c.mu.Unlock()
	if !has {
		return sources.Snapshot{}, fs.ErrNotExist
	}
	origin.mu.Lock()
	defer origin.mu.Unlock()
	return sources.Snapshot{Revision: revision, Files: origin.trees[revision], Dir: "."}, nil
}

// member is a node of a simulated fleet.
type member struct {
	*agent.Agent
	fleet   *simulated
	node    fleet.Node
	machine *hosttest.Host
	clone   *clone
	dir     string
	lead    bool
	cut     bool // from the store
	keeps   bool // its commits to itself
	metrics *prometheus.Registry
	stop    func() // nil while no agent runs
}

// simulated is a fleet in this process: real agents, machines in memory, a memory that can be cut off.
type simulated struct {
	t      testing.TB
	shared *coordtest.Shared
	origin *origin
	nodes  []*member
	log    *slog.Logger
}

func newFleet(t testing.TB, servers, agents int) *simulated {
	f := &simulated{t: t, shared: coordtest.NewShared(simTTL), origin: &origin{trees: map[fleet.Revision]fs.FS{}}, log: slog.New(slog.DiscardHandler)}
	f.origin.push(fstest.MapFS{})
	for i := range servers + agents {
		m := &member{
			fleet: f, lead: i < servers,
			node: fleet.Node{Name: fleet.NodeName(fmt.Sprintf("n%03d", i)), Labels: map[string]string{"kubernetes.io/hostname": fmt.Sprintf("n%03d", i)}, Voter: i < servers},
		}
		m.renew()
		f.nodes = append(f.nodes, m)
	}
	return f
}

// renew gives a node another machine, with nothing on it.
func (m *member) renew() {
	m.machine, m.clone, m.dir = hosttest.New(), &clone{origin: m.fleet.origin, has: map[fleet.Revision]bool{}}, m.fleet.t.TempDir()
	m.machine.AddImage("app:1", "app:2", "bad:1", "job:1")
	m.machine.Behave("bad:1", hosttest.Process{Ends: true, After: time.Second, Code: 1})
	m.machine.Behave("job:1", hosttest.Process{Ends: true, After: 20 * time.Second})
}

// start starts a node's agent.
func (m *member) start() {
	m.fleet.t.Helper()
	if m.stop != nil {
		return
	}
	store := m.fleet.shared.Node(m.node.Name)
	m.metrics = prometheus.NewRegistry()
	var err error
	m.Agent, err = agent.New(agent.Config{
		Node: m.node, DataDir: m.dir, RunDir: filepath.Join(m.dir, "run"), Store: store, Intents: store, Host: m.machine, Prober: m.machine,
		Volumes: m.machine.Volumes, Follow: true, Act: true, Metrics: agent.NewMetrics(m.metrics), Log: m.fleet.log.With("at", m.node.Name),
		Sources: []agent.Source{{Name: "home", Path: ".", Source: m.clone, Every: func(failures int) time.Duration { return interval << min(failures, 3) }}},
		Fleet: &agent.Fleet{
			Roll: store, Lead: m.lead, Stay: simStay, Leader: m.fleet.shared.Leader,
			Bring: func(_ context.Context, _ fleet.SourceName, revision fleet.Revision) error { return m.bring(revision) },
		},
	})
	if err != nil {
		m.fleet.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Agent.Run(ctx) }()
	m.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			m.fleet.t.Errorf("the agent of %s ended with %v", m.node.Name, err)
		}
		m.stop = nil
	}
}

// bring copies a commit from any other node that can be reached.
func (m *member) bring(revision fleet.Revision) error {
	for _, other := range m.fleet.nodes {
		if other == m || other.stop == nil || other.cut || m.cut || other.keeps {
			continue
		}
		if _, err := other.clone.At(revision); err == nil {
			m.clone.take(revision)
			return nil
		}
	}
	return fs.ErrNotExist
}

// kill ends a node's agent without a word.
func (m *member) kill() {
	if m.stop != nil {
		m.fleet.shared.Crash(m.node.Name)
		m.stop()
	}
}

// powerCut ends all that a node runs, and forgets what is not on disk.
func (m *member) powerCut() {
	m.kill()
	m.machine.Reboot()
}

// part cuts a node off from the fleet's memory: it hears nothing of it, or is not heard, or both.
func (m *member) part(deaf, dumb bool) {
	m.cut = deaf || dumb
	m.fleet.shared.Part(m.node.Name, deaf, dumb)
}

// all starts every agent.
func (f *simulated) all() {
	for _, m := range f.nodes {
		m.start()
	}
}

// end stops every agent, so that a bubble can end.
func (f *simulated) end() {
	for _, m := range f.nodes {
		if m.stop != nil {
			m.stop()
		}
		f.shared.Node(m.node.Name).Close()
	}
}

// assignment is the one in force.
func (f *simulated) assignment() fleet.Assignment {
	for _, m := range f.nodes {
		if !m.cut {
			a, err := f.shared.Node(m.node.Name).Load(context.Background())
			if err != nil {
				f.t.Fatal(err)
			}
			return a
		}
	}
	return fleet.Assignment{}
}

// running are the containers that live, as namespace/pod@node of each, in order.
func (f *simulated) running() []string {
	var list []string
	for _, m := range f.nodes {
		seen, err := m.machine.Look(context.Background())
		if err != nil {
			continue
		}
		for i := range seen.Pods {
			for _, c := range seen.Pods[i].Containers {
				if c.Lives() {
					list = append(list, fmt.Sprintf("%s@%s", seen.Pods[i].Pod, m.node.Name))
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

// on is how many containers of pods live whose names begin so, by node.
func (f *simulated) on(prefix string) map[fleet.NodeName]int {
	count := map[fleet.NodeName]int{}
	for _, line := range f.running() {
		if pod, node, _ := strings.Cut(line, "@"); strings.HasPrefix(pod, "default/"+prefix) {
			count[fleet.NodeName(node)]++
		}
	}
	return count
}

func (f *simulated) status(m *member) api.Status {
	f.t.Helper()
	s, err := m.Status(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func spreadOut(name, image string, replicas int, more string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: main, image: '%[2]s', imagePullPolicy: IfNotPresent}]
%[4]s`, name, image, replicas, more)
}

func statefulSet(name, image string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %[1]s}
spec:
  replicas: %[3]d
  serviceName: %[1]s
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: main, image: '%[2]s', imagePullPolicy: IfNotPresent}]
`, name, image, replicas)
}
