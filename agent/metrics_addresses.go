package agent

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// addressMetrics are those of the addresses that this node has just now, as the machine says when somebody asks.
type addressMetrics struct {
	holder                atomic.Pointer[Holder] // nil: there are none
	fence, age, conflicts *prometheus.Desc
}

func newAddressMetrics() *addressMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("skerry_address_"+name, help, append([]string{"address"}, labels...), nil)
	}
	return &addressMetrics{
		fence:     desc("fence_open", "1 while the kernel lets an address that this node has through, 0 once its time is over.", "link", "fence"),
		age:       desc("lease_age_seconds", "How long ago it was asked for what the lease of an address that this node has goes by."),
		conflicts: desc("conflicts", "How often another machine said that it has an address, since this node has it."),
	}
}

// Describe implements prometheus.Collector.
func (m *addressMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.fence, m.age, m.conflicts} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *addressMetrics) Collect(to chan<- prometheus.Metric) {
	h := m.holder.Load()
	if h == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	h.mu.Lock()
	machine := h.machine
	for a, own := range h.held {
		gauge(m.age, own.Age().Seconds(), a.String())
	}
	h.mu.Unlock()
	for _, one := range machine.State() {
		open := 0.0
		if one.Open {
			open = 1
		}
		gauge(m.fence, open, one.Addr.String(), one.Link, one.Fence)
		gauge(m.conflicts, float64(one.Conflicts), one.Addr.String())
	}
}
