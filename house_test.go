// Package skerry_test keeps the house in order: what ARCHITECTURE.md says about the packages as a whole, and no
// compiler checks. Each test names the file and what is wrong with it. The checks work on syntax alone,
// so that they take milliseconds and see code that is not built here as well.
package skerry_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/skerry-dev/skerry"

// floors is the one direction of imports: a package may import packages of its own room (top-level folder) and of
// rooms on a lower floor, nothing beside it and nothing above.
//
//	cmd ─▶ agent ─▶ api ─▶ { reconcile, sources, coord, runtime } ─▶ fleet
var floors = map[string]int{
	"cmd":       4,
	"agent":     3,
	"api":       2,
	"reconcile": 1, "sources": 1, "coord": 1, "runtime": 1,
	"fleet": 0,
}

// outside are folders that the rules about imports are not for: programs and helpers of tests and
// examples.
var outside = []string{"examples", "internal/lab"}

// pure are the rooms that decide and never act, and what they may import from elsewhere.
var pure = map[string][]string{
	"fleet":     {"k8s.io/api", "k8s.io/apimachinery"},
	"reconcile": {"k8s.io/api", "k8s.io/apimachinery", "github.com/google/go-cmp", "github.com/robfig/cron/v3"},
}

// acting are the standard packages with which code could act, look at the machine, or roll dice; what is
// below them counts too, but for harmless.
var (
	acting = []string{
		"crypto/rand", "database", "embed", "expvar", "io/ioutil", "log", "math/rand", "net", "os", "path/filepath", "plugin",
		"runtime", "syscall", "testing", "unsafe",
	}
	harmless = []string{"net/netip", "net/url"}
)

// calls are functions that pure code may not call, of packages that it may import.
var calls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local", "LoadLocation"},
	"fmt":  {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
}

func TestImportsRunOneWay(t *testing.T) {
	for _, f := range house(t) {
		for _, fault := range f.importFaults() {
			t.Error(fault)
		}
	}
}

func TestPureCodeDoesNotAct(t *testing.T) {
	for _, f := range house(t) {
		for _, fault := range f.pureFaults() {
			t.Error(fault)
		}
	}
}

func TestPackageComments(t *testing.T) {
	type pkg struct{ dir, name string }
	said := map[pkg]bool{}
	for _, f := range house(t) {
		p := pkg{path.Dir(f.path), f.syntax.Name.Name}
		if f.test() && strings.HasSuffix(p.name, "_test") && p.dir != "." {
			continue // the tests of a package beside it, which has the comment
		}
		said[p] = said[p] || f.syntax.Doc != nil
	}
	for p, ok := range said {
		if !ok {
			t.Errorf("%s: package %s has no package comment", p.dir, p.name)
		}
	}
}

func TestExportedNamesHaveComments(t *testing.T) {
	for _, f := range house(t) {
		for _, fault := range f.commentFaults() {
			t.Error(fault)
		}
	}
}

func TestNoReplace(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		// Inside a block of another kind no line starts with the word either.
		if fields := strings.Fields(line); len(fields) > 0 && (fields[0] == "replace" || fields[0] == "replace(") {
			t.Errorf("go.mod:%d: %s: a replace holds for this module only, so `go install` of it would build something else",
				i+1, strings.TrimSpace(line))
		}
	}
}

func TestNoSleepInTests(t *testing.T) {
	for _, f := range house(t) {
		for _, fault := range f.sleepFaults() {
			t.Error(fault)
		}
	}
}

// TestChecks plants a violation of each rule, and something beside it that is right.
func TestChecks(t *testing.T) {
	const head = "package x\n"
	imports := func(paths ...string) string {
		src := head
		for _, p := range paths {
			src += fmt.Sprintf("import _ %q\n", p)
		}
		return src
	}
	for _, c := range []struct {
		name, path, src string
		check           func(file) []string
		want            string // part of the only fault; none when empty
	}{
		{"down", "cmd/skerry/main.go", imports(module+"/agent", module+"/runtime/podman", module+"/fleet"), file.importFaults, ""},
		{"same room", "reconcile/plan.go", imports(module+"/reconcile/pod", module+"/fleet"), file.importFaults, ""},
		{"up", "fleet/slot.go", imports(module + "/reconcile"), file.importFaults, "fleet/slot.go:2:10: imports reconcile"},
		{"sibling", "sources/git/git.go", imports(module + "/runtime/host"), file.importFaults, "imports runtime/host"},
		{"same floor", "api/api.go", imports(module + "/agent"), file.importFaults, "imports agent"},
		{"to cmd", "agent/agent.go", imports(module + "/cmd/skerry"), file.importFaults, "imports cmd/skerry"},
		{"sibling in a test", "sources/git/git_test.go", imports(module + "/runtime/host"), file.importFaults, ""},
		{"an example", "examples/hello/app/main.go", imports(module + "/agent"), file.importFaults, ""},
		{"a room of no floor", "util/util.go", head, file.importFaults, "no place"},
		{"the lab", "runtime/podman/podman.go", imports(module + "/internal/lab"), file.importFaults, "only tests"},
		{"a test helper", "agent/agent.go", imports(module + "/runtime/host/hosttest"), file.importFaults, "only tests"},
		{"a helper's helper", "agent/agenttest/fleet.go", imports(module + "/runtime/host/hosttest"), file.importFaults, ""},

		{"types of k8s", "fleet/a.go", imports("k8s.io/api/core/v1", "time", "net/netip", "sort"), file.pureFaults, ""},
		{"os", "reconcile/a.go", imports("os"), file.pureFaults, "reconcile/a.go:2:10: imports os"},
		{"os/exec", "reconcile/pod/a.go", imports("os/exec"), file.pureFaults, "imports os/exec"},
		{"net", "fleet/a.go", imports("net"), file.pureFaults, "imports net"},
		{"net/http", "fleet/a.go", imports("net/http"), file.pureFaults, "imports net/http"},
		{"dice", "reconcile/a.go", imports("math/rand/v2"), file.pureFaults, "imports math/rand/v2"},
		{"log", "reconcile/a.go", imports("log/slog"), file.pureFaults, "imports log/slog"},
		{"a library", "fleet/a.go", imports("github.com/google/go-cmp/cmp"), file.pureFaults, "imports github.com/google/go-cmp/cmp"},
		{"a library it may have", "reconcile/a.go", imports("github.com/google/go-cmp/cmp"), file.pureFaults, ""},
		{"its test", "reconcile/a_test.go", imports("os"), file.pureFaults, ""},
		{"elsewhere", "runtime/podman/a.go", imports("os"), file.pureFaults, ""},
		{"clock", "reconcile/a.go", head + "import \"time\"\nvar x = time.Now()\n", file.pureFaults, "a.go:3:9: uses time.Now"},
		{"clock by another name", "reconcile/a.go", head + "import t \"time\"\nvar f = t.Since\n", file.pureFaults, "uses time.Since"},
		{"clock without a name", "reconcile/a.go", head + "import . \"time\"\n", file.pureFaults, "imports time with a dot"},
		{"durations", "reconcile/a.go", head + "import \"time\"\nvar x = time.Second\n", file.pureFaults, ""},
		{"a field of that name", "reconcile/a.go", head + "var time struct{ Now int }\nvar x = time.Now\n", file.pureFaults, ""},
		{"printing", "reconcile/a.go", head + "import \"fmt\"\nfunc f() { fmt.Println() }\n", file.pureFaults, "uses fmt.Println"},

		{"no comment on a func", "a.go", head + "func F() {}\n", file.commentFaults, "a.go:2:6: F has no comment"},
		{"no comment on a type", "a.go", head + "type T int\n", file.commentFaults, "T has no comment"},
		{"no comment on a const", "a.go", head + "const (\n\t// A is.\n\tA = 1\n\n\tB = 2\n)\n", file.commentFaults, "B has no comment"},
		{"a comment for all", "a.go", head + "// Kinds.\nconst (\n\tA = 1\n\tB = 2\n)\n", file.commentFaults, ""},
		{"a comment beside", "a.go", head + "var (\n\tA = 1 // is one\n)\n", file.commentFaults, ""},
		{"unexported", "a.go", head + "func f() {}\nfunc (t t) M() {}\ntype t int\n", file.commentFaults, ""},

		{"sleep", "a_test.go", head + "import \"time\"\nfunc f() { time.Sleep(1) }\n", file.sleepFaults, "a_test.go:3:12: uses time.Sleep"},
		{"sleep in a bubble", "a_test.go", head + "import \"time\"\nimport _ \"testing/synctest\"\nfunc f() { time.Sleep(1) }\n", file.sleepFaults, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := parse(c.path, []byte(c.src))
			if err != nil {
				t.Fatal(err)
			}
			faults := c.check(f)
			switch {
			case c.want == "" && len(faults) > 0:
				t.Errorf("found fault with what is right: %q", faults)
			case c.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], c.want)):
				t.Errorf("faults are %q, want one with %q", faults, c.want)
			}
		})
	}
}

// file is one Go file: its path from the top, with slashes.
type file struct {
	path   string
	set    *token.FileSet
	syntax *ast.File
}

func parse(path string, src []byte) (file, error) {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, path, src, parser.ParseComments|parser.SkipObjectResolution)
	return file{path, set, syntax}, err
}

// house reads all Go files of the repository.
func house(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || name == "bin"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := parse(filepath.ToSlash(name), src)
		files = append(files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func (f file) test() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f file) at(pos token.Pos) string { return f.set.Position(pos).String() }

// room is the top-level folder of a path, "" for the top itself.
func room(p string) string {
	first, _, below := strings.Cut(p, "/")
	if !below && strings.HasSuffix(p, ".go") {
		return ""
	}
	return first
}

// under says whether p is one of the paths or below one.
func under(p string, paths []string) bool {
	return slices.ContainsFunc(paths, func(top string) bool { return p == top || strings.HasPrefix(p, top+"/") })
}

// helper says whether a package, by its path, is made for tests: hosttest, internal/lab.
func helper(pkg string) bool {
	return strings.HasSuffix(pkg, "test") || under(pkg, []string{"internal/lab"})
}

// importFaults: up, sideways, or into what is for tests only. Tests may import what they like.
func (f file) importFaults() []string {
	if f.test() || under(f.path, outside) {
		return nil
	}
	from := room(f.path)
	floor, ok := floors[from]
	if !ok {
		return []string{f.path + ": the folder has no place in the house: give it a floor here and in ARCHITECTURE.md, or move the file"}
	}
	var faults []string
	for _, spec := range f.syntax.Imports {
		pkg, ours := strings.CutPrefix(importPath(spec), module+"/")
		if !ours {
			continue
		}
		to := room(pkg)
		below, known := floors[to]
		switch {
		case helper(pkg):
			if !helper(path.Dir(f.path)) {
				faults = append(faults, fmt.Sprintf("%s: imports %s, which only tests may", f.at(spec.Path.Pos()), pkg))
			}
		case to != from && (!known || below >= floor):
			faults = append(faults, fmt.Sprintf(
				"%s: imports %s, but %s may import only itself and what is below it (cmd ─▶ agent, api ─▶ reconcile, sources, coord, runtime ─▶ fleet)",
				f.at(spec.Path.Pos()), pkg, from))
		}
	}
	return faults
}

// pureFaults: anything with which pure code could act, read a clock or roll dice.
func (f file) pureFaults() []string {
	libraries, ok := pure[room(f.path)]
	if !ok || f.test() {
		return nil
	}
	var faults []string
	names := map[string]string{} // what a package of calls is called in this file
	for _, spec := range f.syntax.Imports {
		p := importPath(spec)
		std := !strings.Contains(strings.SplitN(p, "/", 2)[0], ".")
		switch {
		case under(p, []string{module}):
		case std && under(p, acting) && !under(p, harmless), !std && !under(p, libraries):
			faults = append(faults, fmt.Sprintf("%s: imports %s: %s decides and never acts (time, dice and the host come in as arguments)",
				f.at(spec.Path.Pos()), p, room(f.path)))
		case calls[p] == nil:
		case spec.Name == nil:
			names[path.Base(p)] = p
		case spec.Name.Name == ".":
			faults = append(faults, fmt.Sprintf("%s: imports %s with a dot, which hides what is used of it", f.at(spec.Path.Pos()), p))
		default:
			names[spec.Name.Name] = p
		}
	}
	return append(faults, f.uses(names, calls)...)
}

// sleepFaults: a sleeping test is slow when it waits too long and fails when it does not. In a synctest bubble
// sleeping takes no time and is how the clock is moved on; one file is taken for one bubble.
func (f file) sleepFaults() []string {
	if !f.test() {
		return nil
	}
	names := map[string]string{}
	for _, spec := range f.syntax.Imports {
		switch importPath(spec) {
		case "testing/synctest":
			return nil
		case "time":
			name := "time"
			if spec.Name != nil {
				name = spec.Name.Name
			}
			names[name] = "time"
		}
	}
	return f.uses(names, map[string][]string{"time": {"Sleep"}})
}

// uses finds where a forbidden function of a package is named; names maps the file's names for packages
// to their paths.
func (f file) uses(names map[string]string, forbidden map[string][]string) []string {
	var faults []string
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && slices.Contains(forbidden[names[x.Name]], selector.Sel.Name) {
			faults = append(faults, fmt.Sprintf("%s: uses %s.%s", f.at(selector.Pos()), names[x.Name], selector.Sel.Name))
		}
		return true
	})
	return faults
}

// commentFaults: an exported name at the top of a file that nothing is said about. Methods are left to the reader: what
// String or Error is for needs no words.
func (f file) commentFaults() []string {
	if f.test() {
		return nil
	}
	var faults []string
	check := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		said := slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d != nil })
		if name.IsExported() && !said {
			faults = append(faults, fmt.Sprintf("%s: %s has no comment", f.at(name.Pos()), name.Name))
		}
	}
	for _, decl := range f.syntax.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Recv == nil {
				check(decl.Name, decl.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					check(spec.Name, spec.Doc, spec.Comment, decl.Doc)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						check(name, spec.Doc, spec.Comment, decl.Doc)
					}
				}
			}
		}
	}
	return faults
}

func importPath(spec *ast.ImportSpec) string {
	p, _ := strconv.Unquote(spec.Path.Value) // the parser has seen to it
	return p
}
