package scale

import (
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-dev/skerry/fleet"
)

const cpu, memory = corev1.ResourceCPU, corev1.ResourceMemory

// TestProposal is about what metrics ask for before bounds and behavior have their say. Pods request 100m and 100Mi.
func TestProposal(t *testing.T) {
	sidecar := func(p *Pod) {
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []corev1.Container{{Name: "b", RestartPolicy: &always, Resources: p.Spec.Containers[0].Resources}, {Name: "init"}}
	}
	limitOnly := func(p *Pod) {
		r := &p.Spec.Containers[0].Resources
		r.Limits, r.Requests = r.Requests, nil
	}
	old := func(p *Pod) { p.Report.Usage[0].At = noon.Add(-stale - time.Second) }
	running := func(name string) option {
		return func(p *Pod) {
			p.Report.Status.ContainerStatuses = append(p.Report.Status.ContainerStatuses,
				corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
		}
	}
	tolerance := func(up, down string) func(*autoscalingv2.HorizontalPodAutoscaler) {
		return func(s *autoscalingv2.HorizontalPodAutoscaler) {
			u, d := resource.MustParse(up), resource.MustParse(down)
			s.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
				ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: &u}, ScaleDown: &autoscalingv2.HPAScalingRules{Tolerance: &d},
			}
		}
	}
	for _, test := range []struct {
		name    string
		metrics []autoscalingv2.MetricSpec
		pods    []Pod
		current int32 // as many as pods when 0
		edit    func(*autoscalingv2.HorizontalPodAutoscaler)
		want    int32
		fails   string // part of the message
	}{
		{name: "twice the target", pods: pods(3, 100, noon), want: 6},
		{name: "half of it", pods: pods(4, 25, noon), want: 2},
		{name: "rounded up", pods: pods(3, 60, noon), want: 4},
		{name: "a tenth above is near enough", pods: pods(3, 55, noon), want: 3},
		{name: "a tenth below is near enough", pods: pods(30, 45, noon), want: 30},
		{name: "a little more is not", pods: pods(3, 56, noon), want: 4},
		{name: "percent are whole", pods: slices.Concat(pods(9, 55, noon), pods(1, 59, noon)), want: 10},
		{name: "nothing used", pods: pods(3, 0, noon), want: 0},
		{name: "tolerance upwards", pods: pods(10, 53, noon), edit: tolerance("0.05", "0.5"), want: 11},
		{name: "tolerance downwards", pods: pods(10, 26, noon), edit: tolerance("0.05", "0.5"), want: 10},
		{name: "requests are summed", pods: pods(2, 0, noon, requests("100m", "300m"), usage(100, 300)), want: 4},
		{name: "more than there are pods", pods: pods(2, 100, noon), current: 5, want: 4},
		{name: "a value", metrics: []autoscalingv2.MetricSpec{average(cpu, "20m")}, pods: pods(2, 50, noon), want: 5},
		{name: "a value needs no requests", metrics: []autoscalingv2.MetricSpec{average(memory, "20Mi")}, pods: pods(2, 50, noon, requests("")), want: 5},
		{name: "a value needs no spec", metrics: []autoscalingv2.MetricSpec{average(memory, "20Mi")}, pods: pods(2, 50, noon, unknown), want: 5},
		{name: "memory", metrics: []autoscalingv2.MetricSpec{percent(memory, 50)}, pods: pods(2, 100, noon), want: 4},
		{name: "one container", metrics: []autoscalingv2.MetricSpec{container(cpu, "b", 50)}, pods: pods(2, 0, noon, requests("", "100m"), usage(900, 100)), want: 4},
		{name: "a sidecar counts", pods: pods(2, 0, noon, sidecar, usage(100, 100)), want: 4},
		{name: "a sidecar by name", metrics: []autoscalingv2.MetricSpec{container(cpu, "b", 50)}, pods: pods(2, 0, noon, sidecar, usage(0, 100)), want: 4},
		{name: "a limit is a request", pods: pods(2, 100, noon, limitOnly), want: 4},
		{name: "the largest of two", metrics: []autoscalingv2.MetricSpec{percent(cpu, 50), percent(memory, 25)}, pods: pods(2, 50, noon), want: 4},

		{name: "a container without a request", pods: pods(2, 100, noon, requests("100m", ""), usage(100, 1)), fails: "missing request for cpu in container b of Pod web-00"},
		{name: "a pod of unknown spec", pods: slices.Concat(pods(2, 100, noon), []Pod{podOf("x", 1, noon, unknown)}), fails: "missing request for cpu in Pod x: what it is made from is not known"},
		{name: "only such", pods: pods(2, 100, noon, unknown), fails: "missing request for cpu in Pod web-00"},
		{name: "no such container", metrics: []autoscalingv2.MetricSpec{container(cpu, "z", 50)}, pods: pods(2, 1, noon), fails: "no metrics returned from resource metrics API"},
		{name: "such a container in one alone", metrics: []autoscalingv2.MetricSpec{container(cpu, "b", 50)}, pods: slices.Concat(pods(1, 1, noon), pods(1, 1, noon, requests("1", "1"), usage(1, 1))), fails: "container b not found in Pod web-00"},
		{name: "requests of nothing", pods: pods(2, 100, noon, requests("0")), fails: "no metrics returned matched known pods"},
		{name: "no pods", current: 1, fails: "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"},
		{name: "all pending", pods: pods(2, 100, noon, pending), fails: "did not receive metrics for targeted pods (pods might be unready)"},
		{name: "old measurements", pods: pods(2, 100, noon, old), fails: "no metrics returned"},
		{name: "another resource", metrics: []autoscalingv2.MetricSpec{percent("ephemeral-storage", 50)}, pods: pods(2, 100, noon), fails: "only cpu and memory are measured"},
		{name: "no target", metrics: []autoscalingv2.MetricSpec{percent(cpu, 0)}, pods: pods(2, 100, noon), fails: "neither an average utilization target nor"},
		{name: "another type", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ExternalMetricSourceType}}, pods: pods(2, 100, noon), fails: "type External is not to be had"},
		{name: "a failing metric leaves growth", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType}, percent(cpu, 50)}, pods: pods(2, 100, noon), want: 4},
		{name: "a failing metric leaves all as it is", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType}, percent(cpu, 50)}, pods: pods(2, 50, noon), want: 2},
		{name: "a failing metric forbids shrinking", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType}, percent(cpu, 50)}, pods: pods(2, 10, noon), fails: "type Pods"},

		{name: "draining pods do not count", pods: slices.Concat(pods(2, 100, noon), pods(2, 1, noon, draining, requests(""))), want: 4},
		{name: "failed pods do not count", pods: slices.Concat(pods(2, 100, noon), pods(2, 1, noon, failed, unknown)), want: 4},
		{name: "pending ones use nothing when growing", pods: slices.Concat(pods(1, 260, noon), pods(1, 0, noon, requests("300m"), pending)), want: 3},
		{name: "unreported ones as well", pods: slices.Concat(pods(1, 260, noon), pods(1, 0, noon, requests("300m"), unreported)), want: 3},
		{name: "pending ones are nothing when shrinking", pods: slices.Concat(pods(2, 10, noon), pods(2, 0, noon, pending)), want: 1},
		{name: "whatever they request", pods: slices.Concat(pods(4, 30, noon), pods(4, 0, noon, requests("300m"), pending)), want: 3},
		{name: "unready ones turn growth to nothing", pods: slices.Concat(pods(2, 60, noon), pods(2, 0, noon, pending)), want: 4},
		{name: "missing ones are full when shrinking", pods: slices.Concat(pods(3, 10, noon), pods(1, 0, noon, unmeasured)), want: 3},
		{name: "missing ones hold shrinking up", pods: slices.Concat(pods(3, 40, noon), pods(1, 0, noon, unmeasured)), want: 4},
		{name: "missing ones turn shrinking to nothing", pods: slices.Concat(pods(2, 40, noon), pods(2, 0, noon, unmeasured)), want: 4},
		{name: "shrinking never grows", pods: slices.Concat(pods(3, 10, noon), pods(1, 0, noon, unmeasured)), current: 2, want: 2},
		{name: "missing ones are at a target above full", metrics: []autoscalingv2.MetricSpec{percent(cpu, 300)}, pods: slices.Concat(pods(4, 30, noon), pods(4, 0, noon, unmeasured)), want: 5},
		{name: "missing ones are at a value", metrics: []autoscalingv2.MetricSpec{average(cpu, "100m")}, pods: slices.Concat(pods(4, 10, noon), pods(4, 0, noon, unmeasured)), want: 5},
		{name: "missing ones use nothing when growing", pods: slices.Concat(pods(2, 200, noon), pods(1, 0, noon, unmeasured)), want: 8},
		{name: "missing ones turn growth to nothing", pods: slices.Concat(pods(2, 60, noon), pods(2, 0, noon, unmeasured)), want: 4},
		{name: "growth never shrinks with missing ones", pods: slices.Concat(pods(2, 100, noon), pods(1, 0, noon, unmeasured)), current: 9, want: 9},
		{name: "a container that runs unmeasured", pods: slices.Concat(pods(3, 10, noon), pods(1, 10, noon, requests("50m", "50m"), running("b"))), want: 3},
		{name: "a container that does not run", pods: slices.Concat(pods(3, 100, noon), pods(1, 100, noon, requests("50m", "50m"))), want: 8},

		{name: "young and unready", pods: slices.Concat(pods(1, 100, noon), pods(1, 900, noon, readiness(time.Minute, time.Minute, false))), want: 2},
		{name: "young and ready", pods: slices.Concat(pods(1, 100, noon), pods(1, 100, noon, readiness(time.Minute, 40*time.Second, true))), want: 4},
		{name: "young and ready just now", pods: slices.Concat(pods(1, 100, noon), pods(1, 900, noon, readiness(time.Minute, 14*time.Second, true))), want: 2},
		{name: "old and never ready", pods: slices.Concat(pods(1, 100, noon), pods(1, 900, noon, readiness(time.Hour, time.Hour-29*time.Second, false))), want: 2},
		{name: "old and no longer ready", pods: slices.Concat(pods(1, 100, noon), pods(1, 100, noon, readiness(time.Hour, time.Minute, false))), want: 4},
		{name: "young ones are as good for memory", metrics: []autoscalingv2.MetricSpec{percent(memory, 50)}, pods: pods(2, 100, noon, readiness(time.Minute, time.Minute, false)), want: 4},
		{name: "no condition", pods: slices.Concat(pods(1, 100, noon), pods(1, 100, noon, func(p *Pod) { p.Report.Status.Conditions = nil })), want: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := Input{Scaler: scalerOf(1, 100, test.metrics...), Replicas: test.current, Pods: test.pods, Now: noon}
			if test.current == 0 {
				in.Replicas = int32(len(test.pods) - count(test.pods, func(p Pod) bool { return p.Draining }))
			}
			if test.edit != nil {
				test.edit(in.Scaler)
			}
			p := propose(in, rulesOf(&in.Scaler.Spec))
			if p.failed != (test.fails != "") || !p.failed && p.replicas != test.want {
				t.Errorf("proposes %d (fails: %v, %s), want %d", p.replicas, p.failed, p.active.message, test.want)
			}
			if !strings.Contains(p.active.message, test.fails) {
				t.Errorf("says %q", p.active.message)
			}
		})
	}
}

func count(list []Pod, f func(Pod) bool) (n int) {
	for _, p := range list {
		if f(p) {
			n++
		}
	}
	return n
}

func TestReasonsAndNotes(t *testing.T) {
	odd := autoscalingv2.MetricSpec{Type: "Odd"}
	in := Input{Replicas: 2, Pods: pods(2, 10, noon), Now: noon, Scaler: scalerOf(1, 5, percent(cpu, 50), container(cpu, "z", 50), odd)}
	p := propose(in, rulesOf(&in.Scaler.Spec))
	if p.active.reason != "FailedGetContainerResourceMetric" || len(p.notes) != 2 || len(p.metrics) != 3 {
		t.Errorf("%+v", p)
	}
	if p.metrics[0].Resource == nil || p.metrics[1].ContainerResource != nil || p.metrics[1].Type != autoscalingv2.ContainerResourceMetricSourceType {
		t.Errorf("shows %+v", p.metrics)
	}
	in.Scaler = scalerOf(1, 5, odd)
	if p := propose(in, rulesOf(&in.Scaler.Spec)); p.active.reason != "InvalidMetricSourceType" {
		t.Errorf("%+v", p.active)
	}
	in.Scaler.Spec.Metrics = nil
	if p := propose(in, rulesOf(&in.Scaler.Spec)); !p.failed {
		t.Errorf("%+v", p)
	}
}

func TestHugeNumbersDoNotOverflow(t *testing.T) {
	in := Input{Replicas: 2, Pods: pods(2, 1<<42, noon), Now: noon, Scaler: scalerOf(1, 5, percent(memory, 1))}
	in.Pods[0].Report.Usage[0].Memory = 1 << 62
	in.Pods[1].Report.Usage = []fleet.Usage{}
	if out := Scale(in); out.Replicas != 4 {
		t.Errorf("%d", out.Replicas)
	}
}
