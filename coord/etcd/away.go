package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"

	"github.com/skerry-dev/skerry/coord"
)

// The parts that must be well for the store to be.
const (
	mirrorPart  = iota // what the fleet remembers is followed
	sessionPart        // the session is renewed
	parts
)

// health is why the parts of a store are not well; empty for one that is.
type health struct {
	mu  sync.Mutex
	why [parts]string
}

// set says whether anything changed that Away tells.
func (h *health) set(part int, why string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.away()
	h.why[part] = why
	return h.away() != before
}

func (h *health) away() string {
	for _, why := range h.why {
		if why != "" {
			return why
		}
	}
	return ""
}

// Away is why etcd cannot be reached, about a TTL after it was last.
func (s *Store) Away() string {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return s.health.away()
}

// well and ill set a part of the health, and tell those who wait for it.
func (s *Store) well(part int) { s.ill(part, nil) }

func (s *Store) ill(part int, err error) {
	if !s.health.set(part, reason(err)) {
		return
	}
	if away := s.Away(); away != "" {
		s.cfg.Log.Warn("the fleet's store is away", "err", away)
	} else {
		s.cfg.Log.Info("the fleet's store answers")
	}
	s.watchers.ring()
	s.mirror.stir()
}

// reason is an error of the client's in words for people.
func reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, rpctypes.ErrNoLeader), errors.Is(err, rpctypes.ErrTimeout), errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail),
		errors.Is(err, rpctypes.ErrTimeoutDueToConnectionLost), errors.Is(err, rpctypes.ErrLeaderChanged):
		return "no quorum: " + text(err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return "etcd is full: " + text(err)
	default:
		return "no etcd member answers: " + text(err)
	}
}

func text(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "out of time"
	}
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}

// away makes an error of a write one that callers know. What callers themselves ended is theirs.
func away(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %w: %s", what, coord.ErrAway, reason(err))
}
