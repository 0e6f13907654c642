// Package proxy makes the node ports of Services work on a machine where nftables cannot: it is host.Network by sockets of this
// process, and needs no rights. It listens at each node port, on all addresses of the machine, those of loopback among them, and
// passes on what comes to one of the ends. No rule, route or setting of the machine is changed.
//
// What a caller may rely on: a port that stays wanted stays open, whatever becomes of its ends, its Service and of other ports. A
// TCP connection under way goes on until one of its sides ends it, even when its end or its port is wanted no more. What one side
// does the other one sees: the end of what it says, while it still listens, and a reset, which never looks like an end. A new
// connection that one end does not take is offered to the others, each once. Datagrams follow the ends that are wanted: a flow
// to one that is gone is over before Serve returns.
//
// What it does not do:
//   - Fronts at addresses (ClusterIPs, external addresses) and those of SCTP are passed over. To say so is the caller's business.
//   - Ends see this machine as the client. So Front.Masquerade has no effect, and neither have HostNet.Pods and HostNet.Here: an end that
//     went without a word is noticed by keep-alives, or when another machine answers in its place.
//   - A connection that nobody serves has been accepted before it is known, so it is reset and not refused. Drop does the same as
//     Reject. Datagrams that nobody serves are dropped in both cases.
//   - It ends with the process, and with it all connections. Which end a sticky client has is forgotten then, too.
//   - A connection costs six descriptors: two sockets and two pipes, through which the kernel moves what is said without
//     copying it here. An unprivileged user has memory for a few dozen pipes of full size (fs.pipe-user-pages-soft); connections beyond
//     are slower.
//   - Datagrams are copied, one by one.
//
// The choice of an end and the life of a flow are tables of values, and tested with times of their own; all else is tested on the
// loopback with real sockets. A benchmark holds it against going to the end directly.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

var _ host.Network = (*Proxy)(nil)

// Proxy serves node ports. Its methods may be called at any time from any goroutine.
type Proxy struct {
	log    *slog.Logger
	limits limits
	life   life

	mu   sync.Mutex
	open map[place]door
	over bool
}

// place is where something listens.
type place struct {
	protocol corev1.Protocol
	number   uint16
}

func placeOf(f fleet.Front) place { return place{f.Protocol, f.Number} }

// door is an open port.
type door interface {
	// serve makes what comes from now on go where f says.
	serve(f fleet.Front)
	// close lets nobody in any more.
	close()
}

// limits are fields for tests.
type limits struct {
	dial   time.Duration // for one end to take a connection
	idle   time.Duration // of a flow
	silent time.Duration // of a flow that was never answered
	flows  int           // of one front
}

// New returns a Proxy that serves nothing yet. log hears of ends that do not answer, on the level of Debug, and of a machine that
// has no room for another connection.
func New(log *slog.Logger) *Proxy {
	return &Proxy{
		log: log,
		limits: limits{
			dial: 2 * time.Second,
			// What the kernel takes for a flow that was never answered; half of what it takes for one that was, because here each costs
			// a descriptor.
			idle: time.Minute, silent: 30 * time.Second,
			flows: 4096,
		},
		life: newLife(),
		open: map[place]door{},
	}
}

// Serve opens the node ports of want, closes all others, and leads what comes from now on to the ends of want; see host.Network. A
// port that is taken by somebody else is part of the error, which is a host.ErrConflict then; all other ports are served
// nevertheless, and the next Serve tries again. The zero HostNet closes all ports; TCP connections under way are left to end by
// themselves, or by Close. After Close it does nothing, and says so.
func (p *Proxy) Serve(ctx context.Context, want fleet.HostNet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return errors.New("serve node ports: this is over")
	}
	fronts := nodePorts(want.Fronts)
	wanted := map[place]bool{}
	for _, f := range fronts {
		wanted[placeOf(f)] = true
	}
	for at, d := range p.open {
		if !wanted[at] {
			d.close()
			delete(p.open, at)
		}
	}
	var faults []error
	for _, f := range fronts {
		d, ok := p.open[placeOf(f)]
		if !ok {
			var err error
			if d, err = p.listen(ctx, f); err != nil {
				faults = append(faults, err)
				continue
			}
			p.open[placeOf(f)] = d
		}
		d.serve(f)
	}
	if len(faults) > 0 {
		return host.Partly{Err: errors.Join(faults...)}
	}
	return nil
}

// Check finds nothing lost: nobody else can close a socket of ours.
func (p *Proxy) Check(context.Context) (lost bool, err error) { return false, nil }

// Close closes all ports and resets all connections. When it returns, everything that Serve began has ended. It may be called
// again.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.over = true
	for at, d := range p.open {
		d.close()
		delete(p.open, at)
	}
	p.mu.Unlock()
	p.life.end()
}

// nodePorts are the fronts that are served here.
func nodePorts(fronts []fleet.Front) []fleet.Front {
	return slices.DeleteFunc(slices.Clone(fronts), func(f fleet.Front) bool {
		return f.Addr.IsValid() || f.Protocol != corev1.ProtocolTCP && f.Protocol != corev1.ProtocolUDP
	})
}

// listen opens the port of a front.
func (p *Proxy) listen(ctx context.Context, f fleet.Front) (d door, err error) {
	// Without a host it is one socket for both families, or one for IPv4 where the kernel knows nothing else.
	at := fmt.Sprintf(":%d", f.Number)
	if f.Protocol == corev1.ProtocolUDP {
		d, err = p.listenUDP(ctx, at)
	} else {
		d, err = p.listenTCP(ctx, at)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w by another program", host.ErrConflict)
	}
	if err != nil {
		return nil, fmt.Errorf("listen at node port %d (%s) of %s: %w", f.Number, f.Protocol, f.Service, err)
	}
	return d, nil
}

// life is the goroutines of a Proxy.
type life struct {
	// begin runs a function in a goroutine of its own, with a context that ends with the life.
	begin func(func(context.Context))
	// end ends it, and waits for all that was begun.
	end func()
}

func newLife() life {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	return life{
		begin: func(f func(context.Context)) { work.Go(func() { f(ctx) }) },
		end: func() {
			cancel()
			work.Wait()
		},
	}
}

// failed says, of an error of a socket that is listened on, whether it is over. One that passes is waited for.
func (p *Proxy) failed(ctx context.Context, doing string, err error) (over bool) {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	p.log.Warn("a node port has no room for what comes", "doing", doing, "err", err) // out of descriptors or memory, say
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
	return false
}

// draw is the dice.
var draw = rand.IntN
