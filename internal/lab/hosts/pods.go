package hosts

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Pod is a pod as Podman lists it.
type Pod struct {
	ID, Name, Status string
	Labels           map[string]string
	Created          time.Time
	Containers       []Container // without the one that holds it together
}

// Container is a container as Podman lists it.
type Container struct {
	ID, Name, State, Image string
	Labels                 map[string]string
	Created                time.Time
	Started                time.Time // to the second
	ExitCode               int       // once it is exited
}

// Pods asks Podman on a host for its pods.
func (h *Host) Pods() []Pod {
	h.site.t.Helper()
	list, err := h.PodsErr(h.ctx())
	if err != nil {
		h.site.t.Fatal(err)
	}
	return list
}

// PodsErr is Pods for any goroutine, and for a host that may be off.
func (h *Host) PodsErr(ctx context.Context) ([]Pod, error) {
	var pods []struct {
		ID           string `json:"Id"`
		Name, Status string
		Labels       map[string]string
		Created      time.Time
	}
	var containers []struct {
		ID           string `json:"Id"`
		Names        []string
		State, Image string
		Pod          string
		Labels       map[string]string
		Created      time.Time
		StartedAt    int64
		ExitCode     int
		IsInfra      bool
	}
	if err := h.ask(ctx, "pods/json", &pods); err != nil {
		return nil, err
	}
	if err := h.ask(ctx, "containers/json?all=true", &containers); err != nil {
		return nil, err
	}
	var list []Pod
	for _, p := range pods {
		pod := Pod{ID: p.ID, Name: p.Name, Status: p.Status, Labels: p.Labels, Created: p.Created}
		for _, c := range containers {
			if c.Pod == p.ID && !c.IsInfra {
				pod.Containers = append(pod.Containers, Container{
					ID: c.ID, Name: c.Names[0], State: c.State, Image: c.Image, Labels: c.Labels, Created: c.Created,
					Started: time.Unix(c.StartedAt, 0), ExitCode: c.ExitCode,
				})
			}
		}
		list = append(list, pod)
	}
	return list, nil
}

// ask gets something of Podman's own API. It is not done with runtime/podman, which is what is tested.
func (h *Host) ask(ctx context.Context, path string, answer any) error {
	socket, err := h.path(Socket)
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://podman/v4.0.0/libpod/"+path, nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask podman of host %s: %w", h.Name, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask podman of host %s: %s", h.Name, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
