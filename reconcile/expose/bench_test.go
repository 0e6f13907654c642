package expose_test

import (
	"fmt"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// fleetOf is n Services with so many pods each.
func fleetOf(n, each int) (fleet.Desired, []expose.Pod) {
	var services []runtime.Object
	var pods []expose.Pod
	for i := range n {
		name := fmt.Sprintf("s%d", i)
		edits := []edit{nodePort}
		if i%10 == 0 {
			edits = []edit{headless}
		}
		services = append(services, service(name, edits...))
		for j := range each {
			k := i*each + j
			pods = append(pods, pod(fmt.Sprintf("p%d", k), name, netip.AddrFrom4([4]byte{10, 1, byte(k >> 8), byte(k)}).String(), host(fmt.Sprintf("h%d", j), name)))
		}
	}
	return desiredOf(services...), pods
}

// BenchmarkThousandServices is what one change among a thousand Services with five pods each costs.
func BenchmarkThousandServices(b *testing.B) {
	d, pods := fleetOf(1000, 5)
	set := settings("10.96.0.0/12")
	exposures, _ := expose.Allocate(d, nil, set)
	backends := expose.Backends(d, pods)
	b.Run("Backends", func(b *testing.B) {
		for b.Loop() {
			expose.Backends(d, pods)
		}
	})
	b.Run("Net+ZoneOf", func(b *testing.B) {
		for b.Loop() {
			expose.Net(expose.NetInput{Desired: d, Exposures: exposures, Backends: backends, Node: "a"})
			expose.ZoneOf(d, exposures, backends, set.Domain)
		}
	})
	b.Run("Allocate", func(b *testing.B) {
		for b.Loop() {
			expose.Allocate(d, exposures, set)
		}
	})
}
