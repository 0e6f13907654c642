package reconcile

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/skerry-dev/skerry/fleet"
)

type ledger struct{}

func (d *decider) admit(*fleet.Slot) bool { return true }

func (d *decider) autoscale() {}

// scaledBy is what a HorizontalPodAutoscaler sizes.
func scaledBy(desired fleet.Desired, id fleet.ObjectID) (fleet.ObjectID, bool) {
	hpa, ok := fleet.Lookup[*autoscalingv2.HorizontalPodAutoscaler](desired, id)
	if !ok {
		return fleet.ObjectID{}, false
	}
	ref := hpa.Spec.ScaleTargetRef
	return fleet.ObjectID{Kind: ref.Kind, Namespace: id.Namespace, Name: ref.Name}, true
}
