package pod_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/reconcile/pod"
)

func lookup(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

// The cases are those of Kubernetes' third_party/forked/golang/expansion.
func TestExpand(t *testing.T) {
	vars := lookup(map[string]string{
		"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": "", "VAR_DOLLAR": "$", "名": "name", "A B": "blank",
	})
	for _, test := range []struct{ name, in, want string }{
		{"nothing to do", "no variables", "no variables"},
		{"empty", "", ""},
		{"whole string", "$(VAR_A)", "A"},
		{"shell style is not expanded", "$VAR_A", "$VAR_A"},
		{"shell braces are not expanded", "${VAR_A}", "${VAR_A}"},
		{"escaped", "$$(VAR_A)", "$(VAR_A)"},
		{"escaped, then expanded", "$$$(VAR_A)", "$A"},
		{"escaped twice", "$$$$(VAR_A)", "$$(VAR_A)"},
		{"escaped twice, then expanded", "$$$$$(VAR_A)", "$$A"},
		{"dollars collapse in pairs", "$$$$$$$(VAR_A)", "$$$A"},
		{"only dollars, even", "$$$$", "$$"},
		{"only dollars, odd", "$$$", "$$"},
		{"two escaped", "f000-$$VAR_A", "f000-$VAR_A"},
		{"in the middle", "___$(VAR_B)___", "___B___"},
		{"first and last", "$(VAR_A)___$(VAR_C)", "A___C"},
		{"side by side", "$(VAR_A)$(VAR_B)", "AB"},
		{"no recursion", "$(VAR_REF)", "$(VAR_A)"},
		{"no recursion over two", "%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"},
		{"a value joins nothing", "$(VAR_DOLLAR)(VAR_A)", "$(VAR_A)"},
		{"empty value", "foo$(VAR_EMPTY)bar", "foobar"},
		{"unknown", "$(VAR_DNE)", "$(VAR_DNE)"},
		{"unknown beside known", "$(VAR_DNE)-$(VAR_A)", "$(VAR_DNE)-A"},
		{"empty name", "foo$()bar", "foo$()bar"},
		{"unclosed", "foo$(VAR_A", "foo$(VAR_A"},
		{"unclosed at the end", "foo$(", "foo$("},
		{"nested is one unknown name", "$($(VAR_A)--", "$($(VAR_A)--"},
		{"nested with a tail", "$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"},
		{"dollar alone", "$", "$"},
		{"dollar at the end", "foo$", "foo$"},
		{"escaped at the end", "foo$$", "foo$"},
		{"dollar before a letter", "$f$(VAR_A)", "$fA"},
		{"closed before it opens", ")$(VAR_A)(", ")A("},
		{"dollar in a name", "$(VAR_$A)", "$(VAR_$A)"},
		{"blank in a name", "$(A B)", "blank"},
		{"unicode around", "é$(VAR_A)→$", "éA→$"},
		{"unicode after a dollar", "$é$(VAR_A)", "$éA"},
		{"unicode name", "$(名)", "name"},
		{"operator before closing", "$)", "$)"},
		{"parentheses only", "()", "()"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := pod.Expand(test.in, vars); got != test.want {
				t.Errorf("Expand(%q) = %q, want %q", test.in, got, test.want)
			}
		})
	}
}

// Escaping with $$ is the inverse of expanding, whatever the text.
func TestExpandUndoesEscaping(t *testing.T) {
	known := func(string) (string, bool) { return "expanded", true }
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.SampledFrom([]rune("$()aé "))).Draw(t, "s")
		if got := pod.Expand(strings.ReplaceAll(s, "$", "$$"), known); got != s {
			t.Fatalf("got %q, want %q", got, s)
		}
	})
}
