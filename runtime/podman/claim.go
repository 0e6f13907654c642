package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containers/podman/v4/pkg/bindings/volumes"
	"github.com/containers/podman/v4/pkg/domain/entities"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// unowned keeps Podman from giving a new volume to the user of the first container that has it: whose it is, fsGroup
// says.
var unowned = map[string]string{"o": "uid=0,gid=0"}

// CreateClaim makes sure of a claim's volume.
func (m *Machine) CreateClaim(ctx context.Context, c host.Claim) (string, error) {
	ctx, err := m.connect(ctx)
	if err != nil {
		return "", err
	}
	v, err := volumes.Inspect(ctx, c.Name, nil)
	there := true
	if errors.Is(kind(ctx, err), host.ErrNotFound) {
		v, err = volumes.Create(ctx, entities.VolumeCreateOptions{Name: c.Name, Label: c.Labels, Options: unowned}, nil)
		there = errors.Is(kind(ctx, err), host.ErrConflict) // somebody was quicker
		if there {
			v, err = volumes.Inspect(ctx, c.Name, nil)
		}
	}
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", c.Name, kind(ctx, err))
	}
	if there && (v.Labels[fleet.LabelClaim] == "" || v.Labels[fleet.LabelClaim] != c.Labels[fleet.LabelClaim]) {
		return "", fmt.Errorf("volume %s: %w: it is in Podman and not Skerry's", c.Name, host.ErrConflict)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims[v.Mountpoint] = c.Name
	return v.Mountpoint, nil
}

// claimAt is the volume that lies at a path, if it is one that was asked for. A container that mounts it by its name
// keeps Podman from removing it; one that mounts the path would not.
func (m *Machine) claimAt(path string) (name string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, ok = m.claims[path]
	return name, ok
}

// RemoveClaim removes a claim's volume.
func (m *Machine) RemoveClaim(ctx context.Context, name string) error {
	ctx, err := m.connect(ctx)
	if err != nil {
		return err
	}
	if v, err := volumes.Inspect(ctx, name, nil); err == nil && mountedBelow(v.Mountpoint) {
		return fmt.Errorf("remove volume %s: %w: a part of it is mounted", name, host.ErrConflict)
	}
	err = kind(ctx, volumes.Remove(ctx, name, nil))
	if err == nil || errors.Is(err, host.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("remove volume %s: %w", name, err)
}

// mountedBelow reports whether something in or below a folder is mounted elsewhere, as sub-paths of volumes are. Podman
// does not know of such, and would remove the volume from under them.
func mountedBelow(folder string) bool {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	// The fourth field is what is mounted, as its own file system names it: without the way to where that is mounted.
	volume := filepath.Base(filepath.Dir(folder)) + "/" + filepath.Base(folder)
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.Contains(fields[3]+"/", "/"+volume+"/") {
			return true
		}
	}
	return false
}

// lastClaims are those that were listed, or when that failed those of the last time: pods are looked after all the same.
func (m *Machine) lastClaims(list []fleet.ObservedClaim, err error) []fleet.ObservedClaim {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.listed = list
	}
	return m.listed
}

// claims lists the volumes that stand for claims.
func claims(ctx context.Context) ([]fleet.ObservedClaim, error) {
	filter := map[string][]string{"label": {fleet.LabelClaim}}
	list, err := volumes.List(ctx, new(volumes.ListOptions).WithFilters(filter))
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", kind(ctx, err))
	}
	var claims []fleet.ObservedClaim
	for _, v := range list {
		namespace, name, _ := strings.Cut(v.Labels[fleet.LabelClaim], "/")
		if namespace == "" || name == "" {
			continue
		}
		claims = append(claims, fleet.ObservedClaim{
			Claim: fleet.ClaimID{Namespace: namespace, Name: name}, PodmanName: v.Name,
			Source: fleet.SourceName(v.Labels[fleet.LabelSource]),
			Size:   v.Labels[fleet.LabelClaimSize], Created: v.CreatedAt.UTC(),
		})
	}
	slices.SortFunc(claims, func(a, b fleet.ObservedClaim) int { return strings.Compare(a.Claim.String(), b.Claim.String()) })
	return claims, nil
}
