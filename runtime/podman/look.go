package podman

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/containers/podman/v4/pkg/bindings/pods"
	"github.com/containers/podman/v4/pkg/domain/entities"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Look lists pods, containers and claims: three calls, however many there are, and one for each container that ended
// since the last look.
func (m *Machine) Look(ctx context.Context) (fleet.Host, error) {
	ctx, err := m.connect(ctx)
	if err != nil {
		return fleet.Host{}, err
	}
	// Beside one another: with hundreds of pods each takes Podman a quarter of a second.
	var podList []*entities.ListPodsReport
	var podErr, claimErr error
	var claimList []fleet.ObservedClaim
	var lists sync.WaitGroup
	lists.Go(func() { podList, podErr = pods.List(ctx, nil) })
	lists.Go(func() { claimList, claimErr = claims(ctx) })
	all, err := containers.List(ctx, new(containers.ListOptions).WithAll(true))
	lists.Wait()
	if podErr != nil {
		return fleet.Host{}, fmt.Errorf("list pods: %w", kind(ctx, podErr))
	}
	if err != nil {
		return fleet.Host{}, fmt.Errorf("list containers: %w", kind(ctx, err))
	}
	seen := m.host(podList, all)
	if slices.ContainsFunc(seen.Pods, func(o fleet.ObservedPod) bool { return o.Infra == fleet.Unknown }) {
		// A pod without the container that every pod has: it was made between the two lists. Taken as it is, it
		// would look broken.
		if all, err = containers.List(ctx, new(containers.ListOptions).WithAll(true)); err != nil {
			return fleet.Host{}, fmt.Errorf("list containers: %w", kind(ctx, err))
		}
		seen = m.host(podList, all)
	}
	seen.Claims = m.lastClaims(claimList, claimErr)
	m.fill(ctx, &seen, labelsOf(all))
	return seen, nil
}

func (m *Machine) host(podList []*entities.ListPodsReport, all []entities.ListContainer) fleet.Host {
	h := fleet.Host{Taken: map[string]bool{}}
	at := map[string]int{} // index into h.Pods by Podman's ID
	for _, p := range podList {
		o, ours := observedPod(p)
		if !ours {
			h.Taken[p.Name] = true
			continue
		}
		at[p.Id] = len(h.Pods)
		h.Pods = append(h.Pods, o)
	}
	live := map[string]bool{}
	m.recall(all)
	odd := m.monitors.find(all)
	for i := range all {
		c := &all[i]
		index, inPod := at[c.Pod]
		switch {
		case inPod && c.IsInfra:
			o := &h.Pods[index]
			o.Infra = state(c.State)
			if u, is := odd[c.ID]; is && !u.lives { // one that still runs holds the pod together, watched or not
				o.Infra = fleet.Exited
			}
			o.IPs = m.addresses(c.ID, c.Pid)
			live[c.ID] = true
		case inPod && c.Labels[fleet.LabelPodUID] == h.Pods[index].UID:
			o := observedContainer(c)
			if u, is := odd[c.ID]; is {
				o = u.container(o)
			}
			h.Pods[index].Containers = append(h.Pods[index].Containers, o)
		default:
			for _, name := range c.Names {
				h.Taken[name] = true
			}
		}
	}
	m.forget(live)
	slices.SortFunc(h.Pods, func(a, b fleet.ObservedPod) int {
		return cmp.Or(a.Pod.Compare(b.Pod), a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
	})
	for i := range h.Pods {
		slices.SortFunc(h.Pods[i].Containers, func(a, b fleet.ObservedContainer) int { return cmp.Compare(a.PodmanName, b.PodmanName) })
	}
	return h
}

// observedPod reads a pod's labels. A pod without ours, or with labels that make no sense, is a stranger's.
func observedPod(p *entities.ListPodsReport) (fleet.ObservedPod, bool) {
	id, err := fleet.ParseIdentity(p.Labels)
	if err != nil {
		return fleet.ObservedPod{}, false
	}
	if id.Created.IsZero() {
		id.Created = p.Created.UTC()
	}
	var past fleet.Past
	if text := p.Labels[fleet.LabelPast]; text != "" {
		_ = json.Unmarshal([]byte(text), &past) // what makes no sense says nothing
	}
	return fleet.ObservedPod{
		PodReport: fleet.PodReport{Identity: id},
		ID:        p.Id, PodmanName: p.Name, Infra: fleet.Unknown, Past: past,
	}, true
}

func observedContainer(c *entities.ListContainer) fleet.ObservedContainer {
	o := fleet.ObservedContainer{
		ID: c.ID, Name: c.Labels[fleet.LabelContainerName], Image: c.Image, ImageID: c.ImageID,
		State: state(c.State), Created: c.Created.UTC(), Started: timeOf(c.StartedAt),
		Hash: fleet.Hash(c.Labels[fleet.LabelContainerHash]),
	}
	if len(c.Names) > 0 {
		o.PodmanName = c.Names[0]
	}
	o.Attempt, _ = strconv.Atoi(c.Labels[fleet.LabelAttempt])
	o.Backoff, _ = time.ParseDuration(c.Labels[fleet.LabelBackoff])
	switch o.State {
	case fleet.Exited:
		o.ExitCode, o.Finished = c.ExitCode, timeOf(c.ExitedAt)
	case fleet.Running:
		o.Limits = limitsOf(c.Pid, c.ID)
	}
	return o
}

// timeOf is a time in seconds; Podman writes the zero time as a large negative number.
func timeOf(seconds int64) time.Time {
	if seconds <= 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func state(s string) fleet.ContainerState {
	switch s {
	case "created", "configured", "initialized":
		return fleet.Created
	case "running":
		return fleet.Running
	case "paused":
		return fleet.Paused
	case "exited", "stopped":
		return fleet.Exited
	case "stopping":
		return fleet.Stopping
	default:
		return fleet.Unknown
	}
}

// telling are the events after which something is not as it was and that we may not have caused.
var telling = []string{"died", "remove", "rename", "pause", "unpause", "stop", "update"}

// Watch calls changed after events of pods and containers.
func (m *Machine) Watch(ctx context.Context, ready func(), changed func(uid string)) error {
	ctx, err := m.connect(ctx)
	if err != nil {
		return err
	}
	conn, err := bindings.GetClient(ctx)
	if err != nil {
		return err
	}
	filters, err := json.Marshal(map[string][]string{"type": {"container", "pod"}})
	if err != nil {
		return err
	}
	query := url.Values{"stream": {"true"}, "filters": {string(filters)}}
	response, err := conn.DoRequest(ctx, nil, http.MethodGet, "/events", query, nil)
	if err != nil {
		return fmt.Errorf("listen to events: %w", kind(ctx, err))
	}
	defer response.Body.Close()
	m.monitors.listen(func() { changed("") })
	defer m.monitors.listen(nil)
	ready()
	decoder := json.NewDecoder(response.Body)
	for {
		var event struct {
			Action string
			Actor  struct{ Attributes map[string]string } // a container's labels among them
		}
		if err := decoder.Decode(&event); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: its event stream ended", host.ErrUnavailable)
			}
			return fmt.Errorf("%w: event stream: %w", host.ErrUnavailable, err)
		}
		if slices.Contains(telling, event.Action) {
			changed(event.Actor.Attributes[fleet.LabelPodUID])
		}
	}
}
