package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// jsonDocuments reads one or several JSON values. The last document holds the error when the text is not
// JSON to its end: JSON has no marker from which reading could go on.
func jsonDocuments(c chunk) []document {
	r := jsonReader{chunk: c, decoder: json.NewDecoder(bytes.NewReader(c.text))}
	r.decoder.UseNumber()
	var out []document
	for {
		n, err := r.value(0)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			return append(out, document{line: r.here(), err: r.fault(err)})
		}
		out = append(out, document{line: n.line, root: n})
	}
}

// jsonReader builds nodes from JSON's tokens, which know where they are.
type jsonReader struct {
	chunk   chunk
	decoder *json.Decoder
	counted int // bytes of the text before which lines are counted
	lines   int // line ends among them
}

// maxDepth is how deep values may be nested, far above any Kubernetes type.
const maxDepth = 200

// here is the line of the token that was read last.
func (r *jsonReader) here() int {
	at := min(int(r.decoder.InputOffset()), len(r.chunk.text))
	r.lines += bytes.Count(r.chunk.text[r.counted:at], []byte("\n"))
	r.counted = at
	return r.chunk.line + r.lines
}

func (r *jsonReader) fault(err error) *badText {
	if line := templateLine(r.chunk); line > 0 {
		return &badText{line, "is a template ({{ … }}), not a manifest: render it first"}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &badText{r.here(), "is not JSON: it ends too early"}
	}
	return &badText{r.here(), "is not JSON: " + err.Error()}
}

func (r *jsonReader) value(depth int) (*node, error) {
	token, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	return r.rest(token, depth)
}

// rest reads the remainder of a value that begins with token.
func (r *jsonReader) rest(token json.Token, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("values are nested more than %d deep", maxDepth)
	}
	n := &node{line: r.here(), weight: 1}
	switch token := token.(type) {
	case nil:
	case bool:
		n.form, n.text = formBool, strconv.FormatBool(token)
	case string:
		n.form, n.text = formString, token
	case json.Number:
		n.form, n.text = formFloat, token.String()
		if text, ok := decimal(token.String()); ok {
			n.form, n.text = formInt, text
		}
	case json.Delim:
		if token == '[' {
			n.form = formList
			return n, r.list(n, depth)
		}
		n.form = formMap
		return n, r.object(n, depth)
	}
	return n, nil
}

func decimal(s string) (string, bool) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return strconv.FormatInt(i, 10), true
	}
	return "", false
}

func (r *jsonReader) list(n *node, depth int) error {
	for r.decoder.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return unexpected(err)
		}
		n.items = append(n.items, item)
		n.weight += item.weight
	}
	_, err := r.decoder.Token()
	return unexpected(err)
}

func (r *jsonReader) object(n *node, depth int) error {
	seen := map[string]bool{}
	for r.decoder.More() {
		token, err := r.decoder.Token()
		if err != nil {
			return unexpected(err)
		}
		key, _ := token.(string)
		f := entry{key: key, line: r.here()}
		if f.value, err = r.value(depth + 1); err != nil {
			return unexpected(err)
		}
		if seen[key] {
			n.twice = append(n.twice, f)
			continue
		}
		seen[key] = true
		n.fields = append(n.fields, f)
		n.weight += f.value.weight
	}
	_, err := r.decoder.Token()
	return unexpected(err)
}

// unexpected says that the end of the text inside a value is not the end of the values.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
