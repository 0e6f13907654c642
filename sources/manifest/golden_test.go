package manifest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/skerry-dev/skerry/sources/podsecurity"
)

var update = flag.Bool("update", false, "write what is read into the golden files")

// files turns the files of an archive into a file system. The file want is not one of them.
func files(a *txtar.Archive) fstest.MapFS {
	fsys := fstest.MapFS{}
	for _, f := range a.Files {
		if f.Name != "want" {
			fsys[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	return fsys
}

// summary is a result as the golden files have it.
func summary(r Result) string {
	var b strings.Builder
	for _, o := range r.Objects {
		fmt.Fprintf(&b, "%s from %s:%d\n", o.ID, o.File, o.Line)
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "%s %s\n", f.Kind, f)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Broken)) {
		fmt.Fprintf(&b, "broken %q\n", key)
	}
	return b.String()
}

// TestGolden reads each testdata/*.txtar and compares objects, faults and broken files with its file want.
// Lines at the head of its comment say what to read and how: "dir: x" the folder, "podSecurity: x" and "services: true" the policy.
func TestGolden(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			dir, policy := ".", Policy{}
			for line := range strings.Lines(string(archive.Comment)) {
				switch key, value, _ := strings.Cut(strings.TrimSpace(line), ": "); key {
				case "dir":
					dir = value
				case "podSecurity":
					policy.PodSecurity = podsecurity.Level(value)
				}
			}
			// A JSON library below kustomize words its errors by chance, so that nobody relies on them.
			got := strings.ReplaceAll(summary(policy.Read(files(archive), dir)), "unable to ", "cannot ")
			at := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
			if *update {
				if at < 0 {
					archive.Files, at = append(archive.Files, txtar.File{Name: "want"}), len(archive.Files)
				}
				archive.Files[at].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(archive), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if at < 0 {
				t.Fatal("no file want: run with -update")
			}
			if diff := cmp.Diff(string(archive.Files[at].Data), got); diff != "" {
				t.Errorf("want (-) and got (+) differ:\n%s", diff)
			}
		})
	}
}

// golden compares a text with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("want (-) and got (+) differ:\n%s", diff)
	}
}
