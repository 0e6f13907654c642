package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// resource is one kind as the Kubernetes API names it.
type resource struct {
	prefix     string // /api/v1 or /apis/apps/v1
	plural     string
	kind       string
	namespaced bool
	list       lister
}

// lister is what lists the objects of a kind, in all namespaces.
type lister func(view *reconcile.View, desired fleet.Desired, nodes []fleet.Node) []metav1.Object

const (
	core        = "/api/v1"
	apps        = "/apis/apps/v1"
	batch       = "/apis/batch/v1"
	autoscaling = "/apis/autoscaling/v2"
	policy      = "/apis/policy/v1"
	discovery   = "/apis/discovery.k8s.io/v1"
	scheduling  = "/apis/scheduling.k8s.io/v1"
	networking  = "/apis/networking.k8s.io/v1"
)

var resources = []resource{
	{core, "namespaces", fleet.KindNamespace, false, listNamespaces},
	{core, "nodes", fleet.KindNode, false, seen((*reconcile.View).Nodes)},
	{core, "pods", fleet.KindPod, true, seen((*reconcile.View).Pods)},
	{core, "persistentvolumeclaims", fleet.KindPersistentVolumeClaim, true, seen((*reconcile.View).Claims)},
	{core, "configmaps", fleet.KindConfigMap, true, listConfigMaps},
	{core, "secrets", fleet.KindSecret, true, listSecrets},
	{core, "services", fleet.KindService, true, seen((*reconcile.View).Services)},
	{discovery, "endpointslices", fleet.KindEndpointSlice, true, seen((*reconcile.View).EndpointSlices)},
	{networking, "networkpolicies", fleet.KindNetworkPolicy, true, seen((*reconcile.View).NetworkPolicies)},
	{core, "resourcequotas", fleet.KindQuota, true, seen((*reconcile.View).Quotas)},
	{core, "limitranges", fleet.KindLimitRange, true, seen((*reconcile.View).LimitRanges)},
	{scheduling, "priorityclasses", fleet.KindPriorityClass, false, seen((*reconcile.View).PriorityClasses)},
	{apps, "deployments", fleet.KindDeployment, true, seen((*reconcile.View).Deployments)},
	{apps, "replicasets", fleet.KindReplicaSet, true, seen((*reconcile.View).ReplicaSets)},
	{apps, "statefulsets", fleet.KindStatefulSet, true, seen((*reconcile.View).StatefulSets)},
	{apps, "daemonsets", fleet.KindDaemonSet, true, seen((*reconcile.View).DaemonSets)},
	{apps, "controllerrevisions", fleet.KindRevision, true, seen((*reconcile.View).ControllerRevisions)},
	{batch, "jobs", fleet.KindJob, true, seen((*reconcile.View).Jobs)},
	{batch, "cronjobs", fleet.KindCronJob, true, seen((*reconcile.View).CronJobs)},
	{autoscaling, "horizontalpodautoscalers", fleet.KindAutoscaler, true, seen((*reconcile.View).Autoscalers)},
	{policy, "poddisruptionbudgets", fleet.KindDisruptionBudget, true, seen((*reconcile.View).DisruptionBudgets)},
}

// seen lists what a view has of a kind.
func seen[T any, P interface {
	*T
	metav1.Object
}](of func(*reconcile.View) []T) lister {
	return func(v *reconcile.View, _ fleet.Desired, _ []fleet.Node) []metav1.Object {
		list := of(v)
		out := make([]metav1.Object, len(list))
		for i := range list {
			out[i] = P(&list[i])
		}
		return out
	}
}

func listConfigMaps(_ *reconcile.View, d fleet.Desired, _ []fleet.Node) []metav1.Object {
	var list []metav1.Object
	for o, m := range fleet.Each[*corev1.ConfigMap](d) {
		m = m.DeepCopy()
		m.APIVersion, m.Kind = "v1", fleet.KindConfigMap
		reconcile.Mark(&m.ObjectMeta, o.Source, o.Revision)
		list = append(list, m)
	}
	return list
}

// listSecrets has what Secrets are called, never what is in them.
func listSecrets(_ *reconcile.View, d fleet.Desired, _ []fleet.Node) []metav1.Object {
	var list []metav1.Object
	for o, s := range fleet.Each[*corev1.Secret](d) {
		bare := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: fleet.KindSecret}, ObjectMeta: *s.ObjectMeta.DeepCopy(), Type: s.Type, Immutable: s.Immutable}
		reconcile.Mark(&bare.ObjectMeta, o.Source, o.Revision)
		list = append(list, bare)
	}
	return list
}

// listNamespaces has those of the sources, and those that something is in without any saying so.
func listNamespaces(v *reconcile.View, d fleet.Desired, _ []fleet.Node) []metav1.Object {
	var list []metav1.Object
	seen := map[string]bool{}
	for o, n := range fleet.Each[*corev1.Namespace](d) {
		n = n.DeepCopy()
		n.APIVersion, n.Kind = "v1", fleet.KindNamespace
		n.Status.Phase = corev1.NamespaceActive
		reconcile.Mark(&n.ObjectMeta, o.Source, o.Revision)
		seen[n.Name] = true
		list = append(list, n)
	}
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name] = true
			list = append(list, &corev1.Namespace{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: fleet.KindNamespace},
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name}},
				Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
			})
		}
	}
	add("default")
	for _, o := range d.Objects {
		add(o.ID.Namespace)
	}
	for _, p := range v.Pods() {
		add(p.Namespace)
	}
	return list
}
