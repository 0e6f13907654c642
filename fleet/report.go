package fleet

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Node is a machine of the fleet: what it says of itself, and what others know of it.
type Node struct {
	Name    NodeName          `json:"name"`
	Labels  map[string]string `json:"labels,omitempty"`
	Taints  []corev1.Taint    `json:"taints,omitempty"`
	Address string            `json:"address,omitempty"`
	// Fleet is where other nodes reach its agent, host:port; empty on a single node.
	Fleet       string              `json:"fleet,omitempty"`
	Pods        netip.Prefix        `json:"pods,omitzero"`    // its part of the pod network; the zero Prefix on a single node, or before it was given one
	Uplink      Uplink              `json:"uplink,omitzero"`  // that has its Address
	Key         PublicKey           `json:"key,omitzero"`     // of its end of WireGuard's tunnels
	Server      bool                `json:"server,omitempty"` // it may lead, and lets machines in
	Voter       bool                `json:"voter,omitempty"`  // it keeps a copy of the fleet's memory; no node does where that is somebody else's etcd
	Version     string              `json:"version,omitempty"`
	Certificate []byte              `json:"certificate,omitempty"` // that others know it by when they talk without TLS; no secret
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`

	New           bool   `json:"-"` // it has joined and was never heard of: nothing of the fleet's can be on it
	Unschedulable bool   `json:"-"` // it is cordoned, by Git or by an intent
	Down          string `json:"-"` // why it cannot act; empty when it can
}

// Uplink is the link by which a node reaches others. The zero value is not known.
type Uplink struct {
	Net netip.Prefix `json:"net,omitzero"` // what is on the link: neighbours in it are reached without a router
	MTU int          `json:"mtu,omitempty"`
}

// PodReport is what a node says of one pod that carries our labels, in a slot or not.
type PodReport struct {
	Identity
	Status corev1.PodStatus
	Usage  []Usage // of its containers that were measured lately, in the order of their names
}

// Usage is what a container used of late.
type Usage struct {
	Container string
	CPU       int64 // thousandths of a core, over the time since the measurement before
	Memory    int64 // bytes: the working set, as the kubelet reckons it
	At        time.Time
}

// NodeReport is what a node says of itself. It dies with the node's session.
type NodeReport struct {
	Node NodeName
	// Epoch is the assignment that was acted on when the host was looked at: on a node of a fleet the newest that is about its
	// own pods, so that not all nodes have something to say whenever one of them gets a pod.
	Epoch uint64
	At    time.Time
	// Since is the newest assignment when the node joined. What it and those before it have on the node, and the host has not, was meant
	// for another machine that had the name, and is not made.
	Since uint64 `json:",omitempty"`
	// Pods are all that exist on the host or that the node is about to make, in the order of their IDs. A
	// pod that is missing here and whose slot drains in an assignment of at most Epoch is gone.
	Pods []PodReport
	// Claims are volumes that outlive pods, in the order of their IDs.
	Claims []ObservedClaim
	// Trouble is why the node cannot look after its pods just now; empty when it can. They run on.
	Trouble string `json:",omitempty"`
	// Images are the whole names of those that are there already, of what the fleet wants, in order.
	Images []string `json:",omitempty"`
	// Pending is how many pods something is being done about, or about to be.
	Pending int
	// Revisions are the commits that the node has read of each source.
	Revisions map[SourceName]Revision `json:",omitempty"`
	// Process is the process that says so, as other nodes know it by its datagrams; 0 where there are none.
	Process uint64 `json:",omitempty"`
	// Electorate is whom the node goes by for who has an address; the zero one where none is known. Holding are the addresses that it has
	// by that, and Seeking those that it could have, Holding among them; in order.
	Electorate Electorate   `json:",omitzero"`
	Holding    []netip.Addr `json:",omitempty"`
	Seeking    []netip.Addr `json:",omitempty"`
	// Seen are the newest commits that the node has fetched: the leader looks for itself when somebody has seen one that it has not.
	Seen  map[SourceName]Revision `json:",omitempty"`
	Notes []Note
}

// Condition returns the pod's condition of that type, or nil.
func (p *PodReport) Condition(t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// ReadySince is when the pod last became ready, and whether it is.
func (p *PodReport) ReadySince() (time.Time, bool) {
	c := p.Condition(corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return time.Time{}, false
	}
	return c.LastTransitionTime.Time, true
}

// Terminal reports whether all containers of the pod have ended for good.
func (p *PodReport) Terminal() bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
