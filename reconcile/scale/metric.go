package scale

import (
	"errors"
	"fmt"
	"math"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// proposal is what all metrics together ask for.
type proposal struct {
	replicas int32 // before the bounds
	failed   bool  // nothing may be done
	active   condition
	metrics  []autoscalingv2.MetricStatus
	notes    []string
}

// propose asks every metric. The largest answer holds; while one fails, the target may grow and not shrink.
func propose(in Input, r rules) proposal {
	var p proposal
	var first condition // of the metrics that fail
	var name string
	for _, spec := range in.Scaler.Spec.Metrics {
		n, called, shown, err := ask(in, r, spec)
		p.metrics = append(p.metrics, shown)
		if err != nil {
			c := condition{corev1.ConditionFalse, reason(spec.Type), fmt.Sprintf("the HPA was unable to compute the replica count: %v", err)}
			if first.status == "" {
				first = c
			}
			p.notes = append(p.notes, c.message)
			continue
		}
		if name == "" || n > p.replicas {
			p.replicas, name = n, called
		}
	}
	p.failed = name == "" || first.status != "" && p.replicas < in.Replicas
	p.active = condition{corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from " + name}
	if p.failed {
		p.active = first
	}
	return p
}

// reason is that of ScalingActive when a metric of a type fails.
func reason(t autoscalingv2.MetricSourceType) string {
	switch t {
	case autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.PodsMetricSourceType,
		autoscalingv2.ObjectMetricSourceType, autoscalingv2.ExternalMetricSourceType:
		return "FailedGet" + string(t) + "Metric"
	default:
		return "InvalidMetricSourceType"
	}
}

// ask is what one metric proposes, what it is called, and how a status shows it.
func ask(in Input, r rules, spec autoscalingv2.MetricSpec) (n int32, called string, shown autoscalingv2.MetricStatus, err error) {
	shown.Type = spec.Type
	switch {
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		m := metric{name: spec.Resource.Name, target: spec.Resource.Target}
		n, current, err := m.ask(in, r)
		if err == nil {
			shown.Resource = &autoscalingv2.ResourceMetricStatus{Name: m.name, Current: current}
		}
		return n, m.String(), shown, err
	case spec.Type == autoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		m := metric{name: spec.ContainerResource.Name, container: spec.ContainerResource.Container, target: spec.ContainerResource.Target}
		n, current, err := m.ask(in, r)
		if err == nil {
			shown.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: m.name, Container: m.container, Current: current}
		}
		return n, m.String(), shown, err
	default:
		return 0, "", shown, fmt.Errorf("a metric of type %s is not to be had: only Resource and ContainerResource are", spec.Type)
	}
}

// metric is the usage of a resource by pods, or by one container of each.
type metric struct {
	name      corev1.ResourceName
	container string // empty for all of a pod
	target    autoscalingv2.MetricTarget
}

// String is what Kubernetes calls the metric.
func (m metric) String() string {
	switch {
	case m.target.AverageValue != nil:
		return fmt.Sprintf("%s resource", m.name)
	case m.container != "":
		return fmt.Sprintf("%s container resource utilization (percentage of request)", m.name)
	default:
		return fmt.Sprintf("%s resource utilization (percentage of request)", m.name)
	}
}

func (m metric) ask(in Input, r rules) (int32, autoscalingv2.MetricValueStatus, error) {
	what := "utilization"
	if m.target.AverageValue != nil {
		what = "usage"
	}
	t, err := m.tally(in)
	if err == nil {
		err = t.check(m.name)
	}
	if err != nil {
		return 0, autoscalingv2.MetricValueStatus{}, fmt.Errorf("failed to get %s %s: %w", m.name, what, err)
	}
	return t.propose(in.Replicas, r), t.status(m.name), nil
}

// goal is the usage to have: either utilisation, percent of what is requested, or value, an average per pod.
type goal struct{ utilisation, value int64 }

// goal reads the target; cpu is in thousandths, memory in bytes.
func (m metric) goal() (goal, error) {
	var g goal
	switch {
	case m.name != corev1.ResourceCPU && m.name != corev1.ResourceMemory:
		return g, fmt.Errorf("unable to get metrics for resource %s: only cpu and memory are measured", m.name)
	case m.target.AverageValue != nil:
		g.value = m.amount(*m.target.AverageValue)
	case m.target.AverageUtilization != nil:
		g.utilisation = int64(*m.target.AverageUtilization)
	}
	if g.value <= 0 && g.utilisation <= 0 {
		return g, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	return g, nil
}

func (m metric) amount(q resource.Quantity) int64 {
	if m.name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// tally is what a metric finds in a target's pods.
type tally struct {
	goal     goal
	measured bool // some pod is, even if it does not count
	// ready are pods whose measurement counts; unready ones cannot be judged yet, of missing ones there is no measurement.
	ready, unready, missing portion
}

// portion is a number of pods, what they use and what they request.
type portion struct{ pods, used, request int64 }

func (p portion) plus(o portion) portion {
	return portion{p.pods + o.pods, p.used + o.used, p.request + o.request}
}

// idle is the portion if it used nothing.
func (p portion) idle() portion { return portion{pods: p.pods, request: p.request} }

func (t tally) check(name corev1.ResourceName) error {
	switch {
	case !t.measured:
		return fmt.Errorf("unable to get metrics for resource %s: no metrics returned from resource metrics API", name)
	case t.ready.pods == 0:
		return errors.New("did not receive metrics for targeted pods (pods might be unready)")
	case t.goal.value == 0 && t.ready.request == 0:
		return errors.New("no metrics returned matched known pods")
	}
	return nil
}

// ratio is how many times its target a portion uses, on average.
func (t tally) ratio(p portion) float64 {
	if t.goal.value > 0 {
		return float64(p.used/p.pods) / float64(t.goal.value)
	}
	return float64(p.utilisation()) / float64(t.goal.utilisation)
}

// utilisation is in whole percent of the request.
func (p portion) utilisation() int32 {
	return narrow(float64(p.used) * 100 / float64(p.request))
}

func (t tally) status(name corev1.ResourceName) autoscalingv2.MetricValueStatus {
	average := resource.NewQuantity(t.ready.used/t.ready.pods, resource.DecimalSI)
	if name == corev1.ResourceCPU {
		average = resource.NewMilliQuantity(t.ready.used/t.ready.pods, resource.DecimalSI)
	}
	s := autoscalingv2.MetricValueStatus{AverageValue: average}
	if t.goal.value == 0 {
		percent := t.ready.utilisation()
		s.AverageUtilization = &percent
	}
	return s
}

// propose is the number of pods that would bring usage to its target. Pods that cannot be judged are left out at first
// and then taken for whatever speaks against what the others say.
func (t tally) propose(current int32, r rules) int32 {
	first := t.ratio(t.ready)
	grow := t.unready.pods > 0 && first > 1
	if !grow && t.missing.pods == 0 {
		if r.tolerable(first) {
			return current
		}
		return narrow(math.Ceil(first * float64(t.ready.pods)))
	}
	all := t.ready
	switch {
	case first < 1:
		all = all.plus(t.missing)
	case first > 1:
		all = all.plus(t.missing.idle())
	}
	if grow {
		all = all.plus(t.unready.idle())
	}
	second := t.ratio(all)
	if r.tolerable(second) || first < 1 && second > 1 || first > 1 && second < 1 {
		return current
	}
	n := narrow(math.Ceil(second * float64(all.pods)))
	if second < 1 && n > current || second > 1 && n < current {
		return current
	}
	return n
}

// narrow cuts off what is no whole number, or has no room in 32 bits.
func narrow(x float64) int32 { return int32(min(max(x, math.MinInt32), math.MaxInt32)) }
