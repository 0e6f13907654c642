package dir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources"
)

// lay writes files under a new folder; a name that ends in @ becomes a symlink to its content.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for name, content := range files {
		full := filepath.Join(top, strings.TrimSuffix(name, "@"))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(name, "@") {
			err = os.Symlink(content, full)
		} else {
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return top
}

func fetch(t *testing.T, s *Source) sources.Snapshot {
	t.Helper()
	snapshot, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

func open(t *testing.T, name string) *Source {
	t.Helper()
	s, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestFolderAsFS(t *testing.T) {
	t.Parallel()
	top := lay(t, map[string]string{"a.yaml": "a", "deep/er/b.yaml": "b", "link@": "deep/er", "file@": "link/b.yaml"})
	snapshot := fetch(t, open(t, top))
	if snapshot.Dir != "." {
		t.Errorf("dir is %q", snapshot.Dir)
	}
	if err := fstest.TestFS(snapshot.Files, "a.yaml", "deep/er/b.yaml", "link/b.yaml", "file"); err != nil {
		t.Error(err)
	}
}

func TestRevision(t *testing.T) {
	t.Parallel()
	base := map[string]string{"a.yaml": "one", "b/c.yaml": "two"}
	revision := func(files map[string]string) fleet.Revision {
		return fetch(t, open(t, lay(t, files))).Revision
	}
	want := revision(base)
	if !strings.HasPrefix(string(want), "dir-") || len(want) != 44 {
		t.Errorf("revision is %q", want)
	}
	tests := map[string]struct {
		files map[string]string
		same  bool
	}{
		"elsewhere":             {base, true},
		"dot folders aside":     {map[string]string{"a.yaml": "one", "b/c.yaml": "two", ".cache/x": "x", ".git/HEAD": "y"}, true},
		"content":               {map[string]string{"a.yaml": "one", "b/c.yaml": "three"}, false},
		"name":                  {map[string]string{"a.yaml": "one", "b/d.yaml": "two"}, false},
		"added":                 {map[string]string{"a.yaml": "one", "b/c.yaml": "two", "d.yaml": ""}, false},
		"a link that leads out": {map[string]string{"a.yaml": "one", "b/c.yaml": "two", "x@": "/etc/passwd"}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := revision(test.files); (got == want) != test.same {
				t.Errorf("same is %v, want %v", got == want, test.same)
			}
		})
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	top := lay(t, map[string]string{"a.yaml": "one"})
	s := open(t, top)
	for _, r := range []fleet.Revision{"", "dir-0"} {
		if _, err := s.At(r); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("At(%q) before a fetch: %v", r, err)
		}
	}
	first := fetch(t, s)
	if got, err := s.At(first.Revision); err != nil || got.Revision != first.Revision {
		t.Errorf("At of what was fetched: %v", err)
	}
	if err := os.WriteFile(filepath.Join(top, "a.yaml"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	fetch(t, s)
	if _, err := s.At(first.Revision); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("At of an earlier revision: %v", err)
	}
}

func TestSingleFile(t *testing.T) {
	t.Parallel()
	top := lay(t, map[string]string{"web.yaml": "web", "other.yaml": "other", "sub/x.yaml": "x"})
	snapshot := fetch(t, open(t, filepath.Join(top, "web.yaml")))
	if snapshot.Dir != "." {
		t.Errorf("dir is %q", snapshot.Dir)
	}
	if err := fstest.TestFS(snapshot.Files, "web.yaml"); err != nil {
		t.Error(err)
	}
	for _, hidden := range []string{"other.yaml", "sub", "sub/x.yaml"} {
		if _, err := snapshot.Files.Open(hidden); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v", hidden, err)
		}
	}
}

func TestWorkTree(t *testing.T) {
	t.Parallel()
	top := lay(t, map[string]string{
		".git/config":                       "secret",
		"base/kustomization.yaml":           "base",
		"overlays/prod/kustomization.yaml":  "prod",
		"overlays/prod/common.yaml@":        "../../base/kustomization.yaml",
		"linked/.git":                       "gitdir: elsewhere",
		"linked/overlay/kustomization.yaml": "linked",
	})
	tests := map[string]struct{ at, dir, shown, hidden string }{
		"overlay":     {"overlays/prod", "overlays/prod", "base/kustomization.yaml", ".git/config"},
		"top":         {".", ".", "overlays/prod/common.yaml", ".git"},
		"linked tree": {"linked/overlay", "overlay", "overlay/kustomization.yaml", "base"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			snapshot := fetch(t, open(t, filepath.Join(top, test.at)))
			if diff := cmp.Diff(test.dir, snapshot.Dir); diff != "" {
				t.Error(diff)
			}
			if _, err := fs.ReadFile(snapshot.Files, test.shown); err != nil {
				t.Error(err)
			}
			if _, err := fs.Stat(snapshot.Files, test.hidden); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("stat %s: %v", test.hidden, err)
			}
		})
	}
}

func TestSymlinks(t *testing.T) {
	t.Parallel()
	top := lay(t, map[string]string{
		"dir/file.yaml": "in", "in@": "dir/file.yaml", "folder@": "dir", "dir/up@": "../in",
		"absolute@": "/etc/hostname", "out@": "../../etc/hostname", "chain@": "out", "through@": "dir/../../x",
		"dangling@": "nowhere", "self@": "self", "dir/round@": "..",
	})
	if err := syscall.Mkfifo(filepath.Join(top, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := fetch(t, open(t, top)).Files
	tests := map[string]struct {
		want error
		text string // for a file that opens its content, otherwise part of the error
	}{
		"in":               {nil, "in"},
		"folder/file.yaml": {nil, "in"},
		"dir/up":           {nil, "in"},
		"absolute":         {ErrEscape, "absolute points to /etc/hostname"},
		"out":              {ErrEscape, "out points to ../../etc/hostname"},
		"chain":            {ErrEscape, "out points to ../../etc/hostname"},
		"through":          {ErrEscape, "through points to dir/../../x"},
		"dangling":         {fs.ErrNotExist, "dangling points to nowhere"},
		"self":             {ErrLoop, "self"},
		"dir/round":        {ErrLoop, "came through"},
		"pipe":             {nil, ""},
		"../x":             {fs.ErrInvalid, "../x"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, err := fs.ReadFile(files, name)
			if name == "pipe" {
				if err == nil || !strings.Contains(err.Error(), "neither") {
					t.Errorf("error is %v", err)
				}
				return
			}
			if !errors.Is(err, test.want) {
				t.Fatalf("error is %v, want %v", err, test.want)
			}
			if err == nil && string(content) != test.text {
				t.Errorf("content is %q", content)
			}
			if _, ok := errors.AsType[*fs.PathError](err); err != nil && (!ok || !strings.Contains(err.Error(), test.text)) {
				t.Errorf("error is %v, want a PathError with %q", err, test.text)
			}
		})
	}
	list, err := fs.ReadDir(files, ".")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, e := range list {
		if e.Type()&^fs.ModeDir != 0 {
			t.Errorf("%s is listed as %v", e.Name(), e.Type())
		}
		got[e.Name()] = e.IsDir()
	}
	want := map[string]bool{"dir": true, "in": false, "folder": true, "absolute": false, "out": false, "chain": false,
		"through": false, "dangling": false, "self": false, "pipe": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOpenFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ path, text string }{
		"no path":   {"", "no path given"},
		"not there": {filepath.Join(t.TempDir(), "x"), "no such folder or file"},
		"a device":  {"/dev/null", "neither a folder nor a regular file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Open(test.path); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error is %v, want %q", err, test.text)
			}
		})
	}
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		if _, err := open(t, lay(t, map[string]string{".git/HEAD": ""})).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "is empty") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestLargeFile(t *testing.T) {
	t.Parallel()
	top := lay(t, map[string]string{"big.yaml": "", "small.yaml": ""})
	if err := os.Truncate(filepath.Join(top, "big.yaml"), MaxFile+1); err != nil {
		t.Fatal(err)
	}
	files := fetch(t, open(t, top)).Files
	if _, err := fs.ReadFile(files, "big.yaml"); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "big.yaml") {
		t.Errorf("error is %v", err)
	}
}
