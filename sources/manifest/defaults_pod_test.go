package manifest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/yaml"
)

// TestDefaultsEverywhere shows what is filled in of probes, hooks, ports and volumes, sidecars included.
func TestDefaultsEverywhere(t *testing.T) {
	t.Parallel()
	spec := one(t, `
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostNetwork: true
  serviceAccount: robot
  initContainers:
  - name: side
    image: x:1
    restartPolicy: Always
    ports: [{containerPort: 81}]
    startupProbe: {grpc: {port: 81}, failureThreshold: 30}
    lifecycle: {preStop: {httpGet: {port: 81}}}
    resources: {limits: {memory: 1Gi}}
  containers:
  - name: a
    image: x:1
    ports: [{containerPort: 80}]
    livenessProbe: {httpGet: {port: 80, path: /ok, scheme: HTTPS}, timeoutSeconds: 5}
    lifecycle: {postStart: {sleep: {seconds: 1}}}
  volumes:
  - {name: c, persistentVolumeClaim: {claimName: c}}
  - {name: d, downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}]}}
  - {name: p, projected: {sources: [{downwardAPI: {items: [{path: b, fieldRef: {fieldPath: metadata.name}}]}}, {configMap: {name: c}}]}}
`).Value.(*corev1.Pod).Spec
	got, err := yaml.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	const want = `containers:
- image: x:1
  imagePullPolicy: IfNotPresent
  lifecycle:
    postStart:
      sleep:
        seconds: 1
  livenessProbe:
    failureThreshold: 3
    httpGet:
      path: /ok
      port: 80
      scheme: HTTPS
    periodSeconds: 10
    successThreshold: 1
    timeoutSeconds: 5
  name: a
  ports:
  - containerPort: 80
    hostPort: 80
    protocol: TCP
  resources: {}
  terminationMessagePath: /dev/termination-log
  terminationMessagePolicy: File
dnsPolicy: ClusterFirst
enableServiceLinks: true
hostNetwork: true
initContainers:
- image: x:1
  imagePullPolicy: IfNotPresent
  lifecycle:
    preStop:
      httpGet:
        path: /
        port: 81
        scheme: HTTP
  name: side
  ports:
  - containerPort: 81
    hostPort: 81
    protocol: TCP
  resources:
    limits:
      memory: 1Gi
    requests:
      memory: 1Gi
  restartPolicy: Always
  startupProbe:
    failureThreshold: 30
    grpc:
      port: 81
      service: ""
    periodSeconds: 10
    successThreshold: 1
    timeoutSeconds: 1
  terminationMessagePath: /dev/termination-log
  terminationMessagePolicy: File
restartPolicy: Always
schedulerName: default-scheduler
securityContext: {}
serviceAccount: robot
serviceAccountName: robot
terminationGracePeriodSeconds: 30
volumes:
- name: c
  persistentVolumeClaim:
    claimName: c
- downwardAPI:
    defaultMode: 420
    items:
    - fieldRef:
        apiVersion: v1
        fieldPath: metadata.name
      path: a
  name: d
- name: p
  projected:
    defaultMode: 420
    sources:
    - downwardAPI:
        items:
        - fieldRef:
            apiVersion: v1
            fieldPath: metadata.name
          path: b
    - configMap:
        name: c
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("want (-) and got (+) differ:\n%s", diff)
	}
}

func TestDefaultsOfStorage(t *testing.T) {
	t.Parallel()
	claim := one(t, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: c},
  spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1500u}}}}`)
	spec := claim.Value.(*corev1.PersistentVolumeClaim).Spec
	if *spec.VolumeMode != corev1.PersistentVolumeFilesystem || spec.StorageClassName != nil || spec.Resources.Requests.Storage().String() != "2m" {
		t.Errorf("got %+v, want the mode Filesystem, no class, and a size rounded up", spec)
	}
	if claim.Template != nil || claim.Hash != "" || claim.ID.Namespace != "default" {
		t.Errorf("got %+v, want a claim in the namespace default, without a template", claim)
	}
	class := one(t, "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: c}, provisioner: a}")
	if o := class.Value.(*storagev1.StorageClass); *o.ReclaimPolicy != corev1.PersistentVolumeReclaimDelete || *o.VolumeBindingMode != storagev1.VolumeBindingImmediate {
		t.Errorf("got %+v, want Delete and Immediate", o)
	}
	if class.ID.Namespace != "" {
		t.Errorf("got %s, want no namespace", class.ID)
	}
}
