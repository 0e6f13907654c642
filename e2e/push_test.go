package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

func TestPushRollRevertRemove(t *testing.T) {
	w := newWorld(t)
	web := deployment("web", 3, lab.TestImage+":1", "")
	w.write("web.yaml", web)
	w.commit("web")
	w.start()
	w.sync()
	first := w.running()
	if len(first) != 3 {
		t.Fatalf("3 replicas are wanted, these run: %v", first)
	}
	oldSet := onlySet(t, w, "1")

	t.Run("a change rolls within its bounds", func(t *testing.T) {
		w.write("web.yaml", strings.Replace(web, ":1", ":2", 1))
		w.commit("version 2")
		stop := sample(t, w)
		w.sync()
		s := stop()
		// 25 % of 3: one more while rolling, none fewer.
		if s.least < 3 || s.most > 4 || s.samples < 5 {
			t.Fatalf("while it rolled there were %d to %d pods in %d samples; 3 to 4 are allowed", s.least, s.most, s.samples)
		}
		for _, c := range w.containers() {
			if c.Image != lab.TestImage+":2" || c.State != "running" {
				t.Errorf("left over: %+v", c)
			}
		}
	})
	t.Run("git revert revives the old ReplicaSet", func(t *testing.T) {
		w.git("revert", "--no-edit", "HEAD")
		w.sync()
		if set := onlySet(t, w, "1"); set != oldSet {
			t.Fatalf("ReplicaSet %s runs, not the old %s", set, oldSet)
		}
	})
	t.Run("a file that is moved or written otherwise restarts nothing", func(t *testing.T) {
		before := w.running()
		w.remove("web.yaml")
		w.write("apps/web/deployment.yml", "# moved\n---\n"+strings.ReplaceAll(web, "replicas: 3", "replicas: 3 # three"))
		w.commit("move")
		w.calls.reset()
		w.sync()
		if diff := cmp.Diff(before, w.running()); diff != "" {
			t.Fatal(diff)
		}
		if writes := w.calls.writes(); len(writes) > 0 {
			t.Fatalf("Podman was told to: %v", writes)
		}
	})
	t.Run("a file that is removed takes its pods down within their grace", func(t *testing.T) {
		w.remove("apps")
		w.write("other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n")
		w.commit("remove")
		began := time.Now()
		w.sync()
		if left := w.containers(); len(left) > 0 {
			t.Fatalf("left over: %v", left)
		}
		if took := time.Since(began); took > 20*time.Second { // 5 s of grace, and a machine that is busy
			t.Fatalf("it took %s", took)
		}
	})
}

// onlySet is the name of the one ReplicaSet that has pods; they must run the image of that tag.
func onlySet(t *testing.T, w *world, tag string) string {
	t.Helper()
	set := ""
	for _, c := range w.containers() {
		name := c.Pod[:strings.LastIndex(c.Pod, "-")]
		if set != "" && name != set {
			t.Fatalf("two ReplicaSets have pods: %s and %s", set, name)
		}
		if c.Image != lab.TestImage+":"+tag {
			t.Fatalf("%s runs %s", c.Name, c.Image)
		}
		set = name
	}
	return set
}

type samples struct{ least, most, samples int }

// sample looks again and again how many pods Podman runs, those being removed left out of the most.
func sample(t *testing.T, w *world) (stop func() samples) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	s := samples{least: 1 << 20}
	done.Go(func() {
		for ctx.Err() == nil {
			status, err := w.client.Status(ctx)
			if err != nil {
				continue
			}
			leaving := map[fleet.PodID]bool{}
			for _, p := range status.Pods {
				leaving[p.ID] = p.Phase == "Terminating"
			}
			host, err := w.machine.Look(ctx)
			if err != nil {
				continue
			}
			running, there := 0, 0
			for _, p := range host.Pods {
				for _, c := range p.Containers {
					if c.State == fleet.Running {
						running++
					}
				}
				if !leaving[p.Pod] {
					there++
				}
			}
			s.samples++
			s.least, s.most = min(s.least, running), max(s.most, there)
		}
	})
	return func() samples {
		cancel()
		done.Wait()
		return s
	}
}

func TestOneBrokenFileOfTen(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		w.write(fmt.Sprintf("app%d.yaml", i), deployment(fmt.Sprintf("app%d", i), 1, w.image, ""))
	}
	w.commit("ten")
	w.start()
	w.sync()
	before := w.running()
	if len(before) != 10 {
		t.Fatalf("%d of 10 run", len(before))
	}
	w.write("app3.yaml", strings.Replace(deployment("app3", 1, lab.TestImage+":2", ""), "replicas: 1", "replcas: 1", 1))
	for i := range 10 {
		if i != 3 {
			w.write(fmt.Sprintf("app%d.yaml", i), deployment(fmt.Sprintf("app%d", i), 1, lab.TestImage+":2", ""))
		}
	}
	w.commit("nine good, one broken")
	w.sync()
	after := w.running()
	if len(after) != 10 {
		t.Fatalf("%d of 10 run", len(after))
	}
	for _, c := range w.containers() {
		isBroken := strings.HasPrefix(c.Pod, "app3-")
		if isBroken != (c.Image == lab.TestImage+":1") {
			t.Errorf("%s runs %s", c.Pod, c.Image)
		}
		if isBroken && before[c.Name] != c.ID {
			t.Errorf("%s was restarted although its file cannot be read", c.Pod)
		}
	}
	out := w.must("status")
	if !strings.Contains(out, "app3.yaml:5:") || !strings.Contains(out, "replcas") {
		t.Errorf("status does not name file, line and field:\n%s", out)
	}
	out, _, code := w.run("validate", w.repo)
	if code != 1 || !strings.Contains(out, "app3.yaml:5:") {
		t.Errorf("validate: exit code %d\n%s", code, out)
	}

	// The last good version outlives the agent, too.
	w.calls.reset()
	w.stop()
	w.start()
	w.sync()
	if diff := cmp.Diff(after, w.running()); diff != "" {
		t.Error(diff)
	}
	if writes := w.calls.writes(); len(writes) > 0 {
		t.Errorf("Podman was told to: %v", writes)
	}
}

func TestEmptiedRepositoryPrunesNothing(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", deployment("web", 1, w.image, ""))
	w.commit("web")
	w.start()
	w.sync()
	before := w.running()
	w.remove("web.yaml")
	w.commit("all gone")
	w.sync()
	if diff := cmp.Diff(before, w.running()); diff != "" {
		t.Fatal(diff)
	}
	if out := w.must("status"); !strings.Contains(out, "allowEmpty") {
		t.Errorf("status does not say what to do:\n%s", out)
	}
	w.stop()
	w.config("  allowEmpty: true\n")
	w.start()
	w.sync()
	w.until(30*time.Second, "no pods", func(s api.Status) bool { return len(s.Pods) == 0 && s.Settled })
}

func TestConfigChangesReachRunningPods(t *testing.T) {
	w := newWorld(t)
	config := func(v string) {
		w.write("config.yaml", fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {greeting: %s, other: same}
---
apiVersion: v1
kind: Secret
metadata: {name: sec}
stringData: {token: token-%s}
`, v, v))
	}
	config("one")
	w.write("web.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {team: sea}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: main
        image: `+w.image+`
        args: [serve]
        env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: conf, key: greeting}}}
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: sec, key: token}}}
        - {name: LINE, value: "$(GREETING)/$(TOKEN)/$(NOT)/$$(GREETING)"}
        - {name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: TEAM, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['team']"}}}
        - {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
        resources: {limits: {memory: 32Mi, cpu: 500m}}
        volumeMounts:
        - {name: conf, mountPath: /conf}
        - {name: sec, mountPath: /sec}
        - {name: tmp, mountPath: /scratch}
      volumes:
      - {name: conf, configMap: {name: conf, items: [{key: greeting, path: sub/greeting}]}}
      - {name: sec, secret: {secretName: sec, defaultMode: 0400}}
      - {name: tmp, emptyDir: {}}
`)
	w.commit("one")
	w.start()
	w.sync()
	before := w.running()
	ip := w.status().Pods[0].IP
	pod := w.status().Pods[0].ID.Name
	env := get(t, ip, "/env")
	for _, want := range []string{"LINE=one/token-one/$(NOT)/$(GREETING)", "ME=" + pod, "IP=" + ip, "TEAM=sea", "MEM=32"} {
		if !strings.Contains(env, want) {
			t.Errorf("env lacks %q:\n%s", want, env)
		}
	}
	if got := get(t, ip, "/file?path=/conf/sub/greeting"); got != "one" {
		t.Errorf("greeting = %q", got)
	}
	if got := get(t, ip, "/file?path=/sec/token"); got != "token-one" {
		t.Errorf("token = %q", got)
	}
	config("two")
	w.commit("two")
	w.sync()
	w.until(20*time.Second, "the new files", func(api.Status) bool {
		return get(t, ip, "/file?path=/conf/sub/greeting") == "two" && get(t, ip, "/file?path=/sec/token") == "token-two"
	})
	if !maps.Equal(before, w.running()) {
		t.Error("a changed ConfigMap restarted something")
	}
	if env := get(t, ip, "/env"); !strings.Contains(env, "GREETING=one") {
		t.Error("the environment of a running container changed")
	}
	if matches, _ := filepath.Glob(filepath.Join(w.dataDir(), "pods", "*", "sec")); len(matches) > 0 {
		t.Errorf("a secret volume lies on disk: %v", matches)
	}
}
