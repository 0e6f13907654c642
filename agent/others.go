package agent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"

	"github.com/skerry-dev/skerry/fleet"
)

// others are the last words of the other nodes, without those of which is known that they are not heard any more: sooner than the store
// knows it, and also while the store is away.
func (a *Agent) others(ctx context.Context) ([]fleet.NodeReport, error) {
	if a.Fleet == nil {
		return nil, nil
	}
	reports, err := a.Store.Reports(ctx)
	if err != nil {
		return nil, err
	}
	var silent []fleet.NodeName
	if a.Fleet.Leases != nil {
		silent = a.Fleet.Leases.Silent()
	}
	return slices.DeleteFunc(slices.Clone(reports), func(r fleet.NodeReport) bool { return r.Node == a.Node.Name || slices.Contains(silent, r.Node) }), nil
}

// heedOthers has a pass made when what other nodes say changes whom Services send to. They say much else.
func (a *Agent) heedOthers(ctx context.Context, before [sha256.Size]byte) [sha256.Size]byte {
	if !a.Network.whole() || a.Fleet == nil {
		return before
	}
	others, err := a.others(ctx)
	if err != nil {
		return before
	}
	now := ends(others)
	if now != before {
		a.nodeBell.ring()
	}
	return now
}

// ends tells apart what Services make of pods.
func ends(reports []fleet.NodeReport) (sum [sha256.Size]byte) {
	h := sha256.New()
	for i := range reports {
		fmt.Fprintf(h, "%q\n", reports[i].Node)
		for j := range reports[i].Pods {
			endOf(h, &reports[i].Pods[j])
		}
	}
	h.Sum(sum[:0])
	return sum
}

func endOf(h hash.Hash, p *fleet.PodReport) {
	_, ready := p.ReadySince()
	serving := false
	for i := range p.Status.ContainerStatuses {
		serving = serving || p.Status.ContainerStatuses[i].Ready
	}
	fmt.Fprint(h, p.UID, p.Status.PodIP, p.Status.PodIPs, p.Status.Phase, ready, serving, "\n")
}
