package e2e_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/internal/lab"
)

// TestSecretsAreNowhere plants values and looks for them, plain and encoded, in all that the agent writes.
func TestSecretsAreNowhere(t *testing.T) {
	const planted, broken, refused = "hunter2-in-a-volume", "hunter3-in-a-broken-file", "hunter4-of-a-wrong-type"
	w := newWorld(t)
	w.write("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: sec\n  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{\"stringData\":\""+planted+"\"}'}\nstringData: {password: "+planted+"}\n")
	w.write("broken.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: other}\nstringData: {password: "+broken+"\n")
	w.write("refused.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: third}\ndata: {password: ["+refused+"]}\n")
	w.write("web.yaml", deployment("web", 2, w.image, `        volumeMounts: [{name: sec, mountPath: /sec}]
      volumes: [{name: sec, secret: {secretName: sec}}]
`))
	w.commit("secrets")
	w.start()
	w.sync()
	w.write("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: sec}\nstringData: {password: "+planted+"-changed}\n")
	printed := map[string]string{}
	keep := func(name string, args ...string) {
		out, errOut, _ := w.run(args...)
		printed[name] = out + errOut
	}
	keep("diff of a folder", "diff", w.repo)
	keep("diff of a folder, json", "diff", "-o", "json", w.repo)
	keep("validate", "validate", w.repo)
	keep("render", "render", w.repo)
	w.commit("changed")
	w.sync()
	keep("status", "status", "-o", "wide")
	keep("status, json", "status", "-o", "json")
	keep("diff", "diff")
	for _, path := range []string{"/api/v1/secrets", "/api/v1/namespaces/default/secrets/sec", "/api/v1/pods", "/apis/apps/v1/deployments", "/metrics"} {
		printed[path] = w.raw(path)
	}
	for _, c := range w.containers() {
		printed["inspect of "+c.Name] = w.podman.CLI(t, "inspect", c.ID) + w.podman.CLI(t, "logs", c.ID)
	}
	for _, pod := range strings.Fields(w.podman.CLI(t, "pod", "ps", "-q")) {
		printed["inspect of pod "+pod] = w.podman.CLI(t, "pod", "inspect", pod)
	}
	w.stop()
	filesBelow(t, w.dataDir(), func(path string, data []byte) { printed[path] = string(data) })
	log, err := os.ReadFile(filepath.Join(w.dir, "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	printed["the agent's log"] = string(log)
	if !strings.Contains(printed["diff of a folder"], "(masked)") || !strings.Contains(printed["render"], "(masked)") {
		t.Errorf("nothing is masked:\n%s%s", printed["diff of a folder"], printed["render"])
	}
	for _, value := range []string{planted, broken, refused} {
		encoded := strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(value)), "=")
		for where, text := range printed {
			// The last character of what is encoded depends on what follows.
			if strings.Contains(text, value) || strings.Contains(text, encoded[:len(encoded)-1]) {
				t.Errorf("%s is in %s:\n%s", value, where, around(text, value))
			}
		}
	}
	if !strings.Contains(w.must("render", "--show-secrets", filepath.Join(w.repo, "secret.yaml")), base64.StdEncoding.EncodeToString([]byte(planted+"-changed"))) {
		t.Error("render --show-secrets does not show it")
	}
}

func around(text, value string) string {
	at := strings.Index(text, value)
	if at < 0 {
		return "(encoded)"
	}
	return text[max(0, at-200):min(len(text), at+200)]
}

// raw asks the agent's socket.
func (w *world) raw(path string) string {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	c := http.Client{Transport: unixTransport(w.socket())}
	defer c.CloseIdleConnections()
	response, err := c.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

// TestAppliedSecretsStayInMemory: what is applied by hand is kept on disk, but not Secrets.
func TestAppliedSecretsStayInMemory(t *testing.T) {
	const planted = "hunter6-applied"
	w := newWorld(t)
	folder := filepath.Join(w.dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: v1\nkind: Secret\nmetadata: {name: sec}\nstringData: {password: " + planted + "}\n---\n" +
		deployment("web", 1, w.image, "        volumeMounts: [{name: sec, mountPath: /sec}]\n      volumes: [{name: sec, secret: {secretName: sec}}]\n")
	if err := os.WriteFile(filepath.Join(folder, "all.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.must("apply", "--wait", "60s", folder)
	w.stop()
	encoded := base64.StdEncoding.EncodeToString([]byte(planted))
	filesBelow(t, w.dataDir(), func(path string, data []byte) {
		if bytes.Contains(data, []byte(planted)) || bytes.Contains(data, []byte(encoded)) {
			t.Errorf("the secret is on disk in %s", path)
		}
	})
	w.start() // and the agent still has it
	w.podman.CLI(t, "pod", "rm", "-f", "-t", "0", strings.TrimSpace(w.podman.CLI(t, "pod", "ps", "-q")))
	w.until(30*time.Second, "the pod again", func(s api.Status) bool { return s.Settled && len(w.running()) == 1 })
}

func TestApplyDiffDeleteWithoutAgent(t *testing.T) {
	w := newWorld(t)
	folder := filepath.Join(w.dir, "folder")
	put := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("web.yaml", deployment("web", 2, w.image, ""))
	out, errOut, code := w.run("diff", folder)
	if code != 1 || !strings.Contains(out, "create Deployment/default/web") || !strings.Contains(out, "start default/web-") {
		t.Fatalf("diff before: exit code %d\n%s%s", code, out, errOut)
	}
	if pods := w.podman.CLI(t, "pod", "ps", "-q"); pods != "" {
		t.Fatalf("diff made something: %s", pods)
	}
	w.must("apply", folder)
	before := w.running()
	if len(before) != 2 {
		t.Fatalf("%d run, want 2", len(before))
	}
	if out, errOut, code := w.run("diff", folder); code != 0 {
		t.Fatalf("diff after: exit code %d\n%s%s", code, out, errOut)
	}
	// An agent that starts takes over what was applied.
	w.start()
	w.sync()
	for name, id := range before {
		if w.running()[name] != id {
			t.Errorf("%s was restarted when an agent came", name)
		}
	}
	put("web.yaml", deployment("web", 1, lab.TestImage+":2", ""))
	out, _, code = w.run("diff", folder)
	if code != 1 || !strings.Contains(out, "spec.replicas: 2 -> 1") || !strings.Contains(out, "containers[main].image") {
		t.Fatalf("diff of a change: exit code %d\n%s", code, out)
	}
	w.must("apply", folder)
	if list := w.containers(); len(list) != 1 || list[0].Image != lab.TestImage+":2" {
		t.Fatalf("after apply: %v", list)
	}
	put("more.yaml", deployment("more", 1, w.image, ""))
	w.must("apply", folder)
	if err := os.Remove(filepath.Join(folder, "more.yaml")); err != nil {
		t.Fatal(err)
	}
	w.must("apply", folder) // what the folder had before and has no more goes
	if list := w.containers(); len(list) != 1 {
		t.Fatalf("after a file was removed: %v", list)
	}
	w.must("delete", folder)
	if list := w.containers(); len(list) != 0 {
		t.Fatalf("after delete: %v", list)
	}
	if s := w.status(); len(s.Workloads) != 0 {
		t.Errorf("status still has %v", s.Workloads)
	}
}

func TestGitOwnsWhatItHas(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", deployment("web", 1, w.image, ""))
	w.commit("web")
	w.start()
	w.sync()
	before := w.running()
	w.write("web.yaml", deployment("web", 2, w.image, ""))
	_, errOut, code := w.run("apply", w.repo)
	if code != 2 || !strings.Contains(errOut, "web.yaml") || !strings.Contains(errOut, "source home") {
		t.Fatalf("apply of what Git owns: exit code %d\n%s", code, errOut)
	}
	// diff of the checkout says what a push would do, and so does a folder that is not the whole of it.
	out, _, code := w.run("diff", w.repo)
	if code != 1 || !strings.Contains(out, "Against source home") || !strings.Contains(out, "spec.replicas: 1 -> 2") || strings.Contains(out, "delete") {
		t.Fatalf("diff: exit code %d\n%s", code, out)
	}
	w.write("new.yaml", deployment("new", 1, w.image, ""))
	w.remove("web.yaml")
	w.write("web2.yaml", strings.Replace(deployment("web2", 1, w.image, ""), "web2", "web2", 1))
	out, _, code = w.run("diff", filepath.Join(w.repo, "new.yaml"))
	if code != 1 || strings.Contains(out, "delete") || !strings.Contains(out, "create Deployment/default/new") {
		t.Fatalf("diff of one file: exit code %d\n%s", code, out)
	}
	if len(w.running()) != 1 || len(before) != 1 {
		t.Error("diff did something")
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	w := newWorld(t)
	w.start()
	_, errOut, code := w.run("agent")
	if code != 2 || !strings.Contains(errOut, "another skerry runs on this node") {
		t.Fatalf("exit code %d\n%s", code, errOut)
	}
	if w.status().Node != "alpha" {
		t.Error("the first agent was disturbed")
	}
	// Another data folder does not make it another node.
	other := filepath.Join(w.dir, "other.yaml")
	text := "node: {name: beta, address: 127.0.0.1, dataDir: " + filepath.Join(w.dir, "other") + "}\n" +
		"podman: {socket: 'unix://" + filepath.Join(w.dir, "podman.sock") + "'}\nlisten: {socket: " + w.socket() + "}\n"
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errOut, code = w.run("agent", "--config", other)
	if code != 2 || !strings.Contains(errOut, "another agent answers") {
		t.Fatalf("exit code %d\n%s", code, errOut)
	}
	info, err := os.Stat(w.socket())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
}

func TestServes(t *testing.T) {
	w := newWorld(t)
	w.write("all.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {a: b}\n---\n"+
		deployment("web", 1, w.image, ""))
	w.commit("web")
	w.start()
	w.sync()
	for path, wants := range map[string][]string{
		"/healthz":                             {"ok"},
		"/readyz":                              {"ok"},
		"/metrics":                             {`skerry_source_objects{source="home"} 3`, `skerry_pods{phase="Running",ready="true"} 1`, `skerry_steps_total{outcome="ok",verb="start"} 1`, "skerry_pass_duration_seconds", "skerry_source_checked_timestamp_seconds"},
		"/api/v1/namespaces":                   {`"kind":"NamespaceList"`, `"name":"shop"`, `"name":"default"`},
		"/api/v1/nodes":                        {`"name":"alpha"`},
		"/api/v1/namespaces/shop/configmaps/c": {`"a":"b"`, `"kind":"ConfigMap"`},
		"/api/v1/namespaces/shop/pods":         {`"items":[]`},
		"/api/v1/pods":                         {`"phase":"Running"`, `"podIP":"10.`, `"apiVersion":"v1"`, `"containerID":"podman://`},
		"/apis/apps/v1/deployments":            {`"kind":"DeploymentList"`, `"availableReplicas":1`, `"apiVersion":"apps/v1"`},
		"/apis/apps/v1/namespaces/default/replicasets": {`"readyReplicas":1`, `"kind":"Deployment"`, "pod-template-hash"},
		"/api/v1/namespaces/default/pods/none":         {`"reason":"NotFound"`, `"code":404`},
		"/api/v1/endpoints":                            {`"code":404`},
	} {
		body := w.raw(path)
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %s:\n%.600s", path, want, body)
			}
		}
	}
}

// TestGitTrouble: without Git, what ran runs, is looked after and is said to be old.
func TestGitTrouble(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", deployment("web", 1, w.image, ""))
	w.commit("web")
	w.start()
	w.sync()
	before := w.running()
	if err := os.Rename(w.repo, w.repo+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.repo, 0o755); err != nil { // commands are run there
		t.Fatal(err)
	}
	_, errOut, code := w.run("sync")
	if code != 1 || !strings.Contains(errOut, "home:") {
		t.Fatalf("sync: exit code %d\n%s", code, errOut)
	}
	w.stop()
	w.start()
	w.podman.CLI(t, "rm", "-f", "-t", "0", w.containers()[0].ID)
	w.until(30*time.Second, "healed without Git", func(s api.Status) bool { return s.Settled && len(w.running()) == 1 })
	s := w.status()
	if len(s.Sources) != 1 || s.Sources[0].Revision == "" || s.Sources[0].Objects != 1 {
		t.Errorf("source: %+v", s.Sources)
	}
	w.until(20*time.Second, "that the source fails", func(s api.Status) bool { return s.Sources[0].State == "Failing" && s.Sources[0].Error != "" })
	if len(before) != 1 {
		t.Error("nothing ran before")
	}
}
