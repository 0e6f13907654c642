package hosttest

import (
	"context"
	"strconv"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Usage is what a container takes while it runs. The limits of the container do not limit it.
type Usage struct {
	CPU    int64 // thousandths of a processor; it adds up, but not while the container is paused
	Memory int64 // bytes
}

// Measure is what running containers have used.
func (h *Host) Measure(ctx context.Context, ids []string) (measured map[string]host.Measurement, err error) {
	err = h.call(ctx, "Measure", strconv.Itoa(len(ids)), func() error {
		measured = make(map[string]host.Measurement, len(ids))
		for _, id := range ids {
			if c := h.ctrs[id]; c != nil && c.lives() {
				c.settle()
				measured[id] = host.Measurement{CPU: c.spent, Memory: c.uses.Memory, At: c.since}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return measured, nil
}

// settle adds up what a container has used until now.
func (c *container) settle() {
	now := time.Now()
	if c.state != fleet.Paused {
		c.spent += time.Duration(float64(now.Sub(c.since)) * float64(c.uses.CPU) / 1000)
	}
	c.since = now
}

// Use changes what a container takes from now on. What it has used of the processors it keeps.
func (h *Host) Use(idOrName string, uses Usage) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.findContainer(idOrName)
	if c == nil {
		return notFound("container", idOrName)
	}
	c.settle()
	c.uses = uses
	return nil
}
