package fleet

import (
	"cmp"
	"slices"
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
	Identity
	Node    NodeName  `json:"node"`          // empty while it fits on none
	For     NodeName  `json:"for,omitempty"` // the only node that a DaemonSet's pod may get, until it has it
	Goal    Goal      `json:"goal"`
	Epoch   uint64    `json:"epoch"`            // of the assignment that gave it its Goal
	Drained time.Time `json:"drained,omitzero"` // when Goal became Drain
	Placed  time.Time `json:"placed,omitzero"`  // when it got its node; zero where that was when it was made
	// Next are templates whose images are pulled, as far as that works, before a draining pod is stopped:
	// the pod makes room for them, and the gap should not last as long as a pull.
	Next []Hash `json:"next,omitempty"`
	// Counted: the pod has ended, and its end is in its Job's ledger.
	Counted bool `json:"counted,omitempty"`
	// Tries is how many pods of a DaemonSet failed on the node in a row before this one.
	Tries int32 `json:"tries,omitempty"`
}

// Seat is the node that the pod is on or, of a DaemonSet's that has none yet, is for; empty for others without one.
func (s *Slot) Seat() NodeName { return cmp.Or(s.Node, s.For) }

// Set is one template of a workload as the leader remembers it: a ReplicaSet that a Deployment made, one from a source, or
// a revision (ControllerRevision) of a StatefulSet or DaemonSet.
type Set struct {
	ID     ObjectID   `json:"id"`
	UID    string     `json:"uid"`
	Owner  ObjectID   `json:"owner,omitzero"` // the workload above; zero for a ReplicaSet of a source
	Source SourceName `json:"source"`
	From   Revision   `json:"from"`
	Want   Hash       `json:"want"`
	Stamp  Stamp      `json:"stamp,omitzero"`
	Label  string     `json:"label,omitempty"` // as Identity has it; empty for a ReplicaSet of a source
	// Replicas is how many pods a ReplicaSet should have. Revisions do not count theirs: it is zero there.
	Replicas int32 `json:"replicas"`
	// Recorded is the Deployment's replicas when this set was last scaled (Kubernetes' annotation
	// deployment.kubernetes.io/desired-replicas): a difference is a scaling event.
	Recorded int32     `json:"recorded,omitempty"`
	Most     int32     `json:"most,omitempty"`     // how many pods the Deployment might have then, surge included
	MinReady int32     `json:"minReady,omitempty"` // seconds
	Number   int64     `json:"number,omitempty"`   // the workload's revision number it stands for
	Former   []int64   `json:"former,omitempty"`   // numbers it stood for before
	Created  time.Time `json:"created"`
	Born     int       `json:"born,omitempty"` // pods made so far, for their names
}

// Rollout is what the leader remembers of a Deployment, StatefulSet or DaemonSet.
type Rollout struct {
	ID         ObjectID   `json:"id"`
	Source     SourceName `json:"source"`
	Collisions int32      `json:"collisions,omitempty"`
	Reason     string     `json:"reason"`   // of the condition Progressing, as Kubernetes has it
	Progress   time.Time  `json:"progress"` // when it last got further
	// Counts at the last progress, to notice the next.
	Updated, Old, Ready, Available int32
	Paused                         bool `json:"paused,omitempty"`
	// Target is the set that the rollout goes to, or went to.
	Target ObjectID `json:"target,omitzero"`
	// Good is the set whose rollout came to its end last: what a rollback goes back to. Zero before the first.
	Good ObjectID `json:"good,omitzero"`
	// Current is a StatefulSet's currentRevision: what pods below the partition are made from.
	Current ObjectID `json:"current,omitzero"`
	// Volatile are a StatefulSet's claim templates, with commas, whose volumes go when it is deleted.
	Volatile string `json:"volatile,omitempty"`
	// Lowest and Beyond bound the ordinals of which a StatefulSet has had pods. Beyond is 0 when it has had none.
	Lowest int64  `json:"lowest,omitempty"`
	Beyond int64  `json:"beyond,omitempty"`
	Bad    Bad    `json:"bad,omitzero"`
	Canary Canary `json:"canary,omitzero"`
}

// Bad marks a revision that a workload was rolled back from. It holds until another revision comes.
type Bad struct {
	Revision Revision  `json:"revision"` // of the source
	Want     Hash      `json:"want"`
	Since    time.Time `json:"since"`
	Why      string    `json:"why"`
}

// Canary is how far a Deployment with steps has got with its target.
type Canary struct {
	Steps   string    `json:"steps,omitempty"`   // that Step counts in
	Step    int32     `json:"step,omitempty"`    // index of the step that it is at
	Since   time.Time `json:"since,omitzero"`    // when it got there, or was stopped there
	Reached int32     `json:"reached,omitempty"` // how many new pods were available at most
	Others  int32     `json:"others,omitempty"`  // how many old pods were ready at most, of those that are still wanted
	Fault   string    `json:"fault,omitempty"`   // why it was stopped; empty while it goes on
	// Restarts of new pods up to this many were seen when somebody let it go on all the same.
	Restarts int32 `json:"restarts,omitempty"`
}

// Scaler is what the leader remembers of a HorizontalPodAutoscaler.
type Scaler struct {
	ID       ObjectID   `json:"id"`
	Source   SourceName `json:"source"`
	Target   ObjectID   `json:"target"`
	Git      string     `json:"git,omitempty"`     // what Git says of the target's replicas
	Replicas int32      `json:"replicas"`          // that it gives its target; 0 before the first measurement
	At       time.Time  `json:"at"`                // when it last looked
	Scaled   time.Time  `json:"scaled,omitzero"`   // when it last changed Replicas
	Advice   []Advice   `json:"advice,omitempty"`  // what it would have had lately, oldest first, as far as it still counts
	Changes  []Advice   `json:"changes,omitempty"` // by how much it changed Replicas lately, oldest first
	Why      string     `json:"why,omitempty"`     // why it cannot scale; empty when it can
}

// Advice is a number of replicas and when it was thought right.
type Advice struct {
	At       time.Time `json:"at"`
	Replicas int32     `json:"replicas"`
}

// Assignment is the leader's decision for the whole fleet: slots, commits and hashes, never specs or
// secrets. Slots are in the order of SlotOrder, all else in the order of their IDs or names.
type Assignment struct {
	Epoch     uint64                  `json:"epoch"` // grows with each commit
	Revisions map[SourceName]Revision `json:"revisions,omitempty"`
	Readings  []Reading               `json:"readings,omitempty"`
	Heard     []NodeName              `json:"heard,omitempty"` // nodes that have ever reported, in order
	// Doubted are nodes of which nothing was heard since the fleet's memory was restored from a backup, in the order of their names.
	Doubted []Doubt `json:"doubted,omitempty"`
	// Electorate is who says which node has an address at a time, and Agreed since when a majority of them is known to go by it; zero: not
	// yet.
	Electorate Electorate `json:"electorate,omitzero"`
	Agreed     time.Time  `json:"agreed,omitzero"`
	Slots      []Slot     `json:"slots,omitempty"`
	Sets       []Set      `json:"sets,omitempty"`
	Rollouts   []Rollout  `json:"rollouts,omitempty"`
	Jobs       []Job      `json:"jobs,omitempty"`
	Crons      []Cron     `json:"crons,omitempty"`
	Scalers    []Scaler   `json:"scalers,omitempty"`
	Exposures  []Exposure `json:"exposures,omitempty"`
	// Unclaimed are claims whose volumes go as soon as no pod uses them; Prunable are those that go, data and all, when they
	// are desired no more. Both are in order.
	Unclaimed []Disposable `json:"unclaimed,omitempty"`
	Prunable  []Disposable `json:"prunable,omitempty"`
	// Strains are the NoExecute taints of nodes, that of a lost one among them, in the order of their nodes; Bindings say on which
	// node the volumes of claims are, in the order of the claims.
	Strains  []Strain  `json:"strains,omitempty"`
	Bindings []Binding `json:"bindings,omitempty"`
}

// Doubt says that a node may run what nobody remembers, and since when.
type Doubt struct {
	Node  NodeName  `json:"node"`
	Since time.Time `json:"since"`
}

// Doubting is what of an assignment counts that was restored from a backup. What the nodes run by now is not known: its slots are made
// anew of what they report, nothing goes because of what it says, and runs that were due since the backup count as made. Its epoch is far
// above all that nodes can have heard of meanwhile, so that nothing they report of that passes for an answer to what is decided next.
func (a Assignment) Doubting(nodes []NodeName, now time.Time) Assignment {
	a.Epoch += 1 << 30
	a.Slots, a.Unclaimed, a.Strains, a.Doubted = nil, nil, nil, nil
	a.Electorate, a.Agreed = Electorate{}, time.Time{} // nodes know a newer one, or none
	for _, n := range slices.Sorted(slices.Values(nodes)) {
		a.Doubted = append(a.Doubted, Doubt{n, now})
	}
	a.Crons = slices.Clone(a.Crons)
	for i := range a.Crons {
		if c := &a.Crons[i]; c.Last.Before(now) {
			c.Last = now.Truncate(time.Minute)
		}
	}
	return a
}

// Strain is a taint that pods may have to leave a node for, and since when it has it.
type Strain struct {
	Node  NodeName  `json:"node"`
	Key   string    `json:"key"`
	Value string    `json:"value,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// Binding is where a claim's volume is: its pods can run there and nowhere else.
type Binding struct {
	Claim ClaimID  `json:"claim"`
	Node  NodeName `json:"node"`
}

// EpochOf is the newest decision that is about pods of a node; 0 when it has none.
func (a Assignment) EpochOf(node NodeName) uint64 {
	var newest uint64
	for i := range a.Slots {
		if s := &a.Slots[i]; s.Node == node {
			newest = max(newest, s.Epoch)
		}
	}
	return newest
}

// SlotOrder orders slots by pod, then by age, then by UID.
func SlotOrder(a, b Slot) int {
	return cmp.Or(a.Pod.Compare(b.Pod), a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
}
