package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// inTurns does two things in turns, now one of them first and now the other, and returns what a took by what b took, for
// each round.
func inTurns(rounds int, a, b func() time.Duration) (ratios []float64) {
	for i := range rounds {
		var ofA, ofB time.Duration
		if i%2 == 0 {
			ofA = a()
			ofB = b()
		} else {
			ofB = b()
			ofA = a()
		}
		ratios = append(ratios, ofA.Seconds()/ofB.Seconds())
	}
	return ratios
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkThroughClusterIP is what a client has of a pod by way of a Service, one of a thousand, beside what it has of the same pod
// directly: how much goes over one connection, and how many connections a second there are. These ratios should not be below
// 0.97. They can be for connections where directly the machine only passes frames on (bridge-nf), or where the client is
// masqueraded (node-port): then it is connects/one-rule that should not, beside one rule that does the same for one Service.
func BenchmarkThroughClusterIP(b *testing.B) {
	const rounds, volume, connections = 41, 32 << 20, 100
	for _, c := range []struct {
		name, bridgeNF, from string
		front, to            netip.Addr
		source               string
	}{
		{"pod", "0", "p2", vip, vip, "accept"},
		{"pod-bridge-nf", "1", "p2", vip, vip, "accept"},
		{"outside", "0", "out", vip, vip, "accept"},
		{"outside-node-port", "0", "out", netip.Addr{}, machine, "masquerade fully-random"},
	} {
		b.Run(c.name, func(b *testing.B) {
			newYardWith(b, c.bridgeNF)
			// Ports are used again a second after their connection, not a minute: else there are too few of them.
			in(c.from, func() { must(b, os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0)) })
			want := crowd(1000, 5)
			for _, port := range []uint16{9000, 9001} {
				f := aFront(tcp, c.front, port+21000, []fleet.End{{Addr: podAddr(1), Port: port}})
				f.Masquerade = !c.front.IsValid()
				want.Fronts = append(want.Fronts, f)
			}
			must(b, newNet(b).Serve(b.Context(), want))
			listen(b, "p1", 9000, swallow)
			listen(b, "p1", 9001, echo)

			// measure is so many connections from the client's place, of which connection tracking knows nothing yet.
			measure := func(to netip.AddrPort, times int, talk func(fd int) error) func() time.Duration {
				return func() (took time.Duration) {
					must(b, netlink.ConntrackTableFlush(netlink.ConntrackTable))
					var err error
					in(c.from, func() {
						err = onOne()
						begun := time.Now()
						for n := 0; n < times && err == nil; n++ {
							err = connect(to, talk)
						}
						took = time.Since(begun)
					})
					must(b, err)
					return took
				}
			}
			stream := func(to netip.AddrPort) func() time.Duration { return measure(to, 1, pour(volume)) }
			many := func(to netip.AddrPort) func() time.Duration { return measure(to, connections, exchange) }
			// A rule for nothing but this, at other ports.
			rule := exec.CommandContext(b.Context(), "nft", "-f", "-")
			rule.Stdin = strings.NewReader(`
add table ip plain
add chain ip plain in { type nat hook prerouting priority dstnat - 10; }
add chain ip plain out { type nat hook postrouting priority srcnat - 10; }
add rule ip plain in tcp dport 31001 dnat to 10.88.0.11:9001
add rule ip plain out meta l4proto tcp ct original proto-dst 31001 ip saddr 192.168.77.2 oifname skbr0 ` + c.source)
			if out, err := rule.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			var streams, connects, plain []float64
			for b.Loop() {
				// Of times, and a rate is the other way round: of the other's by ours.
				streams = append(streams, inTurns(rounds, stream(at(podAddr(1), 9000)), stream(at(c.to, 30000)))...)
				connects = append(connects, inTurns(rounds, many(at(podAddr(1), 9001)), many(at(c.to, 30001)))...)
				plain = append(plain, inTurns(rounds, many(at(c.to, 31001)), many(at(c.to, 30001)))...)
			}
			b.ReportMetric(median(streams), "stream/direct")
			b.ReportMetric(median(connects), "connects/direct")
			b.ReportMetric(median(plain), "connects/one-rule")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// onOne keeps the calling thread on one processor. With both sides there, what counts is how much work there is, and not whom the
// kernel wakes where, which says more than anything else how long it takes on two.
func onOne() error {
	var one unix.CPUSet
	one.Set(0)
	return unix.SchedSetaffinity(0, &one)
}

// listen gives each connection to a port of a pod to somebody who reads it to its end, one after another. Here and in what
// clients do are only calls of the system: Go's own work would be the same in both ways, and hide how they differ.
func listen(b *testing.B, ns string, port int, to func(fd int)) {
	b.Helper()
	ready := make(chan error)
	var l int
	go in(ns, func() {
		var err error
		if l, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = errors.Join(onOne(), unix.Bind(l, &unix.SockaddrInet4{Port: port}), unix.Listen(l, 100))
		}
		ready <- err
		for {
			c, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
			if err != nil {
				_ = unix.Close(l)
				return
			}
			to(c)
			_ = unix.Close(c)
		}
	})
	must(b, <-ready)
	b.Cleanup(func() { _ = unix.Shutdown(l, unix.SHUT_RDWR) })
}

func swallow(fd int) {
	b := make([]byte, 1<<18)
	for {
		if n, err := unix.Read(fd, b); n <= 0 || err != nil {
			return
		}
	}
}

func echo(fd int) {
	b := make([]byte, 100)
	for {
		n, err := unix.Read(fd, b)
		if n <= 0 || err != nil {
			return
		}
		_, _ = unix.Write(fd, b[:n])
	}
}

// connect is one connection, which the client ends first, as in answerAt.
func connect(to netip.AddrPort, talk func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// No time limit of the socket's: with one, a signal of Go's would end a call that is begun anew without.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000); err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	if err := talk(fd); err != nil {
		return err
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return err
	}
	_, err = unix.Read(fd, make([]byte, 1)) // so that all has come, and nothing is under way any more
	return err
}

// pour sends so many bytes.
func pour(volume int) func(fd int) error {
	return func(fd int) error {
		b := make([]byte, 1<<18)
		for volume := volume; volume > 0; {
			n, err := unix.Write(fd, b)
			if err != nil {
				return err
			}
			volume -= n
		}
		return nil
	}
}

// exchange is a small request and its answer.
func exchange(fd int) error {
	b := []byte("?")
	if _, err := unix.Write(fd, b); err != nil {
		return err
	}
	_, err := unix.Read(fd, b)
	return err
}

// tape keeps the text of the last transaction, and nothing else: a Fake would compare each element with all before it.
type tape struct {
	knftables.Interface
	last string
}

func (t *tape) Run(_ context.Context, tx *knftables.Transaction) error {
	t.last = tx.String()
	return nil
}

// BenchmarkLoad is a first Serve and the change of one end, each beside nft alone with the text of the same. What counts
// are the ratios, which should not be above 1.2.
func BenchmarkLoad(b *testing.B) {
	for _, c := range []struct{ services, ends, rounds int }{{1000, 5, 7}, {5000, 10, 3}} {
		b.Run(fmt.Sprintf("%dx%d", c.services, c.ends), func(b *testing.B) {
			newYard(b)
			want, other := crowd(c.services, c.ends), crowd(c.services, c.ends)
			f := &other.Fronts[c.services/2]
			f.Ends = f.Ends[:c.ends-1]
			p, fake, _ := paper() // for the texts
			said := &tape{Interface: fake}
			p.nft = said
			textOf := func(want fleet.HostNet) string {
				must(b, p.Serve(b.Context(), want))
				return said.last
			}
			all, less, again := textOf(want), textOf(other), textOf(want)

			timed := func(do func()) time.Duration {
				begun := time.Now()
				do()
				return time.Since(begun)
			}
			nft := func(text string) func() {
				return func() {
					cmd := exec.CommandContext(b.Context(), "nft", "-f", "-")
					cmd.Stdin = strings.NewReader(text)
					if out, err := cmd.CombinedOutput(); err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
				}
			}
			var n *Net
			serve := func(want fleet.HostNet) func() { return func() { must(b, n.Serve(b.Context(), want)) } }
			check := func() {
				if lost, err := n.Check(b.Context()); lost || err != nil {
					b.Fatal(lost, err)
				}
			}
			var loads, changes []float64
			var nftLoad, load, nftChange, change, idle, look time.Duration
			const changed = 31
			turns := 0
			for b.Loop() {
				turns++
				loads = append(loads, inTurns(c.rounds, func() time.Duration {
					run(b, "nft flush ruleset")
					n = newNet(b)
					took := timed(serve(want))
					load += took
					idle += timed(check)
					return took
				}, func() time.Duration {
					run(b, "nft flush ruleset")
					took := timed(nft(all))
					nftLoad += took
					return took
				})...)
				// Whoever wrote what is there now, it is what n knows of.
				changes = append(changes, inTurns(changed, func() time.Duration {
					took := timed(serve(other)) + timed(serve(want))
					change += took / 2
					return took
				}, func() time.Duration {
					took := timed(nft(less)) + timed(nft(again))
					nftChange += took / 2
					return took
				})...)
				run(b, "nft add table ip foreign")
				look += timed(check)
			}
			ms := func(d time.Duration, each int) float64 { return d.Seconds() * 1e3 / float64(turns*each) }
			b.ReportMetric(median(loads), "load/nft")
			b.ReportMetric(median(changes), "change/nft")
			b.ReportMetric(ms(nftLoad, c.rounds), "nft-load-ms")
			b.ReportMetric(ms(load, c.rounds), "load-ms")
			b.ReportMetric(ms(nftChange, changed), "nft-change-ms")
			b.ReportMetric(ms(change, changed), "change-ms")
			b.ReportMetric(ms(idle, c.rounds)*1e3, "check-µs")
			b.ReportMetric(ms(look, 1), "look-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkBetweenMachines is what a pod has of one on another machine by our routes, beside what it has of it by routes that somebody
// laid by hand on machines that are alike, without rules of ours. The ratio should not be below 0.97 for plain routes, and not below
// 0.85 through VXLAN. WireGuard in this process is measured and not held to anything.
func BenchmarkBetweenMachines(b *testing.B) {
	const rounds, volume, warming = 21, 128 << 20, 8 << 20
	r := newRow(b)
	listen(b, rowPod(2, 1), 9000, swallow)
	for n := 1; n <= rowSize; n++ {
		r.sh(n, "nft insert rule ip podman out ip daddr 10.42.0.0/16 return")
	}
	stream := func() (took time.Duration) {
		var err error
		in(rowPod(1, 1), func() {
			if err = onOne(); err != nil {
				return
			}
			err = connect(at(rowPodAddr(2, 1), 9000), pour(warming)) // what is new is looked up, and not measured
			begun := time.Now()
			err = errors.Join(err, connect(at(rowPodAddr(2, 1), 9000), pour(volume)))
			took = time.Since(begun)
		})
		must(b, err)
		return took
	}
	byHand := func() time.Duration {
		for n := 1; n <= 2; n++ {
			r.serveOn(n, fleet.HostNet{})
			r.sh(n, fmt.Sprintf("ip route add %s via %s", rowPods(3-n), rowAddr(3-n)))
		}
		defer func() {
			for n := 1; n <= 2; n++ {
				r.sh(n, fmt.Sprintf("ip route del %s", rowPods(3-n)))
			}
		}()
		return stream()
	}
	for _, c := range []struct {
		name string
		want func(n int) fleet.HostNet
	}{
		{"host-gw", func(n int) fleet.HostNet { return rowRoutes(n, byLink(n)) }},
		{"vxlan", func(n int) fleet.HostNet { return rowRoutes(n, always(n)) }},
		{"wireguard", r.encrypted},
	} {
		b.Run(c.name, func(b *testing.B) {
			ours := func() time.Duration {
				for n := 1; n <= 2; n++ {
					r.serveOn(n, c.want(n))
				}
				return stream()
			}
			var ratios []float64
			var total time.Duration
			for b.Loop() {
				ratios = append(ratios, inTurns(rounds, byHand, func() time.Duration {
					took := ours()
					total += took
					return took
				})...)
			}
			b.ReportMetric(median(ratios), "stream/by-hand")
			b.ReportMetric(float64(len(ratios))*volume*8/total.Seconds()/1e9, "Gbit/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
