package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
)

// patience is how long something may take that takes a moment on a machine that is not busy.
const patience = 60 * time.Second

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
