package dns

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// TestLoops: what is ourselves is left out, whether its address says so or a probe comes back by way of another.
func TestLoops(t *testing.T) {
	for _, way := range []string{"address", "probe"} {
		t.Run(way, func(t *testing.T) {
			var (
				log    journal
				here   netip.AddrPort
				hops   atomic.Int32
				probed = make(chan struct{}, 100)
			)
			p, l := both(t)
			here = netip.MustParseAddrPort(l.Addr().String())
			good := resolve(t, well)
			relay := resolve(t, func(q *wire.Msg, _ bool, say func(*wire.Msg)) {
				if q.Question[0].Qtype == wire.TypeHINFO {
					defer func() { probed <- struct{}{} }()
				} else {
					hops.Add(1)
				}
				c := &wire.Client{Timeout: 5 * time.Second}
				m, _, err := c.Exchange(q, here.String())
				if err == nil {
					say(m)
				}
			})
			first := here
			if way == "probe" {
				first = relay.addr
			}
			s := quick(Config{Log: log.logger(), Upstreams: func() []netip.AddrPort { return []netip.AddrPort{first, good.addr} }})
			serveOn(t, s, p, l)
			if way == "probe" {
				<-probed
			}
			for range 3 {
				if m := ask(t, "udp", here, question("www.example.org.", wire.TypeA)); texts(m.Answer) != "www.example.org. A 192.0.2.1" {
					t.Errorf("%s", m)
				}
			}
			if said := log.String(); strings.Count(said, "left out") != 1 || !strings.Contains(said, first.String()) {
				t.Errorf("the log is %q", said)
			}
			if n := hops.Load(); n > 0 {
				t.Errorf("a query went round %d times", n)
			}
		})
	}
}

// TestOwnAddress is left out at once, before any probe could tell.
func TestOwnAddress(t *testing.T) {
	ports := func(all ...string) (out []netip.AddrPort) {
		for _, a := range all {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	list := ports("127.0.0.1:1", "127.0.0.1:2", "127.0.0.2:1", "127.0.0.3:3", "[::1]:3")
	s := quick(Config{Upstreams: func() []netip.AddrPort { return list }})
	s.upstream.self = ports("127.0.0.1:1", "[::]:3")
	defer s.work.Wait()
	var got []netip.AddrPort
	for _, u := range s.resolvers(t.Context()) {
		got = append(got, u.addr)
	}
	if want := list[1:3]; !slices.Equal(got, want) {
		t.Errorf("they are %v, want %v", got, want)
	}
}

// TestLoopEnds: a resolver that is not ourselves any more is asked again.
func TestLoopEnds(t *testing.T) {
	var log journal
	r := resolve(t, well)
	s := quick(Config{Log: log.logger(), Upstreams: asking(r)})
	u := &upstream{addr: r.addr}
	s.leaveOut(u)
	s.probe(t.Context(), u)
	if u.ours.Load() || !strings.Contains(log.String(), "asked again") {
		t.Errorf("the log is %q", log.String())
	}
}

// TestListIsRenewed at most once a second, and what is known of a resolver stays known.
func TestListIsRenewed(t *testing.T) {
	var n atomic.Int32
	a, b := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	list := []netip.AddrPort{a, a, netip.MustParseAddrPort("[::ffff:127.0.0.1]:1"), {}}
	s := quick(Config{Upstreams: func() []netip.AddrPort { n.Add(1); return list }})
	ctx := t.Context()
	defer s.work.Wait()
	first := s.resolvers(ctx)
	if len(first) != 1 || n.Load() != 1 {
		t.Fatalf("they are %v", first)
	}
	s.rests(first[0], errLate)
	list = []netip.AddrPort{a, b}
	if s.resolvers(ctx); n.Load() != 1 {
		t.Error("looked again at once")
	}
	s.upstream.looked.Store(0)
	got := s.resolvers(ctx)
	if len(got) != 2 || got[0].addr != b || got[1] != first[0] {
		t.Errorf("they are %v", got)
	}
}

func TestResolvConf(t *testing.T) {
	dir := t.TempDir()
	r := resolvConf{path: filepath.Join(dir, "resolv.conf"), behind: filepath.Join(dir, "behind.conf")}
	var log journal
	r.log = log.logger()
	when := time.Unix(1e9, 0)
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		when = when.Add(time.Second)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want ...string) {
		t.Helper()
		var got []string
		for _, a := range r.read() {
			got = append(got, a.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("they are %q, want %q", got, want)
		}
	}
	is()
	if strings.Count(log.String(), "cannot read") != 1 {
		t.Errorf("the log is %q", log.String())
	}
	write(r.path, "# nameserver 1.1.1.1\nsearch a b\nnameserver 192.0.2.1 # x\n nameserver\tfe80::1%eth0\nnameserver\nnameserver nobody\noptions ndots:1\n")
	is("192.0.2.1:53", "[fe80::1%eth0]:53")
	write(r.path, "nameserver 127.0.0.53\n")
	is("127.0.0.53:53") // better than nobody
	write(r.behind, "nameserver 192.0.2.2\nnameserver 192.0.2.3\n")
	is("192.0.2.2:53", "192.0.2.3:53")
	write(r.behind, "nameserver 192.0.2.4\nnameserver 192.0.2.3\n")
	is("192.0.2.4:53", "192.0.2.3:53")
	write(r.path, "") // it is being written
	is("192.0.2.4:53", "192.0.2.3:53")
	write(r.path, "nameserver 192.0.2.5\n")
	is("192.0.2.5:53")
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	is("192.0.2.5:53")

	seen := r.seen
	write(r.path, "nameserver 192.0.2.6\n")
	is("192.0.2.6:53")
	if same(seen[0], r.seen[0]) {
		t.Error("a file that changed is taken for the same")
	}
	before := &r.known[0]
	if after := &r.read()[0]; before != after {
		t.Error("a file that did not change was read again")
	}
}

func TestReverse(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"1.0.42.10.in-addr.arpa", "10.42.0.1"}, {"0.42.10.in-addr.arpa", ""}, {"x.1.0.42.10.in-addr.arpa", ""},
		{"256.0.42.10.in-addr.arpa", ""}, {"01.0.42.10.in-addr.arpa", ""}, {"in-addr.arpa", ""}, {".ip6.arpa", ""},
		{strings.Repeat("0.", 31) + "f.ip6.arpa", "f000::"}, {strings.Repeat("0.", 30) + "f.ip6.arpa", ""},
		{strings.Repeat("0.", 31) + "g.ip6.arpa", ""}, {strings.Repeat("00", 31) + "f.ip6.arpa", ""},
		{"1" + strings.Repeat(".0", 31) + ".ip6.arpa", "::1"}, {"::1.ip6.arpa", ""}, {"+" + strings.Repeat(".0", 31) + ".ip6.arpa", ""},
	} {
		got, ok := reverse(c.name)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s is %v", c.name, got)
		}
	}
}

// TestOtherSockets: it need not be the kernel.
func TestOtherSockets(t *testing.T) {
	p, l := both(t)
	s := quick(Config{Upstreams: func() []netip.AddrPort { return nil }})
	serveOn(t, s, struct{ net.PacketConn }{p}, l)
	if m := ask(t, "udp", netip.MustParseAddrPort(l.Addr().String()), question("web.shop.svc.cluster.local.", wire.TypeA)); len(m.Answer) != 1 {
		t.Errorf("%s", m)
	}
}
