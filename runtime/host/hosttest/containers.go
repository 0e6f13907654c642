package hosttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// container is a container on the machine, and its process.
type container struct {
	id       string
	spec     host.Container
	imageID  string
	state    fleet.ContainerState
	limits   fleet.Limits
	created  time.Time
	started  time.Time
	finished time.Time
	code     int32
	message  string
	starved  bool // the kernel killed a process of it
	process  Process
	timer    *time.Timer
	ended    chan struct{} // closed when the process has ended
	overdue  func()        // what came due while it was paused
	stuck    bool          // its monitor is dead: nobody notices its end
	uses     Usage         // what it takes now
	spent    time.Duration // of processor time, until since
	since    time.Time
}

// StartContainer creates a container in a running pod and starts it.
func (h *Host) StartContainer(ctx context.Context, c host.Container) (id string, err error) {
	err = h.call(ctx, "StartContainer", c.Name, func() error {
		p := h.pods[c.PodID]
		image, here := h.images[normal(c.Image)]
		switch {
		case p == nil:
			return fmt.Errorf("create container %s: %w", c.Name, notFound("pod", c.PodID))
		case h.containerNamed(c.Name) != nil || h.podNamed(c.Name) != nil:
			return fmt.Errorf("create container %s: %w", c.Name, taken("container", c.Name))
		case !here:
			return fmt.Errorf("create container %s: %w", c.Name, notFound("image", c.Image))
		case p.infra != fleet.Running:
			return fmt.Errorf("start container %s: the infra container of its pod is %s", c.Name, p.infra)
		case c.PID == host.Shared && p.box.PID != host.Shared:
			return fmt.Errorf("create container %s: its pod does not share process IDs", c.Name)
		}
		for _, m := range c.Mounts {
			if h.claimAt(m.Source) == nil && !h.Volumes.there(m.Source) {
				return fmt.Errorf("create container %s: statfs %s: no such file or directory", c.Name, m.Source)
			}
		}
		process := h.program(c)
		if process.Fails != "" {
			return fmt.Errorf("start container %s: %s", c.Name, process.Fails)
		}
		id = h.run(c, image, process).id
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// run makes a container whose process lives.
func (h *Host) run(spec host.Container, image string, process Process) *container {
	c := &container{
		id: h.id("container"), spec: cloneContainer(spec), imageID: image, state: fleet.Running, limits: spec.Limits,
		created: time.Now().UTC(), started: now(), message: process.Message, process: process, ended: make(chan struct{}),
		uses: process.Uses, since: time.Now(),
	}
	h.ctrs[c.id] = c
	switch {
	case process.Ends && process.After <= 0:
		h.endByItself(c)
	case process.Ends:
		h.after(c, process.After, func() { h.endByItself(c) })
	}
	return c
}

// after ends a process when it is time; while it is frozen it waits.
func (h *Host) after(c *container, d time.Duration, end func()) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if c.state == fleet.Paused {
			c.overdue = end
			return
		}
		end()
	})
}

func (h *Host) endByItself(c *container) {
	if c.lives() {
		c.starved = c.process.OutOfMemory
	}
	h.end(c, c.process.Code)
}

// end is the end of a process.
func (h *Host) end(c *container, code int32) {
	if h.ctrs[c.id] != c || !c.lives() {
		return
	}
	c.state, c.code, c.finished = fleet.Exited, code, now()
	c.over()
	h.ring()
}

func (c *container) lives() bool {
	return c.state == fleet.Running || c.state == fleet.Paused || c.state == fleet.Stopping
}

// over lets go of what waits for the process.
func (c *container) over() {
	if c.timer != nil {
		c.timer.Stop()
	}
	select {
	case <-c.ended:
	default:
		close(c.ended)
	}
}

func (h *Host) drop(c *container) {
	c.over()
	delete(h.ctrs, c.id)
}

// killed is the exit code of a process that SIGKILL ended.
const killed = 137

// StopContainer sends the stop signal and kills after grace. A stop whose caller goes away is carried out
// all the same, as in Podman.
func (h *Host) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	var ended chan struct{}
	about := fmt.Sprintf("%s within %s", h.nameOf(id), grace)
	err := h.call(ctx, "StopContainer", about, func() error {
		c := h.findContainer(id)
		switch {
		case c == nil:
			return notFound("container", id)
		case c.state == fleet.Paused:
			return fmt.Errorf("stop container %s: it is paused: container state improper", id)
		case !c.lives(), c.stuck:
			return nil
		}
		ended = c.ended
		if c.state == fleet.Stopping {
			return nil // a stop is under way: wait for that
		}
		c.state = fleet.Stopping
		switch {
		case c.process.Deaf, c.process.Lingers > grace:
			h.after(c, grace, func() { h.end(c, killed) })
		case c.process.Lingers > 0:
			h.after(c, c.process.Lingers, func() { h.end(c, c.process.Told) })
		default:
			h.end(c, c.process.Told)
		}
		return nil
	})
	if err != nil || ended == nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RemoveContainer removes a container by force.
func (h *Host) RemoveContainer(ctx context.Context, id string) error {
	return h.call(ctx, "RemoveContainer", h.nameOf(id), func() error {
		if c := h.findContainer(id); c != nil {
			h.drop(c)
			h.ring()
		}
		return nil
	})
}

// RenameContainer gives a container another name.
func (h *Host) RenameContainer(ctx context.Context, id, name string) error {
	return h.call(ctx, "RenameContainer", h.nameOf(id)+" to "+name, func() error { return h.rename(id, name) })
}

func (h *Host) rename(id, name string) error {
	c := h.findContainer(id)
	switch {
	case c == nil:
		return notFound("container", id)
	case h.containerNamed(name) != nil || h.podNamed(name) != nil:
		return taken("container", name)
	}
	c.spec.Name = name
	h.ring()
	return nil
}

// Unpause thaws a container or a whole pod.
func (h *Host) Unpause(ctx context.Context, id string) error {
	return h.call(ctx, "Unpause", h.nameOf(id), func() error {
		c, p := h.ctrs[id], h.pods[id]
		switch {
		case c != nil:
			h.thaw(c)
		case p != nil:
			if p.infra == fleet.Paused {
				p.infra = fleet.Running
			}
			for _, c := range h.ctrs {
				if c.spec.PodID == id {
					h.thaw(c)
				}
			}
		default:
			return notFound("container or pod", id)
		}
		h.ring()
		return nil
	})
}

func (h *Host) thaw(c *container) {
	if c.state != fleet.Paused {
		return
	}
	c.settle()
	c.state = fleet.Running
	if c.overdue != nil {
		c.overdue()
		c.overdue = nil
	}
}

// LimitContainer changes a running container's limits.
func (h *Host) LimitContainer(ctx context.Context, id string, limits fleet.Limits) error {
	return h.call(ctx, "LimitContainer", h.nameOf(id), func() error {
		c := h.findContainer(id)
		switch {
		case c == nil:
			return notFound("container", id)
		case !c.lives():
			return fmt.Errorf("container %s is %s: container state improper", id, c.state)
		}
		c.limits = limits // Podman 4.3 has no event for that
		return nil
	})
}

func (h *Host) containerNamed(name string) *container {
	for _, c := range h.ctrs {
		if c.spec.Name == name {
			return c
		}
	}
	return nil
}

func (h *Host) findContainer(idOrName string) *container {
	if c := h.ctrs[idOrName]; c != nil {
		return c
	}
	return h.containerNamed(idOrName)
}

// Container is what the container with that ID or name was made from.
func (h *Host) Container(idOrName string) (host.Container, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.findContainer(idOrName)
	if c == nil {
		return host.Container{}, false
	}
	return cloneContainer(c.spec), true
}

// AddContainer makes a running container behind everybody's back. Its pod, if it names one, is not looked
// for.
func (h *Host) AddContainer(c host.Container) (id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id = h.run(c, h.images[normal(c.Image)], h.program(c)).id
	h.ring()
	return id
}

// Kill ends a container's process with that exit code; 137 is SIGKILL's. One that is frozen ends, too.
func (h *Host) Kill(idOrName string, code int32) error {
	return h.byContainer(idOrName, func(c *container) error {
		if !c.lives() {
			return errors.New("it does not run")
		}
		h.end(c, code)
		return nil
	})
}

// Say is what a container's process says of its end when that comes, or what it should have said.
func (h *Host) Say(idOrName, message string) error {
	return h.byContainer(idOrName, func(c *container) error {
		c.message = message
		return nil
	})
}

// Starve lets the kernel kill a container's process for want of memory.
func (h *Host) Starve(idOrName string) error {
	return h.byContainer(idOrName, func(c *container) error {
		if !c.lives() {
			return errors.New("it does not run")
		}
		c.starved = true
		h.end(c, killed)
		return nil
	})
}

// Pause freezes a container, or a pod with all that runs in it.
func (h *Host) Pause(idOrName string) error {
	return h.byHand(idOrName, func(p *pod, c *container) error {
		if c != nil {
			if c.state != fleet.Running {
				return fmt.Errorf("it is %s", c.state)
			}
			c.settle()
			c.state = fleet.Paused
			return nil
		}
		p.infra = fleet.Paused
		for _, c := range h.ctrs {
			if c.spec.PodID == p.id && c.state == fleet.Running {
				c.settle()
				c.state = fleet.Paused
			}
		}
		return nil
	})
}

// Said returns at once: processes here do all of their work as they start.
func (h *Host) Said(string) error { return nil }

// Rename gives a container another name by hand.
func (h *Host) Rename(idOrName, name string) error {
	return h.byContainer(idOrName, func(c *container) error { return h.rename(c.id, name) })
}

// Limit changes a container's limits by hand. No watcher hears of it.
func (h *Host) Limit(idOrName string, limits fleet.Limits) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.findContainer(idOrName)
	if c == nil {
		return notFound("container", idOrName)
	}
	c.limits = limits
	return nil
}

// Become puts a container in a state without anything having happened to its process: fleet.Unknown or
// fleet.Stopping is what a dead conmon leaves behind, fleet.Created a start that never came.
func (h *Host) Become(idOrName string, state fleet.ContainerState) error {
	return h.byContainer(idOrName, func(c *container) error {
		c.state, c.stuck = state, state == fleet.Stopping
		if state == fleet.Created {
			c.started = time.Time{}
		}
		return nil
	})
}

func (h *Host) byContainer(idOrName string, do func(c *container) error) error {
	return h.byHand(idOrName, func(_ *pod, c *container) error {
		if c == nil {
			return errors.New("that is no container")
		}
		return do(c)
	})
}

func cloneContainer(c host.Container) host.Container {
	c.Entrypoint, c.Args, c.Mounts = slices.Clone(c.Entrypoint), slices.Clone(c.Args), slices.Clone(c.Mounts)
	c.Env, c.Labels = cloneMap(c.Env), cloneMap(c.Labels)
	s := &c.Security
	s.Groups, s.CapAdd, s.CapDrop = slices.Clone(s.Groups), slices.Clone(s.CapAdd), slices.Clone(s.CapDrop)
	return c
}

func cloneMap(m map[string]string) map[string]string { return maps.Clone(m) }
