package agent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// TestSourceFails: the last good revision stays, looks become rarer, and it is said.
func TestSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.repo.fail(errors.New("the server is on fire"))
		before := len(w.repo.fetches)
		after(20 * time.Minute)
		s := w.status()
		if s.Sources[0].State != "Failing" || !strings.Contains(s.Sources[0].Error, "on fire") || s.Sources[0].Revision != "r1" || len(s.Pods) != 1 {
			t.Fatalf("source %+v, pods %+v", s.Sources[0], s.Pods)
		}
		// 10 s doubled each time: 20, 40 … reach 20 minutes in seven steps.
		if n := len(w.repo.fetches) - before; n < 5 || n > 8 {
			t.Errorf("%d looks in 20 minutes at a server that is down", n)
		}
		w.repo.fail(nil)
		w.repo.push("r2", tree(pod("one", "app:2", "")))
		if _, err := w.Sync(t.Context(), "home"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if s := w.status(); s.Sources[0].State != "Synced" || s.Sources[0].Revision != "r2" || !s.Settled {
			t.Fatalf("source %+v, waiting for %v", s.Sources[0], s.Waiting)
		}
	})
}

// TestLostRevisionAndEmptied: what is held is kept as well when the source has nothing in it any more.
func TestLostRevisionAndEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.stop()
		delete(w.repo.trees, "r1")
		w.repo.push("r2", tree())
		w.run()
		after(10 * time.Minute)
		if s := w.status(); len(s.Pods) != 1 {
			t.Fatalf("pods %+v, notes %v", s.Pods, s.Notes)
		}
	})
}

// TestSameRevisionReadAgain: what could not be had at the start and can be fetched is used at once.
func TestSameRevisionReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		files := tree(pod("one", "app:1", "  volumes: [{name: c, configMap: {name: c}}]\n"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
		w.repo.push("r1", files)
		w.run()
		after(time.Minute)
		w.stop()
		delete(w.repo.trees, "r1") // the clone is damaged
		if err := w.machine.Delete("default_one"); err != nil {
			t.Fatal(err)
		}
		w.repo.late = files
		w.repo.slow = 3 * time.Second
		w.run()
		after(8 * time.Second)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].Phase != "Running" {
			t.Fatalf("pods %+v, notes %v", s.Pods, s.Notes)
		}
	})
}

// TestSourceTakenOutOfTheConfiguration: its pods are kept until somebody says what should become of them.
func TestSourceTakenOutOfTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		files := tree(pod("one", "app:1", ""))
		w.repo.push("r1", files)
		w.run()
		after(time.Minute)
		w.stop()
		w.name = "other"
		w.repo.push("r2", tree(pod("two", "app:1", "")))
		w.run()
		after(time.Minute)
		s := w.status()
		if len(s.Pods) != 2 || !strings.Contains(fmt.Sprint(s.Notes), "source home was not read yet, or is not configured any more: its 1 pods are kept") {
			t.Fatalf("pods %+v, notes %v", s.Pods, s.Notes)
		}
		read := manifest.Read(files, ".")
		object, err := agent.Encode(read.Objects[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Delete(t.Context(), api.Set{Name: "/folder", Objects: []api.Object{object}}); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].ID.Name != "two" || len(s.Sources) != 1 {
			t.Fatalf("pods %+v, sources %+v", s.Pods, s.Sources)
		}
	})
}

// TestDiskFull: what cannot be kept is not taken over, and is tried again.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		// A file where a folder should be refuses writing as a full disk does, to root too.
		templates := filepath.Join(w.dir, "templates")
		if err := errors.Join(os.RemoveAll(templates), os.WriteFile(templates, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		w.repo.push("r2", tree(pod("one", "app:2", "")))
		after(5 * time.Minute)
		if s := w.status(); s.Sources[0].Revision != "r1" || s.Sources[0].State != "Failing" {
			t.Fatalf("source %+v", s.Sources[0])
		}
		if err := os.Remove(templates); err != nil {
			t.Fatal(err)
		}
		after(20 * time.Minute)
		if s := w.status(); s.Sources[0].Revision != "r2" || !s.Settled {
			t.Fatalf("source %+v, waiting for %v", s.Sources[0], s.Waiting)
		}
	})
}

// TestLostRevisionIsHeld: an object that is broken now, and whose last good revision is gone, is left alone.
func TestLostRevisionIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.repo.push("r2", tree(strings.Replace(pod("one", "app:1", ""), "image:", "imge:", 1)))
		after(time.Minute)
		w.stop()
		delete(w.repo.trees, "r1")
		writes := w.machine.Writes()
		w.run()
		after(10 * time.Minute)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].Phase != "Running" || s.Sources[0].State != "Faulty" {
			t.Fatalf("pods %+v, source %+v", s.Pods, s.Sources[0])
		}
		if now := w.machine.Writes(); now != writes {
			t.Errorf("%d calls changed something:\n%v", now-writes, w.machine.Journal())
		}
		w.stop() // and once more: what is held is kept in mind
		w.run()
		after(10 * time.Minute)
		if s := w.status(); len(s.Pods) != 1 {
			t.Fatalf("gone after the second restart: %+v", s.Pods)
		}
		if err := w.machine.Delete("default_one_main"); err != nil { // its template is on disk: it is looked after all the same
			t.Fatal(err)
		}
		after(time.Minute)
		if s := w.status(); s.Pods[0].Phase != "Running" {
			t.Fatalf("pods %+v", s.Pods)
		}
	})
}

// TestDiffDoesNotPutOffLooks: looking at a source for a diff is no look of the loop that follows it.
func TestDiffDoesNotPutOffLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		for range 10 {
			after(interval / 2)
			if _, err := w.Diff(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if s := w.status(); s.Sources[0].Revision != "r1" {
			t.Fatalf("still at %s", s.Sources[0].Revision)
		}
	})
}

// TestSettingsChange: the first look of a life takes effect although the revision is the one before.
func TestSettingsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.repo.push("r2", tree())
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 1 {
			t.Fatalf("an emptied source was pruned: %+v", s.Pods)
		}
		w.stop()
		w.mayEmpty, w.repo.slow = true, 3*time.Second
		w.run()
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 0 || !s.Settled {
			t.Fatalf("pods %+v", s.Pods)
		}
	})
}
