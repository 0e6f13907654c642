package etcd

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
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

	telling sync.Mutex // held while reports are written
	told    map[fleet.NodeName]*told
}

func (n *session) init() {
	n.said, n.bell = map[fleet.NodeName]fleet.NodeReport{}, make(chan struct{}, 1)
	n.told = map[fleet.NodeName]*told{}
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
		err := s.keepAlive(ctx, lease)
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

// keepAlive asks once for a lease to be renewed. The client's KeepAliveOnce tries again and again without a pause, until ctx ends.
func (s *Store) keepAlive(ctx context.Context, lease clientv3.LeaseID) error {
	within, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx)) // ends the stream
	defer cancel()
	stream, err := etcdserverpb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(within)
	if err != nil {
		return clientv3.ContextError(ctx, err)
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil && !errors.Is(err, io.EOF) { // Recv says why
		return clientv3.ContextError(ctx, err)
	}
	resp, err := stream.Recv()
	switch {
	case err != nil:
		return clientv3.ContextError(ctx, err)
	case resp.TTL <= 0:
		return rpctypes.ErrLeaseNotFound
	default:
		return nil
	}
}

func (s *Store) unanswered(since time.Time, err error) {
	if s.ctx.Err() == nil && time.Since(since) > s.cfg.TTL*3/4 {
		s.ill(sessionPart, err)
	}
}
