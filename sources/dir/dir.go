// Package dir reads desired state from a plain folder or a single file, as it is at the moment of reading.
//
// A folder has no history: a snapshot is a view of the disk, and shows what is there when it is read, not
// when it was taken. Whoever needs a state that does not move uses Git. Revisions name what a Fetch saw, so
// that two passes over an unchanged folder have one name.
//
// Inside a Git work tree the files are those of the whole work tree, and only Snapshot.Dir is the folder
// asked for: an overlay may build on ../base, as with kustomize. Nothing leads out of that root: a symlink
// that does is an error that names it. The revision is over the folder asked for alone, since reading a whole
// work tree for each look would be slow; a change in ../base has no new revision of its own.
//
// It writes nothing and knows no Git beyond the place of a .git entry. Tests run it on real folders.
package dir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources"
)

// Why a file of a snapshot cannot be opened, for errors.Is. They are wrapped in *fs.PathError.
var (
	// ErrEscape: a symlink's target is outside of the root.
	ErrEscape = errors.New("symlink leads out of the folder")
	// ErrLoop: symlinks lead back to themselves or to a folder that the path came through.
	ErrLoop = errors.New("symlink leads in a circle")
	// ErrEmpty: a folder has no files. It is the error of a Fetch.
	ErrEmpty = errors.New("the folder is empty: put manifests there, or correct the path")
	// ErrTooLarge: a file has more than MaxFile bytes.
	ErrTooLarge = errors.New("file is too large")
)

// MaxFile is the largest file that a snapshot opens.
const MaxFile = 16 << 20

// Source is a folder or a file on this machine. It holds its root open, so that no renaming of folders
// around it can lead a reader elsewhere. Fetch is called from one goroutine at a time, At from any.
type Source struct {
	path string // as it was given, absolute
	root *os.Root
	dir  string                         // the folder asked for, inside root
	only string                         // the file asked for, inside root; empty for a folder
	seen atomic.Pointer[fleet.Revision] // what the last Fetch saw; nil before the first
}

var _ sources.Source = (*Source)(nil)

// Open takes a folder or a file, which must exist; a relative path is from the working directory. Inside
// a Git work tree a folder is rooted at its top, otherwise at itself. Of a file, only that file is shown.
func Open(name string) (*Source, error) {
	if name == "" {
		return nil, errors.New("read folder: no path given: name a folder or a file")
	}
	full, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	// Links on the way to the folder are the user's; only those inside it are held in.
	real, err := filepath.EvalSymlinks(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: no such folder or file: create it, or correct the path: %w", full, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", full, err)
	}
	about, err := os.Stat(real)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", full, err)
	}
	s := &Source{path: full, dir: "."}
	var top string
	switch {
	case about.Mode().IsRegular():
		top, s.only = filepath.Dir(real), filepath.Base(real)
	case !about.IsDir():
		return nil, fmt.Errorf("read %s: is neither a folder nor a regular file", full)
	default:
		top = workTree(real)
		rel, err := filepath.Rel(top, real)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", full, err)
		}
		s.dir = filepath.ToSlash(rel)
	}
	if s.root, err = os.OpenRoot(top); err != nil {
		return nil, fmt.Errorf("read %s: %w", full, err)
	}
	return s, nil
}

// workTree is the nearest folder at or above one that has a .git (a folder, or the file of a linked work
// tree), or the folder itself where there is none.
func workTree(folder string) string {
	for at := folder; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return folder
		}
	}
}

// Close lets go of the root. Snapshots cannot be read after it.
func (s *Source) Close() error { return s.root.Close() }

// Fetch reads every file of the folder, dot folders aside, and returns the revision that stands for their
// names and contents. An empty folder is an error: it is more often a wrong path than a wish to run nothing.
func (s *Source) Fetch(ctx context.Context) (sources.Snapshot, error) {
	files := s.files()
	sum, count := sha256.New(), 0
	err := fs.WalkDir(files, s.dir, func(name string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case e.IsDir() && name != s.dir && strings.HasPrefix(e.Name(), "."):
			return fs.SkipDir
		case e.IsDir():
			return nil
		}
		count++
		rel := strings.TrimPrefix(name, s.dir+"/") // where the folder stands does not matter
		if err := digest(sum, files, name, rel); err != nil {
			// Whoever wants this file gets the error; for the others there is a revision all the same.
			_, _ = fmt.Fprintf(sum, "%q cannot be read\n", rel)
		}
		return nil
	})
	if err == nil && count == 0 {
		err = ErrEmpty
	}
	if err != nil {
		return sources.Snapshot{}, fmt.Errorf("read %s: %w", s.path, err)
	}
	revision := fleet.Revision("dir-" + hex.EncodeToString(sum.Sum(nil))[:40])
	s.seen.Store(&revision)
	return s.snapshot(revision), nil
}

// At returns the folder as it is now, if revision is what the last Fetch saw; the disk may have moved on
// since. Any other revision is fs.ErrNotExist, wrapped: a folder has no past.
func (s *Source) At(revision fleet.Revision) (sources.Snapshot, error) {
	if seen := s.seen.Load(); seen == nil || *seen != revision {
		return sources.Snapshot{}, fmt.Errorf("read %s at %s: a folder keeps no earlier revisions: %w", s.path, revision, fs.ErrNotExist)
	}
	return s.snapshot(revision), nil
}

// digest adds one file. The length stands before the content, so that no two folders run together into the
// same bytes.
func digest(sum io.Writer, files fs.FS, name, rel string) error {
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	about, err := f.Stat()
	if err != nil {
		return err
	}
	if about.Size() > MaxFile { // no manifest: seen to change, but not read
		_, err = fmt.Fprintf(sum, "%q %d %s\n", rel, about.Size(), about.ModTime().UTC())
		return err
	}
	_, _ = fmt.Fprintf(sum, "%q %d\n", rel, about.Size())
	_, err = io.Copy(sum, f)
	return err
}

func (s *Source) files() fs.FS { return &files{s.root, s.only} }

func (s *Source) snapshot(revision fleet.Revision) sources.Snapshot {
	return sources.Snapshot{Revision: revision, Files: s.files(), Dir: path.Clean(s.dir)}
}
