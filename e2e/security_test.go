package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
)

// one is a container that does these things, with more settings behind.
func one(name, image, command, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf("  - {name: %s, image: %q, command: [%s]%s}\n", name, image, command, more)
}

// fields are lines of the form `name: value`, as the modes caps and limits write them.
func fields(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[strings.TrimSuffix(name, ":")] = value
	}
	return all
}

// The numbers of capabilities.
const (
	capChown          = 0
	capNetBindService = 10
	capNetAdmin       = 12
	capSysResource    = 24
)

// effective is the set of capabilities that a process has, as /proc/PID/status has it.
func effective(t *testing.T, text string) uint64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return set
		}
	}
	t.Fatalf("no CapEff in %q", text)
	return 0
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestWhoContainersAre: users, groups and what may be none.
func TestWhoContainersAre(t *testing.T) {
	w := newWorld(t)
	w.write("users.yaml", podOf("users", "  restartPolicy: Never\n  securityContext: {runAsUser: 1500, runAsGroup: 2500, supplementalGroups: [7, 8]}\n  containers:\n"+
		one("pods", w.image, "id", "")+
		one("own", w.image, "id", "securityContext: {runAsUser: 1600}")+
		one("root", w.image, "id", "securityContext: {runAsUser: 0, runAsGroup: 0}")))
	w.write("images.yaml", podOf("images", "  restartPolicy: Never\n  containers:\n"+
		one("root", w.image, "id", "")+
		one("named", lab.TestImageUser, "id", "")+
		one("group", lab.TestImageUID, "id", "securityContext: {runAsGroup: 3000}")+
		one("both", lab.TestImageUIDGID, "id", "workingDir: /tmp")))
	w.write("nonroot.yaml", podOf("nonroot", "  securityContext: {runAsNonRoot: true}\n  containers:\n"+
		one("root", w.image, "sleep", "")+
		one("named", lab.TestImageUser, "sleep", "")+
		one("zero", lab.TestImageUID, "sleep", "securityContext: {runAsUser: 0}")+
		one("uid", lab.TestImageUID, "sleep", "")+
		one("asked", lab.TestImageUser, "sleep", "securityContext: {runAsUser: 1000}")+
		one("allowed", w.image, "sleep", "securityContext: {runAsNonRoot: false}")))
	w.commit("users")
	w.start()
	w.must("sync")

	t.Run("nobody is root who must not be, or may not be told from root", func(t *testing.T) {
		for container, why := range map[string]string{
			"root":  "container has runAsNonRoot and image will run as root",
			"named": "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
			"zero":  "container's runAsUser breaks non-root policy",
		} {
			w.untilWaits("nonroot", container, "CreateContainerConfigError", why)
		}
		for _, container := range []string{"uid", "asked", "allowed"} {
			w.untilRuns("nonroot", container)
		}
		for _, c := range w.containers() {
			if c.Pod == "nonroot" && (c.Container == "root" || c.Container == "named" || c.Container == "zero") {
				t.Errorf("there is a container all the same: %+v", c)
			}
		}
	})
	t.Run("the container's wish over the pod's over the image's", func(t *testing.T) {
		w.untilEnded("users", "images")
		for _, c := range []struct{ pod, container, want string }{
			{"users", "pods", "uid=1500 gid=2500 groups=[7 8] dir=/ host=users"},
			{"users", "own", "uid=1600 gid=2500 groups=[7 8] dir=/ host=users"},
			{"users", "root", "uid=0 gid=0 groups=[7 8] dir=/ host=users"},
			{"images", "root", "uid=0 gid=0 groups=[] dir=/ host=images"},
			{"images", "named", "uid=1000 gid=1000 groups=[] dir=/ host=images"},
			{"images", "group", "uid=1000 gid=3000 groups=[] dir=/ host=images"},
			{"images", "both", "uid=1000 gid=2000 groups=[] dir=/tmp host=images"},
		} {
			got := strings.TrimSpace(w.printed(c.pod, c.container))
			if sameGroups(got) != sameGroups(c.want) {
				t.Errorf("%s of %s is %s, want %s", c.container, c.pod, got, c.want)
			}
		}
	})
}

// sameGroups leaves the group of the process out of its supplemental ones: whether it is among them means nothing.
func sameGroups(id string) string {
	var uid, gid int
	if _, err := fmt.Sscanf(id, "uid=%d gid=%d", &uid, &gid); err != nil {
		return id
	}
	before, rest, _ := strings.Cut(id, "groups=[")
	groups, after, _ := strings.Cut(rest, "]")
	list := slices.DeleteFunc(strings.Fields(groups), func(g string) bool { return g == strconv.Itoa(gid) })
	return before + "groups=" + fmt.Sprint(list) + after
}

// untilEnded waits until pods have come to a good end.
func (w *world) untilEnded(pods ...string) {
	w.t.Helper()
	w.until(patience, fmt.Sprintf("%v have ended", pods), func(api.Status) bool {
		return !slices.ContainsFunc(pods, func(name string) bool {
			p, _ := w.shown(name)
			return p.Status.Phase != "Succeeded"
		})
	})
}

// TestWhatContainersMay: capabilities, filters, what is hidden, what is theirs of the machine.
func TestWhatContainersMay(t *testing.T) {
	w := newWorld(t)
	profiles := filepath.Join(w.dataDir(), "seccomp", "own")
	if err := os.MkdirAll(profiles, 0o755); err != nil {
		t.Fatal(err)
	}
	const profile = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`
	if err := os.WriteFile(filepath.Join(profiles, "nomkdir.json"), []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	security := func(more string) string { return "securityContext: {" + more + "}" }
	w.write("powers.yaml", podOf("powers", "  restartPolicy: Never\n  containers:\n"+
		one("plain", w.image, "caps", "")+
		one("none", w.image, "caps", security("capabilities: {drop: [ALL]}"))+
		one("one", w.image, "caps", security("capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}"))+
		one("more", w.image, "caps", security("capabilities: {add: [NET_ADMIN]}"))+
		one("less", w.image, "caps", security("capabilities: {drop: [CHOWN]}"))+
		one("user", w.image, "caps", security("runAsUser: 1000"))+
		one("all", w.image, "caps", security("privileged: true"))+
		one("locked", w.image, "caps", security("allowPrivilegeEscalation: false"))+
		one("unconfined", w.image, "caps", security("seccompProfile: {type: Unconfined}"))+
		one("default", w.image, "caps", security("seccompProfile: {type: RuntimeDefault}"))+
		one("masked", w.image, "mounts", "")+
		one("unmasked", w.image, "mounts", security("procMount: Unmasked"))))
	w.write("filters.yaml", podOf("filters", "  securityContext: {seccompProfile: {type: Localhost, localhostProfile: own/nomkdir.json}}\n  containers:\n"+
		one("local", w.image, "sleep", "")+
		one("free", w.image, "sleep", security("seccompProfile: {type: Unconfined}"))+
		one("missing", w.image, "sleep", security("seccompProfile: {type: Localhost, localhostProfile: own/none.json}"))))
	w.write("locked.yaml", podOf("locked", fmt.Sprintf(`
  containers:
  - {name: main, image: %s, args: [serve], securityContext: {readOnlyRootFilesystem: true}, volumeMounts: [{name: scratch, mountPath: /scratch}]}
  volumes: [{name: scratch, emptyDir: {}}]
`, w.image)))
	// Of the machine's resources.
	resources := func(more string) string { return "resources: {" + more + "}" }
	w.write("classes.yaml", strings.Join([]string{
		podOf("best", "  restartPolicy: Never\n  containers:\n"+one("main", w.image, "seq, caps, limits", "")),
		podOf("burst", "  restartPolicy: Never\n  containers:\n"+
			one("main", w.image, "seq, caps, limits", resources("requests: {memory: 256Mi, cpu: 250m}, limits: {memory: 512Mi}"))+
			one("tiny", w.image, "seq, caps, limits", resources("requests: {memory: 1, cpu: 1m}, limits: {cpu: 5m}"))+
			one("free", w.image, "seq, caps, limits", "")),
		podOf("sure", "  restartPolicy: Never\n  containers:\n"+one("main", w.image, "seq, caps, limits", resources("limits: {memory: 64Mi, cpu: 1500m}"))),
	}, "---\n"))
	w.commit("powers")
	w.start()
	w.must("sync")
	w.untilEnded("powers", "best", "burst", "sure")
	is := func(pod, container, field, want string) {
		t.Helper()
		text := w.printed(pod, container)
		if got, ok := fields(text)[field]; got != want || !ok {
			t.Errorf("%s of %s in %s is %q, want %s:\n%s", field, container, pod, got, want, text)
		}
	}

	t.Run("capabilities are added and dropped", func(t *testing.T) {
		plain := effective(t, w.printed("powers", "plain"))
		for container, want := range map[string]uint64{
			"none": 0, "one": 1 << capNetBindService, "more": plain | 1<<capNetAdmin, "less": plain &^ (1 << capChown), "user": 0,
			"all": effective(t, read(t, "/proc/self/status")),
		} {
			if got := effective(t, w.printed("powers", container)); got != want {
				t.Errorf("%s has the capabilities %x, want %x; one that asks for nothing has %x", container, got, want, plain)
			}
		}
		if plain == 0 || plain&(1<<capChown) == 0 || plain&(1<<capNetAdmin) != 0 {
			t.Errorf("one that asks for nothing has the capabilities %x", plain)
		}
	})
	t.Run("who may not gain rights does not", func(t *testing.T) {
		is("powers", "plain", "NoNewPrivs", "0")
		is("powers", "locked", "NoNewPrivs", "1")
	})
	t.Run("system calls are filtered by the profile that is asked for", func(t *testing.T) {
		for container, want := range map[string]string{"plain": "2", "default": "2", "unconfined": "0", "all": "0"} {
			is("powers", container, "Seccomp", want)
		}
		w.untilRuns("filters", "local")
		w.untilRuns("filters", "free")
		if out, code := w.within("filters", "local", "mkdir", "/tmp/new"); code == 0 || !strings.Contains(out, "operation not permitted") {
			t.Errorf("mkdir under a profile that forbids it: exit code %d: %s", code, out)
		}
		w.sees("filters", "free", "mkdir", "/tmp/new")
		// One that is not there is something to wait for, and to read of.
		name := filepath.Join(profiles, "none.json")
		w.until(patience, "status says that the profile is missing", func(api.Status) bool {
			waiting := w.stateOf("filters", "missing").State.Waiting
			return waiting != nil && strings.Contains(waiting.Message, name) && strings.Contains(w.must("status"), name)
		})
	})
	t.Run("what the kernel tells is hidden, unless it is not to be", func(t *testing.T) {
		for container, want := range map[string]bool{"masked": true, "unmasked": false} {
			text := w.printed("powers", container)
			// Which files there are to be hidden is the kernel's business; its settings are always there.
			if hidden := strings.Count(text, " /proc/"); strings.Contains(text, " /proc/sys ") != want || want && hidden < 3 || !want && hidden > 0 {
				t.Errorf("of %s:\n%s", container, text)
			}
		}
	})
	t.Run("a root that is read-only is, and nothing else with it", func(t *testing.T) {
		w.untilServes("locked")
		for _, path := range []string{"/new", "/tmp/new"} {
			if out, code := w.within("locked", "main", "write", path, "x"); code == 0 || !strings.Contains(out, "read-only file system") {
				t.Errorf("write to %s: exit code %d: %s", path, code, out)
			}
		}
		w.sees("locked", "main", "write", "/scratch/new", "x")
		w.sees("locked", "main", "write", "/dev/termination-log", "my last words")
		w.untilRestarted("locked", "main", 1)
		last := w.stateOf("locked", "main").LastTerminationState.Terminated
		if last == nil || last.Message != "my last words" || last.ExitCode != 1 {
			t.Errorf("its end was %+v", last)
		}
	})
	t.Run("requests and limits are in the cgroup", func(t *testing.T) {
		if _, v1 := fields(w.printed("best", "main"))["cpu.shares"]; !v1 {
			t.Skip("this machine has cgroup v2, whose files are others")
		}
		for _, c := range []struct{ pod, container, file, want string }{
			{"best", "main", "cpu.shares", "2"}, {"best", "main", "cpu.cfs_quota_us", "-1"},
			{"burst", "main", "cpu.shares", "256"}, {"burst", "main", "cpu.cfs_quota_us", "-1"}, {"burst", "main", "memory.limit_in_bytes", "536870912"},
			{"burst", "tiny", "cpu.shares", "2"}, {"burst", "tiny", "cpu.cfs_quota_us", "1000"}, {"burst", "tiny", "cpu.cfs_period_us", "100000"},
			{"burst", "free", "cpu.shares", "2"},
			{"sure", "main", "cpu.shares", "1536"}, {"sure", "main", "cpu.cfs_quota_us", "150000"}, {"sure", "main", "cpu.cfs_period_us", "100000"},
			{"sure", "main", "memory.limit_in_bytes", "67108864"},
		} {
			is(c.pod, c.container, c.file, c.want)
		}
		for _, c := range []struct{ pod, container string }{{"best", "main"}, {"burst", "tiny"}} {
			got := fields(w.printed(c.pod, c.container))["memory.limit_in_bytes"]
			if limit, err := strconv.ParseInt(got, 10, 64); err != nil || limit < 1<<50 {
				t.Errorf("the memory of %s is limited to %s", c.pod, got)
			}
		}
	})
	t.Run("who asked for least is killed first", func(t *testing.T) {
		least := -1000
		own := read(t, "/proc/self/status")
		if effective(t, own)&(1<<capSysResource) == 0 { // the kernel lets nobody be spared more than who makes it
			var err error
			if least, err = strconv.Atoi(strings.TrimSpace(read(t, "/proc/self/oom_score_adj"))); err != nil {
				t.Fatal(err)
			}
		}
		var total int64
		if _, err := fmt.Sscanf(read(t, "/proc/meminfo"), "MemTotal: %d kB", &total); err != nil {
			t.Fatal(err)
		}
		is("best", "main", "oom_score_adj", "1000")
		is("burst", "main", "oom_score_adj", strconv.FormatInt(1000-1000*(256<<10)/total, 10))
		is("burst", "tiny", "oom_score_adj", "999")
		is("burst", "free", "oom_score_adj", "999")
		is("sure", "main", "oom_score_adj", strconv.Itoa(max(-997, least)))
		for pod, class := range map[string]string{"best": "BestEffort", "burst": "Burstable", "sure": "Guaranteed"} {
			if p, _ := w.shown(pod); string(p.Status.QOSClass) != class {
				t.Errorf("%s is %s", pod, p.Status.QOSClass)
			}
		}
	})
}

// TestPodSecurity: what the node or a namespace forbids is not run, and the field is named.
func TestPodSecurity(t *testing.T) {
	w := newWorld(t)
	raw := read(t, filepath.Join(w.dir, "config.yaml"))
	if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(raw+"policy: {podSecurity: baseline}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(namespace, doc string) string {
		return strings.Replace(doc, "metadata: {", "metadata: {namespace: "+namespace+", ", 1)
	}
	pod := func(name, settings, security string) string {
		return podOf(name, settings+"  containers:\n"+one("main", lab.TestImageUID, "sleep", "securityContext: {"+security+"}"))
	}
	const restricted = "runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}"
	w.write("namespaces.yaml", `apiVersion: v1
kind: Namespace
metadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: free, labels: {pod-security.kubernetes.io/enforce: privileged}}
`)
	w.write("root.yaml", pod("root", "  hostNetwork: true\n", "privileged: true"))
	w.write("plain.yaml", pod("plain", "", ""))
	w.write("free.yaml", in("free", pod("powerful", "  hostPID: true\n", "privileged: true")))
	w.write("strict.yaml", in("strict", pod("plain", "", "")))
	w.write("careful.yaml", in("strict", pod("careful", "", restricted)))
	w.commit("policies")
	w.start()
	w.sync()
	var got []string
	for _, c := range w.containers() {
		if c.State == "running" {
			got = append(got, c.Name)
		}
	}
	slices.Sort(got)
	want := []string{"default_plain_main", "free_powerful_main", "strict_careful_main"}
	if !slices.Equal(got, want) {
		t.Errorf("these run: %v, want %v", got, want)
	}
	out := w.must("status")
	for _, line := range []string{
		"root.yaml:", `Pod/default/root: spec.hostNetwork: must not be true: the node (policy.podSecurity) enforces the Pod Security Standard "baseline"`,
		"spec.containers[0].securityContext.privileged", "strict.yaml:", "Pod/strict/plain: spec.containers[0].securityContext",
		`Namespace/strict enforces the Pod Security Standard "restricted"`,
	} {
		if !strings.Contains(out, line) {
			t.Errorf("status does not say %q:\n%s", line, out)
		}
	}
	w.write("root.yaml", pod("root", "", ""))
	w.commit("root is good now")
	w.sync()
	if w.idOf("root", "main") == "" {
		t.Error("what violates nothing any more does not run")
	}
}
