package git

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-billy/v5/osfs"
	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

const (
	// cacheSize bounds the objects held in memory. Manifests are small; an agent is idle most of the time.
	cacheSize = 4 * cache.MiByte
	// mostHaves is how many commits of ours are named to the server, so that it sends only what is new.
	mostHaves = 128
	// tipRef names the newest commit fetched, for people who look into the clone and for haves.
	tipRef = plumbing.ReferenceName("refs/heads/skerry")
)

// clone is a bare repository on disk. Objects are only ever added, in whole packs, each of which arrives
// with everything its commits need: an object that is there can be read to its last leaf.
type clone struct {
	dir     string
	damaged atomic.Bool // an object that must be there cannot be read

	// mu guards storage, its caches and indexes, and the values it hands out: go-git fills them on reading.
	mu      sync.Mutex
	storage *filesystem.Storage
}

func storageAt(dir string) *filesystem.Storage {
	return filesystem.NewStorage(osfs.New(dir), cache.NewObjectLRU(cacheSize))
}

// createClone makes an empty clone in a folder that does not exist yet.
func createClone(dir string) (*clone, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	storage := storageAt(dir)
	if _, err := gogit.InitWithOptions(storage, nil, gogit.InitOptions{DefaultBranch: tipRef}); err != nil {
		return nil, fmt.Errorf("create repository in %s: %w", dir, err)
	}
	return &clone{dir: dir, storage: storage}, nil
}

// openClone opens what an earlier process left, removes what it did not finish, and looks for packs that
// did not reach the disk whole. A damaged clone is opened too: some of it may still be readable.
func openClone(dir string) (*clone, error) {
	c := &clone{dir: dir, storage: storageAt(dir)}
	c.look()
	packs := filepath.Join(dir, "objects", "pack")
	entries, err := os.ReadDir(packs)
	if errors.Is(err, fs.ErrNotExist) {
		c.damaged.Store(true)
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := filepath.Join(packs, e.Name())
		base, ext := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
		switch {
		case ext == ".idx":
			// The index is written before its pack gets its name.
			if _, err := os.Lstat(base + ".pack"); errors.Is(err, fs.ErrNotExist) {
				err = os.Remove(name)
				if err != nil {
					return nil, err
				}
			}
		case strings.HasPrefix(e.Name(), "tmp_"):
			if err := os.Remove(name); err != nil {
				return nil, err
			}
		case ext == ".pack":
			if !whole(base) {
				c.damaged.Store(true)
			}
		}
	}
	return c, nil
}

// look notices that somebody took the clone away.
func (c *clone) look() {
	if _, err := os.Lstat(filepath.Join(c.dir, "HEAD")); err != nil {
		c.damaged.Store(true)
	}
}

// whole reports whether a pack and its index end as they should: both name the checksum that the pack is
// called after. It reads forty bytes of each, so it is cheap enough for every start.
func whole(base string) bool {
	_, sum, _ := strings.Cut(filepath.Base(base), "pack-")
	pack, err1 := tail(base+".pack", 20)
	index, err2 := tail(base+".idx", 40)
	return err1 == nil && err2 == nil && hex.EncodeToString(pack) == sum && hex.EncodeToString(index[:20]) == sum
}

func tail(name string, n int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(-n, io.SeekEnd); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(f, b)
	return b, err
}

// commit reads a commit and looks that its tree is there. The error is fs.ErrNotExist when the clone does
// not have the commit; any other means damage.
func (c *clone) commit(h plumbing.Hash) (*object.Commit, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.storage.HasEncodedObject(h); errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, fs.ErrNotExist
	} else if err != nil {
		c.damaged.Store(true)
		return nil, err
	}
	commit, err := object.GetCommit(c.storage, h)
	if err == nil {
		_, err = object.GetTree(c.storage, commit.TreeHash)
	}
	if err != nil {
		c.damaged.Store(true)
		return nil, err
	}
	return commit, nil
}

// tree reads a folder's entries. The slice is the caller's.
func (c *clone) tree(h plumbing.Hash) ([]object.TreeEntry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := object.GetTree(c.storage, h)
	if err != nil {
		c.damaged.Store(true)
		return nil, err
	}
	return t.Entries, nil
}

func (c *clone) size(h plumbing.Hash) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size, err := c.storage.EncodedObjectSize(h)
	if err != nil {
		c.damaged.Store(true)
	}
	return size, err
}

// blob reads a file's content. The bytes are the caller's.
func (c *clone) blob(h plumbing.Hash) (content []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		if err != nil {
			c.damaged.Store(true)
		}
	}()
	o, err := c.storage.EncodedObject(plumbing.BlobObject, h)
	if err != nil {
		return nil, err
	}
	r, err := o.Reader()
	if err != nil {
		return nil, err
	}
	content, err = io.ReadAll(r)
	return content, errors.Join(err, r.Close())
}

func (c *clone) has(h plumbing.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.storage.HasEncodedObject(h) == nil
}

// complete looks that everything a commit's files need is there, without reading contents.
func (c *clone) complete(h plumbing.Hash) error {
	commit, err := c.commit(h)
	if err != nil {
		return err
	}
	folders := []plumbing.Hash{commit.TreeHash}
	seen := map[plumbing.Hash]bool{}
	for ; len(folders) > 0; folders = folders[1:] {
		if seen[folders[0]] {
			continue
		}
		seen[folders[0]] = true
		entries, err := c.tree(folders[0])
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch {
			case e.Mode == filemode.Dir:
				folders = append(folders, e.Hash)
			case e.Mode != filemode.Submodule && !c.has(e.Hash):
				return plumbing.ErrObjectNotFound
			}
		}
	}
	return nil
}

// haves are commits we have, newest first as far as parents tell. Missing parents are left out: a server
// that has only a shallow clone itself gave us none.
func (c *clone) haves() []plumbing.Hash {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref, err := c.storage.Reference(tipRef)
	if err != nil {
		return nil
	}
	found, queue := []plumbing.Hash{}, []plumbing.Hash{ref.Hash()}
	seen := map[plumbing.Hash]bool{ref.Hash(): true}
	for ; len(queue) > 0 && len(found) < mostHaves; queue = queue[1:] {
		commit, err := object.GetCommit(c.storage, queue[0])
		if err != nil {
			continue
		}
		found = append(found, queue[0])
		for _, p := range commit.ParentHashes {
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return found
}

// add lets write put packs into the clone, through a storage of its own: readers go on with theirs, and see
// what is new once all of it is there.
func (c *clone) add(write func(*filesystem.Storage) error) error {
	storage := storageAt(c.dir)
	if err := write(storage); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.storage = storage
	return nil
}

// point moves the clone's one ref.
func (c *clone) point(h plumbing.Hash) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ref, err := c.storage.Reference(tipRef); err == nil && ref.Hash() == h {
		return nil
	}
	return c.storage.SetReference(plumbing.NewHashReference(tipRef, h))
}
