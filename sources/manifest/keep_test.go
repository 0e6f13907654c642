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

// TestKeepWhatAsksToStay: an object whose last good version says so outlives its file, and its place in a file that is
// still there. One that is there again, or has said something else since, is like any other.
func TestKeepWhatAsksToStay(t *testing.T) {
	t.Parallel()
	const other = "{apiVersion: v1, kind: ConfigMap, metadata: {name: other}}\n"
	object := func(prune string) string {
		return "{apiVersion: v1, kind: ReplicationController, metadata: {name: a, annotations: {skerry.dev/prune: " + prune +
			"}}, spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}}\n"
	}
	id := fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "default", Name: "a"}
	const why = "kept as of 1234567: it is gone from its source, and skerry.dev/prune is \"false\"; remove it with skerry delete"
	for name, c := range map[string]struct {
		prune    string
		after    map[string]string
		mayEmpty bool
		want     string // the note; "-" for gone, "" for kept without one
	}{
		"its file is gone":             {`"false"`, map[string]string{"b.yaml": other}, false, why},
		"it is gone from its file":     {`"false"`, map[string]string{"a.yaml": other}, false, why},
		"all is gone, and may be":      {`"false"`, nil, true, why},
		"all is gone, and may not be":  {`"false"`, nil, false, why},
		"it is there":                  {`"false"`, map[string]string{"a.yaml": object(`"false"`)}, false, ""},
		"it has changed its mind":      {`"false"`, map[string]string{"a.yaml": object(`"true"`)}, false, ""},
		"it may go":                    {`"true"`, map[string]string{"b.yaml": other}, false, "-"},
		"it is there, and cannot stay": {`"true"`, map[string]string{"a.yaml": object("never")}, false, "kept as of 1234567: a.yaml:1: ReplicaSet/default/a: metadata.annotations[skerry.dev/prune]: \"never\" is not allowed: must be one of true, false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := Read(fstest.MapFS{"a.yaml": {Data: []byte(object(c.prune))}}, ".").Objects
			if len(before) != 1 {
				t.Fatal(before)
			}
			before[0].Revision = "1234567890"
			fsys := fstest.MapFS{"README": {}}
			for name, text := range c.after {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			kept := Keep(before, Read(fsys, "."), c.mayEmpty)
			got := "-"
			if slices.ContainsFunc(kept.Objects, func(o fleet.Object) bool { return o.ID == id }) {
				got = ""
			}
			for _, n := range slices.Concat(kept.Notes, kept.Asked) {
				got += n.Text
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
