package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// alive finds out about a side that went without a word, in ten minutes. The default of Go would end connections over a cable
// that was out for two.
var alive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Minute, Interval: 30 * time.Second, Count: 10}

// tcpDoor is a node port of TCP.
type tcpDoor struct {
	proxy    *Proxy
	listener *net.TCPListener

	mu     sync.Mutex
	choice choice
}

// listenTCP opens a port without ends.
func (p *Proxy) listenTCP(ctx context.Context, at string) (*tcpDoor, error) {
	config := net.ListenConfig{KeepAliveConfig: alive}
	// The kernel moves data between sockets of plain TCP without a copy, and the ends are spoken to by that anyway.
	config.SetMultipathTCP(false)
	l, err := config.Listen(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	d := &tcpDoor{proxy: p, listener: l.(*net.TCPListener)}
	p.life.begin(d.accept)
	return d, nil
}

func (d *tcpDoor) serve(f fleet.Front) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.choice.serve(f)
}

func (d *tcpDoor) close() { _ = d.listener.Close() }

// accept takes connections until the door is closed.
func (d *tcpDoor) accept(ctx context.Context) {
	for {
		client, err := d.listener.AcceptTCP()
		if err == nil {
			d.proxy.life.begin(func(ctx context.Context) { d.lead(ctx, client) })
		} else if d.proxy.failed(ctx, "accept a connection", err) {
			return
		}
	}
}

// lead leads a client to an end, until both have said all.
func (d *tcpDoor) lead(ctx context.Context, client *net.TCPConn) {
	end := d.connect(ctx, client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
	if end == nil {
		reset(client)
		return
	}
	stop := context.AfterFunc(ctx, func() {
		reset(client)
		reset(end)
	})
	defer stop()
	relay(client, end)
}

// connect is a connection to an end that takes one; nil when none does.
func (d *tcpDoor) connect(ctx context.Context, client netip.Addr) *net.TCPConn {
	dialer := net.Dialer{Timeout: d.proxy.limits.dial, KeepAliveConfig: alive}
	var tried []fleet.End
	for {
		end, service, ok := d.next(client, tried)
		if !ok {
			return nil
		}
		c, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, netip.AddrPortFrom(end.Addr, end.Port))
		if err == nil {
			return c
		}
		if ctx.Err() != nil {
			return nil
		}
		d.proxy.log.Debug("an end of a service takes no connection", "service", service, "err", plain(err))
		tried = append(tried, end)
	}
}

// next is the end to try now. It is asked before each try, so that one that has gone meanwhile is not tried.
func (d *tcpDoor) next(client netip.Addr, tried []fleet.End) (fleet.End, fleet.ObjectID, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	end, ok := d.choice.next(client, tried, time.Now(), draw)
	return end, d.choice.front.Service, ok
}

// plain leaves our own port out of an error, which is another every time.
func plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		op.Source = nil
		return op
	}
	return err
}
