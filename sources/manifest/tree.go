package manifest

import (
	"encoding/json"
	"strings"
)

// form is what a node is written as.
type form int

const (
	formNull form = iota
	formBool
	formInt
	formFloat
	formString
	formMap
	formList
)

// String is the form as people call it, with its article.
func (f form) String() string {
	return [...]string{"null", "a boolean", "a number", "a number", "a string", "a map", "a list"}[f]
}

// node is a YAML or JSON value that knows its lines. Nodes may be shared (aliases), so they are never
// changed once they are built.
type node struct {
	form   form
	line   int
	text   string  // a string's content; true, false or the JSON number otherwise
	fields []entry // of a map, as written, merged keys last, each key once
	twice  []entry // of a map, keys that were there already
	odd    []entry // of a map, keys that were not written as strings
	items  []*node
	weight int // nodes in all, aliases counted as often as they are used
}

// entry is a key of a map with its value.
type entry struct {
	key   string
	line  int
	value *node
}

// get returns the value of a key, or nil.
func (n *node) get(key string) *node {
	if f := n.find(key); f != nil {
		return f.value
	}
	return nil
}

// list returns the items of a list; none for anything else.
func (n *node) list() []*node {
	if n == nil {
		return nil
	}
	return n.items
}

// find returns the field with a key, or nil.
func (n *node) find(key string) *entry {
	if n == nil {
		return nil
	}
	for i := range n.fields {
		if n.fields[i].key == key {
			return &n.fields[i]
		}
	}
	return nil
}

// str returns the string value of a key, or nothing where it is not a string.
func (n *node) str(key string) string {
	if v := n.get(key); v != nil && v.form == formString {
		return v.text
	}
	return ""
}

// lineOf finds the line of a field path, or of the nearest parent that was written.
func (n *node) lineOf(path string) int {
	if n == nil {
		return 0
	}
	line := n.line
	for path != "" && n != nil {
		var name string
		name, path = cutPath(path)
		if n.form == formList {
			at := 0
			for _, c := range name {
				at = at*10 + int(c-'0')
			}
			if at < 0 || at >= len(n.items) || !isDigits(name) {
				break
			}
			n = n.items[at]
			line = n.line
			continue
		}
		f := n.find(name)
		if f == nil {
			break
		}
		line, n = f.line, f.value
	}
	return line
}

// cutPath takes the first element off a field path: a.b[c].d is a, b, c, d.
func cutPath(path string) (first, rest string) {
	if strings.HasPrefix(path, "[") {
		if end := closing(path); end > 0 {
			return path[1:end], strings.TrimPrefix(path[end+1:], ".")
		}
	}
	if end := strings.IndexAny(path, ".["); end >= 0 {
		return path[:end], strings.TrimPrefix(path[end:], ".")
	}
	return path, ""
}

// closing finds the bracket that ends a path element. A key may hold brackets itself: the last one before
// the end or before a separator counts.
func closing(path string) int {
	for i := 1; i < len(path); i++ {
		if path[i] == ']' && (i+1 == len(path) || path[i+1] == '.' || path[i+1] == '[') {
			return i
		}
	}
	return -1
}

func isDigits(s string) bool {
	return s != "" && len(s) < 9 && strings.Trim(s, "0123456789") == ""
}

// value is the node as encoding/json knows it.
func (n *node) value() any {
	switch n.form {
	case formNull:
		return nil
	case formBool:
		return n.text == "true"
	case formInt, formFloat:
		return json.Number(n.text)
	case formMap:
		m := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			m[f.key] = f.value.value()
		}
		return m
	case formList:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.value()
		}
		return list
	default:
		return n.text
	}
}
