package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
)

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
