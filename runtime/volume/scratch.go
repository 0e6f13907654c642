package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

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
