// Package reconcile makes every decision and takes no action. Decide says what should run where; Plan says
// how one machine gets there; Foresee runs both on paper, for diff.
//
// All are pure functions: the time and the host come in as arguments, equal inputs in any order give equal
// outputs, and what a user got wrong comes out as a note, never as an error. What waits is data too: WakeAt
// says when to ask again although nothing else changed.
package reconcile

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// FleetInput is all that Decide looks at.
type FleetInput struct {
	Desired  fleet.Desired
	Nodes    []fleet.Node
	Reports  []fleet.NodeReport
	Previous fleet.Assignment
	Now      time.Time
}

// Decision is what should run where, and why some of it has to wait.
type Decision struct {
	// Next is Previous with what changed, and an Epoch one higher; when nothing changed it equals Previous.
	Next    fleet.Assignment
	Changed bool
	Notes   []fleet.Note // in their order
	WakeAt  time.Time    // zero: no decision is due by time alone
}

// NodeInput is all that Plan looks at.
type NodeInput struct {
	Node       fleet.Node
	Assignment fleet.Assignment // other nodes' slots are passed over
	Templates  map[fleet.Hash]*corev1.PodTemplateSpec
	Desired    fleet.Desired // for ConfigMaps, Secrets and claims
	Host       fleet.Host
	Health     map[string]pod.Health // what probes say, by Podman's ID of the container
	Past       map[string]fleet.Past // by UID: what ran in sandboxes that are gone and have no successor yet
	Busy       map[string]bool       // UIDs of pods with a chain under way
	Attempts   map[string]pod.Tries  // by UID
	Now        time.Time
}

// NodePlan is how a machine gets where it should be, and how it is.
type NodePlan struct {
	// Chains are in the order of their pods: those that make room first.
	Chains []fleet.Chain
	Probes []pod.Probe // that should be running now
	Report fleet.NodeReport
	WakeAt time.Time
}

// PodOf is a slot's pod as Kubernetes would hold it, made from its defaulted template, of which it shares
// the spec. It is nil when the template is.
func PodOf(slot fleet.Slot, template *corev1.PodTemplateSpec) *corev1.Pod {
	if template == nil {
		return nil
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: slot.Pod.Name, Namespace: slot.Pod.Namespace, UID: types.UID(slot.UID),
		CreationTimestamp: metav1.Time{Time: slot.Created}, Labels: template.Labels, Annotations: template.Annotations,
	}, Spec: template.Spec}
	p.Spec.NodeName = string(slot.Node)
	if slot.Label != "" {
		p.Labels = make(map[string]string, len(template.Labels)+1)
		for k, v := range template.Labels {
			p.Labels[k] = v
		}
		p.Labels[fleet.LabelTemplateHash] = slot.Label
	}
	if slot.Owner.Kind != fleet.KindPod {
		controller := true
		p.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: slot.Owner.Kind, Name: slot.Owner.Name, Controller: &controller,
		}}
	}
	return p
}
