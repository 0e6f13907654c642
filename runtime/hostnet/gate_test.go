package hostnet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

// reaches reports whether a connection gets through; one that does not is dropped, never refused.
func reaches(t *testing.T, ns, proto string, to netip.AddrPort) bool {
	t.Helper()
	_, _, err := askWithin(ns, proto, to, 100*time.Millisecond)
	if err != nil && !strings.Contains(err.Error(), "timeout") {
		t.Errorf("%s from %q to %s: %v, instead of nothing at all", proto, ns, to, err)
	}
	return err == nil
}

// TestFencesHold sends real packets at and from a fenced pod, p2: semantics 13.
func TestFencesHold(t *testing.T) {
	newYard(t)
	answer(t, "out", "tcp", 8080)
	answer(t, "", "tcp", 8080)
	n := newNet(t)
	pod := func(n int) netip.Prefix { return netip.PrefixFrom(podAddr(n), 32) }
	shut := fleet.Gate{Closed: true}
	open := func(passes ...fleet.Pass) fleet.Gate { return fleet.Gate{Closed: true, Passes: passes} }
	all := func(peers ...netip.Prefix) fleet.Pass { return fleet.Pass{Peers: peers, Last: 65535} }
	port := func(proto corev1.Protocol, first, last uint16, peers ...netip.Prefix) fleet.Pass {
		return fleet.Pass{Peers: peers, Protocol: proto, First: first, Last: last}
	}
	const none, both = "", "p1 p3 out"
	for _, c := range []struct {
		name            string
		ingress, egress fleet.Gate
		tcp, udp, goes  string // who reaches it, and to whom it comes by TCP
	}{
		{"no fence", fleet.Gate{}, fleet.Gate{}, both, both, both},
		{"nobody in", shut, fleet.Gate{}, none, none, both},
		{"nowhere out", fleet.Gate{}, shut, both, both, none},
		{"neither", shut, shut, none, none, none},
		{"one pod in", open(all(pod(1))), fleet.Gate{}, "p1", "p1", both},
		{"two by their range", open(all(netip.MustParsePrefix("10.88.0.8/29"))), fleet.Gate{}, "p1 p3", "p1 p3", both},
		{"from outside", open(all(netip.PrefixFrom(client, 32))), fleet.Gate{}, "out", "out", both},
		{"everybody", open(all()), open(all()), both, both, both},
		{"one protocol", open(port(udp, 0, 65535)), fleet.Gate{}, none, both, both},
		{"a port", open(port(tcp, 8080, 8080)), fleet.Gate{}, both, none, both},
		{"a range of ports", open(port(tcp, 8000, 8080, pod(3))), fleet.Gate{}, "p3", none, both},
		{"another port", open(port(tcp, 80, 80)), fleet.Gate{}, none, none, both},
		{"one pod or one port", open(all(pod(1)), port(udp, 8080, 8080)), fleet.Gate{}, "p1", both, both},
		{"out to one pod", fleet.Gate{}, open(port(tcp, 8080, 8080, pod(3))), both, both, "p3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := hostNet(aFront(tcp, vip, 80, ends(2)), aFront(tcp, vip, 83, ends(3)))
			want.Fences = []fleet.Fence{{Pod: podAddr(2), Ingress: c.ingress, Egress: c.egress}}
			begun := time.Now()
			must(t, n.Serve(t.Context(), want))
			if took := time.Since(begun); took > time.Second {
				t.Errorf("in effect after %v", took)
			}
			in := func(list, ns string) bool { return strings.Contains(" "+list+" ", " "+ns+" ") }
			for _, ns := range []string{"p1", "p3", "out"} {
				for proto, list := range map[string]string{"tcp": c.tcp, "udp": c.udp} {
					if got := reaches(t, ns, proto, at(podAddr(2), 8080)); got != in(list, ns) {
						t.Errorf("%s from %s: %v", proto, ns, got)
					}
				}
				// By way of a Service it is the pod's own port that counts.
				if got := reaches(t, ns, "tcp", at(vip, 80)); got != in(c.tcp, ns) {
					t.Errorf("by the Service from %s: %v", ns, got)
				}
			}
			for ns, to := range map[string]netip.Addr{"p1": podAddr(1), "p3": podAddr(3), "out": client} {
				if got := reaches(t, "p2", "tcp", at(to, 8080)); got != in(c.goes, ns) {
					t.Errorf("to %s: %v", ns, got)
				}
			}
			if got := reaches(t, "p2", "tcp", at(vip, 83)); got != in(c.goes, "p3") {
				t.Errorf("to p3 by its Service: %v", got)
			}
			// Its own machine and itself are always let through.
			for ns, to := range map[string]netip.AddrPort{"": at(podAddr(2), 8080), "p2": at(vip, 80)} {
				if !reaches(t, ns, "tcp", to) {
					t.Errorf("%q does not reach %s", ns, to)
				}
			}
			if !reaches(t, "p2", "tcp", at(gateway, 8080)) {
				t.Error("it does not reach its machine")
			}
		})
	}
}

// TestFenceLetsGoOn: what was let through goes on when a fence is put up, as everywhere.
func TestFenceLetsGoOn(t *testing.T) {
	newYard(t)
	n := newNet(t)
	must(t, n.Serve(t.Context(), hostNet(aFront(tcp, vip, 80, ends(2)))))
	c, err := dial("p1", "udp", at(podAddr(2), 8080))
	must(t, err)
	defer c.Close()
	if _, _, err := askOn(c, "udp"); err != nil {
		t.Fatal(err)
	}
	want := hostNet(aFront(tcp, vip, 80, ends(2)))
	want.Fences = []fleet.Fence{{Pod: podAddr(2), Ingress: fleet.Gate{Closed: true}}}
	must(t, n.Serve(t.Context(), want))
	if _, _, err := askOn(c, "udp"); err != nil {
		t.Error(err)
	}
	if reaches(t, "p1", "udp", at(podAddr(2), 8080)) {
		t.Error("another is let through")
	}
}

// TestSourceRanges: only some may come to a front; the machine itself may.
func TestSourceRanges(t *testing.T) {
	newYard(t)
	n := newNet(t)
	f := aFront(tcp, vip, 80, ends(1, 2, 3))
	for _, c := range []struct {
		from []netip.Prefix
		want string
	}{{nil, "out p1"}, {[]netip.Prefix{}, ""}, {pods[:1], "p1"}, {[]netip.Prefix{netip.PrefixFrom(client, 32)}, "out"}} {
		f.From = c.from
		serve(t, n, f, aFront(tcp, vip, 81, ends(1)))
		for _, ns := range []string{"out", "p1"} {
			if got := reaches(t, ns, "tcp", at(vip, 80)); got != strings.Contains(c.want, ns) {
				t.Errorf("%v: %s %v", c.from, ns, got)
			}
			if !reaches(t, ns, "tcp", at(vip, 81)) {
				t.Errorf("%v: %s does not reach another front", c.from, ns)
			}
		}
		if !reaches(t, "", "tcp", at(vip, 80)) {
			t.Errorf("%v: the machine itself", c.from)
		}
	}
}

// TestAddressIsHeld: a client on the machine's network reaches a Service at an address that nobody had before, and whose neighbour it
// was until now hears that it moved.
func TestAddressIsHeld(t *testing.T) {
	newYard(t)
	lent := netip.MustParseAddr("192.168.77.50")
	run(t, "ip -n out neigh replace 192.168.77.50 lladdr 02:00:00:00:00:99 dev eth0 nud stale")
	n := newNet(t)
	want := hostNet(aFront(tcp, lent, 80, ends(1)))
	want.Addrs = []netip.Addr{lent}
	must(t, n.Serve(t.Context(), want))
	if _, _, err := ask("out", "tcp", at(lent, 80)); err != nil {
		t.Error(err)
	}
	if got := run(t, "ip -n out neigh show 192.168.77.50"); strings.Contains(got, "02:00:00:00:00:99") {
		t.Errorf("the neighbour still has it at %s", got)
	}
	// Another process finds it, and gives up what is wanted no more.
	must(t, newNet(t).Serve(t.Context(), want))
	has := func() bool {
		return strings.Contains(run(t, "ip -4 addr show dev vout"), fmt.Sprintf("inet %s/32", lent))
	}
	if !has() {
		t.Error("it is gone")
	}
	must(t, newNet(t).Serve(t.Context(), fleet.HostNet{}))
	if has() {
		t.Error("it is still there")
	}
	if !strings.Contains(run(t, "ip -4 addr show dev vout"), "192.168.77.1/24") {
		t.Error("the machine lost its own")
	}
}

func TestAddressOnNoNetwork(t *testing.T) {
	lab.Need(t)
	newYard(t)
	run(t, "ip route del default")
	want := hostNet(aFront(tcp, vip, 80, ends(1)))
	want.Addrs = []netip.Addr{netip.MustParseAddr("203.0.113.1")}
	err := newNet(t).Serve(t.Context(), want)
	if err == nil || !strings.Contains(err.Error(), "take address 203.0.113.1: it is on no network of this machine") {
		t.Error(err)
	}
	if _, _, err := ask("p1", "tcp", at(vip, 80)); err != nil {
		t.Errorf("all else is served: %v", err)
	}
}
