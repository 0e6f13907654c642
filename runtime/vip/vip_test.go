package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// each runs a test with each fence, on a new yard.
func each(t *testing.T, test func(t *testing.T, fence string)) {
	for _, fence := range []string{FenceBPF, FenceNFT, fenceNFTOld} {
		t.Run(fence, func(t *testing.T) {
			newYard(t)
			test(t, fence)
		})
	}
}

// askAll has the client ask in every way.
func askAll(t *testing.T) (all []prober) {
	for _, k := range kinds {
		all = append(all, ask(t, k))
	}
	return all
}

// silent says that a host answered nothing which was asked after a moment, and that it did until just before.
func silent(t *testing.T, p prober, ns string, from time.Duration) {
	t.Helper()
	var last time.Duration
	n, late, early, others := 0, 0, 0, 0
	who := name(t, p.kind, ns)
	for _, q := range p.stop() {
		switch {
		case q.by == who:
			n++
			last, early = q.sent, 0
			if q.sent >= from {
				late++
			}
		case q.by != "":
			others++
		case q.sent < from:
			early++
		}
	}
	t.Logf("%s: %d answers, the last question that had one %v before the deadline; %d by others", p.kind, n, from-last, others)
	if late > 0 {
		t.Errorf("%s: %d answers after the deadline, up to %v", p.kind, late, last-from)
	}
	if n == 0 || early > 40 {
		t.Errorf("%s: silent too early, with %d questions to go", p.kind, early)
	}
}

func wait(until time.Duration) { <-time.After(until - bootTime()) }

func TestFenceAlone(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		p := start(t, "h1", fence)
		all := askAll(t)
		until := bootTime() + 400*time.Millisecond
		for _, a := range both {
			p.do("hold %s %d", a, until)
		}
		wait(until + 100*time.Millisecond)
		// Written late, an old deadline opens nothing.
		for _, a := range both {
			p.do("late %s %d", a, until)
			if _, err := p.try("hold %s %d", a, until); err == nil {
				t.Errorf("held %s until a moment that is past", a)
			}
		}
		wait(until + 200*time.Millisecond)
		for _, q := range all {
			silent(t, q, "h1", until)
		}
		for _, a := range both {
			if have := run(t, "ip -n h1 addr show dev eth0"); !strings.Contains(have, a.String()) {
				t.Errorf("it was not the fence: %s is not there:\n%s", a, have)
			}
		}
		// The next Hold is a first one.
		again := ask(t, "ip4")
		p.do("hold %s %d", vip4, bootTime()+time.Minute)
		<-time.After(100 * time.Millisecond)
		if answered(again.stop()) == 0 {
			t.Error("it does not open again")
		}
	})
}

func answered(all []probe) (n int) {
	for _, q := range all {
		if q.by != "" {
			n++
		}
	}
	return n
}

// TestFrozenAndKilled: at its deadline a holder that can do nothing any more is silent, and another has the address the moment after.
func TestFrozenAndKilled(t *testing.T) {
	for how, signal := range map[string]unix.Signal{"frozen": unix.SIGSTOP, "killed": unix.SIGKILL} {
		t.Run(how, func(t *testing.T) {
			each(t, func(t *testing.T, fence string) {
				p, next := start(t, "h1", fence), start(t, "h2", fence)
				all := askAll(t)
				for _, a := range both {
					p.do("keep %s 300ms 75ms", a)
				}
				<-time.After(400 * time.Millisecond)
				must(t, p.cmd.Process.Signal(signal))
				<-time.After(50 * time.Millisecond) // it is, and what it said was read
				for _, a := range both {
					wait(p.last(a))
					next.do("hold %s %d", a, bootTime()+time.Minute)
				}
				<-time.After(200 * time.Millisecond)
				for _, q := range all {
					silent(t, q, "h1", p.last(family(q.kind)))
					var first, last time.Duration
					for _, a := range q.stop() {
						if a.by == name(t, q.kind, "h2") && first == 0 {
							first = a.sent
						}
						if a.by == name(t, q.kind, "h1") {
							last = a.sent
						}
					}
					t.Logf("%s: nobody for %v", q.kind, first-last)
					if first < last {
						t.Errorf("%s: both answered for %v", q.kind, last-first)
					}
				}
			})
		})
	}
}

func TestRenewalLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		p := start(t, "h1", fence)
		for _, a := range both {
			p.do("keep %s 2s 5ms", a)
		}
		first := askAll(t) // so that the host has found out who asks, for which a busy machine takes its time
		<-time.After(300 * time.Millisecond)
		for _, q := range first {
			q.stop()
		}
		all := askAll(t)
		<-time.After(1500 * time.Millisecond)
		for _, q := range all {
			asked := q.stop()
			for i, a := range asked {
				if a.by == "" && i >= 10 { // the very first may come before the socket is read
					t.Errorf("%s: question %d of %d was not answered", q.kind, i, len(asked))
				}
			}
		}
	})
}

func TestDropIsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		p := start(t, "h1", fence)
		all := askAll(t)
		var dropped []time.Duration
		for _, a := range both {
			p.do("hold %s %d", a, bootTime()+time.Minute)
		}
		<-time.After(200 * time.Millisecond)
		for _, a := range both {
			at, err := strconv.ParseInt(p.do("drop %s", a), 10, 64)
			must(t, err)
			dropped = append(dropped, time.Duration(at))
		}
		<-time.After(100 * time.Millisecond)
		for _, q := range all {
			silent(t, q, "h1", dropped[slices.Index(both, family(q.kind))])
		}
		if have := run(t, "ip -n h1 addr show dev eth0"); strings.Contains(have, vip4.String()) || strings.Contains(have, vip6.String()) {
			t.Errorf("an address is still there:\n%s", have)
		}
	})
}

func TestMove(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		hosts := []*process{start(t, "h1", fence), start(t, "h2", fence)}
		const moves = 6
		for _, a := range both {
			hosts[0].do("hold %s %d", a, bootTime()+time.Minute)
		}
		all := []prober{ask(t, "ip4"), ask(t, "ip6")}
		var took []time.Duration
		for n := range moves {
			<-time.After(200 * time.Millisecond)
			begun := bootTime()
			for _, a := range both {
				hosts[n%2].do("drop %s", a)
				hosts[(n+1)%2].do("hold %s %d", a, bootTime()+time.Minute)
			}
			took = append(took, (bootTime()-begun)/time.Duration(len(both)))
		}
		<-time.After(200 * time.Millisecond)
		for _, a := range both { // the machine that had it before is a client of it
			in("h2", func() {
				c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, port).String(), time.Second) //nolint:noctx // it has a timeout
				must(t, err)
				_ = c.Close()
			})
		}
		t.Logf("drop and hold took %v", took)
		for _, q := range all {
			var gaps []time.Duration
			var last probe
			for _, now := range q.stop() {
				if now.by == "" {
					continue
				}
				if last.by != "" && now.by != last.by {
					gaps = append(gaps, now.sent-last.sent)
				}
				last = now
			}
			t.Logf("%s: gaps of %v", q.kind, gaps)
			if len(gaps) != moves {
				t.Errorf("%s: it changed hands %d times, in %d moves", q.kind, len(gaps), moves)
			}
			for _, g := range gaps {
				if g > 300*time.Millisecond {
					t.Errorf("%s: nobody for %v", q.kind, g)
				}
			}
		}
	})
}

// knows is what the client knows of the address's MAC.
func knows(t *testing.T) string {
	t.Helper()
	w := strings.Fields(run(t, "ip -n cl neigh show "+vip4.String()))
	for i := range w {
		if w[i] == "lladdr" {
			return w[i+1]
		}
	}
	return ""
}

// TestOldConnections: a machine that has connections left asks for its clients by ARP, in the name of the address that it had.
func TestOldConnections(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		for _, fenced := range []bool{false, true} {
			old, next := start(t, "h1", fence), start(t, "h2", fence)
			ttl := time.Minute
			if fenced {
				ttl = 300 * time.Millisecond
			}
			until := bootTime() + ttl
			old.do("hold %s %d", vip4, until)
			var c net.Conn
			var err error
			in("cl", func() { c, err = net.DialTimeout("tcp", netip.AddrPortFrom(vip4, port).String(), time.Second) }) //nolint:noctx // it has a timeout
			must(t, err)
			if fenced {
				must(t, old.cmd.Process.Signal(unix.SIGSTOP))
				wait(until)
			}
			next.do("hold %s %d", vip4, bootTime()+time.Minute)
			<-time.After(50 * time.Millisecond)
			poisoned := false
			for range 20 {
				run(t, "ip -n h1 neigh flush all")
				<-time.After(20 * time.Millisecond)
				poisoned = poisoned || knows(t) != macOf(t, "h2").String()
			}
			if poisoned == fenced {
				t.Errorf("the client followed the old connection: %v; fenced: %v", poisoned, fenced)
			}
			_ = c.Close()
			old.kill()
			next.kill()
		}
	})
}

// told are the announcements of an address that the client hears, by who sends them.
func told(t *testing.T, a netip.Addr) <-chan string {
	t.Helper()
	all := make(chan string, 1000)
	in("cl", func() {
		l, err := net.InterfaceByName("eth0")
		must(t, err)
		f, err := others(linkOfInterface(l), a)
		must(t, err)
		t.Cleanup(func() { _ = f.Close() })
		go hear(f, func() net.HardwareAddr { return nil }, func(mac net.HardwareAddr) { all <- mac.String() })
	})
	return all
}

func linkOfInterface(l *net.Interface) Link {
	return Link{Index: l.Index, Name: l.Name, MAC: l.HardwareAddr, Ready: true}
}

func count(c <-chan string, d time.Duration) (n int) {
	for end := time.After(d); ; {
		select {
		case <-c:
			n++
		case <-end:
			return n
		}
	}
}

func TestAnnounces(t *testing.T) {
	newYard(t)
	p := start(t, "h1", "")
	for _, a := range both {
		heard := told(t, a)
		frames := 2 // ARP is a question and an answer
		if a.Is6() {
			frames = 1
		}
		p.do("hold %s %d", a, bootTime()+time.Minute)
		if n := count(heard, 600*time.Millisecond); n != 4*frames {
			t.Errorf("%s: told %d times in 600 ms, want at 0, 30, 100 and 300", a, n)
		}
		run(t, "ip link set vh1 down")
		p.event("changed")
		if why := p.do("eligible %s", a); !strings.Contains(why, "carrier") {
			t.Errorf("without a carrier it could have %s: %s", a, why)
		}
		count(heard, 600*time.Millisecond)
		run(t, "ip link set vh1 up")
		if n := count(heard, time.Second); n < 2*frames {
			t.Errorf("%s: told %d times after the carrier came back", a, n)
		}
		if why := p.do("eligible %s", a); why != "." {
			t.Errorf("%s could not be had: %s", a, why)
		}
		p.do("drop %s", a)
		count(heard, 20*time.Millisecond) // what was said just before
		if n := count(heard, 500*time.Millisecond); n > 0 {
			t.Errorf("%s: told %d times after it was dropped", a, n)
		}
	}
}

func TestOthersWithTheAddress(t *testing.T) {
	newYard(t)
	p := start(t, "h1", "")
	for _, a := range both {
		p.do("hold %s %d", a, bootTime()+time.Minute)
		<-time.After(400 * time.Millisecond) // the first words are said
		heard := told(t, a)
		stranger, _ := net.ParseMAC("02:00:00:00:00:77")
		in("cl", func() {
			w, err := newWire()
			must(t, err)
			defer w.close()
			l, err := net.InterfaceByName("eth0")
			must(t, err)
			link := linkOfInterface(l)
			link.MAC = stranger
			must(t, w.Announce(link, a))
		})
		if e, want := p.event("conflict"), fmt.Sprintf("conflict %s %s", a, stranger); e != want {
			t.Errorf("it says %q, want %q", e, want)
		}
		if count(heard, 200*time.Millisecond) == 0 {
			t.Error("it does not contradict")
		}
	}
	if s := p.do("state"); strings.Contains(s, "Conflicts:0") || !strings.Contains(s, "Fence:bpf") {
		t.Errorf("its state is %s", s)
	}
}

// picture is all of a host that a Holder touches.
func picture(t *testing.T, ns string) string {
	t.Helper()
	s := ""
	for _, what := range []string{"ip -n %s -br addr", "tc -n %s qdisc show", "tc -n %s filter show dev eth0 ingress", "tc -n %s filter show dev eth0 egress", "ip netns exec %s nft list ruleset"} {
		s += run(t, fmt.Sprintf(what, ns))
	}
	return s
}

func TestNothingIsLeft(t *testing.T) {
	for _, theirs := range []bool{false, true} {
		t.Run(fmt.Sprintf("with things of a user %v", theirs), func(t *testing.T) {
			each(t, func(t *testing.T, fence string) {
				if theirs {
					for _, line := range []string{
						"ip -n h1 addr add 10.77.0.60/32 dev eth0 label eth0:user preferred_lft 0", "ip -n h1 addr add fd77::60/128 dev eth0 nodad preferred_lft 0",
						"tc -n h1 qdisc add dev eth0 clsact", "tc -n h1 filter add dev eth0 ingress pref 1 protocol all bpf bytecode 1,6\u00a00\u00a00\u00a00,",
						"tc -n h1 filter add dev eth0 egress pref 1 protocol ip bpf bytecode 1,6\u00a00\u00a00\u00a00,",
						"ip netns exec h1 nft add table netdev theirs",
					} {
						run(t, line)
					}
				}
				before := picture(t, "h1")
				p := start(t, "h1", fence)
				hold := func() {
					for _, a := range both {
						p.do("hold %s %d", a, bootTime()+time.Minute)
					}
				}
				hold()
				if theirs {
					if _, err := p.try("hold 10.77.0.60 %d", bootTime()+time.Minute); err == nil {
						t.Error("it holds an address of the user")
					}
					q := ask(t, "ip4")
					until := bootTime() + 200*time.Millisecond
					p.do("hold %s %d", vip4, until)
					wait(until + 100*time.Millisecond)
					silent(t, q, "h1", until)
				}
				if picture(t, "h1") == before {
					t.Error("the picture shows nothing")
				}
				p.do("close")
				if after := picture(t, "h1"); after != before {
					t.Errorf("after Close:\n%s\nbefore:\n%s", after, before)
				}
				p.kill()

				p = start(t, "h1", fence)
				hold()
				p.kill()
				if have := picture(t, "h1"); !strings.Contains(have, vip4.String()) || !strings.Contains(have, "skerry") {
					t.Errorf("kill -9 took it away:\n%s", have)
				}
				for _, next := range []string{FenceBPF, FenceNFT} {
					p = start(t, "h1", next)
					if after := picture(t, "h1"); after != before {
						t.Errorf("after kill -9 and Open:\n%s\nbefore:\n%s", after, before)
					}
					p.kill()
				}
			})
		})
	}
}

// TestMends: others take away addresses and fences, or whole links for a while.
func TestMends(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		p := start(t, "h1", fence)
		for _, a := range both {
			p.do("keep %s 300ms 75ms", a)
		}
		pieces := map[string]int{FenceBPF: 2, FenceNFT: 1, fenceNFTOld: 3}[fence]
		there := func(what string) {
			t.Helper()
			for range 200 {
				have := picture(t, "h1")
				if strings.Contains(have, vip4.String()) && strings.Contains(have, vip6.String()) && strings.Count(have, "skerry-vip") >= pieces {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
			t.Fatalf("%s: it is not put back:\n%s", what, picture(t, "h1"))
		}
		for _, line := range []string{
			"ip -n h1 addr del 10.77.0.50/32 dev eth0", "ip -n h1 addr del fd77::50/128 dev eth0", "ip netns exec h1 nft flush ruleset",
		} {
			run(t, line)
			there(line)
		}
		run(t, "ip -n h1 link set eth0 down")
		run(t, "ip -n h1 link set eth0 up")
		run(t, "ip -n h1 addr add fd77::1/64 dev eth0 nodad")
		there("link down and up")
		if fence == FenceBPF {
			run(t, "tc -n h1 qdisc del dev eth0 clsact")
			there("qdisc")
		}
		// The fence works as before.
		<-time.After(100 * time.Millisecond)
		all := askAll(t)
		<-time.After(300 * time.Millisecond)
		must(t, p.cmd.Process.Signal(unix.SIGSTOP))
		<-time.After(450 * time.Millisecond)
		for _, q := range all {
			silent(t, q, "h1", p.last(family(q.kind)))
		}
	})
}

// TestSecondLink: a machine answers for an address on all links that lead to its network.
func TestSecondLink(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		for _, line := range []string{
			"link add vh1b type veth peer name eth1 netns h1", "link set vh1b master switch up", "-n h1 addr add 10.77.0.3/24 dev eth1", "-n h1 link set eth1 up",
		} {
			run(t, "ip "+line)
		}
		p := start(t, "h1", fence)
		until := bootTime() + 300*time.Millisecond
		p.do("hold %s %d", vip4, until)
		q := ask(t, "arp")
		wait(until + 100*time.Millisecond)
		by := map[string]int{}
		for _, a := range q.stop() {
			if a.by != "" {
				by[a.by]++
			}
			if a.by != "" && a.sent >= until {
				t.Errorf("an answer %v after the deadline", a.sent-until)
			}
		}
		t.Log(by)
		if len(by) == 0 {
			t.Error("no answers at all")
		}
	})
}

// TestAdvertisements: where the address is not the source, but what is spoken of.
func TestAdvertisements(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		if fence == fenceNFTOld {
			t.Log("packets from such sockets do not pass the hooks it has")
			return
		}
		p := start(t, "h1", fence)
		until := bootTime() + 300*time.Millisecond
		p.do("hold %s %d", vip6, until)
		<-time.After(150 * time.Millisecond) // what it says by itself is said
		heard := told(t, vip6)
		say := func() {
			in("h1", func() {
				w, err := newWire()
				must(t, err)
				defer w.close()
				l, err := net.InterfaceByName("eth0")
				must(t, err)
				f := advert(l.HardwareAddr, vip6)
				copy(f[22:], netip.MustParseAddr("fd77::1").AsSlice())
				err = unix.Sendto(w.fd, f, 0, &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: wireOrder(unix.ETH_P_IPV6)})
				if err != nil && !errors.Is(err, unix.ENOBUFS) { // so one is told that it was dropped
					t.Fatal(err)
				}
			})
		}
		say()
		if count(heard, 50*time.Millisecond) != 1 {
			t.Error("open, it is not heard")
		}
		wait(until)
		count(heard, 20*time.Millisecond)
		say()
		if count(heard, 50*time.Millisecond) > 0 {
			t.Error("shut, it is heard")
		}
	})
}

// TestQdiscOfOldKind: where a link has one on which there is no place for filters of what goes out, nftables is taken.
func TestQdiscOfOldKind(t *testing.T) {
	newYard(t)
	run(t, "tc -n h1 qdisc add dev eth0 ingress")
	before := picture(t, "h1")
	p := start(t, "h1", "")
	p.do("hold %s %d", vip4, bootTime()+time.Minute)
	if s := p.do("state"); !strings.Contains(s, "Fence:nft") {
		t.Errorf("its state is %s", s)
	}
	p.do("close")
	if after := picture(t, "h1"); after != before {
		t.Errorf("after Close:\n%s\nbefore:\n%s", after, before)
	}
}
