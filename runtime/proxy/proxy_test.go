package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
)

// TestNodePortsAlone are served: neither addresses nor SCTP.
func TestNodePortsAlone(t *testing.T) {
	p, end := begin(t), named(t, "a")
	served, address, sctp := tcp(lab.Port(t), end), tcp(lab.Port(t), end), tcp(lab.Port(t), end)
	address.Addr = netip.MustParseAddr("127.0.0.1")
	sctp.Protocol = corev1.ProtocolSCTP
	serve(t, p, served, sctp, address)
	if name, err := visit(t.Context(), local(served.Number)); name != "a" {
		t.Error(name, err)
	}
	for _, f := range []fleet.Front{address, sctp} {
		if _, err := visit(t.Context(), local(f.Number)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s %s: %v", f.Addr, f.Protocol, err)
		}
	}
	if lost, err := p.Check(t.Context()); lost || err != nil {
		t.Error(lost, err)
	}
}

// TestBothFamilies of clients reach ends of both.
func TestBothFamilies(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		serve(t, p,
			tcp(number, accepting(t, at, func(c *net.TCPConn) { _, _ = io.WriteString(c, "a") })),
			udp(number, answering(t, at, "a")))
		for _, ip := range []string{"127.0.0.1", "::1"} {
			to := netip.AddrPortFrom(netip.MustParseAddr(ip), number).String()
			if name, err := visit(t.Context(), to); name != "a" {
				t.Errorf("%s to %s: %q %v", to, at, name, err)
			}
			if text := ask(t, dial(t, "udp", to), "?"); text != "a?" {
				t.Errorf("%s to %s: %q", to, at, text)
			}
		}
	}
}

// TestTakenPort is named, stops no other, and is served when it is free.
func TestTakenPort(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		p, taken, other := begin(t), lab.Port(t), lab.Port(t)
		var holder io.Closer
		var err error
		front := tcp(taken, named(t, "a"))
		if network == "tcp" {
			holder, err = new(net.ListenConfig).Listen(t.Context(), "tcp", local(taken))
		} else {
			holder, err = new(net.ListenConfig).ListenPacket(t.Context(), "udp", local(taken))
			front = udp(taken, answering(t, "127.0.0.1:0", "a"))
		}
		if err != nil {
			t.Fatal(err)
		}
		want := fleet.HostNet{Fronts: []fleet.Front{front, tcp(other, named(t, "b"))}}
		for range 2 {
			err = p.Serve(t.Context(), want)
			text := "listen at node port " + local(taken)[len("127.0.0.1:"):] + " (" + strings.ToUpper(network) + ") of Service/default/web: taken by another program"
			if !errors.Is(err, host.ErrConflict) || err.Error() != text {
				t.Errorf("%v, want %s", err, text)
			}
			if name, err := visit(t.Context(), local(other)); name != "b" {
				t.Error(name, err)
			}
		}
		_ = holder.Close()
		serve(t, p, want.Fronts...)
		if network == "tcp" {
			if name, err := visit(t.Context(), local(taken)); name != "a" {
				t.Error(name, err)
			}
		} else if text := ask(t, dial(t, "udp", local(taken)), "?"); text != "a?" {
			t.Error(text)
		}
	}
}

// TestChangesUnderLoad: whatever becomes of the ends, of the Service and of other ports, everybody who comes is served.
func TestChangesUnderLoad(t *testing.T) {
	p, number, other := begin(t), lab.Port(t), lab.Port(t)
	a, b, none := named(t, "a"), named(t, "b"), refusing(t)
	serve(t, p, tcp(number, a))
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 250 {
				if name, err := visit(t.Context(), local(number)); err != nil {
					t.Errorf("%q %v", name, err)
				}
			}
		})
	}
	var changes sync.WaitGroup
	for range 2 { // at one time
		changes.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				f := tcp(number, [][]fleet.End{{a}, {b}, {a, b}, {a, none}}[i%4]...)
				f.Service = id([]string{"web", "shop"}[i%2])
				f.Sticky = time.Duration(i%3) * time.Hour
				fronts := []fleet.Front{f}
				if i%5 == 0 {
					fronts = append(fronts, udp(other, a))
				}
				if err := p.Serve(ctx, fleet.HostNet{Fronts: fronts}); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	stop()
	changes.Wait()
}

// TestUnderWay: a connection goes on when its end, and then its port, is wanted no more.
func TestUnderWay(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	serve(t, p, tcp(number, named(t, "a")))
	c := dial(t, "tcp", local(number))
	echo := func(text string) {
		t.Helper()
		buf := make([]byte, len(text))
		_, _ = io.WriteString(c, text)
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != text {
			t.Errorf("%q %v", buf, err)
		}
	}
	if name, err := who(c); name != "a" {
		t.Fatal(name, err)
	}
	serve(t, p, tcp(number, named(t, "b")))
	if name, err := visit(t.Context(), local(number)); name != "b" {
		t.Error(name, err)
	}
	echo("the end is gone")
	serve(t, p)
	if _, err := visit(t.Context(), local(number)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
	echo("the port is gone")
	serve(t, p, tcp(number, named(t, "c")))
	if name, err := visit(t.Context(), local(number)); name != "c" {
		t.Error(name, err)
	}
	echo("the port is back")
}

// TestStickyClientStays with its end, over TCP and UDP, until that is gone.
func TestStickyClientStays(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	stay := func(f fleet.Front) fleet.Front {
		f.Sticky = time.Hour
		return f
	}
	a, b := named(t, "a"), named(t, "b")
	ua, ub := answering(t, "127.0.0.1:0", "a"), answering(t, "127.0.0.1:0", "b")
	names := map[string]int{}
	come := func() {
		t.Helper()
		for range 20 {
			name, err := visit(t.Context(), local(number))
			if err != nil {
				t.Fatal(err)
			}
			names["tcp "+name]++
			names["udp "+ask(t, dial(t, "udp", local(number)), "")]++
		}
	}
	serve(t, p, stay(tcp(number, a, b)), stay(udp(number, ua, ub)))
	come()
	if len(names) != 2 {
		t.Error(names)
	}
	clear(names)
	serve(t, p, stay(tcp(number, b)), stay(udp(number, ub)))
	come()
	if len(names) != 2 || names["tcp b"] != 20 || names["udp b"] != 20 {
		t.Error(names)
	}
	clear(names)
	serve(t, p, tcp(number, a, b), udp(number, ua, ub))
	come()
	if len(names) != 4 {
		t.Error("not sticky:", names)
	}
}

// TestClose leaves nothing: what was under way is reset, and all that was begun has ended, whatever it was at.
func TestClose(t *testing.T) {
	p := begin(t)
	var running atomic.Int64
	beginIn := p.life.begin
	p.life.begin = func(f func(context.Context)) {
		running.Add(1)
		beginIn(func(ctx context.Context) {
			defer running.Add(-1)
			f(ctx)
		})
	}
	number, slow := lab.Port(t), lab.Port(t)
	serve(t, p, tcp(number, named(t, "a")), tcp(slow, deaf(t)), udp(number, answering(t, "127.0.0.1:0", "a")))
	talking, waiting, flow := dial(t, "tcp", local(number)), dial(t, "tcp", local(slow)), dial(t, "udp", local(number))
	if name, err := who(talking); name != "a" {
		t.Fatal(name, err)
	}
	ask(t, flow, "?")
	// Two ports of TCP, one of UDP, a connection, a flow; perhaps already the one that waits to be led on.
	if n := running.Load(); n < 5 {
		t.Errorf("%d are running", n)
	}
	p.Close()
	if n := running.Load(); n != 0 {
		t.Errorf("%d are left", n)
	}
	for name, c := range map[string]net.Conn{"talking": talking, "waiting": waiting} {
		if _, err := who(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := visit(t.Context(), local(number)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
	if err := p.Serve(t.Context(), fleet.HostNet{Fronts: []fleet.Front{tcp(number)}}); err == nil {
		t.Error("it serves after its end")
	}
	p.Close()
}
