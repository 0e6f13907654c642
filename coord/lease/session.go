package lease

import "github.com/skerry-dev/skerry/fleet"

// session is what a node knows of another's datagrams: what is taken is from the process that runs there now, each once and in order. What is
// lost is lost.
//
// A process makes itself known by saying what it is asked to say, once: whoever recorded the words of one that is no more cannot do that.
type session struct {
	self, peer fleet.NodeName
	secret     []byte
	own        uint64        // this process
	random     func() uint64 // never 0

	theirs    uint64 // the process there; 0: not known
	took      uint64 // the newest number that was taken
	sent      uint64 // the newest number that was given
	challenge uint64 // what the other is asked to say; 0: nothing
	// The process that is to be greeted, and what it asked to be told.
	stranger, echo uint64
}

// seal makes a datagram of what there is to say.
func (s *session) seal(e fleet.Electorate, messages []Message) []byte {
	return s.datagram(header{to: s.theirs, challenge: s.challenge}, e, messages)
}

// greeting is what open asked for: so that the other's next datagram counts here, and this node's there.
func (s *session) greeting(e fleet.Electorate) []byte {
	return s.datagram(header{to: s.stranger, challenge: s.challenge, echo: s.echo}, e, nil)
}

func (s *session) datagram(h header, e fleet.Electorate, messages []Message) []byte {
	s.sent++
	h.sender, h.receiver, h.from, h.number = s.self, s.peer, s.own, s.sent
	d := datagram{header: h, electorate: e, messages: messages}
	return d.seal(s.secret)
}

// open reads a datagram. Taken says that it counts, greet that the other is to be greeted.
func (s *session) open(raw []byte) (d datagram, taken, greet bool) {
	d, err := unseal(raw, s.secret)
	if err != nil || d.sender != s.peer || d.receiver != s.self || d.from == 0 {
		return datagram{}, false, false
	}
	switch {
	case d.to == s.own && d.from == s.theirs:
		if d.number <= s.took {
			return datagram{}, false, false // late, or said twice
		}
		taken, s.challenge = true, 0 // it is known: nothing has to be asked
	case d.to == s.own && s.challenge != 0 && d.echo == s.challenge:
		s.theirs, s.challenge, taken = d.from, 0, true
	case s.challenge == 0:
		s.challenge = s.random()
	}
	if taken {
		s.took = d.number
	}
	greet = !taken || d.challenge != 0
	if greet {
		s.stranger, s.echo = d.from, d.challenge
	}
	return d, taken, greet
}
