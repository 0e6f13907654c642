package proxy

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

// doorOf is the door of a port of UDP.
func doorOf(p *Proxy, number uint16) *udpDoor {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[placeOf(udp(number))].(*udpDoor)
}

// flowOf is the flow of a client, nil if it has none, and how many there are at the door.
func (d *udpDoor) flowOf(client net.Conn) (*flow, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, _ := d.flows.get(talk{netip.MustParseAddrPort(client.LocalAddr().String()), netip.MustParseAddr("127.0.0.1")})
	return f, d.flows.len()
}

// TestFlowStays with one end, and another client's may be with another.
func TestFlowStays(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	serve(t, p, udp(number, answering(t, "127.0.0.1:0", "a"), answering(t, "127.0.0.1:0", "b")))
	names := map[string]int{}
	for range 20 {
		c := dial(t, "udp", local(number))
		name := ask(t, c, "")
		names[name]++
		for _, text := range []string{"1", "", strings.Repeat("x", 60_000)} {
			if got := ask(t, c, text); got != name+text {
				t.Errorf("%d bytes of %.10s, want %d of %s", len(got), got, 1+len(text), name)
			}
		}
	}
	if len(names) != 2 {
		t.Error(names)
	}
}

// TestFlowFollowsEnds: it stays with an end that stays, and has another at once when that is gone.
func TestFlowFollowsEnds(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	a, b := answering(t, "127.0.0.1:0", "a"), answering(t, "127.0.0.1:0", "b")
	c := dial(t, "udp", local(number))
	for i, step := range []struct {
		ends []fleet.End
		want string
	}{
		{[]fleet.End{a}, "a"}, {[]fleet.End{a, b}, "a"}, {[]fleet.End{b}, "b"}, {[]fleet.End{a, b}, "b"}, {nil, ""}, {[]fleet.End{a}, "a"},
	} {
		serve(t, p, udp(number, step.ends...))
		if step.want != "" {
			if got := ask(t, c, "?"); got != step.want+"?" {
				t.Errorf("step %d: %q", i, got)
			}
		} else if _, n := doorOf(p, number).flowOf(c); n != 0 {
			t.Errorf("step %d: %d flows", i, n)
		}
	}
	f, _ := doorOf(p, number).flowOf(c)
	serve(t, p)
	await(t, "a flow is left of a port that is gone", f.over)
	if _, err := c.Write(nil); err != nil { // the kernel tells of this one with the next
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

// TestFlowToNobody is dropped in silence, and served when somebody is there.
func TestFlowToNobody(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	serve(t, p, udp(number))
	c := dial(t, "udp", local(number))
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	serve(t, p, udp(number, answering(t, "127.0.0.1:0", "a")))
	for got := ""; got != "a?"; { // the first may have come late enough
		if got = ask(t, c, "?"); got != "a?" && got != "alost" {
			t.Fatal(got)
		}
	}
}

// TestFlowThatIsRefused ends, so that the client's next datagram may come to another end.
func TestFlowThatIsRefused(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	u, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, p, udp(number, endOf(u.LocalAddr())))
	c, d := dial(t, "udp", local(number)), doorOf(p, number)
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.ReadFrom(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	f, _ := d.flowOf(c)
	_ = u.Close()
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	await(t, "it goes on", f.over)
	if f, n := d.flowOf(c); f != nil || n != 0 {
		t.Errorf("%d flows are left", n)
	}
}

func TestUntil(t *testing.T) {
	l := limits{idle: time.Minute, silent: time.Second}
	said := time.Unix(1e9, 0)
	if got := (&flow{last: said}).until(l); got != said.Add(time.Second) {
		t.Error("never answered:", got)
	}
	if got := (&flow{last: said, answers: true}).until(l); got != said.Add(time.Minute) {
		t.Error("answered:", got)
	}
}

// TestIdleFlowEnds, and the next datagram begins another one; what is said keeps it alive, from either side.
func TestIdleFlowEnds(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	p.limits.silent, p.limits.idle = 20*time.Millisecond, time.Hour
	mute, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	serve(t, p, udp(number, endOf(mute.LocalAddr())))
	c, d := dial(t, "udp", local(number)), doorOf(p, number)
	for range 3 {
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		// It may be over before it is seen, but never without having been.
		if _, _, err := mute.ReadFrom(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if f, _ := d.flowOf(c); f != nil {
			await(t, "it goes on", f.over)
		}
		if _, n := d.flowOf(c); n != 0 {
			t.Errorf("%d flows are left", n)
		}
	}

	serve(t, p, udp(number, answering(t, "127.0.0.1:0", "a")))
	d.mu.Lock()
	p.limits.silent = time.Hour
	d.mu.Unlock()
	ask(t, c, "?")
	f, _ := d.flowOf(c)
	for _, step := range []struct {
		name  string
		limit time.Duration
		ago   time.Duration
		want  bool
	}{
		{"something was said since", time.Minute, 59 * time.Second, true},
		{"nothing was", time.Minute, time.Minute, false},
	} {
		d.mu.Lock()
		d.proxy.limits.idle, f.last = step.limit, time.Now().Add(-step.ago)
		d.mu.Unlock()
		if got := d.goesOn(f); got != step.want {
			t.Errorf("%s: %v", step.name, got)
		}
	}
	await(t, "it goes on", f.over)
}

// TestFlowsAreBounded: the one in which nothing was said for the longest time goes.
func TestFlowsAreBounded(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	p.limits.flows = 3
	serve(t, p, udp(number, answering(t, "127.0.0.1:0", "a")))
	d := doorOf(p, number)
	var clients []net.Conn
	for range 3 {
		c := dial(t, "udp", local(number))
		ask(t, c, "?")
		clients = append(clients, c)
	}
	ask(t, clients[0], "?")
	oldest, _ := d.flowOf(clients[1])
	more := dial(t, "udp", local(number))
	ask(t, more, "?")
	await(t, "too many go on", oldest.over)
	if _, n := d.flowOf(more); n != 3 {
		t.Errorf("%d flows", n)
	}
	for _, c := range append(clients, more) {
		if got := ask(t, c, "!"); got != "a!" {
			t.Error(got)
		}
	}
}

// TestAnswersComeFromWhereItWasAsked, or a client would not take them. One that asks at two addresses has two flows.
func TestAnswersComeFromWhereItWasAsked(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	serve(t, p, udp(number, answering(t, "127.0.0.1:0", "a")))
	for from, asked := range map[string][]string{"127.0.0.1:0": {"127.0.0.1", "127.0.0.2", "127.1.2.3"}, "[::1]:0": {"::1"}} {
		u, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", from)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		_ = u.SetDeadline(time.Now().Add(patience))
		for _, ip := range asked {
			to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), number))
			if _, err := u.WriteTo([]byte("?"), to); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 10)
			n, from, err := u.ReadFrom(buf)
			if err != nil || !bytes.Equal(buf[:n], []byte("a?")) || from.String() != to.String() {
				t.Errorf("%q from %v, asked %s: %v", buf[:n], from, to, err)
			}
		}
	}
}

func FuzzWhere(f *testing.F) {
	f.Add(talk{here: netip.MustParseAddr("192.0.2.1")}.source())
	f.Add(talk{here: netip.MustParseAddr("2001:db8::1")}.source())
	f.Fuzz(func(t *testing.T, control []byte) {
		here := where(control)
		if here.Is4In6() || !here.IsValid() != (talk{here: here}.source() == nil) {
			t.Errorf("%s of %x", here, control)
		}
	})
}
