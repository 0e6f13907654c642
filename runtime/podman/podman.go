// Package podman is a machine's containers through Podman's socket: it implements host.Host with the v4
// bindings, which also speak to Podman 5.
//
// It decides nothing. It names only what it is told to by ID, or what it has just made. It keeps no state but
// caches of pod addresses and of containers' processes; a service that goes away and comes back is noticed call by call.
package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/containers/podman/v4/pkg/bindings/pods"
	"github.com/containers/podman/v4/pkg/domain/entities"
	"github.com/containers/podman/v4/pkg/errorhandling"
	"github.com/containers/podman/v4/pkg/specgen"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Machine implements host.Host over one Podman service.
type Machine struct {
	socket string

	mu   sync.Mutex
	conn context.Context //nolint:containedctx // the bindings keep their connection in a context
	ips  map[string][]netip.Addr
	pids map[string]int // first processes by container, as the last list had them
	// claims are the names of volumes by where they lie, of those that were asked for.
	claims map[string]string
	listed []fleet.ObservedClaim

	transfers transfers
	endings   endings
	monitors  monitors
}

var _ host.Host = (*Machine)(nil)

// New returns a machine behind the socket with that URL, unix:///run/podman/podman.sock say. It does not
// connect: the first call does.
func New(socket string) *Machine {
	return &Machine{socket: socket, ips: map[string][]netip.Addr{}, claims: map[string]string{}}
}

// call is a caller's context that carries the bindings' connection.
type call struct {
	context.Context                 //nolint:containedctx // it is one
	conn            context.Context //nolint:containedctx // see Machine.conn
}

func (c call) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.conn.Value(key)
}

// connect gives ctx the connection. Dialling is cheap and happens again with every request; what is kept is
// only that the service answered once with a version that we can speak to.
func (m *Machine) connect(ctx context.Context) (context.Context, error) {
	m.mu.Lock()
	conn := m.conn
	m.mu.Unlock()
	if conn == nil {
		bounded, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		var err error
		// It asks for the version. Not under the lock: a service that hangs must hold up nobody else. Of what it
		// returns only the values are used, so it does not matter when its context ends.
		if conn, err = bindings.NewConnection(bounded, m.socket); err != nil {
			return nil, fmt.Errorf("%w at %s: %w", host.ErrUnavailable, m.socket, err)
		}
		m.mu.Lock()
		m.conn = conn
		m.mu.Unlock()
	}
	return call{Context: ctx, conn: conn}, nil
}

// connectTimeout is how long a service may take for its first answer.
const connectTimeout = 30 * time.Second

// Ping reports whether the service answers.
func (m *Machine) Ping(ctx context.Context) error {
	ctx, err := m.connect(ctx)
	if err != nil {
		return err
	}
	conn, err := bindings.GetClient(ctx)
	if err != nil {
		return err
	}
	response, err := conn.DoRequest(ctx, nil, "GET", "/_ping", nil, nil)
	if err != nil {
		return kind(ctx, err)
	}
	return response.Body.Close()
}

// Absent reports whether an error says that nobody listens on the socket, and not that somebody does and does
// not answer as wanted.
func Absent(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// kind maps what the bindings return to the kinds of error that callers branch on. Podman 4.3 answers 500
// with a text to much that has a code in later versions.
func kind(ctx context.Context, err error) error {
	var answer *errorhandling.ErrorModel
	var conflict *errorhandling.PodConflictErrorModel
	switch {
	case err == nil:
		return nil
	case errors.As(err, &conflict):
		return kindOf(409, strings.Join(conflict.Errs, "; "))
	case errors.As(err, &answer):
		return kindOf(answer.ResponseCode, answer.Message)
	case ctx.Err() != nil:
		return ctx.Err()
	case unreachable(err):
		return fmt.Errorf("%w: %w", host.ErrUnavailable, err)
	default: // what a stream of answers said, for one: Podman is there, and does not do it
		return errors.New(strings.TrimSpace(err.Error()))
	}
}

// unreachable reports whether a request got no whole answer.
func unreachable(err error) bool {
	var request *url.Error
	var network net.Error
	return errors.As(err, &request) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func kindOf(code int, text string) error {
	text = strings.TrimSpace(text)
	for _, taken := range []string{"already in use", "is in use", "being used", "already exists", "address already in use", "UNIQUE constraint failed"} {
		if strings.Contains(text, taken) {
			return fmt.Errorf("%w: %s", host.ErrConflict, text)
		}
	}
	gone := code == 404
	for _, absent := range []string{"no such pod", "no such container", "no such volume", "image not known", "no such exec session"} {
		gone = gone || strings.HasSuffix(text, absent)
	}
	if gone {
		return fmt.Errorf("%w: %s", host.ErrNotFound, text)
	}
	return errors.New(text)
}

// CreatePod creates and starts a pod.
func (m *Machine) CreatePod(ctx context.Context, s host.Sandbox) (string, error) {
	ctx, err := m.connect(ctx)
	if err != nil {
		return "", err
	}
	id, err := m.createPod(ctx, s)
	if err != nil {
		return "", fmt.Errorf("create pod %s: %w", s.Name, err)
	}
	report, err := pods.Start(ctx, id, nil)
	if err == nil && len(report.Errs) > 0 {
		err = errors.Join(report.Errs...)
	}
	if err == nil {
		return id, nil
	}
	err = kind(ctx, err)
	if !errors.Is(err, host.ErrUnavailable) { // a pod that cannot start, say for its ports, is not left behind
		err = errors.Join(err, m.RemovePod(context.WithoutCancel(ctx), id))
	}
	return "", fmt.Errorf("start pod %s: %w", s.Name, err)
}

func (m *Machine) createPod(ctx context.Context, s host.Sandbox) (string, error) {
	spec, err := podSpec(s)
	if err != nil {
		return "", err
	}
	report, err := pods.CreatePodFromSpec(ctx, &entities.PodSpec{PodSpecGen: spec})
	if err == nil {
		return report.Id, nil
	}
	err = kind(ctx, err)
	if !errors.Is(err, host.ErrConflict) {
		return "", err
	}
	// The name is taken: perhaps by this very pod, made by an agent that was killed in the midst of it.
	there, inspectErr := pods.Inspect(ctx, s.Name, nil)
	if inspectErr == nil && there.Labels[fleet.LabelPodUID] != "" && there.Labels[fleet.LabelPodUID] == s.Labels[fleet.LabelPodUID] {
		return there.ID, nil
	}
	return "", err
}

// PodAddresses are the addresses of a running pod.
func (m *Machine) PodAddresses(ctx context.Context, id string) ([]netip.Addr, error) {
	ctx, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	p, err := pods.Inspect(ctx, id, nil)
	if err != nil {
		return nil, fmt.Errorf("inspect pod %s: %w", id, kind(ctx, err))
	}
	infra, err := containers.Inspect(ctx, p.InfraContainerID, nil)
	if err != nil {
		return nil, fmt.Errorf("inspect pod %s: %w", id, kind(ctx, err))
	}
	return m.addresses(infra.ID, infra.State.Pid), nil
}

// insist does a removal again when it failed only because a process ended by itself while Podman was about to
// kill it. That can happen once for each container, and hardly ever does.
func insist(remove func() error) error {
	err := remove()
	for range 3 {
		if err == nil || !strings.Contains(err.Error(), improper) {
			break
		}
		err = remove()
	}
	return err
}

// RemovePod kills what runs in a pod and removes it.
func (m *Machine) RemovePod(ctx context.Context, id string) error {
	ctx, err := m.connect(ctx)
	if err != nil {
		return err
	}
	// One call more, and only containers that are being stopped cost another.
	if there, err := pods.Inspect(ctx, id, nil); err == nil {
		for _, c := range there.Containers {
			if state(c.State) == fleet.Stopping {
				killStopping(ctx, c.ID)
			}
		}
	}
	err = insist(func() error {
		report, err := pods.Remove(ctx, id, new(pods.RemoveOptions).WithForce(true).WithTimeout(0))
		if err == nil && report != nil && report.Err != nil {
			err = report.Err
		}
		return err
	})
	if err = kind(ctx, err); err != nil && !errors.Is(err, host.ErrNotFound) {
		return fmt.Errorf("remove pod %s: %w", id, err)
	}
	return nil
}

// StartContainer creates a container and starts it.
func (m *Machine) StartContainer(ctx context.Context, c host.Container) (string, error) {
	ctx, err := m.connect(ctx)
	if err != nil {
		return "", err
	}
	c.OOMScore = m.allowedScore(c.OOMScore)
	created, err := containers.CreateWithSpec(ctx, containerSpec(c, m.claimAt), nil)
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", c.Name, kind(ctx, err))
	}
	err = kind(ctx, containers.Start(ctx, created.ID, nil))
	if err == nil {
		return created.ID, nil
	}
	if !errors.Is(err, host.ErrUnavailable) {
		err = errors.Join(err, m.RemoveContainer(context.WithoutCancel(ctx), created.ID))
	}
	return "", fmt.Errorf("start container %s: %w", c.Name, err)
}

// onContainer does something to one container and maps its error.
func (m *Machine) onContainer(ctx context.Context, verb, id string, do func(ctx context.Context) error) error {
	ctx, err := m.connect(ctx)
	if err != nil {
		return err
	}
	if err := kind(ctx, do(ctx)); err != nil {
		return fmt.Errorf("%s container %s: %w", verb, id, err)
	}
	return nil
}

// improper is how Podman says that a container is not in the state an action needs.
const improper = "container state improper"

// killStopping kills a container that is being stopped. Podman 4 would remove it without that and leave its
// process behind, or wait 17 s for it in a pod. One that is not running is none of its concern.
func killStopping(ctx context.Context, id string) {
	_ = containers.Kill(ctx, id, new(containers.KillOptions).WithSignal("KILL"))
}

// RemoveContainer removes a container by force, with its anonymous volumes.
func (m *Machine) RemoveContainer(ctx context.Context, id string) error {
	return m.onContainer(ctx, "remove", id, func(ctx context.Context) error {
		killStopping(ctx, id)
		options := new(containers.RemoveOptions).WithForce(true).WithVolumes(true).WithIgnore(true).WithTimeout(0)
		err := insist(func() error {
			reports, err := containers.Remove(ctx, id, options)
			for _, r := range reports {
				err = errors.Join(err, r.Err)
			}
			return err
		})
		if errors.Is(kind(ctx, err), host.ErrNotFound) {
			return nil
		}
		return err
	})
}

// RenameContainer gives a container another name.
func (m *Machine) RenameContainer(ctx context.Context, id, name string) error {
	return m.onContainer(ctx, "rename", id, func(ctx context.Context) error {
		return containers.Rename(ctx, id, new(containers.RenameOptions).WithName(name))
	})
}

// Unpause thaws a container or a whole pod.
func (m *Machine) Unpause(ctx context.Context, id string) error {
	return m.onContainer(ctx, "unpause", id, func(ctx context.Context) error {
		err := containers.Unpause(ctx, id, nil)
		if errors.Is(kind(ctx, err), host.ErrNotFound) {
			_, err = pods.Unpause(ctx, id, nil)
		}
		if err != nil && strings.Contains(err.Error(), "is not paused") {
			return nil
		}
		return err
	})
}

// LimitContainer changes a running container's cgroup limits.
func (m *Machine) LimitContainer(ctx context.Context, id string, limits fleet.Limits) error {
	return m.onContainer(ctx, "limit", id, func(ctx context.Context) error {
		spec := &specgen.SpecGenerator{}
		spec.ResourceLimits = resources(limits, true)
		// Podman gave it a limit of memory and swap together, which stands in the way of more memory; Podman 5 sends it along
		// with everything else that it was made with.
		data, err := containers.Inspect(ctx, id, nil)
		if err != nil {
			return err
		}
		if data.HostConfig != nil && data.HostConfig.MemorySwap != 0 {
			swap := int64(-1)
			if limits.Memory > 0 {
				swap = 2 * limits.Memory
			}
			spec.ResourceLimits.Memory.Swap = &swap
		}
		_, err = containers.Update(ctx, &entities.ContainerUpdateOptions{NameOrID: id, Specgen: spec})
		return err
	})
}
