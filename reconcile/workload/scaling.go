package workload

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// scalingEvent reports whether the Deployment's replicas changed since its active sets were last sized.
func (r *Rolling) scalingEvent(d *appsv1.Deployment) bool {
	return slices.ContainsFunc(r.Sets, func(g Generation) bool {
		return g.Replicas > 0 && g.Recorded != *d.Spec.Replicas
	})
}

// scale sizes the sets of a Deployment that was scaled or is paused: in proportion when several are active.
// It reports whether it changed a size.
func (r *Rolling) scale(d *appsv1.Deployment) bool {
	replicas := *d.Spec.Replicas
	at := r.current()
	var active []int
	for i := range r.Sets {
		if r.Sets[i].Replicas > 0 {
			active = append(active, i)
		}
	}
	switch {
	case len(active) == 1 || (len(active) == 0 && at >= 0 && !r.held()):
		only := at
		if len(active) == 1 {
			only = active[0]
		}
		return r.resize(only, replicas, d)
	case len(active) == 0: // paused before it ever ran
		return false
	}
	if at >= 0 && r.Sets[at].Replicas == replicas && r.available(at) == replicas {
		changed := r.resize(at, replicas, d)
		for _, i := range active {
			if i != at {
				changed = r.resize(i, 0, d) || changed
			}
		}
		return changed
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return false
	}
	if at >= 0 && r.onSteps() {
		return r.scaleSteps(d)
	}
	return r.distribute(d, active)
}

// distribute spreads the pods that a scaling adds or takes over the active sets (semantics 4).
func (r *Rolling) distribute(d *appsv1.Deployment, active []int) bool {
	var allowed int32
	if *d.Spec.Replicas > 0 {
		surge, _ := Fenceposts(d)
		allowed = *d.Spec.Replicas + surge
	}
	before := r.total()
	add := allowed - before
	slices.SortFunc(active, func(a, b int) int {
		x, y := &r.Sets[a], &r.Sets[b]
		byAge := cmp.Or(x.Created.Compare(y.Created), x.ID.Compare(y.ID))
		if add > 0 {
			byAge = -byAge // newer first when growing
		}
		return cmp.Or(-cmp.Compare(x.Replicas, y.Replicas), byAge)
	})
	sizes := make(map[int]int32, len(active))
	left := add
	for _, i := range active {
		sizes[i] = r.Sets[i].Replicas
		if add != 0 {
			share := proportion(&r.Sets[i], cmp.Or(r.Sets[i].Most, before), allowed, left, add)
			sizes[i] += share
			left -= share
		}
	}
	sizes[active[0]] += left
	changed := false
	for _, i := range active {
		changed = r.resize(i, sizes[i], d) || changed
	}
	return changed
}

// proportion is a set's share of what is added or taken, never more than what is left of it.
// most is how many pods its Deployment might have when it was sized last; where that is not known, how many
// there are.
func proportion(g *Generation, most, allowed, left, add int32) int32 {
	if left == 0 {
		return 0
	}
	share := -g.Replicas
	if allowed > 0 {
		share = rounded(float64(g.Replicas)*float64(allowed)/float64(max(most, 1))) - g.Replicas
	}
	if add > 0 {
		return min(share, left)
	}
	return max(share, left)
}

func rounded(f float64) int32 {
	if f < 0 {
		return int32(f - 0.5)
	}
	return int32(f + 0.5)
}
