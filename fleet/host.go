package fleet

import (
	"cmp"
	"net/netip"
	"time"
)

// ContainerState is what Podman says a container is doing.
type ContainerState string

// The states that decisions tell apart.
const (
	Created  ContainerState = "created"  // never started
	Running  ContainerState = "running"  // its process lives
	Paused   ContainerState = "paused"   // frozen by hand
	Exited   ContainerState = "exited"   // ran and ended
	Stopping ContainerState = "stopping" // a stop is under way, or was when its monitor died
	Orphaned ContainerState = "orphaned" // its process lives, and Podman would not notice its end
	Unknown  ContainerState = "unknown"  // anything else: only removal by force helps
)

// ObservedContainer is a container of ours as one list call shows it.
type ObservedContainer struct {
	ID         string // Podman's
	PodmanName string // its name in Podman
	Name       string // of the container in its pod
	Image      string
	ImageID    string
	State      ContainerState
	ExitCode   int32
	Started    time.Time // zero when it never ran
	Finished   time.Time // zero while it runs
	Created    time.Time
	Hash       Hash          // LabelContainerHash
	Attempt    int           // LabelAttempt
	Backoff    time.Duration // LabelBackoff
	// Limits are the cgroup's numbers as they are in force; nil where they could not be read.
	Limits *Limits
	// Message is what an ended container wanted to be said of its end (terminationMessagePath, or its last log
	// lines); OutOfMemory says that the kernel killed a process of it for want of memory.
	Message     string
	OutOfMemory bool
}

// LostCode stands for the exit code of a container that ended unseen, as in Kubernetes.
const LostCode = 137

// Lives reports whether a container has a process, as far as anyone knows. One that is stopping has been told to by an
// agent before this one, perhaps: its grace goes on.
func (c ObservedContainer) Lives() bool {
	switch c.State {
	case Running, Paused, Stopping, Orphaned:
		return true
	default:
		return false
	}
}

// Limits are what a container's cgroup allows. Zero means no limit (Shares: the default).
type Limits struct {
	Memory   int64  // bytes
	CPUQuota int64  // microseconds a period of 100 ms
	Shares   uint64 // relative weight, 1024 a CPU
}

// ObservedPod is a pod of ours as the list calls show it.
type ObservedPod struct {
	PodReport // from its labels; Status is left empty

	ID         string // Podman's
	PodmanName string
	Infra      ContainerState // of the container that holds its namespaces; Unknown when there is none
	IPs        []netip.Addr   // empty while it has none
	Containers []ObservedContainer
	Past       Past // as LabelPast has it
}

// Past are the last runs of containers in a sandbox that is gone, by their names.
type Past map[string]PastRun

// PastRun is what is worth remembering of a container when the sandbox it ran in is gone.
type PastRun struct {
	Attempt   int           `json:"attempt,omitempty"`
	Backoff   time.Duration `json:"backoff,omitempty"` // nanoseconds
	Succeeded bool          `json:"succeeded,omitempty"`
}

// ObservedClaim is a volume of ours that outlives pods.
type ObservedClaim struct {
	Claim      ClaimID
	PodmanName string
	Source     SourceName // that the claim came from
	Size       string     // what the claim asked for
	Created    time.Time
}

// ClaimID names a PersistentVolumeClaim.
type ClaimID struct{ Namespace, Name string }

// String is namespace/name.
func (id ClaimID) String() string { return id.Namespace + "/" + id.Name }

// Compare orders claims by namespace and name.
func (id ClaimID) Compare(other ClaimID) int {
	return cmp.Or(cmp.Compare(id.Namespace, other.Namespace), cmp.Compare(id.Name, other.Name))
}

// Object is the claim as an object.
func (id ClaimID) Object() ObjectID {
	return ObjectID{Kind: KindPersistentVolumeClaim, Namespace: id.Namespace, Name: id.Name}
}

// Disposable is a claim whose volume goes with it, data and all, and the source that has or had it.
type Disposable struct {
	Claim  ClaimID    `json:"claim"`
	Source SourceName `json:"source"`
}

// Compare orders by claim.
func (d Disposable) Compare(other Disposable) int {
	return cmp.Or(d.Claim.Compare(other.Claim), cmp.Compare(d.Source, other.Source))
}

// Volumes are the contents that the agent wrote for one pod: volume name → content hash. A pod with an
// empty map has a folder and no written volumes.
type Volumes map[string]Hash

// Host is a node's machine at one look.
type Host struct {
	// Pods carry our labels, in the order of their IDs, then of their age.
	Pods []ObservedPod
	// Taken are names in Podman that belong to somebody else.
	Taken map[string]bool
	// Claims are volumes with our labels, in the order of their IDs.
	Claims []ObservedClaim
	// Volumes has, by pod UID, what was written for pods, whether or not they still exist.
	Volumes map[string]Volumes
}

// Meets reports whether limits in force are those wanted. The kernel keeps memory in whole pages; a Shares
// of zero in force was not read.
func (l Limits) Meets(want Limits) bool {
	const page = 4096
	return l.Memory/page == want.Memory/page && l.CPUQuota == want.CPUQuota && (l.Shares == 0 || l.Shares == want.Shares)
}

// File is one file of a volume that the agent writes.
type File struct {
	Path string // relative, with slashes
	Data []byte // may be secret
	Mode int32  // permission bits
}
