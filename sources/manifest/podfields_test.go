package manifest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// paths lists the fields of a type down to those without fields of their own; a path in whole is not gone
// into.
func paths(t reflect.Type, path string, whole func(string) bool) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if path != "" && whole(path) {
		return []string{path + "/..."}
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
		return paths(t.Elem(), path+"[]", whole)
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return []string{path}
	}
	var out []string
	for i := range t.NumField() {
		next := path
		if name := jsonName(t.Field(i)); name != "" {
			next = join(path, name)
		}
		out = append(out, paths(t.Field(i).Type, next, whole)...)
	}
	return out
}

// complete holds a table against its type: no field of a new k8s.io/api may be forgotten, and no entry may
// name what does not exist.
func complete(t *testing.T, table fieldTable, of reflect.Type) {
	t.Helper()
	listed := map[string]bool{}
	for _, f := range table {
		if listed[f.path] {
			t.Errorf("%s stands twice in the table of %s", f.path, of.Name())
		}
		listed[f.path] = true
	}
	actual := map[string]bool{}
	whole := func(path string) bool {
		_, whole, ok := table.rule(path)
		return ok && whole
	}
	for _, path := range paths(of, "", whole) {
		actual[path] = true
		if _, _, ok := table.rule(strings.TrimSuffix(path, "/...")); !ok {
			t.Errorf("%s is missing in the table of %s: decide what is done with it", path, of.Name())
		}
	}
	for path := range listed {
		if !actual[path] {
			t.Errorf("%s is in the table, and no field of a %s", path, of.Name())
		}
	}
}

func TestPodFieldsComplete(t *testing.T) {
	t.Parallel()
	complete(t, podFields, reflect.TypeFor[corev1.PodSpec]())
}

func TestOtherFieldsComplete(t *testing.T) {
	t.Parallel()
	complete(t, claimFields, reflect.TypeFor[corev1.PersistentVolumeClaimSpec]())
	complete(t, classFields, reflect.TypeFor[storagev1.StorageClass]())
	complete(t, accountFields, reflect.TypeFor[corev1.ServiceAccount]())
	complete(t, budgetFields, reflect.TypeFor[policyv1.PodDisruptionBudgetSpec]())
	complete(t, quotaFields, reflect.TypeFor[corev1.ResourceQuotaSpec]())
	complete(t, nodeFields, reflect.TypeFor[corev1.NodeSpec]())
	complete(t, limitRangeFields, reflect.TypeFor[corev1.LimitRangeSpec]())
}

// TestServiceFieldsComplete does the same for the kinds of Services. What its tables have as a whole is listed at the end.
func TestServiceFieldsComplete(t *testing.T) {
	t.Parallel()
	complete(t, serviceFields, reflect.TypeFor[corev1.ServiceSpec]())
	complete(t, endpointsFields, reflect.TypeFor[corev1.Endpoints]()) //nolint:staticcheck // deprecated, and still written
	complete(t, endpointSliceFields, reflect.TypeFor[discoveryv1.EndpointSlice]())
	complete(t, networkPolicyFields, reflect.TypeFor[networkingv1.NetworkPolicySpec]())
	for _, c := range []struct {
		of   reflect.Type
		want string
	}{
		{reflect.TypeFor[corev1.EndpointAddress](), "ip hostname nodeName targetRef"},
		{reflect.TypeFor[corev1.EndpointPort](), "name port protocol appProtocol"},
		{reflect.TypeFor[discoveryv1.EndpointHints](), "forZones forNodes"},
		{reflect.TypeFor[networkingv1.NetworkPolicyPort](), "protocol port endPort"},
		{reflect.TypeFor[networkingv1.NetworkPolicyPeer](), "podSelector namespaceSelector ipBlock"},
		{reflect.TypeFor[networkingv1.IPBlock](), "cidr except"},
		{reflect.TypeFor[corev1.Service](), "kind apiVersion metadata spec status"},
		{reflect.TypeFor[networkingv1.NetworkPolicy](), "kind apiVersion metadata spec"},
	} {
		if got := strings.Join(members(c.of), " "); got != c.want {
			t.Errorf("%s has the fields %s, and %s are looked at", c.of.Name(), got, c.want)
		}
	}
}

// TestInitContainersAreContainers: an init container is treated as other containers are, but for what makes it
// a sidecar.
func TestInitContainersAreContainers(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]treatment{
		"initContainers[].restartPolicy": done, "containers[].restartPolicy": refused,
		"initContainers[].volumeDevices": refused, "initContainers[].stdinOnce": noted, "initContainers[].livenessProbe": done,
	} {
		if rule, _, ok := podFields.rule(path); !ok || rule.treatment != want {
			t.Errorf("%s: got the entry %+v (found: %v), want treatment %d", path, rule, ok, want)
		}
	}
	if _, _, ok := podFields.rule("initContainers[].other"); ok {
		t.Error("a field that no container has is in the table")
	}
}

// TestWorkloadFieldsComplete does the same for the kinds around the pod. Of those listed at the end all fields are done: a
// new one must be looked at.
func TestWorkloadFieldsComplete(t *testing.T) {
	t.Parallel()
	complete(t, statefulSetFields, reflect.TypeFor[appsv1.StatefulSetSpec]())
	complete(t, daemonSetFields, reflect.TypeFor[appsv1.DaemonSetSpec]())
	complete(t, jobFields, reflect.TypeFor[batchv1.JobSpec]())
	complete(t, cronJobFields, reflect.TypeFor[batchv1.CronJobSpec]())
	complete(t, autoscalerFields, reflect.TypeFor[autoscalingv2.HorizontalPodAutoscalerSpec]())
	for _, c := range []struct {
		of   reflect.Type
		want string
	}{
		{reflect.TypeFor[appsv1.DeploymentSpec](), "replicas selector template strategy minReadySeconds revisionHistoryLimit paused progressDeadlineSeconds"},
		{reflect.TypeFor[appsv1.DeploymentStrategy](), "type rollingUpdate"},
		{reflect.TypeFor[appsv1.RollingUpdateDeployment](), "maxUnavailable maxSurge"},
		{reflect.TypeFor[appsv1.ReplicaSetSpec](), "replicas minReadySeconds selector template"},
		{reflect.TypeFor[corev1.ReplicationControllerSpec](), "replicas minReadySeconds selector template"},
		{reflect.TypeFor[autoscalingv2.MetricTarget](), "type value averageValue averageUtilization"},
		{reflect.TypeFor[autoscalingv2.HPAScalingPolicy](), "type value periodSeconds"},
		{reflect.TypeFor[corev1.PodTemplateSpec](), "metadata spec"},
		{reflect.TypeFor[corev1.Node](), "kind apiVersion metadata spec status"},
		{reflect.TypeFor[schedulingv1.PriorityClass](), "kind apiVersion metadata value globalDefault description preemptionPolicy"},
		{reflect.TypeFor[corev1.ConfigMap](), "kind apiVersion metadata immutable data binaryData"},
		{reflect.TypeFor[corev1.PersistentVolumeClaim](), "kind apiVersion metadata spec status"},
		{reflect.TypeFor[corev1.Secret](), "kind apiVersion metadata immutable data stringData type"},
	} {
		if got := strings.Join(members(c.of), " "); got != c.want {
			t.Errorf("%s has the fields %s, and %s are looked at", c.of.Name(), got, c.want)
		}
	}
}
