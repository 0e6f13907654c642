package etcd

import (
	"context"
	"encoding/json"

	clientv3 "go.etcd.io/etcd/client/v3"

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

// Nodes returns who was registered.
func (s *Store) Nodes(context.Context) ([]fleet.Node, error) { return s.mirror.nodes() }

// Dismiss forgets a node, its report and its session. One that goes on reporting is heard of again: who dismisses it keeps it from
// that. It does not take leadership from it, which nobody can without waiting.
func (s *Store) Dismiss(ctx context.Context, node fleet.NodeName) error {
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
