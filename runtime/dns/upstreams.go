package dns

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"
)

const (
	fresh   = time.Second     // for so long the list of resolvers is not looked at again
	reprobe = time.Minute     // and for so long a resolver that is not ourselves is believed not to be
	probing = 2 * time.Second // that a probe has to come back
)

// upstreams are the resolvers as they are known.
type upstreams struct {
	source func() []netip.AddrPort
	self   []netip.AddrPort // where we listen

	looking sync.Mutex // held by whoever renews the rest
	looked  atomic.Int64
	probed  time.Time
	all     atomic.Pointer[[]*upstream]
}

// upstream is one resolver.
type upstream struct {
	addr  netip.AddrPort
	rests atomic.Int64 // it is asked last until then, in nanoseconds; 0: it answered when it was asked
	ours  atomic.Bool  // what it is asked ends here again

	sockets sockets
}

// resolvers are those to ask now, in order. It waits for nobody: while somebody else is at renewing the list, it is the old one.
func (s *Server) resolvers(ctx context.Context) []*upstream {
	u, now := &s.upstream, time.Now()
	if now.UnixNano()-u.looked.Load() > int64(fresh) && u.looking.TryLock() {
		s.renew(ctx, now)
		u.looked.Store(now.UnixNano())
		u.looking.Unlock()
	}
	all := u.all.Load()
	if all == nil {
		return nil
	}
	out := make([]*upstream, 0, len(*all))
	var last []*upstream
	for _, each := range *all {
		switch {
		case each.ours.Load():
		case each.rests.Load() > now.UnixNano():
			last = append(last, each)
		default:
			out = append(out, each)
		}
	}
	return append(out, last...)
}

// renew reads the list, and finds out which of it are ourselves.
func (s *Server) renew(ctx context.Context, now time.Time) {
	u := &s.upstream
	var old []*upstream
	if p := u.all.Load(); p != nil {
		old = *p
	}
	again := now.Sub(u.probed) > reprobe
	if again {
		u.probed = now
	}
	var all []*upstream
	for _, addr := range u.source() {
		addr = plain(addr)
		if !addr.IsValid() || slices.ContainsFunc(all, func(o *upstream) bool { return o.addr == addr }) {
			continue
		}
		i := slices.IndexFunc(old, func(o *upstream) bool { return o.addr == addr })
		known := i >= 0
		one := &upstream{addr: addr}
		if known {
			one = old[i]
		}
		all = append(all, one)
		switch {
		case u.isSelf(addr):
			s.leaveOut(one)
		case !known || again:
			s.work.Go(func() { s.probe(ctx, one) })
		}
	}
	u.all.Store(&all)
	for _, one := range old {
		if !slices.Contains(all, one) {
			one.sockets.end()
		}
	}
}

// end closes what is kept for asking.
func (u *upstreams) end() {
	if all := u.all.Load(); all != nil {
		for _, one := range *all {
			one.sockets.end()
		}
	}
}

// isSelf says whether we listen at addr.
func (u *upstreams) isSelf(addr netip.AddrPort) bool {
	return slices.ContainsFunc(u.self, func(s netip.AddrPort) bool {
		return s == addr || s.Port() == addr.Port() && s.Addr().IsUnspecified() && addr.Addr().IsLoopback()
	})
}

func (s *Server) leaveOut(u *upstream) {
	if !u.ours.Swap(true) {
		s.log.Warn("resolver is left out, for what it is asked comes back here", "resolver", u.addr)
	}
}

// probe asks u for a name that nobody else asks for, and nobody has. If that comes back to us, by whatever way, cameBack leaves u out.
func (s *Server) probe(ctx context.Context, u *upstream) {
	ctx, cancel := context.WithTimeout(ctx, probing)
	defer cancel()
	name := fmt.Sprintf("%016x.%016x.", rand.Uint64(), rand.Uint64())
	p := &probe{of: u}
	s.probes.Store(name, p)
	defer s.probes.Delete(name)
	query, err := new(wire.Msg).SetQuestion(name, wire.TypeHINFO).Pack()
	if err != nil {
		return
	}
	if _, err := exchange(ctx, u, query); err == nil && !p.back.Load() && u.ours.Swap(false) {
		s.log.Info("resolver is asked again", "resolver", u.addr)
	}
}

// probe is one that is under way.
type probe struct {
	of   *upstream
	back atomic.Bool
}

// cameBack says whether name is that of a probe.
func (s *Server) cameBack(name string) bool {
	v, ok := s.probes.Load(strings.ToLower(name))
	if ok {
		p := v.(*probe)
		p.back.Store(true)
		s.leaveOut(p.of)
	}
	return ok
}

// behindStub is where systemd-resolved names the resolvers that it asks itself.
const behindStub = "/run/systemd/resolve/resolv.conf"

// resolvConf are the resolvers of the machine. One goroutine at a time may read it.
type resolvConf struct {
	path, behind string
	log          *slog.Logger

	seen  [2]os.FileInfo // of both files as they were read; nil for one that was not there
	known []netip.AddrPort
	err   string // why it could not be read, the last time
}

// read is the list as the files have it. It reads them only if they have changed; of files that cannot be read, or name nobody,
// the old list holds.
func (r *resolvConf) read() []netip.AddrPort {
	var now [2]os.FileInfo
	for i, path := range []string{r.path, r.behind} {
		now[i], _ = os.Stat(path)
	}
	if r.known != nil && same(now[0], r.seen[0]) && same(now[1], r.seen[1]) {
		return r.known
	}
	list, err := nameservers(r.path)
	if slices.ContainsFunc(list, stub) {
		// On a machine where the file is missing the stub is still better than nobody.
		if behind, err := nameservers(r.behind); err == nil && len(behind) > 0 {
			list = behind
		}
	}
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s: it names nobody", r.path)
	}
	if err != nil {
		if r.err != err.Error() {
			r.err = err.Error()
			r.log.Warn("cannot read who the resolvers are", "error", err)
		}
		return r.known
	}
	r.seen, r.known, r.err = now, list, ""
	return list
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}

// stub says whether a is an address of systemd-resolved's own.
func stub(a netip.AddrPort) bool {
	return a.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || a.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 54})
}

// nameservers are those of a file in the form of resolv.conf(5). Lines that make no sense are passed over, as the C library
// does.
func nameservers(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []netip.AddrPort
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			list = append(list, netip.AddrPortFrom(a, 53))
		}
	}
	return list, lines.Err()
}
