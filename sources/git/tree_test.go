package git

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func (r *repo) link(name, target string) {
	r.t.Helper()
	full := filepath.Join(r.work, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.Symlink(target, full)); err != nil {
		r.t.Fatal(err)
	}
}

func TestTreeAsFS(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("deep/er/and/deeper/file", "x")
	r.write("empty", "")
	r.write("run.sh", "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(r.work, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.write("apps.d", "sorts before the folder apps/ in Git, and after it by name")
	r.link("inside", "deep/er")
	r.link("file", "inside/and/deeper/file")
	s := open(t, config(t, r.bare))
	files := fetched(t, s, r.push("files")).Files
	err := fstest.TestFS(files, "apps/web.yaml", "apps/db.yaml", "deep/er/and/deeper/file", "empty", "run.sh", "apps.d", "inside/and/deeper/file", "file")
	if err != nil {
		t.Error(err)
	}
	for name, want := range map[string]fs.FileMode{"run.sh": 0o555, "empty": 0o444, "apps": fs.ModeDir | 0o555} {
		if about, err := fs.Stat(files, name); err != nil || about.Mode() != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	for path, want := range map[string]string{"": ".", "/": ".", "./apps/": "apps", "/apps": "apps", "not/there": "not/there"} {
		cfg := config(t, r.bare)
		cfg.Path = path
		if got := fetched(t, open(t, cfg), r.head()).Dir; got != want {
			t.Errorf("path %q is folder %q, want %q", path, got, want)
		}
	}
}

func TestSymlinks(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("a/file", "in")
	r.write("big", strings.Repeat("0123456789abcdef", MaxFile/16)+"!")
	sub := newRepo(t)
	r.git(r.work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", sub.bare, "sub")
	for name, target := range map[string]string{
		"link": "a/file", "folder": "a", "chain": "chain2", "chain2": "a/../link", "a/up": "../apps/web.yaml",
		"slash": "a/", "b/two": "../folder/up", "absolute": "/etc/passwd", "out": "../etc/passwd", "a/out": "../../x",
		"via": "a/out", "behind": "folder/../../x", "dangling": "nowhere", "self": "self", "ping": "pong", "pong": "ping",
		"a/round": "..", "here": ".", "intosub": "sub/apps", "notfolder": "a/file/x", "c/d": "../e/f", "e/f": "../c",
	} {
		r.link(name, target)
	}
	s := open(t, config(t, r.bare))
	files := fetched(t, s, r.push("links")).Files
	tests := map[string]struct {
		want error
		text string // the content, or part of the error
	}{
		"link":        {nil, "in"},
		"folder/file": {nil, "in"},
		"slash/file":  {nil, "in"},
		"chain":       {nil, "in"},
		"a/up":        {nil, "kind: Deployment # 1\n"},
		"folder/up":   {nil, "kind: Deployment # 1\n"},
		"b/two":       {nil, "kind: Deployment # 1\n"},
		"absolute":    {ErrEscape, "absolute points to /etc/passwd"},
		"out":         {ErrEscape, "out points to ../etc/passwd"},
		"a/out":       {ErrEscape, "a/out points to ../../x"},
		"folder/out":  {ErrEscape, "a/out points to ../../x"},
		"via":         {ErrEscape, "a/out points to ../../x"},
		"behind":      {ErrEscape, "behind points to folder/../../x"},
		"dangling":    {fs.ErrNotExist, "dangling points to nowhere"},
		"notfolder":   {fs.ErrNotExist, "notfolder"},
		"link/x":      {fs.ErrNotExist, "link/x"},
		"self":        {ErrLoop, "self points to self"},
		"ping":        {ErrLoop, "points to p"},
		"a/round/a":   {ErrLoop, "came through"},
		"here":        {ErrLoop, "came through"},
		"c/d/d":       {ErrLoop, "came through"},
		"sub":         {ErrSubmodule, "sub"},
		"sub/apps":    {ErrSubmodule, "not followed"},
		"intosub":     {ErrSubmodule, "not followed"},
		"big":         {ErrTooLarge, "big"},
		"../x":        {fs.ErrInvalid, "../x"},
		"":            {fs.ErrInvalid, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, err := fs.ReadFile(files, name)
			if !errors.Is(err, test.want) {
				t.Fatalf("error is %v, want %v", err, test.want)
			}
			if err == nil {
				if diff := cmp.Diff(test.text, string(content)); diff != "" {
					t.Error(diff)
				}
				return
			}
			if _, ok := errors.AsType[*fs.PathError](err); !ok || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error is %v, want a PathError with %q", err, test.text)
			}
			if _, again := files.Open(name); !errors.Is(again, test.want) {
				t.Errorf("open: %v, want %v", again, test.want)
			}
		})
	}

	got := map[string]bool{}
	seen := 0
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if seen++; !strings.Contains(name, "/") {
			got[name] = e.IsDir()
		}
		if e.Type()&^fs.ModeDir != 0 {
			t.Errorf("%s is listed as %v", name, e.Type())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{".": true, ".gitmodules": false, "a": true, "apps": true, "b": true, "c": true, "e": true, "folder": true, "slash": true,
		"absolute": false, "behind": false, "big": false, "chain": false, "chain2": false, "dangling": false, "here": false, "intosub": false,
		"link": false, "notfolder": false, "out": false, "ping": false, "pong": false, "self": false, "via": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s.clone().damaged.Load() {
		t.Error("links made the clone look damaged")
	}
}
