package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// A commit is one transaction: it writes the keys that differ, and the head. What does not fit into one is written to chunks
// beside the assignment first, where nobody reads it, and the transaction that commits says in the head how many chunks
// count. Readers lay them over the other keys. The leader, or the next, then moves what they hold to where it belongs, which
// changes nothing that can be read, and takes them away. Every one of these writes is fenced by the key of the leader.

// chunk is a part of a staged change.
type chunk struct {
	Put  map[string]json.RawMessage `json:"put,omitempty"` // by keys below assignment/
	Gone []string                   `json:"gone,omitempty"`
}

// chunkBytes is how large a chunk may be.
const chunkBytes = 512 << 10

func stageKey(epoch uint64, n int) string { return fmt.Sprintf("%s/%d/%d", stagedArea, epoch, n) }

// based is what a commit is based on.
type based struct {
	head head
	mod  int64             // of the head; 0 before the first commit
	keys map[string]*entry // below assignment/
}

func (s *Store) base() (based, error) {
	m := s.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	h, err := m.head()
	if err != nil {
		return based{}, err
	}
	b := based{head: h, keys: maps.Clone(m.areas[assignmentArea])}
	if e := b.keys["head"]; e != nil {
		b.mod = e.mod
		delete(b.keys, "head")
	}
	return b, nil
}

// Commit writes what differs from what is stored.
func (s *Store) Commit(ctx context.Context, held coord.Lease, next fleet.Assignment) error {
	l, ok := held.(*lease)
	if !ok || l.store != s || l.ctx.Err() != nil {
		return coord.ErrLost
	}
	within, done := context.WithTimeout(ctx, 2*s.cfg.TTL)
	defer done()
	defer context.AfterFunc(l.ctx, done)() //nolint:contextcheck // both end it
	select {
	case <-s.commits:
	case <-within.Done():
		return l.lost(ctx, "commit", within.Err())
	}
	defer func() { s.commits <- struct{}{} }()
	err := s.commit(within, l, &next)
	for errors.Is(err, errStale) { // a commit whose answer was lost has come through
		err = s.commit(within, l, &next)
	}
	if err != nil {
		return l.lost(ctx, "commit", err)
	}
	return nil
}

// commit tries once.
func (s *Store) commit(ctx context.Context, l *lease, next *fleet.Assignment) error {
	if err := s.fold(ctx, l); err != nil {
		return err
	}
	b, err := s.base()
	if err != nil {
		return err
	}
	if next.Epoch <= b.head.Epoch {
		return coord.ErrLost
	}
	ops, err := s.diff(b, next)
	if err != nil {
		return err
	}
	h := head{Epoch: next.Epoch}
	if len(batches(append(ops, op{}))) > 1 { // with the head
		if h.Staged, err = s.stage(ctx, l, next.Epoch, ops); err != nil {
			return err
		}
		ops = nil
	}
	if err := s.commitHead(ctx, l, b.mod, h, ops); err != nil {
		return err
	}
	if h.Staged > 0 {
		s.spawn(func() { s.tidy(l) })
	}
	return nil
}

// diff are the writes that make of what is stored what is next.
func (s *Store) diff(b based, next *fleet.Assignment) ([]op, error) {
	keys, err := split(next)
	if err != nil {
		return nil, err
	}
	var ops []op
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if e := b.keys[key]; e == nil || string(e.value) != string(keys[key]) {
			ops = append(ops, op{key: s.key(assignmentArea + "/" + key), value: keys[key]})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b.keys)) {
		if _, known := partOf(key); known && keys[key] == nil {
			ops = append(ops, op{key: s.key(assignmentArea + "/" + key), gone: true})
		}
	}
	return ops, nil
}

// errStale says that the leader is who it was, and that what it knew of the store was too old. It is known by now.
var errStale = errors.New("what is stored is newer than what was known")

// commitHead writes a head, with more, in the place of the one that was known.
func (s *Store) commitHead(ctx context.Context, l *lease, mod int64, h head, ops []op) error {
	raw, err := json.Marshal(h)
	if err != nil {
		return err
	}
	key := s.key(assignmentArea + "/head")
	return s.fenced(ctx, l, append(slices.Clip(ops), op{key: key, value: raw}), clientv3.Compare(clientv3.ModRevision(key), "=", mod))
}

// fenced writes if l holds and the guards do, and returns when the mirror has it.
func (s *Store) fenced(ctx context.Context, l *lease, ops []op, guards ...clientv3.Cmp) error {
	resp, err := s.client.Txn(ctx).If(append(guards, l.guard())...).Then(clientOps(ops)...).
		Else(clientv3.OpGet(s.key(leaderArea)), clientv3.OpGet(s.key(assignmentArea+"/head"))).Commit()
	if err != nil {
		return err
	}
	if resp.Succeeded {
		return s.mirror.await(ctx, resp.Header.Revision)
	}
	leader, head := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
	if len(leader) == 0 || leader[0].CreateRevision != l.fence || len(head) == 0 {
		return coord.ErrLost
	}
	if err := s.mirror.await(ctx, head[0].ModRevision); err != nil {
		return err
	}
	return errStale
}

// stage writes chunks that do not count yet, and returns how many.
func (s *Store) stage(ctx context.Context, l *lease, epoch uint64, ops []op) (int, error) {
	n := 0
	put := func(c chunk) error {
		raw, err := json.Marshal(c)
		if err != nil {
			return err
		}
		n++
		return s.fenced(ctx, l, []op{{key: s.key(stageKey(epoch, n-1)), value: raw}})
	}
	c, size := chunk{}, 0
	for _, o := range ops {
		if size+o.size() > chunkBytes && size > 0 {
			if err := put(c); err != nil {
				return 0, err
			}
			c, size = chunk{}, 0
		}
		size += o.size()
		key := o.short(s.key(assignmentArea + "/"))
		if o.gone {
			c.Gone = append(c.Gone, key)
			continue
		}
		if c.Put == nil {
			c.Put = map[string]json.RawMessage{}
		}
		c.Put[key] = o.value
	}
	return n, put(c)
}

// tidy folds what a commit staged, this leader's or one's before it, and removes what was staged and never committed. What it
// cannot do, the next commit or the next leader does.
func (s *Store) tidy(l *lease) {
	select {
	case <-l.ctx.Done():
		return
	case <-s.commits:
	}
	defer func() { s.commits <- struct{}{} }()
	if err := s.fold(l.ctx, l); err != nil && l.ctx.Err() == nil {
		s.cfg.Log.Warn("staged change is not folded yet", "err", err)
	}
}

// fold moves what is staged to where it belongs.
func (s *Store) fold(ctx context.Context, l *lease) error {
	b, err := s.base()
	if err != nil {
		return err
	}
	for n := range b.head.Staged {
		s.mirror.mu.Lock()
		c, err := s.mirror.chunk(b.head.Epoch, n)
		s.mirror.mu.Unlock()
		if err != nil {
			return err
		}
		for _, some := range batches(s.unstaged(c)) {
			if err := s.fenced(ctx, l, some); err != nil {
				return fmt.Errorf("fold: %w", err)
			}
		}
	}
	clear := op{key: s.key(stagedArea + "/"), below: true}
	if b.head.Staged > 0 {
		return s.commitHead(ctx, l, b.mod, head{Epoch: b.head.Epoch}, []op{clear})
	}
	s.mirror.mu.Lock()
	left := len(s.mirror.areas[stagedArea])
	s.mirror.mu.Unlock()
	if left == 0 {
		return nil
	}
	return s.fenced(ctx, l, []op{clear})
}

// unstaged are the writes that a chunk stands for.
func (s *Store) unstaged(c chunk) []op {
	var ops []op
	for _, key := range slices.Sorted(maps.Keys(c.Put)) {
		ops = append(ops, op{key: s.key(assignmentArea + "/" + key), value: c.Put[key]})
	}
	for _, key := range c.Gone {
		ops = append(ops, op{key: s.key(assignmentArea + "/" + key), gone: true})
	}
	return ops
}

// Load returns the assignment.
func (s *Store) Load(context.Context) (fleet.Assignment, error) { return s.mirror.load() }
