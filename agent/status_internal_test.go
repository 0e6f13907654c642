package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// TestSilentNodesHoldNothing: who is not heard has no address any more, whatever the store still says of it.
func TestSilentNodesHoldNothing(t *testing.T) {
	held := []netip.Addr{netip.MustParseAddr("10.66.0.200")}
	before := []fleet.NodeReport{{Node: "a", Holding: held}, {Node: "b", Holding: held}}
	after := withoutSilent(before, map[fleet.NodeName]time.Duration{"a": time.Second})
	if len(after) != 2 || after[0].Holding != nil || len(after[1].Holding) != 1 {
		t.Errorf("they are said to hold %v and %v", after[0].Holding, after[1].Holding)
	}
	if len(before[0].Holding) != 1 {
		t.Error("what the store has was changed")
	}
}
