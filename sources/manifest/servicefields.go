package manifest

import (
	corev1 "k8s.io/api/core/v1"
)

const (
	oneNode = "has no effect: there is only one node, and no zones"
)

// serviceFields has every field of corev1.ServiceSpec. Paths are below the spec.
var serviceFields = fieldTable{
	{path: "ports[].name"},
	{path: "ports[].protocol"},
	{path: "ports[].appProtocol"}, // a hint to whoever reads it
	{path: "ports[].port"},
	{path: "ports[].targetPort"},
	{path: "ports[].nodePort"},
	{path: "selector"},
	{path: "clusterIP"},
	{path: "clusterIPs"},
	{path: "type"},
	{path: "externalIPs"},
	{path: "sessionAffinity"},
	{path: "loadBalancerIP"},
	{path: "loadBalancerSourceRanges"},
	{path: "externalName"},
	{path: "externalTrafficPolicy"},
	{path: "healthCheckNodePort"},
	{path: "publishNotReadyAddresses"},
	{path: "sessionAffinityConfig.clientIP.timeoutSeconds"},
	{path: "ipFamilies"}, // as far as the node has them
	{path: "ipFamilyPolicy"},
	{path: "allocateLoadBalancerNodePorts"},
	{path: "loadBalancerClass"}, // another than ours is somebody else's to serve
	{path: "internalTrafficPolicy"},
	{path: "trafficDistribution", treatment: noted, text: oneNode},
}

// endpointsFields has every field of corev1.Endpoints.
var endpointsFields = fieldTable{
	{path: "kind"},
	{path: "apiVersion"},
	{path: "metadata/..."},
	{path: "subsets[].addresses/..."},
	{path: "subsets[].notReadyAddresses/..."},
	{path: "subsets[].ports/..."},
}

// endpointSliceFields has every field of discoveryv1.EndpointSlice.
var endpointSliceFields = fieldTable{
	{path: "kind"},
	{path: "apiVersion"},
	{path: "metadata/..."},
	{path: "addressType"},
	{path: "endpoints[].addresses"},
	{path: "endpoints[].conditions.ready"},
	{path: "endpoints[].conditions.serving"},
	{path: "endpoints[].conditions.terminating"},
	{path: "endpoints[].hostname"},
	{path: "endpoints[].targetRef/..."}, // says who it is, and asks for nothing
	{path: "endpoints[].deprecatedTopology", treatment: noted, text: oneNode},
	{path: "endpoints[].nodeName"},
	{path: "endpoints[].zone", treatment: noted, text: oneNode},
	{path: "endpoints[].hints/...", treatment: noted, text: oneNode},
	{path: "ports[].name"},
	{path: "ports[].protocol"},
	{path: "ports[].port"},
	{path: "ports[].appProtocol"},
}

// networkPolicyFields has every field of networkingv1.NetworkPolicySpec.
var networkPolicyFields = fieldTable{
	{path: "podSelector/..."},
	{path: "ingress[].ports/..."},
	{path: "ingress[].from/..."},
	{path: "egress[].ports/..."},
	{path: "egress[].to/..."},
	{path: "policyTypes"},
}

// serviceCheck reports the fields of a Service as written that are not done, and those that another one makes idle.
func serviceCheck(o *corev1.Service) []problem {
	c := fieldCheck{problems: fieldsCheck(serviceFields, &o.Spec, "spec")}
	s := &o.Spec
	if s.SessionAffinityConfig != nil && (s.SessionAffinity == "" || s.SessionAffinity == corev1.ServiceAffinityNone) {
		c.say(noted, "spec.sessionAffinityConfig", "has no effect without sessionAffinity: ClientIP")
	}
	if s.Type == corev1.ServiceTypeExternalName {
		if len(s.Selector) > 0 {
			c.say(noted, "spec.selector", "has no effect with the type ExternalName: its name leads elsewhere")
		}
	} else if s.ExternalName != "" {
		c.say(noted, "spec.externalName", "has no effect without type: ExternalName")
	}
	if s.ClusterIP == corev1.ClusterIPNone {
		const headless = "has no effect with clusterIP: None: its clients find the pods by DNS"
		if len(s.ExternalIPs) > 0 {
			c.say(noted, "spec.externalIPs", headless)
		}
		if s.SessionAffinity == corev1.ServiceAffinityClientIP {
			c.say(noted, "spec.sessionAffinity", headless)
		}
	}
	for _, key := range []string{corev1.AnnotationTopologyMode, corev1.DeprecatedAnnotationTopologyAwareHints} {
		if mode, ok := o.Annotations[key]; ok && mode != "Disabled" && mode != "disabled" {
			c.say(noted, keyed("metadata.annotations", key), oneNode)
		}
	}
	if o.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey] != "" && len(s.LoadBalancerSourceRanges) == 0 {
		c.say(refused, keyed("metadata.annotations", corev1.AnnotationLoadBalancerSourceRangesKey), "is not read: write spec.loadBalancerSourceRanges")
	}
	return c.problems
}
