package e2e_test

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/reconcile"
)

// TestLimitsAndQuota: what a namespace gives to pods that say nothing, and how many it lets in.
func TestLimitsAndQuota(t *testing.T) {
	w := newWorld(t)
	defaults := func(memory string) string {
		return "apiVersion: v1\nkind: LimitRange\nmetadata: {name: defaults}\nspec: {limits: [{type: Container, default: {memory: " + memory +
			", cpu: 300m}, defaultRequest: {memory: 16Mi, cpu: 50m}}]}\n"
	}
	quota := func(pods string) string {
		return "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: few, namespace: small}\nspec: {hard: {pods: \"" + pods + "\"}}\n"
	}
	w.write("limits.yaml", defaults("48Mi"))
	w.write("web.yaml", deployment("web", 1, w.image, ""))
	w.write("quota.yaml", quota("2"))
	w.write("many.yaml", strings.Replace(deployment("many", 4, w.image, ""), "{name: many}", "{name: many, namespace: small}", 1))
	w.commit("limits and a quota")
	w.start()
	w.must("sync")
	many := func(is func(s api.Status, x reconcile.Workload) bool) func(api.Status) bool {
		return func(s api.Status) bool {
			return slices.ContainsFunc(s.Workloads, func(x reconcile.Workload) bool { return x.ID.Name == "many" && is(s, x) })
		}
	}
	limits := func(t *testing.T, pod, memory string) {
		t.Helper()
		out := w.sees(pod, "main", "limits")
		for _, want := range [][]string{
			{"memory.limit_in_bytes " + memory, "memory.max " + memory},
			{"cpu.cfs_quota_us 30000", "cpu.max 30000 100000"},
		} {
			if !strings.Contains(out, want[0]+"\n") && !strings.Contains(out, want[1]+"\n") {
				t.Errorf("%s has not %s:\n%s", pod, want[0], out)
			}
		}
	}
	var first string
	w.scene("a container that names no limits has those of the namespace", func(t *testing.T) {
		w.until(long, "web", func(s api.Status) bool { return len(w.pods()) == 1 && ready(onlyValue(t, w.pods())) })
		p := onlyValue(t, w.pods())
		first = p.Name
		limits(t, first, "50331648")
		r := p.Spec.Containers[0].Resources
		if r.Limits.Memory().String() != "48Mi" || r.Requests.Cpu().String() != "50m" || p.Status.QOSClass != corev1.PodQOSBurstable {
			t.Errorf("it is shown with %+v, %s", r, p.Status.QOSClass)
		}
	})
	w.scene("another default is for pods to come", func(t *testing.T) {
		before := w.mains(first)
		w.write("limits.yaml", defaults("64Mi"))
		w.write("web.yaml", deployment("web", 2, w.image, ""))
		w.commit("more memory, and one more pod")
		w.must("sync")
		w.until(long, "two of web", func(s api.Status) bool {
			pods := w.pods()
			return len(pods) == 2 && !slices.ContainsFunc(values(pods), func(p *corev1.Pod) bool { return !ready(p) })
		})
		for name := range w.pods() {
			if name == first {
				limits(t, name, "50331648")
			} else {
				limits(t, name, "67108864")
			}
		}
		if got := changed(before, w.mains(first)); len(got) > 0 {
			t.Errorf("these were replaced: %v", got)
		}
	})
	w.scene("no more pods than the quota has room for", func(t *testing.T) {
		w.until(long, "two of four", many(func(s api.Status, x reconcile.Workload) bool { return x.Available == 2 && len(s.Pods) == 4 }))
		out := w.must("status")
		for _, want := range []string{"exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"} {
			if !strings.Contains(out, want) {
				t.Errorf("status does not say %q", want)
			}
		}
		q := object[corev1.ResourceQuota](w, "/api/v1/namespaces/small/resourcequotas/few")
		if used := q.Status.Used[corev1.ResourcePods]; used.Value() != 2 {
			t.Errorf("it is shown as %+v", q.Status)
		}
		d := object[appsv1.Deployment](w, "/apis/apps/v1/namespaces/small/deployments/many")
		if !slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue && strings.Contains(c.Message, "exceeded quota")
		}) {
			t.Errorf("its conditions: %+v", d.Status.Conditions)
		}
		before := w.running()
		w.write("quota.yaml", quota("3"))
		w.commit("one more")
		w.must("sync")
		w.until(long, "three of four", many(func(_ api.Status, x reconcile.Workload) bool { return x.Available == 3 }))
		w.write("quota.yaml", quota("1"))
		w.commit("fewer than there are")
		w.must("sync")
		if now := w.running(); len(now) != len(before)+1 {
			t.Errorf("a quota takes nothing down: %v, now %v", before, now)
		}
		w.remove("quota.yaml")
		w.commit("as many as you like")
		w.sync()
	})
}

func values[T any](m map[string]T) (list []T) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}
