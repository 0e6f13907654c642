package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// Plan says how a machine gets where the assignment wants it, and reports how its pods are. Pods of ours that
// no slot names are reported and left alone: what becomes of them is for Decide to say.
func Plan(in NodeInput) NodePlan {
	in.Host.Pods = onNetwork(in.Host.Pods, in.Network.Pods)
	p := planner{in: in, observed: map[string]*fleet.ObservedPod{}, ports: map[hostPort][]claim{}, metered: metered(in.Desired)}
	p.plan.Report = fleet.NodeReport{Node: in.Node.Name, Epoch: in.Assignment.Epoch, At: in.Now, Since: in.Since, Claims: in.Host.Claims}
	for i := range in.Host.Pods {
		p.observed[in.Host.Pods[i].UID] = &in.Host.Pods[i]
	}
	slots := slices.DeleteFunc(slices.Clone(in.Assignment.Slots), func(s fleet.Slot) bool {
		return s.Node != in.Node.Name || 0 < in.Since && s.Epoch <= in.Since && p.observed[s.UID] == nil
	})
	p.plan.Report.Pods = make([]fleet.PodReport, 0, len(slots))
	p.claimPorts(slots)
	slotted := make(map[string]bool, len(slots))
	for i := range slots {
		if slots[i].Counted && slots[i].Goal == fleet.Run && p.observed[slots[i].UID] == nil {
			continue // it ended, and somebody removed it: nobody wants it to run once more
		}
		slotted[slots[i].UID] = true
		p.pod(slots[i])
	}
	for i := range in.Host.Pods {
		if o := &in.Host.Pods[i]; !slotted[o.UID] {
			p.unknown(o)
		}
	}
	p.leftovers(slotted)
	p.reclaim(slots)
	p.network(slots)
	slices.Sort(p.plan.Measure)
	slices.SortFunc(p.plan.Chains, func(a, b fleet.Chain) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), a.Pod.Compare(b.Pod), cmp.Compare(a.UID, b.UID))
	})
	report := &p.plan.Report
	report.Pending = len(p.plan.Chains) + len(in.Busy) + p.late
	slices.SortFunc(report.Pods, func(a, b fleet.PodReport) int { return cmp.Or(a.Pod.Compare(b.Pod), cmp.Compare(a.UID, b.UID)) })
	slices.SortFunc(report.Notes, fleet.Note.Compare)
	return p.plan
}

// order puts chains that make room before those that take it.
func order(c fleet.Chain) int {
	if c.Goal == fleet.Drain {
		return 0
	}
	return 1
}

type planner struct {
	in       NodeInput
	observed map[string]*fleet.ObservedPod
	ports    map[hostPort][]claim    // who has or gets a port of the host
	late     int                     // pods of which something is waited out
	metered  map[fleet.ObjectID]bool // workloads whose pods are measured
	plan     NodePlan
}

func (p *planner) pod(slot fleet.Slot) {
	in := pod.Input{
		Slot: slot, Spec: PodOf(slot, p.in.Templates[slot.Want]), Observed: p.observed[slot.UID],
		Health: p.in.Health, Volumes: p.in.Host.Volumes[slot.UID], Past: p.in.Past[slot.UID], Claims: p.in.Host.Claims, Config: pod.Config{Desired: p.in.Desired},
		Attempts: p.in.Attempts[slot.UID], Taken: p.in.Host.Taken, Busy: p.in.Busy[slot.UID] || (slot.Counted && slot.Goal == fleet.Run),
		Hooks: p.in.Hooks[slot.UID], Place: placeOf(p.in.Node), Now: p.in.Now,
	}
	if in.Observed == nil && in.Spec != nil && slot.Goal == fleet.Run {
		in.Blocked = cmp.Or(p.blocked(slot, in.Spec), p.reclaiming(in.Spec))
	}
	for _, hash := range slot.Next {
		if next := p.in.Templates[hash]; next != nil {
			in.Next = append(append(in.Next, next.Spec.InitContainers...), next.Spec.Containers...)
		}
	}
	if until := p.drains(slot, in); p.in.Now.Before(until) {
		in.Busy = true
		p.plan.WakeAt = fleet.Earliest(p.plan.WakeAt, until)
	}
	result := pod.Next(in)
	if len(result.Steps) > 0 {
		p.plan.Chains = append(p.plan.Chains, fleet.Chain{Pod: slot.Pod, UID: slot.UID, Goal: slot.Goal, Steps: result.Steps})
	}
	p.plan.Probes = append(p.plan.Probes, result.Probes...)
	for _, text := range result.Notes {
		p.plan.Report.Notes = append(p.plan.Report.Notes, fleet.Note{About: slot.Pod.Object(), Text: text})
	}
	p.plan.WakeAt = fleet.Earliest(p.plan.WakeAt, result.WakeAt)
	if result.Late && len(result.Steps) == 0 && !in.Busy {
		p.late++
	}
	if !result.Gone {
		p.plan.Report.Pods = append(p.plan.Report.Pods, fleet.PodReport{
			Identity: slot.Identity, Status: result.Status, Usage: p.usage(slot, in.Observed),
		})
	}
}

// usage is what a pod's containers used of late, and has those measured that an autoscaler asks about.
func (p *planner) usage(slot fleet.Slot, o *fleet.ObservedPod) []fleet.Usage {
	if o == nil || slot.Goal != fleet.Run || !(p.metered[slot.Owner] || p.metered[slot.Controller]) {
		return nil
	}
	var list []fleet.Usage
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.State != fleet.Running {
			continue
		}
		p.plan.Measure = append(p.plan.Measure, c.ID)
		if u, known := p.in.Usage[c.ID]; known {
			u.Container = c.Name
			list = append(list, u)
		}
	}
	slices.SortFunc(list, func(a, b fleet.Usage) int { return cmp.Compare(a.Container, b.Container) })
	return list
}

// placeOf is what pods can know of the node they are on.
func placeOf(n fleet.Node) pod.Place {
	return pod.Place{Address: n.Address, Allocatable: n.Allocatable}
}

// unknown reports a pod of ours that has no slot.
func (p *planner) unknown(o *fleet.ObservedPod) {
	slot := fleet.Slot{Identity: o.Identity, Goal: fleet.Run}
	report := o.PodReport
	report.Status = pod.Next(pod.Input{Slot: slot, Spec: PodOf(slot, p.in.Templates[slot.Want]), Observed: o, Busy: true, Place: placeOf(p.in.Node), Now: p.in.Now}).Status
	p.plan.Report.Pods = append(p.plan.Report.Pods, report)
}

// leftovers cleans up volumes of pods that are no more: the agent was killed between a pod's removal and
// theirs.
func (p *planner) leftovers(slotted map[string]bool) {
	for _, uid := range slices.Sorted(maps.Keys(p.in.Host.Volumes)) {
		if slotted[uid] || p.observed[uid] != nil || p.in.Busy[uid] {
			continue
		}
		again := p.in.Attempts[uid][""].NotBefore()
		if p.in.Now.Before(again) {
			p.plan.WakeAt = fleet.Earliest(p.plan.WakeAt, again)
		} else {
			p.plan.Chains = append(p.plan.Chains, fleet.Chain{UID: uid, Goal: fleet.Drain, Steps: []fleet.Step{{Verb: fleet.Clean, UID: uid}}})
		}
	}
}

// claimPorts notes which pods on the host have which of its ports.
func (p *planner) claimPorts(slots []fleet.Slot) {
	for i := range slots {
		if template := p.in.Templates[slots[i].Want]; template != nil && p.observed[slots[i].UID] != nil {
			p.claim(slots[i].Pod, &template.Spec)
		}
	}
}

func (p *planner) claim(id fleet.PodID, spec *corev1.PodSpec) {
	for _, want := range hostPorts(spec) {
		p.ports[want.hostPort] = append(p.ports[want.hostPort], claim{id, want.address})
	}
}

// blocked claims a new pod's host ports, or says who has them.
func (p *planner) blocked(slot fleet.Slot, spec *corev1.Pod) string {
	for _, want := range hostPorts(&spec.Spec) {
		for _, held := range p.ports[want.hostPort] {
			if held.pod != slot.Pod && overlap(held.address, want.address) {
				return fmt.Sprintf("host port %d/%s is used by pod %s", want.number, want.protocol, held.pod)
			}
		}
	}
	p.claim(slot.Pod, &spec.Spec)
	return ""
}

type hostPort struct {
	number   int32
	protocol corev1.Protocol
}

// claim is a pod that has a port, and on which of the host's addresses.
type claim struct {
	pod     fleet.PodID
	address string
}

// overlap reports whether two host addresses may be one: those that stand for all overlap any.
func overlap(a, b string) bool {
	all := func(address string) bool { return address == "" || address == "0.0.0.0" || address == "::" }
	return a == b || all(a) || all(b)
}

// wanted is a port of the host and the address it is wanted on.
type wanted struct {
	hostPort
	address string
}

// hostPorts are the host's ports a pod wants.
func hostPorts(spec *corev1.PodSpec) []wanted {
	var ports []wanted
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, port := range c.Ports {
			if port.HostPort != 0 {
				ports = append(ports, wanted{hostPort{port.HostPort, port.Protocol}, port.HostIP})
			}
		}
	}
	return ports
}
