package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// SubPath mounts what lies at a path below a volume's root into the pod's folder, and returns where. The mount is in
// memory's part of it: what is secret is to be found below Memory only, and who empties the data folder by
// hand does not empty somebody's volume.
func (s *Store) SubPath(uid, key, root, below string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	if filepath.IsAbs(below) || slices.Contains(strings.Split(below, "/"), "..") {
		return "", leadsOut(below)
	}
	if err := s.podDir(uid, true); err != nil {
		return "", err
	}
	fd, err := find(root, below)
	if errors.Is(err, errOut) {
		return "", leadsOut(below)
	}
	if err != nil {
		return "", fmt.Errorf("find subPath %s in %s: %w", below, root, err)
	}
	defer syscall.Close(fd)
	dir := filepath.Join(s.Memory, uid, mountsDir)
	target := filepath.Join(dir, key)
	if err = secluded(dir); err == nil {
		err = bind(fd, target)
	}
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("mount subPath %s, which takes root: %w", below, err)
	}
	if err != nil {
		return "", fmt.Errorf("mount subPath %s: %w", below, err)
	}
	return target, nil
}

func leadsOut(below string) error { return fmt.Errorf("subPath %s leads out of the volume", below) }

// errOut is for a path that leads out of its root.
var errOut = errors.New("it leads out")

// manyLinks is how many links may be on one way, as the kernel has it.
const manyLinks = 40

// way is how far one got from a volume's root.
type way struct {
	root   string         // by name, for links that have it in them
	made   syscall.Stat_t // the root, after which folders are made
	at     []int          // the folders from the root to here
	todo   []string       // names that are still to go
	linked int            // how many of them a link said, and not whoever asked
	links  int            // how many links there were
}

// find opens what lies at a path below a root by name alone, and makes folders where nothing lies. It goes from name to name by
// itself, for the kernel would follow links wherever they lead. The way back, where a link says .., is the way it
// came, which nobody can change.
func find(root, below string) (fd int, err error) {
	base, err := openRoot(root)
	if err != nil {
		return 0, err
	}
	w := &way{root: filepath.Clean(root), at: []int{base}, todo: names(below)}
	defer func() {
		for _, fd := range w.at {
			syscall.Close(fd)
		}
	}()
	if err := syscall.Fstat(base, &w.made); err != nil {
		return 0, err
	}
	for len(w.todo) > 0 {
		if err := w.step(); err != nil {
			return 0, err
		}
	}
	last := len(w.at) - 1
	fd, w.at = w.at[last], w.at[:last]
	return fd, nil
}

// names are the names in a path, without those that lead nowhere.
func names(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}

// step takes one name of what is to do.
func (w *way) step() error {
	name, ofLink := w.todo[0], w.linked > 0
	w.todo = w.todo[1:]
	if ofLink {
		w.linked--
	}
	here := w.at[len(w.at)-1]
	if name == ".." {
		if len(w.at) == 1 {
			return errOut
		}
		w.at = w.at[:len(w.at)-1]
		syscall.Close(here)
		return nil
	}
	fd, err := openat(here, name, oPath)
	switch {
	case errors.Is(err, syscall.ENOENT) && ofLink:
		return fmt.Errorf("a link leads to %s: %w", name, err)
	case errors.Is(err, syscall.ENOENT):
		fd, err = w.makeFolder(here, name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		syscall.Close(fd)
		return err
	}
	if isLink(&st) {
		syscall.Close(fd)
		return w.follow(here, name)
	}
	w.at = append(w.at, fd)
	if len(w.at) > deepest {
		return fmt.Errorf("more than %d folders lie in one another", deepest)
	}
	return nil
}

// makeFolder makes a folder that is like the volume's root, as the kubelet does. If somebody was faster, it is what
// they made.
func (w *way) makeFolder(dir int, name string) (int, error) {
	mode := w.made.Mode & 07777
	err := syscall.Mkdirat(dir, name, mode)
	if errors.Is(err, syscall.EEXIST) {
		return openat(dir, name, oPath)
	}
	if err != nil {
		return 0, err
	}
	fd, err := openat(dir, name, oPath|syscall.O_DIRECTORY)
	if err != nil {
		return 0, err
	}
	if mode&syscall.S_ISGID != 0 {
		err = syscall.Fchownat(fd, "", -1, int(w.made.Gid), atEmptyPath)
	}
	if err == nil {
		err = syscall.Chmod(fdPath(fd), mode) // not subject to the umask
	}
	if err != nil {
		syscall.Close(fd)
		return 0, err
	}
	return fd, nil
}

// follow puts what a link says before what is still to go. An absolute one is good if it has the root in it by a name that
// leads there.
func (w *way) follow(dir int, name string) error {
	if w.links++; w.links > manyLinks {
		return syscall.ELOOP
	}
	to, err := os.Readlink(fdPath(dir) + "/" + name)
	if err != nil {
		return err
	}
	if filepath.IsAbs(to) {
		if to, err = w.inside(filepath.Clean(to)); err != nil {
			return err
		}
		for _, fd := range w.at[1:] {
			syscall.Close(fd)
		}
		w.at = w.at[:1]
	}
	said := names(to)
	w.todo, w.linked = slices.Concat(said, w.todo), w.linked+len(said)
	return nil
}

// inside is an absolute path seen from the root.
func (w *way) inside(to string) (string, error) {
	real, err := os.Readlink(fdPath(w.at[0])) // without links
	if err != nil {
		return "", err
	}
	for _, root := range []string{w.root, real} {
		if rest, ok := strings.CutPrefix(to, strings.TrimSuffix(root, "/")); ok && (rest == "" || rest[0] == '/') {
			return rest, nil
		}
	}
	return "", errOut
}

// secluded makes a folder what is mounted in which is nobody else's business. The machine's mounts have twins in the
// namespaces of half of its services, and what is mounted in one of them is mounted in all.
func secluded(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	err := syscall.Mount("", dir, "", syscall.MS_PRIVATE, "")
	if !errors.Is(err, syscall.EINVAL) { // it is not a mount yet
		return err
	}
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	return syscall.Mount("", dir, "", syscall.MS_PRIVATE, "")
}

// bind mounts an open file or folder, and what is mounted below it, in place of what is mounted there. What is mounted
// in the volume later is seen here too, where the machine shares its mounts; what is mounted or unmounted here is
// never done to the volume.
func bind(fd int, target string) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	if err := detach(target); err != nil {
		return err
	}
	// What it was mounted on, an empty file or folder. Remove, and not RemoveAll: it can do no harm.
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if isDir(&st) {
		if err := os.Mkdir(target, 0o711); err != nil {
			return err
		}
	} else if err := os.WriteFile(target, nil, 0o600); err != nil {
		return err
	}
	if err := syscall.Mount(fdPath(fd), target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	return syscall.Mount("", target, "", syscall.MS_SLAVE|syscall.MS_REC, "")
}
