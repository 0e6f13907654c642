package volume

import (
	"errors"
	"strconv"
	"syscall"
)

// What package syscall has no names for on all machines.
const (
	atCwd       = -0x64
	atEmptyPath = 0x1000
	oPath       = 0x200000 // names a file without opening it: no permission is asked for, no FIFO waits, no device notices
)

// openat opens what has that name in a folder. A link is not followed.
func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := syscall.Openat(dir, name, flags|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		if !errors.Is(err, syscall.EINTR) {
			return fd, err
		}
	}
}

// openRoot names what lies at a path of the machine, over links and all.
func openRoot(path string) (int, error) {
	for {
		fd, err := syscall.Open(path, oPath|syscall.O_CLOEXEC, 0)
		if !errors.Is(err, syscall.EINTR) {
			return fd, err
		}
	}
}

// fdPath is a path that leads to an open file whatever its name is by now. The kernel has no other way to change
// the mode of one that was only named, or to mount it.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func isDir(st *syscall.Stat_t) bool  { return st.Mode&syscall.S_IFMT == syscall.S_IFDIR }
func isLink(st *syscall.Stat_t) bool { return st.Mode&syscall.S_IFMT == syscall.S_IFLNK }
