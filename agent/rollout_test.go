package agent_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

var web = fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "default", Name: "web"}

// deployment is one with pods that end at once when they are told to.
func deployment(name, image, annotations, spec string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, annotations: {%[3]s}}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: '%[2]s'}]}
%[4]s`, name, image, annotations, spec)
}

// images are those of the pods that should run, in order, without those being stopped.
func (w *world) images() []string {
	w.t.Helper()
	view, _, _, err := w.View(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for _, p := range view.Pods() {
		if p.DeletionTimestamp == nil {
			list = append(list, strings.TrimPrefix(p.Spec.Containers[0].Image, "docker.io/library/"))
		}
	}
	slices.Sort(list)
	return list
}

// notes are those about an object.
func (w *world) notes(id fleet.ObjectID) string {
	var texts []string
	for _, n := range w.status().Notes {
		if n.About == id {
			texts = append(texts, n.Text)
		}
	}
	return strings.Join(texts, "\n")
}

func (w *world) expect(what string, images ...string) {
	w.t.Helper()
	if got := w.images(); !slices.Equal(got, images) {
		w.t.Errorf("%s: %v run, not %v\n%s", what, got, images, w.notes(web))
	}
}

// TestRollbackSticks: past its progress deadline a workload goes back; later syncs of the same commit do not try again, and
// neither does a new agent; another commit does.
func TestRollbackSticks(t *testing.T) {
	for name, opted := range map[string]struct {
		source     bool
		annotation string
		back       bool
	}{
		"by default it is held":        {false, "", false},
		"the source opted in":          {true, "", true},
		"the object opted in":          {false, "skerry.dev/on-failure: rollback", true},
		"the object opted out":         {true, "skerry.dev/on-failure: hold", false},
		"the object says it once more": {true, "skerry.dev/on-failure: rollback", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.rollback = opted.source
				spec := "  replicas: 2\n  progressDeadlineSeconds: 60\n"
				w.repo.push("good", tree(deployment("web", "app:1", opted.annotation, spec)))
				w.run()
				after(30 * time.Second)
				w.expect("the good one", "app:1", "app:1")
				before := w.machine.AllCalls()["StartContainer"]

				w.repo.push("bad", tree(deployment("web", "nowhere:1", opted.annotation, spec)))
				after(50 * time.Second)
				w.expect("in the middle", "app:1", "app:1", "nowhere:1")
				after(2 * time.Minute)
				if !opted.back {
					w.expect("held", "app:1", "app:1", "nowhere:1")
					return
				}
				w.expect("back", "app:1", "app:1")
				if now := w.machine.AllCalls()["StartContainer"]; now != before {
					t.Errorf("%d containers were started to go back to pods that never went", now-before)
				}
				if text := w.notes(web); !strings.Contains(text, "revision bad is bad for it") {
					t.Errorf("notes: %s", text)
				}
				if s := w.status(); s.Settled || !s.Stopped {
					t.Errorf("settled %t, stopped %t: it waits for another commit", s.Settled, s.Stopped)
				}
				if _, err := w.Sync(t.Context(), "home"); err != nil {
					t.Fatal(err)
				}
				after(10 * time.Minute)
				w.expect("synced again", "app:1", "app:1")
				w.stop()
				w.run()
				after(10 * time.Minute)
				w.expect("another agent", "app:1", "app:1")

				w.repo.push("unrelated", tree(deployment("web", "nowhere:1", opted.annotation, spec), pod("other", "app:1", "")))
				after(30 * time.Second)
				w.expect("another commit tries again", "app:1", "app:1", "app:1", "nowhere:1")
				w.repo.push("fixed", tree(deployment("web", "app:2", opted.annotation, spec), pod("other", "app:1", "")))
				after(time.Minute)
				w.expect("a fix", "app:1", "app:2", "app:2")
				if text := w.notes(web); text != "" || !w.status().Settled {
					t.Errorf("after the fix: %s, %v", text, w.status().Waiting)
				}
			})
		})
	}
}

// TestCanary goes by steps: sizes, a pause with a length, and one until somebody resumes.
func TestCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		steps := `skerry.dev/steps: "1, pause 10m, 50%, pause"`
		spec := "  replicas: 4\n"
		w.repo.push("one", tree(deployment("web", "app:1", steps, spec)))
		w.run()
		after(30 * time.Second)
		w.expect("the first goes without steps", "app:1", "app:1", "app:1", "app:1")
		w.repo.push("two", tree(deployment("web", "app:2", steps, spec)))
		after(9 * time.Minute)
		w.expect("the first step", "app:1", "app:1", "app:1", "app:2")
		if w.status().Stopped {
			t.Error("it is said not to go on by itself")
		}
		if text := w.notes(web); !strings.Contains(text, "pauses at step 2 of 4 until 2000-01-01T00:1") {
			t.Errorf("notes: %s", text)
		}
		w.stop()
		w.run()
		after(3 * time.Minute)
		w.expect("half", "app:1", "app:1", "app:2", "app:2")
		after(24 * time.Hour)
		w.expect("half, for ever", "app:1", "app:1", "app:2", "app:2")
		if !w.status().Stopped {
			t.Error("it is not said that somebody has to let it go on")
		}
		if _, err := w.Intend(t.Context(), api.Wish{Intent: fleet.Intent{Object: web, Verb: fleet.Resume, Author: "ada"}}); err != nil {
			t.Fatal(err)
		}
		after(30 * time.Second)
		w.expect("all", "app:2", "app:2", "app:2", "app:2")
		if left, err := w.Intents.Intents(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("what was resumed is still asked for: %v, %v", left, err)
		}
	})
}

// TestCanaryThatFails: a restart of a new pod stops the steps, and with rollback undoes them.
func TestCanaryThatFails(t *testing.T) {
	for name, rollback := range map[string]bool{"held": false, "rolled back": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.rollback = rollback
				w.machine.AddImage("weak:1")
				w.machine.Behave("weak:1", hosttest.Process{Ends: true, After: 5 * time.Minute, Code: 3})
				steps, spec := `skerry.dev/steps: "1, pause 10m"`, "  replicas: 3\n"
				w.repo.push("one", tree(deployment("web", "app:1", steps, spec)))
				w.run()
				after(time.Minute)
				w.repo.push("two", tree(deployment("web", "weak:1", steps, spec)))
				after(4 * time.Minute)
				w.expect("at the step", "app:1", "app:1", "weak:1")
				after(30 * time.Minute)
				if rollback {
					w.expect("back", "app:1", "app:1", "app:1")
				} else {
					w.expect("stopped", "app:1", "app:1", "weak:1")
				}
				if text := w.notes(web); !strings.Contains(text, "was restarted") && !strings.Contains(text, "still are") {
					t.Errorf("notes: %s", text)
				}
			})
		})
	}
}

// TestIntentsHold until Git changes the field that they stand for, and are seen meanwhile.
func TestIntentsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("one", tree(deployment("web", "app:1", "", "  replicas: 2\n")))
		w.run()
		after(30 * time.Second)
		intend := func(i fleet.Intent) {
			t.Helper()
			i.Object, i.Author = web, "ada"
			if _, err := w.Intend(t.Context(), api.Wish{Intent: i}); err != nil {
				t.Fatal(err)
			}
			after(30 * time.Second)
		}
		intend(fleet.Intent{Verb: fleet.Scale, Replicas: 3})
		w.expect("scaled", "app:1", "app:1", "app:1")
		if s := w.status(); len(s.Intents) != 1 || !strings.Contains(s.Intents[0].Text, "scale to 3, Git says 2 (by ada at 2000-01-01T00:00:30Z)") {
			t.Errorf("status says nothing of it: %+v", s.Intents)
		}
		d, err := w.Diff(t.Context(), nil)
		if err != nil || !slices.ContainsFunc(d.Notes, func(n fleet.Note) bool { return strings.Contains(n.Text, "scale to 3") }) {
			t.Errorf("diff says nothing of it: %v, %v", d.Notes, err)
		}
		w.stop()
		w.run()
		w.repo.push("two", tree(deployment("web", "app:2", "", "  replicas: 2\n")))
		after(time.Minute)
		w.expect("Git changed another field, and there is another agent", "app:2", "app:2", "app:2")
		intend(fleet.Intent{Verb: fleet.Undo})
		w.expect("undone", "app:1", "app:1", "app:1")
		w.repo.push("three", tree(deployment("web", "app:1", "", "  replicas: 4\n")))
		after(time.Minute)
		if left, err := w.Intents.Intents(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("Git has changed what they stand for, and they are there: %v, %v", left, err)
		}
		w.expect("Git changed the fields", "app:1", "app:1", "app:1", "app:1")

		pods := w.status().Pods
		intend(fleet.Intent{Verb: fleet.Restart})
		for _, p := range w.status().Pods {
			if slices.ContainsFunc(pods, func(old reconcileLine) bool { return old.ID == p.ID }) {
				t.Errorf("%s was not restarted", p.ID)
			}
		}
		pods = w.status().Pods
		w.stop()
		w.loseStore()
		w.run()
		after(time.Minute)
		if now := w.status().Pods; len(now) != 4 || now[0].ID != pods[0].ID || now[3].ID != pods[3].ID {
			t.Errorf("a lost store restarted them: %v, %v", pods, now)
		}
	})
}

// TestDependants wait for what they name, and a failure stops only them.
func TestDependants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.AddImage("job:1", "job:2")
		w.machine.Behave("job:1", hosttest.Process{Ends: true, After: time.Minute})
		w.machine.Behave("job:2", hosttest.Process{Ends: true, After: time.Minute, Code: 1})
		on := `skerry.dev/depends-on: "Deployment/db, Job/migrate"`
		push := func(revision fleet.Revision, image, migrate string) {
			w.repo.push(revision, tree(deployment("web", image, on, ""), deployment("db", image, "", ""), deployment("free", image, "", ""), job("migrate", migrate, "")))
		}
		push("one", "app:1", "job:1")
		w.run()
		after(30 * time.Second)
		w.expect("web waits", "app:1", "app:1", "job:1")
		if text := w.notes(web); text != "waits for Job/migrate to be complete (skerry.dev/depends-on)" {
			t.Errorf("notes: %s", text)
		}
		after(time.Minute)
		w.expect("the job is done", "app:1", "app:1", "app:1", "job:1")
		push("two", "app:2", "job:2")
		after(30 * time.Minute)
		if got := w.images(); slices.Index(got, "app:1") != 0 || slices.Index(got, "app:2") != 1 {
			t.Errorf("the job failed, and yet: %v", got)
		}
		if !w.status().Stopped {
			t.Error("what waits for a Job that failed is said to go on by itself")
		}
		if text := w.notes(web); !strings.Contains(text, "Job/migrate, which failed: Job has reached the specified backoff limit") {
			t.Errorf("notes: %s", text)
		}
	})
}

// TestRestartOnConfig: a changed ConfigMap rolls those that ask for it, and nobody else.
func TestRestartOnConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		uses := func(name, annotation string) string {
			return strings.ReplaceAll(deployment(name, "app:1", annotation, ""), "image: 'app:1'", "image: 'app:1', envFrom: [{configMapRef: {name: settings}}]")
		}
		settings := func(value string) string {
			return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: " + value + "}\n"
		}
		names := func() (list []string) {
			for _, p := range w.status().Pods {
				list = append(list, p.ID.Name)
			}
			return list
		}
		on := `skerry.dev/restart-on-config: "true"`
		w.repo.push("one", tree(uses("heeds", on), uses("later", ""), uses("never", ""), settings("one")))
		w.run()
		after(30 * time.Second)
		first := names()
		w.repo.push("two", tree(uses("heeds", on), uses("later", on), uses("never", ""), settings("one")))
		after(30 * time.Second)
		if got := names(); !slices.Equal(got, first) {
			t.Errorf("nothing changed but an annotation: %v, %v", first, got)
		}
		w.repo.push("three", tree(uses("heeds", on), uses("later", on), uses("never", ""), settings("two")))
		after(time.Minute)
		got := names()
		if len(got) != 3 || got[0] == first[0] || got[1] == first[1] || got[2] != first[2] {
			t.Errorf("the ConfigMap changed: %v, %v", first, got)
		}
		w.stop()
		w.loseStore()
		w.run()
		after(time.Minute)
		if again := names(); !slices.Equal(again, got) {
			t.Errorf("a lost store restarted them: %v, %v", got, again)
		}
	})
}

// TestCanaryAndAPowerCut: what takes the old pods down, too, is not the new version's fault.
func TestCanaryAndAPowerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.rollback = true
		steps, spec := `skerry.dev/steps: "1, pause 10m"`, "  replicas: 3\n"
		w.repo.push("one", tree(deployment("web", "app:1", steps, spec)))
		w.run()
		after(time.Minute)
		w.repo.push("two", tree(deployment("web", "app:2", steps, spec)))
		after(time.Minute)
		w.stop()
		w.machine.Reboot()
		after(time.Minute)
		w.run()
		after(time.Minute)
		w.expect("after the power cut", "app:1", "app:1", "app:2")
		after(15 * time.Minute)
		w.expect("it went on", "app:2", "app:2", "app:2")
	})
}

// TestRollbackOfConfig: a pod that had to be made while a bad configuration was all there was is made anew with the good one.
func TestRollbackOfConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.rollback = true
		web := replaceOnce(deployment("web", "app:1", `skerry.dev/restart-on-config: "true"`, "  replicas: 4\n  progressDeadlineSeconds: 60\n"),
			"image: 'app:1'", "image: 'app:1', envFrom: [{configMapRef: {name: settings}}], readinessProbe: {exec: {command: [\"true\"]}, periodSeconds: 1}")
		settings := func(value string) string {
			return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: " + value + "}\n"
		}
		w.repo.push("good", tree(web, settings("good")))
		w.run()
		after(time.Minute)
		bad := hosttest.Process{Exec: func(context.Context, []string) (int, string) { return 1, "" }}
		w.machine.Behave("app:1", bad) // whatever is made from here on is not ready
		w.repo.push("bad", tree(web, settings("bad")))
		after(5 * time.Minute)
		if n := w.status().Workloads[0]; n.Available != 3 || n.State != "RolledBack" {
			t.Errorf("%d available, %s", n.Available, n.State)
		}
		w.machine.Behave("app:1", hosttest.Process{})
		w.repo.push("reverted", tree(web, settings("good")))
		after(2 * time.Minute)
		if s := w.status(); !s.Settled || s.Workloads[0].Available != 4 {
			t.Errorf("%d available: %v", s.Workloads[0].Available, s.Waiting)
		}
	})
}

// TestKeptBecauseItAsks: an object that asks to stay does so without being called a fault, until somebody deletes it.
func TestKeptBecauseItAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		kept := deployment("kept", "app:1", `skerry.dev/prune: "false"`, "")
		w.repo.push("one", tree(deployment("web", "app:1", "", ""), kept))
		w.run()
		after(30 * time.Second)
		w.repo.push("two", tree(deployment("web", "app:1", "", "")))
		after(30 * time.Second)
		w.expect("its file is gone", "app:1", "app:1")
		if s := w.status(); s.Sources[0].State != "Synced" {
			t.Errorf("the source is %s", s.Sources[0].State)
		}
		if err := w.Apply(t.Context(), set(t, "/kept", tree(kept))); err == nil {
			t.Error("it was taken from the source by apply")
		}
		if err := w.Delete(t.Context(), set(t, "/kept", tree(kept))); err != nil {
			t.Fatal(err)
		}
		after(30 * time.Second)
		w.expect("deleted", "app:1")
		w.stop()
		w.run()
		w.repo.push("three", tree(deployment("web", "app:1", "", ""), pod("other", "app:1", "")))
		after(time.Minute)
		w.expect("it does not come back", "app:1", "app:1")
	})
}
