package scale

import (
	"cmp"
	"fmt"
	"iter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

const (
	young        = 5 * time.Minute  // after its start a pod's use of CPU is that of starting, unless it is ready
	firstReady   = 30 * time.Second // a pod that turned unready within this of its start was never ready
	sampleWindow = Interval         // a measurement is of about this time before it
	stale        = 2 * time.Minute  // an older measurement is none
)

// tally sorts the pods of the target. It fails when one that counts does not request what the metric compares with;
// which one it names does not depend on their order.
func (m metric) tally(in Input) (tally, error) {
	g, err := m.goal()
	t := tally{goal: g}
	if err != nil {
		return t, err
	}
	var fault error
	var at fleet.PodID // where the fault is
	for _, p := range in.Pods {
		used, when, measured := m.usage(p, in.Now)
		t.measured = t.measured || measured
		if p.Draining || p.Report != nil && p.Report.Terminal() {
			continue
		}
		request, err := m.request(p, g)
		if err != nil && (fault == nil || cmp.Or(p.id().Compare(at), cmp.Compare(err.Error(), fault.Error())) < 0) {
			fault, at = err, p.id()
		}
		one := portion{pods: 1, used: used, request: request}
		switch {
		case p.pending():
			t.unready = t.unready.plus(one)
		case !measured:
			one.used = int64(float64(request) * float64(max(100, g.utilisation)) / 100)
			if g.value > 0 {
				one.used = g.value
			}
			t.missing = t.missing.plus(one)
		case m.name == corev1.ResourceCPU && p.starting(when, in.Now):
			t.unready = t.unready.plus(one)
		default:
			t.ready = t.ready.plus(one)
		}
	}
	if t.measured && t.ready.pods > 0 { // else that is what is wrong
		err = fault
	}
	return t, err
}

func (p Pod) id() fleet.PodID {
	if p.Report == nil {
		return fleet.PodID{Name: "(not reported yet)"}
	}
	return p.Report.Pod
}

func (p Pod) pending() bool {
	return p.Report == nil || p.Report.Status.Phase == corev1.PodPending || p.Report.Status.Phase == ""
}

// starting reports whether a measurement of CPU says nothing of how the pod will be.
func (p Pod) starting(measured, now time.Time) bool {
	ready, start := p.Report.Condition(corev1.PodReady), p.Report.Status.StartTime
	if ready == nil || start == nil {
		return true
	}
	turned := ready.LastTransitionTime.Time
	if start.Add(young).After(now) {
		return ready.Status == corev1.ConditionFalse || measured.Before(turned.Add(sampleWindow))
	}
	return ready.Status == corev1.ConditionFalse && start.Add(firstReady).After(turned)
}

// containers are those whose usage and requests the metric adds up: what runs as long as the pod does.
func (m metric) containers(spec *corev1.PodSpec) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for i := range spec.InitContainers {
			c := &spec.InitContainers[i]
			stays := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
			if stays && (m.container == "" || c.Name == m.container) && !yield(c) {
				return
			}
		}
		for i := range spec.Containers {
			c := &spec.Containers[i]
			if (m.container == "" || c.Name == m.container) && !yield(c) {
				return
			}
		}
	}
}

// usage is what the pod uses, by its oldest measurement. It has none when nothing of it was measured of late, or a
// container that runs was not.
func (m metric) usage(p Pod, now time.Time) (used int64, oldest time.Time, ok bool) {
	if p.Report == nil {
		return 0, oldest, false
	}
	counts := map[string]bool{}
	if p.Spec != nil {
		for c := range m.containers(p.Spec) {
			counts[c.Name] = true
		}
	}
	for _, u := range p.Report.Usage {
		wanted := counts[u.Container] || p.Spec == nil && (m.container == "" || m.container == u.Container)
		if !wanted || now.Sub(u.At) > stale {
			continue
		}
		delete(counts, u.Container)
		if m.name == corev1.ResourceCPU {
			used += u.CPU
		} else {
			used += u.Memory
		}
		oldest, ok = fleet.Earliest(oldest, u.At), true
	}
	for name := range counts {
		ok = ok && !p.runs(name)
	}
	return used, oldest, ok
}

func (p Pod) runs(container string) bool {
	for _, list := range [][]corev1.ContainerStatus{p.Report.Status.InitContainerStatuses, p.Report.Status.ContainerStatuses} {
		for _, c := range list {
			if c.Name == container {
				return c.State.Running != nil
			}
		}
	}
	return false
}

// request is what the pod requests, a limit standing for a request that is missing. Nobody needs it for a target that
// is a value.
func (m metric) request(p Pod, g goal) (int64, error) {
	switch {
	case g.value > 0:
		return 0, nil
	case p.Spec == nil:
		return 0, fmt.Errorf("missing request for %s in Pod %s: what it is made from is not known", m.name, p.id().Name)
	}
	var sum int64
	found := false
	for c := range m.containers(p.Spec) {
		found = true
		q, ok := c.Resources.Requests[m.name]
		if !ok {
			q, ok = c.Resources.Limits[m.name]
		}
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", m.name, c.Name, p.id().Name)
		}
		sum += m.amount(q)
	}
	if !found && m.container != "" {
		return 0, fmt.Errorf("container %s not found in Pod %s", m.container, p.id().Name)
	}
	return sum, nil
}
