package git

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// remote is one visit to a repository: what it has, and once at most, taking a commit from it. One visit
// serves both, so that a moved branch costs a single request more than one that did not move.
type remote interface {
	list() refs
	// pull adds a commit and all it needs to the clone, in whole packs.
	pull(ctx context.Context, want plumbing.Hash, into *clone) error
	close()
}

// refs is what of a remote's references matters here.
type refs struct {
	head     plumbing.Hash // zero when HEAD names nothing
	branches map[string]plumbing.Hash
}

// names lists a few branches for an error message.
func (r refs) names() string {
	names := slices.Sorted(maps.Keys(r.branches))
	if len(names) > 5 {
		names = append(names[:5], "…")
	}
	return strings.Join(names, ", ")
}

// dial visits the remote and lists its references.
func (s *Source) dial(ctx context.Context) (remote, error) {
	if s.addr.scheme == "file" {
		return openLocal(s.addr.path)
	}
	session, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		_ = session.Close()
		return nil, err
	}
	return &wire{session: session, answer: answer}, nil
}

func (s *Source) session(ctx context.Context) (transport.UploadPackSession, error) {
	if s.addr.scheme == "ssh" {
		return s.dialSSH(ctx)
	}
	return s.openHTTP()
}

// wire is a visit over a network, in Git's pack protocol.
type wire struct {
	session transport.UploadPackSession
	answer  *packp.AdvRefs
}

func (w *wire) close() { _ = w.session.Close() }

func (w *wire) list() refs {
	r := refs{branches: map[string]plumbing.Hash{}}
	if w.answer.Head != nil {
		r.head = *w.answer.Head
	}
	for name, h := range w.answer.References {
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			r.branches[branch] = h
		}
	}
	return r
}

func (w *wire) pull(ctx context.Context, want plumbing.Hash, into *clone) error {
	req := packp.NewUploadPackRequestFromCapabilities(w.answer.Capabilities)
	if w.answer.Capabilities.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return err
		}
	}
	req.Wants = []plumbing.Hash{want}
	req.Haves = into.haves()
	answer, err := w.session.UploadPack(ctx, req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	var pack io.Reader = answer
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, answer)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, answer)
	}
	return into.add(func(storage *filesystem.Storage) error {
		return packfile.UpdateObjectStorage(storage, pack)
	})
}
