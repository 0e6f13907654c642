package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
)

// render renders a kustomization and takes its objects.
func (r *reader) render(root string, whole bool) {
	s := &scan{r: r, folders: map[string]bool{}, files: map[string]bool{}}
	k := r.kustomization(root)
	if k.component {
		s.fault(k, 0, "kind", "is a component, which is not rendered by itself: refer to it from a kustomization")
	}
	s.folder(root)
	if len(s.faults) > 0 {
		r.lose(s, root, whole)
		r.faults = append(r.faults, s.faults...)
		return
	}
	resources, err := build(tree{r.fsys, map[string][]byte{k.file: withOrigins(k)}}, root)
	if err != nil {
		r.lose(s, root, whole)
		if !r.unreadable(s) {
			r.fault(Fault{File: k.file, Kind: Error, Text: "kustomize: " + r.clean(err, s)})
		}
		return
	}
	t := tracer{reader: r, k: k, keep: asksForOrigins(k), read: map[string][]document{}}
	for _, res := range resources.Resources() {
		t.take(res)
	}
}

// lose marks everything that a root is made of as broken: its own folder, and all that it refers to.
func (r *reader) lose(s *scan, root string, whole bool) {
	if whole {
		r.broken[""] = true
	}
	for dir := range s.folders {
		r.broken[prefix(dir)] = true
	}
	for file := range s.files {
		r.broken[file] = true
	}
	r.broken[prefix(root)] = true
}

// unreadable reports the resource files that cannot be parsed, with their lines, which kustomize does not
// know.
func (r *reader) unreadable(s *scan) bool {
	found := false
	for _, file := range slices.Sorted(maps.Keys(s.files)) {
		data, err := fs.ReadFile(r.fsys, file)
		if err != nil || !s.files[file] {
			continue
		}
		for _, d := range documents(file, data) {
			if d.err != nil {
				r.fault(Fault{File: file, Line: d.err.line, Kind: Error, Text: d.err.text})
				found = true
			}
		}
	}
	return found
}

// rendering is held while kustomize works, which keeps the OpenAPI schema in a global variable.
var rendering sync.Mutex

// build runs kustomize, without plugins, helm or processes.
func build(t tree, root string) (_ resmap.ResMap, err error) {
	rendering.Lock()
	defer rendering.Unlock()
	// Kustomize panics on some input. One bad file must not end the agent, again at each start.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panics: %v", p)
		}
	}()
	// The schema would stay in memory, and one that a kustomization brings would serve for the next one too.
	defer openapi.ResetOpenAPI()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionNone
	options.LoadRestrictions = types.LoadRestrictionsNone // there is nothing outside the tree
	options.PluginConfig = types.DisabledPluginConfig()
	return krusty.MakeKustomizer(options).Run(t, path.Join("/", root))
}

const (
	originOption  = "originAnnotations"
	metadataField = "buildMetadata"
	managedBy     = "app.kubernetes.io/managed-by"
)

// asksForOrigins reports whether the user wants the annotations that we need for ourselves.
func asksForOrigins(k *kustomization) bool {
	return slices.ContainsFunc(k.node.get(metadataField).list(), func(n *node) bool { return n.text == originOption })
}

// withOrigins is a kustomization file that makes kustomize say where each object comes from.
func withOrigins(k *kustomization) []byte {
	if asksForOrigins(k) {
		return k.data
	}
	flow := bytes.HasPrefix(k.data[min(len(k.data), indexContent(k.data)):], []byte("{")) || bytes.Contains(k.data, []byte("\n..."))
	if k.node.get(metadataField) == nil && !flow {
		return append(bytes.Clone(k.data), "\n"+metadataField+": ["+originOption+"]\n"...)
	}
	value, _ := k.node.value().(map[string]any)
	list, _ := value[metadataField].([]any)
	value[metadataField] = append(list, originOption)
	data, err := json.Marshal(value)
	if err != nil { // cannot happen: it was read from YAML or JSON
		return k.data
	}
	return data
}

// What kustomize quotes from files may be secret: configurations of generators and transformers in
// backquotes, whole patches in brackets, maps of Go, strings of several lines.
var quoted = regexp.MustCompile("(?s)`[^`]*`|map\\[.*\\]|\\[patch: .*\\]|\\[[^\\]\n]*\n.*\\]|\"[^\"]*(\\\\n|\n)[^\"]*\"|patch from \\[.*")

// Kustomize tries each resource as a file and as a folder and reports both. What counts is the first,
// unless the second got further.
var (
	noFile   = regexp.MustCompile(`(?s)^.*accumulation err='(.*)': must build at directory: .*$`)
	noBase   = regexp.MustCompile(`(?s)^.*accumulation err='.*': `)
	yamlText = regexp.MustCompile(`MalformedYAMLError: yaml: (?:line \d+: )?`)
)

// clean is kustomize's message in one line, without what it quotes from the tree.
func (r *reader) clean(err error, s *scan) string {
	text := quoted.ReplaceAllString(err.Error(), "…")
	for _, secret := range r.generated(s) {
		text = strings.ReplaceAll(text, secret, "…")
	}
	text = noBase.ReplaceAllString(noFile.ReplaceAllString(text, "$1"), "")
	text = strings.TrimPrefix(yamlText.ReplaceAllString(text, "not YAML: "), "accumulating resources: ")
	return strings.Join(strings.Fields(text), " ")
}

// generated lists the texts from which a root's kustomizations generate secrets.
func (r *reader) generated(s *scan) []string {
	var out []string
	add := func(text string) {
		if text = strings.TrimSpace(text); len(text) > 2 {
			out = append(out, text)
		}
	}
	for dir := range s.folders {
		k := r.kustomization(dir)
		if k == nil {
			continue
		}
		k.each("secretGenerator", func(g *node, _ string) {
			for _, item := range g.get("literals").list() {
				_, value, _ := strings.Cut(item.text, "=")
				add(value)
				add(item.text)
			}
		})
		for _, ref := range k.references() {
			if !strings.HasPrefix(ref.path, "secretGenerator") {
				continue
			}
			data, _ := fs.ReadFile(r.fsys, ref.target())
			for line := range strings.Lines(string(data)) {
				_, value, _ := strings.Cut(line, "=")
				add(value)
				add(line)
			}
		}
	}
	return out
}

// tracer takes rendered objects and finds where they were written.
type tracer struct {
	*reader
	k    *kustomization
	keep bool
	read map[string][]document
}

// take takes one rendered object.
func (t *tracer) take(res *resource.Resource) {
	o, _ := res.GetOrigin()
	file := t.k.file
	if o != nil && o.Path != "" {
		file = path.Join(t.k.dir, o.Path)
		t.documents(file)
	}
	data, err := t.encode(res)
	if err != nil {
		// Mostly keys that stand twice, which have been reported with their lines.
		if !t.broken[file] {
			t.fault(Fault{File: file, Kind: Error, Text: "kustomize: " + strings.Join(strings.Fields(quoted.ReplaceAllString(err.Error(), "…")), " ")})
			t.broken[file] = true
		}
		return
	}
	for _, d := range jsonDocuments(chunk{1, data}) {
		t.document(t.origin(o, d.root), d)
	}
}

// encode is a rendered object as JSON, without what only we asked for.
func (t *tracer) encode(res *resource.Resource) ([]byte, error) {
	if !t.keep {
		if err := res.SetOrigin(nil); err != nil {
			return nil, err
		}
	}
	// As a library kustomize does not know its version and writes a label that is not valid.
	if labels := res.GetLabels(); strings.HasPrefix(labels[managedBy], "kustomize-(") {
		labels[managedBy] = "kustomize"
		if err := res.SetLabels(labels); err != nil {
			return nil, err
		}
	}
	return res.MarshalJSON()
}

// origin finds the place in a file that a rendered object comes from: the document it was made of, or the
// generator, or at least the kustomization.
func (t *tracer) origin(o *resource.Origin, n *node) origin {
	from := origin{file: t.k.file, rendered: true}
	if o == nil || n == nil {
		return from
	}
	if o.Path != "" {
		from.file = path.Join(t.k.dir, o.Path)
		from.written = t.find(from.file, n)
	} else if o.ConfiguredIn != "" {
		from.file = path.Join(t.k.dir, o.ConfiguredIn)
		from.line = t.generator(from.file, n)
	}
	return from
}

// find finds the document in a file that an object was rendered from. Kustomize may have renamed it.
func (t *tracer) find(file string, n *node) *node {
	var best *node
	name := n.get("metadata").str("name")
	for _, d := range t.documents(file) {
		for _, c := range flatten(d.root) {
			written := c.get("metadata").str("name")
			if c.str("kind") != n.str("kind") || !strings.Contains(name, written) {
				continue
			}
			if best == nil || len(written) > len(best.get("metadata").str("name")) {
				best = c
			}
		}
	}
	return best
}

// documents reads a file that objects were rendered from.
func (t *tracer) documents(file string) []document {
	docs, ok := t.read[file]
	if !ok {
		if data, err := fs.ReadFile(t.fsys, file); err == nil {
			docs = documents(file, data)
		}
		t.read[file] = docs
		t.repeats(file, docs)
	}
	return docs
}

// repeats reports keys that stand twice in a file that kustomize has read: it keeps the last one.
func (t *tracer) repeats(file string, docs []document) {
	for _, d := range docs {
		if d.root == nil {
			continue
		}
		for _, f := range repeated(d.root) {
			key, _ := unglue(f.key)
			t.fault(Fault{File: file, Line: f.line, Kind: Error, Text: fmt.Sprintf("key %q stands twice in one map: remove one", key)})
			t.broken[file] = true
		}
	}
}

// repeated lists all keys below n that stand twice in their map.
func repeated(n *node) []entry {
	out := append([]entry(nil), n.twice...)
	for _, f := range n.fields {
		out = append(out, repeated(f.value)...)
	}
	for _, item := range n.items {
		out = append(out, repeated(item)...)
	}
	return out
}

// flatten lists the objects of a document.
func flatten(n *node) []*node {
	if n == nil {
		return nil
	}
	if items := n.get("items"); items != nil && strings.HasSuffix(n.str("kind"), "List") {
		return items.items
	}
	return []*node{n}
}

// generator finds the line of the generator that made an object.
func (t *tracer) generator(file string, n *node) int {
	k := t.kustomization(path.Dir(file))
	if k == nil || k.node == nil {
		return 0
	}
	field := map[string]string{"ConfigMap": "configMapGenerator", "Secret": "secretGenerator"}[n.str("kind")]
	line, length := 0, 0
	k.each(field, func(g *node, _ string) {
		if name := g.str("name"); strings.Contains(n.get("metadata").str("name"), name) && len(name) >= length {
			line, length = g.line, len(name)
		}
	})
	return line
}
