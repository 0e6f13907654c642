package hosttest

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/runtime/host"
)

// Process is how a container's process lives and ends. The zero value runs for ever and ends with code 0 as
// soon as it is told to.
type Process struct {
	Fails   string        // it cannot be started, and this is why
	Ends    bool          // it ends by itself
	After   time.Duration // when Ends: after that; 0 is at once
	Code    int32         // when Ends: with that exit code
	Deaf    bool          // it takes no notice of the stop signal
	Lingers time.Duration // how long it takes to end when it is told to
	Told    int32         // its exit code when it is told to end
}

// published is an image in the registry.
type published struct {
	id       string
	transfer time.Duration
}

// AddImage puts images on the machine.
func (h *Host) AddImage(names ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		h.images[normal(name)] = h.id("image")
	}
}

// RemoveImage takes images off the machine. Containers made from them live on.
func (h *Host) RemoveImage(names ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		delete(h.images, normal(name))
	}
}

// Publish puts an image into the registry, a new one each time. A pull of it takes as long as transfer. What
// was not published cannot be pulled.
func (h *Host) Publish(name string, transfer time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.registry[normal(name)] = published{id: h.id("image"), transfer: transfer}
}

// Withdraw takes an image out of the registry.
func (h *Host) Withdraw(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.registry, normal(name))
}

// Behave says what processes of an image do from now on. What is running goes on as it is.
func (h *Host) Behave(image string, as Process) {
	h.BehaveAs(image, func(host.Container) Process { return as })
}

// BehaveAs is Behave by what each container is made from. It must not call the Host.
func (h *Host) BehaveAs(image string, program func(host.Container) Process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.programs[normal(image)] = program
}

func (h *Host) program(c host.Container) Process {
	if p := h.programs[normal(c.Image)]; p != nil {
		return p(c)
	}
	return Process{}
}

// TestImage is what the lab's test image does (internal/lab/testimage), as far as it shows from outside: for
// BehaveAs.
func TestImage(c host.Container) Process {
	words := append(slices.Clone(c.Entrypoint), c.Args...)
	if len(c.Entrypoint) > 0 && words[0] == "/skerry-test" {
		words = words[1:]
	}
	if len(words) == 0 {
		words = []string{"serve"}
	}
	word := func(n int) string {
		if n < len(words) {
			return words[n]
		}
		return ""
	}
	if words[0] == "seq" && len(words) > 1 { // the last step is what shows
		words = strings.Fields(words[len(words)-1])
	}
	span, _ := time.ParseDuration(word(1))
	switch mode := path.Base(words[0]); {
	case len(c.Entrypoint) > 0 && path.IsAbs(words[0]) && words[0] != "/skerry-test" && path.Dir(words[0]) != "/bin":
		return Process{Fails: fmt.Sprintf("exec: %q: no such file or directory", words[0])}
	case mode == "serve", mode == "sleep" && len(words) == 1:
		return Process{}
	case mode == "sleep":
		return Process{Ends: true, After: span}
	case mode == "ignore-term":
		return Process{Deaf: true}
	case mode == "exit":
		return Process{Ends: true, Code: code(word(1))}
	case mode == "crash-after":
		return Process{Ends: true, After: span, Code: code(word(2))}
	case strings.Contains("print print-err write cat ls env id seq", mode):
		return Process{Ends: true}
	case len(c.Entrypoint) > 0:
		return Process{Fails: fmt.Sprintf("exec: %q: executable file not found in $PATH", words[0])}
	default:
		return Process{Ends: true, Code: 1}
	}
}

func code(word string) int32 {
	n, err := strconv.ParseInt(word, 10, 32)
	if err != nil {
		return 1
	}
	return int32(n)
}

// reference is the grammar of image names, as far as it matters here.
var reference = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[\w][\w.-]{0,127})?(@[a-z0-9]+:[0-9a-f]{32,})?$`)

// normal is an image's name with a tag.
func normal(image string) string {
	last := image[strings.LastIndexByte(image, '/')+1:]
	if !strings.ContainsAny(last, ":@") {
		return image + ":latest"
	}
	return image
}

// Pull makes sure of an image.
func (h *Host) Pull(ctx context.Context, image string, policy corev1.PullPolicy) error {
	var from published
	var transfer bool
	err := h.call(ctx, "Pull", image, func() error {
		if !reference.MatchString(image) {
			return fmt.Errorf("image %q is no valid reference", image)
		}
		_, here := h.images[normal(image)]
		if policy != corev1.PullAlways {
			if here {
				return nil
			}
			if policy == corev1.PullNever {
				return fmt.Errorf("image %s: %w on this node, and its pull policy is Never", image, host.ErrNotFound)
			}
		}
		if from, transfer = h.registry[normal(image)]; !transfer {
			return fmt.Errorf("pull image %s: manifest unknown", image)
		}
		return nil
	})
	if err != nil || !transfer {
		return err
	}
	timer := time.NewTimer(from.transfer)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images[normal(image)] = from.id
	return nil
}
