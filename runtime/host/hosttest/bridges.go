package hosttest

import (
	"context"

	"github.com/skerry-dev/skerry/runtime/host"
)

// EnsureBridge makes sure of a network.
func (h *Host) EnsureBridge(ctx context.Context, b host.Bridge) error {
	return h.call(ctx, "EnsureBridge", b.Name, func() error {
		if there, ok := h.bridges[b.Name]; ok && there != b {
			return taken("network", b.Name)
		}
		h.bridges[b.Name] = b
		return nil
	})
}

// RemoveBridge removes a network.
func (h *Host) RemoveBridge(ctx context.Context, name string) error {
	return h.call(ctx, "RemoveBridge", name, func() error {
		delete(h.bridges, name)
		return nil
	})
}
