package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// Checker watches what all hosts of a site run, and knows in the end whether a promise was broken:
//
//   - No two containers of StatefulSet pods of one name run at once, in different pods or on different hosts. That holds for
//     hosts that are cut off, too: they go on with what they have.
//   - A tick of a CronJob is run once: no second pod comes for its Job while the first runs or when it has ended well. A Job
//     must have no parallelism.
//   - No container ends, and no pod, and comes again from the same template, unless the checker was told of a cause, the power
//     was cut, or a container crashed. What a test makes end by itself with one of the codes 0, 137 and 143 it has to
//     tell as a cause.
//
// It reads the file into which Podman writes events, and nothing else. That costs Podman nothing, goes on while its service is
// down, and misses nothing, however short: what a host wrote can still be read when its power is gone.
type Checker struct {
	site *Site
	stop func()
	done chan struct{} // closed when nothing is read any more

	mu      sync.Mutex
	reading map[*Host]*log
	pods    map[string]fleet.Identity // by UID
	seen    []happening
}

// eventsFile is where Podman writes events when events_logger is "file".
const eventsFile = "/run/libpod/events/events.log"

// log is one boot's file of events.
type log struct {
	path string
	file *os.File // nil until it is there
	rest []byte   // of a line that is not yet complete
}

// Watch begins to check. What happened before is seen, too, as far back as the hosts were last switched on.
func (s *Site) Watch() *Checker {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(s.t.Context()))
	c := &Checker{
		site: s, stop: stop, done: make(chan struct{}),
		reading: map[*Host]*log{}, pods: map[string]fleet.Identity{},
	}
	s.mu.Lock()
	s.checkers = append(s.checkers, c)
	s.mu.Unlock()
	for _, h := range s.Hosts {
		if path, err := h.path(eventsFile); err == nil {
			c.reading[h] = &log{path: path}
		}
	}
	go c.watch(ctx)
	s.t.Cleanup(c.end)
	return c
}

func (s *Site) watching() []*Checker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.checkers)
}

// watch reads now and then: what is in a file that is open is not lost with the host.
func (c *Checker) watch(ctx context.Context) {
	defer close(c.done)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.read()
		}
	}
}

// end stops reading. What was seen can still be reported.
func (c *Checker) end() {
	c.stop()
	<-c.done
	c.read()
	for _, h := range c.site.Hosts {
		c.close(h)
	}
}

func (c *Checker) close(h *Host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.reading[h]; l != nil && l.file != nil {
		l.file.Close()
	}
	delete(c.reading, h)
}

// Cause tells that there is a reason for pods to end from now on: they are scaled down, drained, killed. pods is how their
// names begin, "default/web-" say; empty for all. The returned function says that it is over.
func (c *Checker) Cause(pods, why string) (settled func()) {
	c.told(happening{what: cause, pods: pods, why: why})
	return func() { c.told(happening{what: over, pods: pods, why: why}) }
}

func (c *Checker) told(h happening) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.at.IsZero() {
		h.at = time.Now()
	}
	c.seen = append(c.seen, h)
}

func (c *Checker) poweredOn(h *Host) {
	path, err := h.path(eventsFile)
	if err != nil {
		return
	}
	c.told(happening{host: h.Name, what: powerOn})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading[h] = &log{path: path}
}

func (c *Checker) poweredOff(h *Host, at time.Time) {
	c.read()
	c.told(happening{host: h.Name, what: powerCut, at: at})
	c.close(h)
}

// Report fails the test when a promise was broken, with all that happened. t may be a subtest.
func (c *Checker) Report(t testing.TB) {
	t.Helper()
	c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(c.seen, func(a, b happening) int { return a.at.Compare(b.at) })
	broken := judge(c.seen)
	if len(broken) == 0 {
		return
	}
	for _, v := range broken {
		t.Error(v)
	}
	var timeline strings.Builder
	for _, h := range c.seen {
		timeline.WriteString(h.String() + "\n")
	}
	t.Logf("what happened:\n%s", timeline.String())
}

// Fewest is the smallest number of running containers (those that hold pods together left out) of pods whose names begin so
// that there was since a moment. Unlike what a look at one host after the other shows, it is what there was at one time.
func (c *Checker) Fewest(pods string, since time.Time) int {
	c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(c.seen, func(a, b happening) int { return a.at.Compare(b.at) })
	return fewest(c.seen, pods, since)
}

// read takes what the hosts have written since.
func (c *Checker) read() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for h, l := range c.reading {
		raw, err := l.more()
		if err != nil {
			c.site.t.Errorf("the events of host %s: %v", h.Name, err)
			continue
		}
		for line := range bytes.Lines(raw) {
			c.event(h.Name, line)
		}
	}
}

// more is the lines that have come since, all of them complete.
func (l *log) more() ([]byte, error) {
	if l.file == nil {
		file, err := os.Open(l.path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		l.file = file
	}
	raw, err := io.ReadAll(l.file)
	raw = append(l.rest, raw...)
	end := bytes.LastIndexByte(raw, '\n') + 1
	l.rest = slices.Clone(raw[end:])
	return raw[:end], err
}

// event takes one event as Podman writes it.
func (c *Checker) event(host string, line []byte) {
	var e struct {
		ID, Name, Status, Type string
		Time                   time.Time
		ContainerExitCode      int
		Attributes             map[string]string
	}
	if err := json.Unmarshal(line, &e); err != nil {
		c.site.t.Errorf("the events of host %s: %q: %v", host, line, err)
		return
	}
	uid := e.Attributes[fleet.LabelPodUID]
	if e.Type != "container" || uid == "" {
		return
	}
	// What holds a pod together has the labels of the pod, and is made before its containers.
	if id, err := fleet.ParseIdentity(e.Attributes); err == nil {
		c.pods[uid] = id
	}
	h := happening{
		at: e.Time, host: host, id: e.ID, uid: uid, container: e.Attributes[fleet.LabelContainerName],
		pod: c.pods[uid], code: e.ContainerExitCode,
	}
	switch e.Status {
	case "start":
		h.what = started
	case "died":
		h.what = ended
	case "remove":
		h.what = removed
	default:
		return
	}
	c.seen = append(c.seen, h)
}
