package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
)

// dweller is a pod that can be asked, and asks.
type dweller struct {
	host    *hosts.Host
	name    string
	address string
	process int // in its network, by its number on the host
}

// dwellers are the pods of all hosts whose names begin so.
func (q *squad) dwellers(prefix string) []dweller {
	q.t.Helper()
	var all []dweller
	for _, h := range q.nodes {
		for _, p := range h.Pods() {
			if !strings.HasPrefix(p.Name, "default_"+prefix) {
				continue
			}
			infra := h.Exec("podman", "pod", "inspect", "--format", "{{.InfraContainerID}}", p.Name)
			words := strings.Fields(h.Exec("podman", "inspect", "--format", "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", infra))
			if len(words) != 2 {
				q.t.Fatalf("pod %s on %s has %q", p.Name, h.Name, words)
			}
			process, err := strconv.Atoi(words[0])
			if err != nil {
				q.t.Fatal(err)
			}
			all = append(all, dweller{h, p.Name, words[1], process})
		}
	}
	return all
}

// asks is how a pod is seen by one that it asks.
func (d dweller) asks(other dweller, limit time.Duration) (string, error) {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return d.host.DialAs(ctx, d.process, network, address)
	}
	body, err := askBy(dial, net.JoinHostPort(other.address, "8080"), "/from", limit)
	if err != nil {
		return "", err
	}
	from, _, err := net.SplitHostPort(body)
	return from, err
}

// meet has every pod ask every other by its address until each is seen as who it is, or it takes too long.
func (q *squad) meet(all []dweller) {
	q.t.Helper()
	var faults []error
	for begun := time.Now(); time.Since(begun) < 30*time.Second; <-time.After(100 * time.Millisecond) {
		faults = nil
		for _, from := range all {
			for _, to := range all {
				if from == to {
					continue
				}
				if seen, err := from.asks(to, time.Second); err != nil || seen != from.address {
					faults = append(faults, fmt.Errorf("%s (%s on %s) asks %s (%s on %s), and is seen as %q: %w", from.name, from.address, from.host.Name, to.name, to.address, to.host.Name, seen, err))
				}
			}
		}
		if len(faults) == 0 {
			return
		}
	}
	q.t.Error(errors.Join(faults...))
	for _, h := range q.nodes {
		q.t.Logf("%s:\n%s", h.Name, h.Exec("sh", "-c", "ip route; ip -br addr; bridge fdb show dev skerry-vx || true"))
	}
}

// made is what of the pod network is on a host: routes and links of ours, and tables.
func made(h *hosts.Host) string {
	return h.Exec("sh", "-c", "ip route show proto 83; ip -br link | grep skerry; nft list tables | grep skerry; true")
}

// TestFleetPodsReachEachOther: by their own addresses, over plain routes and through tunnels, also when a node gets another address;
// and a node that leaves keeps nothing of it.
func TestFleetPodsReachEachOther(t *testing.T) {
	q := newSquad(t, 3, soon)
	a, b, c := q.nodes[0], q.nodes[1], q.nodes[2]
	for _, h := range q.nodes {
		q.config[h.Name] = strings.Replace(q.config[h.Name], `services: "off"`, `services: "on"`, 1)
	}
	// c finds out its address by itself.
	q.config["c"] = strings.Replace(q.config["c"], ", address: "+c.Address.String(), "", 1)
	c.Exec("ip", "route", "add", "default", "via", "10.66.0.1", "dev", "eth0")
	for _, h := range q.nodes {
		q.write(h)
	}
	look := func() string {
		return made(a) + a.Exec("sh", "-c", "ss -Hlun | grep -v :10053; sysctl -a --pattern 'net.ipv4.*conf'")
	}
	before := look()
	q.start(a)
	if diff := cmp.Diff(before, look()); diff != "" {
		t.Errorf("a node alone has, without pods:\n%s", diff)
	}
	q.stop(a)
	q.unite(1)
	web := deployment("web", 6, lab.TestImage+":1", "        ports: [{containerPort: 8080}]\n")
	q.deploy(map[string]string{"web.yaml": strings.Replace(web, "[sleep]", "[serve]", 1)})
	all := q.dwellers("web-")
	if len(all) != 6 {
		t.Fatalf("there are %v", all)
	}

	t.Run("on one link", func(t *testing.T) {
		q.t = t
		q.meet(all)
		for _, h := range q.nodes {
			if got := made(h); strings.Count(got, " dev eth0") != 2 || strings.Contains(got, "skerry-vx") {
				t.Errorf("%s has\n%s", h.Name, got)
			}
		}
	})
	// tunnel has the fleet's charter say another way, and waits for all nodes to go it.
	tunnel := func(was, way, device string) {
		q.t.Helper()
		q.stop(a)
		q.config["a"] = strings.Replace(q.config["a"], was, `services: "on", podNetwork: `+way, 1)
		q.write(a)
		q.start(a)
		q.must(a, "node", "charter", "--set")
		made := func(h *hosts.Host) bool { return strings.Count(made(h), " dev "+device) == 2 }
		for begun := time.Now(); !made(a) || !made(b) || !made(c); <-time.After(100 * time.Millisecond) {
			if time.Since(begun) > long {
				q.t.Fatalf("the tunnels are not made: %v %v %v", made(a), made(b), made(c))
			}
		}
		q.meet(all)
	}
	t.Run("through tunnels", func(t *testing.T) {
		q.t = t
		tunnel(`services: "on"`, "vxlan", "skerry-vx")
		b.Exec("ip", "link", "del", "skerry-vx")
		q.meet(all)
	})
	t.Run("a node gets another address", func(t *testing.T) {
		q.t = t
		c.Exec("sh", "-c", "ip addr flush dev eth0; ip addr add 10.66.0.77/24 dev eth0; ip route add default via 10.66.0.1 dev eth0")
		q.meet(all)
		if got := a.Exec("bridge", "fdb", "show", "dev", "skerry-vx"); !strings.Contains(got, "10.66.0.77") || strings.Contains(got, c.Address.String()) {
			t.Errorf("a knows c to be at\n%s", got)
		}
	})
	t.Run("through WireGuard", func(t *testing.T) {
		q.t = t
		tunnel(`services: "on", podNetwork: vxlan`, "wireguard", "skerry-wg")
		for _, h := range q.nodes {
			if got := made(h); strings.Contains(got, "skerry-vx") {
				t.Errorf("%s has VXLAN yet:\n%s", h.Name, got)
			}
		}
		b.Exec("ip", "link", "del", "skerry-wg")
		q.meet(all)
		q.stop(b) // and its end of the tunnels, where the kernel has none
		q.start(b)
		q.meet(all)
		c.Exec("sh", "-c", "ip addr flush dev eth0; ip addr add 10.66.0.78/24 dev eth0; ip route add default via 10.66.0.1 dev eth0")
		q.meet(all)
	})
	t.Run("nothing was restarted", func(t *testing.T) { q.check.Report(t) })
	t.Run("a node leaves", func(t *testing.T) {
		q.t = t
		defer q.check.Cause("", "a node leaves")()
		q.must(a, "drain", "b", "--ignore-daemonsets")
		q.must(b, "node", "leave")
		q.ended(b)
		if got := made(b); got != "" {
			t.Errorf("b still has\n%s", got)
		}
		for begun := time.Now(); strings.Count(made(a)+made(c), " dev skerry-wg") != 2; <-time.After(100 * time.Millisecond) {
			if time.Since(begun) > long {
				t.Fatalf("a and c still have\n%s%s", made(a), made(c))
			}
		}
	})
}

// TestFleetTunnelBeforePods: a node gets its end of the tunnels when it joins, and its first pod when it likes.
func TestFleetTunnelBeforePods(t *testing.T) {
	for _, c := range []struct{ way, device string }{{"vxlan", "skerry-vx"}, {"wireguard", "skerry-wg"}} {
		t.Run(c.way, func(t *testing.T) {
			q := newSquad(t, 2, soon)
			for _, h := range q.nodes {
				q.config[h.Name] = strings.Replace(q.config[h.Name], `services: "off"`, `services: "on", podNetwork: `+c.way, 1)
				q.write(h)
			}
			q.unite(1)
			for _, h := range q.nodes {
				for begun := time.Now(); !strings.Contains(made(h), " dev "+c.device); <-time.After(50 * time.Millisecond) {
					if time.Since(begun) > long {
						t.Fatalf("%s has no tunnel: %s", h.Name, made(h))
					}
				}
			}
			web := deployment("web", 4, lab.TestImage+":1", "        ports: [{containerPort: 8080}]\n")
			q.deploy(map[string]string{"web.yaml": strings.Replace(web, "[sleep]", "[serve]", 1)})
			q.meet(q.dwellers("web-"))
		})
	}
}
