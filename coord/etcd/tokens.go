package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

func (s *Store) tokenKey(id string) string { return s.key(tokensArea + "/" + url.PathEscape(id)) }

// Offer keeps a token on a lease of etcd's that ends when it expires.
func (s *Store) Offer(ctx context.Context, token coord.Token) error {
	left := time.Until(token.Expires)
	if left <= 0 {
		return nil
	}
	raw, err := json.Marshal(token)
	if err != nil {
		return err
	}
	within, done := context.WithTimeout(ctx, s.cfg.TTL)
	defer done()
	lease, err := s.client.Grant(within, seconds(left))
	if err != nil {
		return away(ctx, "offer a token", err)
	}
	return s.write(ctx, "offer a token", op{key: s.tokenKey(token.ID), value: raw, lease: lease.ID})
}

// Offered asks etcd for a token.
func (s *Store) Offered(ctx context.Context, id string) (coord.Token, error) {
	within, done := context.WithTimeout(ctx, s.cfg.TTL)
	defer done()
	token, _, err := s.token(within, id)
	if err != nil && !errors.Is(err, coord.ErrToken) {
		err = away(ctx, "look at a token", err)
	}
	return token, err
}

// token is one that has not expired, and the revision of etcd's that it has.
func (s *Store) token(ctx context.Context, id string) (coord.Token, int64, error) {
	found, err := s.client.Get(ctx, s.tokenKey(id))
	if err != nil {
		return coord.Token{}, 0, err
	}
	var token coord.Token
	if len(found.Kvs) == 0 || json.Unmarshal(found.Kvs[0].Value, &token) != nil || !time.Now().Before(token.Expires) {
		return coord.Token{}, 0, coord.ErrToken
	}
	return token, found.Kvs[0].ModRevision, nil
}

// Redeem asks etcd for the token and whether it is still there in the transaction that takes it.
func (s *Store) Redeem(ctx context.Context, id string, node fleet.Node) (coord.Token, error) {
	const what = "redeem a token"
	raw, err := json.Marshal(node)
	if err != nil {
		return coord.Token{}, err
	}
	within, done := context.WithTimeout(ctx, s.cfg.TTL)
	defer done()
	key, member := s.tokenKey(id), s.nodeKey(node.Name)
	token, revision, err := s.token(within, id)
	if errors.Is(err, coord.ErrToken) {
		return coord.Token{}, err
	}
	if err != nil {
		return coord.Token{}, away(ctx, what, err)
	}
	resp, err := s.client.Txn(within).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision), clientv3.Compare(clientv3.CreateRevision(member), "=", 0)).
		Then(clientv3.OpDelete(key), clientv3.OpPut(member, string(raw))).
		Else(clientv3.OpGet(key, clientv3.WithCountOnly())).Commit()
	switch {
	case err != nil:
		return coord.Token{}, away(ctx, what, err)
	case resp.Succeeded:
		_ = s.mirror.await(within, resp.Header.Revision) // it is done, seen here or not
		return token, nil
	case resp.Responses[0].GetResponseRange().Count == 0:
		return coord.Token{}, coord.ErrToken
	default:
		return coord.Token{}, coord.ErrTaken
	}
}
