package manifest

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func defaultService(s *corev1.ServiceSpec) {
	fillZero(&s.Type, corev1.ServiceTypeClusterIP)
	fillZero(&s.SessionAffinity, corev1.ServiceAffinityNone)
	switch s.SessionAffinity {
	case corev1.ServiceAffinityNone:
		s.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		fill(&s.SessionAffinityConfig, corev1.SessionAffinityConfig{})
		fill(&s.SessionAffinityConfig.ClientIP, corev1.ClientIPConfig{})
		fill(&s.SessionAffinityConfig.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds)
	}
	for i := range s.Ports {
		port := &s.Ports[i]
		fillZero(&port.Protocol, corev1.ProtocolTCP)
		if port.TargetPort == intstr.FromInt32(0) || port.TargetPort == intstr.FromString("") {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
	}
	if s.ClusterIP != "" && len(s.ClusterIPs) == 0 {
		s.ClusterIPs = []string{s.ClusterIP}
	}
	if reachedFromOutside(s) {
		fillZero(&s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if s.Type != corev1.ServiceTypeExternalName {
		fill(&s.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
		families := corev1.IPFamilyPolicySingleStack
		if len(s.ClusterIPs) > 1 || len(s.IPFamilies) > 1 {
			families = corev1.IPFamilyPolicyRequireDualStack
		}
		fill(&s.IPFamilyPolicy, families)
	}
	if s.Type == corev1.ServiceTypeLoadBalancer {
		fill(&s.AllocateLoadBalancerNodePorts, true)
	}
}

// reachedFromOutside reports whether a Service has addresses or ports outside of the fleet.
func reachedFromOutside(s *corev1.ServiceSpec) bool {
	return s.Type == corev1.ServiceTypeNodePort || s.Type == corev1.ServiceTypeLoadBalancer ||
		s.Type == corev1.ServiceTypeClusterIP && len(s.ExternalIPs) > 0
}

//nolint:staticcheck // deprecated, and still written
func defaultEndpoints(o *corev1.Endpoints) {
	for _, subset := range o.Subsets {
		for i := range subset.Ports {
			fillZero(&subset.Ports[i].Protocol, corev1.ProtocolTCP)
		}
	}
}

func defaultEndpointSlice(o *discoveryv1.EndpointSlice) {
	for i := range o.Ports {
		fill(&o.Ports[i].Name, "")
		fill(&o.Ports[i].Protocol, corev1.ProtocolTCP)
	}
}

func defaultNetworkPolicy(s *networkingv1.NetworkPolicySpec) {
	for _, rule := range s.Ingress {
		defaultPolicyPorts(rule.Ports)
	}
	for _, rule := range s.Egress {
		defaultPolicyPorts(rule.Ports)
	}
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(s.Egress) > 0 {
			s.PolicyTypes = append(s.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

func defaultPolicyPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		fill(&ports[i].Protocol, corev1.ProtocolTCP)
	}
}
