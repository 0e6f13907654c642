package lab

import "testing"

// TestPort: tests that start several servers at once need as many ports before any of them has its own.
func TestPort(t *testing.T) {
	given := map[uint16]bool{}
	for range 2000 { // of the kernel's 28,000 two would be the same
		number := Port(t)
		if given[number] {
			t.Fatalf("%d is given twice", number)
		}
		given[number] = true
	}
}
