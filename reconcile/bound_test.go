package reconcile

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// dbWithData is the StatefulSet db, whose pods have a claim each.
func dbWithData(replicas int32, image string) fleet.Object {
	return statefulOf("db", replicas, image, func(s *appsv1.StatefulSet) {
		s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
	})
}

// bindsData is a fleet that runs it.
func bindsData(t *testing.T, nodes int, replicas int32) *crowd {
	c := newCrowd(t, nodes, dbWithData(replicas, "a:1"))
	for _, h := range c.hosts {
		h.claims = map[fleet.ClaimID]bool{}
	}
	return c.settle()
}

func (c *crowd) boundTo(name string) fleet.NodeName {
	for _, b := range c.stored.Bindings {
		if b.Claim.Name == name {
			return b.Node
		}
	}
	return ""
}

func (c *crowd) slot(name string) fleet.Slot {
	for _, s := range c.stored.Slots {
		if s.Pod.Name == name && s.Goal == fleet.Run {
			return s
		}
	}
	return fleet.Slot{}
}

// TestDataStays: a pod with a claim comes back where its volume is, whatever is nicer elsewhere.
func TestDataStays(t *testing.T) {
	c := bindsData(t, 2, 2)
	c.wantSpread(dbID, "alpha×1 beta×1")
	for _, n := range []string{"db-0", "db-1"} {
		if got, is := c.slot(n).Node, c.boundTo("data-"+n); got == "" || got != is {
			t.Fatalf("%s is on %q, its claim on %q", n, got, is)
		}
	}
	was := c.slot("db-1")
	c.push(dbWithData(2, "a:2"), called("web", 5, onlyOn(string(was.Node)))).settle()
	if now := c.slot("db-1"); now.UID == was.UID || now.Node != was.Node {
		t.Errorf("db-1 was on %s, is on %s\n%s", was.Node, now.Node, c)
	}
	c.push(dbWithData(1, "a:2")).settle()
	c.asks(nodeID(was.Node), fleet.Cordon)
	c.push(dbWithData(2, "a:2")).settle()
	if now := c.slot("db-1"); now.Node != "" {
		t.Errorf("db-1 is on %s, and its data are on %s\n%s", now.Node, was.Node, c)
	}
	c.wantNote(fleet.ObjectID{Kind: fleet.KindPod, Namespace: "shop", Name: "db-1"}, "0/2 nodes are available: 1 node(s) had volume node affinity conflict, 1 node(s) were unschedulable.")
	c.asks(nodeID(was.Node), fleet.Uncordon)
	c.settle()
	if now := c.slot("db-1"); now.Node != was.Node {
		t.Errorf("db-1 is on %q, its data are on %s\n%s", now.Node, was.Node, c)
	}
}

// TestDataOfALostNode: its pod waits for it, and the binding survives the silence.
func TestDataOfALostNode(t *testing.T) {
	c := bindsData(t, 2, 1)
	home := c.slot("db-0").Node
	c.push(dbWithData(0, "a:1")).settle()
	if c.boundTo("data-db-0") != home {
		t.Fatalf("the claim of a pod that is scaled away is bound to %q", c.boundTo("data-db-0"))
	}
	c.lose(home).rounds(2)
	c.after(time.Hour)
	c.push(dbWithData(1, "a:1"))
	c.rounds(3)
	c.after(time.Hour)
	if got := c.slot("db-0"); got.UID == "" || got.Node != "" {
		t.Errorf("db-0 is on %q\n%s", got.Node, c)
	}
	c.wantNote(fleet.ObjectID{Kind: fleet.KindPod, Namespace: "shop", Name: "db-0"}, "1 node(s) had volume node affinity conflict")
	c.regain(home).settle()
	if got := c.slot("db-0").Node; got != home {
		t.Errorf("db-0 is on %q, its data are on %s\n%s", got, home, c)
	}
}

// TestDataGoesAway: a binding ends with the volume, and with the node.
func TestDataGoesAway(t *testing.T) {
	t.Run("the volume is gone", func(t *testing.T) {
		c := bindsData(t, 2, 1)
		home := c.slot("db-0").Node
		c.push(dbWithData(0, "a:1")).settle()
		delete(c.hosts[home].claims, fleet.ClaimID{Namespace: "shop", Name: "data-db-0"})
		c.settle()
		if got := c.boundTo("data-db-0"); got != "" {
			t.Errorf("the claim is bound to %s", got)
		}
	})
	t.Run("not while a pod is to make it", func(t *testing.T) {
		c := bindsData(t, 2, 1)
		home := c.slot("db-0").Node
		delete(c.hosts[home].claims, fleet.ClaimID{Namespace: "shop", Name: "data-db-0"})
		c.settle()
		if got := c.boundTo("data-db-0"); got != home {
			t.Errorf("the claim is bound to %q, and its pod is on %s", got, home)
		}
	})
	t.Run("the node was dismissed", func(t *testing.T) {
		c := bindsData(t, 2, 1)
		home := c.slot("db-0").Node
		c.lose(home).rounds(2)
		c.nodes = []fleet.NodeName{other(home)}
		delete(c.hosts, home) // whatever ran there is nobody's any more
		c.settle()
		if got := c.slot("db-0").Node; got != other(home) {
			t.Errorf("db-0 is on %q\n%s", got, c)
		}
		if got := c.boundTo("data-db-0"); got != other(home) {
			t.Errorf("the claim is bound to %q", got)
		}
	})
	t.Run("a claim of its own", func(t *testing.T) {
		claim := fleet.Object{ID: fleet.ObjectID{Kind: fleet.KindPersistentVolumeClaim, Namespace: "shop", Name: "data"}, Source: "home", Revision: "r1",
			Value: &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"}}}
		c := newCrowd(t, 2, claim, webLike(2, withClaim)).settle()
		if got := c.spread(webID); got != "alpha×2" && got != "beta×2" {
			t.Errorf("pods of one claim are on %s\n%s", got, c)
		}
	})
}

func other(node fleet.NodeName) fleet.NodeName {
	if node == "alpha" {
		return "beta"
	}
	return "alpha"
}

// TestDataOfABlindNode: an agent that begins while its Podman is dead says that nothing is there, which is not so.
func TestDataOfABlindNode(t *testing.T) {
	c := bindsData(t, 2, 1)
	home := c.slot("db-0").Node
	c.push(dbWithData(0, "a:1")).settle()
	c.said[home] = fleet.NodeReport{Node: home, At: c.now, Trouble: "Podman does not answer"}
	c.decide()
	c.push(dbWithData(1, "a:1"))
	c.decide()
	if got := c.slot("db-0"); got.UID == "" || got.Node != "" || c.boundTo("data-db-0") != home {
		t.Errorf("db-0 is on %q, its claim on %q\n%s", got.Node, c.boundTo("data-db-0"), c)
	}
	c.settle()
	if got := c.slot("db-0"); got.Node != home {
		t.Errorf("db-0 is on %q\n%s", got.Node, c)
	}
}
