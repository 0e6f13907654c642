package reconcile

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// assumed is a machine as its node's report tells of it, for a foresight from elsewhere: what is reported to run is taken to be as
// its slot wants it, written volumes and all.
func assumed(in ForesightInput, node fleet.Node, report fleet.NodeReport, now time.Time) fleet.Host {
	host := fleet.Host{Claims: report.Claims}
	for i := range report.Pods {
		host.Pods = append(host.Pods, assumedPod(&report.Pods[i], in.Templates[report.Pods[i].Want]))
	}
	if in.Before != nil {
		in.Desired = *in.Before
	}
	for range maxAssumed { // a volume is written when the pod before it is: few rounds do
		plan := Plan(nodeInput(in, in.Previous, node, host, now))
		written := false
		for _, chain := range plan.Chains {
			for _, step := range chain.Steps {
				if step.Verb == fleet.Volume {
					host, written = withVolumes(host, step), true
				}
			}
		}
		if !written {
			break
		}
	}
	return host
}

// maxAssumed bounds how often a machine is planned for to find which volumes are written there.
const maxAssumed = 5

func assumedPod(report *fleet.PodReport, template *corev1.PodTemplateSpec) fleet.ObservedPod {
	o := fleet.ObservedPod{PodReport: fleet.PodReport{Identity: report.Identity}, ID: "seen-" + report.UID, PodmanName: fleet.PodmanPod(report.Pod), Infra: fleet.Running}
	specs := map[string]*corev1.Container{}
	if template != nil {
		for _, list := range [][]corev1.Container{template.Spec.InitContainers, template.Spec.Containers} {
			for i := range list {
				specs[list[i].Name] = &list[i]
			}
		}
	}
	for _, s := range slices.Concat(report.Status.InitContainerStatuses, report.Status.ContainerStatuses) {
		spec := specs[s.Name]
		if spec == nil || s.State.Running == nil && s.State.Terminated == nil {
			continue
		}
		c := fleet.ObservedContainer{
			ID: "seen-" + report.UID + "-" + s.Name, PodmanName: fleet.PodmanContainer(report.Pod, s.Name), Name: s.Name, Image: spec.Image,
			State: fleet.Running, Hash: fleet.HashContainer(spec), Attempt: int(s.RestartCount),
		}
		if r := s.State.Running; r != nil {
			c.Started = r.StartedAt.Time
		}
		if t := s.State.Terminated; t != nil {
			c.State, c.ExitCode, c.Started, c.Finished = fleet.Exited, t.ExitCode, t.StartedAt.Time, t.FinishedAt.Time
		}
		c.Created = c.Started
		o.Containers = append(o.Containers, c)
	}
	return o
}

// machinesOf are the hosts of a foresight: those that were looked at, and for the other nodes what they report.
func machinesOf(in ForesightInput) map[fleet.NodeName]fleet.Host {
	hosts := maps.Clone(in.Hosts)
	if hosts == nil {
		hosts = map[fleet.NodeName]fleet.Host{}
	}
	for _, node := range in.Nodes {
		if _, looked := hosts[node.Name]; looked {
			continue
		}
		at := slices.IndexFunc(in.Reports, func(r fleet.NodeReport) bool { return r.Node == node.Name })
		if at >= 0 {
			hosts[node.Name] = assumed(in, node, in.Reports[at], in.Now)
		}
	}
	return hosts
}
