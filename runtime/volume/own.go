package volume

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"
)

// What a group gets of files, as the kubelet has it; of folders it may search as well.
const (
	readable = 0o440
	writable = 0o660
)

// deepest is how many folders may lie in one another. Each costs open files while those below are gone through,
// and a container can make them without end.
const deepest = 500

// Own gives a folder and all below it to a group that may write there. The folder itself comes last: as long as it
// is not as it should be, not all below need be, and changedOnly does not trust it. Links are given and not
// followed; whatever a container does meanwhile, nothing outside is touched.
func (s *Store) Own(path string, group int64, changedOnly bool) error {
	if changedOnly {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			return &os.PathError{Op: "stat", Path: path, Err: err}
		}
		if isDir(&st) && int64(st.Gid) == group && st.Mode&07777|grants(writable, &st) == st.Mode&07777 {
			return nil
		}
	}
	return give(path, group, writable)
}

// give gives what lies at a path, and all below it, to a group. mode is what the group gets of files.
func give(path string, group int64, mode uint32) error {
	if group < 0 || group >= math.MaxUint32 {
		return fmt.Errorf("%d is no group", group)
	}
	fd, err := openRoot(path)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	return gift{int(group), mode}.all(fd, path, 0)
}

// gift is what is given to whom.
type gift struct {
	group int
	mode  uint32 // of files
}

// all gives a file, or a folder after all that is below it.
func (g gift) all(fd int, name string, depth int) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if isDir(&st) {
		if err := g.below(fd, name, depth); err != nil {
			return err
		}
	}
	return g.one(fd, name, &st)
}

// below gives all that is in a folder.
func (g gift) below(fd int, name string, depth int) error {
	if depth == deepest {
		return fmt.Errorf("more than %d folders lie in one another at %s", deepest, name)
	}
	opened, err := openat(fd, ".", syscall.O_RDONLY|syscall.O_DIRECTORY)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	dir := os.NewFile(uintptr(opened), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, child := range names {
		at := filepath.Join(name, child)
		fd, err := openat(opened, child, oPath)
		if errors.Is(err, syscall.ENOENT) {
			continue // gone meanwhile
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: at, Err: err}
		}
		err = g.all(fd, at, depth+1)
		syscall.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// one gives one file or folder, and leaves alone what is as it should be. st is from before: a change of the group
// takes away bits that are to stay.
func (g gift) one(fd int, name string, st *syscall.Stat_t) error {
	given := int64(st.Gid) == int64(g.group)
	if !given {
		if err := syscall.Fchownat(fd, "", -1, g.group, atEmptyPath); err != nil {
			return &os.PathError{Op: "chown", Path: name, Err: err}
		}
	}
	if isLink(st) {
		return nil // its mode means nothing
	}
	mode := st.Mode&07777 | grants(g.mode, st)
	if given && mode == st.Mode&07777 {
		return nil
	}
	if err := syscall.Chmod(fdPath(fd), mode); err != nil {
		return &os.PathError{Op: "chmod", Path: name, Err: err}
	}
	return nil
}

// grants is what mode means for a file of that kind. What is made in a folder later is the group's as well.
func grants(mode uint32, st *syscall.Stat_t) uint32 {
	if isDir(st) {
		return mode | 0o110 | syscall.S_ISGID
	}
	return mode
}
