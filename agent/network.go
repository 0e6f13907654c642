package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"time"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Network is what Services need of a machine. An agent without one serves none. Where they are served at node ports alone, Settings, Rules and
// Checks are all there is.
type Network struct {
	Settings fleet.NetworkSettings
	Rules    host.Network
	Checks   Checks
	Bridge   host.Bridge // that pods are on
	// Ensure makes the bridge in Podman, if it is not there. Safe for concurrent use.
	Ensure func(ctx context.Context) error
	// Prepare makes the bridge and all its ports as Services need them; what is so already is left alone. Fresh says that some port
	// was not, so that pods may have met each other without the machine in between. It is no error that the machine has no link of
	// the bridge yet: Podman makes that with the first pod. Safe for concurrent use.
	Prepare func() (fresh bool, err error)
	// Announce tells the pods on the bridge that others are reached by way of the machine. Whoever heard something else within the
	// last second does not listen.
	Announce func(others []netip.Addr) error
	// Watch calls ring when somebody else may have changed rules or links, until ctx ends. nil: nothing tells.
	Watch func(ctx context.Context, ring func()) error
	Names Names
	Links <-chan struct{} // rings when the machine may have other addresses of the fleet than before; nil: never
	// DNSAt is where Names listens: with Packets and Listener, which the agent closes.
	DNSAt    netip.AddrPort
	Packets  net.PacketConn
	Listener net.Listener
}

// serveAgain is when rules that could not be written are tried again.
const serveAgain = 2 * time.Second

// settled is when pods have heard what they were told of each other: who was told something else just before does not listen for a
// second (Linux's neigh/locktime).
const settled = 1100 * time.Millisecond

// Checks answers balancers outside that ask whether this host has ends of a Service.
type Checks interface {
	// Serve answers these from now on, and no others. A port that is taken is an error, and the others are served all the same.
	Serve(ctx context.Context, checks []fleet.HealthCheck) error
}

// Addresses has the machine have addresses of the fleet.
type Addresses interface {
	host.Addresses
	// Eligible says why the machine could not have an address now; empty: it could.
	Eligible(a netip.Addr) (why string)
}

// Names answers for the cluster's domain.
type Names interface {
	// Set says what is answered from now on. It must not be changed afterwards.
	Set(zone fleet.Zone)
	// Serve answers until ctx ends, and closes what it listens on.
	Serve(ctx context.Context, packets net.PacketConn, listener net.Listener) error
}

// links rings when links of the machine changed; nil where nothing tells.
func (a *Agent) links() <-chan struct{} {
	if a.Network == nil {
		return nil
	}
	return a.Network.Links
}

// settings are the network's; the zero value without one.
func (n *Network) settings() fleet.NetworkSettings {
	if n == nil {
		return fleet.NetworkSettings{}
	}
	return n.Settings
}

// at is where DNS listens; the zero value where there is none.
func (n *Network) at() netip.AddrPort {
	if n == nil {
		return netip.AddrPort{}
	}
	return n.DNSAt
}

// whole reports whether Services have addresses and names, and not node ports alone.
func (n *Network) whole() bool { return n != nil && n.Settings.Without == "" }

// cluster is what a pod of a namespace is told of it.
func (n *Network) cluster(desired fleet.Desired, a fleet.Assignment, namespace string) apply.Cluster {
	if !n.whole() {
		return apply.Cluster{}
	}
	return apply.Cluster{
		Bridge: n.Bridge.Name, Domain: n.Settings.Domain, DNS: n.Settings.DNS, Services: reconcile.Variables(desired, a, namespace),
		Ensure: n.Ensure,
		Prepare: func(context.Context) error {
			_, err := n.Prepare()
			return err
		},
	}
}

// serve makes the machine's network as planned. It comes before the chains of the plan begin: a pod that goes has left the
// rotation before it is told to end. Turned says that it has, whatever else could not be made.
func (w *worker) serve(ctx context.Context, plan reconcile.NodePlan) (turned bool, err error) {
	n := w.Network
	switch {
	case n == nil:
		return true, nil
	case !n.whole():
		return n.turn(ctx, plan.Net)
	}
	// What fails of it keeps rules from nobody: without them pods that are gone would be sent to.
	fresh, errBridge := n.Prepare()
	switch now := time.Now(); {
	case errBridge != nil:
		fresh = false
	case fresh:
		w.announce = now.Add(settled)
	case w.announce.IsZero() || now.Before(w.announce):
		fresh = false
	default:
		fresh, w.announce = true, time.Time{}
	}
	if fresh {
		errBridge = n.Announce(plan.Net.Here)
	}
	lost, errLook := n.Rules.Check(ctx)
	if lost {
		w.Log.Warn("somebody removed rules of Services: they are written anew")
	}
	turned, err = n.turn(ctx, plan.Net)
	if !reflect.DeepEqual(w.zone, plan.Zone) {
		w.zone = plan.Zone
		n.Names.Set(plan.Zone)
	}
	return turned, errors.Join(errBridge, errLook, err)
}

// turn makes rules and answers those of want. Turned says that connections go where they should: a port that somebody else has is
// missing to who asks there, and keeps nobody in the rotation.
func (n *Network) turn(ctx context.Context, want fleet.HostNet) (turned bool, err error) {
	err = n.Rules.Serve(ctx, want)
	_, partly := errors.AsType[host.Partly](err)
	turned = err == nil || partly
	return turned, errors.Join(err, n.Checks.Serve(ctx, want.Checks))
}

// roll is the nodes that the machine's network leads to; nil where it leads to none.
func (a *Agent) roll(ctx context.Context) ([]fleet.Node, error) {
	if a.Fleet == nil || !a.Network.whole() {
		return nil, nil
	}
	return a.Fleet.Roll.Nodes(ctx)
}

// met reports whether two descriptions of a node lead to it alike.
func met(a, b fleet.Node) bool {
	return a.Name == b.Name && a.Address == b.Address && a.Pods == b.Pods && a.Uplink == b.Uplink && a.Key == b.Key
}

// watchNetwork has passes made when somebody else changed rules or links. Without it they are found at the next pass.
func (a *Agent) watchNetwork(ctx context.Context) error {
	if a.Network.Watch == nil {
		return nil
	}
	if err := a.Network.Watch(ctx, a.nodeBell.ring); err != nil && ctx.Err() == nil {
		a.Log.Warn("changes that others make to rules and links are not told: they are found a little later", "err", err)
	}
	return nil
}
