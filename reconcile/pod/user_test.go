package pod_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-dev/skerry/reconcile/pod"
)

// TestUser is runAsUser, runAsGroup and runAsNonRoot of pod and container, and the image's user (semantics 2.9).
func TestUser(t *testing.T) {
	const refused = "non-root"
	for _, test := range []struct {
		name, pod, container, image string
		want, err                   string
		asks                        bool // the image has to be looked at
	}{
		{name: "nothing said"},
		{name: "nothing said, whatever the image", image: "web"},
		{name: "nothing said, the image is root", image: "0"},
		{name: "the pod's user", pod: "runAsUser: 1000", want: "1000"},
		{name: "the container's user", container: "runAsUser: 1000", want: "1000"},
		{name: "the container's over the pod's", pod: "runAsUser: 1000", container: "runAsUser: 2000", want: "2000"},
		{name: "root over the pod's", pod: "runAsUser: 1000", container: "runAsUser: 0", want: "0"},
		{name: "a user over the image's", container: "runAsUser: 1000", image: "web:staff", want: "1000"},
		{name: "user and group", container: "{runAsUser: 1000, runAsGroup: 3000}", want: "1000:3000"},
		{name: "field by field", pod: "{runAsUser: 1000, runAsGroup: 3000}", container: "runAsUser: 2000", want: "2000:3000"},
		{name: "field by field, the group", pod: "{runAsUser: 1000, runAsGroup: 3000}", container: "runAsGroup: 4000", want: "1000:4000"},
		{name: "group of the image's user", pod: "runAsGroup: 3000", image: "web", want: "web:3000", asks: true},
		{name: "group instead of the image's", pod: "runAsGroup: 3000", image: "1000:2000", want: "1000:3000", asks: true},
		{name: "group of an image without a user", pod: "runAsGroup: 3000", want: "0:3000", asks: true},
		{name: "group 0", container: "{runAsUser: 1000, runAsGroup: 0}", want: "1000:0"},

		{name: "not root, a user", container: "{runAsNonRoot: true, runAsUser: 1000}", want: "1000"},
		{name: "not root, a user, whatever the image", container: "{runAsNonRoot: true, runAsUser: 1000}", image: "root", want: "1000"},
		{name: "not root, root", container: "{runAsNonRoot: true, runAsUser: 0}", err: refused},
		{name: "not root, root, whatever the image", container: "{runAsNonRoot: true, runAsUser: 0}", image: "1000", err: refused},
		{name: "not root, the image has a number", container: "runAsNonRoot: true", image: "1000", asks: true},
		{name: "not root, the image has a number and a group", container: "runAsNonRoot: true", image: "1000:0", asks: true},
		{name: "not root, the image is 0", container: "runAsNonRoot: true", image: "0", err: "will run as root", asks: true},
		{name: "not root, the image is 0 with a group", container: "runAsNonRoot: true", image: "0:1000", err: "will run as root", asks: true},
		{name: "not root, the image is 00", container: "runAsNonRoot: true", image: "00", err: "will run as root", asks: true},
		{name: "not root, the image says nothing", container: "runAsNonRoot: true", err: "will run as root", asks: true},
		{name: "not root, the image says a group alone", container: "runAsNonRoot: true", image: ":1000", err: "will run as root", asks: true},
		{name: "not root, the image has a name", container: "runAsNonRoot: true", image: "web", err: "non-numeric user (web)", asks: true},
		{name: "not root, the image has a name and a group", container: "runAsNonRoot: true", image: "web:1000", err: "non-numeric user (web)", asks: true},
		{name: "not root, the image is root by name", container: "runAsNonRoot: true", image: "root", err: "non-numeric user (root)", asks: true},
		{name: "not root, of the pod", pod: "runAsNonRoot: true", image: "0", err: "will run as root", asks: true},
		{name: "not root, of the pod, a user of the container", pod: "runAsNonRoot: true", container: "runAsUser: 5", want: "5"},
		{name: "not root, of the pod, root of the container", pod: "runAsNonRoot: true", container: "runAsUser: 0", err: refused},
		{name: "not root, of the container, root of the pod", pod: "runAsUser: 0", container: "runAsNonRoot: true", err: refused},
		{name: "the container allows root again", pod: "runAsNonRoot: true", container: "runAsNonRoot: false", image: "0"},
		{name: "not root with a group", container: "{runAsNonRoot: true, runAsGroup: 5}", image: "1000", want: "1000:5", asks: true},
		{name: "not root with a group, the image has a name", container: "{runAsNonRoot: true, runAsGroup: 5}", image: "web", err: "non-numeric", asks: true},
		{name: "false is as nothing", container: "runAsNonRoot: false", image: "web"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec, c := &corev1.Pod{}, &corev1.Container{}
			if test.pod != "" {
				spec.Spec.SecurityContext = decode[corev1.PodSecurityContext](t, test.pod)
			}
			if test.container != "" {
				c.SecurityContext = decode[corev1.SecurityContext](t, test.container)
			}
			got, err := pod.User(spec, c, test.image)
			switch {
			case test.err == "" && (err != nil || got != test.want):
				t.Errorf("User = %q, %v, want %q", got, err, test.want)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("User = %q, %v, want an error with %q", got, err, test.err)
			}
			if asks := pod.NeedsImageUser(spec, c); asks != test.asks {
				t.Errorf("NeedsImageUser = %t", asks)
			}
		})
	}
}

// TestOOMScore: on a machine of 8 GB (semantics 2.9).
func TestOOMScore(t *testing.T) {
	const memory = 8_000_000_000
	for _, test := range []struct {
		name, spec string
		memory     int64
		want       int // of the first container, or of the first initial one when there is one
	}{
		{"best effort", `{containers: [{name: a}]}`, memory, 1000},
		{"guaranteed", `{containers: [{name: a, resources: {limits: {cpu: 1, memory: 4G}}}]}`, memory, -997},
		{"guaranteed, written twice", `{containers: [{name: a, resources: {limits: {cpu: 1, memory: 4G}, requests: {cpu: 1, memory: 4G}}}]}`, memory, -997},
		{"cpu alone", `{containers: [{name: a, resources: {requests: {cpu: 100m}}}]}`, memory, 999},
		{"half of the machine", `{containers: [{name: a, resources: {requests: {memory: 4G}}}]}`, memory, 500},
		{"an eighth", `{containers: [{name: a, resources: {requests: {memory: 1G}}}]}`, memory, 875},
		{"a limit alone is a request", `{containers: [{name: a, resources: {limits: {memory: 4G}}}]}`, memory, 500},
		{"the request counts, not the limit", `{containers: [{name: a, resources: {requests: {memory: 1G}, limits: {memory: 4G}}}]}`, memory, 875},
		{"nearly nothing", `{containers: [{name: a, resources: {requests: {memory: 1}}}]}`, memory, 999},
		{"nearly all", `{containers: [{name: a, resources: {requests: {memory: 7999M}}}]}`, memory, 3},
		{"all", `{containers: [{name: a, resources: {requests: {memory: 8G}}}]}`, memory, 3},
		{"more than all", `{containers: [{name: a, resources: {requests: {memory: 80G}}}]}`, memory, 3},
		{"so much that a product overflows", `{containers: [{name: a, resources: {requests: {memory: 4Ei}}}]}`, 8 << 60 >> 1, 3},
		{"a container without a request in a burstable pod", `{containers: [{name: a}, {name: b, resources: {requests: {memory: 1G}}}]}`, memory, 999},
		{"a limited one in a burstable pod", `{containers: [{name: a, resources: {limits: {cpu: 1, memory: 4G}}}, {name: b}]}`, memory, 500},
		{"an unknown machine", `{containers: [{name: a, resources: {requests: {memory: 4G}}}]}`, 0, 999},
		{"initial ones make the class", `{initContainers: [{name: i}], containers: [{name: a, resources: {limits: {cpu: 1, memory: 4G}}}]}`, memory, 999},
		{"initial ones have a score of their own", `{initContainers: [{name: i, resources: {requests: {memory: 2G}}}], containers: [{name: a}]}`, memory, 750},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := &corev1.Pod{Spec: *decode[corev1.PodSpec](t, test.spec)}
			c := &spec.Spec.Containers[0]
			if len(spec.Spec.InitContainers) > 0 {
				c = &spec.Spec.InitContainers[0]
			}
			if got := pod.OOMScore(spec, c, test.memory); got != test.want {
				t.Errorf("score %d, want %d", got, test.want)
			}
		})
	}
}

// The share of the machine is taken in whole thousandths, rounded down, and then taken off 1000.
func TestOOMScoreRounds(t *testing.T) {
	for request, want := range map[string]int{"1G": 667, "2G": 334, "10M": 997, "1M": 999} {
		c := corev1.Container{Name: "a", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"memory": resource.MustParse(request)}}}
		spec := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}
		if got := pod.OOMScore(spec, &c, 3_000_000_000); got != want {
			t.Errorf("%s of 3G: score %d, want %d", request, got, want)
		}
	}
}

// TestQOSOfInitial: initial containers count for the class as all others do.
func TestQOSOfInitial(t *testing.T) {
	const full = `resources: {limits: {cpu: 1, memory: 1Gi}}`
	for _, test := range []struct {
		name, spec string
		want       corev1.PodQOSClass
	}{
		{"all have all", `{initContainers: [{name: i, ` + full + `}], containers: [{name: a, ` + full + `}]}`, corev1.PodQOSGuaranteed},
		{"an initial one has none", `{initContainers: [{name: i}], containers: [{name: a, ` + full + `}]}`, corev1.PodQOSBurstable},
		{"only an initial one has some", `{initContainers: [{name: i, ` + full + `}], containers: [{name: a}]}`, corev1.PodQOSBurstable},
		{"a sidecar has none", `{initContainers: [{name: s, restartPolicy: Always}], containers: [{name: a, ` + full + `}]}`, corev1.PodQOSBurstable},
		{"nobody has any", `{initContainers: [{name: i}], containers: [{name: a}]}`, corev1.PodQOSBestEffort},
		{"other resources do not count", `{containers: [{name: a, resources: {limits: {ephemeral-storage: 1Gi}}}]}`, corev1.PodQOSBestEffort},
		{"other resources beside", `{containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi, ephemeral-storage: 1Gi}}}]}`, corev1.PodQOSGuaranteed},
		{"memory limited, cpu asked for", `{containers: [{name: a, resources: {limits: {memory: 1Gi}, requests: {cpu: 1}}}]}`, corev1.PodQOSBurstable},
		{"a request of zero", `{containers: [{name: a, resources: {requests: {cpu: 0}}}]}`, corev1.PodQOSBestEffort},
		{"limits of two, equal requests of one", `{containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1}}}]}`, corev1.PodQOSGuaranteed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := pod.QOSClass(&corev1.Pod{Spec: *decode[corev1.PodSpec](t, test.spec)}); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestSubPath: what a mount shows of its volume (semantics 2.7).
func TestSubPath(t *testing.T) {
	env := map[string]string{"NAME": "web-1", "UP": "..", "ROOT": "/etc", "DEEP": "a/b", "SNEAKY": "a/../..", "EMPTY": "", "DOTS": "...", "SLASH": "a/"}
	for _, test := range []struct{ name, mount, want, err string }{
		{name: "all of it", mount: `{mountPath: /x}`},
		{name: "plain", mount: `{mountPath: /x, subPath: a/b}`, want: "a/b"},
		{name: "plain is not expanded", mount: `{mountPath: /x, subPath: $(NAME)}`, want: "$(NAME)"},
		{name: "a variable", mount: `{mountPath: /x, subPathExpr: $(NAME)}`, want: "web-1"},
		{name: "a variable in the midst", mount: `{mountPath: /x, subPathExpr: logs/$(NAME)/x}`, want: "logs/web-1/x"},
		{name: "two variables", mount: `{mountPath: /x, subPathExpr: $(DEEP)/$(NAME)}`, want: "a/b/web-1"},
		{name: "no variable", mount: `{mountPath: /x, subPathExpr: logs}`, want: "logs"},
		{name: "escaped", mount: `{mountPath: /x, subPathExpr: $$(NAME)}`, want: "$(NAME)"},
		{name: "an empty value", mount: `{mountPath: /x, subPathExpr: a$(EMPTY)b}`, want: "ab"},
		{name: "three dots are a name", mount: `{mountPath: /x, subPathExpr: $(DOTS)}`, want: "..."},
		{name: "dots in a name", mount: `{mountPath: /x, subPathExpr: a..$(NAME)}`, want: "a..web-1"},
		{name: "missing", mount: `{mountPath: /x, subPathExpr: $(NOBODY)}`, err: "no variable NOBODY"},
		{name: "two missing", mount: `{mountPath: /x, subPathExpr: $(A)/$(NAME)/$(B)}`, err: "no variable A, B"},
		{name: "up", mount: `{mountPath: /x, subPathExpr: $(UP)}`, err: ".. in it"},
		{name: "up behind", mount: `{mountPath: /x, subPathExpr: a/$(UP)/b}`, err: ".. in it"},
		{name: "up in a value", mount: `{mountPath: /x, subPathExpr: $(SNEAKY)}`, err: ".. in it"},
		{name: "up at the end", mount: `{mountPath: /x, subPathExpr: $(SLASH)$(UP)}`, err: ".. in it"},
		{name: "absolute", mount: `{mountPath: /x, subPathExpr: $(ROOT)}`, err: "begins with a slash"},
		{name: "absolute because nothing is before it", mount: `{mountPath: /x, subPathExpr: "$(EMPTY)/etc"}`, err: "begins with a slash"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := pod.SubPath(decode[corev1.VolumeMount](t, test.mount), env)
			switch {
			case test.err == "" && (err != nil || got != test.want):
				t.Errorf("SubPath = %q, %v, want %q", got, err, test.want)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("SubPath = %q, %v, want an error with %q", got, err, test.err)
			}
		})
	}
}
