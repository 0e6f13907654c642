package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// dataLink is the link that is swapped, as the kubelet names it.
const dataLink = "..data"

// Write makes files the content of a written volume, all at once. It ends what one that was cut short has begun.
func (s *Store) Write(uid, volume string, w host.Written) error {
	for _, f := range w.Files {
		// Names with two dots in front are our own, as they are the kubelet's.
		if clean := path.Clean(f.Path); !filepath.IsLocal(f.Path) || clean == "." || strings.HasPrefix(clean, "..") {
			return fmt.Errorf("write volume %s: path %q leads out of the volume", volume, f.Path)
		}
	}
	dir := s.Path(uid, volume, w.Secret)
	if err := s.podDir(uid, w.Secret); err != nil {
		return err
	}
	set := ".." + string(w.Content)
	if have, err := os.Readlink(filepath.Join(dir, dataLink)); err != nil || have != set {
		if err := replace(dir, set, w); err != nil {
			return fmt.Errorf("write volume %s: %w", volume, err)
		}
	}
	return tidy(dir, set, w.Files)
}

// replace makes a new set of files the one that readers see. Their links and their group come before it, so that
// nothing that a reader would miss is left to do once it is in.
func replace(dir, set string, w host.Written) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // not subject to the umask
		return err
	}
	if err := writeSet(dir, set, w.Files); err != nil {
		return err
	}
	if err := link(dir, w.Files); err != nil {
		return err
	}
	if w.Group != nil {
		if err := give(dir, *w.Group, readable); err != nil {
			return err
		}
	}
	temporary := filepath.Join(dir, "..data_new")
	_ = os.Remove(temporary)
	if err := os.Symlink(set, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(dir, dataLink))
}

// writeSet writes the files of one set. What a crash left of the same set is written again.
func writeSet(dir, set string, files []fleet.File) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.RemoveAll(set); err != nil {
		return err
	}
	if err := openFolder(root, set); err != nil {
		return err
	}
	for _, f := range files {
		name := path.Join(set, f.Path)
		if err := openFolder(root, path.Dir(name)); err != nil {
			return err
		}
		if err := root.WriteFile(name, f.Data, 0o600); err != nil {
			return err
		}
		if err := root.Chmod(name, fs.FileMode(f.Mode)&fs.ModePerm); err != nil { // not subject to the umask
			return err
		}
	}
	return nil
}

// openFolder makes a folder, and those above it, that anyone may read, whatever the umask is.
func openFolder(root *os.Root, name string) error {
	switch err := root.Mkdir(name, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && path.Dir(name) != ".":
		if err := openFolder(root, path.Dir(name)); err != nil {
			return err
		}
		return openFolder(root, name)
	case err != nil:
		return err
	}
	return root.Chmod(name, 0o755)
}

// link makes the links that readers open.
func link(dir string, files []fleet.File) error {
	for _, f := range files {
		top, _, _ := strings.Cut(path.Clean(f.Path), "/")
		err := os.Symlink(path.Join(dataLink, top), filepath.Join(dir, top))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// tidy makes sure of the links and removes those of files that are no more, and older sets.
func tidy(dir, set string, files []fleet.File) error {
	if err := link(dir, files); err != nil {
		return err
	}
	want := map[string]bool{dataLink: true, set: true}
	for _, f := range files {
		top, _, _ := strings.Cut(path.Clean(f.Path), "/")
		want[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !want[e.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
