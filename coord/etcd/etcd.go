// Package etcd is the memory of a fleet of many machines, in etcd: Store is a client of it, Member an embedded server.
//
// A Store holds a mirror of all that the fleet remembers, and answers every read from it, whether or not etcd does: a node
// whose store is away, or that was started while it is, goes on with what was last known. Only writes wait for the network.
//
// The assignment lies in many small keys, so that a change of one pod writes few bytes; what is too large for one transaction
// is staged first, and the transaction that commits it names the stage (commit.go). A commit is fenced by the key of the
// leader, which lives as long as a lease that is renewed by a clock of our own: who leads lets go before etcd gives the
// lease to somebody else.
//
// It passes the suites of coordtest on embedded members, with connections that are cut.
package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// Config is what a Store needs to know.
type Config struct {
	Endpoints []string
	TLS       *tls.Config    // nil: without
	Node      fleet.NodeName // who campaigns
	Prefix    string         // of all keys; default /skerry/v1/
	TTL       time.Duration  // after which a node that is not heard of has no session any more; default 5 s
	// LeaderTTL is after which a leader that is not heard of leads no more; default 3 s, and not more than TTL. It is shorter, as all
	// wait for the next, while nothing is lost with a leader that was only slow. etcd takes 1.5 times its election timeout at least.
	LeaderTTL time.Duration
	// Cache is a file for what was last known, to be started with while nothing answers; empty: none.
	Cache string
	Log   *slog.Logger // default: none
}

// Store implements coord.Store, coord.Intents, coord.Roll and coord.Tokens.
type Store struct {
	cfg     Config
	client  *clientv3.Client
	ctx     context.Context //nolint:containedctx // what the store's own goroutines live in
	stop    context.CancelFunc
	loops   sync.WaitGroup
	closing sync.Mutex
	closed  bool

	mirror   *mirror
	health   health
	watchers watchers
	session  session
	cache    *cache        // nil: none
	commits  chan struct{} // holds one token while nobody commits or folds
}

var (
	_ coord.Store   = (*Store)(nil)
	_ coord.Intents = (*Store)(nil)
	_ coord.Roll    = (*Store)(nil)
	_ coord.Tokens  = (*Store)(nil)
)

// Open starts a client. It does not wait for etcd: until etcd answers, reads have what the cache file held, and Away says why.
// The context is for opening alone. An error is one of configuration.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "/skerry/v1/"
	}
	if cfg.TTL == 0 {
		cfg.TTL = 5 * time.Second
	}
	if cfg.LeaderTTL == 0 {
		cfg.LeaderTTL = min(3*time.Second, cfg.TTL)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	client, err := clientv3.New(clientv3.Config{
		Context:   context.WithoutCancel(ctx), // it says farewell when all else has ended
		Endpoints: cfg.Endpoints, TLS: cfg.TLS, Logger: zap.NewNop(),
		// A connection that is cut without a word is noticed by the session and the watch, which ask more often than these do.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: cfg.TTL,
		BackoffWaitBetween: 50 * time.Millisecond,
		// A member that is back is found at once, and not after two minutes, as gRPC has it.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: cfg.TTL,
		}), grpc.WithChainUnaryInterceptor(askTheNext)},
	})
	if err != nil {
		stop()
		return nil, fmt.Errorf("open the fleet's store: %w", err)
	}
	s := &Store{cfg: cfg, client: client, ctx: own, stop: stop, mirror: newMirror(), commits: make(chan struct{}, 1)}
	s.commits <- struct{}{}
	s.session.init()
	s.health.set(mirrorPart, "connecting to etcd")
	if cfg.Cache != "" {
		s.cache = newCache(cfg.Cache)
		if keys, err := s.cache.read(); err != nil {
			cfg.Log.Warn("cache of the fleet's store is not used", "err", err)
		} else {
			s.mirror.remember(keys)
		}
		s.loops.Go(s.keepCache)
	}
	s.loops.Go(s.follow)
	s.loops.Go(s.keepSession)
	s.loops.Go(s.tell)
	return s, nil
}

// Close ends the session, so that others see at once that the node stopped, and everything that the store started. Leases that are
// held end. It takes no longer than the TTL when nothing answers.
func (s *Store) Close() error {
	s.closing.Lock()
	s.closed = true
	s.closing.Unlock()
	s.stop()
	s.loops.Wait()
	return s.client.Close()
}

// spawn starts what Close waits for, or says that it is too late to.
func (s *Store) spawn(f func()) bool {
	s.closing.Lock()
	defer s.closing.Unlock()
	if !s.closed {
		s.loops.Go(f)
	}
	return !s.closed
}

// key is a key in etcd.
func (s *Store) key(rest string) string { return s.cfg.Prefix + rest }

// farewell is a context for what must be said although everything has ended.
func (s *Store) farewell() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(s.ctx), min(s.cfg.TTL, 2*time.Second))
}

// rest waits, or until the store is closed. It is what loops do before they try again.
func (s *Store) rest(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.ctx.Done():
	case <-t.C:
	}
}

// retry is how long loops wait before they try again.
func (s *Store) retry() time.Duration { return min(s.cfg.TTL/8, time.Second) }
