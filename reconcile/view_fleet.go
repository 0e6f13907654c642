package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
)

// Machine is a node in one line of status.
type Machine struct {
	Name      fleet.NodeName                      `json:"name"`
	State     string                              `json:"state"`            // as Standing has it, and ,SchedulingDisabled
	Server    bool                                `json:"server,omitempty"` // it may lead
	Voter     bool                                `json:"voter,omitempty"`  // it keeps a copy of the fleet's memory
	Address   string                              `json:"address,omitempty"`
	Version   string                              `json:"version,omitempty"`
	Pods      int                                 `json:"pods"` // that should run there
	Leaving   int                                 `json:"leaving,omitempty"`
	Epoch     uint64                              `json:"epoch,omitempty"` // that it acted on last
	Revisions map[fleet.SourceName]fleet.Revision `json:"revisions,omitempty"`
	Why       string                              `json:"why,omitempty"` // why it is not Ready
}

// The states of a node.
const (
	NodeReady    = "Ready"
	NodeNotReady = "NotReady" // it gets no pods for now
	NodeLost     = "Lost"     // nothing is heard of it
)

// Standing is the state of a node and, unless it is ready, why; the report is what it said last, nil while it has said nothing.
func Standing(n fleet.Node, report *fleet.NodeReport) (state, why string) {
	switch {
	case n.Down != "":
		return NodeLost, n.Down
	case report == nil:
		return NodeNotReady, "it has not reported yet"
	case report.Trouble != "":
		return NodeNotReady, report.Trouble
	default:
		return NodeReady, ""
	}
}

// Lost reports whether nothing is heard of the node: what it was told to end may run still.
func (m Machine) Lost() bool { return strings.HasPrefix(m.State, NodeLost) }

// Machines are the nodes, in the order of their names.
func (v *View) Machines() []Machine {
	run, leave := map[fleet.NodeName]int{}, map[fleet.NodeName]int{}
	for i := range v.in.Previous.Slots {
		s := &v.in.Previous.Slots[i]
		if s.Goal == fleet.Run {
			run[s.Node]++
		} else {
			leave[s.Node]++
		}
	}
	var list []Machine
	for _, n := range v.decided.in.Nodes {
		m := Machine{Name: n.Name, Server: n.Server, Voter: n.Voter, Address: n.Address, Version: n.Version, Pods: run[n.Name], Leaving: leave[n.Name]}
		report := v.decided.nodes[n.Name]
		m.State, m.Why = Standing(n, report)
		if n.Unschedulable {
			m.State += ",SchedulingDisabled"
		}
		if report != nil {
			m.Epoch, m.Revisions = report.Epoch, report.Revisions
		}
		list = append(list, m)
	}
	return list
}

// Drainable says what speaks against draining a node, as kubectl does: pods that come back by themselves, and data that goes with
// its pod. Flags that say that it does not matter are named in the text. nil: nothing does.
func (v *View) Drainable(node fleet.NodeName, daemonSets, emptyDirs bool) error {
	var daemons, data []string
	for i := range v.in.Previous.Slots {
		s := &v.in.Previous.Slots[i]
		if s.Node != node || s.Goal != fleet.Run {
			continue
		}
		if s.Owner.Kind == fleet.KindDaemonSet {
			daemons = append(daemons, s.Pod.String())
			continue
		}
		for _, volume := range v.pod(s).Spec.Volumes {
			if volume.EmptyDir != nil && !slices.Contains(data, s.Pod.String()) {
				data = append(data, s.Pod.String())
			}
		}
	}
	var texts []string
	if len(daemons) > 0 && !daemonSets {
		texts = append(texts, fmt.Sprintf("cannot delete DaemonSet-managed pods (use --ignore-daemonsets to ignore): %s", strings.Join(daemons, ", ")))
	}
	if len(data) > 0 && !emptyDirs {
		texts = append(texts, fmt.Sprintf("cannot delete pods with local storage (use --delete-emptydir-data to override): %s", strings.Join(data, ", ")))
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("node %s is not drained: %s", node, strings.Join(texts, "; "))
}
