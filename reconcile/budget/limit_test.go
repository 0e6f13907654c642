package budget_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
)

func TestEffective(t *testing.T) {
	over := func(s *corev1.PodSpec, overhead string) *corev1.PodSpec {
		s.Overhead = list(overhead)
		return s
	}
	for _, test := range []struct {
		name             string
		spec             *corev1.PodSpec
		requests, limits string
	}{
		{"nothing", spec(box("a", "", "")), "", ""},
		{"a sum", spec(box("a", "cpu=100m,memory=1Gi", "cpu=1"), box("b", "cpu=200m", "")), "cpu=300m,memory=1Gi", "cpu=1"},
		{"a limit is a request", spec(box("a", "", "cpu=1,memory=1Gi"), box("b", "cpu=100m", "cpu=1")), "cpu=1100m,memory=1Gi", "cpu=2,memory=1Gi"},
		{"a larger init container", started(spec(box("a", "cpu=100m,memory=1Gi", "")), box("i", "cpu=1,memory=1Mi", ""), box("j", "cpu=2", "")), "cpu=2,memory=1Gi", ""},
		{"init containers take turns", started(spec(box("a", "cpu=3", "")), box("i", "cpu=2", ""), box("j", "cpu=2", "")), "cpu=3", ""},
		{"a sidecar stays", started(spec(box("a", "cpu=1", "cpu=1")), sidecar(box("s", "cpu=2", "cpu=3"))), "cpu=3", "cpu=4"},
		{"an init container beside sidecars before it", started(spec(box("a", "cpu=1", "")),
			sidecar(box("s", "cpu=1", "")), box("i", "cpu=4", ""), sidecar(box("r", "cpu=1", ""))), "cpu=5", ""},
		{"an init container before sidecars", started(spec(box("a", "cpu=1", "")), box("i", "cpu=4", ""), sidecar(box("s", "cpu=2", ""))), "cpu=4", ""},
		{"overhead of what is not allowed", over(spec(box("a", "", "cpu=0")), "cpu=100m"), "cpu=100m", "cpu=0"},
		{"overhead", over(spec(box("a", "cpu=1", "memory=1Gi")), "cpu=100m,memory=1Mi"), "cpu=1100m,memory=1025Mi", "memory=1025Mi"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.spec.DeepCopy()
			if got := text(budget.Requests(test.spec)); got != test.requests {
				t.Errorf("requests %s, want %s", got, test.requests)
			}
			if got := text(budget.Limits(test.spec)); got != test.limits {
				t.Errorf("limits %s, want %s", got, test.limits)
			}
			if d := cmp.Diff(before, test.spec); d != "" {
				t.Errorf("changed: %s", d)
			}
		})
	}
}

func defaults(requests, limits string) corev1.LimitRangeItem {
	return corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, DefaultRequest: list(requests), Default: list(limits)}
}

func TestDefaults(t *testing.T) {
	pod := defaults("cpu=9", "cpu=9")
	pod.Type = corev1.LimitTypePod
	for _, test := range []struct {
		name             string
		ranges           []*corev1.LimitRange
		requests, limits string
	}{
		{"none", nil, "", ""},
		{"of no container", []*corev1.LimitRange{rangeOf("a", pod), rangeOf("b")}, "", ""},
		{"of one", []*corev1.LimitRange{rangeOf("a", defaults("cpu=1", "memory=1Gi"))}, "cpu=1", "memory=1Gi"},
		{"the first name wins", []*corev1.LimitRange{rangeOf("b", defaults("cpu=2,memory=2Gi", "cpu=2")), rangeOf("a", defaults("cpu=1", ""))}, "cpu=1,memory=2Gi", "cpu=2"},
		{"the last item wins", []*corev1.LimitRange{rangeOf("a", defaults("cpu=1,memory=1Gi", "cpu=3,memory=3Gi"), defaults("cpu=2", "cpu=4"))},
			"cpu=2,memory=1Gi", "cpu=4,memory=3Gi"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := budget.Defaults(test.ranges)
			if got == nil {
				got = &fleet.Defaults{}
			} else if test.requests == "" && test.limits == "" {
				t.Error("something of nothing")
			}
			if text(got.Requests) != test.requests || text(got.Limits) != test.limits {
				t.Errorf("requests %s, limits %s", text(got.Requests), text(got.Limits))
			}
			if got.Limits != nil && len(got.Limits) == 0 {
				t.Error("an empty list instead of none")
			}
		})
	}
}

func TestWithDefaults(t *testing.T) {
	for _, test := range []struct {
		name             string
		requests, limits string // of the container
		d                *fleet.Defaults
		want             string // requests, limits; the same spec when empty
	}{
		{name: "nothing to say", d: nil},
		{name: "all said", requests: "cpu=1", limits: "cpu=2", d: &fleet.Defaults{Limits: list("cpu=9"), Requests: list("cpu=9")}},
		{name: "a limit stands for the request", limits: "cpu=2", want: "cpu=2 / cpu=2"},
		{name: "and comes before a default", limits: "cpu=2", d: &fleet.Defaults{Requests: list("cpu=1")}, want: "cpu=2 / cpu=2"},
		{name: "both from defaults", d: &fleet.Defaults{Limits: list("cpu=2,memory=1Gi"), Requests: list("cpu=1")}, want: "cpu=1,memory=1Gi / cpu=2,memory=1Gi"},
		{name: "each by itself", requests: "cpu=3", limits: "memory=2Gi", d: &fleet.Defaults{Limits: list("cpu=2,memory=1Gi"), Requests: list("cpu=1,memory=1Mi")}, want: "cpu=3,memory=2Gi / cpu=2,memory=2Gi"},
		{name: "requests alone", d: &fleet.Defaults{Requests: list("cpu=1")}, want: "cpu=1 / "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := box("a", test.requests, test.limits)
			s := started(spec(box("x", "cpu=1,memory=1Gi", "cpu=1,memory=1Gi"), c), c, sidecar(c))
			before := s.DeepCopy()
			got := budget.WithDefaults(s, test.d)
			if d := cmp.Diff(before, s); d != "" {
				t.Errorf("the spec was changed: %s", d)
			}
			if (got == s) != (test.want == "") {
				t.Fatalf("the same spec: %v", got == s)
			}
			if again := budget.WithDefaults(got, test.d); again != got {
				t.Error("twice is not once")
			}
			if test.want == "" {
				return
			}
			for _, c := range []corev1.Container{got.Containers[1], got.InitContainers[0], got.InitContainers[1]} {
				if now := text(c.Resources.Requests) + " / " + text(c.Resources.Limits); now != test.want {
					t.Errorf("%s, want %s", now, test.want)
				}
			}
			if d := cmp.Diff(s.Containers[0], got.Containers[0]); d != "" {
				t.Errorf("another container: %s", d)
			}
		})
	}
	if budget.WithDefaults(nil, nil) != nil {
		t.Error("a spec of none")
	}
}

func TestViolations(t *testing.T) {
	limit := func(kind corev1.LimitType, least, most, ratio string) *corev1.LimitRange {
		return rangeOf("r", corev1.LimitRangeItem{Type: kind, Min: list(least), Max: list(most), MaxLimitRequestRatio: list(ratio)})
	}
	const one, all = corev1.LimitTypeContainer, corev1.LimitTypePod
	for _, test := range []struct {
		name  string
		limit *corev1.LimitRange
		spec  *corev1.PodSpec
		want  []string
	}{
		{"within", limit(one, "cpu=1", "cpu=2", "cpu=2"), spec(box("a", "cpu=1", "cpu=2")), nil},
		{"limit too high", limit(one, "", "cpu=1", ""), spec(box("a", "cpu=1", "cpu=2")), []string{"maximum cpu usage per Container is 1, but limit is 2"}},
		{"no limit", limit(one, "", "cpu=1", ""), spec(box("a", "cpu=1", "")), []string{"maximum cpu usage per Container is 1.  No limit is specified"}},
		{"request too high", limit(one, "", "cpu=1", ""), spec(box("a", "cpu=1500m", "cpu=1")), []string{
			"maximum cpu usage per Container is 1, but request is 1500m",
			`spec.containers[0].resources.requests: Invalid value: "1500m": must be less than or equal to cpu limit of 1`,
		}},
		{"request too low", limit(one, "memory=100Mi", "", ""), spec(box("a", "memory=50Mi", "")), []string{"minimum memory usage per Container is 100Mi, but request is 50Mi"}},
		{"no request", limit(one, "memory=100Mi", "", ""), spec(box("a", "", "")), []string{"minimum memory usage per Container is 100Mi.  No request is specified"}},
		{"a limit is a request", limit(one, "memory=100Mi", "", ""), spec(box("a", "", "memory=100Mi")), nil},
		{"limit too low", limit(one, "cpu=200m", "", ""), spec(box("a", "cpu=300m", "cpu=100m")), []string{
			"minimum cpu usage per Container is 200m, but limit is 100m",
			`spec.containers[0].resources.requests: Invalid value: "300m": must be less than or equal to cpu limit of 100m`,
		}},
		{"ratio", limit(one, "", "", "cpu=2"), spec(box("a", "cpu=100m", "cpu=250m")), []string{"cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000"}},
		{"ratio of eleven", limit(one, "", "", "cpu=11"), spec(box("a", "cpu=100m", "cpu=1100m")), nil},
		{"ratio of a lot", limit(one, "", "", "memory=2"), spec(box("a", "memory=4Ei", "memory=7Ei")), nil},
		{"ratio with a fraction", limit(one, "", "", "cpu=1500m"), spec(box("a", "cpu=1", "cpu=2")), []string{"cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000"}},
		{"ratio without request", limit(one, "", "", "cpu=2"), spec(box("a", "", "")), []string{"cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"}},
		{"ratio without limit", limit(one, "", "", "cpu=2"), spec(box("a", "cpu=1", "")), []string{"cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"}},
		{"every container", limit(one, "cpu=2", "", ""), started(spec(box("a", "cpu=1", ""), box("b", "cpu=1", "")), box("i", "cpu=500m", "")), []string{
			"minimum cpu usage per Container is 2, but request is 1", "minimum cpu usage per Container is 2, but request is 500m",
		}},
		{"every resource, in order", limit(one, "", "memory=1Gi,cpu=1", ""), spec(box("a", "", "cpu=2,memory=2Gi")), []string{
			"maximum cpu usage per Container is 1, but limit is 2", "maximum memory usage per Container is 1Gi, but limit is 2Gi",
		}},
		{"a pod", limit(all, "", "cpu=2", ""), spec(box("a", "", "cpu=1"), box("b", "", "cpu=1500m")), []string{"maximum cpu usage per Pod is 2, but limit is 2500m"}},
		{"a pod's init container", limit(all, "", "cpu=2", ""), started(spec(box("a", "", "cpu=1")), box("i", "", "cpu=3")), []string{"maximum cpu usage per Pod is 2, but limit is 3"}},
		{"a pod without overhead", limit(all, "", "cpu=2", ""), &corev1.PodSpec{Containers: spec(box("a", "", "cpu=2")).Containers, Overhead: list("cpu=1")}, nil},
		{"huge pages cannot be shared", limit(one, "", "", ""), spec(box("a", "hugepages-2Mi=2Mi", "hugepages-2Mi=4Mi")), []string{
			`spec.containers[0].resources.requests: Invalid value: "2Mi": must be equal to hugepages-2Mi limit of 4Mi`,
		}},
		{"for claims", limit(corev1.LimitTypePersistentVolumeClaim, "cpu=9", "cpu=1", ""), spec(box("a", "cpu=2", "")), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := cmp.Diff(test.want, budget.Violations([]*corev1.LimitRange{test.limit}, test.spec)); d != "" {
				t.Error(d)
			}
		})
	}
	if got := budget.Violations(nil, spec(box("a", "cpu=2", "cpu=1"))); got != nil {
		t.Errorf("without ranges: %q", got)
	}
	ranges := []*corev1.LimitRange{limit(one, "cpu=3", "", ""), limit(one, "cpu=2", "", "")}
	ranges[0].Name, ranges[1].Name = "b", "a"
	want := []string{"minimum cpu usage per Container is 2, but request is 1", "minimum cpu usage per Container is 3, but request is 1"}
	if d := cmp.Diff(want, budget.Violations(ranges, spec(box("a", "cpu=1", "")))); d != "" {
		t.Errorf("of two: %s", d)
	}
}

func TestClaimViolations(t *testing.T) {
	ranges := []*corev1.LimitRange{rangeOf("r", corev1.LimitRangeItem{Type: corev1.LimitTypePersistentVolumeClaim, Min: list("storage=1Gi"), Max: list("storage=10Gi")},
		corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Max: list("storage=1")})}
	for size, want := range map[string][]string{
		"storage=1Gi":   nil,
		"storage=10Gi":  nil,
		"storage=500Mi": {"minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"},
		"storage=11Gi":  {"maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 11Gi"},
		"":              {"minimum storage usage per PersistentVolumeClaim is 1Gi.  No request is specified", "maximum storage usage per PersistentVolumeClaim is 10Gi.  No request is specified"},
	} {
		claim := &corev1.PersistentVolumeClaim{}
		claim.Spec.Resources.Requests = list(size)
		if d := cmp.Diff(want, budget.ClaimViolations(ranges, claim)); d != "" {
			t.Errorf("%s: %s", size, d)
		}
	}
}
