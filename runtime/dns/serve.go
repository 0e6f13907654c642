package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// readers take datagrams off the socket, and answer for the zone on the spot.
var readers = min(runtime.GOMAXPROCS(0), 8)

const (
	idle  = 10 * time.Second // of a client's TCP connection
	stuck = 2 * time.Second  // that a client may take to read an answer
)

func (s *Server) servePackets(ctx context.Context, socket net.PacketConn) error {
	buf := make([]byte, wire.MaxMsgSize)
	udp, ok := socket.(*net.UDPConn)
	if ok {
		_ = udp.SetReadBuffer(1 << 20) // for queries that come at once; the kernel gives what it has
	}
	for {
		var (
			n   int
			say func([]byte)
			err error
		)
		if ok { // makes less garbage
			var from netip.AddrPort
			n, from, err = udp.ReadFromUDPAddrPort(buf)
			say = func(reply []byte) { _, _ = udp.WriteToUDPAddrPort(reply, from) }
		} else {
			var from net.Addr
			n, from, err = socket.ReadFrom(buf)
			say = func(reply []byte) { _, _ = socket.WriteTo(reply, from) }
		}
		if err != nil {
			if over, err := ended(ctx, "read a query", err); over {
				return err
			}
			continue
		}
		s.take(ctx, &s.work, buf[:n], 0, say)
	}
}

// take answers a packet by say: before it returns when that is for us to answer, later and as part of open when somebody
// else has to be asked. It returns at once in any case, and keeps nothing of the packet.
func (s *Server) take(ctx context.Context, open *sync.WaitGroup, packet []byte, limit int, say func([]byte)) {
	reply, f := s.handle(packet, limit)
	if f != nil {
		select {
		case s.slots <- struct{}{}:
			open.Go(func() {
				defer func() { <-s.slots }()
				if reply := s.forward(ctx, f); reply != nil {
					say(reply)
				}
			})
			return
		default: // too many wait already
			reply = f.pack(found{rcode: wire.RcodeServerFailure}, false)
		}
	}
	if reply != nil {
		say(reply)
	}
}

func (s *Server) serveConns(ctx context.Context, listener net.Listener) error {
	room := make(chan struct{}, conns)
	for {
		c, err := listener.Accept()
		if err != nil {
			if over, err := ended(ctx, "accept a connection", err); over {
				return err
			}
			continue
		}
		select {
		case room <- struct{}{}:
			s.work.Go(func() {
				defer func() { <-room }()
				s.serveConn(ctx, c)
			})
		default:
			_ = c.Close()
		}
	}
}

// serveConn answers the queries of one connection, each as soon as it can be, until the client has no more or none for a while.
func (s *Server) serveConn(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	var (
		open    sync.WaitGroup
		writing sync.Mutex
	)
	defer func() {
		open.Wait()
		if stop() {
			_ = c.Close()
		}
	}()
	say := func(reply []byte) {
		out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
		writing.Lock()
		defer writing.Unlock()
		_ = c.SetWriteDeadline(time.Now().Add(stuck))
		if _, err := c.Write(append(out, reply...)); err != nil {
			_ = c.Close() // half an answer may have gone out: what follows it would not be understood
		}
	}
	in := bufio.NewReader(c)
	buf := make([]byte, wire.MaxMsgSize)
	for {
		_ = c.SetReadDeadline(time.Now().Add(idle))
		var size [2]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		packet := buf[:binary.BigEndian.Uint16(size[:])]
		if _, err := io.ReadFull(in, packet); err != nil {
			return
		}
		s.take(ctx, &open, packet, wire.MaxMsgSize, say)
	}
}
