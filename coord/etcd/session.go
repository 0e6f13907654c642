package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-dev/skerry/fleet"
)

// session is what others know a node to be alive by: a lease in etcd that its report hangs on. Losing it loses no lease to
// commit, which has one of its own.
type session struct {
	mu    sync.Mutex
	lease clientv3.LeaseID                    // 0 while there is none
	said  map[fleet.NodeName]fleet.NodeReport // what is to be told
	bell  chan struct{}                       // rings when one of these changed
}

func (n *session) init() {
	n.said, n.bell = map[fleet.NodeName]fleet.NodeReport{}, make(chan struct{}, 1)
}

func (n *session) ring() {
	select {
	case n.bell <- struct{}{}:
	default:
	}
}

func (n *session) become(lease clientv3.LeaseID) {
	n.mu.Lock()
	n.lease = lease
	n.mu.Unlock()
	n.ring()
}

func (s *Store) ownSession() clientv3.LeaseID {
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	return s.session.lease
}

// seconds is a time to live as etcd counts it.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// keepSession has a session whenever etcd answers, and ends it in the end.
func (s *Store) keepSession() {
	seen := time.Now() // when etcd last answered
	for s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.TTL/2)
		grant, err := s.client.Grant(ctx, seconds(s.cfg.TTL))
		cancel()
		if err != nil {
			s.unanswered(seen, err)
			s.rest(s.retry())
			continue
		}
		seen = time.Now()
		s.well(sessionPart)
		s.session.become(grant.ID)
		s.renew(grant.ID, &seen)
		s.session.become(0)
	}
}

// renew returns when the lease is no more.
func (s *Store) renew(lease clientv3.LeaseID, seen *time.Time) {
	wait := s.cfg.TTL / 4
	for {
		s.rest(wait)
		if s.ctx.Err() != nil {
			bye, cancel := s.farewell()
			_, _ = s.client.Revoke(bye, lease) // or it ends by itself
			cancel()
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.TTL/3)
		_, err := s.client.KeepAliveOnce(ctx, lease)
		cancel()
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return
		case err != nil:
			s.unanswered(*seen, err)
			wait = s.retry()
		default:
			*seen = time.Now()
			s.well(sessionPart)
			wait = s.cfg.TTL / 4
		}
	}
}

func (s *Store) unanswered(since time.Time, err error) {
	if s.ctx.Err() == nil && time.Since(since) > s.cfg.TTL*3/4 {
		s.ill(sessionPart, err)
	}
}
