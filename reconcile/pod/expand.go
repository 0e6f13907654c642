package pod

import "strings"

// Expand replaces $(NAME) by what lookup gives for NAME, as Kubernetes does: unknown names stay as they are
// written, $$ is a literal $, and what was put in is not looked at again.
func Expand(s string, lookup func(name string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			out.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 { // never closed: the two characters are literal
				out.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+end]
			if value, ok := lookup(name); ok {
				out.WriteString(value)
			} else {
				out.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			out.WriteByte('$')
			out.WriteByte(s[i+1])
			i++
		}
	}
	return out.String()
}
