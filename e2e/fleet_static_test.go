package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
)

// settings are a ConfigMap and a Secret, and an app that has them as files.
func settings(value string) string {
	return `apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {greeting: ` + value + `}
---
apiVersion: v1
kind: Secret
metadata: {name: sec}
stringData: {token: token-` + value + `}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 5
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: ` + lab.TestImage + `:1
        command: [sleep]
        volumeMounts: [{name: conf, mountPath: /conf}, {name: sec, mountPath: /sec}]
      volumes:
      - {name: conf, configMap: {name: conf}}
      - {name: sec, secret: {secretName: sec}}
`
}

// reads are what the app's pods on hosts have as files.
func (q *squad) reads(list ...*hosts.Host) map[string]string {
	q.t.Helper()
	all := map[string]string{}
	for _, h := range list {
		for name := range q.ran("app-", h) {
			_, container, _ := strings.Cut(name, " ")
			all[name] = h.Exec("podman", "exec", container, "/skerry-test", "cat", "/conf/greeting", "/sec/token")
		}
	}
	return all
}

// TestFleetColdStart has all power gone, and comes up without the Git server. Registries there are none at all. Then a node gets a
// commit from another node's clone.
func TestFleetColdStart(t *testing.T) {
	q := newFleet(t, 5, "30s")
	a := q.nodes[0]
	head := q.deploy(map[string]string{
		"app.yaml": settings("one"), "web.yaml": watched("web", lab.TestImage+":1", 5),
		"db.yaml": keeper("db", lab.TestImage+":1", 3), "each.yaml": daemonSet("each", lab.TestImage+":1"),
	})
	before := q.ran("", q.nodes...)
	where := places(q.status(a), "")
	for name, got := range q.reads(q.nodes...) {
		if got != "onetoken-one" {
			t.Fatalf("%s reads %q", name, got)
		}
	}

	for _, h := range q.nodes {
		h.PowerCut()
	}
	q.site.Partition([]*hosts.Host{q.forge}, q.nodes)
	for _, h := range q.nodes {
		h.PowerOn()
	}
	began := time.Now()
	for _, h := range q.nodes {
		q.launch(h) // in any order
	}
	for _, h := range q.nodes {
		q.until(h, "all runs again", func(s api.Status) bool { return s.Settled && s.Fleet.Store == "ok" })
	}
	t.Logf("all runs again after %s", time.Since(began).Round(time.Second/10))
	if diff := cmp.Diff(where, places(q.status(a), "")); diff != "" {
		t.Errorf("pods are elsewhere:\n%s", diff)
	}
	after := q.ran("", q.nodes...)
	for name := range before {
		if after[name] == "" {
			t.Errorf("%s does not run again", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("there ran %d and now %d", len(before), len(after))
	}
	for name, got := range q.reads(q.nodes...) {
		if got != "onetoken-one" {
			t.Errorf("%s reads %q", name, got)
		}
	}
	if s := q.status(a); s.Sources[0].Revision != head || s.Sources[0].State != "Failing" {
		t.Errorf("the source is %+v", s.Sources[0])
	}

	// The Git server is there again for all but e.
	e := q.nodes[4]
	for _, h := range q.but(e) {
		q.site.Heal(q.forge, h)
	}
	settled := q.check.Cause("default/", "pushed")
	head = q.deploy(map[string]string{"app.yaml": settings("two")})
	q.until(a, "files are written", func(api.Status) bool {
		for _, got := range q.reads(q.nodes...) {
			if got != "twotoken-two" {
				return false
			}
		}
		return true
	})
	if s := q.status(e); machine(s, e).Revisions["home"] != head {
		t.Errorf("e goes by %+v", machine(s, e))
	}

	// And an agent on e that has lost its clone.
	q.stop(e)
	e.Exec("sh", "-c", "rm -r /var/lib/skerry/sources")
	running := q.ran("", e)
	q.start(e)
	q.settled(head, e)
	if diff := cmp.Diff(running, q.ran("", e)); diff != "" {
		t.Errorf("what ran was touched:\n%s", diff)
	}
	settled()
	q.check.Report(t)
	q.linear()
}

// TestFleetTrouble has a node whose disk is full, and one whose Podman is dead.
func TestFleetTrouble(t *testing.T) {
	q := newFleet(t, 4, soon)
	a, d := q.nodes[0], q.nodes[3]
	q.deploy(map[string]string{"web.yaml": watched("web", lab.TestImage+":1", 4), "each.yaml": daemonSet("each", lab.TestImage+":1")})

	t.Run("Podman is dead", func(t *testing.T) {
		before := q.ran("", q.nodes...)
		d.StopPodman()
		for _, h := range q.nodes {
			s := q.until(h, "status says so", func(s api.Status) bool { return machine(s, d).State == "NotReady" })
			if why := machine(s, d).Why; !strings.Contains(why, "odman") {
				t.Errorf("on %s it is because %q", h.Name, why)
			}
		}
		revision := q.push(map[string]string{"more.yaml": deployment("more", 4, lab.TestImage+":1", "")})
		s := q.until(a, "what is new runs", func(s api.Status) bool { return s.Sources[0].Revision == revision && workloadReady(s, "more") == 4 })
		if got := spread(places(s, "more-")); got["d"] > 0 {
			t.Errorf("they are on %v", got)
		}
		// Its pods are left where they are for longer than those of a lost node would be.
		<-time.After(10 * time.Second)
		if got := spread(places(q.status(a), "web-")); got["d"] != 1 {
			t.Errorf("they are on %v", got)
		}
		d.StartPodman()
		q.settled(revision, q.nodes...)
		after := q.ran("", q.nodes...)
		for name := range after {
			if before[name] == "" {
				delete(after, name)
			}
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("what ran was touched:\n%s", diff)
		}
	})
	t.Run("the disk of an agent is full", func(t *testing.T) {
		before := q.ran("", q.nodes...)
		d.FillDisk()
		revision := q.push(map[string]string{"other.yaml": deployment("other", 3, lab.TestImage+":1", "")})
		q.until(a, "somebody says that the disk is full", func(s api.Status) bool {
			raw := q.must(a, "status")
			return s.Sources[0].Revision == revision && strings.Contains(raw, "no space left")
		})
		pod := podOn(places(q.status(a), "web-"), d)
		settled := q.check.Cause("default/"+pod, "killed")
		was := q.crash(d, pod)
		q.again(d, pod, was)
		d.FreeDisk()
		q.settled(revision, q.nodes...)
		settled()
		after := q.ran("", q.nodes...)
		for name := range after {
			if before[name] == "" || strings.Contains(name, pod) {
				delete(after, name)
			}
		}
		delete(before, "d default_"+pod+"_main")
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("what ran was touched:\n%s", diff)
		}
	})
	t.Run("the disk of the leader is full", func(t *testing.T) {
		leader := q.leader(d)
		before := q.ran("", q.nodes...)
		leader.FillDisk()
		other := q.but(leader, d)[0]
		revision := q.push(map[string]string{"third.yaml": deployment("third", 2, lab.TestImage+":1", "")})
		// Its agent may end for want of room. Then what is new may be meant for it, and wait until it is given up for lost with all that it has.
		q.until(other, "another has decided, or says why nobody does", func(s api.Status) bool {
			return s.Sources[0].Revision == revision && (exited(leader) || workloadReady(s, "third") == 2) || strings.Contains(q.must(other, "status"), "no space left")
		})
		leader.FreeDisk()
		if exited(leader) {
			t.Logf("the agent of %s ended for want of room", leader.Name)
			q.start(leader)
		}
		q.settled(revision, q.nodes...)
		after := q.ran("", q.nodes...)
		for name := range after {
			if before[name] == "" {
				delete(after, name)
			}
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("what ran was touched:\n%s", diff)
		}
	})
	q.check.Report(t)
	q.linear()
}

func exited(h *hosts.Host) bool {
	select {
	case <-h.Ended(agentProcess):
		return true
	default:
		return false
	}
}
