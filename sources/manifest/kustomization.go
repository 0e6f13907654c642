package manifest

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// kustomization is a kustomization file, read as far as is needed to know what it refers to.
type kustomization struct {
	dir, file string
	data      []byte
	node      *node // nil if it could not be read
	err       *badText
	component bool
}

// names are what a kustomization file may be called.
var names = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// kustomization reads the kustomization of a folder; nil where there is none.
func (r *reader) kustomization(dir string) *kustomization {
	for _, name := range names {
		file := path.Join(dir, name)
		info, err := fs.Stat(r.fsys, file)
		if err != nil || info.IsDir() {
			continue
		}
		k := &kustomization{dir: dir, file: file}
		if k.data, err = fs.ReadFile(r.fsys, file); err != nil {
			k.err = &badText{0, "cannot be read: " + reason(err)}
			return k
		}
		docs := documents(name, k.data)
		switch {
		case len(docs) == 0:
			k.err = &badText{0, "is empty: list the resources"}
		case docs[0].err != nil:
			k.err = docs[0].err
		case docs[0].root.form != formMap:
			k.err = &badText{docs[0].line, "must be a map, not " + docs[0].root.form.String()}
		default:
			k.node = docs[0].root
			k.component = k.node.str("kind") == "Component"
		}
		// A Kubernetes object may be called kustomization.yaml too: Flux has a kind of that name.
		if k.node != nil && k.foreign() {
			return nil
		}
		return k
	}
	return nil
}

// foreign reports whether the file holds another API's object.
func (k *kustomization) foreign() bool {
	version := k.node.str("apiVersion")
	return version != "" && !strings.HasPrefix(version, "kustomize.config.k8s.io/")
}

// role is what kustomize does with a reference.
type role int

const (
	asResource role = iota // a file with objects, or a folder with a kustomization
	asPlugin               // the same, but the objects are generators and transformers
	asData                 // a file
)

// reference is a path in a kustomization.
type reference struct {
	from *kustomization
	role role
	path string // of the field
	line int
	text string // as written
}

// target is the file or folder that is meant, in the form of fs.ValidPath if it lies in the tree.
func (f reference) target() string { return path.Join(f.from.dir, f.text) }

// references lists all paths that a kustomization refers to, those it holds in place aside.
func (k *kustomization) references() []reference {
	var out []reference
	add := func(n *node, role role, path, text string) {
		if text != "" && !strings.Contains(text, "\n") {
			out = append(out, reference{k, role, path, n.line, text})
		}
	}
	for name, role := range map[string]role{"resources": asResource, "bases": asResource, "components": asResource,
		"generators": asPlugin, "transformers": asPlugin, "validators": asPlugin, "crds": asData, "configurations": asData} {
		k.each(name, func(n *node, path string) { add(n, role, path, n.text) })
	}
	k.each("patchesStrategicMerge", func(n *node, path string) {
		if !strings.Contains(n.text, ": ") {
			add(n, asData, path, n.text)
		}
	})
	for _, name := range []string{"patches", "patchesJson6902", "replacements"} {
		k.each(name, func(n *node, path string) {
			if p := n.get("path"); p != nil {
				add(p, asData, path+".path", p.text)
			}
		})
	}
	if p := k.node.get("openapi").get("path"); p != nil {
		add(p, asData, "openapi.path", p.text)
	}
	for _, name := range []string{"configMapGenerator", "secretGenerator"} {
		k.each(name, func(n *node, path string) {
			for i, f := range n.get("files").list() {
				_, text, named := strings.Cut(f.text, "=")
				if !named {
					text = f.text
				}
				add(f, asData, fmt.Sprintf("%s.files[%d]", path, i), text)
			}
			for i, f := range n.get("envs").list() {
				add(f, asData, fmt.Sprintf("%s.envs[%d]", path, i), f.text)
			}
			if env := n.get("env"); env != nil {
				add(env, asData, path+".env", env.text)
			}
		})
	}
	return out
}

// each visits the items of a list in the kustomization.
func (k *kustomization) each(name string, visit func(n *node, path string)) {
	for i, item := range k.node.get(name).list() {
		visit(item, fmt.Sprintf("%s[%d]", name, i))
	}
}

// remote is everything that kustomize might take for an address in a network: it recognises URLs, user@host
// and GitHub's bare host.
var remote = regexp.MustCompile(`(?i)^(git::|[a-z][a-z0-9+.-]*://|[a-z][a-z0-9-]*@|github\.com[/:])`)

// scan is what a look over everything a root refers to finds, before it is rendered.
type scan struct {
	r       *reader
	folders map[string]bool
	files   map[string]bool // true for those that hold objects
	faults  []Fault
}

func (s *scan) fault(k *kustomization, line int, path, format string, args ...any) {
	s.faults = append(s.faults, Fault{File: k.file, Line: line, Path: path, Kind: Error, Text: fmt.Sprintf(format, args...)})
}

// folder looks over a kustomization and what it refers to. Kustomize itself would fetch what is remote, by
// HTTP or by running git, before anybody could refuse it.
func (s *scan) folder(dir string) {
	if s.folders[dir] {
		return
	}
	s.folders[dir] = true
	k := s.r.kustomization(dir)
	if k == nil {
		return
	}
	if k.err != nil {
		s.fault(k, k.err.line, "", "%s", k.err.text)
		return
	}
	for _, f := range k.node.twice {
		s.fault(k, f.line, f.key, "stands twice, first in line %d: remove one", k.node.find(f.key).line)
	}
	for _, name := range []string{"helmCharts", "helmChartInflationGenerator"} {
		if f := k.node.find(name); f != nil {
			s.fault(k, f.line, name, "helm charts are not rendered: commit the rendered manifests instead")
		}
	}
	for _, ref := range k.references() {
		s.reference(ref)
	}
	for _, name := range []string{"generators", "transformers", "validators"} {
		k.each(name, func(n *node, path string) {
			if strings.Contains(n.text, "\n") {
				s.plugins(k, n.line, path, []byte(n.text))
			}
		})
	}
}

// reference looks at one reference.
func (s *scan) reference(ref reference) {
	k, target := ref.from, ref.target()
	switch info, err := fs.Stat(s.r.fsys, target); {
	case remote.MatchString(ref.text):
		s.fault(k, ref.line, ref.path, "%s is remote, and nothing is fetched while rendering: copy it into the repository", safeURL(ref.text))
	case path.IsAbs(ref.text) || !fs.ValidPath(target):
		s.fault(k, ref.line, ref.path, "%s leads out of the source: refer to files inside it", ref.text)
	case err != nil:
		s.fault(k, ref.line, ref.path, "%s is not in the source", ref.text)
	case info.IsDir() && ref.role == asData:
		s.fault(k, ref.line, ref.path, "%s is a folder: a file is wanted here", ref.text)
	case info.IsDir() && s.r.kustomization(target) == nil:
		s.fault(k, ref.line, ref.path, "%s has no kustomization.yaml: add one, or list its files", ref.text)
	case info.IsDir():
		s.folder(target)
	default:
		s.files[target] = s.files[target] || ref.role == asResource
		if ref.role == asPlugin {
			if data, err := fs.ReadFile(s.r.fsys, target); err == nil {
				s.plugins(k, ref.line, ref.path, data)
			}
		}
	}
}

// credentials are what may stand between a URL's scheme and its host.
var credentials = regexp.MustCompile(`//[^/@]*@`)

// safeURL is a URL without a password that it may hold.
func safeURL(s string) string { return credentials.ReplaceAllString(s, "//…@") }

// plugins looks for remote files in the configuration of generators and transformers.
func (s *scan) plugins(k *kustomization, line int, path string, data []byte) {
	for _, d := range documents("", data) {
		if d.root != nil {
			s.plugin(k, line, path, "", d.root)
		}
	}
}

func (s *scan) plugin(k *kustomization, line int, path, key string, n *node) {
	for _, f := range n.fields {
		s.plugin(k, line, path, f.key, f.value)
	}
	for _, item := range n.items {
		s.plugin(k, line, path, key, item)
	}
	switch key {
	case "path", "paths", "file", "files", "env", "envs", "url", "repo", "chart":
		_, text, named := strings.Cut(n.text, "=")
		if n.form == formString && (remote.MatchString(n.text) || named && remote.MatchString(text)) {
			s.fault(k, line, path, "%s is remote, and nothing is fetched while rendering: copy it into the repository", safeURL(n.text))
		}
	}
}
