// Package reconcile makes every decision and takes no action. Decide says what should run where; Plan says
// how one machine gets there; Foresee runs both on paper, for diff.
//
// All are pure functions: the time and the host come in as arguments, equal inputs in any order give equal
// outputs, and what a user got wrong comes out as a note, never as an error. What waits is data too: WakeAt
// says when to ask again although nothing else changed.
package reconcile

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// FleetInput is all that Decide looks at.
type FleetInput struct {
	Desired  fleet.Desired
	Nodes    []fleet.Node
	Reports  []fleet.NodeReport
	Previous fleet.Assignment
	Intents  []fleet.Intent // what operators asked for, in any order
	// Templates are those that desired objects and the previous assignment name, as far as they are to be had: what
	// pods ask for of the machine is in there.
	Templates map[fleet.Hash]*corev1.PodTemplateSpec
	Network   fleet.NetworkSettings
	Stay      time.Duration             // how long pods of a lost node are waited for that do not say; 0: 25 s
	Zones     map[string]*time.Location // time zones that CronJobs name, as far as they are known here
	// Now is in the zone that schedules are meant in that name none.
	Now time.Time

	// paper is for Foresee: what comes by the clock some day (runs of CronJobs, the end of a Job's time) and what pods will
	// have autoscalers do is left out.
	paper bool
}

// Decision is what should run where, and why some of it has to wait.
type Decision struct {
	// Next is Previous with what changed, and an Epoch one higher; when nothing changed it equals Previous.
	Next    fleet.Assignment
	Changed bool
	Dropped []fleet.Intent // intents that count no more, in their order
	Notes   []fleet.Note   // in their order
	WakeAt  time.Time      // zero: no decision is due by time alone
}

// NodeInput is all that Plan looks at.
type NodeInput struct {
	Node       fleet.Node
	Nodes      []fleet.Node     // of the fleet, this one among them; nil on a node alone
	Assignment fleet.Assignment // other nodes' slots are passed over
	Since      uint64           // as in fleet.NodeReport
	Templates  map[fleet.Hash]*corev1.PodTemplateSpec
	Desired    fleet.Desired // for ConfigMaps, Secrets and claims
	Host       fleet.Host
	Health     map[string]pod.Health // what probes say, by Podman's ID of the container
	Past       map[string]fleet.Past // by UID: what ran in sandboxes that are gone and have no successor yet
	Network    fleet.NetworkSettings
	// Fleet says that other nodes are there. Others are the last words of those that are heard: their pods stand behind Services, too.
	Fleet  bool
	Others []fleet.NodeReport
	// Silent are those of them that are not heard just now: nothing is sent to their pods as long as there are others.
	Silent map[fleet.NodeName]bool
	// Draining are this node's pods that are to go, by UID: since when this node knows. Where one is missing, the slot says it.
	Draining map[string]time.Time
	Leaving  bool                   // the node is being emptied: it campaigns for no address
	DNS      netip.AddrPort         // where this node's DNS listens, behind Network.DNS
	Usage    map[string]fleet.Usage // by Podman's ID of the container: what it used of late
	Busy     map[string]bool        // UIDs of pods with a chain under way
	Hooks    map[string][]string    // of those, by UID: the containers whose postStart hook is a step of it
	Attempts map[string]pod.Tries   // by UID
	Now      time.Time
}

// NodePlan is how a machine gets where it should be, and how it is.
type NodePlan struct {
	// Chains are in the order of their pods: those that make room first.
	Chains []fleet.Chain
	Probes []pod.Probe   // that should be running now
	Net    fleet.HostNet // what the machine's network should be before any of the chains begins
	Zone   fleet.Zone    // what its DNS answers
	// Candidacies are the addresses that the node may have while no other node of the fleet has them, in order; nil on a node alone.
	Candidacies []fleet.Candidacy
	Measure     []string // Podman's IDs of containers whose use is asked for, in order
	Report      fleet.NodeReport
	WakeAt      time.Time
}
