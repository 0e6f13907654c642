package manifest

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// volumes checks a pod's volumes and returns their names.
func (c *checker) volumes(list []corev1.Volume, p *field.Path) map[string]bool {
	taken := map[string]bool{}
	for i := range list {
		at := p.Index(i)
		c.name(list[i].Name, at.Child("name"), taken, "volume")
		c.volume(&list[i].VolumeSource, at)
	}
	return taken
}

func (c *checker) volume(s *corev1.VolumeSource, p *field.Path) {
	if names := sources(s); len(names) > 1 {
		c.bad(p, "has more than one source (%s): give only one", strings.Join(names, ", "))
	}
	switch {
	case s.EmptyDir != nil:
		at := p.Child("emptyDir")
		if m := s.EmptyDir.Medium; !strings.HasPrefix(string(m), string(corev1.StorageMediumHugePages)) {
			oneOf(c, at.Child("medium"), m, corev1.StorageMediumDefault, corev1.StorageMediumMemory)
		}
		if l := s.EmptyDir.SizeLimit; l != nil && l.Sign() < 0 {
			c.bad(at.Child("sizeLimit"), "must not be negative")
		}
	case s.HostPath != nil:
		at := p.Child("hostPath")
		switch {
		case s.HostPath.Path == "":
			c.bad(at.Child("path"), "is required")
		case backsteps(s.HostPath.Path):
			c.bad(at.Child("path"), "%q is not allowed: must not contain ..", s.HostPath.Path)
		case !strings.HasPrefix(s.HostPath.Path, "/"):
			c.bad(at.Child("path"), "%q is not allowed: must begin with a slash", s.HostPath.Path)
		}
		oneOf(c, at.Child("type"), *s.HostPath.Type, hostPathTypes...)
	case s.ConfigMap != nil:
		at := p.Child("configMap")
		c.objectName(s.ConfigMap.Name, at.Child("name"))
		c.mode(s.ConfigMap.DefaultMode, at.Child("defaultMode"))
		c.items(s.ConfigMap.Items, at.Child("items"))
	case s.Secret != nil:
		at := p.Child("secret")
		c.objectName(s.Secret.SecretName, at.Child("secretName"))
		c.mode(s.Secret.DefaultMode, at.Child("defaultMode"))
		c.items(s.Secret.Items, at.Child("items"))
	case s.DownwardAPI != nil:
		at := p.Child("downwardAPI")
		c.mode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))
		c.downward(s.DownwardAPI.Items, at.Child("items"), nil)
	case s.Projected != nil:
		c.projected(s.Projected, p.Child("projected"))
	case s.PersistentVolumeClaim != nil:
		c.objectName(s.PersistentVolumeClaim.ClaimName, p.Child("persistentVolumeClaim", "claimName"))
	}
}

// sources lists the kinds of a volume, or of a part of one, that are set.
func sources[T corev1.VolumeSource | corev1.VolumeProjection](s *T) []string {
	var names []string
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			names = append(names, jsonName(v.Type().Field(i)))
		}
	}
	return names
}

func (c *checker) mode(mode *int32, p *field.Path) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		c.bad(p, "must be between 0 and 0777, in JSON 511")
	}
}

// items checks which keys become which files.
func (c *checker) items(list []corev1.KeyToPath, p *field.Path) {
	for i, item := range list {
		at := p.Index(i)
		if item.Key == "" {
			c.bad(at.Child("key"), "is required")
		}
		c.mode(item.Mode, at.Child("mode"))
		c.filePath(item.Path, at.Child("path"))
	}
}

// filePath checks where in a volume a file is put.
func (c *checker) filePath(name string, p *field.Path) {
	switch {
	case name == "":
		c.bad(p, "is required")
	case strings.HasPrefix(name, ".."):
		c.bad(p, "%q is not allowed: must not begin with ..", name)
	default:
		c.localPath(name, p)
	}
}

// hostPathTypes are all that a hostPath may be.
var hostPathTypes = []corev1.HostPathType{corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
	corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev}

// backsteps reports whether a path has .. among its elements.
func backsteps(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}
