package vip

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// led has a host lead who connects to the address to a server of its own, as Services do, which answers each line with the host's name.
func led(t *testing.T, ns, own string) {
	t.Helper()
	const number = 7778
	in(ns, func() {
		l, err := net.Listen("tcp4", netip.AddrPortFrom(netip.MustParseAddr(own), number).String()) //nolint:noctx // it is closed
		must(t, err)
		accept(t, l, func(c net.Conn) {
			for lines := bufio.NewScanner(c); lines.Scan(); {
				if _, err := fmt.Fprintln(c, ns); err != nil {
					return
				}
			}
		})
	})
	run(t, "ip netns exec "+ns+" nft add table ip led")
	run(t, "ip netns exec "+ns+" nft add chain ip led in { type nat hook prerouting priority dstnat ; }")
	run(t, fmt.Sprintf("ip netns exec %s nft add rule ip led in ip daddr %s tcp dport %d dnat to %s:%d", ns, vip4, number, own, number))
}

// caller is a connection of the client.
type caller struct {
	net.Conn
	lines *bufio.Reader
}

func call(t *testing.T) *caller {
	t.Helper()
	var c net.Conn
	var err error
	in("cl", func() { c, err = net.DialTimeout("tcp", netip.AddrPortFrom(vip4, 7778).String(), 3*time.Second) }) //nolint:noctx // it has a timeout
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &caller{c, bufio.NewReader(c)}
}

// asks is who answers a line.
func (c *caller) asks() (string, error) {
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := fmt.Fprintln(c, "who"); err != nil {
		return "", err
	}
	line, err := c.lines.ReadString('\n')
	return strings.TrimSpace(line), err
}

// TestConnectionsGoOn: where an address was, who is connected stays so while it goes from one machine to the next, and nobody else is let in.
func TestConnectionsGoOn(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		own := map[string]string{"h1": "10.77.0.1", "h2": "10.77.0.2"}
		hosts := map[string]*process{}
		for ns, a := range own {
			hosts[ns] = start(t, ns, fence)
			hosts[ns].do("expect")
			led(t, ns, a)
		}
		hosts["h1"].do("hold %s %d", vip4, bootTime()+time.Minute)
		calls, by := []*caller{call(t)}, []string{"h1"}
		at, next := "h1", "h2"
		for range 3 {
			hosts[at].do("drop %s lingers", vip4)
			hosts[next].do("hold %s %d %s", vip4, bootTime()+time.Minute, own[at])
			at, next = next, at
			calls, by = append(calls, call(t)), append(by, at)
			for i, c := range calls {
				if got, err := c.asks(); got != by[i] || err != nil {
					t.Errorf("%s has it: connection %d: %q, %v, want %s", at, i, got, err, by[i])
				}
			}
		}
		// Who does not know where it is by now gets no new connection where it was, nor anything else.
		run(t, "ip -n cl neigh replace "+vip4.String()+" lladdr "+macOf(t, next).String()+" nud permanent dev eth0")
		in("cl", func() {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(vip4, 7778).String(), 1500*time.Millisecond) //nolint:noctx // it has a timeout
			if err == nil {
				_ = c.Close()
				t.Errorf("%s takes new connections, and %s has it", next, at)
			}
		})
		run(t, "ip -n "+next+" addr add "+vip4.String()+"/32 dev lo") // so that it is the fence alone
		udp := ask(t, "ip4")
		<-time.After(100 * time.Millisecond)
		if n := answered(udp.stop()); n > 0 {
			t.Errorf("%s answers %d times, and %s has it", next, n, at)
		}
		run(t, "ip -n "+next+" addr del "+vip4.String()+"/32 dev lo")
		run(t, "ip -n cl neigh del "+vip4.String()+" dev eth0")
		// From a machine that was not told to let them go on, they do not.
		hosts[at].do("drop %s", vip4)
		hosts[next].do("hold %s %d", vip4, bootTime()+time.Minute)
		if got, err := calls[len(calls)-1].asks(); err == nil {
			t.Errorf("%s answers what was begun at %s", got, at)
		}
		// The former one is another each time, or none.
		elements := func(ns string) string {
			return run(t, "ip netns exec "+ns+" nft list map ip "+formerTable+" "+formerMap)
		}
		for _, former := range []string{own[next], "10.77.0.9", "", own[next]} {
			hosts[at].do("drop %s lingers", vip4)
			hosts[at].do("hold %s %d %s", vip4, bootTime()+time.Minute, former)
			if has := elements(at); former != "" && !strings.Contains(has, " : "+former) || strings.Contains(has, vip4.String()) != (former != "") {
				t.Errorf("%s had it before: %s", former, has)
			}
		}
		for ns, p := range hosts {
			p.do("close")
			if left := run(t, "ip netns exec "+ns+" nft list ruleset"); strings.Contains(left, "skerry") {
				t.Errorf("left on %s:\n%s", ns, left)
			}
		}
	})
}

// TestWordsThatNobodyKnows: of connections that are known nowhere, and of those to a machine itself, which do not go on, clients hear soon; and
// no packet goes round and round when the address has come back.
func TestWordsThatNobodyKnows(t *testing.T) {
	each(t, func(t *testing.T, fence string) {
		hosts := map[string]*process{}
		own := map[string]string{"h1": "10.77.0.1", "h2": "10.77.0.2"}
		for ns, a := range own {
			hosts[ns] = start(t, ns, fence)
			led(t, ns, a)
			run(t, "ip netns exec "+ns+" sysctl -qw net.ipv4.ip_forward=1")
		}
		dial := func(number uint16) (c net.Conn) {
			in("cl", func() {
				var err error
				c, err = net.DialTimeout("tcp", netip.AddrPortFrom(vip4, number).String(), 3*time.Second) //nolint:noctx // it has a timeout
				must(t, err)
			})
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		move := func(from, to string) {
			hosts[from].do("drop %s lingers", vip4)
			hosts[to].do("hold %s %d %s", vip4, bootTime()+time.Minute, own[from])
		}
		hosts["h1"].do("hold %s %d", vip4, bootTime()+time.Minute)
		itself := dial(port)
		move("h1", "h2")
		_ = itself.SetDeadline(time.Now().Add(3 * time.Second))
		var err error
		for err == nil { // what is in its buffers yet
			if _, err = itself.Write([]byte("x")); err == nil {
				_, err = itself.Read(make([]byte, 1000))
			}
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("who was connected to h1 itself hears: %v", err)
		}
		_ = itself.Close()
		move("h2", "h1")
		_ = dial(port).Close() // it has the address again, also for itself
		packets := func() (n uint64) {
			in("h1", func() {
				l, err := netlink.LinkByName("eth0")
				must(t, err)
				n = l.Attrs().Statistics.RxPackets
			})
			return n
		}
		before := packets()
		in("cl", func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
			must(t, err)
			defer unix.Close(fd)
			word := make([]byte, 20)
			word[0], word[1], word[2], word[3], word[12], word[13] = 0x9c, 0x40, 7778>>8, 7778&0xff, 5<<4, 0x10 // ACK
			must(t, unix.Sendto(fd, word, 0, &unix.SockaddrInet4{Addr: vip4.As4()}))
		})
		<-time.After(300 * time.Millisecond)
		if n := packets() - before; n > 50 {
			t.Errorf("one packet has come %d times", n)
		}
	})
}
