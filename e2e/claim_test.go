package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
)

// claimDoc is a claim of the class fast, which lets go of volumes if somebody listened to it, with an annotation on what
// becomes of its own if prune is not empty.
func claimDoc(name, prune string) string {
	if prune != "" {
		prune = ", annotations: {skerry.dev/prune: \"" + prune + "\"}"
	}
	return "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: " + name + prune + "}\nspec:\n" +
		"  accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Gi}}\n  storageClassName: fast\n"
}

// claimUser is a pod with a server that has a claim's volume on /data.
func (w *world) claimUser(name, claim, more string) string {
	return podOf(name, fmt.Sprintf(`
  containers:
  - {name: main, image: %s, args: [serve], volumeMounts: [{name: v, mountPath: /data}]}
%s  volumes: [{name: v, persistentVolumeClaim: {claimName: %s}}]
`, w.image, more, claim))
}

// mountpoint is where a volume of Podman's lies.
func (w *world) mountpoint(volume string) string {
	w.t.Helper()
	return w.podman.CLI(w.t, "volume", "inspect", "--format", "{{.Mountpoint}}", volume)
}

// volumes are the names of all of Podman's volumes, in their order.
func (w *world) volumes() []string {
	w.t.Helper()
	names := strings.Fields(w.podman.CLI(w.t, "volume", "ls", "--quiet"))
	slices.Sort(names)
	return names
}

// TestClaimsOutliveTheirPods: a claim's volume comes with the claim, and goes when the claim says so or never.
func TestClaimsOutliveTheirPods(t *testing.T) {
	w := newWorld(t)
	const fast = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: fast}\nprovisioner: skerry.dev/podman\nreclaimPolicy: Delete\n"
	w.podman.CLI(t, "volume", "create", "--label", "app=theirs", "default_taken")
	theirs := filepath.Join(w.mountpoint("default_taken"), "file")
	if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := func() string { return w.podman.CLI(t, "volume", "inspect", "default_taken") }
	strangerBefore := stranger()
	w.write("taken.yaml", w.claimUser("taken", "taken", "")+"---\n"+claimDoc("taken", "true"))
	w.write("fast.yaml", fast)
	w.write("first.yaml", w.claimUser("first", "data", "  - {name: bin, image: "+w.image+", command: [/skerry-test, sleep], volumeMounts: [{name: v, mountPath: /bin}]}\n"))
	w.write("second.yaml", strings.Replace(w.claimUser("second", "data", ""), "claimName: data", "claimName: data, readOnly: true", 1))
	for _, name := range []string{"temp", "brief"} {
		w.write(name+"-claim.yaml", claimDoc(name, "true"))
		w.write(name+"-pod.yaml", w.claimUser(name, name, ""))
	}
	w.commit("pods, and not all of their claims")
	w.start()
	w.must("sync")

	t.Run("a pod waits for a claim that is nowhere", func(t *testing.T) {
		w.untilWaits("first", "main", "ContainerCreating", "volume v: PersistentVolumeClaim default/data is not there")
		w.untilWaits("second", "main", "ContainerCreating", "PersistentVolumeClaim default/data is not there")
	})
	t.Run("a volume that is somebody else's is not taken for the claim's", func(t *testing.T) {
		w.untilWaits("taken", "main", "ContainerCreating", "volume default_taken", "it is in Podman and not Skerry's")
	})
	t.Run("and runs when the claim is there", func(t *testing.T) {
		w.write("data.yaml", claimDoc("data", ""))
		w.commit("the claim")
		w.must("sync")
		w.untilRuns("first", "bin")
		w.untilRuns("second", "main")
		if diff := cmp.Diff([]string{"default_brief", "default_data", "default_taken", "default_temp"}, w.volumes()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("nothing of the image is put into it, and all of its pods share it", func(t *testing.T) {
		if got := w.sees("first", "bin", "/skerry-test", "ls", "/bin"); got != "" {
			t.Errorf("it has %q", got)
		}
		w.sees("first", "main", "write", "/data/note", "from the first")
		if got := w.sees("second", "main", "cat", "/data/note"); got != "from the first" {
			t.Errorf("the second reads %q", got)
		}
		if out, code := w.within("second", "main", "write", "/data/note", "x"); code == 0 || !strings.Contains(out, "read-only file system") {
			t.Errorf("who has it to read writes to it: exit code %d: %s", code, out)
		}
	})
	t.Run("Podman keeps it while a container has it", func(t *testing.T) {
		for _, volume := range []string{"default_data", "default_temp"} {
			if out, err := w.podman.CLIErr(t, "volume", "rm", volume); err == nil || !strings.Contains(err.Error(), "being used") {
				t.Errorf("podman volume rm %s: %s %v", volume, out, err)
			}
		}
	})
	t.Run("it outlives the container", func(t *testing.T) {
		w.untilServes("first")
		w.untilRestarted("first", "main", 1)
		if got := get(t, w.address("first"), "/file?path=/data/note"); got != "from the first" {
			t.Errorf("it reads %q", got)
		}
	})
	t.Run("it outlives its claim, as do the pods", func(t *testing.T) {
		before := w.running()
		for _, name := range []string{"data.yaml", "temp-claim.yaml", "brief-claim.yaml", "brief-pod.yaml"} {
			w.remove(name)
		}
		w.commit("claims go")
		w.must("sync")
		w.until(patience, "that the volume of temp waits for its pod, and brief is gone", func(s api.Status) bool {
			return slices.ContainsFunc(s.Notes, func(n fleet.Note) bool {
				return n.About.Name == "temp" && n.Text == "its claim is gone: the volume is removed when no pod uses it any more"
			}) && len(w.claims()) == 2
		})
		if diff := cmp.Diff([]string{"default/data", "default/temp"}, w.claims()); diff != "" {
			t.Error(diff)
		}
		for name, id := range before {
			if !strings.Contains(name, "brief") && w.running()[name] != id {
				t.Errorf("%s was restarted", name)
			}
		}
	})
	t.Run("it outlives its pods, unless the claim had said otherwise", func(t *testing.T) {
		for _, name := range []string{"first.yaml", "second.yaml", "temp-pod.yaml", "fast.yaml"} {
			w.remove(name)
		}
		w.commit("pods go, and even the class")
		w.must("sync")
		w.until(patience, "that the volume of temp is gone", func(s api.Status) bool { return len(w.claims()) == 1 && len(s.Pods) == 1 })
		if diff := cmp.Diff([]string{"default_data", "default_taken"}, w.volumes()); diff != "" {
			t.Error(diff)
		}
		w.write("third.yaml", w.claimUser("third", "data", ""))
		w.commit("another pod, of a claim whose volume is left")
		w.must("sync")
		w.untilRuns("third", "main")
		if got := w.sees("third", "main", "cat", "/data/note"); got != "from the first" {
			t.Errorf("it reads %q", got)
		}
	})
	t.Run("the stranger's was never touched", func(t *testing.T) {
		w.remove("taken.yaml")
		w.commit("nobody asks for it any more")
		w.sync()
		if diff := cmp.Diff(strangerBefore, stranger()); diff != "" {
			t.Error(diff)
		}
		if got, err := os.ReadFile(theirs); string(got) != "theirs" {
			t.Errorf("it has %q, %v", got, err)
		}
	})
}

// claims are those of which Podman has a volume.
func (w *world) claims() []string {
	w.t.Helper()
	host, err := w.machine.Look(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for _, c := range host.Claims {
		list = append(list, c.Claim.String())
	}
	return list
}
