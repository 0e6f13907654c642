package dns

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/skerry-dev/skerry/fleet"
)

// TestZone asks for every kind of record, in every odd way. Nobody may be asked for any of it.
func TestZone(t *testing.T) {
	r := resolve(t, well)
	s := New(Config{Upstreams: asking(r)})
	s.Set(zone())
	at := serve(t, s)
	const soa = "cluster.local. SOA -"
	for _, c := range []struct {
		name              string
		kind              uint16
		rcode             int
		answer, ns, extra string
	}{
		{"web.shop.svc.cluster.local.", wire.TypeA, 0, "web.shop.svc.cluster.local. A 10.96.0.10", "", ""},
		{"web.shop.svc.cluster.local.", wire.TypeAAAA, 0, "web.shop.svc.cluster.local. AAAA fd00::10", "", ""},
		{"WeB.shop.SVC.cluster.LOCAL.", wire.TypeA, 0, "WeB.shop.SVC.cluster.LOCAL. A 10.96.0.10", "", ""},
		{"a.db.shop.svc.cluster.local.", wire.TypeAAAA, 0, "", soa, ""},
		{"web.shop.svc.cluster.local.", wire.TypeMX, 0, "", soa, ""},
		{"web.shop.svc.cluster.local.", 4711, 0, "", soa, ""},
		{"none.shop.svc.cluster.local.", wire.TypeA, wire.RcodeNameError, "", soa, ""},
		{"None.Shop.svc.CLUSTER.local.", wire.TypeA, wire.RcodeNameError, "", soa, ""},
		{"www.example.org.shop.svc.cluster.local.", wire.TypeA, wire.RcodeNameError, "", soa, ""},
		{"x.web.shop.svc.cluster.local.", wire.TypeA, wire.RcodeNameError, "", soa, ""},
		{"shop.svc.cluster.local.", wire.TypeA, 0, "", soa, ""}, // there are names below it
		{"_tcp.web.shop.svc.cluster.local.", wire.TypeSRV, 0, "", soa, ""},
		{"cluster.local.", wire.TypeA, 0, "", soa, ""},
		{"cluster.local.", wire.TypeSOA, 0, "cluster.local. SOA -", "", ""},
		{"cluster.local.", wire.TypeNS, 0, "", soa, ""},
		{"web.shop.svc.cluster.local.", wire.TypeSOA, 0, "", soa, ""},
		{`web\.shop.svc.cluster.local.`, wire.TypeA, wire.RcodeNameError, "", soa, ""},
		{`*.shop.svc.cluster.local.`, wire.TypeA, wire.RcodeNameError, "", soa, ""},
		{`\000\255\@.cluster.local.`, wire.TypeA, wire.RcodeNameError, "", soa, ""},

		{"_http._tcp.web.shop.svc.cluster.local.", wire.TypeSRV, 0,
			"_http._tcp.web.shop.svc.cluster.local. SRV 0 100 80 web.shop.svc.cluster.local.", "",
			"web.shop.svc.cluster.local. A 10.96.0.10; web.shop.svc.cluster.local. AAAA fd00::10"},
		{"_http._tcp.web.shop.svc.cluster.local.", wire.TypeA, 0, "", soa, ""},
		{"_HTTP._tcp.none.shop.svc.cluster.local.", wire.TypeSRV, wire.RcodeNameError, "", soa, ""},

		{"inside.shop.svc.cluster.local.", wire.TypeA, 0,
			"inside.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local.; web.shop.svc.cluster.local. A 10.96.0.10", "", ""},
		{"inside.shop.svc.cluster.local.", wire.TypeMX, 0, "inside.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local.", soa, ""},
		{"outside.shop.svc.cluster.local.", wire.TypeCNAME, 0, "outside.shop.svc.cluster.local. CNAME target.example.org.", "", ""},
		{"lost.shop.svc.cluster.local.", wire.TypeA, wire.RcodeNameError, "lost.shop.svc.cluster.local. CNAME none.shop.svc.cluster.local.", soa, ""},
		{"loop.shop.svc.cluster.local.", wire.TypeA, wire.RcodeServerFailure, "", "", ""},

		{"1.0.42.10.in-addr.arpa.", wire.TypePTR, 0, "1.0.42.10.in-addr.arpa. PTR a.db.shop.svc.cluster.local.", "", ""},
		{"1.0.42.10.IN-ADDR.arpa.", wire.TypePTR, 0, "1.0.42.10.IN-ADDR.arpa. PTR a.db.shop.svc.cluster.local.", "", ""},
		{"1.0.42.10.in-addr.arpa.", wire.TypeTXT, 0, "", "1.0.42.10.in-addr.arpa. SOA -", ""},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa.", wire.TypePTR, 0,
			"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa. PTR b.db.shop.svc.cluster.local.", "", ""},

		{"web.shop.svc.cluster.local.", wire.TypeANY, 0, `web.shop.svc.cluster.local. HINFO "RFC8482" ""`, "", ""},
		{"none.shop.svc.cluster.local.", wire.TypeANY, wire.RcodeNameError, "", soa, ""},
		{"www.example.org.", wire.TypeANY, 0, `www.example.org. HINFO "RFC8482" ""`, "", ""},
		{"cluster.local.", wire.TypeIXFR, wire.RcodeRefused, "", "", ""},
		{"example.org.", wire.TypeIXFR, wire.RcodeRefused, "", "", ""},
	} {
		t.Run(wire.TypeToString[c.kind]+" "+c.name, func(t *testing.T) {
			q := question(c.name, c.kind)
			q.CheckingDisabled = true
			for _, network := range []string{"udp", "tcp"} {
				m := ask(t, network, at, q)
				if m.Rcode != c.rcode || texts(m.Answer) != c.answer || texts(m.Ns) != c.ns || texts(m.Extra) != c.extra {
					t.Errorf("over %s it is\n%s", network, m)
				}
				if m.Question[0] != q.Question[0] {
					t.Errorf("the question comes back as %v", m.Question[0])
				}
				ours := strings.HasPrefix(c.name, "www.example") || c.rcode == wire.RcodeRefused || m.Authoritative
				if !m.RecursionAvailable || !m.RecursionDesired || !m.CheckingDisabled || m.AuthenticatedData || !ours {
					t.Errorf("flags are %+v", m.MsgHdr)
				}
				for _, rr := range append(append(m.Answer, m.Ns...), m.Extra...) {
					if soa, ok := rr.(*wire.SOA); rr.Header().Ttl != 5 || ok && (soa.Minttl != 5 || soa.Serial == 0) {
						t.Errorf("%s: want 5 s", rr)
					}
				}
			}
		})
	}
	if asked := r.queries(); len(asked) > 0 {
		t.Errorf("somebody else was asked: %s", asked[0])
	}
}

func TestClassesAreRefused(t *testing.T) {
	s := New(Config{Upstreams: func() []netip.AddrPort { return nil }})
	s.Set(zone())
	at := serve(t, s)
	for _, name := range []string{"web.shop.svc.cluster.local.", "1.0.42.10.in-addr.arpa."} {
		q := question(name, wire.TypeA)
		q.Question[0].Qclass = wire.ClassCHAOS
		if m := ask(t, "udp", at, q); m.Rcode != wire.RcodeRefused {
			t.Errorf("%s", m)
		}
	}
}

// TestRotates: each of several answers is first for its share.
func TestRotates(t *testing.T) {
	s := New(Config{Upstreams: func() []netip.AddrPort { return nil }})
	s.Set(zone())
	at := serve(t, s)
	first := map[string]int{}
	for range 60 {
		m := ask(t, "udp", at, question("db.shop.svc.cluster.local.", wire.TypeA))
		if len(m.Answer) != 3 {
			t.Fatalf("%s", m)
		}
		first[m.Answer[0].(*wire.A).A.String()]++
		m = ask(t, "udp", at, question("_sql._tcp.db.shop.svc.cluster.local.", wire.TypeSRV))
		if len(m.Answer) != 2 || m.Answer[0].(*wire.SRV).Weight != 50 || len(m.Extra) != 3 {
			t.Fatalf("%s", m)
		}
		first[m.Answer[0].(*wire.SRV).Target]++
	}
	for _, who := range []string{"10.42.0.1", "10.42.0.2", "10.42.0.3", "a.db.shop.svc.cluster.local.", "b.db.shop.svc.cluster.local."} {
		if first[who] < 1 {
			t.Errorf("%s is first %d times", who, first[who])
		}
	}
}

// TestSizes: what EDNS says, and what fits.
func TestSizes(t *testing.T) {
	s := New(Config{Upstreams: func() []netip.AddrPort { return nil }})
	s.Set(zone())
	at := serve(t, s)
	for _, c := range []struct {
		name, network string
		size          uint16 // 0: no EDNS
		echo          uint16
		answers       int // at most; -1: less than all, and truncated
	}{
		{"web", "udp", 0, 0, 1}, {"web", "udp", 100, 512, 1}, {"web", "udp", 700, 700, 1}, {"web", "udp", 4096, 1232, 1},
		{"mid", "udp", 0, 0, -1}, {"mid", "udp", 512, 512, -1}, {"mid", "udp", 1000, 1000, 40}, {"mid", "tcp", 0, 0, 40},
		{"big", "udp", 65535, 1232, -1}, {"big", "tcp", 0, 0, 100}, {"big", "tcp", 512, 512, 100},
	} {
		q := question(c.name+".shop.svc.cluster.local.", wire.TypeA)
		if c.size > 0 {
			q.SetEdns0(c.size, true)
		}
		m := ask(t, c.network, at, q)
		opt := m.IsEdns0()
		if (opt != nil) != (c.size > 0) || opt != nil && (opt.UDPSize() != c.echo || !opt.Do()) {
			t.Errorf("%v: EDNS is %v", c, opt)
		}
		m.Compress = true
		switch {
		case c.answers >= 0 && (m.Truncated || len(m.Answer) != c.answers):
			t.Errorf("%v: %d answers, truncated %v", c, len(m.Answer), m.Truncated)
		case c.answers < 0 && (!m.Truncated || len(m.Answer) < 20 || m.Len() > max(int(c.echo), 512)):
			t.Errorf("%v: %d answers in %d bytes, truncated %v", c, len(m.Answer), m.Len(), m.Truncated)
		}
	}
	q := question("web.shop.svc.cluster.local.", wire.TypeA)
	q.SetEdns0(1232, false)
	q.IsEdns0().SetVersion(1)
	if m := ask(t, "udp", at, q); m.Rcode != wire.RcodeBadVers || m.IsEdns0().Version() != 0 {
		t.Errorf("to EDNS of another version: %s", m)
	}
}

// TestGlueGoesFirst: an answer that is whole without it is not asked for again by TCP.
func TestGlueGoesFirst(t *testing.T) {
	z := fleet.Zone{Domain: "d", Addresses: map[string][]netip.Addr{}, Services: map[string][]fleet.SRV{}}
	z.Services["_p._tcp.s.d"] = []fleet.SRV{{Target: "t.d", Port: 1}}
	z.Addresses["t.d"] = many(100)
	s := New(Config{Upstreams: func() []netip.AddrPort { return nil }})
	s.Set(z)
	if m := ask(t, "udp", serve(t, s), question("_p._tcp.s.d.", wire.TypeSRV)); m.Truncated || len(m.Answer) != 1 || len(m.Extra) != 0 {
		t.Errorf("%s", m)
	}
}

// TestOddPackets are answered with a fault, or not at all.
func TestOddPackets(t *testing.T) {
	s := New(Config{})
	s.Set(zone())
	for _, c := range []struct{ name, packet, want string }{
		{"nothing", "", ""},
		{"half a header", "123401000001", ""},
		{"an answer", "123481800001000000000000" + "00" + "00010001", ""},
		{"no question", "123401000000000000000000", "123481810000000000000000"},
		{"a question that is not there", "123401000001000000000000", "123481810000000000000000"},
		{"two questions", "123401000002000000000000" + "0000010001" + "0000010001", "123481810000000000000000"},
		{"a name that points to itself", "123401000001000000000000" + "c00c" + "00010001", "123481810000000000000000"},
		{"a label that is too long", "123401000001000000000000" + "7f61" + "00010001", "123481810000000000000000"},
		{"two OPTs", "123401000001000000000002" + "0000010001" + "00002904d0000000000000" + "00002904d0000000000000", "123481810000000000000000"},
		{"an update", "123428000001000000000000" + "0000060001", "1234a8840000000000000000"},
		{"a notify", "123421000001000000000000" + "0000060001", "1234a1840000000000000000"},
	} {
		b, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		got, f := s.handle(b, 0)
		if hex.EncodeToString(got) != c.want || f != nil {
			t.Errorf("%s: it is %x, want %s", c.name, got, c.want)
		}
	}
}

// TestBeforeTheZone: nobody is asked for what may be ours.
func TestBeforeTheZone(t *testing.T) {
	r := resolve(t, well)
	s := New(Config{Upstreams: asking(r)})
	at := serve(t, s)
	q := question("web.shop.svc.cluster.local.", wire.TypeA)
	if m := ask(t, "udp", at, q); m.Rcode != wire.RcodeServerFailure || len(r.queries()) > 0 {
		t.Errorf("%s", m)
	}
	s.Set(fleet.Zone{})
	if m := ask(t, "udp", at, q); texts(m.Answer) != "web.shop.svc.cluster.local. A 192.0.2.1" {
		t.Errorf("without a domain: %s", m)
	}
}

// TestSwap changes the zone under load: each answer is of one zone, and serials go up.
func TestSwap(t *testing.T) {
	s := New(Config{Upstreams: func() []netip.AddrPort { return nil }})
	at := serve(t, s)
	set := func(i byte) {
		a := netip.AddrFrom4([4]byte{10, 0, 0, i})
		s.Set(fleet.Zone{
			Domain:    "d",
			Addresses: map[string][]netip.Addr{"t.d": {a, a, a}},
			Services:  map[string][]fleet.SRV{"_p._tcp.s.d": {{Target: "t.d", Port: uint16(i)}}},
		})
	}
	set(0)
	var (
		over atomic.Bool
		all  sync.WaitGroup
	)
	all.Go(func() {
		for i := byte(0); !over.Load(); i++ {
			set(i)
		}
	})
	var askers sync.WaitGroup
	for range 4 {
		askers.Go(func() {
			var last uint32
			for range 500 {
				m := ask(t, "udp", at, question("_p._tcp.s.d.", wire.TypeSRV))
				if len(m.Answer) != 1 || len(m.Extra) != 3 {
					t.Errorf("%s", m)
					return
				}
				for _, rr := range m.Extra {
					if rr.(*wire.A).A.To4()[3] != byte(m.Answer[0].(*wire.SRV).Port) {
						t.Errorf("of two zones: %s", m)
					}
				}
				m = ask(t, "udp", at, question("none.d.", wire.TypeA))
				if now := m.Ns[0].(*wire.SOA).Serial; int32(now-last) < 0 {
					t.Errorf("the serial went from %d to %d", last, now)
				} else {
					last = now
				}
			}
		})
	}
	askers.Wait()
	over.Store(true)
	all.Wait()
}
