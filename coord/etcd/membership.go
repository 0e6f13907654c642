package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Peer is what is known of a member of the cluster.
type Peer struct {
	Name      string // empty until it started for the first time
	PeerURL   string
	ClientURL string // empty until then, too
	Learner   bool   // it has no vote yet
	Leads     bool
	Fault     string // why it cannot be counted on; empty when it can
}

// asking is how long one member is given to answer.
const asking = 3 * time.Second

// AddLearner makes room for another member, which has no vote until it has caught up (PromoteLearners). It returns the
// InitialCluster that the new member, with Existing, is to be started with. One that is expected already is no error.
func (m *Member) AddLearner(ctx context.Context, name, peerURL string) (map[string]string, error) {
	err := m.addLearner(ctx, peerURL)
	if err != nil && !errors.Is(err, rpctypes.ErrPeerURLExist) && !errors.Is(err, rpctypes.ErrMemberExist) {
		return nil, fmt.Errorf("add member %s: %w", name, err)
	}
	list, err := m.local.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	initial := map[string]string{}
	for _, p := range list.Members {
		switch {
		case slices.Contains(p.PeerURLs, peerURL):
			initial[name] = peerURL
		case p.Name != "":
			initial[p.Name] = p.PeerURLs[0]
		}
	}
	return initial, nil
}

// catchUp is how long a member that comes waits for the one that came before it: etcd takes the next when that has its vote and has
// been connected for five seconds.
const catchUp = 25 * time.Second

// addLearner tries until etcd takes one more.
func (m *Member) addLearner(ctx context.Context, peerURL string) error {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		_, err := m.local.MemberAddAsLearner(ctx, []string{peerURL})
		why := ""
		switch {
		case errors.Is(err, rpctypes.ErrTooManyLearners):
			why = m.learner() + " has not caught up yet: is its agent started?"
		case errors.Is(err, rpctypes.ErrUnhealthy):
			why = "not all servers answer one another"
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New(why)
		case <-t.C:
		}
	}
}

// learner is who has no vote yet.
func (m *Member) learner() string {
	for _, p := range m.server.Server.Cluster().Members() {
		if p.IsLearner {
			return cmp.Or(p.Name, strings.Join(p.PeerURLs, ", "))
		}
	}
	return "the server that came before"
}

// PromoteLearners gives those their vote who have caught up, again and again until ctx ends. Any number of members may run it.
func (m *Member) PromoteLearners(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, asking)
		m.promote(once)
		cancel()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// promote tries once. What cannot be promoted yet is tried again.
func (m *Member) promote(ctx context.Context) {
	for _, p := range m.server.Server.Cluster().Members() { // asks nobody
		if !p.IsLearner || !p.IsStarted() {
			continue
		}
		if _, err := m.local.MemberPromote(ctx, uint64(p.ID)); err == nil {
			m.cfg.Log.Info("member has a vote", "member", p.Name)
		}
	}
}

// StandAside hands raft's leadership to another member whenever this one has it and busy says that the fleet is led from here, until
// ctx ends: a machine that has both and fails takes twice as long to be replaced. Raft has to elect first, and lets all leases begin anew
// then, so that nobody leads the fleet for an election, the leader's TTL and a second more. Where only one of the two is lost, it is one
// of the two times: who leads the fleet outlives an election, and raft's leader knows when the lease ended. The others must be able to
// go on without this one, or nothing is won.
func (m *Member) StandAside(ctx context.Context, busy func() bool) error {
	t := time.NewTicker(standAsideEvery)
	defer t.Stop()
	for {
		if s := m.server.Server; s.Leader() == s.MemberID() && m.voters() > 2 && busy() {
			handed := make(chan error, 1)
			go func() { handed <- s.TryTransferLeadershipOnShutdown() }() // to who is connected longest; nothing is shut down
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-handed:
				if err != nil {
					m.cfg.Log.Warn("raft's leadership cannot be handed to another server", "err", err)
					t.Reset(standAsideLater)
				} else {
					t.Reset(standAsideEvery)
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// voters is how many members have a vote, as far as this one knows.
func (m *Member) voters() int {
	n := 0
	for _, p := range m.server.Server.Cluster().Members() {
		if !p.IsLearner {
			n++
		}
	}
	return n
}

// How often it is looked whether raft's leadership is to be handed on, and when again where nobody could take it.
const (
	standAsideEvery = 500 * time.Millisecond
	standAsideLater = 10 * time.Second
)

// RemoveMember takes a member's vote and its place, whether or not it lives. It waits for a minute or so for the others to be
// known to be well. One that is not there is no error.
func (m *Member) RemoveMember(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, removing)
	defer cancel()
	list, err := m.local.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list members: %w", err)
	}
	for _, p := range list.Members {
		if p.Name != name {
			continue
		}
		if err := m.remove(ctx, p.ID); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
			return fmt.Errorf("remove member %s: %w", name, err)
		}
	}
	return nil
}

// How long a member's removal is tried, and once: raft drops what it is asked at a bad moment, and never answers then.
const (
	removing     = 75 * time.Second
	removingOnce = 5 * time.Second
)

// remove tries until the others are known well enough to do without the member: etcd wants to have seen them for some seconds.
func (m *Member) remove(ctx context.Context, id uint64) error {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, removingOnce)
		_, err := m.local.MemberRemove(once, id)
		dropped := once.Err() != nil
		cancel()
		if id == uint64(m.server.Server.MemberID()) && m.removed(err) {
			return nil
		}
		if err == nil || !dropped && !errors.Is(err, rpctypes.ErrUnhealthy) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not enough of the other servers answer one another (skerry node list shows them): %w", err)
		case <-t.C:
		}
	}
}

// removed reports whether this member's server ends because it was taken out of the cluster, of which an answer may tell before it has ended.
func (m *Member) removed(answer error) bool {
	if m.ends.Load() { // it was told to
		return false
	}
	select {
	case <-m.server.Server.StopNotify():
		return true
	default:
		return errors.Is(answer, rpctypes.ErrStopped)
	}
}

// Members are all that this member knows of, in the order of their names, each asked how it is. It answers without a quorum, too.
func (m *Member) Members(ctx context.Context) ([]Peer, error) {
	alarms := map[uint64]string{}
	for _, a := range m.server.Server.Alarms() {
		alarms[a.MemberID] = "alarm " + a.Alarm.String()
		if a.Alarm == etcdserverpb.AlarmType_NOSPACE {
			alarms[a.MemberID] = "its memory is full: only deletions are taken"
		}
	}
	secure, err := m.cfg.client()
	if err != nil {
		return nil, fmt.Errorf("ask members: %w", err)
	}
	leader := m.server.Server.Leader()
	peers := map[int]Peer{}
	type answer struct {
		at    int
		fault string
	}
	answers := make(chan answer)
	for i, p := range m.server.Server.Cluster().Members() {
		peer := Peer{Name: p.Name, Learner: p.IsLearner, Leads: p.ID == leader, Fault: alarms[uint64(p.ID)]}
		if len(p.PeerURLs) > 0 {
			peer.PeerURL = p.PeerURLs[0]
		}
		if len(p.ClientURLs) > 0 {
			peer.ClientURL = p.ClientURLs[0]
		}
		peers[i] = peer
		go func() { answers <- answer{i, ask(ctx, peer.ClientURL, secure)} }()
	}
	for range peers {
		a := <-answers
		peer := peers[a.at]
		peer.Fault = cmp.Or(a.fault, peer.Fault)
		peers[a.at] = peer
	}
	return slices.SortedFunc(maps.Values(peers), func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.PeerURL, b.PeerURL))
	}), nil
}

// client is the TLS of a client of other members; nil without.
func (cfg *MemberConfig) client() (*tls.Config, error) {
	if cfg.CA == "" {
		return nil, nil
	}
	return transport.TLSInfo{CertFile: cfg.Cert, KeyFile: cfg.Key, TrustedCAFile: cfg.CA}.ClientConfig()
}

// ask is what is wrong with a member.
func ask(ctx context.Context, endpoint string, secure *tls.Config) string {
	if endpoint == "" {
		return "it has not started yet"
	}
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	c, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{endpoint}, TLS: secure, Logger: zap.NewNop()})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	switch status, err := c.Status(ctx, endpoint); {
	case err != nil:
		return "it does not answer: " + text(err)
	case status.Leader == 0:
		return "it has no quorum"
	default:
		return ""
	}
}

// What is wasted may be, before it is worth the pause of a defragmentation.
const (
	wasteFrom = 64 << 20 // bytes in all
	wasteMost = 2        // of so many bytes one is in use
)

// DefragmentIfWasteful gives back disk that this member no longer uses, when it is more than half of what it has. It answers nobody
// meanwhile: callers let their members do so one after another.
func (m *Member) DefragmentIfWasteful(ctx context.Context) (done bool, err error) {
	b := m.server.Server.Backend()
	if b.Size() <= wasteFrom || b.SizeInUse()*wasteMost >= b.Size() {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := b.Defrag(); err != nil {
		return false, fmt.Errorf("defragment: %w", err)
	}
	return true, nil
}
