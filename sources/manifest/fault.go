package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
)

// FaultKind says what a Fault means for the object that it is about.
type FaultKind string

// The kinds of faults.
const (
	// Error is a mistake of the user's: the object is not taken.
	Error FaultKind = "Error"
	// NotRun is something that is right but that Skerry does not run: the object is not taken.
	NotRun FaultKind = "NotRun"
	// Warning is something that has no effect, or not the one that people expect: the object is taken.
	Warning FaultKind = "Warning"
)

// Fault is something that a user got wrong or should know.
type Fault struct {
	File   string         // path inside the source, with slashes
	Line   int            // in File, from 1; 0 means the whole file
	Path   string         // as Kubernetes writes it: spec.template.spec.containers[0].image; empty for none
	Object fleet.ObjectID // zero where it is not known
	Kind   FaultKind
	Text   string // one sentence that says what to do; never holds a secret value
}

// String is the fault in one line: "apps/web.yaml:12: Deployment/default/web: spec.replicas: must be …".
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	for _, part := range []string{f.Object.String(), f.Path, f.Text} {
		if part != "" {
			b.WriteString(": ")
			b.WriteString(part)
		}
	}
	return b.String()
}

// Compare orders faults by file, line and path, then by everything else.
func (f Fault) Compare(g Fault) int {
	return cmp.Or(cmp.Compare(f.File, g.File), cmp.Compare(f.Line, g.Line), cmp.Compare(f.Path, g.Path),
		f.Object.Compare(g.Object), cmp.Compare(f.Kind, g.Kind), cmp.Compare(f.Text, g.Text))
}

// sortFaults orders faults and drops what was said twice.
func sortFaults(faults []Fault) []Fault {
	slices.SortFunc(faults, Fault.Compare)
	return slices.Compact(faults)
}
