package git

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Every push that is fetched leaves a pack. A lookup asks all of them, and each index costs memory.
const (
	manyPacks = 64
	smallPack = 256 << 10 // larger ones are left alone: they are few, and joining them would need memory
)

// tidy joins small packs into one when there are many. Nothing that was readable is lost: the old packs go
// when the new one is in place. What goes wrong is left for the next time; the clone is as good as before.
func (c *clone) tidy() {
	small, objects, err := c.small()
	if err != nil || len(small) < manyPacks {
		return
	}
	err = c.add(func(storage *filesystem.Storage) error { return writePack(storage, storage, objects, 10) })
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, base := range small {
		// The pack first: an index without its pack is cleared away by openClone.
		if os.Remove(base+".pack") == nil {
			_ = os.Remove(base + ".idx")
		}
	}
	c.storage = storageAt(c.dir)
}

// small finds the small packs, by path without extension, and what is in them.
func (c *clone) small() (bases []string, objects []plumbing.Hash, err error) {
	packs, err := filepath.Glob(filepath.Join(c.dir, "objects", "pack", "pack-*.pack"))
	if err != nil || len(packs) < manyPacks {
		return nil, nil, err
	}
	seen := map[plumbing.Hash]bool{}
	for _, name := range packs {
		at, err := os.Stat(name)
		if err != nil {
			return nil, nil, err
		}
		if at.Size() >= smallPack {
			continue
		}
		base := strings.TrimSuffix(name, ".pack")
		content, err := contents(base + ".idx")
		if err != nil {
			return nil, nil, err
		}
		for _, h := range content {
			if !seen[h] {
				seen[h] = true
				objects = append(objects, h)
			}
		}
		bases = append(bases, base)
	}
	return bases, objects, nil
}

// contents lists the objects that a pack's index names.
func contents(name string) (all []plumbing.Hash, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	index := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(f).Decode(index); err != nil {
		return nil, err
	}
	entries, err := index.Entries()
	if err != nil {
		return nil, err
	}
	defer func() { _ = entries.Close() }()
	for {
		e, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e.Hash)
	}
}
