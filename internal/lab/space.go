package lab

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// NewSpace makes a network namespace that lives as long as the file is open.
func NewSpace() (space *os.File, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		space, err = os.Open(threadSpace)
		return err
	})
	return space, err
}

// InSpace calls do in the network namespace whose file that is, and returns when it has. Do runs in a goroutine of its own, that it may end
// (runtime.Goexit, as a test's FailNow does).
func InSpace(space string, do func() error) error {
	return onThread(func() error {
		file, err := os.Open(space)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := setSpace(file); err != nil {
			return err
		}
		return do()
	})
}

const threadSpace = "/proc/thread-self/ns/net"

// onThread calls do on a thread that may change its network namespace, and brings the thread back to its own. One that cannot come back
// stays locked, and ends with its goroutine.
func onThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }()
		runtime.LockOSThread()
		var home *os.File
		if home, err = os.Open(threadSpace); err != nil {
			return
		}
		defer home.Close()
		err = do()
		if setSpace(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return <-done
}

// setSpace has the thread use another network namespace.
func setSpace(space *os.File) error { return unix.Setns(int(space.Fd()), unix.CLONE_NEWNET) }
