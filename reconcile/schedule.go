package reconcile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
	"github.com/skerry-dev/skerry/reconcile/place"
)

// schedule gives nodes to the pods that have none: the important ones first, then the older ones. What fits nowhere stays without,
// as in Kubernetes, and is looked at again in every decision.
func (d *decider) schedule() {
	var waiting []*fleet.Slot
	for i := range d.slots {
		if s := &d.slots[i]; s.Node == "" && s.Goal == fleet.Run {
			waiting = append(waiting, s)
		}
	}
	if len(waiting) == 0 {
		return
	}
	b := d.newBoard()
	slices.SortStableFunc(waiting, func(x, y *fleet.Slot) int {
		return cmp.Or(-cmp.Compare(b.kind(x).Priority, b.kind(y).Priority), fleet.SlotOrder(*x, *y))
	})
	for _, s := range waiting {
		k := b.kind(s)
		wish := place.Wish{Only: s.For, Bound: d.bound(*s, k.Spec), Last: d.last[s.Pod]}
		node, why := b.Choose(k, wish)
		if node == "" {
			room, more := b.preempt(k, wish)
			if room != "" { // those that come after it must not take what it waits for
				b.Put(room, k, place.Guest{UID: s.UID, Since: s.Created})
			}
			why += more
			d.unplaced[s.UID] = why
			d.note(s.Pod.Object(), "%s", why)
			continue
		}
		s.Node, s.For, s.Epoch = node, "", d.epoch
		if !s.Created.Equal(d.in.Now) {
			s.Placed = d.in.Now
		}
		d.bind(*s, k.Spec)
		b.Put(node, k, place.Guest{UID: s.UID, Since: s.Created})
	}
}

// board is the fleet with the pods that have a node.
type board struct {
	*place.Board
	*decider
	kinds map[alike]*place.Kind
	at    map[string]int // of slots, by UID
}

// alike is what pods have in common that are placed alike.
type alike struct {
	namespace, label string
	group            fleet.ObjectID
	want             fleet.Hash
	defaults         string
	pod              string // its name, where others may ask for it
}

func (d *decider) newBoard() *board {
	images := map[fleet.NodeName][]string{}
	for name, report := range d.nodes {
		images[name] = report.Images
	}
	namespaces := map[string]labels.Set{}
	for o, n := range fleet.Each[*corev1.Namespace](d.in.Desired) {
		namespaces[o.ID.Name] = n.Labels
	}
	var known []fleet.Node // what a node has must be known before anything is added
	for _, n := range d.in.Nodes {
		if n.Down != "" || d.nodes[n.Name] != nil {
			known = append(known, n)
		}
	}
	b := &board{Board: place.NewBoard(known, images, namespaces), decider: d, kinds: map[alike]*place.Kind{}, at: map[string]int{}}
	for i := range d.slots {
		s := &d.slots[i]
		if report := d.reports[s.UID]; s.Node == "" || s.Counted || report != nil && report.Terminal() {
			continue
		}
		b.at[s.UID] = i
		b.Put(s.Node, b.kind(s), place.Guest{
			UID: s.UID, Leaving: s.Goal == fleet.Drain, Since: s.Created,
		})
	}
	return b
}

// kind is what a slot's pod is placed by. Pods of a StatefulSet differ in their names alone, which nobody asks for as a rule.
func (b *board) kind(s *fleet.Slot) *place.Kind {
	key := alike{namespace: s.Pod.Namespace, label: s.Label, group: s.Owner, want: s.Want}
	if s.Controller.Kind == fleet.KindCronJob { // a Job of it has one pod, as a rule
		key.group = s.Controller
	}
	if s.Defaults != nil {
		if raw, err := json.Marshal(s.Defaults); err == nil {
			key.defaults = string(raw)
		}
	}
	if s.Index != nil && b.byName() {
		key.pod = s.Pod.Name
	}
	if k := b.kinds[key]; k != nil {
		return k
	}
	p := PodOf(*s, b.in.Templates[s.Want])
	if p == nil { // it takes a place, and nothing else is known of it
		p = &corev1.Pod{}
	}
	spec := p.Spec
	spec.NodeName = ""
	if template := b.in.Templates[s.Want]; template != nil {
		spec.NodeName = template.Spec.NodeName
	}
	spec.Tolerations = lasting(b.tolerations(s.Owner.Kind, &spec))
	priority, policy := b.priority(&spec)
	spec.PreemptionPolicy = policy
	k := b.Kind(key.group, s.Pod.Namespace, p.Labels, &spec, priority)
	b.kinds[key] = k
	return k
}

// lasting are the tolerations that let a pod stay on a node for some time at least: it is not put where it has to leave at once.
func lasting(tolerations []corev1.Toleration) []corev1.Toleration {
	return slices.DeleteFunc(slices.Clone(tolerations), func(t corev1.Toleration) bool { return t.TolerationSeconds != nil && *t.TolerationSeconds <= 0 })
}

// byName reports whether some template asks for pods by what only one of a set has.
func (d *decider) byName() bool {
	if d.named == nil {
		named := false
		for _, t := range d.in.Templates {
			named = named || place.AsksFor(&t.Spec, "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-completion-index")
		}
		d.named = &named
	}
	return *d.named
}

// systemPriorities are those of the classes that every fleet has.
var systemPriorities = map[string]int32{"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}

// priority is a pod's, and whether others may have to go for it: what it says itself, else what the class says that it names, or
// the one that is everybody's.
func (d *decider) priority(spec *corev1.PodSpec) (int32, *corev1.PreemptionPolicy) {
	value, policy := systemPriorities[spec.PriorityClassName], spec.PreemptionPolicy
	if class := d.class(spec.PriorityClassName); class != nil {
		value = class.Value
		if policy == nil {
			policy = class.PreemptionPolicy
		}
	}
	if spec.Priority != nil {
		value = *spec.Priority
	}
	return value, policy
}

// class is the PriorityClass of that name; for the empty name the one that is everybody's, of several the one with the lowest
// value. nil: there is none.
func (d *decider) class(name string) *schedulingv1.PriorityClass {
	if _, system := systemPriorities[name]; system {
		return nil
	}
	if name != "" {
		class, _ := fleet.Lookup[*schedulingv1.PriorityClass](d.in.Desired, fleet.ObjectID{Kind: fleet.KindPriorityClass, Name: name})
		return class
	}
	var lowest *schedulingv1.PriorityClass
	for _, c := range fleet.Each[*schedulingv1.PriorityClass](d.in.Desired) {
		if c.GlobalDefault && (lowest == nil || c.Value < lowest.Value) {
			lowest = c
		}
	}
	return lowest
}

// classless reports whether a pod names a PriorityClass that there is not: Kubernetes does not make such a pod.
func (d *decider) classless(spec *corev1.PodSpec) bool {
	_, system := systemPriorities[spec.PriorityClassName]
	return spec.PriorityClassName != "" && !system && d.class(spec.PriorityClassName) == nil
}

// preempt drains pods of lower priority where that makes room, and says where that is and what is done about a pod that fits
// nowhere; empty where nothing helps.
func (b *board) preempt(k *place.Kind, wish place.Wish) (room fleet.NodeName, what string) {
	node, victims := b.Preempt(k, wish, func() func(uid string) bool {
		left := copied(b.budgets())
		return func(uid string) bool {
			ok, _ := budget.Evict(b.disruptable(&b.slots[b.at[uid]]), left)
			return !ok
		}
	})
	switch {
	case node == "":
		return "", ""
	case len(victims) == 0:
		return node, " It waits for pods that leave node " + string(node) + "."
	}
	for _, uid := range victims {
		s := &b.slots[b.at[uid]]
		guest := b.kind(s)
		_, _ = budget.Evict(b.disruptable(s), b.budgets()) // who goes is settled; what is left of the budgets counts for the next one
		b.Take(s.Node, uid)
		b.Put(s.Node, guest, place.Guest{UID: uid, Leaving: true, Since: s.Created})
		s.Goal, s.Drained, s.Epoch = fleet.Drain, b.in.Now, b.epoch
		b.preempted = append(b.preempted, fleet.Note{About: s.Pod.Object(), Text: fmt.Sprintf("preempted by a pod of higher priority on node %s", s.Node)})
	}
	return node, " Pods of lower priority leave node " + string(node) + " for it."
}

// copied are budgets to try things out on.
func copied(budgets []*budget.Budget) []*budget.Budget {
	var list []*budget.Budget
	for _, b := range budgets {
		c := *b
		list = append(list, &c)
	}
	return list
}

// bound are the nodes that a pod's volumes are on: its claims', as far as they have one.
func (d *decider) bound(s fleet.Slot, spec *corev1.PodSpec) []fleet.NodeName {
	var nodes []fleet.NodeName
	for _, claim := range claimsOf(s, spec) {
		if node, is := d.bindings[claim]; is {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// bind has a pod's claims be where it is: their volumes are made there.
func (d *decider) bind(s fleet.Slot, spec *corev1.PodSpec) {
	for _, claim := range claimsOf(s, spec) {
		if _, is := d.bindings[claim]; !is {
			d.bindings[claim] = s.Node
		}
	}
}

// claimsOf are the claims that a pod mounts.
func claimsOf(s fleet.Slot, spec *corev1.PodSpec) []fleet.ClaimID {
	var list []fleet.ClaimID
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.PersistentVolumeClaim != nil && !slices.Contains(s.Claims, v.Name) {
			list = append(list, fleet.ClaimID{Namespace: s.Pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName})
		}
	}
	for _, template := range s.Claims {
		list = append(list, fleet.ClaimID{Namespace: s.Pod.Namespace, Name: claimName(template, s.Pod)})
	}
	return list
}

// rebind finds where the volumes of claims are. What a node said once holds while it is silent or cannot look at itself; what it does
// not have any more, and no pod on it wants, is nowhere.
func (d *decider) rebind() {
	reported := map[fleet.ClaimID]fleet.NodeName{}
	for i := range d.in.Reports {
		for _, c := range d.in.Reports[i].Claims {
			if _, twice := reported[c.Claim]; !twice {
				reported[c.Claim] = d.in.Reports[i].Node
			}
		}
	}
	wanted := map[fleet.Binding]bool{}
	if len(d.in.Previous.Bindings) > 0 {
		for i := range d.slots {
			s := &d.slots[i]
			spec := &corev1.PodSpec{}
			if template := d.in.Templates[s.Want]; template != nil {
				spec = &template.Spec
			}
			for _, claim := range claimsOf(*s, spec) {
				wanted[fleet.Binding{Claim: claim, Node: s.Node}] = true
			}
		}
	}
	for _, b := range d.in.Previous.Bindings {
		if !d.exists[b.Node] {
			continue
		}
		at, is := reported[b.Claim]
		report := d.nodes[b.Node]
		if blind := report == nil || report.Trouble != ""; blind || wanted[b] || is && at == b.Node {
			d.bindings[b.Claim] = b.Node
		}
	}
	for claim, node := range reported {
		if _, is := d.bindings[claim]; !is {
			d.bindings[claim] = node
		}
	}
}

// bindingList is what is remembered of them.
func (d *decider) bindingList() []fleet.Binding {
	var list []fleet.Binding
	for _, claim := range slices.SortedFunc(maps.Keys(d.bindings), fleet.ClaimID.Compare) {
		list = append(list, fleet.Binding{Claim: claim, Node: d.bindings[claim]})
	}
	return list
}
