package reconcile

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// BenchmarkDecideFleet is one decision about a whole fleet in the middle of ten rollouts. Beside it the same assignment is
// written as JSON once, which each commit takes in any case: x-json is how many times as long the decision takes. Memory is
// what the decision allocates.
func BenchmarkDecideFleet(b *testing.B) {
	for _, size := range []struct{ nodes, deployments, pods int }{
		{100, 20, 1_000}, {1000, 200, 10_000}, {1000, 200, 100_000}, {1000, 2000, 100_000},
	} {
		b.Run(fmt.Sprintf("nodes=%d/deployments=%d/pods=%d", size.nodes, size.deployments, size.pods), func(b *testing.B) {
			in := rollingFleet(b, size.nodes, size.deployments, size.pods)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			began := time.Now()
			for b.Loop() {
				Decide(in)
			}
			ours := time.Since(began) / time.Duration(b.N)
			runtime.ReadMemStats(&after)
			began = time.Now()
			const times = 3
			for range times {
				if _, err := json.Marshal(in.Previous); err != nil {
					b.Fatal(err)
				}
			}
			theirs := time.Since(began) / times
			b.ReportMetric(float64(ours.Microseconds())/1000, "ms/op")
			b.ReportMetric(float64(ours.Nanoseconds())/float64(size.pods), "ns/pod")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/(1<<20), "MB/op")
			b.ReportMetric(float64(ours)/float64(theirs), "x-json")
		})
	}
}

// rollingFleet is a fleet whose pods are spread over its nodes and ready, but for ten Deployments that were pushed anew and
// have got their first new pods.
func rollingFleet(b *testing.B, nodes, deployments, pods int) FleetInput {
	b.Helper()
	commit := func(rolling int) fleet.Desired {
		var objects []fleet.Object
		for i := range deployments {
			image := "hello:1"
			if i < rolling {
				image = "hello:2"
			}
			objects = append(objects, deploymentOf(fmt.Sprintf("web-%04d", i), int32(pods/deployments), image))
		}
		return desiredOf(objects...)
	}
	in := FleetInput{Desired: commit(0), Now: start}
	for i := range nodes {
		in.Nodes = append(in.Nodes, fleet.Node{Name: fleet.NodeName(fmt.Sprintf("n%04d", i))})
	}
	report := func() {
		in.Reports = make([]fleet.NodeReport, nodes)
		for i := range in.Reports {
			in.Reports[i] = fleet.NodeReport{Node: in.Nodes[i].Name, Epoch: in.Previous.Epoch, At: in.Now}
		}
		for i := range in.Previous.Slots {
			s := &in.Previous.Slots[i]
			at := i % nodes
			s.Node = in.Nodes[at].Name
			if s.Goal == fleet.Drain {
				continue
			}
			in.Reports[at].Pods = append(in.Reports[at].Pods, fleet.PodReport{Identity: s.Identity, Status: corev1.PodStatus{
				Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: in.Now}}},
			}})
		}
	}
	report()
	for range 3 {
		in.Previous = Decide(in).Next
		in.Now = in.Now.Add(time.Minute)
		report()
	}
	if len(in.Previous.Slots) != pods || Decide(in).Changed {
		b.Fatalf("not converged: %d slots", len(in.Previous.Slots))
	}
	in.Desired = commit(10)
	in.Previous = Decide(in).Next
	report()
	if !Decide(in).Changed {
		b.Fatal("nothing rolls")
	}
	return in
}
