package budget_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
)

func TestPodCharge(t *testing.T) {
	for _, test := range []struct {
		name string
		spec *corev1.PodSpec
		want string
	}{
		{"nothing said", spec(box("a", "", "")), "count/pods=1,pods=1"},
		{"compute", spec(box("a", "cpu=1,memory=1Gi,ephemeral-storage=1Gi", "cpu=2,memory=2Gi,ephemeral-storage=2Gi")),
			"count/pods=1,cpu=1,ephemeral-storage=1Gi,limits.cpu=2,limits.ephemeral-storage=2Gi,limits.memory=2Gi,memory=1Gi,pods=1," +
				"requests.cpu=1,requests.ephemeral-storage=1Gi,requests.memory=1Gi"},
		{"a limit is a request", spec(box("a", "", "cpu=2")), "count/pods=1,cpu=2,limits.cpu=2,pods=1,requests.cpu=2"},
		{"init container and sidecar", started(spec(box("a", "cpu=1", "")), sidecar(box("s", "cpu=1", "")), box("i", "cpu=3", "")), "count/pods=1,cpu=4,pods=1,requests.cpu=4"},
		{"others", spec(box("a", "", "example.com/gpu=2,hugepages-2Mi=4Mi,kubernetes.io/x=1")),
			"count/pods=1,hugepages-2Mi=4Mi,pods=1,requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := budget.PodCharge(test.spec)
			if got := text(c.Resources); got != test.want {
				t.Errorf("%s\nwant %s", got, test.want)
			}
			if got := text(c.Ended().Resources); got != "count/pods=1" {
				t.Errorf("ended: %s", got)
			}
		})
	}
}

func TestObjectCharge(t *testing.T) {
	class, no := "fast", false
	claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: list("storage=1500m")}}}
	fast, beta := claim.DeepCopy(), claim.DeepCopy()
	fast.Spec.StorageClassName = &class
	beta.Spec.StorageClassName, beta.Annotations = &class, map[string]string{corev1.BetaStorageClassAnnotation: "old"}
	service := func(kind corev1.ServiceType, allocate *bool) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{Type: kind, AllocateLoadBalancerNodePorts: allocate, Ports: []corev1.ServicePort{{Port: 80}, {Port: 81, NodePort: 30000}}}}
	}
	for _, test := range []struct {
		kind  string
		value runtime.Object
		want  string
	}{
		{fleet.KindDeployment, &appsv1.Deployment{}, "count/deployments.apps=1"},
		{fleet.KindReplicaSet, nil, "count/replicasets.apps=1"},
		{fleet.KindCronJob, nil, "count/cronjobs.batch=1"},
		{fleet.KindConfigMap, &corev1.ConfigMap{}, "configmaps=1,count/configmaps=1"},
		{fleet.KindSecret, nil, "count/secrets=1,secrets=1"},
		{fleet.KindServiceAccount, nil, "count/serviceaccounts=1"},
		{fleet.KindQuota, nil, "count/resourcequotas=1,resourcequotas=1"},
		{fleet.KindPod, &corev1.Pod{}, ""},
		{"Odd", nil, ""},
		{fleet.KindPersistentVolumeClaim, nil, "count/persistentvolumeclaims=1,persistentvolumeclaims=1"},
		{fleet.KindPersistentVolumeClaim, claim, "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=2"},
		{fleet.KindPersistentVolumeClaim, fast, "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1," +
			"fast.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2"},
		{fleet.KindPersistentVolumeClaim, beta, "count/persistentvolumeclaims=1,old.storageclass.storage.k8s.io/persistentvolumeclaims=1," +
			"old.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2"},
		{"Service", service(corev1.ServiceTypeClusterIP, nil), "count/services=1,services=1"},
		{"Service", service(corev1.ServiceTypeNodePort, nil), "count/services=1,services.nodeports=2,services=1"},
		{"Service", service(corev1.ServiceTypeLoadBalancer, nil), "count/services=1,services.loadbalancers=1,services.nodeports=2,services=1"},
		{"Service", service(corev1.ServiceTypeLoadBalancer, &no), "count/services=1,services.loadbalancers=1,services.nodeports=1,services=1"},
	} {
		if got := text(budget.ObjectCharge(test.kind, test.value).Resources); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.kind, got, test.want)
		}
	}
	if claim.Spec.Resources.Requests.Storage().String() != "1500m" {
		t.Error("the claim was changed")
	}
}

func TestAdmit(t *testing.T) {
	small := budget.PodCharge(spec(box("a", "cpu=500m,memory=512Mi", "cpu=1,memory=1Gi")))
	silent := budget.PodCharge(started(spec(box("b", "", ""), box("a", "cpu=1", "cpu=1")), box("i", "", "")))
	free := budget.PodCharge(spec(box("a", "cpu=0", "")))
	claim := budget.ObjectCharge(fleet.KindPersistentVolumeClaim, nil)
	for _, test := range []struct {
		name   string
		quotas []*corev1.ResourceQuota
		there  []budget.Charge
		asks   budget.Charge
		why    string
	}{
		{"no quota", nil, nil, small, ""},
		{"room", []*corev1.ResourceQuota{quotaOf("x", "pods=3")}, []budget.Charge{small, small}, small, ""},
		{"too many", []*corev1.ResourceQuota{quotaOf("x", "pods=2")}, []budget.Charge{small, small}, small,
			"exceeded quota: x, requested: pods=1, used: pods=2, limited: pods=2"},
		{"several resources, and those that fit", []*corev1.ResourceQuota{quotaOf("x", "requests.cpu=1,limits.memory=2Gi,pods=9")}, []budget.Charge{small, small}, small,
			"exceeded quota: x, requested: limits.memory=1Gi,requests.cpu=500m, used: limits.memory=2Gi,requests.cpu=1, limited: limits.memory=2Gi,requests.cpu=1"},
		{"ended pods have left", []*corev1.ResourceQuota{quotaOf("x", "pods=2,cpu=1")}, []budget.Charge{small, small.Ended()}, small, ""},
		{"and are still there", []*corev1.ResourceQuota{quotaOf("x", "count/pods=2")}, []budget.Charge{small, small.Ended()}, small,
			"exceeded quota: x, requested: count/pods=1, used: count/pods=2, limited: count/pods=2"},
		{"what is unsaid", []*corev1.ResourceQuota{quotaOf("x", "requests.cpu=9,cpu=9,memory=9Gi,limits.memory=9Gi,pods=9")}, nil, silent,
			"failed quota: x: must specify cpu for: b,i; limits.memory for: a,b,i; memory for: a,b,i; requests.cpu for: b,i"},
		{"what is unsaid and not asked", []*corev1.ResourceQuota{quotaOf("x", "pods=9,requests.ephemeral-storage=1Gi")}, nil, silent, ""},
		{"unsaid comes before exceeded", []*corev1.ResourceQuota{quotaOf("a", "pods=0"), quotaOf("b", "cpu=9")}, nil, silent,
			"failed quota: b: must specify cpu for: b,i"},
		{"the first of two", []*corev1.ResourceQuota{quotaOf("b", "pods=0"), quotaOf("a", "pods=0")}, nil, small,
			"exceeded quota: a, requested: pods=1, used: pods=0, limited: pods=0"},
		{"more than the limit already", []*corev1.ResourceQuota{quotaOf("x", "pods=1,cpu=100m")}, []budget.Charge{small, small}, small,
			"exceeded quota: x, requested: cpu=500m,pods=1, used: cpu=1,pods=2, limited: cpu=100m,pods=1"},
		{"and nothing wanted of it", []*corev1.ResourceQuota{quotaOf("x", "cpu=100m")}, []budget.Charge{small, small}, free, ""},
		{"another object", []*corev1.ResourceQuota{quotaOf("x", "persistentvolumeclaims=1,cpu=1")}, []budget.Charge{claim}, claim,
			"exceeded quota: x, requested: persistentvolumeclaims=1, used: persistentvolumeclaims=1, limited: persistentvolumeclaims=1"},
		{"scopes are of pods", []*corev1.ResourceQuota{quotaOf("x", "persistentvolumeclaims=0", corev1.ResourceQuotaScopeNotTerminating)}, nil, claim, ""},
		{"what is nothing", []*corev1.ResourceQuota{quotaOf("x", "pods=0")}, nil, budget.Charge{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := budget.NewLedger(test.quotas)
			for _, c := range test.there {
				l.Add(c)
			}
			if ok, why := l.Admit(test.asks); ok != (why == "") || why != test.why {
				t.Errorf("%v: %s\nwant %s", ok, why, test.why)
			}
		})
	}
	var none *budget.Ledger
	none.Add(small)
	if ok, _ := none.Admit(small); !ok {
		t.Error("no ledger refuses")
	}
	if _, ok := none.Status("x"); ok {
		t.Error("no ledger has a quota")
	}
}

func TestRefusedIsNotCounted(t *testing.T) {
	l := budget.NewLedger([]*corev1.ResourceQuota{quotaOf("a", "cpu=2,memory=4Gi"), quotaOf("b", "pods=1,memory=4Gi")})
	c := budget.PodCharge(spec(box("a", "cpu=1,memory=512Mi", "")))
	for i := range 3 {
		if ok, why := l.Admit(c); ok != (i == 0) {
			t.Errorf("%d: %v %s", i, ok, why)
		}
	}
	for name, want := range map[string]string{"a": "cpu=1,memory=512Mi", "b": "memory=512Mi,pods=1"} {
		if s, ok := l.Status(name); !ok || text(s.Used) != want {
			t.Errorf("%s: used %s, want %s", name, text(s.Used), want)
		}
	}
	if s, ok := l.Status("a"); !ok || text(s.Hard) != "cpu=2,memory=4Gi" {
		t.Errorf("hard %s", text(s.Hard))
	}
	if _, ok := l.Status("c"); ok {
		t.Error("there is no c")
	}
}

func TestScopes(t *testing.T) {
	deadline := int64(0)
	plain := spec(box("a", "cpu=1", ""))
	limited, best := spec(box("a", "", "memory=1Gi")), spec(box("a", "ephemeral-storage=1Gi", ""))
	ending, high := spec(box("a", "cpu=1", "")), spec(box("a", "cpu=1", ""))
	ending.ActiveDeadlineSeconds, high.PriorityClassName = &deadline, "high"
	near, far, home := spec(box("a", "cpu=1", "")), spec(box("a", "cpu=1", "")), spec(box("a", "cpu=1", ""))
	near.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{Namespaces: []string{"b"}}}}}
	far.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
		{PodAffinityTerm: corev1.PodAffinityTerm{NamespaceSelector: &metav1.LabelSelector{}}}}}}
	home.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "x"}}}}
	pods := map[string]*corev1.PodSpec{"plain": plain, "limited": limited, "best": best, "ending": ending, "high": high, "near": near, "far": far, "home": home}
	priority := func(op corev1.ScopeSelectorOperator, values ...string) *corev1.ResourceQuota {
		q := quotaOf("x", "pods=0")
		q.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: op, Values: values}}}
		return q
	}
	const others = "best ending far home limited near plain"
	for _, test := range []struct {
		name  string
		quota *corev1.ResourceQuota
		want  string // which pods it is for
	}{
		{"none", quotaOf("x", "pods=0"), "best ending far high home limited near plain"},
		{"terminating", quotaOf("x", "pods=0", corev1.ResourceQuotaScopeTerminating), "ending"},
		{"not terminating", quotaOf("x", "pods=0", corev1.ResourceQuotaScopeNotTerminating), "best far high home limited near plain"},
		{"best effort", quotaOf("x", "pods=0", corev1.ResourceQuotaScopeBestEffort), "best"},
		{"not best effort, and terminating", quotaOf("x", "pods=0", corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating), "ending"},
		{"across namespaces", quotaOf("x", "pods=0", corev1.ResourceQuotaScopeCrossNamespacePodAffinity), "far near"},
		{"any priority", quotaOf("x", "pods=0", corev1.ResourceQuotaScopePriorityClass), "high"},
		{"no priority", priority(corev1.ScopeSelectorOpDoesNotExist), others},
		{"some priority", priority(corev1.ScopeSelectorOpExists), "high"},
		{"one of", priority(corev1.ScopeSelectorOpIn, "low", "high"), "high"},
		{"one of others", priority(corev1.ScopeSelectorOpIn, "low"), ""},
		{"none of", priority(corev1.ScopeSelectorOpNotIn, "high"), others},
		{"none of others", priority(corev1.ScopeSelectorOpNotIn, "low"), "best ending far high home limited near plain"},
		{"an unknown operator", priority("Odd"), ""},
		{"an unknown scope", quotaOf("x", "pods=0", corev1.ResourceQuotaScopeVolumeAttributesClass), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, name := range strings.Fields("best ending far high home limited near plain") {
				if ok, _ := budget.NewLedger([]*corev1.ResourceQuota{test.quota}).Admit(budget.PodCharge(pods[name])); !ok {
					got = append(got, name)
				}
			}
			if now := strings.Join(got, " "); now != test.want {
				t.Errorf("for %s, want %s", now, test.want)
			}
		})
	}
}

func TestLedgers(t *testing.T) {
	object := func(kind, namespace, name string, value runtime.Object) fleet.Object {
		return fleet.Object{ID: fleet.ObjectID{Kind: kind, Namespace: namespace, Name: name}, Value: value}
	}
	held := fleet.ObjectID{Kind: fleet.KindConfigMap, Namespace: "default", Name: "z"}
	d := fleet.Desired{
		Objects: []fleet.Object{
			object(fleet.KindConfigMap, "default", "a", &corev1.ConfigMap{}), object(fleet.KindConfigMap, "default", "b", &corev1.ConfigMap{}),
			object(fleet.KindConfigMap, "other", "a", &corev1.ConfigMap{}), object(fleet.KindDeployment, "default", "web", &appsv1.Deployment{}),
			object(fleet.KindNamespace, "", "default", &corev1.Namespace{}), object(fleet.KindPod, "default", "p", &corev1.Pod{}),
			object(fleet.KindQuota, "default", "x", quotaOf("x", "configmaps=2,count/deployments.apps=5,pods=1")),
			object(fleet.KindQuota, "empty", "x", quotaOf("x", "pods=1")),
		},
		Held: map[fleet.ObjectID]string{held: "lost", {Kind: fleet.KindConfigMap, Namespace: "default", Name: "a"}: "there all the same", {Kind: fleet.KindNamespace, Name: "n"}: "lost"},
	}
	ledgers := budget.Ledgers(d)
	if len(ledgers) != 2 || ledgers["other"] != nil {
		t.Fatalf("ledgers %v", ledgers)
	}
	s, _ := ledgers["default"].Status("x")
	if got, want := text(s.Used), "configmaps=3,count/deployments.apps=1,pods=0"; got != want {
		t.Errorf("used %s, want %s", got, want)
	}
	if got := budget.Ledgers(fleet.Desired{Held: d.Held}); len(got) != 0 {
		t.Errorf("without quotas: %v", got)
	}
}

func drawSpec(t *rapid.T) *corev1.PodSpec {
	c := func(name string) corev1.Container {
		pick := func(names ...string) string { return rapid.SampledFrom(names).Draw(t, "resources") }
		return box(name, pick("", "cpu=100m", "cpu=1,memory=1Gi", "memory=1000M,cpu=0"), pick("", "cpu=2", "cpu=1,memory=2Gi"))
	}
	s := spec(c("a"))
	if rapid.Bool().Draw(t, "init") {
		s.InitContainers = []corev1.Container{c("i"), sidecar(c("s"))}
	}
	if rapid.IntRange(0, 3).Draw(t, "deadline") == 0 {
		deadline := int64(60)
		s.ActiveDeadlineSeconds = &deadline
	}
	return s
}

// TestQuotaIsNeverExceeded draws quotas and pods: what was admitted fits in any order, and reads the same in any.
func TestQuotaIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var quotas []*corev1.ResourceQuota
		for i := range rapid.IntRange(1, 3).Draw(t, "quotas") {
			hard := rapid.SampledFrom([]string{"pods=5", "requests.cpu=3,limits.memory=9Gi", "cpu=2,memory=3Gi,count/pods=7", "limits.cpu=1e1,memory=3e9"}).Draw(t, "hard")
			scopes := rapid.SampledFrom([][]corev1.ResourceQuotaScope{nil, nil, {corev1.ResourceQuotaScopeBestEffort}, {corev1.ResourceQuotaScopeNotTerminating}}).Draw(t, "scopes")
			quotas = append(quotas, quotaOf(fmt.Sprint(i), hard, scopes...))
		}
		var charges []budget.Charge
		for range rapid.IntRange(0, 20).Draw(t, "pods") {
			charges = append(charges, budget.PodCharge(drawSpec(t)))
		}
		l := budget.NewLedger(quotas)
		var admitted []budget.Charge
		for _, c := range charges {
			if ok, _ := l.Admit(c); ok {
				admitted = append(admitted, c)
			}
		}
		seed := rapid.Int64().Draw(t, "order")
		again := budget.NewLedger(shuffled(quotas, seed))
		for _, c := range shuffled(admitted, seed) {
			if ok, why := again.Admit(c); !ok {
				t.Fatalf("what fitted in one order does not in another: %s", why)
			}
		}
		for _, q := range quotas {
			s, _ := l.Status(q.Name)
			for name, used := range s.Used {
				if hard := s.Hard[name]; used.Cmp(hard) > 0 {
					t.Fatalf("%s of %s: %s of %s", name, q.Name, used.String(), hard.String())
				}
			}
			other, _ := again.Status(q.Name)
			if text(s.Used) != text(other.Used) {
				t.Fatalf("%s: %s, in another order %s", q.Name, text(s.Used), text(other.Used))
			}
		}
		for _, c := range charges {
			ok, why := budget.NewLedger(quotas).Admit(c)
			if same, again := budget.NewLedger(shuffled(quotas, seed)).Admit(c); same != ok || again != why {
				t.Fatalf("another order of quotas says something else: %s; %s", why, again)
			}
		}
	})
}

func TestDefaultsAreOfNoOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ranges []*corev1.LimitRange
		for i := range rapid.IntRange(0, 4).Draw(t, "ranges") {
			pick := rapid.SampledFrom([]string{"", "cpu=1", "cpu=2,memory=1Gi", "memory=2Gi"})
			item := defaults(pick.Draw(t, "requests"), pick.Draw(t, "limits"))
			item.Min, item.Max = list(pick.Draw(t, "min")), list(pick.Draw(t, "max"))
			ranges = append(ranges, rangeOf(fmt.Sprint(i), item))
		}
		mixed := shuffled(ranges, rapid.Int64().Draw(t, "order"))
		d := budget.Defaults(ranges)
		if diff := cmp.Diff(d, budget.Defaults(mixed)); diff != "" {
			t.Fatal(diff)
		}
		s := drawSpec(t)
		full := budget.WithDefaults(s, d)
		if budget.WithDefaults(full, d) != full {
			t.Fatal("twice is not once")
		}
		if diff := cmp.Diff(budget.Violations(ranges, full), budget.Violations(mixed, full)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(text(budget.PodCharge(budget.WithDefaults(s, nil)).Resources), text(budget.PodCharge(s).Resources)); diff != "" {
			t.Fatalf("requests from limits make a difference: %s", diff)
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	quotas := []*corev1.ResourceQuota{quotaOf("a", "pods=1e12,requests.cpu=1e12,requests.memory=1e18,limits.cpu=1e12,limits.memory=1e18"),
		quotaOf("b", "pods=1e12,cpu=1e12", corev1.ResourceQuotaScopeNotTerminating)}
	c := budget.PodCharge(spec(box("a", "cpu=100m,memory=1Gi", "cpu=1,memory=1Gi"), box("b", "cpu=100m,memory=1Gi", "cpu=1,memory=1Gi")))
	l := budget.NewLedger(quotas)
	b.ReportAllocs()
	for b.Loop() {
		if ok, why := l.Admit(c); !ok {
			b.Fatal(why)
		}
	}
}
