package scale

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/skerry-dev/skerry/fleet"
)

// run is a target whose pods share a load, looked at every 15 s.
type run struct {
	scaler   *autoscalingv2.HorizontalPodAutoscaler
	memory   fleet.Scaler
	replicas int32
	now      time.Time
	commits  int
	last     Outcome
}

// look decides with so much use of CPU in all, and moves time on.
func (w *run) look(load int64) int32 {
	w.last = Scale(Input{Scaler: w.scaler, Memory: w.memory, Replicas: w.replicas, Pods: pods(int(w.replicas), load/int64(max(1, w.replicas)), w.now), Now: w.now})
	if !cmp.Equal(w.last.Memory, w.memory) {
		w.commits++
	}
	w.memory, w.replicas = w.last.Memory, w.last.Replicas
	w.now = w.now.Add(Interval)
	return w.replicas
}

// conditions are type=status/reason of a status, in short.
func conditions(out Outcome) string {
	var list []string
	for _, c := range out.Status.Conditions {
		list = append(list, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
	}
	return strings.Join(list, " ")
}

func behavior(up, down *autoscalingv2.HPAScalingRules) func(*autoscalingv2.HorizontalPodAutoscaler) {
	return func(s *autoscalingv2.HorizontalPodAutoscaler) {
		s.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: up, ScaleDown: down}
	}
}

// TestTimelines gives the loads (thousandths of a core, where 50 keep one pod busy) of looks 15 s apart and the numbers of
// pods that follow.
func TestTimelines(t *testing.T) {
	const (
		most, least, none = autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect
		podsOf, percentOf = autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy
	)
	at := func(n int, load int64) []int64 { // n looks at a load
		var list []int64
		for range n {
			list = append(list, load)
		}
		return list
	}
	join := func(parts ...[]int64) (list []int64) {
		for _, p := range parts {
			list = append(list, p...)
		}
		return list
	}
	freely := side(0, most, policy(percentOf, 100, 15))
	for _, test := range []struct {
		name  string
		from  int32
		edit  func(*autoscalingv2.HorizontalPodAutoscaler)
		loads []int64
		want  string // numbers, as n or n×looks
	}{
		{"doubled at most, four from one", 1, nil, at(5, 2000), "4 8 16 30 30"},
		{"no behavior goes on with a surge of late", 5, nil, join(at(1, 2000), at(3, 500)), "10 20 30 30"},
		{"a behavior of defaults: four more, or twice", 1, behavior(&autoscalingv2.HPAScalingRules{}, nil), at(5, 2000), "5 10 20 30 30"},
		{"defaults as they are written out", 1, behavior(side(-1, most), side(-1, most)), at(4, 2000), "5 10 20 30"},
		{"behavior forgets a surge", 5, behavior(&autoscalingv2.HPAScalingRules{}, nil), join(at(1, 2000), at(3, 500)), "10×4"},
		{"down after five minutes", 8, nil, join(at(1, 400), at(24, 100)), "8×21 2×4"},
		{"the highest of the last five minutes", 8, nil, join(at(1, 400), at(10, 100), at(1, 300), at(30, 100)), "8×21 6×11 2×10"},
		{"a lost store starts a window", 8, nil, at(22, 100), "8×20 2×2"},
		{"down at once", 8, behavior(nil, freely), at(2, 100), "2 2"},
		{"one pod a minute down", 8, behavior(nil, side(0, most, policy(podsOf, 1, 60))), at(10, 100), "7×4 6×4 5×2"},
		{"half down", 9, behavior(nil, side(0, most, policy(percentOf, 50, 15))), at(4, 50), "4 2 1 1"},
		{"the smaller change down", 20, behavior(nil, side(0, least, policy(percentOf, 50, 15), policy(podsOf, 3, 15))), at(9, 50), "17 14 11 8 5 2 1 1 1"},
		{"the larger change down", 20, behavior(nil, side(0, most, policy(percentOf, 50, 15), policy(podsOf, 3, 15))), at(6, 50), "10 5 2 1 1 1"},
		{"the smaller change up", 1, behavior(side(0, least, policy(percentOf, 100, 15), policy(podsOf, 3, 15)), nil), at(6, 2000), "2 4 7 10 13 16"},
		{"never down", 8, behavior(nil, side(0, none)), at(3, 50), "8×3"},
		{"never up", 8, behavior(side(0, none), nil), at(3, 2000), "8×3"},
		{"ten percent of few is one", 3, behavior(side(0, most, policy(percentOf, 10, 15)), nil), at(4, 2000), "4 5 6 7"},
		{"two a minute up", 2, behavior(side(0, most, policy(podsOf, 2, 60)), nil), at(9, 2000), "4×4 6×4 8"},
		{"a minute of stabilisation up", 2, behavior(side(60, most, policy(podsOf, 50, 15)), nil), join(at(1, 100), at(8, 400)), "2×5 8×4"},
		{"a dip within it starts anew", 2, behavior(side(60, most, policy(podsOf, 50, 15)), nil), join(at(3, 400), at(1, 100), at(8, 400)), "2×8 8×4"},
		{"what went up counts for what may go down", 4, behavior(side(0, most, policy(podsOf, 4, 60)), side(0, most, policy(podsOf, 1, 60))), join(at(1, 2000), at(5, 50)), "8 3×4 2"},
		{"above the maximum", 90, nil, at(1, 1000), "30"},
		{"below the minimum", 1, func(s *autoscalingv2.HorizontalPodAutoscaler) { *s.Spec.MinReplicas = 3 }, at(2, 10), "3 3"},
		{"at nothing it is off", 0, nil, at(3, 1000), "0×3"},
		{"a minimum of nothing is one", 2, func(s *autoscalingv2.HorizontalPodAutoscaler) {
			*s.Spec.MinReplicas = 0
			behavior(nil, freely)(s)
		}, at(2, 0), "1 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &run{scaler: scalerOf(1, 30), replicas: test.from, now: noon}
			if test.edit != nil {
				test.edit(w.scaler)
			}
			var got []string
			for i, load := range test.loads {
				n := fmt.Sprint(w.look(load))
				if i > 0 {
					if head, times, ok := strings.Cut(got[len(got)-1], "×"); head == n {
						k := 1
						if ok {
							fmt.Sscan(times, &k)
						}
						got[len(got)-1] = fmt.Sprintf("%s×%d", n, k+1)
						continue
					}
				}
				got = append(got, n)
			}
			if d := cmp.Diff(spread(test.want), spread(strings.Join(got, " "))); d != "" {
				t.Errorf("got %s, want %s", strings.Join(got, " "), test.want)
			}
		})
	}
}

// spread writes 2×3 as 2 2 2.
func spread(text string) string {
	var list []string
	for _, part := range strings.Fields(text) {
		n, times, ok := strings.Cut(part, "×")
		k := 1
		if ok {
			fmt.Sscan(times, &k)
		}
		for range k {
			list = append(list, n)
		}
	}
	return strings.Join(list, " ")
}

func TestConditions(t *testing.T) {
	const active = " ScalingActive=True/ValidMetricFound "
	w := &run{scaler: scalerOf(2, 30), replicas: 2, now: noon}
	for _, step := range []struct {
		load int64
		want string
	}{
		{100, "AbleToScale=True/ReadyForNewScale" + active + "ScalingLimited=False/DesiredWithinRange"},
		{2000, "AbleToScale=True/SucceededRescale" + active + "ScalingLimited=True/ScaleUpLimit"},
		{4000, "AbleToScale=True/SucceededRescale" + active + "ScalingLimited=True/ScaleUpLimit"},
		{0, "AbleToScale=True/SucceededRescale" + active + "ScalingLimited=True/ScaleUpLimit"}, // to the highest of late
		{0, "AbleToScale=True/SucceededRescale" + active + "ScalingLimited=False/DesiredWithinRange"},
		{0, "AbleToScale=True/ScaleDownStabilized" + active + "ScalingLimited=False/DesiredWithinRange"},
		{4000, "AbleToScale=True/ReadyForNewScale" + active + "ScalingLimited=True/TooManyReplicas"},
	} {
		w.look(step.load)
		if got := conditions(w.last); got != step.want {
			t.Errorf("at %d pods under %d: %s\nwant %s", w.replicas, step.load, got, step.want)
		}
	}
	w = &run{scaler: scalerOf(2, 30), replicas: 4, now: noon}
	behavior(side(60, autoscalingv2.MaxChangePolicySelect), side(0, autoscalingv2.MaxChangePolicySelect, policy(autoscalingv2.PodsScalingPolicy, 1, 15)))(w.scaler)
	w.look(300)
	if got, want := conditions(w.last), "AbleToScale=True/ScaleUpStabilized"+active+"ScalingLimited=False/DesiredWithinRange"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	w.look(0)
	if got, want := conditions(w.last), "AbleToScale=True/SucceededRescale"+active+"ScalingLimited=True/ScaleDownLimit"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	w.replicas = 2
	w.look(0)
	if got, want := conditions(w.last), "AbleToScale=True/ReadyForNewScale"+active+"ScalingLimited=True/TooFewReplicas"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestBetweenLooks(t *testing.T) {
	w := &run{scaler: scalerOf(1, 30), replicas: 2, now: noon}
	w.look(200)
	first := w.last
	if first.Replicas != 4 || !first.WakeAt.Equal(at(15)) || !first.Memory.At.Equal(noon) || !first.Status.LastScaleTime.Time.Equal(noon) {
		t.Fatalf("%+v", first)
	}
	in := Input{Scaler: w.scaler, Memory: first.Memory, Replicas: 4, Pods: pods(4, 900, at(14)), Now: at(14)}
	out := Scale(in)
	if d := cmp.Diff(first.Memory, out.Memory); d != "" || out.Replicas != 4 || !out.WakeAt.Equal(at(15)) {
		t.Errorf("changed: %+v %s", out, d)
	}
	if got := conditions(out); !strings.HasPrefix(got, "AbleToScale=True/SucceededRescale") || out.Status.DesiredReplicas != 4 {
		t.Errorf("shows %s, %d", got, out.Status.DesiredReplicas)
	}
	in.Replicas = 31 // somebody scaled by hand, past the bounds
	if out := Scale(in); out.Replicas != 30 || !out.Memory.At.Equal(at(14)) || out.Memory.Replicas != 30 {
		t.Errorf("outside: %+v", out)
	}
	in.Replicas = 7 // within them it holds until the next look
	if out := Scale(in); out.Replicas != 7 || !cmp.Equal(out.Memory, first.Memory) {
		t.Errorf("by hand: %+v", out)
	}
	in.Now = at(-1) // the leader's clock is behind that of the one before
	if out := Scale(in); out.Memory.At.Equal(first.Memory.At) {
		t.Errorf("waits for a clock that was ahead")
	}
}

func TestSteadyLoadCommitsNothing(t *testing.T) {
	w := &run{scaler: scalerOf(2, 30), replicas: 5, now: noon}
	for i := range 400 {
		w.look(250 + int64(i%10))
	}
	idle := w.commits
	for i := range 400 { // at the minimum, whatever there is less of
		w.look(int64(i % 60))
	}
	if idle != 1 || w.commits > 6 || w.replicas != 2 {
		t.Errorf("%d commits, then %d, at %d pods", idle, w.commits-idle, w.replicas)
	}
}

func TestMemory(t *testing.T) {
	w := &run{scaler: scalerOf(1, 30), replicas: 4, now: noon}
	w.memory.Source = "git"
	w.look(200)
	want := fleet.Scaler{
		ID: fleet.ObjectID{Kind: fleet.KindAutoscaler, Namespace: "default", Name: "web"}, Source: "git", Replicas: 4, At: noon,
		Advice: []fleet.Advice{{At: noon, Replicas: 4}},
	}
	if d := cmp.Diff(want, w.memory); d != "" {
		t.Error(d)
	}
	w.look(200)
	w.look(100) // for less: four were right until now
	want.At, want.Advice = at(30), []fleet.Advice{{At: at(30), Replicas: 4}, {At: at(30), Replicas: 2}}
	if d := cmp.Diff(want, w.memory); d != "" {
		t.Error(d)
	}
	w.look(300) // for more: what was less says nothing any more
	want.At, want.Advice = at(45), []fleet.Advice{{At: at(45), Replicas: 6}}
	want.Replicas, want.Scaled = 6, at(45)
	if d := cmp.Diff(want, w.memory); d != "" {
		t.Error(d)
	}
	w.replicas = 0
	w.look(300)
	want.At, want.Replicas, want.Advice, want.Why = at(60), 0, nil, disabled.message
	if d := cmp.Diff(want, w.memory); d != "" || w.last.Replicas != 0 {
		t.Error(d)
	}
}

// TestWhatIsRemembered: advice that cannot decide anything any more is left out, for either window.
func TestWhatIsRemembered(t *testing.T) {
	free := autoscalingv2.MaxChangePolicySelect
	w := &run{scaler: scalerOf(1, 30), replicas: 8, now: noon}
	behavior(side(600, free), side(0, free))(w.scaler)
	for _, load := range []int64{400, 300, 350, 350, 500} { // for 8, 6, 7, 7 and 10 pods
		w.look(load)
	}
	var got []int32
	for _, a := range w.memory.Advice {
		got = append(got, a.Replicas)
	}
	if d := cmp.Diff([]int32{6, 7, 10}, got); d != "" {
		t.Errorf("%s: %+v", d, w.memory)
	}
	w.now = at(3600)
	w.look(50)
	if len(w.memory.Advice) != 1 {
		t.Errorf("after an hour: %+v", w.memory.Advice)
	}
}

func TestFailingMetrics(t *testing.T) {
	in := Input{Scaler: scalerOf(1, 30), Replicas: 4, Pods: pods(4, 10, noon, unmeasured), Now: noon}
	for _, c := range []*Pod{&in.Pods[0]} {
		c.Report.Usage = nil
	}
	out := Scale(in)
	if out.Replicas != 4 || out.Memory.Replicas != 0 || len(out.Notes) != 1 || out.Memory.Why != out.Notes[0] {
		t.Errorf("%+v", out)
	}
	if got, want := conditions(out), "AbleToScale=True/SucceededGetScale ScalingActive=False/FailedGetResourceMetric"; got != want {
		t.Errorf("shows %s", got)
	}
	in.Memory, in.Now, in.Pods = out.Memory, at(15), pods(4, 10, at(15))
	if out = Scale(in); out.Replicas != 4 || out.Memory.Replicas != 4 || out.Memory.Why != "" {
		t.Errorf("measured: %+v", out)
	}
	in.Memory, in.Now, in.Pods = out.Memory, at(600), nil
	if out = Scale(in); out.Replicas != 4 || out.Memory.Replicas != 4 || out.Memory.Why == "" || len(out.Memory.Advice) != 2 {
		t.Errorf("no longer: %+v", out)
	}
	in.Memory, in.Now, in.Replicas = out.Memory, at(700), 7
	if out = Scale(in); out.Replicas != 7 || out.Memory.Replicas != 7 || !out.Memory.Scaled.IsZero() {
		t.Errorf("by hand: %+v", out)
	}
}
