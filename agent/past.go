package agent

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"

	"github.com/skerry-dev/skerry/fleet"
)

// pasts keeps, by pod UID, what a sandbox knew that is being replaced: Podman forgets it with the old one, and has it
// again as a label of the new one. It is on disk, because the agent may be killed in between.
type pasts struct {
	file string
	all  map[string]fleet.Past
}

func newPasts(dataDir string) *pasts {
	p := &pasts{file: filepath.Join(dataDir, "pasts.json"), all: map[string]fleet.Past{}}
	if raw, err := os.ReadFile(p.file); err == nil {
		if err := json.Unmarshal(raw, &p.all); err != nil || p.all == nil {
			p.all = map[string]fleet.Past{} // those pods begin at zero
		}
	}
	return p
}

// keep remembers what a chain is about to take from Podman.
func (p *pasts) keep(chain fleet.Chain) error {
	for _, s := range chain.Steps {
		if s.Verb == fleet.Sandbox && len(s.Past) > 0 {
			p.all[chain.UID] = s.Past
			return p.save()
		}
	}
	return nil
}

// forget drops what Podman has again, and what is of pods that are no more.
func (p *pasts) forget(seen fleet.Host, slots []fleet.Slot) error {
	if len(p.all) == 0 {
		return nil
	}
	wanted := map[string]bool{}
	for i := range slots {
		wanted[slots[i].UID] = true
	}
	for i := range seen.Pods {
		if o := &seen.Pods[i]; len(o.Past) > 0 && maps.Equal(o.Past, p.all[o.UID]) { // an older one says nothing
			wanted[o.UID] = false
		}
	}
	before := len(p.all)
	for uid := range p.all {
		if !wanted[uid] {
			delete(p.all, uid)
		}
	}
	if len(p.all) == before {
		return nil
	}
	return p.save()
}

func (p *pasts) save() error {
	raw, err := json.Marshal(p.all)
	if err != nil {
		return err
	}
	return writeFile(p.file, raw)
}
