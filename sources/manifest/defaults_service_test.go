package manifest

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// served is the one object of a text, where Services are served.
func served(t *testing.T, text string) fleet.Object {
	t.Helper()
	r := Policy{}.Read(fileOf(text), ".")
	if len(r.Objects) != 1 {
		t.Fatalf("got %d objects: %v", len(r.Objects), r.Faults)
	}
	return r.Objects[0]
}

// TestDefaultsOfServices shows what is filled in for kinds of Services.
func TestDefaultsOfServices(t *testing.T) {
	t.Parallel()
	service := func(spec string) string {
		return "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: " + spec + "}"
	}
	policy := func(spec string) string {
		return "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: " + spec + "}"
	}
	for name, c := range map[string]struct{ written, want string }{
		"a port": {service("{ports: [{port: 80}]}"), `
internalTrafficPolicy: Cluster
ipFamilyPolicy: SingleStack
ports: [{port: 80, protocol: TCP, targetPort: 80}]
sessionAffinity: None
type: ClusterIP
`},
		"target ports": {service("{clusterIP: None, ports: [{name: b, port: 80, protocol: UDP, targetPort: web}, {name: c, port: 81, targetPort: 0}, {name: d, port: 82, targetPort: ''}]}"), `
clusterIP: None
clusterIPs: [None]
internalTrafficPolicy: Cluster
ipFamilyPolicy: SingleStack
ports:
- {name: b, port: 80, protocol: UDP, targetPort: web}
- {name: c, port: 81, protocol: TCP, targetPort: 81}
- {name: d, port: 82, protocol: TCP, targetPort: 82}
sessionAffinity: None
type: ClusterIP
`},
		"NodePort": {service("{type: NodePort, clusterIP: 10.0.0.1, sessionAffinity: ClientIP, ports: [{port: 80}]}"), `
clusterIP: 10.0.0.1
clusterIPs: [10.0.0.1]
externalTrafficPolicy: Cluster
internalTrafficPolicy: Cluster
ipFamilyPolicy: SingleStack
ports: [{port: 80, protocol: TCP, targetPort: 80}]
sessionAffinity: ClientIP
sessionAffinityConfig: {clientIP: {timeoutSeconds: 10800}}
type: NodePort
`},
		"LoadBalancer": {service("{type: LoadBalancer, ipFamilies: [IPv4, IPv6], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}, externalTrafficPolicy: Local, internalTrafficPolicy: Local, ports: [{port: 80}]}"), `
allocateLoadBalancerNodePorts: true
externalTrafficPolicy: Local
internalTrafficPolicy: Local
ipFamilies: [IPv4, IPv6]
ipFamilyPolicy: RequireDualStack
ports: [{port: 80, protocol: TCP, targetPort: 80}]
sessionAffinity: ClientIP
sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}
type: LoadBalancer
`},
		"external addresses": {service("{externalIPs: [192.0.2.1], sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}, ports: [{port: 80}]}"), `
externalIPs: [192.0.2.1]
externalTrafficPolicy: Cluster
internalTrafficPolicy: Cluster
ipFamilyPolicy: SingleStack
ports: [{port: 80, protocol: TCP, targetPort: 80}]
sessionAffinity: None
type: ClusterIP
`},
		"ExternalName": {service("{type: ExternalName, externalName: a.example.com, externalIPs: [192.0.2.1]}"), `
externalIPs: [192.0.2.1]
externalName: a.example.com
sessionAffinity: None
type: ExternalName
`},
		"Endpoints": {"{apiVersion: v1, kind: Endpoints, metadata: {name: a}, subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 80}]}]}", `
subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 80, protocol: TCP}]}]
`},
		"EndpointSlice": {"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, endpoints: [{addresses: [192.0.2.1]}], ports: [{port: 80}, {name: b, protocol: UDP}]}", `
addressType: IPv4
endpoints: [{addresses: [192.0.2.1], conditions: {}}]
ports: [{name: "", port: 80, protocol: TCP}, {name: b, protocol: UDP}]
`},
		"NetworkPolicy": {policy("{}"), `
podSelector: {}
policyTypes: [Ingress]
`},
		"NetworkPolicy with both": {policy("{podSelector: {}, ingress: [{ports: [{port: 80}]}], egress: [{ports: [{}, {protocol: UDP}]}]}"), `
podSelector: {}
policyTypes: [Ingress, Egress]
ingress: [{ports: [{port: 80, protocol: TCP}]}]
egress: [{ports: [{protocol: TCP}, {protocol: UDP}]}]
`},
		"NetworkPolicy with types": {policy("{podSelector: {}, policyTypes: [Egress]}"), `
podSelector: {}
policyTypes: [Egress]
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := served(t, c.written)
			var got, want any
			if spec := reflect.ValueOf(o.Value).Elem().FieldByName("Spec"); spec.IsValid() {
				parse(t, marshal(t, spec.Interface()), &got)
			} else {
				parse(t, marshal(t, o.Value), &got)
				for _, key := range []string{"apiVersion", "kind", "metadata"} {
					delete(got.(map[string]any), key)
				}
			}
			parse(t, c.want, &want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want (-) and got (+) differ:\n%s", diff)
			}
			again := o.Value.DeepCopyObject()
			if defaultObject(again); !cmp.Equal(again, o.Value) {
				t.Errorf("defaulted twice, it differs:\n%s", cmp.Diff(o.Value, again))
			}
			if o.Template != nil || o.Hash != "" {
				t.Errorf("%s has a template", o.ID)
			}
		})
	}
}

// ofServices are the kinds that are about the network.
var ofServices = map[string]bool{fleet.KindService: true, fleet.KindEndpoints: true, fleet.KindEndpointSlice: true, fleet.KindNetworkPolicy: true}

// TestServiceIsKept: a Service that breaks stays as it was, as everything does.
func TestServiceIsKept(t *testing.T) {
	t.Parallel()
	policy := Policy{}
	before := policy.Read(fileOf("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}"), ".")
	after := policy.Read(fileOf("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 0}]}}"), ".")
	kept := Keep(before.Objects, after, false)
	if len(after.Objects) != 0 || len(kept.Objects) != 1 || kept.Objects[0].Value.(*corev1.Service).Spec.Ports[0].Port != 80 {
		t.Errorf("got %v, want the Service as it was:\n%s", kept.Objects, summary(after))
	}
}

// TestSlicesAreLimited: an EndpointSlice has no more endpoints, addresses and ports than Kubernetes takes.
func TestSlicesAreLimited(t *testing.T) {
	t.Parallel()
	list := func(n int, item string) string {
		text := ""
		for range n {
			text += item + ", "
		}
		return "[" + text + "]"
	}
	for _, c := range []struct {
		endpoints, addresses int
		path                 string
	}{{1000, 1, ""}, {1001, 1, "endpoints"}, {1, 100, ""}, {1, 101, "endpoints[0].addresses"}} {
		r := Policy{}.Read(fileOf("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, labels: {kubernetes.io/service-name: a}}, addressType: IPv4, endpoints: "+
			list(c.endpoints, "{addresses: "+list(c.addresses, "192.0.2.1")+"}")+"}"), ".")
		if c.path == "" && len(r.Faults) != 0 || c.path != "" && (len(r.Faults) != 1 || r.Faults[0].Path != c.path) {
			t.Errorf("%d endpoints of %d addresses: got\n%s", c.endpoints, c.addresses, summary(r))
		}
	}
}
