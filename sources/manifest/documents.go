package manifest

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// document is one YAML document or JSON value of a file.
type document struct {
	line int // where it begins
	root *node
	err  *badText // instead of root
}

// badText is why a piece of text is not YAML or JSON.
type badText struct {
	line int
	text string
}

// chunk is the text of one document, before it is parsed.
type chunk struct {
	line int
	text []byte
}

// documents reads all documents of a file. What is wrong with one leaves the others alone. Documents
// without content are left out.
func documents(name string, data []byte) []document {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if line := badEncoding(data); line > 0 {
		return []document{{line: line, err: &badText{line, "is not UTF-8 text: save the file as UTF-8"}}}
	}
	if strings.HasSuffix(name, ".json") {
		return jsonDocuments(chunk{1, data})
	}
	var out []document
	for _, c := range split(data) {
		if c.text[indexContent(c.text)] == '{' {
			if docs := jsonDocuments(c); len(docs) > 0 && docs[len(docs)-1].err == nil {
				out = append(out, docs...)
				continue
			}
		}
		if d := yamlDocument(c); d.root != nil || d.err != nil {
			out = append(out, d)
		}
	}
	return out
}

// badEncoding returns the first line that is not UTF-8 text, or 0.
func badEncoding(data []byte) int {
	if i := bytes.IndexByte(data, 0); utf8.Valid(data) && i < 0 {
		return 0
	}
	line := 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == 0 || (r == utf8.RuneError && size == 1) {
			return line
		}
		if r == '\n' {
			line++
		}
		data = data[size:]
	}
	return line
}

// split cuts a YAML stream at its document markers, before any parsing: a syntax error then spoils only its
// own document. A marker stands at the beginning of a line and nothing else that YAML allows looks like it.
func split(data []byte) []chunk {
	var out []chunk
	start, startLine, line, headOnly := 0, 1, 0, true
	flush := func(end int) {
		if text := data[start:end]; indexContent(text) < len(text) {
			out = append(out, chunk{startLine, text})
		}
	}
	for at := 0; at < len(data); {
		line++
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		switch text := data[at:end]; {
		case isMarker(text, "---"):
			// Directives stand before the marker and belong to the document behind it.
			if !headOnly || !bytes.Contains(data[start:at], []byte("%")) {
				flush(at)
				start, startLine = at, line
			}
			headOnly = false
		case isMarker(text, "..."):
			flush(at)
			start, startLine, headOnly = end, line+1, true
		default:
			headOnly = headOnly && isHead(text)
		}
		at = end
	}
	flush(len(data))
	return out
}

// isMarker reports whether a line begins with a document marker.
func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// isHead reports whether a line may stand before a document: blank, a comment or a directive.
func isHead(line []byte) bool {
	line = bytes.TrimRight(line, " \t\r\n")
	return len(line) == 0 || line[0] == '%' || bytes.TrimLeft(line, " \t")[0] == '#'
}

// indexContent finds the first byte that is neither blank, nor of a comment, nor of a document marker; it
// returns len(text) where there is none.
func indexContent(text []byte) int {
	fresh := true // at the beginning of a line
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			fresh = true
			continue
		case c == ' ' || c == '\t' || c == '\r':
		case c == '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case fresh && c == '-' && isMarker(text[i:], "---"):
			i += 2
		default:
			return i
		}
		fresh = false
	}
	return len(text)
}
