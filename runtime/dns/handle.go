package dns

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"

	wire "github.com/miekg/dns"
)

const headerSize = 12

// handle makes of a packet what is to be said at once, or what is to be passed on; or neither, and silence is the answer. It waits for
// nothing. Limit is the largest answer that fits; 0 says that the client has a word in it (datagrams).
func (s *Server) handle(packet []byte, limit int) (reply []byte, f *forward) {
	// A mistake of ours or of the library costs the client an answer, and not the node its agent.
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("a query could not be answered", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			reply, f = nil, nil
		}
	}()
	return s.respond(packet, limit)
}

// respond is handle, without its net.
func (s *Server) respond(packet []byte, limit int) ([]byte, *forward) {
	if len(packet) < headerSize || packet[2]&0x80 != 0 {
		return nil, nil // an answer to an answer might never end
	}
	if packet[2]>>3&0xF != wire.OpcodeQuery {
		return bare(packet, wire.RcodeNotImplemented), nil
	}
	q := new(wire.Msg)
	if err := q.Unpack(packet); err != nil || len(q.Question) != 1 {
		return bare(packet, wire.RcodeFormatError), nil
	}
	opt, ok := edns(q)
	if !ok {
		return bare(packet, wire.RcodeFormatError), nil
	}
	if limit == 0 {
		limit = wire.MinMsgSize
		if opt != nil {
			limit = int(opt.UDPSize())
		}
	}
	a := &answering{query: q, opt: opt, limit: limit}
	if opt != nil && opt.Version() != 0 {
		return a.pack(found{rcode: wire.RcodeBadVers}, false), nil
	}
	question := q.Question[0]
	if question.Qtype == wire.TypeHINFO && s.cameBack(question.Name) {
		return a.pack(found{rcode: wire.RcodeRefused}, false), nil
	}
	t := s.table.Load()
	if t == nil {
		return a.pack(found{rcode: wire.RcodeServerFailure}, false), nil
	}
	here, ours := t.find(question, rand.Uint32())
	switch {
	case ours && here.follow == "":
		return a.pack(here, true), nil
	case ours:
		question.Name, question.Qclass = here.follow, wire.ClassINET
		return nil, &forward{answering: a, question: question, aliases: here.answer}
	case question.Qtype == wire.TypeAXFR, question.Qtype == wire.TypeIXFR:
		return a.pack(found{rcode: wire.RcodeRefused}, false), nil
	case question.Qtype == wire.TypeANY: // RFC 8482: most of the world says the same
		return a.pack(found{answer: []wire.RR{&wire.HINFO{Hdr: header(question.Name, wire.TypeHINFO), Cpu: "RFC8482"}}}, false), nil
	}
	return nil, &forward{answering: a, question: question}
}

// edns is the query's OPT record, with a payload size that we would use; nil when it has none. More than one is a fault of form.
func edns(q *wire.Msg) (opt *wire.OPT, ok bool) {
	for _, rr := range q.Extra {
		if o, is := rr.(*wire.OPT); is {
			if opt != nil {
				return nil, false
			}
			opt = o
		}
	}
	if opt != nil {
		opt.SetUDPSize(min(max(opt.UDPSize(), wire.MinMsgSize), payload))
	}
	return opt, true
}

// answering is a query whose answer is being made.
type answering struct {
	query *wire.Msg
	opt   *wire.OPT // nil: the client has no EDNS
	limit int       // bytes
}

// pack is f as the answer.
func (a *answering) pack(f found, authoritative bool) []byte {
	m := new(wire.Msg)
	m.SetRcode(a.query, f.rcode)
	m.Authoritative, m.RecursionAvailable, m.CheckingDisabled = authoritative, true, a.query.CheckingDisabled
	m.Answer, m.Ns, m.Extra = f.answer, f.ns, f.extra
	if a.opt != nil {
		o := &wire.OPT{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeOPT}}
		o.SetUDPSize(a.opt.UDPSize())
		if a.opt.Do() {
			o.SetDo()
		}
		m.Extra = append(m.Extra, o)
	}
	return a.fit(m)
}

// fit packs m so that it fits. What is only there for comfort goes first, and is not worth asking again.
func (a *answering) fit(m *wire.Msg) []byte {
	m.Compress = true
	if opt := m.IsEdns0(); m.Len() > a.limit && len(m.Extra) > 0 {
		m.Extra = nil
		if opt != nil {
			m.Extra = []wire.RR{opt}
		}
	}
	m.Truncate(a.limit)
	b, err := m.Pack()
	if err != nil { // a name in the zone that is none
		m.Answer, m.Ns, m.Extra, m.Rcode = nil, nil, nil, wire.RcodeServerFailure
		if b, err = m.Pack(); err != nil {
			return nil
		}
	}
	return b
}

// bare is an answer of a header alone, to a query that could not be read.
func bare(packet []byte, rcode int) []byte {
	b := make([]byte, headerSize)
	copy(b, packet[:2])
	b[2] = 0x80 | packet[2]&0x79 // an answer; the opcode and RD are the query's
	b[3] = 0x80 | byte(rcode)
	return b
}
