package lease

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// A datagram is all that one node has to say to another at a moment. That it comes at all says that its sender lives.
//
//	magic | sender | to and from whom, and which of how many (header) | electorate | messages | HMAC of all before
//
// Numbers are big-endian, texts and lists begin with their length in a byte.
type datagram struct {
	header
	electorate fleet.Electorate
	messages   []Message
}

type header struct {
	sender, receiver fleet.NodeName
	// Which process of the sender it is from and, as far as the sender knows, which one of the receiver it is for; 0: not known.
	from, to uint64
	number   uint64 // of the sender's datagrams to this receiver
	// What the other is asked to say, so that it is known to be from now, and what this one was asked to say; 0: nothing.
	challenge, echo uint64
}

const (
	magic      = "skerry1\n"
	macLength  = 16
	mostLength = 1400 // of a datagram, so that it is not cut to pieces on its way
	mostName   = 255
)

var errMalformed = errors.New("malformed datagram")

// seal is the datagram as it is sent.
func (d *datagram) seal(secret []byte) []byte {
	b := []byte(magic)
	b = text(b, string(d.sender))
	b = text(b, string(d.receiver))
	for _, n := range []uint64{d.from, d.to, d.number, d.challenge, d.echo, d.electorate.Epoch} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	fast := byte(0)
	if d.electorate.Fast {
		fast = 1
	}
	b = append(b, fast, byte(len(d.electorate.Voters)))
	for _, v := range d.electorate.Voters {
		b = text(b, string(v))
	}
	b = append(b, byte(len(d.messages)))
	for _, m := range d.messages {
		b = append(b, byte(m.Kind))
		b = text(b, m.Key)
		b = text(b, string(m.To))
		for _, n := range []uint64{m.Epoch, m.Incarnation, m.Seq, uint64(m.Left)} {
			b = binary.BigEndian.AppendUint64(b, n)
		}
	}
	return append(b, mac(b, secret)...)
}

// size is how many bytes a message takes.
func (m Message) size() int { return 1 + 1 + len(m.Key) + 1 + len(m.To) + 4*8 }

func text(b []byte, s string) []byte {
	s = s[:min(len(s), mostName)]
	return append(append(b, byte(len(s))), s...)
}

func mac(b, secret []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write(b)
	return h.Sum(nil)[:macLength]
}

// senderOf is who says that a datagram is his.
func senderOf(raw []byte) (fleet.NodeName, error) {
	r := reader{rest: raw}
	if string(r.take(len(magic))) != magic {
		return "", errMalformed
	}
	sender := r.text()
	if r.failed {
		return "", errMalformed
	}
	return fleet.NodeName(sender), nil
}

// unseal reads a datagram that was sealed with this secret.
func unseal(raw, secret []byte) (datagram, error) {
	if len(raw) < macLength {
		return datagram{}, errMalformed
	}
	body, sum := raw[:len(raw)-macLength], raw[len(raw)-macLength:]
	if !hmac.Equal(sum, mac(body, secret)) {
		return datagram{}, errMalformed
	}
	r := reader{rest: body}
	var d datagram
	if string(r.take(len(magic))) != magic {
		return datagram{}, errMalformed
	}
	d.sender, d.receiver = fleet.NodeName(r.text()), fleet.NodeName(r.text())
	for _, n := range []*uint64{&d.from, &d.to, &d.number, &d.challenge, &d.echo, &d.electorate.Epoch} {
		*n = r.number()
	}
	d.electorate.Fast = r.byte() == 1
	for range r.byte() {
		d.electorate.Voters = append(d.electorate.Voters, fleet.NodeName(r.text()))
	}
	for range r.byte() {
		m := Message{Kind: Kind(r.byte()), Key: r.text(), To: fleet.NodeName(r.text())}
		m.Epoch, m.Incarnation, m.Seq, m.Left = r.number(), r.number(), r.number(), time.Duration(r.number())
		d.messages = append(d.messages, m)
		if r.failed {
			break
		}
	}
	if r.failed || len(r.rest) > 0 {
		return datagram{}, errMalformed
	}
	return d, nil
}

// reader reads what may end too early.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.rest, r.failed = nil, true
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) text() string   { return string(r.take(int(r.byte()))) }
func (r *reader) number() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
