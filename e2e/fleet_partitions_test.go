package e2e_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
)

// TestFleetPartitions cuts the switch in every shape. What runs is never touched; somebody decides wherever there is a majority,
// and nobody else does. TestFleetPowerCuts has a node that is cut off for longer than its pods are waited for.
func TestFleetPartitions(t *testing.T) {
	q := newFleet(t, 5, "40s") // longer than any cut
	head := q.deploy(map[string]string{
		"web.yaml": watched("web", lab.TestImage+":1", 5), "db.yaml": keeper("db", lab.TestImage+":1", 5), "each.yaml": daemonSet("each", lab.TestImage+":1"),
		"tick.yaml": ticks(),
	})
	servers, agents := q.nodes[:3], q.nodes[3:]
	replicas := 5
	// decides waits until a majority has one leader, and takes a decision there.
	decides := func(t *testing.T, majority []*hosts.Host) {
		t.Helper()
		replicas++
		head = q.push(map[string]string{"web.yaml": watched("web", lab.TestImage+":1", replicas)})
		for _, h := range majority {
			q.until(h, "it is decided on what was pushed", func(s api.Status) bool {
				return s.Fleet.Leader != "" && s.Sources[0].Revision == head && len(places(s, "web-")) == replicas
			})
		}
	}
	// stuck waits until hosts know that nothing can be decided.
	stuck := func(t *testing.T, list ...*hosts.Host) {
		t.Helper()
		for _, h := range list {
			q.until(h, "the store is away", func(s api.Status) bool { return s.Fleet.Store != "ok" && s.Fleet.Leader == "" })
		}
	}
	heal := func(t *testing.T) {
		t.Helper()
		q.site.HealAll()
		q.settled(head, q.nodes...)
		for _, h := range q.nodes {
			q.until(h, "the store is there", func(s api.Status) bool { return s.Fleet.Store == "ok" && s.Fleet.Leader != "" })
		}
		if got := q.ran("", q.nodes...); len(got) != replicas+5+5 {
			t.Errorf("there run %d: %v", len(got), got)
		}
	}
	followers := func(leader *hosts.Host) (list []*hosts.Host) {
		for _, h := range servers {
			if h != leader {
				list = append(list, h)
			}
		}
		return list
	}
	for _, x := range []struct {
		name string
		play func(t *testing.T)
	}{
		{"the leader alone", func(t *testing.T) {
			leader := q.leader(agents[0])
			rest := append(q.but(leader), q.forge)
			q.site.Partition([]*hosts.Host{leader}, rest)
			decides(t, q.but(leader))
			stuck(t, leader)
		}},
		{"one agent away", func(t *testing.T) {
			q.site.Partition(agents[:1], append(q.but(agents[0]), q.forge))
			decides(t, q.but(agents[0]))
			stuck(t, agents[0])
		}},
		{"a minority, with the leader and an agent", func(t *testing.T) {
			leader := q.leader(agents[0])
			minority := []*hosts.Host{leader, agents[0]}
			q.site.Partition(minority, append(q.but(minority...), q.forge))
			decides(t, q.but(minority...))
			stuck(t, minority...)
		}},
		{"all servers apart", func(t *testing.T) {
			q.site.Partition(servers[:1], servers[1:2], servers[2:])
			stuck(t, q.nodes...)
		}},
		{"the leader is heard and does not hear", func(t *testing.T) {
			leader := q.leader(agents[0])
			for _, h := range followers(leader) {
				q.site.OneWay(h, leader)
			}
			decides(t, q.but(leader))
		}},
		{"the leader hears and is not heard", func(t *testing.T) {
			leader := q.leader(agents[0])
			for _, h := range followers(leader) {
				q.site.OneWay(leader, h)
			}
			decides(t, q.but(leader))
		}},
		{"two servers do not hear each other, the third hears both", func(t *testing.T) {
			leader := q.leader(agents[0])
			q.site.Cut(leader, followers(leader)[0])
			decides(t, []*hosts.Host{followers(leader)[1]})
		}},
		{"a cable that flaps", func(t *testing.T) {
			leader := q.leader(agents[0])
			for range 8 {
				q.site.Partition([]*hosts.Host{leader}, q.but(leader))
				<-time.After(700 * time.Millisecond)
				q.site.HealAll()
				<-time.After(300 * time.Millisecond)
			}
			decides(t, q.nodes)
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			whole := q.t
			defer func() { q.t = whole }()
			q.t = t
			before := q.ran("", q.nodes...)
			x.play(t)
			heal(t)
			after := q.ran("", q.nodes...)
			for name := range after {
				if before[name] == "" {
					delete(after, name)
				}
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("what ran was touched:\n%s", diff)
			}
			q.linear()
		})
	}
	q.check.Report(t)
}
