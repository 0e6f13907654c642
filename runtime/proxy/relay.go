package proxy

import (
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// relay passes on what each of two connections says to the other, until both have said all or one is broken, and closes them.
func relay(client, end *net.TCPConn) {
	a, b := &side{TCPConn: client}, &side{TCPConn: end}
	var back sync.WaitGroup
	back.Go(func() { pass(b, a) })
	pass(a, b)
	back.Wait()
	_ = client.Close()
	_ = end.Close()
}

// side is one of the two connections of a relay.
type side struct {
	*net.TCPConn
	told atomic.Bool // that nothing more will be said to it
}

// pass passes on what from says, and that it has said all. When either is broken, both are: to hear of it late, or never
// because one waits for the other, would be worse than to lose what is under way.
func pass(from, to *side) {
	_, err := io.Copy(to.TCPConn, from.TCPConn) // without a wrapper, which would hide from the kernel that both are sockets
	if err != nil || from.broken() {
		reset(from.TCPConn)
		reset(to.TCPConn)
		return
	}
	to.told.Store(true)
	_ = to.CloseWrite()
}

// broken says, of a side that seems to have said all, whether it was reset in truth. The kernel tells of a reset once: when the one
// who writes has heard of it, the one who reads sees an end.
func (s *side) broken() bool {
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	closed := true // if it is closed on our side
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		closed = err == nil && info.State == unix.BPF_TCP_CLOSE
	})
	// In this order: once we have said all as well it is closed, and nobody writes to it any more.
	return closed && !s.told.Load()
}

// reset closes a connection in a way that the other side does not take for an end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
