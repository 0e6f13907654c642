package manifest

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/fleet"
)

// one reads a single object that must be good.
func one(t *testing.T, text string) fleet.Object {
	t.Helper()
	r := Read(fstest.MapFS{"a.yaml": {Data: []byte(text)}}, ".")
	if len(r.Objects) != 1 {
		t.Fatalf("got %d objects: %v", len(r.Objects), r.Faults)
	}
	return r.Objects[0]
}

const bareDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx
        ports: [{containerPort: 80}]
        env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {httpGet: {port: 80}}
        resources: {limits: {cpu: 100u, memory: 1Gi}}
      volumes:
      - name: e
      - {name: c, configMap: {name: c}}
      - {name: s, secret: {secretName: s}}
      - {name: h, hostPath: {path: /x}}
`

// TestDefaultsOfDeployment shows everything that is filled in.
func TestDefaultsOfDeployment(t *testing.T) {
	t.Parallel()
	got, err := yaml.Marshal(one(t, bareDeployment).Value.(*appsv1.Deployment).Spec)
	if err != nil {
		t.Fatal(err)
	}
	const want = `progressDeadlineSeconds: 600
replicas: 1
revisionHistoryLimit: 10
selector:
  matchLabels:
    app: web
strategy:
  rollingUpdate:
    maxSurge: 25%
    maxUnavailable: 25%
  type: RollingUpdate
template:
  metadata:
    labels:
      app: web
  spec:
    containers:
    - env:
      - name: A
        valueFrom:
          fieldRef:
            apiVersion: v1
            fieldPath: metadata.name
      image: nginx
      imagePullPolicy: Always
      name: web
      ports:
      - containerPort: 80
        protocol: TCP
      readinessProbe:
        failureThreshold: 3
        httpGet:
          path: /
          port: 80
          scheme: HTTP
        periodSeconds: 10
        successThreshold: 1
        timeoutSeconds: 1
      resources:
        limits:
          cpu: 1m
          memory: 1Gi
      terminationMessagePath: /dev/termination-log
      terminationMessagePolicy: File
    dnsPolicy: ClusterFirst
    enableServiceLinks: true
    restartPolicy: Always
    schedulerName: default-scheduler
    securityContext: {}
    terminationGracePeriodSeconds: 30
    volumes:
    - emptyDir: {}
      name: e
    - configMap:
        defaultMode: 420
        name: c
      name: c
    - name: s
      secret:
        defaultMode: 420
        secretName: s
    - hostPath:
        path: /x
        type: ""
      name: h
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("want (-) and got (+) differ:\n%s", diff)
	}
}

// TestTemplateIsAsWritten: what is hashed and stored has no defaults, and shares nothing with the value.
func TestTemplateIsAsWritten(t *testing.T) {
	t.Parallel()
	o := one(t, bareDeployment)
	c := o.Template.Spec.Containers[0]
	if o.Template.Spec.RestartPolicy != "" || c.ImagePullPolicy != "" || c.ReadinessProbe.PeriodSeconds != 0 {
		t.Errorf("the template has defaults: %+v", o.Template.Spec)
	}
	if o.Hash != fleet.HashTemplate(o.Template) {
		t.Error("the hash is not the template's")
	}
	o.Value.(*appsv1.Deployment).Spec.Template.Labels["app"] = "changed"
	if o.Template.Labels["app"] != "web" {
		t.Error("the template shares its labels with the value")
	}
}

func TestDefaultsOfPod(t *testing.T) {
	t.Parallel()
	o := one(t, `
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: b}, annotations: {c: d}}
spec:
  containers:
  - {name: a, image: "x:1", resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}}
  - {name: b, image: "x:1"}
`)
	pod := o.Value.(*corev1.Pod)
	requests := pod.Spec.Containers[0].Resources.Requests
	if requests.Cpu().String() != "500m" || requests.Memory().String() != "1Gi" {
		t.Errorf("got requests %v, want those missing copied from the limits", requests)
	}
	if pod.Spec.Containers[1].Resources.Requests != nil {
		t.Error("a container without limits got requests")
	}
	if pod.Namespace != "default" || pod.Kind != "Pod" || pod.APIVersion != "v1" {
		t.Errorf("got %s %s in %q", pod.APIVersion, pod.Kind, pod.Namespace)
	}
	want := map[string]string{"a": "b"}
	if !cmp.Equal(o.Template.Labels, want) || o.Template.Annotations["c"] != "d" || o.Template.Name != "" {
		t.Errorf("got the template %+v, want labels and annotations only", o.Template.ObjectMeta)
	}
}

func TestDefaultsOfOthers(t *testing.T) {
	t.Parallel()
	secret := one(t, "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: YQ==, b: Yg==}, stringData: {b: c, d: e}}").Value.(*corev1.Secret)
	if secret.Type != corev1.SecretTypeOpaque || secret.StringData != nil ||
		!cmp.Equal(secret.Data, map[string][]byte{"a": []byte("a"), "b": []byte("c"), "d": []byte("e")}) {
		t.Errorf("got %v", secret)
	}
	namespace := one(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").Value.(*corev1.Namespace)
	if namespace.Labels["kubernetes.io/metadata.name"] != "shop" {
		t.Errorf("got labels %v", namespace.Labels)
	}
	set := one(t, `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: r}, spec: {selector: {matchLabels: {a: b}},
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: x}]}}}}`).Value.(*appsv1.ReplicaSet)
	if *set.Spec.Replicas != 1 {
		t.Errorf("got %d replicas", *set.Spec.Replicas)
	}
}

func TestPullPolicy(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]corev1.PullPolicy{
		"nginx": corev1.PullAlways, "nginx:latest": corev1.PullAlways, "nginx:1": corev1.PullIfNotPresent,
		"host:5000/nginx": corev1.PullAlways, "host:5000/nginx:1": corev1.PullIfNotPresent,
		"nginx@sha256:abc": corev1.PullIfNotPresent, "nginx:latest@sha256:abc": corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("%s: got %s, want %s", image, got, want)
		}
	}
}

func TestHostNetworkPorts(t *testing.T) {
	t.Parallel()
	template := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{HostNetwork: true,
		Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}}}
	DefaultTemplate(template)
	if got := template.Spec.Containers[0].Ports[0].HostPort; got != 80 {
		t.Errorf("got hostPort %d", got)
	}
}
