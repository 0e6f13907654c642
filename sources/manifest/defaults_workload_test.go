package manifest

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/fleet"
)

// pods is a template that every kind with a selector takes, and ends one that Jobs take.
const (
	pods = `template: {metadata: {labels: {app: a}}, spec: {containers: [{name: a, image: "x:1"}]}}`
	ends = `template: {metadata: {labels: {app: a}}, spec: {restartPolicy: Never, containers: [{name: a, image: "x:1"}]}}`
)

// TestDefaultsOfWorkloads shows what is filled in around the pod template.
func TestDefaultsOfWorkloads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ written, want string }{
		"StatefulSet": {"{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {selector: {matchLabels: {app: a}}, " + pods +
			", volumeClaimTemplates: [{metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1500u}}}}]}}", `
persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
podManagementPolicy: OrderedReady
replicas: 1
revisionHistoryLimit: 10
selector: {matchLabels: {app: a}}
serviceName: ""
updateStrategy: {rollingUpdate: {partition: 0}, type: RollingUpdate}
volumeClaimTemplates: [{metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2m}}, volumeMode: Filesystem}, status: {}}]
`},
		"StatefulSet on delete": {"{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {selector: {matchLabels: {app: a}}, " + pods +
			", updateStrategy: {type: OnDelete}, persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}}}", `
persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Delete}
podManagementPolicy: OrderedReady
replicas: 1
revisionHistoryLimit: 10
selector: {matchLabels: {app: a}}
serviceName: ""
updateStrategy: {type: OnDelete}
`},
		"DaemonSet": {"{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}, spec: {selector: {matchLabels: {app: a}}, " + pods + "}}", `
revisionHistoryLimit: 10
selector: {matchLabels: {app: a}}
updateStrategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}, type: RollingUpdate}
`},
		"ReplicationController": {"{apiVersion: v1, kind: ReplicationController, metadata: {name: a}, spec: {" + pods + "}}", `
replicas: 1
selector: {matchLabels: {app: a}}
`},
		"Job": {"{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {" + ends + "}}", `
backoffLimit: 6
completionMode: NonIndexed
completions: 1
parallelism: 1
podReplacementPolicy: TerminatingOrFailed
suspend: false
`},
		"Job with a queue": {"{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {parallelism: 3, " + ends + "}}", `
backoffLimit: 6
completionMode: NonIndexed
parallelism: 3
podReplacementPolicy: TerminatingOrFailed
suspend: false
`},
		"Job with completions": {"{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {completions: 3, completionMode: Indexed, backoffLimitPerIndex: 1, " +
			"podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}, " + ends + "}}", `
backoffLimit: 2147483647
backoffLimitPerIndex: 1
completionMode: Indexed
completions: 3
parallelism: 1
podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{status: "True", type: DisruptionTarget}]}]}
podReplacementPolicy: Failed
suspend: false
`},
		"CronJob": {"{apiVersion: batch/v1, kind: CronJob, metadata: {name: a}, spec: {schedule: '@daily', jobTemplate: {spec: {" + ends + "}}}}", `
concurrencyPolicy: Allow
failedJobsHistoryLimit: 1
jobTemplate: {metadata: {}, spec: {backoffLimit: 6, completionMode: NonIndexed, completions: 1, parallelism: 1, podReplacementPolicy: TerminatingOrFailed, suspend: false}}
schedule: '@daily'
successfulJobsHistoryLimit: 3
suspend: false
`},
		"HorizontalPodAutoscaler": {"{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 3, scaleTargetRef: {kind: ReplicationController, apiVersion: v1, name: a}}}", `
maxReplicas: 3
metrics: [{resource: {name: cpu, target: {averageUtilization: 80, type: Utilization}}, type: Resource}]
minReplicas: 1
scaleTargetRef: {apiVersion: apps/v1, kind: ReplicaSet, name: a}
`},
		"HorizontalPodAutoscaler with behavior": {"{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: a}, behavior: {}}}", `
behavior:
  scaleDown: {policies: [{periodSeconds: 15, type: Percent, value: 100}], selectPolicy: Max}
  scaleUp: {policies: [{periodSeconds: 15, type: Pods, value: 4}, {periodSeconds: 15, type: Percent, value: 100}], selectPolicy: Max, stabilizationWindowSeconds: 0}
maxReplicas: 3
metrics: [{resource: {name: cpu, target: {averageUtilization: 80, type: Utilization}}, type: Resource}]
minReplicas: 1
scaleTargetRef: {kind: Deployment, name: a}
`},
		"HorizontalPodAutoscaler with half a behavior": {"{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: a}, " +
			"metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}], " +
			"behavior: {scaleUp: {stabilizationWindowSeconds: 5, policies: [{type: Pods, value: 1, periodSeconds: 1}]}, scaleDown: {selectPolicy: Disabled}}}}", `
behavior:
  scaleDown: {policies: [{periodSeconds: 15, type: Percent, value: 100}], selectPolicy: Disabled}
  scaleUp: {policies: [{periodSeconds: 1, type: Pods, value: 1}], selectPolicy: Max, stabilizationWindowSeconds: 5}
maxReplicas: 3
metrics: [{resource: {name: memory, target: {averageValue: 1Gi, type: AverageValue}}, type: Resource}]
minReplicas: 1
scaleTargetRef: {kind: Deployment, name: a}
`},
		"LimitRange": {"{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: [" +
			"{type: Container, max: {cpu: 2, memory: 1Gi}, default: {cpu: 1}, min: {memory: 1Mi, ephemeral-storage: 1}}, {type: Pod, max: {cpu: 1500u}}]}}", `
limits:
- default: {cpu: "1", memory: 1Gi}
  defaultRequest: {cpu: "1", ephemeral-storage: "1", memory: 1Gi}
  max: {cpu: "2", memory: 1Gi}
  min: {ephemeral-storage: "1", memory: 1Mi}
  type: Container
- {max: {cpu: 2m}, type: Pod}
`},
		"ResourceQuota": {"{apiVersion: v1, kind: ResourceQuota, metadata: {name: a}, spec: {hard: {cpu: 1500u, pods: 1}}}", `
hard: {cpu: 2m, pods: "1"}
`},
		"PodDisruptionBudget": {"{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a}, spec: {maxUnavailable: 1, selector: {}}}", `
maxUnavailable: 1
selector: {}
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := one(t, c.written)
			value := o.Value.DeepCopyObject()
			if inside := template(value); inside != nil {
				if inside.Spec.TerminationGracePeriodSeconds == nil {
					t.Error("the pod template has no defaults")
				}
				inside.Reset()
			}
			var got, want any
			parse(t, marshal(t, reflect.ValueOf(value).Elem().FieldByName("Spec").Interface()), &got)
			parse(t, c.want, &want)
			if diff := cmp.Diff(want, without(got)); diff != "" {
				t.Errorf("want (-) and got (+) differ:\n%s", diff)
			}
			again := o.Value.DeepCopyObject()
			if defaultObject(again); !cmp.Equal(again, o.Value) {
				t.Errorf("defaulted twice, it differs:\n%s", cmp.Diff(o.Value, again))
			}
		})
	}
}

// without takes out what pod templates leave behind when they are emptied.
func without(v any) any {
	if m, ok := v.(map[string]any); ok {
		delete(m, "template")
		for _, value := range m {
			without(value)
		}
	}
	return v
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parse(t *testing.T, text string, into *any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// TestLabelsFromTemplates: Jobs and ReplicationControllers have the labels of their pods if they have none of their own,
// and share no memory with them.
func TestLabelsFromTemplates(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {" + ends + "}}",
		"{apiVersion: v1, kind: ReplicationController, metadata: {name: a}, spec: {" + pods + "}}",
	} {
		o := one(t, text)
		labels := reflect.ValueOf(o.Value).Elem().FieldByName("Labels").Interface().(map[string]string)
		if !maps.Equal(labels, map[string]string{"app": "a"}) {
			t.Errorf("%s: got the labels %v", o.ID, labels)
		}
		labels["app"] = "changed"
		if template(o.Value).Labels["app"] != "a" || o.Template.Labels["app"] != "a" {
			t.Errorf("%s: labels are shared", o.ID)
		}
	}
}

// TestControllerIsReplicaSet: what is said of ReplicaSets holds for what was a ReplicationController.
func TestControllerIsReplicaSet(t *testing.T) {
	t.Parallel()
	o := one(t, "{apiVersion: v1, kind: ReplicationController, metadata: {name: a, annotations: {x: z}}, spec: {replicas: 2, minReadySeconds: 3, selector: {app: a}, "+pods+"}}")
	set, ok := o.Value.(*appsv1.ReplicaSet)
	if !ok || o.ID != (fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "default", Name: "a"}) {
		t.Fatalf("got %s, a %T", o.ID, o.Value)
	}
	if set.Kind != "ReplicaSet" || set.APIVersion != "apps/v1" || set.Namespace != "default" || set.Annotations["x"] != "z" ||
		*set.Spec.Replicas != 2 || set.Spec.MinReadySeconds != 3 || set.Spec.Selector.MatchLabels["app"] != "a" {
		t.Errorf("got %+v", set)
	}
	if _, ok := New(kindController); ok {
		t.Error("New makes ReplicationControllers, which no object is")
	}
}

// TestTemplateOfEveryKind: one template is one hash, whatever it stands in and whatever stands around it; it is as written.
func TestTemplateOfEveryKind(t *testing.T) {
	t.Parallel()
	hash := map[string]fleet.Hash{}
	for kind, text := range map[string]string{
		"ReplicaSet":            "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: a}, spec: {selector: {matchLabels: {app: a}}, T}}",
		"Deployment":            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {replicas: 5, selector: {matchLabels: {app: a}}, T}}",
		"StatefulSet":           "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {serviceName: a, selector: {matchLabels: {app: a}}, T}}",
		"DaemonSet":             "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}, spec: {minReadySeconds: 5, selector: {matchLabels: {app: a}}, T}}",
		"ReplicationController": "{apiVersion: v1, kind: ReplicationController, metadata: {name: a}, spec: {T}}",
		"Job":                   "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {completions: 2, T}}",
		"CronJob":               "{apiVersion: batch/v1, kind: CronJob, metadata: {name: a}, spec: {schedule: '@daily', jobTemplate: {metadata: {labels: {x: z}}, spec: {backoffLimit: 1, T}}}}",
	} {
		written := pods
		if strings.HasSuffix(kind, "Job") {
			written = ends
		}
		o := one(t, strings.Replace(text, "T}", written+"}", 1))
		if o.Template == nil || o.Hash != fleet.HashTemplate(o.Template) || o.Template.Spec.DNSPolicy != "" || o.Template.Spec.Containers[0].ImagePullPolicy != "" {
			t.Errorf("%s: got the template %+v with hash %s", kind, o.Template, o.Hash)
		}
		if before, ok := hash[written]; ok && before != o.Hash {
			t.Errorf("%s: the hash is %s, elsewhere it is %s", kind, o.Hash, before)
		}
		hash[written] = o.Hash
	}
	for _, text := range []string{
		"{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: [{type: Pod}]}}",
		"{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: a}}}",
	} {
		if o := one(t, text); o.Template != nil || o.Hash != "" {
			t.Errorf("%s has a template", o.ID)
		}
	}
}

// TestLimitRangeDefaultsInOrder: whatever a consistent LimitRange says, what is filled in keeps it consistent.
func TestLimitRangeDefaultsInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at, text := 0, []string{}
		for _, name := range []string{"min", "defaultRequest", "default", "max"} {
			at += rapid.IntRange(0, 3).Draw(t, name)
			if rapid.Bool().Draw(t, name+" is written") {
				text = append(text, name+": {cpu: "+strings.Repeat("1", 1+at)+"}")
			}
		}
		r := Read(fileOf("{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: [{type: Container, "+strings.Join(text, ", ")+"}]}}"), ".")
		if len(r.Objects) != 1 || len(r.Faults) != 0 {
			t.Fatalf("%v: %s", text, summary(r))
		}
	})
}
