// Package manifest turns a tree of files into desired objects: it renders kustomizations, reads YAML and
// JSON strictly into the types of k8s.io/api, validates and defaults as a Kubernetes API server does, and
// says of everything that it does not take why, with file, line and field path.
//
// It reads the given fs.FS and nothing else: no network, no processes, no other files but those of the time zones. It is a
// function of the tree and the Policy: the same files give the same Result. What is wrong with one document never keeps another
// from being read, and every document yields an object or a Fault. No Fault quotes a secret value.
//
// Tests are golden files of faults (testdata, -update rewrites them), properties, a fuzz test of the
// decoder, and a corpus of manifests as people write them.
package manifest

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
)

// Result is what a tree says should exist.
type Result struct {
	// Objects are in the order of their IDs, each ID once, and share no memory. Source and Revision are
	// left to the caller.
	Objects []fleet.Object
	// Faults are in the order of file, line and path.
	Faults []Fault
	// Broken says where something was lost that might be an object: a fault of kind Error, or an object
	// of a kind that Skerry runs but that uses what Skerry does not. A key is a file; or a folder with a
	// slash behind it, for everything below it; or empty, for the whole tree. What a caller last had from
	// there, it should keep. Lost asks all of them.
	Broken map[string]bool
	// unread are files with something in them of which not even the name could be read.
	unread [][]byte
}

// Lost reports whether objects of a file may be missing from the result although they should exist.
func (r Result) Lost(file string) bool {
	if r.Broken[""] || r.Broken[file] {
		return true
	}
	for i, c := range file {
		if c == '/' && r.Broken[file[:i+1]] {
			return true
		}
	}
	return false
}

// Read reads the manifests in and below dir, which has the form of fs.ValidPath. If dir has a
// kustomization, it is rendered and nothing else is read; otherwise every .yaml, .yml and .json file is
// read in lexical order, those that begin with a dot aside, and kustomizations found below are rendered.
func Read(fsys fs.FS, dir string) Result { return Policy{}.Read(fsys, dir) }

// Read does what the function Read does, takes what p has beside it, and refuses what p does not let in.
func (p Policy) Read(fsys fs.FS, dir string) Result {
	r := &reader{policy: p, fsys: fsys, broken: map[string]bool{}, first: map[fleet.ObjectID]*found{}}
	if info, err := fs.Stat(fsys, dir); err != nil || !info.IsDir() {
		r.fault(Fault{File: dir, Kind: Error, Text: noFolder(err)})
		r.broken[""] = true
	} else {
		r.folder(dir)
		r.depend()
		r.autoscale()
		r.prioritize()
		r.serve()
		r.admit(p)
	}
	out := Result{Faults: sortFaults(r.faults), Broken: r.broken, unread: r.unread}
	for _, f := range r.first {
		if f.object != nil {
			out.Objects = append(out.Objects, *f.object)
		}
	}
	slices.SortFunc(out.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) })
	return out
}

func noFolder(err error) string {
	if err == nil {
		return "is a file, not a folder: name the folder that holds the manifests"
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "does not exist: check the source's path"
	}
	return "cannot be read: " + reason(err)
}

// reason is an error of the file system without the path, which the fault names already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// reader collects what a tree says.
type reader struct {
	policy Policy
	fsys   fs.FS
	faults []Fault
	unread [][]byte
	broken map[string]bool
	first  map[fleet.ObjectID]*found
	placed []placed // what was taken, as it was come upon
}

// found is where an ID was first used. Its object is nil if that was not taken.
type found struct {
	object *fleet.Object
	labels map[string]string // of a Namespace, taken or not
	file   string
	line   int
}

func (r *reader) fault(f Fault) { r.faults = append(r.faults, f) }

// folder reads everything below dir.
func (r *reader) folder(dir string) {
	for _, p := range r.survey(dir) {
		if p.root {
			r.render(p.path, p.path == dir)
			continue
		}
		data, err := fs.ReadFile(r.fsys, p.path)
		if err != nil {
			r.fault(Fault{File: p.path, Kind: Error, Text: "cannot be read: " + reason(err)})
			r.broken[p.path] = true
			continue
		}
		told := len(r.faults)
		for _, d := range documents(p.path, data) {
			r.document(origin{file: p.path}, d)
		}
		if slices.ContainsFunc(r.faults[told:], func(f Fault) bool { return f.Kind == Error && f.Object == (fleet.ObjectID{}) }) {
			r.unread = append(r.unread, data)
		}
	}
}

// isManifest reports whether a file in a plain folder is read.
func isManifest(name string) bool {
	ext := path.Ext(name)
	return !strings.HasPrefix(name, ".") && (ext == ".yaml" || ext == ".yml" || ext == ".json")
}
