package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// detach unmounts all that is mounted on a path and below it, the deepest first, and makes sure that nothing is left:
// a folder for which it has no error can be emptied.
func detach(dir string) error {
	dir, err := filepath.EvalSymlinks(dir) // the kernel lists what a path leads to
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	below, err := mountsBelow(dir)
	if err != nil || len(below) == 0 {
		return err
	}
	// An unmount goes wherever the mount above has its twins. Ours have none in the volumes that they show, but one
	// that a crash left half made does, and what is mounted in that volume would go with it.
	for _, at := range below {
		if err := syscall.Mount("", at, "", syscall.MS_PRIVATE, ""); err != nil && !gone(err) {
			return fmt.Errorf("part %s from other mounts: %w", at, err)
		}
	}
	slices.Reverse(below) // the kernel lists what is above first
	for _, at := range below {
		if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil && !gone(err) {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	below, err = mountsBelow(dir)
	if err == nil && len(below) > 0 {
		err = fmt.Errorf("unmount %s: something is still mounted there", below[0])
	}
	return err
}

// gone reports that there was no mount any more.
func gone(err error) bool { return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) }

// mountsBelow are the places from a path on where something is mounted, once for each mount. The path has no links
// in it.
func mountsBelow(dir string) (below []string, err error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(raw)) {
		// The fifth field is where; blanks and the like are written as \040.
		if fields := strings.Fields(line); len(fields) > 4 {
			if at := unescape(fields[4]); at == dir || strings.HasPrefix(at, dir+"/") {
				below = append(below, at)
			}
		}
	}
	return below, nil
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
