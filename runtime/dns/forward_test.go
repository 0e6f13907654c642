package dns

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// quick is a Server that does not wait long.
func quick(c Config) *Server {
	s := New(c)
	s.patience, s.budget = 50*time.Millisecond, 600*time.Millisecond
	s.Set(zone())
	return s
}

func TestForwards(t *testing.T) {
	r := resolve(t, well)
	at := serve(t, quick(Config{Upstreams: asking(r)}))
	q := question("wWw.Example.ORG.", wire.TypeA)
	q.SetEdns0(4096, true)
	q.CheckingDisabled = true
	opt := q.IsEdns0()
	opt.Option = append(opt.Option, &wire.EDNS0_COOKIE{Code: wire.EDNS0COOKIE, Cookie: "0102030405060708"}, &wire.EDNS0_NSID{Code: wire.EDNS0NSID})
	for _, network := range []string{"udp", "tcp"} {
		m := ask(t, network, at, q)
		if texts(m.Answer) != "wWw.Example.ORG. A 192.0.2.1" || m.Rcode != 0 || m.Question[0] != q.Question[0] {
			t.Errorf("%s", m)
		}
	}
	asked := r.queries()[0]
	got := asked.IsEdns0()
	if asked.Question[0] != q.Question[0] || !asked.CheckingDisabled || !asked.RecursionDesired || asked.Id == q.Id {
		t.Errorf("asked is %s", asked)
	}
	if got == nil || !got.Do() || got.UDPSize() != 1232 || len(got.Option) != 1 || got.Option[0].Option() != wire.EDNS0NSID {
		t.Errorf("EDNS is passed on as %v", got)
	}
	if m := ask(t, "udp", at, question("9.9.42.10.in-addr.arpa.", wire.TypePTR)); m.Rcode != 0 || len(r.queries()) != 3 {
		t.Errorf("addresses that are not in the zone: %s", m)
	}
	if r.queries()[2].IsEdns0() != nil {
		t.Error("the client had no EDNS")
	}
	// A dot in a label makes it no name of ours.
	if m := ask(t, "udp", at, question(`x\.cluster.local.`, wire.TypeA)); len(m.Answer) != 1 {
		t.Errorf("%s", m)
	}
}

// TestFollowsAliases out of the zone, with whatever comes of it.
func TestFollowsAliases(t *testing.T) {
	r := resolve(t, func(q *wire.Msg, _ bool, say func(*wire.Msg)) {
		m := reply(q, "192.0.2.7")
		switch q.Question[0].Qtype {
		case wire.TypeMX:
			m = reply(q)
			m.Rcode = wire.RcodeNameError
		case wire.TypeAAAA:
			m = reply(q)
			m.Rcode = wire.RcodeServerFailure
		}
		say(m)
	})
	at := serve(t, quick(Config{Upstreams: asking(r)}))
	const name, alias = "Outside.shop.svc.cluster.local.", "Outside.shop.svc.cluster.local. CNAME target.example.org."
	for _, c := range []struct {
		kind   uint16
		rcode  int
		answer string
	}{
		{wire.TypeA, 0, alias + "; target.example.org. A 192.0.2.7"},
		{wire.TypeMX, wire.RcodeNameError, alias},
		{wire.TypeAAAA, wire.RcodeServerFailure, alias},
	} {
		m := ask(t, "udp", at, question(name, c.kind))
		if m.Rcode != c.rcode || texts(m.Answer) != c.answer || m.Question[0].Name != name {
			t.Errorf("%s", m)
		}
	}
	for _, q := range r.queries() {
		if q.Question[0].Name != "target.example.org." {
			t.Errorf("asked for %s", q.Question[0].Name)
		}
	}
}

// TestTruncated replies are had whole by TCP, and the client's own size holds again.
func TestTruncated(t *testing.T) {
	all := make([]string, 60)
	for i := range all {
		all[i] = "192.0.2.1"
	}
	r := resolve(t, func(q *wire.Msg, tcp bool, say func(*wire.Msg)) {
		m := reply(q, all...)
		if !tcp {
			m.Truncated, m.Answer = true, m.Answer[:1]
		}
		say(m)
	})
	at := serve(t, quick(Config{Upstreams: asking(r)}))
	if m := ask(t, "tcp", at, question("big.example.org.", wire.TypeA)); m.Truncated || len(m.Answer) != 60 {
		t.Errorf("over tcp: %d answers, truncated %v", len(m.Answer), m.Truncated)
	}
	if m := ask(t, "udp", at, question("big.example.org.", wire.TypeA)); !m.Truncated || len(m.Answer) < 10 {
		t.Errorf("over udp: %d answers, truncated %v", len(m.Answer), m.Truncated)
	}
	q := question("big.example.org.", wire.TypeA)
	q.SetEdns0(1232, false)
	if m := ask(t, "udp", at, q); m.Truncated || len(m.Answer) != 60 {
		t.Errorf("over udp with EDNS: %d answers, truncated %v", len(m.Answer), m.Truncated)
	}
}

// TestStrayReplies are passed over until the true one comes.
func TestStrayReplies(t *testing.T) {
	r := resolve(t, func(q *wire.Msg, _ bool, say func(*wire.Msg)) {
		bad := func(change func(*wire.Msg)) {
			m := reply(q, "203.0.113.66")
			m.Question = append([]wire.Question(nil), q.Question...)
			change(m)
			say(m)
		}
		bad(func(m *wire.Msg) { m.Id++ })
		bad(func(m *wire.Msg) { m.Response = false })
		bad(func(m *wire.Msg) { m.Question[0].Name = "other.example.org." })
		bad(func(m *wire.Msg) { m.Question[0].Qtype = wire.TypeAAAA })
		bad(func(m *wire.Msg) { m.Question = nil })
		bad(func(m *wire.Msg) { m.Question = append(m.Question, m.Question[0]) })
		m := reply(q, "192.0.2.1")
		m.Question = []wire.Question{{Name: strings.ToLower(q.Question[0].Name), Qtype: q.Question[0].Qtype, Qclass: wire.ClassINET}}
		say(m)
		say(reply(q, "203.0.113.67"))
	})
	at := serve(t, quick(Config{Upstreams: asking(r)}))
	for range 20 {
		m := ask(t, "udp", at, question("wWw.Example.org.", wire.TypeA))
		if texts(m.Answer) != "wWw.Example.org. A 192.0.2.1" || m.Question[0].Name != "wWw.Example.org." {
			t.Fatalf("%s", m)
		}
	}
}

// closed is where nobody listens, and nobody will: a socket that hears one address alone holds the port until the test ends, or the
// server under test could be given it and would be asked by itself.
func closed(t *testing.T) netip.AddrPort {
	here := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0"))
	c, err := net.DialUDP("udp4", here, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:9")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

// TestFailover: one after another is asked, those that do not answer last.
func TestFailover(t *testing.T) {
	refusing := func(q *wire.Msg, _ bool, say func(*wire.Msg)) {
		m := reply(q)
		m.Rcode = wire.RcodeRefused
		say(m)
	}
	short := func(q *wire.Msg, _ bool, say func(*wire.Msg)) { // says no more than that it will not
		m := reply(q)
		m.Rcode, m.Question = wire.RcodeServerFailure, nil
		say(m)
	}
	for _, c := range []struct {
		name  string
		first handler // nil: nobody is there
		wait  bool    // the first query pays for it
		log   string
	}{
		{"gone", nil, false, "connection refused"},
		{"silent", silent, true, "does not answer in time"},
		{"refusing", refusing, false, ""},
		{"short", short, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log journal
			second := resolve(t, well)
			at := closed(t)
			var first *resolver
			if c.first != nil {
				first = resolve(t, c.first)
				at = first.addr
			}
			s := quick(Config{Log: log.logger(), Upstreams: func() []netip.AddrPort { return []netip.AddrPort{at, second.addr} }})
			here := serve(t, s)
			for i := range 5 {
				began := time.Now()
				m := ask(t, "udp", here, question("www.example.org.", wire.TypeA))
				if m.Rcode != 0 || len(m.Answer) != 1 {
					t.Errorf("%s", m)
				}
				if took := time.Since(began); c.wait && i == 0 && took < s.patience {
					t.Errorf("it took %s", took)
				}
			}
			if said := log.String(); c.log != "" && strings.Count(said, c.log) != 1 || c.log == "" && said != "" {
				t.Errorf("the log is %q", said)
			}
			if c.wait && len(first.queries()) != 1 {
				t.Errorf("who is silent was asked %d times", len(first.queries()))
			}
		})
	}
}

// TestSlow: whoever takes longer than we have patience with is heard all the same, and one that lost a query is asked again.
func TestSlow(t *testing.T) {
	var n int
	lossy := resolve(t, func(q *wire.Msg, tcp bool, say func(*wire.Msg)) {
		if q.Question[0].Qtype != wire.TypeA {
			return
		}
		if n++; n%2 == 0 {
			well(q, tcp, say)
		}
	})
	if m := ask(t, "udp", serve(t, quick(Config{Upstreams: asking(lossy)})), question("www.example.org.", wire.TypeA)); len(m.Answer) != 1 {
		t.Errorf("a lost query: %s", m)
	}
	slow := resolve(t, func(q *wire.Msg, tcp bool, say func(*wire.Msg)) {
		time.AfterFunc(150*time.Millisecond, func() { well(q, tcp, say) })
	})
	// A client that has nothing more to ask still waits for what it has asked.
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", serve(t, quick(Config{Upstreams: asking(slow)})).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn := &wire.Conn{Conn: c}
	if err := conn.WriteMsg(question("www.example.org.", wire.TypeA)); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if m, err := conn.ReadMsg(); err != nil || len(m.Answer) != 1 {
		t.Errorf("half closed: %v, %v", err, m)
	}
	dead := resolve(t, silent)
	m := ask(t, "udp", serve(t, quick(Config{Upstreams: asking(slow, dead)})), question("www.example.org.", wire.TypeA))
	if len(m.Answer) != 1 {
		t.Errorf("a slow resolver: %s", m)
	}
}

// TestNobodyAnswers: the client hears so in time, and the zone's answers do not wait.
func TestNobodyAnswers(t *testing.T) {
	dead := resolve(t, silent)
	s := quick(Config{Upstreams: asking(dead)})
	s.budget = 2 * time.Second
	at := serve(t, s)

	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	// More than may wait, and then one for the zone: on the same connection it is answered first.
	conn := &wire.Conn{Conn: c}
	for range 5 {
		if err := conn.WriteMsg(question("www.example.org.", wire.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.WriteMsg(question("web.shop.svc.cluster.local.", wire.TypeA)); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if zone := len(m.Answer) == 1; zone != (i == 0) || !zone && m.Rcode != wire.RcodeServerFailure {
			t.Errorf("answer %d is %s", i, m)
		}
		if i == 0 && time.Since(began) > time.Second {
			t.Errorf("the zone's answer took %s", time.Since(began))
		}
	}
	if took := time.Since(began); took < s.budget || took > s.budget+3*time.Second {
		t.Errorf("nobody's answer took %s", took)
	}
	if m := ask(t, "udp", serve(t, quick(Config{Upstreams: asking()})), question("www.example.org.", wire.TypeA)); m.Rcode != wire.RcodeServerFailure {
		t.Errorf("without resolvers: %s", m)
	}
}

// TestForwardsAreBounded: what is too many hears so at once.
func TestForwardsAreBounded(t *testing.T) {
	arrived := make(chan struct{}, 100)
	dead := resolve(t, func(*wire.Msg, bool, func(*wire.Msg)) { arrived <- struct{}{} })
	s := quick(Config{Upstreams: asking(dead)})
	s.slots = make(chan struct{}, 4)
	s.patience, s.budget = time.Minute, time.Minute
	at := serve(t, s)
	<-arrived // the probe
	c, err := wire.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 4 {
		if err := c.WriteMsg(question("www.example.org.", wire.TypeA)); err != nil {
			t.Fatal(err)
		}
		<-arrived
	}
	if m := ask(t, "udp", at, question("www.example.org.", wire.TypeA)); m.Rcode != wire.RcodeServerFailure {
		t.Errorf("%s", m)
	}
	if m := ask(t, "udp", at, question("web.shop.svc.cluster.local.", wire.TypeA)); len(m.Answer) != 1 {
		t.Errorf("%s", m)
	}
}

// TestServeEnds when its context does, with all that waits, and says so when a socket goes by itself.
func TestServeEnds(t *testing.T) {
	arrived := make(chan struct{}, 100)
	dead := resolve(t, func(*wire.Msg, bool, func(*wire.Msg)) { arrived <- struct{}{} })
	for _, way := range []string{"context", "packets", "listener"} {
		s := quick(Config{Upstreams: asking(dead)})
		s.patience, s.budget = time.Minute, time.Minute
		p, l := both(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, p, l) }()
		<-arrived
		for _, network := range []string{"udp", "tcp"} {
			c, err := wire.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.WriteMsg(question("www.example.org.", wire.TypeA)); err != nil {
				t.Fatal(err)
			}
			<-arrived
		}
		switch way {
		case "packets":
			_ = p.Close()
		case "listener":
			_ = l.Close()
		default:
			cancel()
		}
		if err := <-done; (err != nil) != (way != "context") {
			t.Errorf("by %s it ends with %v", way, err)
		}
		cancel()
	}
}
