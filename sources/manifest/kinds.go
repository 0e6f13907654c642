package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-dev/skerry/fleet"
)

// kind is one that Skerry runs.
type kind struct {
	apiVersion string
	global     bool // has no namespace
	empty      func() runtime.Object
}

// kinds are the kinds that Skerry runs, by name.
var kinds = map[string]kind{
	fleet.KindNamespace:             {"v1", true, func() runtime.Object { return new(corev1.Namespace) }},
	fleet.KindConfigMap:             {"v1", false, func() runtime.Object { return new(corev1.ConfigMap) }},
	fleet.KindSecret:                {"v1", false, func() runtime.Object { return new(corev1.Secret) }},
	fleet.KindServiceAccount:        {"v1", false, func() runtime.Object { return new(corev1.ServiceAccount) }},
	fleet.KindStorageClass:          {"storage.k8s.io/v1", true, func() runtime.Object { return new(storagev1.StorageClass) }},
	fleet.KindPersistentVolumeClaim: {"v1", false, func() runtime.Object { return new(corev1.PersistentVolumeClaim) }},
	fleet.KindPod:                   {"v1", false, func() runtime.Object { return new(corev1.Pod) }},
	fleet.KindReplicaSet:            {"apps/v1", false, func() runtime.Object { return new(appsv1.ReplicaSet) }},
	fleet.KindDeployment:            {"apps/v1", false, func() runtime.Object { return new(appsv1.Deployment) }},
	fleet.KindStatefulSet:           {"apps/v1", false, func() runtime.Object { return new(appsv1.StatefulSet) }},
	fleet.KindDaemonSet:             {"apps/v1", false, func() runtime.Object { return new(appsv1.DaemonSet) }},
	fleet.KindJob:                   {"batch/v1", false, func() runtime.Object { return new(batchv1.Job) }},
	fleet.KindCronJob:               {"batch/v1", false, func() runtime.Object { return new(batchv1.CronJob) }},
	fleet.KindAutoscaler:            {"autoscaling/v2", false, func() runtime.Object { return new(autoscalingv2.HorizontalPodAutoscaler) }},
	fleet.KindDisruptionBudget:      {"policy/v1", false, func() runtime.Object { return new(policyv1.PodDisruptionBudget) }},
	fleet.KindQuota:                 {"v1", false, func() runtime.Object { return new(corev1.ResourceQuota) }},
	fleet.KindService:               {"v1", false, func() runtime.Object { return new(corev1.Service) }},
	fleet.KindEndpoints:             {"v1", false, func() runtime.Object { return new(corev1.Endpoints) }}, //nolint:staticcheck // deprecated, and still written
	fleet.KindEndpointSlice:         {"discovery.k8s.io/v1", false, func() runtime.Object { return new(discoveryv1.EndpointSlice) }},
	fleet.KindNetworkPolicy:         {"networking.k8s.io/v1", false, func() runtime.Object { return new(networkingv1.NetworkPolicy) }},
	fleet.KindNode:                  {"v1", true, func() runtime.Object { return new(corev1.Node) }},
	fleet.KindPriorityClass:         {"scheduling.k8s.io/v1", true, func() runtime.Object { return new(schedulingv1.PriorityClass) }},
	fleet.KindLimitRange:            {"v1", false, func() runtime.Object { return new(corev1.LimitRange) }},
	kindController:                  {"v1", false, func() runtime.Object { return new(corev1.ReplicationController) }},
}

// kindController is how a ReplicaSet was called before it had its name. It is read and checked by its own rules, and
// becomes the ReplicaSet that it is.
const kindController = "ReplicationController"

// New is an empty object of a kind that Skerry runs, as Object.Value has it; ok is false for every other kind. No
// object is a ReplicationController: those become ReplicaSets when they are read.
func New(kind string) (o runtime.Object, ok bool) {
	k, ok := kinds[kind]
	if !ok || kind == kindController {
		return nil, false
	}
	return k.empty(), true
}

// later are the kinds that Skerry will run, by name with their API group.
var later = map[string]string{
	"PersistentVolume": "", "PodTemplate": "",
	"ControllerRevision": "apps",
	"Ingress":            "networking.k8s.io", "IngressClass": "networking.k8s.io",
}

// former are the API groups in which kinds of today used to be.
var former = map[string]bool{"extensions": true, "apps": true, "batch": true, "policy": true}

// unknownKind says in a sentence why a kind is not taken, and whether that is a mistake of the user's.
func unknownKind(apiVersion, name string) (FaultKind, string) {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		group = ""
	}
	if name == fleet.KindAutoscaler && apiVersion == "autoscaling/v1" {
		return Error, "HorizontalPodAutoscaler is not read in autoscaling/v1: write apiVersion: autoscaling/v2, with a metric of type Resource for targetCPUUtilizationPercentage"
	}
	if k, ok := kinds[name]; ok && (former[group] || group == "" || strings.HasPrefix(k.apiVersion, group+"/")) {
		return Error, fmt.Sprintf("%s is not in %s: write apiVersion: %s", name, apiVersion, k.apiVersion)
	}
	if home, ok := later[name]; ok && (home == group || former[group]) {
		return NotRun, fmt.Sprintf("%s is not run yet: the object is left out", name)
	}
	if near := nearestKind(name); near != "" && (group == "" || former[group]) {
		return Error, fmt.Sprintf("unknown kind %q, did you mean %q?", name, near)
	}
	return NotRun, fmt.Sprintf("%s (%s) is not run by Skerry: the object is left out", name, apiVersion)
}

// nearestKind returns the kind that is taken and that a name misspells, or nothing.
func nearestKind(name string) string {
	if _, ok := kinds[name]; ok {
		return ""
	}
	return nearest(name, slices.Sorted(maps.Keys(kinds)))
}
