package budget_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/budget"
)

// list reads "cpu=1,memory=1Gi".
func list(text string) corev1.ResourceList {
	var l corev1.ResourceList
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, q, _ := strings.Cut(part, "=")
		if l == nil {
			l = corev1.ResourceList{}
		}
		l[corev1.ResourceName(name)] = resource.MustParse(q)
	}
	return l
}

// text writes what list reads, in the order of the names.
func text(l corev1.ResourceList) string {
	var parts []string
	for name, q := range l {
		parts = append(parts, fmt.Sprintf("%s=%s", name, q.String()))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// box is a container: its requests, then its limits.
func box(name, requests, limits string) corev1.Container {
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}}
}

func sidecar(c corev1.Container) corev1.Container {
	always := corev1.ContainerRestartPolicyAlways
	c.RestartPolicy = &always
	return c
}

func spec(containers ...corev1.Container) *corev1.PodSpec {
	return &corev1.PodSpec{Containers: containers}
}

// started is a spec with containers that come first.
func started(s *corev1.PodSpec, initial ...corev1.Container) *corev1.PodSpec {
	s.InitContainers = initial
	return s
}

func rangeOf(name string, items ...corev1.LimitRangeItem) *corev1.LimitRange {
	return &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.LimitRangeSpec{Limits: items}}
}

func quotaOf(name, hard string, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: list(hard), Scopes: scopes}}
}

var (
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	web    = fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "default", Name: "web"}
	api    = fleet.ObjectID{Kind: fleet.KindStatefulSet, Namespace: "default", Name: "api"}
	daemon = fleet.ObjectID{Kind: fleet.KindDaemonSet, Namespace: "default", Name: "daemon"}
)

// member is a running pod of a workload, labelled with its name.
func member(name string, workload fleet.ObjectID, ready bool) budget.Member {
	m := budget.Member{Labels: map[string]string{"app": workload.Name}}
	m.Slot.Pod, m.Slot.Goal, m.Slot.Owner = fleet.PodID{Namespace: "default", Name: name}, fleet.Run, workload
	if workload.Kind == fleet.KindDeployment {
		m.Slot.Controller, m.Slot.Owner = workload, fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "default", Name: workload.Name + "-1"}
	}
	m.Report = &fleet.PodReport{Identity: m.Slot.Identity, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	m.Report.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Time{Time: noon}}}
	return m
}

// members are so many ready ones of a workload, and then so many that are not.
func members(workload fleet.ObjectID, ready, unready int) []budget.Member {
	var all []budget.Member
	for i := range ready + unready {
		all = append(all, member(fmt.Sprintf("%s-%02d", workload.Name, i), workload, i < ready))
	}
	return all
}

func drained(m budget.Member) budget.Member {
	m.Slot.Goal = fleet.Drain
	return m
}

func phase(m budget.Member, p corev1.PodPhase) budget.Member {
	report := *m.Report
	report.Status.Phase = p
	m.Report = &report
	return m
}

func shuffled[T any](all []T, seed int64) []T {
	all = slices.Clone(all)
	rand.New(rand.NewSource(seed)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
