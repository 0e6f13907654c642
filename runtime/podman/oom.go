package podman

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// leastScore is the lowest oom_score_adj that the machine lets us give: below that of Podman itself takes
// CAP_SYS_RESOURCE, which containers and small virtual machines often lack. The agent stands for Podman here.
var leastScore = sync.OnceValue(func() int {
	const lowest, sysResource = -1000, 24
	if capable(sysResource) {
		return lowest
	}
	raw, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return lowest
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return lowest
	}
	return own
})

// allowedScore is the score nearest to the one wanted that can be had.
func (m *Machine) allowedScore(want int) int { return max(want, leastScore()) }

// capable reports whether this process has a capability in effect.
func capable(number uint) bool {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			return err == nil && set&(1<<number) != 0
		}
	}
	return false
}
