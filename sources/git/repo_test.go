package git

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources"
)

// repo is a work tree that the tests push from, and the bare repository that it pushes to.
type repo struct {
	t    *testing.T
	work string
	bare string
}

// newRepo makes a bare repository with a branch main of one commit.
func newRepo(t *testing.T) *repo {
	t.Helper()
	top := t.TempDir()
	r := &repo{t, filepath.Join(top, "work"), filepath.Join(top, "served", "home.git")}
	r.git(top, "init", "-q", "--bare", "-b", "main", r.bare)
	r.git(r.bare, "config", "http.receivepack", "false")
	r.git(top, "init", "-q", "-b", "main", r.work)
	r.git(r.work, "remote", "add", "origin", r.bare)
	r.write("apps/web.yaml", "kind: Deployment # 1\n")
	r.write("apps/db.yaml", "kind: Pod\n")
	r.push("first commit")
	return r
}

func (r *repo) git(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repo) write(name, content string) {
	r.t.Helper()
	full := filepath.Join(r.work, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// push commits everything and pushes it, by force where it must be. It returns the new commit.
func (r *repo) push(message string) fleet.Revision {
	r.t.Helper()
	r.git(r.work, "add", "-A")
	r.git(r.work, "commit", "-q", "--allow-empty", "-m", message)
	r.git(r.work, "push", "-q", "--force", "origin", "HEAD")
	return fleet.Revision(r.git(r.work, "rev-parse", "HEAD"))
}

func (r *repo) head() fleet.Revision { return fleet.Revision(r.git(r.work, "rev-parse", "HEAD")) }

// config reads a URL into a clone of its own.
func config(t *testing.T, url string) Config {
	t.Helper()
	return Config{Name: "home", URL: url, Branch: "main", Dir: filepath.Join(t.TempDir(), "clone of home")}
}

func open(t *testing.T, cfg Config) *Source {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fetched fetches and checks the revision.
func fetched(t *testing.T, s *Source, want fleet.Revision) sources.Snapshot {
	t.Helper()
	snapshot, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if snapshot.Revision != want {
		t.Fatalf("revision is %s, want %s", snapshot.Revision, want)
	}
	return snapshot
}

// holds checks a file's content in a revision, read by way of At.
func holds(t *testing.T, s *Source, revision fleet.Revision, name, want string) {
	t.Helper()
	snapshot, err := s.At(revision)
	if err != nil {
		t.Fatal(err)
	}
	content, err := fs.ReadFile(snapshot.Files, name)
	if err != nil {
		t.Fatal(err)
	}
	if string(content) != want {
		t.Errorf("%s in %s is %q, want %q", name, revision.Short(), content, want)
	}
}

// secrets are planted wherever a credential can be; none may be seen anywhere.
const (
	planted  = "pl4nted-s3cret"
	escaped  = "pl4nted/s3cret+two"
	someUser = "deployer"
)

// fails fetches and checks that the error is of a kind, has some words, is one line, and tells no secret
// through any error that it wraps.
func fails(t *testing.T, s *Source, err, kind error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if !errors.Is(err, kind) {
		t.Errorf("error is %v, want one that is %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error is %q, want it to have %q", err, w)
		}
	}
	var all func(error) string
	all = func(err error) string {
		text := fmt.Sprintf("%v %+v %#v", err, err, err.Error())
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range many.Unwrap() {
				text += all(e)
			}
		}
		if e := errors.Unwrap(err); e != nil {
			text += all(e)
		}
		return text
	}
	text := all(err) + fmt.Sprintf("%v %+v %#v %s", s.cfg, s.cfg, s.cfg, s.URL())
	for _, secret := range []string{planted, escaped, "pl4nted%2Fs3cret"} {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is told: %s", text)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has more than one line: %q", err)
	}
}
