package reconcile

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/place"
)

// survey makes the nodes what they are now: what they say of themselves, with what Git and operators say of them, and the taints
// of those that are lost or cannot act.
func (d *decider) survey() {
	for i := range d.in.Nodes {
		n := &d.in.Nodes[i]
		id := nodeID(n.Name)
		n.Taints = slices.Clone(n.Taints)
		if git, ok := fleet.Lookup[*corev1.Node](d.in.Desired, id); ok {
			n.Labels = maps.Clone(n.Labels)
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			maps.Copy(n.Labels, git.Labels)
			n.Taints = append(n.Taints, git.Spec.Taints...)
			n.Unschedulable = git.Spec.Unschedulable
		}
		if asked, ok := d.asked(id, fleet.Cordon, fleet.DrainNode, fleet.Uncordon); ok {
			n.Unschedulable = asked.Verb != fleet.Uncordon
		}
		report := d.nodes[n.Name]
		switch {
		case n.Down != "":
			n.Taints = append(n.Taints, lost(corev1.TaintEffectNoSchedule), lost(corev1.TaintEffectNoExecute))
			d.note(id, "lost: %s", n.Down)
		case report != nil && report.Trouble != "":
			n.Taints = append(n.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
			d.note(id, "it gets no pods for now: %s", report.Trouble)
		}
		d.machines[n.Name] = n
	}
	for o := range fleet.Each[*corev1.Node](d.in.Desired) {
		if d.machines[fleet.NodeName(o.ID.Name)] == nil {
			d.note(o.ID, "no machine of this name is in the fleet: what is said of it counts when it joins")
		}
	}
}

func nodeID(name fleet.NodeName) fleet.ObjectID {
	return fleet.ObjectID{Kind: fleet.KindNode, Name: string(name)}
}

// lost is a taint of a node of which nothing is heard any more.
func lost(effect corev1.TaintEffect) corev1.Taint {
	return corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: effect}
}

// strain remembers since when nodes have taints that pods may have to leave them for.
func (d *decider) strain() {
	since := map[fleet.Strain]time.Time{}
	for _, s := range d.in.Previous.Strains {
		at := s.Since
		s.Since = time.Time{}
		since[s] = at
	}
	for i := range d.in.Nodes {
		for _, t := range d.in.Nodes[i].Taints {
			if t.Effect != corev1.TaintEffectNoExecute {
				continue
			}
			s := fleet.Strain{Node: d.in.Nodes[i].Name, Key: t.Key, Value: t.Value}
			at, known := since[s]
			if !known || at.After(d.in.Now) { // a leader whose clock was ahead has noticed it
				at = d.in.Now
			}
			s.Since = at
			d.strains = append(d.strains, s)
		}
	}
	slices.SortFunc(d.strains, func(a, b fleet.Strain) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Value, b.Value))
	})
	d.strains = slices.Compact(d.strains)
}

// defaultStay is how long pods of a lost node are waited for from when its session ended, unless they say otherwise.
const defaultStay = 25 * time.Second

// leave drains the pods that taints drive from their nodes.
func (d *decider) leave() {
	d.strain()
	if len(d.strains) == 0 {
		return
	}
	strained := map[fleet.NodeName][]fleet.Strain{}
	for _, s := range d.strains {
		strained[s.Node] = append(strained[s.Node], s)
	}
	for i := range d.slots {
		s := &d.slots[i]
		if s.Goal != fleet.Run || strained[s.Node] == nil {
			continue
		}
		template := d.in.Templates[s.Want]
		if template == nil { // nothing is known of what it tolerates
			continue
		}
		for _, strain := range strained[s.Node] {
			d.endure(s, &template.Spec, strain)
		}
	}
}

// endure drains a pod once it has borne a taint for as long as it tolerates it.
func (d *decider) endure(s *fleet.Slot, spec *corev1.PodSpec, strain fleet.Strain) {
	taint := corev1.Taint{Key: strain.Key, Value: strain.Value, Effect: corev1.TaintEffectNoExecute}
	tolerations := d.tolerations(s.Owner.Kind, spec)
	limit, limited := place.Stay(tolerations, taint)
	if taint.Key == corev1.TaintNodeUnreachable {
		stated := slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == taint.Key && t.TolerationSeconds != nil })
		if !d.replaceable(s, spec, stated) {
			return
		}
		if !place.Tolerates(tolerations, taint) {
			limit, limited = cmp.Or(d.in.Stay, defaultStay), true
		}
	}
	if !limited {
		return
	}
	since := strain.Since
	if came := placed(s); came.After(since) { // it came when the taint was there already
		since = came
	}
	if due := since.Add(limit); d.in.Now.Before(due) {
		d.wakeAt = fleet.Earliest(d.wakeAt, due)
		return
	}
	if s.Goal == fleet.Run {
		s.Goal, s.Drained, s.Epoch = fleet.Drain, d.in.Now, d.epoch
	}
}

// placed is when a pod got its node.
func placed(s *fleet.Slot) time.Time {
	if s.Placed.IsZero() {
		return s.Created
	}
	return s.Placed
}

// replaceable reports whether a pod of a lost node is made anew elsewhere although it may still run there. One with data on the
// node would find none elsewhere. A StatefulSet's pod must not live twice, and a run must not happen twice unless its pod says
// itself how long it is to be waited for.
func (d *decider) replaceable(s *fleet.Slot, spec *corev1.PodSpec, stated bool) bool {
	if len(d.bound(*s, spec)) > 0 {
		return false
	}
	return s.Owner.Kind == fleet.KindReplicaSet || s.Owner.Kind == fleet.KindJob && stated
}

// tolerations are a pod's, with those that DaemonSets give theirs.
func (d *decider) tolerations(owner string, spec *corev1.PodSpec) []corev1.Toleration {
	if owner != fleet.KindDaemonSet {
		return spec.Tolerations
	}
	return append(slices.Clone(spec.Tolerations), daemonTolerations...)
}

// daemonTolerations are what the DaemonSet controller of Kubernetes gives its pods.
var daemonTolerations = []corev1.Toleration{
	{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeDiskPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodePIDPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
}
