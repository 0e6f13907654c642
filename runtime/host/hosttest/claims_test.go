package hosttest_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

func TestVolumesByHand(t *testing.T) {
	h, pod, _ := running(t)
	theirs := h.AddVolume("a_theirs", nil)
	if _, err := h.CreateClaim(t.Context(), host.Claim{Name: "a_theirs", Labels: map[string]string{fleet.LabelClaim: "a/theirs"}}); !errors.Is(err, host.ErrConflict) {
		t.Errorf("a stranger's volume: %v", err)
	}
	ours, err := h.CreateClaim(t.Context(), host.Claim{Name: "a_data", Labels: map[string]string{
		fleet.LabelClaim: "a/data", fleet.LabelClaimSize: "1Gi",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if claim, ok := h.Claim("a_data"); !ok || claim.Labels[fleet.LabelClaimSize] != "1Gi" {
		t.Errorf("it is %+v, %v", claim, ok)
	}

	// Folders below a claim can be mounted, and keep it, as sub-paths of it do.
	part, err := h.Volumes.SubPath("uid-web", "app-0", ours, "sub")
	if err != nil {
		t.Fatal(err)
	}
	for i, source := range []string{ours, ours + "/below", part} {
		c := app(pod, "web")
		c.Name += string(rune('0' + i))
		c.Mounts = []host.Mount{{Source: source, Target: "/x"}, {Source: theirs, Target: "/y"}}
		id, err := h.StartContainer(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.RemoveClaim(t.Context(), "a_data"); !errors.Is(err, host.ErrConflict) {
			t.Errorf("%s is mounted: %v", source, err)
		}
		if err := h.RemoveContainer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}

	const want = `pod a_web pod2 running 10.88.0.3
  container a_web_app container4 running image web:1 attempt 2 memory 1048576 cpu 1000
image web:1 image1
claim a_data a/data 1Gi
claim a_theirs (a stranger's)
subPath /memory/uid-web/.mounts/app-0 of /claims/a_data/sub
`
	if diff := cmp.Diff(want, h.String()); diff != "" {
		t.Error(diff)
	}
	h.RemoveVolume("a_data")
	c := app(pod, "gone")
	c.Mounts = []host.Mount{{Source: ours, Target: "/x"}}
	if _, err := h.StartContainer(t.Context(), c); err == nil {
		t.Error("a volume that is gone was mounted")
	}
	if seen, err := h.Look(t.Context()); err != nil || seen.Claims != nil {
		t.Errorf("seen are %+v, %v", seen.Claims, err)
	}
}
