package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/skerry-dev/skerry/fleet"
)

// TestForesee compares what Foresee says with testdata/*.txtar. The sections of a file, in their order:
//
//	now      what was desired until now; it runs
//	trouble  what befell the host since: exit|remove|teardown POD-PREFIX, one a line
//	desired  what is desired from now on; as in now when absent
//	want     the steps as diff shows them, then the notes
func TestForesee(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden plans", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			section := map[string]string{}
			for _, f := range archive.Files {
				section[f.Name] = string(f.Data)
			}
			m := newMachine(t)
			if text, ok := section["now"]; ok {
				m.want(decodeAll(t, text))
				m.settle()
				m.now = m.now.Add(time.Hour)
			}
			for line := range strings.Lines(section["trouble"]) {
				befall(t, m, strings.Fields(line))
			}
			if text, ok := section["desired"]; ok {
				m.want(decodeAll(t, text))
			}
			seen := Foresee(ForesightInput{
				Desired: m.desired, Previous: m.stored, Nodes: []fleet.Node{alpha}, Hosts: map[fleet.NodeName]fleet.Host{"alpha": m.host},
				Templates: m.templates, Now: m.now,
			})
			if !seen.Settled {
				t.Error("it does not settle")
			}
			var b strings.Builder
			for _, s := range seen.Steps {
				fmt.Fprintf(&b, "%s: %s\n", s.Node, s.Step)
			}
			for _, n := range seen.Notes {
				fmt.Fprintf(&b, "note %s: %s\n", n.About, n.Text)
			}
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
				archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(b.String())})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := gocmp.Diff(section["want"], b.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

func befall(t *testing.T, m *machine, words []string) {
	t.Helper()
	at := slices.IndexFunc(m.host.Pods, func(o fleet.ObservedPod) bool { return strings.HasPrefix(o.Pod.String(), words[1]) })
	if at < 0 {
		t.Fatalf("no pod %s", words[1])
	}
	o := &m.host.Pods[at]
	switch words[0] {
	case "exit":
		m.end(o.UID, o.Containers[0].Name, 1)
	case "crash": // for the fourth time
		m.end(o.UID, o.Containers[0].Name, 1)
		o.Containers[0].Attempt, o.Containers[0].Backoff = 4, 80*time.Second
		o.Containers[0].Started = m.now.Add(-time.Second)
	case "remove":
		o.Containers = o.Containers[1:]
	case "teardown":
		m.host.Pods = slices.Delete(m.host.Pods, at, at+1)
	case "reboot":
		o.Infra = fleet.Exited
		m.end(o.UID, o.Containers[0].Name, 137)
	default:
		t.Fatalf("what is %v?", words)
	}
}

// What diff is asked for may be a host about which nothing is known.
func TestForeseeWithoutHosts(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 1, "hello:1"))
	seen := Foresee(ForesightInput{Desired: m.desired, Nodes: []fleet.Node{alpha}, Templates: m.templates, Now: start})
	if len(seen.Steps) != 3 || !seen.Settled {
		t.Errorf("steps %v, settled %v", seen.Steps, seen.Settled)
	}
}

func TestForeseeLeavesItsInputAlone(t *testing.T) {
	m := newMachine(t, deploymentOf("web", 2, "hello:1"), podOf("bare", "hello:1")).settle()
	host, stored := m.host, m.stored
	before := encode(host) + encode(stored)
	m.want(desiredOf(deploymentOf("web", 3, "hello:2")))
	Foresee(ForesightInput{
		Desired: m.desired, Previous: stored, Nodes: []fleet.Node{alpha}, Hosts: map[fleet.NodeName]fleet.Host{"alpha": host}, Templates: m.templates, Now: m.now,
	})
	if d := gocmp.Diff(before, encode(host)+encode(stored)); d != "" {
		t.Error(d)
	}
}

// TestForeseeNothingByTheClock: what comes by itself some day, and what nobody measures on paper, is no part of what would
// happen now.
func TestForeseeNothingByTheClock(t *testing.T) {
	tick := func(suspend string) fleet.Object {
		return cronOf("tick", "{schedule: '* * * * *', suspend: "+suspend+"}", "{ttlSecondsAfterFinished: 600}")
	}
	for _, test := range []struct {
		name    string
		objects []fleet.Object
		verb    fleet.IntentVerb
		notes   int
	}{
		{"an autoscaler", []fleet.Object{deploymentOf("web", 2, "a:1"), kindOf(t, docAutoscaler)}, "", 0},
		{"a run that is kept for a while", []fleet.Object{tick("false")}, "", 0},
		{"somebody suspended it", []fleet.Object{tick("false")}, fleet.Suspend, 1},
		{"somebody lets it go on", []fleet.Object{tick("true")}, fleet.Unsuspend, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, test.objects...)
			for range 70 {
				m.pass()
				for _, s := range m.stored.Slots {
					if s.Owner.Kind == fleet.KindJob {
						m.end(s.UID, "main", 0)
					}
				}
				m.now = m.now.Add(time.Second)
			}
			var intents []fleet.Intent
			if test.verb != "" {
				o := test.objects[0]
				intents = []fleet.Intent{{Object: o.ID, Source: "home", Verb: test.verb, Author: "eve", At: m.now, Git: FieldOf(o, test.verb)}}
			}
			f := Foresee(ForesightInput{
				Desired: m.desired, Previous: m.stored, Nodes: []fleet.Node{alpha}, Hosts: map[fleet.NodeName]fleet.Host{"alpha": m.host},
				Templates: m.templates, Intents: intents, Now: m.now,
			})
			if !f.Settled || len(f.Steps) > 0 || len(f.Notes) != test.notes {
				t.Errorf("settled %t, steps %v, notes %v", f.Settled, f.Steps, f.Notes)
			}
		})
	}
}
