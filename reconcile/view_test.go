package reconcile

import (
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
)

// TestViewOfAHeldRollout looks at 10 replicas held at 8 old and 5 bad ones, past the deadline.
func TestViewOfAHeldRollout(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 10, "hello:1")).settle()
	m.bad["bad:1"] = true
	m.want(desiredOf(deploymentOf("web", 10, "bad:1")))
	for range 6 { // into the backoff, so that something waits
		m.pass()
		m.now = m.now.Add(3 * time.Second)
	}
	m.said = []fleet.NodeReport{m.plan().Report}
	v := m.view()

	list := v.Deployments()
	if len(list) != 1 {
		t.Fatalf("%d Deployments", len(list))
	}
	s := list[0].Status
	type numbers struct{ Replicas, Updated, Ready, Available, Unavailable int32 }
	got := numbers{s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas, s.UnavailableReplicas}
	if d := gocmp.Diff(numbers{13, 5, 8, 8, 2}, got); d != "" {
		t.Error(d)
	}
	conditions := map[string]string{}
	for _, c := range s.Conditions {
		conditions[string(c.Type)] = string(c.Status) + " " + c.Reason
	}
	if c := conditions["Available"]; c != "True MinimumReplicasAvailable" {
		t.Errorf("Available %s", c)
	}
	if c := conditions["Progressing"]; !strings.HasPrefix(c, "True ") {
		t.Errorf("Progressing %s", c)
	}
	if list[0].Annotations["deployment.kubernetes.io/revision"] != "2" {
		t.Errorf("annotations %v", list[0].Annotations)
	}

	var sizes []int32
	for _, rs := range v.ReplicaSets() {
		sizes = append(sizes, *rs.Spec.Replicas, rs.Status.AvailableReplicas)
		if rs.OwnerReferences[0].UID != list[0].UID || rs.Labels["pod-template-hash"] == "" || rs.Spec.Selector != nil && rs.Spec.Selector.MatchLabels["pod-template-hash"] == "" {
			t.Errorf("set %+v", rs)
		}
	}
	if len(sizes) != 4 || sizes[0]+sizes[2] != 13 || sizes[1]+sizes[3] != 8 {
		t.Errorf("sizes %v", sizes)
	}
	if n := len(v.Pods()); n != 13 {
		t.Errorf("%d pods", n)
	}
	waiting := v.Waiting()
	if len(waiting) != 1 || !strings.Contains(waiting[0].Text, "5 of 10 pods updated, 8 available") || !strings.Contains(waiting[0].Text, "CrashLoopBackOff") {
		t.Errorf("waiting for %v", waiting)
	}
}

func TestWaiting(t *testing.T) {
	m := newMachine(t, podOf("bare", "hello:1"))
	texts := func() (list []string) {
		for _, n := range m.view().Waiting() {
			list = append(list, n.About.String()+": "+n.Text)
		}
		return list
	}
	steps := []struct {
		name string
		do   func()
		want []string
	}{
		{"nothing happened", func() {}, []string{"Pod/shop/bare: not ready (no node has reported yet: nothing can be placed)"}},
		{"decided", func() {
			m.said = []fleet.NodeReport{m.plan().Report}
			m.decide()
		}, []string{"Pod/shop/bare: not ready"}},
		{"at rest", func() { m.settle() }, nil},
		{"another revision without a difference", func() {
			m.desired.Revisions = map[fleet.SourceName]fleet.Revision{"home": "r2"}
		}, []string{": home at r2 is not decided on yet"}},
		{"it is decided on", func() { m.decide() }, []string{"Node/alpha: has not acted on the newest assignment yet"}},
		{"nobody has spoken", func() { m.said = nil }, []string{"Pod/shop/bare: not ready"}},
		{"at rest again", func() { m.settle() }, nil},
		{"deleted", func() {
			m.desired.Objects = nil
			m.decide()
			m.said = []fleet.NodeReport{m.plan().Report}
		}, []string{"Pod/shop/bare: stopping"}},
	}
	for _, step := range steps {
		step.do()
		if d := gocmp.Diff(step.want, texts()); d != "" {
			t.Errorf("%s: %s", step.name, d)
		}
	}
}

func TestViewLeavesDesiredAlone(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 1, "hello:1"), podOf("bare", "hello:1")).settle()
	before := encode(m.desired.Objects) + encode(m.templates)
	v := m.view()
	v.Deployments()
	v.ReplicaSets()
	v.Pods()
	if after := encode(m.desired.Objects) + encode(m.templates); after != before {
		t.Error(gocmp.Diff(before, after))
	}
}
