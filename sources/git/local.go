package git

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// batch is how many objects go into one pack: the encoder holds that many in memory.
const batch = 2000

// local is a repository on this machine, read as files: no program is started for it. It may be bare, have a
// work tree, or be a linked work tree.
type local struct {
	storage *filesystem.Storage
	have    refs
}

func openLocal(path string) (*local, error) {
	repo, err := gogit.PlainOpenWithOptions(path, &gogit.PlainOpenOptions{EnableDotGitCommonDir: true})
	switch {
	case errors.Is(err, gogit.ErrRepositoryNotExists), errors.Is(err, fs.ErrNotExist):
		return nil, faultf(ErrRepository, "there is no Git repository: create it, or correct the path")
	case errors.Is(err, fs.ErrPermission):
		return nil, faultf(ErrAuth, "%v: let the agent's user read the repository", err)
	case err != nil:
		return nil, faultf(ErrRepository, "%v: check the repository with git fsck", err)
	}
	opened, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return nil, faultf(ErrRepository, "not a repository of files")
	}
	// The same folder again, with a smaller cache, and with objects that it shares with another repository.
	l := &local{
		storage: filesystem.NewStorageWithOptions(opened.Filesystem(), cache.NewObjectLRU(cacheSize),
			filesystem.Options{AlternatesFS: osfs.New("/")}),
		have: refs{branches: map[string]plumbing.Hash{}},
	}
	if shallow, err := l.storage.Shallow(); err != nil || len(shallow) > 0 {
		return nil, faultf(ErrRepository, "the repository is shallow: complete it with git fetch --unshallow")
	}
	if head, err := storer.ResolveReference(l.storage, plumbing.HEAD); err == nil {
		l.have.head = head.Hash()
	}
	all, err := l.storage.IterReferences()
	if err != nil {
		return nil, faultf(ErrRepository, "read references: %v: check the repository with git fsck", err)
	}
	err = all.ForEach(func(r *plumbing.Reference) error {
		if branch, ok := strings.CutPrefix(r.Name().String(), "refs/heads/"); ok && r.Type() == plumbing.HashReference {
			l.have.branches[branch] = r.Hash()
		}
		return nil
	})
	if err != nil {
		return nil, faultf(ErrRepository, "read references: %v: check the repository with git fsck", err)
	}
	return l, nil
}

func (l *local) list() refs { return l.have }
func (l *local) close()     {}

func (l *local) pull(ctx context.Context, want plumbing.Hash, into *clone) error {
	return into.add(func(storage *filesystem.Storage) error {
		w := walk{ctx: ctx, from: l.storage, into: storage, has: into.has, seen: map[plumbing.Hash]bool{}}
		if err := w.commits(want); err != nil {
			return err
		}
		return w.flush()
	})
}

// walk copies a commit and what it needs, what is needed first, so that an object is never in the clone
// without what it leads to, wherever the copying is cut off.
type walk struct {
	ctx  context.Context //nolint:containedctx // a walk is one call's, cut into methods
	from storer.EncodedObjectStorer
	into *filesystem.Storage
	has  func(plumbing.Hash) bool
	seen map[plumbing.Hash]bool
	todo []plumbing.Hash
}

// commits goes through the history without recursion: a history is longer than a stack should be deep.
func (w *walk) commits(want plumbing.Hash) error {
	stack := []plumbing.Hash{want}
	entered := map[plumbing.Hash]bool{}
	for len(stack) > 0 {
		h := stack[len(stack)-1]
		if w.seen[h] || (!entered[h] && w.has(h)) {
			stack = stack[:len(stack)-1]
			continue
		}
		commit, err := object.GetCommit(w.from, h)
		if err != nil {
			return unreadable(h, err)
		}
		if !entered[h] {
			entered[h] = true
			stack = append(stack, commit.ParentHashes...)
			continue
		}
		if err := w.tree(commit.TreeHash); err != nil {
			return err
		}
		if err := w.take(h); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) tree(h plumbing.Hash) error {
	if w.seen[h] || w.has(h) {
		return nil
	}
	t, err := object.GetTree(w.from, h)
	if err != nil {
		return unreadable(h, err)
	}
	for _, e := range t.Entries {
		switch {
		case e.Mode == filemode.Submodule: // a commit of another repository
		case e.Mode == filemode.Dir:
			err = w.tree(e.Hash)
		case !w.seen[e.Hash] && !w.has(e.Hash):
			err = w.take(e.Hash)
		}
		if err != nil {
			return err
		}
	}
	return w.take(h)
}

func (w *walk) take(h plumbing.Hash) error {
	w.seen[h] = true
	w.todo = append(w.todo, h)
	if len(w.todo) < batch {
		return nil
	}
	return w.flush()
}

func (w *walk) flush() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if len(w.todo) == 0 {
		return nil
	}
	err := writePack(w.from, w.into, w.todo, 0) // looking for deltas costs more than they save here
	w.todo = w.todo[:0]
	return err
}

// writePack puts objects of one storage into another, as one pack with deltas sought in a window.
func writePack(from storer.EncodedObjectStorer, into *filesystem.Storage, objects []plumbing.Hash, window uint) error {
	w, err := into.PackfileWriter()
	if err != nil {
		return err
	}
	_, err = packfile.NewEncoder(w, from, false).Encode(objects, window)
	return errors.Join(err, w.Close())
}

func unreadable(h plumbing.Hash, err error) error {
	return faultf(ErrRepository, "object %s cannot be read (%v): check the repository with git fsck", h, err)
}
