package probe_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/probe"
)

func TestHookCommand(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for _, c := range []struct {
		name   string
		code   int
		output string
		err    error
		want   string
	}{
		{"done", 0, "bye\n", nil, ""},
		{"bad", 3, "not\nyet", nil, "exit code 3: not yet"},
		{"bad without a word", 1, "", nil, "exit code 1"},
		{"cannot run", 0, "", gone, "run command: gone"},
	} {
		p := &probe.Prober{Execs: execs(func(context.Context, string, []string) (int, []byte, error) { return c.code, []byte(c.output), c.err })}
		err := p.Hook(t.Context(), host.Hook{Handler: corev1.LifecycleHandler{Exec: command.Exec}})
		if (c.want == "") != (err == nil) || err != nil && err.Error() != c.want {
			t.Errorf("%s: error is %v, want %q", c.name, err, c.want)
		}
		if c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: the error lost its kind: %v", c.name, err)
		}
	}
}

func TestHookHTTP(t *testing.T) {
	t.Parallel()
	drained := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/drain":
			http.Redirect(w, r, "/drain/", http.StatusMovedPermanently)
		case "/drain/":
			drained <- r.UserAgent()
		case "/away":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		default:
			http.Error(w, "no", http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	cut, _ := rough(t, says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbye"))
	rude, _ := rough(t, func(net.Conn) {})
	for _, c := range []struct {
		name string
		port intstr.IntOrString
		path string
		want string
	}{
		{"redirected", intstr.FromInt(portOf(s)), "/drain", ""},
		{"elsewhere", intstr.FromInt(portOf(s)), "/away", ""},
		{"an error of the server", intstr.FromInt(portOf(s)), "/", ""},
		{"half an answer", intstr.FromInt(cut), "/", ""},
		{"no answer", intstr.FromInt(rude), "/", "ask 127.0.0.1:"},
		{"nobody there", intstr.FromInt(nowhere(t)), "/", "connection refused"},
		{"no such port", intstr.FromString("web"), "/", "no port of the container"},
	} {
		err := new(probe.Prober).Hook(t.Context(), host.Hook{Handler: corev1.LifecycleHandler{
			HTTPGet: &corev1.HTTPGetAction{Port: c.port, Path: c.path},
		}})
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", c.name, err, c.want)
		}
	}
	if agent := <-drained; agent != "kube-lifecycle/skerry" {
		t.Errorf("the server was asked by %q", agent)
	}
}

func TestHookTCP(t *testing.T) {
	t.Parallel()
	open, _ := rough(t, hang)
	for port, want := range map[int]bool{open: true, nowhere(t): false} {
		err := new(probe.Prober).Hook(t.Context(), host.Hook{Handler: corev1.LifecycleHandler{TCPSocket: tcpSocket(port).TCPSocket}})
		if (err == nil) != want {
			t.Errorf("error is %v, well is %v", err, want)
		}
	}
	if err := new(probe.Prober).Hook(t.Context(), host.Hook{}); err == nil {
		t.Error("a hook without a handler was done")
	}
}

func TestHookSleeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nap := host.Hook{Handler: corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 20}}}
		began := time.Now()
		if err := new(probe.Prober).Hook(t.Context(), nap); err != nil || time.Since(began) != 20*time.Second {
			t.Errorf("slept %s, error is %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began = time.Now()
		if err := new(probe.Prober).Hook(ctx, nap); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("slept %s, error is %v", time.Since(began), err)
		}
	})
}

// TestHookEnds: a hook that does not end by itself ends with its context, with that one's error.
func TestHookEnds(t *testing.T) {
	t.Parallel()
	p := &probe.Prober{Execs: execs(func(ctx context.Context, _ string, _ []string) (int, []byte, error) {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	})}
	hung, _ := rough(t, hang)
	for name, do := range map[string]corev1.LifecycleHandler{
		"exec": {Exec: command.Exec}, "http": {HTTPGet: httpGet(hung, "/").HTTPGet},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := p.Hook(ctx, host.Hook{Handler: do}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("at its deadline the error is %v", err)
			}
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			if err := p.Hook(ctx, host.Hook{Handler: do}); !errors.Is(err, context.Canceled) {
				t.Errorf("when it was cancelled the error is %v", err)
			}
		})
	}
}
