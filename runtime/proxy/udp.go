package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// udpDoor is a node port of UDP.
type udpDoor struct {
	proxy  *Proxy
	socket *net.UDPConn

	mu     sync.Mutex
	choice choice
	flows  recent[talk, *flow]
	over   bool
}

// listenUDP opens a port without ends.
func (p *Proxy) listenUDP(ctx context.Context, at string) (*udpDoor, error) {
	config := net.ListenConfig{Control: askWhere}
	l, err := config.ListenPacket(ctx, "udp", at)
	if err != nil {
		return nil, err
	}
	d := &udpDoor{proxy: p, socket: l.(*net.UDPConn)}
	p.life.begin(d.receive)
	return d, nil
}

func (d *udpDoor) serve(f fleet.Front) {
	d.mu.Lock()
	defer d.mu.Unlock()
	same := slices.Equal(d.choice.front.Ends, f.Ends)
	d.choice.serve(f)
	if same {
		return
	}
	for fl := range d.flows.values() {
		if !slices.Contains(f.Ends, fl.end) {
			d.drop(fl)
		}
	}
}

func (d *udpDoor) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	_ = d.socket.Close()
	for fl := range d.flows.values() {
		d.drop(fl)
	}
}

// receive passes on what clients send until the door is closed.
func (d *udpDoor) receive(ctx context.Context) {
	buf, control := buffers.Get().(*datagram), make([]byte, controlMax)
	defer buffers.Put(buf)
	for {
		n, nc, _, from, err := d.socket.ReadMsgUDPAddrPort(buf[:], control)
		if err != nil {
			if d.proxy.failed(ctx, "receive a datagram", err) {
				return
			}
			continue
		}
		f := d.flow(talk{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), where(control[:nc])})
		if f == nil {
			continue
		}
		if _, err := f.conn.Write(buf[:n]); refused(err) {
			d.end(f)
		}
	}
}

// flow is the flow that a datagram belongs to, a new one if there is none; nil when no end takes it.
func (d *udpDoor) flow(t talk) *flow {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.flows.get(t); ok {
		f.last = now
		d.flows.use(t, f)
		return f
	}
	var tried []fleet.End
	for !d.over {
		end, ok := d.choice.next(t.client.Addr(), tried, now, draw)
		if !ok {
			return nil
		}
		f, err := open(t, end, now)
		if err == nil {
			d.add(f)
			return f
		}
		d.proxy.log.Debug("an end of a service cannot be sent to", "service", d.choice.front.Service, "err", plain(err))
		tried = append(tried, end)
	}
	return nil
}

// add begins a flow, at the expense of another when there are too many.
func (d *udpDoor) add(f *flow) {
	if d.flows.len() == d.proxy.limits.flows {
		_, old, _ := d.flows.oldest()
		d.drop(old)
	}
	d.flows.use(f.talk, f)
	_ = f.conn.SetReadDeadline(f.until(d.proxy.limits))
	d.proxy.life.begin(func(context.Context) { d.answer(f) })
}

// drop ends a flow; the next datagram of its client begins another one.
func (d *udpDoor) drop(f *flow) {
	// Another one may have its place.
	if now, ok := d.flows.get(f.talk); ok && now == f {
		d.flows.remove(f.talk)
	}
	_ = f.conn.Close()
}

func (d *udpDoor) end(f *flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(f)
}

// answer passes on what an end says until its flow is over.
func (d *udpDoor) answer(f *flow) {
	defer close(f.over)
	source := f.talk.source()
	for {
		buf, n, err := f.receive()
		switch {
		case err == nil:
			d.answered(f)
			_, _, _ = d.socket.WriteMsgUDPAddrPort(buf[:n], source, f.talk.client)
			buffers.Put(buf)
		case errors.Is(err, os.ErrDeadlineExceeded) && d.goesOn(f):
		default: // refused, idle for too long, or dropped
			d.end(f)
			return
		}
	}
}

// goesOn says whether a flow goes on, now that it may have been idle for too long. One that does not is found by no datagram any
// more.
func (d *udpDoor) goesOn(f *flow) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until := f.until(d.proxy.limits)
	if !time.Now().Before(until) {
		d.drop(f)
		return false
	}
	_ = f.conn.SetReadDeadline(until)
	return true
}

// answered notes that an end has said something.
func (d *udpDoor) answered(f *flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.last, f.answers = time.Now(), true
	if now, ok := d.flows.get(f.talk); ok && now == f {
		d.flows.use(f.talk, f)
	}
}

// refused says whether an end is not there. Whatever else befalls a datagram (it is too large, say) says nothing of the next one.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, net.ErrClosed)
}
