package reconcile

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// TestServicesAcrossNodes: pods of other nodes stand behind Services as long as these are heard, and go at once when a decision says that
// they are to go, whatever their node says.
func TestServicesAcrossNodes(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 3, "hello:1")).settle()
	web := serviceOf("web", map[string]string{"app": "web"})
	web.Value.(*corev1.Service).Spec.Type = corev1.ServiceTypeLoadBalancer
	m.desired = desiredOf(append(m.desired.Objects, web)...)
	network := serviceNetwork
	address := netip.MustParseAddr("192.168.1.9")
	network.Pools = []fleet.AddressPool{{Name: "home", Addrs: []netip.Prefix{netip.PrefixFrom(address, 32)}}}
	for i := range m.host.Pods {
		m.host.Pods[i].IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 42, 0, byte(2 + i)})}
	}
	in := m.input()
	in.Network = network
	m.stored = Decide(in).Next
	plan := func(change ...func(*NodeInput)) NodePlan {
		in := NodeInput{
			Fleet: true, Node: alpha, Assignment: m.stored, Templates: m.templates, Desired: m.desired, Host: m.host, Now: m.now, Network: network,
			DNS: netip.MustParseAddrPort("10.42.0.1:10053"),
		}
		for _, f := range change {
			f(&in)
		}
		return Plan(in)
	}
	// Two of the three are another node's from now on, as it says.
	whole := plan().Report
	m.stored.Slots = slices.Clone(m.stored.Slots)
	beta := fleet.NodeReport{Node: "beta", Seeking: []netip.Addr{address}}
	for i := range m.stored.Slots[1:] {
		s := &m.stored.Slots[1+i]
		s.Node = "beta"
		at := slices.IndexFunc(whole.Pods, func(p fleet.PodReport) bool { return p.UID == s.UID })
		theirs := whole.Pods[at]
		theirs.Status.PodIP = netip.AddrFrom4([4]byte{10, 42, 1, byte(2 + i)}).String()
		theirs.Status.PodIPs = []corev1.PodIP{{IP: theirs.Status.PodIP}}
		beta.Pods = append(beta.Pods, theirs)
	}
	m.host.Pods = slices.DeleteFunc(slices.Clone(m.host.Pods), func(o fleet.ObservedPod) bool { return o.UID != m.stored.Slots[0].UID })
	heard := func(in *NodeInput) { in.Others = []fleet.NodeReport{beta} }
	ends := func(p NodePlan) (list []string) {
		for _, f := range p.Net.Fronts {
			if f.Addr == address {
				for _, e := range f.Ends {
					list = append(list, e.Addr.String())
				}
			}
		}
		return list
	}
	wantEnds := func(what string, p NodePlan, want ...string) {
		t.Helper()
		if got := ends(p); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	own := m.host.Pods[0].IPs[0].String()
	wantEnds("the other is heard", plan(heard), own, "10.42.1.2", "10.42.1.3")
	wantEnds("the other is silent", plan(), own)
	silent := func(in *NodeInput) { heard(in); in.Silent = map[fleet.NodeName]bool{"beta": true} }
	wantEnds("the other does not answer", plan(silent), own)
	wantEnds("the other does not answer, and nobody else is there", plan(silent, func(in *NodeInput) { in.Host.Pods = nil }), "10.42.1.2", "10.42.1.3")
	m.stored.Slots[1].Goal = fleet.Drain
	wantEnds("one is to go there", plan(heard), own, "10.42.1.3")
	if p := plan(heard); len(p.Net.Addrs) > 0 || len(p.Candidacies) != 1 || p.Candidacies[0].Addr != address || p.Candidacies[0].Heir != "beta" {
		t.Errorf("the machine has %v, and campaigns for %v", p.Net.Addrs, p.Candidacies)
	}
	if p := plan(heard, func(in *NodeInput) { in.Leaving = true }); len(p.Candidacies) > 0 {
		t.Errorf("a node that is being emptied campaigns for %v", p.Candidacies)
	}
	if p := plan(heard, func(in *NodeInput) { in.Fleet = false }); len(p.Candidacies) > 0 || !slices.Equal(p.Net.Addrs, []netip.Addr{address}) {
		t.Errorf("a node alone has %v, and campaigns for %v", p.Net.Addrs, p.Candidacies)
	}
	// With clocks apart, what counts is when this node heard of it.
	mine := &m.stored.Slots[0]
	mine.Goal, mine.Drained = fleet.Drain, m.now.Add(-time.Hour)
	if p := plan(heard, func(in *NodeInput) { in.Draining = map[string]time.Time{mine.UID: m.now} }); len(p.Chains) > 0 || !p.WakeAt.Equal(m.now.Add(drainFor)) {
		t.Errorf("it is told to end at once: %v, %s", p.Chains, p.WakeAt)
	}
}

// TestDrained: the newest wish counts.
func TestDrained(t *testing.T) {
	wish := func(node string, verb fleet.IntentVerb, after time.Duration) fleet.Intent {
		return fleet.Intent{Object: fleet.ObjectID{Kind: fleet.KindNode, Name: node}, Verb: verb, At: start.Add(after)}
	}
	drain, other := wish("alpha", fleet.DrainNode, time.Minute), wish("beta", fleet.DrainNode, time.Hour)
	for name, c := range map[string]struct {
		intents []fleet.Intent
		want    bool
	}{
		"nothing": {nil, false}, "another": {[]fleet.Intent{other}, false}, "drained": {[]fleet.Intent{other, drain}, true},
		"and back":        {[]fleet.Intent{wish("alpha", fleet.Uncordon, time.Hour), drain}, false},
		"cordoned before": {[]fleet.Intent{wish("alpha", fleet.Cordon, 0), drain}, true},
	} {
		if got := Drained(c.intents, "alpha"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
