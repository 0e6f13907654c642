package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// status is the pod as Kubernetes would show it (semantics 2.3).
func status(in Input, waiting map[string]corev1.ContainerStateWaiting) corev1.PodStatus {
	s := corev1.PodStatus{HostIP: in.Address, QOSClass: qos(in.Spec)}
	if !in.Slot.Created.IsZero() {
		s.StartTime = &metav1.Time{Time: in.Slot.Created}
	}
	box := sandboxOf(in.Observed)
	if in.Observed != nil {
		for i, ip := range in.Observed.IPs {
			if i == 0 {
				s.PodIP = ip.String()
			}
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
		}
	}
	for _, c := range containersOf(in) {
		s.ContainerStatuses = append(s.ContainerStatuses, containerStatus(&c, generations(in.Observed, c.Name), box, waiting[c.Name]))
	}
	policy := corev1.RestartPolicyAlways
	if in.Spec != nil {
		policy = in.Spec.Spec.RestartPolicy
	}
	s.Phase = phase(s.ContainerStatuses, policy)
	s.Conditions = conditions(in, s)
	return s
}

// containersOf are the containers the pod should have; without a spec, those it is seen to have.
func containersOf(in Input) []corev1.Container {
	if in.Spec != nil {
		return in.Spec.Spec.Containers
	}
	var list []corev1.Container
	if in.Observed != nil {
		for _, o := range in.Observed.Containers {
			if !slices.ContainsFunc(list, func(c corev1.Container) bool { return c.Name == o.Name }) {
				list = append(list, corev1.Container{Name: o.Name, Image: o.Image})
			}
		}
	}
	return list
}

func containerStatus(c *corev1.Container, past []fleet.ObservedContainer, box sandbox, waiting corev1.ContainerStateWaiting) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool)}
	if waiting.Reason == "" {
		waiting.Reason = "ContainerCreating"
	}
	if len(past) == 0 {
		s.State.Waiting = &waiting
		return s
	}
	now := past[0]
	s.Image, s.ImageID, s.ContainerID = now.Image, now.ImageID, "podman://"+now.ID
	s.RestartCount = int32(now.Attempt)
	if old := predecessor(past); old != nil && !old.Started.IsZero() {
		s.LastTerminationState.Terminated = terminated(*old)
	}
	switch {
	case box == alive && (now.State == fleet.Running || now.State == fleet.Paused || now.State == fleet.Stopping):
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: now.Started}}
		s.Ready = now.State == fleet.Running // a frozen or ending process serves nobody
		*s.Started = true
	case now.State == fleet.Exited && waiting.Reason == "ContainerCreating":
		s.State.Terminated = terminated(now)
	default:
		if now.State == fleet.Exited {
			s.LastTerminationState.Terminated = terminated(now)
		}
		s.State.Waiting = &waiting
	}
	return s
}

func terminated(c fleet.ObservedContainer) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Reason: "Completed", ContainerID: "podman://" + c.ID,
		StartedAt: metav1.Time{Time: c.Started}, FinishedAt: metav1.Time{Time: c.Finished},
	}
	if c.ExitCode != 0 {
		t.Reason = "Error"
	}
	return t
}

func phase(containers []corev1.ContainerStatus, policy corev1.RestartPolicy) corev1.PodPhase {
	var running, never, failed, ended int
	for _, c := range containers {
		switch {
		case c.State.Running != nil:
			running++
		case c.State.Terminated != nil:
			ended++
			if c.State.Terminated.ExitCode != 0 {
				failed++
			}
		case c.LastTerminationState.Terminated == nil:
			never++
		}
	}
	switch {
	case never > 0 || len(containers) == 0:
		return corev1.PodPending
	case running > 0 || ended < len(containers) || policy == corev1.RestartPolicyAlways:
		return corev1.PodRunning
	case failed == 0:
		return corev1.PodSucceeded
	case policy == corev1.RestartPolicyNever:
		return corev1.PodFailed
	default:
		return corev1.PodRunning
	}
}

func conditions(in Input, s corev1.PodStatus) []corev1.PodCondition {
	created := metav1.Time{Time: in.Slot.Created}
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"}
	var since, until time.Time
	all := len(s.ContainerStatuses) > 0
	for _, c := range s.ContainerStatuses {
		all = all && c.Ready
		if c.State.Running != nil && c.State.Running.StartedAt.After(since) {
			since = c.State.Running.StartedAt.Time
		}
		for _, t := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if t != nil && !c.Ready && t.FinishedAt.After(until) {
				until = t.FinishedAt.Time
			}
		}
	}
	ready.LastTransitionTime = metav1.Time{Time: until}
	if until.IsZero() {
		ready.LastTransitionTime = created
	}
	switch {
	case s.Phase == corev1.PodSucceeded:
		ready.Reason = "PodCompleted"
	case s.Phase == corev1.PodFailed:
		ready.Reason = "PodFailed"
	case all:
		ready.Status, ready.Reason = corev1.ConditionTrue, ""
		ready.LastTransitionTime = metav1.Time{Time: since}
	}
	containers := ready
	containers.Type = corev1.ContainersReady
	if in.Slot.Goal == fleet.Drain { // a pod that is being deleted is ready no more, at once
		ready.Status, ready.Reason, ready.LastTransitionTime = corev1.ConditionFalse, "PodDeleting", metav1.Time{Time: in.Slot.Drained}
	}
	return []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: created},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: created},
		containers, ready,
	}
}

// qos is the pod's class (semantics 2.9).
func qos(spec *corev1.Pod) corev1.PodQOSClass {
	if spec == nil {
		return ""
	}
	guaranteed, set := true, false
	for i := range spec.Spec.Containers {
		r := spec.Spec.Containers[i].Resources
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, asked := r.Requests[name]
			limit, limited := r.Limits[name]
			set = set || (asked && !request.IsZero()) || (limited && !limit.IsZero())
			guaranteed = guaranteed && limited && !limit.IsZero() && (!asked || request.Cmp(limit) == 0)
		}
	}
	switch {
	case guaranteed:
		return corev1.PodQOSGuaranteed
	case set:
		return corev1.PodQOSBurstable
	default:
		return corev1.PodQOSBestEffort
	}
}
