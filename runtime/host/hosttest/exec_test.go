package hosttest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

// acting is running with commands that act as exec says.
func acting(t *testing.T, exec func(context.Context, []string) (int, string)) (h *hosttest.Host, container string) {
	t.Helper()
	h = hosttest.New()
	h.AddImage("web:1")
	h.Behave("web:1", hosttest.Process{Exec: exec})
	pod, err := h.CreatePod(t.Context(), box("web"))
	if err != nil {
		t.Fatal(err)
	}
	container, err = h.StartContainer(t.Context(), app(pod, "web"))
	if err != nil {
		t.Fatal(err)
	}
	return h, container
}

func TestExec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, container := running(t)
		for command, want := range map[string]int{"true": 0, "false": 1, "other": 127} {
			code, output, err := h.Exec(t.Context(), container, []string{command})
			if code != want || err != nil || (len(output) > 0) != (command == "other") {
				t.Errorf("%s: %d, %q, %v", command, code, output, err)
			}
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, _, err := h.Exec(ctx, container, []string{"hang"}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("it hangs: %v after %s", err, time.Since(began))
		}
		if n := h.Lingering(); n != 0 {
			t.Errorf("%d linger", n)
		}

		code := make(chan int)
		go func() {
			n, _, _ := h.Exec(t.Context(), container, []string{"hang"})
			code <- n
		}()
		synctest.Wait()
		if n := h.Lingering(); n != 1 {
			t.Errorf("%d live", n)
		}
		if err := h.Kill(container, 1); err != nil {
			t.Error(err)
		}
		if n := <-code; n != 137 || h.Lingering() != 0 {
			t.Errorf("its container died: code %d, %d linger", n, h.Lingering())
		}
		if h.Writes() != 2 { // the pod and the container
			t.Errorf("a command counts as a write: %v", h.AllCalls())
		}
	})
}

func TestExecByProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, container := acting(t, func(_ context.Context, command []string) (int, string) {
			time.Sleep(time.Second)
			return len(command), strings.Repeat("x", 20<<10)
		})
		full := errors.New("full")
		h.Lose("Exec", 2, full)
		code, output, err := h.Exec(t.Context(), container, []string{"a", "b"})
		if code != 2 || len(output) != 10<<10 || err != nil {
			t.Errorf("%d, %d bytes, %v", code, len(output), err)
		}
		began := time.Now()
		if _, _, err := h.Exec(t.Context(), container, []string{"a"}); !errors.Is(err, full) || time.Since(began) != time.Second {
			t.Errorf("its answer was lost: %v after %s", err, time.Since(began))
		}
		h.Down()
		if _, _, err := h.Exec(t.Context(), container, []string{"a"}); !errors.Is(err, host.ErrUnavailable) {
			t.Errorf("without Podman: %v", err)
		}
	})
}

// byHTTP and byCommand are a probe's handlers.
var (
	byHTTP    = corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}
	byCommand = corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}}
)

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, container := running(t)
		ask := func(ctx context.Context, handler corev1.ProbeHandler) any {
			v, err := h.Probe(ctx, host.Probe{Container: container, Handler: handler})
			if err != nil {
				return err
			}
			return v
		}
		is := func(got, want any) {
			t.Helper()
			if wanted, ok := want.(error); ok {
				if err, ok := got.(error); !ok || !errors.Is(err, wanted) {
					t.Errorf("%v, want %v", got, want)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		well := host.Verdict{Well: true}
		is(ask(t.Context(), byHTTP), well)
		is(ask(t.Context(), byCommand), well)
		is(ask(t.Context(), corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"false"}}}), host.Verdict{Text: "exit code 1"})

		sick, broken := host.Verdict{Text: "HTTP 503"}, errors.New("broken")
		h.Answer(func(c host.Container, p host.Probe) (host.Verdict, error) {
			if p.Handler.HTTPGet != nil && c.Labels[fleet.LabelContainerName] == "app" {
				return sick, nil
			}
			return well, broken
		})
		is(ask(t.Context(), byHTTP), sick)
		is(ask(t.Context(), byCommand), broken)
		h.Answer(nil)

		h.Stall("Probe", 1)
		late, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		is(ask(late, byHTTP), host.Verdict{Text: "no answer within 3s"})
		cancel()
		late, cancel = context.WithTimeout(t.Context(), 2*time.Second)
		hang := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"hang"}}}
		is(ask(late, hang), host.Verdict{Text: "no answer within 2s"})
		cancel()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		is(ask(gone, byHTTP), context.Canceled)
		h.Fail("Probe", 1, broken)
		is(ask(t.Context(), byHTTP), broken)

		h.Down()
		is(ask(t.Context(), byHTTP), well)
		is(ask(t.Context(), byCommand), host.ErrUnavailable)
		h.Up()
		if err := h.Kill(container, 1); err != nil {
			t.Error(err)
		}
		is(ask(t.Context(), byHTTP), host.Verdict{Text: "the container is exited"})
		if err := h.Delete(container); err != nil {
			t.Error(err)
		}
		is(ask(t.Context(), byHTTP), host.Verdict{Text: "connection refused"})
		is(ask(t.Context(), byCommand), host.ErrNotFound)
		if n := h.Calls("Probe"); n != 14 || h.Writes() != 2 || h.Lingering() != 0 {
			t.Errorf("%d probes, %d writes, %d processes", n, h.Writes(), h.Lingering())
		}
	})
}

func TestHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, container := acting(t, func(_ context.Context, command []string) (int, string) {
			if command[0] == "drain" {
				return 0, ""
			}
			return 3, "no\nway\n"
		})
		run := func(handler corev1.LifecycleHandler) error {
			return h.Hook(t.Context(), host.Hook{Container: container, Handler: handler})
		}
		began := time.Now()
		if err := run(corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}); err != nil || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if err := run(corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"drain", "5"}}}); err != nil {
			t.Error(err)
		}
		if err := run(corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"fail"}}}); err == nil || err.Error() != "exit code 3: no; way" {
			t.Error(err)
		}
		http := corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/quit", Port: intstr.FromString("web")}}
		if err := run(http); err != nil {
			t.Error(err)
		}
		h.Stall("Hook", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := h.Hook(ctx, host.Hook{Container: container, Handler: http}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := h.Kill(container, 0); err != nil {
			t.Error(err)
		}
		if run(http) == nil {
			t.Error("a container that has ended answers")
		}
		want := []string{
			"CreatePod a_web", "StartContainer a_web_app", "Hook a_web_app sleep 5", "Hook a_web_app exec [drain 5]", "Hook a_web_app exec [fail]",
			"Hook a_web_app httpGet :web/quit", "Hook a_web_app httpGet :web/quit", "Hook a_web_app httpGet :web/quit",
		}
		if diff := cmp.Diff(want, h.Journal()); diff != "" {
			t.Error(diff)
		}
	})
}
