// Package hosttest is a machine in memory for tests, and the conformance suite that it and the real one
// pass.
//
// Host implements host.Host and host.Prober, and keeps what a real machine would keep: pods, containers with
// processes that live and end, claims, images here and in a registry. Its Volumes implement host.Volumes.
// Errors are of the same kinds as the real ones. It uses mutexes, channels and package time only, so that it
// works in testing/synctest bubbles, where its processes take no time to live for hours.
//
// A test can make the nth call of a verb fail, stall, or be carried out with its answer lost; count calls;
// take Podman or the power away; and act behind everybody's back: Kill, Pause, Rename, Lose and so on. String
// prints the whole machine.
//
// What it does not have: networks beyond addresses, logs, and of files in containers none but those that the
// machine puts there by itself.
package hosttest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Host is a machine in memory. All methods may be called at any time from any goroutine.
type Host struct {
	// Volumes are the machine's folders. Mounts of them must be there when a container starts.
	Volumes *Volumes

	mu       sync.Mutex
	next     int // for IDs and addresses
	images   map[string]string
	users    map[string]string // of images
	registry map[string]published
	pulls    map[string]*transfer // under way, by image
	pulled   map[string]int       // transfers ever begun, by image
	programs map[string]func(host.Container) Process
	pods     map[string]*pod        // by ID
	ctrs     map[string]*container  // by ID
	claims   map[string]*claim      // by name
	bridges  map[string]host.Bridge // by name
	execs    int                    // processes of Exec that live
	answer   func(host.Container, host.Probe) (host.Verdict, error)
	watchers map[chan struct{}]struct{}
	broken   chan struct{} // closed when the streams of events end
	down     bool

	calls   map[string]int
	faults  map[string][]*fault
	journal []string
}

var (
	_ host.Host   = (*Host)(nil)
	_ host.Prober = (*Host)(nil)
)

// New is a machine with nothing on it.
func New() *Host {
	h := &Host{
		images: map[string]string{}, users: map[string]string{}, registry: map[string]published{},
		pulls: map[string]*transfer{}, pulled: map[string]int{}, programs: map[string]func(host.Container) Process{},
		pods: map[string]*pod{}, ctrs: map[string]*container{}, claims: map[string]*claim{}, bridges: map[string]host.Bridge{}, watchers: map[chan struct{}]struct{}{},
		broken: make(chan struct{}), calls: map[string]int{}, faults: map[string][]*fault{},
	}
	h.Volumes = &Volumes{host: h, all: map[string]map[string]*folder{}, paths: map[string]pathKind{}}
	return h
}

// fault is what happens to one call.
type fault struct {
	call    int           // counted from the first call of its verb
	err     error         // what the caller gets
	act     bool          // it is carried out all the same
	release chan struct{} // it waits until this is closed; nil: it does not
}

// Fail makes the nth call of a verb from now on (1 is the next) fail with err. Verbs are the names of the
// methods of host.Host, host.Prober and host.Volumes. Nothing is done.
func (h *Host) Fail(verb string, nth int, err error) { h.plan(verb, nth, &fault{err: err}) }

// Lose makes the nth call of a verb from now on be carried out, and its answer get lost: the caller gets err.
func (h *Host) Lose(verb string, nth int, err error) { h.plan(verb, nth, &fault{err: err, act: true}) }

// Stall makes the nth call of a verb from now on wait, before anything is done, until release is called or
// its context ends. Release may be called more than once.
func (h *Host) Stall(verb string, nth int) (release func()) {
	f := &fault{act: true, release: make(chan struct{})}
	h.plan(verb, nth, f)
	return sync.OnceFunc(func() { close(f.release) })
}

func (h *Host) plan(verb string, nth int, f *fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.call = h.calls[verb] + nth
	h.faults[verb] = append(h.faults[verb], f)
}

// Calls is how many calls of a verb there were, stalled ones and failed ones included.
func (h *Host) Calls(verb string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[verb]
}

// Writes is how many calls there were that change something.
func (h *Host) Writes() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for verb, calls := range h.calls {
		if !reading[verb] {
			n += calls
		}
	}
	return n
}

// AllCalls is Calls for every verb that was called.
func (h *Host) AllCalls() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.calls)
}

// reading are the verbs that change nothing. What a process of Exec does is its own affair.
var reading = map[string]bool{
	"Look": true, "Watch": true, "PodAddresses": true, "List": true, "ImageUser": true, "Exec": true, "Probe": true, "Measure": true,
}

// ofNoPodman are verbs that a machine can do without Podman, at least in part.
var ofNoPodman = map[string]bool{"Probe": true, "Hook": true}

// Journal is every call that changes something, one line each, in the order in which they came in: its verb
// and what it is about.
func (h *Host) Journal() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.journal...)
}

// Down takes Podman away, as a crash of its service would: calls are host.ErrUnavailable, transfers and streams of
// events end, while processes live on. Volumes are not Podman's.
func (h *Host) Down() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = true
	h.breakStreams()
	h.breakTransfers()
}

// Up brings Podman back.
func (h *Host) Up() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = false
}

// Reboot cuts the power and gives it back. Whatever ran is dead and has no exit code: Podman 4 shows containers, infra
// containers among them, as created, with the time of their start. What had ended is seen as before. What lay in
// memory is gone, streams and transfers end. Podman is back when it was there.
func (h *Host) Reboot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.ctrs {
		if c.state != fleet.Exited {
			c.state, c.overdue, c.stuck = fleet.Created, nil, false
			c.over()
		}
	}
	for _, p := range h.pods {
		if p.infra != fleet.Exited {
			p.infra, p.ip = fleet.Created, netip.Addr{}
		}
	}
	h.Volumes.loseMemory()
	h.breakStreams()
	h.breakTransfers()
}

// loseMemory loses what lies in memory: secrets, scratch of that kind, what is mounted for sub-paths.
func (v *Volumes) loseMemory() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for uid, folders := range v.all {
		maps.DeleteFunc(folders, func(_ string, f *folder) bool { return f.memory })
		if len(folders) == 0 {
			delete(v.all, uid)
		}
	}
	maps.DeleteFunc(v.owned, func(name string, _ int64) bool { return strings.HasPrefix(name, memoryRoot+"/") })
}

// BreakWatch ends the streams of events and nothing else.
func (h *Host) BreakWatch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.breakStreams()
}

func (h *Host) breakStreams() {
	close(h.broken)
	h.broken = make(chan struct{})
}

// call counts a call, lets happen to it what is planned, and does it under the lock.
func (h *Host) call(ctx context.Context, verb, about string, do func() error) error {
	lost, err := h.begin(ctx, verb, about, do)
	if err != nil {
		return err
	}
	return lost
}

// begin is call for what goes on when the lock is let go of: lost, if not nil, is what its caller gets to hear in
// the end.
func (h *Host) begin(ctx context.Context, verb, about string, do func() error) (lost, err error) {
	f, err := h.enter(ctx, verb, about)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.down && !ofVolumes[verb] && !ofNoPodman[verb]:
		return nil, unavailable()
	case f == nil:
		return nil, do()
	case !f.act:
		return nil, f.err
	default:
		return f.err, do()
	}
}

func unavailable() error { return fmt.Errorf("%w: connection refused", host.ErrUnavailable) }

// enter counts a call and waits where it is to stall.
func (h *Host) enter(ctx context.Context, verb, about string) (*fault, error) {
	h.mu.Lock()
	h.calls[verb]++
	if !reading[verb] {
		h.journal = append(h.journal, verb+" "+about)
	}
	var f *fault
	for i, planned := range h.faults[verb] {
		if planned.call == h.calls[verb] {
			f = planned
			h.faults[verb] = append(h.faults[verb][:i:i], h.faults[verb][i+1:]...)
			break
		}
	}
	h.mu.Unlock()
	if f != nil && f.release != nil {
		select {
		case <-f.release:
		case <-ctx.Done():
		}
	}
	return f, ctx.Err()
}

// id makes an ID: like Podman's it is not the name, and unlike Podman's it is the same in every run.
func (h *Host) id(kind string) string {
	h.next++
	return kind + strconv.Itoa(h.next)
}

// ring tells all watchers that something changed.
func (h *Host) ring() {
	for bell := range h.watchers {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
}

// Watch calls changed after changes until ctx ends or the stream breaks.
func (h *Host) Watch(ctx context.Context, ready func(), changed func(uid string)) error {
	bell := make(chan struct{}, 1)
	var broken chan struct{}
	err := h.call(ctx, "Watch", "", func() error {
		h.watchers[bell] = struct{}{}
		broken = h.broken
		return nil
	})
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, bell)
	}()
	if err != nil {
		return err
	}
	ready()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-broken:
			return fmt.Errorf("%w: its event stream ended", host.ErrUnavailable)
		case <-bell:
			changed("")
		}
	}
}

// now is the time as Podman writes it for the start and end of a process.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func notFound(kind, id string) error { return fmt.Errorf("%w: no %s %q", host.ErrNotFound, kind, id) }

func taken(kind, name string) error {
	return fmt.Errorf("%w: the %s name %q is in use", host.ErrConflict, kind, name)
}

// ours reports whether labels are those of a pod of ours, as runtime/podman judges.
func ours(labels map[string]string) bool {
	_, err := fleet.ParseIdentity(labels)
	return err == nil
}

// nameOf is what journals say for an ID: the name where it is known.
func (h *Host) nameOf(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.ctrs[id]; c != nil {
		return c.spec.Name
	}
	if p := h.pods[id]; p != nil {
		return p.box.Name
	}
	return id
}
