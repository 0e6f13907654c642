package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// replies are buffers for datagrams. Resolvers are told that payload fits; those that do not listen are asked by TCP.
var replies = sync.Pool{New: func() any { return new([4096]byte) }}

// exchange asks one resolver, by a datagram and then, if the reply does not fit, by TCP. Who cannot see the query can foretell neither
// its ID nor the port that it came from. It blocks until there is a reply or an error, or ctx ends.
func exchange(ctx context.Context, to *upstream, query []byte) ([]byte, error) {
	query = bytes.Clone(query)
	binary.BigEndian.PutUint16(query, uint16(rand.Uint32()))
	reply, whole, err := exchangeUDP(ctx, to, query)
	if err != nil || whole {
		return reply, err
	}
	if all, err := exchangeTCP(ctx, to.addr, query); err == nil {
		return all, nil
	}
	return reply, nil // it says itself that it is not all
}

func exchangeUDP(ctx context.Context, to *upstream, query []byte) (reply []byte, whole bool, _ error) {
	for {
		c, err := to.sockets.take(ctx, to.addr)
		if err != nil {
			return nil, false, err
		}
		used := c.uses > 0
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		reply, whole, err := c.exchange(query)
		if stop() && err == nil {
			to.sockets.give(c)
			return reply, whole, nil
		}
		_ = c.Close()
		// Of a socket that was used before it may be the fault: it keeps the address that this machine had.
		if err == nil || !used || ctx.Err() != nil {
			return reply, whole, err
		}
	}
}

// exchange asks over c, which nobody else uses meanwhile.
func (c *socket) exchange(query []byte) (reply []byte, whole bool, _ error) {
	if _, err := c.Write(query); err != nil {
		return nil, false, fmt.Errorf("send a query: %w", err)
	}
	buf := replies.Get().(*[4096]byte)
	defer replies.Put(buf)
	for {
		n, err := c.Read(buf[:])
		if err != nil {
			return nil, false, fmt.Errorf("read the answer: %w", err)
		}
		// Anything else is late, doubled or forged; the true one may be on its way.
		if !answersTo(query, buf[:n]) {
			continue
		}
		if n == len(buf) { // and more
			buf[2] |= 0x02
		}
		return bytes.Clone(buf[:n]), buf[2]&0x02 == 0, nil
	}
}

func exchangeTCP(ctx context.Context, to netip.AddrPort, query []byte) ([]byte, error) {
	c, err := new(net.Dialer).DialTCP(ctx, "tcp", netip.AddrPort{}, to)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	if _, err := c.Write(append(out, query...)); err != nil {
		return nil, fmt.Errorf("send a query: %w", err)
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	reply := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, reply); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if !answersTo(query, reply) {
		return nil, errors.New("the answer is to another query")
	}
	return reply, nil
}

// answersTo says whether reply has the ID and the question of query, in whatever case. A resolver that could not or would not read the
// question may leave it out.
func answersTo(query, reply []byte) bool {
	if len(reply) < headerSize || reply[0] != query[0] || reply[1] != query[1] || reply[2]&0x80 == 0 || reply[2]>>3&0xF != wire.OpcodeQuery {
		return false
	}
	switch binary.BigEndian.Uint16(reply[4:]) {
	case 0:
		return passes(reply) || reply[3]&0xF == wire.RcodeFormatError
	case 1:
	default:
		return false
	}
	end := questionEnd(query)
	if len(reply) < end {
		return false
	}
	name := end - 4
	// Lengths of labels are below the letters, so they need not be told from them.
	return foldedEqual(query[headerSize:name], reply[headerSize:name]) && bytes.Equal(query[name:end], reply[name:end])
}

// questionEnd is where the question of a query of ours ends. Its name is never compressed.
func questionEnd(query []byte) int {
	at := headerSize
	for query[at] != 0 {
		at += 1 + int(query[at])
	}
	return at + 1 + 4
}

func foldedEqual(a, b []byte) bool {
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
