package expose

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// candidate is an end that a port of a Service may go to.
type candidate struct {
	fleet.End
	ready, local bool // not ready: kept in reserve
}

// ends are all candidates of one port.
type ends struct {
	list []candidate
	// near: ends of the node itself are preferred where there are any that are ready.
	near bool
}

// ends are those endpoints of a Service that have the port and can be sent to.
func (n *netting) ends(s *served, port corev1.ServicePort) ends {
	d := s.svc.Spec.TrafficDistribution
	e := ends{near: d != nil && *d == corev1.ServiceTrafficDistributionPreferSameNode}
	for i := range s.endpoints {
		p := &s.endpoints[i]
		number, ok := p.at(port)
		if !ok || (!p.Ready && !p.reserve()) {
			continue
		}
		e.near = e.near && (!p.Ready || p.Node != "")
		e.list = append(e.list, candidate{fleet.End{Addr: p.Addr, Port: number}, p.Ready, p.Node != "" && p.Node == n.node})
	}
	return e
}

// choose are the ends of a front, each once and in order, and what becomes of connections when there are none: ready ones;
// where there are none those that serve while they are stopped; of this node alone when that is asked for. It is chosen for
// each family by itself.
func (e ends) choose(local bool, families ...corev1.IPFamily) ([]fleet.End, fleet.Verdict) {
	var list []fleet.End
	anybody := false
	for _, f := range families {
		in := func(ready, near bool) {
			for _, c := range e.list {
				if familyOf(c.Addr) == f && c.ready == ready && (!near || c.local) {
					list = append(list, c.End)
				}
			}
		}
		before := len(list)
		if e.near {
			in(true, true)
		}
		for _, ready := range []bool{true, false} {
			if len(list) == before {
				in(ready, local)
			}
		}
		anybody = anybody || slices.ContainsFunc(e.list, func(c candidate) bool { return familyOf(c.Addr) == f })
	}
	slices.SortFunc(list, fleet.End.Compare)
	list = slices.Compact(list)
	switch {
	case len(list) > 0:
		return list, fleet.Serve
	case anybody:
		return nil, fleet.Drop
	default:
		return nil, fleet.Reject
	}
}
