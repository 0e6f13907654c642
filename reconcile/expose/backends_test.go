package expose_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

func TestBackends(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	declares := func(init bool, restart *corev1.ContainerRestartPolicy, number int32, protocol corev1.Protocol) change {
		return func(p *expose.Pod) {
			c := corev1.Container{Name: "x", RestartPolicy: restart, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: number, Protocol: protocol}}}
			p.Spec.Spec.Containers = nil
			if init {
				p.Spec.Spec.InitContainers = []corev1.Container{c}
			} else {
				p.Spec.Spec.Containers = []corev1.Container{c}
			}
		}
	}
	named := ports(port("web", 80, "http", corev1.ProtocolTCP))
	for _, test := range []struct {
		name string
		svc  *corev1.Service
		pods []expose.Pod
		want string
	}{
		{"nobody", service("a"), nil, ""},
		{"serving is ready", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1")}, "10.0.0.1 ready serving :TCP/8080"},
		{"not ready", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1", sick)}, "10.0.0.1 :TCP/8080\n- pod p is not ready"},
		{"no condition", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1", func(p *expose.Pod) { p.Status.Conditions = nil })}, "10.0.0.1 :TCP/8080\n- pod p is not ready"},
		{"ready and being deleted", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1", draining)}, "10.0.0.1 serving terminating :TCP/8080\n- pod p is being stopped"},
		{"unready and being deleted", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1", sick, draining)}, "10.0.0.1 terminating :TCP/8080\n- pod p is being stopped"},
		{"published before ready", service("a", unready), []expose.Pod{pod("p", "a", "10.0.0.1", sick)}, "10.0.0.1 ready :TCP/8080"},
		{"published while it goes", service("a", unready), []expose.Pod{pod("p", "a", "10.0.0.1", draining)}, "10.0.0.1 ready serving terminating :TCP/8080"},
		{"failed", service("a", unready), []expose.Pod{pod("p", "a", "10.0.0.1", phase(corev1.PodFailed))}, "- pod p has ended"},
		{"succeeded", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1", phase(corev1.PodSucceeded))}, "- pod p has ended"},
		{"no address", service("a", unready), []expose.Pod{pod("p", "a", "")}, "- pod p has no address yet"},
		{"one address only", service("a"), []expose.Pod{pod("p", "a", "", func(p *expose.Pod) { p.Status.PodIP = "10.0.0.1" })}, "10.0.0.1 ready serving :TCP/8080"},
		{"others", service("a"), []expose.Pod{pod("p", "b", "10.0.0.1"), pod("q", "a", "10.0.0.2", func(p *expose.Pod) { p.Slot.Pod.Namespace = "kube" })}, ""},
		{"without a template", service("a"), []expose.Pod{{Slot: fleet.Slot{}}}, ""},
		{"all labels", service("a", func(s *corev1.Service) { s.Spec.Selector["tier"] = "x" }),
			[]expose.Pod{pod("p", "a", "10.0.0.1"), pod("q", "a", "10.0.0.2", func(p *expose.Pod) { p.Spec.Labels["tier"] = "x" })}, "10.0.0.2 ready serving :TCP/8080"},
		{"a name, as each pod has it", service("a", named), []expose.Pod{pod("p", "a", "10.0.0.1"), pod("q", "a", "10.0.0.2", declares(false, nil, 7, ""))},
			"10.0.0.1 ready serving web:TCP/9000\n10.0.0.2 ready serving web:TCP/7"},
		{"a name of a sidecar", service("a", named), []expose.Pod{pod("p", "a", "10.0.0.1", declares(true, &always, 7, corev1.ProtocolTCP))}, "10.0.0.1 ready serving web:TCP/7"},
		{"a name of an init container", service("a", named), []expose.Pod{pod("p", "a", "10.0.0.1", declares(true, nil, 7, corev1.ProtocolTCP))},
			"10.0.0.1 ready serving\n- pod p has no container port named http (TCP)"},
		{"a name of another protocol", service("a", named), []expose.Pod{pod("p", "a", "10.0.0.1", declares(false, nil, 7, corev1.ProtocolUDP))},
			"10.0.0.1 ready serving\n- pod p has no container port named http (TCP)"},
		{"a name nobody has, twice", service("a", ports(port("x", 80, "x", ""), port("y", 81, "x", ""))), []expose.Pod{pod("p", "a", "10.0.0.1")},
			"10.0.0.1 ready serving\n- pod p has no container port named x (TCP)"},
		{"no target", service("a", ports(corev1.ServicePort{Port: 53, Protocol: corev1.ProtocolUDP})), []expose.Pod{pod("p", "a", "10.0.0.1")}, "10.0.0.1 ready serving :UDP/53"},
		{"both families", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1 fd00::1")}, "10.0.0.1 ready serving :TCP/8080\nfd00::1 ready serving :TCP/8080"},
		{"one family", service("a", families("", corev1.IPv6Protocol)), []expose.Pod{pod("p", "a", "10.0.0.1 fd00::1")}, "fd00::1 ready serving :TCP/8080"},
		{"the address's family", service("a", ip("10.96.0.20")), []expose.Pod{pod("p", "a", "10.0.0.1 fd00::1")}, "10.0.0.1 ready serving :TCP/8080"},
		{"the other family", service("a", families("", corev1.IPv6Protocol)), []expose.Pod{pod("p", "a", "10.0.0.1")}, "- pod p has no address of an IP family that the Service has"},
		{"preferred", service("a", families(corev1.IPFamilyPolicyPreferDualStack, corev1.IPv6Protocol)), []expose.Pod{pod("p", "a", "10.0.0.1")}, "10.0.0.1 ready serving :TCP/8080"},
		{"irregular addresses", service("a"), []expose.Pod{pod("p", "a", "::ffff:10.0.0.1 nonsense")}, "10.0.0.1 ready serving :TCP/8080"},
		{"a hostname", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1", host("h", "a"))}, "10.0.0.1 ready serving :TCP/8080 as h"},
		{"a hostname of another", service("a"), []expose.Pod{pod("p", "a", "10.0.0.1", host("h", "b"))}, "10.0.0.1 ready serving :TCP/8080"},
		{"headless without ports", service("a", headless, ports()), []expose.Pod{pod("p", "a", "10.0.0.1")}, "10.0.0.1 ready serving"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := expose.Backends(desiredOf(test.svc), test.pods)
			if len(got) != 1 {
				t.Fatalf("%d backends", len(got))
			}
			if d := cmp.Diff(test.want, textOf(got[0])); d != "" {
				t.Error(d)
			}
		})
	}
	if got := expose.Backends(desiredOf(service("a", alias("b.example"))), []expose.Pod{pod("p", "a", "10.0.0.1")}); len(got) > 0 {
		t.Errorf("of an ExternalName: %v", got)
	}
}

func sliceOf(name, of string, kind discoveryv1.AddressType, list ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	web, number := "web", int32(80)
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		AddressType: kind, Endpoints: list, Ports: []discoveryv1.EndpointPort{{Name: &web, Port: &number}, {}},
	}
}

func TestBackendsByHand(t *testing.T) {
	yes, no, h, node := true, false, "h", "a"
	//nolint:staticcheck // deprecated, and supported
	old := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"}, Subsets: []corev1.EndpointSubset{{
		Addresses:         []corev1.EndpointAddress{{IP: "192.0.2.1", Hostname: "h", NodeName: &node}},
		NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.2"}},
		Ports:             []corev1.EndpointPort{{Name: "web", Port: 81}},
	}}}
	skipped := old.DeepCopy()
	skipped.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	v4 := func(list ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return sliceOf("s", "a", discoveryv1.AddressTypeIPv4, list...)
	}
	end := func(ready, serving, terminating *bool, addrs ...string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: addrs, Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}, NodeName: &node}
	}
	for _, test := range []struct {
		name    string
		objects []runtime.Object
		want    string
	}{
		{"nothing", nil, ""},
		{"Endpoints", []runtime.Object{old}, "192.0.2.1 ready serving web:TCP/81 as h\n192.0.2.2 web:TCP/81\n- endpoint 192.0.2.2 is said to be not ready"},
		{"Endpoints that are not mirrored", []runtime.Object{skipped}, ""},
		{"a slice that says little", []runtime.Object{v4(end(nil, nil, nil, "192.0.2.1", "192.0.2.9"))}, "192.0.2.1 ready serving web:TCP/80"},
		{"a slice that says much", []runtime.Object{v4(end(&no, &yes, &yes, "192.0.2.1"))}, "192.0.2.1 serving terminating web:TCP/80\n- endpoint 192.0.2.1 is said to be not ready"},
		{"a hostname", []runtime.Object{v4(discoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}, Hostname: &h})}, "192.0.2.1 ready serving web:TCP/80 as h"},
		{"two slices, one twice", []runtime.Object{v4(end(nil, nil, nil, "192.0.2.1")), sliceOf("t", "a", "IPv6", end(nil, nil, nil, "fd00::1")), sliceOf("u", "a", "IPv4", end(nil, nil, nil, "192.0.2.1"))},
			"192.0.2.1 ready serving web:TCP/80\nfd00::1 ready serving web:TCP/80"},
		{"of another", []runtime.Object{sliceOf("s", "b", "IPv4", end(nil, nil, nil, "192.0.2.1"))}, ""},
		{"hosts", []runtime.Object{sliceOf("s", "a", discoveryv1.AddressTypeFQDN, end(nil, nil, nil, "example.org"))}, "- EndpointSlice s names hosts: only addresses are served"},
		{"nonsense", []runtime.Object{v4(end(nil, nil, nil, "x"), end(nil, nil, nil))}, `- endpoint "x" is no address`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := expose.Backends(desiredOf(append(test.objects, service("a", byhand))...), []expose.Pod{pod("p", "a", "10.0.0.1")})
			if d := cmp.Diff(test.want, textOf(got[0])); d != "" {
				t.Error(d)
			}
			if got := expose.Backends(desiredOf(append(test.objects, service("a"))...), nil); textOf(got[0]) != "" {
				t.Errorf("with a selector: %s", textOf(got[0]))
			}
		})
	}
	one := service("a", byhand, families("", corev1.IPv4Protocol))
	got := expose.Backends(desiredOf(one, sliceOf("s", "a", "IPv6", end(nil, nil, nil, "fd00::1"))), nil)
	if d := cmp.Diff("- endpoint fd00::1 is not of an IP family that the Service has", textOf(got[0])); d != "" {
		t.Error(d)
	}
}
