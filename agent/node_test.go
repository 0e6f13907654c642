package agent_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

// TestCrashBackoff follows a container that always ends at once for an hour: restarts come after 0, 10, 20,
// 40, 80, 160 and then always 300 seconds (semantics 2.2), also across restarts of the agent.
func TestCrashBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.Behave("app:1", hosttest.Process{Ends: true, Code: 1})
		w.repo.push("r1", tree(pod("crasher", "app:1", "")))
		w.run()
		began := time.Now()
		var starts []time.Duration
		seen := 0
		for time.Since(began) < 25*time.Minute {
			after(time.Second)
			if n := w.machine.Calls("StartContainer"); n > seen {
				seen = n
				for range n - len(starts) {
					starts = append(starts, time.Since(began).Round(5*time.Second))
				}
				if n == 4 { // the series is in the containers' labels, not in the agent
					w.stop()
					w.run()
				}
			}
		}
		want := []time.Duration{0, 0, 10, 30, 70, 150, 310, 610, 910, 1210}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, starts); diff != "" {
			t.Fatalf("starts (wanted -, had +):\n%s", diff)
		}
	})
}

// TestImageBackoff: pulls that fail are tried again after 10, 20, 40 … 300 seconds, and do not hold up others.
func TestImageBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("waits", "nowhere:1", ""), pod("runs", "app:1", "")))
		w.run()
		began := time.Now()
		var pulls []time.Duration
		for time.Since(began) < 20*time.Minute {
			after(time.Second)
			for n := w.machine.Calls("Pull") - 1; n > len(pulls); { // one is for the pod that runs
				pulls = append(pulls, time.Since(began).Round(5*time.Second))
			}
		}
		want := []time.Duration{0, 10, 30, 70, 150, 310, 610, 910}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, pulls); diff != "" {
			t.Fatalf("pulls (wanted -, had +):\n%s", diff)
		}
		w.machine.AddImage("nowhere:1")
		after(5 * time.Minute)
		if s := w.status(); !s.Settled {
			t.Fatalf("not settled: %v", s.Waiting)
		}
	})
}

// TestSlowPull: a pull that takes an hour holds up its own pod only, and not the end of that.
func TestSlowPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.Publish("slow:1", time.Hour)
		w.repo.push("r1", tree(pod("slow", "slow:1", "")))
		w.run()
		after(time.Minute)
		w.repo.push("r2", tree(pod("slow", "slow:1", ""), pod("quick", "app:1", "")))
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 2 || s.Pods[0].Phase != "Running" || s.Pods[1].Phase != "ContainerCreating" {
			t.Fatalf("pods: %+v", s.Pods)
		}
		w.repo.push("r3", tree(pod("quick", "app:1", "")))
		after(time.Minute)
		if s := w.status(); len(s.Pods) != 1 || !s.Settled {
			t.Fatalf("a pod that was pulling does not go: %+v, waiting for %v", s.Pods, s.Waiting)
		}
	})
}

// TestReplacedPodWaitsForItsImage: a bare pod that changes is not stopped before the image of what follows it
// is there.
func TestReplacedPodWaitsForItsImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.machine.Publish("big:1", 10*time.Minute)
		w.repo.push("r2", tree(pod("one", "big:1", "  hostname: other\n")))
		after(5 * time.Minute)
		if s := w.status(); len(s.Pods) != 1 || s.Pods[0].Ready != 1 {
			t.Fatalf("the old pod should still run: %+v", s.Pods)
		}
		after(10 * time.Minute)
		if s := w.status(); !s.Settled || len(s.Pods) != 1 || s.Pods[0].Ready != 1 {
			t.Fatalf("the new pod should run: %+v, waiting for %v", s.Pods, s.Waiting)
		}
		if n := w.machine.Calls("Pull"); n != 3 { // the first, the one before the stop, the look before the start
			t.Errorf("%d pulls", n)
		}
	})
}

// TestFullLook: what no event told of is found within 30 seconds, and a watch that broke does not matter.
func TestFullLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(95 * time.Second)
		if err := w.machine.Limit("default_one_main", fleet.Limits{Memory: 1 << 20, Shares: 2}); err != nil {
			t.Fatal(err)
		}
		after(31 * time.Second)
		if w.machine.Calls("LimitContainer") != 1 {
			t.Fatal("limits changed by hand were not found by the full look")
		}
		w.machine.BreakWatch()
		after(time.Second)
		if err := w.machine.Delete("default_one_main"); err != nil {
			t.Fatal(err)
		}
		after(2 * time.Second)
		if s := w.status(); !s.Settled {
			t.Fatalf("not healed after the watch broke: %v", s.Waiting)
		}
	})
}

// TestPodmanAway: without Podman nothing is changed and it is said; when it is back, work goes on.
func TestPodmanAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.machine.Down()
		w.repo.push("r2", tree(pod("one", "app:1", ""), pod("two", "app:1", "")))
		after(10 * time.Minute)
		if s := w.status(); s.Podman == "ok" {
			t.Fatal("nobody says that Podman is away")
		}
		w.machine.Up()
		after(20 * time.Second)
		if s := w.status(); s.Podman != "ok" || !s.Settled || len(s.Pods) != 2 {
			t.Fatalf("podman %q, pods %+v, waiting for %v", s.Podman, s.Pods, s.Waiting)
		}
		if n := w.machine.Calls("CreatePod"); n != 2 {
			t.Errorf("%d pods were made, want 2", n)
		}
	})
}

// TestImageOfARunningPod: a bare pod whose new image cannot be had runs on, and is not said to be as it should
// be; and a pull that hangs does not hold up the next change.
func TestImageOfARunningPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.repo.push("r2", tree(pod("one", "nowhere:1", "")))
		after(10 * time.Minute)
		if s := w.status(); s.Settled || s.Pods[0].Ready != 1 {
			t.Fatalf("settled %v, pods %+v", s.Settled, s.Pods)
		}
		w.machine.Publish("slow:1", 24*time.Hour)
		w.repo.push("r3", tree(pod("one", "slow:1", "")))
		after(10 * time.Minute)
		w.repo.push("r4", tree(pod("one", "app:2", "")))
		after(10 * time.Minute)
		if s := w.status(); !s.Settled || s.Pods[0].Ready != 1 {
			t.Fatalf("waiting for %v, pods %+v", s.Waiting, s.Pods)
		}
	})
}

// TestNothingIsHot: what goes on failing, or does not help, is tried ever more rarely.
func TestNothingIsHot(t *testing.T) {
	for name, c := range map[string]struct {
		verb  string
		most  int // calls in an hour
		spoil func(w *world)
	}{
		"a sandbox, after volumes that can be written": {"CreatePod", 50, func(w *world) {
			for n := range 5000 {
				w.machine.Fail("CreatePod", n+1, errors.New("no space left on device"))
			}
			w.repo.push("r2", tree(pod("two", "app:1", "  volumes: [{name: v, emptyDir: {}}]\n")))
		}},
		"volumes of a pod that is no more": {"Remove", 50, func(w *world) {
			for n := range 5000 {
				w.machine.Fail("Remove", n+1, errors.New("device or resource busy"))
			}
			if err := w.machine.Volumes.Scratch("0a1b2c3d", "v", false, 0); err != nil {
				w.t.Fatal(err)
			}
		}},
		"a limit that does not show": {"LimitContainer", 50, func(w *world) {
			for n := range 5000 {
				w.machine.Lose("LimitContainer", n+1, nil)
			}
			go func() { // somebody else has another opinion, every minute
				for range 60 {
					_ = w.machine.Limit("default_one_main", fleet.Limits{Memory: 1 << 20, Shares: 2})
					time.Sleep(time.Minute)
				}
			}()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.repo.push("r1", tree(pod("one", "app:1", "")))
				w.run()
				after(time.Minute)
				before := w.machine.Calls(c.verb)
				c.spoil(w)
				after(time.Hour)
				if n := w.machine.Calls(c.verb) - before; n < 3 || n > c.most {
					t.Errorf("%s was called %d times in an hour", c.verb, n)
				}
			})
		})
	}
}

// TestWatchThatEndsAtOnce: Podman says that it streams events, and then that it cannot.
func TestWatchThatEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		before := w.machine.Calls("Watch")
		for range 600 {
			w.machine.BreakWatch()
			after(100 * time.Millisecond)
		}
		if n := w.machine.Calls("Watch") - before; n > 20 {
			t.Errorf("the stream was opened %d times in a minute", n)
		}
	})
}

// TestRenamedNode: a machine with another name keeps its pods.
func TestRenamedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", ""), pod("two", "app:1", "")))
		w.run()
		after(time.Minute)
		w.stop()
		if err := w.machine.Delete("default_two"); err != nil { // what the old name had and is gone is made anew
			t.Fatal(err)
		}
		starts := w.machine.Calls("StartContainer")
		w.node = "n2"
		w.run()
		after(time.Minute)
		s := w.status()
		if !s.Settled || len(s.Pods) != 2 || s.Pods[0].Node != "n2" || s.Pods[1].Node != "n2" {
			t.Fatalf("pods %+v, waiting for %v", s.Pods, s.Waiting)
		}
		if n := w.machine.Calls("StartContainer") - starts; n != 1 {
			t.Errorf("%d containers were started, want 1", n)
		}
		w.repo.push("r2", tree(pod("one", "app:1", "")))
		after(time.Minute)
		if s := w.status(); !s.Settled || len(s.Pods) != 1 {
			t.Fatalf("pods %+v, waiting for %v", s.Pods, s.Waiting)
		}
	})
}

// TestPodmanAwayIsNotSettled: nobody knows how things are.
func TestPodmanAwayIsNotSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		after(time.Minute)
		w.machine.Down()
		after(time.Minute)
		_, _, nodes, err := w.View(t.Context())
		if s := w.status(); err != nil || s.Settled || nodes[0].Down == "" {
			t.Fatalf("settled %v, node %+v, %v", s.Settled, nodes[0], err)
		}
	})
}
