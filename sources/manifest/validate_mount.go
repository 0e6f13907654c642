package manifest

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) mounts(o *corev1.Container, p *field.Path, volumes map[string]bool) {
	taken := map[string]bool{}
	for i, m := range o.VolumeMounts {
		at := p.Index(i)
		switch {
		case m.Name == "":
			c.bad(at.Child("name"), "is required")
		case !volumes[m.Name]:
			c.bad(at.Child("name"), "there is no volume %q in this pod", m.Name)
		}
		switch {
		case m.MountPath == "":
			c.bad(at.Child("mountPath"), "is required")
		case strings.Contains(m.MountPath, ":"):
			c.bad(at.Child("mountPath"), "%q is not allowed: must not contain a colon", m.MountPath)
		case !path.IsAbs(m.MountPath):
			c.bad(at.Child("mountPath"), "%q is not allowed: must begin with a slash", m.MountPath)
		case taken[m.MountPath]:
			c.bad(at.Child("mountPath"), "%q stands twice: each mount needs a path of its own", m.MountPath)
		}
		taken[m.MountPath] = true
		if m.SubPath != "" && m.SubPathExpr != "" {
			c.bad(at.Child("subPathExpr"), "is not allowed together with subPath")
		}
		c.localPath(m.SubPath, at.Child("subPath"))
		c.localPath(m.SubPathExpr, at.Child("subPathExpr"))
		c.propagation(o, &m, at)
		c.recursive(&m, at)
	}
}

func (c *checker) propagation(o *corev1.Container, m *corev1.VolumeMount, p *field.Path) {
	if m.MountPropagation == nil {
		return
	}
	oneOf(c, p.Child("mountPropagation"), *m.MountPropagation, corev1.MountPropagationNone, corev1.MountPropagationHostToContainer, corev1.MountPropagationBidirectional)
	privileged := o.SecurityContext != nil && o.SecurityContext.Privileged != nil && *o.SecurityContext.Privileged
	if *m.MountPropagation == corev1.MountPropagationBidirectional && !privileged {
		c.bad(p.Child("mountPropagation"), "Bidirectional needs a privileged container")
	}
}

// recursive checks a mount that is to be read-only with everything mounted below it.
func (c *checker) recursive(m *corev1.VolumeMount, p *field.Path) {
	if m.RecursiveReadOnly == nil {
		return
	}
	at := p.Child("recursiveReadOnly")
	oneOf(c, at, *m.RecursiveReadOnly, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyEnabled)
	if *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return
	}
	if !m.ReadOnly {
		c.bad(at, "is only allowed together with readOnly: true")
	}
	if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
		c.bad(at, "is only allowed with the mountPropagation None")
	}
}

// localPath checks a path that must stay where it is put.
func (c *checker) localPath(name string, p *field.Path) {
	if path.IsAbs(name) {
		c.bad(p, "%q is not allowed: must not begin with a slash", name)
	}
	if backsteps(name) {
		c.bad(p, "%q is not allowed: must not contain ..", name)
	}
}
