package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
	"github.com/skerry-dev/skerry/reconcile"
)

// squad is a fleet of hosts on a switch that the test can cut, with a repository that all of them run. One more host has the
// Git server, and nothing else. All that happens to containers is checked to the end of the test.
type squad struct {
	t       testing.TB
	site    *hosts.Site
	nodes   []*hosts.Host
	forge   *hosts.Host // of the Git server
	check   *hosts.Checker
	dir     string
	work    string // the work tree from which the test pushes
	binary  string
	clients map[string]*api.Client // by the path of the socket, which is another one after a power cut
	config  map[string]string      // what a host's configuration has, by its name
}

// agentProcess is the name under which agents run on hosts.
const agentProcess = "agent"

// soon is how long replaceAfter is where a test waits for it.
const soon = "8s"

// newSquad has n hosts with a configuration each, that belong to no fleet and have no agent yet. Only the first one knows of the
// repository.
func newSquad(t testing.TB, n int, replaceAfter string) *squad {
	t.Helper()
	q := &squad{t: t, dir: t.TempDir(), binary: binary(t, "e2e"), clients: map[string]*api.Client{}, config: map[string]string{}}
	q.site = hosts.New(t, n+1)
	q.nodes, q.forge = q.site.Hosts[:n], q.site.Hosts[n]
	q.serveGit()
	q.check = q.site.Watch()
	for _, h := range q.nodes {
		q.config[h.Name] = fmt.Sprintf("node: {name: %s, address: %s}\nnetwork: {services: \"off\"}\nfleet: {replaceAfter: %s}\n", h.Name, h.Address, replaceAfter)
		q.write(h)
	}
	q.config["a"] += q.source("main")
	q.write(q.nodes[0])
	return q
}

// source is the repository in a configuration.
func (q *squad) source(branch string) string {
	return fmt.Sprintf("sources: [{name: home, url: 'http://%s:3000/home.git', branch: %s, interval: 2s}]\n", q.forge.Address, branch)
}

// write writes a host's configuration to its disk.
func (q *squad) write(h *hosts.Host) {
	q.t.Helper()
	if err := os.WriteFile(h.Disk("skerry.yaml"), []byte(q.config[h.Name]), 0o600); err != nil {
		q.t.Fatal(err)
	}
}

// newFleet is a squad whose first three hosts are servers of one fleet, and whose others are agents of it. All agents run.
func newFleet(t testing.TB, n int, replaceAfter string) *squad {
	t.Helper()
	q := newSquad(t, n, replaceAfter)
	q.unite(3)
	return q
}

// unite makes a fleet of all hosts, the first of them servers, and starts their agents.
func (q *squad) unite(servers int) {
	q.t.Helper()
	a, n := q.nodes[0], len(q.nodes)
	q.must(a, "node", "init")
	q.start(a)
	for i, h := range q.nodes[1:] {
		q.join(a, h, i+1 < servers)
		q.start(h)
	}
	q.until(a, "the fleet is complete", func(s api.Status) bool {
		return s.Fleet != nil && len(s.Fleet.Nodes) == n && !slices.ContainsFunc(s.Fleet.Nodes, func(m reconcile.Machine) bool { return m.State != "Ready" })
	})
}

// join lets a host into the fleet, as the commands say that it is done.
func (q *squad) join(from, h *hosts.Host, server bool) {
	q.t.Helper()
	q.must(h, q.invite(from, server)...)
}

// invite is the command that a token comes with, without the name of the program.
func (q *squad) invite(from *hosts.Host, server bool, args ...string) []string {
	q.t.Helper()
	args = append([]string{"node", "token"}, args...)
	if server {
		args = append(args, "--server")
	}
	return strings.Fields(q.must(from, args...))[1:]
}

// serveGit serves the repository at the forge's address, and makes its first commit.
func (q *squad) serveGit() {
	q.t.Helper()
	q.work = filepath.Join(q.dir, "work")
	q.git(q.dir, "init", "-q", "--bare", "-b", "main", "home.git")
	q.git(q.dir, "init", "-q", "-b", "main", q.work)
	q.git(q.work, "remote", "add", "origin", filepath.Join(q.dir, "home.git"))
	q.push(map[string]string{"README.md": "a repository\n"})
	at, err := exec.CommandContext(q.t.Context(), "git", "--exec-path").Output()
	if err != nil {
		q.t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(at)), "git-http-backend"), Stderr: io.Discard, Logger: log.New(io.Discard, "", 0),
		Env: []string{"GIT_PROJECT_ROOT=" + q.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"},
	}
	listener, err := q.forge.Listen(q.t.Context(), "tcp", q.forge.Address.String()+":3000")
	if err != nil {
		q.t.Fatal(err)
	}
	server := &http.Server{Handler: backend, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }()
	q.t.Cleanup(func() { server.Close() })
}

func (q *squad) git(dir string, args ...string) string {
	q.t.Helper()
	return (&world{t: q.t, repo: dir}).git(args...)
}

// push commits files and pushes them; one without content is removed. It returns the commit.
func (q *squad) push(files map[string]string) fleet.Revision {
	q.t.Helper()
	w := &world{t: q.t, repo: q.work}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if files[name] == "" {
			w.remove(name)
		} else {
			w.write(name, files[name])
		}
	}
	w.commit("change " + strings.Join(slices.Sorted(maps.Keys(files)), ", "))
	w.git("push", "-q", "origin", "HEAD")
	return fleet.Revision(w.git("rev-parse", "HEAD"))
}

// launch starts a host's agent and does not wait for it.
func (q *squad) launch(h *hosts.Host, env ...string) {
	q.t.Helper()
	command := append(append([]string{"env"}, env...), q.binary, "--config", "/var/lib/skerry.yaml", "agent")
	h.Start(agentProcess, command...)
}

// start starts agents and returns when they can say how their pods are.
func (q *squad) start(list ...*hosts.Host) {
	q.t.Helper()
	var ready []func()
	for _, h := range list {
		path := filepath.Join(q.dir, "notify-"+h.Name) // hosts share /tmp
		_ = os.Remove(path)
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			q.t.Fatal(err)
		}
		defer conn.Close()
		q.launch(h, "NOTIFY_SOCKET="+path)
		ended := h.Ended(agentProcess)
		go func() {
			<-ended
			conn.Close() // one that ends before it is ready is not waited for
		}()
		ready = append(ready, func() {
			buffer := make([]byte, 64)
			if err := conn.SetReadDeadline(time.Now().Add(long)); err != nil {
				q.t.Fatal(err)
			}
			n, err := conn.Read(buffer)
			if err != nil || string(buffer[:n]) != "READY=1" {
				q.t.Fatalf("the agent of host %s did not become ready: %q, %v", h.Name, buffer[:n], err)
			}
		})
	}
	for _, wait := range ready {
		wait()
	}
}

// run runs a skerry command on a host. The error has what it wrote to stderr.
func (q *squad) run(h *hosts.Host, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.t.Context()), long)
	defer cancel()
	return h.ExecErr(ctx, append([]string{q.binary, "--config", "/var/lib/skerry.yaml"}, args...)...)
}

// must runs a command that has to exit with 0.
func (q *squad) must(h *hosts.Host, args ...string) string {
	q.t.Helper()
	out, err := q.run(h, args...)
	if err != nil {
		q.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// refused runs a command that has to fail, for a reason.
func (q *squad) refused(h *hosts.Host, why string, args ...string) {
	q.t.Helper()
	out, err := q.run(h, args...)
	if err == nil || !strings.Contains(err.Error(), why) {
		q.t.Errorf("skerry %s: %q, %v; want it refused because %q", strings.Join(args, " "), out, err, why)
	}
}

func (q *squad) client(h *hosts.Host) *api.Client {
	socket := h.Path("/run/skerry/skerry.sock")
	if q.clients[socket] == nil {
		q.clients[socket] = api.NewClient(socket)
	}
	return q.clients[socket]
}

func (q *squad) status(h *hosts.Host) api.Status {
	q.t.Helper()
	s, err := q.client(h).Status(q.t.Context())
	if err != nil {
		q.t.Fatal(err)
	}
	return s
}

// until waits, by the bell of a host's agent, for a status that satisfies.
func (q *squad) until(h *hosts.Host, what string, is func(api.Status) bool) api.Status {
	q.t.Helper()
	client := q.client(h)
	ctx, cancel := context.WithTimeout(q.t.Context(), long)
	defer cancel()
	var last api.Status
	var fault error
	for ctx.Err() == nil {
		if last, fault = client.Status(ctx); fault == nil && is(last) {
			return last
		}
		if err := client.NextChange(ctx); errors.Is(err, api.ErrNoAgent) {
			<-time.After(50 * time.Millisecond) // it is being started
		}
	}
	raw, _ := json.MarshalIndent(q.lastStatus(h), "", " ")
	for _, other := range q.nodes { // those that are on
		if _, err := other.ExecErr(context.WithoutCancel(ctx), "true"); err == nil {
			s := q.lastStatus(other)
			line, _ := json.Marshal(map[string]any{"epoch": s.Epoch, "fleet": s.Fleet, "waiting": s.Waiting})
			q.t.Logf("host %s says %s", other.Name, line)
		}
	}
	q.t.Fatalf("on host %s after %s not: %s (%v)\n%s", h.Name, long, what, fault, tail(raw, 6000))
	return last
}

// lastStatus is what a host's agent says when it is too late.
func (q *squad) lastStatus(h *hosts.Host) api.Status {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.t.Context()), 5*time.Second)
	defer cancel()
	s, _ := q.client(h).Status(ctx)
	return s
}

// settled waits until hosts agree that a commit is what runs, and nothing is left to be done.
func (q *squad) settled(revision fleet.Revision, list ...*hosts.Host) {
	q.t.Helper()
	for _, h := range list {
		q.until(h, "settled at "+revision.Short(), func(s api.Status) bool {
			return s.Settled && len(s.Sources) == 1 && s.Sources[0].Revision == revision
		})
	}
}

// deploy pushes and waits until all hosts say that it is done.
func (q *squad) deploy(files map[string]string) fleet.Revision {
	q.t.Helper()
	revision := q.push(files)
	q.settled(revision, q.nodes...)
	return revision
}

// leader is the host that leads, as another one sees it. It waits until one does.
func (q *squad) leader(from *hosts.Host) *hosts.Host {
	q.t.Helper()
	s := q.until(from, "somebody leads", func(s api.Status) bool { return s.Fleet.Leader != "" })
	return q.site.Host(string(s.Fleet.Leader))
}

// but is the nodes without some.
func (q *squad) but(out ...*hosts.Host) []*hosts.Host {
	return slices.DeleteFunc(slices.Clone(q.nodes), func(h *hosts.Host) bool { return slices.Contains(out, h) })
}

// machine is what a status says of a node.
func machine(s api.Status, h *hosts.Host) reconcile.Machine {
	for _, m := range s.Fleet.Nodes {
		if string(m.Name) == h.Name {
			return m
		}
	}
	return reconcile.Machine{}
}

// places is which pods whose names begin so are to run on which node, by a status.
func places(s api.Status, prefix string) map[string]string {
	all := map[string]string{}
	for _, p := range s.Pods {
		if strings.HasPrefix(p.ID.Name, prefix) && p.Phase != "Terminating" {
			all[p.ID.Name] = string(p.Node)
		}
	}
	return all
}

// spread is how many pods there are by node.
func spread(places map[string]string) map[string]int {
	count := map[string]int{}
	for _, node := range places {
		count[node]++
	}
	return count
}

// ran is the IDs of running containers of pods whose names begin so, by host and name, as Podman says. Those of ticks come and go.
func (q *squad) ran(prefix string, list ...*hosts.Host) map[string]string {
	q.t.Helper()
	all := map[string]string{}
	for _, h := range list {
		for _, p := range h.Pods() {
			for _, c := range p.Containers {
				pod := p.Labels[fleet.LabelPodName]
				if c.State == "running" && strings.HasPrefix(pod, prefix) && !strings.HasPrefix(pod, "tick-") {
					all[h.Name+" "+c.Name] = c.ID
				}
			}
		}
	}
	return all
}

// decisions are the epochs that agents decided on, as they logged it, in the order of time, and by whom.
func (q *squad) decisions() []decision {
	q.t.Helper()
	var all []decision
	for _, h := range q.nodes {
		for line := range strings.Lines(h.Output(agentProcess)) {
			d := decision{host: h.Name}
			if json.Unmarshal([]byte(line), &d) == nil && d.Msg == "decided" {
				all = append(all, d)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b decision) int { return a.Time.Compare(b.Time) })
	return all
}

type decision struct {
	host  string
	Time  time.Time
	Msg   string
	Epoch uint64
}

// linear fails the test when two have decided on one epoch, or somebody on what was over.
func (q *squad) linear() {
	q.t.Helper()
	last, all := decision{}, q.decisions()
	if len(all) == 0 {
		q.t.Error("nobody says that anything was decided")
	}
	for _, d := range all {
		if d.Epoch <= last.Epoch {
			q.t.Errorf("%s decided on epoch %d at %s after %s had decided on %d at %s", d.host, d.Epoch, d.Time, last.host, last.Epoch, last.Time)
		}
		last = d
	}
}

// daemonSet is a DaemonSet of the test image.
func daemonSet(name, image string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: DaemonSet
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: main, image: '%[2]s', command: [sleep]}]
`, name, image)
}

// ticks is a CronJob that runs every minute for a while. The checker knows when a run is doubled.
func ticks() string {
	return `apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 1
          containers: [{name: main, image: '` + lab.TestImage + `:1', command: [sleep, 5s]}]
`
}

// keeper is a StatefulSet of the test image with a claim.
func keeper(name, image string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %[1]s}
spec:
  serviceName: %[1]s
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: main, image: '%[2]s', command: [sleep], volumeMounts: [{name: data, mountPath: /data}]}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
`, name, image, replicas)
}

// stop ends a host's agent as systemd would.
func (q *squad) stop(h *hosts.Host) {
	q.t.Helper()
	h.Signal(agentProcess, syscall.SIGTERM)
	q.ended(h)
}

// ended waits for the end of a host's agent.
func (q *squad) ended(h *hosts.Host) {
	q.t.Helper()
	select {
	case <-h.Ended(agentProcess):
	case <-time.After(long):
		h.Signal(agentProcess, syscall.SIGQUIT) // it says where it is
		q.t.Fatalf("the agent of host %s does not end", h.Name)
	}
}
