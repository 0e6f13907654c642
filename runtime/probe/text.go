package probe

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText is how long a text for people gets, in bytes.
const maxText = 200

// unwell is a failing of the container, in a line for people.
type unwell string

func (u unwell) Error() string { return string(u) }

func unwellf(format string, args ...any) error { return unwell(line(fmt.Sprintf(format, args...))) }

// line makes one short line of what anybody may have written: words with single spaces between them, and nothing that
// would do something to a terminal.
func line(text string) string {
	var b strings.Builder
	between := func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }
	for word := range strings.FieldsFuncSeq(strings.ToValidUTF8(text, "\uFFFD"), between) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
		if b.Len() > maxText {
			return shorten(b.String())
		}
	}
	return b.String()
}

// shorten cuts a text that is too long, between two characters.
func shorten(text string) string {
	const more = "…"
	end := maxText - len(more)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
