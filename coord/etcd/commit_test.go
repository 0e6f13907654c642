package etcd

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func leading(t *testing.T, s *Store) *lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	l, err := s.Campaign(ctx)
	must(t, err)
	return l.(*lease)
}

func slots(epoch uint64, n int, node fleet.NodeName) fleet.Assignment {
	a := fleet.Assignment{Epoch: epoch, Heard: []fleet.NodeName{node}}
	for i := range n {
		a.Slots = append(a.Slots, fleet.Slot{Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "a", Name: fmt.Sprintf("p%05d", i)}, UID: fmt.Sprintf("u%05d", i)}, Node: node})
	}
	return a
}

// writes are the keys that were written after a revision.
func writes(t *testing.T, m *Member, prefix string, rev int64) []string {
	t.Helper()
	resp, err := m.local.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithMinModRev(rev+1))
	must(t, err)
	var keys []string
	for _, kv := range resp.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

func revision(t *testing.T, m *Member) int64 {
	t.Helper()
	resp, err := m.local.Get(t.Context(), "x")
	must(t, err)
	return resp.Header.Revision
}

// TestOnlyWhatChangedIsWritten: of a commit that changes one slot of a thousand, one slot and the head are written.
func TestOnlyWhatChangedIsWritten(t *testing.T) {
	m := member(t)
	s := connected(t, Config{Endpoints: m.Endpoints(), Node: "a"})
	l := leading(t, s)
	must(t, s.Commit(t.Context(), l, slots(1, 1000, "x")))
	<-s.commits
	must(t, s.fold(t.Context(), l))
	s.commits <- struct{}{}
	before := revision(t, m)
	next := slots(2, 1000, "x")
	next.Slots[500].Node = "y"
	must(t, s.Commit(t.Context(), l, next))
	if got := writes(t, m, "/skerry/v1/assignment/", before); len(got) != 2 {
		t.Fatalf("written: %q", got)
	}
}

// TestNextLeaderFolds: what a leader staged and committed, and did not live to fold, is there for all, and the next leader folds it;
// what it staged and did not commit never counts, and goes.
func TestNextLeaderFolds(t *testing.T) {
	m := member(t)
	a := connected(t, Config{Endpoints: m.Endpoints(), Node: "a"})
	b := connected(t, Config{Endpoints: m.Endpoints(), Node: "b"})
	l := leading(t, a)
	must(t, a.Commit(t.Context(), l, slots(1, 3, "x")))
	<-a.commits // nothing is folded from here on
	large := slots(2, 400, "y")
	large.Slots = large.Slots[1:]
	base, err := a.base()
	must(t, err)
	ops, err := a.diff(base, &large)
	must(t, err)
	n, err := a.stage(t.Context(), l, 2, ops)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, b.mirror.until(ctx, func() bool { return len(b.mirror.areas[stagedArea]) == n })) // nobody is rung for a stage
	if got, err := b.Load(t.Context()); err != nil || got.Epoch != 1 || len(got.Slots) != 3 {
		t.Fatalf("a stage counts before it is committed: epoch %d, %d slots, %v", got.Epoch, len(got.Slots), err)
	}
	must(t, a.commitHead(t.Context(), l, base.mod, head{Epoch: 2, Staged: n}, nil))
	whole := func(s *Store) bool {
		got, err := s.Load(t.Context())
		return err == nil && got.Epoch == 2 && len(got.Slots) == 399 && got.Slots[0].UID == "u00001" && got.Slots[398].Node == "y"
	}
	until(t, b, "the staged commit is seen", func() bool { return whole(b) })
	must(t, a.fenced(t.Context(), l, []op{{key: a.key(stageKey(3, 0)), value: []byte("{}")}}))
	l.Release()
	second := leading(t, b)
	<-b.commits // tidy folds, or has not begun
	must(t, b.fold(t.Context(), second))
	b.commits <- struct{}{}
	if got := writes(t, m, "/skerry/v1/staged/", 0); len(got) != 0 {
		t.Fatalf("left over: %q", got)
	}
	if got := writes(t, m, "/skerry/v1/assignment/slot/", 0); len(got) != 399 {
		t.Fatalf("%d slots are where they belong", len(got))
	}
	if !whole(b) {
		t.Fatal("folding changed what is read")
	}
	a.commits <- struct{}{}
	fresh := connected(t, Config{Endpoints: m.Endpoints(), Node: "c"})
	if !whole(fresh) {
		t.Fatal("who lists anew reads something else")
	}
}

// TestFencedByTheKey: a leader whose key is gone commits nothing, whatever its clock says; large or small.
func TestFencedByTheKey(t *testing.T) {
	m := member(t)
	s := connected(t, Config{Endpoints: m.Endpoints(), Node: "a"})
	for _, size := range []int{1, 1000} {
		l := leading(t, s)
		_, err := m.local.Delete(t.Context(), s.key(leaderArea))
		must(t, err)
		if err := s.Commit(t.Context(), l, slots(1, size, "x")); !errors.Is(err, coord.ErrLost) {
			t.Fatalf("commit without the key: %v", err)
		}
		l.Release()
	}
	if got := writes(t, m, "/skerry/v1/assignment/", 0); len(got) != 0 {
		t.Fatalf("written: %q", got)
	}
}

// TestLostAnswer: a commit came through, and its leader does not know. Its next commit finds out, and counts.
func TestLostAnswer(t *testing.T) {
	m := member(t)
	s := connected(t, Config{Endpoints: m.Endpoints(), Node: "a"})
	l := leading(t, s)
	must(t, s.Commit(t.Context(), l, slots(1, 3, "x")))
	_, err := m.local.Put(t.Context(), s.key(assignmentArea+"/head"), `{"epoch":2}`)
	must(t, err)
	must(t, s.Commit(t.Context(), l, slots(3, 4, "x")))
	if err := s.commitHead(t.Context(), l, l.fence, head{Epoch: 9}, nil); !errors.Is(err, errStale) {
		t.Fatalf("a commit upon what is no more: %v", err)
	}
	if err := s.Commit(t.Context(), l, slots(3, 4, "x")); !errors.Is(err, coord.ErrLost) {
		t.Fatalf("an epoch that is there: %v", err)
	}
}

// TestLeaseEndsByItsOwnClock: nothing answers, and the context has ended when etcd takes the key away.
func TestLeaseEndsByItsOwnClock(t *testing.T) {
	m := member(t)
	f := newClients(t, m)
	s := f.Client("a").(*Store)
	l := leading(t, s)
	gone := m.local.Watch(t.Context(), s.key(leaderArea), clientv3.WithRev(l.fence+1))
	f.Cut("a")
	resp := within(t, gone, "etcd takes the key away")
	if len(resp.Events) != 1 || resp.Events[0].Type != clientv3.EventTypeDelete {
		t.Fatalf("it saw %+v", resp.Events)
	}
	if l.Context().Err() == nil {
		t.Fatal("somebody else can lead, and the lease's context goes on")
	}
}

// TestLeaseIsTaken: somebody took the lease away, and its context ends without waiting for the deadline.
func TestLeaseIsTaken(t *testing.T) {
	m := member(t)
	s := connected(t, Config{Endpoints: m.Endpoints(), Node: "a", TTL: 20 * time.Second})
	l := leading(t, s)
	_, err := m.local.Revoke(t.Context(), l.id)
	must(t, err)
	select {
	case <-l.Context().Done():
	case <-time.After(15 * time.Second):
		t.Fatal("it goes on until its deadline")
	}
}
