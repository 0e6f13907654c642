package expose

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// lastRank is the rank of all who come late: who goes first matters among a few.
const lastRank = 9

// Candidacies are the addresses that a node may have, in order: those of Services of type LoadBalancer, and the fleet's own. With
// externalTrafficPolicy Local a node without a ready end of the Service has nothing to say at its address, and leaves it to others; where
// several Services share one, an end of any of them will do. The ranks of the nodes differ from address to address, so that many addresses are
// spread over the nodes; they hang on nothing but names, so that all nodes think alike. Seek are the nodes that say of themselves that they
// could have an address: the first of them is its heir.
func Candidacies(in NetInput, nodes []fleet.NodeName, virtual []netip.Addr, seek map[netip.Addr][]fleet.NodeName) []fleet.Candidacy {
	may := map[netip.Addr]bool{}
	for _, a := range virtual {
		may[a] = true
	}
	exposures, backends := exposuresByID(in.Exposures), backendsByID(in.Backends)
	for o, svc := range fleet.Each[*corev1.Service](in.Desired) {
		s := &served{id: o.ID, svc: svc, endpoints: backends[o.ID].Endpoints}
		if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && s.here(in.Node) == 0 {
			continue
		}
		for _, a := range exposures[o.ID].Balancers {
			may[a] = true
		}
	}
	var list []fleet.Candidacy
	for a := range may {
		c := fleet.Candidacy{Addr: a, Rank: rankOf(a, in.Node, nodes)}
		best := len(nodes)
		for _, n := range seek[a] {
			if r := rankOf(a, n, nodes); n != in.Node && r < best {
				c.Heir, best = n, r
			}
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(x, y fleet.Candidacy) int { return x.Addr.Compare(y.Addr) })
	return list
}

// rankOf is the place of a node among all for an address: that with the highest number comes first.
func rankOf(a netip.Addr, node fleet.NodeName, nodes []fleet.NodeName) int {
	own, before := hashOf(a.String()+" "+string(node)), 0
	for _, other := range nodes {
		if other != node && hashOf(a.String()+" "+string(other)) > own {
			before++
		}
	}
	return min(before, lastRank)
}
