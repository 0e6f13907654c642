package expose_test

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

// TestCandidacies: who may have an address, and who is next.
func TestCandidacies(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.7")
	var seek []fleet.NodeName
	of := func(policy corev1.ServiceExternalTrafficPolicy, pods ...expose.Pod) []fleet.Candidacy {
		svc := service("a", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, policy
		})
		in := expose.NetInput{Desired: desiredOf(svc), Node: "a"}
		e := given("a", "10.96.0.20")
		e.Balancers = []netip.Addr{address}
		in.Exposures, in.Backends = []fleet.Exposure{e}, expose.Backends(in.Desired, pods)
		return expose.Candidacies(in, []fleet.NodeName{"a", "b", "c", "d"}, nil, map[netip.Addr][]fleet.NodeName{address: seek})
	}
	here, there := pod("p", "a", "10.0.0.1"), pod("q", "a", "10.0.0.2", on("b"))
	for name, c := range map[string]struct {
		got []fleet.Candidacy
		may bool
	}{
		"anybody, whoever serves":     {of(corev1.ServiceExternalTrafficPolicyCluster), true},
		"who has an end itself":       {of(corev1.ServiceExternalTrafficPolicyLocal, here, there), true},
		"who has none":                {of(corev1.ServiceExternalTrafficPolicyLocal, there), false},
		"whose end is sick":           {of(corev1.ServiceExternalTrafficPolicyLocal, pod("p", "a", "10.0.0.1", sick), there), false},
		"who is the only one":         {of(corev1.ServiceExternalTrafficPolicyLocal, here), true},
		"whose end is about to leave": {of(corev1.ServiceExternalTrafficPolicyLocal, pod("p", "a", "10.0.0.1", draining), there), false},
	} {
		if (len(c.got) == 1) != c.may {
			t.Errorf("%s: %v", name, c.got)
		}
	}
	// The heir is one that says that it could: not one that only votes, is being emptied or has no carrier.
	for _, list := range [][]fleet.NodeName{nil, {"a"}, {"b"}, {"a", "c"}, {"d"}} {
		seek = list
		want := fleet.NodeName("")
		if len(list) > 0 && list[len(list)-1] != "a" {
			want = list[len(list)-1]
		}
		if got := of(corev1.ServiceExternalTrafficPolicyCluster)[0].Heir; got != want {
			t.Errorf("%v could have it: the next is %q, want %q", list, got, want)
		}
	}
}

// TestManyAddressesAreSpread: each node is first for its part of them, all nodes think alike, and a node that goes changes the order of no others.
func TestManyAddressesAreSpread(t *testing.T) {
	var virtual []netip.Addr
	for i := range 90 {
		virtual = append(virtual, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	nodes := []fleet.NodeName{"a", "b", "c"}
	first, ranks := map[fleet.NodeName]int{}, map[string]bool{}
	for _, n := range nodes {
		list := expose.Candidacies(expose.NetInput{Node: n}, nodes, virtual, nil)
		if len(list) != len(virtual) {
			t.Fatalf("%s campaigns for %d", n, len(list))
		}
		for _, c := range list {
			if c.Rank == 0 {
				first[n]++
			}
			at := fmt.Sprint(c.Addr, c.Rank)
			if ranks[at] {
				t.Errorf("two nodes have rank %d for %s", c.Rank, c.Addr)
			}
			ranks[at] = true
		}
	}
	for _, n := range nodes {
		if first[n] < 15 {
			t.Errorf("%s is first for %d of 90", n, first[n])
		}
	}
}
