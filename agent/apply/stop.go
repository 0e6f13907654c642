package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
	"github.com/skerry-dev/skerry/runtime/host"
)

// stop stops one container, or all of the pod's at once, within one grace period: hooks, those that wait for
// others, and the processes themselves all draw on it (semantics 2.8).
func (r *run) stop(ctx context.Context, s fleet.Step) error {
	deadline := time.Now().Add(s.Grace)
	var list []fleet.ObservedContainer
	for _, c := range r.containers() {
		if named := s.Container == "" || c.ID == s.ID; named && c.Lives() {
			list = append(list, c)
		}
	}
	if s.Container != "" && len(list) == 0 { // it was made by this chain, or seen in another state
		return r.Host.StopContainer(ctx, s.ID, s.Grace)
	}
	var all sync.WaitGroup
	errs := make([]error, len(list))
	ended := make(map[string]chan struct{}, len(list)) // by ID: two that stand for one container may live
	for _, c := range list {
		ended[c.ID] = make(chan struct{})
	}
	for i, c := range list {
		all.Go(func() {
			defer close(ended[c.ID])
			if c.State == fleet.Running || c.State == fleet.Orphaned {
				r.preStop(ctx, c, deadline)
			}
			await(ctx, ended, before(c.Name, s.Last, list), deadline)
			errs[i] = r.Host.StopContainer(ctx, c.ID, max(time.Until(deadline), pod.LeastGrace))
		})
	}
	all.Wait()
	for i, err := range errs {
		if s.Container == "" && errors.Is(err, host.ErrNotFound) { // it went by itself
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// before are the IDs of those that have to have ended before a container is told to: all but the last ones, and of these
// the ones that are named before it. Containers that are not among the last wait for nobody.
func before(name string, last []string, list []fleet.ObservedContainer) []string {
	at := slices.Index(last, name)
	if at < 0 {
		return nil
	}
	var ids []string
	for _, c := range list {
		if index := slices.Index(last, c.Name); index < at {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// await waits for containers to end, but not beyond a deadline.
func await(ctx context.Context, ended map[string]chan struct{}, ids []string, deadline time.Time) {
	if len(ids) == 0 {
		return
	}
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	for _, id := range ids {
		select {
		case <-ended[id]:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// preStop runs a container's hook, if it has one, and gives it up at the deadline. That it failed keeps nothing
// from ending.
func (r *run) preStop(ctx context.Context, o fleet.ObservedContainer, deadline time.Time) {
	c, err := r.container(o.Name)
	if err != nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return
	}
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := r.hook(bounded, c, o.ID, c.Lifecycle.PreStop); err != nil && ctx.Err() == nil {
		r.notes.add("container %s: its preStop hook failed: %v", o.Name, err)
	}
}

// postStart runs the hook of a container that this chain started. A container whose hook fails is stopped: what
// follows is for its restart policy to say.
func (r *run) postStart(ctx context.Context, s fleet.Step) error {
	c, err := r.container(s.Container)
	if err != nil {
		return err
	}
	id, started := r.started[s.Container]
	if !started || c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return fmt.Errorf("hook of container %s: %w", s.Container, host.ErrNotFound)
	}
	failed := r.hook(ctx, c, id, c.Lifecycle.PostStart)
	if failed == nil || ctx.Err() != nil {
		return failed
	}
	grace := pod.LeastGrace
	if g := r.Pod.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = max(grace, time.Duration(*g)*time.Second)
	}
	deadline := time.Now().Add(grace)
	r.preStop(ctx, fleet.ObservedContainer{Name: s.Container, ID: id}, deadline)
	stopped := r.Host.StopContainer(ctx, id, max(time.Until(deadline), pod.LeastGrace))
	return errors.Join(fmt.Errorf("postStart hook failed: %w", failed), stopped)
}

func (r *run) hook(ctx context.Context, c *corev1.Container, id string, h *corev1.LifecycleHandler) error {
	var address string
	if h.HTTPGet != nil || h.TCPSocket != nil {
		list, err := r.addresses(ctx)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			address = list[0]
		}
	}
	return r.Prober.Hook(ctx, host.Hook{Container: id, Address: address, Handler: *h, Ports: c.Ports})
}
