package hosttest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Answer says how running containers answer Probes from now on. Which of a container's probes it is tells its
// handler. nil: all is well, but for commands of which Exec knows better. It may call the Host.
func (h *Host) Answer(answer func(host.Container, host.Probe) (host.Verdict, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// Probe asks a container once. One that does not run is not well.
func (h *Host) Probe(ctx context.Context, p host.Probe) (host.Verdict, error) {
	began := time.Now()
	v, err := h.probe(ctx, p)
	if deadline, ok := ctx.Deadline(); ok && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return host.Verdict{Text: fmt.Sprintf("no answer within %s", deadline.Sub(began))}, nil
	}
	return v, err
}

func (h *Host) probe(ctx context.Context, p host.Probe) (v host.Verdict, err error) {
	var spec host.Container
	var answer func(host.Container, host.Probe) (host.Verdict, error)
	var exec bool
	lost, err := h.begin(ctx, "Probe", "", func() error {
		c := h.findContainer(p.Container)
		switch {
		case p.Handler.Exec != nil && h.down:
			return unavailable()
		case p.Handler.Exec != nil && c == nil:
			return fmt.Errorf("probe container %s: %w", p.Container, notFound("container", p.Container))
		case c == nil:
			v.Text = "connection refused"
		case c.state != fleet.Running:
			v.Text = fmt.Sprintf("the container is %s", c.state)
		default:
			v.Well, spec, answer = true, cloneContainer(c.spec), h.answer
			exec = p.Handler.Exec != nil && knows(c, p.Handler.Exec.Command)
		}
		return nil
	})
	switch {
	case err != nil:
	case answer != nil:
		v, err = answer(spec, p)
	case exec:
		var code int
		var output []byte
		if code, output, err = h.Exec(ctx, p.Container, p.Handler.Exec.Command); err == nil && code != 0 {
			v = host.Verdict{Text: exited(code, output)}
		}
	}
	if err == nil {
		err = lost
	}
	if err != nil {
		return host.Verdict{}, err
	}
	return v, nil
}

// knows reports whether Exec knows what a command does in a container.
func knows(c *container, command []string) bool {
	return c.process.Exec != nil || len(command) > 0 && slices.Contains(common, path.Base(command[0]))
}

func exited(code int, output []byte) string {
	text := fmt.Sprintf("exit code %d", code)
	if line := strings.TrimSpace(string(output)); line != "" {
		text += ": " + strings.ReplaceAll(line, "\n", "; ")
	}
	return text
}

// Hook runs a handler to its end. Whatever is asked by HTTP answers at once.
func (h *Host) Hook(ctx context.Context, k host.Hook) error {
	about := h.nameOf(k.Container) + " " + handler(k.Handler)
	lost, err := h.begin(ctx, "Hook", about, func() error {
		c := h.findContainer(k.Container)
		switch {
		case k.Handler.Exec != nil && h.down:
			return unavailable()
		case k.Handler.HTTPGet != nil && (c == nil || c.state != fleet.Running):
			return errors.New("connection refused")
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case k.Handler.Exec != nil:
		code, output, err := h.Exec(ctx, k.Container, k.Handler.Exec.Command)
		if err != nil {
			return err
		}
		if code != 0 {
			return errors.New(exited(code, output))
		}
	case k.Handler.Sleep != nil:
		timer := time.NewTimer(time.Duration(k.Handler.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	case k.Handler.HTTPGet == nil:
		return errors.New("there is nothing to run in the handler")
	}
	return lost
}

// handler is a hook's handler as the journal has it.
func handler(h corev1.LifecycleHandler) string {
	switch {
	case h.Exec != nil:
		return fmt.Sprintf("exec %v", h.Exec.Command)
	case h.HTTPGet != nil:
		return fmt.Sprintf("httpGet :%s%s", h.HTTPGet.Port.String(), h.HTTPGet.Path)
	case h.Sleep != nil:
		return fmt.Sprintf("sleep %d", h.Sleep.Seconds)
	default:
		return "nothing"
	}
}
