package manifest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

// asJSON is a document as our reader understands it, in JSON; empty where it does not.
func asJSON(t interface{ Fatal(...any) }, text string) string {
	d := yamlDocument(chunk{1, []byte(text)})
	if d.err != nil {
		return ""
	}
	if d.root == nil {
		return "null"
	}
	raw, err := json.Marshal(d.root.value())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// same compares JSON texts, numbers by what Kubernetes' decoder makes of them.
func same(t interface{ Fatal(...any) }, a, b string) bool {
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	return cmp.Equal(x, y)
}

// TestScalarsAsKubernetes compares how plain scalars are read with the library that kubectl and the API
// server read YAML with.
func TestScalarsAsKubernetes(t *testing.T) {
	t.Parallel()
	texts := strings.Fields(`yes no on off y n Yes NO On OFF Y N true false True FALSE yEs null ~ Null NULL nULL
		1 -1 +1 0 00 01 08 0644 0o644 0x1F -0x1f 0b101 -0b101 1_000 1__0 _1 1_ 0x_1 9223372036854775807 18446744073709551615
		99999999999999999999 -9223372036854775809 1.0 1.5 -1.5 +.5 .5 5. 1e3 1E3 1e-3 1.5e+3 1e400 .e3 1.2.3 1:30 12:30:45
		2001-01-01 2001-1-1 2001-01-01T00:00:00Z 2001-13-01 20010101 - + . .. <<x =  10m 1Gi 5% a/b 0.5 -0 -0.0 1e21 123456789012345678
		'yes' "1" 'null' !!str&a !!str|1 -.5 0x 0b 0b2 0o8 1_000.5 infinity nan NaN inf`)
	for _, text := range texts {
		if strings.ContainsAny(text, "&|") {
			continue
		}
		for _, doc := range []string{"a: " + text + "\n", "- " + text + "\n", "{" + text + ": 1}\n"} {
			want, err := yaml.YAMLToJSON([]byte(doc))
			got := asJSON(t, doc)
			if err != nil {
				continue // we may be more lenient where a value has no meaning in JSON
			}
			if got == "" || !same(t, got, string(want)) {
				t.Errorf("%q: got %s, Kubernetes reads %s", doc, got, want)
			}
		}
	}
}

// TestDocumentsAsKubernetes does the same with whole documents of random structure.
func TestDocumentsAsKubernetes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var lines []string
		n := rapid.IntRange(1, 8).Draw(t, "lines")
		for i := range n {
			key := rapid.StringMatching(`[a-z][a-z0-9]{1,3}`).Draw(t, "key")
			value := rapid.SampledFrom([]string{"1", "yes", "0644", "'q'", "\"a\\nb\"", "[a, 1, no]", "{x: 1, y: [~]}", "|\n  block\n  text", ">-\n  folded\n  text",
				"\n  deep: 1\n  list:\n  - a\n  - b: 2", "&a" + string(rune('a'+i)) + " {z: 1}", "# comment", "plain text with: colon"}).Draw(t, "value")
			lines = append(lines, key+": "+value)
		}
		doc := strings.Join(lines, "\n") + "\n"
		want, err := yaml.YAMLToJSONStrict([]byte(doc))
		got := asJSON(t, doc)
		if err == nil && (got == "" || !same(t, got, string(want))) {
			t.Fatalf("%s\ngot %s, Kubernetes reads %s", doc, got, want)
		}
	})
}
