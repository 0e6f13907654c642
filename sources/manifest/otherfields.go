package manifest

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

const (
	ownVolume   = "cannot be done: claims get a volume of their own on the node"
	nodeAnswers = "has no effect: what a node is, its own configuration says"
	noSize      = "the size is not enforced: a claim may fill the disk"
)

// claimFields has every field of corev1.PersistentVolumeClaimSpec. Paths are below the spec.
var claimFields = fieldTable{
	{path: "accessModes"},
	{path: "selector/...", treatment: refused, text: ownVolume},
	{path: "resources.limits", treatment: noted, text: noSize},
	{path: "resources.requests"}, // noted: see claimCheck
	{path: "volumeName", treatment: refused, text: ownVolume},
	{path: "storageClassName"},
	{path: "volumeMode", treatment: refused, quiet: "Filesystem", text: "cannot be done: volumes are folders, not block devices"},
	{path: "dataSource/...", treatment: refused, text: ownVolume + ", which is empty at first"},
	{path: "dataSourceRef/...", treatment: refused, text: ownVolume + ", which is empty at first"},
	{path: "volumeAttributesClassName", treatment: refused, text: ownVolume},
}

// classFields has every field of storagev1.StorageClass.
var classFields = fieldTable{
	{path: "kind"},
	{path: "apiVersion"},
	{path: "metadata/..."},
	{path: "provisioner", treatment: noted, text: "has no effect: every volume is a folder on the node"},
	{path: "parameters", treatment: noted, text: "has no effect: every volume is a folder on the node"},
	{path: "reclaimPolicy", treatment: noted, quiet: "Retain", text: "has no effect: a volume goes only where its claim says so " +
		"(annotation skerry.dev/prune: \"true\") or its StatefulSet does (persistentVolumeClaimRetentionPolicy)"},
	{path: "mountOptions", treatment: noted, text: "has no effect: every volume is a folder on the node"},
	{path: "allowVolumeExpansion", treatment: noted, quiet: "false", text: "has no effect: the size of a claim is not enforced"},
	{path: "volumeBindingMode", treatment: noted, quiet: "WaitForFirstConsumer", text: "has no effect: a volume is made where its pod runs"},
	{path: "allowedTopologies/...", treatment: noted, text: "has no effect: a volume is made where its pod runs"},
}

// accountFields has every field of corev1.ServiceAccount.
var accountFields = fieldTable{
	{path: "kind"},
	{path: "apiVersion"},
	{path: "metadata/..."},
	{path: "secrets/...", treatment: noted, text: noTokens},
	{path: "imagePullSecrets/..."},
	{path: "automountServiceAccountToken", treatment: noted, quiet: "false", text: noTokens},
}

// nodeFields has every field of corev1.NodeSpec.
var nodeFields = fieldTable{
	{path: "podCIDR", treatment: noted, text: nodeAnswers},
	{path: "podCIDRs", treatment: noted, text: nodeAnswers},
	{path: "providerID", treatment: noted, text: nodeAnswers},
	{path: "unschedulable"},
	{path: "taints[].key"},
	{path: "taints[].value"},
	{path: "taints[].effect"},
	{path: "taints[].timeAdded", treatment: noted, text: "has no effect: a taint counts from when it was first seen"},
	{path: "configSource/...", treatment: noted, text: nodeAnswers},
	{path: "externalID", treatment: noted, text: nodeAnswers},
}

// claimCheck reports the fields of a claim as written that are not done. Path is where its spec stands.
func claimCheck(s *corev1.PersistentVolumeClaimSpec, path string) []problem {
	c := fieldCheck{table: claimFields}
	c.visit(reflect.ValueOf(s).Elem(), "", path)
	if _, ok := s.Resources.Requests[corev1.ResourceStorage]; ok {
		c.say(noted, keyed(path+".resources.requests", string(corev1.ResourceStorage)), noSize)
	}
	for _, mode := range s.AccessModes {
		if mode == corev1.ReadWriteOncePod {
			c.say(noted, path+".accessModes", "ReadWriteOncePod is not enforced: several pods may use the claim at once")
		}
	}
	return c.problems
}

// classCheck does the same for a StorageClass.
func classCheck(o *storagev1.StorageClass) []problem { return fieldsCheck(classFields, o, "") }

// accountCheck does the same for a ServiceAccount.
func accountCheck(o *corev1.ServiceAccount) []problem { return fieldsCheck(accountFields, o, "") }
