package agent_test

import (
	"flag"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

var largeNodes = flag.Int("sim.nodes", 60, "how many nodes TestLargeFleet has")

// TestLargeFleet: ten pods a node are placed and run, a lost node's run elsewhere in time, and one pod's change costs few bytes in
// the fleet's memory however many nodes there are. It says what it took; make sim does it for a thousand nodes.
func TestLargeFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := *largeNodes
		f := newFleet(t, 3, nodes-3)
		f.shared.Weigh = nodes <= 200 // weighing the placement of ten thousand pods takes minutes
		defer f.end()
		f.all()
		after(10 * time.Second)
		began, pushed := clockless(), time.Now()
		f.origin.push(tree(spreadOut("web", "app:1", 10*nodes, "")))
		after(2 * time.Minute)
		if got := f.on("web"); len(got) != nodes || sum(got) != 10*nodes {
			t.Fatalf("%d pods on %d nodes", sum(got), len(got))
		}
		t.Logf("%d pods on %d nodes: %s of work for %s", 10*nodes, nodes, clockless()-began, time.Since(pushed))
		f.shared.Weigh = true
		before := f.shared.Written()
		if err := f.nodes[nodes/2].machine.Kill(f.container(nodes/2), 1); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		written := f.shared.Written() - before
		t.Logf("one pod's container killed and started again: %d bytes written", written)
		if written == 0 || written > 8<<10 {
			t.Errorf("one pod's change wrote %d bytes", written)
		}
		began = clockless()
		lost := f.nodes[nodes-1]
		lost.powerCut()
		after(simTTL + simStay + 10*time.Second)
		if got := f.on("web"); len(got) != nodes-1 || sum(got) != 10*nodes {
			t.Errorf("%d pods on %d nodes", sum(got), len(got))
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("a lost node's pods run elsewhere: %s of work; %d MiB in use, %d goroutines", clockless()-began, m.HeapInuse>>20, runtime.NumGoroutine())
	})
}

// container is one that runs on a node.
func (f *simulated) container(node int) string {
	seen, err := f.nodes[node].machine.Look(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return seen.Pods[0].Containers[0].PodmanName
}
