// Package e2e_test tries the whole thing as a user would: the real binary, real Podman, real Git. It runs in
// scripts/lab only.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/podman"
)

// binary builds skerry once for the test binary. ldflags differ between builds of one source.
func binary(t testing.TB, version string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if path, ok := built.paths[version]; ok {
		return path
	}
	dir, err := os.MkdirTemp("", "skerry-e2e-bin-") //nolint:usetesting // shared by all tests of the binary, removed by TestMain
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "skerry")
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "build", "-ldflags", "-X main.version="+version, "-o", path, "../cmd/skerry")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -tags=containers_image_openpgp,remote")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	built.paths[version] = path
	return path
}

var built = struct {
	sync.Mutex
	paths map[string]string
}{paths: map[string]string{}}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, path := range built.paths {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// world is one node with its agent, its repository and its Podman.
type world struct {
	t       testing.TB
	dir     string
	repo    string
	podman  *lab.Service
	calls   *counter
	binary  string
	agent   *exec.Cmd
	ended   chan struct{}
	log     *os.File
	image   string
	client  *api.Client
	machine *podman.Machine
}

// newWorld makes a world without an agent. Its repository has one commit with a README.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, podman: lab.Podman(t), dir: t.TempDir()}
	w.podman.Reset(t)
	w.image = lab.Image(t, w.podman)
	w.repo = filepath.Join(w.dir, "repo")
	w.calls = newCounter(t, w.podman.Socket(), filepath.Join(w.dir, "podman.sock"))
	w.binary = binary(t, "e2e")
	w.client = api.NewClient(w.socket())
	w.machine = podman.New(w.podman.URL())
	w.write("README.md", "a repository\n")
	w.git("init", "-q", "-b", "main")
	w.commit("first")
	w.config("")
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			raw, _ := os.ReadFile(filepath.Join(w.dir, "agent.log"))
			t.Logf("the agent's log:\n%s", tail(raw, 6000))
		}
		w.podman.Reset(t)
		for _, family := range []string{"ip", "ip6"} { // the lab is one machine, and the next test's
			_ = exec.Command("nft", "delete", "table", family, "skerry").Run() //nolint:noctx // the test's context has ended
		}
		unmount(w.dir)
	})
	return w
}

func tail(raw []byte, n int) []byte { return raw[max(0, len(raw)-n):] }

// unmount takes down what an agent mounted, so that the test's folder can be removed.
func unmount(dir string) {
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	lines := strings.Split(string(raw), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
}

func (w *world) socket() string { return filepath.Join(w.dir, "run", "skerry.sock") }

func (w *world) dataDir() string { return filepath.Join(w.dir, "data") }

// config writes the agent's configuration. more is added to the source.
func (w *world) config(more string) {
	w.t.Helper()
	text := fmt.Sprintf(`node: {name: alpha, address: 127.0.0.1, dataDir: %s}
podman: {socket: "unix://%s"}
listen: {socket: %s}
sources:
- name: home
  url: file://%s
  branch: main
  interval: 1h
%s`, w.dataDir(), filepath.Join(w.dir, "podman.sock"), w.socket(), w.repo, more)
	if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.repo, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(name string) {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.repo, name)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(w.t.Context()), "git", args...)
	cmd.Dir = w.repo
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) commit(title string) {
	w.t.Helper()
	w.git("add", "-A")
	w.git("commit", "-q", "--allow-empty", "-m", title)
}

// start starts the agent and returns when it serves.
func (w *world) start() {
	w.t.Helper()
	logFile, err := os.OpenFile(filepath.Join(w.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	w.log = logFile
	notify := filepath.Join(w.dir, "notify")
	_ = os.Remove(notify)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	cmd := exec.CommandContext(context.WithoutCancel(w.t.Context()), w.binary, "agent", "--config", filepath.Join(w.dir, "config.yaml"))
	cmd.Stderr = logFile
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.agent, w.ended = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(w.ended)
		conn.Close() // an agent that ends before it is ready is not waited for
	}()
	buffer := make([]byte, 64)
	n, err := conn.Read(buffer)
	if err != nil || string(buffer[:n]) != "READY=1" {
		w.t.Fatalf("the agent did not become ready: %q, %v", buffer[:n], err)
	}
}

// stop ends the agent as systemd would.
func (w *world) stop() { w.end(syscall.SIGTERM) }

// kill ends the agent at whatever instruction it is.
func (w *world) kill() { w.end(syscall.SIGKILL) }

func (w *world) end(s syscall.Signal) {
	if w.agent == nil {
		return
	}
	_ = w.agent.Process.Signal(s)
	<-w.ended
	w.agent = nil
	_ = w.log.Close()
}

// run runs a skerry command and returns what it printed and its exit code.
func (w *world) run(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.binary, append([]string{"--config", filepath.Join(w.dir, "config.yaml")}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.Dir = w.repo
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that has to exit with 0.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, errOut, code := w.run(args...)
	if code != 0 {
		w.t.Fatalf("skerry %v: exit code %d\n%s%s", args, code, out, errOut)
	}
	return out
}

// sync has the newest commit fetched and waits until everything is as desired.
func (w *world) sync() string {
	w.t.Helper()
	return w.must("sync", "--wait", "90s")
}

func (w *world) status() api.Status {
	w.t.Helper()
	s, err := w.client.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// until waits, by the agent's bell, for a status that satisfies; it fails when time is out.
func (w *world) until(limit time.Duration, what string, is func(api.Status) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	for ctx.Err() == nil {
		s, err := w.client.Status(ctx)
		if err == nil && is(s) {
			return
		}
		_ = w.client.NextChange(ctx)
	}
	s, _ := json.MarshalIndent(w.status(), "", " ")
	w.t.Fatalf("after %s not: %s\n%s", limit, what, tail(s, 4000))
}

// container is one of our containers as Podman lists it.
type container struct {
	ID, Name, Pod, Container, State, Image, UID string
}

// containers are ours, infra aside, in the order of their names.
func (w *world) containers() []container {
	w.t.Helper()
	host, err := w.machine.Look(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var list []container
	for _, p := range host.Pods {
		for _, c := range p.Containers {
			list = append(list, container{ID: c.ID, Name: c.PodmanName, Pod: p.Pod.Name, Container: c.Name, State: string(c.State), Image: c.Image, UID: p.UID})
		}
	}
	return list
}

// running are the IDs of our running containers by name.
func (w *world) running() map[string]string {
	ids := map[string]string{}
	for _, c := range w.containers() {
		if c.State == "running" {
			ids[c.Name] = c.ID
		}
	}
	return ids
}

// deployment is a Deployment of the test image.
func deployment(name string, replicas int, image, more string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: %[3]s
        command: [sleep]
%[4]s`, name, replicas, image, more)
}

// counter is a proxy before Podman's socket that counts calls.
type counter struct {
	mu      sync.Mutex
	reads   int
	writing []string
	all     []string
}

func newCounter(t testing.TB, target, path string) *counter {
	c := &counter{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "podman"
		},
		Transport:     unixTransport(target),
		FlushInterval: -1,
		ErrorHandler:  func(rw http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
		ErrorLog:      log.New(io.Discard, "", 0), // tests break connections on purpose
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c.count(r)
		proxy.ServeHTTP(rw, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return c
}

func (c *counter) count(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line := r.Method + " " + r.URL.Path
	c.all = append(c.all, line)
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		c.reads++
		return
	}
	c.writing = append(c.writing, line)
}

// reset forgets what was counted.
func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads, c.writing, c.all = 0, nil, nil
}

func (c *counter) writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.writing)
}

func (c *counter) calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// filesBelow calls do with every regular file below a folder.
func filesBelow(t testing.TB, dir string, do func(path string, data []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		do(path, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
