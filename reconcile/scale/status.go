package scale

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// condition is one of a status, without its type; zero when there is nothing to say.
type condition struct {
	status          corev1.ConditionStatus
	reason, message string
}

var (
	reached  = condition{corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale"}
	disabled = condition{corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero"}
)

func rescaled(n int32) condition {
	return condition{corev1.ConditionTrue, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", n)}
}

func limited(reason, message string) condition {
	return condition{corev1.ConditionTrue, reason, message}
}

// stabilised says in AbleToScale whether earlier advice was heeded instead of the one of now.
func stabilised(current, advice, wanted int32, explicit bool) condition {
	switch {
	case wanted == advice:
		return condition{corev1.ConditionTrue, "ReadyForNewScale", "recommended size matches current size"}
	case advice >= current && explicit:
		return condition{corev1.ConditionTrue, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"}
	default:
		return condition{corev1.ConditionTrue, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"}
	}
}

// status is what Kubernetes would show.
func status(in Input, m fleet.Scaler, v verdict) autoscalingv2.HorizontalPodAutoscalerStatus {
	s := autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: max(0, in.Replicas), DesiredReplicas: v.replicas, CurrentMetrics: v.metrics}
	if !m.Scaled.IsZero() {
		s.LastScaleTime = &metav1.Time{Time: m.Scaled}
	}
	for _, c := range []struct {
		kind autoscalingv2.HorizontalPodAutoscalerConditionType
		condition
	}{{autoscalingv2.AbleToScale, v.able}, {autoscalingv2.ScalingActive, v.active}, {autoscalingv2.ScalingLimited, v.limited}} {
		if c.status != "" {
			s.Conditions = append(s.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
				Type: c.kind, Status: c.status, Reason: c.reason, Message: c.message,
			})
		}
	}
	return s
}
