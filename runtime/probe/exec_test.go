package probe_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/probe"
)

var command = corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check", "-a"}}}

func TestExec(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		code   int
		output string
		want   host.Verdict
	}{
		{"well", 0, "all is fine\n", host.Verdict{Well: true}},
		{"bad", 1, "", host.Verdict{Text: "exit code 1"}},
		{"with words", 2, "no such table\n", host.Verdict{Text: "exit code 2: no such table"}},
		{"lines", 2, "\nfirst\r\n\tsecond\n\n", host.Verdict{Text: "exit code 2: first second"}},
		{"only space", 3, " \n\t", host.Verdict{Text: "exit code 3"}},
		{"may not be run", 126, "permission denied", host.Verdict{Text: "exit code 126: permission denied"}},
		{"is not there", 127, "", host.Verdict{Text: "exit code 127"}},
		{"killed", 137, "", host.Verdict{Text: "exit code 137"}},
		{"for a terminal", 1, "\x1b[31mred\x1b[0m\a\x00 \u202egnorw\u2028", host.Verdict{Text: "exit code 1: [31mred [0m gnorw"}},
		{"no UTF-8", 1, "caf\xe9 \xff\xfe", host.Verdict{Text: "exit code 1: caf\uFFFD \uFFFD"}},
		{"long", 1, strings.Repeat("word ", 2000), host.Verdict{Text: "exit code 1: " + strings.Repeat("word ", 36) + "word…"}},
		{"one long word", 1, strings.Repeat("é", 5000), host.Verdict{Text: "exit code 1: " + strings.Repeat("é", 92) + "…"}},
	} {
		p := &probe.Prober{Execs: execs(func(_ context.Context, container string, args []string) (int, []byte, error) {
			if container != "c1" || strings.Join(args, " ") != "check -a" {
				t.Errorf("%s: ran %q in %q", c.name, args, container)
			}
			return c.code, []byte(c.output), nil
		})}
		got, err := p.Probe(t.Context(), host.Probe{Container: "c1", Handler: command})
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v and error %v, want %+v", c.name, got, err, c.want)
		}
		isLine(t, got.Text)
	}
}

// TestExecCannotRun: what keeps a command from being run says nothing about the container, whatever time it is.
func TestExecCannotRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		wait bool
		err  error
	}{
		{"no container", false, host.ErrNotFound},
		{"no Podman", false, host.ErrUnavailable},
		{"another reason", false, errors.New("no space left on device")},
		{"no container at the deadline", true, host.ErrNotFound},
		{"no Podman at the deadline", true, fmt.Errorf("%w: %w", host.ErrUnavailable, context.DeadlineExceeded)},
		{"another deadline", false, context.DeadlineExceeded},
	} {
		p := &probe.Prober{Execs: execs(func(ctx context.Context, _ string, _ []string) (int, []byte, error) {
			if c.wait {
				<-ctx.Done()
			}
			return 0, nil, fmt.Errorf("exec: %w", c.err)
		})}
		limit := time.Minute
		if c.wait {
			limit = time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		if v, err := p.Probe(ctx, host.Probe{Handler: command}); !errors.Is(err, c.err) {
			t.Errorf("%s: got %+v and error %v", c.name, v, err)
		}
		cancel()
	}
}

// TestLateInSeconds: the text has the timeout as it was written, whatever time was spent on the way.
func TestLateInSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &probe.Prober{Execs: execs(func(ctx context.Context, _ string, _ []string) (int, []byte, error) {
			<-ctx.Done()
			return 0, nil, ctx.Err()
		})}
		for want, limit := range map[string]time.Duration{
			"no answer within 1s": time.Second - 23*time.Millisecond, "no answer within 30s": 30*time.Second - time.Microsecond, "no answer within 1m30s": 90 * time.Second,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			began := time.Now()
			v, err := p.Probe(ctx, host.Probe{Handler: command})
			if err != nil || v != (host.Verdict{Text: want}) || time.Since(began) != limit {
				t.Errorf("got %+v and error %v after %s, want %q", v, err, time.Since(began), want)
			}
			cancel()
		}
	})
}
