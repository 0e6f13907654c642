package agent

import (
	"testing"

	"github.com/skerry-dev/skerry/fleet"
)

// TestTemplatesOfRunsAreKept: a CronJob may have another by the time that a run of its needs its own again.
func TestTemplatesOfRunsAreKept(t *testing.T) {
	run := fleet.Assignment{Jobs: []fleet.Job{{Want: "old"}}}
	if !used(run, fleet.Desired{Objects: []fleet.Object{{Hash: "new"}}})["old"] {
		t.Error("the template of a run without pods is given up")
	}
}
