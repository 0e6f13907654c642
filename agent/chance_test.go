//go:build !repeatable

package agent_test

// repeat does what it can without scripts/repeatable: nothing.
func repeat(uint64) {}
