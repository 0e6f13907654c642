package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/git"
)

// namedFaults is how many nodes are named of which a commit could not be had.
const namedFaults = 3

// take says where the clone of a source is.
func (m *membership) take(name fleet.SourceName, source *git.Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clones[name] = source
}

func (m *membership) clone(name fleet.SourceName) (*git.Source, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clones[name] == nil {
		return nil, fmt.Errorf("source %s on this node: %w", name, fs.ErrNotExist)
	}
	return m.clones[name], nil
}

// pack writes a commit from this node's clone.
func (m *membership) pack(ctx context.Context, name fleet.SourceName, revision fleet.Revision, w io.Writer) error {
	source, err := m.clone(name)
	if err != nil {
		return err
	}
	return source.Pack(ctx, revision, w)
}

// bring fetches a commit from the clone of whichever node has it, the leader's first. The error names a few of those that did not
// answer as they should.
func (m *membership) bring(ctx context.Context, name fleet.SourceName, revision fleet.Revision) error {
	source, err := m.clone(name)
	if err != nil {
		return err
	}
	nodes, err := m.store.Nodes(ctx)
	if err != nil {
		return err
	}
	leader := m.store.Leader()
	order := slices.Clone(nodes)
	slices.SortStableFunc(order, func(a, b fleet.Node) int {
		switch {
		case (a.Name == leader) == (b.Name == leader):
			return 0
		case a.Name == leader:
			return -1
		default:
			return 1
		}
	})
	var faults []string
	for _, n := range order {
		if n.Fleet == "" || n.Name == m.identity.Name() {
			continue
		}
		err := m.bringFrom(ctx, n, source, name, revision)
		if err == nil {
			m.log.Info("commit fetched from another node", "source", name, "revision", revision.Short(), "node", n.Name)
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, fmt.Sprintf("%s: %v", n.Name, err))
		}
	}
	if len(faults) == 0 {
		return errors.New("no other node has it")
	}
	if more := len(faults) - namedFaults; more > 0 {
		faults = append(faults[:namedFaults], fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("no other node that answers has it (%s)", strings.Join(faults, "; "))
}

func (m *membership) bringFrom(ctx context.Context, n fleet.Node, source *git.Source, name fleet.SourceName, revision fleet.Revision) error {
	body, err := m.peers.Commit(ctx, n.Fleet, name, revision)
	if err != nil {
		return err
	}
	return errors.Join(source.Unpack(ctx, revision, body), body.Close())
}
