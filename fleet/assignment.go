package fleet

import (
	"cmp"
	"time"
)

// Goal is what should become of a slot's pod.
type Goal string

// The goals. A slot only ever goes forward: Run, then Drain; it leaves the assignment once the pod is gone.
const (
	Run   Goal = "Run"   // the pod should run
	Drain Goal = "Drain" // the pod should stop within its grace period and be removed
)

// Slot is one pod's place. It says which template the pod is made from, never the template itself.
type Slot struct {
	Pod   PodID    `json:"pod"`
	UID   string   `json:"uid"`
	Node  NodeName `json:"node"`
	Owner ObjectID `json:"owner"` // the ReplicaSet that made it; the Pod itself when it is bare
	// Controller is the Deployment above Owner; zero without one.
	Controller ObjectID   `json:"controller,omitzero"`
	Source     SourceName `json:"source"`
	From       Revision   `json:"from"`            // where the template can be read
	Want       Hash       `json:"want"`            // the template's hash
	Shape      Hash       `json:"shape,omitempty"` // bare pods: ShapeOf the template
	Label      string     `json:"label,omitempty"` // value of the pod-template-hash label; empty for bare pods
	Goal       Goal       `json:"goal"`
	Created    time.Time  `json:"created"`
	Epoch      uint64     `json:"epoch"`            // of the assignment that gave it its Goal
	Drained    time.Time  `json:"drained,omitzero"` // when Goal became Drain
	// Next are templates whose images are pulled, as far as that works, before a draining pod is stopped:
	// the pod makes room for them, and the gap should not last as long as a pull.
	Next []Hash `json:"next,omitempty"`
}

// Set is a ReplicaSet as the leader remembers it: one that a Deployment made, or one from a source.
type Set struct {
	ID       ObjectID   `json:"id"`
	UID      string     `json:"uid"`
	Owner    ObjectID   `json:"owner,omitzero"` // the Deployment; zero for a ReplicaSet of a source
	Source   SourceName `json:"source"`
	From     Revision   `json:"from"`
	Want     Hash       `json:"want"`
	Label    string     `json:"label,omitempty"` // pod-template-hash; empty for a ReplicaSet of a source
	Replicas int32      `json:"replicas"`
	// Recorded is the Deployment's replicas when this set was last scaled (Kubernetes' annotation
	// deployment.kubernetes.io/desired-replicas): a difference is a scaling event.
	Recorded int32     `json:"recorded,omitempty"`
	Most     int32     `json:"most,omitempty"`     // how many pods the Deployment might have then, surge included
	MinReady int32     `json:"minReady,omitempty"` // seconds
	Number   int64     `json:"number,omitempty"`   // the Deployment's revision number it stands for
	Former   []int64   `json:"former,omitempty"`   // numbers it stood for before
	Created  time.Time `json:"created"`
	Born     int       `json:"born,omitempty"` // pods made so far, for their names
}

// Rollout is what the leader remembers of a Deployment.
type Rollout struct {
	ID         ObjectID   `json:"id"`
	Source     SourceName `json:"source"`
	Collisions int32      `json:"collisions,omitempty"`
	Reason     string     `json:"reason"`   // of the condition Progressing, as Kubernetes has it
	Progress   time.Time  `json:"progress"` // when it last got further
	// Counts at the last progress, to notice the next.
	Updated, Old, Ready, Available int32
	Paused                         bool `json:"paused,omitempty"`
}

// Assignment is the leader's decision for the whole fleet: slots, commits and hashes, never specs or
// secrets. Slots are in the order of SlotOrder, Sets and Rollouts in the order of their IDs.
type Assignment struct {
	Epoch     uint64                  `json:"epoch"` // grows with each commit
	Revisions map[SourceName]Revision `json:"revisions,omitempty"`
	Slots     []Slot                  `json:"slots,omitempty"`
	Sets      []Set                   `json:"sets,omitempty"`
	Rollouts  []Rollout               `json:"rollouts,omitempty"`
}

// SlotOrder orders slots by pod, then by age, then by UID.
func SlotOrder(a, b Slot) int {
	return cmp.Or(a.Pod.Compare(b.Pod), a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
}
