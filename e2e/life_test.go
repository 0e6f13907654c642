package e2e_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/reconcile"
)

// TestKilledAtRandomMoments kills the agent while it deploys, rolls and removes, and starts it again: what
// was right is not restarted, nothing is left over or doubled.
func TestKilledAtRandomMoments(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	w := newWorld(t)
	// One workload never changes: its containers must live through it all.
	w.write("steady.yaml", deployment("steady", 2, w.image, ""))
	w.commit("steady")
	w.start()
	w.sync()
	steady := w.running()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	before, beforeTag := map[string]string{}, ""
	for round := range rounds {
		tag := []string{"1", "2"}[round/2%2]
		replicas := 1 + dice.IntN(3)
		if round%4 == 3 {
			w.remove("web.yaml")
		} else {
			w.write("web.yaml", deployment("web", replicas, lab.TestImage+":"+tag, ""))
		}
		w.commit("round")
		go func() { _, _ = w.client.Sync(t.Context(), "") }() // the agent is killed in the midst of it
		crash := time.NewTimer(time.Duration(dice.IntN(1500)) * time.Millisecond)
		<-crash.C
		w.kill()
		w.start()
		w.sync()
		for name, id := range steady {
			if w.running()[name] != id {
				t.Fatalf("round %d: %s was restarted", round, name)
			}
		}
		var web []string
		for _, c := range w.containers() {
			if strings.HasPrefix(c.Pod, "web-") {
				web = append(web, c.Name)
				if c.State != "running" || c.Image != lab.TestImage+":"+tag {
					t.Fatalf("round %d: %+v, want it to run :%s", round, c, tag)
				}
			}
		}
		want := replicas
		if round%4 == 3 {
			want = 0
		}
		if len(web) != want {
			t.Fatalf("round %d: %d pods of web, want %d: %v", round, len(web), want, web)
		}
		// Where the template is the same, as many as both want must be the very same containers.
		stayed := 0
		now := map[string]string{}
		for _, c := range w.containers() {
			if strings.HasPrefix(c.Pod, "web-") {
				now[c.Name] = c.ID
				if before[c.Name] == c.ID {
					stayed++
				}
			}
		}
		if tag == beforeTag && stayed < min(len(before), len(now)) {
			t.Fatalf("round %d: %d of %v stayed: %v", round, stayed, before, now)
		}
		before, beforeTag = now, tag
		if pods := strings.Fields(w.podman.CLI(t, "pod", "ps", "-q")); len(pods) != want+2 {
			t.Fatalf("round %d: Podman has %d pods, want %d", round, len(pods), want+2)
		}
	}
	entries, err := os.ReadDir(filepath.Join(w.dataDir(), "pods"))
	if err == nil && len(entries) > len(w.containers()) {
		t.Errorf("folders of pods that are no more: %d for %d pods", len(entries), len(w.containers()))
	}
}

func TestNothingChangedWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", deployment("web", 3, w.image, "      - {name: side, image: "+w.image+", command: [sleep]}\n"))
	w.write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec:\n  containers: [{name: main, image: '"+w.image+"', command: [sleep]}]\n")
	w.commit("web")
	w.start()
	w.sync()
	before := w.running()
	if len(before) != 7 {
		t.Fatalf("%d containers run, want 7", len(before))
	}
	same := func(what string) {
		t.Helper()
		w.sync()
		if diff := cmp.Diff(before, w.running()); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
		if writes := w.calls.writes(); len(writes) > 0 {
			t.Errorf("%s: Podman was told to: %v", what, writes)
		}
	}
	w.calls.reset()
	same("a second sync of the same commit")

	w.stop()
	w.calls.reset()
	w.start()
	same("a restart of the agent")

	w.stop()
	w.calls.reset()
	w.binary = binary(t, "rebuilt")
	w.start()
	same("a rebuilt agent")
	if v := w.status().Version; v != "rebuilt" {
		t.Fatalf("version %s runs", v)
	}

	w.stop()
	w.calls.reset()
	if err := os.Remove(filepath.Join(w.dataDir(), "skerry.db")); err != nil {
		t.Fatal(err)
	}
	w.start()
	same("a lost store")

	w.stop()
	w.calls.reset()
	for _, dir := range []string{"skerry.db", "templates", "sources"} {
		if err := os.RemoveAll(filepath.Join(w.dataDir(), dir)); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	same("a lost data folder")
}

// TestHeals breaks things as people do, and expects them back by event: long before the look every 30 s.
func TestHeals(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", deployment("web", 2, w.image, "        resources: {limits: {memory: 64Mi}}\n"))
	w.commit("web")
	w.start()
	w.sync()
	const soon = 12 * time.Second
	whole := func(s api.Status) bool {
		if !s.Settled || len(s.Pods) != 2 {
			return false
		}
		list := w.containers()
		current := 0
		for _, c := range list {
			if c.State == "running" && c.Name == "default_"+c.Pod+"_main" {
				current++
			}
		}
		return current == 2
	}
	for _, broken := range []struct {
		name string
		do   func(victim container)
		same bool // the container itself lives on
	}{
		{name: "removed", do: func(v container) { w.podman.CLI(t, "rm", "-f", "-t", "0", v.ID) }},
		{name: "stopped", do: func(v container) { w.podman.CLI(t, "stop", "-t", "0", v.ID) }},
		{name: "paused", do: func(v container) { w.podman.CLI(t, "pause", v.ID) }, same: true},
		{name: "renamed", do: func(v container) { w.podman.CLI(t, "rename", v.ID, "mine-now") }, same: true},
		{name: "pod removed", do: func(v container) { w.podman.CLI(t, "pod", "rm", "-f", "-t", "0", "default_"+v.Pod) }},
		{name: "pod stopped", do: func(v container) { w.podman.CLI(t, "pod", "stop", "-t", "0", "default_"+v.Pod) }},
		{name: "pod paused", do: func(v container) { w.podman.CLI(t, "pod", "pause", "default_"+v.Pod) }, same: true},
		{name: "infra killed", do: func(v container) {
			infra := strings.TrimSpace(w.podman.CLI(t, "pod", "inspect", "-f", "{{.InfraContainerID}}", "default_"+v.Pod))
			w.podman.CLI(t, "kill", "-s", "KILL", infra)
		}},
	} {
		t.Run(broken.name, func(t *testing.T) {
			w.until(30*time.Second, "whole before", whole)
			victim := w.containers()[0]
			broken.do(victim)
			began := time.Now()
			w.until(soon, "whole again", func(s api.Status) bool {
				if broken.same {
					return whole(s) && slices.ContainsFunc(w.containers(), func(c container) bool { return c.ID == victim.ID && c.State == "running" })
				}
				return whole(s) && !slices.ContainsFunc(w.containers(), func(c container) bool { return c.ID == victim.ID && c.State == "running" })
			})
			t.Logf("whole again after %s", time.Since(began).Round(time.Millisecond))
		})
	}
}

// TestLimitsChangedByHand is found by the full look: Podman 4 says nothing of it.
func TestLimitsChangedByHand(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", deployment("web", 1, w.image, "        resources: {limits: {memory: 64Mi}}\n"))
	w.commit("web")
	w.start()
	w.sync()
	victim := w.containers()[0]
	w.podman.CLI(t, "update", "--memory", "128m", victim.ID)
	w.until(45*time.Second, "the limit back", func(api.Status) bool {
		host, err := w.machine.Look(t.Context())
		return err == nil && host.Pods[0].Containers[0].Limits.Memory == 64<<20
	})
	if now := w.containers()[0]; now.ID != victim.ID {
		t.Error("the container was restarted")
	}
}

func TestPodmanGoesAndComesBack(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", deployment("web", 2, w.image, ""))
	w.commit("web")
	w.start()
	w.sync()
	before := w.running()
	w.podman.Kill(t)
	w.until(20*time.Second, "that Podman is away", func(s api.Status) bool { return s.Podman != "ok" })
	if body := w.raw("/readyz"); !strings.Contains(body, "podman") {
		t.Errorf("/readyz without Podman: %s", body)
	}
	w.write("more.yaml", deployment("more", 1, w.image, ""))
	w.commit("more")
	w.must("sync")
	w.podman.Start(t)
	w.sync()
	after := w.running()
	if len(after) != 3 {
		t.Fatalf("%d containers run, want 3", len(after))
	}
	for name, id := range before {
		if after[name] != id {
			t.Errorf("%s was restarted", name)
		}
	}
}

func TestStartsPodmanItself(t *testing.T) {
	w := newWorld(t)
	own := filepath.Join(w.dir, "own", "podman.sock")
	raw, err := os.ReadFile(filepath.Join(w.dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(raw), filepath.Join(w.dir, "podman.sock"), own, 1)
	if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.write("web.yaml", deployment("web", 1, w.image, ""))
	w.commit("web")
	w.start()
	w.sync()
	before := w.running()
	if len(before) != 1 {
		t.Fatalf("%d containers run, want 1", len(before))
	}
	log, _ := os.ReadFile(filepath.Join(w.dir, "agent.log"))
	if !strings.Contains(string(log), "podman system service is started") {
		t.Errorf("the agent does not say that it starts Podman:\n%s", log)
	}
	w.kill()
	w.start() // a service that outlived the agent, or its socket file, is no obstacle
	w.sync()
	if !maps.Equal(before, w.running()) {
		t.Errorf("before %v, now %v", before, w.running())
	}
}

func TestStrangersAreLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.podman.CLI(t, "run", "-d", "--name", "mine", "--label", "io.kubernetes.pod.name=web", w.image, "sleep")
	w.podman.CLI(t, "pod", "create", "--name", "default_taken")
	w.podman.CLI(t, "run", "-d", "--pod", "default_taken", "--name", "theirs", w.image, "sleep")
	strangers := func() string {
		return w.podman.CLI(t, "inspect", "-f", "{{.Id}} {{.State.StartedAt}} {{.State.Status}} {{.Name}}", "mine", "theirs")
	}
	before := strangers()
	w.write("web.yaml", deployment("web", 2, w.image, ""))
	w.write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: taken}\nspec:\n  containers: [{name: main, image: '"+w.image+"', command: [sleep]}]\n")
	w.commit("web")
	w.start()
	w.must("sync")
	w.until(30*time.Second, "a note about the taken name", func(s api.Status) bool {
		return len(w.running()) == 2 && slices.ContainsFunc(s.Workloads, func(x reconcile.Workload) bool { return x.ID.Name == "web" && x.State == "Ready" }) &&
			strings.Contains(w.must("status"), "the name default_taken is taken")
	})
	w.podman.CLI(t, "pod", "rm", "-f", "-t", "0", "default_taken")
	w.sync()
	if len(w.running()) != 3 {
		t.Errorf("the pod did not start when its name was free: %v", w.running())
	}
	w.podman.CLI(t, "pod", "create", "--name", "another")
	w.remove("web.yaml")
	w.commit("no web")
	w.sync()
	if now := w.podman.CLI(t, "inspect", "-f", "{{.Id}} {{.State.StartedAt}} {{.State.Status}} {{.Name}}", "mine"); !strings.Contains(before, strings.TrimSpace(now)) {
		t.Errorf("a stranger was touched:\n%s\nbefore:\n%s", now, before)
	}
	if pods := w.podman.CLI(t, "pod", "ps", "--format", "{{.Name}}"); !strings.Contains(pods, "another") {
		t.Errorf("a stranger's pod is gone: %s", pods)
	}
}

func TestCrashLoopBacksOff(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", strings.Replace(deployment("web", 1, w.image, ""), "command: [sleep]", `command: [exit, "3"]`, 1))
	w.commit("crashes")
	w.start()
	w.must("sync")
	w.until(30*time.Second, "CrashLoopBackOff after one restart", func(s api.Status) bool {
		return len(s.Pods) == 1 && s.Pods[0].Phase == "CrashLoopBackOff" && s.Pods[0].Restarts == 1
	})
	// The predecessor is kept beside the last one, for its log.
	if list := w.containers(); len(list) != 2 {
		t.Errorf("containers: %v", list)
	}
	out, _, code := w.run("sync", "--wait", "1s")
	if code != 1 {
		t.Errorf("sync --wait: exit code %d\n%s", code, out)
	}
	// Restarting the agent does not shorten the wait: it is in the containers' labels.
	w.stop()
	w.start()
	w.until(10*time.Second, "still backing off", func(s api.Status) bool {
		return len(s.Pods) == 1 && s.Pods[0].Phase == "CrashLoopBackOff" && s.Pods[0].Restarts >= 1
	})
	w.until(40*time.Second, "the second restart", func(s api.Status) bool { return len(s.Pods) == 1 && s.Pods[0].Restarts == 2 })
}

func TestImageThatIsNotThereHoldsTheRollout(t *testing.T) {
	w := newWorld(t)
	web := deployment("web", 3, w.image, "")
	w.write("web.yaml", web)
	w.commit("good")
	w.start()
	w.sync()
	before := w.running()
	w.write("web.yaml", strings.Replace(web, w.image, "localhost/nowhere:1", 1))
	w.commit("bad")
	w.must("sync")
	w.until(30*time.Second, "an image that cannot be pulled", func(s api.Status) bool {
		return slices.ContainsFunc(s.Pods, func(p reconcile.Line) bool { return p.Phase == "ImagePullBackOff" })
	})
	if diff := cmp.Diff(before, w.running()); diff != "" {
		t.Errorf("a bad image took good pods down: %s", diff)
	}
	w.git("revert", "--no-edit", "HEAD")
	w.sync()
	if diff := cmp.Diff(before, w.running()); diff != "" {
		t.Errorf("the very same containers should run after the revert: %s", diff)
	}
}
