package manifest

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/skerry-dev/skerry/fleet"
)

// TestTree reads a tree of manifests as people write them.
func TestTree(t *testing.T) {
	t.Parallel()
	accounted(t, os.DirFS("testdata/tree"))
	golden(t, "testdata/tree.want", summary(Read(os.DirFS("testdata/tree"), ".")))
}

// TestCorpus reads the repositories of the corpus.
func TestCorpus(t *testing.T) {
	t.Parallel()
	const corpus = "../../../shared/corpus"
	entries, err := os.ReadDir(corpus)
	if err != nil {
		t.Skip("../../../shared/corpus is not here: " + err.Error())
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Run(e.Name(), func(t *testing.T) {
				accounted(t, os.DirFS(filepath.Join(corpus, e.Name())))
			})
		}
	}
}

// accounted checks that each document of each plain file gave an object or a fault in its lines, and that
// each kustomization gave objects or faults.
func accounted(t *testing.T, fsys fs.FS) {
	t.Helper()
	whole := Read(fsys, ".")
	survey := &reader{fsys: fsys, broken: map[string]bool{}, first: map[fleet.ObjectID]*found{}}
	documentsRead, taken, rendered := 0, len(whole.Objects), 0
	for _, p := range survey.survey(".") {
		if p.root {
			rendered++
			r := Read(fsys, p.path)
			if len(r.Objects)+len(r.Faults) == 0 {
				t.Errorf("%s: rendered to nothing, without a reason", p.path)
			}
			continue
		}
		data, err := fs.ReadFile(fsys, p.path)
		if err != nil {
			t.Fatal(err)
		}
		alone := Read(fstest.MapFS{filepath.Base(p.path): {Data: data}}, ".")
		docs := documents(p.path, data)
		documentsRead += len(docs)
		for i, d := range docs {
			end := int(^uint(0) >> 1)
			if i+1 < len(docs) {
				end = docs[i+1].line
			}
			if !within(alone, d.line, end) {
				t.Errorf("%s:%d: the document is lost without a reason", p.path, d.line)
			}
		}
	}
	for _, f := range whole.Faults {
		if f.File == "" || f.Text == "" {
			t.Errorf("a fault without a file or a text: %+v", f)
		}
	}
	t.Logf("%d documents, %d kustomizations, %d objects, %d faults", documentsRead, rendered, taken, len(whole.Faults))
}

// within reports whether something was said or taken between two lines.
func within(r Result, from, to int) bool {
	for _, o := range r.Objects {
		if from <= o.Line && o.Line < to {
			return true
		}
	}
	for _, f := range r.Faults {
		if f.Line == 0 || from <= f.Line && f.Line < to {
			return true
		}
	}
	return false
}
