package pod

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Why a container waits that was never made, in Kubernetes' words.
const (
	creating     = "ContainerCreating"
	initializing = "PodInitializing" // the initial containers are not done
)

// status is the pod as Kubernetes would show it (semantics 2.3).
func status(in Input, waiting map[string]corev1.ContainerStateWaiting) corev1.PodStatus {
	s := corev1.PodStatus{HostIP: in.Place.Address}
	if !in.Slot.Created.IsZero() {
		s.StartTime = &metav1.Time{Time: in.Slot.Created}
	}
	s.PodIPs = in.podIPs()
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
	if in.Spec == nil {
		statusUnknown(in, &s)
		return s
	}
	s.QOSClass = QOSClass(in.Spec)
	for _, u := range in.units() {
		why := waiting[u.Name]
		if why.Reason == "" {
			why.Reason = in.unmade()
		}
		c := in.containerStatus(u, why)
		if u.role == main {
			s.ContainerStatuses = append(s.ContainerStatuses, c)
		} else {
			s.InitContainerStatuses = append(s.InitContainerStatuses, c)
		}
	}
	s.Phase = in.phase(s)
	if s.Phase == corev1.PodFailed && in.overdue() {
		s.Reason = "DeadlineExceeded"
		s.Message = "Pod was active on the node longer than the specified deadline"
	}
	s.Conditions = in.conditions(s)
	return s
}

// statusUnknown is the status of a pod whose template is not to be had: its containers are those it is seen to have.
func statusUnknown(in Input, s *corev1.PodStatus) {
	var spec corev1.Pod
	if in.Observed != nil {
		for _, o := range in.Observed.Containers {
			if Container(&spec, o.Name) == nil {
				spec.Spec.Containers = append(spec.Spec.Containers, corev1.Container{Name: o.Name, Image: o.Image})
			}
		}
	}
	spec.Spec.RestartPolicy = corev1.RestartPolicyAlways
	in.Spec = &spec
	known := status(in, nil)
	known.QOSClass = ""
	*s = known
}

// unmade is why a container waits of which nothing else is known.
func (in *Input) unmade() string {
	if len(in.Spec.Spec.InitContainers) > 0 && !in.initialized() {
		return initializing
	}
	return creating
}

func (in *Input) podIPs() []corev1.PodIP {
	if in.Observed == nil {
		return nil
	}
	if in.Spec != nil && in.Spec.Spec.HostNetwork {
		return []corev1.PodIP{{IP: in.podAddress()}}
	}
	var ips []corev1.PodIP
	for _, ip := range in.Observed.IPs {
		ips = append(ips, corev1.PodIP{IP: ip.String()})
	}
	return ips
}

func (in *Input) containerStatus(u unit, waiting corev1.ContainerStateWaiting) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: u.Name, Image: u.Image, Started: new(bool)}
	past := in.generations(u.Name)
	if len(past) == 0 {
		s.State.Waiting = &waiting
		run, _ := in.pastRun(u.Name)
		s.RestartCount = int32(run.Attempt)
		return s
	}
	now := past[0]
	s.RestartCount = int32(now.Attempt)
	if now.ID != "" {
		s.Image, s.ImageID, s.ContainerID = now.Image, now.ImageID, containerID(now)
	}
	if old := predecessor(past); old != nil && !old.Started.IsZero() {
		s.LastTerminationState.Terminated = terminated(*old)
	}
	explained := waiting.Reason != creating && waiting.Reason != initializing
	switch {
	case now.Lives():
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: now.Started}}
		// Until its hook has ended, a container has not started.
		hooked := slices.Contains(in.Hooks, u.Name)
		*s.Started = !hooked && started(u.Container, in.health(now))
		// A frozen or ending process serves nobody, nor does one that its network went away from.
		s.Ready = !hooked && now.State == fleet.Running && sandboxOf(in.Observed) == alive && in.serves(u, now)
	case now.State == fleet.Exited && !explained:
		s.State.Terminated = terminated(now)
		s.Ready = u.role == initial && now.ExitCode == 0
	default:
		if now.State == fleet.Exited {
			s.LastTerminationState.Terminated = terminated(now)
		}
		s.State.Waiting = &waiting
	}
	return s
}

// serves reports whether a running container is ready.
func (in *Input) serves(u unit, now fleet.ObservedContainer) bool {
	h := in.health(now)
	return u.role != initial && started(u.Container, h) && (u.ReadinessProbe == nil || h[Readiness].Verdict == Passed)
}

// containerID is empty for what ran in a sandbox that is no more.
func containerID(c fleet.ObservedContainer) string {
	if c.ID == "" {
		return ""
	}
	return "podman://" + c.ID
}

func terminated(c fleet.ObservedContainer) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Reason: "Completed", Message: c.Message, ContainerID: containerID(c),
		StartedAt: metav1.Time{Time: c.Started}, FinishedAt: metav1.Time{Time: c.Finished},
	}
	switch {
	case c.OutOfMemory:
		t.Reason = "OOMKilled"
	case c.ExitCode != 0:
		t.Reason = "Error"
	}
	return t
}

// conditions are the pod's, in the order in which they come true.
func (in *Input) conditions(s corev1.PodStatus) []corev1.PodCondition {
	created := metav1.Time{Time: in.Slot.Created}
	containers := in.containersReady(s)
	ready := containers
	ready.Type = corev1.PodReady
	if gates := in.Spec.Spec.ReadinessGates; ready.Status == corev1.ConditionTrue && len(gates) > 0 {
		var missing []string // nothing here sets conditions of other people's
		for _, g := range gates {
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		}
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(missing, ", ")
		ready.LastTransitionTime = created
	}
	if in.Slot.Goal == fleet.Drain { // a pod that is being deleted is ready no more, at once
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "PodDeleting", ""
		ready.LastTransitionTime = metav1.Time{Time: in.Slot.Drained}
	}
	return []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: created},
		in.initializedCondition(s), containers, ready,
	}
}

func (in *Input) initializedCondition(s corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: in.Slot.Created}}
	if s.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
	}
	var incomplete []string
	units := in.units()
	for i, is := range s.InitContainerStatuses {
		switch {
		case units[i].role == initial && is.State.Terminated != nil && is.State.Terminated.ExitCode == 0:
			if end := is.State.Terminated.FinishedAt; end.After(c.LastTransitionTime.Time) {
				c.LastTransitionTime = end
			}
		case units[i].role == sidecar && *is.Started:
		default:
			incomplete = append(incomplete, is.Name)
		}
	}
	if len(incomplete) > 0 && !in.initialized() {
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %v", incomplete)
		c.LastTransitionTime = metav1.Time{Time: in.Slot.Created}
	}
	return c
}

// containersReady is the condition that all containers are ready, sidecars among them. It turned when the last one
// became so, or when the last of those that are not ceased to be.
func (in *Input) containersReady(s corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"}
	units := in.units()
	var unready []string
	var since, until time.Time
	all := append(append([]corev1.ContainerStatus(nil), s.InitContainerStatuses...), s.ContainerStatuses...)
	for i := range all {
		if units[i].role == initial {
			continue
		}
		turned := in.turned(units[i], all[i])
		if !all[i].Ready {
			unready = append(unready, all[i].Name)
			until = later(until, turned)
			continue
		}
		since = later(since, turned)
	}
	if until.IsZero() {
		until = in.Slot.Created
	}
	c.LastTransitionTime = metav1.Time{Time: until}
	switch {
	case s.Phase == corev1.PodSucceeded:
		c.Reason = "PodCompleted"
	case s.Phase == corev1.PodFailed:
		c.Reason = "PodFailed"
	case len(unready) > 0 || len(s.ContainerStatuses) == 0:
		c.Message = fmt.Sprintf("containers with unready status: %v", unready)
	default:
		c.Status, c.Reason = corev1.ConditionTrue, ""
		c.LastTransitionTime = metav1.Time{Time: since}
	}
	return c
}

// turned is when a container became ready, or ceased to be.
func (in *Input) turned(u unit, s corev1.ContainerStatus) time.Time {
	var at time.Time
	for _, t := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
		if t != nil && !s.Ready {
			at = later(at, t.FinishedAt.Time)
		}
	}
	if s.State.Running == nil {
		return at
	}
	if s.Ready {
		at = latest(s.State.Running.StartedAt.Time)
	}
	h := in.health(in.generations(u.Name)[0])
	if u.StartupProbe != nil && s.Ready {
		at = later(at, h[Startup].Since)
	}
	if u.ReadinessProbe != nil {
		at = later(at, h[Readiness].Since)
	}
	return at
}

// latest is the last moment at which something happened that Podman tells by the second only: what must last for a while must
// not be taken to have begun before it did.
func latest(at time.Time) time.Time {
	if at.IsZero() || at.Nanosecond() != 0 {
		return at
	}
	return at.Add(time.Second - time.Nanosecond)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
