package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
	"github.com/skerry-dev/skerry/reconcile"
)

// watched is a Deployment whose pods are asked whether they live, all of whose replicas but one have to be there.
func watched(name, image string, replicas int) string {
	return strings.Replace(deployment(name, replicas, image, `        args: [serve]
        livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}
`), "        command: [sleep]\n", "", 1)
}

// crash kills the process of a pod's container, as the kernel would. It returns the container that was.
func (q *squad) crash(h *hosts.Host, pod string) (container string) {
	q.t.Helper()
	name := "default_" + pod + "_main"
	id := h.Exec("podman", "inspect", "--format={{.Id}}", name)
	h.Exec("podman", "kill", "--signal=KILL", name)
	return id
}

// sicken has a pod answer its liveness probe with 503 from now on.
func (q *squad) sicken(h *hosts.Host, pod string) {
	q.t.Helper()
	s := q.status(h)
	at := slices.IndexFunc(s.Pods, func(p reconcile.Line) bool { return p.ID.Name == pod })
	if at < 0 {
		q.t.Fatalf("status has no pod %s", pod)
	}
	request, err := http.NewRequestWithContext(q.t.Context(), http.MethodGet, "http://"+s.Pods[at].IP+":8080/unhealthy", nil)
	if err != nil {
		q.t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}}).Do(request)
	if err != nil {
		q.t.Fatal(err)
	}
	response.Body.Close()
}

// again waits until a pod's container runs, which is not the one that was.
func (q *squad) again(h *hosts.Host, pod, was string) {
	q.t.Helper()
	for deadline := time.Now().Add(long); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		for _, p := range h.Pods() {
			if p.Labels[fleet.LabelPodName] != pod {
				continue
			}
			for _, c := range p.Containers {
				if c.State == "running" && c.ID != was {
					return
				}
			}
		}
	}
	q.t.Fatalf("pod %s is not started again on host %s", pod, h.Name)
}

// podOn is a pod of some on a node.
func podOn(places map[string]string, h *hosts.Host) string {
	for pod, node := range places {
		if node == h.Name {
			return pod
		}
	}
	return ""
}

// TestFleetKills kills every kind of process there is, by signal 9.
func TestFleetKills(t *testing.T) {
	q := newFleet(t, 5, soon)
	q.deploy(map[string]string{
		"web.yaml": watched("web", lab.TestImage+":1", 8), "db.yaml": keeper("db", lab.TestImage+":1", 2), "each.yaml": daemonSet("each", lab.TestImage+":1"),
	})

	t.Run("the leader in the middle of a rollout", func(t *testing.T) {
		leader := q.leader(q.nodes[0])
		other := q.but(leader)[0]
		began, before := time.Now(), q.status(other).Epoch
		revision := q.push(map[string]string{"web.yaml": watched("web", lab.TestImage+":2", 8)})
		q.until(other, "it rolls", func(s api.Status) bool {
			return s.Epoch > before+1 && len(s.Workloads) > 0 && s.Sources[0].Revision == revision
		})
		leader.Kill9(agentProcess)
		next := q.until(other, "another leads", func(s api.Status) bool { return s.Fleet.Leader != "" && string(s.Fleet.Leader) != leader.Name })
		q.start(leader)
		q.settled(revision, q.nodes...)
		t.Logf("%s led instead of %s", next.Fleet.Leader, leader.Name)
		if got := q.check.Fewest("default/web-", began); got < 7 {
			t.Errorf("while it rolled there were %d pods, at least 7 are wanted", got)
		}
	})
	t.Run("all agents at once", func(t *testing.T) {
		before := q.ran("", q.nodes...)
		for _, h := range q.nodes {
			h.Kill9(agentProcess)
		}
		q.start(q.nodes...)
		for _, h := range q.nodes {
			q.until(h, "settled", func(s api.Status) bool { return s.Settled && s.Fleet.Leader != "" && s.Fleet.Store == "ok" })
		}
		if diff := cmp.Diff(before, q.ran("", q.nodes...)); diff != "" {
			t.Errorf("what ran was touched:\n%s", diff)
		}
	})
	t.Run("conmon", func(t *testing.T) {
		h := q.nodes[4]
		all := places(q.status(h), "web-")
		pod := podOn(all, h)
		if pod == "" {
			t.Fatalf("on %s there is no pod of web: %v", h.Name, all)
		}
		settled := q.check.Cause("default/"+pod, "conmon is killed")
		defer settled()
		name := "default_" + pod + "_main"
		was := h.Exec("podman", "inspect", "--format={{.Id}}", name)
		h.Exec("sh", "-c", "kill -9 $(podman inspect --format={{.ConmonPidFile}} "+name+" | xargs cat)")
		q.again(h, pod, was)
		q.until(h, "settled", func(s api.Status) bool { return s.Settled })
	})
	t.Run("Podman's service, in the middle of a rollout", func(t *testing.T) {
		began := time.Now()
		another := strings.Replace(watched("web", lab.TestImage+":2", 8), "PeriodSeconds: 5", "PeriodSeconds: 4", 1)
		revision := q.push(map[string]string{"web.yaml": another})
		h := q.nodes[3]
		q.until(h, "it rolls", func(s api.Status) bool { return s.Sources[0].Revision == revision })
		h.StopPodman()
		q.until(q.nodes[0], "status says so", func(s api.Status) bool {
			return machine(s, h).State == "NotReady" && strings.Contains(machine(s, h).Why, "odman")
		})
		h.StartPodman()
		q.settled(revision, q.nodes...)
		if got := q.check.Fewest("default/web-", began); got < 7 {
			t.Errorf("while it rolled there were %d pods, at least 7 are wanted", got)
		}
	})
	q.check.Report(t)
	q.linear()
}

// TestFleetPowerCuts cuts the power of one, of the leader and of two servers, and the cable of one.
func TestFleetPowerCuts(t *testing.T) {
	q := newFleet(t, 5, soon)
	a, d := q.nodes[0], q.nodes[3]
	head := q.deploy(map[string]string{
		"web.yaml": watched("web", lab.TestImage+":1", 6), "db.yaml": keeper("db", lab.TestImage+":1", 5),
		"each.yaml": strings.Replace(daemonSet("each", lab.TestImage+":1"), "command: [sleep]",
			"args: [serve], livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}", 1),
		"tick.yaml": ticks(),
	})

	// lose cuts a host's power, sees its pods come elsewhere, and what there is too much go when it is back.
	lose := func(t *testing.T, lost *hosts.Host) {
		others := q.but(lost)
		before := q.status(others[0])
		keeps := podOn(places(before, "db-"), lost)
		if keeps == "" || podOn(places(before, "web-"), lost) == "" {
			t.Fatalf("on %s there is nothing to lose: %v", lost.Name, places(before, ""))
		}
		theirs := q.ran("", others...)
		settled := q.check.Cause("default/", "the power of "+lost.Name+" was cut")
		lost.PowerCut()
		began := time.Now()
		q.until(others[0], "pods are replaced", func(s api.Status) bool {
			web := places(s, "web-")
			return len(web) == 6 && spread(web)[lost.Name] == 0 && workloadReady(s, "web") == 6
		})
		t.Logf("pods ran elsewhere after %s", time.Since(began).Round(time.Second/10))
		s := q.status(others[0])
		if got := places(s, "db-")[keeps]; got != lost.Name {
			t.Errorf("%s is to run on %q; its volume is on %s, and it may still run there", keeps, got, lost.Name)
		}
		if got := q.ran("db-", others...); len(got) != 4 {
			t.Errorf("of the StatefulSet there run %v", got)
		}
		if s.Settled || !told(s, lost.Name) {
			t.Errorf("status does not say that %s is lost: %+v", lost.Name, s.Waiting)
		}
		after := q.ran("", others...)
		for name := range after {
			if theirs[name] == "" {
				delete(after, name)
			}
		}
		if diff := cmp.Diff(theirs, after); diff != "" {
			t.Errorf("what ran elsewhere was touched:\n%s", diff)
		}
		lost.PowerOn()
		q.start(lost)
		q.settled(head, q.nodes...)
		settled()
		if got := q.ran("", q.nodes...); len(got) != 6+5+5 {
			t.Errorf("there run %d: %v", len(got), got)
		}
	}
	t.Run("an agent", func(t *testing.T) { lose(t, d) })
	t.Run("the leader", func(t *testing.T) {
		lose(t, q.leader(d))
	})
	t.Run("an agent that is cut off and goes on", func(t *testing.T) {
		keeps, mine := podOn(places(q.status(a), "db-"), d), q.ran("", d)
		if podOn(places(q.status(a), "web-"), d) == "" {
			t.Fatalf("on d there is no pod of web: %v", places(q.status(a), ""))
		}
		settled := q.check.Cause("default/web-", "d is cut off, and has what is too much when it is back")
		q.site.Partition([]*hosts.Host{d}, append(q.but(d), q.forge))
		q.until(a, "pods are replaced", func(s api.Status) bool { return spread(places(s, "web-"))["d"] == 0 && workloadReady(s, "web") == 6 })
		if diff := cmp.Diff(mine, q.ran("", d)); diff != "" {
			t.Errorf("what runs on d was touched:\n%s", diff)
		}
		q.site.HealAll()
		q.settled(head, q.nodes...)
		settled()
		if got := q.ran("", q.nodes...); len(got) != 6+5+5 {
			t.Errorf("there run %d: %v", len(got), got)
		}
		if name := "d default_" + keeps + "_main"; q.ran("db-", d)[name] != mine[name] {
			t.Errorf("%s was touched", name)
		}
	})
	t.Run("two servers", func(t *testing.T) {
		b, c := q.nodes[1], q.nodes[2]
		left := q.but(b, c)
		before := q.ran("", left...)
		epoch := q.status(a).Epoch
		settled := q.check.Cause("default/", "two of three servers are off")
		b.PowerCut()
		c.PowerCut()
		for _, h := range left {
			q.until(h, "the store is away", func(s api.Status) bool { return s.Fleet.Store != "ok" && s.Fleet.Leader == "" })
		}
		if out := q.must(d, "status"); !strings.Contains(out, "quorum") && !strings.Contains(out, "answers") {
			t.Errorf("status does not say why nothing is decided:\n%s", out)
		}
		// What is pushed is not taken. What is killed is started again, by an agent that has known the others and by one that has
		// not; what is sick, too.
		head = q.push(map[string]string{"web.yaml": watched("web", lab.TestImage+":2", 6)})
		d.Kill9(agentProcess)
		q.start(d)
		here, there, data := podOn(places(q.status(a), "each-"), a), podOn(places(q.status(d), "each-"), d), podOn(places(q.status(d), "db-"), d)
		killedHere, killedThere := q.crash(a, here), q.crash(d, data)
		sick := d.Exec("podman", "inspect", "--format={{.Id}}", "default_"+there+"_main")
		q.sicken(d, there)
		q.again(a, here, killedHere)
		q.again(d, data, killedThere)
		q.again(d, there, sick)
		after := q.ran("", left...)
		for _, name := range []string{"a default_" + here + "_main", "d default_" + there + "_main", "d default_" + data + "_main"} {
			delete(before, name)
			delete(after, name)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("what ran was touched:\n%s", diff)
		}
		for _, h := range left {
			if s := q.status(h); s.Epoch != epoch {
				t.Errorf("%s goes by epoch %d; it was %d, and nobody can decide", h.Name, s.Epoch, epoch)
			}
		}
		b.PowerOn()
		c.PowerOn()
		q.start(b, c)
		q.settled(head, q.nodes...)
		settled()
		if got := q.ran("", q.nodes...); len(got) != 6+5+5 {
			t.Errorf("there run %d: %v", len(got), got)
		}
	})
	q.check.Report(t)
	q.linear()
}

// workloadReady is how many ready pods a workload has.
func workloadReady(s api.Status, name string) int32 {
	for _, w := range s.Workloads {
		if w.ID.Name == name {
			return w.Ready
		}
	}
	return 0
}

// told reports whether somebody who reads what is waited for learns of a node.
func told(s api.Status, node string) bool {
	for _, n := range s.Waiting {
		if strings.Contains(n.Text, node) || n.About.Name == node {
			return true
		}
	}
	return false
}
