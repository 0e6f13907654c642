package scale

import (
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// defaultTolerance is how far off its target a metric may be for nothing to be done.
const defaultTolerance = 0.1

// rules are an autoscaler's bounds and behavior.
type rules struct {
	lowest, highest int32
	// explicit: the autoscaler has a behavior. Without one Kubernetes goes another way, which is not quite that of the
	// default behavior: see bounds and stabilise.
	explicit bool
	up, down direction
}

// direction is the behavior upwards or downwards.
type direction struct {
	window    time.Duration // of stabilisation
	tolerance float64
	pick      autoscalingv2.ScalingPolicySelect
	policies  []autoscalingv2.HPAScalingPolicy
}

func rulesOf(spec *autoscalingv2.HorizontalPodAutoscalerSpec) rules {
	const fast = int32(Interval / time.Second)
	r := rules{lowest: 1, explicit: spec.Behavior != nil}
	r.up = direction{tolerance: defaultTolerance, pick: autoscalingv2.MaxChangePolicySelect, policies: []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: fast},
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: fast},
	}}
	r.down = direction{
		window: 5 * time.Minute, tolerance: defaultTolerance, pick: autoscalingv2.MaxChangePolicySelect,
		policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: fast}},
	}
	if spec.Behavior != nil {
		r.up = r.up.with(spec.Behavior.ScaleUp)
		r.down = r.down.with(spec.Behavior.ScaleDown)
	}
	// A minimum of 0 is for metrics that are not of pods: without pods these here would say nothing ever again.
	if spec.MinReplicas != nil {
		r.lowest = max(1, *spec.MinReplicas)
	}
	r.highest = max(r.lowest, spec.MaxReplicas)
	return r
}

// with is the direction with what a user says of it.
func (d direction) with(said *autoscalingv2.HPAScalingRules) direction {
	if said == nil {
		return d
	}
	if said.StabilizationWindowSeconds != nil {
		d.window = time.Duration(*said.StabilizationWindowSeconds) * time.Second
	}
	if said.SelectPolicy != nil {
		d.pick = *said.SelectPolicy
	}
	if said.Policies != nil {
		d.policies = said.Policies
	}
	if said.Tolerance != nil {
		d.tolerance = said.Tolerance.AsApproximateFloat64()
	}
	return d
}

func (r rules) clamp(n int32) int32 { return min(max(n, r.lowest), r.highest) }

// tolerable reports whether usage is near enough to its target, of which ratio is the multiple.
func (r rules) tolerable(ratio float64) bool {
	return 1-r.down.tolerance <= ratio && ratio <= 1+r.up.tolerance
}

// stabilise is the number to go for when earlier advice has its say as well. Without a behavior it is the highest of
// late, even when that is more than the target has: a surge that was slowed down goes on.
func (r rules) stabilise(past []fleet.Advice, current, advice int32, now time.Time) int32 {
	least, most := advice, advice
	for _, a := range past {
		if within(a, r.up.window, now) {
			least = min(least, a.Replicas)
		}
		if within(a, r.down.window, now) {
			most = max(most, a.Replicas)
		}
	}
	if !r.explicit {
		return most
	}
	return min(max(current, least), most)
}

func within(a fleet.Advice, window time.Duration, now time.Time) bool {
	return a.At.After(now.Add(-window))
}

// limit is the number for now on the way to the one wanted, and the condition ScalingLimited.
func (r rules) limit(current, wanted int32, changes []fleet.Advice, now time.Time) (int32, condition) {
	ceiling, floor := r.bounds(int64(current), changes, now)
	top, bottom := min(int64(r.highest), ceiling), max(int64(r.lowest), floor)
	switch {
	case int64(wanted) > top && ceiling < int64(r.highest):
		return int32(top), limited("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
	case int64(wanted) > top:
		return int32(top), limited("TooManyReplicas", "the desired replica count is more than the maximum replica count")
	case int64(wanted) < bottom && floor > int64(r.lowest):
		return int32(bottom), limited("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
	case int64(wanted) < bottom:
		return int32(bottom), limited("TooFewReplicas", "the desired replica count is less than the minimum replica count")
	default:
		return wanted, condition{corev1.ConditionFalse, "DesiredWithinRange", "the desired count is within the acceptable range"}
	}
}

// bounds are how far the policies let the target go now.
func (r rules) bounds(current int64, changes []fleet.Advice, now time.Time) (ceiling, floor int64) {
	if !r.explicit {
		return max(2*current, 4), 0
	}
	ceiling = r.up.furthest(current, 1, changes, now)
	floor = r.down.furthest(current, -1, changes, now)
	return max(ceiling, current), min(floor, current)
}

// furthest is how far the policy that is picked lets the target go from what it had when the policy's period began;
// sign is that of the direction.
func (d direction) furthest(current, sign int64, changes []fleet.Advice, now time.Time) int64 {
	if d.pick == autoscalingv2.DisabledPolicySelect || len(d.policies) == 0 {
		return current
	}
	var reach []int64 // times sign: more is further
	for _, p := range d.policies {
		n := current
		for _, c := range changes {
			if within(c, time.Duration(p.PeriodSeconds)*time.Second, now) {
				n -= int64(c.Replicas)
			}
		}
		switch {
		case p.Type != autoscalingv2.PercentScalingPolicy:
			n += sign * int64(p.Value)
		case sign > 0: // rounded so that there is a way from every number
			n = int64(math.Ceil(float64(n) * (1 + float64(p.Value)/100)))
		default:
			n = int64(float64(n) * (1 - float64(p.Value)/100))
		}
		reach = append(reach, sign*n)
	}
	if d.pick == autoscalingv2.MinChangePolicySelect {
		return sign * slices.Min(reach)
	}
	return sign * slices.Max(reach)
}

// changed are the changes to remember after another one, as far as a policy looks at them.
func (r rules) changed(changes []fleet.Advice, by int32, now time.Time) []fleet.Advice {
	if !r.explicit {
		return nil
	}
	var longest time.Duration
	for _, p := range slices.Concat(r.up.policies, r.down.policies) {
		longest = max(longest, time.Duration(p.PeriodSeconds)*time.Second)
	}
	var kept []fleet.Advice
	for _, c := range changes {
		if within(c, longest, now) {
			kept = append(kept, c)
		}
	}
	return append(kept, fleet.Advice{At: now, Replicas: by})
}

// past is the advice so far. The last one held until now; before the first look what the target has was right.
func past(in Input) []fleet.Advice {
	list := slices.Clone(in.Memory.Advice)
	if len(list) == 0 {
		list = []fleet.Advice{{Replicas: in.Replicas}}
	}
	list[len(list)-1].At = in.Now
	return list
}

// advise is the advice to remember after a look. The last of the list is what is advised now, since its time; each one
// before was advised until its time. Advice that outlasted another and says the same or more leaves nothing for it to
// say in a window that takes the highest, and likewise for the lowest.
func advise(in Input, r rules, v verdict) []fleet.Advice {
	list := in.Memory.Advice
	if len(list) == 0 && !v.advised {
		return []fleet.Advice{{At: in.Now, Replicas: in.Replicas}}
	}
	if !v.advised || len(list) > 0 && list[len(list)-1].Replicas == v.advice {
		return list
	}
	list = append(past(in), fleet.Advice{At: in.Now, Replicas: v.advice})
	var kept []fleet.Advice // the newest first
	least, most := int32(math.MaxInt32), int32(math.MinInt32)
	for i, a := range slices.Backward(list) {
		highest := a.Replicas > most && within(a, r.down.window, in.Now)
		lowest := a.Replicas < least && within(a, r.up.window, in.Now)
		if i == len(list)-1 || highest || lowest {
			kept = append(kept, a)
		}
		least, most = min(least, a.Replicas), max(most, a.Replicas)
	}
	slices.Reverse(kept)
	return kept
}
