package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// Foresight is what would happen to a fleet, step by step, if everything went well.
type Foresight struct {
	Steps []NodeStep // in the order they would be taken
	Notes []fleet.Note
	Next  fleet.Assignment // where it ends
	// Settled is false when it had not come to rest after as many rounds as Foresee is willing to go.
	Settled bool
}

// NodeStep is a step and where it is taken.
type NodeStep struct {
	Node fleet.NodeName
	fleet.Step
}

// ForesightInput is a fleet as it is and what is desired of it. Templates must hold all that the desired
// objects and the previous assignment name.
type ForesightInput struct {
	Desired  fleet.Desired
	Previous fleet.Assignment
	Nodes    []fleet.Node
	Hosts    map[fleet.NodeName]fleet.Host
	// Reports tell of the nodes that are not in Hosts; Before is what was desired when they were made, nil for Desired.
	Reports   []fleet.NodeReport
	Before    *fleet.Desired
	Templates map[fleet.Hash]*corev1.PodTemplateSpec
	Intents   []fleet.Intent
	Now       time.Time
}

// maxRounds bounds how far Foresee looks: a rollout of hundreds of pods one by one fits.
const maxRounds = 4000

// Foresee runs Decide and Plan on paper until nothing is left to do: images are there, containers start and
// become ready at once. It is the same code that does it, so what diff shows is what would happen.
func Foresee(in ForesightInput) Foresight {
	f := Foresight{Next: in.Previous}
	now := in.Now
	in.Templates = patient(in)
	hosts := machinesOf(in)
	lost := func(node fleet.Node) bool { return node.Down != "" }
	for range maxRounds {
		var reports []fleet.NodeReport
		for _, node := range in.Nodes {
			if lost(node) {
				continue
			}
			reports = append(reports, Plan(nodeInput(in, f.Next, node, hosts[node.Name], now)).Report)
		}
		decision := Decide(FleetInput{
			Desired: in.Desired, Nodes: in.Nodes, Reports: reports, Previous: f.Next, Intents: in.Intents, Templates: in.Templates, Now: now, paper: true,
		})
		f.Next, f.Notes = decision.Next, decision.Notes
		wake, acted := decision.WakeAt, decision.Changed
		for _, node := range in.Nodes {
			if lost(node) {
				continue
			}
			plan := Plan(nodeInput(in, f.Next, node, hosts[node.Name], now))
			host := hosts[node.Name]
			for _, chain := range plan.Chains {
				for _, step := range chain.Steps {
					f.Steps = append(f.Steps, NodeStep{Node: node.Name, Step: step})
					host = after(host, step, f.Next, in.Templates, now)
					acted = true
				}
			}
			hosts[node.Name] = host
			f.Notes = append(f.Notes, plan.Report.Notes...)
			wake = fleet.Earliest(wake, plan.WakeAt)
		}
		if !acted {
			if wake.IsZero() || !wake.After(now) || wake.Sub(in.Now) > 24*time.Hour {
				f.Settled = true
				return f
			}
			now = wake
		}
	}
	return f
}

func nodeInput(in ForesightInput, a fleet.Assignment, node fleet.Node, host fleet.Host, now time.Time) NodeInput {
	return NodeInput{
		Node: node, Assignment: a, Templates: in.Templates, Desired: WithClaims(in.Desired, a.Slots), Host: host, Health: allWell(host), Now: now,
	}
}

// patient are the templates without deadlines that are still to come: on paper every pod does its work in time.
func patient(in ForesightInput) map[fleet.Hash]*corev1.PodTemplateSpec {
	overdue := map[fleet.Hash]bool{}
	for i := range in.Previous.Slots {
		s := &in.Previous.Slots[i]
		if t := in.Templates[s.Want]; t != nil && t.Spec.ActiveDeadlineSeconds != nil {
			limit := time.Duration(*t.Spec.ActiveDeadlineSeconds) * time.Second
			overdue[s.Want] = overdue[s.Want] || !in.Now.Before(s.Created.Add(limit))
		}
	}
	templates := maps.Clone(in.Templates)
	for hash, t := range templates {
		if t.Spec.ActiveDeadlineSeconds != nil && !overdue[hash] {
			timeless := *t
			timeless.Spec.ActiveDeadlineSeconds = nil
			templates[hash] = &timeless
		}
	}
	return templates
}

// allWell is the health of a host on which every probe passed as soon as it was asked.
func allWell(h fleet.Host) map[string]pod.Health {
	health := map[string]pod.Health{}
	for i := range h.Pods {
		for _, c := range h.Pods[i].Containers {
			passed := pod.Tally{Verdict: pod.Passed, Since: c.Started}
			health[c.ID] = pod.Health{pod.Startup: passed, pod.Liveness: passed, pod.Readiness: passed}
		}
	}
	return health
}

// after is the host once a step went well.
func after(h fleet.Host, s fleet.Step, a fleet.Assignment, templates map[fleet.Hash]*corev1.PodTemplateSpec, now time.Time) fleet.Host {
	switch s.Verb {
	case fleet.Pull, fleet.Hook:
		return h
	case fleet.Reclaim:
		h.Claims = slices.DeleteFunc(slices.Clone(h.Claims), func(c fleet.ObservedClaim) bool { return c.Claim == s.Claim })
		return h
	case fleet.Volume:
		return withVolumes(h, s)
	case fleet.Clean:
		h.Volumes = maps.Clone(h.Volumes)
		delete(h.Volumes, s.UID)
		return h
	}
	h.Pods = slices.Clone(h.Pods)
	at := slices.IndexFunc(h.Pods, func(o fleet.ObservedPod) bool { return o.UID == s.UID })
	switch {
	case s.Verb == fleet.Sandbox && at < 0:
		h.Pods = append(h.Pods, newPod(s, a))
	case at < 0:
	case s.Verb == fleet.Teardown:
		h.Pods = slices.Delete(h.Pods, at, at+1)
	default:
		h.Pods[at] = podAfter(h.Pods[at], s, now)
		if s.Verb == fleet.Start && ends(templates, a, s) { // it does its work, and the next one's turn has come
			last := &h.Pods[at].Containers[len(h.Pods[at].Containers)-1]
			last.State, last.Finished = fleet.Exited, now
		}
	}
	return h
}

// ends reports whether a step starts a container that does its work and ends: one that runs before others begin, or that of
// a Job.
func ends(templates map[fleet.Hash]*corev1.PodTemplateSpec, a fleet.Assignment, s fleet.Step) bool {
	i := slices.IndexFunc(a.Slots, func(x fleet.Slot) bool { return x.UID == s.UID })
	if i < 0 || templates[a.Slots[i].Want] == nil {
		return false
	}
	spec := &templates[a.Slots[i].Want].Spec
	named := func(c corev1.Container) bool { return c.Name == s.Container && c.RestartPolicy == nil }
	return slices.ContainsFunc(spec.InitContainers, named) ||
		(a.Slots[i].Owner.Kind == fleet.KindJob && slices.ContainsFunc(spec.Containers, named))
}

// withVolumes marks a pod's volumes as written as wanted: Plan says so by not asking for it twice.
func withVolumes(h fleet.Host, s fleet.Step) fleet.Host {
	h.Volumes = maps.Clone(h.Volumes)
	if h.Volumes == nil {
		h.Volumes = map[string]fleet.Volumes{}
	}
	h.Volumes[s.UID] = maps.Clone(s.Content)
	if h.Volumes[s.UID] == nil {
		h.Volumes[s.UID] = fleet.Volumes{}
	}
	return h
}

func newPod(s fleet.Step, a fleet.Assignment) fleet.ObservedPod {
	o := fleet.ObservedPod{ID: "new-" + s.UID, PodmanName: fleet.PodmanPod(s.Pod), Infra: fleet.Running, Past: s.Past}
	o.Pod, o.UID = s.Pod, s.UID
	if i := slices.IndexFunc(a.Slots, func(x fleet.Slot) bool { return x.UID == s.UID }); i >= 0 {
		o.Identity = a.Slots[i].Identity
	}
	return o
}

func podAfter(o fleet.ObservedPod, s fleet.Step, now time.Time) fleet.ObservedPod {
	o.Containers = slices.Clone(o.Containers)
	for i := range o.Containers {
		c := &o.Containers[i]
		if s.ID != c.ID && !(s.Container == "" && s.ID == o.ID) {
			continue
		}
		switch s.Verb {
		case fleet.Stop:
			if c.State == fleet.Running {
				c.State, c.Finished = fleet.Exited, now
			}
		case fleet.Unpause:
			if c.State == fleet.Paused {
				c.State = fleet.Running
			}
		case fleet.Rename:
			c.PodmanName = fleet.PodmanContainer(s.Pod, s.Container)
		case fleet.Limit:
			c.Limits = nil
		}
	}
	switch s.Verb {
	case fleet.Unpause:
		if s.ID == o.ID {
			o.Infra = fleet.Running
		}
	case fleet.Remove:
		o.Containers = slices.DeleteFunc(o.Containers, func(c fleet.ObservedContainer) bool { return c.ID == s.ID })
	case fleet.Start:
		o.Containers = append(o.Containers, fleet.ObservedContainer{
			ID: fmt.Sprintf("new-%s-%s-%d", s.UID, s.Container, s.Attempt), PodmanName: fleet.PodmanContainer(s.Pod, s.Container),
			Name: s.Container, Image: s.Image, State: fleet.Running, Started: now, Created: now,
			Hash:    fleet.HashContainer(&corev1.Container{Name: s.Container, Image: s.Image}),
			Attempt: s.Attempt, Backoff: s.Backoff,
		})
	}
	return o
}
