// Package sources says where desired state comes from: a Source yields Snapshots, each a tree of files at
// one revision. Its folders fetch (git, dir) and read (manifest) them. It decides nothing about what runs.
package sources

import (
	"context"
	"io/fs"

	"github.com/skerry-dev/skerry/fleet"
)

// Source is a place that desired state is read from. Fetch is called from one goroutine at a time, At from any.
type Source interface {
	// Fetch looks for the newest revision and returns it. It blocks on the network until ctx ends. When
	// nothing moved since the last call it returns the same revision at the cost of one look. An error
	// leaves what was fetched before intact and readable through At.
	Fetch(ctx context.Context) (Snapshot, error)
	// At returns a revision that was fetched before, also in an earlier life of the process, without
	// touching the network. The error is fs.ErrNotExist (wrapped) when this source does not have it.
	At(revision fleet.Revision) (Snapshot, error)
}

// Snapshot is a source's files at one revision. It stays readable for as long as the source is.
type Snapshot struct {
	Revision fleet.Revision
	// Files has only regular files and folders; nothing in it leads out of it.
	Files fs.FS
	// Dir is the folder inside Files to read manifests from, in the form of fs.ValidPath ("." for all). It
	// may not exist in this revision.
	Dir string
	// Title is for people: a commit's first line; empty for a folder.
	Title string
}
