package budget

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

// Member is a pod that exists, as budgets see it.
type Member struct {
	Slot   fleet.Slot
	Labels map[string]string // of the pod
	Report *fleet.PodReport  // nil while no node has said anything of it
}

// Budget is a PodDisruptionBudget in numbers, as of when it was reckoned, less what Evict has taken from it since.
type Budget struct {
	ID       fleet.ObjectID
	Expected int32 // pods that there should be
	Desired  int32 // pods that have to stay healthy
	Healthy  int32 // pods that are ready and not being removed
	Allowed  int32 // healthy pods that may go now
	// Fault is why the numbers cannot be had: then nothing is allowed. Unmanaged are pods that no workload has, in their
	// order: nobody knows how many of them there should be, so they are not expected. An int as minAvailable needs neither.
	Fault     string
	Unmanaged []fleet.PodID

	always   bool // unready pods may always go
	selector labels.Selector
}

// Disruptions reckons a budget. Members are pods in any order, of any namespace; those that the budget is not for are
// passed over. Scales are how many pods workloads should have, by the workload at the top (the Deployment, and not its
// ReplicaSet). What cannot be scaled, a DaemonSet or a Job, is not among them: a budget by percent or maxUnavailable
// has a fault when it covers a pod of one.
func Disruptions(pdb *policyv1.PodDisruptionBudget, members []Member, scales map[fleet.ObjectID]int32) Budget {
	b := Budget{ID: fleet.ObjectID{Kind: fleet.KindDisruptionBudget, Namespace: pdb.Namespace, Name: pdb.Name}}
	b.always = pdb.Spec.UnhealthyPodEvictionPolicy != nil && *pdb.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow
	selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
	if err != nil {
		b.selector, b.Fault = labels.Nothing(), err.Error()
		return b
	}
	b.selector = selector
	members = slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return !b.Covers(m) })
	for _, m := range members {
		if m.healthy() {
			b.Healthy++
		}
	}
	if err := b.expect(pdb.Spec, members, scales); err != nil {
		b.Expected, b.Desired, b.Fault = 0, 0, err.Error()
		return b
	}
	if b.Expected > 0 {
		b.Allowed = max(0, b.Healthy-b.Desired)
	}
	return b
}

// expect reckons how many pods there should be, and how many of them healthy.
func (b *Budget) expect(spec policyv1.PodDisruptionBudgetSpec, members []Member, scales map[fleet.ObjectID]int32) error {
	if spec.MaxUnavailable == nil && spec.MinAvailable == nil {
		return nil
	}
	if spec.MaxUnavailable == nil && spec.MinAvailable.Type == intstr.Int {
		b.Expected, b.Desired = int32(len(members)), spec.MinAvailable.IntVal
		return nil
	}
	if err := b.scale(members, scales); err != nil {
		return err
	}
	if spec.MaxUnavailable == nil {
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(b.Expected), true)
		b.Desired = int32(n)
		return err
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(b.Expected), true)
	b.Desired = max(0, b.Expected-int32(n))
	return err
}

// scale adds up what the workloads of the members should have.
func (b *Budget) scale(members []Member, scales map[fleet.ObjectID]int32) error {
	seen := map[fleet.ObjectID]bool{}
	var lost []fleet.PodID
	for _, m := range members {
		workload := m.Slot.Controller
		if workload == (fleet.ObjectID{}) {
			workload = m.Slot.Owner
		}
		n, known := scales[workload]
		switch {
		case workload.Kind == fleet.KindPod:
			b.Unmanaged = append(b.Unmanaged, m.Slot.Pod)
		case !known:
			lost = append(lost, m.Slot.Pod)
		case !seen[workload]:
			seen[workload] = true
			b.Expected += n
		}
	}
	slices.SortFunc(b.Unmanaged, fleet.PodID.Compare)
	if lost != nil {
		return fmt.Errorf("found no controllers for pod %q", slices.MinFunc(lost, fleet.PodID.Compare).Name)
	}
	return nil
}

// Covers reports whether the budget is for that pod.
func (b *Budget) Covers(m Member) bool {
	return m.Slot.Pod.Namespace == b.ID.Namespace && b.selector.Matches(labels.Set(m.Labels))
}

// Status is what the budget's status shows. Transition times are not known.
func (b *Budget) Status() policyv1.PodDisruptionBudgetStatus {
	c := metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason}
	switch {
	case b.Fault != "":
		c.Reason, c.Message = policyv1.SyncFailedReason, b.Fault
	case b.Allowed > 0:
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	return policyv1.PodDisruptionBudgetStatus{
		DisruptionsAllowed: b.Allowed, CurrentHealthy: b.Healthy, DesiredHealthy: b.Desired, ExpectedPods: b.Expected,
		Conditions: []metav1.Condition{c},
	}
}

// MayEvict reports whether a pod may be taken away by choice (a drain, and nothing else), and if not, why, in
// Kubernetes' words. Budgets that are not for the pod are passed over. Nothing is counted.
func MayEvict(m Member, budgets []*Budget) (ok bool, why string) {
	_, _, why = decide(m, budgets)
	return why == "", why
}

// Evict is MayEvict, and counts: the budgets are from then on as if the pod were being removed. Several pods that go in
// one decision have to be taken with it one after the other, from the same budgets.
func Evict(m Member, budgets []*Budget) (ok bool, why string) {
	b, counts, why := decide(m, budgets)
	if why != "" {
		return false, why
	}
	if counts && m.healthy() { // one that is not was none of those that may go: reckoned anew, as many may
		b.Allowed--
		b.Healthy--
	}
	return true, ""
}

// decide is why a pod may not be evicted; otherwise the budget it is taken from, if it counts there.
func decide(m Member, budgets []*Budget) (b *Budget, counts bool, why string) {
	if m.free() {
		return nil, false, ""
	}
	for _, other := range budgets {
		switch {
		case !other.Covers(m):
		case b != nil:
			return nil, false, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
		default:
			b = other
		}
	}
	const refused = "Cannot evict pod as it would violate the pod's disruption budget."
	switch {
	case b == nil, !m.healthy() && (b.always || b.Fault == "" && b.Desired > 0 && b.Healthy >= b.Desired):
		return b, false, ""
	case b.Fault != "":
		return nil, false, fmt.Sprintf("%s The disruption budget %s cannot be reckoned: %s", refused, b.ID.Name, b.Fault)
	case b.Allowed <= 0:
		return nil, false, fmt.Sprintf("%s The disruption budget %s needs %d healthy pods and has %d currently", refused, b.ID.Name, b.Desired, b.Healthy)
	}
	return b, true, ""
}

// free reports whether nothing is lost with the pod: it has ended, has not begun, or is going anyway.
func (m Member) free() bool {
	if m.Slot.Goal == fleet.Drain || m.Report == nil {
		return true
	}
	phase := m.Report.Status.Phase
	return m.Report.Terminal() || phase == corev1.PodPending || phase == ""
}

func (m Member) healthy() bool {
	if m.Slot.Goal == fleet.Drain || m.Report == nil {
		return false
	}
	_, ready := m.Report.ReadySince()
	return ready
}
