package reconcile

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

// budgetOf lets so many pods of the app web be missing.
func budgetOf(name string, missing int) fleet.Object {
	most := intstr.FromInt(missing)
	return fleet.Object{ID: fleet.ObjectID{Kind: fleet.KindDisruptionBudget, Namespace: "shop", Name: name}, Source: "home", Revision: "r1", Value: &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &most, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}}
}

// TestCordon: a cordoned node gets no pods and keeps those that it has, whoever cordoned it; DaemonSets do not mind.
func TestCordon(t *testing.T) {
	t.Run("by an intent", func(t *testing.T) {
		c := newCrowd(t, 2, deploymentOf("web", 2, "a:1"), daemonOf("log", "a:1")).settle()
		c.asks(nodeID("beta"), fleet.Cordon)
		c.push(deploymentOf("web", 4, "a:1"), daemonOf("log", "a:2")).settle()
		c.wantSpread(webID, "alpha×3 beta×1")
		c.wantHas(logID, "a:2×2")
		c.asks(nodeID("beta"), fleet.Uncordon)
		c.push(deploymentOf("web", 6, "a:1"), daemonOf("log", "a:2")).settle()
		c.wantSpread(webID, "alpha×3 beta×3")
	})
	t.Run("by Git", func(t *testing.T) {
		c := newCrowd(t, 2, deploymentOf("web", 2, "a:1")).settle()
		c.push(deploymentOf("web", 4, "a:1"), nodeObject("beta", cordoned)).settle()
		c.wantSpread(webID, "alpha×3 beta×1")
		c.push(deploymentOf("web", 6, "a:1"), nodeObject("beta")).settle()
		c.wantSpread(webID, "alpha×3 beta×3")
	})
	t.Run("an intent outdoes Git until Git says something else", func(t *testing.T) {
		c := newCrowd(t, 2, deploymentOf("web", 2, "a:1"), nodeObject("beta", cordoned)).settle()
		c.wantSpread(webID, "alpha×2")
		c.asks(nodeID("beta"), fleet.Uncordon)
		c.push(deploymentOf("web", 4, "a:1"), nodeObject("beta", cordoned)).settle()
		c.wantSpread(webID, "alpha×2 beta×2")
		c.push(deploymentOf("web", 4, "a:1"), nodeObject("beta")).settle()
		c.push(deploymentOf("web", 6, "a:1"), nodeObject("beta", cordoned)).settle()
		c.wantSpread(webID, "alpha×4 beta×2")
		c.wantIntents()
	})
}

// TestDrain: what a drained node has goes elsewhere, but for DaemonSets' pods, and comes not back by itself.
func TestDrain(t *testing.T) {
	c := newCrowd(t, 2, trio("a:1")...).settle()
	c.wantSpread(dbID, "alpha×1 beta×1")
	c.asks(nodeID("beta"), fleet.DrainNode)
	c.settle()
	c.wantSpread(webID, "alpha×3")
	c.wantSpread(dbID, "alpha×2")
	c.wantSpread(logID, "alpha×1 beta×1")
	c.asks(nodeID("beta"), fleet.Uncordon)
	c.settle()
	c.wantSpread(webID, "alpha×3")
	c.push(append(trio("a:1")[1:], deploymentOf("web", 5, "a:1"))...).settle()
	if got := c.spread(webID); got != "alpha×3 beta×2" {
		t.Errorf("web is on %s", got)
	}
}

// TestDrainWithoutElsewhere: where there is nowhere else, the pods wait; the node is empty all the same.
func TestDrainWithoutElsewhere(t *testing.T) {
	c := newCrowd(t, 1, deploymentOf("web", 2, "a:1"), podOf("bare", "a:1")).settle()
	c.asks(nodeID("alpha"), fleet.DrainNode)
	c.settle()
	c.wantSpread(webID, "nowhere×2")
	c.wantSpread(fleet.ObjectID{Kind: fleet.KindPod, Namespace: "shop", Name: "bare"}, "nowhere×1")
	if got := len(c.hosts["alpha"].pods); got != 0 {
		t.Errorf("%d pods are on the drained node\n%s", got, c)
	}
	c.asks(nodeID("alpha"), fleet.Uncordon)
	c.settle()
	c.wantSpread(webID, "alpha×2")
}

// TestDrainByBudget: a budget lets pods go one after the other, and never more at once than it says.
func TestDrainByBudget(t *testing.T) {
	objects := func(budgets ...fleet.Object) []fleet.Object { return append(budgets, deploymentOf("web", 4, "a:1")) }
	ready := func(c *crowd) (n int) {
		for _, p := range c.pods(webID) {
			if _, ready := p.ReadySince(); ready && c.runs(p.UID) {
				n++
			}
		}
		return n
	}
	t.Run("one", func(t *testing.T) {
		c := newCrowd(t, 2, objects(budgetOf("one", 1))...).settle()
		c.wantSpread(webID, "alpha×2 beta×2")
		c.asks(nodeID("beta"), fleet.DrainNode)
		for range 30 {
			c.pass()
			if got := ready(c); got < 3 {
				t.Fatalf("%d are ready, and the budget wants 3\n%s", got, c)
			}
		}
		c.settle()
		c.wantSpread(webID, "alpha×4")
	})
	t.Run("none at all", func(t *testing.T) {
		c := newCrowd(t, 2, objects(budgetOf("none", 0))...).settle()
		c.asks(nodeID("beta"), fleet.DrainNode)
		c.settle()
		c.wantSpread(webID, "alpha×2 beta×2")
		c.wantNote(c.on("beta", webID).Pod.Object(), "kept on node beta, which is being drained: Cannot evict pod as it would violate the pod's disruption budget.")
		c.push(objects()...).settle()
		c.wantSpread(webID, "alpha×4")
	})
	t.Run("two", func(t *testing.T) {
		c := newCrowd(t, 2, objects(budgetOf("one", 1), budgetOf("two", 4))...).settle()
		c.asks(nodeID("beta"), fleet.DrainNode)
		c.settle()
		c.wantSpread(webID, "alpha×2 beta×2")
		c.wantNote(c.on("beta", webID).Pod.Object(), "more than one PodDisruptionBudget")
	})
	t.Run("not for rollouts or taints", func(t *testing.T) {
		c := newCrowd(t, 2, objects(budgetOf("none", 0))...).settle()
		c.push(append(objects(budgetOf("none", 0)), nodeObject("beta", withTaint("old", corev1.TaintEffectNoExecute)))...).settle()
		c.wantSpread(webID, "alpha×4")
		c.push(budgetOf("none", 0), deploymentOf("web", 4, "a:2")).settle()
		c.wantHas(webID, "a:2×4")
	})
	t.Run("a lost node is not drained", func(t *testing.T) { // nobody there hears of it
		c := newCrowd(t, 2, objects()...)
		c.stay = time.Hour
		c.settle()
		c.lose("beta")
		c.asks(nodeID("beta"), fleet.DrainNode)
		c.rounds(4)
		c.wantSpread(webID, "alpha×2 beta×2")
	})
}

func (c *crowd) runs(uid string) bool {
	for _, s := range c.stored.Slots {
		if s.UID == uid {
			return s.Goal == fleet.Run
		}
	}
	return false
}

// on is a pod of a workload that should run on a node.
func (c *crowd) on(node fleet.NodeName, id fleet.ObjectID) fleet.Slot {
	for _, s := range c.stored.Slots {
		if s.Node == node && s.Goal == fleet.Run && (s.Owner == id || s.Controller == id) {
			return s
		}
	}
	return fleet.Slot{}
}

// TestWishesGoWithTheNode: a machine that gets the name of one that was drained and removed gets pods, too.
func TestWishesGoWithTheNode(t *testing.T) {
	c := newCrowd(t, 2, deploymentOf("web", 2, "a:1")).settle()
	c.asks(nodeID("beta"), fleet.DrainNode, func(i *fleet.Intent) { i.Source = "" })
	c.settle()
	c.nodes = c.nodes[:1]
	delete(c.said, "beta")
	c.settle()
	c.wantIntents()
}
