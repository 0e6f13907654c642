// Package apply runs a plan's steps against a host's ports: the steps of one chain one after another, chains
// beside one another. It decides nothing: what a step is made from is looked up and resolved here at the last
// moment, so that no plan ever holds a secret.
//
// A Runner owns the goroutines of its chains; Wait waits for them. What became of a chain is sent once, as an
// Outcome. Killing the process at any instruction is safe: every step can be repeated.
package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Work is a chain and what its steps are made from. All of it is read-only.
type Work struct {
	Chain   fleet.Chain
	Slot    fleet.Slot
	Pod     *corev1.Pod // nil for a pod that only has to go
	Desired fleet.Desired
	Node    fleet.Node
	Seen    fleet.Host // the host as it was when the chain was planned
	Cluster Cluster
}

// Cluster is what a pod is told of the network that it is on. The zero value is a node without Services.
type Cluster struct {
	Bridge   string // name of the network in Podman; empty for Podman's default
	Domain   string // below which pods and Services have their names
	DNS      netip.Addr
	Services []corev1.EnvVar // variables of the namespace's Services
	// Ensure makes the network in Podman, if it is not there, and Prepare the link of a new pod ready before anything runs in it.
	// nil where pods are on Podman's default network.
	Ensure, Prepare func(ctx context.Context) error
}

// Done is one step that was carried out, or not.
type Done struct {
	Step  fleet.Step
	Took  time.Duration
	Err   error    // nil: it went well
	Notes []string // what went wrong on the way and did not matter, a preStop hook say
}

// ErrConfig is what a container asks for that cannot be, as its image or its volumes are now.
var ErrConfig = errors.New("the container cannot be made as it is asked for")

// Outcome is what became of a chain. Steps that were skipped because one before them failed are not in it.
type Outcome struct {
	Chain fleet.Chain
	Steps []Done
}

// Runner carries out chains.
type Runner struct {
	Host     host.Host
	Volumes  host.Volumes
	Prober   host.Prober
	Pulls    *Pulls
	Profiles string // the folder with seccomp profiles
	Outcomes chan<- Outcome
	// Makers bounds how many chains make or remove pods and containers at a time: each such step keeps a core
	// busy. Waiting for a process to end or for an image takes no place.
	Makers chan struct{}

	running sync.WaitGroup
}

// Go starts a chain. Its outcome is sent to Outcomes, also when ctx ends in its midst; until the outcome was
// taken the pod must not be given another.
func (r *Runner) Go(ctx context.Context, w Work) {
	r.running.Go(func() { r.Outcomes <- r.chain(ctx, w) })
}

// Wait waits until all chains have ended. Somebody must still take the outcomes.
func (r *Runner) Wait() { r.running.Wait() }

func (r *Runner) chain(ctx context.Context, w Work) Outcome {
	out := Outcome{Chain: w.Chain}
	failed := map[string]bool{}
	run := run{Runner: r, Work: w, started: map[string]string{}}
	if at := slices.IndexFunc(w.Seen.Pods, func(o fleet.ObservedPod) bool { return o.UID == w.Chain.UID }); at >= 0 {
		run.podID = w.Seen.Pods[at].ID
	}
	for _, s := range w.Chain.Steps {
		if s.Container != "" && failed[s.Container] {
			continue
		}
		if ctx.Err() != nil {
			return out
		}
		began := time.Now()
		err := run.step(ctx, s)
		out.Steps = append(out.Steps, Done{Step: s, Took: time.Since(began), Err: err, Notes: run.notes.take()})
		switch {
		case err == nil:
		case s.Container == "" || errors.Is(err, host.ErrUnavailable):
			return out
		default:
			failed[s.Container] = true
		}
	}
	return out
}

// run is one chain under way.
type run struct {
	*Runner
	Work
	podID   string            // Podman's
	started map[string]string // Podman's IDs of the containers that this chain started, by name
	notes   notes
}

// notes are sentences from several goroutines.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, fmt.Sprintf(format, args...))
}

func (n *notes) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.list
	n.list = nil
	return list
}

func (r *run) step(ctx context.Context, s fleet.Step) error {
	switch s.Verb {
	case fleet.Pull:
		return r.pull(ctx, s)
	case fleet.Hook:
		return r.postStart(ctx, s)
	case fleet.Stop:
		return r.stop(ctx, s)
	case fleet.Volume: // it may take long, and costs Podman nothing
		return r.volumes(ctx)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case r.Makers <- struct{}{}:
		defer func() { <-r.Makers }()
	}
	switch s.Verb {
	case fleet.Sandbox:
		box, err := sandbox(r.Slot, r.Pod, s.Past, r.Cluster)
		if err != nil {
			return err
		}
		if box.Bridge == "" {
			r.podID, err = r.Host.CreatePod(ctx, box)
			return err
		}
		if err := r.Cluster.Ensure(ctx); err != nil {
			return err
		}
		if r.podID, err = r.Host.CreatePod(ctx, box); err != nil {
			return err
		}
		return r.Cluster.Prepare(ctx)
	case fleet.Start:
		return r.start(ctx, s)
	case fleet.Retire:
		name := fleet.PodmanContainer(s.Pod, s.Container) + "_" + strconv.Itoa(s.Attempt)
		if slices.ContainsFunc(r.containers(), func(c fleet.ObservedContainer) bool { return c.ID == s.ID && c.PodmanName == name }) {
			return nil // an agent before us came this far
		}
		return r.Host.RenameContainer(ctx, s.ID, name)
	case fleet.Rename:
		return r.Host.RenameContainer(ctx, s.ID, fleet.PodmanContainer(s.Pod, s.Container))
	case fleet.Remove:
		return r.Host.RemoveContainer(ctx, s.ID)
	case fleet.Unpause:
		return r.Host.Unpause(ctx, s.ID)
	case fleet.Limit:
		c, err := r.container(s.Container)
		if err != nil {
			return err
		}
		return r.Host.LimitContainer(ctx, s.ID, pod.LimitsOf(c))
	case fleet.Teardown:
		return r.Host.RemovePod(ctx, s.ID)
	case fleet.Clean:
		return r.Volumes.Remove(s.UID)
	case fleet.Reclaim:
		return r.Host.RemoveClaim(ctx, s.ID)
	default:
		return fmt.Errorf("no such step: %s", s.Verb)
	}
}

func (r *run) containers() []fleet.ObservedContainer {
	at := slices.IndexFunc(r.Seen.Pods, func(o fleet.ObservedPod) bool { return o.UID == r.Chain.UID })
	if at < 0 {
		return nil
	}
	return r.Seen.Pods[at].Containers
}

func (r *run) container(name string) (*corev1.Container, error) {
	if r.Pod != nil {
		if c := pod.Container(r.Pod, name); c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("container %s: %w in its pod's spec", name, host.ErrNotFound)
}

func (r *run) config() pod.Config {
	return pod.Config{Desired: r.Desired, Services: r.Cluster.Services}
}

func (r *run) place() pod.Place {
	return pod.Place{Address: r.Node.Address, Allocatable: r.Node.Allocatable}
}

// addresses are the pod's, known once its sandbox runs.
func (r *run) addresses(ctx context.Context) ([]string, error) {
	if r.Pod != nil && r.Pod.Spec.HostNetwork {
		return []string{cmp.Or(r.Node.Address, "127.0.0.1")}, nil
	}
	ips, err := r.Host.PodAddresses(ctx, r.podID)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, ip := range ips {
		list = append(list, ip.String())
	}
	return list, nil
}

func (r *run) start(ctx context.Context, s fleet.Step) error {
	c, err := r.container(s.Container)
	if err != nil {
		return err
	}
	spec, err := r.containerSpec(ctx, c, s)
	if err != nil {
		return err
	}
	r.started[s.Container], err = r.Host.StartContainer(ctx, spec)
	return err
}
