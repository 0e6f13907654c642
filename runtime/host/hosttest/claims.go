package hosttest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// claim is a named volume on the machine, somebody else's too.
type claim struct {
	name    string
	labels  map[string]string
	created time.Time
}

// claimRoot is where named volumes lie.
const claimRoot = "/claims"

func claimPath(name string) string { return path.Join(claimRoot, name) }

// claimID is whose volume it is, if it is one of ours.
func (c *claim) claimID() (fleet.ClaimID, bool) {
	namespace, name, _ := strings.Cut(c.labels[fleet.LabelClaim], "/")
	return fleet.ClaimID{Namespace: namespace, Name: name}, namespace != "" && name != "" && !strings.Contains(name, "/")
}

// claimAt is the named volume that a path lies in; nil when it lies in none.
func (h *Host) claimAt(name string) *claim {
	below, ok := strings.CutPrefix(name, claimRoot+"/")
	if !ok {
		return nil
	}
	first, _, _ := strings.Cut(below, "/")
	return h.claims[first]
}

// claimOf is the named volume that a mount shows, or shows a part of.
func (h *Host) claimOf(m host.Mount) *claim {
	if source, ok := h.Volumes.Shows(m.Source); ok {
		return h.claimAt(source)
	}
	return h.claimAt(m.Source)
}

// CreateClaim makes sure of a claim's volume.
func (h *Host) CreateClaim(ctx context.Context, c host.Claim) (path string, err error) {
	err = h.call(ctx, "CreateClaim", c.Name, func() error {
		there := h.claims[c.Name]
		if there != nil && (there.labels[fleet.LabelClaim] == "" || there.labels[fleet.LabelClaim] != c.Labels[fleet.LabelClaim]) {
			return taken("volume", c.Name)
		}
		if there == nil {
			h.addClaim(c.Name, c.Labels)
		}
		path = claimPath(c.Name)
		return nil
	})
	return path, err
}

func (h *Host) addClaim(name string, labels map[string]string) {
	h.claims[name] = &claim{name: name, labels: cloneMap(labels), created: time.Now().UTC()}
	h.Volumes.AddPath(claimPath(name), corev1.HostPathDirectory)
}

// RemoveClaim removes a volume that no container has.
func (h *Host) RemoveClaim(ctx context.Context, name string) error {
	return h.call(ctx, "RemoveClaim", name, func() error {
		c := h.claims[name]
		if c == nil {
			return nil
		}
		for _, user := range h.ctrs {
			if slices.ContainsFunc(user.spec.Mounts, func(m host.Mount) bool { return h.claimOf(m) == c }) {
				return fmt.Errorf("remove volume %s: %w: container %s has it", name, host.ErrConflict, user.spec.Name)
			}
		}
		h.dropClaim(name)
		return nil
	})
}

func (h *Host) dropClaim(name string) {
	delete(h.claims, name)
	h.Volumes.mu.Lock()
	defer h.Volumes.mu.Unlock()
	delete(h.Volumes.paths, claimPath(name))
}

// AddVolume makes a named volume by hand. One without fleet.LabelClaim is a stranger's.
func (h *Host) AddVolume(name string, labels map[string]string) (path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addClaim(name, labels)
	return claimPath(name)
}

// RemoveVolume removes a named volume by hand, whoever has it.
func (h *Host) RemoveVolume(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropClaim(name)
}

// Claim is the claim that a named volume was made for.
func (h *Host) Claim(name string) (host.Claim, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.claims[name]
	if c == nil {
		return host.Claim{}, false
	}
	return host.Claim{Name: name, Labels: cloneMap(c.labels)}, true
}

// observedClaims are the volumes that are ours.
func (h *Host) observedClaims() []fleet.ObservedClaim {
	var all []fleet.ObservedClaim
	for _, c := range h.claims {
		if id, ours := c.claimID(); ours {
			all = append(all, fleet.ObservedClaim{
				Claim: id, PodmanName: c.name,
				Source: fleet.SourceName(c.labels[fleet.LabelSource]), Size: c.labels[fleet.LabelClaimSize], Created: c.created,
			})
		}
	}
	slices.SortFunc(all, func(a, b fleet.ObservedClaim) int {
		return cmp.Or(cmp.Compare(a.Claim.Namespace, b.Claim.Namespace), cmp.Compare(a.Claim.Name, b.Claim.Name),
			cmp.Compare(a.PodmanName, b.PodmanName))
	})
	return all
}

// printClaims writes one line a named volume.
func (h *Host) printClaims(b *strings.Builder) {
	for _, name := range slices.Sorted(maps.Keys(h.claims)) {
		c := h.claims[name]
		fmt.Fprintf(b, "claim %s", name)
		if _, ours := c.claimID(); !ours {
			b.WriteString(" (a stranger's)")
		}
		for _, label := range []string{fleet.LabelClaim, fleet.LabelClaimSize} {
			if value := c.labels[label]; value != "" {
				b.WriteString(" " + value)
			}
		}
		b.WriteByte('\n')
	}
}
