package scale

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
)

func drawScaler(t *rapid.T) *autoscalingv2.HorizontalPodAutoscaler {
	metrics := []autoscalingv2.MetricSpec{percent(cpu, 50), average(memory, "60Mi"), container(cpu, "a", 80), {Type: autoscalingv2.ExternalMetricSourceType}}
	lowest := rapid.Int32Range(1, 5).Draw(t, "min")
	s := scalerOf(lowest, lowest+rapid.Int32Range(0, 15).Draw(t, "range"), metrics[:rapid.IntRange(1, len(metrics)).Draw(t, "metrics")]...)
	if rapid.Bool().Draw(t, "behavior") {
		s.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: drawSide(t, "up"), ScaleDown: drawSide(t, "down")}
	}
	return s
}

func drawSide(t *rapid.T, name string) *autoscalingv2.HPAScalingRules {
	if rapid.IntRange(0, 3).Draw(t, name) == 0 {
		return nil
	}
	s := side(rapid.SampledFrom([]int32{-1, 0, 30, 120, 600}).Draw(t, "window"), rapid.SampledFrom([]autoscalingv2.ScalingPolicySelect{
		autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect,
	}).Draw(t, "pick"))
	for range rapid.IntRange(0, 2).Draw(t, "policies") {
		kind := rapid.SampledFrom([]autoscalingv2.HPAScalingPolicyType{autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy}).Draw(t, "kind")
		s.Policies = append(s.Policies, policy(kind, rapid.Int32Range(1, 200).Draw(t, "value"), rapid.SampledFrom([]int32{15, 60, 300}).Draw(t, "period")))
	}
	return s
}

func drawPods(t *rapid.T, n int32, now time.Time) []Pod {
	var list []Pod
	options := []option{
		func(*Pod) {}, func(*Pod) {}, func(*Pod) {}, draining, failed, pending, unmeasured, unreported, unknown,
		readiness(time.Minute, 10*time.Second, true), requests("50m", "50m"), requests("100m", ""), usage(7, 8),
	}
	calm := rapid.IntRange(0, 3).Draw(t, "calm") > 0
	for i := range n {
		o := options[0]
		if !calm {
			o = rapid.SampledFrom(options).Draw(t, "pod")
		}
		list = append(list, podOf(string(rune('a'+i)), rapid.Int64Range(0, 200).Draw(t, "used"), now, o))
	}
	return list
}

// TestAlways draws a life of a target, and holds each look to what must always be true.
func TestAlways(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Input{Scaler: drawScaler(t), Replicas: rapid.Int32Range(0, 25).Draw(t, "replicas"), Now: noon}
		var log []fleet.Advice // all that was ever advised, as a look found it
		for range rapid.IntRange(1, 40).Draw(t, "looks") {
			in.Pods = drawPods(t, in.Replicas, in.Now)
			out := Scale(in)
			r := rulesOf(&in.Scaler.Spec)
			if out.Replicas != r.clamp(out.Replicas) && (in.Replicas > 0 || out.Replicas != 0) {
				t.Fatalf("%d pods, from %d", out.Replicas, in.Replicas)
			}
			other := in
			other.Pods = shuffled(in.Pods, rapid.Int64().Draw(t, "order"))
			if d := cmp.Diff(out, Scale(other)); d != "" {
				t.Fatalf("another order of pods:\n%s", d)
			}
			again := in
			again.Memory, again.Replicas = out.Memory, out.Replicas
			if twice := Scale(again); !cmp.Equal(twice.Memory, out.Memory) || twice.Replicas != out.Replicas {
				t.Fatalf("deciding again:\n%s", cmp.Diff(out, twice))
			}
			if !out.WakeAt.After(in.Now) || out.WakeAt.After(in.Now.Add(Interval)) {
				t.Fatalf("wakes at %s, at %s", out.WakeAt, in.Now)
			}
			log = compare(t, in, out, r, log)
			in.Memory, in.Replicas = out.Memory, out.Replicas
			if rapid.IntRange(0, 20).Draw(t, "by hand") == 0 {
				in.Replicas = rapid.Int32Range(0, 25).Draw(t, "replicas")
			}
			in.Now = in.Now.Add(rapid.SampledFrom([]time.Duration{Interval, Interval, Interval, 4 * time.Second, 70 * time.Second}).Draw(t, "later"))
		}
	})
}

// compare says the same with all advice kept, each with when it was right last: what is remembered leaves nothing out
// that would make a difference. It returns the log with the advice of this look.
func compare(t *rapid.T, in Input, out Outcome, r rules, log []fleet.Advice) []fleet.Advice {
	if !due(in, r) {
		return log
	}
	if in.Replicas <= 0 {
		return nil
	}
	if len(log) == 0 {
		log = []fleet.Advice{{Replicas: in.Replicas}}
	}
	v := judge(in, r)
	if !v.advised {
		return log
	}
	log[len(log)-1].At = in.Now // it was right until now
	p := propose(in, r)
	least, most := p.replicas, p.replicas
	for _, a := range log {
		if in.Now.Sub(a.At) < r.up.window {
			least = min(least, a.Replicas)
		}
		if in.Now.Sub(a.At) < r.down.window {
			most = max(most, a.Replicas)
		}
	}
	wanted := most
	if r.explicit {
		wanted = min(max(in.Replicas, least), most)
	}
	if n, _ := r.limit(in.Replicas, wanted, in.Memory.Changes, in.Now); n != out.Replicas {
		t.Fatalf("%d pods, and %d when everything is remembered: %v, %v", out.Replicas, n, in.Memory.Advice, log)
	}
	if len(out.Memory.Advice) > 2*int(r.highest-r.lowest)+3 {
		t.Fatalf("remembers %d", len(out.Memory.Advice))
	}
	if out.Replicas < in.Replicas && out.Replicas < min(most, in.Replicas) {
		t.Fatalf("down to %d, and %d was advised of late", out.Replicas, most)
	}
	if last := log[len(log)-1]; last.Replicas != v.advice {
		log = append(log, fleet.Advice{Replicas: v.advice})
	}
	return log
}

// TestPolicies holds changes to their policies whatever the load: a policy of n pods a period is never exceeded.
func TestPolicies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		up, down := rapid.Int32Range(1, 4).Draw(t, "up"), rapid.Int32Range(1, 4).Draw(t, "down")
		s := scalerOf(1, 60)
		behavior(side(0, autoscalingv2.MaxChangePolicySelect, policy(autoscalingv2.PodsScalingPolicy, up, 60)),
			side(0, autoscalingv2.MaxChangePolicySelect, policy(autoscalingv2.PodsScalingPolicy, down, 60)))(s)
		w := &run{scaler: s, replicas: 20, now: noon}
		history := []int32{20}
		for range 30 {
			history = append(history, w.look(rapid.Int64Range(0, 4000).Draw(t, "load")))
			before, now := history[len(history)-2], history[len(history)-1]
			began := history[max(0, len(history)-5)] // a minute ago
			if now > before && now > began+up || now < before && now < began-down {
				t.Fatalf("from %d to %d within a minute: %v", began, now, history)
			}
		}
	})
}
