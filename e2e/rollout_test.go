package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/reconcile"
)

// app is a Deployment of servers that are asked whether they are ready. Its last three fields are YAML: annotations and spec
// are the Deployment's, container is its container's.
type app struct {
	name     string
	replicas int
	image    string

	annotations, spec, container string
}

// put writes Deployments into a folder of the repository.
func (w *world) put(folder string, apps ...app) {
	w.t.Helper()
	for _, a := range apps {
		w.write(folder+"/"+a.name+".yaml", fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, annotations: {%[4]s}}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  %[5]s
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: %[3]s
        args: [serve]
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}
        %[6]s
`, a.name, a.replicas, a.image, a.annotations, a.spec, a.container))
	}
}

// of are the pods of a Deployment that are not being stopped.
func of(name string, pods map[string]*corev1.Pod) map[string]*corev1.Pod {
	its := maps.Clone(pods)
	maps.DeleteFunc(its, func(_ string, p *corev1.Pod) bool {
		return p.Labels["app"] != name || p.DeletionTimestamp != nil
	})
	return its
}

// crew is of, asked for now.
func (w *world) crew(name string) map[string]*corev1.Pod {
	w.t.Helper()
	return of(name, w.pods())
}

// setOf is the name of the one ReplicaSet that has pods of a Deployment.
func (w *world) setOf(name string) string {
	w.t.Helper()
	set := ""
	for pod, p := range w.crew(name) {
		if len(p.OwnerReferences) != 1 || (set != "" && p.OwnerReferences[0].Name != set) {
			w.t.Fatalf("pod %s is not of ReplicaSet %s alone: %+v", pod, set, p.OwnerReferences)
		}
		set = p.OwnerReferences[0].Name
	}
	return set
}

// split counts the running containers of a Deployment's pods in Podman by the tag of their images. Pods that are being
// stopped are left out.
func (w *world) split(name string) map[string]int {
	w.t.Helper()
	there := w.containers() // before the pods are asked for: what is not being stopped then was not here
	pods := w.crew(name)
	count := map[string]int{}
	for _, c := range there {
		if pods[c.Pod] != nil && c.State == "running" {
			count[c.Image[strings.LastIndex(c.Image, ":")+1:]]++
		}
	}
	return count
}

// lineOf is a Deployment's line of status.
func lineOf(s api.Status, name string) reconcile.Workload {
	for _, x := range s.Workloads {
		if x.ID.Kind == fleet.KindDeployment && x.ID.Name == name {
			return x
		}
	}
	return reconcile.Workload{}
}

// untilRests waits until a Deployment is in a state, with all pods available unless it is stuck, and none of its pods is being
// stopped.
func (w *world) untilRests(name string, state reconcile.State, split map[string]int) {
	w.t.Helper()
	w.until(long, fmt.Sprintf("%s is %s with %v", name, state, split), func(s api.Status) bool {
		l := lineOf(s, name)
		return l.State == state && (state == reconcile.StateStuck || l.Available == l.Desired) && maps.Equal(w.split(name), split) &&
			!slices.ContainsFunc(s.Pods, func(p reconcile.Line) bool {
				return strings.HasPrefix(p.ID.Name, name+"-") && p.Phase == "Terminating"
			})
	})
}

// shows logs what a user sees, and fails when the command exits with another code or does not say all of the words.
func (w *world) shows(when string, exit int, command string, words ...string) string {
	w.t.Helper()
	out, errOut, code := w.run(strings.Fields(command)...)
	w.t.Logf("%s, skerry %s:\n%s%s", when, command, out, errOut)
	if code != exit {
		w.t.Errorf("%s, skerry %s: exit code %d, not %d", when, command, code, exit)
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			w.t.Errorf("%s, skerry %s does not say %q", when, command, word)
		}
	}
	return out
}

// kept fails when containers of a Deployment that ran before are not there any more, but for that many.
func kept(t *testing.T, before, after map[string]string, name string, but int) {
	t.Helper()
	var gone []string
	for c, id := range before {
		if strings.HasPrefix(c, "default_"+name+"-") && after[c] != id {
			gone = append(gone, c)
		}
	}
	if len(gone) > but {
		t.Errorf("the containers of %s should be the very same, all but %d: these are not: %v", name, but, gone)
	}
}

// rung has Podman end a container and waits until another stands for it. By then the agent has decided on what it holds,
// looked, planned and acted: what it has not done besides, it does not do. Each pod serves once: later ones back off.
func (w *world) rung(container string) {
	w.t.Helper()
	w.podman.CLI(w.t, "kill", "--signal=KILL", container)
	w.untilBack(container)
}

func (w *world) untilBack(container string) {
	w.t.Helper()
	w.untilPod(strings.Split(container, "_")[1], "mended", func(p *corev1.Pod) bool {
		return containerOf(p, "main").RestartCount == 1 && ready(p)
	})
}

// asker asks for pods again and again. Unlike world's own methods it does not end the test when nobody answers.
type asker struct{ http http.Client }

func (w *world) asker() *asker { return &asker{http.Client{Transport: unixTransport(w.socket())}} }

func (a *asker) pods(ctx context.Context) (map[string]*corev1.Pod, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/api/v1/namespaces/default/pods", nil)
	if err != nil {
		return nil, err
	}
	response, err := a.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var list corev1.PodList
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		return nil, err
	}
	pods := map[string]*corev1.Pod{}
	for i := range list.Items {
		pods[list.Items[i].Name] = &list.Items[i]
	}
	return pods, nil
}

// bounds are what was seen of a Deployment while it rolled.
type bounds struct {
	ready   int // the fewest pods that were ready
	there   int // the most pods that Podman had of those not being stopped
	samples int
}

func (b bounds) String() string {
	return fmt.Sprintf("at least %d ready, at most %d there, in %d samples", b.ready, b.there, b.samples)
}

// bounded looks without a pause how many pods of a Deployment there are, until the function it returns is called.
func (w *world) bounded(name string) (stop func() bounds) {
	ctx, cancel := context.WithCancel(w.t.Context())
	agent, machine := w.asker(), w.machine
	b := bounds{ready: 1 << 20}
	var done sync.WaitGroup
	done.Go(func() {
		defer agent.http.CloseIdleConnections()
		for ctx.Err() == nil {
			// The machine first. A pod that the agent does not stop after that was not being stopped then: none is
			// counted that may be there beyond the surge.
			host, err := machine.Look(ctx)
			if err != nil {
				continue
			}
			pods, err := agent.pods(ctx)
			if err != nil {
				continue
			}
			its, there, serving := of(name, pods), 0, 0
			for _, p := range host.Pods {
				if its[p.Pod.Name] != nil {
					there++
				}
			}
			for _, p := range its {
				if ready(p) {
					serving++
				}
			}
			b.ready, b.there, b.samples = min(b.ready, serving), max(b.there, there), b.samples+1
		}
	})
	return func() bounds {
		cancel()
		done.Wait()
		return b
	}
}

// load is HTTP requests to the pods of a Deployment at a steady pace. There is nobody between: each request goes to one of
// the pods that the agent shows as ready just before.
//
// A request may find its pod gone although it was ready when the agent was asked: the two are not one moment, in a cluster
// neither. Who is refused then tries another ready pod, as every balancer does, and that is no failure. It is one
//
//   - if the agent, asked once more after the refusal, still shows that pod as ready: then it says so of what does not serve;
//   - if no other pod is ready;
//   - if somebody else answers at the pod's address.
type load struct {
	name  string
	agent *asker
	http  http.Client

	mu       sync.Mutex
	requests int
	retried  int
	failed   []string
	answers  map[string]int // by the version that answered
	slowest  time.Duration
}

// load begins, and ends when the function it returns is called.
func (w *world) load(name string) (stop func() *load) {
	ctx, cancel := context.WithCancel(w.t.Context())
	l := &load{
		name: name, agent: w.asker(), answers: map[string]int{},
		http: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	pace := time.NewTicker(10 * time.Millisecond)
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
					l.request(ctx)
				}
			}
		})
	}
	return func() *load {
		pace.Stop()
		cancel()
		done.Wait()
		l.agent.http.CloseIdleConnections()
		return l
	}
}

// request makes one request, at as many pods as it takes.
func (l *load) request(ctx context.Context) {
	began := time.Now()
	var refused []string
	for {
		pods, err := l.ready(ctx)
		if err != nil {
			l.count(ctx, func() { l.failed = append(l.failed, fmt.Sprintf("the agent: %v", err)) })
			return
		}
		if at := len(refused) - 1; at >= 0 && pods[refused[at]] != nil {
			l.count(ctx, func() { l.failed = append(l.failed, "shown as ready still: "+strings.Join(refused, ", ")) })
			return
		}
		for _, name := range refused {
			delete(pods, name)
		}
		if len(pods) == 0 {
			l.count(ctx, func() { l.failed = append(l.failed, fmt.Sprintf("no other pod is ready after %v", refused)) })
			return
		}
		names := slices.Sorted(maps.Keys(pods))
		p := pods[names[int(began.UnixMilli()/10)%len(names)]]
		version, err := l.ask(ctx, p)
		if err == nil {
			l.count(ctx, func() { l.answers[version]++; l.slowest = max(l.slowest, time.Since(began)) })
			return
		}
		refused = append(refused, p.Name)
		l.mu.Lock()
		l.retried++
		l.mu.Unlock()
	}
}

// count counts a request that came to its end, whatever that was.
func (l *load) count(ctx context.Context, as func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() == nil { // else it was we who ended it
		l.requests++
		as()
	}
}

func (l *load) ready(ctx context.Context) (map[string]*corev1.Pod, error) {
	pods, err := l.agent.pods(ctx)
	pods = of(l.name, pods)
	maps.DeleteFunc(pods, func(_ string, p *corev1.Pod) bool { return !ready(p) })
	return pods, err
}

// ask asks a pod for its version. Its name is in the answer, too: addresses are given out again.
func (l *load) ask(ctx context.Context, p *corev1.Pod) (version string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Status.PodIP+":8080/", nil)
	if err != nil {
		return "", err
	}
	response, err := l.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	said := strings.Fields(string(body))
	if len(said) < 2 || said[len(said)-1] != "host="+p.Name {
		return "", errors.New("somebody else answers: " + string(body))
	}
	return said[len(said)-2], nil
}

// TestRollingUnderLoad rolls back and forth, turns round in the middle and is scaled in the middle. Nobody who asks notices.
func TestRollingUnderLoad(t *testing.T) {
	w := newWorld(t)
	// The hook stands for what every server needs that is to be rolled unseen: some time between being unready and its end.
	web := app{name: "web", replicas: 4, image: w.image, container: "lifecycle: {preStop: {sleep: {seconds: 1}}}"}
	push := func(title string) {
		w.put("", web)
		w.commit(title)
	}
	push("version 1")
	w.start()
	w.sync()
	sets := map[string]string{w.image: w.setOf("web")} // by image

	stop := w.load("web")
	for _, step := range []struct {
		title       string
		least, most int // replicas − maxUnavailable, replicas + maxSurge
		do          func()
	}{
		{"version 2", 3, 5, func() { web.image = lab.TestImage + ":2"; push("version 2") }},
		{"back, and forth in the middle of it", 3, 5, func() {
			web.image = lab.TestImage + ":1"
			push("back")
			w.must("sync")
			w.until(long, "a new pod", func(s api.Status) bool { return lineOf(s, "web").Updated > 0 })
			web.image = lab.TestImage + ":2"
			push("and forth")
		}},
		// Bounds are those of either size: from one to the other is a way, too.
		{"version 1, and 6 in the middle of it", 3, 8, func() {
			web.image = lab.TestImage + ":1"
			push("version 1 again")
			w.must("sync")
			w.until(long, "a new pod", func(s api.Status) bool { return lineOf(s, "web").Updated > 0 })
			web.replicas = 6
			push("six")
		}},
		{"version 2 and 4 at once", 3, 8, func() { web.image, web.replicas = lab.TestImage+":2", 4; push("four of version 2") }},
	} {
		began, bounded := time.Now(), w.bounded("web")
		step.do()
		w.sync()
		b := bounded()
		t.Logf("%s: %s, %s", step.title, b, time.Since(began).Round(time.Millisecond))
		if b.ready < step.least || b.there > step.most || b.samples < 5 {
			t.Errorf("%s: %s; %d to %d are allowed", step.title, b, step.least, step.most)
		}
		if set := w.setOf("web"); sets[web.image] == "" {
			sets[web.image] = set
		} else if set != sets[web.image] {
			t.Errorf("%s: ReplicaSet %s runs, not %s, which has the same template", step.title, set, sets[web.image])
		}
	}
	l := stop()
	t.Logf("%d requests, %d of them answered at a second pod, %d failed; answers %v, the slowest after %s",
		l.requests, l.retried, len(l.failed), l.answers, l.slowest.Round(time.Millisecond))
	if len(l.failed) > 0 || l.requests < 100 {
		t.Errorf("%d of %d requests failed: %s", len(l.failed), l.requests, strings.Join(l.failed[:min(len(l.failed), 10)], "\n"))
	}
	if len(l.answers) != 2 {
		t.Errorf("both versions should have answered: %v", l.answers)
	}
}

// TestBadImageHoldsAndReverts: what can never be ready takes one old pod of four and no more, and a revert has nothing to
// start but that one.
func TestBadImageHoldsAndReverts(t *testing.T) {
	w := newWorld(t)
	missing := app{name: "missing", replicas: 4, image: w.image, spec: "progressDeadlineSeconds: 3"}
	unready := missing
	unready.name = "unready"
	w.put("", missing, unready)
	w.commit("good")
	w.start()
	w.sync()
	before := w.running()
	sets := []string{w.setOf("missing"), w.setOf("unready")}

	missing.image = "localhost/nowhere:1"
	unready.image, unready.container = lab.TestImage+":2", `env: [{name: READY, value: "false"}]`
	w.put("", missing, unready)
	w.shows("before the push", 1, "diff .", "image: localhost/skerry-test:1 -> localhost/nowhere:1", "unready.yaml")
	w.commit("bad")
	stops := map[string]func() bounds{"missing": w.bounded("missing"), "unready": w.bounded("unready")}
	w.must("sync")
	// 25 % of 4: one more and one fewer. The old pod that may go goes at once, and a second new one has its place.
	w.untilRests("missing", reconcile.StateStuck, map[string]int{"1": 3})
	w.untilRests("unready", reconcile.StateStuck, map[string]int{"1": 3, "2": 2})
	w.until(long, "both new pods without an image", func(s api.Status) bool {
		n := 0
		for _, p := range s.Pods {
			if p.Phase == "ErrImagePull" || p.Phase == "ImagePullBackOff" {
				n++
			}
		}
		return n == 2
	})
	w.shows("held", 0, "status", "pull image localhost/nowhere:1: ", "container main is not ready: HTTP 503")
	for name, stop := range stops {
		b := stop()
		t.Logf("%s: %s", name, b)
		if b.ready < 3 || b.there > 5 {
			t.Errorf("%s: %s; 3 to 5 are allowed", name, b)
		}
		if pods := w.crew(name); len(pods) != 5 {
			t.Errorf("%s: 3 old and 2 new pods should be there, not %v", name, slices.Sorted(maps.Keys(pods)))
		}
		kept(t, before, w.running(), name, 1)
	}

	held := w.running()
	w.git("revert", "--no-edit", "HEAD")
	w.sync()
	for i, name := range []string{"missing", "unready"} {
		if set := w.setOf(name); set != sets[i] {
			t.Errorf("ReplicaSet %s runs, not %s", set, sets[i])
		}
		if got := w.split(name); !maps.Equal(got, map[string]int{"1": 4}) {
			t.Errorf("%s: these run: %v", name, got)
		}
		kept(t, before, w.running(), name, 1) // it went when the new ones came
	}
	for c, id := range before {
		if held[c] == id && w.running()[c] != id {
			t.Errorf("%s ran all the time, and was restarted by the revert", c)
		}
	}
}

// TestRollbackSticks: where that was opted for, a rollout that gets nowhere goes back by itself, and stays there until there is
// another commit. One source opts in; of the other one's, one Deployment does by itself, and one does not.
func TestRollbackSticks(t *testing.T) {
	w := newWorld(t)
	w.config(fmt.Sprintf(`  path: opted
  onFailure: rollback
- name: other
  url: file://%s
  branch: main
  interval: 1h
  path: plain
`, w.repo))
	web := app{name: "web", replicas: 4, image: w.image, spec: "progressDeadlineSeconds: 5"}
	asks := app{name: "asks", replicas: 1, image: w.image, spec: web.spec, annotations: "skerry.dev/on-failure: rollback"}
	holds := app{name: "holds", replicas: 1, image: w.image, spec: web.spec}
	push := func(title, image, spec string) (revision string) {
		for _, a := range []*app{&web, &asks, &holds} {
			a.image, a.spec = image, spec
		}
		w.put("opted", web)
		w.put("plain", asks, holds)
		w.commit(title)
		return w.git("rev-parse", "HEAD")
	}
	push("good", w.image, web.spec)
	w.start()
	w.sync()
	before := w.running()
	sets := map[string]string{"web": w.setOf("web"), "asks": w.setOf("asks")}

	bad := push("bad", "localhost/nowhere:1", web.spec)
	w.must("sync")
	w.untilRests("web", reconcile.StateRolledBack, map[string]int{"1": 4})
	w.untilRests("asks", reconcile.StateRolledBack, map[string]int{"1": 1})
	w.untilRests("holds", reconcile.StateStuck, map[string]int{"1": 1})
	back := w.running()
	stays := func(t *testing.T, but ...string) {
		t.Helper()
		for name, set := range sets {
			if now := w.setOf(name); now != set {
				t.Errorf("%s: ReplicaSet %s runs, not %s", name, now, set)
			}
		}
		if n := len(w.crew("holds")); n != 2 {
			t.Errorf("holds has %d pods; an old and a new one are right", n)
		}
		now := w.running()
		for c, id := range back {
			if now[c] != id && !slices.Contains(but, c) {
				t.Errorf("%s was restarted", c)
			}
		}
		if len(now) != len(back) {
			t.Errorf("these run: %v\nand these ran: %v", now, back)
		}
	}
	w.scene("to what never went", func(t *testing.T) {
		stays(t)
		kept(t, before, back, "web", 1) // 25 % of 4 is 1, and of 1 it is 0
		kept(t, before, back, "asks", 0)
		kept(t, before, back, "holds", 0)
	})
	w.scene("status names the commit", func(t *testing.T) {
		text := w.shows("rolled back", 0, "status")
		called := "bad: " + fleet.Revision(bad).Short()
		for name, is := range map[string]bool{"web": true, "asks": true, "holds": false} {
			if said := slices.ContainsFunc(strings.Split(text, "\n"), func(l string) bool {
				return strings.HasPrefix(l, "Deployment/default/"+name+" ") && strings.Contains(l, "RolledBack") && strings.Contains(l, called)
			}); said != is {
				t.Errorf("%v that a line for %s says RolledBack and %q", said, name, called)
			}
		}
		var s api.Status
		if err := json.Unmarshal([]byte(w.must("status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"web", "asks"} {
			if l := lineOf(s, name); l.Bad == nil || string(l.Bad.Revision) != bad || l.Bad.Why == "" || l.Available != l.Desired {
				t.Errorf("%s: %+v, bad %+v", name, l, l.Bad)
			}
		}
		if l := lineOf(s, "holds"); l.Bad != nil {
			t.Errorf("holds was not rolled back: %+v", l.Bad)
		}
	})
	names := slices.Sorted(maps.Keys(back)) // asks, holds, web
	w.scene("a sync of the same commit does not try again", func(t *testing.T) {
		w.must("sync")
		w.rung(names[len(names)-1])
		stays(t, names[len(names)-1])
	})
	w.scene("neither does an agent that is started after a kill", func(t *testing.T) {
		back = w.running()
		w.kill()
		w.podman.CLI(t, "kill", "--signal=KILL", names[len(names)-2])
		w.start()
		w.must("sync")
		w.untilBack(names[len(names)-2])
		stays(t, names[len(names)-2])
		if l := lineOf(w.status(), "web"); l.Bad == nil || string(l.Bad.Revision) != bad {
			t.Errorf("it has forgotten that the commit is bad: %+v", l)
		}
	})
	w.scene("another commit does, whatever is in it", func(t *testing.T) {
		w.write("opted/config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: unrelated}\n")
		w.commit("unrelated")
		w.must("sync")
		for name, pods := range map[string]int{"web": 5, "asks": 2} {
			w.until(long, name+" is tried again", func(s api.Status) bool { return lineOf(s, name).Bad == nil && len(w.crew(name)) == pods })
		}
	})
	w.scene("and a fix lands", func(t *testing.T) {
		push("fix", lab.TestImage+":2", "progressDeadlineSeconds: 600") // a busy machine may take its time
		w.sync()
		for name, n := range map[string]int{"web": 4, "asks": 1, "holds": 1} {
			if got := w.split(name); !maps.Equal(got, map[string]int{"2": n}) {
				t.Errorf("%s: these run: %v", name, got)
			}
			if l := lineOf(w.status(), name); l.Bad != nil || l.State != reconcile.StateReady {
				t.Errorf("%s: %+v", name, l)
			}
		}
	})
}

// TestCanarySteps: a rollout that goes by steps stays where nobody lets it go on, and where a new container ends. Each of three
// Deployments goes its own way from one commit.
func TestCanarySteps(t *testing.T) {
	w := newWorld(t)
	web := app{name: "web", replicas: 4, image: w.image, annotations: `skerry.dev/steps: "1, pause 3s, 50%, pause"`}
	stops := app{name: "stops", replicas: 2, image: w.image, annotations: `skerry.dev/steps: "1, pause 10m"`}
	returns := stops
	returns.name, returns.annotations = "returns", stops.annotations+", skerry.dev/on-failure: rollback"
	push := func(title, image string) (revision string) {
		web.image, stops.image, returns.image = image, image, image
		w.put("", web, stops, returns)
		w.commit(title)
		return w.git("rev-parse", "HEAD")
	}
	push("version 1", w.image)
	w.start()
	w.sync()
	before, set := w.running(), w.setOf("returns")

	second := push("version 2", lab.TestImage+":2")
	bounded := w.bounded("web")
	w.must("sync")
	w.until(long, "the first pause of web", func(s api.Status) bool {
		return lineOf(s, "web").Note == "step 2 of 4" && maps.Equal(w.split("web"), map[string]int{"1": 3, "2": 1})
	})
	w.shows("at the first pause", 0, "status", "pauses at step 2 of 4 until 20")
	w.scene("a new container that ends in a pause stops it, or takes it back", func(t *testing.T) {
		for _, name := range []string{"stops", "returns"} {
			w.untilRests(name, reconcile.StatePaused, map[string]int{"1": 1, "2": 1})
			for _, p := range w.crew(name) {
				if strings.HasSuffix(p.Spec.Containers[0].Image, ":2") {
					get(t, p.Status.PodIP, "/exit?code=3")
				}
			}
		}
		w.untilRests("stops", reconcile.StateStuck, map[string]int{"1": 1, "2": 1})
		w.untilRests("returns", reconcile.StateRolledBack, map[string]int{"1": 2})
		kept(t, before, w.running(), "stops", 1)
		kept(t, before, w.running(), "returns", 1)
		if now := w.setOf("returns"); now != set {
			t.Errorf("ReplicaSet %s runs, not %s", now, set)
		}
		s := w.status()
		if l := lineOf(s, "returns"); l.Bad == nil || string(l.Bad.Revision) != second || lineOf(s, "stops").Bad != nil || lineOf(s, "web").Bad != nil {
			t.Errorf("the commit should be called bad for this one alone: %+v", l)
		}
		w.shows("after the crash", 0, "status", "stopped at step 2 of 2: ", "revision "+fleet.Revision(second).Short()+" is bad for it")
	})
	w.scene("after the pause comes the next step", func(t *testing.T) {
		w.untilRests("web", reconcile.StatePaused, map[string]int{"1": 2, "2": 2})
		w.shows("at the second pause", 0, "status", "pauses at step 4 of 4 until somebody resumes it")
		w.shows("at the second pause", 0, "diff", "Nothing would change", "pauses at step 4 of 4 until somebody resumes it")
		if b := bounded(); b.ready < 3 || b.there > 5 {
			t.Errorf("%s; 3 to 5 are allowed", b)
		}
		if note := lineOf(w.status(), "web").Note; note != "step 4 of 4" {
			t.Errorf("it is at %q", note)
		}
		young := slices.DeleteFunc(slices.Collect(maps.Values(w.crew("web"))), func(p *corev1.Pod) bool {
			return !strings.HasSuffix(p.Spec.Containers[0].Image, ":2")
		})
		slices.SortFunc(young, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		// Both times are in whole seconds, cut off: what is three seconds apart is three apart in those, too.
		if rest := young[1].CreationTimestamp.Sub(conditionOf(young[0], corev1.PodReady).LastTransitionTime.Time); rest < 3*time.Second {
			t.Errorf("the second new pod came %s after the first was ready; a pause of 3 s is between", rest)
		}
	})
	w.scene("there it stays, whoever syncs and whatever dies", func(t *testing.T) {
		w.kill()
		old := ""
		for c, id := range w.running() {
			if strings.HasPrefix(c, "default_web-") && before[c] == id {
				old = c
			}
		}
		w.podman.CLI(t, "kill", "--signal=KILL", old)
		w.start()
		w.must("sync")
		w.untilBack(old)
		w.untilRests("web", reconcile.StatePaused, map[string]int{"1": 2, "2": 2})
		w.untilRests("stops", reconcile.StateStuck, map[string]int{"1": 1, "2": 1})
		w.untilRests("returns", reconcile.StateRolledBack, map[string]int{"1": 2})
	})
	w.scene("without the annotation it goes on, and with another version it begins anew", func(t *testing.T) {
		half := w.running()
		web.annotations = ""
		stops.container, returns.container = "env: [{name: MESSAGE, value: fixed}]", "env: [{name: MESSAGE, value: fixed}]"
		push("go on", lab.TestImage+":2")
		w.must("sync")
		for _, name := range []string{"stops", "returns"} {
			w.until(long, name+" is at its pause", func(s api.Status) bool {
				l := lineOf(s, name)
				return l.State == reconcile.StatePaused && l.Bad == nil && l.Updated == 1
			})
		}
		stops.annotations, returns.annotations = "", ""
		push("all of it", lab.TestImage+":2")
		w.sync()
		for name, n := range map[string]int{"web": 4, "stops": 2, "returns": 2} {
			if got := w.split(name); !maps.Equal(got, map[string]int{"2": n}) {
				t.Errorf("%s: these run: %v", name, got)
			}
		}
		for c, id := range half {
			if strings.HasPrefix(c, "default_web-") && before[c] == "" && w.running()[c] != id {
				t.Errorf("%s was new already, and is not there any more", c)
			}
		}
		for _, name := range []string{"stops", "returns"} {
			for _, p := range w.crew(name) {
				if got := get(t, p.Status.PodIP, "/"); !strings.HasPrefix(got, "fixed version=2 ") {
					t.Errorf("%s says %q", p.Name, got)
				}
			}
		}
	})
}

// TestRestartByConfig: a changed ConfigMap rolls who asks for that, and nobody else.
func TestRestartByConfig(t *testing.T) {
	w := newWorld(t)
	config := func(greeting string) {
		w.write("config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {MESSAGE: "+greeting+"}\n")
	}
	heeds := app{name: "heeds", replicas: 2, image: w.image, annotations: `skerry.dev/restart-on-config: "true"`, container: "envFrom: [{configMapRef: {name: conf}}]"}
	neighbour := heeds
	neighbour.name, neighbour.annotations = "neighbour", ""
	config("one")
	w.put("", heeds, neighbour)
	w.commit("one")
	w.start()
	w.sync()
	first, set := w.running(), w.setOf("heeds")
	says := func(t *testing.T, name, greeting string) {
		t.Helper()
		pods := w.crew(name)
		if len(pods) != 2 {
			t.Errorf("%s has %d pods", name, len(pods))
		}
		for _, p := range pods {
			if got := get(t, p.Status.PodIP, "/"); !strings.HasPrefix(got, greeting+" ") {
				t.Errorf("%s says %q, not %s", p.Name, got, greeting)
			}
		}
	}
	says(t, "heeds", "one")

	config("two")
	foretold := w.shows("before the push", 1, "diff .", "data.MESSAGE: one -> two", "default/heeds-")
	if strings.Contains(foretold, "neighbour") {
		t.Error("diff foretells something for the neighbour")
	}
	w.commit("two")
	bounded := w.bounded("heeds")
	w.sync()
	if b := bounded(); b.ready < 2 || b.there > 3 {
		t.Errorf("it rolled with %s; 2 to 3 are allowed", b)
	}
	second := w.running()
	for name := range w.crew("heeds") {
		if !strings.Contains(foretold, "start default/"+name+"/main") {
			t.Errorf("diff did not foretell %s", name)
		}
	}
	for c, id := range first {
		if mine := strings.HasPrefix(c, "default_heeds-"); mine == (second[c] == id) {
			t.Errorf("%s: %s before and %s now", c, id, second[c])
		}
	}
	says(t, "heeds", "two")
	says(t, "neighbour", "one")

	w.kill()
	w.start()
	w.sync()
	if diff := cmp.Diff(second, w.running()); diff != "" {
		t.Errorf("another agent restarted something: %s", diff)
	}
	w.git("revert", "--no-edit", "HEAD")
	w.sync()
	says(t, "heeds", "one")
	if now := w.setOf("heeds"); now != set {
		t.Errorf("ReplicaSet %s runs, not %s, which had that configuration", now, set)
	}
	kept(t, first, w.running(), "neighbour", 0)
}
