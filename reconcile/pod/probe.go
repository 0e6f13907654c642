package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// ProbeKind tells the three probes of a container apart.
type ProbeKind string

// The kinds of probes.
const (
	Startup   ProbeKind = "startup"
	Liveness  ProbeKind = "liveness"
	Readiness ProbeKind = "readiness"
)

// Verdict is what a probe's outcomes amount to.
type Verdict string

// The verdicts. Before its first outcomes count, a container lives, is not ready, and it is not known whether it
// started.
const (
	Undecided Verdict = ""
	Passed    Verdict = "passed"
	Failed    Verdict = "failed"
)

// Tally is the verdict of one probe of one container and how it came about. The zero value is that of a probe
// without an outcome.
type Tally struct {
	Verdict Verdict   `json:"verdict"`
	Since   time.Time `json:"since"` // when it last became Passed, or ceased to be; zero before that
	Text    string    `json:"-"`     // what the last outcome said; empty when it had nothing to say

	last Verdict // the last outcome
	run  int32   // how many of that in a row
}

// Add returns the tally after one more outcome (semantics 2.4): it turns only after as many of one kind in a row
// as the probe's thresholds say.
func (t Tally) Add(p *corev1.Probe, well bool, text string, now time.Time) Tally {
	outcome, threshold := Failed, p.FailureThreshold
	if well {
		outcome, threshold = Passed, p.SuccessThreshold
	}
	if t.last == outcome {
		t.run++
	} else {
		t.last, t.run = outcome, 1
	}
	t.Text = text
	if t.run >= threshold && t.Verdict != outcome {
		if t.Verdict == Passed || outcome == Passed {
			t.Since = now
		}
		t.Verdict = outcome
	}
	return t
}

// Unasked returns the tally after an attempt at asking that came to nothing. It counts as no outcome.
func (t Tally) Unasked(text string) Tally {
	t.Text = "cannot be asked: " + text
	return t
}

// Health is what the probes of one container say.
type Health map[ProbeKind]Tally

// Probe is one that should be running now.
type Probe struct {
	Container string // Podman's ID: another container is another probe
	Name      string // the container's in its pod
	Kind      ProbeKind
	Begun     time.Time // when the container started; the initial delay counts from there
	Address   string    // of the pod
	Spec      *corev1.Probe
	Handler   corev1.ProbeHandler // Spec's, expanded
	Ports     []corev1.ContainerPort
}

// health is what is known of a container's probes.
func (in *Input) health(o fleet.ObservedContainer) Health { return in.Health[o.ID] }

// started reports whether a running container is up, as far as anyone asked to know (semantics 2.3).
func started(c *corev1.Container, h Health) bool {
	return c.StartupProbe == nil || h[Startup].Verdict == Passed
}

// unwell says which probe wants a container killed, with its grace period; empty when none does.
func unwell(c *corev1.Container, h Health) (why string, grace *int64) {
	for _, p := range []struct {
		kind ProbeKind
		spec *corev1.Probe
	}{{Startup, c.StartupProbe}, {Liveness, c.LivenessProbe}} {
		if p.spec != nil && h[p.kind].Verdict == Failed {
			why = fmt.Sprintf("%s probe failed", p.kind)
			if text := h[p.kind].Text; text != "" {
				why += ": " + text
			}
			return why, p.spec.TerminationGracePeriodSeconds
		}
	}
	return "", nil
}

// probes are those that should be running for a container now: startup alone until it passed, liveness until
// it failed, and neither in a pod that is to go (semantics 2.4).
func (in *Input) probes(c *corev1.Container, o fleet.ObservedContainer) []Probe {
	leaving := in.Slot.Goal == fleet.Drain || in.over()
	if o.State != fleet.Running && !(leaving && o.State == fleet.Stopping) {
		return nil
	}
	h := in.health(o)
	var list []Probe
	add := func(kind ProbeKind, spec *corev1.Probe) {
		if spec == nil || in.podAddress() == "" && spec.Exec == nil {
			return // it is not known yet where to ask
		}
		list = append(list, Probe{
			Container: o.ID, Name: c.Name, Kind: kind, Begun: o.Started, Address: in.podAddress(),
			Spec: spec, Handler: expandHandler(c, spec.ProbeHandler), Ports: c.Ports,
		})
	}
	switch {
	case !started(c, h):
		if h[Startup].Verdict == Undecided && !leaving {
			add(Startup, c.StartupProbe)
		}
	default:
		if why, _ := unwell(c, h); why == "" && !leaving {
			add(Liveness, c.LivenessProbe)
		}
		add(Readiness, c.ReadinessProbe)
	}
	return list
}

// noteUnready says of running containers what keeps them from being ready.
func (n *next) noteUnready() {
	if sandboxOf(n.Observed) != alive {
		return
	}
	for _, u := range n.units() {
		past := n.generations(u.Name)
		if len(past) == 0 || past[0].State != fleet.Running {
			continue
		}
		h := n.health(past[0])
		switch {
		case !started(u.Container, h) && h[Startup].Text != "":
			n.note("container %s is not started: %s", u.Name, h[Startup].Text)
		case started(u.Container, h) && u.ReadinessProbe != nil && h[Readiness].Verdict != Passed && h[Readiness].Text != "":
			n.note("container %s is not ready: %s", u.Name, h[Readiness].Text)
		}
	}
}

// podAddress is where the pod answers.
func (in *Input) podAddress() string {
	if in.Spec != nil && in.Spec.Spec.HostNetwork {
		if in.Place.Address != "" {
			return in.Place.Address
		}
		return "127.0.0.1"
	}
	if in.Observed == nil || len(in.Observed.IPs) == 0 {
		return ""
	}
	return in.Observed.IPs[0].String()
}

// expandHandler expands the command of an exec probe. Only values that are written out count: what comes
// from elsewhere is not looked up for a probe (semantics 2.4).
func expandHandler(c *corev1.Container, h corev1.ProbeHandler) corev1.ProbeHandler {
	if h.Exec == nil {
		return h
	}
	written := map[string]string{}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			written[e.Name] = e.Value
		}
	}
	lookup := func(name string) (string, bool) { v, ok := written[name]; return v, ok }
	h.Exec = &corev1.ExecAction{Command: expandAll(h.Exec.Command, lookup)}
	return h
}
