package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/skerry-dev/skerry/fleet"
)

// What one commit may come to that one clone gives to another. Repositories of manifests are far below.
const (
	maxLentBytes   = 256 << 20 // of all objects, before they are compressed
	maxLentObjects = 1 << 18
)

// Pack writes a commit, its folders and its files, and nothing of its history, as a packfile for Unpack. It may run beside
// everything else, and more than once. The error is fs.ErrNotExist, wrapped, for a commit that the clone does not have; nothing
// was written then.
func (s *Source) Pack(ctx context.Context, revision fleet.Revision, w io.Writer) error {
	for _, c := range []*clone{s.clone(), s.lentClone()} {
		if c == nil || !plumbing.IsHash(string(revision)) {
			continue
		}
		commit, err := c.commit(plumbing.NewHash(string(revision)))
		if err != nil {
			continue
		}
		// A storage of its own: readers of the clone do not wait for whoever takes the pack.
		l := &lending{EncodedObjectStorer: storageAt(c.dir), ctx: ctx, objects: map[plumbing.Hash]*lentObject{}}
		if err := l.collect(commit); err != nil {
			return fmt.Errorf("pack %s of %s: %w", revision.Short(), s.cfg.Name, err)
		}
		if _, err := packfile.NewEncoder(w, l, false).Encode(l.order, 0); err != nil {
			return fmt.Errorf("pack %s of %s: %w", revision.Short(), s.cfg.Name, errors.Join(ctx.Err(), err))
		}
		return nil
	}
	return fmt.Errorf("pack %s of %s: not fetched: %w", revision.Short(), s.cfg.Name, fs.ErrNotExist)
}

// lending is one commit as it is packed. Its objects are read when it is their turn: the encoder holds all of them.
type lending struct {
	storer.EncodedObjectStorer
	ctx     context.Context //nolint:containedctx // a lending is one call's
	objects map[plumbing.Hash]*lentObject
	order   []plumbing.Hash
	bytes   int64
}

// lentObject is an object whose content is not in memory.
type lentObject struct {
	plumbing.MemoryObject
	of *lending
	id plumbing.Hash
}

// Hash is known: it need not be computed.
func (o *lentObject) Hash() plumbing.Hash { return o.id }

// Reader reads the content from the clone.
func (o *lentObject) Reader() (io.ReadCloser, error) {
	if err := o.of.ctx.Err(); err != nil {
		return nil, err
	}
	stored, err := o.of.EncodedObjectStorer.EncodedObject(o.Type(), o.id)
	if err != nil {
		return nil, err
	}
	return stored.Reader()
}

// EncodedObject returns an object without its content.
func (l *lending) EncodedObject(_ plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	if o, ok := l.objects[h]; ok {
		return o, nil
	}
	return nil, plumbing.ErrObjectNotFound
}

func (l *lending) collect(commit *object.Commit) error {
	if err := l.add(plumbing.CommitObject, commit.Hash); err != nil {
		return err
	}
	folders := []plumbing.Hash{commit.TreeHash}
	for ; len(folders) > 0; folders = folders[1:] {
		if l.objects[folders[0]] != nil {
			continue
		}
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if err := l.add(plumbing.TreeObject, folders[0]); err != nil {
			return err
		}
		t, err := object.GetTree(l.EncodedObjectStorer, folders[0])
		if err != nil {
			return err
		}
		for _, e := range t.Entries {
			switch e.Mode {
			case filemode.Submodule: // a commit of another repository
			case filemode.Dir:
				folders = append(folders, e.Hash)
			default:
				if err := l.add(plumbing.BlobObject, e.Hash); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (l *lending) add(kind plumbing.ObjectType, h plumbing.Hash) error {
	if l.objects[h] != nil {
		return nil
	}
	size, err := l.EncodedObjectSize(h)
	if err != nil {
		return err
	}
	o := &lentObject{of: l, id: h}
	o.SetType(kind)
	o.SetSize(size)
	l.objects[h] = o
	l.order = append(l.order, h)
	if l.bytes += size; l.bytes > maxLentBytes || len(l.order) > maxLentObjects {
		return tooMuch
	}
	return nil
}

var tooMuch = faultf(ErrPack, "the commit has more than %d MiB or %d files: another node cannot be given it, and has to fetch it itself",
	maxLentBytes>>20, maxLentObjects)

// Unpack takes a commit that another clone has packed. From then on At returns it, and Pack passes it on. One that is there
// already is not read. What was sent and is not the commit is ErrPack, and leaves nothing behind.
//
// It is kept beside the fetched history and not in it: of a commit in there whose history is missing a server would be told that
// we have all of it, and would leave out what we need.
func (s *Source) Unpack(ctx context.Context, revision fleet.Revision, r io.Reader) error {
	s.lending.Lock()
	defer s.lending.Unlock()
	err := s.unpack(ctx, revision, r)
	if err := errors.Join(err, os.RemoveAll(s.path(arrivedDir))); err != nil {
		return fmt.Errorf("unpack %s of %s: %w", revision.Short(), s.cfg.Name, err)
	}
	return nil
}

func (s *Source) unpack(ctx context.Context, revision fleet.Revision, r io.Reader) error {
	if !plumbing.IsHash(string(revision)) {
		return faultf(ErrPack, "%q is not the full hash of a commit", revision)
	}
	want := plumbing.NewHash(string(revision))
	for _, c := range []*clone{s.clone(), s.lentClone()} {
		if c != nil && !c.damaged.Load() && c.has(want) {
			return nil
		}
	}
	if err := os.RemoveAll(s.path(arrivedDir)); err != nil {
		return err
	}
	arrived, err := createClone(s.path(arrivedDir))
	if err != nil {
		return err
	}
	pack := filepath.Join(arrived.dir, "arrived.pack")
	if err := receive(ctx, r, pack); err != nil {
		return err
	}
	if err := arrived.add(func(storage *filesystem.Storage) error { return index(pack, storage) }); err != nil {
		return faultf(ErrPack, "what was sent is no packfile (%v)", err)
	}
	// Objects are found by what their content hashes to: with the hash asked for, everything below it is right.
	if err := arrived.complete(want); err != nil {
		return faultf(ErrPack, "what was sent does not have all of the commit (%v)", err)
	}
	commit, err := arrived.commit(want)
	if err != nil {
		return err
	}
	lent, err := s.makeLent()
	if err != nil {
		return err
	}
	err = lent.add(func(storage *filesystem.Storage) error {
		w := walk{ctx: ctx, from: arrived.storage, into: storage, has: lent.has, seen: map[plumbing.Hash]bool{}}
		if err := w.tree(commit.TreeHash); err != nil {
			return err
		}
		if err := w.take(want); err != nil {
			return err
		}
		return w.flush()
	})
	if err == nil {
		lent.tidy()
	}
	return err
}

// receive writes a packfile to disk and looks, before anything else reads it, that it does not swell to more than is taken: it
// may say of its objects what it likes.
func receive(ctx context.Context, r io.Reader, name string) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	within := &bounded{ctx: ctx, r: r, left: maxLentBytes}
	from := io.TeeReader(within, f)
	scanner := packfile.NewScanner(from)
	broken := func(err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, tooMuch):
			return tooMuch
		}
		return faultf(ErrPack, "what was sent is no packfile, or was cut off (%v)", err)
	}
	_, count, err := scanner.Header()
	if err != nil {
		return broken(err)
	}
	if count > maxLentObjects {
		return tooMuch
	}
	left := int64(maxLentBytes)
	for range count {
		h, err := scanner.NextObjectHeader()
		if err != nil {
			return broken(err)
		}
		if h.Type.IsDelta() { // Pack makes none
			return faultf(ErrPack, "what was sent has differences in it and not whole objects")
		}
		if h.Length < 0 || h.Length > left {
			return tooMuch
		}
		left -= h.Length
		if n, _, err := scanner.NextObject(&room{h.Length}); err != nil {
			return broken(err)
		} else if n < h.Length {
			return broken(wrongSize)
		}
	}
	if _, err := scanner.Checksum(); err != nil {
		return broken(err)
	}
	if _, err := io.Copy(io.Discard, from); err != nil {
		return broken(err)
	}
	return nil
}

// bounded ends with a context, and fails when more comes than is left.
type bounded struct {
	ctx  context.Context //nolint:containedctx // it is one call's
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, tooMuch
	}
	return n, err
}

// room takes as many bytes as an object said it has.
type room struct{ left int64 }

func (r *room) Write(p []byte) (int, error) {
	if r.left -= int64(len(p)); r.left < 0 {
		return 0, wrongSize
	}
	return len(p), nil
}

var wrongSize = faultf(ErrPack, "an object is not of the size that it says")

// index puts a packfile into a storage, which finds out the hashes of its objects.
func index(name string, into *filesystem.Storage) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w, err := into.PackfileWriter()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, w.Close())
}

func (s *Source) lentClone() *clone {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lent
}

// makeLent returns the clone for what others gave us, a new one where there is none that can be read.
func (s *Source) makeLent() (*clone, error) {
	if c := s.lentClone(); c != nil && !c.damaged.Load() {
		return c, nil
	}
	if err := os.RemoveAll(s.path(lentDir)); err != nil {
		return nil, err
	}
	c, err := createClone(s.path(lentDir))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lent = c
	return c, nil
}

// takeUpLent takes up what others gave to an earlier process, and drops it when it is damaged: it can be asked for again.
func (s *Source) takeUpLent() error {
	if err := os.RemoveAll(s.path(arrivedDir)); err != nil {
		return err
	}
	if _, err := os.Lstat(s.path(lentDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := openClone(s.path(lentDir))
	if err != nil || c.damaged.Load() {
		return os.RemoveAll(s.path(lentDir))
	}
	s.lent = c
	return nil
}
