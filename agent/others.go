package agent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// deaf is after how long of silence a node whose session in the store is renewed all the same is taken for well: its datagrams do not get here,
// and all else does.
const deaf = 10 * time.Second

// others are the last words of the other nodes. Silent are those of them that are not heard any more, which is known here sooner than in the
// store, and also while that is away. Notes say of whom datagrams do not arrive.
func (a *Agent) others(ctx context.Context) (reports []fleet.NodeReport, silent map[fleet.NodeName]bool, notes []fleet.Note, err error) {
	if a.Fleet == nil {
		return nil, nil, nil, nil
	}
	reports, err = a.Store.Reports(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	reports = slices.DeleteFunc(slices.Clone(reports), func(r fleet.NodeReport) bool { return r.Node == a.Node.Name })
	if a.Fleet.Leases == nil {
		return reports, nil, nil, nil
	}
	silent = map[fleet.NodeName]bool{}
	quiet, away := a.Fleet.Leases.Silent(), a.Fleet.Roll.Away() != ""
	for i := range reports {
		name := reports[i].Node
		since, is := quiet[name]
		switch {
		case !is:
		case since > deaf && !away:
			notes = append(notes, fleet.Note{
				About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(name)},
				Text:  fmt.Sprintf("its datagrams (UDP, the port of fleet.listen) do not reach node %s, though it lives: addresses move more slowly than they should, and a loss of it is noticed late", a.Node.Name),
			})
		default:
			silent[name] = true
		}
	}
	return reports, silent, notes, nil
}

// heedOthers has a pass made when what other nodes say changes whom Services send to. They say much else.
func (a *Agent) heedOthers(ctx context.Context, before [sha256.Size]byte) [sha256.Size]byte {
	if !a.Network.whole() || a.Fleet == nil {
		return before
	}
	others, silent, _, err := a.others(ctx)
	if err != nil {
		return before
	}
	now := ends(others, silent)
	if now != before {
		a.nodeBell.ring()
	}
	return now
}

// ends tells apart what Services make of pods.
func ends(reports []fleet.NodeReport, silent map[fleet.NodeName]bool) (sum [sha256.Size]byte) {
	h := sha256.New()
	for i := range reports {
		fmt.Fprintf(h, "%q %v\n", reports[i].Node, silent[reports[i].Node])
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
