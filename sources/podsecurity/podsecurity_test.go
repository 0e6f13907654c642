package podsecurity

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// hard is a pod that every level lets pass; what a case says is merged into it.
const hard = `
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  initContainers: [{name: i, securityContext: &s {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
  containers: [{name: a, securityContext: *s}]
`

func read(t *testing.T, text string) *corev1.PodTemplateSpec {
	t.Helper()
	var base, over any
	for text, into := range map[string]*any{hard: &base, text: &over} {
		if err := yaml.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := yaml.Marshal(merge(base, over))
	if err != nil {
		t.Fatal(err)
	}
	template := &corev1.PodTemplateSpec{}
	if err := yaml.UnmarshalStrict(raw, template); err != nil {
		t.Fatal(err)
	}
	return template
}

// merge lays one value over another: maps by their keys, lists by their places.
func merge(base, over any) any {
	switch over := over.(type) {
	case map[string]any:
		if base, ok := base.(map[string]any); ok {
			for key, value := range over {
				base[key] = merge(base[key], value)
			}
			return base
		}
	case []any:
		if base, ok := base.([]any); ok && len(over) > 0 {
			for i := range over {
				if i == len(base) {
					base = append(base, nil)
				}
				base[i] = merge(base[i], over[i])
			}
			return base
		}
	}
	return over
}

func refused(level Level, template *corev1.PodTemplateSpec) string {
	var out []string
	for _, v := range Check(level, template, field.NewPath("metadata"), field.NewPath("spec")) {
		out = append(out, v.Path)
	}
	return strings.Join(out, " ")
}

// TestControls has a row or more for each control: what is written over the hard pod, and the fields that each
// level refuses.
func TestControls(t *testing.T) {
	t.Parallel()
	const s = "spec.containers[0].securityContext."
	for name, c := range map[string]struct{ text, baseline, restricted string }{
		"nothing":      {"{}", "", ""},
		"host process": {"spec: {securityContext: {windowsOptions: {hostProcess: true}}}", "spec.securityContext.windowsOptions.hostProcess", "+"},
		"host process of a container": {"spec: {containers: [{securityContext: {windowsOptions: {hostProcess: true}}}]}",
			s + "windowsOptions.hostProcess", "+"},
		"host namespaces": {"spec: {hostNetwork: true, hostPID: true, hostIPC: true}", "spec.hostNetwork spec.hostPID spec.hostIPC", "+"},
		"privileged": {"spec: {initContainers: [{securityContext: {privileged: true}}], containers: [{securityContext: {privileged: false}}]}",
			"spec.initContainers[0].securityContext.privileged", "+"},
		"capabilities": {"spec: {containers: [{securityContext: {capabilities: {add: [NET_BIND_SERVICE, CHOWN, NET_RAW]}}}]}",
			s + "capabilities.add[2]", s + "capabilities.add[1] " + s + "capabilities.add[2]"},
		"capabilities kept":  {"spec: {containers: [{securityContext: {capabilities: {drop: [NET_RAW]}}}]}", "", s + "capabilities.drop"},
		"host paths":         {"spec: {volumes: [{name: a, hostPath: {path: /a}}]}", "spec.volumes[0].hostPath", "+"},
		"volumes":            {"spec: {volumes: [{name: a, nfs: {server: a, path: /a}}]}", "", "spec.volumes[0]"},
		"volumes of its own": {"spec: {volumes: [{name: a}, {name: b, emptyDir: {}}, {name: c, persistentVolumeClaim: {claimName: c}}, {name: d, projected: {}}]}", "", ""},
		"host ports":         {"spec: {containers: [{ports: [{containerPort: 80}, {containerPort: 80, hostPort: 80}]}]}", "spec.containers[0].ports[1].hostPort", "+"},
		"hosts of probes": {"spec: {containers: [{livenessProbe: {httpGet: {host: a}}, readinessProbe: {tcpSocket: {host: a}}, startupProbe: {tcpSocket: {port: 1}}}]}",
			"spec.containers[0].livenessProbe.httpGet.host spec.containers[0].readinessProbe.tcpSocket.host", "+"},
		"hosts of hooks": {"spec: {containers: [{lifecycle: {postStart: {httpGet: {host: a}}, preStop: {tcpSocket: {host: a}}}}]}",
			"spec.containers[0].lifecycle.postStart.httpGet.host spec.containers[0].lifecycle.preStop.tcpSocket.host", "+"},
		"AppArmor": {"spec: {securityContext: {appArmorProfile: {type: Unconfined}}, containers: [{securityContext: {appArmorProfile: {type: Localhost}}}]}",
			"spec.securityContext.appArmorProfile.type", "+"},
		"AppArmor in annotations": {"metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/a: unconfined, container.apparmor.security.beta.kubernetes.io/b: localhost/c}}",
			"metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]", "+"},
		"SELinux": {"spec: {securityContext: {seLinuxOptions: {type: container_t, level: s0}}, containers: [{securityContext: {seLinuxOptions: {type: spc_t, user: a, role: b}}}]}",
			s + "seLinuxOptions.type " + s + "seLinuxOptions.user " + s + "seLinuxOptions.role", "+"},
		"/proc":                        {"spec: {containers: [{securityContext: {procMount: Unmasked}}]}", s + "procMount", "+"},
		"/proc in a user namespace":    {"spec: {hostUsers: false, containers: [{securityContext: {procMount: Unmasked}}]}", "", s + "procMount"},
		"seccomp":                      {"spec: {containers: [{securityContext: {seccompProfile: {type: Unconfined}}}]}", s + "seccompProfile.type", "+"},
		"seccomp of the pod":           {"spec: {securityContext: {seccompProfile: {type: Unconfined}}}", "spec.securityContext.seccompProfile.type", "+"},
		"seccomp is not said":          {"spec: {securityContext: {seccompProfile: null}, containers: [{securityContext: {seccompProfile: {type: Localhost}}}]}", "", "spec.initContainers[0].securityContext.seccompProfile.type"},
		"sysctls":                      {"spec: {securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies}, {name: net.core.somaxconn}]}}", "spec.securityContext.sysctls[1].name", "+"},
		"escalation":                   {"spec: {containers: [{securityContext: {allowPrivilegeEscalation: true}}]}", "", s + "allowPrivilegeEscalation"},
		"escalation is not said":       {"spec: {containers: [{securityContext: {allowPrivilegeEscalation: null}}]}", "", s + "allowPrivilegeEscalation"},
		"root":                         {"spec: {containers: [{securityContext: {runAsNonRoot: false}}]}", "", s + "runAsNonRoot"},
		"root in the pod":              {"spec: {securityContext: {runAsNonRoot: false}}", "", "spec.securityContext.runAsNonRoot"},
		"root is not said":             {"spec: {securityContext: {runAsNonRoot: null}, containers: [{securityContext: {runAsNonRoot: true}}]}", "", "spec.initContainers[0].securityContext.runAsNonRoot"},
		"user 0":                       {"spec: {securityContext: {runAsUser: 0}, containers: [{securityContext: {runAsUser: 0}}]}", "", "spec.securityContext.runAsUser " + s + "runAsUser"},
		"user 0 in a user namespace":   {"spec: {hostUsers: false, securityContext: {runAsUser: 0, runAsNonRoot: false}}", "", ""},
		"no security context whatever": {"spec: {securityContext: null, initContainers: [], containers: [{securityContext: null}]}", "", s + "capabilities.drop " + s + "seccompProfile.type " + s + "allowPrivilegeEscalation " + s + "runAsNonRoot"},
	} {
		template := read(t, c.text)
		if c.restricted == "+" {
			c.restricted = c.baseline
		}
		for level, want := range map[Level]string{"": "", Privileged: "", Baseline: c.baseline, Restricted: c.restricted, "misspelt": c.restricted} {
			if diff := cmp.Diff(want, refused(level, template)); diff != "" {
				t.Errorf("%s, level %q: want (-) and got (+) differ:\n%s", name, level, diff)
			}
		}
	}
}

func TestControlsHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range controls {
		if c.name == "" || seen[c.name] || c.baseline == nil && c.restricted == nil {
			t.Errorf("the control %q has no name of its own, or checks nothing", c.name)
		}
		seen[c.name] = true
	}
}

func TestParseLevel(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Level{"privileged": Privileged, "baseline": Baseline, "restricted": Restricted} {
		if got, err := ParseLevel(name); got != want || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "Baseline", "none"} {
		if got, err := ParseLevel(name); got != Restricted || err == nil {
			t.Errorf("%q: got %q, %v, want the strictest level and an error", name, got, err)
		}
	}
}

func TestIsVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"latest": true, "v1.0": true, "v1.35": true, "": false, "1.35": false, "v1.035": false, "v2.1": false, "v1.35.1": false} {
		if got := IsVersion(text); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
