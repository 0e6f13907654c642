package budget_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
)

// pdbOf reads "min 2", "min 50%" or "max 1", for pods of an app, or of all when it is empty.
func pdbOf(name, app, bound string) *policyv1.PodDisruptionBudget {
	p := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.Selector = &metav1.LabelSelector{}
	if app != "" {
		p.Spec.Selector.MatchLabels = map[string]string{"app": app}
	}
	side, number, _ := strings.Cut(bound, " ")
	n := intstr.Parse(number)
	switch side {
	case "min":
		p.Spec.MinAvailable = &n
	case "max":
		p.Spec.MaxUnavailable = &n
	}
	return p
}

func always(p *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudget {
	policy := policyv1.AlwaysAllow
	p.Spec.UnhealthyPodEvictionPolicy = &policy
	return p
}

func TestDisruptions(t *testing.T) {
	scales := map[fleet.ObjectID]int32{web: 7, api: 3}
	bare := member("bare", fleet.ObjectID{Kind: fleet.KindPod, Namespace: "default", Name: "bare"}, true)
	elsewhere := member("web-00", web, true)
	elsewhere.Slot.Pod.Namespace = "other"
	unselected := pdbOf("x", "", "min 1")
	unselected.Spec.Selector = nil
	wrong := pdbOf("x", "", "min 1")
	wrong.Spec.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Odd"}}}
	type numbers struct{ Expected, Desired, Healthy, Allowed int32 }
	for _, test := range []struct {
		name  string
		pdb   *policyv1.PodDisruptionBudget
		pods  []budget.Member
		want  numbers
		fault string
	}{
		{"an int counts pods", pdbOf("x", "web", "min 2"), members(web, 5, 1), numbers{6, 2, 5, 3}, ""},
		{"never below nothing", pdbOf("x", "web", "min 9"), members(web, 5, 1), numbers{6, 9, 5, 0}, ""},
		{"percent is of the scale, up", pdbOf("x", "web", "min 50%"), members(web, 5, 0), numbers{7, 4, 5, 1}, ""},
		{"unavailable ones", pdbOf("x", "web", "max 2"), members(web, 7, 0), numbers{7, 5, 7, 2}, ""},
		{"unavailable percent, up", pdbOf("x", "web", "max 30%"), members(web, 7, 0), numbers{7, 4, 7, 3}, ""},
		{"more than there are", pdbOf("x", "web", "max 9"), members(web, 7, 0), numbers{7, 0, 7, 7}, ""},
		{"more is ready than there should be", pdbOf("x", "web", "max 1"), members(web, 9, 0), numbers{7, 6, 9, 3}, ""},
		{"several workloads", pdbOf("x", "", "max 1"), slices.Concat(members(web, 7, 0), members(api, 3, 0)), numbers{10, 9, 10, 1}, ""},
		{"going pods are not healthy", pdbOf("x", "web", "min 1"), []budget.Member{drained(member("a", web, true)), member("b", web, true)}, numbers{2, 1, 1, 0}, ""},
		{"unreported ones neither", pdbOf("x", "web", "min 1"), []budget.Member{{Slot: bare.Slot, Labels: map[string]string{"app": "web"}}}, numbers{1, 1, 0, 0}, ""},
		{"other apps and namespaces", pdbOf("x", "web", "min 1"), slices.Concat(members(web, 2, 0), members(api, 2, 0), []budget.Member{elsewhere}), numbers{2, 1, 2, 1}, ""},
		{"no pods", pdbOf("x", "web", "min 0"), nil, numbers{}, ""},
		{"no bound", pdbOf("x", "web", ""), members(web, 2, 0), numbers{0, 0, 2, 0}, ""},
		{"a bare pod is not expected", pdbOf("x", "", "max 1"), slices.Concat(members(api, 3, 0), []budget.Member{bare}), numbers{3, 2, 4, 2}, ""},
		{"bare pods alone", pdbOf("x", "", "max 1"), []budget.Member{bare}, numbers{0, 0, 1, 0}, ""},
		{"bare pods by int", pdbOf("x", "", "min 0"), []budget.Member{bare}, numbers{1, 0, 1, 1}, ""},
		{"a daemon has no scale", pdbOf("x", "", "max 1"), slices.Concat(members(daemon, 2, 0), members(api, 3, 0)), numbers{0, 0, 5, 0}, `found no controllers for pod "daemon-00"`},
		{"and needs none for an int", pdbOf("x", "", "min 1"), members(daemon, 2, 0), numbers{2, 1, 2, 1}, ""},
		{"no percent", pdbOf("x", "", "min much"), members(web, 2, 0), numbers{0, 0, 2, 0}, "invalid value"},
		{"nothing selected", unselected, members(web, 2, 0), numbers{0, 1, 0, 0}, ""},
		{"a wrong selector", wrong, members(web, 2, 0), numbers{}, "not a valid label selector operator"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := budget.Disruptions(test.pdb, shuffled(test.pods, 1), scales)
			if d := cmp.Diff(test.want, numbers{b.Expected, b.Desired, b.Healthy, b.Allowed}); d != "" {
				t.Error(d)
			}
			if (b.Fault == "") != (test.fault == "") || !strings.Contains(b.Fault, test.fault) {
				t.Errorf("fault %q", b.Fault)
			}
		})
	}
	b := budget.Disruptions(pdbOf("x", "", "max 1"), []budget.Member{bare}, scales)
	if d := cmp.Diff([]fleet.PodID{bare.Slot.Pod}, b.Unmanaged); d != "" {
		t.Error(d)
	}
}

func TestBudgetStatus(t *testing.T) {
	for bound, want := range map[string]string{"min 1": "True SufficientPods ", "min 2": "False InsufficientPods ", "min x%": `False SyncFailed `} {
		b := budget.Disruptions(pdbOf("x", "web", bound), members(web, 2, 0), map[fleet.ObjectID]int32{web: 2})
		s := b.Status()
		c := s.Conditions[0]
		if got := strings.Join([]string{string(c.Status), c.Reason, ""}, " "); got != want || c.Type != policyv1.DisruptionAllowedCondition || (c.Message == "") != (b.Fault == "") {
			t.Errorf("%s: %+v", bound, c)
		}
		if s.DisruptionsAllowed != b.Allowed || s.CurrentHealthy != 2 || s.DesiredHealthy != b.Desired || s.ExpectedPods != b.Expected {
			t.Errorf("%s: %+v", bound, s)
		}
	}
}

func TestMayEvict(t *testing.T) {
	const refused = "Cannot evict pod as it would violate the pod's disruption budget. "
	ready, unready := member("web-00", web, true), member("web-09", web, false)
	unreported := ready
	unreported.Report = nil
	for _, test := range []struct {
		name string
		pdbs []*policyv1.PodDisruptionBudget
		pods []budget.Member
		pod  budget.Member
		why  string
	}{
		{"no budget", nil, nil, ready, ""},
		{"another's budget", []*policyv1.PodDisruptionBudget{pdbOf("x", "api", "min 9")}, members(web, 1, 0), ready, ""},
		{"room", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 1")}, members(web, 2, 0), ready, ""},
		{"no room", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 2")}, members(web, 2, 0), ready, refused + "The disruption budget x needs 2 healthy pods and has 2 currently"},
		{"two budgets", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 0"), pdbOf("y", "", "min 0")}, members(web, 2, 0), ready,
			"This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."},
		{"two budgets for a pod that has ended", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 9"), pdbOf("y", "", "min 9")}, members(web, 2, 0), phase(ready, corev1.PodSucceeded), ""},
		{"failed", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 9")}, nil, phase(ready, corev1.PodFailed), ""},
		{"pending", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 9")}, nil, phase(ready, corev1.PodPending), ""},
		{"unreported", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 9")}, nil, unreported, ""},
		{"going anyway", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 9")}, nil, drained(ready), ""},
		{"unready, the others suffice", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 2")}, members(web, 2, 1), unready, ""},
		{"unready, the others do not", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 2")}, members(web, 1, 1), unready, refused + "The disruption budget x needs 2 healthy pods and has 1 currently"},
		{"unready, always", []*policyv1.PodDisruptionBudget{always(pdbOf("x", "web", "min 2"))}, members(web, 1, 1), unready, ""},
		{"ready, unready ones always", []*policyv1.PodDisruptionBudget{always(pdbOf("x", "web", "min 2"))}, members(web, 2, 1), ready, refused + "The disruption budget x needs 2 healthy pods and has 2 currently"},
		{"unready, none has to be healthy and one is", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 0")}, members(web, 1, 1), unready, ""},
		{"unready, none has to be healthy and none is", []*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 0")}, members(web, 0, 1), unready, refused + "The disruption budget x needs 0 healthy pods and has 0 currently"},
		{"a fault", []*policyv1.PodDisruptionBudget{pdbOf("x", "daemon", "max 1")}, members(daemon, 1, 0), member("daemon-00", daemon, true),
			refused + `The disruption budget x cannot be reckoned: found no controllers for pod "daemon-00"`},
		{"a fault, unready", []*policyv1.PodDisruptionBudget{pdbOf("x", "daemon", "max 1")}, members(daemon, 0, 1), member("daemon-00", daemon, false),
			refused + `The disruption budget x cannot be reckoned: found no controllers for pod "daemon-00"`},
		{"a fault, unready, always", []*policyv1.PodDisruptionBudget{always(pdbOf("x", "daemon", "max 1"))}, members(daemon, 0, 1), member("daemon-00", daemon, false), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			budgets := reckon(test.pdbs, test.pods)
			ok, why := budget.MayEvict(test.pod, budgets)
			if ok != (why == "") || why != test.why {
				t.Errorf("%v: %s\nwant %s", ok, why, test.why)
			}
			if again, _ := budget.Evict(test.pod, budgets); again != ok {
				t.Error("Evict says otherwise")
			}
		})
	}
}

func reckon(pdbs []*policyv1.PodDisruptionBudget, pods []budget.Member) []*budget.Budget {
	var budgets []*budget.Budget
	for _, p := range pdbs {
		b := budget.Disruptions(p, pods, map[fleet.ObjectID]int32{web: 7, api: 3})
		budgets = append(budgets, &b)
	}
	return budgets
}

func TestEvictCounts(t *testing.T) {
	pods := members(web, 4, 2)
	budgets := reckon([]*policyv1.PodDisruptionBudget{pdbOf("x", "web", "min 2"), pdbOf("y", "api", "min 2")}, pods)
	var gone []string
	for _, m := range []budget.Member{pods[4], pods[0], pods[1], pods[2], pods[5]} {
		if ok, _ := budget.Evict(m, budgets); ok {
			gone = append(gone, m.Slot.Pod.Name)
		}
	}
	if d := cmp.Diff([]string{"web-04", "web-00", "web-01", "web-05"}, gone); d != "" || budgets[0].Healthy != 2 || budgets[0].Allowed != 0 {
		t.Errorf("%s; %+v", d, budgets[0])
	}
}

// TestEvictionsKeepTheBudget draws pods, a budget and an order: one after the other they go no further than the budget,
// and counting equals reckoning anew.
func TestEvictionsKeepTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pods := slices.Concat(members(web, rapid.IntRange(0, 8).Draw(t, "ready"), rapid.IntRange(0, 4).Draw(t, "unready")), members(api, 3, 0))
		pdb := pdbOf("x", rapid.SampledFrom([]string{"web", ""}).Draw(t, "app"),
			rapid.SampledFrom([]string{"min 0", "min 1", "min 3", "min 50%", "min 100%", "max 0", "max 1", "max 40%", "max 100%"}).Draw(t, "bound"))
		if rapid.Bool().Draw(t, "always") {
			pdb = always(pdb)
		}
		budgets := reckon([]*policyv1.PodDisruptionBudget{pdb}, pods)
		if d := cmp.Diff(budgets[0].Status(), reckon([]*policyv1.PodDisruptionBudget{pdb}, shuffled(pods, 7))[0].Status()); d != "" {
			t.Fatalf("another order: %s", d)
		}
		first := budgets[0].Healthy
		for _, i := range rapid.Permutation(indexes(len(pods))).Draw(t, "order") {
			before := *budgets[0]
			may, _ := budget.MayEvict(pods[i], budgets)
			ok, why := budget.Evict(pods[i], budgets)
			if may != ok || ok != (why == "") {
				t.Fatalf("may %v, does %v: %s", may, ok, why)
			}
			if !ok {
				if before.Allowed != budgets[0].Allowed || before.Healthy != budgets[0].Healthy {
					t.Fatal("counted, and not evicted")
				}
				continue
			}
			pods[i] = drained(pods[i])
			anew := reckon([]*policyv1.PodDisruptionBudget{pdb}, pods)[0]
			if anew.Healthy != budgets[0].Healthy || budgets[0].Allowed != anew.Allowed {
				t.Fatalf("%+v, reckoned anew %+v", budgets[0], anew)
			}
			if anew.Healthy < min(first, anew.Desired) {
				t.Fatalf("%d healthy of %d", anew.Healthy, anew.Desired)
			}
		}
	})
}

func indexes(n int) []int {
	var list []int
	for i := range n {
		list = append(list, i)
	}
	return list
}
