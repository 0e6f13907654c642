package dir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// files shows what is under a root: regular files and folders, with symlinks looking like what they point
// to. A link that leads out, nowhere or in a circle, and anything else that is no file (a device, a pipe),
// is listed as a regular file that cannot be opened. Git's own folder is not shown.
//
// The root refuses by itself to lead out; walking the links here as well is what lets the error name them.
type files struct {
	root *os.Root
	only string // the one file shown, or empty for all
}

var _ interface {
	fs.ReadDirFS
	fs.ReadFileFS
	fs.StatFS
} = (*files)(nil)

// longestChain is how many symlinks one path may lead through.
const longestChain = 40

// step is a name still to be walked, and the link that it came from, if any.
type step struct{ name, link, target string }

// find walks to a name and returns where it really is. The errors are for a *fs.PathError.
func (f *files) find(name string) (string, fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return "", nil, fs.ErrInvalid
	}
	if f.only != "" && name != "." && name != f.only {
		return "", nil, fs.ErrNotExist
	}
	at, been, links := ".", map[string]bool{".": name != "."}, 0
	var todo []step
	for part := range strings.SplitSeq(name, "/") {
		todo = append(todo, step{name: part})
	}
	about, err := f.root.Lstat(".")
	for len(todo) > 0 && err == nil {
		next := todo[0]
		todo = todo[1:]
		switch {
		case next.name == "" || next.name == ".":
		case next.name == ".." && at == ".":
			return "", nil, fmt.Errorf("%w: %s points to %s: copy the target into it", ErrEscape, next.link, next.target)
		case next.name == "..":
			at = path.Dir(at)
		case next.name == ".git":
			return "", nil, fs.ErrNotExist
		default:
			at = path.Join(at, next.name)
		}
		if about, err = f.root.Lstat(at); err != nil {
			if next.link != "" {
				err = fmt.Errorf("symlink %s points to %s: %w", next.link, next.target, cause(err))
			}
			break
		}
		if about.Mode()&fs.ModeSymlink != 0 {
			target, err := f.root.Readlink(at)
			if err != nil {
				return "", nil, cause(err)
			}
			if links++; links > longestChain {
				return "", nil, fmt.Errorf("%w: %s points to %s", ErrLoop, at, target)
			}
			if path.IsAbs(target) {
				return "", nil, fmt.Errorf("%w: %s points to %s: copy the target into it", ErrEscape, at, target)
			}
			var more []step
			for part := range strings.SplitSeq(target, "/") {
				more = append(more, step{part, at, target})
			}
			todo, at = append(more, todo...), path.Dir(at)
			continue
		}
		// At the end of each name that was asked for: a folder that the path came through already would be
		// walked for ever.
		if about.IsDir() && (len(todo) == 0 || todo[0].link == "") {
			if been[at] {
				return "", nil, fmt.Errorf("%w: %s is a folder that the path came through", ErrLoop, at)
			}
			been[at] = true
		}
	}
	if err != nil {
		return "", nil, cause(err)
	}
	if !about.IsDir() && !about.Mode().IsRegular() {
		return "", nil, errors.New("is neither a folder nor a regular file")
	}
	return at, about, nil
}

// cause is an error without the path and verb that it tells: they are told around it.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// Open opens a file or folder. The caller closes it.
func (f *files) Open(name string) (fs.File, error) {
	real, _, err := f.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	// Should the file have become a pipe since find looked, opening it must not wait for a writer.
	file, err := f.root.OpenFile(real, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: cause(err)}
	}
	about, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: cause(err)}
	}
	if about.IsDir() {
		entries, err := f.ReadDir(name)
		return &folder{File: file, info: named{about, path.Base(name)}, entries: entries}, err
	}
	return &opened{file, named{about, path.Base(name)}}, nil
}

// ReadFile reads a whole file of at most MaxFile bytes. The bytes are the caller's.
func (f *files) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err == nil && len(content) > MaxFile {
		err = fmt.Errorf("%w: %d bytes are read at most: keep it elsewhere", ErrTooLarge, MaxFile)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: cause(err)}
	}
	return content, nil
}

// Stat describes what a name leads to.
func (f *files) Stat(name string) (fs.FileInfo, error) {
	_, about, err := f.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return named{about, path.Base(name)}, nil
}

// ReadDir lists a folder in the order of names.
func (f *files) ReadDir(name string) ([]fs.DirEntry, error) {
	real, about, err := f.find(name)
	if err == nil && !about.IsDir() {
		err = errors.New("is not a folder")
	}
	var raw []fs.DirEntry
	if err == nil {
		raw, err = fs.ReadDir(f.root.FS(), real)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: cause(err)}
	}
	var list []fs.DirEntry
	for _, e := range raw {
		if e.Name() == ".git" || (f.only != "" && e.Name() != f.only) {
			continue
		}
		list = append(list, f.listed(path.Join(name, e.Name()), e.Type()))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

func (f *files) listed(full string, kind fs.FileMode) fs.DirEntry {
	if kind&fs.ModeSymlink != 0 {
		kind = 0
		if _, about, err := f.find(full); err == nil {
			kind = about.Mode().Type()
		}
	}
	return entry{f, full, kind & fs.ModeDir}
}

// entry is one line of a folder.
type entry struct {
	files *files
	path  string
	kind  fs.FileMode
}

func (e entry) Name() string               { return path.Base(e.path) }
func (e entry) IsDir() bool                { return e.kind.IsDir() }
func (e entry) Type() fs.FileMode          { return e.kind }
func (e entry) Info() (fs.FileInfo, error) { return e.files.Stat(e.path) }
func (e entry) String() string             { return fs.FormatDirEntry(e) }

// named is a file's description under the name that was asked for, which a link may have given it.
type named struct {
	fs.FileInfo
	name string
}

func (n named) Name() string   { return n.name }
func (n named) String() string { return fs.FormatFileInfo(n) }

type opened struct {
	*os.File
	info fs.FileInfo
}

func (o *opened) Stat() (fs.FileInfo, error) { return o.info, nil }

type folder struct {
	*os.File
	info    fs.FileInfo
	entries []fs.DirEntry
}

func (d *folder) Stat() (fs.FileInfo, error) { return d.info, nil }

// ReadDir hands out what is left, n at most where n is positive.
func (d *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	list := d.entries[:n:n]
	d.entries = d.entries[n:]
	return list, nil
}
