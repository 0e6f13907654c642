package volume_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/volume"
)

// tmpfs is the kernel's number for it.
const tmpfs = 0x01021994

func onTmpfs(t *testing.T, path string) bool {
	t.Helper()
	var st syscall.Statfs_t
	must(t, syscall.Statfs(path, &st))
	return st.Type == tmpfs
}

func TestSecretsLieInMemory(t *testing.T) {
	s := whole(t)
	const planted = "hunter2-planted"
	must(t, s.Write("uid", "secret", host.Written{Secret: true, Files: []fleet.File{{Path: "key", Data: []byte(planted), Mode: 0o400}}, Content: "one"}))
	if !onTmpfs(t, filepath.Join(s.Path("uid", "secret", true), "key")) {
		t.Error("the secret does not lie on a tmpfs")
	}
	if info, err := os.Stat(s.Memory); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the tmpfs is open to all: %v, %v", info, err)
	}
	must(t, s.Scratch("uid", "scratch", true, 0))
	if !onTmpfs(t, s.Path("uid", "scratch", true)) {
		t.Error("scratch in memory does not lie on a tmpfs")
	}
	must(t, s.Write("uid", "config", host.Written{Files: []fleet.File{file("a", "1")}, Content: "one"}))
	must(t, filepath.WalkDir(s.Disk, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, err := os.ReadFile(name)
			if bytes.Contains(b, []byte(planted)) {
				t.Errorf("%s has the secret", name)
			}
			return err
		}
		return err
	}))
	// Another store for the same folders, as after a restart of the agent, mounts nothing over it.
	again := &volume.Store{Disk: s.Disk, Memory: s.Memory}
	must(t, again.Prepare())
	all, err := again.List()
	must(t, err)
	if diff := cmp.Diff(map[string]fleet.Volumes{"uid": {"secret": "one", "config": "one"}}, all); diff != "" {
		t.Error(diff)
	}
}

func TestMemoryThatCannotBe(t *testing.T) {
	s := disk(t)
	must(t, os.WriteFile(s.Memory, nil, 0o600)) // a file where the folder should be
	if err := s.Write("uid", "secret", host.Written{Secret: true, Content: "one"}); err == nil {
		t.Error("a secret was written")
	}
	if err := s.Write("uid", "config", host.Written{Content: "one"}); err != nil {
		t.Errorf("what needs no memory failed, too: %v", err)
	}
}

func TestScratch(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := disk(t)
	must(t, s.Scratch("uid", "scratch", false, 0))
	dir := s.Path("uid", "scratch", false)
	if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o777 {
		t.Fatalf("it is %v, %v", info.Mode(), err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "kept"), []byte("1"), 0o600))
	must(t, s.Scratch("uid", "scratch", false, 0))
	if b, err := os.ReadFile(filepath.Join(dir, "kept")); err != nil || string(b) != "1" {
		t.Errorf("it was not kept: %q, %v", b, err)
	}
	must(t, s.Remove("uid"))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}

// A process that was killed between making the folder and opening it to all.
func TestScratchAfterACrash(t *testing.T) {
	s := disk(t)
	dir := s.Path("uid", "scratch", false)
	must(t, os.MkdirAll(dir, 0o700))
	must(t, s.Scratch("uid", "scratch", false, 0))
	if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o777 {
		t.Errorf("it is %v, %v", info.Mode(), err)
	}
}

func TestMemoryLimit(t *testing.T) {
	s := whole(t)
	fill := func(t *testing.T) {
		t.Helper()
		dir := s.Path("uid", "scratch", true)
		must(t, os.WriteFile(filepath.Join(dir, "half"), make([]byte, 512<<10), 0o600))
		if err := os.WriteFile(filepath.Join(dir, "more"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("more than its limit: %v", err)
		}
	}
	t.Run("new", func(t *testing.T) {
		must(t, s.Scratch("uid", "scratch", true, 1<<20))
		fill(t)
		must(t, s.Scratch("uid", "scratch", true, 1<<20)) // kept
		if _, err := os.Stat(filepath.Join(s.Path("uid", "scratch", true), "half")); err != nil {
			t.Error(err)
		}
		must(t, s.Remove("uid"))
		if _, err := os.Stat(s.Path("uid", "scratch", true)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is left: %v", err)
		}
	})
	t.Run("made before a crash, and not yet mounted", func(t *testing.T) {
		must(t, os.MkdirAll(s.Path("uid", "scratch", true), 0o700))
		must(t, s.Scratch("uid", "scratch", true, 1<<20))
		fill(t)
		must(t, s.Remove("uid"))
	})
}

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Mkdir(at("dir"), 0o700))
	must(t, os.WriteFile(at("file"), []byte("1"), 0o600))
	must(t, os.Symlink("file", at("link")))
	must(t, syscall.Mkfifo(at("fifo"), 0o600))
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("socket"), Net: "unix"})
	must(t, err)
	defer socket.Close()
	for _, c := range []struct {
		name string
		kind corev1.HostPathType
		ok   bool
	}{
		{at("none"), corev1.HostPathUnset, true},
		{at("none"), corev1.HostPathDirectory, false},
		{at("none"), corev1.HostPathFile, false},
		{at("none"), corev1.HostPathSocket, false},
		{at("dir"), corev1.HostPathDirectory, true},
		{at("dir"), corev1.HostPathDirectoryOrCreate, true},
		{at("dir"), corev1.HostPathFile, false},
		{at("dir"), corev1.HostPathFileOrCreate, false},
		{at("file"), corev1.HostPathFile, true},
		{at("file"), corev1.HostPathFileOrCreate, true},
		{at("file"), corev1.HostPathDirectory, false},
		{at("file"), corev1.HostPathDirectoryOrCreate, false},
		{at("link"), corev1.HostPathFile, true},
		{at("socket"), corev1.HostPathSocket, true},
		{at("socket"), corev1.HostPathFile, false},
		{"/dev/null", corev1.HostPathCharDev, true},
		{"/dev/null", corev1.HostPathBlockDev, false},
		{at("fifo"), corev1.HostPathBlockDev, false},
		{at("fifo"), corev1.HostPathFileOrCreate, false}, // and it is not waited for
		{at("new/deep/dir"), corev1.HostPathDirectoryOrCreate, true},
		{at("newfile"), corev1.HostPathFileOrCreate, true},
		{at("absent/newfile"), corev1.HostPathFileOrCreate, false}, // Kubernetes makes no folder for it either
	} {
		err := disk(t).HostPath(c.name, c.kind)
		if (err == nil) != c.ok {
			t.Errorf("%s of type %q: %v", c.name, c.kind, err)
		}
	}
	if info, err := os.Stat(at("new/deep/dir")); err != nil || !info.IsDir() {
		t.Errorf("it was not made: %v", err)
	}
	if info, err := os.Stat(at("newfile")); err != nil || !info.Mode().IsRegular() || info.Size() != 0 {
		t.Errorf("it was not made: %v", err)
	}
	if b, err := os.ReadFile(at("file")); err != nil || string(b) != "1" {
		t.Errorf("what was there is not as it was: %q, %v", b, err)
	}
}

func TestListAndRemove(t *testing.T) {
	s := whole(t)
	all, err := s.List()
	must(t, err)
	if len(all) != 0 {
		t.Fatalf("before anything was written: %v", all)
	}
	must(t, s.Prepare())
	must(t, os.MkdirAll(filepath.Join(s.Memory, ".agent", "held"), 0o700))
	must(t, os.WriteFile(filepath.Join(s.Memory, "stray"), nil, 0o600))
	must(t, s.Write("one", "config", host.Written{Content: "h1"}))
	must(t, s.Write("one", "secret", host.Written{Secret: true, Content: "h2"}))
	must(t, s.Scratch("two", "scratch", true, 0))
	must(t, os.MkdirAll(filepath.Join(s.Path("one", "half", false), "..h9"), 0o700)) // written by half
	all, err = s.List()
	must(t, err)
	if diff := cmp.Diff(map[string]fleet.Volumes{"one": {"config": "h1", "secret": "h2"}, "two": {}}, all); diff != "" {
		t.Error(diff)
	}
	must(t, s.Remove("one"))
	must(t, s.Remove("one"))
	must(t, s.Remove("never"))
	all, err = s.List()
	must(t, err)
	if diff := cmp.Diff(map[string]fleet.Volumes{"two": {}}, all); diff != "" {
		t.Error(diff)
	}
	for _, uid := range []string{"", ".", "..", ".agent", "a/b", "/"} {
		if err := s.Remove(uid); err == nil {
			t.Errorf("removed %q", uid)
		}
		if err := s.Scratch(uid, "v", true, 0); err == nil {
			t.Errorf("made a folder for %q", uid)
		}
	}
	if _, err := os.Stat(filepath.Join(s.Memory, ".agent", "held")); err != nil {
		t.Errorf("the agent's own folder: %v", err)
	}
}

// TestMountsBelow: what is mounted below a pod's folder is let go of and not emptied, also where the way to the
// folder leads over a link.
func TestMountsBelow(t *testing.T) {
	lab.Need(t)
	base := t.TempDir()
	must(t, os.Mkdir(filepath.Join(base, "real"), 0o700))
	must(t, os.Symlink("real", filepath.Join(base, "link")))
	for _, way := range []string{"real", "link"} {
		t.Run(way, func(t *testing.T) {
			s := &volume.Store{Disk: filepath.Join(base, way, "disk"), Memory: filepath.Join(base, way, "memory")}
			must(t, s.Scratch("uid", "limited", true, 1<<20))
			must(t, s.Scratch("uid", "plain", false, 0))
			theirs := t.TempDir()
			must(t, os.WriteFile(filepath.Join(theirs, "precious"), nil, 0o600))
			below := filepath.Join(s.Path("uid", "plain", false), "a b")
			must(t, os.Mkdir(below, 0o700))
			must(t, syscall.Mount(theirs, below, "", syscall.MS_BIND, ""))
			must(t, s.Remove("uid"))
			if _, err := os.Stat(filepath.Join(theirs, "precious")); err != nil {
				t.Errorf("what was mounted was emptied: %v", err)
			}
			if all, err := s.List(); err != nil || len(all) > 0 {
				t.Errorf("left: %v, %v", all, err)
			}
			_ = syscall.Unmount(s.Memory, syscall.MNT_DETACH)
		})
	}
}
