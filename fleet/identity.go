package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Identity is who a pod is and what it is made from: what its slot says, its node reports, and its labels in
// Podman remember.
type Identity struct {
	Pod   PodID    `json:"pod"`
	UID   string   `json:"uid"`
	Owner ObjectID `json:"owner"` // the ReplicaSet, StatefulSet, DaemonSet or Job that made it; the Pod itself when it is bare
	// Controller is the Deployment or CronJob above Owner; zero without one.
	Controller ObjectID   `json:"controller,omitzero"`
	Source     SourceName `json:"source"`
	From       Revision   `json:"from"`            // where the template can be read
	Want       Hash       `json:"want"`            // the template's hash
	Shape      Hash       `json:"shape,omitempty"` // bare pods: ShapeOf the template
	// Label tells the pods of an owner apart as Kubernetes does: the value of pod-template-hash,
	// controller-revision-hash or controller-uid, by the owner's kind. Empty for pods without one.
	Label   string    `json:"label,omitempty"`
	Created time.Time `json:"created"`
	Stamp   Stamp     `json:"stamp,omitzero"`
	// Index is the ordinal in a StatefulSet or the completion index in an Indexed Job; nil elsewhere.
	Index *int32 `json:"index,omitempty"`
	// Claims are the names of a StatefulSet's claim templates: each is a volume of that name, from the
	// claim <name>-<pod>. Service is its serviceName.
	Claims  []string `json:"claims,omitempty"`
	Service string   `json:"service,omitempty"`
	// Defaults are what the namespace's LimitRanges gave containers that say nothing themselves, as of when
	// the pod was decided on; nil for nothing.
	Defaults *Defaults `json:"defaults,omitempty"`
}

// Stamp tells pods of one template apart that must not be taken for one another. The zero Stamp is that of a
// template that is run as it is.
type Stamp struct {
	Config    Hash      `json:"config,omitempty"`   // of the ConfigMaps and Secrets used, where a change of them rolls
	Restarted time.Time `json:"restarted,omitzero"` // when somebody asked for a restart
}

// String is what ParseStamp reads; empty for the zero Stamp.
func (s Stamp) String() string {
	if s == (Stamp{}) {
		return ""
	}
	if s.Restarted.IsZero() {
		return string(s.Config) + "@"
	}
	return string(s.Config) + "@" + s.Restarted.UTC().Format(time.RFC3339Nano)
}

// ParseStamp reads what String wrote.
func ParseStamp(text string) (Stamp, error) {
	config, restarted, ok := strings.Cut(text, "@")
	switch {
	case text == "":
		return Stamp{}, nil
	case !ok:
		return Stamp{}, fmt.Errorf("stamp %q has no @", text)
	case restarted == "":
		return Stamp{Config: Hash(config)}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, restarted)
	if err != nil {
		return Stamp{}, fmt.Errorf("stamp %q: %w", text, err)
	}
	return Stamp{Config: Hash(config), Restarted: at.UTC()}, nil
}

// Defaults are resources for containers that name none.
type Defaults struct {
	Limits   corev1.ResourceList `json:"limits,omitempty"`
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// Labels are the labels by which Podman remembers an identity: ParseIdentity reads them back.
func (id *Identity) Labels() map[string]string {
	labels := map[string]string{
		LabelPodName: id.Pod.Name, LabelPodNamespace: id.Pod.Namespace, LabelPodUID: id.UID,
		LabelSource: string(id.Source), LabelRevision: string(id.From), LabelHash: string(id.Want),
		LabelOwner: id.Owner.String(), LabelCreated: id.Created.UTC().Format(time.RFC3339Nano),
	}
	set := func(key, value string) {
		if value != "" {
			labels[key] = value
		}
	}
	set(LabelShape, string(id.Shape))
	set(LabelController, id.Controller.String())
	set(LabelSetHash, id.Label)
	set(LabelStamp, id.Stamp.String())
	set(LabelClaims, strings.Join(id.Claims, ","))
	set(LabelService, id.Service)
	if id.Index != nil {
		labels[LabelIndex] = strconv.Itoa(int(*id.Index))
	}
	if id.Defaults != nil {
		if text, err := json.Marshal(id.Defaults); err == nil { // quantities can always be written
			labels[LabelDefaults] = string(text)
		}
	}
	return labels
}

var errNotOurs = errors.New("no labels of ours")

// ParseIdentity reads what Labels wrote. An error means that the pod is not ours to touch. Created is zero when
// its label makes no sense.
func ParseIdentity(l map[string]string) (Identity, error) {
	owner, err := ParseObjectID(l[LabelOwner])
	if err != nil || l[LabelPodUID] == "" || l[LabelOwner] == "" {
		return Identity{}, errNotOurs
	}
	controller, err := ParseObjectID(l[LabelController])
	if err != nil {
		return Identity{}, errNotOurs
	}
	stamp, err := ParseStamp(l[LabelStamp])
	if err != nil {
		return Identity{}, err
	}
	id := Identity{
		Pod: PodID{Namespace: l[LabelPodNamespace], Name: l[LabelPodName]}, UID: l[LabelPodUID],
		Owner: owner, Controller: controller, Source: SourceName(l[LabelSource]), From: Revision(l[LabelRevision]),
		Want: Hash(l[LabelHash]), Shape: Hash(l[LabelShape]), Label: l[LabelSetHash], Stamp: stamp, Service: l[LabelService],
	}
	if at, err := time.Parse(time.RFC3339Nano, l[LabelCreated]); err == nil {
		id.Created = at.UTC()
	}
	if text := l[LabelClaims]; text != "" {
		id.Claims = strings.Split(text, ",")
	}
	if text := l[LabelIndex]; text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return Identity{}, fmt.Errorf("label %s: %w", LabelIndex, err)
		}
		index := int32(n)
		id.Index = &index
	}
	if text := l[LabelDefaults]; text != "" {
		if err := json.Unmarshal([]byte(text), &id.Defaults); err != nil {
			return Identity{}, fmt.Errorf("label %s: %w", LabelDefaults, err)
		}
	}
	return id, nil
}
