package lab_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/lab"
)

// pull has the service pull an image, as the agent does.
func pull(ctx context.Context, s *lab.Service, image, user, password string) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.Socket())
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://d/v4.0.0/libpod/images/pull?policy=always&reference="+url.QueryEscape(image), nil)
	if err != nil {
		return err
	}
	if user != "" {
		login, err := json.Marshal(map[string]string{"username": user, "password": password})
		if err != nil {
			return err
		}
		req.Header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(login))
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		return errors.Join(err, fmt.Errorf("%s: %s", resp.Status, body))
	}
	var last struct{ ID, Error string }
	for lines := json.NewDecoder(resp.Body); ; {
		if err := lines.Decode(&last); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if last.Error != "" || last.ID == "" {
		return fmt.Errorf("pull: %q", last)
	}
	return nil
}

func TestRegistryWithTLSAndPassword(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	r := lab.Registry(t, lab.RegistryOptions{User: "ann", Password: "s3cret"})
	digest := r.Push(t, image, "team/app:1")
	if err := pull(t.Context(), s, r.Image("team/app:1"), "ann", "s3cret"); err != nil {
		t.Error("by tag:", err)
	}
	if err := pull(t.Context(), s, r.Image("team/app@"+digest), "ann", "s3cret"); err != nil {
		t.Error("by digest:", err)
	}
	if n := r.Count(http.MethodGet, "/v2/team/app/manifests/*"); n != 2 {
		t.Errorf("%d manifests were asked for, want 2: %v", n, r.Requests())
	}
	if got := s.CLI(t, "run", "--rm", "--network=none", r.Image("team/app:1"), "env", "VERSION"); got != "1" {
		t.Errorf("the image's version is %q", got)
	}
	for _, password := range []string{"wrong", ""} {
		user := "ann"
		if password == "" {
			user = ""
		}
		err := pull(t.Context(), s, r.Image("team/app:1"), user, password)
		if err == nil || !strings.Contains(err.Error(), "authentication required") {
			t.Errorf("password %q: %v", password, err)
		}
		requests := r.Requests()
		if last := requests[len(requests)-1]; last.Status != http.StatusUnauthorized || last.User != user {
			t.Errorf("password %q: the last request is %v", password, last)
		}
	}
	var config struct {
		Auths map[string]struct{ Auth []byte }
	}
	if err := json.Unmarshal(r.DockerConfig(), &config); err != nil || string(config.Auths[r.Host()].Auth) != "ann:s3cret" {
		t.Errorf("docker config: %v\n%s", err, r.DockerConfig())
	}
}

func TestRegistryUntrusted(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	r := lab.Registry(t, lab.RegistryOptions{Untrusted: true})
	r.Push(t, image, "app:1")
	if err := pull(t.Context(), s, r.Image("app:1"), "", ""); err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("pull from a registry that is not trusted: %v", err)
	}
	r.Trust(t)
	if err := pull(t.Context(), s, r.Image("app:1"), "", ""); err != nil {
		t.Error("pull when it is trusted:", err)
	}
	plain := lab.Registry(t, lab.RegistryOptions{Plain: true, Untrusted: true})
	if err := pull(t.Context(), s, plain.Image("app:1"), "", ""); err == nil || !strings.Contains(err.Error(), "HTTPS client") {
		t.Errorf("pull by HTTP: %v", err)
	}
}

func TestRegistryMakesTrouble(t *testing.T) {
	s := lab.Podman(t)
	lab.Image(t, s)
	r := lab.Registry(t, lab.RegistryOptions{Plain: true})
	const size = 3 << 20
	r.PushNew(t, "app:1", size)
	app := r.Image("app:1")

	// Held before anything of it has come; who pulls may give up.
	waiting, release := r.Hold(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- pull(ctx, s, app, "", "") }()
	if path := <-waiting; !strings.HasPrefix(path, "/v2/app/blobs/sha256:") {
		t.Errorf("%s waits", path)
	}
	select {
	case err := <-done:
		t.Fatal("a held pull ended:", err)
	default:
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled pull: %v", err)
	}
	go func() { done <- pull(t.Context(), s, app, "", "") }()
	<-waiting
	release()
	if err := <-done; err != nil {
		t.Error("after release:", err)
	}
	if n := r.Count(http.MethodGet, "/v2/app/blobs/*"); n < 2 {
		t.Errorf("%d blobs were asked for: %v", n, r.Requests())
	}
	s.CLI(t, "rmi", app)

	r.Cut(100)
	if err := pull(t.Context(), s, app, "", ""); err == nil {
		t.Error("pulled all of it, though it was cut")
	}
	r.Cut(0)
	r.Slow(size * 2)
	began := time.Now()
	if err := pull(t.Context(), s, app, "", ""); err != nil {
		t.Error("slow:", err)
	}
	if took := time.Since(began); took < 450*time.Millisecond {
		t.Errorf("%d bytes took %v", size, took)
	}
	r.Slow(0)
	r.Fail(http.StatusServiceUnavailable)
	if err := pull(t.Context(), s, app, "", ""); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("pull from a registry that fails: %v", err)
	}
	r.Fail(0)
	if err := pull(t.Context(), s, app, "", ""); err != nil {
		t.Error("after all that:", err)
	}
	s.CLI(t, "rmi", app)
}
