package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
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
// Revisions go on well above those of the snapshot, so that no client takes what it knew for newer.
func Restore(file, dir, name, peerURL string) error {
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, Name: name, OutputDataDir: dir, PeerURLs: []string{peerURL},
		InitialCluster: cluster(map[string]string{name: peerURL}), InitialClusterToken: clusterToken,
		RevisionBump: 1 << 30, MarkCompacted: true,
	})
	if err != nil {
		return fmt.Errorf("restore %s: %w", file, err)
	}
	return nil
}
