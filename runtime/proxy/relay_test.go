package proxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

// deaf is an end to which no connection comes about: its queue is full and nobody takes from it.
func deaf(t testing.TB) fleet.End {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	dial(t, "tcp", at.String())
	return endOf(at)
}

// TestAnotherEnd is tried when one refuses or does not answer.
func TestAnotherEnd(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	p.limits.dial = 250 * time.Millisecond
	sticky := tcp(number, named(t, "a"), refusing(t), refusing(t), deaf(t))
	sticky.Sticky = time.Hour
	for _, f := range []fleet.Front{sticky, tcp(number, sticky.Ends...)} {
		serve(t, p, f)
		for range 5 {
			if name, err := visit(t.Context(), local(number)); name != "a" {
				t.Fatal(name, err)
			}
		}
	}
}

// TestNobodyServes: who comes is reset.
func TestNobodyServes(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	rejecting, dropping := tcp(number), tcp(number)
	rejecting.Verdict, dropping.Verdict = fleet.Reject, fleet.Drop
	for name, f := range map[string]fleet.Front{"reject": rejecting, "drop": dropping, "ends that refuse": tcp(number, refusing(t), refusing(t))} {
		serve(t, p, f)
		if _, err := visit(t.Context(), local(number)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func noise(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOneSideSaysAll, and the other goes on for as long as it likes.
func TestOneSideSaysAll(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	question, answer := noise(t, 5<<20), noise(t, 7<<20)
	heard := make(chan []byte, 1)
	ask := func(c *net.TCPConn) {
		_, _ = c.Write(question)
		_ = c.CloseWrite()
		b, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		heard <- b
	}
	reply := func(c *net.TCPConn) {
		b, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(b, question) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		_, _ = c.Write(answer)
	}
	for name, sides := range map[string][2]func(*net.TCPConn){"the client": {ask, reply}, "the end": {reply, ask}} {
		t.Run(name, func(t *testing.T) {
			serve(t, p, tcp(number, accepting(t, "127.0.0.1:0", sides[1])))
			c := dial(t, "tcp", local(number)).(*net.TCPConn)
			sides[0](c)
			_ = c.Close()
			if b := <-heard; !bytes.Equal(b, answer) {
				t.Errorf("%d bytes, want %d", len(b), len(answer))
			}
		})
	}
}

// TestReset of one side is one for the other.
func TestReset(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	errs := make(chan error, 1)
	hear := func(c *net.TCPConn) {
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err := io.ReadAll(c)
		errs <- err
	}
	leave := func(c *net.TCPConn) {
		_, _ = who(c) // so that it has come about
		reset(c)
	}
	greet := func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "a")
		hear(c)
	}
	for name, sides := range map[string][2]func(*net.TCPConn){"the client": {leave, greet}, "the end": {greet, leave}} {
		serve(t, p, tcp(number, accepting(t, "127.0.0.1:0", sides[1])))
		go sides[0](dial(t, "tcp", local(number)).(*net.TCPConn))
		if err := <-errs; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestResetIsNoEnd: an end that is reset while there is something to say to it was not heard to its end, and the client must not
// think so. At times it is the one who writes to the end to whom the kernel tells.
func TestResetIsNoEnd(t *testing.T) {
	p, number := begin(t), lab.Port(t)
	part, full := noise(t, 1<<20), make(chan bool)
	serve(t, p, tcp(number, accepting(t, "127.0.0.1:0", func(c *net.TCPConn) {
		_, _ = c.Write(part[:100])
		<-full
		reset(c)
	})))
	for range 200 {
		c := dial(t, "tcp", local(number)).(*net.TCPConn)
		// Until nobody takes more. It must not be under way when the reset comes, or it would be told of it, and the reader not.
		_ = c.SetWriteDeadline(time.Now().Add(2 * time.Millisecond))
		for err := error(nil); err == nil; {
			_, err = c.Write(part)
		}
		full <- true
		if b, err := io.ReadAll(c); err == nil {
			t.Fatalf("it ends well after %d bytes", len(b))
		}
		_ = c.Close()
	}
}

// TestBrokenSide tells a side that was reset from one that has said all, in the order in which the kernel no longer does.
func TestBrokenSide(t *testing.T) {
	come := make(chan *net.TCPConn)
	end := accepting(t, "127.0.0.1:0", func(c *net.TCPConn) {
		come <- c
		<-come
	})
	for _, test := range []struct {
		name  string
		leave func(*net.TCPConn)
		told  bool
		want  bool
	}{
		{"said all", func(c *net.TCPConn) { _ = c.CloseWrite() }, false, false},
		{"reset", reset, false, true},
		{"both said all", func(c *net.TCPConn) { _ = c.CloseWrite() }, true, false},
	} {
		s := &side{TCPConn: dial(t, "tcp", local(end.Port)).(*net.TCPConn)}
		other := <-come
		if test.told {
			s.told.Store(true)
			_ = s.CloseWrite()
			_, _ = io.ReadAll(other)
		}
		test.leave(other)
		_, _ = io.ReadAll(s) // waits for it; the kernel has told of a reset then
		if got := s.broken(); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
		come <- nil
	}
}
