package expose_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/expose"
)

const source fleet.SourceName = "shop"

// desiredOf is what one source wants. Objects are in the order of their IDs, in whatever order they are given.
func desiredOf(values ...runtime.Object) fleet.Desired {
	d := fleet.Desired{Revisions: map[fleet.SourceName]fleet.Revision{source: "1"}}
	for _, v := range values {
		m := v.(metav1.Object)
		kind := strings.TrimPrefix(fmt.Sprintf("%T", v), "*v1.")
		d.Objects = append(d.Objects, fleet.Object{
			ID: fleet.ObjectID{Kind: kind, Namespace: m.GetNamespace(), Name: m.GetName()}, Source: source, Value: v,
		})
	}
	slices.SortFunc(d.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) })
	return d
}

func id(name string) fleet.ObjectID {
	return fleet.ObjectID{Kind: fleet.KindService, Namespace: "default", Name: name}
}

type edit func(*corev1.Service)

// service selects pods with app: <name> and has a port 80.
func service(name string, edits ...edit) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	s.Spec.Selector = map[string]string{"app": name}
	s.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}}
	for _, e := range edits {
		e(s)
	}
	return s
}

func port(name string, number int32, target string, protocol corev1.Protocol) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.Parse(target), Protocol: protocol}
}

func ports(list ...corev1.ServicePort) edit { return func(s *corev1.Service) { s.Spec.Ports = list } }
func headless(s *corev1.Service)            { ip(corev1.ClusterIPNone)(s) }
func byhand(s *corev1.Service)              { s.Spec.Selector = nil }
func unready(s *corev1.Service)             { s.Spec.PublishNotReadyAddresses = true }
func nodePort(s *corev1.Service)            { s.Spec.Type = corev1.ServiceTypeNodePort }
func balanced(s *corev1.Service)            { s.Spec.Type = corev1.ServiceTypeLoadBalancer }

func alias(to string) edit {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, to }
}

func ip(addrs ...string) edit {
	return func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = addrs[0], addrs }
}

func families(policy corev1.IPFamilyPolicy, list ...corev1.IPFamily) edit {
	return func(s *corev1.Service) {
		s.Spec.IPFamilies = list
		if policy != "" {
			s.Spec.IPFamilyPolicy = &policy
		}
	}
}

func internal(p corev1.ServiceInternalTrafficPolicy) edit {
	return func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &p }
}

func external(p corev1.ServiceExternalTrafficPolicy) edit {
	return func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = p }
}

func externalIPs(list ...string) edit { return func(s *corev1.Service) { s.Spec.ExternalIPs = list } }

type change func(*expose.Pod)

// pod runs on node a with app: <app>, is ready and has the addresses.
func pod(name, app, addrs string, changes ...change) expose.Pod {
	p := expose.Pod{Node: "a", Spec: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": app}}}}
	p.Slot.Pod, p.Slot.UID, p.Slot.Goal = fleet.PodID{Namespace: "default", Name: name}, "uid-"+name, fleet.Run
	p.Spec.Spec.Containers = []corev1.Container{{Name: "main", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 9000, Protocol: corev1.ProtocolTCP}}}}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, a := range strings.Fields(addrs) {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	for _, c := range changes {
		c(&p)
	}
	return p
}

func sick(p *expose.Pod)     { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func draining(p *expose.Pod) { p.Slot.Goal = fleet.Drain }
func on(node fleet.NodeName) change {
	return func(p *expose.Pod) { p.Node = node }
}

func phase(phase corev1.PodPhase) change { return func(p *expose.Pod) { p.Status.Phase = phase } }

func host(hostname, subdomain string) change {
	return func(p *expose.Pod) { p.Spec.Spec.Hostname, p.Spec.Spec.Subdomain = hostname, subdomain }
}

func settings(prefixes ...string) fleet.NetworkSettings {
	s := fleet.NetworkSettings{Services: true, Domain: "cluster.local"}
	for _, p := range prefixes {
		s.Addrs = append(s.Addrs, netip.MustParsePrefix(p))
	}
	return s
}

// given is an exposure with those addresses.
func given(name string, addrs ...string) fleet.Exposure {
	e := fleet.Exposure{ID: id(name), Source: source}
	for _, a := range addrs {
		e.Addrs = append(e.Addrs, netip.MustParseAddr(a))
	}
	return e
}

// textOf is a backend as tables have it.
func textOf(b expose.Backend) string {
	var lines []string
	for _, e := range b.Endpoints {
		line := e.Addr.String()
		for _, is := range []struct {
			set  bool
			word string
		}{{e.Ready, "ready"}, {e.Serving, "serving"}, {e.Terminating, "terminating"}} {
			if is.set {
				line += " " + is.word
			}
		}
		for _, p := range e.Ports {
			line += fmt.Sprintf(" %s:%s/%d", p.Name, p.Protocol, p.Number)
		}
		if e.Hostname != "" {
			line += " as " + e.Hostname
		}
		lines = append(lines, line)
	}
	for _, o := range b.Out {
		lines = append(lines, "- "+o.Why)
	}
	return strings.Join(lines, "\n")
}

// frontText is a front as tables have it.
func frontText(f fleet.Front) string {
	addr := "*"
	if f.Addr.IsValid() {
		addr = f.Addr.String()
	}
	line := fmt.Sprintf("%s %s/%d", addr, f.Protocol, f.Number)
	if f.From != nil {
		line += fmt.Sprintf(" from %v", f.From)
	}
	if f.Masquerade {
		line += " masquerade"
	}
	if f.Sticky > 0 {
		line += " sticky " + f.Sticky.String()
	}
	if f.Verdict != fleet.Serve {
		line += " " + string(f.Verdict)
	}
	for _, e := range f.Ends {
		line += " " + netip.AddrPortFrom(e.Addr, e.Port).String()
	}
	return line
}

func noteTexts(notes []fleet.Note) string {
	var lines []string
	for _, n := range notes {
		lines = append(lines, n.About.Name+": "+n.Text)
	}
	return strings.Join(lines, "\n")
}

func values(d fleet.Desired) []runtime.Object {
	var list []runtime.Object
	for _, o := range d.Objects {
		list = append(list, o.Value)
	}
	return list
}

// addrs lets cmp look at addresses.
var addrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func netipPrefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }
