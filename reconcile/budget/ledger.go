package budget

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-dev/skerry/fleet"
)

// Ledger counts what one namespace has against its quotas. It belongs to one goroutine. The zero Ledger, and a nil one,
// has no quotas: everything is admitted.
type Ledger struct{ accounts []account }

// account is one quota and what is used of it.
type account struct {
	name   string
	scopes []corev1.ScopedResourceSelectorRequirement
	lines  []line // in the order of their names
}

type line struct {
	name       corev1.ResourceName
	hard, used resource.Quantity
}

// NewLedger is a ledger for the quotas of one namespace, given in any order, in which nothing is counted yet.
func NewLedger(quotas []*corev1.ResourceQuota) *Ledger {
	l := &Ledger{}
	for _, q := range quotas {
		a := account{name: q.Name}
		for _, scope := range q.Spec.Scopes {
			a.scopes = append(a.scopes, corev1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: corev1.ScopeSelectorOpExists})
		}
		if q.Spec.ScopeSelector != nil {
			a.scopes = append(a.scopes, q.Spec.ScopeSelector.MatchExpressions...)
		}
		for name, hard := range inOrder(q.Spec.Hard) {
			a.lines = append(a.lines, line{name: name, hard: hard})
		}
		l.accounts = append(l.accounts, a)
	}
	slices.SortFunc(l.accounts, func(a, b account) int { return cmp.Compare(a.name, b.name) })
	return l
}

// Ledgers are those of all namespaces with quotas, by namespace. Objects that are desired or held are counted in them.
// Pods are not, nor what has no object of its own: ReplicaSets of Deployments, Jobs of CronJobs, claims of
// StatefulSets.
func Ledgers(d fleet.Desired) map[string]*Ledger {
	quotas := map[string][]*corev1.ResourceQuota{}
	for o, q := range fleet.Each[*corev1.ResourceQuota](d) {
		quotas[o.ID.Namespace] = append(quotas[o.ID.Namespace], q)
	}
	ledgers := make(map[string]*Ledger, len(quotas))
	for namespace, list := range quotas {
		ledgers[namespace] = NewLedger(list)
	}
	if len(ledgers) == 0 {
		return ledgers
	}
	for _, o := range d.Objects {
		if l := ledgers[o.ID.Namespace]; l != nil {
			l.Add(ObjectCharge(o.ID.Kind, o.Value))
		}
	}
	for id := range d.Held {
		if _, found := d.Find(id); !found {
			ledgers[id.Namespace].Add(ObjectCharge(id.Kind, nil))
		}
	}
	return ledgers
}

// Add counts what is there already, whether or not there is room for it.
func (l *Ledger) Add(c Charge) {
	if l == nil {
		return
	}
	for i := range l.accounts {
		if a := &l.accounts[i]; a.covers(c) {
			a.add(c)
		}
	}
}

// Admit counts what is to be created if every quota has room for it. If not, nothing is counted, and why says what
// Kubernetes would. It costs no more than a few lookups a quota.
func (l *Ledger) Admit(c Charge) (ok bool, why string) {
	if l == nil {
		return true, ""
	}
	for _, a := range l.accounts {
		if why := a.unnamed(c); why != "" {
			return false, why
		}
	}
	for _, a := range l.accounts {
		if why := a.exceeded(c); why != "" {
			return false, why
		}
	}
	l.Add(c)
	return true, ""
}

// Status is what a quota's status shows: its limits, and what is used of them. It is false when the ledger has no quota
// of that name.
func (l *Ledger) Status(quota string) (corev1.ResourceQuotaStatus, bool) {
	if l == nil {
		return corev1.ResourceQuotaStatus{}, false
	}
	i := slices.IndexFunc(l.accounts, func(a account) bool { return a.name == quota })
	if i < 0 {
		return corev1.ResourceQuotaStatus{}, false
	}
	s := corev1.ResourceQuotaStatus{Hard: corev1.ResourceList{}, Used: corev1.ResourceList{}}
	for _, n := range l.accounts[i].lines {
		s.Hard[n.name], s.Used[n.name] = n.hard, n.shown()
	}
	return s, true
}

// shown is what is used, written as the limit is: in whatever order it came together, it reads the same.
func (n line) shown() resource.Quantity {
	q := n.used.DeepCopy()
	q.Format = n.hard.Format
	return q
}

func (a *account) add(c Charge) {
	for i := range a.lines {
		if q, ok := c.Resources[a.lines[i].name]; ok {
			a.lines[i].used = plus(a.lines[i].used, q)
		}
	}
}

// unnamed says which resources the pod's containers have to name and do not.
func (a *account) unnamed(c Charge) string {
	if c.pod == nil || !a.covers(c) {
		return ""
	}
	var parts []string
	for _, n := range a.lines {
		if names := c.pod.missing[n.name]; len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%s for: %s", n.name, strings.Join(names, ",")))
		}
	}
	if parts == nil {
		return ""
	}
	return fmt.Sprintf("failed quota: %s: must specify %s", a.name, strings.Join(parts, "; "))
}

// exceeded says what would be too much.
func (a *account) exceeded(c Charge) string {
	if !a.covers(c) {
		return ""
	}
	var requested, used, hard []string
	for _, n := range a.lines {
		q, ok := c.Resources[n.name]
		if !ok || q.IsZero() {
			continue
		}
		if sum := plus(n.used, q); sum.Cmp(n.hard) <= 0 {
			continue
		}
		shown := n.shown()
		requested = append(requested, fmt.Sprintf("%s=%s", n.name, q.String()))
		used = append(used, fmt.Sprintf("%s=%s", n.name, shown.String()))
		hard = append(hard, fmt.Sprintf("%s=%s", n.name, n.hard.String()))
	}
	if requested == nil {
		return ""
	}
	return fmt.Sprintf("exceeded quota: %s, requested: %s, used: %s, limited: %s", a.name,
		strings.Join(requested, ","), strings.Join(used, ","), strings.Join(hard, ","))
}

// covers reports whether the quota is for this kind of pod; one without scopes is for everything.
func (a *account) covers(c Charge) bool {
	for _, s := range a.scopes {
		if c.pod == nil || !c.pod.in(s) {
			return false
		}
	}
	return true
}

func (t *traits) in(s corev1.ScopedResourceSelectorRequirement) bool {
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return t.terminating
	case corev1.ResourceQuotaScopeNotTerminating:
		return !t.terminating
	case corev1.ResourceQuotaScopeBestEffort:
		return t.bestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !t.bestEffort
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return t.crossing
	case corev1.ResourceQuotaScopePriorityClass:
		named := t.priority != ""
		switch s.Operator {
		case corev1.ScopeSelectorOpExists:
			return named
		case corev1.ScopeSelectorOpDoesNotExist:
			return !named
		case corev1.ScopeSelectorOpIn:
			return named && slices.Contains(s.Values, t.priority)
		case corev1.ScopeSelectorOpNotIn:
			return !named || !slices.Contains(s.Values, t.priority)
		}
	}
	return false
}
