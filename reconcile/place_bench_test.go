package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// BenchmarkPlaceFleet places pods on a thousand nodes: ten thousand at once, and the ten of one node that is lost. Beside it the
// assignment is written as JSON once: x-json is how many times as long the decision takes.
func BenchmarkPlaceFleet(b *testing.B) {
	const nodes, deployments, pods = 1000, 200, 10_000
	empty := emptyFleet(nodes, deployments, pods)
	full := empty
	full.Previous = Decide(empty).Next
	counts := map[fleet.NodeName]int{}
	for i := range full.Previous.Slots {
		counts[full.Previous.Slots[i].Node]++
	}
	if len(full.Previous.Slots) != pods || len(counts) != nodes || counts[""] > 0 {
		b.Fatalf("%d slots on %d nodes, %d on none", len(full.Previous.Slots), len(counts), counts[""])
	}
	full = reported(full)
	if d := Decide(full); d.Changed {
		full.Previous = d.Next
	}
	lost := full
	lost.Nodes = slices.Clone(full.Nodes)
	lost.Nodes[500].Down = "nothing is heard of its agent"
	lost.Reports = slices.Delete(slices.Clone(full.Reports), 500, 501)
	lost.Previous = Decide(lost).Next // notices
	lost.Now = lost.Now.Add(time.Minute)
	if moved := replanned(lost); moved != counts[lost.Nodes[500].Name] {
		b.Fatalf("%d pods were planned anew, of %d", moved, counts[lost.Nodes[500].Name])
	}
	for _, test := range []struct {
		name string
		in   FleetInput
	}{{"first/nodes=1000/pods=10000", empty}, {"lost/nodes=1000/pods=10000", lost}} {
		b.Run(test.name, func(b *testing.B) {
			began := time.Now()
			var next fleet.Assignment
			for b.Loop() {
				next = Decide(test.in).Next
			}
			ours := time.Since(began) / time.Duration(b.N)
			began = time.Now()
			if _, err := json.Marshal(next); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(ours.Microseconds())/1000, "ms/op")
			b.ReportMetric(float64(ours)/float64(time.Since(began)), "x-json")
		})
	}
}

// replanned is how many pods of a node that is down a decision puts elsewhere.
func replanned(in FleetInput) int {
	n := 0
	next := Decide(in).Next
	for i := range next.Slots {
		if s := &next.Slots[i]; s.Goal == fleet.Run && s.Epoch == next.Epoch {
			n++
		}
	}
	return n
}

// emptyFleet is nodes in ten zones that have reported, and Deployments that have no pods yet.
func emptyFleet(nodes, deployments, pods int) FleetInput {
	in := FleetInput{Now: start, Templates: map[fleet.Hash]*corev1.PodTemplateSpec{}}
	var objects []fleet.Object
	for i := range deployments {
		o := deploymentOf(fmt.Sprintf("web-%04d", i), int32(pods/deployments), "hello:1")
		o.Template = o.Template.DeepCopy()
		o.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse(fmt.Sprintf("%dMi", 64+i)),
		}
		o.Hash = fleet.HashTemplate(o.Template)
		in.Templates[o.Hash] = o.Template
		objects = append(objects, o)
	}
	in.Desired = desiredOf(objects...)
	for i := range nodes {
		name := fmt.Sprintf("n%04d", i)
		in.Nodes = append(in.Nodes, fleet.Node{
			Name: fleet.NodeName(name), Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("z%d", i%10)},
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")},
		})
	}
	return reported(in)
}

// reported is a fleet whose nodes say that all their pods are ready.
func reported(in FleetInput) FleetInput {
	at := map[fleet.NodeName]int{}
	in.Reports = make([]fleet.NodeReport, len(in.Nodes))
	for i := range in.Nodes {
		at[in.Nodes[i].Name] = i
		in.Reports[i] = fleet.NodeReport{Node: in.Nodes[i].Name, Epoch: in.Previous.Epoch, At: in.Now}
	}
	for i := range in.Previous.Slots {
		s := &in.Previous.Slots[i]
		r := &in.Reports[at[s.Node]]
		r.Pods = append(r.Pods, fleet.PodReport{Identity: s.Identity, Status: corev1.PodStatus{
			Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: in.Now}}},
		}})
	}
	return in
}
