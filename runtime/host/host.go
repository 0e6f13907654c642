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
	// ErrNeverPulled: an image is not there, and may not be pulled.
	ErrNeverPulled = errors.New("the image is not on this node, and its pull policy is Never")
	// ErrImageName: that is no name of an image.
	ErrImageName = errors.New("not a valid image name")
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

// Execs runs further processes in containers. Safe for concurrent use.
type Execs interface {
	// Exec runs a command in a running container, without a shell and without a terminal, and returns its exit code
	// and the first 10 KiB of what it wrote. A command that is not there has code 126 or 127, as in a shell. When ctx
	// ends first, the process and all that it started are killed before Exec returns ctx's error.
	Exec(ctx context.Context, container string, command []string) (code int, output []byte, err error)
}

// Meter measures what containers use. Safe for concurrent use.
type Meter interface {
	// Measure is what containers have used, by their IDs, which are Podman's. One that does not run, or is not known,
	// is left out, and no error; one that is paused is measured. However many they are, it is one call of Podman at
	// most, and none for those that the last look showed running.
	Measure(ctx context.Context, ids []string) (map[string]Measurement, error)
}

// Measurement is what a container has used up to a moment, with all its processes.
type Measurement struct {
	// CPU is the time that processors have spent on it since it started, user and system together. It only grows.
	CPU time.Duration
	// Memory is what Kubernetes calls the working set, in bytes: all that the kernel charges it with (pages of its
	// processes, files on tmpfs, the cache of files, what the kernel itself keeps for it), less the cached files that were
	// not used lately, which the kernel can do without. 0 where the kernel does not count memory: some boards have
	// that switched off.
	Memory int64
	// At is when CPU was read. Between two of these times time passes as the monotonic clock has it.
	At time.Time
}

// Images has images. Safe for concurrent use.
type Images interface {
	// Pull makes sure of an image by the rules of Kubernetes' policies: Always asks the registry, Never only
	// looks, IfNotPresent does what is needed. It blocks for as long as a transfer takes. Callers that want the
	// same image at the same time share one transfer, which ends when the last of them is gone.
	Pull(ctx context.Context, p Pull) error
	// ImageUser is whom an image's process runs as by itself, as the image says it: a number or a name, perhaps
	// with a group behind a colon; empty for root.
	ImageUser(ctx context.Context, image string) (string, error)
	// ImageNames are the whole names (fleet.ImageName) of all images that are there, in order. It is one call.
	ImageNames(ctx context.Context) ([]string, error)
}

// Claims keeps what outlives pods: named volumes of Podman. Safe for concurrent use on different claims.
type Claims interface {
	// CreateClaim makes sure of a claim's volume and returns the folder. A volume of that name that is somebody
	// else's is ErrConflict.
	CreateClaim(ctx context.Context, c Claim) (path string, err error)
	// RemoveClaim removes a volume with what is in it. One that a container has is ErrConflict, one that does not
	// exist no error.
	RemoveClaim(ctx context.Context, name string) error
}

// Prober asks containers how they are, and runs what they want done in their lives. Safe for concurrent use;
// no call delays another.
type Prober interface {
	// Probe asks once. What the container fails, not answering until ctx's deadline among it, is a Verdict; an error
	// is a failing of the prober and says nothing about the container.
	Probe(ctx context.Context, p Probe) (Verdict, error)
	// Hook runs a postStart or preStop handler to its end. A command's exit code other than 0 is an error; what an
	// HTTP server answers is not.
	Hook(ctx context.Context, h Hook) error
}

// Probe is one question to a container.
type Probe struct {
	Container string // Podman's ID
	Address   string // of its pod, for what is asked over the network and names no host
	Handler   corev1.ProbeHandler
	Ports     []corev1.ContainerPort // what named ports of the handler stand for
}

// Verdict is an answer.
type Verdict struct {
	Well bool
	Text string // one line for people: why it is not well, or what is odd about it
}

// Hook is what a container wants done.
type Hook struct {
	Container string // Podman's ID
	Address   string // of its pod
	Handler   corev1.LifecycleHandler
	Ports     []corev1.ContainerPort
}

// Pull is an image to have.
type Pull struct {
	Image  string
	Policy corev1.PullPolicy
	// Logins are tried one after another, until the registry takes one. Without any it is asked as anybody.
	Logins []Login
	// Progress, if not nil, is told how many bytes of how many have come, now and then and from another
	// goroutine. total grows while more of the image gets known.
	Progress func(done, total int64)
}

// Login is who one is for a registry. It is never printed or logged.
type Login struct {
	Username, Password string
	IdentityToken      string // instead of a password
}

// Claim is a volume to keep.
type Claim struct {
	Name   string // in Podman
	Labels map[string]string
}

// Watcher looks at the machine.
type Watcher interface {
	// Look lists what is there, at the cost of one list of pods, one of containers and one of claims, and a little for
	// each container that ended since. Volumes is left empty.
	Look(ctx context.Context) (fleet.Host, error)
	// Watch calls changed whenever something may have changed, until ctx ends or the stream breaks: with the UID
	// of the pod it happened to, where that can be told, else with an empty one. It blocks; what happened before
	// ready was called, which it is once it listens, is for Look to find.
	Watch(ctx context.Context, ready func(), changed func(uid string)) error
}

// Volumes is all that pods see of the machine's files, but for claims.
type Volumes interface {
	Folders
	Paths
}

// Folders keeps what lives and dies with a pod. Files that are secret, and scratch in memory, lie on tmpfs
// only. Safe for concurrent use on different pods.
type Folders interface {
	// Path is where a volume lies. It does not look whether it does.
	Path(uid, volume string, memory bool) string
	// Write makes w's files the content of a written volume, all at once: a reader sees the old set or the new,
	// never a mix. Writing what lies there already changes nothing.
	Write(uid, volume string, w Written) error
	// Scratch makes an empty folder that anyone may write to. What is there already is kept. limit is in
	// bytes and holds for memory; 0 is no limit.
	Scratch(uid, volume string, memory bool, limit int64) error
	// List has an entry for each pod that has a folder.
	List() (map[string]fleet.Volumes, error)
	// Remove removes all folders of a pod. One that has none is no error.
	Remove(uid string) error
}

// Paths makes ready what containers mount. Safe for concurrent use on different pods.
type Paths interface {
	// HostPath makes sure of a path of the machine, by the rules of Kubernetes' hostPath types.
	HostPath(path string, kind corev1.HostPathType) error
	// Own gives a folder and all below it to a group that may write there, and what is made there later too. With
	// changedOnly it trusts that all is well where the folder itself is.
	Own(path string, group int64, changedOnly bool) error
	// SubPath is a path below a volume's root for a container to mount, made as a folder if it is not there. It is
	// the very file or folder that was found, whatever somebody does to the volume meanwhile; a link that leads out
	// of the volume is an error. key tells one mount of a pod from another. Asked again, it finds it anew.
	SubPath(uid, key, root, below string) (path string, err error)
	// Message makes an empty file that anyone may write to, for what a container says at its end, and returns where
	// it lies. key tells one container of a pod from another.
	Message(uid, key string) (path string, err error)
}

// Network makes Services work on a machine. Safe for concurrent use.
type Network interface {
	// Serve makes the machine's rules those of want, all at once: a connection that begins meets the old rules or the new,
	// never a mix, and those that are under way go on. UDP is the exception, it follows the new rules. When want is what it
	// was, nothing is written. The zero HostNet leaves nothing of ours. After an error that is not Partly, connections may
	// still go where they went before.
	Serve(ctx context.Context, want fleet.HostNet) error
	// Check says whether somebody else has removed rules of ours. Then the next Serve writes all of them anew. It costs next
	// to nothing as long as nobody has changed any rule.
	Check(ctx context.Context) (lost bool, err error)
}

// Partly is an error of Serve that keeps nobody in the rotation: connections go to the ends that are wanted and to no others, but not
// from every port and address from which they should, or not to the pods of every node.
type Partly struct{ Err error }

func (e Partly) Error() string { return e.Err.Error() }
func (e Partly) Unwrap() error { return e.Err }

// Written is the content of a volume that the agent writes.
type Written struct {
	Secret  bool // it must lie in memory
	Files   []fleet.File
	Content fleet.Hash // what List says of it
	Group   *int64     // whose files they are, and may read them; nil: nobody's but root's
}

// Bridges are networks for pods. Safe for concurrent use.
type Bridges interface {
	// EnsureBridge makes a network unless it is there as wanted. One of that name that is somebody else's, or that has other
	// addresses, is ErrConflict.
	EnsureBridge(ctx context.Context, b Bridge) error
	// RemoveBridge removes a network of ours. That it is not there is no error; that a pod is on it is.
	RemoveBridge(ctx context.Context, name string) error
}

// Bridge is a network of the host for its pods.
type Bridge struct {
	Name      string // in Podman
	Interface string // of the host
	Subnet    netip.Prefix
}

// Gateway is the host's address on it: the first one.
func (b Bridge) Gateway() netip.Addr { return b.Subnet.Masked().Addr().Next() }

// Host is a whole machine.
type Host interface {
	Pods
	Containers
	Execs
	Meter
	Images
	Claims
	Bridges
	Watcher
}

// Sandbox is a pod to create, without containers.
type Sandbox struct {
	Name     string
	Hostname string
	Labels   map[string]string
	Ports    []Port
	Hosts    []string // lines for /etc/hosts as name:address
	DNS      DNS
	Sysctls  map[string]string
	Network  Namespace // the machine's, or the pod's own
	Bridge   string    // name of the network that a pod with one of its own is on; empty for Podman's default
	IPC      Namespace
	PID      Namespace // Shared: one for all containers of the pod
}

// Namespace says whose a namespace is.
type Namespace int

// Whose namespaces are.
const (
	Own     Namespace = iota // the pod's; process IDs: each container's
	Shared                   // of process IDs only: the pod's
	Machine                  // the machine's
)

// DNS is how names are resolved in a pod: as the machine does, with these added; or with these alone.
type DNS struct {
	Alone       bool
	Nameservers []string
	Searches    []string
	Options     []string // such as ndots:2; one replaces the machine's of that name
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
	StopSignal string // instead of the image's; empty: the image's, or TERM
	OOMScore   int    // oom_score_adj; what the machine does not allow is brought as near as it does
	PID, IPC   Namespace
	Security   Security
}

// Mount is a folder or file of the machine inside a container.
type Mount struct {
	Source      string
	Target      string
	ReadOnly    bool
	Propagation corev1.MountPropagationMode // empty: none
}

// Security is under whose name and with which powers a container runs.
type Security struct {
	User            string // uid, or uid:gid; empty: the image's
	Groups          []string
	CapAdd, CapDrop []string
	Privileged      bool
	ReadOnlyRoot    bool
	NoNewPrivileges bool
	Unconfined      bool   // no seccomp filter
	Seccomp         string // file of a seccomp filter; empty: Podman's
	UnmaskedProc    bool   // all of /proc is to be seen
}
