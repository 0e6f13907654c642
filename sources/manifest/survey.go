package manifest

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// part is something that is read on its own: a plain file, or a folder with a kustomization.
type part struct {
	path string
	root bool // a folder to render
}

// survey finds what is to be read below dir, in lexical order. A folder with a kustomization is one part
// unless another kustomization refers to it; what lies below it and what a kustomization refers to belongs
// to that and is not read as plain files.
func (r *reader) survey(dir string) []part {
	if k := r.kustomization(dir); k != nil {
		return []part{{dir, true}}
	}
	var files []string
	folders := map[string]*kustomization{}
	r.walk(dir, false, folders, &files)
	roots, owned := r.roots(folders)
	var parts []part
	for _, root := range roots {
		parts = append(parts, part{root, true})
	}
	for _, file := range files {
		if !owned[file] {
			parts = append(parts, part{file, false})
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.path, b.path) })
	return parts
}

// walk collects the kustomizations below dir and, outside of them, the plain files.
func (r *reader) walk(dir string, inside bool, folders map[string]*kustomization, files *[]string) {
	entries, err := fs.ReadDir(r.fsys, dir)
	if err != nil {
		r.fault(Fault{File: dir, Kind: Error, Text: "cannot be read: " + reason(err)})
		r.broken[prefix(dir)] = true
		return
	}
	if k := r.kustomization(dir); k != nil {
		folders[dir] = k
		inside = true
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			r.walk(name, inside, folders, files)
		case !inside && isManifest(e.Name()):
			*files = append(*files, name)
		}
	}
}

// prefix is a folder as a key of Result.Broken.
func prefix(dir string) string {
	if dir == "." {
		return ""
	}
	return dir + "/"
}

// roots picks the kustomizations that are rendered for their own sake, and tells which files belong to any.
func (r *reader) roots(folders map[string]*kustomization) (roots []string, owned map[string]bool) {
	owned, referred := map[string]bool{}, map[string]bool{}
	names := make([]string, 0, len(folders))
	for dir, k := range folders {
		names = append(names, dir)
		for _, ref := range k.references() {
			target := ref.target()
			owned[target] = true
			if target != dir {
				referred[target] = true
			}
		}
	}
	slices.Sort(names)
	reached := map[string]bool{}
	add := func(dir string) {
		roots = append(roots, dir)
		r.reach(dir, folders, reached)
	}
	for _, dir := range names {
		if !referred[dir] && !folders[dir].component {
			add(dir)
		}
	}
	for _, dir := range names { // what is left refers to itself in a circle, which rendering will name
		if reached[dir] {
			continue
		}
		if folders[dir].component {
			if !referred[dir] {
				r.fault(Fault{File: folders[dir].file, Kind: Warning, Text: "is a component that no kustomization here refers to: it has no effect"})
			}
			continue
		}
		add(dir)
	}
	slices.Sort(roots)
	return roots, owned
}

// reach marks a folder and all that its kustomization refers to.
func (r *reader) reach(dir string, folders map[string]*kustomization, reached map[string]bool) {
	k := folders[dir]
	if k == nil || reached[dir] {
		return
	}
	reached[dir] = true
	for _, ref := range k.references() {
		r.reach(ref.target(), folders, reached)
	}
}
