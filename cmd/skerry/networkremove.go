package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/hostnet"
	"github.com/skerry-dev/skerry/runtime/podman"
	"github.com/skerry-dev/skerry/runtime/vip"
)

func networkCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "network", Short: "Look after what Services made of this machine", Args: cobra.NoArgs}
	cmd.AddCommand(&cobra.Command{
		Use: "remove", Short: "Take away all that Services made of this machine's network", Args: cobra.NoArgs,
		Long: `Take away all that Services made of this machine's network: the tables skerry of nftables, addresses of
LoadBalancers and of the fleet with what guards them, the route to Services, those to pods of other nodes with their tunnel, and Podman's network ` + bridgeName + `.
Nobody else's are touched.

The agent must not run: it would make them anew. Pods that are on the network keep it; they are named, and
the rest is taken away all the same.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.removeNetwork(cmd.Context()) },
	})
	return cmd
}

func (o *options) removeNetwork(ctx context.Context) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	if _, err := api.NewClient(c.Listen.Socket).Status(ctx); !errors.Is(err, api.ErrNoAgent) {
		return errors.Join(errors.New("the agent runs, and would make it anew: stop it first"), err)
	}
	return c.unmakeNetwork(ctx, slog.New(slog.NewTextHandler(o.err, nil)))
}

// unmakeNetwork takes away all that Services and other nodes' pods made of this machine's network.
func (c config) unmakeNetwork(ctx context.Context, log *slog.Logger) error {
	rules, err := hostnet.New(log, nil) //nolint:contextcheck // it asks the kernel once
	if err == nil {
		err = rules.Serve(ctx, fleet.HostNet{})
	}
	return errors.Join(err, vip.Sweep(), podman.New(c.Podman.Socket).RemoveBridge(ctx, bridgeName), unroute(bridgeLink, c.Network.settings().Addrs))
}

// unmakeTimeout bounds what a machine that leaves its fleet has to wait for Podman.
const unmakeTimeout = 20 * time.Second

// leaveNetwork is unmakeNetwork for a machine that leaves its fleet: what runs there yet, of DaemonSets say, keeps the bridge.
func (c config) leaveNetwork(ctx context.Context, log *slog.Logger) {
	if c.Network.Services == servicesOff {
		return // there is none
	}
	ctx, cancel := context.WithTimeout(ctx, unmakeTimeout)
	defer cancel()
	if err := c.unmakeNetwork(ctx, log); err != nil {
		log.Warn("of the fleet's network something is left here; skerry network remove takes it away when no pod is on it", "err", err)
	}
}

// unroute takes away the machine's routes to Services, if the bridge is still there: they went with it otherwise.
func unroute(bridge string, services []netip.Prefix) error {
	link, err := netlink.LinkByName(bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", bridge, err)
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list routes of %s: %w", bridge, err)
	}
	var errs []error
	for i := range routes {
		for _, p := range services {
			if r := &routes[i]; r.Dst != nil && r.Dst.String() == p.Masked().String() {
				errs = append(errs, netlink.RouteDel(r))
			}
		}
	}
	return errors.Join(errs...)
}
