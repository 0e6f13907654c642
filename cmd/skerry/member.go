package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/etcd"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

var _ api.Member = (*membership)(nil)

func (m *membership) handler() http.Handler { return api.MemberHandler(m) }

// Token makes a token. Only servers let machines in.
func (m *membership) Token(ctx context.Context, server bool, ttl time.Duration) (api.Invitation, error) {
	if m.identity.Authority() == nil {
		return api.Invitation{}, m.noServer(ctx, "tokens are made on servers")
	}
	text, token := pki.NewToken(m.identity.Authority().Fingerprint(), server, time.Now(), ttl)
	if err := m.store.Offer(ctx, token); err != nil {
		return api.Invitation{}, err
	}
	m.log.Info("token made", "id", token.ID, "server", server, "expires", token.Expires)
	return api.Invitation{Token: text, Address: m.Listen, Expires: token.Expires}, nil
}

func (m *membership) noServer(ctx context.Context, what string) error {
	return &api.Refusal{Text: fmt.Sprintf("%s, and %s is none; servers are at %v", what, m.identity.Name(), m.servers(ctx))}
}

// Remove takes a node out of the fleet, its vote first.
func (m *membership) Remove(ctx context.Context, name fleet.NodeName) error {
	if !m.Votes() {
		return m.noServer(ctx, "nodes are removed on servers")
	}
	nodes, err := m.store.Nodes(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(nodes, func(n fleet.Node) bool { return n.Name == name })
	if at < 0 {
		return &api.Refusal{Text: fmt.Sprintf("the fleet has no node %s", name)}
	}
	if nodes[at].Voter && m.member != nil {
		if err := m.unvote(ctx, name); err != nil {
			return err
		}
	}
	return m.store.Dismiss(ctx, name)
}

// unvote takes a server's vote, but not the last one.
func (m *membership) unvote(ctx context.Context, name fleet.NodeName) error {
	peers, err := m.member.Members(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(peers, func(p etcd.Peer) bool { return !p.Learner && p.Name != string(name) }) {
		return &api.Refusal{Text: fmt.Sprintf("%s is the only server: the fleet ends with it. Add another first (skerry node token --server)", name)}
	}
	return m.member.RemoveMember(ctx, string(name))
}

// Leave takes this node out, also where others have removed it already. Its certificate is worth nothing from then on; what it knew of
// the fleet is removed when the agent ends.
func (m *membership) Leave(ctx context.Context) error {
	name := m.identity.Name()
	m.departing.Lock()
	defer m.departing.Unlock()
	// The roll first: without its own copy of the fleet's memory nobody may answer this node for a while.
	err := m.store.Dismiss(ctx, name)
	for range lastWords {
		if errors.Is(err, coord.ErrAway) {
			err = m.store.Dismiss(ctx, name)
		}
	}
	if errors.Is(err, coord.ErrAway) {
		return fmt.Errorf("%w; where the fleet is no more, stop the agent and say skerry node leave --force", err)
	}
	if err != nil {
		return err
	}
	if m.member != nil {
		if err := m.unvote(ctx, name); err != nil {
			return err
		}
	}
	m.leave.Do(func() { close(m.retired) })
	return nil
}

// lastWords is how often a node that leaves says so again. Where its copy of the fleet's memory led the others, what it says just after that has
// gone is passed on to it, and is never answered.
const lastWords = 2

// Backup writes a snapshot.
func (m *membership) Backup(ctx context.Context, w io.Writer) error {
	switch {
	case m.config.Fleet.external():
		return &api.Refusal{Text: "the fleet's memory is an etcd that somebody else runs: back it up as they do (etcdctl snapshot save)"}
	case m.member == nil:
		return m.noServer(ctx, "backups are taken on servers")
	}
	return m.member.Snapshot(ctx, w)
}

// Charter is what the fleet goes by.
func (m *membership) Charter(ctx context.Context, grant bool) (fleet.Charter, error) {
	if grant {
		next := m.config.charter()
		if now, err := m.store.Charter(ctx); err == nil && len(next.Sources) == 0 && len(now.Sources) > 0 {
			return now, &api.Refusal{Text: fmt.Sprintf("the configuration of %s names no source, and the fleet has %d: they would be taken from all nodes",
				m.identity.Name(), len(now.Sources))}
		}
		if err := m.store.Grant(ctx, next); err != nil {
			return fleet.Charter{}, err
		}
	}
	return m.store.Charter(ctx)
}

// forget removes what a node that has left knew of its fleet.
func (c config) forgetFleet() error {
	var faults []error
	for _, name := range []string{"etcd", "fleet.json", "fleet"} {
		faults = append(faults, os.RemoveAll(filepath.Join(c.Node.DataDir, name)))
	}
	return errors.Join(faults...)
}
