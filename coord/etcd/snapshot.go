package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/skerry-dev/skerry/fleet"
)

// Snapshot writes a copy of all that this member has, as Restore reads it: sealed by a checksum. It holds what is being decided and
// nothing that is secret but the hashes of tokens.
func (m *Member) Snapshot(ctx context.Context, w io.Writer) error {
	resp, err := m.local.SnapshotWithVersion(ctx)
	if err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	_, err = io.Copy(w, resp.Snapshot)
	if err = errors.Join(err, resp.Snapshot.Close()); err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	return nil
}

// Restore makes of a snapshot the folder of the only member of a new cluster, which others join. dir must not be there yet.
// Revisions go on well above those of the snapshot, so that no client takes what it knew for newer. What the snapshot says of sessions
// is dropped, and what it says of pods is doubted (fleet.Assignment.Doubting), before any node can read it. It takes some seconds.
func Restore(ctx context.Context, file, dir, name, peerURL string, now time.Time) error {
	if err := unpack(file, dir, name, peerURL); err != nil {
		return fmt.Errorf("restore %s: %w", file, err)
	}
	if err := disbelieve(ctx, dir, name, now); err != nil {
		return fmt.Errorf("restore %s: %w", file, errors.Join(err, os.RemoveAll(dir)))
	}
	return nil
}

func unpack(file, dir, name, peerURL string) error {
	return snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, Name: name, OutputDataDir: dir, PeerURLs: []string{peerURL},
		InitialCluster: cluster(map[string]string{name: peerURL}), InitialClusterToken: clusterToken,
		RevisionBump: 1 << 30, MarkCompacted: true,
	})
}

// disbelieve runs the only member of a cluster for a moment where nobody else reaches it, and has it forget what was true when the
// snapshot was taken and may not be now.
func disbelieve(ctx context.Context, dir, name string, now time.Time) (failed error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	sockets, err := os.MkdirTemp("", "skerry-restore-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(sockets)
	m, err := StartMember(ctx, MemberConfig{
		Name: name, Dir: dir, PeerURL: "unix://" + filepath.Join(sockets, "peer"), ClientURL: "unix://" + filepath.Join(sockets, "client"),
	})
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, m.Stop()) }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-m.Failed():
		return err
	case <-m.Ready():
	}
	leases, err := m.local.Leases(ctx) // sessions, and whoever led
	if err != nil {
		return err
	}
	for _, l := range leases.Leases {
		if _, err := m.local.Revoke(ctx, l.ID); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
	}
	s, err := Open(ctx, Config{Endpoints: m.Endpoints(), Node: fleet.NodeName(name)})
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, s.Close()) }()
	lease, err := s.Campaign(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	before, err := s.Load(ctx)
	if err != nil {
		return err
	}
	known, err := s.Nodes(ctx)
	if err != nil {
		return err
	}
	var names []fleet.NodeName
	for _, n := range known {
		names = append(names, n.Name)
	}
	return s.Commit(ctx, lease, before.Doubting(names, now))
}
