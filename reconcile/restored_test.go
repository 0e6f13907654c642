package reconcile

import (
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
)

// restore has the fleet remember what it did at a moment before. Nobody is heard for now.
func (c *crowd) restore(backup fleet.Assignment) *crowd {
	c.stored = roundTrip(c.t, backup.Doubting(c.nodes, c.now))
	for _, n := range c.nodes {
		c.lose(n)
	}
	return c
}

// TestRestoredBackup: a fleet whose memory is of before runs what its nodes run, and makes nothing twice that must not be.
func TestRestoredBackup(t *testing.T) {
	aged := func(t *testing.T) (*crowd, fleet.Assignment) {
		c := newCrowd(t, 2, trio("a:1")...).settle()
		backup := c.stored
		// Since then all moved to one node, and half of it back, in another version.
		c.asks(nodeID("beta"), fleet.DrainNode)
		c.settle()
		c.intents = nil
		c.push(trio("a:2")...).settle()
		return c, backup
	}
	sameNames := func(a []string, c *crowd) {
		c.t.Helper()
		if d := gocmp.Diff(a, c.uids()); d != "" {
			c.t.Errorf("pods changed:\n%s\n%s", d, c)
		}
	}
	t.Run("all speak at once", func(t *testing.T) {
		c, backup := aged(t)
		before := c.uids()
		c.restore(backup)
		for _, n := range c.nodes {
			c.regain(n)
		}
		c.settle()
		sameNames(before, c)
		if len(c.stored.Doubted) > 0 {
			t.Errorf("doubted: %+v", c.stored.Doubted)
		}
	})
	for _, late := range []fleet.NodeName{"alpha", "beta"} {
		t.Run(string(late)+" speaks soon", func(t *testing.T) {
			c, backup := aged(t)
			before := c.uids()
			c.restore(backup).rounds(3)
			c.regain(c.nodes[1-slices.Index(c.nodes, late)]).after(20 * time.Second)
			c.wantNote(nodeID(late), "nothing was heard of it since a backup was restored")
			c.regain(late).settle()
			sameNames(before, c)
		})
		t.Run(string(late)+" speaks late", func(t *testing.T) {
			c, backup := aged(t)
			databases := c.pods(dbID)
			c.restore(backup).rounds(3)
			c.regain(c.nodes[1-slices.Index(c.nodes, late)]).after(time.Minute).after(time.Minute)
			if c.wantHas(webID, "a:2×3"); len(c.stored.Doubted) != 1 {
				t.Errorf("doubted: %+v", c.stored.Doubted)
			}
			c.regain(late).settle()
			c.wantHas(webID, "a:2×3")
			if d := gocmp.Diff(names(databases), names(c.pods(dbID))); d != "" {
				t.Errorf("databases changed:\n%s", d)
			}
		})
	}
	t.Run("one is removed", func(t *testing.T) {
		c, backup := aged(t)
		c.restore(backup).rounds(3)
		c.regain("alpha")
		c.nodes = c.nodes[:1]
		delete(c.hosts, "beta")
		c.settle()
		c.wantHas(webID, "a:2×3")
		c.wantHas(dbID, "a:2×2")
	})
}

func names(pods []*fleet.PodReport) (list []string) {
	for _, p := range pods {
		list = append(list, p.UID)
	}
	slices.Sort(list)
	return list
}
