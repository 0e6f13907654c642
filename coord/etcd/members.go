package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// AddLearner makes room for a server that comes to the cluster: it learns before it votes, so that one that never starts stands in
// nobody's way. It returns all members by name, the new one with them. A member of that name which never started is replaced.
func (m *Member) AddLearner(ctx context.Context, name, peerURL string) (map[string]string, error) {
	listed, err := m.local.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the members of the fleet's memory: %w", err)
	}
	for _, old := range listed.Members {
		if slices.Contains(old.PeerURLs, peerURL) && old.Name == "" {
			if _, err := m.local.MemberRemove(ctx, old.ID); err != nil {
				return nil, fmt.Errorf("make room for %s: %w", name, err)
			}
		}
	}
	added, err := m.addLearner(ctx, peerURL)
	if err != nil {
		return nil, fmt.Errorf("make room for %s in the fleet's memory: %w", name, err)
	}
	all := map[string]string{name: peerURL}
	for _, other := range added.Members {
		if other.Name != "" && len(other.PeerURLs) > 0 {
			all[other.Name] = other.PeerURLs[0]
		}
	}
	return all, nil
}

// catchUp is how long a server that comes waits for the one that came before it: etcd takes the next when that has its vote and
// has been connected for five seconds.
const catchUp = 25 * time.Second

func (m *Member) addLearner(ctx context.Context, peerURL string) (*clientv3.MemberAddResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	for {
		added, err := m.local.MemberAddAsLearner(ctx, []string{peerURL})
		why := ""
		switch {
		case errors.Is(err, rpctypes.ErrTooManyLearners):
			why = m.learner() + " has not caught up yet: is its agent started?"
		case errors.Is(err, rpctypes.ErrUnhealthy):
			why = "not all servers answer one another"
		default:
			return added, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.New(why)
		case <-time.After(promoteEvery / 4):
		}
	}
}

// learner is who comes and does not vote yet.
func (m *Member) learner() string {
	for _, other := range m.server.Server.Cluster().Members() {
		if other.IsLearner {
			return cmp.Or(other.Name, strings.Join(other.PeerURLs, ", "))
		}
	}
	return "the server that came before"
}

// RemoveMember takes a server's vote and copy away. One that is not there is no error.
func (m *Member) RemoveMember(ctx context.Context, name string) error {
	listed, err := m.local.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list the members of the fleet's memory: %w", err)
	}
	for _, other := range listed.Members {
		if other.Name != name {
			continue
		}
		if _, err := m.local.MemberRemove(ctx, other.ID); err != nil {
			return fmt.Errorf("remove %s from the fleet's memory: %w", name, err)
		}
	}
	return nil
}

// Voters are the names of the members that vote, in order.
func (m *Member) Voters(ctx context.Context) ([]string, error) {
	listed, err := m.local.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the members of the fleet's memory: %w", err)
	}
	names := map[string]bool{}
	for _, other := range listed.Members {
		if !other.IsLearner {
			names[other.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// promoteEvery is how often it is looked whether a learner has caught up: etcd tells nobody.
const promoteEvery = 2 * time.Second

// PromoteLearners gives learners their vote once they have caught up, until ctx ends. Only the member that leads the cluster acts.
func (m *Member) PromoteLearners(ctx context.Context) {
	m.every(ctx, promoteEvery, func() {
		if m.server.Server.Leader() != m.server.Server.MemberID() {
			return
		}
		for _, other := range m.server.Server.Cluster().Members() {
			if other.IsLearner && other.Name != "" {
				_, err := m.local.MemberPromote(ctx, uint64(other.ID))
				if err == nil {
					m.cfg.Log.Info("server has caught up and votes", "node", other.Name)
				} else if ctx.Err() == nil {
					m.cfg.Log.Debug("server has not caught up yet", "node", other.Name, "err", err)
				}
			}
		}
	})
}

// Bounds of what is kept for nothing: etcd gives nothing back to the disk by itself.
const (
	tidyEvery  = 10 * time.Minute
	tidyAbove  = 64 << 20
	wastefulBy = 2 // times what is in use
)

// Tidy defragments this member's file when more than half of it is empty, and says when writes are refused for want of room, until
// ctx ends. While it does the member answers nobody, for less than a second as a rule.
func (m *Member) Tidy(ctx context.Context) {
	m.every(ctx, tidyEvery, func() {
		if err := m.tidy(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("the fleet's memory cannot be tidied", "err", err)
		}
	})
}

func (m *Member) tidy(ctx context.Context) error {
	alarms, err := m.local.AlarmList(ctx)
	if err != nil {
		return err
	}
	for _, a := range alarms.Alarms {
		if a.Alarm == etcdserverpb.AlarmType_NOSPACE {
			m.cfg.Log.Error("the fleet's memory is full: nothing can be decided until it is tidied", "quota", quota)
		}
	}
	backend := m.server.Server.Backend()
	size, used := backend.Size(), backend.SizeInUse()
	if size < tidyAbove || size < wastefulBy*used {
		return nil
	}
	began := time.Now()
	if err := backend.Defrag(); err != nil {
		return err
	}
	m.cfg.Log.Info("the fleet's memory was tidied", "before", size, "after", backend.Size(), "took", time.Since(began).Round(time.Millisecond))
	_, err = m.local.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	return err
}

// every calls f again and again until ctx ends.
func (m *Member) every(ctx context.Context, between time.Duration, f func()) {
	t := time.NewTicker(between)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}
