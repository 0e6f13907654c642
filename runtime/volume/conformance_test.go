package volume_test

import (
	"testing"

	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

func TestConformance(t *testing.T) {
	hosttest.RunVolumes(t, func(t *testing.T) host.Volumes { return whole(t) })
}
