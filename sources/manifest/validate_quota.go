package manifest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	noCount     = "has no effect: there are none of these here"
	noResource  = "has no effect: nothing here but CPU, memory and storage of claims is accounted for"
	storagePart = ".storageclass.storage.k8s.io/"
)

// ofPods are the resources of a quota that pods use up: all that scopes are about.
var ofPods = []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU,
	corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory}

// quotaResources are those without a domain in their name that a quota may have, and why they have no effect if they
// have none.
var quotaResources = map[corev1.ResourceName]string{
	corev1.ResourcePods: "", corev1.ResourceCPU: "", corev1.ResourceMemory: "",
	corev1.ResourceRequestsCPU: "", corev1.ResourceRequestsMemory: "", corev1.ResourceLimitsCPU: "", corev1.ResourceLimitsMemory: "",
	corev1.ResourceRequestsStorage: "", corev1.ResourcePersistentVolumeClaims: "",
	corev1.ResourceConfigMaps: "", corev1.ResourceSecrets: "", corev1.ResourceQuotas: "", corev1.ResourceReplicationControllers: "",
	corev1.ResourceServices: noCount, corev1.ResourceServicesNodePorts: noCount, corev1.ResourceServicesLoadBalancers: noCount,
	corev1.ResourceEphemeralStorage: noStorage, corev1.ResourceRequestsEphemeralStorage: noStorage, corev1.ResourceLimitsEphemeralStorage: noStorage,
}

// counted are the kinds whose objects a quota can count, as it names them.
var counted = []string{"pods", "configmaps", "secrets", "serviceaccounts", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas",
	"limitranges", "deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "cronjobs.batch",
	"horizontalpodautoscalers.autoscaling", "poddisruptionbudgets.policy"}

func (c *checker) quota(s *corev1.ResourceQuotaSpec, p *field.Path) {
	names := slices.Sorted(maps.Keys(s.Hard))
	for _, name := range names {
		at, q := p.Child("hard").Key(string(name)), s.Hard[name]
		if q.Sign() < 0 {
			c.bad(at, "must not be negative")
		}
		if isCount(name) && !isWhole(q) {
			c.bad(at, "must be a whole number")
		}
		c.quotaResource(name, at)
	}
	var scopes []corev1.ResourceQuotaScope
	for i, scope := range s.Scopes {
		scopes = append(scopes, scope)
		c.scope(scope, names, p.Child("scopes").Index(i))
	}
	c.agree(scopes, p.Child("scopes"))
	if s.ScopeSelector == nil {
		return
	}
	scopes = nil
	p = p.Child("scopeSelector", "matchExpressions")
	for i, req := range s.ScopeSelector.MatchExpressions {
		scopes = append(scopes, req.ScopeName)
		c.scope(req.ScopeName, names, p.Index(i).Child("scopeName"))
		c.scopeOperator(&req, p.Index(i))
	}
	c.agree(scopes, p)
}

func (c *checker) quotaResource(name corev1.ResourceName, p *field.Path) {
	why, known := quotaResources[name]
	kind, isCount := strings.CutPrefix(string(name), "count/")
	class, of, ofClass := strings.Cut(string(name), storagePart)
	_, hugePages := strings.CutPrefix(strings.TrimPrefix(string(name), corev1.DefaultResourceRequestsPrefix), corev1.ResourceHugePagesPrefix)
	switch {
	case known && why != "":
		c.warn(p, why)
	case known:
	case hugePages:
		c.warn(p, noResource)
	case !strings.Contains(string(name), "/"):
		text := fmt.Sprintf("unknown resource %q", name)
		if near := nearest(string(name), resourceNames()); near != "" {
			text += fmt.Sprintf(", did you mean %q?", near)
		}
		c.bad(p, "%s", text)
	case len(validation.IsQualifiedName(string(name))) > 0:
		c.all(p, string(name), validation.IsQualifiedName(string(name)))
	case isCount && slices.Contains(counted, kind):
	case isCount:
		c.warn(p, noCount)
	case ofClass && class != "" && (of == string(corev1.ResourceRequestsStorage) || of == string(corev1.ResourcePersistentVolumeClaims)):
	default:
		c.warn(p, noResource)
	}
}

func resourceNames() []string {
	var out []string
	for name := range quotaResources {
		out = append(out, string(name))
	}
	slices.Sort(out)
	return out
}

// isCount reports whether a quota of a resource is a number of things, and not an amount.
func isCount(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceSecrets, corev1.ResourceConfigMaps,
		corev1.ResourcePersistentVolumeClaims, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return strings.HasPrefix(string(name), "count/") || strings.HasSuffix(string(name), storagePart+string(corev1.ResourcePersistentVolumeClaims))
}

func isWhole(q resource.Quantity) bool {
	rounded := q.DeepCopy()
	return rounded.RoundUp(0)
}

// scope checks one scope of a quota of the resources named.
func (c *checker) scope(scope corev1.ResourceQuotaScope, names []corev1.ResourceName, p *field.Path) {
	switch scope {
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort:
	case corev1.ResourceQuotaScopePriorityClass:
		c.cannot(p, "there are no priority classes here")
		return
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ResourceQuotaScopeVolumeAttributesClass:
		c.cannot(p, "nothing here is of this scope")
		return
	default:
		oneOf(c, p, scope, corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort)
		return
	}
	for _, name := range names {
		_, standard := quotaResources[name]
		switch {
		case !standard:
		case scope == corev1.ResourceQuotaScopeBestEffort && name != corev1.ResourcePods:
			c.bad(p, "%s is only allowed for a quota of pods, which this one of %s is not", scope, name)
		case !slices.Contains(ofPods, name):
			c.bad(p, "%s is only allowed for a quota of what pods use, which this one of %s is not", scope, name)
		}
	}
}

func (c *checker) scopeOperator(req *corev1.ScopedResourceSelectorRequirement, p *field.Path) {
	at := p.Child("operator")
	oneOf(c, at, req.Operator, corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn, corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist)
	switch req.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(req.Values) == 0 {
			c.bad(p.Child("values"), "is required with the operator %s", req.Operator)
		}
		if req.ScopeName == corev1.ResourceQuotaScopePriorityClass {
			return
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(req.Values) > 0 {
			c.bad(p.Child("values"), "is not allowed with the operator %s", req.Operator)
		}
		if req.ScopeName == corev1.ResourceQuotaScopePriorityClass || req.Operator == corev1.ScopeSelectorOpExists {
			return
		}
	default:
		return
	}
	c.bad(at, "%q is not allowed: must be Exists for the scope %s", req.Operator, req.ScopeName)
}

// agree reports scopes that no pod is in.
func (c *checker) agree(scopes []corev1.ResourceQuotaScope, p *field.Path) {
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if slices.Contains(scopes, pair[0]) && slices.Contains(scopes, pair[1]) {
			c.bad(p, "must not have both %s and %s: nothing is in both", pair[0], pair[1])
		}
	}
}

func (c *checker) limitRange(s *corev1.LimitRangeSpec, p *field.Path) {
	if len(s.Limits) == 0 {
		c.warn(p.Child("limits"), "has no effect: the list is empty")
	}
	taken := map[corev1.LimitType]bool{}
	for i := range s.Limits {
		l, at := &s.Limits[i], p.Child("limits").Index(i)
		if taken[l.Type] {
			c.bad(at.Child("type"), "%q stands twice: give all limits of a type in one item", l.Type)
		}
		taken[l.Type] = true
		if strings.Contains(string(l.Type), "/") {
			c.warn(at.Child("type"), noCount)
			continue
		}
		oneOf(c, at.Child("type"), l.Type, corev1.LimitTypeContainer, corev1.LimitTypePod, corev1.LimitTypePersistentVolumeClaim)
		c.limits(l, at)
	}
}

// limits checks one item of a LimitRange with its defaults filled in.
func (c *checker) limits(l *corev1.LimitRangeItem, p *field.Path) {
	if l.Type == corev1.LimitTypePod {
		for name, set := range map[string]bool{"default": len(l.Default) > 0, "defaultRequest": len(l.DefaultRequest) > 0} {
			if set {
				c.bad(p.Child(name), "is not allowed for the type Pod: there are no defaults for a pod as a whole")
			}
		}
	}
	if _, least := l.Min[corev1.ResourceStorage]; l.Type == corev1.LimitTypePersistentVolumeClaim && !least {
		if _, most := l.Max[corev1.ResourceStorage]; !most {
			c.bad(p, "needs min[storage] or max[storage] for the type PersistentVolumeClaim")
		}
	}
	names := map[corev1.ResourceName]bool{}
	for list, of := range map[string]corev1.ResourceList{"min": l.Min, "max": l.Max, "default": l.Default, "defaultRequest": l.DefaultRequest, "maxLimitRequestRatio": l.MaxLimitRequestRatio} {
		for name, q := range of {
			names[name] = true
			if q.Sign() < 0 {
				c.bad(p.Child(list).Key(string(name)), "must not be negative")
			}
		}
	}
	for name := range names {
		c.limitOrder(l, name, p)
	}
	c.limitRatios(l, p)
}

// limitOrder checks that what is least is not more than what comes after it: min, defaultRequest, default, max.
func (c *checker) limitOrder(l *corev1.LimitRangeItem, name corev1.ResourceName, p *field.Path) {
	order := []struct {
		field string
		list  corev1.ResourceList
	}{{"min", l.Min}, {"defaultRequest", l.DefaultRequest}, {"default", l.Default}, {"max", l.Max}}
	for i, less := range order {
		for _, more := range order[i+1:] {
			a, one := less.list[name]
			b, two := more.list[name]
			if one && two && a.Cmp(b) > 0 {
				c.bad(p.Child(less.field).Key(string(name)), "%s must not be more than %s, %s", a.String(), more.field, b.String())
				break // what is more than one is more than those behind it, if those are in order
			}
		}
	}
}

func (c *checker) limitRatios(l *corev1.LimitRangeItem, p *field.Path) {
	for name, ratio := range l.MaxLimitRequestRatio {
		at := p.Child("maxLimitRequestRatio").Key(string(name))
		if ratio.Cmp(resource.MustParse("1")) < 0 {
			c.bad(at, "%s must be at least 1", ratio.String())
			continue
		}
		least, one := l.Min[name]
		most, two := l.Max[name]
		if quotient := most.AsApproximateFloat64() / least.AsApproximateFloat64(); one && two && !math.IsNaN(quotient) && ratio.AsApproximateFloat64() > quotient {
			c.bad(at, "%s must not be more than max divided by min, %s/%s", ratio.String(), most.String(), least.String())
		}
	}
}

// limitRangeCheck reports what of a LimitRange as written is not done.
func limitRangeCheck(s *corev1.LimitRangeSpec) []problem {
	problems := fieldsCheck(limitRangeFields, s, "spec")
	for i := range s.Limits {
		l := &s.Limits[i]
		if strings.Contains(string(l.Type), "/") {
			continue
		}
		for list, of := range map[string]corev1.ResourceList{"min": l.Min, "max": l.Max, "default": l.Default, "defaultRequest": l.DefaultRequest, "maxLimitRequestRatio": l.MaxLimitRequestRatio} {
			for name := range of {
				at := field.NewPath("spec", "limits").Index(i).Child(list).Key(string(name))
				problems = append(problems, limitResource(l.Type, name, at)...)
			}
		}
	}
	return problems
}

// limitResource checks the name of a resource in a LimitRange.
func limitResource(of corev1.LimitType, name corev1.ResourceName, p *field.Path) []problem {
	c := &checker{}
	switch {
	case of == corev1.LimitTypePersistentVolumeClaim && name == corev1.ResourceStorage:
	case of == corev1.LimitTypePersistentVolumeClaim:
		c.warn(p, "has no effect: a claim has storage only")
	case name == corev1.ResourceCPU, name == corev1.ResourceMemory:
	case name == corev1.ResourceEphemeralStorage:
		c.warn(p, noStorage)
	default:
		if c.resource(name, p); len(c.problems) == 0 {
			c.warn(p, noResource)
		}
	}
	return c.problems
}
