// Package git reads desired state from one branch of a Git repository: over https, http, ssh, or from a
// repository on this machine, without a git program.
//
// It keeps a bare clone of the branch's whole history and reads single commits out of it as a file system.
// Nothing is ever checked out, so there is no work tree to drift, and a snapshot cannot change under its
// reader. The clone only grows: a commit that was fetched once stays readable, also after a force push. Pack and Unpack carry
// a single commit from one node's clone to another node, which keeps it beside its own.
//
// What holds: a look at a branch that did not move costs one request and no write; a fetch takes only what
// is new; a fetch that fails or is cut off at any point leaves the last good commit readable; a clone that
// was damaged is replaced by a fresh one once that is complete, never before; no error has a secret in it;
// every wait on a network ends with the context. No goroutine outlives a call, and none is started by Open.
//
// It never decides when to fetch (Next only counts), never writes to a remote, never runs hooks, filters or
// any program, and does not follow submodules or Git LFS pointers.
//
// Tests run it against real servers on this machine: git's own http backend, with and without TLS and
// passwords, an ssh server, and repositories on disk.
package git

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources"
)

// Source is one branch of one repository. Fetch and At are called from one goroutine at a time, as
// sources.Source says; snapshots may be read from any number meanwhile.
type Source struct {
	cfg    Config
	addr   address
	folder string
	tls    tls.ClientSessionCache // spares most of the handshake at each poll

	mu      sync.Mutex
	current *clone // nil until the first fetch is complete
	lent    *clone // single commits that other nodes gave us; nil when there are none

	lending sync.Mutex // held by Unpack
}

var _ sources.Source = (*Source)(nil)

// The clone's folders inside Config.Dir.
const (
	currentDir = "clone"
	nextDir    = "clone.next" // being filled
	lastDir    = "clone.last" // replaced a moment ago
	lentDir    = "lent"       // commits from other nodes
	arrivedDir = "lent.next"  // one of them before it is looked at
)

// Open takes up the clone that an earlier process left in cfg.Dir, or none. It touches no network. A clone
// that turns out damaged is no error here: the next Fetch replaces it, and until then At reads what it can.
func Open(cfg Config) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, tls: tls.NewLRUClientSessionCache(4)}
	s.addr, _ = parse(cfg.URL) // Validate did, with these
	s.folder, _ = folder(cfg.Path)
	if err := s.takeUp(); err != nil {
		return nil, fmt.Errorf("open clone of %s in %s: %w", cfg.Name, cfg.Dir, err)
	}
	return s, nil
}

// URL is where the source fetches from, as it may be shown.
func (s *Source) URL() string { return s.addr.String() }

func (s *Source) takeUp() error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	// Repositories hold sealed secrets at best; a folder that was there before may have been open to others.
	if err := os.Chmod(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := os.RemoveAll(s.path(nextDir)); err != nil {
		return err
	}
	if err := s.takeUpLent(); err != nil {
		return err
	}
	_, err := os.Lstat(s.path(currentDir))
	if errors.Is(err, fs.ErrNotExist) {
		// Killed between the two renames of replace.
		err = os.Rename(s.path(lastDir), s.path(currentDir))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.path(lastDir)); err != nil {
		return err
	}
	s.current, err = openClone(s.path(currentDir))
	return err
}

func (s *Source) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

func (s *Source) clone() *clone {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Fetch asks the remote where the branch is, takes what is new, and returns its newest commit. Errors wrap
// one of ErrAuth, ErrUnreachable, ErrBranch, ErrRepository and ErrHostKey, and the context's error where that
// ended it; they say in one line what to do.
func (s *Source) Fetch(ctx context.Context) (sources.Snapshot, error) {
	c := s.clone()
	if c != nil {
		c.look()
	}
	if c != nil && !c.damaged.Load() {
		snapshot, err := s.update(ctx, c)
		if err == nil || !c.damaged.Load() {
			return snapshot, err
		}
		// Found damaged on the way: begin again at once.
	}
	return s.replace(ctx)
}

// update brings a clone to where the branch is.
func (s *Source) update(ctx context.Context, c *clone) (sources.Snapshot, error) {
	r, err := s.dial(ctx)
	if err != nil {
		return sources.Snapshot{}, s.explain(ctx, err)
	}
	defer r.close()
	want, err := s.pick(r.list())
	if err != nil {
		return sources.Snapshot{}, s.explain(ctx, err)
	}
	snapshot, err := s.read(c, want)
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.pull(ctx, want, c); err != nil {
			return sources.Snapshot{}, s.explain(ctx, err)
		}
		if err = c.complete(want); err == nil {
			snapshot, err = s.read(c, want)
		}
		if err != nil {
			// Either the server left something out, or an object that we told it we have is gone. A second try
			// in a fresh clone tells which.
			c.damaged.Store(true)
			err = faultf(ErrRepository, "the server did not send commit %s whole: check the repository there with git fsck", want)
		} else {
			c.tidy()
		}
	}
	if err == nil {
		err = c.point(want)
	}
	if err != nil {
		return sources.Snapshot{}, s.explain(ctx, err)
	}
	return snapshot, nil
}

// replace fetches everything into a fresh clone and then puts it where the old one was, if there was one.
func (s *Source) replace(ctx context.Context) (sources.Snapshot, error) {
	if err := os.RemoveAll(s.path(nextDir)); err != nil {
		return sources.Snapshot{}, s.explain(ctx, err)
	}
	next, err := createClone(s.path(nextDir))
	if err != nil {
		return sources.Snapshot{}, s.explain(ctx, err)
	}
	snapshot, err := s.update(ctx, next)
	if err != nil {
		_ = os.RemoveAll(s.path(nextDir)) // the next try does it again
		return sources.Snapshot{}, err
	}
	if err := s.install(); err != nil {
		return sources.Snapshot{}, s.explain(ctx, err)
	}
	return snapshot, nil
}

// install puts the next clone in the place of the current one, under the eyes of readers: a read sees all
// of the one or all of the other.
func (s *Source) install() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.current
	if c == nil {
		c = &clone{dir: s.path(currentDir)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.RemoveAll(s.path(lastDir)); err != nil {
		return err
	}
	if err := os.Rename(s.path(currentDir), s.path(lastDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(s.path(nextDir), s.path(currentDir)); err != nil {
		return err
	}
	_ = os.RemoveAll(s.path(lastDir)) // Open does it again
	c.storage = storageAt(c.dir)
	c.damaged.Store(false)
	s.current = c
	return nil
}

// pick finds the configured branch among what the remote has.
func (s *Source) pick(have refs) (plumbing.Hash, error) {
	if len(have.branches) == 0 && have.head.IsZero() {
		return plumbing.ZeroHash, faultf(ErrBranch, "the repository is empty: push a commit to it")
	}
	if s.cfg.Branch == "" {
		if have.head.IsZero() {
			return plumbing.ZeroHash, faultf(ErrBranch, "the repository's HEAD names no branch that exists: set the branch to one of %s", have.names())
		}
		return have.head, nil
	}
	h, ok := have.branches[s.cfg.Branch]
	if !ok {
		return plumbing.ZeroHash, faultf(ErrBranch, "the repository has no branch %s: push it, or set the branch to one of %s", s.cfg.Branch, have.names())
	}
	return h, nil
}

// At returns a commit that is in the clone, whether it was ever the branch's newest or not, or that was unpacked. revision is
// the full hash. The error is fs.ErrNotExist, wrapped, for one that the clone does not have or, being damaged,
// no longer has.
func (s *Source) At(revision fleet.Revision) (sources.Snapshot, error) {
	snapshot, err := sources.Snapshot{}, fs.ErrNotExist
	if c := s.clone(); c != nil && plumbing.IsHash(string(revision)) {
		snapshot, err = s.read(c, plumbing.NewHash(string(revision)))
	}
	if c := s.lentClone(); err != nil && c != nil && plumbing.IsHash(string(revision)) {
		if lent, lentErr := s.read(c, plumbing.NewHash(string(revision))); lentErr == nil {
			return lent, nil
		}
	}
	switch {
	case err == nil:
		return snapshot, nil
	case errors.Is(err, fs.ErrNotExist):
		return sources.Snapshot{}, fmt.Errorf("read %s at %s: not fetched: %w", s.cfg.Name, revision.Short(), fs.ErrNotExist)
	default:
		return sources.Snapshot{}, fmt.Errorf("read %s at %s: the clone in %s is damaged and is replaced with the next fetch: %w",
			s.cfg.Name, revision.Short(), s.cfg.Dir, fs.ErrNotExist)
	}
}

func (s *Source) read(c *clone, h plumbing.Hash) (sources.Snapshot, error) {
	commit, err := c.commit(h)
	if err != nil {
		return sources.Snapshot{}, err
	}
	return sources.Snapshot{
		Revision: fleet.Revision(h.String()),
		Files:    &tree{source: s, lent: c == s.lentClone(), root: commit.TreeHash, when: commit.Committer.When},
		Dir:      s.folder,
		Title:    title(commit.Message),
	}, nil
}

// title is a commit message's first line, short enough for a table and without characters that would steer
// a terminal.
func title(message string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	line = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, ""))
	if runes := []rune(line); len(runes) > 100 {
		line = string(runes[:100])
	}
	return strings.TrimSpace(line)
}
