package hosttest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Hand is somebody at the machine who does not go through the ports. A host given to Run that has it is
// tested for what it sees then.
type Hand interface {
	// Kill ends a container's process; with 137 by SIGKILL, the only code that every machine has.
	Kill(container string, code int32) error
	// Pause freezes a container or pod.
	Pause(id string) error
	// Said blocks until a running container has written a line: then its process has begun its work.
	Said(container string) error
}

// Registry is a registry beside the machine. A host given to Run that has it is tested for how it pulls from there.
type Registry interface {
	// Offer puts an image with that name into the registry, which only a login gets, if there is one, and returns the
	// whole name to pull it by.
	Offer(name string, login *host.Login) (image string, err error)
	// Hold keeps transfers of an image from getting to an end until release is called.
	Hold(image string) (release func())
	// Transfers is how many transfers of an image's content were begun.
	Transfers(image string) int
}

// Run runs the conformance suite of host.Host and host.Volumes. open is called once a test; it may give the
// same machine each time. image is one that lies on the machine and in no registry, with the program of
// internal/lab/testimage in it; with the tags user, uid and uidgid there is one that has the user app, 1000
// and 1000:2000. without names tests, as "containers/out of memory", that are about what this machine cannot do.
func Run(t *testing.T, open func(t *testing.T) (h host.Host, v host.Volumes, image string), without ...string) {
	for _, part := range []struct {
		name  string
		tests map[string]func(*bench)
	}{
		{"pods", podTests}, {"containers", containerTests}, {"ends", endTests}, {"names", nameTests}, {"hand", handTests},
		{"namespaces", namespaceTests},
		{"exec", execTests}, {"measure", measureTests}, {"images", imageTests}, {"registry", registryTests}, {"claims", claimTests}, {"bridges", bridgeTests}, {"volumes", volumeTests},
	} {
		t.Run(part.name, func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(part.tests)) {
				t.Run(name, func(t *testing.T) {
					if slices.Contains(without, part.name+"/"+name) {
						t.Skip("not on this machine")
					}
					h, v, image := open(t)
					part.tests[name](&bench{T: t, Host: h, volumes: v, image: image, id: "t" + strconv.FormatInt(serial.Add(1), 10)})
				})
			}
		})
	}
}

// serial makes names that no other test has: they may share a machine.
var serial atomic.Int64

// bench is one test at work.
type bench struct {
	*testing.T
	host.Host
	volumes host.Volumes
	image   string
	id      string // of this test, part of all its names
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// is fails the test unless err is of a kind, and of no other.
func (b *bench) is(err, kind error) {
	b.Helper()
	for _, k := range []error{host.ErrNotFound, host.ErrConflict, host.ErrUnavailable, host.ErrNeverPulled, host.ErrImageName} {
		if errors.Is(err, k) != errors.Is(kind, k) {
			b.Fatalf("error is %v, want it to be %v", err, kind)
		}
	}
	if (err == nil) != (kind == nil) {
		b.Fatalf("error is %v, want %v", err, kind)
	}
}

// errOther is an error of no kind.
var errOther = errors.New("an error of no kind")

// sandbox is a pod of ours.
func (b *bench) sandbox() host.Sandbox {
	id := fleet.PodID{Namespace: "suite", Name: b.id}
	return host.Sandbox{Name: fleet.PodmanPod(id), Hostname: b.id, Labels: map[string]string{
		fleet.LabelPodName: id.Name, fleet.LabelPodNamespace: id.Namespace, fleet.LabelPodUID: "uid-" + b.id,
		fleet.LabelSource: "home", fleet.LabelRevision: "abc", fleet.LabelHash: "hash", fleet.LabelShape: "shape",
		fleet.LabelOwner: "ReplicaSet/suite/" + b.id, fleet.LabelController: "Deployment/suite/d",
		fleet.LabelSetHash: "label", fleet.LabelCreated: "2026-01-02T03:04:05.000000006Z",
	}}
}

// create makes a pod that goes at the end of the test.
func (b *bench) create(s host.Sandbox) string {
	b.Helper()
	id, err := b.CreatePod(b.Context(), s)
	b.must(err)
	b.Cleanup(func() { b.removePod(id) })
	return id
}

func (b *bench) removePod(id string) {
	b.Helper()
	if err := b.RemovePod(context.WithoutCancel(b.Context()), id); err != nil {
		b.Error(err)
	}
}

// container is one of ours in that pod; command is for the test image.
func (b *bench) container(pod, name string, command ...string) host.Container {
	return host.Container{
		Name: fleet.PodmanContainer(fleet.PodID{Namespace: "suite", Name: b.id}, name), PodID: pod, Image: b.image, Args: command,
		Labels: map[string]string{
			fleet.LabelPodUID: "uid-" + b.id, fleet.LabelContainerName: name, fleet.LabelContainerHash: "c-hash",
			fleet.LabelAttempt: "3", fleet.LabelBackoff: "40s",
		},
		Limits: fleet.Limits{Memory: 64 << 20, CPUQuota: 50_000, Shares: 102},
	}
}

func (b *bench) start(c host.Container) string {
	b.Helper()
	id, err := b.StartContainer(b.Context(), c)
	b.must(err)
	return id
}

func (b *bench) look() fleet.Host {
	b.Helper()
	seen, err := b.Look(b.Context())
	b.must(err)
	return seen
}

// pod is this test's own pod; nil when it is not there.
func (b *bench) pod() *fleet.ObservedPod {
	b.Helper()
	seen := b.look()
	for i := range seen.Pods {
		if seen.Pods[i].UID == "uid-"+b.id {
			return &seen.Pods[i]
		}
	}
	return nil
}

// seen is a container of this test's pod by its ID; nil when it is not there.
func (b *bench) seen(id string) *fleet.ObservedContainer {
	b.Helper()
	p := b.pod()
	if p == nil {
		return nil
	}
	for i := range p.Containers {
		if p.Containers[i].ID == id {
			return &p.Containers[i]
		}
	}
	return nil
}

// empty fails the test unless its pod is there with nothing in it.
func (b *bench) empty() {
	b.Helper()
	switch p := b.pod(); {
	case p == nil:
		b.Fatal("the pod is gone")
	case len(p.Containers) != 0:
		b.Fatalf("left behind: %+v", p.Containers)
	}
}

// busy starts a container and waits until its process has begun its work: a signal that comes before finds
// nobody who handles it.
func (b *bench) busy(pod, name, command string) (id string) {
	b.Helper()
	hand := b.hand()
	id = b.start(b.container(pod, name, "seq", "print up", command))
	b.must(hand.Said(id))
	return id
}

// ended waits until a container has ended.
func (b *bench) ended(id string) *fleet.ObservedContainer {
	b.Helper()
	var c *fleet.ObservedContainer
	b.until(func() bool {
		c = b.seen(id)
		return c == nil || c.State == fleet.Exited
	})
	if c == nil {
		b.Fatalf("container %s is gone", id)
	}
	return c
}

// until looks whenever the machine says that something changed, until that is true.
func (b *bench) until(is func() bool) {
	b.Helper()
	bell, stop := b.watch()
	defer stop()
	late := time.After(20 * time.Second)
	for !is() {
		select {
		case <-bell:
		case <-late:
			b.Fatal("no change came")
		}
	}
}

// watch returns a bell that rings at changes from now on.
func (b *bench) watch() (bell <-chan struct{}, stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	rung, ready, over := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		over <- b.Watch(ctx, func() { close(ready) }, func(string) {
			select {
			case rung <- struct{}{}:
			default:
			}
		})
	}()
	select {
	case <-ready:
	case err := <-over:
		cancel()
		b.Fatalf("Watch = %v", err)
	}
	return rung, func() {
		cancel()
		<-over
	}
}

// exec runs a command in a container, which has to end with code 0, and returns what it wrote.
func (b *bench) exec(container string, command ...string) string {
	b.Helper()
	code, output, err := b.Exec(b.Context(), container, command)
	b.must(err)
	if code != 0 {
		b.Fatalf("%q ended with %d: %s", command, code, output)
	}
	return string(output)
}

// hand is the machine's Hand, or the test is skipped.
func (b *bench) hand() Hand {
	b.Helper()
	hand, ok := b.Host.(Hand)
	if !ok {
		b.Skip("nobody is at this machine")
	}
	return hand
}
