package probe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/probe"
)

func TestTCP(t *testing.T) {
	t.Parallel()
	// A server that says nothing is well, and sees the connection end as connections do, at once.
	ends := make(chan error, 1)
	quiet, _ := rough(t, func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		ends <- err
	})
	expect(t, ask(t, host.Probe{Handler: tcpSocket(quiet)}), true, "")
	if err := <-ends; !errors.Is(err, io.EOF) {
		t.Errorf("the server saw the connection end with %v", err)
	}

	closed := nowhere(t)
	expect(t, ask(t, host.Probe{Handler: tcpSocket(closed)}), false, fmt.Sprintf("connect to 127.0.0.1:%d: connection refused", closed))

	named := tcpSocket(quiet)
	named.TCPSocket.Host = "no-such-host.invalid"
	expect(t, ask(t, host.Probe{Handler: named}), false, "connect to no-such-host.invalid:")
}

func TestTCPOverIPv6(t *testing.T) {
	t.Parallel()
	l := listen(t, "[::1]:0")
	port := l.Addr().(*net.TCPAddr).Port
	expect(t, ask(t, host.Probe{Handler: tcpSocket(port), Address: "::1"}), true, "")
	l.Close()
	expect(t, ask(t, host.Probe{Handler: tcpSocket(port), Address: "::1"}), false, fmt.Sprintf("connect to [::1]:%d: connection refused", port))
}

// TestNobodyTakesTheConnection: a server that listens and does not accept is well until its queue is full, and then
// connecting waits for ever.
func TestNobodyTakesTheConnection(t *testing.T) {
	t.Parallel()
	fd, port := bound(t)
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		v, err := new(probe.Prober).Probe(ctx, host.Probe{Handler: tcpSocket(port)})
		if err != nil {
			t.Fatal(err)
		}
		if !v.Well {
			expect(t, v, false, "no answer within 200ms")
			return
		}
	}
	t.Error("it is well for ever")
}
