package manifest

import (
	"maps"
	"math"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

func defaultController(o *corev1.ReplicationController) {
	fill(&o.Spec.Replicas, 1)
	if o.Spec.Template == nil {
		return
	}
	if len(o.Spec.Selector) == 0 {
		o.Spec.Selector = maps.Clone(o.Spec.Template.Labels)
	}
	if len(o.Labels) == 0 {
		o.Labels = maps.Clone(o.Spec.Template.Labels)
	}
	DefaultTemplate(o.Spec.Template)
}

// replicaSetOf is the ReplicaSet that a ReplicationController is, its template as written.
func replicaSetOf(o *corev1.ReplicationController) *appsv1.ReplicaSet {
	set := &appsv1.ReplicaSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: kinds[fleet.KindReplicaSet].apiVersion, Kind: fleet.KindReplicaSet},
		ObjectMeta: *o.ObjectMeta.DeepCopy(),
	}
	set.Spec.Replicas, set.Spec.MinReadySeconds = o.Spec.Replicas, o.Spec.MinReadySeconds
	selector := o.Spec.Selector
	if t := o.Spec.Template; t != nil {
		set.Spec.Template = *t.DeepCopy()
		if len(selector) == 0 {
			selector = t.Labels
		}
		if len(set.Labels) == 0 {
			set.Labels = maps.Clone(t.Labels)
		}
	}
	set.Spec.Selector = &metav1.LabelSelector{MatchLabels: maps.Clone(selector)}
	return set
}

func defaultStatefulSet(s *appsv1.StatefulSetSpec) {
	fill(&s.Replicas, 1)
	fill(&s.RevisionHistoryLimit, 10)
	fillZero(&s.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	fillZero(&s.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
	if s.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		fill(&s.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
		fill(&s.UpdateStrategy.RollingUpdate.Partition, 0)
	}
	fill(&s.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	fillZero(&s.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	fillZero(&s.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	for i := range s.VolumeClaimTemplates {
		defaultClaim(&s.VolumeClaimTemplates[i].Spec)
	}
	DefaultTemplate(&s.Template)
}

func defaultDaemonSet(s *appsv1.DaemonSetSpec) {
	fill(&s.RevisionHistoryLimit, 10)
	fillZero(&s.UpdateStrategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if s.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		fill(&s.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		fill(&s.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		fill(&s.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	DefaultTemplate(&s.Template)
}

const (
	usualBackoffLimit = 6
	jobController     = batchv1.JobControllerName
)

func defaultJob(s *batchv1.JobSpec) {
	if s.Completions == nil && s.Parallelism == nil {
		fill(&s.Completions, 1)
	}
	fill(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		fill(&s.BackoffLimit, math.MaxInt32)
	}
	fill(&s.BackoffLimit, usualBackoffLimit)
	fill(&s.CompletionMode, batchv1.NonIndexedCompletion)
	fill(&s.Suspend, false)
	if s.PodFailurePolicy != nil {
		fill(&s.PodReplacementPolicy, batchv1.Failed)
		for _, rule := range s.PodFailurePolicy.Rules {
			for i := range rule.OnPodConditions {
				fillZero(&rule.OnPodConditions[i].Status, corev1.ConditionTrue)
			}
		}
	}
	fill(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	DefaultTemplate(&s.Template)
}

func defaultCronJob(s *batchv1.CronJobSpec) {
	fillZero(&s.ConcurrencyPolicy, batchv1.AllowConcurrent)
	fill(&s.Suspend, false)
	fill(&s.SuccessfulJobsHistoryLimit, 3)
	fill(&s.FailedJobsHistoryLimit, 1)
	defaultJob(&s.JobTemplate.Spec)
}

const usualUtilization int32 = 80

// defaultAutoscaler also calls what it sizes by the name that Skerry has for it.
func defaultAutoscaler(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
	fill(&s.MinReplicas, 1)
	if len(s.Metrics) == 0 {
		target := autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType}
		fill(&target.AverageUtilization, usualUtilization)
		s.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: target}}}
	}
	if s.ScaleTargetRef.Kind == kindController {
		s.ScaleTargetRef.Kind, s.ScaleTargetRef.APIVersion = fleet.KindReplicaSet, kinds[fleet.KindReplicaSet].apiVersion
	}
	if s.Behavior == nil { // as in Kubernetes: what is not written at all is up to the controller
		return
	}
	percent := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}
	pods := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}
	fill(&s.Behavior.ScaleUp, autoscalingv2.HPAScalingRules{})
	fill(&s.Behavior.ScaleUp.StabilizationWindowSeconds, 0)
	defaultScaling(s.Behavior.ScaleUp, pods, percent)
	fill(&s.Behavior.ScaleDown, autoscalingv2.HPAScalingRules{})
	defaultScaling(s.Behavior.ScaleDown, percent)
}

func defaultScaling(r *autoscalingv2.HPAScalingRules, policies ...autoscalingv2.HPAScalingPolicy) {
	fill(&r.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if r.Policies == nil { // an empty list is a mistake, not a wish for the usual
		r.Policies = policies
	}
}

// defaultLimits fills in what containers get, from what they may have.
func defaultLimits(list []corev1.LimitRangeItem) {
	for i := range list {
		l := &list[i]
		for _, of := range []corev1.ResourceList{l.Max, l.Min, l.Default, l.DefaultRequest, l.MaxLimitRequestRatio} {
			roundUp(of)
		}
		if l.Type == corev1.LimitTypeContainer {
			l.Default = missing(l.Default, l.Max)
			l.DefaultRequest = missing(missing(l.DefaultRequest, l.Default), l.Min)
		}
	}
}

// missing adds to a list what it lacks of another one.
func missing(list, other corev1.ResourceList) corev1.ResourceList {
	for name, q := range other {
		if _, ok := list[name]; !ok {
			if list == nil {
				list = corev1.ResourceList{}
			}
			list[name] = q.DeepCopy()
		}
	}
	return list
}
