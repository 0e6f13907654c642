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

// Defaults are what a namespace's LimitRanges (defaulted, in any order) give containers that say nothing themselves:
// of several ranges with a default for a resource the one whose name comes first. It is nil when there are none.
func Defaults(ranges []*corev1.LimitRange) *fleet.Defaults {
	var limits, requests corev1.ResourceList
	for _, r := range named(ranges) {
		var d fleet.Defaults
		for _, item := range r.Spec.Limits {
			if item.Type == corev1.LimitTypeContainer { // within one range the last of several wins
				d.Limits, d.Requests = filled(item.Default, d.Limits), filled(item.DefaultRequest, d.Requests)
			}
		}
		limits, requests = filled(limits, d.Limits), filled(requests, d.Requests)
	}
	if len(limits) == 0 && len(requests) == 0 {
		return nil
	}
	return &fleet.Defaults{Limits: limits, Requests: requests}
}

func named(ranges []*corev1.LimitRange) []*corev1.LimitRange {
	return slices.SortedFunc(slices.Values(ranges), func(a, b *corev1.LimitRange) int { return cmp.Compare(a.Name, b.Name) })
}

// WithDefaults is the spec as a pod has it that is created where d are the defaults (nil for none): each container, of
// whichever kind, has its limits for requests that it lacks, then the defaults for what it still lacks. It is spec
// itself when nothing changes; otherwise a copy that shares with spec what is the same in both, for reading only.
func WithDefaults(spec *corev1.PodSpec, d *fleet.Defaults) *corev1.PodSpec {
	if d == nil {
		d = &fleet.Defaults{}
	}
	lacking := func(c corev1.Container) bool {
		r := c.Resources
		return lacks(r.Requests, r.Limits) || lacks(r.Limits, d.Limits) || lacks(r.Requests, d.Requests)
	}
	if spec == nil || !slices.ContainsFunc(spec.Containers, lacking) && !slices.ContainsFunc(spec.InitContainers, lacking) {
		return spec
	}
	out := *spec
	out.Containers, out.InitContainers = slices.Clone(spec.Containers), slices.Clone(spec.InitContainers)
	for _, list := range [][]corev1.Container{out.InitContainers, out.Containers} {
		for i := range list {
			if !lacking(list[i]) {
				continue
			}
			r := &list[i].Resources
			r.Requests = filled(r.Requests, r.Limits, d.Requests, d.Limits)
			r.Limits = filled(r.Limits, d.Limits)
		}
	}
	return &out
}

// Violations are the sentences, each once, with which a namespace's LimitRanges (in any order) refuse a pod of that
// spec, which has its defaults; none when they let it be made. Where there are ranges, a request above its limit is one
// as well: the range may have brought the limit.
func Violations(ranges []*corev1.LimitRange, spec *corev1.PodSpec) []string {
	var list sentences
	for _, r := range named(ranges) {
		for _, item := range r.Spec.Limits {
			switch item.Type {
			case corev1.LimitTypeContainer:
				for i := range spec.Containers {
					list.check(item, requestsOf(&spec.Containers[i]), spec.Containers[i].Resources.Limits)
				}
				for i := range spec.InitContainers {
					list.check(item, requestsOf(&spec.InitContainers[i]), spec.InitContainers[i].Resources.Limits)
				}
			case corev1.LimitTypePod:
				list.check(item, bare(spec, requestsOf), bare(spec, limitsOf))
			}
		}
	}
	if len(ranges) > 0 {
		list.order("spec.containers", spec.Containers)
		list.order("spec.initContainers", spec.InitContainers)
	}
	return list
}

// ClaimViolations are the sentences with which a namespace's LimitRanges (in any order) refuse a claim.
func ClaimViolations(ranges []*corev1.LimitRange, claim *corev1.PersistentVolumeClaim) []string {
	var list sentences
	for _, r := range named(ranges) {
		for _, item := range r.Spec.Limits {
			if item.Type != corev1.LimitTypePersistentVolumeClaim {
				continue
			}
			for name, least := range inOrder(item.Min) {
				list.least(item.Type, name, least, claim.Spec.Resources.Requests, nil)
			}
			for name, most := range inOrder(item.Max) {
				what := fmt.Sprintf("maximum %s usage per %s is %s", name, item.Type, most.String())
				switch request, ok := claim.Spec.Resources.Requests[name]; {
				case !ok:
					list.say("%s.  No request is specified", what)
				case request.Cmp(most) > 0:
					list.say("%s, but request is %s", what, request.String())
				}
			}
		}
	}
	return list
}

// sentences are what is said, each once.
type sentences []string

func (s *sentences) say(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(*s, text) {
		*s = append(*s, text)
	}
}

// check says what an item holds against these requests and limits.
func (s *sentences) check(item corev1.LimitRangeItem, requests, limits corev1.ResourceList) {
	for name, least := range inOrder(item.Min) {
		s.least(item.Type, name, least, requests, limits)
	}
	for name, most := range inOrder(item.Max) {
		what := fmt.Sprintf("maximum %s usage per %s is %s", name, item.Type, most.String())
		request, limit := requests[name], limits[name]
		switch _, ok := limits[name]; {
		case !ok:
			s.say("%s.  No limit is specified", what)
		case limit.Cmp(most) > 0:
			s.say("%s, but limit is %s", what, limit.String())
		case request.Cmp(most) > 0:
			s.say("%s, but request is %s", what, request.String())
		}
	}
	for name, most := range inOrder(item.MaxLimitRequestRatio) {
		s.ratio(item.Type, name, most, requests[name], limits[name])
	}
}

func (s *sentences) least(kind corev1.LimitType, name corev1.ResourceName, least resource.Quantity, requests, limits corev1.ResourceList) {
	what := fmt.Sprintf("minimum %s usage per %s is %s", name, kind, least.String())
	request, asked := requests[name]
	limit, limited := limits[name]
	switch {
	case !asked:
		s.say("%s.  No request is specified", what)
	case request.Cmp(least) < 0:
		s.say("%s, but request is %s", what, request.String())
	case limited && limit.Cmp(least) < 0:
		s.say("%s, but limit is %s", what, limit.String())
	}
}

func (s *sentences) ratio(kind corev1.LimitType, name corev1.ResourceName, most, request, limit resource.Quantity) {
	what := fmt.Sprintf("%s max limit to request ratio per %s is %s", name, kind, most.String())
	switch {
	case request.IsZero():
		s.say("%s, but no request is specified or request is 0", what)
	case limit.IsZero():
		s.say("%s, but no limit is specified or limit is 0", what)
	default:
		ratio := float64(limit.Value()) / float64(request.Value())
		if max(limit.Value(), request.Value()) <= resource.MaxMilliValue {
			ratio = float64(limit.MilliValue()) / float64(request.MilliValue())
		}
		if ratio*1000 > float64(most.MilliValue()) {
			s.say("%s, but provided ratio is %f", what, ratio)
		}
	}
}

// order says which requests are above their limits, or differ from them where nothing can be shared.
func (s *sentences) order(path string, containers []corev1.Container) {
	for i, c := range containers {
		for name, request := range inOrder(c.Resources.Requests) {
			limit, ok := c.Resources.Limits[name]
			what := fmt.Sprintf("%s[%d].resources.requests: Invalid value: %q", path, i, request.String())
			switch {
			case !ok:
			case (extended(name) || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)) && request.Cmp(limit) != 0:
				s.say("%s: must be equal to %s limit of %s", what, name, limit.String())
			case request.Cmp(limit) > 0:
				s.say("%s: must be less than or equal to %s limit of %s", what, name, limit.String())
			}
		}
	}
}

// extended reports whether a resource is one of those that Kubernetes does not know itself.
func extended(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
}
