//go:build repeatable

package agent_test

import (
	"runtime"
	"runtime/debug"
)

// repeat has all that follows go as it did the last time with the same seed: see scripts/repeatable, which is what this is built by.
func repeat(seed uint64) {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1) // a collector comes between goroutines whenever it likes
	runtime.GC()
	runtime.Repeat(seed)
}
