// Package leasetest is a network of nodes in one process, for tests of leases in bubbles of testing/synctest.
package leasetest

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// LAN carries datagrams between its plugs at once, unless they are cut off. Those to whom the queue is full are lost, as in life.
// Create it with NewLAN; safe for concurrent use.
type LAN struct {
	mu    sync.Mutex
	plugs map[netip.AddrPort]*plug
	cut   map[[2]fleet.NodeName]bool
	spy   func(from, to fleet.NodeName, raw []byte)
}

// NewLAN is a network without plugs.
func NewLAN() *LAN {
	return &LAN{plugs: map[netip.AddrPort]*plug{}, cut: map[[2]fleet.NodeName]bool{}}
}

// AddrOf is where a node is reached; names must differ in their last two bytes.
func AddrOf(name fleet.NodeName) netip.AddrPort {
	b := [4]byte{10, 0, 0, name[len(name)-1]}
	if len(name) > 1 {
		b[2] = name[len(name)-2]
	}
	return netip.AddrPortFrom(netip.AddrFrom4(b), 7443)
}

// Plug connects a node. Whatever was plugged in under its name before hears nothing any more.
func (l *LAN) Plug(name fleet.NodeName) net.PacketConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &plug{lan: l, name: name, addr: AddrOf(name), in: make(chan letter, 256), closed: make(chan struct{})}
	l.plugs[p.addr] = p
	return p
}

// Part says whether nothing gets from one node to another: one way.
func (l *LAN) Part(from, to fleet.NodeName, parted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[[2]fleet.NodeName{from, to}] = parted
}

// Spy has f see every datagram that arrives. It must not block.
func (l *LAN) Spy(f func(from, to fleet.NodeName, raw []byte)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spy = f
}

type letter struct {
	raw  []byte
	from netip.AddrPort
}

type plug struct {
	lan    *LAN
	name   fleet.NodeName
	addr   netip.AddrPort
	in     chan letter
	closed chan struct{}
	once   sync.Once
}

func (p *plug) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case l := <-p.in:
		return copy(b, l.raw), net.UDPAddrFromAddrPort(l.from), nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *plug) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	default:
	}
	l := p.lan
	l.mu.Lock()
	defer l.mu.Unlock()
	udp, is := to.(*net.UDPAddr)
	if !is {
		return len(b), nil
	}
	other := l.plugs[udp.AddrPort()]
	if other == nil || l.cut[[2]fleet.NodeName{p.name, other.name}] {
		return len(b), nil
	}
	raw := append([]byte(nil), b...)
	if l.spy != nil {
		l.spy(p.name, other.name, raw)
	}
	select {
	case other.in <- letter{raw, p.addr}:
	default:
	}
	return len(b), nil
}

func (p *plug) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *plug) LocalAddr() net.Addr            { return net.UDPAddrFromAddrPort(p.addr) }
func (*plug) SetDeadline(time.Time) error      { return nil }
func (*plug) SetReadDeadline(time.Time) error  { return nil }
func (*plug) SetWriteDeadline(time.Time) error { return nil }
