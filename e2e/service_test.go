package e2e_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
)

// service is a Deployment of web servers with a Service of one ClusterIP and node port.
func service(image, version string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: '%s'}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - {name: main, image: '%s', args: [serve], env: [{name: DRAIN, value: 3s}], ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, clusterIP: 10.43.7.7, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}, {name: udp, protocol: UDP, port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {clusterIP: 10.43.7.8, selector: {app: nobody}, ports: [{port: 80}]}
`, replicas, version, image)
}

// TestServices: a Service is reached at its address, by its name and at its node port while everything behind it is replaced and the
// agent comes and goes, and nobody who asks is refused, cut off or kept waiting. A Service without anybody behind it refuses at once.
func TestServices(t *testing.T) {
	w := newWorld(t)
	w.config("network: {services: \"on\"}\n")
	w.write("web.yaml", service(w.image, "one", 3))
	w.pod("client", `
  containers:
  - {name: main, THIS, args: [sleep]}`)
	w.commit("web")
	w.start()
	w.must("sync", "--wait", "60s")
	w.untilPod("client", "ready", ready)

	w.scene("nobody behind it: refused at once", func(t *testing.T) {
		began := time.Now()
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", "10.43.7.8:80")
		if err == nil {
			conn.Close()
			t.Fatal("somebody answers")
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("refused after %s", took)
		}
	})
	w.scene("by name", func(t *testing.T) {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, "10.43.0.10:53")
		}}
		addrs, err := resolver.LookupHost(t.Context(), "web.default.svc.cluster.local.")
		if err != nil || len(addrs) != 1 || addrs[0] != "10.43.7.7" {
			t.Errorf("%v, %v", addrs, err)
		}
	})
	w.scene("nobody is refused", func(t *testing.T) {
		w.write("extra.yaml", strings.Replace(w.manifest("extra", `
  terminationGracePeriodSeconds: 5
  containers:
  - {name: main, THIS, args: [serve], env: [{name: DRAIN, value: 3s}], ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}}`), "{name: extra}", "{name: extra, labels: {app: web}}", 1))
		w.commit("one more")
		w.must("sync", "--wait", "60s")
		stop := callAll(t, callersOf(w.pid("default_client_main"))...)
		for i := range 10 {
			w.write("web.yaml", service(w.image, strconv.Itoa(i), 3+i%2))
			w.commit("roll")
			switch i {
			case 2:
				w.remove("extra.yaml")
				w.commit("a pod goes")
			case 4:
				w.must("sync")
				w.kill()
				w.start()
			case 6:
				w.must("sync")
				w.stop()
				w.start()
			case 8:
				// Somebody has been at the rules: all of them are written anew.
				at := w.webs()[0].Status.PodIP
				w.command("nft", "delete", "element", "ip", "skerry", "sk-self", "{ "+at+" . "+at+" }")
			}
			w.must("sync", "--wait", "90s")
		}
		w.write("web.yaml", service(w.image, "9", 1))
		w.commit("scale down")
		w.must("sync", "--wait", "60s")
		w.write("web.yaml", service(w.image, "9", 3))
		w.commit("scale up")
		w.must("sync", "--wait", "60s")
		if out := w.must("status"); !strings.Contains(out, "Service/default/web     NodePort   10.43.7.7  -         80:30080/TCP,80:30080/UDP  3 ready    web.yaml") {
			t.Errorf("status:\n%s", out)
		}
		asked, failed := stop()
		t.Logf("%d asked, %d failed", asked, failed)
		if failed > 0 || asked < 20_000 {
			t.Errorf("%d of %d failed", failed, asked)
		}
	})
	w.scene("the callers notice a pod that ends before it is out of the rotation", func(t *testing.T) {
		stop := callAll(t, callersOf(w.pid("default_client_main"))...)
		for _, p := range w.webs() {
			w.podman.CLI(t, "kill", strings.TrimPrefix(containerOf(p, "main").ContainerID, "podman://"))
		}
		w.until(30*time.Second, "all to be ready again", func(api.Status) bool {
			return !slices.ContainsFunc(w.webs(), func(p *corev1.Pod) bool { return !ready(p) || containerOf(p, "main").RestartCount == 0 })
		})
		if asked, failed := stop(); failed == 0 {
			t.Errorf("none of %d failed", asked)
		}
	})
	w.scene("nothing is left", func(t *testing.T) {
		w.remove("web.yaml")
		w.remove("client.yaml")
		w.write("other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {}\n")
		w.commit("no Services")
		w.must("sync", "--wait", "60s")
		out, err := exec.CommandContext(t.Context(), "nft", "list", "tables").CombinedOutput()
		if err != nil || strings.Contains(string(out), "skerry") {
			t.Errorf("left: %s, %v", out, err)
		}
	})
	w.scene("network remove takes away the rest", func(t *testing.T) {
		if _, errOut, code := w.run("network", "remove"); code != 2 || !strings.Contains(errOut, "the agent runs") {
			t.Errorf("while the agent runs: %d, %s", code, errOut)
		}
		w.stop()
		for range 2 { // with nothing left, too
			w.must("network", "remove")
		}
		if got := w.podman.CLI(t, "network", "ls", "--format={{.Name}}"); strings.Contains(got, "skerry") {
			t.Errorf("Podman has still\n%s", got)
		}
		for _, args := range [][]string{{"ip", "link", "show"}, {"ip", "route", "show", "table", "all"}, {"nft", "list", "tables"}} {
			out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
			if err != nil || strings.Contains(string(out), "skerry") || strings.Contains(string(out), "10.43.") {
				t.Errorf("%v: %v\n%s", args, err, out)
			}
		}
	})
}

// callersOf ask the Service of these tests in all ways: from the machine, and from a pod.
func callersOf(pod int) []caller {
	var all []caller
	for _, network := range []string{"tcp", "udp"} {
		for _, kept := range []bool{false, true} {
			for _, address := range []string{"10.43.7.7:80", "10.42.0.1:30080"} {
				for _, process := range []int{0, pod} {
					name := fmt.Sprintf("%s %s kept %v pod %v", network, address, kept, process != 0)
					all = append(all, caller{name, network, address, kept, process})
				}
			}
		}
	}
	return all
}

// webs are the pods of the Deployment web, in no order.
func (w *world) webs() []*corev1.Pod {
	var all []*corev1.Pod
	for name, p := range w.pods() {
		if strings.HasPrefix(name, "web-") {
			all = append(all, p)
		}
	}
	return all
}
