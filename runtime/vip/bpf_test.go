package vip

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/lab"
)

// TestPrograms has the kernel run the programs on single frames.
func TestPrograms(t *testing.T) {
	lab.Need(t)
	f, err := newBPF()
	must(t, err)
	defer f.release()
	open4, shut4, gone4, other4 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")
	open6, shut6, other6 := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::4")
	for _, a := range []netip.Addr{open4, open6} {
		must(t, f.open(a, bootTime()+time.Minute))
	}
	must(t, f.open(gone4, bootTime()-1))
	for _, a := range []netip.Addr{shut4, shut6} {
		must(t, f.shut(a, 0))
	}
	lingers4, ended4 := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.6")
	must(t, f.shut(lingers4, bootTime()+time.Minute))
	must(t, f.shut(ended4, bootTime()-1))
	ether := func(kind uint16, body ...byte) []byte {
		return append(binary.BigEndian.AppendUint16(make([]byte, 12), kind), body...)
	}
	arp := func(sender, target netip.Addr) []byte {
		b := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 20)...)
		copy(b[14:], sender.AsSlice())
		copy(b[24:], target.AsSlice())
		return ether(unix.ETH_P_ARP, b...)
	}
	ip := func(source, destination netip.Addr) []byte {
		if source.Is4() {
			b := append([]byte{0x45, 0, 0, 28}, make([]byte, 24)...)
			copy(b[12:], source.AsSlice())
			copy(b[16:], destination.AsSlice())
			return ether(unix.ETH_P_IP, b...)
		}
		b := append([]byte{0x60, 0, 0, 0, 0, 24, 17, 255}, make([]byte, 56)...)
		copy(b[8:], source.AsSlice())
		copy(b[24:], destination.AsSlice())
		return ether(unix.ETH_P_IPV6, b...)
	}
	tcp := func(source, destination netip.Addr, flags byte) []byte {
		b := append(ip(source, destination), make([]byte, 12)...)
		b[network+9], b[network+tcpFlags] = unix.IPPROTO_TCP, flags
		return b
	}
	options, begins, rest, whole := tcp(other4, lingers4, 0x10), tcp(other4, lingers4, 0), tcp(other4, lingers4, 0x10), tcp(other4, lingers4, 0x10)
	options[network] = 0x46
	begins[network+6], rest[network+7], whole[network+6] = 0x20, 1, 0x40 // more fragments, an offset, and never to be cut
	nd := func(kind byte, target netip.Addr) []byte {
		b := ip(other6, netip.MustParseAddr("ff02::1"))
		b[network+6], b[network+40] = unix.IPPROTO_ICMPV6, kind
		copy(b[network+48:], target.AsSlice())
		return b
	}
	tagged := func(vlan uint16, frame []byte) []byte {
		b := binary.BigEndian.AppendUint16(append([]byte{}, frame[:12]...), unix.ETH_P_8021Q)
		return append(binary.BigEndian.AppendUint16(b, vlan), frame[12:]...)
	}
	const pass, stop = -1, drop
	for _, c := range []struct {
		name    string
		frame   []byte
		in, out int
	}{
		{"ARP for an open one", arp(other4, open4), pass, pass},
		{"ARP for a shut one", arp(other4, shut4), stop, pass},
		{"ARP for one whose time is over", arp(other4, gone4), stop, pass},
		{"ARP for a stranger", arp(other4, other4), pass, pass},
		{"ARP of a shut one", arp(shut4, other4), pass, stop},
		{"ARP of one whose time is over", arp(gone4, other4), pass, stop},
		{"ARP of an open one", arp(open4, other4), pass, pass},
		{"who has a shut one says so", arp(shut4, shut4), pass, stop},
		{"IPv4 to an open one", ip(other4, open4), pass, pass},
		{"IPv4 to a shut one", ip(other4, shut4), stop, pass},
		{"IPv4 to one whose time is over", ip(other4, gone4), stop, pass},
		{"IPv4 from a shut one", ip(shut4, other4), pass, stop},
		{"IPv4 from an open one", ip(open4, other4), pass, pass},
		{"TCP to a shut one", tcp(other4, shut4, 0x10), stop, pass},
		{"what goes on to one that lingers", tcp(other4, lingers4, 0x10), pass, pass},
		{"what goes on from one that lingers", tcp(lingers4, other4, 0x18), pass, pass},
		{"the end of a connection to one that lingers", tcp(other4, lingers4, 0x01), pass, pass},
		{"the first answer of one that lingers", tcp(lingers4, other4, 0x12), pass, pass},
		{"a new connection to one that lingers", tcp(other4, lingers4, 0x02), stop, pass},
		{"a new connection from one that lingers", tcp(lingers4, other4, 0x02), pass, stop},
		{"with options, to one that lingers", options, stop, pass},
		{"the first fragment to one that lingers", begins, stop, pass},
		{"the rest of it", rest, stop, pass},
		{"what goes on and is never cut", whole, pass, pass},
		{"UDP to one that lingers", ip(other4, lingers4), stop, pass},
		{"UDP from one that lingers", ip(lingers4, other4), pass, stop},
		{"ARP for one that lingers", arp(other4, lingers4), stop, pass},
		{"ARP of one that lingers", arp(lingers4, other4), pass, stop},
		{"TCP to one that lingered", tcp(other4, ended4, 0x10), stop, pass},
		{"TCP from one that lingered", tcp(ended4, other4, 0x10), pass, stop},
		{"IPv6 to an open one", ip(other6, open6), pass, pass},
		{"IPv6 to a shut one", ip(other6, shut6), stop, pass},
		{"IPv6 from a shut one", ip(shut6, other6), pass, stop},
		{"IPv6 from a stranger", ip(other6, other6), pass, pass},
		{"solicitation of an open one", nd(135, open6), pass, pass},
		{"solicitation of a shut one", nd(135, shut6), stop, pass},
		{"advertisement of a shut one", nd(136, shut6), pass, stop},
		{"advertisement of an open one", nd(136, open6), pass, pass},
		{"other ICMPv6", nd(128, shut6), pass, pass},
		{"in a VLAN", tagged(7, ip(other4, shut4)), pass, pass},
		{"something else", ether(0x1234, make([]byte, 60)...), pass, pass},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, side := range []struct {
				name string
				p    *ebpf.Program
				want int
			}{{"in", f.in, c.in}, {"out", f.out, c.out}} {
				got, _, err := side.p.Test(c.frame)
				must(t, err)
				if int(int32(got)) != side.want {
					t.Errorf("%s: %d, want %d", side.name, int32(got), side.want)
				}
			}
		})
	}
}
