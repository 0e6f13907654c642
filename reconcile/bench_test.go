package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// BenchmarkDecidePlan10000 is one decision and one plan of 200 Deployments with 50 pods each.
func BenchmarkDecidePlan10000(b *testing.B) {
	commit := func(image string) fleet.Desired {
		var objects []fleet.Object
		for i := range 200 {
			objects = append(objects, deploymentOf(fmt.Sprintf("web-%03d", i), 50, image))
		}
		return desiredOf(objects...)
	}
	m := newMachine(b)
	m.want(commit("hello:1"))
	fill(b, m)
	converged := *m
	m.want(commit("hello:2"))
	m.decide() // the first step of all rollouts
	m.now = m.now.Add(time.Second)
	m.said = []fleet.NodeReport{m.plan().Report}
	midway := *m
	midway.stored = Decide(midway.input()).Next

	for _, test := range []struct {
		name string
		m    machine
	}{{"converged", converged}, {"rollout", midway}} {
		b.Run(test.name, func(b *testing.B) {
			slots := len(test.m.stored.Slots)
			for _, part := range []struct {
				name string
				run  func()
			}{
				{"decide", func() { Decide(test.m.input()) }},
				{"plan", func() { test.m.plan() }},
				{"both", func() { Decide(test.m.input()); test.m.plan() }},
			} {
				b.Run(part.name, func(b *testing.B) {
					for b.Loop() {
						part.run()
					}
					b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/op")
					b.ReportMetric(float64(slots), "slots")
				})
			}
		})
	}
}

// fill runs all that is desired; after() copies the host at every step, which is too slow for so many.
func fill(b *testing.B, m *machine) {
	b.Helper()
	for range 3 {
		m.said = []fleet.NodeReport{m.plan().Report}
		m.decide()
		for _, chain := range m.plan().Chains {
			one := fleet.Host{}
			for _, s := range chain.Steps {
				one = after(one, s, fleet.Assignment{Slots: []fleet.Slot{slotOf(m, chain.UID)}}, m.templates, m.now)
			}
			m.host.Pods = append(m.host.Pods, one.Pods...)
		}
		m.now = m.now.Add(time.Second)
	}
	if plan := m.plan(); len(plan.Chains) > 0 || len(m.host.Pods) != 10000 || Decide(m.input()).Changed {
		b.Fatalf("not converged: %d chains, %d pods", len(plan.Chains), len(m.host.Pods))
	}
}

func slotOf(m *machine, uid string) fleet.Slot {
	for i := range m.stored.Slots {
		if m.stored.Slots[i].UID == uid {
			return m.stored.Slots[i]
		}
	}
	return fleet.Slot{}
}
