package e2e_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
)

// scene is a part of a test that the others do not wait for when it fails.
func (w *world) scene(name string, play func(t *testing.T)) {
	whole := w.t
	defer func() { w.t = whole }()
	whole.(*testing.T).Run(name, func(t *testing.T) {
		w.t = t
		play(t)
	})
}

// manifest is a Pod. In its spec THIS stands for the test image and two folders: /host is the same for all pods and
// the test (see lines, touch, fifo), /shared an emptyDir.
func (w *world) manifest(name, spec string) string {
	w.t.Helper()
	if err := os.MkdirAll(w.host(""), 0o755); err != nil {
		w.t.Fatal(err)
	}
	this := "image: '" + w.image + "', volumeMounts: [{name: host, mountPath: /host}, {name: shared, mountPath: /shared}]"
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:" + strings.ReplaceAll(spec, "THIS", this) + `
  volumes:
  - {name: host, hostPath: {path: '` + w.host("") + `'}}
  - {name: shared, emptyDir: {}}
`
}

// pod writes a Pod's manifest into the repository.
func (w *world) pod(name, spec string) {
	w.t.Helper()
	w.write(name+".yaml", w.manifest(name, spec))
}

// host is the path of a file that containers have at /host.
func (w *world) host(name string) string { return filepath.Join(w.dir, "host", name) }

func (w *world) touch(name string) {
	w.t.Helper()
	if err := os.WriteFile(w.host(name), nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// lines are those that containers appended to a file; none when it is not there.
func (w *world) lines(name string) []string {
	w.t.Helper()
	raw, err := os.ReadFile(w.host(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(raw), "\n"), func(line string) bool { return line == "" })
}

// told is when the process whose TERM_FILE that is was told to end, and how.
func (w *world) told(name string) (signal string, at time.Time) {
	w.t.Helper()
	list := w.lines(name)
	if len(list) != 1 {
		w.t.Fatalf("the process of %s was told to end %d times: %v", name, len(list), list)
	}
	return parseTold(w.t, list[0])
}

func parseTold(t testing.TB, line string) (signal string, at time.Time) {
	t.Helper()
	signal, text, _ := strings.Cut(line, " ")
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return signal, at
}

// fifo is a file that a test waits at for what containers append to it.
type fifo struct {
	world *world
	file  *os.File
	lines *bufio.Reader
}

func (w *world) fifo(name string) *fifo {
	w.t.Helper()
	if err := os.MkdirAll(w.host(""), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := syscall.Mkfifo(w.host(name), 0o600); err != nil {
		w.t.Fatal(err)
	}
	file, err := os.OpenFile(w.host(name), os.O_RDWR, 0) // for both, so that neither side waits for the other to open it
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { file.Close() })
	return &fifo{w, file, bufio.NewReader(file)}
}

func (f *fifo) line() string {
	t := f.world.t
	t.Helper()
	if err := f.file.SetReadDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	line, err := f.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", f.file.Name(), err)
	}
	return strings.TrimSuffix(line, "\n")
}

// hears reads a container's log as it is written, until a line is the one waited for. `podman logs --follow` would end
// when the container is told to.
func (w *world) hears(container string, is func(line string) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), long)
	defer cancel()
	path := w.podman.CLI(w.t, "inspect", "--format={{.HostConfig.LogConfig.Path}}", container)
	cmd := exec.CommandContext(ctx, "tail", "--lines=+1", "--follow", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	var heard []string
	found := false
	for lines := bufio.NewScanner(out); !found && lines.Scan(); {
		_, line, _ := strings.Cut(lines.Text(), " F ") // before it: when, and by which of both streams
		heard = append(heard, line)
		found = is(line)
	}
	cancel()
	_ = cmd.Wait() // killed
	if !found {
		w.t.Fatalf("container %s did not say what was waited for:\n%s", container, strings.Join(heard, "\n"))
	}
}

// pods are those in the namespace default as the Kubernetes API shows them.
func (w *world) pods() map[string]*corev1.Pod {
	w.t.Helper()
	body := w.raw("/api/v1/namespaces/default/pods")
	var list corev1.PodList
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		w.t.Fatalf("%v:\n%s", err, body)
	}
	pods := map[string]*corev1.Pod{}
	for i := range list.Items {
		pods[list.Items[i].Name] = &list.Items[i]
	}
	return pods
}

// untilPod waits until a pod is as described, and returns it as it was then.
func (w *world) untilPod(name, what string, is func(p *corev1.Pod) bool) *corev1.Pod {
	w.t.Helper()
	var seen *corev1.Pod
	w.until(long, "pod "+name+" "+what, func(api.Status) bool {
		seen = w.pods()[name]
		return seen != nil && is(seen)
	})
	return seen
}

func (w *world) untilGone(name string) {
	w.t.Helper()
	w.until(long, "pod "+name+" gone", func(api.Status) bool { return w.pods()[name] == nil })
}

func inPhase(phase corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Status.Phase == phase }
}

// conditionOf is one of a pod's conditions, empty when there is none.
func conditionOf(p *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func ready(p *corev1.Pod) bool { return conditionOf(p, corev1.PodReady).Status == corev1.ConditionTrue }

// containerOf is a container's status, empty when there is none.
func containerOf(p *corev1.Pod, name string) corev1.ContainerStatus {
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if c.Name == name {
			return c
		}
	}
	return corev1.ContainerStatus{}
}

func crashLooping(p *corev1.Pod, container string) bool {
	c := containerOf(p, container)
	return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
}

// runs are the containers in Podman that stand or stood for one of a pod's, the first one first.
func (w *world) runs(pod, name string) []fleet.ObservedContainer {
	w.t.Helper()
	host, err := w.machine.Look(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var list []fleet.ObservedContainer
	for _, p := range host.Pods {
		for _, c := range p.Containers {
			if p.Pod.Name == pod && c.Name == name {
				list = append(list, c)
			}
		}
	}
	slices.SortFunc(list, func(a, b fleet.ObservedContainer) int { return cmp.Compare(a.Attempt, b.Attempt) })
	return list
}

// ids are the containers that pods have, by pod and container.
func ids(pods map[string]*corev1.Pod, names ...string) map[types.NamespacedName]string {
	all := map[types.NamespacedName]string{}
	for _, name := range names {
		p := pods[name]
		if p == nil {
			continue
		}
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			all[types.NamespacedName{Namespace: name, Name: c.Name}] = c.ContainerID
		}
	}
	return all
}

// command runs one of the machine's, which has to work.
func (w *world) command(name string, args ...string) {
	w.t.Helper()
	if out, err := exec.CommandContext(w.t.Context(), name, args...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// pid is the first process of a container.
func (w *world) pid(container string) int {
	w.t.Helper()
	pid, err := strconv.Atoi(w.podman.CLI(w.t, "inspect", "--format={{.State.Pid}}", container))
	if err != nil {
		w.t.Fatal(err)
	}
	return pid
}

// watch returns a function that waits for the end of a process that is no child of ours. One that is no more has ended.
func watch(t testing.TB, pid int) (ended func(limit time.Duration) bool) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return func(time.Duration) bool { return true }
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(limit time.Duration) bool {
		for deadline := time.Now().Add(limit); ; {
			left := max(time.Until(deadline).Milliseconds(), 0)
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left))
			if !errors.Is(err, unix.EINTR) {
				return n == 1
			}
		}
	}
}
