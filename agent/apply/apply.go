// Package apply runs a plan's steps against a host's ports: the steps of one chain one after another, chains
// beside one another. It decides nothing: what a step is made from is looked up and resolved here at the last
// moment, so that no plan ever holds a secret.
//
// A Runner owns the goroutines of its chains; Wait waits for them. What became of a chain is sent once, as an
// Outcome. Killing the process at any instruction is safe: every step can be repeated.
package apply

import (
	"context"
	"errors"
	"fmt"
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
}

// Done is one step that was carried out, or not.
type Done struct {
	Step fleet.Step
	Took time.Duration
	Err  error // nil: it went well
}

// Outcome is what became of a chain. Steps that were skipped because one before them failed are not in it.
type Outcome struct {
	Chain fleet.Chain
	Steps []Done
}

// Runner carries out chains.
type Runner struct {
	Host     host.Host
	Volumes  host.Volumes
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
	run := run{Runner: r, Work: w}
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
		out.Steps = append(out.Steps, Done{Step: s, Took: time.Since(began), Err: err})
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
	podID string // Podman's
}

func (r *run) step(ctx context.Context, s fleet.Step) error {
	switch s.Verb {
	case fleet.Pull:
		return r.Host.Pull(ctx, s.Image, s.Policy)
	case fleet.Stop:
		return r.stop(ctx, s)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case r.Makers <- struct{}{}:
		defer func() { <-r.Makers }()
	}
	switch s.Verb {
	case fleet.Volume:
		return r.volumes()
	case fleet.Sandbox:
		id, err := r.Host.CreatePod(ctx, sandbox(r.Slot, r.Pod))
		r.podID = id
		return err
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
		for i := range r.Pod.Spec.Containers {
			if c := &r.Pod.Spec.Containers[i]; c.Name == name {
				return c, nil
			}
		}
	}
	return nil, fmt.Errorf("container %s: %w in its pod's spec", name, host.ErrNotFound)
}

// stop stops one container, or all of the pod's at once.
func (r *run) stop(ctx context.Context, s fleet.Step) error {
	if s.Container != "" {
		return r.Host.StopContainer(ctx, s.ID, s.Grace)
	}
	var all sync.WaitGroup
	list := r.containers()
	errs := make([]error, len(list))
	for i, c := range list {
		if c.State == fleet.Running || c.State == fleet.Paused || c.State == fleet.Stopping {
			all.Go(func() { errs[i] = r.Host.StopContainer(ctx, c.ID, s.Grace) })
		}
	}
	all.Wait()
	for i, err := range errs {
		if errors.Is(err, host.ErrNotFound) { // it went by itself
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

func (r *run) volumes() error {
	for i := range r.Pod.Spec.Volumes {
		v := &r.Pod.Spec.Volumes[i]
		if err := r.volume(v); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}

func (r *run) volume(v *corev1.Volume) error {
	uid := r.Chain.UID
	switch written, secret := pod.Written(v); {
	case written:
		files, err := pod.Files(r.Slot.Pod.Namespace, v, pod.Config{Desired: r.Desired})
		if err != nil {
			return err
		}
		return r.Volumes.Write(uid, v.Name, secret, files, pod.ContentHash(files))
	case v.EmptyDir != nil:
		var limit int64
		if v.EmptyDir.SizeLimit != nil {
			limit = v.EmptyDir.SizeLimit.Value()
		}
		return r.Volumes.Scratch(uid, v.Name, inMemory(v), limit)
	case v.HostPath != nil:
		kind := corev1.HostPathUnset
		if v.HostPath.Type != nil {
			kind = *v.HostPath.Type
		}
		return r.Volumes.HostPath(v.HostPath.Path, kind)
	default:
		return errors.New("not a kind of volume that Skerry runs")
	}
}

func (r *run) start(ctx context.Context, s fleet.Step) error {
	c, err := r.container(s.Container)
	if err != nil {
		return err
	}
	place := pod.Place{Address: r.Node.Address, Allocatable: r.Node.Allocatable}
	if wantsPodIP(c) {
		ips, err := r.Host.PodAddresses(ctx, r.podID)
		if err != nil {
			return err
		}
		for _, ip := range ips {
			place.PodIPs = append(place.PodIPs, ip.String())
		}
	}
	invocation, err := pod.Invoke(r.Pod, c, pod.Config{Desired: r.Desired}, place)
	if err != nil {
		return err
	}
	_, err = r.Host.StartContainer(ctx, r.containerSpec(c, s, invocation))
	return err
}

// wantsPodIP reports whether a container's environment holds its pod's address, which is known only once
// the sandbox runs.
func wantsPodIP(c *corev1.Container) bool {
	return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
		return e.ValueFrom != nil && e.ValueFrom.FieldRef != nil &&
			(e.ValueFrom.FieldRef.FieldPath == "status.podIP" || e.ValueFrom.FieldRef.FieldPath == "status.podIPs")
	})
}
