package hosttest

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
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

	Uses Usage // what Measure finds that it takes, from its start on

	// Message is what it says of its end, for those who ask (fleet.LabelMessage), and OutOfMemory that it ends because
	// the kernel kills it.
	Message     string
	OutOfMemory bool

	// Exec is how commands act that are run beside it: their exit code and what they write. They are to end when ctx
	// does, which is also when the process ends. nil: true and false do what they always do, hang waits for ctx, and
	// there are no others. It may call the Host.
	Exec func(ctx context.Context, command []string) (code int, output string)
}

// published is an image in the registry.
type published struct {
	id       string
	transfer time.Duration
	login    *host.Login   // who may have it; nil: anybody
	held     chan struct{} // transfers wait until this is closed; nil: they do not
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

// Protect lets only those have a published image who are login.
func (h *Host) Protect(name string, login host.Login) {
	h.republish(name, func(p *published) { p.login = &login })
}

// Hold keeps transfers of a published image from getting to an end until release is called, more than once if need
// be.
func (h *Host) Hold(name string) (release func()) {
	held := make(chan struct{})
	h.republish(name, func(p *published) { p.held = held })
	return sync.OnceFunc(func() { close(held) })
}

func (h *Host) republish(name string, how func(p *published)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.registry[normal(name)]
	if !ok {
		panic("hosttest: " + name + " is not published") // a mistake of the test
	}
	how(&p)
	h.registry[normal(name)] = p
}

// Offer publishes an image under a name for it, for the login if there is one, and returns its whole name.
func (h *Host) Offer(name string, login *host.Login) (image string, err error) {
	image = "registry.example/" + name + ":1"
	h.Publish(image, 0)
	if login != nil {
		h.Protect(image, *login)
	}
	return image, nil
}

// Withdraw takes an image out of the registry.
func (h *Host) Withdraw(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.registry, normal(name))
}

// SetUser makes an image's process run as a user by itself.
func (h *Host) SetUser(image, user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users[normal(image)] = user
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

// ImageUser is whom an image's process runs as by itself.
func (h *Host) ImageUser(ctx context.Context, image string) (user string, err error) {
	err = h.call(ctx, "ImageUser", image, func() error {
		if _, here := h.images[normal(image)]; !here {
			return notFound("image", image)
		}
		user = h.users[normal(image)]
		return nil
	})
	return user, err
}

// ImageNames are the names of all images that are there.
func (h *Host) ImageNames(ctx context.Context) (names []string, err error) {
	err = h.call(ctx, "ImageNames", "", func() error {
		for name := range h.images {
			names = append(names, fleet.ImageName(name))
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

// transfer is an image on its way from the registry to the machine.
type transfer struct {
	from    published
	callers []*caller
	over    chan struct{} // closed when it has come to an end, or all callers are gone
	err     error         // why it came to none; set before over is closed
}

// caller is one Pull that waits for a transfer.
type caller struct {
	progress func(done, total int64)
	heard    int64 // the last done
}

// imageSize is what all images weigh, in bytes.
const imageSize = 4 << 20

// Pull makes sure of an image.
func (h *Host) Pull(ctx context.Context, p host.Pull) error {
	name := normal(p.Image)
	var t *transfer
	me := &caller{progress: p.Progress}
	lost, err := h.begin(ctx, "Pull", p.Image, func() (err error) {
		t, err = h.pull(p, me)
		return err
	})
	if err != nil {
		return err
	}
	if t == nil {
		return lost
	}
	select {
	case <-t.over:
		return cmp.Or(t.err, lost)
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.callers = slices.DeleteFunc(t.callers, func(c *caller) bool { return c == me })
	if len(t.callers) == 0 {
		h.finish(name, t, ctx.Err())
	}
	return ctx.Err()
}

// pull finds out what is to be done for an image: nothing, or to wait for a transfer.
func (h *Host) pull(p host.Pull, me *caller) (*transfer, error) {
	name := normal(p.Image)
	_, here := h.images[name]
	from, there := h.registry[name]
	switch {
	case !reference.MatchString(p.Image):
		return nil, fmt.Errorf("image %q: %w", p.Image, host.ErrImageName)
	case here && p.Policy != corev1.PullAlways:
		return nil, nil
	case p.Policy == corev1.PullNever:
		return nil, fmt.Errorf("image %s: %w", p.Image, host.ErrNeverPulled)
	case !there:
		return nil, fmt.Errorf("pull image %s: manifest unknown", p.Image)
	case from.login != nil && !slices.Contains(p.Logins, *from.login):
		return nil, fmt.Errorf("pull image %s: unauthorized: authentication required", p.Image)
	}
	t := h.pulls[name]
	if t == nil {
		t = &transfer{from: from, over: make(chan struct{})}
		h.pulls[name] = t
		h.pulled[name]++
		go h.transfer(name, t)
	}
	t.callers = append(t.callers, me)
	return t, nil
}

// transfer brings an image, a quarter at a time.
func (h *Host) transfer(name string, t *transfer) {
	const parts = 4
	took := time.Duration(0)
	for part := range time.Duration(parts) {
		h.tell(t, int64(part)*imageSize/parts)
		if part == parts-1 && t.from.held != nil {
			select {
			case <-t.from.held:
			case <-t.over:
				return
			}
		}
		until := t.from.transfer * (part + 1) / parts
		timer := time.NewTimer(until - took)
		select {
		case <-timer.C:
			took = until
		case <-t.over:
			timer.Stop()
			return
		}
	}
	for !h.arrived(name, t) {
		h.tell(t, imageSize)
	}
}

// tell tells all callers how much has come.
func (h *Host) tell(t *transfer, done int64) {
	h.mu.Lock()
	callers := slices.Clone(t.callers)
	h.mu.Unlock()
	for _, c := range callers {
		if c.progress != nil {
			c.progress(done, imageSize)
		}
		h.mu.Lock()
		c.heard = done
		h.mu.Unlock()
	}
}

// arrived ends a transfer all of which has come, unless somebody has yet to hear of that.
func (h *Host) arrived(name string, t *transfer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.ContainsFunc(t.callers, func(c *caller) bool { return c.heard < imageSize }) {
		return false
	}
	h.finish(name, t, nil)
	return true
}

// finish ends a transfer.
func (h *Host) finish(name string, t *transfer, err error) {
	if h.pulls[name] != t {
		return // it has ended
	}
	delete(h.pulls, name)
	t.err = err
	if err == nil {
		h.images[name] = t.from.id
	}
	close(t.over)
}

// breakTransfers ends all transfers without their images.
func (h *Host) breakTransfers() {
	for name, t := range h.pulls {
		h.finish(name, t, unavailable())
	}
}

// Transfers is how many transfers of an image were begun.
func (h *Host) Transfers(image string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pulled[normal(image)]
}
