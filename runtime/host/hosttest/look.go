package hosttest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Look lists what is there. The caller may keep and change it.
func (h *Host) Look(ctx context.Context) (seen fleet.Host, err error) {
	err = h.call(ctx, "Look", "", func() error {
		seen = h.look()
		return nil
	})
	if err != nil {
		return fleet.Host{}, err
	}
	return seen, nil
}

func (h *Host) look() fleet.Host {
	seen := fleet.Host{Taken: map[string]bool{}}
	at := map[string]int{}
	for _, p := range h.pods {
		if !ours(p.box.Labels) {
			seen.Taken[p.box.Name] = true
			continue
		}
		seen.Pods = append(seen.Pods, p.observed())
	}
	slices.SortFunc(seen.Pods, func(a, b fleet.ObservedPod) int {
		return cmp.Or(a.Pod.Compare(b.Pod), a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
	})
	for i := range seen.Pods {
		at[seen.Pods[i].ID] = i
	}
	for _, c := range h.ctrs {
		i, inPod := at[c.spec.PodID]
		if !inPod || c.spec.Labels[fleet.LabelPodUID] != seen.Pods[i].UID {
			seen.Taken[c.spec.Name] = true
			continue
		}
		seen.Pods[i].Containers = append(seen.Pods[i].Containers, c.observed())
	}
	seen.Claims = h.observedClaims()
	for i := range seen.Pods {
		slices.SortFunc(seen.Pods[i].Containers, func(a, b fleet.ObservedContainer) int { return cmp.Compare(a.PodmanName, b.PodmanName) })
	}
	return seen
}

func (p *pod) observed() fleet.ObservedPod {
	id, _ := fleet.ParseIdentity(p.box.Labels) // ours has looked at it
	if id.Created.IsZero() {
		id.Created = p.created.UTC()
	}
	var past fleet.Past
	if json.Unmarshal([]byte(p.box.Labels[fleet.LabelPast]), &past) != nil {
		past = nil // it makes no sense, or there is none
	}
	return fleet.ObservedPod{
		PodReport: fleet.PodReport{Identity: id},
		ID:        p.id, PodmanName: p.box.Name, Infra: p.infra, IPs: p.addresses(), Past: past,
	}
}

// messageLimit is how much an ended container can say, in bytes, as the kubelet reads it.
const messageLimit = 4096

func (c *container) observed() fleet.ObservedContainer {
	l := c.spec.Labels
	o := fleet.ObservedContainer{
		ID: c.id, PodmanName: c.spec.Name, Name: l[fleet.LabelContainerName], Image: c.spec.Image, ImageID: c.imageID,
		State: c.state, Created: c.created, Started: c.started, Hash: fleet.Hash(l[fleet.LabelContainerHash]),
	}
	o.Attempt, _ = strconv.Atoi(l[fleet.LabelAttempt])
	o.Backoff, _ = time.ParseDuration(l[fleet.LabelBackoff])
	switch c.state {
	case fleet.Exited:
		o.ExitCode, o.Finished, o.OutOfMemory = c.code, c.finished, c.starved
		if l[fleet.LabelMessage] != "" {
			o.Message = c.message[max(len(c.message)-messageLimit, 0):]
		}
	case fleet.Running:
		limits := c.limits
		o.Limits = &limits
	}
	return o
}

// String is the whole machine as text, the same for the same history: pods with their containers by name,
// then containers without a pod, images, claims, volumes. Environments are left out.
func (h *Host) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	pods := slices.SortedFunc(maps.Values(h.pods), func(a, b *pod) int {
		return cmp.Or(cmp.Compare(a.box.Name, b.box.Name), cmp.Compare(a.id, b.id))
	})
	for _, p := range pods {
		fmt.Fprintf(&b, "pod %s %s %s", p.box.Name, p.id, p.infra)
		if p.ip.IsValid() {
			fmt.Fprintf(&b, " %s", p.ip)
		}
		for _, port := range p.box.Ports {
			fmt.Fprintf(&b, " %d/%s", port.Host, port.Protocol)
		}
		namespaces(&b, "network", p.box.Network)
		namespaces(&b, "ipc", p.box.IPC)
		namespaces(&b, "pid", p.box.PID)
		if !ours(p.box.Labels) {
			b.WriteString(" (a stranger's)")
		}
		b.WriteByte('\n')
		h.print(&b, "  ", func(c *container) bool { return c.spec.PodID == p.id })
	}
	h.print(&b, "", func(c *container) bool { return h.pods[c.spec.PodID] == nil })
	for _, name := range slices.Sorted(maps.Keys(h.images)) {
		fmt.Fprintf(&b, "image %s %s\n", name, h.images[name])
	}
	h.printClaims(&b)
	b.WriteString(h.Volumes.String())
	return b.String()
}

// namespaces writes whose a namespace is, unless it is as ever.
func namespaces(b *strings.Builder, kind string, whose host.Namespace) {
	switch whose {
	case host.Shared:
		fmt.Fprintf(b, " %s shared", kind)
	case host.Machine:
		fmt.Fprintf(b, " %s machine", kind)
	case host.Own:
	}
}

func (h *Host) print(b *strings.Builder, indent string, which func(*container) bool) {
	list := slices.SortedFunc(maps.Values(h.ctrs), func(a, b *container) int {
		return cmp.Or(cmp.Compare(a.spec.Name, b.spec.Name), cmp.Compare(a.id, b.id))
	})
	for _, c := range list {
		if !which(c) {
			continue
		}
		fmt.Fprintf(b, "%scontainer %s %s %s", indent, c.spec.Name, c.id, c.state)
		if c.state == fleet.Exited {
			fmt.Fprintf(b, " %d", c.code)
			if c.starved {
				b.WriteString(" out of memory")
			}
			if c.message != "" {
				fmt.Fprintf(b, " %q", c.message)
			}
		}
		fmt.Fprintf(b, " image %s", c.spec.Image)
		if n := c.spec.Labels[fleet.LabelAttempt]; n != "" && n != "0" {
			fmt.Fprintf(b, " attempt %s", n)
		}
		if c.limits.Memory != 0 || c.limits.CPUQuota != 0 {
			fmt.Fprintf(b, " memory %d cpu %d", c.limits.Memory, c.limits.CPUQuota)
		}
		namespaces(b, "ipc", c.spec.IPC)
		namespaces(b, "pid", c.spec.PID)
		b.WriteByte('\n')
	}
}
