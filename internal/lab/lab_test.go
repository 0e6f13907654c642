package lab_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/skerry-dev/skerry/internal/lab"
)

// get asks the service for a path of its API.
func get(t *testing.T, s *lab.Service, path string) (string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.Socket())
		},
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://d"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestContainer(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })

	if got := s.CLI(t, "run", "--network=none", "--name=one", image, "print", "hello", "world"); got != "hello world" {
		t.Errorf("run printed %q", got)
	}
	if got := s.CLI(t, "logs", "one"); got != "hello world" {
		t.Errorf("logs are %q", got)
	}
	if got := s.CLI(t, "run", "--rm", "--network=none", lab.TestImage+":2", "env", "VERSION"); got != "2" {
		t.Errorf("version of :2 is %q", got)
	}
	_, err := s.CLIErr(t, "run", "--network=none", image, "exit", "7")
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Errorf("exit 7: %v", err)
	}
	if got := s.CLI(t, "run", "--rm", "--network=none", "--user=app", "--entrypoint=id", image); !strings.HasPrefix(got, "uid=1000 gid=1000 ") {
		t.Errorf("id as app: %q", got)
	}
}

func TestPodServes(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })

	s.CLI(t, "pod", "create", "--name=web", "--infra-name=web-infra")
	s.CLI(t, "run", "--detach", "--pod=web", "--name=web-1", "--env=MESSAGE=hi", image)
	logged := exec.CommandContext(t.Context(), "podman", "logs", "--follow", "web-1")
	out, err := logged.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := logged.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("serving on 8080"))
	if _, err := io.ReadFull(out, line); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + s.Address(t, "web-infra") + ":8080/") //nolint:noctx // one request of a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "hi version=1 host=web\n" {
		t.Errorf("served %q", body)
	}
}

func TestKillAndStart(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	t.Cleanup(func() { s.Start(t) })

	s.CLI(t, "run", "--detach", "--network=none", "--name=long", image, "sleep")
	if got, err := get(t, s, "/v4.0.0/libpod/_ping"); err != nil || got != "OK" {
		t.Fatalf("ping: %q, %v", got, err)
	}
	s.Kill(t)
	if _, err := get(t, s, "/v4.0.0/libpod/_ping"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("ping of a killed service: %v", err)
	}
	if got := s.CLI(t, "inspect", "--format={{.State.Running}}", "long"); got != "true" {
		t.Errorf("the container did not outlive the service: running is %s", got)
	}
	s.Start(t)
	if got, err := get(t, s, "/v4.0.0/libpod/containers/long/json"); err != nil || !strings.Contains(got, `"Running":true`) {
		t.Errorf("after the restart: %v\n%s", err, got)
	}
	s.Reset(t)
	if got := s.CLI(t, "ps", "--all", "--quiet"); got != "" {
		t.Errorf("left after Reset: %s", got)
	}
}
