package fleet

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// NetworkSettings is how a fleet's network is laid out. The zero value is a fleet without Services.
type NetworkSettings struct {
	Services bool // Services are served
	// Without says why Services are served at node ports alone, by a proxy: they have no addresses and names, and policies do not
	// hold. Empty: they are served whole.
	Without string
	Pods    netip.Prefix   // of all pods; each node has a part of it
	Addrs   []netip.Prefix // of ClusterIPs: one an IP family, the first is the default family
	Domain  string         // below which Services and pods have their names
	DNS     netip.Addr     // where pods ask for names
	Virtual []netip.Addr   // addresses of the fleet itself: one node has each of them at a time
	Fast    bool           // addresses move within a third of a second instead of half of one
	Pools   []AddressPool  // of addresses for Services of type LoadBalancer; the first that fits is taken from
	// Between is how pods of different nodes reach one another, and TunnelPort the UDP port of nodes at which tunnels end.
	Between    PodNetwork
	TunnelPort uint16
}

// PodNetwork is how pods of different nodes reach one another.
type PodNetwork string

// The ways. PodsAuto is also what an empty word means.
const (
	PodsAuto   PodNetwork = "auto"    // each pair of nodes by itself: plain routes on one link, else a tunnel
	PodsApart  PodNetwork = "none"    // not at all
	PodsRouted PodNetwork = "host-gw" // by plain routes, for nodes on one link
	PodsVXLAN  PodNetwork = "vxlan"   // through tunnels
	// PodsWireGuard: through tunnels in which nobody else reads, and that let nobody else in.
	PodsWireGuard PodNetwork = "wireguard"
)

// AddressPool is a set of addresses that clients outside reach the fleet by.
type AddressPool struct {
	Name       string         `json:"name"`
	Addrs      []netip.Prefix `json:"addrs,omitempty"`
	Namespaces []string       `json:"namespaces,omitempty"` // whose Services may have one; empty: all
}

// Exposure is what was given to a Service once and stays its own: for the life of the Service, whatever else of it changes.
type Exposure struct {
	ID     ObjectID     `json:"id"`
	Source SourceName   `json:"source"`
	Addrs  []netip.Addr `json:"addrs,omitempty"` // ClusterIPs; empty for headless ones and ExternalName
	// NodePorts are by protocol and port of the Service: "TCP/80".
	NodePorts map[string]int32 `json:"nodePorts,omitempty"`
	// Balancers are those of a Service of type LoadBalancer, one an IP family at most.
	Balancers []netip.Addr `json:"balancers,omitempty"`
}

// PortKey is what NodePorts are found by.
func PortKey(protocol corev1.Protocol, port int32) string {
	return string(protocol) + "/" + strconv.Itoa(int(port))
}

// HealthPort is the key in NodePorts of the port at which balancers outside ask whether a host has ends of a Service.
const HealthPort = "TCP/health"

// HealthCheck is what a host answers there.
type HealthCheck struct {
	Service ObjectID
	Number  uint16
	Ends    int // how many ready ends the host has itself
}

// HostNet is all that the network of one host should be for Services. Fronts are in the order of FrontOrder, no two alike in address,
// protocol and number. The zero value wants nothing: what was made before is taken down.
type HostNet struct {
	Fronts []Front
	// Pods are the addresses that pods have, which tell them from clients outside.
	Pods []netip.Prefix
	// Here are the addresses of the host's own pods, in no order. Connections to one that is no more are forgotten: who goes on
	// with one is told at once, and another that has its numbers is not led to where nobody is.
	Here []netip.Addr
	// Addrs are those that the host itself has for Services, in order: neighbours are told that they are here.
	Addrs []netip.Addr
	// Checks are in the order of their Services' IDs.
	Checks []HealthCheck
	// Fences are of the host's own pods, in the order of their addresses.
	Fences []Fence
	// Routes lead to the pods of other nodes, in the order of Pods, no two of which overlap.
	Routes []Route
	// Tunnel is the host's own end of those routes that lead through a tunnel; the zero value where none does.
	Tunnel Tunnel
}

// Route is how a host reaches the pods of another node.
type Route struct {
	Node   NodeName
	Pods   netip.Prefix // its part of the pod network
	Via    netip.Addr   // its address
	Tunnel bool         // packets are wrapped and sent there; else it is a neighbour and gets them as they are
	Key    PublicKey    // by which WireGuard knows it; the zero value where that is not what wraps them
}

// Tunnel is a host's end of the tunnels between nodes.
type Tunnel struct {
	Pods netip.Prefix // the host's own part of the pod network, by which others know its end
	MTU  int          // of what goes through
	Port uint16       // of UDP, on all nodes
	// WireGuard wraps packets, and VXLAN does not.
	WireGuard bool
}

// PublicKey is what WireGuard knows a node by. It is no secret. The zero value is none.
type PublicKey [32]byte

// MarshalText writes a key as wg(8) does.
func (k PublicKey) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, k[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (k *PublicKey) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil || len(raw) != len(k) {
		return fmt.Errorf("%q is no key of %d bytes in base64", text, len(k))
	}
	copy(k[:], raw)
	return nil
}

// Fence is what NetworkPolicies let begin to and from a pod. Its own host and itself it always reaches, and they it.
type Fence struct {
	Pod             netip.Addr
	Ingress, Egress Gate
}

// Gate is one direction of a fence. The zero Gate is open.
type Gate struct {
	Closed bool // but for what Passes let through
	Passes []Pass
}

// Pass lets connections through: to or from Peers, at ports from First to Last of Protocol.
type Pass struct {
	Peers       []netip.Prefix  // in order, none within another; nil: everybody
	Protocol    corev1.Protocol // empty: all, at all ports
	First, Last uint16          // 0 and 65535: all ports
}

// Verdict is what becomes of a connection to a front without ends.
type Verdict string

// The verdicts.
const (
	Serve  Verdict = ""       // it has ends
	Reject Verdict = "reject" // nobody serves: it is refused at once
	Drop   Verdict = "drop"   // somebody does, and not here: it is passed over in silence
)

// Front is one address and port at which a Service is reached.
type Front struct {
	Service  ObjectID
	Port     string // its name in the Service; may be empty
	Protocol corev1.Protocol
	Addr     netip.Addr // the zero Addr: any address of the host itself (a node port)
	Number   uint16
	// Sticky: connections of one client go to one end for so long; 0 for not.
	Sticky time.Duration
	// Masquerade: the ends see a client that is no pod under the host's address, so that answers come back this way.
	Masquerade bool
	// From are the clients that may come, in order; nil: all. The host itself may in any case.
	From    []netip.Prefix
	Verdict Verdict
	Ends    []End // in the order of their addresses, each once
}

// End is where a Service's connections go.
type End struct {
	Addr netip.Addr
	Port uint16
}

// FrontOrder orders fronts by address, protocol and number.
func FrontOrder(a, b Front) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number), a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port))
}

// Compare orders ends by address and port.
func (e End) Compare(o End) int { return cmp.Or(e.Addr.Compare(o.Addr), cmp.Compare(e.Port, o.Port)) }

// Zone is what DNS answers below a domain. Names are whole, in lower case, without the last dot.
type Zone struct {
	Domain    string
	Addresses map[string][]netip.Addr // A and AAAA, in order
	Services  map[string][]SRV        // SRV, in order
	Aliases   map[string]string       // CNAME
	Names     map[netip.Addr]string   // PTR
}

// SRV is one answer to who serves a port.
type SRV struct {
	Target string
	Port   uint16
}
