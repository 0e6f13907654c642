package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/reconcile"
)

// statefulSet is one of servers that are ready while there is a file open in /gate, a folder of /host for each of them. Each
// has a claim on /data. more are lines of its spec.
func (w *world) statefulSet(name string, replicas int, image, more string) string {
	w.t.Helper()
	if err := os.MkdirAll(w.host(""), 0o755); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %[1]s}
spec:
  serviceName: %[1]s
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
%[5]s  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: %[3]s
        args: [serve]
        env:
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: INDEX, valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}}
        readinessProbe: {exec: {command: [cat, /gate/open]}, periodSeconds: 1}
        volumeMounts:
        - {name: data, mountPath: /data}
        - {name: host, mountPath: /gate, subPathExpr: $(POD)}
      volumes: [{name: host, hostPath: {path: '%[4]s'}}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`, name, replicas, image, w.host(""), more)
}

// open makes a pod ready, and returns the moment before.
func (w *world) open(pod string) time.Time {
	w.t.Helper()
	before := time.Now()
	w.touch(filepath.Join(pod, "open"))
	return before
}

// shut makes a pod unready once it is asked again.
func (w *world) shut(pod string) {
	w.t.Helper()
	if err := os.Remove(w.host(filepath.Join(pod, "open"))); err != nil {
		w.t.Fatal(err)
	}
}

// object is what the Kubernetes API shows of one, or of a list.
func object[T any](w *world, path string) (o T) {
	w.t.Helper()
	body := w.raw(path)
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		w.t.Fatalf("%s: %v:\n%s", path, err, body)
	}
	return o
}

// life is how long a pod or one of its containers was there, by Podman's own account. The ends of those that still are
// there are zero.
type life struct {
	ID, Name string
	From, To time.Time
}

// lives are those of containers, from start to end, and of pods, from being made until being removed, by name and the
// first ones first.
func (w *world) lives(since time.Time) (containers, pods map[string][]life) {
	w.t.Helper()
	containers, pods = map[string][]life{}, map[string][]life{}
	out := w.podman.CLI(w.t, "events", "--stream=false", "--format=json", "--since="+since.Format(time.RFC3339Nano))
	for line := range strings.Lines(out) {
		var e struct {
			ID, Name, Status, Type string
			Time                   time.Time
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatalf("%v: %s", err, line)
		}
		of := containers
		if e.Type == "pod" {
			of = pods
		}
		list := of[e.Name]
		switch e.Type + " " + e.Status {
		case "container start", "pod create":
			of[e.Name] = append(list, life{ID: e.ID, Name: e.Name, From: e.Time})
		case "container died", "container remove", "pod remove":
			for i := range list {
				if list[i].ID == e.ID && list[i].To.IsZero() {
					list[i].To = e.Time
				}
			}
		}
	}
	return containers, pods
}

// starts are the pods whose container main was started, in order; their names begin like this.
func (w *world) starts(since time.Time, prefix string) []string {
	w.t.Helper()
	containers, _ := w.lives(since)
	var list []life
	for name, lived := range containers {
		if strings.HasPrefix(name, "default_"+prefix) && strings.HasSuffix(name, "_main") {
			list = append(list, lived...)
		}
	}
	slices.SortFunc(list, func(a, b life) int { return a.From.Compare(b.From) })
	var pods []string
	for _, l := range list {
		pods = append(pods, strings.TrimSuffix(strings.TrimPrefix(l.Name, "default_"), "_main"))
	}
	return pods
}

// neverTwice checks that nothing of a name was there twice at once.
func neverTwice(t *testing.T, all map[string][]life, prefix string) {
	t.Helper()
	seen := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		list := all[name]
		seen += len(list)
		for i := 1; i < len(list); i++ {
			if before := list[i-1]; before.To.IsZero() || list[i].From.Before(before.To) {
				t.Errorf("%s began anew before it had ended: %+v, and then %+v", name, before, list[i])
			}
		}
	}
	if seen == 0 {
		t.Errorf("Podman told of nothing that is called %s…: %v", prefix, slices.Sorted(maps.Keys(all)))
	}
}

func last(list []life) life {
	if len(list) == 0 {
		return life{}
	}
	return list[len(list)-1]
}

// mains are the running containers of pods by the pods' names.
func (w *world) mains(names ...string) map[string]string {
	w.t.Helper()
	running, ids := w.running(), map[string]string{}
	for _, name := range names {
		if id := running["default_"+name+"_main"]; id != "" {
			ids[name] = id
		}
	}
	return ids
}

// changed are the names whose IDs differ.
func changed(before, after map[string]string) []string {
	var names []string
	for name, id := range after {
		if before[name] != id {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestStatefulSet: pods with names of their own, one after another.
func TestStatefulSet(t *testing.T) {
	w := newWorld(t)
	began := time.Now()
	names := []string{"db-0", "db-1", "db-2"}
	set := func(tag, partition string) string {
		return w.statefulSet("db", 3, lab.TestImage+":"+tag, "  updateStrategy: {rollingUpdate: {partition: "+partition+"}}\n")
	}
	push := func(title, text string) {
		t.Helper()
		w.write("db.yaml", text)
		w.commit(title)
	}
	get := func() appsv1.StatefulSet {
		return object[appsv1.StatefulSet](w, "/apis/apps/v1/namespaces/default/statefulsets/db")
	}
	push("a database", set("1", "0"))
	w.start()
	w.must("sync")

	w.scene("they start one after another, each when the one before is ready", func(t *testing.T) {
		for i, name := range names {
			w.untilPod(name, "running", func(p *corev1.Pod) bool { return containerOf(p, "main").State.Running != nil })
			if got := w.starts(began, "db-"); !slices.Equal(got, names[:i+1]) {
				t.Errorf("before %s is ready these have started: %v", name, got)
			}
			opened := w.open(name)
			if i+1 == len(names) {
				break
			}
			next := names[i+1]
			w.untilPod(next, "running", func(p *corev1.Pod) bool { return containerOf(p, "main").State.Running != nil })
			containers, _ := w.lives(began)
			if from := last(containers["default_"+next+"_main"]).From; from.Before(opened) {
				t.Errorf("%s started at %s, and %s was ready after %s", next, from, name, opened)
			}
		}
		w.sync()
	})
	w.scene("each has a name, an ordinal and a volume of its own", func(t *testing.T) {
		pods := w.pods()
		for i, name := range names {
			if got := strings.TrimSpace(w.sees(name, "main", "hostname")); got != name {
				t.Errorf("the host name of %s is %q", name, got)
			}
			index := fmt.Sprint(i)
			if got := strings.Fields(w.sees(name, "main", "env", "POD", "INDEX")); !slices.Equal(got, []string{name, index}) {
				t.Errorf("%s has in its environment: %v", name, got)
			}
			labels := pods[name].Labels
			if labels["statefulset.kubernetes.io/pod-name"] != name || labels["apps.kubernetes.io/pod-index"] != index || labels["controller-revision-hash"] != get().Status.UpdateRevision {
				t.Errorf("%s has these labels, and the revision is %s: %v", name, get().Status.UpdateRevision, labels)
			}
			w.sees(name, "main", "write", "/data/note", name)
		}
		if diff := cmp.Diff([]string{"default_data-db-0", "default_data-db-1", "default_data-db-2"}, w.volumes()); diff != "" {
			t.Error(diff)
		}
	})
	keptData := func(t *testing.T) {
		t.Helper()
		for _, name := range names {
			if got := w.sees(name, "main", "cat", "/data/note"); got != name {
				t.Errorf("%s finds %q", name, got)
			}
		}
	}
	first := get().Status.UpdateRevision
	w.scene("an update begins at the top, waits there, and ends at the partition", func(t *testing.T) {
		before := w.mains(names...)
		w.shut("db-2")
		push("version 2, but for db-0", set("2", "1"))
		w.must("sync")
		w.untilPod("db-2", "of version 2 running", func(p *corev1.Pod) bool {
			return p.Spec.Containers[0].Image == lab.TestImage+":2" && containerOf(p, "main").State.Running != nil
		})
		opened := w.open("db-2")
		w.sync()
		after := w.mains(names...)
		if got := changed(before, after); !slices.Equal(got, []string{"db-1", "db-2"}) {
			t.Errorf("these were replaced: %v", got)
		}
		containers, _ := w.lives(began)
		if list := containers["default_db-1_main"]; len(list) != 2 || list[0].To.Before(opened) {
			t.Errorf("db-1 was stopped before db-2 was ready, after %s: %+v", opened, list)
		}
		s := get().Status
		if s.CurrentRevision != first || s.UpdateRevision == first || s.UpdatedReplicas != 2 || s.ReadyReplicas != 3 {
			t.Errorf("its status: %+v", s)
		}
		keptData(t)
	})
	w.scene("a pod below the partition comes back as it was", func(t *testing.T) {
		before := w.mains("db-0")
		w.podman.CLI(t, "pod", "rm", "--force", "--time=0", "default_db-0")
		w.untilPod("db-0", "ready again", func(p *corev1.Pod) bool { return ready(p) && len(changed(before, w.mains("db-0"))) == 1 })
		for _, c := range w.containers() {
			if c.Pod == "db-0" && c.Image != lab.TestImage+":1" {
				t.Errorf("db-0 came back with %s", c.Image)
			}
		}
		keptData(t)
	})
	w.scene("without a partition the rest follows", func(t *testing.T) {
		before := w.mains(names...)
		push("version 2", set("2", "0"))
		w.sync()
		if got := changed(before, w.mains(names...)); !slices.Equal(got, []string{"db-0"}) {
			t.Errorf("these were replaced: %v", got)
		}
		if s := get().Status; s.CurrentRevision != s.UpdateRevision || s.UpdatedReplicas != 3 {
			t.Errorf("its status: %+v", s)
		}
	})
	w.scene("a revert, in which the agent is killed, finds the old revision", func(t *testing.T) {
		before, pushed := w.mains(names...), time.Now()
		push("back to version 1", set("1", "0"))
		w.must("sync")
		w.untilPod("db-2", "of version 1 again", func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image == lab.TestImage+":1" })
		w.kill()
		w.start()
		w.sync()
		if got := changed(before, w.mains(names...)); !slices.Equal(got, names) {
			t.Errorf("these were replaced: %v", got)
		}
		if got := w.starts(pushed, "db-"); !slices.Equal(got, []string{"db-2", "db-1", "db-0"}) {
			t.Errorf("they started in this order: %v", got)
		}
		if s := get().Status; s.CurrentRevision != first || s.UpdateRevision != first {
			t.Errorf("its revision is not the first one, %s: %+v", first, s)
		}
		revisions := object[appsv1.ControllerRevisionList](w, "/apis/apps/v1/namespaces/default/controllerrevisions").Items
		numbers := map[string]int64{}
		for i := range revisions {
			numbers[revisions[i].Name] = revisions[i].Revision
		}
		if len(numbers) != 2 || numbers[first] != 3 {
			t.Errorf("there should be two, of which %s has the number 3: %v", first, numbers)
		}
		keptData(t)
	})
	w.scene("a revision that does not work stops at the first pod, and a fix goes on there", func(t *testing.T) {
		before := w.mains(names...)
		push("broken", strings.Replace(set("2", "0"), "/gate/open", "/gate/never", 1))
		w.must("sync")
		w.untilPod("db-2", "that is broken", func(p *corev1.Pod) bool {
			return p.Spec.Containers[0].Image == lab.TestImage+":2" && containerOf(p, "main").State.Running != nil
		})
		w.until(long, "why it goes no further", func(s api.Status) bool { return len(s.Waiting) == 1 && strings.Contains(s.Waiting[0].Text, "db-2") })
		if got := changed(before, w.mains(names...)); !slices.Equal(got, []string{"db-2"}) {
			t.Errorf("these were replaced: %v", got)
		}
		push("fixed", set("2", "0"))
		w.sync()
		if got := changed(before, w.mains(names...)); !slices.Equal(got, names) {
			t.Errorf("these were replaced: %v", got)
		}
		keptData(t)
	})
	w.scene("it gets smaller from the top, one after another, and keeps the volumes", func(t *testing.T) {
		before := w.mains(names...)
		smaller := strings.Replace(set("2", "0"), "replicas: 3", "replicas: 1", 1)
		push("one will do", smaller)
		w.sync()
		if diff := cmp.Diff(map[string]string{"db-0": before["db-0"]}, w.mains(names...)); diff != "" {
			t.Error(diff)
		}
		containers, pods := w.lives(began)
		if gone, told := last(pods["default_db-2"]).To, last(containers["default_db-1_main"]).To; gone.IsZero() || told.Before(gone) {
			t.Errorf("db-2 was gone at %s, and db-1 ended at %s", gone, told)
		}
		if got := w.volumes(); len(got) != 3 {
			t.Errorf("these volumes are left: %v", got)
		}
		push("three again", set("2", "0"))
		w.sync()
		keptData(t)
	})
	w.scene("no name was ever there twice", func(t *testing.T) {
		containers, pods := w.lives(began)
		neverTwice(t, containers, "default_db-")
		neverTwice(t, pods, "default_db-")
		if n := len(pods["default_db-2"]); n != 6 {
			t.Errorf("db-2 was made %d times: %+v", n, pods["default_db-2"])
		}
	})
}

// daemonSet is one of sleepers that are ready while there is a file open-VERSION in /host. more are lines of its pods' spec.
func (w *world) daemonSet(name, tag, strategy, more string) string {
	w.t.Helper()
	if err := os.MkdirAll(w.host(""), 0o755); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: DaemonSet
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  updateStrategy: {rollingUpdate: %[4]s}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
%[6]s      containers:
      - name: main
        image: %[2]s:%[3]s
        args: [sleep]
        readinessProbe: {exec: {command: [cat, /host/open-%[3]s]}, periodSeconds: 1}
        volumeMounts: [{name: host, mountPath: /host}]
      volumes: [{name: host, hostPath: {path: '%[5]s'}}]
`, name, lab.TestImage, tag, strategy, w.host(""), more)
}

// TestDaemonSet: one pod on the node, or none.
func TestDaemonSet(t *testing.T) {
	w := newWorld(t)
	began := time.Now()
	push := func(title, text string) {
		t.Helper()
		w.write("log.yaml", text)
		w.commit(title)
	}
	const one, beside = "{maxUnavailable: 1}", "{maxSurge: 1, maxUnavailable: 0}"
	// only is the one pod, which must be of that version; with its containers so far.
	only := func(t *testing.T, tag string) (pod string, lived []life) {
		t.Helper()
		list := w.containers()
		if len(list) != 1 || list[0].State != "running" || list[0].Image != lab.TestImage+":"+tag {
			t.Fatalf("one pod of version %s should run: %+v", tag, list)
		}
		containers, _ := w.lives(began)
		return list[0].Pod, containers[list[0].Name]
	}
	push("one on each node", w.daemonSet("log", "1", one, ""))
	w.touch("open-1")
	w.touch("open-2")
	w.start()
	w.sync()
	first, _ := only(t, "1")
	revision := func() string { return onlyValue(t, w.pods()).Labels["controller-revision-hash"] }
	old := revision()

	w.scene("an update takes the old pod down first", func(t *testing.T) {
		push("version 2", w.daemonSet("log", "2", one, ""))
		w.sync()
		_, lived := only(t, "2")
		containers, _ := w.lives(began)
		if before := last(containers["default_"+first+"_main"]); before.To.IsZero() || last(lived).From.Before(before.To) {
			t.Errorf("the new one began before the old one had ended: %+v, %+v", before, lived)
		}
	})
	w.scene("with surge the new one comes first, and the agent may be killed meanwhile", func(t *testing.T) {
		second, _ := only(t, "2")
		if err := os.Remove(w.host("open-1")); err != nil {
			t.Fatal(err)
		}
		w.kill() // the next one has to see what serves before it makes room
		push("version 1 again, beside", w.daemonSet("log", "1", beside, ""))
		w.start()
		w.until(long, "both run", func(s api.Status) bool { return len(w.running()) == 2 })
		w.kill()
		w.start()
		w.must("sync")
		opened := time.Now()
		w.touch("open-1")
		w.sync()
		_, lived := only(t, "1")
		containers, _ := w.lives(began)
		if before := last(containers["default_"+second+"_main"]); before.To.Before(opened) {
			t.Errorf("the old one ended at %s, the new one was ready after %s: %+v", before.To, opened, lived)
		}
		if got := revision(); got != old {
			t.Errorf("version 1 is revision %s now, it was %s", got, old)
		}
	})
	w.scene("a node that it does not select has none, until it does", func(t *testing.T) {
		push("elsewhere", w.daemonSet("log", "1", one, "      nodeSelector: {kubernetes.io/hostname: beta}\n"))
		w.sync()
		if list := w.containers(); len(list) != 0 {
			t.Errorf("left over: %+v", list)
		}
		w.git("revert", "--no-edit", "HEAD")
		w.sync()
		only(t, "1")
		if got := revision(); got != old {
			t.Errorf("after the revert its revision is %s, it was %s", got, old)
		}
		push("here", w.daemonSet("log", "1", one, "      nodeSelector: {kubernetes.io/hostname: alpha}\n"))
		w.sync()
		only(t, "1")
	})
	w.scene("whoever kills it has it back", func(t *testing.T) {
		name, _ := only(t, "1")
		before := w.mains(name)
		w.podman.CLI(t, "pod", "rm", "--force", "--time=0", "default_"+name)
		w.until(long, "another container", func(s api.Status) bool { return s.Settled && len(changed(before, w.mains(name))) == 1 })
		if again, _ := only(t, "1"); again != name {
			t.Errorf("pod %s came back as %s", name, again)
		}
	})
}

// onlyValue is that of a map that should have but one.
func onlyValue[T any](t *testing.T, m map[string]T) (only T) {
	t.Helper()
	if len(m) != 1 {
		t.Fatalf("there should be one: %v", slices.Sorted(maps.Keys(m)))
	}
	for _, v := range m {
		only = v
	}
	return only
}

// annotated is a manifest whose object, a Deployment that deployment made, has an annotation.
func annotated(text, name, annotation string) string {
	return strings.Replace(text, "metadata: {name: "+name+"}", "metadata: {name: "+name+", annotations: {"+annotation+"}}", 1)
}

// untilWorkload waits until one is in a state, and returns what status has to say of it, a line each.
func (w *world) untilWorkload(name string, state reconcile.State) (notes string) {
	w.t.Helper()
	w.until(long, name+" "+string(state), func(s api.Status) bool {
		var lines []string
		for _, n := range slices.Concat(s.Waiting, s.Notes) {
			if n.About.Name == name {
				lines = append(lines, n.Text)
			}
		}
		notes = strings.Join(lines, "\n")
		return slices.ContainsFunc(s.Workloads, func(x reconcile.Workload) bool { return x.ID.Name == name && x.State == state })
	})
	return notes
}

// TestDependsOn: who waits for what.
func TestDependsOn(t *testing.T) {
	w := newWorld(t)
	began := time.Now()
	app := func(tag string) string {
		return annotated(deployment("app", 2, lab.TestImage+":"+tag, ""), "app", `skerry.dev/depends-on: "Job/migrate, StatefulSet/db"`)
	}
	w.job("migrate", "backoffLimit: 0", "until /host/migrate-1")
	w.write("db.yaml", w.statefulSet("db", 1, w.image, ""))
	w.write("app.yaml", app("1"))
	w.job("bad", "backoffLimit: 0", "exit 1")
	w.write("held.yaml", annotated(deployment("held", 1, w.image, ""), "held", "skerry.dev/depends-on: Job/bad"))
	w.write("free.yaml", deployment("free", 1, w.image, ""))
	w.commit("all at once")
	w.start()
	w.must("sync")
	has := func(t *testing.T, name string, n int) {
		t.Helper()
		got := 0
		for _, c := range w.containers() {
			if strings.HasPrefix(c.Pod, name+"-") {
				got++
			}
		}
		if got != n {
			t.Errorf("%s has %d pods", name, got)
		}
	}
	says := func(t *testing.T, notes, want string) {
		t.Helper()
		if !strings.Contains(notes, want) {
			t.Errorf("status does not say %q, but\n%s", want, notes)
		}
	}
	w.scene("a Job that failed holds only who waits for it", func(t *testing.T) {
		w.untilWorkload("free", reconcile.StateReady)
		w.untilWorkload("bad", reconcile.StateFailed)
		w.until(long, "why held waits", func(api.Status) bool {
			return strings.Contains(w.untilWorkload("held", reconcile.StateWaiting), "failed")
		})
		says(t, w.untilWorkload("held", reconcile.StateWaiting), "waits for Job/bad, which failed: Job has reached the specified backoff limit (skerry.dev/depends-on)")
		has(t, "held", 0)
		has(t, "free", 1)
	})
	w.scene("it waits for a Job to be complete and a StatefulSet to be ready", func(t *testing.T) {
		says(t, w.untilWorkload("app", reconcile.StateWaiting), "waits for Job/migrate to be complete, and for StatefulSet/db to be ready (skerry.dev/depends-on)")
		w.kill()
		w.start()
		w.touch("migrate-1")
		w.untilWorkload("migrate", reconcile.StateComplete)
		has(t, "app", 0)
		says(t, w.untilWorkload("app", reconcile.StateWaiting), "waits for StatefulSet/db to be ready (skerry.dev/depends-on)")
		opened := w.open("db-0")
		w.untilWorkload("app", reconcile.StateReady)
		has(t, "app", 2)
		containers, _ := w.lives(began)
		for name, list := range containers {
			if strings.HasPrefix(name, "default_app-") && list[0].From.Before(opened) {
				t.Errorf("%s started at %s, the StatefulSet was ready after %s", name, list[0].From, opened)
			}
		}
	})
	w.scene("what runs does not stop when that for which it waited is not ready", func(t *testing.T) {
		before := w.running()
		w.shut("db-0")
		w.untilWorkload("db", reconcile.StateProgressing)
		has(t, "app", 2)
		w.open("db-0")
		w.untilWorkload("db", reconcile.StateReady)
		if diff := cmp.Diff(before, w.running()); diff != "" {
			t.Error(diff)
		}
	})
	w.scene("a next version waits for the next Job, and the old one runs", func(t *testing.T) {
		w.job("migrate", "backoffLimit: 0", "until /host/migrate-2")
		w.write("app.yaml", app("2"))
		w.job("bad", "backoffLimit: 0", "exit 0")
		w.commit("version 2, and what was bad is good")
		w.must("sync")
		says(t, w.untilWorkload("app", reconcile.StateWaiting), "waits for Job/migrate to be complete (skerry.dev/depends-on)")
		w.untilWorkload("held", reconcile.StateReady)
		for _, c := range w.containers() {
			if strings.HasPrefix(c.Pod, "app-") && c.Image != lab.TestImage+":1" {
				t.Errorf("%s runs %s already", c.Pod, c.Image)
			}
		}
		w.touch("migrate-2")
		w.sync()
		has(t, "app", 2)
		for _, c := range w.containers() {
			if strings.HasPrefix(c.Pod, "app-") && c.Image != lab.TestImage+":2" {
				t.Errorf("%s runs %s", c.Pod, c.Image)
			}
		}
	})
}

// TestPrune: what stays when its file is gone, and what does not.
func TestPrune(t *testing.T) {
	w := newWorld(t)
	kept := annotated(deployment("kept", 1, w.image, ""), "kept", `skerry.dev/prune: "false"`)
	w.write("config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there}\n") // or nothing would be left in the end
	w.write("kept.yaml", kept)
	w.write("gone.yaml", deployment("gone", 1, w.image, ""))
	w.write("stays.yaml", claimDoc("stays", ""))
	w.write("goes.yaml", claimDoc("goes", "true"))
	w.write("user.yaml", w.claimUser("user", "goes", "")+"---\n"+w.claimUser("other", "stays", ""))
	w.commit("all")
	w.start()
	w.sync()
	pods := func() (list []string) {
		for name := range w.pods() {
			list = append(list, strings.Split(name, "-")[0])
		}
		slices.Sort(list)
		return list
	}
	w.scene("it is kept, and looked after", func(t *testing.T) {
		before := w.running()
		for _, name := range []string{"kept", "gone", "stays", "goes"} {
			w.remove(name + ".yaml")
		}
		w.commit("most files go")
		w.sync()
		if diff := cmp.Diff([]string{"kept", "other", "user"}, pods()); diff != "" {
			t.Fatal(diff)
		}
		for name, id := range w.running() {
			if before[name] != id {
				t.Errorf("%s was restarted", name)
			}
		}
		w.kill()
		w.start()
		w.sync()
		for _, c := range w.containers() {
			if strings.HasPrefix(c.Pod, "kept-") {
				before := w.mains(c.Pod)
				w.podman.CLI(t, "rm", "--force", "--time=0", c.ID)
				w.until(long, "that it is back", func(s api.Status) bool { return s.Settled && len(changed(before, w.mains(c.Pod))) == 1 })
			}
		}
		out, _, code := w.run("diff")
		if code != 0 {
			t.Errorf("diff: %d\n%s", code, out)
		}
	})
	w.scene("a claim's volume goes with its last pod where it said so", func(t *testing.T) {
		w.remove("user.yaml")
		w.commit("nobody uses the claims")
		w.sync()
		w.until(long, "that one volume is left", func(api.Status) bool { return slices.Equal(w.volumes(), []string{"default_stays"}) })
	})
	w.scene("delete takes it down", func(t *testing.T) {
		path := filepath.Join(w.dir, "kept.yaml")
		if err := os.WriteFile(path, []byte(kept), 0o600); err != nil {
			t.Fatal(err)
		}
		w.must("delete", path)
		w.sync()
		if got := pods(); len(got) > 0 {
			t.Errorf("left over: %v", got)
		}
	})
}
