package hostnet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

const (
	tcp  = corev1.ProtocolTCP
	udp  = corev1.ProtocolUDP
	sctp = corev1.ProtocolSCTP
)

// network is a protocol's name for package net.
func network(p corev1.Protocol) string { return strings.ToLower(string(p)) }

func TestNewSaysWhyNot(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := New(slog.New(slog.DiscardHandler), nil)
	if err == nil || !strings.Contains(err.Error(), "root") && !strings.Contains(err.Error(), "the package nftables") {
		t.Errorf("without nft: %v", err)
	}
}

func TestServes(t *testing.T) {
	for _, bridgeNF := range []string{"0", "1"} {
		t.Run("bridge-nf="+bridgeNF, func(t *testing.T) {
			newYardWith(t, bridgeNF)
			testServes(t)
		})
	}
}

func testServes(t *testing.T) {
	n := newNet(t)
	masq := func(f fleet.Front) fleet.Front {
		f.Masquerade = true
		return f
	}
	var fronts []fleet.Front
	for _, p := range []corev1.Protocol{tcp, udp} {
		fronts = append(fronts,
			aFront(p, vip, 80, ends(1, 2, 3)), aFront(p, vip, 81, ends(2)), aFront(p, vip, 82, ends(1)), masq(aFront(p, vip, 83, ends(2))),
			aFront(p, vip, 84, []fleet.End{{Addr: gateway, Port: 8084}}), // such as the agent's DNS
			aFront(p, vip6, 80, ends6(1, 2, 3)), aFront(p, vip6, 81, ends6(2)), aFront(p, vip6, 82, ends6(1)),
			masq(aFront(p, netip.Addr{}, 30080, append(ends(2), ends6(2)...))), aFront(p, netip.Addr{}, 30081, ends(2)))
	}
	serve(t, n, fronts...)
	for _, p := range []string{"tcp", "udp"} {
		answerAt(t, "", p, at(gateway, 8084).String()) // on any address it would answer UDP from whichever is nearest
	}
	machine6, client6 := netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fd77::2")
	for _, p := range []corev1.Protocol{tcp, udp} {
		for _, c := range []struct {
			name, ns string
			to       netip.AddrPort
			pod      string
			from     netip.Addr // the zero Addr: any
		}{
			{"pod to another pod of its bridge", "p1", at(vip, 81), "p2", podAddr(1)},
			{"pod to itself", "p1", at(vip, 82), "p1", netip.Addr{}},
			{"the machine", "", at(vip, 81), "p2", netip.Addr{}},
			{"client outside, source kept", "out", at(vip, 81), "p2", client},
			{"client outside, masqueraded", "out", at(vip, 83), "p2", gateway},
			{"pod, masqueraded for others", "p1", at(vip, 83), "p2", podAddr(1)},
			{"node port from outside", "out", at(machine, 30080), "p2", gateway},
			{"node port from outside, source kept", "out", at(machine, 30081), "p2", client},
			{"node port on another address of the machine", "out", at(gateway, 30080), "p2", netip.Addr{}},
			{"node port from a pod", "p1", at(machine, 30081), "p2", podAddr(1)},
			{"node port from the end itself", "p2", at(machine, 30081), "p2", netip.Addr{}},
			{"node port from the machine", "", at(machine, 30080), "p2", netip.Addr{}},
			{"pod to the machine", "p1", at(vip, 84), "", podAddr(1)},
			{"client outside to the machine", "out", at(vip, 84), "", client},
			{"the machine to itself", "", at(vip, 84), "", netip.Addr{}},
			{"pod to a pod directly", "p1", at(podAddr(2), 8080), "p2", podAddr(1)},
			{"IPv6, client outside", "out", at(vip6, 81), "p2", client6},
			{"IPv6, the machine", "", at(vip6, 81), "p2", netip.Addr{}},
			{"IPv6, pod to another pod of its bridge", "p1", at(vip6, 81), "p2", podAddr6(1)},
			{"IPv6, pod to a pod directly", "p1", at(podAddr6(2), 8080), "p2", podAddr6(1)},
			{"IPv6, pod to itself", "p1", at(vip6, 82), "p1", netip.Addr{}},
			{"IPv6, node port", "out", at(machine6, 30080), "p2", netip.MustParseAddr("fd88::1")},
		} {
			t.Run(network(p)+"/"+c.name, func(t *testing.T) {
				begun := time.Now()
				pod, from, err := ask(c.ns, network(p), c.to)
				if err != nil {
					t.Fatal(err)
				}
				if pod != c.pod {
					t.Errorf("%s answered, want %s", pod, c.pod)
				}
				if c.from.IsValid() && from != c.from.String() {
					t.Errorf("the pod sees %s, want %s", from, c.from)
				}
				if took := time.Since(begun); took > 300*time.Millisecond {
					t.Errorf("it took %v", took)
				}
			})
		}
		t.Run(network(p)+"/evenly", func(t *testing.T) {
			for _, c := range []struct {
				ns string
				to netip.AddrPort
			}{{"p1", at(vip, 80)}, {"", at(vip, 80)}, {"out", at(vip6, 80)}} {
				got := shares(t, 300, c.ns, network(p), c.to)
				t.Log(c.ns, c.to, got)
				for _, pod := range []string{"p1", "p2", "p3"} {
					if got[pod] < 60 || got[pod] > 140 { // 5 standard deviations
						t.Errorf("from %q, %s: %v", c.ns, c.to, got)
					}
				}
			}
		})
	}
	// Whoever listens on loopback keeps what is his.
	answer(t, "", "tcp", 30080)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		if pod, _, err := ask("", "tcp", at(netip.MustParseAddr(addr), 30080)); err != nil || pod != "" {
			t.Errorf("on %s it is %q that answers: %v", addr, pod, err)
		}
	}
}

func TestPreparePort(t *testing.T) {
	newYardWith(t, "0")
	for _, on := range []string{"1", "0"} {
		must(t, os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(on), 0))
		must(t, PrepareBridge("skbr0"))
		for i := range 2 {
			changed, err := PreparePort("vp1")
			must(t, err)
			if changed != (i == 0) {
				t.Errorf("bridge-nf=%s: changed %v at %d", on, changed, i)
			}
		}
		link, err := netlink.LinkByName("vp1")
		must(t, err)
		port, err := netlink.LinkGetProtinfo(link)
		must(t, err)
		arp, err := os.ReadFile("/proc/sys/net/ipv4/conf/skbr0/proxy_arp_pvlan")
		must(t, err)
		if port.Isolated != (on == "0") || port.Hairpin != (on == "1") || arp[0] == on[0] {
			t.Errorf("bridge-nf=%s: %v, proxy_arp_pvlan=%s", on, port.String(), arp)
		}
	}
	for _, none := range []string{"vout", "nowhere"} {
		if _, err := PreparePort(none); err == nil {
			t.Errorf("%s was made ready", none)
		}
	}
	if PrepareBridge("nowhere") == nil {
		t.Error("a bridge that is none was made ready")
	}
}

// TestPodsThatMet: pods that heard of each other before their ports were ready reach each other again.
func TestPodsThatMet(t *testing.T) {
	newYard(t)
	for n := 1; n <= 2; n++ {
		link, err := netlink.LinkByName(fmt.Sprintf("vp%d", n))
		must(t, err)
		must(t, netlink.LinkSetIsolated(link, false))
	}
	to := at(podAddr(2), 8080)
	run(t, "ip -n p1 neigh flush all")
	run(t, "ip -n p2 neigh flush all")
	if _, _, err := ask("p1", "tcp", to); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		if _, err := PreparePort(fmt.Sprintf("vp%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := ask("p1", "tcp", to); err == nil {
		t.Fatal("they did not meet, and this test shows nothing")
	}
	for _, ns := range []string{"p1", "p2"} { // else they would not listen for a second
		in(ns, func() { must(t, os.WriteFile("/proc/sys/net/ipv4/neigh/eth0/locktime", []byte("0"), 0)) })
	}
	must(t, Announce("skbr0", podAddr(1), podAddr(2), podAddr6(1)))
	if pod, from, err := ask("p1", "tcp", to); err != nil || pod != "p2" || from != podAddr(1).String() {
		t.Errorf("%q from %s: %v", pod, from, err)
	}
}

func TestNobodyServes(t *testing.T) {
	newYard(t)
	n := newNet(t)
	for _, hasRoute := range []bool{true, false} {
		var fronts []fleet.Front
		for _, p := range []corev1.Protocol{tcp, udp} {
			none := func(addr netip.Addr, number uint16, v fleet.Verdict) fleet.Front {
				f := aFront(p, addr, number, nil)
				f.Verdict = v
				return f
			}
			fronts = append(fronts, none(vip, 80, fleet.Reject), none(vip, 81, fleet.Drop), none(vip, 82, fleet.Serve), none(vip6, 80, fleet.Reject),
				none(netip.Addr{}, 30080, fleet.Reject), none(netip.Addr{}, 30081, fleet.Drop))
		}
		serve(t, n, fronts...)
		if !hasRoute {
			run(t, "ip route del default")
		}
		for _, p := range []string{"tcp", "udp"} {
			for _, c := range []struct {
				ns   string
				to   netip.AddrPort
				drop bool
			}{
				{"p1", at(vip, 80), false}, {"out", at(vip, 80), false}, {"p1", at(vip, 82), false}, {"p1", at(vip6, 80), false},
				{"", at(vip, 80), false}, {"out", at(machine, 30080), false}, {"", at(machine, 30080), false},
				{"p1", at(vip, 81), true}, {"out", at(machine, 30081), true},
			} {
				if !hasRoute && (c.drop || c.ns == "" && c.to.Addr() == vip) {
					continue // the machine itself looks for a route first
				}
				begun := time.Now()
				_, _, err := ask(c.ns, p, c.to)
				took := time.Since(begun)
				refused := errors.Is(err, syscall.ECONNREFUSED) ||
					c.ns == "" && p == "udp" && errors.Is(err, syscall.EPERM) // the machine's own datagrams never leave the socket
				switch {
				case c.drop && (refused || err == nil || took < 900*time.Millisecond):
					t.Errorf("%s from %q to %s: %v after %v, want silence", p, c.ns, c.to, err, took)
				case !c.drop && (!refused || took > 100*time.Millisecond):
					t.Errorf("%s from %q to %s: %v after %v, want it refused at once", p, c.ns, c.to, err, took)
				case !c.drop:
					t.Logf("%s from %q to %s refused in %v", p, c.ns, c.to, took)
				}
			}
		}
	}
	// And they come back.
	serve(t, n, aFront(tcp, vip, 80, ends(1)), aFront(udp, vip, 80, ends(1)))
	for _, p := range []string{"tcp", "udp"} {
		if pod, _, err := ask("p2", p, at(vip, 80)); err != nil || pod != "p1" {
			t.Error(p, pod, err)
		}
	}
}

func TestConnectionsUnderWayGoOn(t *testing.T) {
	newYard(t)
	n := newNet(t)
	answerSlowly := make(chan struct{})
	var l interface{ Close() error }
	in("p1", func() {
		ln, err := listenTCP(t, ":9000")
		must(t, err)
		l = ln
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			<-answerSlowly
			_, _ = c.Write([]byte("late x"))
			_ = c.Close()
		}()
	})
	defer l.Close()
	serve(t, n, aFront(tcp, vip, 80, []fleet.End{{Addr: podAddr(1), Port: 9000}}))
	c, err := dial("p2", "tcp", at(vip, 80))
	must(t, err)
	defer c.Close()
	f := aFront(tcp, vip, 80, nil)
	f.Verdict = fleet.Reject
	serve(t, n, f)
	if _, err := dial("p2", "tcp", at(vip, 80)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v", err)
	}
	must(t, newNet(t).Serve(t.Context(), hostNet(f)))
	close(answerSlowly)
	if pod, _, err := askOn(c, "tcp"); err != nil || pod != "late" {
		t.Errorf("the old connection: %q, %v", pod, err)
	}
}

func TestChangesAreFollowed(t *testing.T) {
	newYard(t)
	n := newNet(t)
	for i, set := range [][]int{{1}, {1, 2}, {2, 3}, {3}, {1, 2, 3}, {2}, {1, 3}, {1, 2, 3}, {3}} {
		serve(t, n, aFront(tcp, vip, 80, ends(set...)), aFront(tcp, netip.Addr{}, 30080, ends(set...)))
		for _, to := range []netip.AddrPort{at(vip, 80), at(machine, 30080)} {
			got := shares(t, 40, "out", "tcp", to)
			for _, pod := range set {
				delete(got, []string{"", "p1", "p2", "p3"}[pod])
			}
			if len(got) != 0 {
				t.Errorf("%d: %v serve, and these answer, too: %v", i, set, got)
			}
		}
	}
}

func TestSticky(t *testing.T) {
	newYard(t)
	n := newNet(t)
	front := func(set ...int) []fleet.Front {
		var all []fleet.Front
		for _, p := range []corev1.Protocol{tcp, udp} {
			a, b := aFront(p, vip, 80, ends(set...)), aFront(p, netip.Addr{}, 30080, ends(set...))
			a.Sticky, b.Sticky = time.Hour, time.Hour
			all = append(all, a, b)
		}
		return all
	}
	serve(t, n, front(1, 2, 3)...)
	for _, p := range []string{"tcp", "udp"} {
		for _, c := range []struct {
			ns string
			to netip.AddrPort
		}{{"p1", at(vip, 80)}, {"out", at(vip, 80)}, {"out", at(machine, 30080)}, {"", at(vip, 80)}} {
			if got := shares(t, 20, c.ns, p, c.to); len(got) != 1 {
				t.Errorf("%s from %q to %s: %v", p, c.ns, c.to, got)
			}
		}
	}
	// Another end that comes or goes changes nothing; the client's own one does.
	pod, _, err := ask("out", "tcp", at(vip, 80))
	must(t, err)
	mine := int(pod[1] - '0')
	other := mine%3 + 1
	serve(t, n, front(mine, other)...)
	serve(t, n, front(1, 2, 3)...)
	if got := shares(t, 20, "out", "tcp", at(vip, 80)); got[pod] != 20 {
		t.Errorf("was with %s, now %v", pod, got)
	}
	serve(t, n, front(other)...)
	if got := shares(t, 5, "out", "tcp", at(vip, 80)); got["p"+string(rune('0'+other))] != 5 {
		t.Errorf("p%d is alone, and %v answer", other, got)
	}
	plain := front(1, 2, 3)
	for i := range plain {
		plain[i].Sticky = 0
	}
	serve(t, n, plain...)
	if got := shares(t, 60, "out", "tcp", at(vip, 80)); len(got) != 3 {
		t.Errorf("not sticky any more: %v", got)
	}
	if out := run(t, "nft list table ip skerry"); strings.Contains(out, "sk-sticky") || strings.Contains(out, "sk-client") {
		t.Errorf("sticky fronts leave something:\n%s", out)
	}
}

func TestUDPFollowsItsEnds(t *testing.T) {
	newYard(t)
	n := newNet(t)
	to := []netip.AddrPort{at(vip, 80), at(machine, 30080), at(vip6, 80)}
	serving := func(set ...int) []fleet.Front {
		return []fleet.Front{
			aFront(udp, vip, 80, ends(set...)), aFront(udp, netip.Addr{}, 30080, ends(set...)), aFront(udp, vip6, 80, ends6(set...)),
			aFront(udp, vip, 99, ends(1)),
		}
	}
	// A busy machine: its many connections are not to be read.
	for i := range 20000 {
		a, b, p := net.IPv4(10, 1, byte(i>>8), byte(i)), net.IPv4(10, 2, 0, 1), uint16(1000+i)
		must(t, netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
			FamilyType: unix.AF_INET, TimeOut: 1000, ProtoInfo: &netlink.ProtoInfoTCP{State: 3},
			Forward: netlink.IPTuple{SrcIP: a, DstIP: b, Protocol: unix.IPPROTO_TCP, SrcPort: p, DstPort: 80},
			Reverse: netlink.IPTuple{SrcIP: b, DstIP: a, Protocol: unix.IPPROTO_TCP, SrcPort: 80, DstPort: p},
		}))
	}
	// Before there is a front a client's flow goes wherever the default route leads.
	for i, to := range to {
		func() {
			must(t, n.Serve(t.Context(), fleet.HostNet{}))
			c, err := dial("out", "udp", to)
			must(t, err)
			defer c.Close()
			_, _ = c.Write([]byte("?"))
			other, err := dial("out", "udp", at(vip, 99))
			must(t, err)
			defer other.Close()

			serve(t, n, serving(1)...)
			// What was refused before is told to the socket, once.
			pod, _, err := askOn(c, "udp")
			if errors.Is(err, syscall.ECONNREFUSED) {
				pod, _, err = askOn(c, "udp")
			}
			if err != nil || pod != "p1" {
				t.Errorf("%s after the front came: %q, %v", to, pod, err)
			}
			if _, _, err := askOn(other, "udp"); err != nil {
				t.Errorf("other: %v", err)
			}
			flows := run(t, "cat /proc/net/nf_conntrack")

			begun := time.Now()
			serve(t, n, serving(2)...)
			pod, _, err = askOn(c, "udp")
			if err != nil || pod != "p2" {
				t.Errorf("%s after its end went: %q, %v", to, pod, err)
			}
			took := time.Since(begun)
			t.Logf("%s goes elsewhere after %v", to, took)
			if took > 100*time.Millisecond {
				t.Errorf("%s goes elsewhere after %v", to, took)
			}
			if !strings.Contains(run(t, "cat /proc/net/nf_conntrack"), "dport=99 ") || !strings.Contains(flows, "dport=99 ") {
				t.Errorf("the flow of another front was forgotten")
			}

			if i == 1 {
				return // where no node port is, the machine itself refuses
			}
			serve(t, n, aFront(udp, vip, 99, ends(1)))
			if pod, _, err = askOn(c, "udp"); err == nil {
				t.Errorf("%s after its front went: %q", to, pod)
			}
		}()
	}
}

func TestRestartDoesNotStopTraffic(t *testing.T) {
	newYard(t)
	fronts := []fleet.Front{aFront(tcp, vip, 80, ends(1, 2, 3)), aFront(udp, vip, 80, ends(1, 2, 3)), aFront(tcp, netip.Addr{}, 30080, ends(1, 2, 3))}
	serve(t, newNet(t), fronts...)
	stop := make(chan struct{})
	var asked, failed atomic.Int64
	var all sync.WaitGroup
	for _, c := range []struct {
		ns, proto string
		to        netip.AddrPort
	}{{"p1", "tcp", at(vip, 80)}, {"out", "tcp", at(machine, 30080)}, {"out", "udp", at(vip, 80)}, {"", "tcp", at(vip, 80)}} {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				if _, _, err := ask(c.ns, c.proto, c.to); err != nil {
					failed.Add(1)
					t.Errorf("%s from %q to %s: %v", c.proto, c.ns, c.to, err)
				}
			}
		})
	}
	for range 60 {
		serve(t, newNet(t), fronts...)
	}
	// And changes on the way, two ends at least.
	n := newNet(t)
	for i := range 180 {
		set := [][]int{{1, 2, 3}, {1, 2}, {2, 3}, {1, 3}}[i%4]
		serve(t, n, aFront(tcp, vip, 80, ends(set...)), aFront(udp, vip, 80, ends(1, 2, 3)), aFront(tcp, netip.Addr{}, 30080, ends(set...)))
	}
	close(stop)
	all.Wait()
	t.Logf("60 restarts, 180 changes: %d of %d failed", failed.Load(), asked.Load())
}

func TestFlushedRulesComeBack(t *testing.T) {
	newYard(t)
	n := newNet(t)
	check := func(want bool, after string) {
		t.Helper()
		if lost, err := n.Check(t.Context()); err != nil || lost != want {
			t.Errorf("after %s: lost %v, %v", after, lost, err)
		}
	}
	check(false, "nothing")
	front := aFront(tcp, vip, 80, ends(1))
	sticky := aFront(tcp, vip, 81, ends(1))
	sticky.Sticky = time.Hour
	serve(t, n, front, sticky, aFront(tcp, vip6, 80, ends6(1)))
	check(false, "a Serve")
	for _, how := range []string{
		"flush ruleset", "delete table ip skerry", "delete table ip6 skerry", "flush table ip skerry", "flush map ip skerry sk-ends",
		"flush chain ip skerry sk-prerouting", "delete element ip skerry sk-fronts { 10.96.0.10 . tcp . 80 }",
	} {
		run(t, "nft add table ip foreign")
		check(false, "what others do to their own")
		run(t, "nft "+how)
		check(true, how)
		check(true, how+", asked again")
		serve(t, n, front, sticky, aFront(tcp, vip6, 80, ends6(1)))
		check(false, "a Serve after "+how)
		if pod, _, err := ask("p2", "tcp", at(vip, 80)); err != nil || pod != "p1" {
			t.Errorf("after %s: %q, %v", how, pod, err)
		}
	}
	// Without a check in between, a change mends it.
	run(t, "nft flush ruleset")
	serve(t, n, aFront(tcp, vip, 80, ends(2)))
	if pod, _, err := ask("p1", "tcp", at(vip, 80)); err != nil || pod != "p2" {
		t.Errorf("a change after a flush: %q, %v", pod, err)
	}
	check(false, "a change after a flush")
	// A foreign change just before ours is not taken for ours.
	serve(t, n, front, aFront(tcp, vip, 90, ends(1, 2)))
	run(t, "nft delete element ip skerry sk-fronts { 10.96.0.10 . tcp . 90 }")
	serve(t, n, aFront(tcp, vip, 80, ends(2)), aFront(tcp, vip, 90, ends(1, 2)))
	check(true, "a foreign change before ours")
}

func TestOthersAreLeftAlone(t *testing.T) {
	newYard(t)
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`
add table ip theirs
add chain ip theirs c { type nat hook prerouting priority dstnat; }
add rule ip theirs c tcp dport 1 redirect to :2
add set ip theirs sk-ends { type ipv4_addr; }
add element ip theirs sk-ends { 1.2.3.4 }
add table ip6 theirs
add chain ip6 theirs skerry { type filter hook forward priority 0; }
add rule ip6 theirs skerry tcp dport 1 accept
add table inet skerry
add chain inet skerry c { type filter hook input priority 0; }
add rule inet skerry c accept
`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := run(t, "nft -a list ruleset")
	n := newNet(t)
	if run(t, "nft -a list ruleset") != before {
		t.Error("New changes something")
	}
	serve(t, n, aFront(tcp, vip, 80, ends(1)), aFront(tcp, vip6, 80, ends6(1)))
	serve(t, n, aFront(tcp, vip, 80, ends(1, 2)))
	with := run(t, "nft -a list ruleset")
	if !strings.Contains(with, "table ip6 skerry") || !strings.HasPrefix(with, before) {
		t.Errorf("before:\n%s\nafter:\n%s", before, with)
	}
	must(t, n.Serve(t.Context(), fleet.HostNet{}))
	if after := run(t, "nft -a list ruleset"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	// A new process that wants nothing takes down what another left.
	serve(t, n, aFront(tcp, vip, 80, ends(1)))
	must(t, newNet(t).Serve(t.Context(), fleet.HostNet{}))
	if after := run(t, "nft -a list ruleset"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// Podman masquerades what pods send to pods of other nodes. Here the client outside has such a pod behind it.
func TestPodsSeeEachOther(t *testing.T) {
	newYard(t)
	n := newNet(t)
	remote := netip.MustParseAddr("10.88.9.9")
	for _, line := range []string{"-n out addr add 10.88.9.9/32 dev lo", "route add 10.88.9.0/24 via 192.168.77.2", "-n out route add 10.88.0.0/24 via 192.168.77.1"} {
		run(t, "ip "+line)
	}
	answer(t, "out", "tcp", 8080)
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`
add table ip podman
add chain ip podman c { type nat hook postrouting priority srcnat; }
add rule ip podman c ip saddr 10.88.0.0/24 ip daddr != 10.88.0.0/24 masquerade
`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	see := func(to netip.AddrPort, want netip.Addr) {
		t.Helper()
		if _, from, err := ask("p1", "tcp", to); err != nil || from != want.String() {
			t.Errorf("%s sees %s (%v), want %s", to, from, err, want)
		}
	}
	see(at(remote, 8080), machine)
	want := hostNet(aFront(tcp, vip, 80, []fleet.End{{Addr: remote, Port: 8080}}))
	want.Pods = []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16")}
	must(t, n.Serve(t.Context(), want))
	see(at(remote, 8080), podAddr(1))
	see(at(vip, 80), podAddr(1))
	see(at(client, 8080), machine) // which is no pod
}
