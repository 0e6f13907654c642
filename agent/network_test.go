package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/runtime/check"
	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/proxy"
)

// rules is a host.Network that fails.
type rules struct{ fault, look error }

func (r rules) Serve(context.Context, fleet.HostNet) error { return r.fault }
func (r rules) Check(context.Context) (bool, error)        { return false, r.look }

// TestWhatKeepsPodsInTheRotation: rules that cannot be written. What else is missing is said, and pods that are to go need not wait
// for it.
func TestWhatKeepsPodsInTheRotation(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	number := netip.MustParseAddrPort(taken.Addr().String()).Port()
	log := slog.New(slog.DiscardHandler)
	port := fleet.HostNet{Fronts: []fleet.Front{{Protocol: corev1.ProtocolTCP, Number: number}}}
	asked := fleet.HostNet{Checks: []fleet.HealthCheck{{Number: number}}}
	sockets := proxy.New(log)
	defer sockets.Close()
	whole := func(r host.Network) *Network {
		return &Network{Rules: r, Checks: check.New(log), Prepare: func() (bool, error) { return false, nil }}
	}
	for _, test := range []struct {
		name   string
		on     *Network
		net    fleet.HostNet
		turned bool
	}{
		{"a node port is taken", &Network{Settings: fleet.NetworkSettings{Without: "no root"}, Rules: sockets, Checks: check.New(log)}, port, true},
		{"a health check port is taken", whole(rules{}), asked, true},
		{"an address cannot be had", whole(rules{fault: host.Partly{Err: errors.New("on no network")}}), fleet.HostNet{}, true},
		{"rules cannot be looked at", whole(rules{look: errors.New("nft")}), fleet.HostNet{}, true},
		{"the bridge is down", &Network{Rules: rules{}, Checks: check.New(log), Prepare: func() (bool, error) { return true, errors.New("down") }}, fleet.HostNet{}, true},
		{"rules cannot be written", whole(rules{fault: errors.New("nft")}), fleet.HostNet{}, false},
		{"neither rules nor checks", whole(rules{fault: errors.New("nft")}), asked, false},
	} {
		w := &worker{Agent: &Agent{Config: Config{Network: test.on, Log: log}}}
		if turned, err := w.serve(t.Context(), reconcile.NodePlan{Net: test.net}); err == nil || turned != test.turned {
			t.Errorf("%s: %v %v", test.name, turned, err)
		}
	}
}
