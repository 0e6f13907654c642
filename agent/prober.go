package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
	"github.com/skerry-dev/skerry/runtime/host"
)

// probers asks containers how they are: one goroutine a probe, so that a slow one delays no other. Which probes
// should be running is for Plan to say; a verdict that changes rings for another pass.
//
// Verdicts are kept on disk, by container: a new agent goes on from what the last one knew, and what was ready is
// not taken for unready until it was asked again.
type probers struct {
	prober  host.Prober
	changed func()
	file    string
	begun   time.Time
	log     *slog.Logger

	loops sync.WaitGroup
	mu    sync.Mutex
	// health is replaced and never written to, so that a snapshot of it can be handed out.
	health  map[string]pod.Health
	running map[probeKey]context.CancelFunc
	unsaved bool
}

type probeKey struct {
	container string
	kind      pod.ProbeKind
}

func newProbers(prober host.Prober, dataDir string, changed func(), log *slog.Logger) *probers {
	p := &probers{
		prober: prober, changed: changed, file: filepath.Join(dataDir, "probes.json"), begun: time.Now(), log: log,
		health: map[string]pod.Health{}, running: map[probeKey]context.CancelFunc{},
	}
	if raw, err := os.ReadFile(p.file); err == nil {
		if err := json.Unmarshal(raw, &p.health); err != nil || p.health == nil {
			p.health = map[string]pod.Health{} // it is asked anew
		}
	}
	return p
}

// snapshot is what is known now. It is read-only.
func (p *probers) snapshot() map[string]pod.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.health)
}

// tend starts the probes that should be running and are not, ends the others, and forgets containers that are no
// more.
func (p *probers) tend(ctx context.Context, want []pod.Probe, seen fleet.Host) {
	defer p.save()
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := make(map[probeKey]bool, len(want))
	for _, probe := range want {
		key := probeKey{probe.Container, probe.Kind}
		keep[key] = true
		if p.running[key] != nil {
			continue
		}
		loop, cancel := context.WithCancel(ctx)
		p.running[key] = cancel
		p.loops.Go(func() { p.loop(loop, probe) })
	}
	for key, cancel := range p.running {
		if !keep[key] {
			cancel()
			delete(p.running, key)
		}
	}
	p.forget(seen)
}

func (p *probers) forget(seen fleet.Host) {
	if len(p.health) == 0 {
		return
	}
	there := map[string]bool{}
	for i := range seen.Pods {
		for j := range seen.Pods[i].Containers {
			there[seen.Pods[i].Containers[j].ID] = true
		}
	}
	for id := range p.health {
		if !there[id] {
			delete(p.health, id)
			p.unsaved = true
		}
	}
}

// save writes what is known, if that changed. No probe waits for the disk.
func (p *probers) save() {
	p.mu.Lock()
	if !p.unsaved {
		p.mu.Unlock()
		return
	}
	p.unsaved = false
	raw, err := json.Marshal(p.health)
	p.mu.Unlock()
	if err == nil {
		err = writeFile(p.file, raw)
	}
	if err != nil {
		p.log.Warn("what probes say cannot be kept", "err", err)
		p.mu.Lock()
		p.unsaved = true
		p.mu.Unlock()
	}
}

// wait waits until all probes have ended, once their context has.
func (p *probers) wait() { p.loops.Wait() }

// first is when a probe is first asked: after the container's initial delay, and with a container that is older than
// the agent, some part of a period later, so that a restart does not ask all at once (semantics 2.4).
func (p *probers) first(probe pod.Probe) time.Time {
	at := probe.Begun.Add(time.Duration(probe.Spec.InitialDelaySeconds) * time.Second)
	if probe.Begun.Before(p.begun) {
		if jittered := p.begun.Add(rand.N(period(probe))); jittered.After(at) { //nolint:gosec // chance, not secrecy
			at = jittered
		}
	}
	return at.Add(probeGrid - 1).Truncate(probeGrid)
}

// probeGrid is what the moments of probes are multiples of: hundreds that wake the machine together cost half of what
// they cost one by one.
const probeGrid = 50 * time.Millisecond

func period(probe pod.Probe) time.Duration {
	return max(time.Duration(probe.Spec.PeriodSeconds)*time.Second, time.Second)
}

func (p *probers) loop(ctx context.Context, probe pod.Probe) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(time.Until(p.first(probe))):
	}
	tick := time.NewTicker(period(probe))
	defer tick.Stop()
	for {
		p.ask(ctx, probe)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// probeTries is how often the prober may fail itself before an attempt is given up (semantics 2.4).
const probeTries = 3

func (p *probers) ask(ctx context.Context, probe pod.Probe) {
	timeout := max(time.Duration(probe.Spec.TimeoutSeconds)*time.Second, time.Second)
	for try := range probeTries {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		verdict, err := p.prober.Probe(bounded, host.Probe{
			Container: probe.Container, Address: probe.Address, Handler: probe.Handler, Ports: probe.Ports,
		})
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			p.count(probe, func(t pod.Tally) pod.Tally { return t.Add(probe.Spec, verdict.Well, verdict.Text, time.Now()) })
			return
		case try == probeTries-1:
			p.log.Debug("probe", "container", probe.Name, "kind", string(probe.Kind), "err", err)
			p.count(probe, func(t pod.Tally) pod.Tally { return t.Unasked(err.Error()) })
		}
	}
}

// count changes a tally, and rings when the verdict did, or when there is a first word of why it is as it is.
func (p *probers) count(probe pod.Probe, change func(pod.Tally) pod.Tally) {
	p.mu.Lock()
	before := p.health[probe.Container]
	after := maps.Clone(before)
	if after == nil {
		after = pod.Health{}
	}
	after[probe.Kind] = change(before[probe.Kind])
	p.health[probe.Container] = after
	turned := after[probe.Kind].Verdict != before[probe.Kind].Verdict
	p.unsaved = p.unsaved || turned
	p.mu.Unlock()
	if turned || (before[probe.Kind].Text == "") != (after[probe.Kind].Text == "") {
		p.changed()
	}
}
