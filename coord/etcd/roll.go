package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// write makes changes that need no guard, and returns when the mirror has them. More than fit into one transaction are made
// in several.
func (s *Store) write(ctx context.Context, what string, ops ...op) error {
	within, done := context.WithTimeout(ctx, s.cfg.TTL)
	defer done()
	for _, some := range batches(ops) {
		resp, err := s.client.Txn(within).Then(clientOps(some)...).Commit()
		if err == nil {
			err = s.mirror.await(within, resp.Header.Revision)
		}
		if err != nil {
			return away(ctx, what, err)
		}
	}
	return nil
}

func (s *Store) nodeKey(name fleet.NodeName) string { return s.key(nodesArea + "/" + segment(name)) }

// Register keeps what a node says of itself.
func (s *Store) Register(ctx context.Context, node fleet.Node) error {
	raw, err := json.Marshal(node)
	if err != nil {
		return err
	}
	return s.write(ctx, "register "+string(node.Name), op{key: s.nodeKey(node.Name), value: raw})
}

// Update changes what the roll has of a node that has joined: one that does not belong to the fleet, or was dismissed, is
// coord.ErrUnknown, and does not come back by saying so. change is given what the roll has now, and again where somebody else was
// faster.
func (s *Store) Update(ctx context.Context, name fleet.NodeName, change func(*fleet.Node)) error {
	what, key := "register "+string(name), s.nodeKey(name)
	within, done := context.WithTimeout(ctx, s.cfg.TTL)
	defer done()
	for {
		found, err := s.client.Get(within, key)
		if err != nil {
			return away(ctx, what, err)
		}
		if len(found.Kvs) == 0 {
			return coord.ErrUnknown
		}
		var node fleet.Node
		if err := json.Unmarshal(found.Kvs[0].Value, &node); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		change(&node)
		raw, err := json.Marshal(node)
		if err != nil {
			return err
		}
		err = s.guarded(ctx, what, errFaster, clientv3.Compare(clientv3.ModRevision(key), "=", found.Kvs[0].ModRevision), op{key: key, value: raw})
		if !errors.Is(err, errFaster) {
			return err
		}
	}
}

// errFaster says that somebody else changed what was to be changed.
var errFaster = errors.New("somebody else was faster")

// Found writes a fleet's first charter and its first node, where there is no charter yet.
func (s *Store) Found(ctx context.Context, node fleet.Node, charter fleet.Charter) error {
	raw, err := json.Marshal(node)
	if err != nil {
		return err
	}
	terms, err := json.Marshal(charter)
	if err != nil {
		return err
	}
	err = s.guarded(ctx, "found the fleet", coord.ErrTaken,
		clientv3.Compare(clientv3.CreateRevision(s.key(charterArea)), "=", 0),
		op{key: s.key(charterArea), value: terms}, op{key: s.nodeKey(node.Name), value: raw})
	if errors.Is(err, coord.ErrTaken) {
		return nil
	}
	return err
}

// guarded makes changes if something holds; otherwise it returns refused.
func (s *Store) guarded(ctx context.Context, what string, refused error, guard clientv3.Cmp, ops ...op) error {
	within, done := context.WithTimeout(ctx, s.cfg.TTL)
	defer done()
	resp, err := s.client.Txn(within).If(guard).Then(clientOps(ops)...).Commit()
	switch {
	case err != nil:
		return away(ctx, what, err)
	case !resp.Succeeded:
		return refused
	}
	if err := s.mirror.await(within, resp.Header.Revision); err != nil {
		return away(ctx, what, err)
	}
	return nil
}

// Nodes returns who was registered.
func (s *Store) Nodes(context.Context) ([]fleet.Node, error) { return s.mirror.nodes() }

// Dismiss forgets a node, its report and its session. One that goes on reporting is heard of again: who dismisses it keeps it from
// that. It does not take leadership from it, which nobody can without waiting.
func (s *Store) Dismiss(ctx context.Context, node fleet.NodeName) error {
	s.session.telling.Lock() // or a report that is under way would arrive after its node has gone
	defer s.session.telling.Unlock()
	delete(s.session.told, node)
	s.session.mu.Lock()
	delete(s.session.said, node)
	s.session.mu.Unlock()
	s.mirror.mu.Lock()
	var lease clientv3.LeaseID
	if keys := s.mirror.reports[segment(node)]; keys != nil && keys.head != nil {
		lease = keys.head.lease
	}
	s.mirror.mu.Unlock()
	err := s.write(ctx, "dismiss "+string(node), op{key: s.nodeKey(node), gone: true},
		op{key: s.key(reportsArea + "/" + segment(node) + "/"), below: true})
	if err == nil && lease != 0 && lease != s.ownSession() {
		within, done := context.WithTimeout(ctx, s.cfg.TTL)
		defer done()
		_, _ = s.client.Revoke(within, lease) // nothing hangs on it any more
	}
	return err
}

// Charter returns what was granted.
func (s *Store) Charter(context.Context) (fleet.Charter, error) { return s.mirror.charter() }

// Grant keeps a charter.
func (s *Store) Grant(ctx context.Context, charter fleet.Charter) error {
	raw, err := json.Marshal(charter)
	if err != nil {
		return err
	}
	return s.write(ctx, "grant the charter", op{key: s.key(charterArea), value: raw})
}
