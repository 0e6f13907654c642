package probe

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-dev/skerry/runtime/host"
)

// Hook does what a handler says and waits for its end. It has no timeout but ctx, whose error it is when that ends
// first. A command that ends with another code than 0 is an error with what the command said; an HTTP server may answer
// what it likes, once redirects on the same host are followed.
func (p *Prober) Hook(ctx context.Context, h host.Hook) error {
	address := p.address(h.Address)
	switch do := h.Handler; {
	case do.Exec != nil:
		return p.askCommand(ctx, h.Container, do.Exec.Command)
	case do.HTTPGet != nil:
		_, err := get(ctx, do.HTTPGet, address, h.Ports, hookAgent)
		return err
	case do.TCPSocket != nil:
		return askTCP(ctx, do.TCPSocket, address, h.Ports)
	case do.Sleep != nil:
		return sleep(ctx, time.Duration(do.Sleep.Seconds)*time.Second)
	default:
		return errors.New("the hook has no handler")
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
