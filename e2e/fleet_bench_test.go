package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
)

// BenchmarkFleetPowerCut: the power of a node that is no server is cut, until its pod runs elsewhere, by Podman's own account. The
// second figure is by how much that is later than what the configuration says (fleet.replaceAfter).
func BenchmarkFleetPowerCut(b *testing.B) {
	for _, after := range []time.Duration{8 * time.Second, 30 * time.Second} { // the second is the default
		b.Run(fmt.Sprintf("after=%s", after), func(b *testing.B) {
			q := newFleet(b, 5, after.String())
			head := q.deploy(map[string]string{"web.yaml": deployment("web", 5, lab.TestImage+":1", "")})
			var took []time.Duration
			turn := 0
			for b.Loop() {
				lost := q.nodes[3+turn%2]
				turn++
				others := q.but(lost)
				if podOn(places(q.status(others[0]), "web-"), lost) == "" {
					b.Fatalf("on %s there is nothing to lose", lost.Name)
				}
				lost.PowerCut()
				began := time.Now()
				took = append(took, q.hasPods("web-", 5, others).Sub(began))
				b.StopTimer()
				lost.PowerOn()
				q.start(lost)
				q.settled(head, q.nodes...)
				// Anew, so that there is something to lose again.
				q.deploy(map[string]string{"web.yaml": ""})
				head = q.deploy(map[string]string{"web.yaml": deployment("web", 5, lab.TestImage+":1", ""), "turn": fmt.Sprint(turn)})
				b.StartTimer()
			}
			b.ReportMetric(median(took).Seconds(), "s/replaced")
			b.ReportMetric((median(took) - after).Seconds(), "s/late")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// hasPods waits until hosts run so many containers, and returns when that was. It asks Podman again and again: the agents' bells
// are what is measured.
func (q *squad) hasPods(prefix string, count int, list []*hosts.Host) time.Time {
	q.t.Helper()
	for deadline := time.Now().Add(long); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if len(q.ran(prefix, list...)) == count {
			return time.Now()
		}
	}
	q.t.Fatalf("there are not %d pods of %s", count, prefix)
	return time.Time{}
}

// BenchmarkFleetLeaderKill: the agent that leads is killed, until the first decision of another: a commit that was pushed at the same
// moment is decided on.
func BenchmarkFleetLeaderKill(b *testing.B) {
	q := newFleet(b, 3, "30s")
	q.deploy(map[string]string{"web.yaml": deployment("web", 3, lab.TestImage+":1", "")})
	var took []time.Duration
	turn := 0
	for b.Loop() {
		leader := q.leader(q.nodes[0])
		other := q.but(leader)[0]
		turn++
		revision := q.push(map[string]string{"web.yaml": deployment("web", 3+turn%2, lab.TestImage+":1", "")})
		began := time.Now()
		leader.Kill9(agentProcess)
		q.until(other, "another decides", func(s api.Status) bool {
			return s.Fleet.Leader != "" && string(s.Fleet.Leader) != leader.Name && s.Sources[0].Revision == revision
		})
		took = append(took, time.Since(began))
		b.StopTimer()
		q.start(leader)
		q.settled(revision, q.nodes...)
		b.StartTimer()
	}
	b.ReportMetric(median(took).Seconds(), "s/decision")
	b.ReportMetric(0, "ns/op")
}
