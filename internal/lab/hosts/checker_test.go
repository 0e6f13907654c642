package hosts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

// verdict takes what a Report says.
type verdict struct {
	testing.TB
	errors []string
	logs   string
}

func (v *verdict) Error(args ...any)               { v.errors = append(v.errors, fmt.Sprint(args...)) }
func (v *verdict) Logf(format string, args ...any) { v.logs += fmt.Sprintf(format, args...) }

// play makes a pod as an agent would, and runs its container.
func play(h *Host, id fleet.Identity, uid string) {
	id.UID = uid
	create := []string{"podman", "pod", "create", "--network=host", "--name=" + id.Pod.Name}
	for key, value := range id.Labels() {
		create = append(create, "--label="+key+"="+value)
	}
	h.Exec(create...)
	h.Exec("podman", "run", "--detach", "--pod="+id.Pod.Name, "--name="+id.Pod.Name+"-main",
		"--label="+fleet.LabelPodUID+"="+uid, "--label="+fleet.LabelContainerName+"=main", lab.TestImage+":1", "sleep")
}

// TestChecker breaks each promise, and does the same with a cause.
func TestChecker(t *testing.T) {
	s := New(t, 2)
	a, b := s.Host("a"), s.Host("b")
	play(a, db0, "u0") // seen, though nobody watches yet
	c := s.Watch()
	report := func() *verdict {
		v := &verdict{TB: t}
		c.Report(v)
		return v
	}
	// Podman begins its file anew at a certain size unless told otherwise.
	a.Exec("sh", "-c", "yes '{}' | head -c 3000000 >>"+eventsFile)

	settled := c.Cause("default/web-", "the test stops it")
	play(a, rep1, "u1")
	a.Exec("podman", "stop", "--time=0", "web-x1-main")
	a.Exec("podman", "start", "web-x1-main")
	settled()
	play(b, rep2, "u2")
	b.PowerCut()
	b.PowerOn()
	b.Exec("podman", "pod", "start", "web-x2")
	a.StopPodman()
	a.Exec("podman", "pod", "rm", "--force", "--time=0", "db-0")
	a.StartPodman()
	if v := report(); len(v.errors) > 0 {
		t.Fatalf("found fault with what is right: %s\n%s", v.errors, v.logs)
	}

	play(b, db0, "u3")
	if v := report(); len(v.errors) != 1 || !strings.Contains(v.errors[0], string(noRestarts)) {
		t.Errorf("a pod came again: %s\n%s", v.errors, v.logs)
	}
	play(a, db0, "u4")
	play(a, tick, "u5")
	play(b, tick, "u6")
	a.PowerCut() // right after: the last that it did is not lost
	v := report()
	var broken []string
	for _, text := range v.errors {
		first, _, _ := strings.Cut(text, "\n")
		broken = append(broken, strings.TrimPrefix(first, "broken: "))
	}
	if want := []string{string(noRestarts), string(onePod), string(oneRun)}; !slices.Equal(broken, want) {
		t.Errorf("broken are %q, want %q", broken, want)
	}
	for _, text := range []string{"power on", "the test stops it", "default/web-x1 (the pod)", "default/db-0 main", "b power cut", "a power cut", "code 137"} {
		if !strings.Contains(v.logs, text) {
			t.Errorf("the timeline has no %q:\n%s", text, v.logs)
		}
	}
}
