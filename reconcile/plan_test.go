package reconcile

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

func TestPlanOfAConvergedHostIsEmpty(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 3, "hello:1"), replicaSetOf("set", 1, "hello:1"), podOf("bare", "hello:1")).settle()
	plan := m.plan()
	if len(plan.Chains) > 0 || !plan.WakeAt.IsZero() || len(plan.Report.Notes) > 0 || len(plan.Report.Pods) != 5 {
		t.Errorf("plan %+v", plan)
	}
}

// Pods of ours that no slot names are reported as they are, and never touched.
func TestPodsWithoutASlot(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 2, "hello:1")).settle()
	want := m.plan().Report.Pods
	m.end(m.host.Pods[0].UID, "web", 1)
	m.host.Pods[1].Infra = fleet.Exited
	m.stored.Slots = nil
	plan := m.plan()
	if len(plan.Chains) > 0 {
		t.Errorf("steps %v", plan.Chains)
	}
	for i := range plan.Report.Pods {
		got, want := plan.Report.Pods[i], want[i]
		got.Status, want.Status = corev1.PodStatus{}, corev1.PodStatus{}
		if d := gocmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	if len(plan.Report.Pods) != 2 {
		t.Errorf("reported are %v", plan.Report.Pods)
	}
}

func TestOtherNodesSlots(t *testing.T) {
	m := newMachine(t, podOf("bare", "hello:1"))
	m.stored.Slots = []fleet.Slot{{Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "shop", Name: "bare"}, UID: "u", Want: m.desired.Objects[0].Hash}, Node: "beta", Goal: fleet.Run}}
	if plan := m.plan(); len(plan.Chains) > 0 || len(plan.Report.Pods) > 0 {
		t.Errorf("plan %+v", plan)
	}
}

func TestLeftoverVolumes(t *testing.T) {
	m := newMachine(t, podOf("bare", "hello:1")).settle()
	uid := m.stored.Slots[0].UID
	m.host.Volumes = map[string]fleet.Volumes{uid: {}, "left": {}, "busy": {}, "unslotted": {}}
	m.host.Pods = append(m.host.Pods, fleet.ObservedPod{PodReport: fleet.PodReport{Identity: fleet.Identity{UID: "unslotted"}}})
	plan := Plan(NodeInput{
		Node: alpha, Assignment: m.stored, Templates: m.templates, Desired: m.desired, Host: m.host, Now: m.now, Busy: map[string]bool{"busy": true},
	})
	want := []fleet.Chain{{UID: "left", Goal: fleet.Drain, Steps: []fleet.Step{{Verb: fleet.Clean, UID: "left"}}}}
	if d := gocmp.Diff(want, plan.Chains); d != "" {
		t.Error(d)
	}
}

func TestHostPorts(t *testing.T) {
	port := func(n int32, protocol corev1.Protocol, ip string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: 80, HostPort: n, Protocol: protocol, HostIP: ip})
		}
	}
	for _, test := range []struct {
		name string
		a, b func(*corev1.Pod)
		want bool // b has to wait
	}{
		{"the same", port(80, "TCP", ""), port(80, "TCP", ""), true},
		{"another number", port(80, "TCP", ""), port(81, "TCP", ""), false},
		{"another protocol", port(80, "TCP", ""), port(80, "UDP", ""), false},
		{"no host port", port(0, "TCP", ""), port(0, "TCP", ""), false},
		{"other addresses", port(80, "TCP", "10.0.0.11"), port(80, "TCP", "127.0.0.1"), false},
		{"the same address", port(80, "TCP", "10.0.0.11"), port(80, "TCP", "10.0.0.11"), true},
		{"one of them all addresses", port(80, "TCP", "10.0.0.11"), port(80, "TCP", ""), true},
		{"all addresses by number", port(80, "TCP", "0.0.0.0"), port(80, "TCP", "10.0.0.11"), true},
		{"all addresses of both families", port(80, "TCP", "::"), port(80, "TCP", "10.0.0.11"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, running := range []bool{true, false} { // a runs already, or both are new
				a, b := podOf("a", "hello:1", test.a), podOf("b", "hello:1", test.b)
				m := newMachine(t, a)
				if running {
					m.settle()
				}
				m.want(desiredOf(a, b))
				m.settle()
				waits := len(m.running()) == 1
				if waits != test.want {
					t.Fatalf("first runs %t: waits %t, %v", running, waits, m.plan().Report.Notes)
				}
				if !waits {
					continue
				}
				if n := Decide(m.input()).Notes; len(n) != 1 || n[0].About.Name != "b" ||
					n[0].Text != "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports." {
					t.Errorf("notes %v", n)
				}
				placed := m.stored // by a Skerry that did not look at ports
				m.stored.Slots = slices.Clone(placed.Slots)
				for i := range m.stored.Slots {
					m.stored.Slots[i].Node = alpha.Name
				}
				if n := m.plan().Report.Notes; len(n) != 1 || n[0].About.Name != "b" || !strings.Contains(n[0].Text, "host port 80/TCP is used by pod shop/a") {
					t.Errorf("notes %v", n)
				}
				m.stored = placed
				m.want(desiredOf(b))
				if m.settle(); len(m.running()) != 1 {
					t.Errorf("the port is free, and yet:\n%s", m)
				}
			}
		})
	}
}

func TestChainsThatMakeRoomComeFirst(t *testing.T) {
	m := newMachine(t, podOf("z", "hello:1"), podOf("m", "hello:1")).settle()
	m.want(desiredOf(podOf("a", "hello:1"), podOf("m", "hello:1")))
	m.said = []fleet.NodeReport{m.plan().Report}
	m.decide()
	var got []string
	for _, c := range m.plan().Chains {
		got = append(got, c.Pod.Name+" "+string(c.Goal))
	}
	if d := gocmp.Diff([]string{"z Drain", "a Run"}, got); d != "" {
		t.Error(d)
	}
}

// The same input in any order gives the same plan.
func TestPlanInAnyOrder(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 3, "hello:1"), podOf("bare", "hello:1")).settle()
	m.want(desiredOf(deploymentOf("web", 5, "hello:2")))
	m.said = []fleet.NodeReport{m.plan().Report}
	m.decide()
	want := m.plan()
	slices.Reverse(m.host.Pods)
	if d := gocmp.Diff(want, m.plan(), cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Error(d)
	}
	slices.Reverse(m.stored.Slots)
	if d := gocmp.Diff(want, m.plan(), cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Error(d)
	}
}

func TestPodOf(t *testing.T) {
	if PodOf(fleet.Slot{}, nil) != nil {
		t.Error("a pod without a template")
	}
	template := templateOf("hello:1")
	set := fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "shop", Name: "web-x"}
	slot := fleet.Slot{Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "shop", Name: "web-x-1"}, UID: "u", Owner: set, Label: "x", Created: start}, Node: "alpha"}
	p := PodOf(slot, &template)
	if p.Spec.NodeName != "alpha" || template.Spec.NodeName != "" {
		t.Errorf("node %q, in the template %q", p.Spec.NodeName, template.Spec.NodeName)
	}
	if d := gocmp.Diff(map[string]string{"app": "web", "pod-template-hash": "x"}, p.Labels); d != "" || len(template.Labels) != 1 {
		t.Errorf("labels %v, in the template %v", p.Labels, template.Labels)
	}
	if len(p.OwnerReferences) != 1 || p.OwnerReferences[0].Name != "web-x" {
		t.Errorf("owners %v", p.OwnerReferences)
	}
	slot.Owner, slot.Label = slot.Pod.Object(), ""
	if p = PodOf(slot, &template); len(p.OwnerReferences) != 0 || p.Labels["pod-template-hash"] != "" {
		t.Errorf("a bare pod has %v %v", p.OwnerReferences, p.Labels)
	}
}
