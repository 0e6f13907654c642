package podman_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/podman"
)

// counting is Podman behind a proxy that counts requests.
func counting(t *testing.T, s *lab.Service) (*podman.Machine, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	path := filepath.Join(t.TempDir(), "proxy.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "d"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.Socket())
	}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return podman.New("unix://" + path), &n
}

// ours is a pod of ours with one container in it.
func ours(t *testing.T, m host.Host, image, name string) (pod, container string) {
	t.Helper()
	id := fleet.PodID{Namespace: "look", Name: name}
	pod, err := m.CreatePod(t.Context(), host.Sandbox{Name: fleet.PodmanPod(id), Labels: map[string]string{
		fleet.LabelPodName: id.Name, fleet.LabelPodNamespace: id.Namespace, fleet.LabelPodUID: "uid-" + name,
		fleet.LabelOwner: "Pod/look/" + name,
	}})
	if err != nil {
		t.Fatal(err)
	}
	container, err = m.StartContainer(t.Context(), host.Container{
		Name: fleet.PodmanContainer(id, "app"), PodID: pod, Image: image, Args: []string{"seq", "print up", "sleep"},
		Labels: map[string]string{fleet.LabelPodUID: "uid-" + name, fleet.LabelContainerName: "app"},
		Limits: fleet.Limits{Memory: 64 << 20, Shares: 102},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pod, container
}

func look(t *testing.T, m host.Host) fleet.Host {
	t.Helper()
	seen, err := m.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestLookIsThreeCalls(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m, calls := counting(t, s)
	for n := range 4 {
		before := calls.Load()
		if got := len(look(t, m).Pods); got != n {
			t.Fatalf("%d pods, want %d", got, n)
		}
		made := calls.Load() - before
		if n == 0 {
			made-- // the first call of a machine asks for the service's version
		}
		if made != 3 {
			t.Errorf("a look at %d pods took %d calls", n, made)
		}
		ours(t, m, image, strconv.Itoa(n))
	}
}

func TestAddressesAreInspects(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	pod, _ := ours(t, m, image, "web")
	infra := s.CLI(t, "pod", "inspect", "--format={{.InfraContainerID}}", pod)
	want := []netip.Addr{netip.MustParseAddr(s.Address(t, infra))}
	if diff := cmp.Diff(want, look(t, m).Pods[0].IPs, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	got, err := m.PodAddresses(t.Context(), pod)
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
		t.Error(diff, err)
	}
	// A pod on two networks has two.
	s.CLI(t, "network", "create", "--subnet=10.99.0.0/24", "second")
	s.CLI(t, "network", "connect", "second", infra)
	fresh := podman.New(s.URL())
	if got := look(t, fresh).Pods[0].IPs; len(got) != 2 || !slices.Contains(got, want[0]) || !netip.MustParsePrefix("10.99.0.0/24").Contains(got[1]) {
		t.Errorf("on two networks: %v", got)
	}
}

func TestKilledInfra(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	pod, container := ours(t, m, image, "web")
	infra := s.CLI(t, "pod", "inspect", "--format={{.InfraContainerID}}", pod)
	waitFor(t, m, func() { s.CLI(t, "kill", infra) }, func(seen fleet.Host) bool { return seen.Pods[0].Infra == fleet.Exited })
	p := look(t, m).Pods[0]
	if p.Infra != fleet.Exited || len(p.IPs) != 0 {
		t.Errorf("infra is %s with %v", p.Infra, p.IPs)
	}
	if len(p.Containers) != 1 || p.Containers[0].ID != container || p.Containers[0].State != fleet.Running {
		t.Errorf("its containers are %+v", p.Containers)
	}
	if err := m.RemovePod(t.Context(), pod); err != nil {
		t.Error(err)
	}
}

// waitFor does something and looks at each ring until that shows.
func waitFor(t *testing.T, m host.Host, do func(), shows func(fleet.Host) bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	bell, ready, over := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		over <- m.Watch(ctx, func() { close(ready) }, func(string) {
			select {
			case bell <- struct{}{}:
			default:
			}
		})
	}()
	defer func() { cancel(); <-over }()
	<-ready
	do()
	for !shows(look(t, m)) {
		select {
		case <-bell:
		case err := <-over:
			over <- err
			t.Fatalf("Watch = %v", err)
		}
	}
}

func TestKilledConmon(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	pod, container := ours(t, m, image, "web")
	conmon, err := strconv.Atoi(s.CLI(t, "inspect", "--format={{.State.ConmonPid}}", container))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(conmon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Nobody notices its end any more, and what it writes goes nowhere. It is not believed at the first look, and rings
	// when it may be.
	rang := make(chan struct{}, 16)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready := make(chan struct{})
	go func() {
		_ = m.Watch(ctx, func() { close(ready) }, func(string) {
			select {
			case rang <- struct{}{}:
			default:
			}
		})
	}()
	<-ready
	got := look(t, m).Pods[0].Containers[0]
	if got.State != fleet.Running {
		t.Errorf("at the first look it is %s", got.State)
	}
	for deadline := time.Now().Add(time.Minute); got.State != fleet.Orphaned && time.Now().Before(deadline); {
		<-rang
		got = look(t, m).Pods[0].Containers[0]
	}
	if got.State != fleet.Orphaned {
		t.Errorf("nobody watches over it, and it is seen as %s", got.State)
	}
	// It can be told to end, and removal by force leads on.
	if err := m.StopContainer(t.Context(), container, 10*time.Second); err != nil {
		t.Error(err)
	}
	if err := m.RemoveContainer(t.Context(), container); err != nil {
		t.Error(err)
	}
	if got := look(t, m).Pods[0].Containers; len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
	if err := m.RemovePod(t.Context(), pod); err != nil {
		t.Error(err)
	}
}

func TestStrangersAreTaken(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	ours(t, m, image, "web")
	s.CLI(t, "pod", "create", "--name=theirs", "--infra-name=theirs-infra")
	s.CLI(t, "create", "--name=theirs-1", "--pod=theirs", image)
	s.CLI(t, "create", "--name=alone", "--network=none", image)
	copied := []string{"create", "--network=none"}
	for _, label := range []string{
		fleet.LabelPodName + "=web", fleet.LabelPodNamespace + "=look", fleet.LabelPodUID + "=uid-web",
		fleet.LabelContainerName + "=app", fleet.LabelOwner + "=Pod/look/web",
	} {
		copied = append(copied, "--label="+label)
	}
	s.CLI(t, append(copied, "--name=copied", image)...)
	s.CLI(t, "create", "--pod=look_web", "--name=guest", image) // in our pod, without our labels
	seen := look(t, m)
	want := map[string]bool{"theirs": true, "theirs-infra": true, "theirs-1": true, "alone": true, "copied": true, "guest": true}
	if diff := cmp.Diff(want, seen.Taken); diff != "" {
		t.Error(diff)
	}
	if len(seen.Pods) != 1 || len(seen.Pods[0].Containers) != 1 || seen.Pods[0].Containers[0].PodmanName != "look_web_app" {
		t.Errorf("pods are %+v", seen.Pods)
	}
}

func TestHalfMadePodIsFinished(t *testing.T) {
	s := lab.Podman(t)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	labels := map[string]string{fleet.LabelPodUID: "u", fleet.LabelOwner: "Pod/look/half", fleet.LabelPodName: "half", fleet.LabelPodNamespace: "look"}
	args := []string{"pod", "create", "--name=look_half"}
	for k, v := range labels {
		args = append(args, "--label="+k+"="+v)
	}
	id := s.CLI(t, args...)
	if got := look(t, m).Pods[0].Infra; got != fleet.Created {
		t.Fatalf("half made it is %s", got)
	}
	got, err := m.CreatePod(t.Context(), host.Sandbox{Name: "look_half", Labels: labels})
	if err != nil || got != id {
		t.Fatalf("CreatePod = %s, %v; want %s", got, err, id)
	}
	if got := look(t, m).Pods[0].Infra; got != fleet.Running {
		t.Errorf("finished it is %s", got)
	}
}

func TestLimitsChangedByHand(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	_, container := ours(t, m, image, "web")
	s.CLI(t, "update", "--memory=32m", container)
	if got := look(t, m).Pods[0].Containers[0].Limits; got == nil || got.Memory != 32<<20 {
		t.Errorf("limits are %+v", got)
	}
	// What Podman itself says of it: an event would let the agent see it at once.
	events := s.CLI(t, "events", "--stream=false", "--since=1h", "--format={{.Status}}", "--filter=container="+container)
	t.Logf("events of the container: %s", strings.Fields(events))
}

func TestServiceGoesAndComes(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	t.Cleanup(func() { s.Start(t) })
	m := podman.New(s.URL())
	pod, container := ours(t, m, image, "web")

	ready, watched := make(chan struct{}), make(chan error, 1)
	go func() { watched <- m.Watch(t.Context(), func() { close(ready) }, func(string) {}) }()
	<-ready
	s.Kill(t)
	if err := <-watched; !errors.Is(err, host.ErrUnavailable) {
		t.Errorf("Watch = %v", err)
	}
	for name, call := range map[string]func() error{
		"Look":            func() error { _, err := m.Look(t.Context()); return err },
		"Ping":            func() error { return m.Ping(t.Context()) },
		"CreatePod":       func() error { _, err := m.CreatePod(t.Context(), host.Sandbox{Name: "x"}); return err },
		"StartContainer":  func() error { _, err := m.StartContainer(t.Context(), host.Container{Name: "x"}); return err },
		"StopContainer":   func() error { return m.StopContainer(t.Context(), container, 0) },
		"RemoveContainer": func() error { return m.RemoveContainer(t.Context(), container) },
		"Unpause":         func() error { return m.Unpause(t.Context(), container) },
		"RemovePod":       func() error { return m.RemovePod(t.Context(), pod) },
		"Pull":            func() error { return m.Pull(t.Context(), host.Pull{Image: image, Policy: "Never"}) },
		"a new machine":   func() error { return podman.New(s.URL()).Ping(t.Context()) },
	} {
		if err := call(); !errors.Is(err, host.ErrUnavailable) || errors.Is(err, host.ErrNotFound) {
			t.Errorf("%s of a dead service: %v", name, err)
		}
	}
	s.Start(t)
	if err := m.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if p := look(t, m).Pods; len(p) != 1 || p[0].Containers[0].ID != container || p[0].Containers[0].State != fleet.Running {
		t.Errorf("after it is back: %+v", p)
	}
}

// A refused connection to a registry is one line of text, and says nothing about Podman.
func TestPullErrorIsNotPodmans(t *testing.T) {
	s := lab.Podman(t)
	m := podman.New(s.URL())
	registry, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = server.Serve(registry) }()
	t.Cleanup(func() { server.Close() })
	for _, image := range []string{"127.0.0.1:1/app:1", registry.Addr().String() + "/app:1"} {
		err := m.Pull(t.Context(), host.Pull{Image: image, Policy: "Always"})
		if err == nil || errors.Is(err, host.ErrUnavailable) || errors.Is(err, io.EOF) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("pull %s: %v", image, err)
		}
		t.Log(err)
	}
}

func TestPullThatIsGivenUp(t *testing.T) {
	s := lab.Podman(t)
	m := podman.New(s.URL())
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel takes connections, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = m.Pull(ctx, host.Pull{Image: silent.Addr().String() + "/app:1", Policy: "Always"})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, host.ErrUnavailable) {
		t.Errorf("Pull = %v, want the context's error", err)
	}
}

// A caller that goes away in the midst of Podman's answer has no image.
func TestPullThatIsGivenUpInItsMidst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stub.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Libpod-API-Version", "4.3.1")
		if strings.HasSuffix(r.URL.Path, "/images/create") {
			_, _ = io.WriteString(w, `{"status":"Pulling fs layer"}`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	if err := podman.New("unix://"+path).Pull(ctx, host.Pull{Image: "localhost/app:1", Policy: "Always"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Pull = %v, want the context's error", err)
	}
}
