package reconcile

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

func (c *crowd) view() *View { return NewView(c.input(), c.specs) }

// TestNodesView: nodes show what Git, operators and they themselves say.
func TestNodesView(t *testing.T) {
	c := newCrowd(t, 4, nodeObject("alpha", withTaint("gpu", corev1.TaintEffectNoSchedule), func(n *corev1.Node) {
		n.Labels, n.Annotations = map[string]string{"disk": "ssd"}, map[string]string{"note": "under the roof"}
	})).settle()
	c.known["alpha"].Version, c.known["alpha"].Address = "v1.2.3", "10.0.0.1"
	c.asks(nodeID("beta"), fleet.Cordon)
	report := c.said["gamma"]
	report.Trouble = "Podman does not answer"
	c.said["gamma"] = report
	c.lose("delta").decide()
	var lines []string
	for _, n := range c.view().Nodes() {
		ready := n.Status.Conditions[0]
		taints := ""
		for _, taint := range n.Spec.Taints {
			taints += fmt.Sprintf(" %s:%s", taint.Key, taint.Effect)
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %q %v%s", n.Name, ready.Status, ready.Reason, ready.Message, n.Spec.Unschedulable, taints)))
	}
	want := []string{
		`alpha True AgentReady "" false gpu:NoSchedule`,
		`beta True AgentReady "" true node.kubernetes.io/unschedulable:NoSchedule`,
		`delta Unknown NodeStatusUnknown "nothing was heard of it" false node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute`,
		`gamma False PodmanNotReady "Podman does not answer" false node.kubernetes.io/not-ready:NoSchedule`,
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	alpha := c.view().Nodes()[0]
	if alpha.Labels["disk"] != "ssd" || alpha.Labels[corev1.LabelHostname] != "alpha" || alpha.Annotations["note"] != "under the roof" ||
		alpha.Status.NodeInfo.KubeletVersion != "v1.2.3" || alpha.Status.Addresses[0].Address != "10.0.0.1" {
		t.Errorf("alpha is %+v", alpha)
	}
}

// TestPendingView: a pod that has no node says why, and so does what it belongs to; one that has says so, too.
func TestPendingView(t *testing.T) {
	const why = "0/1 nodes are available: 1 Insufficient cpu."
	c := sized(t, 1, "1", webLike(2, asking("800m"))).settle()
	v := c.view()
	for _, p := range v.Pods() {
		if p.Spec.NodeName != "" {
			continue
		}
		at := p.Status.Conditions
		if p.Status.Phase != corev1.PodPending || len(at) != 1 || at[0].Type != corev1.PodScheduled || at[0].Status != corev1.ConditionFalse || at[0].Reason != "Unschedulable" || at[0].Message != why {
			t.Errorf("%s is %+v", p.Name, p.Status)
		}
	}
	pending := c.on("", webID)
	if got := fmt.Sprint(v.Waiting()); !strings.Contains(got, pending.Pod.Name+": "+why) {
		t.Errorf("waits for %s", got)
	}
	for _, line := range v.Lines() {
		if line.ID == pending.Pod && line.Phase != "Pending" {
			t.Errorf("%s is %s", line.ID, line.Phase)
		}
	}
	c.known["alpha"].Allocatable = nil
	c.decide() // it has a node now, which has not said anything of it yet
	for _, p := range c.view().Pods() {
		if p.Name != pending.Pod.Name {
			continue
		}
		if at := p.Status.Conditions; p.Spec.NodeName != "alpha" || p.Status.Phase != corev1.PodPending || len(at) != 1 || at[0].Status != corev1.ConditionTrue || !at[0].LastTransitionTime.Time.Equal(c.now) {
			t.Errorf("%s on %s is %+v, want placed at %s", p.Name, p.Spec.NodeName, p.Status, c.now)
		}
	}
}
