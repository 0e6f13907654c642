package vip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/lab"
)

// A prober is a client that asks an address something each millisecond. Each question is told from the others, so that it is known when what was
// answered was asked: what was answered was let through after that.
type prober struct {
	kind string
	stop func() []probe
}

type probe struct {
	sent time.Duration // of the boot clock
	by   string        // who answered; the first who did
}

// kinds are how one may ask: by ARP, also in frames with the tag of VLAN 0, which is none; by neighbour discovery; by UDP.
var kinds = []string{"arp", "arp0", "ip4", "nd", "ip6"}

// family is the address that is asked for.
func family(kind string) netip.Addr {
	if kind == "nd" || kind == "ip6" {
		return vip6
	}
	return vip4
}

// name is as whom a host answers.
func name(t testing.TB, kind, ns string) string {
	t.Helper()
	if strings.HasPrefix(kind, "ip") {
		return ns
	}
	return macOf(t, ns).String()
}

// ask has the client ask until stop is called.
func ask(t testing.TB, kind string) prober {
	t.Helper()
	var send func(seq uint32)
	var receive func() (seq uint32, by string, ok bool)
	var shut func() error
	in("cl", func() {
		switch kind {
		case "ip4", "ip6":
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(family(kind), port)))
			must(t, err)
			shut = c.Close
			send = func(seq uint32) { _, _ = c.Write(binary.BigEndian.AppendUint32(nil, seq)) }
			b := make([]byte, 100)
			receive = func() (uint32, string, bool) {
				n, err := c.Read(b)
				if n < 4 {
					return 0, "", err == nil || !isClosed(err)
				}
				return binary.BigEndian.Uint32(b), string(b[4:n]), true
			}
		default:
			send, receive, shut = neighbour(t, kind)
		}
	})
	var mu sync.Mutex
	var all []probe
	done, sent, received := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			mu.Lock()
			seq := uint32(len(all))
			all = append(all, probe{sent: bootTime()})
			mu.Unlock()
			send(seq)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	go func() {
		defer close(received)
		for {
			seq, by, ok := receive()
			if !ok {
				return
			}
			mu.Lock()
			if by != "" && int(seq) < len(all) && all[seq].by == "" {
				all[seq].by = by
			}
			mu.Unlock()
		}
	}()
	return prober{kind, sync.OnceValue(func() []probe {
		close(done)
		<-sent
		<-time.After(20 * time.Millisecond) // answers that are under way
		_ = shut()
		<-received
		return all
	})}
}

// neighbour asks by ARP or by neighbour solicitations, in the name of a machine that does not exist. Its MAC has the number of the question, and
// so has the answer.
func neighbour(t testing.TB, kind string) (send func(uint32), receive func() (uint32, string, bool), shut func() error) {
	t.Helper()
	mark := byte(slices.Index(kinds, kind))
	if kind != "nd" {
		a, err := lab.NewARP("eth0", vip4, mark)
		must(t, err)
		a.Tagged = kind == "arp0"
		return a.Ask, a.Answer, a.Close
	}
	l, err := net.InterfaceByName("eth0")
	must(t, err)
	f, err := lab.Frames(l, unix.ETH_P_IPV6)
	must(t, err)
	to := &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: wireOrder(unix.ETH_P_IPV6)}
	send = func(seq uint32) {
		frame := solicit(l.HardwareAddr, append([]byte{2, mark}, binary.BigEndian.AppendUint32(nil, seq)...))
		_ = control(f, func(fd int) error { return unix.Sendto(fd, frame, 0, to) })
	}
	b := make([]byte, 200)
	receive = func() (uint32, string, bool) {
		n, err := f.Read(b)
		switch {
		case err != nil:
			return 0, "", !isClosed(err)
		case n < 78 || b[0] != 2 || b[1] != mark || b[54] != 136 || !bytes.Equal(b[62:78], vip6.AsSlice()):
			return 0, "", true
		}
		return binary.BigEndian.Uint32(b[2:]), net.HardwareAddr(b[6:12]).String(), true
	}
	return send, receive, f.Close
}

func control(f *os.File, do func(fd int) error) (err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if e := c.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
		return e
	}
	return err
}

func isClosed(err error) bool { return errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) }

// solicit asks for the address by a neighbour solicitation.
func solicit(own, asking net.HardwareAddr) []byte {
	target := vip6.As16()
	from := netip.MustParseAddr("fd77::200").As16()
	to := netip.MustParseAddr("ff02::1:ff00:50").As16()
	body := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	body = append(append(body, 1, 1), asking...)
	pseudo := append(append([]byte{}, from[:]...), to[:]...)
	pseudo = append(append(pseudo, 0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6), body...)
	binary.BigEndian.PutUint16(body[2:], checksum(pseudo))
	f := append([]byte{0x33, 0x33, 0xff, 0, 0, 0x50}, own...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255)
	return append(append(append(f, from[:]...), to[:]...), body...)
}
