package hosttest

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-dev/skerry/runtime/host"
)

// bridge is a network that goes at the end of the test.
func (b *bench) bridge() host.Bridge {
	b.Helper()
	net := host.Bridge{Name: "suite-" + b.id, Interface: "sk" + b.id[:min(len(b.id), 8)], Subnet: netip.MustParsePrefix("10.213.7.0/24")}
	b.must(b.EnsureBridge(b.Context(), net))
	b.Cleanup(func() {
		if err := b.RemoveBridge(context.WithoutCancel(b.Context()), net.Name); err != nil {
			b.Error(err)
		}
	})
	return net
}

var bridgeTests = map[string]func(*bench){
	"several make sure of one at once": func(b *bench) {
		net := b.bridge()
		b.must(b.RemoveBridge(b.Context(), net.Name))
		var group errgroup.Group
		for range 5 {
			group.Go(func() error { return b.EnsureBridge(b.Context(), net) })
		}
		b.must(group.Wait())
	},
	"the same again is the same, other addresses are not": func(b *bench) {
		net := b.bridge()
		b.must(b.EnsureBridge(b.Context(), net))
		other := net
		other.Subnet = netip.MustParsePrefix("10.213.8.0/24")
		if err := b.EnsureBridge(b.Context(), other); !errors.Is(err, host.ErrConflict) || !strings.Contains(err.Error(), net.Name) {
			b.Fatalf("another subnet: %v", err)
		}
		b.must(b.RemoveBridge(b.Context(), "suite-nowhere"))
	},
}
