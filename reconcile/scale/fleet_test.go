package scale

import (
	"fmt"
	"math/rand"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is a moment some seconds after noon.
func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

type option func(*Pod)

// specOf has one container for each request, named a, b, c; an empty request is none.
func specOf(requests ...string) *corev1.PodSpec {
	spec := &corev1.PodSpec{}
	for i, r := range requests {
		c := corev1.Container{Name: string(rune('a' + i))}
		if r != "" {
			c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(r), corev1.ResourceMemory: resource.MustParse("100Mi")}
		}
		spec.Containers = append(spec.Containers, c)
	}
	return spec
}

// podOf has been ready for an hour, requests 100m and 100Mi, and used as many thousandths of a core and MiB just now.
func podOf(name string, used int64, now time.Time, options ...option) Pod {
	p := Pod{Spec: specOf("100m"), Report: &fleet.PodReport{
		Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "default", Name: name}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, StartTime: &metav1.Time{Time: now.Add(-time.Hour)},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: now.Add(-time.Hour)}}},
		},
		Usage: []fleet.Usage{{Container: "a", CPU: used, Memory: used << 20, At: now}},
	}}
	for _, o := range options {
		o(&p)
	}
	return p
}

func draining(p *Pod)   { p.Draining = true }
func failed(p *Pod)     { p.Report.Status.Phase = corev1.PodFailed }
func pending(p *Pod)    { p.Report.Status.Phase = corev1.PodPending }
func unmeasured(p *Pod) { p.Report.Usage = nil }
func unreported(p *Pod) { p.Report = nil }
func unknown(p *Pod)    { p.Spec = nil }

func requests(list ...string) option { return func(p *Pod) { p.Spec = specOf(list...) } }

// readiness is how long ago the pod started and its readiness turned to what it is.
func readiness(started, turned time.Duration, ready bool) option {
	return func(p *Pod) {
		now := p.Report.Usage[0].At
		p.Report.Status.StartTime.Time = now.Add(-started)
		c := &p.Report.Status.Conditions[0]
		c.LastTransitionTime.Time = now.Add(-turned)
		if !ready {
			c.Status = corev1.ConditionFalse
		}
	}
}

// usage replaces what was measured, for containers a, b, c.
func usage(used ...int64) option {
	return func(p *Pod) {
		now := p.Report.Usage[0].At
		p.Report.Usage = nil
		for i, u := range used {
			p.Report.Usage = append(p.Report.Usage, fleet.Usage{Container: string(rune('a' + i)), CPU: u, Memory: u << 20, At: now})
		}
	}
}

// pods are n equal ones.
func pods(n int, used int64, now time.Time, options ...option) []Pod {
	var list []Pod
	for i := range n {
		list = append(list, podOf(fmt.Sprintf("web-%02d", i), used, now, options...))
	}
	return list
}

// percent is a metric of a resource that should be used to so many percent.
func percent(name corev1.ResourceName, target int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: name, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target},
	}}
}

func average(name corev1.ResourceName, target string) autoscalingv2.MetricSpec {
	q := resource.MustParse(target)
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: name, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &q},
	}}
}

func container(name corev1.ResourceName, container string, target int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
		Name: name, Container: container, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target},
	}}
}

func scalerOf(lowest, highest int32, metrics ...autoscalingv2.MetricSpec) *autoscalingv2.HorizontalPodAutoscaler {
	if metrics == nil {
		metrics = []autoscalingv2.MetricSpec{percent(corev1.ResourceCPU, 50)}
	}
	return &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: &lowest, MaxReplicas: highest, Metrics: metrics},
	}
}

// side is one direction of a behavior; a negative window is none.
func side(window int32, pick autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	r := &autoscalingv2.HPAScalingRules{SelectPolicy: &pick, Policies: policies}
	if window >= 0 {
		r.StabilizationWindowSeconds = &window
	}
	return r
}

func policy(kind autoscalingv2.HPAScalingPolicyType, value, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: kind, Value: value, PeriodSeconds: period}
}

func shuffled(list []Pod, seed int64) []Pod {
	list = append([]Pod(nil), list...)
	rand.New(rand.NewSource(seed)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
