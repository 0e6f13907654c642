package hostnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

// A yard is the lab as a machine with a bridge of three pods, and a client on another network.
//
//	out 192.168.77.2 ── 192.168.77.1 machine 10.88.0.1 ── bridge skbr0 ── p1 10.88.0.11, p2 .12, p3 .13
//
// The same in IPv6, with fd77:: and fd88::. The machine's default route leads to out, for machines without one cannot
// reach addresses of Services.
var (
	vip     = netip.MustParseAddr("10.96.0.10")
	vip6    = netip.MustParseAddr("fd96::10")
	machine = netip.MustParseAddr("192.168.77.1")
	gateway = netip.MustParseAddr("10.88.0.1")
	client  = netip.MustParseAddr("192.168.77.2")
	pods    = []netip.Prefix{netip.MustParsePrefix("10.88.0.0/24"), netip.MustParsePrefix("fd88::/64")}
)

func podAddr(n int) netip.Addr  { return netip.AddrFrom4([4]byte{10, 88, 0, byte(10 + n)}) }
func podAddr6(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd88::%d", 10+n)) }

func run(t testing.TB, words string) string {
	t.Helper()
	w := strings.Fields(words)
	out, err := exec.CommandContext(t.Context(), w[0], w[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", words, err, out)
	}
	return string(out)
}

func newYard(t testing.TB) { newYardWith(t, "0") }

// newYardWith also says what the machine's switches bridge-nf-call-* are.
func newYardWith(t testing.TB, bridgeNF string) {
	t.Helper()
	lab.Need(t)
	ctx := context.WithoutCancel(t.Context())
	clean := func() {
		for _, ns := range []string{"out", "p1", "p2", "p3"} {
			_ = exec.CommandContext(ctx, "ip", "netns", "del", ns).Run()
		}
		for _, l := range []string{"skbr0", "vout", "vp1", "vp2", "vp3"} {
			_ = exec.CommandContext(ctx, "ip", "link", "del", l).Run()
		}
		_ = exec.CommandContext(ctx, "nft", "flush", "ruleset").Run()
		_ = netlink.ConntrackTableFlush(netlink.ConntrackTable)
	}
	clean()
	t.Cleanup(clean)
	for path, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "bridge/bridge-nf-call-iptables": bridgeNF, "bridge/bridge-nf-call-ip6tables": bridgeNF,
	} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", path), []byte(value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	noDAD(t, "netns add ")
	for _, line := range []string{
		"link add skbr0 type bridge", "addr add 10.88.0.1/24 dev skbr0", "addr add fd88::1/64 dev skbr0 nodad", "link set skbr0 up",
		"netns add out", "link add vout type veth peer name eth0 netns out",
		"addr add 192.168.77.1/24 dev vout", "addr add fd77::1/64 dev vout nodad", "link set vout up",
		"-n out link set lo up", "-n out addr add 192.168.77.2/24 dev eth0", "-n out addr add fd77::2/64 dev eth0 nodad", "-n out link set eth0 up",
		"-n out route add default via 192.168.77.1", "-n out route add default via fd77::1",
		"route add default via 192.168.77.2", "route add default via fd77::2",
	} {
		run(t, "ip "+line)
		noDAD(t, line)
	}
	must(t, PrepareBridge("skbr0"))
	for n := 1; n <= 3; n++ {
		ns := fmt.Sprintf("p%d", n)
		for _, line := range []string{
			"netns add " + ns, "link add v" + ns + " type veth peer name eth0 netns " + ns, "link set v" + ns + " master skbr0 up",
			"-n " + ns + " link set lo up", fmt.Sprintf("-n %s addr add %s/24 dev eth0", ns, podAddr(n)), fmt.Sprintf("-n %s addr add %s/64 dev eth0 nodad", ns, podAddr6(n)),
			"-n " + ns + " link set eth0 up", "-n " + ns + " route add default via 10.88.0.1", "-n " + ns + " route add default via fd88::1",
		} {
			run(t, "ip "+line)
			noDAD(t, line)
		}
		_, err := PreparePort("v"+ns, podAddr(n), podAddr6(n))
		must(t, err)
		answer(t, ns, "tcp", 8080)
		answer(t, ns, "udp", 8080)
	}
}

// noDAD: links of a namespace that was just added need not find out for a second whether their addresses are taken.
func noDAD(t testing.TB, line string) {
	if ns, ok := strings.CutPrefix(line, "netns add "); ok {
		in(ns, func() { must(t, os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)) })
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// in does something in a network namespace; "" is the machine's.
func in(ns string, do func()) {
	if ns == "" {
		do()
		return
	}
	err := lab.InSpace(filepath.Join("/run/netns", ns), func() error {
		do()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// answer serves: whoever asks is told which pod this is and under which address it sees him.
func answer(t testing.TB, ns, proto string, port int) {
	t.Helper()
	answerAt(t, ns, proto, fmt.Sprintf(":%d", port))
}

func answerAt(t testing.TB, ns, proto, addr string) {
	t.Helper()
	var err error
	in(ns, func() {
		if proto == "udp" {
			var c net.PacketConn
			if c, err = new(net.ListenConfig).ListenPacket(t.Context(), "udp", addr); err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				b := make([]byte, 100)
				for {
					_, from, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					host, _, _ := net.SplitHostPort(from.String())
					_, _ = c.WriteTo([]byte(ns+" "+host), from)
				}
			}()
			return
		}
		var l net.Listener
		if l, err = listenTCP(t, addr); err != nil {
			return
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				_, _ = io.WriteString(c, ns+" "+host)
				// The client ends it first: else this side would remember the connection for a minute, and refuse another of the
				// same numbers, which masquerading comes to by chance.
				go func() {
					_, _ = io.Copy(io.Discard, c)
					_ = c.Close()
				}()
			}
		}()
	})
	must(t, err)
}

func dial(ns, proto string, to netip.AddrPort) (net.Conn, error) {
	return dialWithin(ns, proto, to, time.Second)
}

func dialWithin(ns, proto string, to netip.AddrPort, limit time.Duration) (c net.Conn, err error) {
	in(ns, func() { c, err = net.DialTimeout(proto, to.String(), limit) }) //nolint:noctx // it has a timeout
	return c, err
}

// ask is one connection from a namespace, or one datagram from a new port.
func ask(ns, proto string, to netip.AddrPort) (pod, from string, err error) {
	return askWithin(ns, proto, to, time.Second)
}

func askWithin(ns, proto string, to netip.AddrPort, limit time.Duration) (pod, from string, err error) {
	c, err := dialWithin(ns, proto, to, limit)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	return askOnWithin(c, proto, limit)
}

func askOn(c net.Conn, proto string) (pod, from string, err error) {
	return askOnWithin(c, proto, time.Second)
}

func askOnWithin(c net.Conn, proto string, limit time.Duration) (pod, from string, err error) {
	must := func(e error) {
		if err == nil {
			err = e
		}
	}
	must(c.SetDeadline(time.Now().Add(limit)))
	if proto == "udp" {
		_, e := c.Write([]byte("?"))
		must(e)
	}
	b := make([]byte, 100)
	n, e := c.Read(b)
	must(e)
	b = b[:n]
	if err != nil {
		return "", "", err
	}
	p, f, _ := bytes.Cut(b, []byte(" "))
	return string(p), string(f), nil
}

// shares asks n times and counts who answers.
func shares(t testing.TB, n int, ns, proto string, to netip.AddrPort) map[string]int {
	t.Helper()
	var mu sync.Mutex
	got := map[string]int{}
	for range n {
		pod, _, err := ask(ns, proto, to)
		if err != nil {
			t.Fatalf("%s from %q to %s: %v", proto, ns, to, err)
		}
		mu.Lock()
		got[pod]++
		mu.Unlock()
	}
	return got
}

func at(addr netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr, port) }

func ends(ns ...int) (all []fleet.End) {
	for _, n := range ns {
		all = append(all, fleet.End{Addr: podAddr(n), Port: 8080})
	}
	return all
}

func ends6(ns ...int) (all []fleet.End) {
	for _, n := range ns {
		all = append(all, fleet.End{Addr: podAddr6(n), Port: 8080})
	}
	return all
}

func aFront(proto corev1.Protocol, addr netip.Addr, number uint16, ends []fleet.End) fleet.Front {
	return fleet.Front{Protocol: proto, Addr: addr, Number: number, Ends: ends}
}

func hostNet(fronts ...fleet.Front) fleet.HostNet {
	slices.SortFunc(fronts, fleet.FrontOrder)
	return fleet.HostNet{Fronts: fronts, Pods: pods}
}

func newNet(t testing.TB) *Net {
	t.Helper()
	n, err := New(slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	must(t, err)
	return n
}

func serve(t testing.TB, n *Net, fronts ...fleet.Front) {
	t.Helper()
	must(t, n.Serve(t.Context(), hostNet(fronts...)))
}

func listenTCP(t testing.TB, addr string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
}
