package agent_test

import (
	"syscall"
	"time"
)

// clockless is how long this process has worked, which a bubble's clock does not say.
func clockless() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(time.Millisecond)
}
