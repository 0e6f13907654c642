package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/lab"
)

// barePod is a pod of one container, as kube play and Skerry both take it.
func barePod(name, image string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 2
  containers: [{name: main, image: "%s", imagePullPolicy: IfNotPresent, command: [sleep]}]
`, name, image)
}

func barePods(from, to int, image string) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(barePod(fmt.Sprintf("p%d", i), image))
	}
	return b.String()
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// BenchmarkPush20Pods: a push that brings 20 pods, until all run, beside `podman kube play` of the same pods
// on the same empty host, in turns.
func BenchmarkPush20Pods(b *testing.B) {
	const pods, turns = 20, 3
	w := newWorld(b)
	manifest := filepath.Join(w.dir, "pods.yaml")
	if err := os.WriteFile(manifest, []byte(barePods(0, pods, w.image)), 0o600); err != nil {
		b.Fatal(err)
	}
	w.config("  allowEmpty: true\n")
	w.start()
	w.sync()
	var ours, theirs []time.Duration
	for b.Loop() {
		for range turns {
			w.write("pods.yaml", barePods(0, pods, w.image))
			w.commit("pods")
			began := time.Now()
			w.sync()
			ours = append(ours, time.Since(began))
			if n := len(w.running()); n != pods {
				b.Fatalf("%d pods run", n)
			}
			w.remove("pods.yaml")
			w.commit("no pods")
			w.sync()

			began = time.Now()
			w.podman.CLI(b, "kube", "play", manifest)
			theirs = append(theirs, time.Since(began))
			if n := len(strings.Fields(w.podman.CLI(b, "ps", "-q", "--filter", "name=-main"))); n != pods {
				b.Fatalf("kube play: %d pods run", n)
			}
			// Killed first: a running pod of kube play takes three seconds to remove (its exit policy is stop).
			w.podman.CLI(b, "kill", "-a")
			w.podman.CLI(b, "pod", "rm", "-f", "-t", "0", "-a")

		}
	}
	b.ReportMetric(median(ours).Seconds(), "s/skerry")
	b.ReportMetric(median(theirs).Seconds(), "s/kube-play")
	b.ReportMetric(median(ours).Seconds()/median(theirs).Seconds(), "skerry/kube-play")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkChangeOneOf200: a commit that changes one pod's image, with 200 pods on the host and with 20 in
// the same run. The number of calls to Podman must not differ but for looks, and the time but for what a look
// takes.
func BenchmarkChangeOneOf200(b *testing.B) {
	w := newWorld(b)
	w.start()
	change := func(turn int) (time.Duration, int) {
		w.write("one.yaml", barePod("one", fmt.Sprintf("%s:%d", lab.TestImage, turn%2+1)))
		w.commit("one")
		w.calls.reset()
		began := time.Now()
		w.sync()
		return time.Since(began), len(slices.DeleteFunc(w.calls.calls(), isLook))
	}
	var few, many []time.Duration
	var fewCalls, manyCalls int
	for b.Loop() {
		for i, size := range []int{20, 200} {
			for n := 0; n < size; n += 20 {
				w.write(fmt.Sprintf("pods%d.yaml", n), barePods(n, n+20, w.image))
			}
			w.commit("pods")
			w.must("sync", "--wait", "5m")
			change(0)
			for turn := range 5 {
				took, calls := change(turn + 1)
				if i == 0 {
					few, fewCalls = append(few, took), calls
				} else {
					many, manyCalls = append(many, took), calls
				}
			}
		}
	}
	b.ReportMetric(median(few).Seconds(), "s/of-20")
	b.ReportMetric(median(many).Seconds(), "s/of-200")
	b.ReportMetric(median(many).Seconds()/median(few).Seconds(), "of-200/of-20")
	b.ReportMetric(float64(fewCalls), "calls/of-20")
	b.ReportMetric(float64(manyCalls), "calls/of-200")
	b.ReportMetric(0, "ns/op")
}

// isLook reports whether a call is one of the three lists of a look, or of the watch.
func isLook(call string) bool {
	return strings.HasSuffix(call, "/volumes/json") || strings.HasSuffix(call, "/pods/json") || strings.HasSuffix(call, "/containers/json") || strings.HasSuffix(call, "/events") ||
		strings.HasSuffix(call, "/_ping")
}

// TestOneChangeOfManyCostsOne is what BenchmarkChangeOneOf200 measures, without a clock: the calls for one
// change are the same however many others there are.
func TestOneChangeOfManyCostsOne(t *testing.T) {
	w := newWorld(t)
	w.start()
	count := func(others int) []string {
		w.write("others.yaml", barePods(0, others, w.image))
		for turn := range 4 { // the first changes leave no container behind that has to be removed
			w.write("one.yaml", barePod("one", fmt.Sprintf("%s:%d", lab.TestImage, turn%2+1)))
			w.commit("one")
			w.calls.reset()
			w.sync()
		}
		var verbs []string
		ended := 0 // inspections of containers that ended: of this turn's or of the last one's, as it happens
		for _, call := range slices.DeleteFunc(w.calls.calls(), isLook) {
			method, path, _ := strings.Cut(call, " ")
			if strings.Contains(path, "/containers/") && strings.HasSuffix(path, "/json") {
				ended++
				continue
			}
			verb := path[strings.LastIndex(path, "/")+1:]
			if len(verb) == 64 {
				verb = "a container"
			}
			verbs = append(verbs, method+" "+verb)
		}
		if ended > 2 {
			t.Errorf("%d containers were inspected with %d others", ended, others)
		}
		slices.Sort(verbs)
		return verbs
	}
	few, many := count(2), count(20)
	if diff := cmp.Diff(few, many); diff != "" || len(few) == 0 {
		t.Errorf("calls with 2 others (-) and with 20 (+):\n%s", diff)
	}
}

// BenchmarkIdle: what an agent with 100 pods costs when nothing happens, measured from outside over a minute.
// Podman's own service in the same minute stands beside it.
func BenchmarkIdle(b *testing.B) {
	w := newWorld(b)
	w.start()
	for n := 0; n < 100; n += 20 {
		w.write(fmt.Sprintf("pods%d.yaml", n), barePods(n, n+20, w.image))
	}
	w.commit("pods")
	w.must("sync", "--wait", "5m")
	// As configured by default: a look at the repository every 15 s.
	w.stop()
	raw, err := os.ReadFile(filepath.Join(w.dir, "config.yaml"))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(strings.Replace(string(raw), "interval: 1h", "interval: 15s", 1)), 0o600); err != nil {
		b.Fatal(err)
	}
	w.start()
	w.sync()
	const window = 95 * time.Second // three full looks
	settle := time.NewTimer(5 * time.Second)
	<-settle.C
	var used, service time.Duration
	var resident int64
	for b.Loop() {
		before, serviceBefore := cpu(b, w.agent.Process.Pid), cpu(b, w.podman.Pid())
		rest := time.NewTimer(window)
		<-rest.C
		used, service = cpu(b, w.agent.Process.Pid)-before, cpu(b, w.podman.Pid())-serviceBefore
		resident = rss(b, w.agent.Process.Pid)
	}
	b.ReportMetric(100*used.Seconds()/window.Seconds(), "%core")
	b.ReportMetric(100*service.Seconds()/window.Seconds(), "%core-podman")
	b.ReportMetric(float64(resident)/1e6, "MB-resident")
	b.ReportMetric(0, "ns/op")
}

// tick is the unit of /proc/PID/stat on Linux.
const tick = 10 * time.Millisecond

// cpu is the time a process has had of all processors.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// rss is how many bytes of a process are in memory.
func rss(t testing.TB, pid int) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
