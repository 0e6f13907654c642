package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-dev/skerry/coord"
)

// lease is the right to commit: the key of the leader, on a lease of etcd's that is renewed by our own clock.
//
// When the request that made or renewed it was sent at t, etcd keeps it until t+LeaderTTL at least: no leader of raft renews it who was
// not one after t, and the next one lets all leases begin anew. The context ends a tenth of it before that, whatever the network does.
type lease struct {
	store  *Store
	id     clientv3.LeaseID
	fence  int64           // revision at which the key was created
	ctx    context.Context //nolint:containedctx // a lease is a context: coord.Lease
	cancel context.CancelFunc
	expiry *time.Timer   // cancels
	ended  chan struct{} // closed when etcd was told, or could not be
}

func (l *lease) Context() context.Context { return l.ctx }

// Release tells etcd, so that somebody else can lead at once; where etcd does not answer, the lease runs out.
func (l *lease) Release() {
	l.cancel()
	<-l.ended
}

// Campaign waits until nobody leads and etcd answers, and tries then. It asks nothing meanwhile.
func (s *Store) Campaign(ctx context.Context) (coord.Lease, error) {
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(s.ctx, cancel) //nolint:contextcheck // both end it
	for {
		l, err := s.lead(ctx, cancel)
		if err == nil {
			context.AfterFunc(l.ctx, func() { unhook() }) //nolint:contextcheck // is made of ctx
			return l, nil
		}
		if ctx.Err() != nil {
			unhook()
			cancel()
			return nil, ctx.Err()
		}
		s.pauseFor(ctx, s.retry())
	}
}

// pauseFor waits, or until ctx ends.
func (s *Store) pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

var errOutrun = errors.New("somebody else leads")

// lead tries once, as soon as nobody leads. ctx, which cancel cancels, becomes that of the lease.
func (s *Store) lead(ctx context.Context, cancel context.CancelFunc) (*lease, error) {
	err := s.mirror.until(ctx, func() bool { return s.mirror.rev > 0 && s.mirror.get(leaderArea) == nil && s.Away() == "" })
	if err != nil {
		return nil, err
	}
	once, done := context.WithTimeout(ctx, s.cfg.TTL/2)
	defer done()
	sent := time.Now()
	grant, err := s.client.Grant(once, seconds(s.cfg.LeaderTTL))
	if err != nil {
		return nil, err
	}
	l := &lease{store: s, id: grant.ID, ctx: ctx, cancel: cancel, ended: make(chan struct{})}
	key := s.key(leaderArea)
	resp, err := s.client.Txn(once).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(s.cfg.Node), clientv3.WithLease(grant.ID))).Else(clientv3.OpGet(key)).Commit()
	if err == nil && !resp.Succeeded {
		err = errOutrun
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			_ = s.mirror.await(once, kvs[0].ModRevision) // or it would be tried again before the key is seen
		}
	}
	if err == nil {
		l.fence = resp.Header.Revision
		// Whoever leads has seen all that those before it committed.
		err = s.mirror.await(once, l.fence)
	}
	if err != nil {
		l.tell() //nolint:contextcheck // must be said although ctx may have ended
		return nil, err
	}
	l.expiry = time.AfterFunc(time.Until(l.deadline(sent)), cancel)
	if !s.spawn(l.hold) {
		l.tell() //nolint:contextcheck // must be said although ctx may have ended
		return nil, context.Canceled
	}
	s.spawn(func() { s.tidy(l) })
	return l, nil
}

// deadline is until when the lease is held for certain, by what was sent at that time.
func (l *lease) deadline(sent time.Time) time.Time {
	ttl := l.store.cfg.LeaderTTL
	return sent.Add(ttl - ttl/10)
}

// hold renews the lease until its context ends.
func (l *lease) hold() {
	defer close(l.ended)
	defer l.tell()
	defer l.expiry.Stop()
	ttl := l.store.cfg.LeaderTTL
	for wait := ttl / 4; ; {
		l.store.pauseFor(l.ctx, wait)
		if l.ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(l.ctx, ttl/3)
		sent := time.Now()
		err := l.store.keepAlive(ctx, l.id)
		cancel()
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			l.cancel()
			return
		case err != nil:
			wait = ttl / 20
		case !l.expiry.Reset(time.Until(l.deadline(sent))): // it had fired: too late
			l.cancel()
			return
		default:
			wait = ttl / 4
		}
	}
}

// tell ends the lease in etcd, and the key with it.
func (l *lease) tell() {
	ctx, cancel := l.store.farewell()
	defer cancel()
	_, _ = l.store.client.Revoke(ctx, l.id) // or it runs out
}

// guard is what every write of a leader depends on.
func (l *lease) guard() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(l.store.key(leaderArea)), "=", l.fence)
}

// lost makes an error of what was tried under a lease.
func (l *lease) lost(ctx context.Context, what string, err error) error {
	if errors.Is(err, coord.ErrLost) || ctx.Err() == nil && l.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, coord.ErrLost)
	}
	return away(ctx, what, err)
}
