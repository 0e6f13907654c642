package agent

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// fleetMetrics are those of a fleet as one of its nodes sees it. They are read when somebody asks, from what the store remembers without
// waiting. A node that belongs to none has none of them.
type fleetMetrics struct {
	agent                       atomic.Pointer[Agent] // whose they are
	leader, store, epoch, nodes *prometheus.Desc
}

func newFleetMetrics() *fleetMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("skerry_fleet_"+name, help, labels, nil)
	}
	return &fleetMetrics{
		leader: desc("leader", "Whether this node leads its fleet."),
		store:  desc("store_up", "Whether the fleet's memory answers this node."),
		epoch:  desc("epoch", "The newest decision that this node knows of."),
		nodes:  desc("nodes", "Nodes of the fleet, by state.", "state"),
	}
}

// Describe implements prometheus.Collector.
func (m *fleetMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.leader, m.store, m.epoch, m.nodes} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *fleetMetrics) Collect(to chan<- prometheus.Metric) {
	a := m.agent.Load()
	if a == nil || a.Fleet == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	yes := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	gauge(m.leader, yes(a.leading.Load()))
	gauge(m.store, yes(a.Fleet.Roll.Away() == ""))
	ctx := context.Background()
	assignment, err := a.Store.Load(ctx)
	if err != nil {
		return
	}
	gauge(m.epoch, float64(assignment.Epoch))
	reports, err := a.Store.Reports(ctx)
	if err != nil {
		return
	}
	nodes, err := a.nodes(ctx, reports, assignment.Heard)
	if err != nil {
		return
	}
	count := map[string]int{reconcile.NodeReady: 0, reconcile.NodeNotReady: 0, reconcile.NodeLost: 0}
	for _, n := range nodes {
		var said *fleet.NodeReport
		if at := slices.IndexFunc(reports, func(r fleet.NodeReport) bool { return r.Node == n.Name }); at >= 0 {
			said = &reports[at]
		}
		state, _ := reconcile.Standing(n, said)
		count[state]++
	}
	for state, n := range count {
		gauge(m.nodes, float64(n), state)
	}
}
