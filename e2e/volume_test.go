package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
)

// patience is how long something may take that takes a moment on a machine that is not busy.
const patience = 60 * time.Second

// podOf is a Pod of these lines of a spec, which are indented by two.
func podOf(name, spec string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", labels: {app: " + name + "}}\nspec:\n  terminationGracePeriodSeconds: 2\n" +
		strings.TrimPrefix(spec, "\n")
}

// within runs one of the test image's modes beside a container of the namespace default, with its rights, and returns
// what it wrote, to stderr as well.
func (w *world) within(pod, container string, command ...string) (output string, code int) {
	w.t.Helper()
	code, raw, err := w.machine.Exec(w.t.Context(), "default_"+pod+"_"+container, command)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(raw), code
}

// sees is within for a command that must work.
func (w *world) sees(pod, container string, command ...string) string {
	w.t.Helper()
	out, code := w.within(pod, container, command...)
	if code != 0 {
		w.t.Errorf("%v in container %s of %s: exit code %d: %s", command, container, pod, code, out)
	}
	return out
}

// printed is all that a container wrote which has ended.
func (w *world) printed(pod, container string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	transport := unixTransport(w.podman.Socket())
	defer transport.CloseIdleConnections()
	address := "http://podman/v4.0.0/libpod/containers/" + url.PathEscape("default_"+pod+"_"+container) + "/logs?stdout=true&stderr=true"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		w.t.Fatalf("log of %s in %s: %s, %v: %s", container, pod, response.Status, err, raw)
	}
	// Each piece has a header of eight bytes, which ends in its length.
	var b strings.Builder
	for len(raw) >= 8 {
		n := int(raw[4])<<24 | int(raw[5])<<16 | int(raw[6])<<8 | int(raw[7])
		raw = raw[8:]
		b.Write(raw[:min(n, len(raw))])
		raw = raw[min(n, len(raw)):]
	}
	return b.String()
}

// shown is a pod of the namespace default as Kubernetes would show it, and whether it is there.
func (w *world) shown(name string) (p corev1.Pod, there bool) {
	w.t.Helper()
	raw := []byte(w.raw("/api/v1/namespaces/default/pods/" + name))
	var kind struct{ Kind string }
	if err := json.Unmarshal(raw, &kind); err != nil {
		w.t.Fatal(err)
	}
	if kind.Kind != "Pod" { // there is none
		return p, false
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		w.t.Fatal(err)
	}
	return p, true
}

// stateOf is how a container is; the zero state when there is no such pod yet.
func (w *world) stateOf(pod, container string) corev1.ContainerStatus {
	w.t.Helper()
	p, _ := w.shown(pod)
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if s.Name == container {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

// waits reports whether a container waits for that reason, with all these words in its message.
func (w *world) waits(pod, container, reason string, words ...string) bool {
	w.t.Helper()
	waiting := w.stateOf(pod, container).State.Waiting
	return waiting != nil && waiting.Reason == reason && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(waiting.Message, word) })
}

// untilWaits waits until a container waits like that, and has status say so.
func (w *world) untilWaits(pod, container, reason string, words ...string) {
	w.t.Helper()
	w.until(patience, fmt.Sprintf("%s of %s waits: %s %q", container, pod, reason, words), func(api.Status) bool { return w.waits(pod, container, reason, words...) })
	out := w.must("status")
	for _, word := range words {
		if !strings.Contains(out, word) {
			w.t.Errorf("status does not say %q:\n%s", word, out)
		}
	}
}

// untilRuns waits until a container runs.
func (w *world) untilRuns(pod, container string) {
	w.t.Helper()
	w.until(patience, container+" of "+pod+" runs", func(api.Status) bool { return w.stateOf(pod, container).State.Running != nil })
}

// untilRestarted has the server of a container end, and waits until it runs for the nth time again.
func (w *world) untilRestarted(pod, container string, restarts int32) {
	w.t.Helper()
	_ = get(w.t, w.address(pod), "/exit?code=1")
	w.until(patience, container+" of "+pod+" runs again", func(api.Status) bool {
		s := w.stateOf(pod, container)
		return s.RestartCount == restarts && s.State.Running != nil
	})
	w.untilServes(pod)
}

// untilServes waits for the port of a server that was just started.
func (w *world) untilServes(pod string) {
	w.t.Helper()
	ip := w.address(pod)
	for began := time.Now(); get(w.t, ip, "/healthz") == ""; {
		if time.Since(began) > patience {
			w.t.Fatalf("%s does not serve", pod)
		}
	}
}

// address is a pod's IP.
func (w *world) address(pod string) string {
	w.t.Helper()
	p, _ := w.shown(pod)
	if p.Status.PodIP == "" {
		w.t.Fatalf("%s has no address", pod)
	}
	return p.Status.PodIP
}

// container is Podman's ID of the container that runs in a pod of the namespace default.
func (w *world) idOf(pod, container string) string {
	w.t.Helper()
	return w.running()["default_"+pod+"_"+container]
}

// lies is where on the machine a mount of a container comes from.
func (w *world) lies(pod, container, target string) string {
	w.t.Helper()
	return w.podman.CLI(w.t, "inspect", "--format", `{{range .Mounts}}{{if eq .Destination "`+target+`"}}{{.Source}}{{end}}{{end}}`, "default_"+pod+"_"+container)
}

func inMemory(t *testing.T, path string) bool {
	t.Helper()
	const tmpfs = 0x01021994
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Type == tmpfs
}

// TestVolumesOfTwoPods: two pods whose volumes have the same names. `podman kube play` gives them one and the same.
func TestVolumesOfTwoPods(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"one", "two"} {
		w.write(name+".yaml", fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: conf-%[1]s}
data: {greeting: hello from %[1]s, only-%[1]s: "yes"}
---
apiVersion: v1
kind: Secret
metadata: {name: sec-%[1]s}
stringData: {token: token-%[1]s}
---
`, name)+podOf(name, fmt.Sprintf(`
  containers:
  - name: web
    image: %[2]s
    args: [serve]
    volumeMounts: &mounts
    - {name: scratch, mountPath: /scratch}
    - {name: memory, mountPath: /memory}
    - {name: conf, mountPath: /conf}
    - {name: sec, mountPath: /sec}
    - {name: scratch, mountPath: /look, readOnly: true}
  - name: side
    image: %[2]s
    command: [sleep]
    volumeMounts: *mounts
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 64Ki}}
  - {name: conf, configMap: {name: conf-%[1]s}}
  - {name: sec, secret: {secretName: sec-%[1]s, defaultMode: 0400}}
`, name, w.image)))
	}
	w.commit("two pods")
	w.start()
	w.sync()
	uid := map[string]string{}
	for _, c := range w.containers() {
		uid[c.Pod] = c.UID
	}

	t.Run("an emptyDir is open to everybody, and what one container writes the other one reads", func(t *testing.T) {
		for _, dir := range []string{"/scratch", "/memory"} {
			if got, want := w.sees("one", "web", "stat", dir), "dir 0777 0 0 "+dir+"\n"; got != want {
				t.Errorf("%s is %q, want %q", dir, got, want)
			}
			w.sees("one", "side", "write", dir+"/note", "from the side")
			if got := w.sees("one", "web", "cat", dir+"/note"); got != "from the side" {
				t.Errorf("the other container reads %q from %s", got, dir)
			}
		}
		if got := w.sees("one", "web", "cat", "/look/note"); got != "from the side" {
			t.Errorf("a second mount of it shows %q", got)
		}
	})
	t.Run("what is mounted to be read is not written to", func(t *testing.T) {
		for _, dir := range []string{"/look", "/conf", "/sec"} {
			if out, code := w.within("one", "web", "write", dir+"/new", "x"); code == 0 || !strings.Contains(out, "read-only file system") {
				t.Errorf("write to %s: exit code %d: %s", dir, code, out)
			}
		}
	})
	t.Run("the other pod shares no byte of it", func(t *testing.T) {
		for _, dir := range []string{"/scratch", "/memory"} {
			if got := w.sees("two", "side", "ls", dir); got != "" {
				t.Errorf("%s has %q", dir, got)
			}
		}
		for pod, other := range map[string]string{"one": "two", "two": "one"} {
			if got := w.sees(pod, "web", "cat", "/conf/greeting", "/sec/token"); got != "hello from "+pod+"token-"+pod {
				t.Errorf("%s reads %q", pod, got)
			}
			if out, code := w.within(pod, "web", "cat", "/conf/only-"+other); code == 0 {
				t.Errorf("%s reads the other's key: %q", pod, out)
			}
			if got := w.sees(pod, "web", "ls", "/sec/token"); !strings.HasPrefix(got, "-r-------- 0 0 ") {
				t.Errorf("the secret's file is %q", got)
			}
		}
	})
	t.Run("memory is one tmpfs of that size for the pod", func(t *testing.T) {
		if !inMemory(t, w.lies("one", "web", "/memory")) || inMemory(t, w.lies("one", "web", "/scratch")) != inMemory(t, w.dir) {
			t.Error("memory is not in memory, or scratch is")
		}
		most := strings.Repeat("x", 50_000)
		w.sees("one", "side", "write", "/memory/most", most)
		if out, code := w.within("one", "web", "write", "/memory/more", most); code == 0 || !strings.Contains(out, "no space left on device") {
			t.Errorf("100 kB in 64 KiB: exit code %d: %s", code, out)
		}
		w.sees("two", "web", "write", "/memory/more", most) // the other pod has its own
		w.sees("one", "web", "write", "/scratch/more", most)
	})
	t.Run("both outlive the container, and a crash of it", func(t *testing.T) {
		before := w.idOf("one", "side")
		w.untilRestarted("one", "web", 1)
		for _, dir := range []string{"/scratch", "/memory"} {
			if got := get(t, w.address("one"), "/file?path="+dir+"/note"); got != "from the side" {
				t.Errorf("after the restart %s has %q", dir, got)
			}
		}
		if now := w.idOf("one", "side"); now != before {
			t.Error("the other container was restarted, too")
		}
	})
	t.Run("and the namespaces of the pod", func(t *testing.T) {
		before := w.idOf("one", "side")
		w.podman.CLI(t, "pod", "rm", "--force", "--time", "0", "default_one")
		w.until(patience, "the pod again", func(api.Status) bool {
			now := w.idOf("one", "side")
			return now != "" && now != before
		})
		for _, dir := range []string{"/scratch", "/memory"} {
			if got := w.sees("one", "side", "cat", dir+"/note"); got != "from the side" {
				t.Errorf("then %s has %q", dir, got)
			}
		}
	})
	t.Run("and go with the pod", func(t *testing.T) {
		lay := w.lies("one", "side", "/memory")
		w.remove("one.yaml")
		w.commit("one goes")
		w.sync()
		for _, path := range []string{lay, filepath.Join(w.dataDir(), "pods", uid["one"])} {
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("%s: %v, want it gone", path, err)
			}
		}
		if got := w.sees("two", "side", "cat", "/memory/more"); len(got) == 0 {
			t.Error("the other pod's went with it")
		}
	})
}

// TestFilesFollowGit: what the agent writes into volumes follows its sources, in pods that run on.
func TestFilesFollowGit(t *testing.T) {
	const planted = "hunter7-in-a-projection"
	w := newWorld(t)
	config := func(version string) {
		w.write("config.yaml", fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: live}
data: {greeting: greeting-%[1]s, left: %[1]s, right: %[1]s}
---
apiVersion: v1
kind: Secret
metadata: {name: live}
stringData: {token: %[2]s-%[1]s}
`, version, planted))
	}
	pod := func(tier string) {
		w.write("pod.yaml", strings.Replace(podOf("live", fmt.Sprintf(`
  containers:
  - name: main
    image: %s
    args: [serve]
    env: [{name: GREETING, valueFrom: {configMapKeyRef: {name: live, key: greeting}}}]
    resources: {limits: {memory: 32Mi, cpu: 1500m}, requests: {cpu: 250m}}
    volumeMounts:
    - {name: all, mountPath: /all}
    - {name: down, mountPath: /down}
    - {name: conf, mountPath: /conf}
    - {name: conf, mountPath: /one/greeting, subPath: greeting}
    - {name: all, mountPath: /two/token, subPath: token}
  volumes:
  - name: all
    projected:
      defaultMode: 0440
      sources:
      - configMap: {name: live, items: [{key: greeting, path: deep/greeting, mode: 0444}]}
      - secret: {name: live, items: [{key: token, path: token}]}
      - configMap: {name: none, optional: true}
      - downwardAPI:
          items:
          - {path: meta/name, fieldRef: {fieldPath: metadata.name}}
          - {path: meta/memory, resourceFieldRef: {containerName: main, resource: limits.memory, divisor: 1Mi}}
  - name: down
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: annotations, fieldRef: {fieldPath: metadata.annotations}}
      - {path: one, fieldRef: {fieldPath: "metadata.labels['tier']"}}
      - {path: cpu, mode: 0400, resourceFieldRef: {containerName: main, resource: limits.cpu}}
      - {path: asked, resourceFieldRef: {containerName: main, resource: requests.cpu, divisor: 1m}}
  - name: conf
    configMap: {name: live}
`, w.image)), "{app: live}", "{app: live, tier: "+tier+"}, annotations: {team: \"sea \\\"side\\\"\"}", 1))
	}
	config("v1")
	pod("front")
	w.commit("v1")
	w.start()
	w.sync()
	before := w.running()
	ip := w.address("live")
	w.untilServes("live")
	has := func(path, want string) {
		t.Helper()
		if got := get(t, ip, "/file?path="+path); got != want {
			t.Errorf("%s has %q, want %q", path, got, want)
		}
	}

	t.Run("a projection has its parts, where and as they are wanted", func(t *testing.T) {
		has("/all/deep/greeting", "greeting-v1")
		has("/all/token", planted+"-v1")
		has("/all/meta/name", "live")
		has("/all/meta/memory", "32")
		has("/down/labels", "app=\"live\"\ntier=\"front\"")
		has("/down/annotations", `team="sea \"side\""`)
		has("/down/one", "front")
		has("/down/cpu", "2") // 1.5, rounded up
		has("/down/asked", "250")
		for path, mode := range map[string]string{"/all/deep/greeting": "-r--r--r--", "/all/token": "-r--r-----", "/down/cpu": "-r--------", "/down/one": "-rw-r--r--"} {
			if got := w.sees("live", "main", "ls", path); !strings.HasPrefix(got, mode+" 0 0 ") {
				t.Errorf("%s is %q, want %s", path, got, mode)
			}
		}
	})
	t.Run("one that holds a secret is in memory alone, a single file of it as well", func(t *testing.T) {
		for _, target := range []string{"/all", "/two/token"} {
			if !inMemory(t, w.lies("live", "main", target)) {
				t.Errorf("%s is on disk", target)
			}
		}
		filesBelow(t, w.dataDir(), func(path string, data []byte) {
			if strings.Contains(string(data), planted) {
				t.Errorf("the secret is in %s", path)
			}
		})
	})
	t.Run("a change comes to what is mounted whole, all of it at once, and to nothing else", func(t *testing.T) {
		mixed := readingBoth(t, w.lies("live", "main", "/conf"))
		for _, version := range []string{"v2", "v3"} {
			config(version)
			w.commit(version)
			w.sync()
			w.until(patience, "the files of "+version, func(api.Status) bool {
				return get(t, ip, "/file?path=/all/deep/greeting") == "greeting-"+version && get(t, ip, "/file?path=/all/token") == planted+"-"+version &&
					get(t, ip, "/file?path=/conf/greeting") == "greeting-"+version
			})
		}
		mixed()
		has("/one/greeting", "greeting-v1")
		has("/two/token", planted+"-v1")
		if got := get(t, ip, "/env?name=GREETING"); got != "greeting-v1\n" {
			t.Errorf("the environment of a running container has %q", got)
		}
	})
	t.Run("so do the pod's own labels", func(t *testing.T) {
		pod("back")
		w.commit("another label")
		w.sync()
		w.until(patience, "the new label in its file", func(api.Status) bool {
			return get(t, ip, "/file?path=/down/labels") == "app=\"live\"\ntier=\"back\"" && get(t, ip, "/file?path=/down/one") == "back"
		})
		if p, _ := w.shown("live"); p.Labels["tier"] != "back" {
			t.Errorf("the pod has the labels %v", p.Labels)
		}
	})
	if diff := cmp.Diff(before, w.running()); diff != "" {
		t.Errorf("something was restarted: %s", diff)
	}
	t.Run("and a container that starts again has all of it", func(t *testing.T) {
		w.untilRestarted("live", "main", 1)
		has("/one/greeting", "greeting-v3")
		has("/two/token", planted+"-v3")
		if got := get(t, ip, "/env?name=GREETING"); got != "greeting-v3\n" {
			t.Errorf("the environment has %q", got)
		}
	})
}

// readingBoth reads two files of a written volume again and again, each time from one and the same set, and fails when they are not of
// the same version.
func readingBoth(t *testing.T, volume string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan int)
	go func() {
		n := 0
		defer func() { read <- n }()
		for ctx.Err() == nil {
			set, err := os.OpenRoot(filepath.Join(volume, "..data"))
			if err != nil {
				t.Errorf("for a moment there is nothing: %v", err)
				return
			}
			left, err := set.ReadFile("left")
			right, err2 := set.ReadFile("right")
			set.Close()
			if err != nil || err2 != nil {
				continue // it was removed while we were reading, as an older set may be
			}
			if string(left) != string(right) || len(left) == 0 {
				t.Errorf("one file has %q, the other one %q", left, right)
				return
			}
			n++
		}
	}()
	return func() {
		cancel()
		if n := <-read; n == 0 {
			t.Error("nothing could be read")
		}
	}
}

// TestPathsOfTheMachine: hostPath, its types, and mounts that come later.
func TestPathsOfTheMachine(t *testing.T) {
	w := newWorld(t)
	at := func(name string) string { return filepath.Join(w.dir, "machine", name) }
	if err := os.MkdirAll(at("shared"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("wrong"), []byte("a file where a folder is wanted"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("there"), []byte("the machine's"), 0o600); err != nil {
		t.Fatal(err)
	}
	mount := func(path string, flags uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("", path, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount(at("shared"), syscall.MS_SHARED)
	one := func(name, kind, path string) string {
		return podOf(name, fmt.Sprintf(`
  containers: [{name: main, image: %s, command: [sleep], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, hostPath: {path: %s, type: %s}}]
`, w.image, path, kind))
	}
	w.write("good.yaml", podOf("good", fmt.Sprintf(`
  containers:
  - name: main
    image: %[1]s
    command: [sleep]
    volumeMounts: [{name: made, mountPath: /made}, {name: file, mountPath: /file}, {name: socket, mountPath: /socket}, {name: device, mountPath: /null}, {name: any, mountPath: /any}]
  volumes:
  - {name: made, hostPath: {path: %[2]s/made/deep, type: DirectoryOrCreate}}
  - {name: file, hostPath: {path: %[2]s/file, type: FileOrCreate}}
  - {name: socket, hostPath: {path: %[3]s, type: Socket}}
  - {name: device, hostPath: {path: /dev/null, type: CharDevice}}
  - {name: any, hostPath: {path: %[2]s}}
`, w.image, at(""), filepath.Join(w.dir, "podman.sock"))))
	w.write("wrong.yaml", one("wrong", "Directory", at("wrong")))
	w.write("none.yaml", one("none", "File", at("none")))
	w.write("block.yaml", one("block", "BlockDevice", "/dev/null"))
	w.write("mounts.yaml", podOf("mounts", fmt.Sprintf(`
  containers:
  - {name: follows, image: %[1]s, command: [sleep], volumeMounts: [{name: v, mountPath: /v, mountPropagation: HostToContainer}]}
  - {name: apart, image: %[1]s, command: [sleep], volumeMounts: [{name: v, mountPath: /v}]}
  - {name: both, image: %[1]s, command: [sleep], securityContext: {privileged: true}, volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]}
  volumes: [{name: v, hostPath: {path: %[2]s, type: Directory}}]
`, w.image, at("shared"))))
	refused := filepath.Join(w.dir, "refused")
	if err := os.Mkdir(refused, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(refused, "pod.yaml"), []byte(strings.ReplaceAll(one("refused", "Directory", at("shared")), "mountPath: /v", "mountPath: /v, mountPropagation: Bidirectional")), 0o600); err != nil {
		t.Fatal(err)
	}
	w.commit("paths")
	w.start()
	w.must("sync")

	t.Run("what is not is waited for, and said", func(t *testing.T) {
		w.untilWaits("wrong", "main", "ContainerCreating", at("wrong")+" is a File, not a Directory")
		w.untilWaits("none", "main", "ContainerCreating", "hostPath of type File", at("none"), "no such file")
		w.untilWaits("block", "main", "ContainerCreating", "/dev/null is a CharDevice, not a BlockDevice")
		if err := os.Remove(at("wrong")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(at("wrong"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at("none"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("what is as it should be, or can be made so, is mounted", func(t *testing.T) {
		w.untilRuns("good", "main")
		want := "dir 0755 0 0 /made\nfile 0644 0 0 /file\nsocket 0755 0 0 /socket\nchar 0666 0 0 /null\n"
		if got := w.sees("good", "main", "stat", "/made", "/file", "/socket", "/null"); got != want {
			t.Errorf("it sees:\n%swant:\n%s", got, want)
		}
		w.sees("good", "main", "write", "/made/new", "by the container")
		if got, err := os.ReadFile(at("made/deep/new")); string(got) != "by the container" {
			t.Errorf("the machine has %q, %v", got, err)
		}
		if got := w.sees("good", "main", "cat", "/any/there"); got != "the machine's" {
			t.Errorf("it reads %q", got)
		}
	})
	t.Run("what the machine mounts later is seen by who asked for it", func(t *testing.T) {
		for _, container := range []string{"follows", "apart", "both"} {
			w.untilRuns("mounts", container)
		}
		if err := os.Mkdir(at("shared/late"), 0o755); err != nil {
			t.Fatal(err)
		}
		mount(at("shared/late"), syscall.MS_SHARED)
		if err := os.WriteFile(at("shared/late/file"), []byte("late"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, container := range []string{"follows", "both"} {
			if got := w.sees("mounts", container, "cat", "/v/late/file"); got != "late" {
				t.Errorf("%s reads %q", container, got)
			}
		}
		if out, code := w.within("mounts", "apart", "cat", "/v/late/file"); code == 0 {
			t.Errorf("who did not ask for it reads %q", out)
		}
		// What the kernel says of each: a slave, a twin, and neither.
		for container, want := range map[string]string{"follows": "master:", "both": "shared:", "apart": ""} {
			for line := range strings.Lines(w.sees("mounts", container, "mounts")) {
				fields := strings.Fields(line)
				if fields[4] == "/v" && (want == "" && fields[6] != "-" || !strings.HasPrefix(fields[6], want)) {
					t.Errorf("%s has %s", container, line)
				}
			}
		}
	})
	t.Run("what was mended is mounted without anybody's doing", func(t *testing.T) {
		w.untilRuns("wrong", "main")
		w.untilRuns("none", "main")
	})
	t.Run("only who is privileged may mount for the machine", func(t *testing.T) {
		out, _, code := w.run("validate", refused)
		if code != 1 || !strings.Contains(out, "spec.containers[0].volumeMounts[0].mountPropagation: Bidirectional needs a privileged container") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
}

// TestSubPaths: single paths of volumes, and links by which a container tries to get at the machine.
func TestSubPaths(t *testing.T) {
	w := newWorld(t)
	machine, logs := filepath.Join(w.dir, "machine"), filepath.Join(w.dir, "logs")
	for _, dir := range []string{machine, logs} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const theirs = "the machine's own"
	if err := os.WriteFile(filepath.Join(machine, "file"), []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	victims := map[string]string{ // containers by what they mount
		"root": "root" + machine, "up": "up" + machine, "abs": "abs", "file": "abs/file",
	}
	var b strings.Builder
	for _, name := range []string{"root", "up", "abs", "file"} {
		fmt.Fprintf(&b, "  - {name: %s, image: %s, command: [sleep], volumeMounts: [{name: v, mountPath: /mnt, subPath: %q}]}\n", name, w.image, victims[name])
	}
	w.write("links.yaml", podOf("links", fmt.Sprintf(`
  initContainers:
  - name: plant
    image: %[1]s
    command: [seq, link / /v/root, link ../../../../../../../../../.. /v/up, link %[2]s /v/abs, mkdir /v/real, write /v/real/file inside, link real /v/in]
    volumeMounts: &whole [{name: v, mountPath: /v}]
  containers:
  - {name: planter, image: %[1]s, command: [sleep], volumeMounts: *whole}
  - {name: in, image: %[1]s, command: [sleep], volumeMounts: [{name: v, mountPath: /mnt, subPath: in}, {name: v, mountPath: /new, subPath: new/deep}]}
%[3]s  volumes: [{name: v, emptyDir: {}}]
`, w.image, machine, b.String())))
	w.write("swap.yaml", podOf("swap", fmt.Sprintf(`
  containers:
  - {name: web, image: %[1]s, args: [serve], volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /mnt, subPath: data}]}
  - {name: side, image: %[1]s, command: [sleep], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, emptyDir: {}}]
`, w.image)))
	w.write("expr.yaml", podOf("expr", fmt.Sprintf(`
  containers:
  - name: main
    image: %[1]s
    command: [seq, write /logs/out mine, sleep]
    env: &env
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: UP, value: "../$(POD_NAME)"}
    volumeMounts: [{name: logs, mountPath: /logs, subPathExpr: $(POD_NAME)/$$(POD_NAME)}]
  - {name: out, image: %[1]s, command: [sleep], env: *env, volumeMounts: [{name: logs, mountPath: /logs, subPathExpr: $(UP)}]}
  - {name: nothing, image: %[1]s, command: [sleep], env: *env, volumeMounts: [{name: logs, mountPath: /logs, subPathExpr: $(NO_SUCH)}]}
  volumes: [{name: logs, hostPath: {path: %[2]s, type: Directory}}]
`, w.image, logs)))
	w.commit("paths")
	w.start()
	w.must("sync")

	t.Run("a path in the volume is mounted, over a link and made if need be", func(t *testing.T) {
		w.untilRuns("links", "in")
		if got := w.sees("links", "in", "cat", "/mnt/file"); got != "inside" {
			t.Errorf("it reads %q", got)
		}
		if got := w.sees("links", "in", "stat", "/new"); got != "dir 0777 0 0 /new\n" {
			t.Errorf("what was made is %q", got)
		}
		w.sees("links", "in", "write", "/new/file", "through it")
		if got := w.sees("links", "planter", "cat", "/v/new/deep/file"); got != "through it" {
			t.Errorf("the volume has %q", got)
		}
	})
	t.Run("one that leads out is not, whichever way it goes", func(t *testing.T) {
		for name, path := range victims {
			w.untilWaits("links", name, "CreateContainerConfigError", "volume v: subPath "+path+" leads out of the volume")
		}
		for _, c := range w.containers() {
			if c.Pod == "links" && victims[c.Container] != "" {
				t.Errorf("there is a container all the same: %+v", c)
			}
		}
	})
	t.Run("it is, as soon as it does not lead out any more", func(t *testing.T) {
		w.sees("links", "planter", "seq", "link real /v/new-abs", "rename /v/new-abs /v/abs")
		for container, path := range map[string]string{"abs": "/mnt/file", "file": "/mnt"} {
			w.untilRuns("links", container)
			if got := w.sees("links", container, "cat", path); got != "inside" {
				t.Errorf("%s reads %q", container, got)
			}
		}
	})
	t.Run("a container that turns its folder into a link and ends comes back to nothing", func(t *testing.T) {
		w.untilRuns("swap", "side")
		w.untilServes("swap")
		w.sees("swap", "web", "write", "/mnt/file", "inside")
		w.sees("swap", "side", "rename", "/v/data", "/v/old")
		w.sees("swap", "side", "link", machine, "/v/data")
		if got := w.sees("swap", "web", "cat", "/mnt/file"); got != "inside" {
			t.Errorf("it reads %q", got)
		}
		_ = get(t, w.address("swap"), "/exit?code=1")
		w.untilWaits("swap", "web", "CreateContainerConfigError", "volume v: subPath data leads out of the volume")
	})
	t.Run("variables make a path of each pod's own, and none that leads out", func(t *testing.T) {
		w.untilRuns("expr", "main")
		w.untilWaits("expr", "out", "CreateContainerConfigError", `subPathExpr "$(UP)"`, "makes a path with .. in it")
		w.untilWaits("expr", "nothing", "CreateContainerConfigError", `subPathExpr "$(NO_SUCH)"`, "no variable NO_SUCH")
		if got := w.sees("expr", "main", "cat", "/logs/out"); got != "mine" {
			t.Errorf("it reads %q", got)
		}
		if got, err := os.ReadFile(filepath.Join(logs, "expr", "$(POD_NAME)", "out")); string(got) != "mine" {
			t.Errorf("the machine has %q, %v", got, err)
		}
	})
	if got, err := os.ReadFile(filepath.Join(machine, "file")); string(got) != theirs || err != nil {
		t.Errorf("the machine's file has %q, %v", got, err)
	}
}

// TestFSGroup: what a pod's group is given, and what not.
func TestFSGroup(t *testing.T) {
	w := newWorld(t)
	machine := filepath.Join(w.dir, "machine")
	if err := os.Mkdir(machine, 0o755); err != nil {
		t.Fatal(err)
	}
	var config strings.Builder
	for _, claim := range []string{"lazy", "thorough"} {
		config.WriteString(claimDoc(claim, "") + "---\n")
	}
	w.write("config.yaml", config.String()+`apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {greeting: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: sec}
stringData: {token: hunter8}
`)
	w.write("team.yaml", podOf("team", fmt.Sprintf(`
  restartPolicy: Never
  securityContext: {runAsUser: 1000, runAsGroup: 1000, supplementalGroups: [3000], fsGroup: 2000}
  containers:
  - name: main
    image: %s
    command: [seq, id, write /empty/new x, write /memory/new x, write /lazy/new x, write /thorough/new x, cat /sec/token, print,
      stat /empty /empty/new /memory /memory/new /lazy /lazy/new /machine, ls /sec/token, ls /conf/greeting]
    volumeMounts: [{name: empty, mountPath: /empty}, {name: memory, mountPath: /memory}, {name: lazy, mountPath: /lazy}, {name: thorough, mountPath: /thorough},
      {name: sec, mountPath: /sec}, {name: conf, mountPath: /conf}, {name: machine, mountPath: /machine}]
  volumes:
  - {name: empty, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: lazy, persistentVolumeClaim: {claimName: lazy}}
  - {name: thorough, persistentVolumeClaim: {claimName: thorough}}
  - {name: sec, secret: {secretName: sec, defaultMode: 0400}}
  - {name: conf, configMap: {name: conf, defaultMode: 0600}}
  - {name: machine, hostPath: {path: %s}}
`, w.image, machine)))
	w.commit("a team")
	w.start()
	w.sync()

	t.Run("volumes are its to write to, files of ours to read, and what it makes stays with it", func(t *testing.T) {
		want := `uid=1000 gid=1000 groups=[2000 3000] dir=/ host=team
hunter8
dir 2777 0 2000 /empty
file 0644 1000 2000 /empty/new
dir 2777 0 2000 /memory
file 0644 1000 2000 /memory/new
dir 2775 0 2000 /lazy
file 0644 1000 2000 /lazy/new
dir 0755 0 0 /machine
-r--r----- 0 2000 7 token
-rw-r----- 0 2000 5 greeting
`
		got := w.printed("team", "main")
		first, rest, _ := strings.Cut(got, "\n")
		var groups string // in no order, and that of the process may be among them
		if _, err := fmt.Sscanf(first, "uid=1000 gid=1000 groups=%s", &groups); err != nil || !strings.Contains(first, "2000") || !strings.Contains(first, "3000") {
			t.Errorf("it is %s", first)
		}
		_, wantRest, _ := strings.Cut(want, "\n")
		if diff := cmp.Diff(wantRest, rest); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("what somebody changed in a volume is put right, unless only the root of it is asked about", func(t *testing.T) {
		const others = 4000
		for _, claim := range []string{"lazy", "thorough"} {
			if err := os.Chown(filepath.Join(w.mountpoint("default_"+claim), "new"), -1, others); err != nil {
				t.Fatal(err)
			}
		}
		for claim, policy := range map[string]string{"lazy": "OnRootMismatch", "thorough": "Always"} {
			w.write(claim+".yaml", podOf(claim, fmt.Sprintf(`
  restartPolicy: Never
  securityContext: {fsGroup: 2000, fsGroupChangePolicy: %[3]s}
  containers: [{name: main, image: %[1]s, command: [stat, /v, /v/new], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: %[2]s}}]
`, w.image, claim, policy)))
		}
		w.commit("two more")
		w.sync()
		for claim, want := range map[string]string{
			"lazy": "dir 2775 0 2000 /v\nfile 0644 1000 4000 /v/new\n", "thorough": "dir 2775 0 2000 /v\nfile 0664 1000 2000 /v/new\n",
		} {
			if got := w.printed(claim, "main"); got != want {
				t.Errorf("%s sees:\n%swant:\n%s", claim, got, want)
			}
		}
	})
}
