package reconcile

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
