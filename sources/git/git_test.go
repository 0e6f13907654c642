package git

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
)

func TestFileURLs(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")) // not parallel: PATH is emptied below
	r := newRepo(t)
	shared := filepath.Join(t.TempDir(), "shared.git")
	r.git(r.work, "clone", "-q", "--bare", "--shared", r.bare, shared)
	linked := filepath.Join(t.TempDir(), "linked")
	r.git(r.work, "worktree", "add", "-q", "-b", "side", linked)
	packed := filepath.Join(t.TempDir(), "packed.git")
	r.git(r.work, "clone", "-q", "--bare", r.bare, packed)
	r.git(packed, "gc", "-q")
	want := r.head()
	t.Setenv("PATH", "") // no git program from here on
	for name, url := range map[string]string{
		"bare": r.bare, "file URL": "file://" + r.bare, "with a work tree": r.work, "its git folder": r.work + "/.git",
		"with alternates": shared, "linked work tree": linked, "packed": "file://localhost" + packed,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, config(t, url))
			snapshot := fetched(t, s, want)
			if diff := cmp.Diff("first commit", snapshot.Title); diff != "" {
				t.Error(diff)
			}
			holds(t, s, want, "apps/db.yaml", "kind: Pod\n")
			fetched(t, s, want)
		})
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	cfg := config(t, r.bare)
	s := open(t, cfg)
	first := fetched(t, s, r.head())
	r.write("apps/web.yaml", "kind: Deployment # 2\n")
	second := r.push("second commit")
	fetched(t, s, second)
	if err := os.RemoveAll(r.bare); err != nil {
		t.Fatal(err)
	}

	again := open(t, cfg)
	holds(t, again, first.Revision, "apps/web.yaml", "kind: Deployment # 1\n")
	holds(t, again, second, "apps/web.yaml", "kind: Deployment # 2\n")
	for _, r := range []fleet.Revision{"", "main", second[:7], fleet.Revision(strings.Repeat("0", 40))} {
		if _, err := again.At(r); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("At(%q): %v", r, err)
		}
	}
	_, err := again.Fetch(t.Context())
	fails(t, again, err, ErrRepository, "there is no Git repository")
	holds(t, again, second, "apps/web.yaml", "kind: Deployment # 2\n")

	about, err := os.Stat(cfg.Dir)
	if err != nil || about.Mode().Perm() != 0o700 {
		t.Errorf("folder of the clone: %v %v", about.Mode(), err)
	}
}

func TestForcePush(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	s := open(t, config(t, r.bare))
	base := r.head()
	fetched(t, s, base)
	r.write("apps/web.yaml", "kind: Deployment # 2\n")
	old := r.push("to be dropped")
	fetched(t, s, old)

	r.git(r.work, "reset", "-q", "--hard", string(base))
	r.write("apps/web.yaml", "kind: Deployment # 3\n")
	forced := r.push("instead")
	r.git(r.bare, "reflog", "expire", "--expire=now", "--all")
	r.git(r.bare, "gc", "-q", "--prune=now") // so that the server no longer has what we tell that we have
	fetched(t, s, forced)
	holds(t, s, forced, "apps/web.yaml", "kind: Deployment # 3\n")
	holds(t, s, old, "apps/web.yaml", "kind: Deployment # 2\n")

	r.git(r.work, "reset", "-q", "--hard", string(base))
	r.git(r.work, "push", "-q", "--force", "origin", "HEAD")
	fetched(t, s, base)
}

func TestMerges(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	s := open(t, config(t, r.bare))
	fetched(t, s, r.head())
	r.git(r.work, "checkout", "-q", "-b", "topic")
	r.write("topic.yaml", "t")
	r.push("topic")
	r.git(r.work, "checkout", "-q", "main")
	r.write("main.yaml", "m")
	r.push("main")
	r.git(r.work, "merge", "-q", "--no-ff", "-m", "merge", "topic")
	merged := r.push("after the merge")
	fetched(t, s, merged)
	holds(t, s, merged, "topic.yaml", "t")
	holds(t, s, fleet.Revision(r.git(r.work, "rev-parse", "topic")), "topic.yaml", "t")
}

func TestBranches(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	first := r.head()
	r.git(r.work, "checkout", "-q", "-b", "feature/x")
	r.write("x.yaml", "x")
	side := r.push("on a branch")
	empty := filepath.Join(t.TempDir(), "empty.git")
	r.git(r.work, "init", "-q", "--bare", empty)
	unborn := filepath.Join(t.TempDir(), "unborn.git")
	r.git(r.work, "clone", "-q", "--bare", r.bare, unborn)
	r.git(unborn, "symbolic-ref", "HEAD", "refs/heads/nowhere")
	shallow := filepath.Join(t.TempDir(), "shallow.git")
	r.git(r.work, "clone", "-q", "--bare", "--depth=1", "--branch=feature/x", "file://"+r.bare, shallow)

	tests := map[string]struct {
		url, branch string
		want        fleet.Revision
		kind        error
		text        string
	}{
		"the remote's HEAD": {url: r.bare, want: first},
		"a branch":          {url: r.bare, branch: "feature/x", want: side},
		"no such branch":    {url: r.bare, branch: "prod", kind: ErrBranch, text: "one of feature/x, main"},
		"empty":             {url: empty, branch: "main", kind: ErrBranch, text: "is empty: push"},
		"HEAD is unborn":    {url: unborn, kind: ErrBranch, text: "HEAD names no branch"},
		"shallow":           {url: shallow, kind: ErrRepository, text: "--unshallow"},
		"a plain folder":    {url: t.TempDir(), kind: ErrRepository, text: "no Git repository"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, test.url)
			cfg.Branch = test.branch
			s := open(t, cfg)
			if test.kind == nil {
				fetched(t, s, test.want)
				return
			}
			_, err := s.Fetch(t.Context())
			fails(t, s, err, test.kind, test.text, "fetch home from ")
		})
	}
}

func TestVanishedBranch(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	s := open(t, config(t, r.bare))
	good := r.head()
	fetched(t, s, good)
	r.git(r.bare, "branch", "-m", "main", "trunk")
	_, err := s.Fetch(t.Context())
	fails(t, s, err, ErrBranch, "no branch main", "trunk")
	holds(t, s, good, "apps/db.yaml", "kind: Pod\n")
	r.git(r.bare, "branch", "-m", "trunk", "main")
	fetched(t, s, good)
}

// Each case breaks a clone as a crash, a full disk or a power cut may. In each the next fetch must mend it.
func TestDamage(t *testing.T) {
	t.Parallel()
	packs := func(t *testing.T, dir, ext string) []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, currentDir, "objects", "pack", "*."+ext))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", ext, err)
		}
		return found
	}
	each := func(names []string, do func(string) error) error {
		var errs []error
		for _, n := range names {
			errs = append(errs, os.Chmod(n, 0o600), do(n))
		}
		return errors.Join(errs...)
	}
	cut := func(name string) error {
		about, err := os.Stat(name)
		if err != nil {
			return err
		}
		return os.Truncate(name, about.Size()/2)
	}
	tests := map[string]func(t *testing.T, dir string) error{
		"pack cut off":  func(t *testing.T, dir string) error { return each(packs(t, dir, "pack"), cut) },
		"index cut off": func(t *testing.T, dir string) error { return each(packs(t, dir, "idx"), cut) },
		"pack gone":     func(t *testing.T, dir string) error { return each(packs(t, dir, "pack"), os.Remove) },
		"index gone":    func(t *testing.T, dir string) error { return each(packs(t, dir, "idx"), os.Remove) },
		"pack empty": func(t *testing.T, dir string) error {
			return each(packs(t, dir, "pack"), func(n string) error { return os.Truncate(n, 0) })
		},
		"objects gone": func(_ *testing.T, dir string) error { return os.RemoveAll(filepath.Join(dir, currentDir, "objects")) },
		"ref empty": func(_ *testing.T, dir string) error {
			return os.Truncate(filepath.Join(dir, currentDir, string(tipRef)), 0)
		},
		"clone gone": func(_ *testing.T, dir string) error { return os.RemoveAll(filepath.Join(dir, currentDir)) },
		"cut in renaming": func(_ *testing.T, dir string) error {
			return os.Rename(filepath.Join(dir, currentDir), filepath.Join(dir, lastDir))
		},
		"half a clone": func(_ *testing.T, dir string) error {
			return os.MkdirAll(filepath.Join(dir, nextDir, "objects"), 0o700)
		},
		"zeros inside a pack": func(t *testing.T, dir string) error {
			return each(packs(t, dir, "pack"), func(n string) error {
				content, err := os.ReadFile(n)
				if err != nil {
					return err
				}
				clear(content[12 : len(content)-20])
				return os.WriteFile(n, content, 0o600)
			})
		},
		"left by a killed fetch": func(_ *testing.T, dir string) error {
			pack := filepath.Join(dir, currentDir, "objects", "pack")
			return errors.Join(os.WriteFile(filepath.Join(pack, "tmp_pack_1"), []byte("PACK"), 0o600),
				os.WriteFile(filepath.Join(pack, "pack-"+strings.Repeat("1", 40)+".idx"), []byte("x"), 0o600))
		},
	}
	for name, damage := range tests {
		for _, alive := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " while running", false: ""}[alive], func(t *testing.T) {
				t.Parallel()
				r := newRepo(t)
				cfg := config(t, r.bare)
				s := open(t, cfg)
				first := r.head()
				fetched(t, s, first)
				if err := damage(t, cfg.Dir); err != nil {
					t.Fatal(err)
				}
				if !alive {
					s = open(t, cfg)
				}
				if snapshot, err := s.At(first); err == nil {
					_, _ = fs.ReadFile(snapshot.Files, "apps/web.yaml") // may fail, must not panic
				} else if !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
				r.write("apps/web.yaml", "kind: Deployment # 2\n")
				second := r.push("second")
				fetched(t, s, second)
				s = open(t, cfg)
				holds(t, s, first, "apps/web.yaml", "kind: Deployment # 1\n")
				holds(t, s, second, "apps/web.yaml", "kind: Deployment # 2\n")
				r.git(filepath.Join(cfg.Dir, currentDir), "fsck", "--full", "--strict")
			})
		}
	}
}

// A file that a later reader finds broken makes the next fetch begin again, even when nothing moved; until
// that has worked, the old clone stays.
func TestDamageFoundByReading(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	cfg := config(t, r.bare)
	s := open(t, cfg)
	want := r.head()
	snapshot := fetched(t, s, want)
	s.clone().damaged.Store(true)
	if err := os.Rename(r.bare, r.bare+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Fetch(t.Context())
	fails(t, s, err, ErrRepository)
	holds(t, s, want, "apps/db.yaml", "kind: Pod\n")
	if err := os.Rename(r.bare+".away", r.bare); err != nil {
		t.Fatal(err)
	}
	fetched(t, s, want)
	if s.clone().damaged.Load() {
		t.Error("still damaged")
	}
	if _, err := fs.ReadFile(snapshot.Files, "apps/db.yaml"); err != nil {
		t.Errorf("a snapshot from before: %v", err)
	}
}

func TestReadersDuringFetch(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	s := open(t, config(t, r.bare))
	snapshot := fetched(t, s, r.head())
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := fs.WalkDir(snapshot.Files, ".", func(name string, e fs.DirEntry, err error) error {
						if err == nil && !e.IsDir() {
							_, err = fs.ReadFile(snapshot.Files, name)
						}
						return err
					}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 3 {
		fetched(t, s, r.push("again"))
	}
	s.clone().damaged.Store(true)
	fetched(t, s, r.push("replaced"))
	close(stop)
	readers.Wait()
}

func TestTidy(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	cfg := config(t, r.bare)
	s := open(t, cfg)
	first := r.head()
	fetched(t, s, first)
	var last fleet.Revision
	for range manyPacks {
		last = r.push("again")
		fetched(t, s, last)
	}
	packs, err := filepath.Glob(filepath.Join(cfg.Dir, currentDir, "objects", "pack", "*.pack"))
	if err != nil || len(packs) > manyPacks/2 {
		t.Errorf("%d packs, %v", len(packs), err)
	}
	holds(t, s, first, "apps/db.yaml", "kind: Pod\n")
	holds(t, open(t, cfg), last, "apps/db.yaml", "kind: Pod\n")
	r.git(filepath.Join(cfg.Dir, currentDir), "fsck", "--full", "--strict")
}

func TestCancelledLocalFetch(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	s := open(t, config(t, r.bare))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Fetch(ctx)
	fails(t, s, err, context.Canceled, "stopped")
}

func TestTitle(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"one line":                      "one line",
		"\n\n web: roll \n\nbody":       "web: roll",
		"":                              "",
		strings.Repeat("é", 120):        strings.Repeat("é", 100),
		"red \x1b[31malert\x07 \xffend": "red [31malert end",
	} {
		if diff := cmp.Diff(want, title(message)); diff != "" {
			t.Error(diff)
		}
	}
}
