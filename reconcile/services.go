package reconcile

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// expose gives Services what stays their own.
func (d *decider) expose() {
	exposures, notes := expose.Allocate(d.in.Desired, d.in.Previous.Exposures, d.in.Network)
	d.exposures = exposures
	d.notes = append(append(d.notes, notes...), expose.Without(d.in.Desired, d.in.Network)...)
}

// network says what the machine's network should be. A pod that is to go is in no front already: it leaves the rotation before
// its chain begins, and so before it is told to end.
func (p *planner) network(slots []fleet.Slot) {
	settings := p.in.Network
	if !settings.Services {
		return
	}
	pods := backing(p.in.Assignment.Slots, p.in.Templates, p.statuses())
	for i := range pods {
		if p.in.Silent[pods[i].Node] { // like one that is going: it is sent to where nobody else is, as it may live
			pods[i].Slot.Goal = fleet.Drain
		}
	}
	backends := expose.Backends(p.in.Desired, pods)
	if settings.Without != "" {
		p.plan.Net = p.proxied(backends)
		return
	}
	p.strangers(pods)
	net, notes := expose.Net(expose.NetInput{
		Desired: p.in.Desired, Exposures: p.in.Assignment.Exposures, Backends: backends, Node: p.in.Node.Name, Pods: []netip.Prefix{settings.Pods},
	})
	p.plan.Zone = expose.ZoneOf(p.in.Desired, p.in.Assignment.Exposures, backends, settings.Domain)
	p.plan.Report.Notes = append(p.plan.Report.Notes, notes...)
	if len(net.Fronts)+len(slots) > 0 && p.in.DNS.IsValid() { // pods ask for names, if there are any
		for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
			net.Fronts = append(net.Fronts, fleet.Front{
				Service: dnsService, Port: "dns", Protocol: protocol, Addr: settings.DNS, Number: 53,
				Ends: []fleet.End{{Addr: p.in.DNS.Addr(), Port: p.in.DNS.Port()}},
			})
		}
		slices.SortFunc(net.Fronts, fleet.FrontOrder)
	}
	if p.in.Fleet { // one node of them all has each of these at a time
		net.Addrs = nil
		p.plan.Candidacies = p.candidacies(backends)
	}
	net.Fences = expose.FencesOf(p.in.Desired, pods, p.in.Node.Name)
	net.Routes, net.Tunnel, notes = expose.Routes(expose.RoutesInput{Nodes: p.in.Nodes, Node: p.in.Node.Name, Mode: settings.Between, Port: settings.TunnelPort})
	p.plan.Report.Notes = append(p.plan.Report.Notes, notes...)
	if len(net.Fronts)+len(net.Fences)+len(net.Routes) > 0 {
		net.Here = p.here()
		p.plan.Net = net
	}
}

// onNetwork are pods without addresses that they gave themselves: one in which Docker or a VPN runs has others besides that on the
// pods' network, which lead nowhere from outside of it, and are the same in the next such pod. A pod that is not on the network
// keeps what it has.
func onNetwork(pods []fleet.ObservedPod, network netip.Prefix) []fleet.ObservedPod {
	pods = slices.Clone(pods)
	for i := range pods {
		if all := pods[i].IPs; slices.ContainsFunc(all, network.Contains) {
			pods[i].IPs = slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return a.Is4() && !network.Contains(a) })
		}
	}
	return pods
}

// strangers notes pods that are not on the pods' network.
func (p *planner) strangers(pods []expose.Pod) {
	for i := range pods {
		pod := &pods[i]
		ip, err := netip.ParseAddr(pod.Status.PodIP)
		if err == nil && pod.Node == p.in.Node.Name && pod.Slot.Goal == fleet.Run && pod.Spec != nil && !pod.Spec.Spec.HostNetwork && !p.in.Network.Pods.Contains(ip) {
			p.plan.Report.Notes = append(p.plan.Report.Notes, fleet.Note{
				About: pod.Slot.Pod.Object(), Text: "it was made while Services were off: it knows no names, and policies do not hold for it, until it is replaced",
			})
		}
	}
}

// proxied are the node ports alone.
func (p *planner) proxied(backends []expose.Backend) fleet.HostNet {
	net, notes := expose.Net(expose.NetInput{Desired: p.in.Desired, Exposures: p.in.Assignment.Exposures, Backends: backends, Node: p.in.Node.Name})
	p.plan.Report.Notes = append(p.plan.Report.Notes, notes...)
	return net
}

// here are the addresses of the machine's pods.
func (p *planner) here() []netip.Addr {
	var all []netip.Addr
	for i := range p.in.Host.Pods {
		o := &p.in.Host.Pods[i]
		for _, a := range o.IPs {
			if o.Infra == fleet.Running && p.in.Network.Pods.Contains(a) { // others' are the machine's own
				all = append(all, a)
			}
		}
	}
	return all
}

// drainFor is how long a pod that has left the rotation goes on before it is told to end: long enough for a client whose first
// packet was lost on the way, and that sends it again after a second to where the connection was sent first.
const drainFor = 1200 * time.Millisecond

// drains is until when a pod that is to go goes on as it is, because connections may still be on their way to it; the zero time
// where no Service sends any.
func (p *planner) drains(slot fleet.Slot, in pod.Input) time.Time {
	if !p.in.Network.Services || slot.Goal != fleet.Drain || in.Observed == nil || in.Observed.Infra != fleet.Running || in.Spec == nil || !sentTo(p.in.Desired, in.Spec) {
		return time.Time{}
	}
	if since, known := p.in.Draining[slot.UID]; known {
		return since.Add(drainFor)
	}
	return slot.Drained.Add(drainFor)
}

// sentTo reports whether some Service sends connections to a pod.
func sentTo(desired fleet.Desired, spec *corev1.Pod) bool {
	for o, svc := range fleet.Each[*corev1.Service](desired) {
		if o.ID.Namespace == spec.Namespace && len(svc.Spec.Selector) > 0 && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(spec.Labels)) {
			return true
		}
	}
	return false
}

// rulesPatience is for how long a pod that is to go goes on when it cannot be taken out of the rotation.
const rulesPatience = 30 * time.Second

// InRotation are those of a plan's chains that may begin although the machine's rules could not be made those of the plan: a pod that
// is to go, and may still be sent to, waits; but not for ever.
func InRotation(in NodeInput, chains []fleet.Chain) []fleet.Chain {
	waits := map[string]bool{}
	for i := range in.Assignment.Slots {
		s := &in.Assignment.Slots[i]
		since, known := in.Draining[s.UID]
		if !known {
			since = s.Drained
		}
		if s.Goal == fleet.Drain && in.Now.Before(since.Add(rulesPatience)) {
			spec := PodOf(*s, in.Templates[s.Want])
			waits[s.UID] = spec == nil || sentTo(in.Desired, spec)
		}
	}
	return slices.DeleteFunc(slices.Clone(chains), func(c fleet.Chain) bool { return waits[c.UID] })
}

// dnsService stands for the cluster's DNS, which is no object of anybody's.
var dnsService = fleet.ObjectID{Kind: fleet.KindService, Namespace: "kube-system", Name: "kube-dns"}

// statuses are those of this node's pods, as it is about to report them, and of others' pods as these have reported them, by UID.
func (p *planner) statuses() map[string]*corev1.PodStatus {
	m := make(map[string]*corev1.PodStatus, len(p.plan.Report.Pods))
	for i := range p.in.Others {
		for j := range p.in.Others[i].Pods {
			other := &p.in.Others[i].Pods[j]
			m[other.UID] = &other.Status
		}
	}
	for i := range p.plan.Report.Pods {
		m[p.plan.Report.Pods[i].UID] = &p.plan.Report.Pods[i].Status
	}
	return m
}

// backing are the pods that may stand behind Services: those of which the status is known.
func backing(slots []fleet.Slot, templates map[fleet.Hash]*corev1.PodTemplateSpec, status map[string]*corev1.PodStatus) []expose.Pod {
	var pods []expose.Pod
	for i := range slots {
		s := &slots[i]
		if is := status[s.UID]; is != nil {
			pods = append(pods, expose.Pod{Slot: *s, Spec: PodOf(*s, templates[s.Want]), Status: *is, Node: s.Node})
		}
	}
	return pods
}

// Variables are what containers of a namespace find in their environment of its Services.
func Variables(desired fleet.Desired, a fleet.Assignment, namespace string) []corev1.EnvVar {
	return expose.Variables(desired, a.Exposures, namespace)
}

// candidacies are the addresses that this node may have.
func (p *planner) candidacies(backends []expose.Backend) []fleet.Candidacy {
	if p.in.Leaving {
		return nil
	}
	nodes, seek := []fleet.NodeName{p.in.Node.Name}, map[netip.Addr][]fleet.NodeName{}
	for i := range p.in.Others {
		r := &p.in.Others[i]
		if p.in.Silent[r.Node] {
			continue
		}
		nodes = append(nodes, r.Node)
		for _, a := range r.Seeking {
			seek[a] = append(seek[a], r.Node)
		}
	}
	return expose.Candidacies(expose.NetInput{
		Desired: p.in.Desired, Exposures: p.in.Assignment.Exposures, Backends: backends, Node: p.in.Node.Name,
	}, nodes, p.in.Network.Virtual, seek)
}
