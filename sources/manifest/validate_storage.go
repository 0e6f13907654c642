package manifest

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// claim checks a claim with its defaults filled in.
func (c *checker) claim(s *corev1.PersistentVolumeClaimSpec, p *field.Path) {
	modes := p.Child("accessModes")
	if len(s.AccessModes) == 0 {
		c.bad(modes, "is required: name at least one, such as ReadWriteOnce")
	}
	for i, mode := range s.AccessModes {
		oneOf(c, modes.Index(i), mode, corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod)
	}
	if slices.Contains(s.AccessModes, corev1.ReadWriteOncePod) && slices.ContainsFunc(s.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool {
		return m != corev1.ReadWriteOncePod
	}) {
		c.bad(modes, "ReadWriteOncePod is not allowed together with others")
	}
	requests := p.Child("resources", "requests").Key(string(corev1.ResourceStorage))
	if size, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		c.bad(requests, "is required: say how much the claim is for, such as 1Gi")
	} else {
		if size.Sign() <= 0 {
			c.bad(requests, "must be greater than 0")
		}
		if limit, ok := s.Resources.Limits[corev1.ResourceStorage]; ok && size.Cmp(limit) > 0 {
			c.bad(requests, "%s must not be more than the limit, %s", size.String(), limit.String())
		}
	}
	if name := s.StorageClassName; name != nil && *name != "" {
		c.all(p.Child("storageClassName"), *name, validation.IsDNS1123Subdomain(*name))
	}
	oneOf(c, p.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeBlock)
}

// class checks a StorageClass with its defaults filled in.
func (c *checker) class(o *storagev1.StorageClass) {
	if o.Namespace != "" {
		c.warn(field.NewPath("metadata", "namespace"), "has no effect: a StorageClass is in no namespace")
	}
	at := field.NewPath("provisioner")
	if o.Provisioner == "" {
		c.bad(at, "is required")
	} else {
		c.all(at, o.Provisioner, validation.IsQualifiedName(strings.ToLower(o.Provisioner)))
	}
	if slices.Contains(slices.Collect(maps.Keys(o.Parameters)), "") {
		c.bad(field.NewPath("parameters"), "must not have an empty name")
	}
	oneOf(c, field.NewPath("reclaimPolicy"), *o.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)
	oneOf(c, field.NewPath("volumeBindingMode"), *o.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)
}
