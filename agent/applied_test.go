package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// TestAppliedSets: what is said to be so is so, and an object that moves between sets is not touched.
func TestAppliedSets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		one := tree(pod("one", "app:1", ""))
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(w.Apply(t.Context(), set(t, "/a", one)))
		w.settled()
		if n := w.machine.Calls("StartContainer"); n != 1 {
			t.Fatalf("settled after %d starts", n)
		}
		writes := w.machine.Writes()
		must(w.Apply(t.Context(), set(t, "/b", one)))
		w.settled()
		if now := w.machine.Writes(); now != writes {
			t.Errorf("moving to another set did something: %v", w.machine.Journal())
		}
		if s := w.status(); len(s.Notes) > 0 || len(s.Sources) != 2 || s.Sources[1].Name != "/b" {
			t.Errorf("notes %v, sources %+v", s.Notes, s.Sources)
		}
		// A set that cannot be kept is not applied, takes nothing away, and does not come back by itself.
		blocked := filepath.Join(w.dir, "applied", "c-"+fleet.SafeSuffix("/c")+".json")
		must(os.MkdirAll(blocked, 0o700))
		if err := w.Apply(t.Context(), set(t, "/c", one)); err == nil {
			t.Fatal("a set that cannot be kept was applied")
		}
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].Phase != "Running" {
			t.Fatalf("a failed apply took the pod down: %+v", s.Pods)
		}
		must(os.RemoveAll(blocked))
		lost := filepath.Join(w.dir, "run", "applied", "b-"+fleet.SafeSuffix("/b")+".json") // the second of two to be kept
		must(errors.Join(os.Remove(lost), os.Mkdir(lost, 0o700)))
		if err := w.Apply(t.Context(), set(t, "/d", one)); err == nil {
			t.Fatal("a set was applied although what it takes from cannot be kept")
		}
		must(os.Remove(lost))
		w.stop()
		w.run()
		after(time.Minute)
		if s := w.status(); len(s.Sources) != 2 || s.Sources[1].Name != "/b" || len(s.Pods) != 1 {
			t.Fatalf("a refused apply came back: %+v", s.Sources)
		}
		must(w.Delete(t.Context(), set(t, "/b", one)))
		w.settled()
		if s := w.status(); len(s.Pods) != 0 {
			t.Fatalf("settled with pods: %+v", s.Pods)
		}
	})
}

// TestAppliedSecretsOutliveRestarts: a set of nothing but Secrets is on disk as an empty one.
func TestAppliedSecretsOutliveRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		secret := tree("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n")
		if err := w.Apply(t.Context(), set(t, "/s", secret)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			w.stop()
			w.run()
			if s := w.status(); len(s.Sources) != 2 || s.Sources[1].Objects != 1 {
				t.Fatalf("sources: %+v", s.Sources)
			}
		}
	})
}

// TestAppliedTwicePlansNothing applies real manifests to a machine in memory, twice: trees of this project and,
// where it is there, the corpus.
func TestAppliedTwicePlansNothing(t *testing.T) {
	trees := map[string]string{"tree": "../sources/manifest/testdata/tree", "hello": "../examples/hello/manifests"}
	const corpus = "../../shared/corpus"
	entries, err := os.ReadDir(corpus)
	if err != nil {
		t.Log("without the corpus: " + err.Error())
	}
	for _, e := range entries {
		if e.IsDir() {
			trees[e.Name()] = filepath.Join(corpus, e.Name())
		}
	}
	for name, dir := range trees {
		t.Run(name, func(t *testing.T) {
			read := manifest.Read(os.DirFS(dir), ".")
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for _, o := range read.Objects {
					if o.Template != nil {
						for _, c := range o.Template.Spec.Containers {
							w.machine.Publish(c.Image, time.Second)
						}
						for _, c := range o.Template.Spec.InitContainers {
							w.machine.Publish(c.Image, time.Second)
							if c.RestartPolicy == nil {
								w.machine.Behave(c.Image, hosttest.Process{Ends: true, After: time.Second})
							}
						}
					}
				}
				w.repo.push("r1", os.DirFS(dir))
				w.run()
				after(10 * time.Minute)
				s := w.status()
				if len(read.Objects) > 0 && s.Sources[0].Objects == 0 {
					t.Fatalf("nothing was taken: %+v", s.Sources[0])
				}
				writes := w.machine.Writes()
				d, err := w.Diff(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if !d.Empty() {
					t.Errorf("a second apply would do something: %+v\n%+v", d.Objects, d.Steps)
				}
				w.repo.push("r2", os.DirFS(dir)) // the same once more
				after(10 * time.Minute)
				if now := w.machine.Writes(); now != writes {
					t.Errorf("%d calls changed something", now-writes)
				}
			})
		})
	}
}

// TestEveryKindIsApplied: what can be in a repository can be applied by hand.
func TestEveryKindIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		account := "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\nimagePullSecrets: [{name: logins}]\n"
		if err := w.Apply(t.Context(), set(t, "/a", tree(claimed, claim, class, account))); err != nil {
			t.Fatal(err)
		}
		w.settled()
		if !w.ready("db") {
			t.Error("the pod with the claim does not run")
		}
	})
}
