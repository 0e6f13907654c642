// Package scale decides how many pods the target of a HorizontalPodAutoscaler should have: what its metrics ask for,
// within its bounds and its behavior, as Kubernetes does it (semantics section 14). It knows the metrics Resource and
// ContainerResource of cpu and memory; any other is one that fails.
//
// Everything here is pure: pods, what is remembered and the time go in; a number, what to remember next and a status
// come out. The order of pods does not matter. A target is never given a number outside its bounds, deciding twice at
// one time is deciding once, and what is remembered changes only when it makes a difference: a target under a steady
// load costs no commits. The tests hold all of this against timelines and against chance.
//
// Three things differ from Kubernetes, each on the side of caution: an advice is taken to have been right until the
// look that says otherwise (Kubernetes: until the last look that said so, and not at all while metrics fail), a
// measurement of two minutes ago is none, and a container that is there but not measured makes its pod one without
// metrics (Kubernetes lets a ContainerResource metric fail for all).
package scale

import (
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Interval is how often an autoscaler looks.
const Interval = 15 * time.Second

// Pod is one pod of the target.
type Pod struct {
	Report *fleet.PodReport // nil while no node has said anything of it
	// Spec is its defaulted template with the LimitRange's defaults; nil if that is not known: then it has no requests.
	Spec     *corev1.PodSpec
	Draining bool // it is being removed: it does not count
}

// Input is all that Scale looks at.
type Input struct {
	Scaler *autoscalingv2.HorizontalPodAutoscaler // defaulted
	Memory fleet.Scaler                           // the Memory of the outcome before; zero at first
	// Replicas is how many pods the target should have now: Memory.Replicas, or what somebody has asked for since; before
	// the first measurement what its own spec says, or after a lost store how many it is found to have.
	Replicas int32
	Pods     []Pod // of the target, in any order
	Now      time.Time
}

// Outcome is what becomes of a target.
type Outcome struct {
	// Memory is what to remember. It is the input's, to the byte, unless a look has come to something new; its Source is
	// never touched. Its Replicas stay 0 as long as the autoscaler has no say: before the first measurement, and while
	// the target is at 0.
	Memory fleet.Scaler
	// Replicas is how many pods the target should have: the input's between two looks.
	Replicas int32
	// Status is as Kubernetes has it, and of this moment also between two looks. Transition times are not known.
	Status autoscalingv2.HorizontalPodAutoscalerStatus
	Notes  []string  // why a metric says nothing, in the order of the metrics
	WakeAt time.Time // when to look again
}

// Scale decides. A look is due 15 s after the last one that came to something, and at once when the target is outside
// the bounds.
func Scale(in Input) Outcome {
	r := rulesOf(&in.Scaler.Spec)
	v := judge(in, r)
	out := Outcome{Memory: in.Memory, Replicas: max(0, in.Replicas), Notes: v.notes, WakeAt: in.Memory.At.Add(Interval)}
	if due(in, r) {
		out.Memory, out.Replicas, out.WakeAt = remember(in, r, v), v.replicas, in.Now.Add(Interval)
	} else {
		v.replicas = out.Replicas
		if in.Memory.Scaled.Equal(in.Memory.At) {
			v.able = rescaled(in.Memory.Replicas)
		}
	}
	out.Status = status(in, out.Memory, v)
	return out
}

// due reports whether the autoscaler should look. A memory from the future is of a leader whose clock was ahead.
func due(in Input, r rules) bool {
	outside := in.Replicas > 0 && r.clamp(in.Replicas) != in.Replicas
	return outside || !in.Now.Before(in.Memory.At.Add(Interval)) || in.Memory.At.After(in.Now)
}

// verdict is what one look comes to.
type verdict struct {
	replicas int32 // that the target should have
	// advice is what the metrics ask for within the bounds, before the behavior; advised: they ask for something.
	advice                int32
	advised               bool
	able, active, limited condition
	metrics               []autoscalingv2.MetricStatus
	notes                 []string
}

func judge(in Input, r rules) verdict {
	v := verdict{replicas: max(0, in.Replicas), able: reached}
	switch {
	case v.replicas == 0:
		v.active = disabled
		return v
	case r.clamp(in.Replicas) != in.Replicas: // the metrics are not asked
		v.replicas = r.clamp(in.Replicas)
	default:
		v.measure(in, r)
	}
	if v.replicas != in.Replicas {
		v.able = rescaled(v.replicas)
	}
	return v
}

// measure asks the metrics, and has the behavior temper what they say.
func (v *verdict) measure(in Input, r rules) {
	p := propose(in, r)
	v.metrics, v.notes, v.active = p.metrics, p.notes, p.active
	if p.failed {
		return
	}
	v.advice, v.advised = r.clamp(p.replicas), true
	wanted := r.stabilise(past(in), in.Replicas, p.replicas, in.Now)
	v.able = stabilised(in.Replicas, p.replicas, wanted, r.explicit)
	v.replicas, v.limited = r.limit(in.Replicas, wanted, in.Memory.Changes, in.Now)
}

// remember is the memory after a look: the old one when nothing is new.
func remember(in Input, r rules, v verdict) fleet.Scaler {
	m := in.Memory
	m.ID = fleet.ObjectID{Kind: fleet.KindAutoscaler, Namespace: in.Scaler.Namespace, Name: in.Scaler.Name}
	m.Why = ""
	if v.active.status == corev1.ConditionFalse {
		m.Why = v.active.message
	}
	switch {
	case in.Replicas <= 0:
		m.Replicas, m.Advice, m.Changes = 0, nil, nil
	default:
		m.Advice = advise(in, r, v)
		if v.advised || v.replicas != in.Replicas || m.Replicas != 0 {
			m.Replicas = v.replicas
		}
		if v.replicas != in.Replicas {
			m.Scaled = in.Now
			m.Changes = r.changed(in.Memory.Changes, v.replicas-in.Replicas, in.Now)
		}
	}
	if same(m, in.Memory) {
		return in.Memory
	}
	m.At = in.Now
	return m
}

func same(a, b fleet.Scaler) bool {
	equal := func(a, b fleet.Advice) bool { return a.Replicas == b.Replicas && a.At.Equal(b.At) }
	return a.ID == b.ID && a.Replicas == b.Replicas && a.Why == b.Why && a.Scaled.Equal(b.Scaled) &&
		slices.EqualFunc(a.Advice, b.Advice, equal) && slices.EqualFunc(a.Changes, b.Changes, equal)
}
