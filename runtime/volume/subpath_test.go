package volume_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/volume"
)

// same fails the test unless both paths lead to the same file.
func same(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.Stat(got)
	must(t, err)
	b, err := os.Stat(want)
	must(t, err)
	if !os.SameFile(a, b) {
		t.Errorf("%s is not %s", got, want)
	}
}

// mounts is how many mounts there are on a path and below.
func mounts(t *testing.T, at string) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	n := 0
	for line := range strings.Lines(string(raw)) {
		if where := strings.Fields(line)[4]; where == at || strings.HasPrefix(where, at+"/") {
			n++
		}
	}
	return n
}

// source is a volume with files, folders and links good and bad, and a neighbour that is none of its business.
func source(t *testing.T) (root, neighbour string) {
	t.Helper()
	dir := t.TempDir()
	root, neighbour = filepath.Join(dir, "root"), filepath.Join(dir, "neighbour")
	for _, d := range []string{"root/a/b", "root/kept", "neighbour/b"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for _, name := range []string{"root/file", "root/a/file", "root/a/b/file", "root/kept/file", "neighbour/file", "neighbour/b/file"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	must(t, os.Chmod(filepath.Join(root, "file"), 0))
	for name, to := range map[string]string{
		"in": "a/b", "in-file": "a/file", "in-abs": root + "/a/b", "in-root": root, "a/abs": root + "/kept", "here": ".", "a/up": "..", "a/b/round": "../../kept",
		"chain": "chain2", "chain2": "a/up/in", "a/slash": "b/", "whole": "/proc/self/root" + root,
		"out": "../neighbour", "out-far": "../../../../../../../../etc", "out-abs": "/etc", "out-file": "/etc/passwd", "out-like": root + "2",
		"out-chain": "out-chain2", "out-chain2": "a/up/out", "a/b/out": "../../../neighbour/b", "out-back": "../root/a", "out-abs-back": root + "/../neighbour",
		"dangling": "none", "dangling-deep": "a/none/x", "loop": "loop2", "loop2": "loop", "magic": "/proc/self/cwd",
	} {
		must(t, os.Symlink(to, filepath.Join(root, name)))
	}
	return root, neighbour
}

func TestSubPath(t *testing.T) {
	s := whole(t)
	root, _ := source(t)
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(root, "socket"), Net: "unix"})
	must(t, err)
	defer socket.Close()
	must(t, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(t, os.Symlink("root", filepath.Join(filepath.Dir(root), "way")))
	for n, c := range []struct{ below, is string }{
		{"", "."}, {".", "."}, {"./", "."}, {"a", "a"}, {"a/b", "a/b"}, {"./a//b/", "a/b"},
		{"file", "file"}, {"a/file", "a/file"}, {"fifo", "fifo"}, {"socket", "socket"},
		{"in", "a/b"}, {"in/file", "a/b/file"}, {"in-file", "a/file"}, {"in-abs", "a/b"}, {"in-abs/file", "a/b/file"}, {"in-root/a", "a"}, {"a/abs", "kept"},
		{"here/here/a", "a"}, {"a/up", "."}, {"a/up/a/up/file", "file"}, {"a/b/round", "kept"}, {"in/round/file", "kept/file"},
		{"chain", "a/b"}, {"chain/file", "a/b/file"}, {"a/slash/file", "a/b/file"},
	} {
		for _, root := range []string{root, filepath.Join(filepath.Dir(root), "way"), root + "/"} {
			at, err := s.SubPath("uid", "app-0", root, c.below)
			if err != nil {
				t.Errorf("%d: %q: %v", n, c.below, err)
				continue
			}
			same(t, at, filepath.Join(root, c.is))
		}
	}
	for _, dev := range []string{"null", "zero"} {
		at, err := s.SubPath("uid", "dev", "/dev", dev)
		must(t, err)
		same(t, at, "/dev/"+dev)
	}
	way := filepath.Join(filepath.Dir(root), "way")
	must(t, os.Symlink(filepath.Join(way, "a"), filepath.Join(root, "by-the-way")))
	at, err := s.SubPath("uid", "whole", way, "by-the-way/b")
	must(t, err)
	same(t, at, filepath.Join(root, "a/b"))
	at, err = s.SubPath("uid", "whole", filepath.Join(root, "file"), "") // a root need not be a folder
	must(t, err)
	same(t, at, filepath.Join(root, "file"))
	at, err = s.SubPath("uid", "whole", "/", "dev/null")
	must(t, err)
	same(t, at, "/dev/null")

	if n := mounts(t, filepath.Join(s.Memory, "uid")); n != 4 {
		t.Errorf("%d mounts, want 3 and the one that they are in", n)
	}
	all, err := s.List()
	must(t, err)
	if diff := cmp.Diff(map[string]fleet.Volumes{"uid": {}}, all); diff != "" {
		t.Error(diff)
	}
	before := owners(t, root)
	must(t, s.Remove("uid"))
	if diff := cmp.Diff(before, owners(t, root)); diff != "" {
		t.Errorf("the volume is not what it was: %s", diff)
	}
	if n := mounts(t, filepath.Join(s.Memory, "uid")); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}

func TestSubPathThatLeadsOut(t *testing.T) {
	s := whole(t)
	root, neighbour := source(t)
	before, theirs := owners(t, root), owners(t, neighbour)
	first, err := s.SubPath("uid", "app", root, "a")
	must(t, err)
	for _, below := range []string{
		"..", "../neighbour", "a/../../neighbour", "a/..", "/", "/etc", root,
		"out", "out/b", "out/none", "out-far", "out-far/passwd", "out-abs", "out-abs/passwd", "out-file", "out-like", "out-chain", "out-chain/file",
		"a/b/out", "in/out/file", "out-back", "out-back/b", "out-abs-back", "magic", "whole", "chain/out",
	} {
		at, err := s.SubPath("uid", "app", root, below)
		if err == nil {
			t.Errorf("%q is at %s", below, at)
		} else if want := "subPath " + below + " leads out of the volume"; err.Error() != want {
			t.Errorf("the error is %q, want %q", err, want)
		}
	}
	for _, below := range []string{"dangling", "dangling/x", "dangling-deep", "loop", "loop/x", "file/x", "a/file/x/y", "a\x00b", strings.Repeat("x", 256)} {
		if at, err := s.SubPath("uid", "app", root, below); err == nil || strings.Contains(err.Error(), "leads out") {
			t.Errorf("%q is at %s, %v", below, at, err)
		}
	}
	if at, err := s.SubPath("uid", "app", "/proc", "1/root/etc"); err == nil {
		t.Errorf("the way through a process is at %s", at)
	}
	if diff := cmp.Diff(before, owners(t, root)); diff != "" {
		t.Errorf("something was made: %s", diff)
	}
	if diff := cmp.Diff(theirs, owners(t, neighbour)); diff != "" {
		t.Errorf("something was made outside: %s", diff)
	}
	same(t, first, filepath.Join(root, "a")) // what failed changed nothing
	must(t, s.Remove("uid"))
}

func TestSubPathOfNothing(t *testing.T) {
	s := whole(t)
	if at, err := s.SubPath("uid", "app", filepath.Join(t.TempDir(), "none"), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is at %s, %v", at, err)
	}
}

func TestSubPathMakesFolders(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := whole(t)
	for _, c := range []struct {
		mode, want uint32
		gid, is    int
	}{
		{0o777, 0o777, 7, 0}, {0o755, 0o755, 0, 0}, {0o1777, 0o1777, 7, 0}, {0o2770, 0o2770, group, group}, {0o700, 0o700, 0, 0},
	} {
		t.Run(fmt.Sprintf("%o", c.mode), func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			must(t, os.MkdirAll(filepath.Join(root, "there"), 0o711))
			must(t, os.Symlink("there", filepath.Join(root, "link")))
			must(t, os.Chown(root, 0, c.gid))
			chmod(t, root, c.mode)
			chmod(t, filepath.Join(root, "there"), 0o711)
			at, err := s.SubPath("uid", "app", root, "link/x/y")
			must(t, err)
			same(t, at, filepath.Join(root, "there/x/y"))
			made := fmt.Sprintf("4%04o %d", c.want, c.is)
			got := owners(t, filepath.Join(root, "there"))
			want := map[string]string{".": "40711 0", "x": made, "x/y": made}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	must(t, s.Remove("uid"))
}

// What is mounted is what was found: what has that name later, and what of the volume is replaced, does not matter
// until it is asked for again.
func TestSubPathStays(t *testing.T) {
	s := whole(t)
	one := []fleet.File{file("conf/key", "1"), file("plain", "1")}
	two := []fleet.File{file("conf/key", "2"), file("plain", "2")}
	must(t, s.Write("uid", "secret", host.Written{Secret: true, Files: one, Content: "one"}))
	root := s.Path("uid", "secret", true)
	read := func(at string) string {
		t.Helper()
		b, err := os.ReadFile(at)
		must(t, err)
		return string(b)
	}
	var at []string
	for _, below := range []string{"conf/key", "plain"} {
		name, err := s.SubPath("uid", strings.ReplaceAll(below, "/", "-"), root, below)
		must(t, err)
		at = append(at, name)
	}
	must(t, s.Write("uid", "secret", host.Written{Secret: true, Files: two, Content: "two"}))
	for _, name := range at {
		if got := read(name); got != "1" {
			t.Errorf("%s has %q", name, got)
		}
		if !onTmpfs(t, name) {
			t.Errorf("%s is not in memory", name)
		}
	}
	for n, below := range []string{"conf/key", "plain"} {
		name, err := s.SubPath("uid", strings.ReplaceAll(below, "/", "-"), root, below)
		must(t, err)
		if got := read(name); got != "2" || name != at[n] {
			t.Errorf("asked again %s has %q", name, got)
		}
	}
	// A file becomes a folder, and a folder a file.
	for _, below := range []string{"conf", "plain", "conf"} {
		name, err := s.SubPath("uid", "plain", root, below)
		must(t, err)
		same(t, name, filepath.Join(root, below))
	}
	if n := mounts(t, filepath.Join(s.Memory, "uid", ".mounts", "plain")); n != 1 {
		t.Errorf("%d mounts on one another", n)
	}
	must(t, filepath.WalkDir(s.Disk, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			t.Errorf("%s is on disk", name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}))
	must(t, s.Remove("uid"))
}

// A container swaps a folder for a link that leads out, in a loop. What is mounted is always the volume's.
func TestSubPathWhileLinksAreSwapped(t *testing.T) {
	s := whole(t)
	for _, below := range []string{"x", "x/file", "x/new/deep"} {
		t.Run(below, func(t *testing.T) {
			dir := t.TempDir()
			root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
			for _, name := range []string{"root/x", "outside"} {
				must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
				must(t, os.WriteFile(filepath.Join(dir, name, "file"), []byte(name), 0o600))
			}
			theirs := owners(t, outside)
			there := map[uint64]string{}
			walk := func(from string) {
				must(t, filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
					must(t, err)
					info, err := d.Info()
					must(t, err)
					there[info.Sys().(*syscall.Stat_t).Ino] = name
					return nil
				}))
			}
			walk(outside)
			swaps := swapping(t, filepath.Join(root, "x"), "../outside")
			var found, refused int
			for range 2000 {
				at, err := s.SubPath("uid", "app", root, below)
				if err != nil {
					if !strings.Contains(err.Error(), "leads out") && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
						t.Fatal(err)
					}
					refused++
					continue
				}
				found++
				info, err := os.Stat(at)
				must(t, err)
				if name := there[info.Sys().(*syscall.Stat_t).Ino]; name != "" {
					t.Fatalf("%s was mounted", name)
				}
			}
			if found == 0 || refused == 0 || swaps.Load() == 0 {
				t.Errorf("found %d times, refused %d times, swapped %d times", found, refused, swaps.Load())
			}
			if diff := cmp.Diff(theirs, owners(t, outside)); diff != "" {
				t.Errorf("outside: %s", diff)
			}
		})
	}
	must(t, s.Remove("uid"))
}

// What is mounted in a volume is seen with it, whenever it came, and is still there when the pod is not, also
// where mounts have twins all over the machine.
func TestSubPathWithMounts(t *testing.T) {
	for _, kind := range []struct {
		name string
		flag uintptr
	}{{"private", syscall.MS_PRIVATE}, {"shared", syscall.MS_SHARED}} {
		t.Run(kind.name, func(t *testing.T) {
			lab.Need(t)
			base := t.TempDir()
			must(t, syscall.Mount("tmpfs", base, "tmpfs", 0, ""))
			t.Cleanup(func() { must(t, syscall.Unmount(base, syscall.MNT_DETACH)) })
			must(t, syscall.Mount("", base, "", kind.flag, ""))
			s := &volume.Store{Disk: filepath.Join(base, "disk"), Memory: filepath.Join(base, "memory")}
			root := filepath.Join(base, "root")
			early, late := filepath.Join(root, "a/early"), filepath.Join(root, "a/late")
			plant := func(at string) {
				must(t, os.MkdirAll(at, 0o755))
				must(t, syscall.Mount("tmpfs", at, "tmpfs", 0, ""))
				must(t, os.WriteFile(filepath.Join(at, "precious"), nil, 0o600))
			}
			plant(early)
			must(t, os.WriteFile(filepath.Join(root, "a", "precious"), nil, 0o600))
			at, err := s.SubPath("uid", "app-0", root, "a")
			must(t, err)
			inner, err := s.SubPath("uid", "app-1", root, "a/early")
			must(t, err)
			plant(late)
			same(t, filepath.Join(at, "early/precious"), filepath.Join(early, "precious"))
			same(t, inner, early)
			if kind.flag == syscall.MS_SHARED {
				same(t, filepath.Join(at, "late/precious"), filepath.Join(late, "precious"))
			}
			// What is mounted here does not come to be there.
			must(t, os.Mkdir(filepath.Join(root, "a/here"), 0o700))
			must(t, syscall.Mount("tmpfs", filepath.Join(at, "here"), "tmpfs", 0, ""))
			must(t, os.WriteFile(filepath.Join(at, "here/file"), nil, 0o600))
			if _, err := os.Stat(filepath.Join(root, "a/here/file")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it goes back to the volume: %v", err)
			}
			// One that is cut short before it is apart from the volume's own mounts.
			half := filepath.Join(s.Memory, "uid", ".mounts", "half")
			must(t, os.Mkdir(half, 0o700))
			must(t, syscall.Mount(filepath.Join(root, "a"), half, "", syscall.MS_BIND|syscall.MS_REC, ""))
			// Asked again, it makes room for itself and for nothing else.
			for range 3 {
				if at, err = s.SubPath("uid", "app-0", root, "a"); err != nil {
					t.Fatal(err)
				}
			}
			precious := func() {
				t.Helper()
				for _, dir := range []string{early, late, filepath.Join(root, "a")} {
					if _, err := os.Stat(filepath.Join(dir, "precious")); err != nil {
						t.Error(err)
					}
				}
			}
			precious()
			must(t, s.Remove("uid"))
			precious()
			if n := mounts(t, s.Memory); n > 1 {
				t.Errorf("%d mounts are left", n)
			}
			if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it is left: %v", err)
			}
		})
	}
}

func TestSubPathOfWhatIsReadOnly(t *testing.T) {
	s := whole(t)
	root, _ := source(t)
	must(t, syscall.Mount(root, root, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { must(t, syscall.Unmount(root, syscall.MNT_DETACH)) })
	must(t, syscall.Mount("", root, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	for _, below := range []string{"a", "in/file"} {
		at, err := s.SubPath("uid", "app", root, below)
		must(t, err)
		same(t, at, filepath.Join(root, below))
	}
	if _, err := s.SubPath("uid", "app", root, "new"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("made where nothing can be: %v", err)
	}
	must(t, s.Remove("uid"))
}

func TestManySubPaths(t *testing.T) {
	s := whole(t)
	root, _ := source(t)
	for n := range 100 {
		at, err := s.SubPath("uid", fmt.Sprintf("app-%d", n), root, fmt.Sprintf("new/%d", n))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(at, "file"), nil, 0o600))
	}
	before := owners(t, root)
	must(t, s.Remove("uid"))
	if diff := cmp.Diff(before, owners(t, root)); diff != "" {
		t.Errorf("the volume is not what it was: %s", diff)
	}
	if _, ok := before["new/99/file"]; !ok {
		t.Error("nothing was written through them")
	}
}

func TestSubPathLeavesNoFilesOpen(t *testing.T) {
	s := whole(t)
	root, _ := source(t)
	open := func() int {
		t.Helper()
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(entries)
	}
	before := open()
	for range 20 {
		for _, below := range []string{"a/b", "chain/file", "a/abs", "a/up/a/up", "out", "dangling", "loop", "file/x", "new/x"} {
			_, _ = s.SubPath("uid", "app", root, below)
		}
		must(t, s.Own(root, group, false))
	}
	if after := open(); after != before {
		t.Errorf("%d files are open, and before it were %d", after, before)
	}
	must(t, s.Remove("uid"))
}

func TestSubPathWithoutRoot(t *testing.T) {
	s := whole(t)
	root, _ := source(t)
	must(t, s.Prepare())
	const nobody = 65534
	for _, dir := range []string{s.Memory, root} {
		must(t, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755)) // the test's own, which is closed to others
	}
	must(t, os.Chown(s.Memory, nobody, nobody))
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never let go of: the thread ends with this function
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody)
		if errno != 0 {
			failed <- errno
			return
		}
		_, err := s.SubPath("uid", "app", root, "a")
		failed <- err
	}()
	if err := <-failed; !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "mount subPath a, which takes root: ") {
		t.Errorf("the error is %v", err)
	}
}

// A mount on a pod's folder itself, and one more on that.
func TestRemoveOfWhatIsMountedUpon(t *testing.T) {
	s := whole(t)
	must(t, s.Scratch("uid", "scratch", false, 0))
	theirs := t.TempDir()
	must(t, os.WriteFile(filepath.Join(theirs, "precious"), nil, 0o600))
	dir := filepath.Join(s.Disk, "uid")
	for range 2 {
		must(t, syscall.Mount(theirs, dir, "", syscall.MS_BIND, ""))
	}
	must(t, s.Remove("uid"))
	if _, err := os.Stat(filepath.Join(theirs, "precious")); err != nil {
		t.Errorf("what was mounted was emptied: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
	if n := mounts(t, dir); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
}
