// Package volume keeps the folders that live and die with a pod: files from ConfigMaps and Secrets, and
// scratch space. Disk is one root below the agent's data folder, Memory another that is made sure to be a
// tmpfs; secrets and scratch in memory lie below that alone.
//
// Folders in Memory whose names begin with a dot are the agent's own.
//
// A pod's folder is ROOT/<uid>/<volume>. A written volume is, as in Kubernetes, links to ..data, which is a
// link to a folder named after the content, so that what lies there can be told without reading it and a new
// set appears at once.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Store implements host.Volumes.
type Store struct {
	Disk   string // absolute
	Memory string // absolute; becomes a tmpfs when it is not on one

	once   sync.Once
	mountE error
}

var _ host.Volumes = (*Store)(nil)

// dataLink is the link that is swapped, as the kubelet names it.
const dataLink = "..data"

// Path is where a volume lies.
func (s *Store) Path(uid, volume string, memory bool) string {
	if memory {
		return filepath.Join(s.Memory, uid, volume)
	}
	return filepath.Join(s.Disk, uid, volume)
}

// tmpfsMagic is what statfs says of a tmpfs.
const tmpfsMagic = 0x01021994

// Prepare makes sure that Memory is a tmpfs. Nothing secret is written before that.
func (s *Store) Prepare() error {
	s.once.Do(func() {
		if s.mountE = os.MkdirAll(s.Memory, 0o700); s.mountE != nil {
			return
		}
		var st syscall.Statfs_t
		if s.mountE = syscall.Statfs(s.Memory, &st); s.mountE != nil || st.Type == tmpfsMagic {
			return
		}
		if err := syscall.Mount("tmpfs", s.Memory, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0700"); err != nil {
			s.mountE = fmt.Errorf("%s must lie in memory, and no tmpfs can be mounted there: %w", s.Memory, err)
		}
	})
	return s.mountE
}

// checkUID refuses what would lead to the root itself, out of it, or to the agent's own folders in it.
func checkUID(uid string) error {
	if uid == "" || uid[0] == '.' || strings.ContainsRune(uid, filepath.Separator) {
		return fmt.Errorf("pod UID %q is no name for a folder", uid)
	}
	return nil
}

// podDir makes a pod's folder. Containers see single volumes of it, never the folder itself.
func (s *Store) podDir(uid string, memory bool) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	root := s.Disk
	if memory {
		root = s.Memory
		if err := s.Prepare(); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(root, uid), 0o711)
}

// Write puts files into a written volume, all at once. It ends what one that was cut short has begun.
func (s *Store) Write(uid, volume string, secret bool, files []fleet.File, content fleet.Hash) error {
	for _, f := range files {
		// Names with two dots in front are our own, as they are the kubelet's.
		if clean := path.Clean(f.Path); !filepath.IsLocal(f.Path) || clean == "." || strings.HasPrefix(clean, "..") {
			return fmt.Errorf("write volume %s: path %q leads out of the volume", volume, f.Path)
		}
	}
	dir := s.Path(uid, volume, secret)
	if err := s.podDir(uid, secret); err != nil {
		return err
	}
	set := ".." + string(content)
	if have, err := os.Readlink(filepath.Join(dir, dataLink)); err != nil || have != set {
		if err := replace(dir, set, files); err != nil {
			return fmt.Errorf("write volume %s: %w", volume, err)
		}
	}
	return tidy(dir, set, files)
}

// replace makes a new set of files the one that readers see. Their links come before it, so that nothing
// that a reader would miss is left to do once it is in.
func replace(dir, set string, files []fleet.File) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // not subject to the umask
		return err
	}
	if err := writeSet(dir, set, files); err != nil {
		return err
	}
	if err := link(dir, files); err != nil {
		return err
	}
	temporary := filepath.Join(dir, "..data_new")
	_ = os.Remove(temporary)
	if err := os.Symlink(set, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(dir, dataLink))
}

// writeSet writes the files of one set. What a crash left of the same set is written again.
func writeSet(dir, set string, files []fleet.File) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.RemoveAll(set); err != nil {
		return err
	}
	if err := openFolder(root, set); err != nil {
		return err
	}
	for _, f := range files {
		name := path.Join(set, f.Path)
		if err := openFolder(root, path.Dir(name)); err != nil {
			return err
		}
		if err := root.WriteFile(name, f.Data, 0o600); err != nil {
			return err
		}
		if err := root.Chmod(name, fs.FileMode(f.Mode)&fs.ModePerm); err != nil { // not subject to the umask
			return err
		}
	}
	return nil
}

// openFolder makes a folder, and those above it, that anyone may read, whatever the umask is.
func openFolder(root *os.Root, name string) error {
	switch err := root.Mkdir(name, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && path.Dir(name) != ".":
		if err := openFolder(root, path.Dir(name)); err != nil {
			return err
		}
		return openFolder(root, name)
	case err != nil:
		return err
	}
	return root.Chmod(name, 0o755)
}

// link makes the links that readers open.
func link(dir string, files []fleet.File) error {
	for _, f := range files {
		top, _, _ := strings.Cut(path.Clean(f.Path), "/")
		err := os.Symlink(path.Join(dataLink, top), filepath.Join(dir, top))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// tidy makes sure of the links and removes those of files that are no more, and older sets.
func tidy(dir, set string, files []fleet.File) error {
	if err := link(dir, files); err != nil {
		return err
	}
	want := map[string]bool{dataLink: true, set: true}
	for _, f := range files {
		top, _, _ := strings.Cut(path.Clean(f.Path), "/")
		want[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !want[e.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Scratch makes an empty folder that anyone may write to. One that is empty is made as if it were new: a
// crash may have left it half made, and nothing is lost.
func (s *Store) Scratch(uid, volume string, memory bool, limit int64) error {
	if err := s.podDir(uid, memory); err != nil {
		return err
	}
	dir := s.Path(uid, volume, memory)
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	if memory && limit > 0 && !mounted(dir) {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0777,size="+strconv.FormatInt(limit, 10)); err != nil {
			return fmt.Errorf("mount %d bytes of memory for volume %s: %w", limit, volume, err)
		}
	}
	return os.Chmod(dir, 0o777) // not subject to the umask
}

// mounted reports whether a folder is on another file system than the one it lies in.
func mounted(dir string) bool {
	var here, above syscall.Stat_t
	return syscall.Stat(dir, &here) == nil && syscall.Stat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}

// HostPath makes sure of a path of the machine.
func (s *Store) HostPath(name string, kind corev1.HostPathType) error {
	switch kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
		kind = corev1.HostPathDirectory
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
		kind = corev1.HostPathFile
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("hostPath of type %s: %w", kind, err)
	}
	if is := typeOf(info.Mode()); is != kind {
		return fmt.Errorf("hostPath %s is a %s, not a %s", name, is, kind)
	}
	return nil
}

func typeOf(m fs.FileMode) corev1.HostPathType {
	switch {
	case m.IsDir():
		return corev1.HostPathDirectory
	case m.IsRegular():
		return corev1.HostPathFile
	case m&fs.ModeSocket != 0:
		return corev1.HostPathSocket
	case m&fs.ModeCharDevice != 0:
		return corev1.HostPathCharDev
	case m&fs.ModeDevice != 0:
		return corev1.HostPathBlockDev
	default:
		return "something else"
	}
}

// List has an entry for each pod that has a folder, on disk or in memory.
func (s *Store) List() (map[string]fleet.Volumes, error) {
	all := map[string]fleet.Volumes{}
	for _, root := range []string{s.Disk, s.Memory} {
		pods, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, p := range pods {
			if !p.IsDir() || strings.HasPrefix(p.Name(), ".") {
				continue
			}
			if all[p.Name()] == nil {
				all[p.Name()] = fleet.Volumes{}
			}
			volumes, err := os.ReadDir(filepath.Join(root, p.Name()))
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
				return nil, err
			}
			for _, v := range volumes {
				if set, err := os.Readlink(filepath.Join(root, p.Name(), v.Name(), dataLink)); err == nil {
					all[p.Name()][v.Name()] = fleet.Hash(strings.TrimPrefix(set, ".."))
				}
			}
		}
	}
	return all, nil
}

// Remove removes all folders of a pod.
func (s *Store) Remove(uid string) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	memory, disk := filepath.Join(s.Memory, uid), filepath.Join(s.Disk, uid)
	// A scratch volume with a limit is a mount of its own. What else is mounted below, by a container say, is
	// somebody else's: it is let go of, and not emptied.
	for _, dir := range []string{memory, disk} {
		if err := detach(dir); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(memory), os.RemoveAll(disk))
}

// detach unmounts all that is mounted below a folder, the deepest first.
func detach(dir string) error {
	dir, err := filepath.EvalSymlinks(dir) // the kernel lists what a path leads to
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var below []string
	for line := range strings.Lines(string(raw)) {
		// The fifth field is where; blanks and the like are written as \040.
		if fields := strings.Fields(line); len(fields) > 4 {
			at := unescape(fields[4])
			if strings.HasPrefix(at, dir+"/") {
				below = append(below, at)
			}
		}
	}
	slices.Reverse(below) // the kernel lists them as they were made
	for _, at := range below {
		err := syscall.Unmount(at, syscall.MNT_DETACH)
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	return nil
}

// unescape reads a path as mountinfo has it.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
