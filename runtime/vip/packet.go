package vip

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// field is a place in a packet where an address of ours may stand. Offsets are from the network header on, in bytes.
type field struct {
	ether  uint16 // EtherType of the packets that have it
	at     int
	size   int       // 4 or 16
	where  []content // what else has to be in the packet
	except int       // where another address of ours lets the packet through all the same; 0: nowhere
	// Packets with it may be of connections that go on where the address was: those that goesOn says.
	lingers bool
}

// content is a byte of a packet, or those bits of it that are in the mask; 0: all of them.
type content struct {
	at   int
	is   byte
	mask byte
}

// Bytes of an IPv6 packet that is a neighbour solicitation, or advertisement. The kernel heeds neither behind extension headers, which
// it would have to fragment them for; and what it answers is looked at as well.
var (
	solicitation  = []content{{at: 6, is: unix.IPPROTO_ICMPV6}, {at: 40, is: 135}}
	advertisement = []content{{at: 6, is: unix.IPPROTO_ICMPV6}, {at: 40, is: 136}}
)

// What goes on of a connection is TCP in an IPv4 packet without options, that is no fragment, and not the word with which one begins: of the flags at tcpFlags only
// tcpSYN of both in tcpBoth.
const (
	tcpFlags = 20 + 13
	tcpSYN   = 0x02
	tcpBoth  = tcpSYN | 0x10 // and ACK
)

// destination is where the destination stands in an IPv4 packet.
const destination = 16

var goesOn = []content{{at: 0, is: 0x45}, {at: 6, mask: 0x3f}, {at: 7}, {at: 9, is: unix.IPPROTO_TCP}}

// incoming is what is meant for an address: where it is the destination, and where somebody asks for it. Who has it by now may speak: the
// machine that had it before may be a client of it, and has to hear that it moved.
var incoming = []field{
	{ether: unix.ETH_P_ARP, at: 24, size: 4, except: 14},
	{ether: unix.ETH_P_IP, at: destination, size: 4, lingers: true},
	{ether: unix.ETH_P_IPV6, at: 24, size: 16},
	{ether: unix.ETH_P_IPV6, at: 48, size: 16, where: solicitation},
}

// outgoing is what an address says: where it is the source, and where the machine says or lets neighbours believe that it has it. A machine
// that had an address and has connections of it left asks for its clients by ARP in its name, and they would follow.
var outgoing = []field{
	{ether: unix.ETH_P_ARP, at: 14, size: 4},
	{ether: unix.ETH_P_IP, at: 12, size: 4, lingers: true},
	{ether: unix.ETH_P_IPV6, at: 8, size: 16},
	{ether: unix.ETH_P_IPV6, at: 48, size: 16, where: advertisement},
}

// wireOrder is a number that, written by this machine, has the bytes in the order of the network.
func wireOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
