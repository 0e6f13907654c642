package manifest

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
)

// noNetwork fails every request.
type noNetwork struct{ t testing.TB }

func (n noNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("somebody asked for %s", r.URL)
	return nil, errors.New("no network")
}

// TestNothingIsFetched renders all kustomizations with remote references, with a transport that fails the
// test and with a git and a helm that leave a trace.
func TestNothingIsFetched(t *testing.T) { // not parallel: it replaces the default transport
	before := http.DefaultTransport
	http.DefaultTransport = noNetwork{t}
	t.Cleanup(func() { http.DefaultTransport = before })
	bin := t.TempDir()
	trace := filepath.Join(bin, "trace")
	for _, name := range []string{"git", "helm", "go"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho $0 $@ >>"+trace+"\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":/bin:/usr/bin")
	archive, err := txtar.ParseFile("testdata/kustomize_errors.txtar")
	if err != nil {
		t.Fatal(err)
	}
	Read(files(archive), ".")
	for _, ref := range []string{"https://example.invalid/x", "github.com/a/b", "GitHub.com/a/b//c?ref=d", "git@host:a/b", "user@host/a/b.git",
		"git::https://example.invalid/a", "ssh://git@host/a/b", "file:///a/b", "github.com:a/b", "HTTPS://example.invalid/x", "a@b:c/d"} {
		for _, field := range []string{"resources", "bases", "components", "generators", "transformers", "validators", "configurations", "crds", "patchesStrategicMerge"} {
			r := Read(fstest.MapFS{"k/kustomization.yaml": {Data: []byte(field + ": ['" + ref + "']\n")}}, ".")
			if len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Text, "remote") || !r.Lost("k/x.yaml") {
				t.Errorf("%s: %s: got %v", field, ref, r.Faults)
			}
		}
	}
	if ran, err := os.ReadFile(trace); err == nil {
		t.Errorf("processes were started:\n%s", ran)
	}
}

// TestSecretsAreNotQuoted reads what is wrong in every golden file; the planted value is in all those
// places where people put secrets.
func TestSecretsAreNotQuoted(t *testing.T) {
	t.Parallel()
	names, _ := filepath.Glob("testdata/*.txtar")
	planted := 0
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if f.Name != "want" {
				planted += strings.Count(string(f.Data), "hidden-value")
			}
		}
		for _, f := range Read(files(archive), ".").Faults {
			for _, secret := range []string{"hidden-value", "77777", "aGlkZGVu"} {
				if strings.Contains(f.String(), secret) {
					t.Errorf("%s: %s", name, f)
				}
			}
		}
	}
	if planted < 10 {
		t.Errorf("the golden files hold the planted value only %d times", planted)
	}
}

// TestEncodings reads one manifest in the forms that editors save it in.
func TestEncodings(t *testing.T) {
	t.Parallel()
	const text = "# c\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  text: |\n    one\n    two\n---\n"
	const want = "one\ntwo\n"
	for name, data := range map[string]string{
		"plain": text, "byte order mark": "\ufeff" + text, "CRLF": strings.ReplaceAll(text, "\n", "\r\n"),
		"both": "\ufeff" + strings.ReplaceAll(text, "\n", "\r\n"), "no line at the end": strings.TrimRight(text, "\n-"),
	} {
		r := Read(fstest.MapFS{"a.yaml": {Data: []byte(data)}}, ".")
		if len(r.Objects) != 1 || len(r.Faults) != 0 || r.Objects[0].Line != 3 {
			t.Errorf("%s: got %s", name, summary(r))
			continue
		}
		if got := r.Objects[0].Value.(*corev1.ConfigMap).Data["text"]; strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") {
			t.Errorf("%s: got text %q", name, got)
		}
	}
	for name, data := range map[string]string{
		"latin": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: \xe9}\n",
		"utf16": "\xff\xfea\x00p\x00i\x00",
		"zero":  "a: b\nc: \x00\n",
	} {
		r := Read(fstest.MapFS{"a.yaml": {Data: []byte(data)}}, ".")
		if len(r.Objects) != 0 || len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Text, "UTF-8") || r.Faults[0].Line == 0 {
			t.Errorf("%s: got %s", name, summary(r))
		}
	}
}

// TestNothingIsShared changes one object made from aliases; the others must stay.
func TestNothingIsShared(t *testing.T) {
	t.Parallel()
	r := Read(fstest.MapFS{"a.yaml": {Data: []byte(`
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: &l {x: why}}, data: &d {a: b}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b, labels: *l}, data: *d}
`)}}, ".")
	if len(r.Objects) != 2 {
		t.Fatal(summary(r))
	}
	a, b := r.Objects[0].Value.(*corev1.ConfigMap), r.Objects[1].Value.(*corev1.ConfigMap)
	a.Data["a"], a.Labels["x"] = "changed", "changed"
	if b.Data["a"] != "b" || b.Labels["x"] != "why" {
		t.Errorf("got %v %v", b.Data, b.Labels)
	}
}

// badDisk fails to open some names.
type badDisk struct{ fs.FS }

func (b badDisk) Open(name string) (fs.File, error) {
	if strings.Contains(name, "bad") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("input/output error")}
	}
	return b.FS.Open(name)
}

// TestLost says what a caller must not prune.
func TestLost(t *testing.T) {
	t.Parallel()
	good := &fstest.MapFile{Data: []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")}
	r := Read(badDisk{fstest.MapFS{
		"a.yaml": good, "bad.yaml": good, "dir/bad/x.yaml": good, "k/kustomization.yaml": {Data: []byte("resources: [../b]")},
		"b/kustomization.yaml": {Data: []byte("resources: [gone.yaml]")}, "odd.yaml": {Data: []byte("{apiVersion: v1, kind: PodTemplate, metadata: {name: a}}")},
	}}, ".")
	if len(r.Objects) != 1 {
		t.Fatal(summary(r))
	}
	for file, want := range map[string]bool{"a.yaml": false, "bad.yaml": true, "dir/bad/x.yaml": true, "dir/bad/deep/y.yaml": true,
		"dir/x.yaml": false, "k/x.yaml": true, "b/gone.yaml": true, "odd.yaml": false, "bb.yaml": false} {
		if got := r.Lost(file); got != want {
			t.Errorf("%s: got lost %v, want %v", file, got, want)
		}
	}
	if r := Read(fstest.MapFS{"a": good}, "a"); !r.Lost("anything") || len(r.Faults) != 1 {
		t.Errorf("a file as the folder: got %s", summary(r))
	}
}

func TestFaultString(t *testing.T) {
	t.Parallel()
	f := Fault{File: "a.yaml", Line: 3, Path: "spec.x", Text: "is wrong"}
	f.Object.Kind, f.Object.Namespace, f.Object.Name = "Pod", "default", "p"
	if diff := cmp.Diff("a.yaml:3: Pod/default/p: spec.x: is wrong", f.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("a.yaml: is wrong", (Fault{File: "a.yaml", Text: "is wrong"}).String()); diff != "" {
		t.Error(diff)
	}
}
