package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

// patience is for what should come at once, and whose absence fails a test.
const patience = 10 * time.Second

// begin is a Proxy that ends with the test.
func begin(t testing.TB) *Proxy {
	p := New(slog.New(slog.DiscardHandler))
	t.Cleanup(p.Close)
	return p
}

// serve has p serve these fronts and no others.
func serve(t testing.TB, p *Proxy, fronts ...fleet.Front) {
	t.Helper()
	if err := p.Serve(t.Context(), fleet.HostNet{Fronts: fronts}); err != nil {
		t.Fatal(err)
	}
}

func id(name string) fleet.ObjectID {
	return fleet.ObjectID{Kind: "Service", Namespace: "default", Name: name}
}

func tcp(number uint16, ends ...fleet.End) fleet.Front {
	return fleet.Front{Service: id("web"), Protocol: corev1.ProtocolTCP, Number: number, Ends: ends}
}

func udp(number uint16, ends ...fleet.End) fleet.Front {
	return fleet.Front{Service: id("web"), Protocol: corev1.ProtocolUDP, Number: number, Ends: ends}
}

func local(number uint16) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(number))) }

func endOf(a net.Addr) fleet.End {
	at := netip.MustParseAddrPort(a.String())
	return fleet.End{Addr: at.Addr(), Port: at.Port()}
}

// accepting is an end that hands its connections to a function, which need not close them.
func accepting(t testing.TB, at string, handle func(*net.TCPConn)) fleet.End {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			}()
		}
	}()
	return endOf(l.Addr())
}

// named is an end that says its name, of one letter, and then what it hears.
func named(t testing.TB, name string) fleet.End {
	return accepting(t, "127.0.0.1:0", func(c *net.TCPConn) {
		_, _ = io.WriteString(c, name)
		_, _ = io.Copy(c, c)
	})
}

// refusing is an end where nobody is.
func refusing(t testing.TB) fleet.End {
	return fleet.End{Addr: netip.MustParseAddr("127.0.0.1"), Port: lab.Port(t)}
}

func dial(t testing.TB, network, at string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// who is the name that an end says.
func who(c net.Conn) (string, error) {
	var name [1]byte
	_, err := io.ReadFull(c, name[:])
	return string(name[:]), err
}

// visit is the end that a new connection comes to.
func visit(ctx context.Context, at string) (string, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return "", err
	}
	defer reset(c.(*net.TCPConn)) // an end would keep its port for a minute, and there are thousands of visits
	_ = c.SetDeadline(time.Now().Add(patience))
	return who(c)
}

// answering is an end of UDP that says its name, and what it heard.
func answering(t testing.TB, at, name string) fleet.End {
	t.Helper()
	u, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := u.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			_, _ = u.WriteTo(append([]byte(name), buf[:n]...), from)
		}
	}()
	return endOf(u.LocalAddr())
}

// ask is what comes back for a datagram.
func ask(t testing.TB, c net.Conn, text string) string {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// await waits for the end of something.
func await(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal(what)
	}
}
