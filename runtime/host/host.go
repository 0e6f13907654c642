// Package host is the ports through which the agent acts on a machine and looks at it: small interfaces,
// the values that cross them, and the kinds of error that callers branch on. runtime/podman and
// runtime/volume stand behind them on a real machine, hosttest's in-memory machine in tests; both pass the
// conformance suite hosttest.Run.
package host

import (
	"context"
	"errors"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// The kinds of error. Implementations wrap one of them where it applies; anything else is a failure that may
// pass by itself.
var (
	// ErrNotFound: the pod, container or image does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a name or port is taken by something else.
	ErrConflict = errors.New("taken")
	// ErrUnavailable: Podman cannot be reached. It says nothing about the thing that was asked for.
	ErrUnavailable = errors.New("podman cannot be reached")
)

// Pods makes and removes sandboxes. Safe for concurrent use on different pods.
type Pods interface {
	// CreatePod creates and starts a pod with nothing in it but its namespaces, and returns Podman's ID. A
	// pod of that name with the same UID label that was left half made is finished instead.
	CreatePod(ctx context.Context, s Sandbox) (id string, err error)
	// PodAddresses are the addresses of a running pod, IPv4 first; none when it has no network of its own.
	PodAddresses(ctx context.Context, id string) ([]netip.Addr, error)
	// RemovePod kills what runs in a pod and removes it. A pod that does not exist is no error.
	RemovePod(ctx context.Context, id string) error
}

// Containers runs processes in pods. Safe for concurrent use on different containers. Removing what does not
// exist is no error; everything else on it is ErrNotFound.
type Containers interface {
	// StartContainer creates a container in a running pod and starts it. What could not be started is not
	// left behind.
	StartContainer(ctx context.Context, c Container) (id string, err error)
	// StopContainer sends the stop signal and kills after grace. It blocks until the container has ended. One
	// that does not run is no error, one that is paused is.
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	RenameContainer(ctx context.Context, id, name string) error
	// Unpause thaws a container or a whole pod, whichever has that ID. One that is not paused is no error.
	Unpause(ctx context.Context, id string) error
	LimitContainer(ctx context.Context, id string, limits fleet.Limits) error
}

// Images has images.
type Images interface {
	// Pull makes sure of an image by the rules of Kubernetes' policies: Always asks the registry, Never only
	// looks, IfNotPresent does what is needed. It blocks for as long as a transfer takes.
	Pull(ctx context.Context, image string, policy corev1.PullPolicy) error
}

// Watcher looks at the machine.
type Watcher interface {
	// Look lists what is there, at the cost of one list of pods and one of containers. Volumes is left empty.
	Look(ctx context.Context) (fleet.Host, error)
	// Watch calls changed whenever something may have changed, until ctx ends or the stream breaks: with the UID
	// of the pod it happened to, where that can be told, else with an empty one. It blocks; what happened before
	// ready was called, which it is once it listens, is for Look to find.
	Watch(ctx context.Context, ready func(), changed func(uid string)) error
}

// Volumes keeps the folders that live and die with a pod. Files that are secret, and scratch in memory, lie
// on tmpfs only. Safe for concurrent use on different pods.
type Volumes interface {
	// Path is where a volume lies. It does not look whether it does.
	Path(uid, volume string, memory bool) string
	// Write puts files into a written volume, all at once: a reader sees the old set or the new, never a mix.
	// Content is what List will say of it. Writing what lies there already changes nothing.
	Write(uid, volume string, secret bool, files []fleet.File, content fleet.Hash) error
	// Scratch makes an empty folder that anyone may write to. What is there already is kept. limit is in
	// bytes and holds for memory; 0 is no limit.
	Scratch(uid, volume string, memory bool, limit int64) error
	// HostPath makes sure of a path of the machine, by the rules of Kubernetes' hostPath types.
	HostPath(path string, kind corev1.HostPathType) error
	// List has an entry for each pod that has a folder.
	List() (map[string]fleet.Volumes, error)
	// Remove removes all folders of a pod. One that has none is no error.
	Remove(uid string) error
}

// Host is a whole machine.
type Host interface {
	Pods
	Containers
	Images
	Watcher
}

// Sandbox is a pod to create, without containers.
type Sandbox struct {
	Name     string
	Hostname string
	Labels   map[string]string
	Ports    []Port
	Hosts    []string // lines for /etc/hosts as name:address
}

// Port is a port of the host that leads into a pod.
type Port struct {
	HostIP    string // empty: all addresses
	Host      uint16
	Container uint16
	Protocol  string // tcp, udp or sctp
}

// Container is a container to create, with everything resolved. Env may hold secrets: a Container is never
// printed or logged.
type Container struct {
	Name       string // in Podman
	PodID      string // Podman's
	Image      string
	Entrypoint []string // nil: the image's
	Args       []string // nil: the image's, unless Entrypoint is given
	Env        map[string]string
	WorkDir    string
	Stdin, TTY bool
	Labels     map[string]string
	Mounts     []Mount
	Limits     fleet.Limits
	Security   Security
}

// Mount is a folder or file of the machine inside a container.
type Mount struct {
	Source   string
	Target   string
	ReadOnly bool
}

// Security is under whose name and with which powers a container runs.
type Security struct {
	User            string // uid, or uid:gid; empty: the image's
	Groups          []string
	CapAdd, CapDrop []string
	Privileged      bool
	ReadOnlyRoot    bool
	NoNewPrivileges bool
	Unconfined      bool // no seccomp filter
}
