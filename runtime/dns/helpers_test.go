package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/skerry-dev/skerry/fleet"
)

func addrs(all ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func zone() fleet.Zone {
	return fleet.Zone{
		Domain: "cluster.local",
		Addresses: map[string][]netip.Addr{
			"web.shop.svc.cluster.local":  addrs("10.96.0.10", "fd00::10"),
			"db.shop.svc.cluster.local":   addrs("10.42.0.1", "10.42.0.2", "10.42.0.3"),
			"a.db.shop.svc.cluster.local": addrs("10.42.0.1"),
			"b.db.shop.svc.cluster.local": addrs("10.42.0.2", "fd00::2"),
			"big.shop.svc.cluster.local":  many(100),
			"mid.shop.svc.cluster.local":  many(40),
		},
		Services: map[string][]fleet.SRV{
			"_http._tcp.web.shop.svc.cluster.local": {{Target: "web.shop.svc.cluster.local", Port: 80}},
			"_sql._tcp.db.shop.svc.cluster.local": {
				{Target: "a.db.shop.svc.cluster.local", Port: 5432}, {Target: "b.db.shop.svc.cluster.local", Port: 5432},
			},
		},
		Aliases: map[string]string{
			"inside.shop.svc.cluster.local":  "web.shop.svc.cluster.local",
			"outside.shop.svc.cluster.local": "target.example.org",
			"lost.shop.svc.cluster.local":    "none.shop.svc.cluster.local",
			"loop.shop.svc.cluster.local":    "pool.shop.svc.cluster.local",
			"pool.shop.svc.cluster.local":    "loop.shop.svc.cluster.local",
		},
		Names: map[netip.Addr]string{
			netip.MustParseAddr("10.42.0.1"): "a.db.shop.svc.cluster.local",
			netip.MustParseAddr("fd00::2"):   "b.db.shop.svc.cluster.local",
		},
	}
}

func many(n int) []netip.Addr {
	var out []netip.Addr
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{10, 43, 0, byte(i)}))
	}
	return out
}

// both are a socket for datagrams and one for connections, of one number.
func both(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if p, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", l.Addr().String()); err == nil {
			return p, l
		}
		_ = l.Close()
	}
	t.Fatal("no number is free for both")
	return nil, nil
}

// serve runs s on the loopback until the test is over, and returns where.
func serve(t testing.TB, s *Server) netip.AddrPort {
	t.Helper()
	p, l := both(t)
	serveOn(t, s, p, l)
	return netip.MustParseAddrPort(l.Addr().String())
}

func serveOn(t testing.TB, s *Server, p net.PacketConn, l net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, p, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// handler answers a query that a resolver is asked, by any number of calls of say.
type handler func(query *wire.Msg, tcp bool, say func(*wire.Msg))

// resolver stands in for one.
type resolver struct {
	addr  netip.AddrPort
	mu    sync.Mutex
	asked []*wire.Msg // without probes
}

func (r *resolver) queries() []*wire.Msg {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func resolve(t testing.TB, h handler) *resolver {
	t.Helper()
	p, l := both(t)
	r := &resolver{addr: netip.MustParseAddrPort(l.Addr().String())}
	take := func(b []byte, tcp bool, send func([]byte)) {
		q := new(wire.Msg)
		if err := q.Unpack(b); err != nil {
			t.Errorf("a resolver was asked something unreadable: %v: %x", err, b)
			return
		}
		if q.Question[0].Qtype != wire.TypeHINFO {
			r.mu.Lock()
			r.asked = append(r.asked, q)
			r.mu.Unlock()
		}
		h(q, tcp, func(m *wire.Msg) {
			m.Compress = true
			if out, err := m.Pack(); err == nil {
				send(out)
			}
		})
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { _, _ = p.Close(), l.Close() })
	all.Go(func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			take(buf[:n], false, func(b []byte) { _, _ = p.WriteTo(b, from) })
		}
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				var size [2]byte
				if _, err := io.ReadFull(c, size[:]); err != nil {
					return
				}
				b := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				take(b, true, func(b []byte) {
					_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
				})
			})
		}
	})
	return r
}

// well answers whatever it is asked, with one address.
func well(q *wire.Msg, _ bool, say func(*wire.Msg)) { say(reply(q, "192.0.2.1")) }

func silent(*wire.Msg, bool, func(*wire.Msg)) {}

func reply(q *wire.Msg, addrs ...string) *wire.Msg {
	m := new(wire.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	for _, a := range addrs {
		m.Answer = append(m.Answer, &wire.A{Hdr: wire.RR_Header{Name: q.Question[0].Name, Rrtype: wire.TypeA, Class: wire.ClassINET, Ttl: 60}, A: net.ParseIP(a)})
	}
	return m
}

func asking(all ...*resolver) func() []netip.AddrPort {
	var out []netip.AddrPort
	for _, r := range all {
		out = append(out, r.addr)
	}
	return func() []netip.AddrPort { return out }
}

// ask asks over network, within ten seconds.
func ask(t testing.TB, network string, at netip.AddrPort, q *wire.Msg) *wire.Msg {
	t.Helper()
	c := &wire.Client{Net: network, Timeout: 10 * time.Second, UDPSize: 65535}
	m, _, err := c.ExchangeContext(t.Context(), q, at.String())
	if err != nil {
		t.Fatalf("%s: %v", q.Question[0].String(), err)
	}
	return m
}

func question(name string, kind uint16) *wire.Msg { return new(wire.Msg).SetQuestion(name, kind) }

// texts are the records in one line each, with single spaces, without TTL and class.
func texts(rrs []wire.RR) string {
	var out []string
	for _, rr := range rrs {
		if rr.Header().Rrtype == wire.TypeOPT {
			continue
		}
		f := strings.Fields(rr.String())
		if rr.Header().Rrtype == wire.TypeSOA {
			f = append(f[:4:4], "-")
		}
		out = append(out, strings.Join(append(f[:1:1], f[3:]...), " "))
	}
	return strings.Join(out, "; ")
}

// journal is a log to look into.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }
