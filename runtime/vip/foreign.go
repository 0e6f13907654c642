package vip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// others is a socket that hears who on a link says that he has an address: as the sender of ARP, or in a neighbour advertisement.
// What this machine sends is not heard.
func others(l Link, a netip.Addr) (_ *os.File, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket to hear others with %s: %w", a, err)
	}
	f := os.NewFile(uintptr(fd), "packets")
	ether := uint16(unix.ETH_P_IPV6)
	if a.Is4() {
		ether = unix.ETH_P_ARP
	}
	raw, err := bpf.Assemble(says(a))
	if err == nil {
		filter := make([]unix.SockFilter, len(raw))
		for i, r := range raw {
			filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
		}
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	}
	if err == nil { // only now it hears anything
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: wireOrder(ether)})
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("hear others with %s: %w", a, err)
	}
	return f, nil
}

// says is a filter for frames in which somebody says that he has an address.
func says(a netip.Addr) []bpf.Instruction {
	type word struct{ at, size, is uint32 }
	words := []word{{network + 14, 4, 0}}
	at := 0
	if a.Is6() {
		words = []word{{network + 6, 1, unix.IPPROTO_ICMPV6}, {network + 40, 1, 136}}
		for i := range uint32(4) {
			words = append(words, word{at: network + 48 + 4*i, size: 4})
		}
		at = 2
	}
	for i := range words[at:] {
		words[at+i].is = binary.BigEndian.Uint32(a.AsSlice()[4*i:])
	}
	var all []bpf.Instruction
	for i, w := range words {
		all = append(all, bpf.LoadAbsolute{Off: w.at, Size: int(w.size)},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: w.is, SkipTrue: uint8(2*(len(words)-1-i) + 1)})
	}
	return append(all, bpf.RetConstant{Val: 128}, bpf.RetConstant{Val: 0})
}

// hear calls found with whoever else on a link says that he has an address, until the socket is closed.
func hear(f *os.File, own func() net.HardwareAddr, found func(net.HardwareAddr)) {
	b := make([]byte, 128)
	for {
		n, err := f.Read(b)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil || n < network+14: // the link went down, say
			continue
		}
		who := b[6:12]
		if binary.BigEndian.Uint16(b[12:]) == unix.ETH_P_ARP {
			who = b[network+8 : network+14]
		}
		if !bytes.Equal(who, own()) {
			found(bytes.Clone(who))
		}
	}
}
