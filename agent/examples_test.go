package agent_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/sources/manifest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestExamples compares what would happen to an empty machine with each example's plan.txt: the text that diff shows.
func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob("../examples/*/manifests")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(filepath.Dir(dir)), func(t *testing.T) {
			read := manifest.Read(os.DirFS(dir), ".")
			templates := map[fleet.Hash]*corev1.PodTemplateSpec{}
			for i := range read.Objects {
				o := &read.Objects[i]
				o.Source, o.Revision = "home", "r1"
				if o.Template != nil {
					template := o.Template.DeepCopy()
					manifest.DefaultTemplate(template)
					templates[o.Hash] = template
				}
			}
			for _, f := range read.Faults {
				if f.Kind != manifest.Warning {
					t.Errorf("%s", f)
				}
			}
			seen := reconcile.Foresee(reconcile.ForesightInput{
				Desired:   fleet.Desired{Objects: read.Objects, Revisions: map[fleet.SourceName]fleet.Revision{"home": "r1"}},
				Nodes:     []fleet.Node{{Name: "alpha"}},
				Templates: templates, Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
			})
			var text strings.Builder
			for _, s := range seen.Steps {
				text.WriteString(s.String() + "\n")
			}
			if !seen.Settled {
				t.Errorf("it does not come to rest: %v", seen.Notes)
			}
			golden := filepath.Join(filepath.Dir(dir), "plan.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(text.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), text.String()); d != "" {
				t.Error(d)
			}
		})
	}
}
