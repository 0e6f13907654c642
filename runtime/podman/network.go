package podman

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	nettypes "github.com/containers/common/libnetwork/types"
	"github.com/containers/podman/v4/pkg/bindings/network"
	"github.com/containers/podman/v4/pkg/domain/entities"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// EnsureBridge makes sure of a network.
func (m *Machine) EnsureBridge(ctx context.Context, b host.Bridge) error {
	ctx, err := m.connect(ctx)
	if err != nil {
		return err
	}
	if is, err := isBridge(ctx, b); is || err != nil {
		return err
	}
	want := &nettypes.Network{
		Name: b.Name, Driver: "bridge", NetworkInterface: b.Interface, Labels: map[string]string{fleet.LabelBridge: b.Subnet.String()},
		Subnets: []nettypes.Subnet{{Subnet: nettypes.IPNet{IPNet: ipNet(b.Subnet)}, Gateway: net.IP(b.Gateway().AsSlice())}},
	}
	if _, err := network.Create(ctx, want); err != nil {
		if is, errIs := isBridge(ctx, b); is && errIs == nil { // another pod of ours was first
			return nil
		}
		return fmt.Errorf("create network %s: %w", b.Name, kind(ctx, err))
	}
	return nil
}

// isBridge reports whether a network is there already; one that is not as it should be is an error.
func isBridge(ctx context.Context, b host.Bridge) (bool, error) {
	there, err := network.Inspect(ctx, b.Name, nil)
	switch err = kind(ctx, err); {
	case err == nil:
		return true, sameBridge(there, b)
	case errors.Is(err, host.ErrNotFound):
		return false, nil
	default:
		return false, fmt.Errorf("inspect network %s: %w", b.Name, err)
	}
}

// sameBridge is an error when a network of that name is somebody else's, or has other addresses.
func sameBridge(n nettypes.Network, b host.Bridge) error {
	subnet, ours := n.Labels[fleet.LabelBridge]
	switch {
	case !ours:
		return fmt.Errorf("network %s: %w: it is in Podman and not Skerry's", b.Name, host.ErrConflict)
	case subnet != b.Subnet.String() || n.NetworkInterface != b.Interface:
		return fmt.Errorf("network %s: %w: it has the addresses %s on %s; stop its pods and remove it with podman network rm to have it made with %s",
			b.Name, host.ErrConflict, subnet, n.NetworkInterface, b.Subnet)
	default:
		return nil
	}
}

// RemoveBridge removes a network of ours that no pod is on.
func (m *Machine) RemoveBridge(ctx context.Context, name string) error {
	ctx, err := m.connect(ctx)
	if err != nil {
		return err
	}
	there, err := network.Inspect(ctx, name, nil)
	if err = kind(ctx, err); errors.Is(err, host.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect network %s: %w", name, err)
	}
	if _, ours := there.Labels[fleet.LabelBridge]; !ours {
		return fmt.Errorf("network %s: %w: it is in Podman and not Skerry's", name, host.ErrConflict)
	}
	reports, err := network.Remove(ctx, name, nil)
	if err == nil {
		if i := slices.IndexFunc(reports, func(r *entities.NetworkRmReport) bool { return r.Err != nil }); i >= 0 {
			err = reports[i].Err
		}
	}
	if err != nil {
		return fmt.Errorf("remove network %s: %w", name, kind(ctx, err))
	}
	return nil
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: net.IP(p.Masked().Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
