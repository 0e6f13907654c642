package hosttest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// pod is a sandbox on the machine.
type pod struct {
	id      string
	box     host.Sandbox
	infra   fleet.ContainerState
	ip      netip.Addr // invalid while the infra container does not run
	created time.Time
}

// CreatePod creates and starts a pod.
func (h *Host) CreatePod(ctx context.Context, s host.Sandbox) (id string, err error) {
	err = h.call(ctx, "CreatePod", s.Name, func() error {
		p := h.podNamed(s.Name)
		switch uid := s.Labels[fleet.LabelPodUID]; {
		case p != nil && (uid == "" || p.box.Labels[fleet.LabelPodUID] != uid), p == nil && h.containerNamed(s.Name) != nil:
			return taken("pod", s.Name)
		case p == nil:
			p = h.addPod(s)
		}
		if p.infra == fleet.Running {
			id = p.id
			return nil
		}
		if port, used := h.portTaken(p); used {
			h.dropPod(p)
			return fmt.Errorf("start pod %s: %w: port %d of the host is in use", s.Name, host.ErrConflict, port)
		}
		h.startPod(p)
		id = p.id
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

func (h *Host) addPod(s host.Sandbox) *pod {
	p := &pod{id: h.id("pod"), box: clone(s), infra: fleet.Created, created: time.Now().UTC()}
	h.pods[p.id] = p
	return p
}

func (h *Host) startPod(p *pod) {
	h.next++
	p.infra = fleet.Running
	if p.box.Network != host.Machine {
		p.ip = netip.AddrFrom4([4]byte{10, 88, byte(h.next >> 8), byte(h.next)})
	}
}

func (h *Host) dropPod(p *pod) {
	for _, c := range h.ctrs {
		if c.spec.PodID == p.id {
			h.drop(c)
		}
	}
	delete(h.pods, p.id)
}

// portTaken reports a port of the host that another running pod has.
func (h *Host) portTaken(p *pod) (uint16, bool) {
	for _, other := range h.pods {
		if other == p || other.infra != fleet.Running {
			continue
		}
		for _, want := range p.box.Ports {
			for _, have := range other.box.Ports {
				if want.Host == have.Host && want.Protocol == have.Protocol && overlaps(want.HostIP, have.HostIP) {
					return want.Host, true
				}
			}
		}
	}
	return 0, false
}

func overlaps(a, b string) bool {
	all := func(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
	return a == b || all(a) || all(b)
}

// PodAddresses are the addresses of a running pod.
func (h *Host) PodAddresses(ctx context.Context, id string) (ips []netip.Addr, err error) {
	err = h.call(ctx, "PodAddresses", id, func() error {
		p := h.pods[id]
		if p == nil {
			return notFound("pod", id)
		}
		ips = p.addresses()
		return nil
	})
	return ips, err
}

func (p *pod) addresses() []netip.Addr {
	if !p.ip.IsValid() {
		return nil
	}
	return []netip.Addr{p.ip}
}

// RemovePod kills what runs in a pod and removes it.
func (h *Host) RemovePod(ctx context.Context, id string) error {
	return h.call(ctx, "RemovePod", h.nameOf(id), func() error {
		if p := h.findPod(id); p != nil {
			h.dropPod(p)
			h.ring()
		}
		return nil
	})
}

func (h *Host) podNamed(name string) *pod {
	for _, p := range h.pods {
		if p.box.Name == name {
			return p
		}
	}
	return nil
}

func (h *Host) findPod(idOrName string) *pod {
	if p := h.pods[idOrName]; p != nil {
		return p
	}
	return h.podNamed(idOrName)
}

// Pod is what the pod with that ID or name was made from.
func (h *Host) Pod(idOrName string) (host.Sandbox, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.findPod(idOrName)
	if p == nil {
		return host.Sandbox{}, false
	}
	return clone(p.box), true
}

// HalfMake creates a pod and does not start it, as an agent does that is killed between the two.
func (h *Host) HalfMake(s host.Sandbox) (id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addPod(s).id
}

// AddPod makes a pod and starts it behind everybody's back. One without labels of ours is a stranger's.
func (h *Host) AddPod(s host.Sandbox) (id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.addPod(s)
	h.startPod(p)
	h.ring()
	return p.id
}

// KillInfra ends the container that holds a pod's namespaces: the pod's other containers live on, without a
// network. Only where it is the first process of all, they die with it.
func (h *Host) KillInfra(idOrName string) error {
	return h.byHand(idOrName, func(p *pod, _ *container) error {
		if p == nil {
			return errors.New("that is no pod")
		}
		p.infra, p.ip = fleet.Exited, netip.Addr{}
		for _, c := range h.ctrs {
			if c.spec.PodID == p.id && c.spec.PID == host.Shared {
				h.end(c, killed)
			}
		}
		return nil
	})
}

// Delete removes a pod or container, whichever has that ID or name, by force and by hand.
func (h *Host) Delete(idOrName string) error {
	return h.byHand(idOrName, func(p *pod, c *container) error {
		if p != nil {
			h.dropPod(p)
			return nil
		}
		h.drop(c)
		return nil
	})
}

// byHand does something to a pod or container behind everybody's back.
func (h *Host) byHand(idOrName string, do func(p *pod, c *container) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, c := h.findPod(idOrName), h.findContainer(idOrName)
	if p == nil && c == nil {
		return notFound("pod or container", idOrName)
	}
	if err := do(p, c); err != nil {
		return fmt.Errorf("%s: %w", idOrName, err)
	}
	h.ring()
	return nil
}

func clone(s host.Sandbox) host.Sandbox {
	s.Labels = cloneMap(s.Labels)
	s.Ports, s.Hosts, s.Sysctls = slices.Clone(s.Ports), slices.Clone(s.Hosts), cloneMap(s.Sysctls)
	d := &s.DNS
	d.Nameservers, d.Searches, d.Options = slices.Clone(d.Nameservers), slices.Clone(d.Searches), slices.Clone(d.Options)
	return s
}
