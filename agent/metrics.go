package agent

import (
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/fleet"
)

// Metrics are what Prometheus is told. A nil *Metrics takes everything and keeps nothing.
type Metrics struct {
	checked  *prometheus.GaugeVec
	failures *prometheus.GaugeVec
	objects  *prometheus.GaugeVec
	faults   *prometheus.GaugeVec
	passes   *prometheus.HistogramVec
	steps    *prometheus.CounterVec
	stepTime *prometheus.HistogramVec
	podCount *prometheus.GaugeVec
	held     *prometheus.GaugeVec
	moves    *prometheus.CounterVec
	renewals *prometheus.HistogramVec
	holding  *addressMetrics
	fleet    *fleetMetrics
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "skerry_" + name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "skerry_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, labels)
		r.MustRegister(h)
		return h
	}
	steps := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skerry_steps_total", Help: "Steps taken, by verb and outcome."}, []string{"verb", "outcome"})
	moves := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skerry_address_transitions_total", Help: "How often this node got or lost an address."}, []string{"address"})
	r.MustRegister(steps, moves)
	whole := newFleetMetrics()
	holding := newAddressMetrics()
	r.MustRegister(whole, holding)
	return &Metrics{
		holding:  holding,
		fleet:    whole,
		checked:  gauge("source_checked_timestamp_seconds", "When a source was last looked at with success.", "source"),
		failures: gauge("source_failures", "Looks at a source that failed in a row.", "source"),
		objects:  gauge("source_objects", "Objects that a source holds.", "source"),
		faults:   gauge("source_faults", "Faults in a source that keep something from being taken.", "source"),
		passes:   histogram("pass_duration_seconds", "How long a pass took, by loop.", "loop"),
		steps:    steps,
		stepTime: histogram("step_duration_seconds", "How long a step took, by verb.", "verb"),
		held:     gauge("address_held", "1 for an address that this node has, 0 for one that it had.", "address"),
		moves:    moves,
		renewals: histogram("address_renewal_seconds", "How long it took to renew the lease of an address, and to tell the kernel.", "address"),
		podCount: gauge("pods", "Pods on this node, by phase and readiness.", "phase", "ready"),
	}
}

// of says whose metrics they are from now on: an agent is followed by another in the same process.
func (m *Metrics) of(a *Agent) {
	if m != nil {
		m.fleet.agent.Store(a)
	}
}

// addressesOf says who has the addresses that they are about.
func (m *Metrics) addressesOf(h *Holder) {
	if m != nil {
		m.holding.holder.Store(h)
	}
}

func (m *Metrics) fetched(h holding) {
	if m == nil {
		return
	}
	source := string(h.name)
	if !h.checked.IsZero() {
		m.checked.WithLabelValues(source).Set(float64(h.checked.Unix()))
	}
	m.failures.WithLabelValues(source).Set(float64(h.failures))
	m.objects.WithLabelValues(source).Set(float64(len(h.objects)))
	m.faults.WithLabelValues(source).Set(float64(len(untaken(h.faults))))
}

func (m *Metrics) passed(loop string, took time.Duration) {
	if m != nil {
		m.passes.WithLabelValues(loop).Observe(took.Seconds())
	}
}

func (m *Metrics) stepped(d apply.Done) {
	if m == nil {
		return
	}
	outcome := "ok"
	if d.Err != nil {
		outcome = "failed"
	}
	m.steps.WithLabelValues(string(d.Step.Verb), outcome).Inc()
	m.stepTime.WithLabelValues(string(d.Step.Verb)).Observe(d.Took.Seconds())
}

func (m *Metrics) pods(report fleet.NodeReport) {
	if m == nil {
		return
	}
	m.podCount.Reset()
	for i := range report.Pods {
		ready := "false"
		if _, is := report.Pods[i].ReadySince(); is {
			ready = "true"
		}
		m.podCount.WithLabelValues(string(report.Pods[i].Status.Phase), ready).Inc()
	}
}

func (m *Metrics) holds(a netip.Addr, is bool) {
	if m == nil {
		return
	}
	held := 0.0
	if is {
		held = 1
	}
	m.held.WithLabelValues(a.String()).Set(held)
	m.moves.WithLabelValues(a.String()).Inc()
}

func (m *Metrics) renewed(a netip.Addr, took time.Duration) {
	if m != nil {
		m.renewals.WithLabelValues(a.String()).Observe(took.Seconds())
	}
}
