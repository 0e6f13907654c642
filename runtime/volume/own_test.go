package volume_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
)

const group = 2345

// owners is all there is from a path on, as path → mode in octal, with its type, and group.
func owners(t *testing.T, root string) map[string]string {
	t.Helper()
	got := map[string]string{}
	must(t, filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		must(t, syscall.Lstat(name, &st))
		rel, _ := filepath.Rel(root, name)
		got[rel] = fmt.Sprintf("%o %d", st.Mode, st.Gid)
		return nil
	}))
	return got
}

func chmod(t *testing.T, name string, mode uint32) {
	t.Helper()
	must(t, syscall.Chmod(name, mode)) // os.Chmod has bits of its own
}

func TestOwn(t *testing.T) {
	lab.Need(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "file"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(outside, "dir"), 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "dir", "file"), nil, 0o600))
	before := owners(t, outside)

	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	chmod(t, dir, 0o700)
	must(t, os.MkdirAll(at("a/b"), 0o700))
	for name, mode := range map[string]uint32{"none": 0, "read": 0o400, "run": 0o755, "suid": 0o4755, "a/b/deep": 0o600} {
		must(t, os.WriteFile(at(name), nil, 0o600))
		chmod(t, at(name), mode)
	}
	chmod(t, at("a"), 0o1000)
	must(t, syscall.Mkfifo(at("fifo"), 0o600))
	for name, to := range map[string]string{
		"inner": "read", "file": outside + "/file", "dir": outside + "/dir", "up": "../..", "none-such": "none/such", "a/b/loop": "loop",
	} {
		must(t, os.Symlink(to, at(name)))
	}

	must(t, disk(t).Own(dir, group, false))
	want := map[string]string{
		".": "42770 2345", "a": "43770 2345", "a/b": "42770 2345", "a/b/deep": "100660 2345", "a/b/loop": "120777 2345",
		"none": "100660 2345", "read": "100660 2345", "run": "100775 2345", "suid": "104775 2345", "fifo": "10660 2345",
		"inner": "120777 2345", "file": "120777 2345", "dir": "120777 2345", "up": "120777 2345", "none-such": "120777 2345",
	}
	if diff := cmp.Diff(want, owners(t, dir)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, owners(t, outside)); diff != "" {
		t.Errorf("outside: %s", diff)
	}
	must(t, os.WriteFile(at("a/later"), nil, 0o600))
	if got := owners(t, at("a"))["later"]; got != "100600 2345" {
		t.Errorf("what is made later is %s", got)
	}

	t.Run("again touches nothing", func(t *testing.T) {
		old, err := os.Stat(at("run"))
		must(t, err)
		must(t, disk(t).Own(dir, group, false))
		now, err := os.Stat(at("run"))
		must(t, err)
		if old.Sys().(*syscall.Stat_t).Ctim != now.Sys().(*syscall.Stat_t).Ctim {
			t.Error("it was changed")
		}
	})
	t.Run("a single file", func(t *testing.T) {
		must(t, os.Chown(at("read"), 0, 0))
		must(t, disk(t).Own(at("read"), group, true))
		if got := owners(t, at("read"))["."]; got != "100660 2345" {
			t.Errorf("it is %s", got)
		}
	})
	t.Run("what cannot be", func(t *testing.T) {
		for _, g := range []int64{-1, 1<<32 - 1, 1 << 32} {
			if err := disk(t).Own(dir, g, false); err == nil {
				t.Errorf("there is a group %d", g)
			}
		}
		if err := disk(t).Own(at("no"), group, true); err == nil {
			t.Error("what is not there was given")
		}
	})
}

func TestOwnWhereTheRootDiffers(t *testing.T) {
	lab.Need(t)
	for _, c := range []struct {
		name  string
		gid   int
		mode  uint32
		skips bool
	}{
		{"as it should be", group, 0o2770, true},
		{"more than it should be", group, 0o3777, true},
		{"another group", 0, 0o2770, false},
		{"no setgid", group, 0o770, false},
		{"not to be written to", group, 0o2750, false},
		{"not to be searched", group, 0o2760, false},
		{"its owner may not write", group, 0o2570, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "root")
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
			must(t, os.Chown(dir, 0, c.gid))
			chmod(t, dir, c.mode)
			must(t, disk(t).Own(dir, group, true))
			want := map[string]string{".": fmt.Sprintf("4%o %d", c.mode|0o2770, group), "file": "100660 2345"}
			if c.skips {
				want["file"] = "100600 0"
			}
			if diff := cmp.Diff(want, owners(t, dir)); diff != "" {
				t.Error(diff)
			}
			must(t, disk(t).Own(dir, group, false))
			if got := owners(t, dir)["file"]; got != "100660 2345" {
				t.Errorf("without looking at the root the file is %s", got)
			}
		})
	}
}

// One that was cut short, here by what cannot be changed, does not look as if all were done.
func TestOwnInHalves(t *testing.T) {
	s := whole(t)
	dir := t.TempDir()
	below := filepath.Join(dir, "a", "b")
	must(t, os.MkdirAll(below, 0o700))
	must(t, syscall.Mount("tmpfs", below, "tmpfs", syscall.MS_RDONLY, ""))
	if err := s.Own(dir, group, true); err == nil || !strings.Contains(err.Error(), below) {
		t.Errorf("what cannot be changed was changed: %v", err)
	}
	must(t, syscall.Unmount(below, 0))
	must(t, s.Own(dir, group, true))
	if got := owners(t, dir)["a/b"]; got != "42770 2345" {
		t.Errorf("it is %s", got)
	}
}

// A container that makes folders in folders without end gets an error, and costs no file that others need.
func TestOwnDeep(t *testing.T) {
	lab.Need(t)
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer func() { root.Close() }()
	for range 3000 { // no path is that long
		must(t, root.Mkdir("d", 0o700))
		next, err := root.OpenRoot("d")
		must(t, err)
		root.Close()
		root = next
	}
	if err := disk(t).Own(dir, group, false); err == nil {
		t.Error("it was given")
	}
}

// A container swaps a folder for a link that leads out, again and again, while all is given.
func TestOwnWhileLinksAreSwapped(t *testing.T) {
	lab.Need(t)
	outside := t.TempDir()
	must(t, os.Mkdir(filepath.Join(outside, "dir"), 0o700))
	for n := range 10 {
		must(t, os.WriteFile(filepath.Join(outside, fmt.Sprint(n)), nil, 0o600))
		must(t, os.WriteFile(filepath.Join(outside, "dir", fmt.Sprint(n)), nil, 0o600))
	}
	before := owners(t, outside)
	dir := t.TempDir()
	swapped := filepath.Join(dir, "x")
	must(t, os.Mkdir(swapped, 0o700))
	for n := range 10 {
		must(t, os.WriteFile(filepath.Join(swapped, fmt.Sprint(n)), nil, 0o600))
	}
	swaps := swapping(t, swapped, outside)
	for n := range 300 {
		if err := disk(t).Own(dir, group+int64(n), false); err != nil {
			t.Fatal(err)
		}
	}
	if swaps.Load() == 0 {
		t.Error("nothing was swapped")
	}
	if diff := cmp.Diff(before, owners(t, outside)); diff != "" {
		t.Error(diff)
	}
}

// swapping swaps what is at a path for a link, and back, until the test ends. At any time one of them is there.
func swapping(t *testing.T, at, to string) *atomic.Int64 {
	t.Helper()
	link := at + ".link"
	must(t, os.Symlink(to, link))
	var swaps atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := exchange(at, link); err != nil {
				t.Error(err)
				return
			}
			swaps.Add(1)
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
	return &swaps
}

func TestWriteForAGroup(t *testing.T) {
	lab.Need(t)
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := disk(t)
	gid := int64(group)
	files := []fleet.File{file("a", "1"), {Path: "sub/deep/key", Data: []byte("2"), Mode: 0o400}, {Path: "run", Mode: 0o500}}
	must(t, s.Write("uid", "config", host.Written{Files: files, Content: "one", Group: &gid}))
	want := map[string]string{
		".": "42755 2345", "..one": "42755 2345", "..one/sub": "42755 2345", "..one/sub/deep": "42755 2345",
		"..one/a": "100644 2345", "..one/sub/deep/key": "100440 2345", "..one/run": "100540 2345",
		"..data": "120777 2345", "a": "120777 2345", "sub": "120777 2345", "run": "120777 2345",
	}
	if diff := cmp.Diff(want, owners(t, s.Path("uid", "config", false))); diff != "" {
		t.Error(diff)
	}
	// Another set: readers never see one that is not yet theirs.
	dir := s.Path("uid", "config", false)
	done := make(chan error, 1)
	go func() {
		for n := range 200 {
			w := host.Written{Files: files, Content: fleet.Hash(fmt.Sprintf("h%d", n)), Group: &gid}
			if err := s.Write("uid", "config", w); err != nil {
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
		var st syscall.Stat_t
		if syscall.Stat(filepath.Join(dir, "sub/deep/key"), &st) == nil && (st.Gid != group || st.Mode != 0o100440) {
			t.Fatalf("it is %o %d", st.Mode, st.Gid)
		}
	}
}

// exchange swaps two names, so that at no time one is missing. Package syscall does not have it.
func exchange(a, b string) error {
	number, ok := map[string]uintptr{"amd64": 316, "arm64": 276}[runtime.GOARCH]
	if !ok {
		return errors.ErrUnsupported
	}
	one, err := syscall.BytePtrFromString(a)
	if err != nil {
		return err
	}
	other, err := syscall.BytePtrFromString(b)
	if err != nil {
		return err
	}
	const here, swap = ^uintptr(99), 2 // AT_FDCWD, RENAME_EXCHANGE
	_, _, errno := syscall.Syscall6(number, here, uintptr(unsafe.Pointer(one)), here, uintptr(unsafe.Pointer(other)), swap, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
