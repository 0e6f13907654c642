package e2e_test

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
)

// TestFleetLetsIn refuses whom it should, and lets in whom it should after all that.
func TestFleetLetsIn(t *testing.T) {
	q := newSquad(t, 4, soon)
	a, b, c, d := q.nodes[0], q.nodes[1], q.nodes[2], q.nodes[3]
	q.must(a, "node", "init")
	q.refused(a, "belongs to a fleet", "node", "init")
	q.must(d, "node", "init") // another fleet
	q.start(a, d)
	q.refused(b, "no agent answers", "node", "token")
	q.refused(a, "stop it first", "node", "join", "10.66.0.14", "--token", "x")

	for _, x := range []struct {
		name, why string
		command   []string
	}{
		{"no token at all", "a token is needed", []string{"node", "join", a.Address.String()}},
		{"no such token", "token", []string{"node", "join", a.Address.String(), "--token", "nonsense"}},
		{"another fleet's token", "another authority", at(q.invite(d, false), a)},
		{"a token for agents", "--server", append(q.invite(a, false), "--server")},
		{"too old a token", "too old", q.invite(a, false, "--ttl=1ms")},
	} {
		t.Run(x.name, func(t *testing.T) {
			whole := q.t
			defer func() { q.t = whole }()
			q.t = t
			q.refused(b, x.why, x.command...)
		})
	}
	invited := q.invite(a, false)
	q.config["c"] = strings.Replace(q.config["c"], "name: c", "name: a", 1)
	q.write(c)
	q.refused(c, "name", invited...)
	q.config["c"] = strings.Replace(q.config["c"], "name: a", "name: c", 1)
	q.write(c)
	if _, err := os.Stat(c.Disk("skerry/fleet")); !os.IsNotExist(err) {
		t.Errorf("who was refused has something of the fleet: %v", err)
	}
	q.must(b, invited...) // a token that refused one is good for another
	q.refused(c, "used already", invited...)
	q.refused(b, "belongs to a fleet", invited...)
	q.start(b)
	q.until(a, "b is ready", func(s api.Status) bool { return machine(s, b).State == "Ready" })
	if s := q.status(a); len(s.Fleet.Nodes) != 2 {
		t.Errorf("the roll has %+v", s.Fleet.Nodes)
	}
}

// at is a command to join, elsewhere.
func at(join []string, h *hosts.Host) []string {
	join[2] = h.Address.String()
	return join
}

func TestFleetDeploys(t *testing.T) {
	q := newFleet(t, 5, soon)
	a := q.nodes[0]
	web := func(replicas int, image string) string { return deployment("web", replicas, lab.TestImage+image, "") }
	budget := `apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 6, selector: {matchLabels: {app: web}}}
`
	q.deploy(map[string]string{"web.yaml": web(5, ":1"), "each.yaml": daemonSet("each", lab.TestImage+":1"), "db.yaml": keeper("db", lab.TestImage+":1", 1)})

	t.Run("pods are spread", func(t *testing.T) {
		for _, prefix := range []string{"web-", "each-"} {
			if got := spread(places(q.status(a), prefix)); len(got) != 5 {
				t.Errorf("%s are on %v", prefix, got)
			}
			if got := q.ran(prefix, q.nodes...); len(got) != 5 {
				t.Errorf("Podman runs %v", got)
			}
		}
	})
	t.Run("every node shows the same fleet", func(t *testing.T) {
		var want string
		for _, h := range q.nodes {
			s := q.status(h)
			got := map[string]any{"epoch": s.Epoch, "fleet": s.Fleet, "pods": s.Pods, "workloads": s.Workloads, "revision": s.Sources[0].Revision}
			raw, err := json.MarshalIndent(got, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			if want == "" {
				want = string(raw)
			}
			if diff := cmp.Diff(want, string(raw)); diff != "" {
				t.Errorf("%s and %s differ:\n%s", a.Name, h.Name, diff)
			}
		}
	})
	home := places(q.status(a), "db-")["db-0"]
	q.site.Host(home).Exec("podman", "exec", "default_db-0_main", "/skerry-test", "write", "/data/kept", "yes")
	t.Run("a push rolls within its bounds", func(t *testing.T) {
		began := time.Now()
		q.deploy(map[string]string{"web.yaml": web(5, ":2"), "each.yaml": daemonSet("each", lab.TestImage+":2"), "db.yaml": keeper("db", lab.TestImage+":2", 1)})
		for prefix, least := range map[string]int{"default/web-": 4, "default/each-": 4} { // 25 % of 5, rounded down, and 1
			if got := q.check.Fewest(prefix, began); got < least {
				t.Errorf("while it rolled there were %d of %s, at least %d are wanted", got, prefix, least)
			}
		}
		for _, h := range q.nodes {
			for _, p := range h.Pods() {
				if p.Containers[0].Image != lab.TestImage+":2" {
					t.Errorf("on %s there is %+v", h.Name, p)
				}
			}
		}
	})
	t.Run("a claim stays where it is", func(t *testing.T) {
		if got := places(q.status(a), "db-")["db-0"]; got != home {
			t.Fatalf("db-0 is on %s, its volume on %s", got, home)
		}
		if got := q.site.Host(home).Exec("podman", "exec", "default_db-0_main", "/skerry-test", "cat", "/data/kept"); got != "yes" {
			t.Errorf("the volume has %q", got)
		}
	})
	t.Run("a push scales", func(t *testing.T) {
		before := q.ran("", q.nodes...)
		q.deploy(map[string]string{"web.yaml": web(7, ":2"), "budget.yaml": budget})
		after := q.ran("", q.nodes...)
		if len(after) != len(before)+2 {
			t.Errorf("there were %d, and now %d", len(before), len(after))
		}
		maps.DeleteFunc(after, func(name, _ string) bool { return before[name] == "" })
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("what ran before was touched:\n%s", diff)
		}
	})

	// Not one on which the volume is: its pod could not move.
	others := q.but(a, q.site.Host(home))
	left := others[len(others)-1]
	t.Run("a cordoned node gets nothing and keeps what it has", func(t *testing.T) {
		q.must(a, "cordon", left.Name)
		before := places(q.status(a), "web-")
		q.deploy(map[string]string{"extra.yaml": deployment("extra", 8, lab.TestImage+":1", "")})
		if got := spread(places(q.status(a), "extra-")); got[left.Name] > 0 {
			t.Errorf("they are on %v", got)
		}
		if diff := cmp.Diff(before, places(q.status(a), "web-")); diff != "" {
			t.Errorf("what was there has moved:\n%s", diff)
		}
		settled := q.check.Cause("default/extra-", "removed")
		q.deploy(map[string]string{"extra.yaml": ""})
		settled()
	})
	t.Run("draining heeds the budget", func(t *testing.T) {
		q.refused(a, "--ignore-daemonsets", "drain", left.Name)
		settled := q.check.Cause("default/web-", "drained")
		defer settled()
		began := time.Now()
		q.must(left, "drain", left.Name, "--ignore-daemonsets") // it does not matter where that is said
		if got := q.check.Fewest("default/web-", began); got < 6 {
			t.Errorf("while it was drained there were %d pods, at least 6 are wanted", got)
		}
		q.until(a, "settled", func(s api.Status) bool { return s.Settled })
		if got := places(q.status(a), "web-"); len(got) != 7 || spread(got)[left.Name] > 0 {
			t.Errorf("they are on %v", spread(got))
		}
		if got := q.ran("", left); len(got) != 1 {
			t.Errorf("on the drained node there run %v", got)
		}
		if out := q.must(a, "status"); !strings.Contains(out, "SchedulingDisabled") {
			t.Errorf("status does not say so:\n%s", out)
		}
	})
	t.Run("uncordoned it gets pods again", func(t *testing.T) {
		q.must(a, "uncordon", left.Name)
		q.deploy(map[string]string{"web.yaml": web(9, ":2")})
		if got := spread(places(q.status(a), "web-")); got[left.Name] == 0 {
			t.Errorf("they are on %v", got)
		}
	})
	t.Run("the fleet goes by another branch", func(t *testing.T) {
		before := q.ran("", q.nodes...)
		q.git(q.work, "checkout", "-q", "-b", "other")
		revision := q.push(map[string]string{"other.yaml": deployment("other", 1, lab.TestImage+":1", "")})
		q.config["a"] = strings.Replace(q.config["a"], q.source("main"), q.source("other"), 1)
		q.write(a)
		if out := q.must(a, "node", "charter"); !strings.Contains(out, "branch: main") {
			t.Errorf("the charter is\n%s", out)
		}
		q.refused(q.nodes[1], "names no source", "node", "charter", "--set") // one without sources would take them from all
		q.stop(a)
		q.start(a) // it reads its configuration when it starts
		q.must(a, "node", "charter", "--set")
		q.settled(revision, q.nodes...)
		after := q.ran("", q.nodes...)
		maps.DeleteFunc(after, func(name, _ string) bool { return before[name] == "" })
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("what ran before was touched:\n%s", diff)
		}
	})
	t.Run("a node leaves", func(t *testing.T) {
		leaves := others[len(others)-1]
		q.refused(leaves, "drain it first", "node", "leave")
		settled := q.check.Cause("default/", "drained")
		defer settled()
		q.must(a, "drain", leaves.Name, "--ignore-daemonsets")
		q.must(leaves, "node", "leave")
		q.ended(leaves)
		for _, h := range q.but(leaves) {
			q.until(h, "it has left", func(s api.Status) bool { return s.Settled && len(s.Fleet.Nodes) == 4 })
		}
		if got, err := leaves.ExecErr(t.Context(), "ls", "/var/lib/skerry/fleet"); err == nil {
			t.Errorf("it left behind %s", got)
		}
		q.nodes = q.but(leaves)
	})
	t.Run("a node is removed", func(t *testing.T) {
		voters := q.but(a)[:2] // b and c vote
		lost := voters[0]
		if lost.Name == home {
			lost = voters[1]
		}
		settled := q.check.Cause("default/", "removed")
		defer settled()
		q.refused(a, "drain it first", "node", "remove", lost.Name)
		lost.PowerCut()
		q.until(a, "it is lost", func(s api.Status) bool { return machine(s, lost).State == "Lost" })
		q.must(a, "node", "remove", lost.Name)
		for _, h := range q.but(lost) {
			q.until(h, "all is well without it", func(s api.Status) bool { return s.Settled && len(s.Fleet.Nodes) == 3 })
		}
		q.nodes = q.but(lost)
		if got := q.ran("web-", q.nodes...); len(got) != 9 {
			t.Errorf("there run %v", got)
		}
		lost.PowerOn()
		q.launch(lost)
		q.until(a, "nobody has come back", func(s api.Status) bool { return s.Settled && len(s.Fleet.Nodes) == 3 })
	})
	q.check.Report(t)
	q.linear()
}
