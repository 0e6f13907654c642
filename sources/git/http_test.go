package git

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// server serves a repository with git's own backend, and counts.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // method and last path element
	sent     int64    // bytes of all answers to POST
	user     string
	password string
}

func (s *server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	if s.user != "" && (user != s.user || password != s.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "no entry for "+user+"\nwith "+password) // as a careless server may
		return
	}
	counted := &counter{ResponseWriter: w}
	(&cgi.Handler{
		Path:   filepath.Join(execPath, "git-http-backend"),
		Stderr: io.Discard,
		Env:    []string{"GIT_PROJECT_ROOT=" + s.root(req), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"},
	}).ServeHTTP(counted, req)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req.Method+" "+req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:])
	if req.Method == http.MethodPost {
		s.sent += counted.n
	}
}

func (s *server) root(req *http.Request) string { return req.Context().Value(rootKey{}).(string) }

type rootKey struct{}

type counter struct {
	http.ResponseWriter
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.ResponseWriter.Write(p)
}

// take returns the requests since the last call and the bytes sent for them.
func (s *server) take() ([]string, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests, sent := s.requests, s.sent
	s.requests, s.sent = nil, 0
	return requests, sent
}

func serve(t *testing.T, r *repo, secure bool) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.BaseContext = func(net.Listener) context.Context {
		return context.WithValue(context.Background(), rootKey{}, filepath.Dir(r.bare)) //nolint:usetesting // outlives the test's end
	}
	s.Config.ErrorLog = quiet
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *server) url(credentials string) string {
	return strings.Replace(s.URL, "://", "://"+credentials, 1) + "/home.git"
}

func TestPollCosts(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("ballast", incompressible(1<<20))
	r.push("much")
	web := serve(t, r, false)
	s := open(t, config(t, web.url("")))
	fetched(t, s, r.head())
	requests, whole := web.take()
	if diff := cmp.Diff([]string{"GET refs", "POST git-upload-pack"}, requests); diff != "" {
		t.Error(diff)
	}
	fetched(t, s, r.head())
	requests, _ = web.take()
	if diff := cmp.Diff([]string{"GET refs"}, requests); diff != "" {
		t.Errorf("nothing moved: %s", diff)
	}

	r.write("apps/web.yaml", "kind: Deployment # 2\n")
	fetched(t, s, r.push("little"))
	requests, little := web.take()
	if diff := cmp.Diff([]string{"GET refs", "POST git-upload-pack"}, requests); diff != "" {
		t.Error(diff)
	}
	if whole < 1<<20 || little > 2000 {
		t.Errorf("the clone took %d bytes and one small commit %d", whole, little)
	}

	// After a restart too.
	s = open(t, s.cfg)
	fetched(t, s, r.head())
	requests, _ = web.take()
	if diff := cmp.Diff([]string{"GET refs"}, requests); diff != "" {
		t.Errorf("nothing moved, new process: %s", diff)
	}
	holds(t, s, r.head(), "apps/web.yaml", "kind: Deployment # 2\n")
}

func TestForcePushHTTP(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	s := open(t, config(t, serve(t, r, false).url("")))
	base := r.head()
	fetched(t, s, base)
	old := r.push("to be dropped")
	fetched(t, s, old)
	r.git(r.work, "reset", "-q", "--hard", string(base))
	fetched(t, s, r.push("instead"))
	if _, err := s.At(old); err != nil {
		t.Error(err)
	}
}

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	web := serve(t, r, false)
	tests := map[string]struct {
		user, password string // what the server wants
		url            string // credentials in the URL
		change         func(*Config)
		text           string // of the error, empty for success
	}{
		"password":        {someUser, planted, "", func(c *Config) { c.Username, c.Password = someUser, planted }, ""},
		"in the URL":      {someUser, escaped, someUser + ":pl4nted%2Fs3cret+two@", func(*Config) {}, ""},
		"token":           {tokenUser, planted, "", func(c *Config) { c.Token = planted }, ""},
		"token and user":  {someUser, planted, "", func(c *Config) { c.Username, c.Token = someUser, planted }, ""},
		"token as user":   {planted, "", planted + "@", func(*Config) {}, ""},
		"none":            {someUser, "x", "", func(*Config) {}, "none are set"},
		"wrong password":  {someUser, "x", "", func(c *Config) { c.Username, c.Password = someUser, planted }, "refuses the credentials"},
		"wrong token":     {someUser, "x", "", func(c *Config) { c.Token = planted }, "refuses the credentials"},
		"wrong in URL":    {someUser, "x", someUser + ":" + planted + "@", func(*Config) {}, "refuses the credentials"},
		"wrong, escaped":  {someUser, "x", someUser + ":pl4nted%2Fs3cret+two@", func(*Config) {}, "refuses the credentials"},
		"token in a user": {someUser, "x", planted + "@", func(*Config) {}, "refuses the credentials"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { // in turn: the server has one password at a time
			web.user, web.password = test.user, test.password
			cfg := config(t, web.url(test.url))
			test.change(&cfg)
			s := open(t, cfg)
			if test.text == "" {
				fetched(t, s, r.head())
				return
			}
			_, err := s.Fetch(t.Context())
			fails(t, s, err, ErrAuth, test.text)
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	web := serve(t, r, true)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o644); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no certificate"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		url, ca string
		kind    error
		text    string
	}{
		"trusted":        {web.url(someUser + ":" + planted + "@"), ca, nil, ""},
		"not trusted":    {web.url(someUser + ":" + planted + "@"), "", ErrUnreachable, "not trusted"},
		"no CA file":     {web.url(""), ca + "x", ErrAuth, "no such file"},
		"not a CA file":  {web.url(""), text, ErrAuth, "no PEM certificate"},
		"http to TLS":    {strings.Replace(web.url(""), "https", "http", 1), "", ErrUnreachable, "400"},
		"no such repo":   {web.URL + "/other.git", ca, ErrRepository, "knows no such repository"},
		"closed port":    {"https://" + someUser + ":" + planted + "@" + closedPort(t) + "/x", "", ErrUnreachable, "refused"},
		"no such name":   {"https://nowhere.invalid/x", "", ErrUnreachable, "nowhere.invalid"},
		"TLS to no TLS":  {strings.Replace(serve(t, r, false).url(""), "http", "https", 1), "", ErrUnreachable, "use http"},
		"a plain page":   {page(t, http.StatusOK, "<html>"), "", ErrRepository, "no Git"},
		"ill":            {page(t, http.StatusBadGateway, planted), "", ErrUnreachable, "502"},
		"forbidden":      {page(t, http.StatusForbidden, ""), "", ErrAuth, "credentials"},
		"sent elsewhere": {redirect(t, web.url("")), "", ErrAuth, "not meant for"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, test.url)
			cfg.CAFile = test.ca
			s := open(t, cfg)
			if test.kind == nil {
				fetched(t, s, r.head())
				fetched(t, s, r.head())
				return
			}
			_, err := s.Fetch(t.Context())
			fails(t, s, err, test.kind, test.text)
		})
	}
}

func page(t *testing.T, code int, text string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "://", "://"+planted+"@", 1) + "/x"
}

func redirect(t *testing.T, to string) string {
	t.Helper()
	s := httptest.NewServer(http.RedirectHandler(to, http.StatusFound))
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "://", "://"+someUser+":"+planted+"@", 1) + "/x"
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// A server that accepts and says nothing, or stops in the middle, must not hold a fetch beyond its context.
func TestSilence(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // connections stay in the backlog, accepted by the kernel
	r := newRepo(t)
	web := serve(t, r, false)
	stall := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet {
			req = req.WithContext(context.WithValue(req.Context(), rootKey{}, filepath.Dir(r.bare)))
			web.ServeHTTP(w, req)
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(w, "0008NAK\n0010\x01PACK\x00\x00\x00\x02")
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	}))
	t.Cleanup(stall.Close)
	key, _ := keyFile(t)
	for name, url := range map[string]string{
		"http": "http://" + l.Addr().String() + "/x", "https": "https://" + l.Addr().String() + "/x",
		"ssh": "ssh://git@" + l.Addr().String() + "/x", "in the pack": stall.URL + "/home.git",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, url)
			if name == "ssh" {
				cfg.SSHKeyFile, cfg.KnownHostsFile = key, os.DevNull
			}
			s := open(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := s.Fetch(ctx)
			fails(t, s, err, ErrUnreachable, "no answer in time")
			fails(t, s, err, context.DeadlineExceeded)
		})
	}
}
