// Package fleet is the vocabulary of Skerry: what is desired, what is assigned, what a node reports and
// what was observed on a host. Its siblings (reconcile, sources, coord, runtime) speak to one another only
// in these words.
//
// It holds values and pure functions over them (identity, hashing, ordering). It performs no I/O, reads no
// clock, rolls no dice and logs nothing. Values that cross a package border are read-only from then on:
// nobody changes a Desired, an Assignment or a Host that somebody else may hold.
package fleet

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// NodeName names a machine of the fleet, as in the configuration's node.name.
type NodeName string

// SourceName names a place desired objects come from: a configured source's name, or for what was applied
// by hand the absolute path or URL it was applied from.
type SourceName string

// Revision is one state of a source: a commit's full hex hash, or for a folder a hash of its content.
type Revision string

// Short is the revision as people write it: the first seven characters.
func (r Revision) Short() string {
	if len(r) > 7 {
		return string(r[:7])
	}
	return string(r)
}

// Kinds that the fleet runs. Other kinds never get past sources/manifest.
const (
	KindNamespace             = "Namespace"
	KindConfigMap             = "ConfigMap"
	KindSecret                = "Secret"
	KindServiceAccount        = "ServiceAccount"
	KindStorageClass          = "StorageClass"
	KindPersistentVolumeClaim = "PersistentVolumeClaim"
	KindPod                   = "Pod"
	KindReplicaSet            = "ReplicaSet"
	KindDeployment            = "Deployment"
	KindStatefulSet           = "StatefulSet"
	KindDaemonSet             = "DaemonSet"
	KindJob                   = "Job"
	KindCronJob               = "CronJob"
	KindAutoscaler            = "HorizontalPodAutoscaler"
	KindDisruptionBudget      = "PodDisruptionBudget"
	KindQuota                 = "ResourceQuota"
	KindLimitRange            = "LimitRange"
	KindService               = "Service"
	KindEndpoints             = "Endpoints"
	KindEndpointSlice         = "EndpointSlice"
	KindNetworkPolicy         = "NetworkPolicy"
	// KindRevision is a template of a StatefulSet or DaemonSet; no source holds one.
	KindRevision      = "ControllerRevision"
	KindNode          = "Node"
	KindPriorityClass = "PriorityClass"
)

// ObjectID names an object. Kinds are unique among those that Skerry runs, so no API group is needed.
// Namespace is empty for kinds without one.
type ObjectID struct{ Kind, Namespace, Name string }

// String is the form people read and labels carry: Deployment/default/web, or Namespace/shop.
func (id ObjectID) String() string {
	if id == (ObjectID{}) {
		return ""
	}
	if id.Namespace == "" {
		return id.Kind + "/" + id.Name
	}
	return id.Kind + "/" + id.Namespace + "/" + id.Name
}

// ParseObjectID reads what String wrote. The empty string is the zero ID.
func ParseObjectID(s string) (ObjectID, error) {
	switch parts := strings.Split(s, "/"); {
	case s == "":
		return ObjectID{}, nil
	case len(parts) == 2:
		return ObjectID{Kind: parts[0], Name: parts[1]}, nil
	case len(parts) == 3:
		return ObjectID{Kind: parts[0], Namespace: parts[1], Name: parts[2]}, nil
	default:
		return ObjectID{}, fmt.Errorf("object %q is not Kind/name or Kind/namespace/name", s)
	}
}

// Compare orders IDs by kind, namespace and name.
func (id ObjectID) Compare(other ObjectID) int {
	return cmp.Or(cmp.Compare(id.Kind, other.Kind), cmp.Compare(id.Namespace, other.Namespace), cmp.Compare(id.Name, other.Name))
}

// MarshalText and UnmarshalText make an ObjectID usable as a JSON string and map key.
func (id ObjectID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ObjectID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseObjectID(string(b))
	return err
}

// PodID is where a pod lives in the cluster's words. Two pods may bear one PodID in turn, never at once;
// their UIDs tell them apart.
type PodID struct{ Namespace, Name string }

// String is namespace/name.
func (id PodID) String() string { return id.Namespace + "/" + id.Name }

// Object is the pod as an ObjectID.
func (id PodID) Object() ObjectID {
	return ObjectID{Kind: KindPod, Namespace: id.Namespace, Name: id.Name}
}

// Compare orders PodIDs by namespace and name.
func (id PodID) Compare(other PodID) int {
	return cmp.Or(cmp.Compare(id.Namespace, other.Namespace), cmp.Compare(id.Name, other.Name))
}

// MarshalText makes a PodID usable as a JSON string and map key.
func (id PodID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *PodID) UnmarshalText(b []byte) error {
	namespace, name, ok := strings.Cut(string(b), "/")
	if !ok {
		return fmt.Errorf("pod %q is not namespace/name", b)
	}
	*id = PodID{Namespace: namespace, Name: name}
	return nil
}

// Note says in one sentence why something did not happen, or what a user should know about an object.
// Text never holds a secret.
type Note struct {
	About ObjectID `json:"about"`
	Text  string   `json:"text"`
}

// Compare orders notes by what they are about, then by text.
func (n Note) Compare(other Note) int {
	return cmp.Or(n.About.Compare(other.About), cmp.Compare(n.Text, other.Text))
}

// Earliest is the earlier of two times; the zero time means never and loses against any other.
func Earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
