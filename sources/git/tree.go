package git

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// MaxFile is the largest file that a snapshot opens. Manifests are never near it; what is larger is
// something else that was put among them.
const MaxFile = 16 << 20

// longestChain is how many symlinks one path may lead through.
const longestChain = 40

// tree is one commit's files, read from the clone as they are asked for. It has no state of its own, so
// any number of readers may use it, and it survives the clone's replacement.
//
// Symlinks inside the tree are followed and look like what they point to. A link that leads out, nowhere,
// or in a circle is listed as a regular file that cannot be opened. Submodules are not listed.
type tree struct {
	source *Source
	lent   bool // it is among what other nodes gave us
	root   plumbing.Hash
	when   time.Time
}

func (t *tree) clone() *clone {
	if t.lent {
		return t.source.lentClone()
	}
	return t.source.clone()
}

var _ interface {
	fs.ReadDirFS
	fs.ReadFileFS
	fs.StatFS
} = (*tree)(nil)

// node is a place in a tree after all links were followed.
type node struct {
	mode filemode.FileMode
	hash plumbing.Hash
}

// link is a symlink on the way.
type link struct{ path, target string }

// step is a name still to be walked, and the link that it came from, if any.
type step struct {
	name string
	from *link
}

type place struct {
	path string
	hash plumbing.Hash
}

// find walks to a name. The errors are for a *fs.PathError.
func (t *tree) find(name string) (node, error) {
	if !fs.ValidPath(name) {
		return node{}, fs.ErrInvalid
	}
	at := []place{{".", t.root}}
	been := map[string]bool{}
	links := 0
	todo := steps(name, nil)
	for len(todo) > 0 {
		next, here := todo[0], at[len(at)-1]
		todo = todo[1:]
		switch next.name {
		case "", ".":
		case "..":
			if len(at) == 1 {
				return node{}, escapes(next.from)
			}
			at = at[:len(at)-1]
		default:
			entry, err := t.entry(here.hash, next.name)
			if errors.Is(err, fs.ErrNotExist) && next.from != nil {
				return node{}, fmt.Errorf("symlink %s points to %s: %w", next.from.path, next.from.target, err)
			}
			if err != nil {
				return node{}, err
			}
			full := path.Join(here.path, next.name)
			switch entry.Mode {
			case filemode.Dir:
				at = append(at, place{full, entry.Hash})
			case filemode.Submodule:
				return node{}, fmt.Errorf("%w: copy what is needed from %s into the repository", ErrSubmodule, full)
			case filemode.Symlink:
				target, err := t.blob(entry.Hash)
				if err != nil {
					return node{}, err
				}
				l := &link{full, string(target)}
				if links++; links > longestChain {
					return node{}, fmt.Errorf("%w: %s points to %s", ErrLoop, l.path, l.target)
				}
				if path.IsAbs(l.target) {
					return node{}, escapes(l)
				}
				todo = append(steps(l.target, l), todo...)
				continue
			default:
				if len(todo) > 0 { // a file is not a folder
					return node{}, fs.ErrNotExist
				}
				return node{entry.Mode, entry.Hash}, nil
			}
		}
		// At the end of each name that was asked for: a folder that the path came through already would be
		// walked for ever.
		if len(todo) == 0 || todo[0].from == nil {
			here := at[len(at)-1].path
			if been[here] || here == "." {
				return node{}, fmt.Errorf("%w: %s is a folder that the path came through", ErrLoop, here)
			}
			been[here] = true
		}
	}
	return node{filemode.Dir, at[len(at)-1].hash}, nil
}

// steps splits a path; "." has none.
func steps(name string, from *link) []step {
	if name == "." && from == nil {
		return nil
	}
	var all []step
	for part := range strings.SplitSeq(name, "/") {
		all = append(all, step{part, from})
	}
	return all
}

func escapes(l *link) error {
	return fmt.Errorf("%w: %s points to %s: copy the target into the repository", ErrEscape, l.path, l.target)
}

func (t *tree) entry(folder plumbing.Hash, name string) (object.TreeEntry, error) {
	entries, err := t.clone().tree(folder)
	if err != nil {
		return object.TreeEntry{}, t.lost(err)
	}
	i := slices.IndexFunc(entries, func(e object.TreeEntry) bool { return e.Name == name })
	if i < 0 {
		return object.TreeEntry{}, fs.ErrNotExist
	}
	return entries[i], nil
}

func (t *tree) size(n node) (int64, error) {
	size, err := t.clone().size(n.hash)
	if err != nil {
		return 0, t.lost(err)
	}
	return size, nil
}

// blob reads a file, once it is known to be small enough to be held.
func (t *tree) blob(h plumbing.Hash) ([]byte, error) {
	size, err := t.size(node{hash: h})
	if err != nil {
		return nil, err
	}
	if size > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes, %d are read at most: keep it elsewhere", ErrTooLarge, size, MaxFile)
	}
	content, err := t.clone().blob(h)
	if err != nil {
		return nil, t.lost(err)
	}
	return content, nil
}

// lost is the error for an object that a commit names and the clone cannot read.
func (t *tree) lost(err error) error {
	return fmt.Errorf("the clone in %s is damaged and is replaced with the next fetch (%w)", t.source.cfg.Dir, err)
}

// Open opens a file or folder. A file's content is in memory from then on.
func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if n.mode == filemode.Dir {
		entries, err := t.list(name, n)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &openFolder{info: t.info(name, n, 0), entries: entries}, nil
	}
	content, err := t.blob(n.hash)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{info: t.info(name, n, int64(len(content))), Reader: bytes.NewReader(content)}, nil
}

// ReadFile reads a whole file. The bytes are the caller's.
func (t *tree) ReadFile(name string) ([]byte, error) {
	n, err := t.find(name)
	if err == nil && n.mode == filemode.Dir {
		err = errors.New("is a folder")
	}
	var content []byte
	if err == nil {
		content, err = t.blob(n.hash)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return content, nil
}

// Stat describes what a name leads to, without reading its content.
func (t *tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find(name)
	var size int64
	if err == nil && n.mode != filemode.Dir {
		size, err = t.size(n)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return t.info(name, n, size), nil
}

// ReadDir lists a folder in the order of names.
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find(name)
	if err == nil && n.mode != filemode.Dir {
		err = errors.New("is not a folder")
	}
	var list []fs.DirEntry
	if err == nil {
		list, err = t.list(name, n)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return list, nil
}

func (t *tree) list(name string, n node) ([]fs.DirEntry, error) {
	entries, err := t.clone().tree(n.hash)
	if err != nil {
		return nil, t.lost(err)
	}
	var list []fs.DirEntry
	for _, e := range entries {
		// Git itself refuses such names, but a tree can be made by anybody.
		if e.Mode == filemode.Submodule || e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") {
			continue
		}
		list = append(list, t.listed(path.Join(name, e.Name), node{e.Mode, e.Hash}))
	}
	slices.SortStableFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return slices.CompactFunc(list, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }), nil
}

func (t *tree) listed(full string, n node) fs.DirEntry {
	if n.mode != filemode.Symlink {
		return entry{t, full, n}
	}
	if to, err := t.find(full); err == nil {
		return entry{t, full, to}
	}
	return entry{t, full, node{mode: filemode.Regular}}
}

func (t *tree) info(name string, n node, size int64) info {
	mode := fs.FileMode(0o444)
	switch n.mode {
	case filemode.Dir:
		mode = fs.ModeDir | 0o555
	case filemode.Executable:
		mode = 0o555
	}
	return info{path.Base(name), size, mode, t.when}
}
