package manifest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
)

func fileOf(text string) fstest.MapFS { return fstest.MapFS{"a.yaml": {Data: []byte(text)}} }

// TestCirclesAreFound: in any graph of dependencies exactly those objects are left out that can be reached from
// themselves, each with a way that begins and ends with it and whose every step is written.
func TestCirclesAreFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "objects")
		on, fsys := make([][]bool, n), fstest.MapFS{}
		for i := range n {
			on[i] = make([]bool, n)
			var names []string
			for j := range n {
				if j != i && rapid.IntRange(0, 3).Draw(t, "depends") == 0 {
					on[i][j] = true
					names = append(names, fmt.Sprintf("Pod/p%d", j))
				}
			}
			note := ""
			if len(names) > 0 {
				note = ", annotations: {skerry.dev/depends-on: '" + strings.Join(names, ", ") + "'}"
			}
			fsys[fmt.Sprintf("p%d.yaml", i)] = &fstest.MapFile{Data: []byte(
				fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: p%d%s}, spec: {containers: [{name: a, image: b}]}}", i, note))}
		}
		reach := make([][]bool, n)
		for i := range n {
			reach[i] = slices.Clone(on[i])
		}
		for k := range n {
			for i := range n {
				for j := range n {
					reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
				}
			}
		}
		r := Read(fsys, ".")
		for i := range n {
			id := fleet.ObjectID{Kind: fleet.KindPod, Namespace: "default", Name: fmt.Sprintf("p%d", i)}
			if taken := slices.ContainsFunc(r.Objects, func(o fleet.Object) bool { return o.ID == id }); taken == reach[i][i] {
				t.Fatalf("%s: taken %v, reaches itself %v:\n%s", id, taken, reach[i][i], summary(r))
			}
		}
		for _, f := range r.Faults {
			text, ok := strings.CutPrefix(f.Text, "depends on itself: ")
			way := strings.Split(text, " -> ")
			if !ok || len(way) < 3 || way[0] != "Pod/"+f.Object.Name || way[len(way)-1] != way[0] {
				t.Fatalf("got %s", f)
			}
			for i := range way[1:] {
				var from, to int
				if _, err := fmt.Sscanf(way[i]+" "+way[i+1], "Pod/p%d Pod/p%d", &from, &to); err != nil || !on[from][to] {
					t.Fatalf("nobody wrote the step from %s to %s: %s", way[i], way[i+1], f)
				}
			}
		}
	})
}

// TestCountIndexes reads back what is written as Kubernetes does, and refuses the rest.
func TestCountIndexes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var parts []string
		next, want := 0, 0
		for range rapid.IntRange(1, 5).Draw(t, "intervals") {
			from := next + rapid.IntRange(0, 3).Draw(t, "gap")
			to := from + rapid.IntRange(0, 3).Draw(t, "length")
			part := fmt.Sprint(from)
			if to > from {
				part = fmt.Sprintf("%d-%d", from, to)
			}
			parts, want, next = append(parts, part), want+to-from+1, to+1
		}
		text := strings.Join(parts, ",")
		if got, err := countIndexes(text, next); err != nil || got != want {
			t.Fatalf("%s: got %d (%v), want %d", text, got, err, want)
		}
		if _, err := countIndexes(text, next-1); err == nil {
			t.Fatalf("%s: taken with %d completions", text, next-1)
		}
	})
	for _, text := range []string{"", ",", "1,", "a", "-1", "1-", "-", "2-1", "1,1", "1 ", "+1", "0x1", "1--2", "1-2-3", "99999999999999999999", strings.Repeat("1,", maxIndexesLength)} {
		if n, err := countIndexes(text, maxIndexes); err == nil {
			t.Errorf("%.20q: got %d, want an error", text, n)
		}
	}
}

// TestSchedules: what Kubernetes takes for a schedule, and whether its time ever comes.
func TestSchedules(t *testing.T) {
	t.Parallel()
	for schedule, want := range map[string]string{
		"* * * * *": "", "? ? ? ? ?": "", "0 3 * * mon-fri": "", "*/15 0-6/2 1,15 JAN *": "", "@yearly": "", "@annually": "", "@monthly": "", "@weekly": "",
		"@daily": "", "@midnight": "", "@hourly": "", "@every 90m": "", "0 0 29 2 *": "", "0 0 29 FEB ?": "", "0 0 31 2 mon": "", "  0 3 * * *  ": "",
		"59 23 31 2 *": "never comes", "0 0 30 feb ?": "never comes", "0 0 31 4,6,9,11 *": "never comes", ", * * * *": "never comes", "* , * * *": "never comes",
		"* * , * *": "never comes", "* * * , *": "never comes",
		"": "is required", "* * * *": "5 fields", "0 * * * * *": "5 fields", "@reboot": "@reboot", "@every": "@every", "@every soon": "soon", "60 * * * *": "60", "* * * * 8": "8",
		"5-1 * * * *": "5-1", "*/0 * * * *": "0", "x * * * *": "x", "TZ=UTC * * * * *": "spec.timeZone", "CRON_TZ=": "spec.timeZone", "TZ=": "spec.timeZone",
	} {
		c := checker{}
		c.schedule(schedule, templatePath(fleet.KindJob))
		switch {
		case want == "" && len(c.problems) > 0, want != "" && (len(c.problems) != 1 || !strings.Contains(c.problems[0].text, want)):
			t.Errorf("%q: got %v, want %q", schedule, c.problems, want)
		}
	}
}
