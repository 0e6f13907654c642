package proxy

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// An answer has to come from the address that was asked, or clients do not take it for one. A socket that listens at all addresses
// has to be told, and to ask, with each datagram.

// controlMax is room for what the kernel says of a datagram: its address as IPv4 and as IPv6 have it.
const controlMax = 128

// askWhere has the kernel say, of each datagram, to which address it came.
func askWhere(network, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		// A socket of IPv6 gets datagrams of IPv4 as well, and both answers to the question for those.
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		if failed == nil && network == "udp6" {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// where is the address of ours that a datagram came to: that of the interface, if it was for everybody on a network. It is the
// zero Addr when control does not say.
func where(control []byte) netip.Addr {
	var here netip.Addr
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[4:8])) // ipi_spec_dst
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			here = netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
		control = rest
	}
	return here
}

// source tells the kernel from which address of ours an answer goes.
func (t talk) source() []byte {
	switch {
	case t.here.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: t.here.As4()})
	case t.here.Is6():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: t.here.As16()})
	}
	return nil
}
