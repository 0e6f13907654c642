package proxy

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/fleet"
)

// talk is what belongs together of the datagrams at a port: those of one client, to one address of this machine.
type talk struct {
	client netip.AddrPort
	here   netip.Addr // the zero Addr where the kernel does not say
}

// flow is a talk with an end.
type flow struct {
	talk talk
	end  fleet.End
	conn *net.UDPConn // connected to the end, so that what anybody else sends is not taken for its answer
	raw  syscall.RawConn
	over chan struct{} // closed when nobody waits for answers any more

	// Of the door's lock.
	last    time.Time // that anything was said
	answers bool      // the end has said something
}

// open begins a flow to an end.
func open(t talk, end fleet.End, now time.Time) (*flow, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(end.Addr, end.Port)))
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &flow{talk: t, end: end, conn: conn, raw: raw, over: make(chan struct{}), last: now}, nil
}

// until is when a flow is over if nothing more is said.
func (f *flow) until(l limits) time.Time {
	if f.answers {
		return f.last.Add(l.idle)
	}
	return f.last.Add(l.silent)
}

// datagram has room for the largest one.
type datagram [1 << 16]byte

// buffers are for datagrams on their way.
var buffers = sync.Pool{New: func() any { return new(datagram) }}

// receive waits for a datagram of the end. Only then it takes a buffer, which the caller gives back unless there is an error: of
// thousands of flows few have something to pass on in one moment.
func (f *flow) receive() (buf *datagram, n int, err error) {
	waited := f.raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*datagram)
		for {
			n, err = unix.Read(int(fd), buf[:])
			if err != unix.EINTR {
				break
			}
		}
		if err != nil {
			buffers.Put(buf)
		}
		return err != unix.EAGAIN
	})
	if waited != nil {
		return nil, 0, waited
	}
	return buf, n, err
}
