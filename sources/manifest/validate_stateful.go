package manifest

import (
	"math"

	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

func (c *checker) statefulSet(o *appsv1.StatefulSet, p *field.Path) {
	s := &o.Spec
	notNegative(c, p.Child("replicas"), s.Replicas)
	notNegative(c, p.Child("minReadySeconds"), &s.MinReadySeconds)
	notNegative(c, p.Child("revisionHistoryLimit"), s.RevisionHistoryLimit)
	if s.Ordinals != nil {
		notNegative(c, p.Child("ordinals", "start"), &s.Ordinals.Start)
		if s.Replicas != nil && int64(s.Ordinals.Start)+int64(*s.Replicas) > math.MaxInt32 {
			c.bad(p.Child("ordinals", "start"), "is too large: the last ordinal would be beyond %d", math.MaxInt32)
		}
	}
	if s.ServiceName != "" {
		c.all(p.Child("serviceName"), s.ServiceName, validation.IsDNS1123Label(s.ServiceName))
	}
	oneOf(c, p.Child("podManagementPolicy"), s.PodManagementPolicy, appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)
	retention := p.Child("persistentVolumeClaimRetentionPolicy")
	for name, policy := range map[string]appsv1.PersistentVolumeClaimRetentionPolicyType{
		"whenDeleted": s.PersistentVolumeClaimRetentionPolicy.WhenDeleted, "whenScaled": s.PersistentVolumeClaimRetentionPolicy.WhenScaled,
	} {
		oneOf(c, retention.Child(name), policy, appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType)
	}
	c.statefulStrategy(&s.UpdateStrategy, p.Child("updateStrategy"))
	claims := c.claimTemplates(o, p.Child("volumeClaimTemplates"))
	c.template(&s.Template, p.Child("template"), fleet.KindStatefulSet, claims...)
	c.selector(s.Selector, &s.Template, p)
	volumes := p.Child("template", "spec", "volumes")
	for i, v := range s.Template.Spec.Volumes {
		if slices.Contains(claims, v.Name) {
			c.forget(volumes.Index(i).String())
			c.warn(volumes.Index(i), fmt.Sprintf("has no effect: the claim of the volumeClaimTemplate %q is in its place", v.Name))
		}
	}
}

// forget takes back what was said about a field and those below it: it turned out that it does not count.
func (c *checker) forget(path string) {
	c.problems = slices.DeleteFunc(c.problems, func(p problem) bool {
		return p.path == path || strings.HasPrefix(p.path, path+".")
	})
}

func (c *checker) statefulStrategy(s *appsv1.StatefulSetUpdateStrategy, p *field.Path) {
	rolling := p.Child("rollingUpdate")
	switch s.Type {
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			c.bad(rolling, "is not allowed with the type OnDelete: remove it, or set type: RollingUpdate")
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		notNegative(c, rolling.Child("partition"), s.RollingUpdate.Partition)
		at := rolling.Child("maxUnavailable")
		if m := s.RollingUpdate.MaxUnavailable; m != nil && c.share(m, at) {
			if c.notAll(m, at); percent(m) == 0 {
				c.bad(at, "must not be 0: nothing could ever be replaced")
			}
		}
	default:
		oneOf(c, p.Child("type"), s.Type, appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType)
	}
}

// claimTemplates checks the claims that each pod gets, and returns their names.
func (c *checker) claimTemplates(o *appsv1.StatefulSet, p *field.Path) []string {
	var names []string
	taken := map[string]bool{}
	for i := range o.Spec.VolumeClaimTemplates {
		claim, at := &o.Spec.VolumeClaimTemplates[i], p.Index(i)
		meta := at.Child("metadata")
		c.name(claim.Name, meta.Child("name"), taken, "volumeClaimTemplate")
		names = append(names, claim.Name)
		c.labels(&claim.ObjectMeta, meta)
		c.annotations(claim.Annotations, fleet.ObjectID{Kind: fleet.KindPersistentVolumeClaim, Namespace: o.Namespace, Name: claim.Name}, meta.Child("annotations"))
		if claim.Namespace != "" && claim.Namespace != o.Namespace {
			c.warn(meta.Child("namespace"), "has no effect: claims live in the namespace of their StatefulSet")
		}
		c.claim(&claim.Spec, at.Child("spec"))
	}
	return names
}

func (c *checker) daemonSet(s *appsv1.DaemonSetSpec, p *field.Path) {
	notNegative(c, p.Child("minReadySeconds"), &s.MinReadySeconds)
	notNegative(c, p.Child("revisionHistoryLimit"), s.RevisionHistoryLimit)
	c.daemonStrategy(&s.UpdateStrategy, p.Child("updateStrategy"))
	c.template(&s.Template, p.Child("template"), fleet.KindDaemonSet)
	c.selector(s.Selector, &s.Template, p)
}

func (c *checker) daemonStrategy(s *appsv1.DaemonSetUpdateStrategy, p *field.Path) {
	rolling := p.Child("rollingUpdate")
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		if s.RollingUpdate != nil {
			c.warn(rolling, "has no effect with the type OnDelete")
		}
	case appsv1.RollingUpdateDaemonSetStrategyType:
		unavailable, surge := s.RollingUpdate.MaxUnavailable, s.RollingUpdate.MaxSurge
		one := c.share(unavailable, rolling.Child("maxUnavailable"))
		two := c.share(surge, rolling.Child("maxSurge"))
		if !one || !two {
			return
		}
		c.notAll(unavailable, rolling.Child("maxUnavailable"))
		c.notAll(surge, rolling.Child("maxSurge"))
		switch one, two := percent(unavailable) != 0, percent(surge) != 0; {
		case one && two:
			c.bad(rolling.Child("maxSurge"), "is not allowed unless maxUnavailable, which is 1 if nothing else is written, is 0: write maxUnavailable: 0")
		case !one && !two:
			c.bad(rolling.Child("maxUnavailable"), "must not be 0 when maxSurge is 0: nothing could ever be replaced")
		}
	default:
		oneOf(c, p.Child("type"), s.Type, appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType)
	}
}

// statefulSetCheck reports the fields of a StatefulSet as written that are not done, those of its claims among them.
func statefulSetCheck(s *appsv1.StatefulSetSpec) []problem {
	problems := fieldsCheck(statefulSetFields, s, "spec")
	for i := range s.VolumeClaimTemplates {
		claim := &s.VolumeClaimTemplates[i]
		at := fmt.Sprintf("spec.volumeClaimTemplates[%d]", i)
		problems = append(problems, claimCheck(&claim.Spec, at+".spec")...)
		if claim.Status.Phase != "" && claim.Status.Phase != corev1.ClaimPending { // Pending is what kubectl get prints
			problems = append(problems, problem{path: at + ".status", kind: Warning, text: noStatus})
		}
	}
	return problems
}
