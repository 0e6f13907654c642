// Package api is what an agent serves on its socket, and the client of it: the Kubernetes REST dialect for
// lists and gets, and /skerry/v1/ for what is Skerry's own: status, sync, diff, apply, delete, progress.
//
// The server reads and asks through Backend; it decides nothing and keeps nothing. The types here are the
// contract with the commands and with other people's tools. None of them ever holds a secret's value, but
// for Set, which carries manifests from a command to the agent over the socket (mode 0600).
package api

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/reconcile/diff"
)

// Status is a fleet in one page.
type Status struct {
	Node    fleet.NodeName `json:"node"`
	Version string         `json:"version"`
	Podman  string         `json:"podman"` // "ok", or why it cannot be reached
	Epoch   uint64         `json:"epoch"`
	Settled bool           `json:"settled"` // everything is as desired
	// Stopped: what is not as desired does not become so by itself. It takes a commit, or somebody to let it go on.
	Stopped   bool                 `json:"stopped,omitempty"`
	Fleet     *FleetStatus         `json:"fleet,omitempty"` // nil on a node that belongs to none
	Sources   []SourceStatus       `json:"sources"`
	Workloads []reconcile.Workload `json:"workloads"`
	Pods      []reconcile.Line     `json:"pods"`
	Services  []reconcile.Service  `json:"services,omitempty"` // none where Services are not served
	Intents   []Intent             `json:"intents,omitempty"`  // what operators asked for that is in force and not in Git
	Waiting   []fleet.Note         `json:"waiting,omitempty"`  // what keeps it from being settled
	Notes     []fleet.Note         `json:"notes,omitempty"`    // what else there is to know; what Intents say is not said again
}

// FleetStatus is how the nodes of a fleet are, and what they agree by.
type FleetStatus struct {
	Leader fleet.NodeName      `json:"leader,omitempty"` // empty while nobody leads, or nobody knows here
	Store  string              `json:"store"`            // "ok", or why the fleet's memory cannot be reached from here
	Nodes  []reconcile.Machine `json:"nodes"`
}

// Wish is an intent on its way.
type Wish struct {
	fleet.Intent
	// For draining a node: pods of DaemonSets stay, and what is in emptyDir volumes may be lost.
	IgnoreDaemonSets bool `json:"ignoreDaemonSets,omitempty"`
	DeleteEmptyDir   bool `json:"deleteEmptyDir,omitempty"`
}

// Intent is an operator's wish that is not in Git, and what it says in one sentence.
type Intent struct {
	fleet.Intent
	Text string `json:"text"`
}

// SourceStatus is how a source is.
type SourceStatus struct {
	Name     fleet.SourceName `json:"name"`
	URL      string           `json:"url,omitempty"` // without credentials
	Revision fleet.Revision   `json:"revision,omitempty"`
	Title    string           `json:"title,omitempty"`
	State    string           `json:"state"` // Synced, Failing (the last fetch did), Faulty (some of it cannot be taken), Held (not what the leader decided on), Unread
	Checked  time.Time        `json:"checked,omitzero"`
	Error    string           `json:"error,omitempty"`
	Objects  int              `json:"objects"`
	Faults   []Fault          `json:"faults,omitempty"`
}

// Fault is something wrong in a source.
type Fault struct {
	Kind string `json:"kind"` // Error, NotRun or Warning
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text"` // the whole line, file and all
}

// Set is what a command read from a SOURCE for the agent.
type Set struct {
	Name     fleet.SourceName `json:"name"` // absolute path or URL; "-" for standard input
	Revision fleet.Revision   `json:"revision"`
	Objects  []Object         `json:"objects"`
	// Broken are files (or folders with a slash behind them, or "" for all) that could not be read whole:
	// what the set had from them before is kept.
	Broken []string `json:"broken,omitempty"`
	// Partial sets add and change; what they had before and have no more is kept.
	Partial bool `json:"partial,omitempty"`
	// Path is the set's folder inside its Git work tree, "." for all of it, empty where there is none. A set
	// whose path is a Git source's path stands for what that source would be after a push.
	Path string `json:"path,omitempty"`
	// Remotes are the addresses of the work tree's repository, without credentials.
	Remotes []string `json:"remotes,omitempty"`
}

// Object is one desired object on its way.
type Object struct {
	ID       fleet.ObjectID          `json:"id"`
	File     string                  `json:"file"`
	Line     int                     `json:"line,omitempty"`
	Value    json.RawMessage         `json:"value"`
	Template *corev1.PodTemplateSpec `json:"template,omitempty"` // as written
}

// Diff is what would change.
type Diff struct {
	Against string           `json:"against"` // what it was compared with
	Objects []ObjectDiff     `json:"objects,omitempty"`
	Steps   []Step           `json:"steps,omitempty"`
	Notes   []fleet.Note     `json:"notes,omitempty"`
	Sources []SourceStatus   `json:"sources,omitempty"`
	Settled bool             `json:"settled"` // false: the steps do not lead to rest
	Faults  []Fault          `json:"faults,omitempty"`
	Set     fleet.SourceName `json:"set,omitempty"`
}

// Empty reports whether nothing would change.
func (d Diff) Empty() bool { return len(d.Objects) == 0 && len(d.Steps) == 0 }

// ObjectDiff is how one object would change.
type ObjectDiff struct {
	ID     fleet.ObjectID `json:"id"`
	Change string         `json:"change"` // create, change or delete
	File   string         `json:"file,omitempty"`
	Fields []diff.Field   `json:"fields,omitempty"`
}

// Step is one action on a node.
type Step struct {
	Node fleet.NodeName `json:"node"`
	Verb string         `json:"verb"`
	Pod  fleet.PodID    `json:"pod"`
	Text string         `json:"text"`
}

// Progress is one line of the progress stream.
type Progress struct {
	Settled bool         `json:"settled"`
	Stopped bool         `json:"stopped,omitempty"` // as Status has it
	Waiting []fleet.Note `json:"waiting,omitempty"`
	Notes   []fleet.Note `json:"notes,omitempty"`
}

// Fetched is what a sync fetched of one source.
type Fetched struct {
	Source   fleet.SourceName `json:"source"`
	Revision fleet.Revision   `json:"revision,omitempty"`
	Title    string           `json:"title,omitempty"`
	Error    string           `json:"error,omitempty"`
}

// Backend is what the server shows and asks. All methods are safe for concurrent use.
type Backend interface {
	Status(ctx context.Context) (Status, error)
	// View is the fleet for the Kubernetes dialect, with what is desired and its nodes.
	View(ctx context.Context) (*reconcile.View, fleet.Desired, []fleet.Node, error)
	// Diff says what would happen if set were applied; nil: if the sources' newest revisions were.
	Diff(ctx context.Context, set *Set) (Diff, error)
	// Changed returns a channel that is closed at the next change of anything that Status shows.
	Changed() <-chan struct{}
	Operator
}

// Operator changes what is desired.
type Operator interface {
	// Sync fetches sources now, all when name is empty, and returns when what they hold is desired. It waits
	// for no pod.
	Sync(ctx context.Context, name fleet.SourceName) ([]Fetched, error)
	// Apply makes a set desired. An object that a Git source owns is refused with a *Refusal.
	Apply(ctx context.Context, set Set) error
	// Delete makes the objects of a set desired no more.
	Delete(ctx context.Context, set Set) error
	// Intend takes an operator's wish. What the object cannot do is refused with a *Refusal.
	Intend(ctx context.Context, wish Wish) (fleet.Intent, error)
}

// Refusal is a request that a user must change.
type Refusal struct{ Text string }

func (r *Refusal) Error() string { return r.Text }
