package e2e_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/reconcile"
)

// pullSecret is a Secret with a docker configuration.
func pullSecret(namespace, name string, config []byte) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: kubernetes.io/dockerconfigjson\ndata: {.dockerconfigjson: %s}\n",
		name, namespace, base64.StdEncoding.EncodeToString(config))
}

// puller is a pod that runs an image of the test image's kind.
func puller(name, image, spec, container string) string {
	if container != "" {
		container = ", " + container
	}
	return podOf(name, spec+"  containers:\n  - {name: main, image: "+fmt.Sprintf("%q", image)+", args: [serve]"+container+"}\n")
}

// blobs are the downloads of a repository's layers and configurations that ended well, by path.
func blobs(r *lab.RegistryServer, repository string) map[string]int {
	count := map[string]int{}
	for _, request := range r.Requests() {
		if request.Method == "GET" && strings.HasPrefix(request.Path, "/v2/"+repository+"/blobs/") && request.Status < 300 {
			count[request.Path]++
		}
	}
	return count
}

// asked is how often somebody asked for an image's manifest.
func asked(r *lab.RegistryServer, repository string) int {
	return r.Count("", "/v2/"+repository+"/manifests/*")
}

// TestPrivateRegistry: who has the password gets the image, who has not is told so, and the password is nowhere.
func TestPrivateRegistry(t *testing.T) {
	const password = "hunter11-of-the-registry"
	w := newWorld(t)
	registry := lab.Registry(t, lab.RegistryOptions{User: "somebody", Password: password})
	digest := ""
	for _, name := range []string{"mine", "wrong", "nothing", "several", "account", "named", "other"} {
		digest = registry.Push(t, w.image, name+"/app:1")
	}
	image := func(name string) string { return registry.Image(name + "/app:1") }
	byDigest := registry.Image("other/app") + "@" + digest
	byBoth := registry.Image("other/app") + ":whatever@" + digest // as tools that pin images write it
	wrong := fmt.Appendf(nil, `{"auths":{%q:{"username":"somebody","password":"hunter12"}}}`, registry.Host())
	elsewhere := []byte(`{"auths":{"registry.example":{"username":"else","password":"hunter13"}}}`)
	// The longest path that fits is tried first: it is right for one repository, and the host's is wrong.
	mixed := fmt.Appendf(nil, `{"auths":{%q:{"username":"somebody","password":"hunter12"},%q:{"username":"somebody","password":%q}}}`,
		registry.Host(), "https://"+registry.Host()+"/several/", password)
	w.write("secrets.yaml", strings.Join([]string{
		pullSecret("default", "right", registry.DockerConfig()), pullSecret("default", "wrong", wrong), pullSecret("default", "elsewhere", elsewhere),
		pullSecret("default", "mixed", mixed), pullSecret("shop", "right", registry.DockerConfig()), pullSecret("shop", "wrong", wrong),
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: shop}\nimagePullSecrets: [{name: wrong}, {name: right}]\n",
	}, "---\n"))
	secrets := func(names ...string) string {
		return "  imagePullSecrets: [{name: " + strings.Join(names, "}, {name: ") + "}]\n"
	}
	inShop := func(doc string) string { return strings.Replace(doc, "metadata: {", "metadata: {namespace: shop, ", 1) }
	w.write("pods.yaml", strings.Join([]string{
		puller("mine", image("mine"), secrets("right"), ""),
		puller("several", image("several"), secrets("elsewhere", "none", "mixed"), ""),
		puller("digest", byDigest, secrets("wrong", "right"), ""),
		puller("both", byBoth, secrets("right"), ""),
		inShop(puller("account", image("account"), "", "")),
		inShop(puller("named", image("named"), secrets("wrong"), "")), // its own, and not the account's
		puller("nothing", image("nothing"), "", ""),
		puller("wrong", image("wrong"), secrets("wrong", "none"), ""),
		puller("never", image("mine")+"-and-not-here", secrets("right"), "imagePullPolicy: Never"),
		puller("noname", "Not an Image", secrets("right"), ""),
	}, "---\n"))
	w.commit("pods of a registry")
	w.start()
	w.must("sync")

	t.Run("who has no right to it is told", func(t *testing.T) {
		for _, pod := range []string{"nothing", "wrong"} {
			w.untilFails(pod, "authentication required", "unauthorized")
		}
		if !w.failsWith("wrong", "imagePullSecrets that are not there: none") {
			t.Errorf("the secret that is missing is not named: %+v", w.stateOf("wrong", "main"))
		}
		w.until(patience, "a pod that names its own secret does without its account's", func(s api.Status) bool {
			return slices.ContainsFunc(s.Pods, func(p reconcile.Line) bool {
				return p.ID.Namespace == "shop" && p.ID.Name == "named" && (p.Phase == "ErrImagePull" || p.Phase == "ImagePullBackOff")
			})
		})
		// It is mended at once, and that is seen when it is time to ask again.
		w.write("secrets.yaml", strings.ReplaceAll(read(t, filepath.Join(w.repo, "secrets.yaml")),
			base64.StdEncoding.EncodeToString(wrong), base64.StdEncoding.EncodeToString(registry.DockerConfig())))
		w.commit("the right password")
		w.must("sync")
	})
	t.Run("what cannot be pulled at all is called by its name", func(t *testing.T) {
		w.untilWaits("never", "main", "ErrImageNeverPull", image("mine")+"-and-not-here")
		w.untilWaits("noname", "main", "InvalidImageName", "Not an Image")
	})
	t.Run("who has one of the right secrets gets it", func(t *testing.T) {
		for _, name := range []string{"default_mine_main", "default_several_main", "default_digest_main", "default_both_main", "shop_account_main"} {
			w.until(patience, name+" runs", func(api.Status) bool { return w.running()[name] != "" })
		}
		id := w.podman.CLI(t, "image", "inspect", "--format", "{{.Id}}", w.image)
		for _, pod := range []string{"digest", "both"} {
			if s := w.stateOf(pod, "main"); s.ImageID != id {
				t.Errorf("%s runs %s (%s), want %s", pod, s.Image, s.ImageID, id)
			}
		}
	})
	t.Run("who has not waits longer each time, and has it once the secret is mended", func(t *testing.T) {
		w.untilWaits("nothing", "main", "ImagePullBackOff")
		if out := w.must("status"); !strings.Contains(out, "ImagePullBackOff") || !strings.Contains(out, "pull failed 2 times, not tried again before") {
			t.Errorf("status does not say so:\n%s", out)
		}
		w.untilRuns("wrong", "main")
	})
	t.Run("the passwords are nowhere", func(t *testing.T) {
		printed := map[string]string{
			"status": w.must("status", "-o", "json") + w.must("status", "-o", "wide"), "pods": w.raw("/api/v1/pods"), "secrets": w.raw("/api/v1/secrets"),
			"accounts": w.raw("/api/v1/serviceaccounts"),
			"diff":     func() string { out, errOut, _ := w.run("diff"); return out + errOut }(),
			"events":   w.podman.CLI(t, "events", "--stream=false", "--since", "1h"),
		}
		for _, c := range w.containers() {
			printed["inspect of "+c.Name] = w.podman.CLI(t, "inspect", c.ID)
		}
		for _, name := range []string{"/root/.docker/config.json", "/run/containers/0/auth.json", "/root/.config/containers/auth.json"} {
			if raw, err := os.ReadFile(name); err == nil {
				printed[name] = string(raw)
			}
		}
		w.stop()
		printed["the agent's log"] = read(t, filepath.Join(w.dir, "agent.log"))
		filesBelow(t, w.dataDir(), func(path string, data []byte) { printed[path] = string(data) })
		for where, text := range printed {
			for _, value := range []string{password, "hunter12", "hunter13"} {
				for _, form := range []string{value, base64.StdEncoding.EncodeToString([]byte("somebody:" + value))} {
					if strings.Contains(text, form) {
						t.Errorf("%s is in %s: %s", value, where, around(text, form))
					}
				}
			}
		}
		if strings.Contains(w.podman.Log(t), password) {
			t.Error("it is in Podman's log")
		}
	})
}

// untilFails waits until a pod's image failed to come, for one of these reasons.
func (w *world) untilFails(pod string, words ...string) {
	w.t.Helper()
	w.until(patience, pod+" fails to get its image", func(api.Status) bool {
		return slices.ContainsFunc(words, func(word string) bool { return w.failsWith(pod, word) })
	})
	out := w.must("status")
	if !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(out, word) }) {
		w.t.Errorf("status says none of %q:\n%s", words, out)
	}
}

func (w *world) failsWith(pod, word string) bool {
	w.t.Helper()
	return w.waits(pod, "main", "ErrImagePull", word) || w.waits(pod, "main", "ImagePullBackOff", word)
}

// TestPullPolicies: when the registry is asked, how often, and who waits for it.
func TestPullPolicies(t *testing.T) {
	w := newWorld(t)
	registry := lab.Registry(t, lab.RegistryOptions{})
	for _, name := range []string{"always", "once", "shared", "latest:latest"} {
		name, tag, _ := strings.Cut(name, ":")
		registry.PushNew(t, name+":"+max(tag, "1"), 300_000)
	}
	pinned := registry.Image("pinned") + ":1@" + registry.Push(t, w.image, "pinned:1")
	image := func(name string) string { return registry.Image(name + ":1") }
	w.write("always.yaml", puller("always", image("always"), "", "imagePullPolicy: Always"))
	w.write("once.yaml", puller("once", image("once"), "", "")) // a tag: IfNotPresent
	w.write("pinned.yaml", puller("pinned", pinned, "", ""))
	w.write("latest.yaml", puller("latest", registry.Image("latest"), "", ""))    // none: Always
	w.write("local.yaml", puller("local", w.image, "", "imagePullPolicy: Never")) // it is here
	const lingers = 11 * time.Second                                              // longer than Podman waits by itself
	w.write("leaves.yaml", puller("leaves", w.image, "", "env: [{name: LINGER, value: "+lingers.String()+"}, {name: TERM_FILE, value: /v/told}], volumeMounts: [{name: v, mountPath: /v}]")+
		"  volumes: [{name: v, hostPath: {path: "+w.dir+"}}]\n")
	text := read(t, filepath.Join(w.repo, "leaves.yaml"))
	w.write("leaves.yaml", strings.Replace(text, "terminationGracePeriodSeconds: 2", "terminationGracePeriodSeconds: 60", 1))
	w.commit("policies")
	w.start()
	w.sync()

	t.Run("Always asks at every start, IfNotPresent once", func(t *testing.T) {
		before := map[string]int{}
		for _, name := range []string{"always", "once", "pinned"} {
			before[name] = asked(registry, name)
			if before[name] == 0 {
				t.Errorf("nobody asked for %s", name)
			}
		}
		for _, name := range []string{"always", "once", "pinned"} {
			w.untilServes(name)
			w.untilRestarted(name, "main", 1)
		}
		for name, again := range map[string]bool{"always": true, "once": false, "pinned": false} {
			if n := asked(registry, name) - before[name]; n > 0 != again {
				t.Errorf("of %s the registry was asked %d times when it started again", name, n)
			}
			// What an image is, the blob with the image's ID, Podman reads each time; its layers it keeps.
			config := strings.TrimPrefix(w.stateOf(name, "main").ImageID, "sha256:")
			for path, n := range blobs(registry, name) {
				if n > 1 && !strings.HasSuffix(path, config) {
					t.Errorf("%s was transferred %d times", path, n)
				}
			}
		}
	})
	t.Run("what everybody wants at once comes once, and whoever wants something else waits for nobody", func(t *testing.T) {
		waiting, release := registry.Hold(t)
		var docs []string
		for i := range 4 {
			docs = append(docs, puller(fmt.Sprintf("shared-%d", i), image("shared"), "", ""))
		}
		w.write("shared.yaml", strings.Join(docs, "---\n"))
		w.write("other.yaml", puller("other", w.image, "", ""))
		w.remove("local.yaml") // and goes meanwhile
		w.commit("four of a kind, and another one")
		w.must("sync")
		first := <-waiting
		w.until(patience, "the other pod runs and one is gone, while an image is on its way", func(api.Status) bool {
			_, there := w.shown("local")
			return w.stateOf("other", "main").Ready && !there
		})
		if out := w.must("status"); !strings.Contains(out, "container main: pulling image "+image("shared")) {
			t.Errorf("status does not say what is pulled (%s is held):\n%s", first, out)
		}
		registry.Slow(100_000)
		release()
		w.until(patience, "how much has come", func(s api.Status) bool {
			return slices.ContainsFunc(s.Notes, func(n fleet.Note) bool {
				return strings.HasPrefix(n.About.Name, "shared-") && strings.Contains(n.Text, " of ") && strings.HasSuffix(n.Text, " MB")
			})
		})
		registry.Slow(0)
		for i := range 4 {
			w.untilRuns(fmt.Sprintf("shared-%d", i), "main")
		}
		for path, n := range blobs(registry, "shared") {
			if n != 1 {
				t.Errorf("%s was transferred %d times", path, n)
			}
		}
		for _, n := range w.status().Notes {
			if strings.Contains(n.Text, "pulling image") {
				t.Errorf("it is still said that %s", n.Text)
			}
		}
	})
	t.Run("without the registry Always does not start, and IfNotPresent does", func(t *testing.T) {
		w.remove("leaves.yaml")
		w.commit("one leaves, and takes its time")
		w.must("sync")
		registry.Fail(503)
		for _, name := range []string{"latest", "shared-0"} {
			w.untilServes(name)
			_ = get(t, w.address(name), "/exit?code=1")
		}
		w.until(patience, "latest waits for the registry", func(api.Status) bool { return w.failsWith("latest", registry.Image("latest")) })
		again := func(name string) {
			t.Helper()
			w.until(patience, name+" runs again", func(api.Status) bool {
				s := w.stateOf(name, "main")
				return s.RestartCount == 1 && s.State.Running != nil
			})
		}
		again("shared-0")
		registry.Fail(0)
		again("latest")
	})
	t.Run("and who was told to end had all the time that its pod gives it", func(t *testing.T) {
		w.until(patience, "that it is gone", func(api.Status) bool { _, there := w.shown("leaves"); return !there })
		got := read(t, filepath.Join(w.dir, "told"))
		at, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(strings.TrimPrefix(got, "TERM ")))
		if err != nil || time.Since(at) < lingers {
			t.Errorf("it was told %q, %v; at %s it is gone", got, err, time.Now())
		}
	})
}
