package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a document with its aliases written out, so that a few lines cannot fill the memory.
const maxNodes = 200_000

// yamlLine is how the YAML library says where.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yamlDocument parses one document. Its root is nil when it has no content.
func yamlDocument(c chunk) document {
	d := document{line: c.line}
	var tree yaml.Node
	if err := yaml.Unmarshal(c.text, &tree); err != nil {
		d.err = yamlError(c, err)
		return d
	}
	if len(tree.Content) == 0 {
		return d
	}
	b := builder{chunk: c, busy: map[*yaml.Node]bool{}, done: map[*yaml.Node]*node{}}
	root, err := b.build(tree.Content[0])
	if err != nil {
		if !errors.As(err, &d.err) {
			d.err = &badText{c.line, err.Error()}
		}
		return d
	}
	if root.form != formNull {
		d.root, d.line = root, root.line
	}
	return d
}

// Error makes badText an error.
func (b *badText) Error() string { return b.text }

// yamlError turns what the library says into line and text, and recognises templates, the most frequent
// reason by far. The library's text quotes values only where it speaks of anchors.
func yamlError(c chunk, err error) *badText {
	if line := templateLine(c); line > 0 {
		return &badText{line, "is a template ({{ … }}), not a manifest: render it first"}
	}
	text, line := err.Error(), c.line
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if n, _ := strconv.Atoi(m[1]); n > 0 {
			line += n - 1
			if strings.HasPrefix(text, "did not find expected") { // the parser, unlike the scanner, counts from 0
				line++
			}
		}
	}
	if strings.Contains(text, "cannot start any token") {
		if tab := tabLine(c); tab > 0 {
			return &badText{tab, "is indented with a tab, which YAML does not allow: use blanks"}
		}
	}
	if strings.HasPrefix(text, "unknown anchor") { // what follows may be a password that begins with a star
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "unknown anchor '"), "'")
		for i, l := range bytes.Split(c.text, []byte("\n")) {
			if bytes.Contains(l, []byte("*"+name)) {
				line = c.line + i
				break
			}
		}
		text = "a value begins with * but is no alias of an anchor: quote it"
	}
	return &badText{line, "is not YAML: " + text}
}

// templateAction is a template's action where a value, a key or a whole line stands: not inside a string.
var templateAction = regexp.MustCompile(`^\s*(-\s+)*(["']?[\w./-]+["']?:\s+)?\{\{`)

// templateLine finds the first line with a template action, or 0.
func templateLine(c chunk) int {
	for i, line := range bytes.Split(c.text, []byte("\n")) {
		if templateAction.Match(line) {
			return c.line + i
		}
	}
	return 0
}

// tabLine finds the first line that is indented with a tab, or 0.
func tabLine(c chunk) int {
	for i, line := range bytes.Split(c.text, []byte("\n")) {
		if rest := bytes.TrimLeft(line, " "); len(rest) > 0 && rest[0] == '\t' && len(bytes.TrimSpace(rest)) > 0 {
			return c.line + i
		}
	}
	return 0
}

// builder turns the library's nodes into ours: aliases and merge keys resolved, scalars typed.
type builder struct {
	chunk chunk
	busy  map[*yaml.Node]bool // on the way from the root to here: an alias to one of them has no end
	done  map[*yaml.Node]*node
	alias bool // one was seen
}

func (b *builder) fault(y *yaml.Node, format string, args ...any) error {
	return &badText{b.chunk.line + y.Line - 1, fmt.Sprintf(format, args...)}
}

func (b *builder) build(y *yaml.Node) (*node, error) {
	if y.Kind == yaml.AliasNode {
		y, b.alias = y.Alias, true
	}
	if n, ok := b.done[y]; ok {
		return n, nil
	}
	if b.busy[y] {
		return nil, b.fault(y, "an anchor contains itself")
	}
	b.busy[y] = true
	defer delete(b.busy, y)
	n := &node{line: b.chunk.line + y.Line - 1, weight: 1}
	if err := b.fill(n, y); err != nil {
		return nil, err
	}
	for _, f := range n.fields {
		n.weight += f.value.weight
	}
	for _, item := range n.items {
		n.weight += item.weight
	}
	if b.alias && n.weight > maxNodes {
		return nil, b.fault(y, "has more than %d values with its aliases written out: write less in one document", maxNodes)
	}
	b.done[y] = n
	return n, nil
}

func (b *builder) fill(n *node, y *yaml.Node) error {
	switch y.Kind {
	case yaml.MappingNode:
		n.form = formMap
		return b.mapping(n, y)
	case yaml.SequenceNode:
		n.form = formList
		for _, child := range y.Content {
			item, err := b.build(child)
			if err != nil {
				return err
			}
			n.items = append(n.items, item)
		}
		return nil
	default:
		value, err := read(y)
		n.form, n.text = value.form, value.text
		if err != nil {
			return b.fault(y, "a value here %s", err)
		}
		return nil
	}
}

// read types a scalar.
func read(y *yaml.Node) (node, error) {
	switch {
	case y.Style&yaml.TaggedStyle != 0:
		return tagged(y.Tag, y.Value)
	case y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return node{form: formString, text: y.Value}, nil
	default:
		return scalar(y.Value)
	}
}

func (b *builder) mapping(n *node, y *yaml.Node) error {
	seen := map[string]bool{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, child := y.Content[i], y.Content[i+1]
		if key.Kind == yaml.ScalarNode && key.Value == "<<" && (key.Style == 0 || key.Tag == "!!merge") {
			merges = append(merges, child)
			continue
		}
		name, odd, err := b.key(key)
		if err != nil {
			return err
		}
		value, err := b.build(child)
		if err != nil {
			return err
		}
		f := entry{name, b.chunk.line + key.Line - 1, value}
		if odd {
			n.odd = append(n.odd, f)
		}
		if seen[name] {
			n.twice = append(n.twice, f)
			continue
		}
		seen[name] = true
		n.fields = append(n.fields, f)
	}
	for _, m := range merges {
		if err := b.merge(n, m, seen); err != nil {
			return err
		}
	}
	return nil
}

// key returns a map key as JSON has it, and whether it was written as something other than a string.
func (b *builder) key(y *yaml.Node) (name string, odd bool, err error) {
	if y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	if y.Kind != yaml.ScalarNode {
		if line := templateLine(b.chunk); line > 0 {
			return "", false, &badText{line, "is a template ({{ … }}), not a manifest: render it first"}
		}
		return "", false, b.fault(y, "has a map or list as the key of a map: quote it if it is meant as text")
	}
	value, err := read(y)
	if err != nil || value.form == formNull {
		return "", false, b.fault(y, "has a key that is not a string: quote it")
	}
	if _, whole := integer(value.text); value.form == formFloat || value.form == formInt && !whole {
		f, _ := strconv.ParseFloat(value.text, 64)
		value.text = strconv.FormatFloat(f, 'g', -1, 32) // as the library does that Kubernetes reads YAML with
	}
	return value.text, value.form != formString, nil
}

// merge adds the fields of a merge key's value that are not there yet.
func (b *builder) merge(n *node, y *yaml.Node, seen map[string]bool) error {
	from, err := b.build(y)
	if err != nil {
		return err
	}
	list := []*node{from}
	if from.form == formList {
		list = from.items
	}
	for _, m := range list {
		if m.form != formMap {
			return b.fault(y, "merges something that is not a map: << takes a map or a list of maps")
		}
		for _, f := range m.fields {
			if !seen[f.key] {
				seen[f.key] = true
				n.fields = append(n.fields, f)
			}
		}
	}
	return nil
}
