package vip

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Announcer tells others that an address is on a link of this machine now. It must not block, and is called again and again. Safe for
// concurrent use.
type Announcer interface {
	Announce(l Link, a netip.Addr) error
}

// wire announces by ARP, as a question and as an answer because some heed only one of them, and by neighbour advertisements.
//
// One socket serves for life: to close one takes the kernel a grace period, which may be 20 ms.
type wire struct{ fd int }

func newWire() (*wire, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket to tell neighbours: %w", err)
	}
	return &wire{fd}, nil
}

// Announce tells the neighbours on a link.
func (w *wire) Announce(l Link, a netip.Addr) error {
	frames := [][]byte{advert(l.MAC, a)}
	if a.Is4() {
		frames = [][]byte{arp(l.MAC, a, 1), arp(l.MAC, a, 2)}
	}
	for _, f := range frames {
		if err := unix.Sendto(w.fd, f, 0, &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: binary.NativeEndian.Uint16(f[12:])}); err != nil {
			return fmt.Errorf("tell neighbours on %s of %s: %w", l.Name, a, err)
		}
	}
	return nil
}

func (w *wire) close() { _ = unix.Close(w.fd) }

// arp is a gratuitous question (1) or answer (2).
func arp(own net.HardwareAddr, a netip.Addr, operation uint16) []byte {
	f := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f = append(f, own...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_ARP)
	f = binary.BigEndian.AppendUint16(f, 1) // Ethernet
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
	f = append(f, 6, 4)
	f = binary.BigEndian.AppendUint16(f, operation)
	f = append(append(f, own...), a.AsSlice()...)
	target := make([]byte, 6)
	if operation == 2 {
		target = own
	}
	return append(append(f, target...), a.AsSlice()...)
}

// advert is an unsolicited neighbour advertisement to all nodes, which overrides what they know.
func advert(own net.HardwareAddr, a netip.Addr) []byte {
	const override = 0x20
	all := netip.MustParseAddr("ff02::1").As16()
	addr := a.As16()
	body := []byte{136, 0, 0, 0, override, 0, 0, 0}
	body = append(body, addr[:]...)
	body = append(append(body, 2, 1), own...) // its link-layer address, in units of 8 bytes

	f := []byte{0x33, 0x33, 0, 0, 0, 1}
	f = append(f, own...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IPV6)
	f = append(f, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(body)))
	f = append(f, unix.IPPROTO_ICMPV6, 255)
	f = append(append(f, addr[:]...), all[:]...)
	sum := checksum(append(append(append([]byte{}, f[22:54]...), 0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6), body...))
	binary.BigEndian.PutUint16(body[2:], sum)
	return append(f, body...)
}

// checksum is the Internet's, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
