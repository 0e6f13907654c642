package manifest

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/skerry-dev/skerry/fleet"
)

// TestKeep: what was last good stays where its absence may be a mistake, and only there.
func TestKeep(t *testing.T) {
	t.Parallel()
	object := func(name string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
	}
	before := map[string]string{"a.yaml": object("one"), "b.yaml": object("two"), "c.yaml": object("three")}
	for name, c := range map[string]struct {
		after    map[string]string
		mayEmpty bool
		want     []string
	}{
		"nothing changed":             {before, false, []string{"one", "three", "two"}},
		"a file is removed":           {map[string]string{"a.yaml": object("one"), "b.yaml": object("two")}, false, []string{"one", "two"}},
		"an object changes its file":  {map[string]string{"x.yaml": object("one") + "---\n" + object("two")}, false, []string{"one", "two"}},
		"a file is broken":            {map[string]string{"a.yaml": object("one"), "b.yaml": "{", "c.yaml": object("three")}, false, []string{"one", "three", "two"}},
		"a field is wrong":            {map[string]string{"a.yaml": object("one") + "dta: {}\n", "b.yaml": object("two")}, false, []string{"one", "two"}},
		"a file is moved and broken":  {map[string]string{"b.yaml": object("two"), "moved.yaml": object("one") + " torn: {"}, false, []string{"one", "two"}},
		"another file is broken":      {map[string]string{"b.yaml": object("two"), "chart.yaml": "{{ .Values.x }}"}, false, []string{"two"}},
		"everything is gone":          {nil, false, []string{"one", "three", "two"}},
		"everything is meant to go":   {nil, true, nil},
		"a kind that is not run only": {map[string]string{"s.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n", "a.yaml": object("one")}, false, []string{"one"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := func(files map[string]string) Result {
				fsys := fstest.MapFS{"README": {}}
				for name, text := range files {
					fsys[name] = &fstest.MapFile{Data: []byte(text)}
				}
				return Read(fsys, ".")
			}
			kept := Keep(read(before).Objects, read(c.after), c.mayEmpty)
			var got []string
			for _, o := range kept.Objects {
				got = append(got, o.ID.Name)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("kept %v, want %v", got, c.want)
			}
			if !slices.IsSortedFunc(kept.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) }) {
				t.Error("not in order")
			}
		})
	}
}
