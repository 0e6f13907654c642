package dns

import (
	"bytes"
	"testing"

	wire "github.com/miekg/dns"
)

// FuzzHandle gives queries and resolvers' replies as raw packets. Nothing may panic, nothing of the zone may be passed on, and what is
// said is readable, fits, and is an answer to what was asked.
func FuzzHandle(f *testing.F) {
	s := New(Config{})
	s.Set(zone())
	for _, c := range []struct {
		name string
		kind uint16
	}{
		{"web.shop.svc.cluster.local.", wire.TypeA}, {"big.shop.svc.cluster.local.", wire.TypeA}, {"_sql._tcp.db.shop.svc.cluster.local.", wire.TypeSRV},
		{"outside.shop.svc.cluster.local.", wire.TypeA}, {"www.example.org.", wire.TypeAAAA}, {"1.0.42.10.in-addr.arpa.", wire.TypePTR},
		{`a\.b.cluster.local.`, wire.TypeANY}, {".", wire.TypeNS}, {"none.cluster.local.", wire.TypeIXFR},
	} {
		q := question(c.name, c.kind)
		q.SetEdns0(1400, true)
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		r, err := reply(q, "192.0.2.1", "192.0.2.2").Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, r)
	}
	f.Fuzz(func(t *testing.T, packet, reply []byte) {
		was := bytes.Clone(packet)
		out, fwd := s.respond(packet, 0)
		if !bytes.Equal(was, packet) {
			t.Fatal("the packet was written to")
		}
		if fwd != nil {
			if out != nil {
				t.Fatal("both an answer and a question")
			}
			if t2 := s.table.Load(); below(key(fwd.question.Name), t2.Domain) {
				t.Fatalf("%s is passed on", fwd.question.Name)
			}
			query, err := fwd.ask()
			if err != nil {
				return
			}
			if len(reply) >= 2 { // or hardly any would be looked at
				copy(reply, query[:2])
			}
			if !answersTo(query, reply) {
				return
			}
			_ = passes(reply)
			out = fwd.answer(query, reply)
			// What a resolver says is passed on as it is, if it fits.
			if len(out) < headerSize || out[0] != packet[0] || out[1] != packet[1] || len(out) > fwd.limit {
				t.Fatalf("the answer to %x is %x", packet, out)
			}
			return
		}
		if out == nil {
			return
		}
		m := new(wire.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatalf("%x: %v", out, err)
		}
		if !m.Response || out[0] != packet[0] || out[1] != packet[1] || len(out) > payload {
			t.Fatalf("the answer to %x is %s", packet, m)
		}
	})
}
