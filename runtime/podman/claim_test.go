package podman_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/podman"
)

// TestClaimWithMountedPart: a container that has only a part of a volume has it all the same, though Podman does not
// know: the part was mounted for it from outside.
func TestClaimWithMountedPart(t *testing.T) {
	s := lab.Podman(t)
	t.Cleanup(func() { s.Reset(t) })
	m := podman.New(s.URL())
	claim := host.Claim{Name: "shop_part", Labels: map[string]string{fleet.LabelClaim: "shop/part"}}
	path, err := m.CreateClaim(t.Context(), claim)
	if err != nil {
		t.Fatal(err)
	}
	part, target := filepath.Join(path, "below", "here"), t.TempDir()
	if err := os.MkdirAll(part, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(part, target, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	if err := m.RemoveClaim(t.Context(), claim.Name); !errors.Is(err, host.ErrConflict) {
		t.Errorf("while a part is mounted: %v", err)
	}
	if err := syscall.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.RemoveClaim(t.Context(), claim.Name); err != nil {
		t.Error(err)
	}
}
