package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/api/join"
	"github.com/skerry-dev/skerry/fleet"
)

const (
	// doubtEvery is how often a server that is not on the roll asks whether it was removed.
	doubtEvery = 30 * time.Second
	// doubtPatience bounds asking.
	doubtPatience = 10 * time.Second
)

// onRoll reports whether this node is among the fleet's, as far as is known here.
func (m *membership) onRoll(ctx context.Context) bool {
	nodes, err := m.store.Nodes(ctx)
	return err != nil || slices.ContainsFunc(nodes, func(n fleet.Node) bool { return n.Name == m.identity.Name() })
}

// disown takes the key of the fleet's authority from a server that was removed: whoever has it is the fleet. That this node is not on
// the roll is not enough, for the memory may be lost, or another fleet's: another server of this very fleet, which has the key as well,
// has to say so.
func (m *membership) disown(ctx context.Context) {
	if m.identity.Authority() == nil {
		return
	}
	request, err := m.identity.Request()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, doubtPatience)
	defer cancel()
	for _, server := range m.servers(ctx) {
		_, err := m.peers.Renew(ctx, server, request)
		if no, refused := errors.AsType[*join.Refusal](err); !refused || no.Status != http.StatusForbidden {
			continue
		}
		if err := m.identity.Disown(); err != nil {
			m.log.Error("this node was removed from its fleet, and the key of the fleet's authority cannot be removed from its disk", "err", err)
			return
		}
		m.log.Error("this node was removed from its fleet, and has the key of the fleet's authority no more; skerry node leave forgets the fleet", "toldBy", server)
		return
	}
}
