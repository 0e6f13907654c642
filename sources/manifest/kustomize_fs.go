package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// tree is an fs.FS as kustomize wants it: read-only, with absolute paths below "/", which is the tree's own
// root. Nothing else exists for kustomize, so nothing can be loaded from elsewhere.
type tree struct {
	fsys fs.FS
	// overlay replaces the content of files.
	overlay map[string][]byte
}

var errReadOnly = errors.New("the tree is read-only")

// inside is a path of kustomize's in the form of fs.ValidPath.
func inside(name string) string {
	if name = strings.TrimPrefix(path.Join("/", filepath.ToSlash(name)), "/"); name == "" {
		return "."
	}
	return name
}

func (t tree) Create(string) (filesys.File, error)  { return nil, errReadOnly }
func (t tree) Mkdir(string) error                   { return errReadOnly }
func (t tree) MkdirAll(string) error                { return errReadOnly }
func (t tree) RemoveAll(string) error               { return errReadOnly }
func (t tree) WriteFile(string, []byte) error       { return errReadOnly }
func (t tree) Open(string) (filesys.File, error)    { return nil, errReadOnly }
func (t tree) Walk(string, filepath.WalkFunc) error { return errReadOnly }

func (t tree) IsDir(name string) bool {
	info, err := fs.Stat(t.fsys, inside(name))
	return err == nil && info.IsDir()
}

func (t tree) Exists(name string) bool {
	_, err := fs.Stat(t.fsys, inside(name))
	return err == nil
}

func (t tree) ReadDir(name string) ([]string, error) {
	entries, err := fs.ReadDir(t.fsys, inside(name))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (t tree) Glob(pattern string) ([]string, error) {
	found, err := fs.Glob(t.fsys, inside(pattern))
	for i := range found {
		found[i] = "/" + found[i]
	}
	return found, err
}

func (t tree) ReadFile(name string) ([]byte, error) {
	if data, ok := t.overlay[inside(name)]; ok {
		return data, nil
	}
	return fs.ReadFile(t.fsys, inside(name))
}

func (t tree) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	clean := inside(name)
	info, err := fs.Stat(t.fsys, clean)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("%s is not in the source", clean)
	case info.IsDir():
		return filesys.ConfirmedDir(path.Join("/", clean)), "", nil
	}
	return filesys.ConfirmedDir(path.Join("/", path.Dir(clean))), path.Base(clean), nil
}
