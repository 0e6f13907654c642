package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// MemberConfig is what an embedded server needs to know.
type MemberConfig struct {
	Name               string            // one word a member, never used by another
	Dir                string            // all of its data; an existing folder, or one that can be made
	PeerURL, ClientURL string            // where it listens, and others reach it
	CA, Cert, Key      string            // files for both; empty: without TLS
	PeerHost           string            // what a peer's certificate must be for; empty: any that CA has signed
	InitialCluster     map[string]string // peer URLs by name, at its first start, itself included
	Existing           bool              // the cluster is there already, and expects it (AddLearner)
	Log                *slog.Logger      // default: none
}

// Member is an embedded server: one copy of the fleet's memory, and one vote.
type Member struct {
	cfg    MemberConfig
	server *embed.Etcd
	local  *clientv3.Client // without a network
	ends   *atomic.Bool     // it is being stopped
}

// quota is how large the memory may become before writes are refused. A thousand nodes with ten thousand pods need a hundredth.
const quota = 2 << 30

// StartMember starts a server, and does not wait for others: Ready says when it has a quorum.
func StartMember(ctx context.Context, cfg MemberConfig) (*Member, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ends := &atomic.Bool{}
	c, err := cfg.embedded(ends)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	server, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	return &Member{cfg: cfg, server: server, local: v3client.New(server.Server), ends: ends}, nil
}

// embedded is the configuration in etcd's words.
func (cfg *MemberConfig) embedded(ends *atomic.Bool) (*embed.Config, error) {
	peer, err := url.Parse(cfg.PeerURL)
	if err != nil {
		return nil, err
	}
	client, err := url.Parse(cfg.ClientURL)
	if err != nil {
		return nil, err
	}
	c := embed.NewConfig()
	c.Name, c.Dir = cfg.Name, cfg.Dir
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	c.InitialCluster = cluster(cfg.InitialCluster)
	c.InitialClusterToken = clusterToken
	if cfg.Existing {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	if cfg.CA != "" {
		files := transport.TLSInfo{CertFile: cfg.Cert, KeyFile: cfg.Key, ClientCertFile: cfg.Cert, ClientKeyFile: cfg.Key,
			TrustedCAFile: cfg.CA, ClientCertAuth: true}
		// Nodes are known by their certificates and not by where they come from: they have more addresses than they tell.
		files.SkipClientSANVerify = true
		c.PeerTLSInfo, c.ClientTLSInfo = files, files
		if cfg.PeerHost != "" {
			c.PeerTLSInfo.AllowedHostnames = []string{cfg.PeerHost}
		}
	}
	c.QuotaBackendBytes = quota
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	// What fits into one transaction elsewhere is the least that it has to be here.
	c.MaxTxnOps, c.MaxRequestBytes = 1024, 8<<20
	// Memory: the log keeps entries until a snapshot, and as many after it for members that lag.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 5000, 2000
	c.EnableGRPCGateway = false
	c.MaxSnapFiles, c.MaxWalFiles = 3, 3
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(&logCore{log: cfg.Log, ends: ends}))
	return c, nil
}

// clusterToken tells our clusters from those of others.
const clusterToken = "skerry"

// cluster is a list of members as etcd writes it.
func cluster(members map[string]string) string {
	var list []string
	for name, peer := range members {
		list = append(list, name+"="+peer)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// Ready is closed when the member takes part in a quorum.
func (m *Member) Ready() <-chan struct{} { return m.server.Server.ReadyNotify() }

// Failed yields an error when the member cannot go on.
func (m *Member) Failed() <-chan error { return m.server.Err() }

// Endpoints are where clients reach it.
func (m *Member) Endpoints() []string { return []string{m.cfg.ClientURL} }

// Stop ends the server; its data stay.
func (m *Member) Stop() error {
	m.ends.Store(true)
	err := m.local.Close()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	m.server.Close()
	return err
}
