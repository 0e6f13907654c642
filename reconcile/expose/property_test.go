package expose_test

import (
	"fmt"
	"maps"
	"math/rand"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

var names = []string{"a", "b", "c", "d", "e"}

// drawService draws a Service that asks for little or much.
func drawService(t *rapid.T, name string) *corev1.Service {
	edits := []edit{
		headless, alias("x.example"), unready, nodePort, balanced, asking(30000), asking(30001), ip("10.96.0.18"), ip("10.96.0.19"), ip("10.97.0.1"), ip("fd96::12"),
		families(corev1.IPFamilyPolicyPreferDualStack), families("", corev1.IPv6Protocol), internal(corev1.ServiceInternalTrafficPolicyLocal),
		external(corev1.ServiceExternalTrafficPolicyLocal), externalIPs("192.0.2.1"), ports(port("web", 80, "http", "TCP"), port("dns", 80, "53", "UDP")),
	}
	s := service(name)
	for range rapid.IntRange(0, 3).Draw(t, "edits") {
		rapid.SampledFrom(edits).Draw(t, "edit")(s)
	}
	return s
}

func drawServices(t *rapid.T) []runtime.Object {
	var list []runtime.Object
	for _, name := range names {
		if rapid.IntRange(0, 3).Draw(t, "there") > 0 {
			list = append(list, drawService(t, name))
		}
	}
	return list
}

func drawPods(t *rapid.T) []expose.Pod {
	changes := []change{
		sick, draining, phase(corev1.PodFailed), on("b"), on("c"), host("h", "a"), func(p *expose.Pod) { p.Status.PodIPs = nil },
		func(p *expose.Pod) {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::" + p.Slot.Pod.Name[1:]})
		},
	}
	var list []expose.Pod
	for i := range rapid.IntRange(0, 12).Draw(t, "pods") {
		p := pod(fmt.Sprintf("p%d", i), rapid.SampledFrom(names).Draw(t, "app"), fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 12).Draw(t, "addr")))
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			rapid.SampledFrom(changes).Draw(t, "change")(&p)
		}
		list = append(list, p)
	}
	return list
}

// shuffled is the same in another order.
func shuffled[T any](t *rapid.T, list []T) []T {
	c := slices.Clone(list)
	rand.New(rand.NewSource(rapid.Int64().Draw(t, "order"))).Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] })
	return c
}

// TestNetAlways holds fronts and names of drawn fleets to what must always be true.
func TestNetAlways(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, pods := desiredOf(drawServices(t)...), drawPods(t)
		set := settings("10.96.0.0/24", "fd96::/108")
		set.Pools = []fleet.AddressPool{{Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/31")}}}
		exposures, _ := expose.Allocate(d, nil, set)
		backends := expose.Backends(d, pods)
		in := expose.NetInput{Desired: d, Exposures: exposures, Backends: backends, Node: "a"}
		net, notes := expose.Net(in)
		zone, variables := expose.ZoneOf(d, exposures, backends, "cluster.local"), expose.Variables(d, exposures, "default")

		other := in
		other.Exposures, other.Backends = shuffled(t, exposures), shuffled(t, expose.Backends(d, shuffled(t, pods)))
		net2, notes2 := expose.Net(other)
		if diff := cmp.Diff(net, net2, addrs) + cmp.Diff(notes, notes2) + cmp.Diff(backends, expose.Backends(d, shuffled(t, pods)), addrs) +
			cmp.Diff(zone, expose.ZoneOf(d, other.Exposures, other.Backends, "cluster.local"), addrs) + cmp.Diff(variables, expose.Variables(d, other.Exposures, "default")); diff != "" {
			t.Fatalf("order matters: %s", diff)
		}
		if !slices.IsSortedFunc(net.Fronts, fleet.FrontOrder) {
			t.Fatal("fronts are not in order")
		}
		seen := map[string]bool{}
		for _, f := range net.Fronts {
			key := fmt.Sprint(f.Addr, f.Protocol, f.Number)
			if seen[key] {
				t.Fatalf("two fronts at %s", key)
			}
			seen[key] = true
			checkFront(t, d, f, pods)
		}
	})
}

// checkFront holds one front to what the semantics say, read from the pods themselves.
func checkFront(t *rapid.T, d fleet.Desired, f fleet.Front, pods []expose.Pod) {
	svc, _ := fleet.Lookup[*corev1.Service](d, f.Service)
	local := svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if f.Addr.IsValid() && !netip.MustParsePrefix("192.0.2.0/31").Contains(f.Addr) { // an address of its own, none for clients outside
		local = svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	}
	ready, reserve, anybody := map[netip.Addr]bool{}, map[netip.Addr]bool{}, false
	for _, p := range pods {
		c := p.Status.Conditions[0].Status == corev1.ConditionTrue
		drains := p.Slot.Goal == fleet.Drain
		if p.Spec.Labels["app"] != svc.Name || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, text := range p.Status.PodIPs {
			a := netip.MustParseAddr(text.IP)
			if f.Addr.IsValid() && a.Is4() != f.Addr.Is4() {
				continue
			}
			isReady, isReserve := svc.Spec.PublishNotReadyAddresses || (c && !drains), c && drains
			anybody = anybody || isReady || isReserve
			if !local || p.Node == "a" {
				ready[a] = ready[a] || isReady
				reserve[a] = reserve[a] || isReserve
			}
		}
	}
	for _, e := range f.Ends {
		if ready[e.Addr] {
			continue
		}
		for a, is := range ready {
			if is && a.Is4() == e.Addr.Is4() {
				t.Fatalf("%s is not ready and %s is: %s", e.Addr, a, frontText(f))
			}
		}
		if !reserve[e.Addr] {
			t.Fatalf("%s must not be sent to: %s", e.Addr, frontText(f))
		}
	}
	want := fleet.Reject
	switch {
	case len(f.Ends) > 0:
		want = fleet.Serve
	case anybody:
		want = fleet.Drop
	}
	if f.Addr.IsValid() && f.Verdict != want {
		t.Fatalf("verdict is not %q: %s", want, frontText(f))
	}
	for a, is := range ready {
		if is && f.Addr.IsValid() && !slices.ContainsFunc(f.Ends, func(e fleet.End) bool { return e.Addr == a }) {
			t.Fatalf("%s is left out: %s", a, frontText(f))
		}
	}
}

// TestHistories goes through pushes, with sources that are not read and stores that are lost in between.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.Bool().Draw(t, "small")
		set := settings("10.96.0.0/12", "fd96::/64")
		if small {
			set = settings("10.96.0.0/27", "fd96::/123")
		}
		var now []fleet.Exposure
		for range rapid.IntRange(1, 8).Draw(t, "pushes") {
			d := desiredOf(drawServices(t)...)
			switch rapid.IntRange(0, 6).Draw(t, "trouble") {
			case 0:
				d.Revisions = nil
			case 1:
				now = nil
			}
			next, notes := expose.Allocate(d, shuffled(t, now), set)
			again, twice := expose.Allocate(d, shuffled(t, next), set)
			if diff := cmp.Diff(next, again, addrs) + cmp.Diff(notes, twice); diff != "" {
				t.Fatalf("deciding twice: %s", diff)
			}
			checkExposures(t, d, now, next, set)
			now = next
		}
		lost(t, small, set)
	})
}

// lost holds a lost store to what it promises where no two Services want one thing.
func lost(t *rapid.T, small bool, set fleet.NetworkSettings) {
	if small {
		return
	}
	var now []fleet.Exposure
	var d fleet.Desired
	for range 4 {
		var list []runtime.Object
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 5, rapid.ID).Draw(t, "names") {
			list = append(list, service(name, nodePort))
		}
		d = desiredOf(list...)
		now, _ = expose.Allocate(d, now, set)
	}
	anew, _ := expose.Allocate(d, nil, set)
	if diff := cmp.Diff(now, anew, addrs); diff != "" {
		t.Fatalf("the store was lost: %s", diff)
	}
}

// checkExposures holds what was given to what must always be true of it.
func checkExposures(t *rapid.T, d fleet.Desired, before, next []fleet.Exposure, set fleet.NetworkSettings) {
	had, taken := map[fleet.ObjectID]fleet.Exposure{}, map[string]fleet.ObjectID{}
	for _, e := range before {
		had[e.ID] = e
	}
	claim := func(what string, id fleet.ObjectID) {
		if other, twice := taken[what]; twice {
			t.Fatalf("%s and %s both have %s", other, id, what)
		}
		taken[what] = id
	}
	for _, e := range next {
		for _, a := range e.Addrs {
			claim(a.String(), e.ID)
			if !slices.ContainsFunc(set.Addrs, func(p netip.Prefix) bool { return p.Contains(a) }) || slices.Contains(expose.Nameservers(set), a) {
				t.Fatalf("%s was given %s", e.ID, a)
			}
		}
		for key, number := range e.NodePorts {
			claim(fmt.Sprint(key[:3], number), e.ID)
			if number < 30000 || number > 32767 {
				t.Fatalf("%s was given %d", e.ID, number)
			}
		}
		svc, there := fleet.Lookup[*corev1.Service](d, e.ID)
		if !there && d.Known(source, e.ID) {
			t.Fatalf("%s is no more", e.ID)
		}
		old := had[e.ID]
		if !there && (!slices.Equal(old.Addrs, e.Addrs) || !maps.Equal(old.NodePorts, e.NodePorts)) {
			t.Fatalf("%s was not left what it had", e.ID)
		}
		if there && svc.Spec.ClusterIP == "" && len(old.Addrs) > 0 && len(svc.Spec.IPFamilies) == 0 && !slices.Contains(e.Addrs, old.Addrs[0]) && old.Addrs[0].Is4() {
			t.Fatalf("%s had %s and has %s", e.ID, old.Addrs, e.Addrs)
		}
		if there && svc.Spec.ClusterIP != "" && (len(e.Addrs) == 0 || e.Addrs[0].String() != svc.Spec.ClusterIP) && len(e.Addrs) > 0 && len(svc.Spec.IPFamilies) == 0 {
			t.Fatalf("%s asked for %s and has %s", e.ID, svc.Spec.ClusterIP, e.Addrs)
		}
	}
}
