package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
)

// crowd is a pod of one server and others that do nothing, every one of which has three probes a second at the server.
func crowd(name, image string, containers int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  containers:\n", name)
	for i := range containers {
		mode := "sleep"
		if i == 0 {
			mode = "serve"
		}
		fmt.Fprintf(&b, "  - name: c%d\n    image: %s\n    command: [%s]\n    imagePullPolicy: Never\n", i, image, mode)
		for _, kind := range []string{"liveness", "readiness"} {
			fmt.Fprintf(&b, "    %sProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 100}\n", kind)
		}
	}
	return b.String() + "---\n"
}

// BenchmarkProbes500: what 500 HTTP probes a second cost the agent, and what one costs; beside it the least that one
// `podman healthcheck run` costs, which is the process that is started for it, without what Podman does besides.
func BenchmarkProbes500(b *testing.B) {
	w := newWorld(b)
	w.start()
	const pods, containers = 10, 25 // two probes each
	var all strings.Builder
	for n := range pods {
		all.WriteString(crowd(fmt.Sprintf("crowd%d", n), w.image, containers))
	}
	w.write("crowds.yaml", all.String())
	w.commit("crowds")
	w.must("sync", "--wait", "10m")
	w.until(5*time.Minute, "all are ready", func(s api.Status) bool { return s.Settled })
	w.podman.CLI(b, "run", "--detach", "--name", "checked", "--health-cmd", `["CMD", "/skerry-test", "exit", "0"]`, w.image, "sleep")

	const window = 30 * time.Second
	const checks = 20
	var ours, theirs time.Duration
	for b.Loop() {
		before := cpu(b, w.agent.Process.Pid)
		rest := time.NewTimer(window)
		<-rest.C
		ours = cpu(b, w.agent.Process.Pid) - before
		theirs = 0
		for range checks {
			cmd := exec.CommandContext(context.WithoutCancel(b.Context()), "podman", "healthcheck", "run", "checked")
			_ = cmd.Run() // whether it is well does not matter here
			theirs += cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()
		}
	}
	rate := float64(pods * containers * 2)
	one, their := ours.Seconds()/window.Seconds()/rate, theirs.Seconds()/checks
	b.ReportMetric(100*ours.Seconds()/window.Seconds(), "%core-of-500")
	b.ReportMetric(one*1e6, "µs/probe")
	b.ReportMetric(their*1e6, "µs/healthcheck-run")
	b.ReportMetric(one/their, "probe/healthcheck-run")
	b.ReportMetric(0, "ns/op")
}
