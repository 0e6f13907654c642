package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
	"github.com/skerry-dev/skerry/reconcile"
)

// addressed is a squad of servers with a Service at an address that one of them has at a time, and a client on their network that asks there all
// the time: by ARP who has it, and by HTTP.
type addressed struct {
	*squad
	vip    netip.Addr
	who    *lab.Who
	client *visitor
}

const vipText = "10.66.0.200"

// balanced is a Deployment that serves, and a Service that leads to it from the LAN.
func balanced(replicas int, image string) string {
	return strings.Replace(deployment("web", replicas, image, `        args: [serve]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
`), "        command: [sleep]\n", "", 1) + `---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`
}

// newAddressed waits until the client is answered. Pods of lost nodes are not replaced.
func newAddressed(t *testing.T) *addressed {
	t.Helper()
	q := newSquad(t, 3, "10m")
	for _, h := range q.nodes {
		pools := ""
		if h.Name == "a" {
			pools = ", loadBalancerPools: [{name: lan, cidrs: [" + vipText + "/32]}]"
		}
		q.config[h.Name] = strings.Replace(q.config[h.Name], `services: "off"`, `services: "on"`+pools, 1)
		q.write(h)
	}
	q.unite(3)
	v := &addressed{squad: q, vip: netip.MustParseAddr(vipText)}
	if err := q.forge.In(func() (err error) {
		v.who, err = lab.AskWho("eth0", v.vip)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.who.Stop)
	q.deploy(map[string]string{"web.yaml": balanced(3, lab.TestImage+":1")})
	v.client = visit(t, q.forge, vipText+":80")
	return v
}

// holder waits until a host has the address, which all nodes that are named say, and no other host has it.
func (v *addressed) holder(say ...*hosts.Host) *hosts.Host {
	v.t.Helper()
	at := v.takes(time.Now())
	asked := time.Now()
	defer func() {
		if took := time.Since(asked); len(say) > 0 && took > time.Second {
			v.t.Logf("it took %v until all said that %s has the address", took.Round(time.Millisecond), at.Name)
		}
	}()
	for _, h := range say {
		v.until(h, "it says that "+at.Name+" has the address", func(s api.Status) bool { return holderIn(s) == at.Name })
	}
	return at
}

// holderIn is who has the address, by a status.
func holderIn(s api.Status) string {
	for _, svc := range s.Services {
		if svc.ID.Name == "web" {
			return string(svc.Holders[vipText])
		}
	}
	return ""
}

// takes waits until somebody answers for the address who was asked after a moment.
func (v *addressed) takes(since time.Time) *hosts.Host {
	v.t.Helper()
	for ; time.Since(since) < long; <-time.After(5 * time.Millisecond) {
		mac := v.who.Last(since)
		if i := slices.IndexFunc(v.nodes, func(h *hosts.Host) bool { return h.MAC() == mac }); i >= 0 {
			return v.nodes[i]
		}
	}
	for _, h := range v.nodes {
		if out, err := v.run(h, "status"); err == nil {
			v.t.Logf("%s says\n%s", h.Name, out)
		}
	}
	v.t.Fatalf("nobody has the address %s after %s", v.vip, long)
	return nil
}

// has is which of the hosts have the address on a card.
func (v *addressed) has(list ...*hosts.Host) (names []string) {
	v.t.Helper()
	for _, h := range list {
		if strings.Contains(h.Exec("ip", "-br", "addr", "show", "eth0"), vipText+"/") {
			names = append(names, h.Name)
		}
	}
	return names
}

// had is who answered to what was asked since a moment, in order.
func (v *addressed) had(since time.Time) (names []string) {
	for _, one := range lab.Tenures(v.who.Answers()) {
		i := slices.IndexFunc(v.nodes, func(h *hosts.Host) bool { return h.MAC() == one.By })
		if one.Until.After(since) && (len(names) == 0 || names[len(names)-1] != v.nodes[i].Name) {
			names = append(names, v.nodes[i].Name)
		}
	}
	return names
}

// gaps logs for how long nobody had the address, and for how long nobody who asked was answered soon.
func (v *addressed) gaps(what string, since time.Time) (held, answered time.Duration) {
	v.t.Helper()
	held, answered = lab.Longest(v.who.Answers(), since), v.client.gap(since)
	v.t.Logf("%s: nobody had the address for %v, and who asked was not answered for %v", what, held.Round(time.Millisecond), answered.Round(time.Millisecond))
	return held, answered
}

// served checks that nobody who asked since a moment was left without an answer. Where the address goes to another node and nobody has
// planned it, connections that are under way do not go on: what was asked just before such a move is reset or not answered, and only counted.
func (v *addressed) served(since time.Time, moves ...time.Time) {
	v.t.Helper()
	const underWay = 200 * time.Millisecond // on a busy machine
	n, failed := v.client.failed(since, time.Now())
	lost := 0
	failed = slices.DeleteFunc(failed, func(f *visited) bool {
		under := slices.ContainsFunc(moves, func(at time.Time) bool { return f.began.Before(at) && at.Sub(f.began) < underWay })
		if under {
			lost++
			v.t.Logf("under way when the address moved: %v", f)
		}
		return under
	})
	if len(failed) > 0 || n == 0 || lost > 5*len(moves) {
		v.t.Errorf("of %d requests %d failed: %v", n, len(failed), failed[:min(len(failed), 5)])
	}
}

// moves are the moments after since at which another host was found to have the address.
func (v *addressed) moves(since time.Time) (all []time.Time) {
	last := ""
	for _, one := range lab.Tenures(v.who.Answers()) {
		if last != "" && last != one.By && one.From.After(since) {
			all = append(all, one.From)
		}
		last = one.By
	}
	return all
}

// visitor asks an address for a page every few milliseconds, each time on a connection of its own, and does not wait for the answer before it
// asks again.
type visitor struct {
	stop context.CancelFunc
	ends sync.WaitGroup

	mu   sync.Mutex
	asks []*visited
}

type visited struct {
	began time.Time
	took  time.Duration // 0: not yet answered
	err   error
}

const (
	visitEvery = 5 * time.Millisecond
	visitLimit = 4 * time.Second        // a first packet that is lost is sent again after 1 s and 3 s
	promptly   = 200 * time.Millisecond // nothing was lost
)

func visit(t *testing.T, from *hosts.Host, address string) *visitor {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	v := &visitor{stop: stop}
	v.ends.Go(func() {
		tick := time.NewTicker(visitEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			one := &visited{began: time.Now()}
			v.mu.Lock()
			v.asks = append(v.asks, one)
			v.mu.Unlock()
			v.ends.Go(func() {
				err := visitOnce(ctx, from, address)
				v.mu.Lock()
				defer v.mu.Unlock()
				one.took, one.err = time.Since(one.began), err
			})
			<-tick.C
		}
	})
	t.Cleanup(v.end)
	return v
}

func visitOnce(ctx context.Context, from *hosts.Host, address string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), visitLimit) // what is under way at the end is to be answered
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err = io.Copy(io.Discard, response.Body); err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", response.Status)
	}
	return err
}

// end stops it when all are answered.
func (v *visitor) end() {
	v.stop()
	v.ends.Wait()
}

func (v *visited) String() string {
	return fmt.Sprintf("%s: after %v: %v", v.began.UTC().Format("15:04:05.000"), v.took.Round(time.Millisecond), v.err)
}

// failed is how often it was asked between two moments, and what of that failed. It waits for what is under way.
func (v *visitor) failed(from, to time.Time) (n int, failed []*visited) {
	for _, one := range v.between(from, to) {
		n++
		if one.err != nil {
			failed = append(failed, &one)
		}
	}
	return n, failed
}

// gap is the longest time between two moments, from since on, at which it was asked and answered promptly.
func (v *visitor) gap(since time.Time) (gap time.Duration) {
	last := since
	for _, one := range v.between(since, time.Now()) {
		if one.err == nil && one.took < promptly {
			gap, last = max(gap, one.began.Sub(last)), one.began
		}
	}
	return gap
}

// between is what was asked between two moments, when all of it has an answer or none.
func (v *visitor) between(from, to time.Time) (all []visited) {
	for ; ; <-time.After(10 * time.Millisecond) {
		v.mu.Lock()
		all = nil
		open := false
		for _, one := range v.asks {
			if !one.began.Before(from) && one.began.Before(to) {
				all, open = append(all, *one), open || one.took == 0
			}
		}
		v.mu.Unlock()
		if !open {
			return all
		}
	}
}

// TestFleetAddress: an address of a pool is on one node at a time, whatever happens to nodes and agents, and on another soon when it has to be.
// That two never have it is checked from the client's side to the end.
func TestFleetAddress(t *testing.T) {
	v := newAddressed(t)
	q := v.squad
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			q.t = t
			test(t)
			for _, o := range lab.Overlaps(lab.Tenures(v.who.Answers())) {
				t.Error(o)
			}
		})
		q.t = t
	}
	run("one node has it, and all say which", func(t *testing.T) {
		since := time.Now()
		at := v.holder(q.nodes...)
		if got := v.has(q.nodes...); len(got) != 1 || got[0] != at.Name {
			t.Errorf("%v have it, and %s answers", got, at.Name)
		}
		for _, h := range q.nodes {
			if out := q.must(h, "status"); !strings.Contains(out, vipText) {
				t.Errorf("%s does not speak of the address:\n%s", h.Name, out)
			}
		}
		<-time.After(time.Second)
		v.served(since)
		v.gaps("nothing happens", since)
		t.Logf("%s", q.must(at, "status"))
	})
	run("the power of who has it is cut", func(t *testing.T) {
		at := v.holder()
		since := time.Now()
		at.PowerCut()
		next := v.holder(q.but(at)...)
		<-time.After(3 * time.Second)
		held, _ := v.gaps("power cut", since)
		if next == at || held > time.Second {
			t.Errorf("%s has it after %v", next.Name, held)
		}
		if n, failed := v.client.failed(since.Add(time.Second), time.Now()); failed != nil {
			t.Errorf("of %d requests that were begun a second later %d failed: %v", n, len(failed), failed[:min(len(failed), 5)])
		}

		since = time.Now()
		at.PowerOn()
		q.start(at)
		q.until(at, "settled", func(s api.Status) bool { return s.Settled })
		<-time.After(2 * time.Second)
		if got := v.had(since); len(got) != 1 || got[0] != next.Name {
			t.Errorf("when %s was back the address went to %v", at.Name, got)
		}
		v.served(since)
	})
	run("who has it is drained", func(t *testing.T) {
		at := v.holder()
		since := time.Now()
		defer q.check.Cause("default/web-", "drained")()
		q.must(at, "drain", at.Name, "--ignore-daemonsets")
		next := v.holder(q.nodes...)
		held, _ := v.gaps("drain", since)
		if next == at || held > 300*time.Millisecond {
			t.Errorf("%s has it after %v", next.Name, held)
		}
		v.served(since)
		q.must(at, "uncordon", at.Name)
		<-time.After(time.Second)
		if got := v.had(since); len(got) != 2 {
			t.Errorf("%v had it", got)
		}
		q.deploy(map[string]string{"web.yaml": balanced(6, lab.TestImage+":1")}) // so that some run everywhere again
		q.deploy(map[string]string{"web.yaml": balanced(3, lab.TestImage+":1")})
	})
	for how, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		run("the agent of who has it is "+how, func(t *testing.T) {
			at := v.holder()
			since := time.Now()
			at.Signal(agentProcess, signal)
			var next *hosts.Host
			for next = at; next == at && time.Since(since) < long; <-time.After(2 * time.Millisecond) {
				next = v.takes(time.Now())
			}
			<-time.After(2 * time.Second)
			held, _ := v.gaps("agent "+how, since)
			if next == at || held > time.Second { // some 30 ms where the machine has time
				t.Errorf("%s has it after %v", next.Name, held)
			}
			v.served(since, v.moves(since)...)
			if signal == syscall.SIGSTOP {
				at.Signal(agentProcess, syscall.SIGCONT)
			} else {
				q.start(at)
			}
			q.until(at, "settled", func(s api.Status) bool { return s.Settled })
			v.holder(q.nodes...)
			if got := v.has(q.nodes...); len(got) != 1 || got[0] != next.Name {
				t.Errorf("%v have it, and %s answers", got, next.Name)
			}
		})
	}
	run("two of three are off", func(t *testing.T) {
		at := v.holder()
		for _, h := range q.but(at) {
			h.PowerCut()
		}
		since := time.Now()
		q.until(at, "it says that nobody has it, and why", func(s api.Status) bool {
			return holderIn(s) == "" && slices.ContainsFunc(s.Services, func(x reconcile.Service) bool { return strings.Contains(strings.Join(x.Out, ""), vipText) })
		})
		t.Logf("after %v it says so:\n%s", time.Since(since), q.must(at, "status"))
		if got := v.has(at); len(got) > 0 {
			t.Errorf("%v has it", got)
		}
		since = time.Now()
		<-time.After(time.Second)
		if got := v.had(since); len(got) > 0 {
			t.Errorf("%v answers", got)
		}
		for _, h := range q.but(at) {
			h.PowerOn()
		}
		q.start(q.but(at)...)
		v.holder(q.nodes...)
	})
	run("a node leaves", func(t *testing.T) {
		defer q.check.Cause("", "a node leaves")()
		at := v.holder(q.nodes...)
		for _, h := range q.nodes { // who was off has caught up
			q.until(h, "all is well", func(s api.Status) bool { return s.Settled && s.Fleet.Leader != "" && s.Fleet.Store == "ok" })
		}
		other := q.but(at)[0]
		q.must(other, "drain", at.Name, "--ignore-daemonsets")
		q.must(at, "node", "leave")
		q.ended(at)
		clean := func(h *hosts.Host, links string) {
			t.Helper()
			left := h.Exec("sh", "-c", "ip route show proto 83; ip -br link | grep "+links+"; nft list tables | grep -i skerry; tc qdisc show dev eth0 | grep clsact; tc filter show dev eth0 ingress; tc filter show dev eth0 egress; ip -br addr | grep "+vipText+"; true")
			if left != "" {
				t.Errorf("%s still has\n%s", h.Name, left)
			}
		}
		clean(at, "skerry")
		q.nodes = q.but(at)
		at = v.holder(q.nodes...)
		at.Kill9(agentProcess) // it leaves all that it has
		if out, err := q.run(at, "network", "remove"); err == nil {
			t.Errorf("pods are on the network, and nobody says so:\n%s", out)
		}
		clean(at, "skerry-") // the bridge stays for the pods
		q.start(at)
		v.holder(q.nodes...)
	})
	q.check.Report(t)
	q.linear()
}

// TestFleetAddressRolls: a rolling update of pods on three nodes, behind an address whose node is drained in the middle of it.
func TestFleetAddressRolls(t *testing.T) {
	v := newAddressed(t)
	q := v.squad
	q.deploy(map[string]string{"web.yaml": balanced(6, lab.TestImage+":1")})
	defer q.check.Cause("default/web-", "rolled and drained")()
	since := time.Now()
	at := v.holder()
	q.push(map[string]string{"web.yaml": balanced(6, lab.TestImage+":2")})
	q.until(at, "it has begun", func(s api.Status) bool { return len(s.Waiting) > 0 })
	q.must(at, "drain", at.Name, "--ignore-daemonsets")
	for _, h := range q.nodes {
		q.until(h, "it is done", func(s api.Status) bool { return s.Settled && len(places(s, "web-")) == 6 })
	}
	<-time.After(time.Second)
	if next := v.holder(q.nodes...); next == at {
		t.Errorf("%s still has the address", at.Name)
	}
	v.gaps("rolled and drained", since)
	n, failed := v.client.failed(since, time.Now())
	t.Logf("%d requests, %d failed", n, len(failed))
	v.served(since)
	for _, o := range lab.Overlaps(lab.Tenures(v.who.Answers())) {
		t.Error(o)
	}
}
