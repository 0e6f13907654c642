package agent

import (
	"context"
	"net"
	"net/netip"
	"reflect"
	"time"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Network is what Services need of a machine. An agent without one serves none.
type Network struct {
	Settings fleet.NetworkSettings
	Bridge   host.Bridge // that pods are on
	Rules    host.Network
	// Prepare makes the bridge and all its ports as Services need them; what is so already is left alone. It is no error that
	// the machine has no link of it yet: Podman makes that with the first pod.
	Prepare func(ctx context.Context) error
	Names   Names
	// DNSAt is where Names listens: with Packets and Listener, which the agent closes.
	DNSAt    netip.AddrPort
	Packets  net.PacketConn
	Listener net.Listener
}

// checkEvery is how often is looked for rules that somebody else removed: it costs most where somebody else changes rules.
const checkEvery = 15 * time.Second

// Names answers for the cluster's domain.
type Names interface {
	// Set says what is answered from now on. It must not be changed afterwards.
	Set(zone fleet.Zone)
	// Serve answers until ctx ends, and closes what it listens on.
	Serve(ctx context.Context, packets net.PacketConn, listener net.Listener) error
}

// settings are the network's; the zero value without one.
func (n *Network) settings() fleet.NetworkSettings {
	if n == nil {
		return fleet.NetworkSettings{}
	}
	return n.Settings
}

// at is where DNS listens; the zero value without a network.
func (n *Network) at() netip.AddrPort {
	if n == nil {
		return netip.AddrPort{}
	}
	return n.DNSAt
}

// cluster is what a pod of a namespace is told of it.
func (n *Network) cluster(desired fleet.Desired, a fleet.Assignment, namespace string) apply.Cluster {
	if n == nil {
		return apply.Cluster{}
	}
	return apply.Cluster{
		Bridge: n.Bridge.Name, Domain: n.Settings.Domain, DNS: n.Settings.DNS, Services: reconcile.Variables(desired, a, namespace),
	}
}

// serve makes the machine's network as planned. It comes before the chains of the plan begin: a pod that goes has left the
// rotation before it is told to end.
func (w *worker) serve(ctx context.Context, plan reconcile.NodePlan) error {
	n := w.Network
	if n == nil {
		return nil
	}
	if err := n.Prepare(ctx); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(w.checked) > checkEvery {
		w.checked = now
		lost, err := n.Rules.Check(ctx)
		if err != nil {
			return err
		}
		if lost {
			w.Log.Warn("somebody removed rules of Services: they are written anew")
		}
	}
	if err := n.Rules.Serve(ctx, plan.Net); err != nil {
		return err
	}
	if !reflect.DeepEqual(w.zone, plan.Zone) {
		w.zone = plan.Zone
		n.Names.Set(plan.Zone)
	}
	return nil
}
