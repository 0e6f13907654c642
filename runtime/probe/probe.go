// Package probe asks containers how they are, and runs what they want done in their lives, as the kubelet does it: by
// a command in the container, an HTTP request, a TCP connection, or gRPC's health service.
//
// It asks once. How often, how many answers it takes to believe one, and what follows from it is decided elsewhere;
// nothing is retried, remembered or logged here. Whose failing something is, it does tell apart: that of a container is
// a verdict; what says nothing about the container, such as a command that Podman cannot start or a machine without a
// free file descriptor, is an error.
//
// Every question has a connection of its own, and no lock is shared. It is tested against servers on the loopback that
// behave as badly as they can, and a benchmark holds what an HTTP probe costs against net/http's Transport.
package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/runtime/host"
)

// Prober implements host.Prober. Its fields are set before it is used, and left alone then.
type Prober struct {
	// Execs runs the commands of exec handlers; without any of those it may be nil.
	Execs host.Execs
	// Local is where a pod is asked that has no address, because its network is the machine's; empty: 127.0.0.1.
	Local string
}

var _ host.Prober = (*Prober)(nil)

// Probe asks once, and has its answer when ctx ends at the latest. What the container fails is a verdict: a bad answer,
// no connection, nothing until ctx's deadline. A ctx that is cancelled is an error, and so is one that had ended before
// anything was asked. The verdict's text is one short line of valid UTF-8 that may be shown anywhere, and has nothing
// in it, such as a number of a port on our side, that differs between two probes that fail alike.
func (p *Prober) Probe(ctx context.Context, q host.Probe) (host.Verdict, error) {
	// Nobody is unwell because this machine was too busy to ask in time.
	if err := ctx.Err(); err != nil {
		return host.Verdict{}, err
	}
	began := time.Now()
	odd, err := p.ask(ctx, q)
	if err == nil {
		return host.Verdict{Well: true, Text: odd}, nil
	}
	if bad, ok := errors.AsType[unwell](err); ok {
		return host.Verdict{Text: string(bad)}, nil
	}
	// A Podman that is gone is not the container's fault, even if that was noticed by the deadline.
	if errors.Is(err, context.DeadlineExceeded) && over(ctx) != nil && !errors.Is(err, host.ErrUnavailable) {
		return host.Verdict{Text: late(ctx, began)}, nil
	}
	return host.Verdict{}, err
}

// ask does what the handler says. No error is a container that is well, and perhaps odd.
func (p *Prober) ask(ctx context.Context, q host.Probe) (odd string, err error) {
	address := p.address(q.Address)
	switch do := q.Handler; {
	case do.Exec != nil:
		return "", p.askCommand(ctx, q.Container, do.Exec.Command)
	case do.HTTPGet != nil:
		return askHTTP(ctx, do.HTTPGet, address, q.Ports)
	case do.TCPSocket != nil:
		return "", askTCP(ctx, do.TCPSocket, address, q.Ports)
	case do.GRPC != nil:
		return "", askGRPC(ctx, do.GRPC, address)
	default:
		return "", errors.New("the probe has no handler")
	}
}

// address is where a pod with that address is asked.
func (p *Prober) address(ofPod string) string { return cmp.Or(ofPod, p.Local, "127.0.0.1") }

// number is the number of a handler's port, which may be a name that the container gave it.
func number(port intstr.IntOrString, named []corev1.ContainerPort) (string, error) {
	n := port.IntValue() // 0 for what is no number
	for _, c := range named {
		if port.Type == intstr.String && c.Name != "" && c.Name == port.StrVal {
			n = int(c.ContainerPort)
			break
		}
	}
	switch {
	case n > 0 && n <= 65535:
		return strconv.Itoa(n), nil
	case n == 0 && port.Type == intstr.String:
		return "", fmt.Errorf("no port of the container is named %q", port.StrVal)
	default:
		return "", fmt.Errorf("%s is not the number of a port", port.String())
	}
}

// over is ctx's error if it has ended, or is about to: others who watch its deadline may be quicker than it.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	return nil
}

// late says that ctx's deadline came first, in the numbers of whoever wrote the timeout: what it took to get here is
// not taken off.
func late(ctx context.Context, began time.Time) string {
	const unit = 100 * time.Millisecond
	end, _ := ctx.Deadline()
	return "no answer within " + (end.Sub(began) + unit - 1).Truncate(unit).String()
}
