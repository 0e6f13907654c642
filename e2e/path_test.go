package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
