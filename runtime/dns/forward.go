package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	wire "github.com/miekg/dns"
)

// forward is a query that resolvers have to answer, wholly or from an alias on.
type forward struct {
	*answering
	question wire.Question // what they are asked
	aliases  []wire.RR     // what we know already
}

var errNobody = errors.New("there is no resolver to ask")

// forward is the answer to f: SERVFAIL when nobody answers in time.
func (s *Server) forward(ctx context.Context, f *forward) (reply []byte) {
	defer func() { // as in handle
		if r := recover(); r != nil {
			s.log.Error("a resolver's answer could not be passed on", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			reply = nil
		}
	}()
	query, err := f.ask()
	if err == nil {
		reply, err = s.ask(ctx, query)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // we are ending, and somebody else may answer
		}
		return f.pack(found{rcode: wire.RcodeServerFailure}, false)
	}
	return f.answer(query, reply)
}

// ask is the query as resolvers are asked it. Of EDNS it has what is meant for whoever answers, and not what is between us and
// the client.
func (f *forward) ask() ([]byte, error) {
	m := &wire.Msg{MsgHdr: f.query.MsgHdr, Question: []wire.Question{f.question}}
	m.Rcode = 0
	if f.opt != nil {
		o := *f.opt
		o.Option = nil
		for _, each := range f.opt.Option {
			if c := each.Option(); c != wire.EDNS0COOKIE && c != wire.EDNS0TCPKEEPALIVE {
				o.Option = append(o.Option, each)
			}
		}
		m.Extra = []wire.RR{&o}
	}
	return m.Pack()
}

// answer makes of a resolver's reply to query the client's.
func (f *forward) answer(query, reply []byte) []byte {
	if len(f.aliases) == 0 && len(reply) <= f.limit && binary.BigEndian.Uint16(reply[4:]) == 1 {
		// As it came, but for the ID and the case of the name, which are the client's.
		out := bytes.Clone(reply)
		binary.BigEndian.PutUint16(out, f.query.Id)
		copy(out[headerSize:], query[headerSize:questionEnd(query)])
		return out
	}
	m := new(wire.Msg)
	if err := m.Unpack(reply); err != nil {
		return f.pack(found{rcode: wire.RcodeServerFailure}, false)
	}
	m.Id, m.Question, m.Authoritative = f.query.Id, f.query.Question, m.Authoritative && len(f.aliases) == 0
	m.Answer = append(f.aliases[:len(f.aliases):len(f.aliases)], m.Answer...)
	return f.fit(m)
}

// ask is the reply of the first resolver that has one. They are begun with one after another, as soon as the one before has
// failed or has had its time, twice in all; none is given up before there is an answer.
func (s *Server) ask(ctx context.Context, query []byte) ([]byte, error) {
	all := s.resolvers(ctx)
	if len(all) == 0 {
		return nil, errNobody
	}
	ctx, cancel := context.WithTimeout(ctx, s.budget)
	defer cancel()

	type result struct {
		who   int
		reply []byte
		err   error
	}
	var (
		results = make(chan result, 2*len(all))
		spoken  = make([]bool, len(all)) // these have answered, or cannot
		late    = make([]bool, len(all))
		next    int
		running int
		second  []byte // an answer that is none, for want of a better one
		failed  = errNobody
	)
	begin := func() {
		for ; next < 2*len(all); next++ {
			who := next % len(all)
			if spoken[who] {
				continue
			}
			next++
			running++
			s.work.Go(func() {
				reply, err := exchange(ctx, all[who], query)
				results <- result{who, reply, err}
			})
			return
		}
	}
	begin()
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	for {
		select {
		case r := <-results:
			running--
			spoken[r.who] = true
			if r.err == nil && !late[r.who] {
				s.answers(all[r.who])
			}
			switch {
			case r.err == nil && !passes(r.reply):
				return r.reply, nil
			case r.err == nil:
				second = r.reply
			case ctx.Err() == nil:
				s.rests(all[r.who], r.err)
				failed = r.err
			}
			if begin(); running == 0 && second == nil {
				return nil, failed
			} else if running == 0 {
				return second, nil
			}
			timer.Reset(s.patience)
		case <-timer.C:
			if last := (next - 1) % len(all); !spoken[last] {
				late[last] = true
				s.rests(all[last], errLate)
			}
			begin()
			timer.Reset(s.patience)
		case <-ctx.Done():
			if second == nil {
				return nil, ctx.Err()
			}
			return second, nil
		}
	}
}

var errLate = errors.New("it does not answer in time")

// passes says whether a reply is about the resolver and not about the name: another one may know better.
func passes(reply []byte) bool {
	switch reply[3] & 0xF {
	case wire.RcodeServerFailure, wire.RcodeRefused, wire.RcodeNotImplemented:
		return true
	}
	return false
}

// rests notes that u has not answered: for a while it is asked last.
func (s *Server) rests(u *upstream, err error) {
	now := time.Now()
	if u.rests.Swap(now.Add(resting).UnixNano()) < now.UnixNano() {
		s.log.Warn("resolver is asked last", "resolver", u.addr, "error", err)
	}
}

// answers notes that u does.
func (s *Server) answers(u *upstream) {
	if u.rests.Load() != 0 && u.rests.Swap(0) != 0 {
		s.log.Info("resolver answers again", "resolver", u.addr)
	}
}
