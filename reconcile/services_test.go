package reconcile

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

func serviceOf(name string, selector map[string]string) fleet.Object {
	v := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}}},
	}
	return fleet.Object{ID: fleet.ObjectID{Kind: fleet.KindService, Namespace: "shop", Name: name}, Source: "home", Revision: "r1", Value: v}
}

var serviceNetwork = fleet.NetworkSettings{
	Services: true, Pods: netip.MustParsePrefix("10.42.0.0/16"), Addrs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")},
	Domain: "cluster.local", DNS: netip.MustParseAddr("10.43.0.10"),
}

// TestOutOfTheRotationBeforeTheEnd: a pod that is to go is in no front any more in the very plan that finds it so, and is told to
// end only when what was on its way has had time to arrive. A pod that no Service sends to does not wait.
func TestOutOfTheRotationBeforeTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		selector map[string]string
		waits    bool
	}{"behind a Service": {map[string]string{"app": "web"}, true}, "behind none": {map[string]string{"app": "other"}, false}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, deploymentOf("web", 2, "hello:1")).settle()
			m.desired = desiredOf(append(m.desired.Objects, serviceOf("web", c.selector))...)
			in := m.input()
			in.Network = serviceNetwork
			m.stored = Decide(in).Next
			if len(m.stored.Exposures) != 1 {
				t.Fatalf("exposures: %v", m.stored.Exposures)
			}
			for i := range m.host.Pods {
				m.host.Pods[i].IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 42, 0, byte(2 + i)})}
			}
			plan := func() NodePlan {
				return Plan(NodeInput{
					Node: alpha, Assignment: m.stored, Templates: m.templates, Desired: m.desired, Host: m.host, Now: m.now,
					Network: serviceNetwork, DNS: netip.MustParseAddrPort("10.42.0.1:10053"),
				})
			}
			ends := func(p NodePlan) (n int) {
				for _, f := range p.Net.Fronts {
					if f.Number == 80 {
						n += len(f.Ends)
					}
				}
				return n
			}
			if n := ends(plan()); c.waits && n != 2 {
				t.Fatalf("%d ends, %+v", n, plan().Net)
			}
			s := &m.stored.Slots[0]
			s.Goal, s.Drained, s.Epoch = fleet.Drain, m.now, m.stored.Epoch+1
			going := plan()
			if n := ends(going); c.waits && n != 1 {
				t.Errorf("%d ends while one goes", n)
			}
			if waits := len(going.Chains) == 0; waits != c.waits {
				t.Errorf("it waits: %t; %v", waits, going.Chains)
			}
			if c.waits && !going.WakeAt.Equal(m.now.Add(drainFor)) {
				t.Errorf("wakes at %s", going.WakeAt)
			}
			m.now = m.now.Add(2 * time.Second)
			if len(plan().Chains) != 1 {
				t.Error("it never goes")
			}
		})
	}
}

// TestServicesAreShown: where Services are reached, who stands behind them, and why somebody does not.
func TestServicesAreShown(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 2, "hello:1")).settle()
	web := serviceOf("web", map[string]string{"app": "web"})
	web.Value.(*corev1.Service).Spec.Type = corev1.ServiceTypeLoadBalancer
	web.File = "web.yaml"
	m.desired = desiredOf(append(m.desired.Objects, web)...)
	network := serviceNetwork
	network.Pools = []fleet.AddressPool{{Name: "home", Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.1.9/32")}}}
	for i := range m.host.Pods {
		m.host.Pods[i].IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 42, 0, byte(2 + i)})}
	}
	in := m.input()
	in.Network = network
	m.stored = Decide(in).Next
	m.stored.Slots[1].Goal = fleet.Drain
	gone := m.stored.Slots[1].Pod.Name
	plan := Plan(NodeInput{
		Node: alpha, Assignment: m.stored, Templates: m.templates, Desired: m.desired, Host: m.host, Now: m.now, Network: network, DNS: netip.MustParseAddrPort("10.42.0.1:10053"),
	})
	if !slices.Equal(plan.Net.Addrs, []netip.Addr{netip.MustParseAddr("192.168.1.9")}) || len(plan.Net.Here) != 2 {
		t.Errorf("the machine has %v, its pods %v", plan.Net.Addrs, plan.Net.Here)
	}
	m.said = []fleet.NodeReport{plan.Report}
	in = m.input()
	in.Network, in.Templates = network, m.templates

	v := NewView(in, nil) // as for status
	line := v.ServiceLines()[0]
	addr, number := m.stored.Exposures[0].Addrs[0], m.stored.Exposures[0].NodePorts["TCP/80"]
	want := Service{
		ID: web.ID, Source: "home", File: "web.yaml", Type: corev1.ServiceTypeLoadBalancer, Addrs: []netip.Addr{addr}, External: []string{"192.168.1.9"},
		Ports: []string{fmt.Sprintf("80:%d/TCP", number)}, Ready: 1, Out: []string{"pod " + gone + " is being stopped"},
		Endpoints: []Endpoint{
			{Addr: netip.MustParseAddr("10.42.0.2"), Ports: []string{"8080/TCP"}, Pod: m.stored.Slots[0].Pod.Name, Node: "alpha", Ready: true},
			{Addr: netip.MustParseAddr("10.42.0.3"), Ports: []string{"8080/TCP"}, Pod: gone, Node: "alpha"},
		},
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if d := cmp.Diff(want, line, same); d != "" {
		t.Error(d)
	}
	svc := v.Services()[0]
	if svc.Spec.ClusterIP != addr.String() || svc.Spec.Ports[0].NodePort != number || svc.Status.LoadBalancer.Ingress[0].IP != "192.168.1.9" || svc.UID == "" {
		t.Errorf("%+v", svc)
	}
	slice := v.EndpointSlices()[0]
	if len(slice.Endpoints) != 2 || !*slice.Endpoints[0].Conditions.Ready || *slice.Endpoints[1].Conditions.Ready || !*slice.Endpoints[1].Conditions.Terminating || *slice.Ports[0].Port != 8080 {
		t.Errorf("%+v", slice)
	}
}

// TestPoliciesFencePods: a policy is in the plan as soon as it is desired, for the pods that it selects, whether or not a Service is.
func TestPoliciesFencePods(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 1, "hello:1"), deploymentOf("db", 1, "hello:2", func(d *appsv1.Deployment) {
		d.Spec.Selector.MatchLabels = map[string]string{"app": "db"}
		d.Spec.Template.Labels = map[string]string{"app": "db"}
	})).settle()
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}}},
	}}
	addr := map[string]netip.Addr{}
	for i := range m.host.Pods {
		o := &m.host.Pods[i]
		o.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 42, 0, byte(2 + i)})}
		addr[strings.Split(o.Pod.Name, "-")[0]] = o.IPs[0]
	}
	fences := func() []fleet.Fence {
		return Plan(NodeInput{Node: alpha, Assignment: m.stored, Templates: m.templates, Desired: m.desired, Host: m.host, Now: m.now, Network: serviceNetwork}).Net.Fences
	}
	if got := fences(); got != nil {
		t.Errorf("without a policy: %v", got)
	}
	m.desired = desiredOf(append(m.desired.Objects, fleet.Object{ID: fleet.ObjectID{Kind: fleet.KindNetworkPolicy, Namespace: "shop", Name: "db"}, Source: "home", Revision: "r1", Value: policy})...)
	got := fences()
	if len(got) != 1 || got[0].Pod != addr["db"] || !got[0].Ingress.Closed || got[0].Egress.Closed ||
		len(got[0].Ingress.Passes) != 1 || !slices.Equal(got[0].Ingress.Passes[0].Peers, []netip.Prefix{netip.PrefixFrom(addr["web"], 32)}) {
		t.Errorf("%+v", got)
	}
}

// TestPodsWaitForRules: who cannot be taken out of the rotation is not told to end before patience is; who was never in it is.
func TestPodsWaitForRules(t *testing.T) {
	slot := func(uid string, goal fleet.Goal, drained time.Duration, template fleet.Hash) fleet.Slot {
		id := fleet.Identity{UID: uid, Pod: fleet.PodID{Namespace: "shop", Name: uid}}
		id.Want = template
		return fleet.Slot{Identity: id, Goal: goal, Drained: start.Add(-drained)}
	}
	labelled := func(app string) *corev1.PodTemplateSpec {
		return &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}}
	}
	in := NodeInput{
		Now: start, Desired: desiredOf(serviceOf("web", map[string]string{"app": "web"})),
		Templates: map[fleet.Hash]*corev1.PodTemplateSpec{"web": labelled("web"), "job": labelled("job")},
		Assignment: fleet.Assignment{Slots: []fleet.Slot{
			slot("runs", fleet.Run, 0, "web"), slot("goes", fleet.Drain, time.Second, "web"), slot("waited", fleet.Drain, rulesPatience, "web"),
			slot("nobodys", fleet.Drain, time.Second, "job"), slot("lost", fleet.Drain, time.Second, "gone"),
		}},
	}
	var got []string
	for _, c := range InRotation(in, []fleet.Chain{{UID: "runs"}, {UID: "goes"}, {UID: "waited"}, {UID: "nobodys"}, {UID: "lost"}, {UID: "unknown"}}) {
		got = append(got, c.UID)
	}
	if !slices.Equal(got, []string{"runs", "waited", "nobodys", "unknown"}) {
		t.Error(got)
	}
}

// TestPodsFromBefore: a pod on Podman's own network is served, and said to be there.
func TestPodsFromBefore(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 2, "hello:1")).settle()
	for i, ip := range []string{"10.42.0.2", "10.88.0.2"} {
		m.host.Pods[i].IPs = []netip.Addr{netip.MustParseAddr(ip)}
	}
	plan := Plan(NodeInput{Node: alpha, Assignment: m.stored, Templates: m.templates, Desired: m.desired, Host: m.host, Now: m.now, Network: serviceNetwork})
	if n := plan.Report.Notes; len(n) != 1 || n[0].About != m.host.Pods[1].Pod.Object() || !strings.HasPrefix(n[0].Text, "it was made while Services were off") {
		t.Errorf("%v", n)
	}
}

// TestPodsOwnBridges: an address that a pod gave itself is no end of a Service, and in no fence.
func TestPodsOwnBridges(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 2, "hello:1")).settle()
	shut := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "shut"}}
	m.desired = desiredOf(append(m.desired.Objects, serviceOf("web", map[string]string{"app": "web"}),
		fleet.Object{ID: fleet.ObjectID{Kind: fleet.KindNetworkPolicy, Namespace: "shop", Name: "shut"}, Source: "home", Revision: "r1", Value: shut})...)
	in := m.input()
	in.Network = serviceNetwork
	m.stored = Decide(in).Next
	for i := range m.host.Pods {
		m.host.Pods[i].IPs = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.AddrFrom4([4]byte{10, 42, 0, byte(2 + i)}), netip.MustParseAddr("172.17.0.1")}
	}
	plan := Plan(NodeInput{Node: alpha, Assignment: m.stored, Templates: m.templates, Desired: m.desired, Host: m.host, Now: m.now, Network: serviceNetwork})
	if f := plan.Net.Fronts; len(f) != 1 || len(f[0].Ends) != 2 || len(plan.Net.Fences) != 2 {
		t.Errorf("%+v", plan.Net)
	}
	for _, p := range plan.Report.Pods {
		if !strings.HasPrefix(p.Status.PodIP, "10.42.0.") || len(p.Status.PodIPs) != 1 {
			t.Error(p.Status.PodIPs)
		}
	}
	if len(m.host.Pods[0].IPs) != 3 {
		t.Error("the host that was seen is changed")
	}
}

// TestRoutesArePlanned: a node without pods of its own has routes to those of others, and what tells pods from clients outside; not where
// Services are off, and its pods have addresses that others cannot tell apart.
func TestRoutesArePlanned(t *testing.T) {
	node := func(name, address, pods string) fleet.Node {
		return fleet.Node{Name: fleet.NodeName(name), Address: address, Pods: netip.MustParsePrefix(pods)}
	}
	nodes := []fleet.Node{node("alpha", "10.0.0.11", "10.42.0.0/24"), node("beta", "10.0.0.12", "10.42.1.0/24")}
	settings := serviceNetwork
	settings.TunnelPort = 4789
	plan := Plan(NodeInput{Node: nodes[0], Nodes: nodes, Network: settings, Now: time.Unix(0, 0)})
	want := fleet.HostNet{
		Pods:   []netip.Prefix{settings.Pods},
		Routes: []fleet.Route{{Node: "beta", Pods: nodes[1].Pods, Via: netip.MustParseAddr("10.0.0.12"), Tunnel: true}},
		Tunnel: fleet.Tunnel{Pods: nodes[0].Pods, MTU: 1450, Port: 4789},
	}
	if !reflect.DeepEqual(plan.Net, want) {
		t.Errorf("%+v, want %+v", plan.Net, want)
	}
	settings.Without = "no root"
	for name, in := range map[string]NodeInput{
		"alone": {Node: nodes[0], Network: serviceNetwork}, "off": {Node: nodes[0], Nodes: nodes}, "node ports alone": {Node: nodes[0], Nodes: nodes, Network: settings},
	} {
		if got := Plan(in).Net; !reflect.DeepEqual(got, fleet.HostNet{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	nodes[1].Address = "nowhere"
	if plan := Plan(NodeInput{Node: nodes[0], Nodes: nodes, Network: serviceNetwork}); len(plan.Report.Notes) != 1 || !strings.Contains(plan.Report.Notes[0].Text, "node beta do not reach each other") {
		t.Errorf("notes are %v", plan.Report.Notes)
	}
}
