package podman

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// StopContainer sends the stop signal and kills after grace.
func (m *Machine) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	return m.onContainer(ctx, "stop", id, func(ctx context.Context) error {
		seconds := uint(max(math.Ceil(grace.Seconds()), 0))
		if locksPod(ctx) {
			return endContainer(ctx, id, time.Duration(seconds)*time.Second)
		}
		return stopContainer(ctx, id, seconds)
	})
}

func stopContainer(ctx context.Context, id string, seconds uint) error {
	err := containers.Stop(ctx, id, new(containers.StopOptions).WithTimeout(seconds))
	if err != nil && strings.Contains(err.Error(), improper) && !strings.Contains(err.Error(), "paused") {
		return nil // it does not run
	}
	if err != nil && strings.Contains(err.Error(), "conmon exited prematurely") {
		return nil // it ended unwatched, and Podman 5 says so
	}
	return err
}

// locksPod reports whether Podman keeps a pod locked for as long as it stops one of its containers, so that no list of
// pods and no other stop gets through: since 5.6 it does.
func locksPod(ctx context.Context) bool {
	return bindings.ServiceVersion(ctx).GTE(semver.MustParse("5.6.0-0"))
}

// endContainer does what a stop does, without one. As with a stop, it goes on when its caller does not wait any more.
func endContainer(ctx context.Context, id string, grace time.Duration) error {
	data, err := containers.Inspect(ctx, id, nil)
	if err != nil {
		return err
	}
	switch state(data.State.Status) {
	case fleet.Running, fleet.Stopping:
	case fleet.Paused:
		return errors.New(improper + ": it is paused")
	default:
		return nil // it does not run
	}
	sig := "TERM"
	if data.Config != nil && data.Config.StopSignal != 0 {
		sig = strconv.FormatUint(uint64(data.Config.StopSignal), 10)
	}
	done := make(chan error, 1)
	go func() { done <- signalAndKill(context.WithoutCancel(ctx), id, sig, grace) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func signalAndKill(ctx context.Context, id, sig string, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	over := func(err error) bool { // it ended by itself
		return err != nil && (strings.Contains(err.Error(), improper) || errors.Is(kind(ctx, err), host.ErrNotFound))
	}
	if grace > 0 {
		err := containers.Kill(ctx, id, new(containers.KillOptions).WithSignal(sig))
		switch {
		case over(err):
			return nil
		case err != nil:
			return err
		}
		bounded, cancel := context.WithDeadline(ctx, deadline)
		options := new(containers.WaitOptions).WithConditions([]string{"stopped", "exited"}).WithInterval("50ms")
		_, err = containers.Wait(bounded, id, options)
		late := bounded.Err() != nil
		cancel()
		switch {
		case over(err):
			return nil
		case err != nil && !late:
			return err
		case err == nil:
			data, err := containers.Inspect(ctx, id, nil)
			if errors.Is(kind(ctx, err), host.ErrNotFound) || err == nil && state(data.State.Status) == fleet.Exited {
				return nil
			}
			// Its monitor is dead: Podman waits for nothing then, but its stop does.
			return stopContainer(ctx, id, uint(max(math.Ceil(time.Until(deadline).Seconds()), 0)))
		}
	}
	return stopContainer(ctx, id, 0)
}
