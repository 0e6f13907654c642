package pod

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// SubPath is what a mount shows of its volume, relative to its root; empty for all of it. Variables of subPathExpr
// are looked up in the container's environment. The error says what is wrong with a path that only now is known
// (semantics 2.7).
func SubPath(m *corev1.VolumeMount, env map[string]string) (string, error) {
	if m.SubPathExpr == "" {
		return m.SubPath, nil
	}
	var missing []string
	below := Expand(m.SubPathExpr, func(name string) (string, bool) {
		value, ok := env[name]
		if !ok {
			missing = append(missing, name)
		}
		return value, ok
	})
	switch {
	case len(missing) > 0:
		return "", fmt.Errorf("subPathExpr %q of %s: no variable %s", m.SubPathExpr, m.MountPath, strings.Join(missing, ", "))
	case path.IsAbs(below):
		return "", fmt.Errorf("subPathExpr %q of %s makes a path that begins with a slash", m.SubPathExpr, m.MountPath)
	}
	for part := range strings.SplitSeq(below, "/") {
		if part == ".." {
			return "", fmt.Errorf("subPathExpr %q of %s makes a path with .. in it", m.SubPathExpr, m.MountPath)
		}
	}
	return below, nil
}
