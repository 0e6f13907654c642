package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// treatment is what Skerry does with a field that is set.
type treatment int

const (
	done    treatment = iota // as Kubernetes does
	refused                  // the object is not taken: running it without would do harm
	noted                    // the object is taken and the field has no effect
)

// podField says what happens to one field of a PodSpec. A path that ends in /... stands for everything
// below it too; [] stands for any index.
type podField struct {
	path      string
	treatment treatment
	text      string // instead of the usual words for refused and noted
	quiet     string // values, divided by blanks, that ask for what happens anyway
}

const (
	ready     = "has no effect yet: the pod counts as ready while its containers run"
	place     = "has no effect yet: pods run on the one node there is"
	account   = "has no effect: there are no service accounts"
	noStorage = "has no effect: disk space is not accounted for"
)

// podFields has every field of corev1.PodSpec; a test compares it with the type. Paths are below the spec.
var podFields = []podField{
	{path: "volumes[].name"},
	{path: "volumes[].hostPath/..."},
	{path: "volumes[].emptyDir.medium", treatment: refused, quiet: "Memory"},
	{path: "volumes[].emptyDir.sizeLimit"},
	{path: "volumes[].secret/..."},
	{path: "volumes[].configMap/..."},
	{path: "volumes[].gcePersistentDisk/...", treatment: refused},
	{path: "volumes[].awsElasticBlockStore/...", treatment: refused},
	{path: "volumes[].gitRepo/...", treatment: refused},
	{path: "volumes[].nfs/...", treatment: refused},
	{path: "volumes[].iscsi/...", treatment: refused},
	{path: "volumes[].glusterfs/...", treatment: refused},
	{path: "volumes[].persistentVolumeClaim/...", treatment: refused},
	{path: "volumes[].rbd/...", treatment: refused},
	{path: "volumes[].flexVolume/...", treatment: refused},
	{path: "volumes[].cinder/...", treatment: refused},
	{path: "volumes[].cephfs/...", treatment: refused},
	{path: "volumes[].flocker/...", treatment: refused},
	{path: "volumes[].downwardAPI/...", treatment: refused},
	{path: "volumes[].fc/...", treatment: refused},
	{path: "volumes[].azureFile/...", treatment: refused},
	{path: "volumes[].vsphereVolume/...", treatment: refused},
	{path: "volumes[].quobyte/...", treatment: refused},
	{path: "volumes[].azureDisk/...", treatment: refused},
	{path: "volumes[].photonPersistentDisk/...", treatment: refused},
	{path: "volumes[].projected/...", treatment: refused},
	{path: "volumes[].portworxVolume/...", treatment: refused},
	{path: "volumes[].scaleIO/...", treatment: refused},
	{path: "volumes[].storageos/...", treatment: refused},
	{path: "volumes[].csi/...", treatment: refused},
	{path: "volumes[].ephemeral/...", treatment: refused},
	{path: "volumes[].image/...", treatment: refused},

	{path: "initContainers/...", treatment: refused},
	{path: "ephemeralContainers/...", treatment: refused},

	{path: "containers[].name"},
	{path: "containers[].image"},
	{path: "containers[].command"},
	{path: "containers[].args"},
	{path: "containers[].workingDir"},
	{path: "containers[].ports/..."},
	{path: "containers[].envFrom/..."},
	{path: "containers[].env[].name"},
	{path: "containers[].env[].value"},
	{path: "containers[].env[].valueFrom.fieldRef/..."},
	{path: "containers[].env[].valueFrom.resourceFieldRef/..."},
	{path: "containers[].env[].valueFrom.configMapKeyRef/..."},
	{path: "containers[].env[].valueFrom.secretKeyRef/..."},
	{path: "containers[].env[].valueFrom.fileKeyRef/...", treatment: refused},
	{path: "containers[].resources.limits"},
	{path: "containers[].resources.requests"},
	{path: "containers[].resources.claims/...", treatment: refused},
	{path: "containers[].resizePolicy/...", treatment: noted, text: "has no effect: pods are not resized in place"},
	{path: "containers[].restartPolicy", treatment: refused},
	{path: "containers[].restartPolicyRules/...", treatment: refused},
	{path: "containers[].volumeMounts[].name"},
	{path: "containers[].volumeMounts[].readOnly"},
	{path: "containers[].volumeMounts[].recursiveReadOnly", treatment: refused, quiet: "Disabled IfPossible"},
	{path: "containers[].volumeMounts[].mountPath"},
	{path: "containers[].volumeMounts[].subPath", treatment: refused},
	{path: "containers[].volumeMounts[].mountPropagation", treatment: refused, quiet: "None"},
	{path: "containers[].volumeMounts[].subPathExpr", treatment: refused},
	{path: "containers[].volumeDevices/...", treatment: refused},
	{path: "containers[].livenessProbe/...", treatment: noted, text: "has no effect yet: the container is not probed"},
	{path: "containers[].readinessProbe/...", treatment: noted, text: ready},
	{path: "containers[].startupProbe/...", treatment: noted, text: ready},
	{path: "containers[].lifecycle/...", treatment: refused},
	{path: "containers[].terminationMessagePath", treatment: noted, quiet: "/dev/termination-log"},
	{path: "containers[].terminationMessagePolicy", treatment: noted, quiet: "File"},
	{path: "containers[].imagePullPolicy"},
	{path: "containers[].securityContext.capabilities/..."},
	{path: "containers[].securityContext.privileged"},
	{path: "containers[].securityContext.seLinuxOptions/...", treatment: refused},
	{path: "containers[].securityContext.windowsOptions/...", treatment: refused},
	{path: "containers[].securityContext.runAsUser"},
	{path: "containers[].securityContext.runAsGroup"},
	{path: "containers[].securityContext.runAsNonRoot"}, // with conditions: see users
	{path: "containers[].securityContext.readOnlyRootFilesystem"},
	{path: "containers[].securityContext.allowPrivilegeEscalation"},
	{path: "containers[].securityContext.procMount", treatment: refused, quiet: "Default"},
	{path: "containers[].securityContext.seccompProfile.type"},
	{path: "containers[].securityContext.seccompProfile.localhostProfile", treatment: refused},
	{path: "containers[].securityContext.appArmorProfile.type", treatment: refused, quiet: "RuntimeDefault"},
	{path: "containers[].securityContext.appArmorProfile.localhostProfile", treatment: refused},
	{path: "containers[].stdin"},
	{path: "containers[].stdinOnce", treatment: noted},
	{path: "containers[].tty"},

	{path: "restartPolicy"},
	{path: "terminationGracePeriodSeconds"},
	{path: "activeDeadlineSeconds", treatment: refused},
	{path: "dnsPolicy", treatment: refused, quiet: "ClusterFirst ClusterFirstWithHostNet Default"},
	{path: "nodeSelector", treatment: noted, text: place},
	{path: "serviceAccountName", treatment: noted, text: account, quiet: "default"},
	{path: "serviceAccount", treatment: noted, text: account, quiet: "default"},
	{path: "automountServiceAccountToken", treatment: noted, text: account, quiet: "false"},
	{path: "nodeName", treatment: noted, text: place},
	{path: "hostNetwork", treatment: refused},
	{path: "hostPID", treatment: refused},
	{path: "hostIPC", treatment: refused},
	{path: "shareProcessNamespace", treatment: refused, quiet: "false"},
	{path: "securityContext.seLinuxOptions/...", treatment: refused},
	{path: "securityContext.windowsOptions/...", treatment: refused},
	{path: "securityContext.runAsUser"},
	{path: "securityContext.runAsGroup"},
	{path: "securityContext.runAsNonRoot"}, // with conditions: see users
	{path: "securityContext.supplementalGroups"},
	{path: "securityContext.supplementalGroupsPolicy", treatment: refused, quiet: "Merge"},
	{path: "securityContext.fsGroup", treatment: refused},
	{path: "securityContext.sysctls/...", treatment: refused},
	{path: "securityContext.fsGroupChangePolicy", treatment: noted},
	{path: "securityContext.seccompProfile.type"},
	{path: "securityContext.seccompProfile.localhostProfile", treatment: refused},
	{path: "securityContext.appArmorProfile.type", treatment: refused, quiet: "RuntimeDefault"},
	{path: "securityContext.appArmorProfile.localhostProfile", treatment: refused},
	{path: "securityContext.seLinuxChangePolicy", treatment: noted},
	{path: "imagePullSecrets/...", treatment: refused},
	{path: "hostname"},
	{path: "subdomain", treatment: noted, text: "has no effect yet: there is no DNS for pods"},
	{path: "affinity/...", treatment: noted, text: place},
	{path: "schedulerName", treatment: noted, text: place, quiet: "default-scheduler"},
	{path: "tolerations/...", treatment: noted, text: place},
	{path: "hostAliases/..."},
	{path: "priorityClassName", treatment: noted, text: place},
	{path: "priority", treatment: noted, text: place},
	{path: "dnsConfig/...", treatment: refused},
	{path: "readinessGates/...", treatment: noted, text: ready},
	{path: "runtimeClassName", treatment: refused},
	{path: "enableServiceLinks", treatment: noted, quiet: "true false"}, // no Services yet, hence no variables of theirs
	{path: "preemptionPolicy", treatment: noted, text: place, quiet: "PreemptLowerPriority"},
	{path: "overhead", treatment: noted},
	{path: "topologySpreadConstraints/...", treatment: noted, text: place},
	{path: "setHostnameAsFQDN", treatment: refused, quiet: "false"},
	{path: "os.name", treatment: refused, quiet: "linux"},
	{path: "hostUsers", treatment: refused, quiet: "true"},
	{path: "schedulingGates/...", treatment: refused},
	{path: "resourceClaims/...", treatment: refused},
	{path: "resources/...", treatment: refused},
	{path: "hostnameOverride", treatment: refused},
	{path: "workloadRef/...", treatment: noted, text: place},
}

// podRule finds the entry for a path; whole says that it stands for everything below.
func podRule(path string) (rule podField, whole, ok bool) {
	for _, f := range podFields {
		if f.path == path {
			return f, false, true
		}
		if base, isWhole := strings.CutSuffix(f.path, "/..."); isWhole && base == path {
			return f, true, true
		}
	}
	return podField{}, false, false
}

// podCheck reports the fields of a pod spec as written that are not done.
func podCheck(spec *corev1.PodSpec, path string) []problem {
	c := fieldCheck{}
	c.visit(reflect.ValueOf(spec).Elem(), "", path)
	c.users(spec, path)
	c.resources(spec, path)
	c.disks(spec, path)
	return c.problems
}

type fieldCheck struct{ problems []problem }

func (c *fieldCheck) say(t treatment, path, text string) {
	switch {
	case t == refused && text == "":
		text = "is not done yet: the object is left out"
	case t == noted && text == "":
		text = "has no effect yet"
	}
	why := Warning
	if t == refused {
		why = NotRun
	}
	c.problems = append(c.problems, problem{path: path, kind: why, text: text})
}

// visit looks at what is set in a struct. General is its path in the table, exact the one in the object.
func (c *fieldCheck) visit(v reflect.Value, general, exact string) {
	for i := range v.NumField() {
		name := jsonName(v.Type().Field(i))
		if name == "" {
			c.visit(v.Field(i), general, exact)
			continue
		}
		c.field(v.Field(i), join(general, name), join(exact, name))
	}
}

func (c *fieldCheck) field(v reflect.Value, general, exact string) {
	if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return
	}
	if rule, _, ok := podRule(general); ok {
		if rule.treatment != done && !slices.Contains(strings.Fields(rule.quiet), fmt.Sprint(reflect.Indirect(v))) {
			c.say(rule.treatment, exact, rule.text)
		}
		return
	}
	if v = reflect.Indirect(v); v.Kind() == reflect.Slice {
		for i := range v.Len() {
			c.visit(v.Index(i), general+"[]", fmt.Sprintf("%s[%d]", exact, i))
		}
		return
	}
	c.visit(v, general, exact)
}

// users lets runAsNonRoot and runAsGroup pass where they can be done without a look into the image: where a
// user is set, for runAsNonRoot one that is not root.
func (c *fieldCheck) users(spec *corev1.PodSpec, path string) {
	pod := spec.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	for i := range spec.Containers {
		own := spec.Containers[i].SecurityContext
		if own == nil {
			own = &corev1.SecurityContext{}
		}
		at, must, user := path+".securityContext.runAsNonRoot", pod.RunAsNonRoot, pod.RunAsUser
		if own.RunAsNonRoot != nil {
			at, must = fmt.Sprintf("%s.containers[%d].securityContext.runAsNonRoot", path, i), own.RunAsNonRoot
		}
		if own.RunAsUser != nil {
			user = own.RunAsUser
		}
		if must != nil && *must && (user == nil || *user == 0) {
			c.say(refused, at, fmt.Sprintf("cannot be checked yet for container %q: set runAsUser to a user other than 0", spec.Containers[i].Name))
		}
		at, group := path+".securityContext.runAsGroup", pod.RunAsGroup
		if own.RunAsGroup != nil {
			at, group = fmt.Sprintf("%s.containers[%d].securityContext.runAsGroup", path, i), own.RunAsGroup
		}
		if group != nil && user == nil { // Podman would take root for the user, whatever the image says
			c.say(refused, at, fmt.Sprintf("cannot be done yet without a user for container %q: set runAsUser, too", spec.Containers[i].Name))
		}
	}
}

// resources looks at what is asked for beside CPU and memory.
func (c *fieldCheck) resources(spec *corev1.PodSpec, path string) {
	for i := range spec.Containers {
		at := fmt.Sprintf("%s.containers[%d].resources", path, i)
		r := spec.Containers[i].Resources
		for name, list := range map[string]corev1.ResourceList{"limits": r.Limits, "requests": r.Requests} {
			for resource := range list {
				switch resource {
				case corev1.ResourceCPU, corev1.ResourceMemory:
				case corev1.ResourceEphemeralStorage:
					c.say(noted, keyed(at+"."+name, string(resource)), noStorage)
				default:
					c.say(refused, keyed(at+"."+name, string(resource)), "")
				}
			}
		}
	}
}

// disks notes limits that are kept only in memory.
func (c *fieldCheck) disks(spec *corev1.PodSpec, path string) {
	for i := range spec.Volumes {
		if e := spec.Volumes[i].EmptyDir; e != nil && e.SizeLimit != nil && e.Medium == corev1.StorageMediumDefault {
			c.say(noted, fmt.Sprintf("%s.volumes[%d].emptyDir.sizeLimit", path, i), noStorage)
		}
	}
}
