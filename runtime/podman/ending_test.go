package podman_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/podman"
)

// TestLastWords: a message is what a container says, however it says it, and nothing else of the machine.
func TestLastWords(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	pod, _ := ours(t, m, image, "web")
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("the machine's"), 0o600); err != nil {
		t.Fatal(err)
	}
	const file, logs = "File /why", "FallbackToLogsOnError /why"
	var lines []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("print line-%d", i))
	}
	for i, c := range []struct {
		name, label string
		link        bool // the file is one by the time it is read
		args        []string
		is          func(message string) bool
	}{
		{"a link to somebody else's", file, true, []string{"exit", "1"}, func(m string) bool { return m == "" }},
		{"no text", file, false, []string{"seq", "write /why caf\xe9", "exit 1"}, func(m string) bool { return m == "caf\uFFFD" }},
		{"many lines", logs, false, append(append([]string{"seq"}, lines...), "exit 1"), func(m string) bool {
			return strings.HasSuffix(m, "\nline-198\nline-199\n") && strings.HasPrefix(m, "line-120\n")
		}},
		{"one long line", logs, false, []string{"seq", "print " + strings.Repeat("é", 20_000), "exit 1"}, func(m string) bool {
			return len(m) > 1900 && len(m) <= 2048+utf8.UTFMax && utf8.ValidString(m) && strings.HasSuffix(strings.TrimSpace(m), "ééé")
		}},
		{"nothing", logs, false, []string{"exit", "1"}, func(m string) bool { return m == "" }},
	} {
		path := filepath.Join(dir, fmt.Sprint("why", i))
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		id := ""
		waitFor(t, m, func() {
			var err error
			id, err = m.StartContainer(t.Context(), host.Container{
				Name: fmt.Sprint("speaker", i), PodID: pod, Image: image, Args: c.args, Mounts: []host.Mount{{Source: path, Target: "/why"}},
				Labels: map[string]string{fleet.LabelPodUID: "uid-web", fleet.LabelContainerName: fmt.Sprint("speaker", i), fleet.LabelMessage: c.label},
			})
			if err != nil {
				t.Fatal(err)
			}
		}, func(h fleet.Host) bool {
			for _, o := range h.Pods[0].Containers {
				if o.ID == id && o.State == fleet.Exited {
					return true
				}
			}
			return false
		})
		if c.link { // as a container could make it that has the folder around it
			if err := errors.Join(os.Remove(path), os.Symlink(secret, path)); err != nil {
				t.Fatal(err)
			}
		}
		// A machine of its own, which has not asked before.
		for _, o := range look(t, podman.New(s.URL())).Pods[0].Containers {
			if o.ID == id && !c.is(o.Message) {
				t.Errorf("%s: %d bytes: %.300q", c.name, len(o.Message), o.Message)
			}
		}
	}
}
