package dns

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// TestSocketsAreUsedForSome queries: not for one alone, and not for long.
func TestSocketsAreUsedForSome(t *testing.T) {
	r := resolve(t, well)
	u := &upstream{addr: r.addr}
	query, err := question("www.example.org.", wire.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]int{} // by port
	for range 3 * socketUses {
		if _, err := exchange(t.Context(), u, query); err != nil {
			t.Fatal(err)
		}
		if len(u.sockets.free) > 0 {
			uses[u.sockets.free[0].LocalAddr().String()]++
		}
	}
	if len(uses) < 3 {
		t.Errorf("ports are used %v", uses)
	}

	// One that is too old, and one that is broken, are made up for.
	u.sockets.end()
	u.sockets.over = false
	for _, harm := range []func(*socket){
		func(c *socket) { c.until = time.Now() },
		func(c *socket) { _ = c.Close() },
	} {
		if _, err := exchange(t.Context(), u, query); err != nil {
			t.Fatal(err)
		}
		was := u.sockets.free[0]
		harm(was)
		if _, err := exchange(t.Context(), u, query); err != nil || len(u.sockets.free) != 1 || u.sockets.free[0] == was {
			t.Errorf("%v, kept are %v", err, u.sockets.free)
		}
	}

	c := u.sockets.free[0]
	u.sockets.end()
	if _, err := c.Write(query); err == nil {
		t.Error("a socket is open after the end")
	}
	if _, err := exchange(t.Context(), u, query); err != nil || len(u.sockets.free) != 0 {
		t.Errorf("%v, kept after the end are %v", err, u.sockets.free)
	}
}

// TestConnsAreBounded: one too many is closed at once, datagrams are answered as ever, and there is room when one goes.
func TestConnsAreBounded(t *testing.T) {
	at := serve(t, quick(Config{Upstreams: asking()}))
	q := question("web.shop.svc.cluster.local.", wire.TypeA)
	dial := func() net.Conn {
		t.Helper()
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	answered := func(c net.Conn) error {
		conn := &wire.Conn{Conn: c}
		if err := conn.WriteMsg(q); err != nil {
			return err
		}
		_, err := conn.ReadMsg()
		return err
	}
	var open []net.Conn
	for range conns {
		c := dial()
		defer c.Close()
		if err := answered(c); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	more := dial()
	defer more.Close()
	if _, err := more.Read(make([]byte, 1)); err == nil {
		t.Error("one too many is served")
	}
	if m := ask(t, "udp", at, q); len(m.Answer) != 1 {
		t.Errorf("%s", m)
	}
	// Half closed: what was asked is answered, and then it is over.
	last := open[0].(*net.TCPConn)
	if err := answered(last); err != nil {
		t.Error(err)
	}
	_ = last.CloseWrite()
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("it ends with %v", err)
	}
	for range 1000 { // its room is free a moment later
		again := dial()
		err := answered(again)
		_ = again.Close()
		if err == nil {
			return
		}
	}
	t.Error("there is no room after one went")
}
