package agent_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
	"github.com/skerry-dev/skerry/sources/manifest"
	"github.com/skerry-dev/skerry/sources/podsecurity"
)

// journal is what was done to the machine, of some verbs, without what is not told apart here.
func journal(w *world, verbs ...string) []string {
	var lines []string
	for _, line := range w.machine.Journal() {
		if verb, _, _ := strings.Cut(line, " "); slices.Contains(verbs, verb) {
			lines = append(lines, strings.ReplaceAll(line, "default_", ""))
		}
	}
	return lines
}

const team = `apiVersion: v1
kind: Pod
metadata: {name: team}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 60
  initContainers:
  - {name: prepare, image: "init:1"}
  - {name: proxy, image: "side:1", restartPolicy: Always, startupProbe: {httpGet: {path: /, port: 1}, periodSeconds: 5}}
  - {name: log, image: "side:1", restartPolicy: Always}
  containers:
  - name: main
    image: "app:1"
    lifecycle:
      postStart: {exec: {command: ["true"]}}
      preStop: {sleep: {seconds: 5}}
  - {name: other, image: "app:2"}
`

func teamWorld(t *testing.T) *world {
	w := newWorld(t)
	w.mayEmpty = true
	w.machine.AddImage("init:1", "side:1")
	w.machine.Behave("init:1", hosttest.Process{Ends: true, After: 3 * time.Second})
	w.repo.push("r1", tree(team))
	return w
}

// TestTeamStartsAndStopsInOrder: initial containers, sidecars, hooks, and all of it the other way round.
func TestTeamStartsAndStopsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := teamWorld(t)
		slow := time.Now().Add(12 * time.Second)
		w.machine.Answer(func(host.Container, host.Probe) (host.Verdict, error) {
			return host.Verdict{Well: !time.Now().Before(slow)}, nil
		})
		w.run()
		after(10 * time.Second)
		if p := w.pod("team"); p.Status.Phase != corev1.PodPending {
			t.Errorf("phase %s while a sidecar is not started", p.Status.Phase)
		}
		after(20 * time.Second)
		if p := w.pod("team"); p.Status.Phase != corev1.PodRunning || !w.ready("team") {
			t.Errorf("it does not run: %+v", p.Status)
		}
		w.repo.push("r2", tree())
		if _, err := w.Sync(t.Context(), "home"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		want := []string{
			"StartContainer team_prepare", "StartContainer team_proxy", "StartContainer team_log",
			"StartContainer team_main", "Hook team_main exec [true]", "StartContainer team_other",
			"StopContainer team_other within 1m0s", "Hook team_main sleep 5", "StopContainer team_main within 55s",
			"StopContainer team_log within 55s", "StopContainer team_proxy within 55s",
		}
		got := journal(w, "StartContainer", "StopContainer", "Hook")
		if len(got) > 8 && strings.HasPrefix(got[6], "Hook") { // these two begin beside one another
			got[6], got[7] = got[7], got[6]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestSidecarsDoNotKeepAPodAlive: when all that a pod was for has ended, its sidecars are stopped, the last one
// first, and the pod has succeeded; a new agent leaves it so.
func TestSidecarsDoNotKeepAPodAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := teamWorld(t)
		w.machine.Behave("app:1", hosttest.Process{Ends: true, After: time.Minute})
		w.machine.Behave("app:2", hosttest.Process{Ends: true, After: 2 * time.Minute})
		w.run()
		after(100 * time.Second)
		if p := w.pod("team"); p.Status.Phase != corev1.PodRunning || len(journal(w, "StopContainer")) > 0 {
			t.Errorf("phase %s, %v", p.Status.Phase, journal(w, "StopContainer"))
		}
		after(time.Minute)
		want := []string{"StopContainer team_log within 1m0s", "StopContainer team_proxy within 1m0s"}
		if diff := cmp.Diff(want, journal(w, "StopContainer")); diff != "" {
			t.Error(diff)
		}
		if p := w.pod("team"); p.Status.Phase != corev1.PodSucceeded {
			t.Errorf("phase %s", p.Status.Phase)
		}
		writes := w.machine.Writes()
		w.stop()
		w.run()
		after(10 * time.Minute)
		if n := w.machine.Writes(); n != writes {
			t.Errorf("%d calls changed something", n-writes)
		}
	})
}

// TestHookThatFails: the container is killed and starts anew by its policy, and it is said why.
func TestHookThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(probed("web", "", "    lifecycle: {postStart: {exec: {command: ['false']}}}\n")))
		w.run()
		after(5 * time.Second)
		if got := journal(w, "StartContainer", "StopContainer"); len(got) != 4 {
			t.Errorf("want two starts, each with its stop: %v", got)
		}
		s := w.status()
		if text := s.Notes[0].Text + s.Waiting[0].Text; !strings.Contains(text, "postStart hook failed") || !strings.Contains(text, "CrashLoopBackOff") {
			t.Errorf("it says %v, %v", s.Notes, s.Waiting)
		}
	})
}

// TestGraceIsSpentOnce: a preStop hook that outlives the grace is given up, and the process still gets its two
// seconds.
func TestGraceIsSpentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mayEmpty = true
		w.machine.Behave("app:1", hosttest.Process{Deaf: true})
		w.repo.push("r1", tree(probed("web", "terminationGracePeriodSeconds: 10", "    lifecycle: {preStop: {exec: {command: [hang]}}}\n")))
		w.run()
		after(5 * time.Second)
		w.repo.push("r2", tree())
		if _, err := w.Sync(t.Context(), "home"); err != nil {
			t.Fatal(err)
		}
		after(11 * time.Second)
		if w.pod("web") == nil {
			t.Error("it is gone before its two seconds")
		}
		after(2 * time.Second)
		if w.pod("web") != nil {
			t.Error("it did not go in time")
		}
		if diff := cmp.Diff([]string{"StopContainer web_main within 2s"}, journal(w, "StopContainer")); diff != "" {
			t.Error(diff)
		}
	})
}

// TestPowerCut: after a reboot everything starts over, but for what runs only once; counts go on.
func TestPowerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.AddImage("once:1", "half:1")
		w.machine.Behave("half:1", hosttest.Process{Ends: true})
		w.repo.push("r1", tree(
			pod("always", "app:1", ""), pod("never", "once:1", "  restartPolicy: Never\n"),
			"apiVersion: v1\nkind: Pod\nmetadata: {name: job}\nspec:\n  restartPolicy: OnFailure\n  containers:\n  - {name: main, image: 'app:1'}\n  - {name: done, image: 'half:1'}\n"))
		w.run()
		after(10 * time.Second)
		w.stop()
		w.machine.Reboot()
		before := len(journal(w, "StartContainer"))
		w.run()
		after(10 * time.Second)
		if diff := cmp.Diff([]string{"StartContainer always_main", "StartContainer job_main"}, sorted(journal(w, "StartContainer")[before:])); diff != "" {
			t.Error(diff)
		}
		never := w.pod("never")
		if s := never.Status.ContainerStatuses[0].State.Terminated; never.Status.Phase != corev1.PodFailed || s == nil || s.ExitCode != 137 {
			t.Errorf("never: %s, %+v", never.Status.Phase, s)
		}
		if s := w.pod("always").Status.ContainerStatuses[0]; s.RestartCount != 1 || s.State.Running == nil {
			t.Errorf("always: %+v", s)
		}
		for _, s := range w.pod("job").Status.ContainerStatuses {
			if (s.Name == "done") != (s.State.Terminated != nil) {
				t.Errorf("job: %s is %+v", s.Name, s.State)
			}
		}
	})
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

const claimed = `apiVersion: v1
kind: Pod
metadata: {name: db}
spec:
  containers: [{name: main, image: "app:1", volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`

const claim = `apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}}
`

// throwaway is a claim whose volume goes with it.
var throwaway = strings.Replace(claim, "{name: data}", `{name: data, annotations: {skerry.dev/prune: "true"}}`, 1)

// class has a word on volumes that nobody heeds.
const class = `apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: skerry.dev/podman
reclaimPolicy: Delete
`

// TestClaims: a pod waits for its claim, the volume outlives both, and goes only where the claim said so, and when no pod
// has it. A storage class has no say.
func TestClaims(t *testing.T) {
	for name, c := range map[string]struct {
		claim string
		left  bool
	}{"kept": {claim, true}, "deleted": {throwaway, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.mayEmpty = true
				w.repo.push("r1", tree(claimed, class))
				w.run()
				after(5 * time.Second)
				if s := w.status(); w.ready("db") || !strings.Contains(s.Waiting[0].Text, "PersistentVolumeClaim default/data is not there") {
					t.Errorf("without a claim: %v", s.Waiting)
				}
				step := func(revision fleet.Revision, files ...string) {
					t.Helper()
					w.repo.push(revision, tree(files...))
					if _, err := w.Sync(t.Context(), "home"); err != nil {
						t.Fatal(err)
					}
					after(time.Minute)
				}
				step("r2", claimed, class, c.claim)
				if !w.ready("db") {
					t.Fatalf("with its claim: %v", w.status().Waiting)
				}
				step("r3", claimed) // claim and class are gone, the pod has the volume still
				if _, there := w.machine.Claim("default_data"); !there || !w.ready("db") {
					t.Fatalf("a volume in use is gone; the pod is ready: %v", w.ready("db"))
				}
				step("r4")
				if _, there := w.machine.Claim("default_data"); there != c.left {
					t.Errorf("the volume is there: %v", there)
				}
			})
		})
	}
}

// TestClaimComesBackInTime: a removal that has not happened yet does not happen when the claim is there again, and no pod
// begins in the midst of one.
func TestClaimComesBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mayEmpty = true
		w.repo.push("r1", tree(claimed, throwaway))
		w.run()
		after(5 * time.Second)
		made := func() (at time.Time) {
			host, err := w.machine.Look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range host.Claims {
				at = c.Created
			}
			return at
		}
		before := made()
		release := w.machine.Stall("RemoveClaim", 1)
		w.repo.push("r2", tree())
		after(time.Minute)
		if w.pod("db") != nil || w.machine.Calls("RemoveClaim") != 1 {
			t.Fatalf("%d calls to remove it, the pod is %v", w.machine.Calls("RemoveClaim"), w.pod("db"))
		}
		w.repo.push("r3", tree(claimed, throwaway))
		after(time.Minute)
		release()
		after(time.Minute)
		if now := made(); !now.Equal(before) || !w.ready("db") || w.machine.Calls("RemoveClaim") != 1 {
			t.Errorf("the volume was made at %s, before at %s; %d calls to remove it; %v", now, before, w.machine.Calls("RemoveClaim"), w.status().Waiting)
		}
	})
}

// TestUnreadSourceReclaimsNothing: what could not be read is not gone.
func TestUnreadSourceReclaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(claimed, throwaway))
		w.run()
		after(5 * time.Second)
		w.repo.push("r2", tree("not: [yaml", "x: y", "kind: {"))
		after(time.Minute)
		w.stop()
		w.name = "elsewhere" // another configuration: the source is not known any more
		w.run()
		after(time.Minute)
		if _, there := w.machine.Claim("default_data"); !there {
			t.Error("the volume is gone")
		}
		w.stop()
		w.name = "home" // and back: what was said of the claim is still known, and so is that it is there
		w.repo.push("r3", tree("x: y", throwaway))
		w.run()
		after(time.Minute)
		if _, there := w.machine.Claim("default_data"); !there {
			t.Error("the volume is gone with its pod, though its claim is there")
		}
		w.repo.push("r4", tree("x: y", account))
		after(time.Minute)
		if _, there := w.machine.Claim("default_data"); there {
			t.Error("the volume is there, though its claim is gone and nobody uses it")
		}
	})
}

const account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\n"

// TestDeadline: a pod's time is up, whatever it is doing.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(probed("web", "activeDeadlineSeconds: 30", ""), strings.ReplaceAll(probed("waits", "activeDeadlineSeconds: 30", ""), "app:1", "nowhere:1")))
		w.run()
		after(29 * time.Second)
		if w.pod("web").Status.Phase != corev1.PodRunning {
			t.Errorf("it is %s before its time", w.pod("web").Status.Phase)
		}
		after(20 * time.Second)
		for _, name := range []string{"web", "waits"} {
			if p := w.pod(name); p.Status.Phase != corev1.PodFailed || p.Status.Reason != "DeadlineExceeded" {
				t.Errorf("%s is %s (%s)", name, p.Status.Phase, p.Status.Reason)
			}
		}
	})
}

// TestPullsAreShown: how far a transfer is stands in the status, and one is enough for all who want it.
func TestPullsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.Publish("big:1", time.Minute)
		w.repo.push("r1", tree(pod("a", "big:1", ""), pod("b", "big:1", ""), pod("c", "app:1", "")))
		w.run()
		after(31 * time.Second)
		s := w.status()
		var text []string
		for _, n := range s.Notes {
			text = append(text, n.About.Name+" "+n.Text)
		}
		if all := strings.Join(text, "\n"); !strings.Contains(all, "a container main: pulling image big:1, 2.1 of 4.2 MB") || !strings.Contains(all, "b container main: pulling") {
			t.Errorf("notes:\n%s", all)
		}
		if !w.ready("c") {
			t.Error("somebody else's transfer held c up")
		}
		after(time.Minute)
		if !w.ready("a") || !w.ready("b") || w.machine.Transfers("big:1") != 1 {
			t.Errorf("%d transfers; %v", w.machine.Transfers("big:1"), w.status().Waiting)
		}
		if s := w.status(); len(s.Notes) > 0 {
			t.Errorf("notes in the end: %v", s.Notes)
		}
	})
}

// TestFailedPodSaysHow: a pod that failed for good is not merely "not ready".
func TestFailedPodSaysHow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.Behave("app:1", hosttest.Process{Ends: true, Code: 3, Message: "no such\ntable"})
		w.repo.push("r1", tree(probed("web", "restartPolicy: Never", "")))
		w.run()
		after(5 * time.Second)
		want := "not ready (web: Failed: container main ended with code 3 (Error): no such table)"
		if s := w.status(); len(s.Waiting) != 1 || s.Waiting[0].Text != want {
			t.Errorf("it says %v", s.Waiting)
		}
	})
}

// TestDeletedPodLeavesVolumesOfItsSource: what was deleted of a source that nobody reads any more says nothing about the
// data that source had.
func TestDeletedPodLeavesVolumesOfItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(claimed, throwaway))
		w.run()
		after(5 * time.Second)
		w.stop()
		w.name = "elsewhere" // the source was taken out of the configuration
		w.repo.push("r2", tree())
		w.run()
		after(time.Minute)
		if err := w.Delete(t.Context(), set(t, "/db.yaml", tree(claimed))); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if w.pod("db") != nil {
			t.Error("the pod did not go")
		}
		if _, there := w.machine.Claim("default_data"); !there {
			t.Error("the volume went with it")
		}
	})
}

// TestSilentRegistryHoldsUpNoEnd: a pod that makes room waits for its successor's image only while anything of it comes.
func TestSilentRegistryHoldsUpNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.repo.push("r1", tree(pod("one", "app:1", "")))
		w.run()
		after(time.Minute)
		w.machine.Publish("silent:1", time.Second)
		defer w.machine.Hold("silent:1")()
		w.repo.push("r2", tree(pod("one", "silent:1", "  hostname: other\n")))
		after(4 * time.Minute)
		if n := w.machine.Calls("StopContainer"); n != 0 {
			t.Error("it was not waited for at all")
		}
		after(3 * time.Minute)
		if n := w.machine.Calls("StopContainer"); n != 1 {
			t.Errorf("the old pod was told to end %d times", n)
		}
	})
}

// TestAppliedIsHeldToThePolicy: whatever the policy is that a command read its files under.
func TestAppliedIsHeldToThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.policy = manifest.Policy{PodSecurity: podsecurity.Baseline}
		w.run()
		after(time.Minute)
		free := "apiVersion: v1\nkind: Namespace\nmetadata: {name: free, labels: {pod-security.kubernetes.io/enforce: privileged}}\n"
		root := pod("root", "app:1", "  hostNetwork: true\n")
		err := w.Apply(t.Context(), set(t, "/a", tree(root)))
		if err == nil || !strings.Contains(err.Error(), "spec.hostNetwork") || !strings.Contains(err.Error(), "policy.podSecurity") {
			t.Errorf("it was applied: %v", err)
		}
		if err := w.Apply(t.Context(), set(t, "/a", tree(free, strings.Replace(root, "{name: root}", "{name: root, namespace: free}", 1)))); err != nil {
			t.Errorf("in a namespace that may: %v", err)
		}
	})
}
