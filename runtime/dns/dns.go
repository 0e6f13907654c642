// Package dns is the cluster's DNS server, one on each node: it answers for the names of a fleet.Zone, and passes
// everything else on to the resolvers of the machine.
//
// What a caller may rely on: answers of the zone come from memory alone, and wait for nobody, whatever becomes of the
// resolvers. A zone is swapped as a whole, and each answer is of one zone. Names below the zone's domain are never asked of
// anybody else, neither those that are not there nor those that were asked before there was a zone. What is passed on is bounded in
// number and time: above it, or when no resolver answers, the client hears SERVFAIL. No packet, from pods or from
// resolvers, ends the process.
//
// It caches nothing, validates no signatures, and decides nothing: which names exist is the zone's business. Pods are no
// resolvers of ours: queries for transfers, updates and everything else that is not a plain question are refused.
//
// It is tested on the loopback against resolvers that are slow, dead, wrong or ourselves, with a zone that changes
// under load, and by fuzzing with raw packets; a benchmark holds it against asking a resolver without it.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

const (
	ttl     = 5    // seconds, of every record of the zone and of what is not there
	payload = 1232 // bytes: the most that is sent or asked for in one datagram, what any path lets pass in one piece

	forwards = 512 // queries that are with resolvers at one time
	conns    = 256 // TCP connections of clients at one time

	// A client of glibc waits 5 s, and it should hear that there is no answer. After patience the next resolver is asked
	// as well, and the first answer counts.
	patience = time.Second
	budget   = 4500 * time.Millisecond
	// A resolver that did not answer is asked last for so long.
	resting = 10 * time.Second
)

// Config is what a Server is made from.
type Config struct {
	// Upstreams names the resolvers, in the order in which they are asked. It is called at most once a second, and must not
	// block. When it is nil, they are those of ResolvConf.
	Upstreams func() []netip.AddrPort
	// ResolvConf is the file with the machine's resolvers, /etc/resolv.conf when it is empty. Where that names the stub of
	// systemd-resolved, the file with the resolvers behind it is read instead. A changed file is noticed within a second.
	ResolvConf string
	// Log hears of resolvers that do not answer or are ourselves, never of single queries. It may be nil.
	Log *slog.Logger
}

// Server is a DNS server. Its methods may be called at any time from any goroutine, but Serve only once.
type Server struct {
	table    atomic.Pointer[table] // nil before the first Set
	upstream upstreams
	slots    chan struct{} // one for each query that is with resolvers
	probes   sync.Map      // names that nobody else asks for → *probe
	log      *slog.Logger
	work     sync.WaitGroup // whatever Serve began

	patience, budget time.Duration
}

// New returns a Server without a zone: until Set it answers everything with SERVFAIL, for it cannot know what is its own.
func New(c Config) *Server {
	s := &Server{
		slots:    make(chan struct{}, forwards),
		log:      c.Log,
		patience: patience,
		budget:   budget,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.upstream.source = c.Upstreams
	if s.upstream.source == nil {
		file := resolvConf{path: c.ResolvConf, behind: behindStub, log: s.log}
		if file.path == "" {
			file.path = "/etc/resolv.conf"
		}
		s.upstream.source = file.read
	}
	return s
}

// Set makes z what is answered from now on. Nobody may change z or what it holds afterwards. A zone without a domain has
// no names but those of addresses: everything else is passed on.
func (s *Server) Set(z fleet.Zone) {
	next := newTable(z)
	for {
		last := s.table.Load()
		// Serials never go back, however often a second the zone changes.
		next.serial = uint32(time.Now().Unix())
		if last != nil && int32(next.serial-last.serial) <= 0 {
			next.serial = last.serial + 1
		}
		if s.table.CompareAndSwap(last, next) {
			return
		}
	}
}

// Serve answers on both sockets until ctx ends, which is no error, or one of them is closed by somebody else. Each should be bound to
// one address, which answers come from. It closes them, and everything that it began has ended when it returns.
func (s *Server) Serve(ctx context.Context, packets net.PacketConn, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() {
		_ = packets.Close()
		_ = listener.Close()
	})
	s.upstream.self = addresses(packets.LocalAddr(), listener.Addr())
	s.resolvers(ctx)

	failed := make(chan error, readers+1)
	for range readers {
		s.work.Go(func() { failed <- s.servePackets(ctx, packets) })
	}
	s.work.Go(func() { failed <- s.serveConns(ctx, listener) })

	err := <-failed
	cancel()
	s.work.Wait()
	s.upstream.end()
	return err
}

// ended says, of an error of a socket, whether that is over, and what Serve returns then. An error that passes is waited for.
func ended(ctx context.Context, doing string, err error) (over bool, _ error) {
	switch {
	case errors.Is(err, net.ErrClosed) && ctx.Err() == nil:
		return true, fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, net.ErrClosed):
		return true, nil // by us
	}
	select { // out of descriptors or memory, say
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
	return false, nil
}

// addresses are those of a, as far as they have any.
func addresses(all ...net.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range all {
		if p, err := netip.ParseAddrPort(a.String()); err == nil {
			out = append(out, plain(p))
		}
	}
	return out
}

// plain is p without the form of IPv6 for addresses of IPv4.
func plain(p netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()) }
