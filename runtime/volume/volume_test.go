package volume_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/volume"
)

// disk is a store of which only the part on disk is used.
func disk(t *testing.T) *volume.Store {
	return &volume.Store{Disk: filepath.Join(t.TempDir(), "disk"), Memory: filepath.Join(t.TempDir(), "memory")}
}

// whole is a store that makes its Memory a tmpfs.
func whole(t *testing.T) *volume.Store {
	t.Helper()
	lab.Need(t)
	s := disk(t)
	t.Cleanup(func() {
		if err := syscall.Unmount(s.Memory, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			t.Error(err)
		}
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func file(path, data string) fleet.File {
	return fleet.File{Path: path, Data: []byte(data), Mode: 0o644}
}

// tree is all there is below a folder, as path → mode, link or content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			got[rel] = info.Mode().String()
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(name)
			got[rel] = "-> " + to
			return err
		default:
			b, err := os.ReadFile(name)
			got[rel] = info.Mode().String() + " " + string(b)
			return err
		}
		return nil
	}))
	return got
}

func TestWrite(t *testing.T) {
	// A umask that would take away what containers need.
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := disk(t)
	files := []fleet.File{file("a", "1"), file("sub/deep/b", "2"), file("sub/c", "3"), {Path: "x", Data: []byte("run"), Mode: 0o555}, {Path: "y", Data: []byte("key"), Mode: 0o400}}
	must(t, s.Write("uid", "config", host.Written{Files: files, Content: "one"}))
	dir := s.Path("uid", "config", false)
	want := map[string]string{
		".": "drwxr-xr-x", "..data": "-> ..one", "..one": "drwxr-xr-x", "..one/sub": "drwxr-xr-x", "..one/sub/deep": "drwxr-xr-x",
		"a": "-> ..data/a", "sub": "-> ..data/sub", "x": "-> ..data/x", "y": "-> ..data/y",
		"..one/a": "-rw-r--r-- 1", "..one/sub/deep/b": "-rw-r--r-- 2", "..one/sub/c": "-rw-r--r-- 3",
		"..one/x": "-r-xr-xr-x run", "..one/y": "-r-------- key",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Fatal(diff)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "sub/deep/b")); err != nil || string(b) != "2" {
		t.Fatalf("read through the link: %q, %v", b, err)
	}

	t.Run("again changes nothing", func(t *testing.T) {
		before, err := os.Stat(filepath.Join(dir, "..one"))
		must(t, err)
		must(t, s.Write("uid", "config", host.Written{Files: files, Content: "one"}))
		after, err := os.Stat(filepath.Join(dir, "..one"))
		must(t, err)
		if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
			t.Error("it was written again")
		}
	})
	t.Run("what is no more vanishes", func(t *testing.T) {
		must(t, s.Write("uid", "config", host.Written{Files: []fleet.File{file("a", "new"), file("z", "5")}, Content: "two"}))
		want := map[string]string{
			".": "drwxr-xr-x", "..data": "-> ..two", "..two": "drwxr-xr-x", "a": "-> ..data/a", "z": "-> ..data/z",
			"..two/a": "-rw-r--r-- new", "..two/z": "-rw-r--r-- 5",
		}
		if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("nothing at all", func(t *testing.T) {
		must(t, s.Write("uid", "config", host.Written{Content: "none"}))
		if diff := cmp.Diff(map[string]string{".": "drwxr-xr-x", "..data": "-> ..none", "..none": "drwxr-xr-x"}, tree(t, dir)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWriteRefuses(t *testing.T) {
	s := disk(t)
	must(t, s.Write("uid", "config", host.Written{Files: []fleet.File{file("a", "1")}, Content: "one"}))
	before := tree(t, s.Path("uid", "config", false))
	for _, path := range []string{"../x", "/etc/x", "a/../../x", "..", ".", "", "sub/..", "..data", "..data/x", "..one/a", "..data_new"} {
		if err := s.Write("uid", "config", host.Written{Files: []fleet.File{file(path, "2")}, Content: "two"}); err == nil {
			t.Errorf("wrote %q", path)
		} else if strings.Contains(err.Error(), "2") && path == "" {
			t.Errorf("the error has the content: %v", err)
		}
		if volumes, _ := s.List(); volumes["uid"]["config"] != "one" {
			t.Errorf("after %q it is listed as %s", path, volumes["uid"]["config"])
		}
	}
	must(t, s.Write("uid", "config", host.Written{Files: []fleet.File{file("a", "1")}, Content: "one"}))
	if diff := cmp.Diff(before, tree(t, s.Path("uid", "config", false))); diff != "" {
		t.Errorf("a refused write left something behind: %s", diff)
	}
}

// A process that was killed in the midst of a write leaves one of these.
func TestWriteAfterACrash(t *testing.T) {
	files := []fleet.File{file("a", "1"), file("b", "2")}
	for _, c := range []struct {
		name  string
		crash func(t *testing.T, dir string)
	}{
		{"half a set", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, "..new/sub"), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "..new/a"), []byte("half"), 0o600))
		}},
		{"a link that was not yet swapped in", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, "..new"), 0o700))
			must(t, os.Symlink("..new", filepath.Join(dir, "..data_new")))
		}},
		{"swapped, and nothing after that", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, "..new"), 0o755))
			for _, f := range files {
				must(t, os.WriteFile(filepath.Join(dir, "..new", f.Path), f.Data, 0o644))
			}
			must(t, os.Symlink("..new", filepath.Join(dir, "..data_new")))
			must(t, os.Rename(filepath.Join(dir, "..data_new"), filepath.Join(dir, "..data")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := disk(t)
			must(t, s.Write("uid", "config", host.Written{Files: []fleet.File{file("a", "old"), file("gone", "old")}, Content: "old"}))
			dir := s.Path("uid", "config", false)
			c.crash(t, dir)
			must(t, s.Write("uid", "config", host.Written{Files: files, Content: "new"}))
			want := map[string]string{
				".": "drwxr-xr-x", "..data": "-> ..new", "..new": "drwxr-xr-x", "a": "-> ..data/a", "b": "-> ..data/b",
				"..new/a": "-rw-r--r-- 1", "..new/b": "-rw-r--r-- 2",
			}
			if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A reader sees one set or another, never a mix of the two, and never nothing.
func TestWriteIsAtomic(t *testing.T) {
	s := disk(t)
	set := func(n int) []fleet.File {
		return []fleet.File{file("a", fmt.Sprint(n)), file("b", fmt.Sprint(n)), file(fmt.Sprintf("only%d", n%2), "")}
	}
	must(t, s.Write("uid", "config", host.Written{Files: set(0), Content: "h0"}))
	dir := s.Path("uid", "config", false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; n <= 400; n++ {
			if err := s.Write("uid", "config", host.Written{Files: set(n), Content: fleet.Hash(fmt.Sprintf("h%d", n))}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	whole := 0
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		at, err := os.Readlink(filepath.Join(dir, "..data"))
		if err != nil {
			t.Fatalf("there is nothing: %v", err)
		}
		a, errA := os.ReadFile(filepath.Join(dir, at, "a"))
		b, errB := os.ReadFile(filepath.Join(dir, at, "b"))
		if errA != nil || errB != nil { // that set went meanwhile, or it was not whole
			if now, _ := os.Readlink(filepath.Join(dir, "..data")); now == at {
				t.Fatalf("the set %s is not whole: %v, %v", at, errA, errB)
			}
			continue
		}
		whole++
		if string(a) != string(b) || "..h"+string(a) != at {
			t.Fatalf("%s has %q and %q", at, a, b)
		}
	}
	if whole == 0 {
		t.Error("no read saw anything")
	}
}

// The links of new files are there before their content is, and not after: a process that dies at once
// after the swap has nothing left to do that a reader would miss.
func TestLinksComeFirst(t *testing.T) {
	s := disk(t)
	must(t, s.Write("uid", "config", host.Written{Files: []fleet.File{file("a", "1")}, Content: "one"}))
	dir := s.Path("uid", "config", false)
	done := make(chan error, 1)
	go func() {
		for n := range 300 {
			if err := s.Write("uid", "config", host.Written{Files: []fleet.File{file(fmt.Sprintf("f%d", n), "x")}, Content: fleet.Hash(fmt.Sprintf("h%d", n))}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			must(t, err)
			return
		default:
		}
		at, err := os.Readlink(filepath.Join(dir, "..data"))
		must(t, err)
		name := strings.Replace(at, "..h", "f", 1)
		if at == "..one" {
			name = "a"
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			if now, _ := os.Readlink(filepath.Join(dir, "..data")); now == at {
				t.Fatalf("%s is in, and has no link %s", at, name)
			}
		}
	}
}
