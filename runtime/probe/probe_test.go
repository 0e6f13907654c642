package probe_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/probe"
)

// execs is a host.Execs in a line.
type execs func(ctx context.Context, container string, command []string) (int, []byte, error)

func (e execs) Exec(ctx context.Context, container string, command []string) (int, []byte, error) {
	return e(ctx, container, command)
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		if strings.HasPrefix(address, "[") {
			t.Skip("no IPv6 here:", err)
		}
		t.Fatal(err)
	}
	return l
}

// rough serves TCP on the loopback as behave does it. Connections are closed when behave returns, or when the test
// ends; accepted is told of each, if it listens.
func rough(t testing.TB, behave func(net.Conn)) (port int, accepted <-chan struct{}) {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	told := make(chan struct{}, 1)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case told <- struct{}{}:
			default:
			}
			all.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				behave(c)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port, told
}

// hang never says anything, until whoever is on the other side goes.
func hang(c net.Conn) {
	b := make([]byte, 512)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// reset ends the connection the hard way, once something was asked.
func reset(c net.Conn) {
	_, _ = c.Read(make([]byte, 1))
	_ = c.(*net.TCPConn).SetLinger(0)
}

// says answers a request with that, and leaves the connection open if then is to do something more with it.
func says(text string, then ...func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		_, _ = c.Write([]byte(text))
		for _, do := range then {
			do(c)
		}
	}
}

// nowhere is a port on which nobody listens, and nobody will: it is bound.
func nowhere(t testing.TB) int {
	t.Helper()
	_, port := bound(t)
	return port
}

// bound is a socket with a port.
func bound(t testing.TB) (fd, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, at.(*syscall.SockaddrInet4).Port
}

func portOf(s *httptest.Server) int { return s.Listener.Addr().(*net.TCPAddr).Port }

func httpGet(port int, path string, headers ...corev1.HTTPHeader) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt(port), Path: path, HTTPHeaders: headers}}
}

func tcpSocket(port int) corev1.ProbeHandler {
	return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(port)}}
}

// ask probes with time enough, and expects a verdict, whose text it has a look at.
func ask(t testing.TB, q host.Probe) host.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	v, err := new(probe.Prober).Probe(ctx, q)
	if err != nil {
		t.Fatalf("error of the prober: %v", err)
	}
	isLine(t, v.Text)
	if !v.Well && v.Text == "" {
		t.Error("it is not well, and nobody says why")
	}
	return v
}

func isLine(t testing.TB, text string) {
	t.Helper()
	if len(text) > 200 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		t.Errorf("not a line for people: %q, %d bytes", text, len(text))
	}
}

// expect compares a verdict; of the text only a part is given.
func expect(t testing.TB, got host.Verdict, well bool, text string) {
	t.Helper()
	if got.Well != well || !strings.Contains(got.Text, text) || (text == "" && got.Text != "") {
		t.Errorf("got %+v, want well %v and %q", got, well, text)
	}
}

// TestEnds: the end of a context, of either kind, in every kind of probe that a server can make wait.
func TestEnds(t *testing.T) {
	t.Parallel()
	p := &probe.Prober{Execs: execs(func(ctx context.Context, _ string, _ []string) (int, []byte, error) {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	})}
	hung, _ := rough(t, hang)
	slowHead, _ := rough(t, says("HTTP/1.1 200 OK\r\nContent-Le", hang))
	slowBody, _ := rough(t, says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nwait", hang))
	slowFailure, _ := rough(t, says("HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\nfull", hang))
	secure := httpGet(hung, "/")
	secure.HTTPGet.Scheme = corev1.URISchemeHTTPS
	const late = "no answer within 200ms"
	for _, c := range []struct {
		name string
		do   corev1.ProbeHandler
		want string
	}{
		{"exec", corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sleep", "9"}}}, late},
		{"http", httpGet(hung, "/"), late},
		{"https", secure, late},
		{"slow header", httpGet(slowHead, "/"), late},
		{"slow body", httpGet(slowBody, "/"), "HTTP 200, but its body did not end in time"},
		{"slow failure", httpGet(slowFailure, "/"), "HTTP 503: full"},
		{"grpc", corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(hung)}}, late},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q := host.Probe{Handler: c.do}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			v, err := p.Probe(ctx, q)
			if err != nil || v != (host.Verdict{Text: c.want}) {
				t.Errorf("by its deadline it had %+v and error %v, want %q", v, err, c.want)
			}
			if _, err := p.Probe(ctx, q); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("without any time left nobody was asked, but the error is %v", err)
			}
		})
		t.Run(c.name+" cancelled", func(t *testing.T) {
			t.Parallel()
			if c.name == "slow failure" {
				t.Skip("it has its answer")
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			if v, err := p.Probe(ctx, host.Probe{Handler: c.do}); !errors.Is(err, context.Canceled) || v != (host.Verdict{}) {
				t.Errorf("once it was cancelled it had %+v and error %v", v, err)
			}
		})
	}
}

// TestNoneDelaysAnother: while one waits, others have their answers.
func TestNoneDelaysAnother(t *testing.T) {
	t.Parallel()
	p := new(probe.Prober)
	hung, accepted := rough(t, hang)
	good := httptest.NewServer(http.NotFoundHandler())
	defer good.Close()
	ctx, cancel := context.WithCancel(t.Context())
	slow := make(chan error, 1)
	go func() {
		_, err := p.Probe(ctx, host.Probe{Handler: httpGet(hung, "/")})
		slow <- err
	}()
	<-accepted
	for range 20 {
		expect(t, ask(t, host.Probe{Handler: httpGet(portOf(good), "/")}), false, "HTTP 404")
	}
	select {
	case err := <-slow:
		t.Errorf("the slow one is over: %v", err)
	default:
	}
	cancel()
	if err := <-slow; !errors.Is(err, context.Canceled) {
		t.Errorf("the slow one ended with %v", err)
	}
}

// TestNothingIsLeftBehind: no goroutine, and so no connection, of probes that ended well, badly and not at all.
func TestNothingIsLeftBehind(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would close what was not closed
	hung, _ := rough(t, hang)
	rude, _ := rough(t, func(net.Conn) {})
	endless, _ := rough(t, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", flood("1\r\na\r\n")))
	health := healthServer(t, nil)
	before := runtime.NumGoroutine()
	var all sync.WaitGroup
	for range 50 {
		for _, do := range []corev1.ProbeHandler{
			httpGet(hung, "/"), httpGet(rude, "/"), httpGet(endless, "/"), tcpSocket(hung),
			{GRPC: &corev1.GRPCAction{Port: int32(hung)}}, {GRPC: &corev1.GRPCAction{Port: int32(rude)}}, {GRPC: &corev1.GRPCAction{Port: int32(health)}},
		} {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				_, err := new(probe.Prober).Probe(ctx, host.Probe{Handler: do})
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	for began := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Since(began) > 10*time.Second {
			var b strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
			t.Fatalf("there were %d goroutines, and now there are\n%s", before, b.String())
		}
	}
}

// TestScarcity: that this machine has no descriptor left says nothing about a container.
func TestScarcity(t *testing.T) {
	port, _ := rough(t, hang) // what the runtime itself needs descriptors for is there now
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}()
	for name, do := range map[string]corev1.ProbeHandler{
		"tcp": tcpSocket(port), "http": httpGet(port, "/"), "grpc": {GRPC: &corev1.GRPCAction{Port: int32(port)}},
	} {
		if v, err := new(probe.Prober).Probe(t.Context(), host.Probe{Handler: do}); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s: got %+v and error %v", name, v, err)
		}
	}
}

// TestPorts: by number, by a name that the container gave, and what is neither.
func TestPorts(t *testing.T) {
	t.Parallel()
	open, _ := rough(t, says("HTTP/1.1 204 No Content\r\n\r\n"))
	ports := []corev1.ContainerPort{{Name: "other", ContainerPort: int32(nowhere(t))}, {Name: "web", ContainerPort: int32(open)}, {ContainerPort: 80}}
	for _, c := range []struct {
		name string
		port intstr.IntOrString
		err  string
	}{
		{"number", intstr.FromInt(open), ""},
		{"name", intstr.FromString("web"), ""},
		{"number as text", intstr.FromString(strconv.Itoa(open)), ""},
		{"unknown name", intstr.FromString("db"), `no port of the container is named "db"`},
		{"no name", intstr.FromString(""), `no port of the container is named ""`},
		{"zero", intstr.FromInt(0), "0 is not the number of a port"},
		{"too large", intstr.FromInt(65536), "65536 is not the number of a port"},
		{"negative", intstr.FromString("-1"), "-1 is not the number of a port"},
	} {
		for kind, do := range map[string]corev1.ProbeHandler{
			"http": {HTTPGet: &corev1.HTTPGetAction{Port: c.port}},
			"tcp":  {TCPSocket: &corev1.TCPSocketAction{Port: c.port}},
		} {
			v, err := new(probe.Prober).Probe(t.Context(), host.Probe{Handler: do, Ports: ports})
			switch {
			case c.err == "" && (err != nil || !v.Well):
				t.Errorf("%s, %s: got %+v and error %v", c.name, kind, v, err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%s, %s: error is %v, want %q", c.name, kind, err, c.err)
			}
		}
	}
}

// TestAddresses: the handler's host comes before the pod's address, and that before ours.
func TestAddresses(t *testing.T) {
	t.Parallel()
	port, _ := rough(t, hang)
	const nobody = "127.0.0.2" // on the loopback, and nobody listens there
	for _, c := range []struct {
		name, host, pod, local string
		well                   bool
	}{
		{"nothing said", "", "", "", true},
		{"local", "", "", nobody, false},
		{"pod", "", nobody, "127.0.0.1", false},
		{"pod before local", "", "127.0.0.1", nobody, true},
		{"host before all", "127.0.0.1", nobody, nobody, true},
		{"host by name", "localhost", nobody, nobody, true},
	} {
		do := tcpSocket(port)
		do.TCPSocket.Host = c.host
		v, err := (&probe.Prober{Local: c.local}).Probe(t.Context(), host.Probe{Handler: do, Address: c.pod})
		if err != nil || v.Well != c.well {
			t.Errorf("%s: got %+v and error %v", c.name, v, err)
		}
	}
}

func TestNoHandler(t *testing.T) {
	t.Parallel()
	if v, err := new(probe.Prober).Probe(t.Context(), host.Probe{}); err == nil {
		t.Errorf("a probe that asks nothing was answered: %+v", v)
	}
}
