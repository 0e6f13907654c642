package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errRewound says that etcd is not the one that the mirror is of, or was restored to what it was before.
var errRewound = errors.New("etcd was restored from a snapshot, or is another one")

// errSilent says that a watch does not answer.
var errSilent = fmt.Errorf("the watch: %w", context.DeadlineExceeded)

// page is how many keys are asked for at a time in a list.
const page = 1000

// follow keeps the mirror what etcd holds: one list, and a watch from there; another list when the watch cannot go on.
func (s *Store) follow() {
	heard := time.Now() // when etcd last said something
	listed := false
	for s.ctx.Err() == nil {
		var err error
		began := time.Now()
		if !listed {
			err = s.list(&heard)
			listed = err == nil
		}
		again := false // it is listed again at once
		if listed {
			err = s.watch(&heard)
			again = errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, errRewound)
			listed = !again
		}
		if s.ctx.Err() != nil {
			return
		}
		if time.Since(heard) > s.cfg.TTL {
			s.ill(mirrorPart, err)
		}
		if again || heard.After(began) { // it was well, and another member may answer
			s.rest(pause)
		} else {
			s.rest(s.retry())
		}
	}
}

// list makes the mirror what etcd holds at one revision.
func (s *Store) list(heard *time.Time) error {
	all := map[string]*entry{}
	var rev int64
	var cluster uint64
	for from := s.cfg.Prefix; ; {
		ctx, cancel := context.WithTimeout(s.ctx, 2*s.cfg.TTL)
		resp, err := s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.cfg.Prefix)), clientv3.WithLimit(page), clientv3.WithRev(rev))
		cancel()
		if err != nil {
			return err
		}
		if rev == 0 {
			rev, cluster = resp.Header.Revision, resp.Header.ClusterId
		}
		for _, kv := range resp.Kvs {
			if !s.unmirrored(kv) {
				all[s.short(kv)] = entryOf(kv)
			}
		}
		if !resp.More {
			break
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	s.changed(s.mirror.replace(cluster, rev, all))
	*heard = time.Now()
	s.well(mirrorPart)
	return nil
}

// short is a key without the prefix.
func (s *Store) short(kv *mvccpb.KeyValue) string {
	return strings.TrimPrefix(string(kv.Key), s.cfg.Prefix)
}

func (s *Store) unmirrored(kv *mvccpb.KeyValue) bool {
	return strings.HasPrefix(s.short(kv), tokensArea+"/")
}

func entryOf(kv *mvccpb.KeyValue) *entry {
	return &entry{value: kv.Value, mod: kv.ModRevision, lease: clientv3.LeaseID(kv.Lease)}
}

// changed tells those who wait. They are rung before writers learn that their writes are in the mirror.
func (s *Store) changed(t touched) {
	if t.reports || t.others {
		s.watchers.ring()
	}
	if s.cache != nil {
		s.cache.touch(t)
	}
	s.mirror.stir()
}

// watch applies what changes until it cannot go on. A watch that nothing is heard of is asked, and given up when it does
// not answer: a connection may be cut without a word.
//
// It is a stream of its own and not clientv3's, which begins again after the last revision when its connection breaks: etcd does not
// answer a watch that waits for a revision that is not there yet, and where nobody writes such a watch looks as if it were dead. This
// one begins with what is known already, of which the mirror makes nothing new.
func (s *Store) watch(heard *time.Time) error {
	s.mirror.mu.Lock()
	rev, cluster := s.mirror.rev, s.mirror.cluster
	s.mirror.mu.Unlock()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(s.ctx))
	defer cancel()
	silence := time.AfterFunc(s.silence(), cancel)
	defer silence.Stop()
	stream, err := etcdserverpb.NewWatchClient(s.client.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err == nil {
		err = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: &etcdserverpb.WatchCreateRequest{
			Key: []byte(s.cfg.Prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(s.cfg.Prefix)), StartRevision: rev, Fragment: true,
		}}})
	}
	if err == nil {
		go s.ask(stream)
	}
	var events []*mvccpb.Event // of fragments
	for {
		var resp *etcdserverpb.WatchResponse
		if err == nil {
			resp, err = stream.Recv()
		}
		switch {
		case ctx.Err() != nil && !silence.Stop():
			return errSilent
		case err != nil:
			return rpctypes.Error(err)
		case resp.CompactRevision != 0:
			return rpctypes.ErrCompacted
		case resp.Canceled:
			return rpctypes.Error(status.Error(codes.FailedPrecondition, resp.CancelReason))
		case resp.Header.ClusterId != cluster || resp.Header.Revision < rev:
			return errRewound
		}
		*heard = time.Now()
		silence.Reset(s.silence())
		events = append(events, resp.Events...)
		switch n := len(events); {
		case resp.Fragment || resp.Created:
		case n > 0:
			rev = max(rev, events[n-1].Kv.ModRevision)
			s.changed(s.mirror.apply(rev, s.changes(events)))
			events = nil
		default: // progress, which is told when nothing is left to be
			rev = resp.Header.Revision
			s.mirror.apply(rev, nil)
			s.mirror.stir()
			s.well(mirrorPart)
		}
	}
}

// silence is how long a watch is believed that does not answer. One that is begun anew costs little.
func (s *Store) silence() time.Duration { return s.cfg.TTL / 2 }

// ask asks the watch to say that it is there, until it has ended.
func (s *Store) ask(stream etcdserverpb.Watch_WatchClient) {
	t := time.NewTicker(s.cfg.TTL / 5)
	defer t.Stop()
	for {
		err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{ProgressRequest: &etcdserverpb.WatchProgressRequest{}}})
		if err != nil { // Recv has it, too
			return
		}
		select {
		case <-stream.Context().Done():
			return
		case <-t.C:
		}
	}
}

func (s *Store) changes(events []*mvccpb.Event) []change {
	list := make([]change, 0, len(events))
	for _, e := range events {
		c := change{key: s.short(e.Kv)}
		if e.Type == mvccpb.PUT {
			c.entry = entryOf(e.Kv)
		}
		list = append(list, c)
	}
	return list
}
