package etcd

import (
	"context"
	"net"
	"sync"
	"testing"
)

// proxy passes connections on, until it is cut: then nothing passes, and nobody is told. What waited passes when it is healed, as
// after a partition.
type proxy struct {
	listener net.Listener
	to       string
	ctx      context.Context //nolint:containedctx // what its goroutines live in
	loops    sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while it passes
	conns []net.Conn
}

// passing starts a proxy to an address, and ends it with the test.
func passing(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return proxied(t, l, to)
}

func proxied(t *testing.T, l net.Listener, to string) *proxy {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p := &proxy{listener: l, to: to, ctx: ctx, open: make(chan struct{})}
	close(p.open)
	p.loops.Go(p.accept)
	t.Cleanup(func() {
		cancel()
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.loops.Wait()
	})
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default:
	}
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// sever ends the connections that there are; others may be made.
func (p *proxy) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// pass waits until something may pass.
func (p *proxy) pass() bool {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
		return true
	case <-p.ctx.Done():
		return false
	}
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
	if p.ctx.Err() != nil {
		c.Close()
	}
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.keep(in)
		p.loops.Go(func() {
			defer in.Close()
			if !p.pass() {
				return
			}
			out, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.to)
			if err != nil {
				return
			}
			p.keep(out)
			defer out.Close()
			p.loops.Go(func() { p.copy(in, out) })
			p.copy(out, in)
		})
	}
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if !p.pass() {
			return
		}
		if _, failed := to.Write(buf[:n]); failed != nil || err != nil {
			return
		}
	}
}
