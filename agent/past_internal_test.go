package agent

import (
	"testing"

	"github.com/skerry-dev/skerry/fleet"
)

// TestPastsKeepWhatIsNewer: a look from before a chain shows the label of the sandbox that the chain takes down.
func TestPastsKeepWhatIsNewer(t *testing.T) {
	older, newer := fleet.Past{"web": {Attempt: 1}}, fleet.Past{"web": {Attempt: 2}}
	dir := t.TempDir()
	p := newPasts(dir)
	if err := p.keep(fleet.Chain{UID: "uid", Steps: []fleet.Step{{Verb: fleet.Sandbox, Past: newer}}}); err != nil {
		t.Fatal(err)
	}
	slots := []fleet.Slot{{Identity: fleet.Identity{UID: "uid"}}}
	seen := func(past fleet.Past) fleet.Host {
		return fleet.Host{Pods: []fleet.ObservedPod{{PodReport: fleet.PodReport{Identity: fleet.Identity{UID: "uid"}}, Past: past}}}
	}
	if err := p.forget(seen(older), slots); err != nil || p.all["uid"] == nil {
		t.Errorf("forgotten for an older label: %v", err)
	}
	if again := newPasts(dir); again.all["uid"]["web"].Attempt != 2 {
		t.Errorf("on disk is %v", again.all)
	}
	if err := p.forget(seen(newer), slots); err != nil || p.all["uid"] != nil {
		t.Errorf("kept although Podman has it: %v", err)
	}
}
