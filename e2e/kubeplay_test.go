package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestWhatKubePlayDoesWrong is the table of semantics 17.3, as far as no other test is about it.
func TestWhatKubePlayDoesWrong(t *testing.T) {
	w := newWorld(t)
	w.write("all.yaml", `apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {COLOR: from the ConfigMap, SHAPE: round, "not.a-name": x}
---
apiVersion: v1
kind: Secret
metadata: {name: sec}
data: {token: aHVudGVyOQ==, other: eA==}
stringData: {plain: hunter10}
---
`+podOf("traps", fmt.Sprintf(`
  containers:
  - name: main
    image: %s
    args: [serve]
    ports: [{name: web, containerPort: 8080}]
    envFrom:
    - {configMapRef: {name: conf}}
    - {prefix: S_, secretRef: {name: sec}}
    - {configMapRef: {name: none, optional: true}}
    env:
    - {name: COLOR, value: from env}
    - {name: BOTH, value: "$(COLOR) and $(SHAPE), $(S_token), $(NONE), $$(COLOR)"}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: sec, key: token}}}
    - {name: MAYBE, valueFrom: {secretKeyRef: {name: sec, key: none, optional: true}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: NODE_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
    resources: {requests: {cpu: 100m}}
    volumeMounts: [{name: sec, mountPath: /sec}, {name: scratch, mountPath: /scratch}]
    # A list that is joined and given to a shell would be four words.
    startupProbe: {exec: {command: [write, /scratch/with blanks, "two words; $(COLOR)"]}, periodSeconds: 1}
  - name: published
    image: %[1]s
    args: [serve]
    ports: [{containerPort: 8081, hostPort: 18081}]
    env: [{name: PORT, value: "8081"}]
  - {name: list, image: %[1]s, command: [seq, "print $(COLOR) $$(COLOR) $(NONE)", sleep], env: [{name: COLOR, value: blue}]}
  volumes:
  - {name: sec, secret: {secretName: sec, items: [{key: token, path: deep/token}]}}
  - {name: scratch, emptyDir: {}}
`, w.image)))
	w.commit("traps")
	w.start()
	w.sync()
	p, _ := w.shown("traps")
	ip := p.Status.PodIP

	t.Run("env over envFrom, prefixes, references, and fields of the pod", func(t *testing.T) {
		env := map[string]string{}
		for line := range strings.Lines(w.sees("traps", "main", "env")) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			env[name] = value
		}
		for name, want := range map[string]string{
			"COLOR": "from env", "SHAPE": "round", "S_token": "hunter9", "S_plain": "hunter10", "TOKEN": "hunter9",
			"BOTH": "from env and round, hunter9, $(NONE), $(COLOR)",
			"NAME": "traps", "NAMESPACE": "default", "UID": string(p.UID), "LABEL": "traps", "NODE": "alpha", "ACCOUNT": "default",
			"NODE_IP": "127.0.0.1", "IP": ip, "IPS": ip, "CPU": "100",
		} {
			if got, ok := env[name]; got != want || !ok {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if got, ok := env["MAYBE"]; ok {
			t.Errorf("an optional key that is not there is %q", got)
		}
		if len(p.UID) == 0 {
			t.Error("the pod has no UID")
		}
	})
	t.Run("references in a command", func(t *testing.T) {
		got := w.podman.CLI(t, "inspect", "--format", "{{json .Config.Entrypoint}} {{json .Config.Cmd}}", "default_traps_list")
		var words []string
		for _, part := range strings.SplitAfter(got, "]") {
			var list []string
			if json.Unmarshal([]byte(strings.TrimSpace(part)), &list) == nil {
				words = append(words, list...)
			} else {
				words = append(words, strings.Fields(strings.Trim(strings.TrimSpace(part), `"`))...)
			}
		}
		if !slices.Contains(words, "print blue $(COLOR) $(NONE)") && !strings.Contains(got, "print blue $(COLOR) $(NONE)") {
			t.Errorf("the command is %s", got)
		}
	})
	t.Run("a Secret's files are decoded, and those asked for", func(t *testing.T) {
		if got := w.sees("traps", "main", "cat", "/sec/deep/token"); got != "hunter9" {
			t.Errorf("it reads %q", got)
		}
		for _, name := range []string{"token", "other", "plain"} {
			if out, code := w.within("traps", "main", "cat", "/sec/"+name); code == 0 {
				t.Errorf("there is %s: %q", name, out)
			}
		}
	})
	t.Run("a probe's command is a list", func(t *testing.T) {
		// In probes only what env says outright is known.
		if got := w.sees("traps", "main", "cat", "/scratch/with blanks"); got != "two words; from env" {
			t.Errorf("it wrote %q", got)
		}
	})
	t.Run("only a hostPort is on the machine", func(t *testing.T) {
		w.untilServes("traps")
		answers := func(port string) bool {
			response, err := http.Get("http://" + net.JoinHostPort("127.0.0.1", port) + "/healthz") //nolint:noctx // it is there or it is not
			if err != nil {
				return false
			}
			defer response.Body.Close()
			return response.StatusCode == http.StatusOK
		}
		if !answers("18081") {
			t.Error("the hostPort does not answer")
		}
		for _, port := range []string{"8080", "8081"} {
			if answers(port) {
				t.Errorf("the machine answers on %s", port)
			}
		}
		if got := w.podman.CLI(t, "port", "--all"); strings.Contains(got, "8080/") {
			t.Errorf("Podman publishes %s", got)
		}
	})
}
